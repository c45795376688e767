//! What goes wrong inside, before it is said with the path of the store.

use std::sync::Arc;

use rusqlite::ErrorCode;

use crate::store::StoreError;
use crate::store::refusal::Refusal;

/// Why one piece of work was not done.
#[derive(Debug, thiserror::Error)]
pub(super) enum Problem {
    #[error(transparent)]
    Refused(#[from] Refusal),
    #[error("too much is waiting to be written: the disk is slow, or the store is locked")]
    Busy,
    #[error("no answer in time: the disk is slow, or the store is locked")]
    Unanswered,
    #[error("its writer has stopped: restart pgbridge")]
    Stopped,
    #[error(
        "nothing is written since a write could not be made durable ({0}): look at the disk, then \
         restart pgbridge"
    )]
    Poisoned(Arc<str>),
    #[error("its transaction was not committed")]
    NotCommitted(#[source] Arc<rusqlite::Error>),
    #[error("SQLite refused")]
    Engine(#[from] rusqlite::Error),
}

impl Problem {
    /// The problem as the store's callers see it.
    pub(super) fn into_error(self, path: &str, doing: &'static str) -> StoreError {
        let path = path.to_owned();
        match self {
            Self::Refused(refusal) => refusal.into_error(path, doing),
            Self::Engine(source) => StoreError::Failed { path, doing, source: Box::new(source) },
            Self::NotCommitted(source) => {
                StoreError::Failed { path, doing, source: Box::new(source) }
            }
            other @ (Self::Busy | Self::Unanswered | Self::Stopped | Self::Poisoned(_)) => {
                StoreError::Failed { path, doing, source: Box::new(other) }
            }
        }
    }
}

/// Whether after this error the whole transaction is lost, and not only one statement: SQLite may
/// have rolled it back by itself (manual, "Response To Errors Within A Transaction").
pub(super) fn ends_transaction(error: &rusqlite::Error) -> bool {
    is_fatal(error)
        || matches!(
            error.sqlite_error_code(),
            Some(
                ErrorCode::DiskFull
                    | ErrorCode::OutOfMemory
                    | ErrorCode::DatabaseBusy
                    | ErrorCode::DatabaseLocked
                    | ErrorCode::OperationInterrupted
                    | ErrorCode::CannotOpen
                    | ErrorCode::ReadOnly
            )
        )
}

/// Whether after this error nobody knows what is on the disk. A failed fsync is not tried again:
/// the kernel may have dropped the pages and report success the second time. Only a restart, which
/// reads the disk anew, tells.
pub(super) fn is_fatal(error: &rusqlite::Error) -> bool {
    matches!(
        error.sqlite_error_code(),
        Some(ErrorCode::SystemIoFailure | ErrorCode::DatabaseCorrupt | ErrorCode::NotADatabase)
    )
}
