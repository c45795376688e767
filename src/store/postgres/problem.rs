//! What goes wrong inside, before it is said with the address of the store.

use std::sync::Arc;

pub(super) use crate::dial::{Failure, FailureKind};
use crate::store::StoreError;
use crate::store::refusal::Refusal;

/// Why one piece of work was not done.
#[derive(Debug, thiserror::Error)]
pub(super) enum Problem {
    #[error(transparent)]
    Refused(#[from] Refusal),
    #[error("too much is waiting to be written: the server is slow, or its store is locked")]
    Busy,
    #[error("no answer in time: the server is slow, or its store is locked")]
    Unanswered,
    #[error("its writer has stopped: restart pgbridge")]
    Stopped,
    #[error("the settings cannot be used: {0}")]
    Settings(String),
    #[error("no server of it can be used: see that the primary runs, and that `url` names it: {0}")]
    Nowhere(String),
    #[error(
        "see that its server runs, and that `[store]` names it, its database, login and password"
    )]
    Unreached(#[source] Failure),
    #[error(transparent)]
    Unfit(#[from] Unfit),
    #[error("the server did not do it")]
    Failed(#[from] Failure),
    #[error("nobody knows whether it was committed")]
    InDoubt(#[source] Failure),
    /// Of everything that was in one transaction.
    #[error(transparent)]
    Shared(Arc<Problem>),
}

/// Why a server or its schema is not used. `Display` says what to do.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
pub(super) enum Unfit {
    #[error("the server is a standby in recovery: name the primary in `url`, or every server")]
    Standby,
    #[error("the server is PostgreSQL {0}, and 13 or newer is needed")]
    Old(i32),
    #[error("the database keeps text as {0}: make one with ENCODING 'UTF8'")]
    Encoding(String),
    #[error("synchronous_commit is {0}: nothing but `on` makes an answered change durable")]
    Asynchronous(String),
    #[error(
        "settings of the session do not reach the server, as behind a pooler that lends a \
         connection for one transaction: name the server itself in `url`"
    )]
    Pooled,
    #[error("the schema `pgbridge` holds tables that are not ours: name another database")]
    Alien,
    #[error(
        "{0} can put code into the schema `pgbridge`, which the broker's login would run: take from \
         it what it owns there, CREATE on the schema and TRIGGER on its tables"
    )]
    Exposed(String),
    #[error("it has no schema yet: start `pgbridge serve` once to make it")]
    NoSchema,
    #[error(
        "its schema has version {found}, reading it needs {known}: start `pgbridge serve` once to \
         bring it up to date"
    )]
    TooOld { found: u32, known: u32 },
    #[error(
        "a newer pgbridge has brought its schema to version {found}, which needs a pgbridge that \
         knows version {oldest}, and this one knows {known}: stop this one, and run the newer one"
    )]
    TooNew { found: u32, oldest: u32, known: u32 },
}

impl Failure {
    /// Whether somebody else's transaction was in the way: a lock that was not given in time, a
    /// deadlock, or a serialization failure. Nothing of the statement was done.
    pub(super) fn is_contention(&self) -> bool {
        self.is_one_of(&["55P03", "40P01", "40001"])
    }

    /// Whether a table is missing.
    pub(super) fn is_missing_table(&self) -> bool {
        self.is_one_of(&["42P01", "3F000"])
    }

    /// Whether the constraint `name` was violated.
    pub(super) fn violates(&self, name: &str) -> bool {
        self.is_one_of(&["23505"]) && self.constraint.as_deref() == Some(name)
    }
}

impl From<tokio_postgres::Error> for Problem {
    fn from(error: tokio_postgres::Error) -> Self {
        Self::Failed(Failure::of(&error))
    }
}

impl Problem {
    /// Whether the server, or the way to it, may be gone.
    pub(super) fn is_outage(&self) -> bool {
        matches!(self, Self::Failed(failure) if failure.kind != FailureKind::Rejected)
    }

    /// Whether the connection is of no use any more and nothing was committed on it, so that the
    /// same may be tried on another one.
    pub(super) fn is_lost_connection(&self) -> bool {
        matches!(self, Self::Failed(failure) if failure.kind == FailureKind::Broken)
    }

    /// Whether somebody else's transaction was in the way.
    pub(super) fn is_contention(&self) -> bool {
        matches!(self, Self::Failed(failure) if failure.is_contention())
    }

    /// The problem of a store that is just being opened: who is told can still name another one.
    pub(super) fn at_start(self) -> Self {
        match self {
            Self::Failed(failure) if failure.kind != FailureKind::Rejected => {
                Self::Unreached(failure)
            }
            other => other,
        }
    }

    /// The problem as the store's callers see it.
    pub(super) fn into_error(self, path: &str, doing: &'static str) -> StoreError {
        let path = path.to_owned();
        match self {
            Self::Refused(refusal) => refusal.into_error(path, doing),
            Self::Failed(source) => StoreError::Failed { path, doing, source: Box::new(source) },
            other @ (Self::Busy
            | Self::Unanswered
            | Self::Stopped
            | Self::Settings(_)
            | Self::Nowhere(_)
            | Self::Unreached(_)
            | Self::Unfit(_)
            | Self::InDoubt(_)
            | Self::Shared(_)) => StoreError::Failed { path, doing, source: Box::new(other) },
        }
    }
}
