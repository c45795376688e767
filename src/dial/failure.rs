//! What the driver or the server reported, reduced to what may be logged.

use std::error::Error;
use std::fmt;
use std::time::Duration;

use tokio_postgres::error::{DbError, Severity};

use crate::causes::with_causes;
use crate::names::printable;

/// A failure that the driver or the server reported, reduced to what may be logged: `SQLSTATE`,
/// the name of a constraint, and a message, control characters escaped. The statement, its context
/// and its values are never in it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Failure {
    /// What it means for the work under way.
    pub kind: FailureKind,
    /// `SQLSTATE` of the server's error (manual, appendix A), if the server sent one.
    pub code: Option<String>,
    /// The constraint that was violated, if one was.
    pub constraint: Option<Box<str>>,
    /// The message, and the detail for whom it was asked for.
    pub text: String,
}

/// What a failure means for the work under way.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum FailureKind {
    /// The server refused a statement; its transaction is not committed.
    Rejected,
    /// The connection could not be made, or is lost; a commit that was under way is in doubt.
    Broken,
    /// No answer in time; a commit that was under way is in doubt.
    TimedOut,
}

impl Failure {
    /// The driver's own text, which holds no statement, or the server's message. The detail is left
    /// out: it shows values of a row.
    pub(crate) fn of(error: &tokio_postgres::Error) -> Self {
        match error.as_db_error() {
            Some(server) => Self::of_server(server, server.message()),
            None => Self::broken(&with_causes(error)),
        }
    }

    /// The same with the server's detail: what stands in the way of a change to the catalogue, whose
    /// rows are no secret.
    pub(crate) fn with_detail(error: &tokio_postgres::Error) -> Self {
        match error.as_db_error().and_then(|server| Some((server, server.detail()?))) {
            Some((server, detail)) => {
                Self::of_server(server, &format!("{}: {detail}", server.message()))
            }
            None => Self::of(error),
        }
    }

    fn of_server(server: &DbError, text: &str) -> Self {
        let kind = match server.parsed_severity() {
            Some(Severity::Error) => FailureKind::Rejected,
            // FATAL and PANIC end the session, perhaps after a commit.
            _ => FailureKind::Broken,
        };
        let constraint = server.constraint().map(Box::from);
        let code = Some(server.code().code().to_owned());
        Self { kind, code, constraint, text: printable(text) }
    }

    /// A connection that is of no use, for the reason `text`.
    pub(crate) fn broken(text: &str) -> Self {
        let kind = FailureKind::Broken;
        Self { kind, code: None, constraint: None, text: printable(text) }
    }

    /// No answer came within `limit`.
    pub(crate) fn no_answer(limit: Duration) -> Self {
        let text = format!("no answer within {} ms", limit.as_millis());
        Self { kind: FailureKind::TimedOut, code: None, constraint: None, text }
    }

    /// Whether the server's `SQLSTATE` is one of `codes`.
    pub(crate) fn is_one_of(&self, codes: &[&str]) -> bool {
        self.code.as_deref().is_some_and(|code| codes.contains(&code))
    }
}

impl fmt::Display for Failure {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(&self.text)?;
        match &self.code {
            Some(code) => write!(formatter, " (SQLSTATE {code})"),
            None => Ok(()),
        }
    }
}

impl Error for Failure {}
