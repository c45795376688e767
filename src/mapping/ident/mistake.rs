//! What is wrong with a map file, where, and what to write instead.

use std::fmt;

/// A mistake in a map file. Displays as `pg_ident.conf:12:7: text`; the hint stands beside it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct MapMistake {
    /// The file, as it was named to [`IdentMap::parse`](super::IdentMap::parse).
    pub file: String,
    /// The physical line, counted from 1.
    pub line: u32,
    /// The byte in that line, counted from 1. Inside a regular expression it is where the part
    /// begins that is not accepted; one past the last byte when something is missing at the end.
    pub column: u32,
    /// What is wrong.
    pub message: String,
    /// What to do about it.
    pub hint: String,
}

impl fmt::Display for MapMistake {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { file, line, column, message, .. } = self;
        write!(formatter, "{file}:{line}:{column}: {message}")
    }
}

impl std::error::Error for MapMistake {}

/// A mistake at an offset, before it is known which line and column of which file that is.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Flaw {
    /// Bytes from the beginning of the pattern or of the logical line, as the producer says.
    pub at: usize,
    pub message: String,
    pub hint: String,
}

impl Flaw {
    pub fn new(at: usize, message: impl Into<String>, hint: impl Into<String>) -> Self {
        Self { at, message: message.into(), hint: hint.into() }
    }
}
