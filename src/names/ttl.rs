//! Lengths of time as people write them.

use std::fmt;
use std::str::FromStr;
use std::time::Duration;

use serde::{Deserialize, Serialize};

/// How long something lives: whole seconds, from 1 second to 366 days.
///
/// Written as `90s`, `15m`, `8h`, `7d`, or a sum such as `1h30m`. The bound keeps any
/// addition to a time of this century from overflowing.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct Ttl(u32);

/// Why a text is no length of time.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
pub enum TtlError {
    /// The text is not numbers with units.
    #[error(
        "not a length of time: write whole numbers with a unit s, m, h or d, such as `15m` or `1h30m`"
    )]
    Malformed,
    /// The length is zero, or longer than 366 days.
    #[error("a length of time is between `1s` and `366d`")]
    OutOfRange,
}

const SECONDS_MAX: u64 = 366 * 24 * 3600;

impl Ttl {
    /// The longest length there is.
    pub const LONGEST: Self = Self(366 * 24 * 3600);

    /// A length of `seconds`.
    ///
    /// # Errors
    /// When it is 0, or more than 366 days.
    pub fn from_seconds(seconds: u64) -> Result<Self, TtlError> {
        if seconds == 0 || seconds > SECONDS_MAX {
            return Err(TtlError::OutOfRange);
        }
        u32::try_from(seconds).map(Self).map_err(|_| TtlError::OutOfRange)
    }

    /// Whole seconds, at least 1.
    #[must_use]
    pub fn seconds(self) -> u32 {
        self.0
    }

    /// The same length for timers.
    #[must_use]
    pub fn duration(self) -> Duration {
        Duration::from_secs(u64::from(self.0))
    }

    /// The same length for adding to a time.
    #[must_use]
    pub fn span(self) -> jiff::SignedDuration {
        jiff::SignedDuration::from_secs(i64::from(self.0))
    }
}

impl FromStr for Ttl {
    type Err = TtlError;

    fn from_str(text: &str) -> Result<Self, TtlError> {
        let mut total: u64 = 0;
        let mut rest = text;
        let mut smallest = u64::MAX;
        while !rest.is_empty() {
            let digits = rest.bytes().take_while(u8::is_ascii_digit).count();
            let (number, after) = rest.split_at(digits);
            let number: u64 = number.parse().map_err(|_| TtlError::Malformed)?;
            let mut units = after.chars();
            let unit = match units.next() {
                Some('s') => 1,
                Some('m') => 60,
                Some('h') => 3600,
                Some('d') => 24 * 3600,
                _ => return Err(TtlError::Malformed),
            };
            // Each unit once and from large to small, so that `5m5m` is seen as the slip it is.
            if unit >= smallest {
                return Err(TtlError::Malformed);
            }
            smallest = unit;
            let part = number.checked_mul(unit).ok_or(TtlError::OutOfRange)?;
            total = total.checked_add(part).ok_or(TtlError::OutOfRange)?;
            rest = units.as_str();
        }
        if text.is_empty() {
            return Err(TtlError::Malformed);
        }
        Self::from_seconds(total)
    }
}

impl TryFrom<String> for Ttl {
    type Error = TtlError;

    fn try_from(text: String) -> Result<Self, TtlError> {
        text.parse()
    }
}

impl From<Ttl> for String {
    fn from(ttl: Ttl) -> Self {
        ttl.to_string()
    }
}

impl fmt::Display for Ttl {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut rest = self.0;
        for (unit, seconds) in [("d", 24 * 3600), ("h", 3600), ("m", 60), ("s", 1)] {
            let count = rest / seconds;
            rest %= seconds;
            if count > 0 {
                write!(formatter, "{count}{unit}")?;
            }
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[track_caller]
    fn check(text: &str, seconds: u32) {
        let ttl: Ttl = text.parse().unwrap();
        assert_eq!(ttl.seconds(), seconds);
        assert_eq!(ttl.to_string().parse::<Ttl>(), Ok(ttl));
    }

    #[test]
    fn lengths_are_read_as_people_write_them() {
        check("90s", 90);
        check("15m", 900);
        check("1h30m", 5400);
        check("7d", 604_800);
        check("366d", 31_622_400);
    }

    #[test]
    fn a_length_without_unit_order_or_bound_is_refused() {
        for bad in
            ["", "15", "m", "5m5m", "5s1h", "1.5h", "-5m", "5 m", "5min", "99999999999999999999s"]
        {
            assert_eq!(bad.parse::<Ttl>(), Err(TtlError::Malformed), "{bad}");
        }
        for bad in ["0s", "367d", "366d1s", "18446744073709551615d"] {
            assert_eq!(bad.parse::<Ttl>(), Err(TtlError::OutOfRange), "{bad}");
        }
    }
}
