//! Why a piece of work is not done on any engine.

use super::StoreError;
use crate::names::{LeaseId, LeaseLimit};

/// Why one piece of work was not done, whatever the engine: nothing of it has happened.
#[derive(Debug, thiserror::Error)]
pub(super) enum Refusal {
    #[error("lease {0} has moved meanwhile")]
    Moved(LeaseId),
    #[error("a live lease for this request key exists already")]
    KeyTaken,
    #[error("the login has ended")]
    LoginEnded,
    #[error("the person has {} live leases of the role already", .0.get())]
    TooMany(LeaseLimit),
    #[error("{0}")]
    Unreadable(String),
    #[error("{0} cannot be written")]
    Unwritable(&'static str),
    #[error("a change without an audit record is not made")]
    NoRecord,
    #[error("it was opened for reading only")]
    ReadOnly,
}

impl Refusal {
    /// The refusal as the store's callers see it.
    pub(super) fn into_error(self, path: String, doing: &'static str) -> StoreError {
        match self {
            Self::Moved(lease) => StoreError::Moved { lease },
            Self::KeyTaken => StoreError::KeyTaken,
            Self::LoginEnded => StoreError::LoginEnded,
            Self::TooMany(most) => StoreError::TooMany { most },
            Self::Unreadable(what) => StoreError::Unreadable { path, what },
            other @ (Self::Unwritable(_) | Self::NoRecord | Self::ReadOnly) => {
                StoreError::Failed { path, doing, source: Box::new(other) }
            }
        }
    }
}
