//! What a person may do with the broker itself.

use std::fmt;
use std::str::FromStr;

/// A duty of the broker's own, as the maps of `[access]` give it. It is a role of no cluster.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Duty {
    /// May read every lease and the audit, and ask the map.
    Auditor,
    /// May read every lease and end it.
    Operator,
}

/// Why a text names no duty.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
#[error("the duties are `auditor` and `operator`")]
pub struct DutyError;

impl Duty {
    /// Every duty there is.
    pub const ALL: [Self; 2] = [Self::Auditor, Self::Operator];

    /// The DATABASE-USERNAME by which a map gives it.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Auditor => "auditor",
            Self::Operator => "operator",
        }
    }
}

impl FromStr for Duty {
    type Err = DutyError;

    fn from_str(text: &str) -> Result<Self, DutyError> {
        Self::ALL.into_iter().find(|duty| duty.as_str() == text).ok_or(DutyError)
    }
}

impl fmt::Display for Duty {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(self.as_str())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_duty_is_written_as_maps_write_it() {
        for duty in Duty::ALL {
            assert_eq!(duty.to_string().parse(), Ok(duty));
        }
        for other in ["", "Auditor", "auditors"] {
            assert_eq!(other.parse::<Duty>(), Err(DutyError), "{other}");
        }
    }
}
