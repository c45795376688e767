//! Numbers with a meaning and a bound.

use serde::{Deserialize, Serialize};

/// Rounds of PBKDF2 in a SCRAM verifier (RFC 5802 section 3, `i`). 4096 unless set: pgjdbc
/// refuses fewer, although a random password of 128 bits needs none for its safety.
///
/// Invariant: 1 to 100,000; drivers refuse more.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(try_from = "u32", into = "u32")]
pub struct ScramIterations(u32);

/// The count is outside 1 to 100,000.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
#[error("SCRAM iterations are between 1 and 100000")]
pub struct ScramIterationsError;

impl ScramIterations {
    /// The count that every driver accepts: 4096 (RFC 7677 section 4).
    pub const DEFAULT: Self = Self(4096);

    /// The count itself.
    #[must_use]
    pub fn get(self) -> u32 {
        self.0
    }
}

impl TryFrom<u32> for ScramIterations {
    type Error = ScramIterationsError;

    fn try_from(count: u32) -> Result<Self, ScramIterationsError> {
        if (1..=100_000).contains(&count) { Ok(Self(count)) } else { Err(ScramIterationsError) }
    }
}

impl From<ScramIterations> for u32 {
    fn from(iterations: ScramIterations) -> Self {
        iterations.0
    }
}

/// Sessions that one lease role may have open at once (`CONNECTION LIMIT`).
///
/// Invariant: 1 to 10,000; "no limit" is not offered.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(try_from = "u32", into = "u32")]
pub struct ConnectionLimit(u32);

/// The limit is outside 1 to 10,000.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
#[error("a connection limit is between 1 and 10000")]
pub struct ConnectionLimitError;

impl ConnectionLimit {
    /// Ten sessions, enough for a person's tools.
    pub const DEFAULT: Self = Self(10);

    /// The limit itself.
    #[must_use]
    pub fn get(self) -> u32 {
        self.0
    }
}

impl TryFrom<u32> for ConnectionLimit {
    type Error = ConnectionLimitError;

    fn try_from(limit: u32) -> Result<Self, ConnectionLimitError> {
        if (1..=10_000).contains(&limit) { Ok(Self(limit)) } else { Err(ConnectionLimitError) }
    }
}

impl From<ConnectionLimit> for u32 {
    fn from(limit: ConnectionLimit) -> Self {
        limit.0
    }
}

/// Leases of one role that one person may have at once.
///
/// Invariant: 1 to 1,000,000; "no limit" is not offered.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(try_from = "u32", into = "u32")]
pub struct LeaseLimit(u32);

/// The limit is outside 1 to 1,000,000.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
#[error("a limit of leases is between 1 and 1000000")]
pub struct LeaseLimitError;

impl LeaseLimit {
    /// Twenty, enough for a person's tools and for a program of some processes.
    pub const DEFAULT: Self = Self(20);

    /// The limit itself.
    #[must_use]
    pub fn get(self) -> u32 {
        self.0
    }
}

impl TryFrom<u32> for LeaseLimit {
    type Error = LeaseLimitError;

    fn try_from(limit: u32) -> Result<Self, LeaseLimitError> {
        if (1..=1_000_000).contains(&limit) { Ok(Self(limit)) } else { Err(LeaseLimitError) }
    }
}

impl From<LeaseLimit> for u32 {
    fn from(limit: LeaseLimit) -> Self {
        limit.0
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_number_keeps_its_bounds() {
        assert!(ScramIterations::try_from(0).is_err());
        assert!(ScramIterations::try_from(1).is_ok());
        assert!(ScramIterations::try_from(100_000).is_ok());
        assert!(ScramIterations::try_from(100_001).is_err());
        assert!(ConnectionLimit::try_from(0).is_err());
        assert!(ConnectionLimit::try_from(10_000).is_ok());
        assert!(LeaseLimit::try_from(0).is_err());
        assert!(LeaseLimit::try_from(1_000_000).is_ok());
        assert!(LeaseLimit::try_from(1_000_001).is_err());
    }
}
