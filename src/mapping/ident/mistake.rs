//! What is wrong with a map, where, and what to write instead.

use std::collections::HashSet;
use std::fmt;
use std::path::PathBuf;
use std::rc::Rc;

use super::lines::Origin;

/// Most mistakes that are told of one map.
pub(super) const MISTAKES: usize = 1000;

/// A mistake in a map. Displays as `pg_ident.conf:12:7-9: text`, or without the second column when
/// the part that is meant is one byte; the hint stands beside it.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct MapMistake {
    /// The file, as [`RuleRef`](super::RuleRef) names files.
    pub file: String,
    /// The physical line, counted from 1.
    pub line: u32,
    /// The byte in that line, counted from 1. Inside a regular expression it is where the part
    /// begins that is not accepted; one past the last byte when something is missing at the end.
    pub column: u32,
    /// The last byte of the part that is meant, in that line.
    pub end_column: u32,
    /// What is wrong.
    pub message: String,
    /// What to do about it.
    pub hint: String,
    /// The file or directory that this user may not read, when that is all that is wrong: it says
    /// nothing of what somebody else reads.
    pub closed: Option<PathBuf>,
}

impl fmt::Display for MapMistake {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { file, line, column, end_column, message, .. } = self;
        write!(formatter, "{file}:{line}:{column}")?;
        if end_column > column {
            write!(formatter, "-{end_column}")?;
        }
        write!(formatter, ": {message}")
    }
}

impl std::error::Error for MapMistake {}

/// A mistake at an offset, before it is known which line and column of which file that is.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Flaw {
    /// Bytes from the beginning of the pattern or of the logical line, as the producer says.
    pub at: usize,
    /// The last byte of the part that is meant.
    pub last: usize,
    pub message: String,
    pub hint: String,
    /// What this user may not read, when that is the flaw.
    pub closed: Option<PathBuf>,
}

impl Flaw {
    pub fn new(at: usize, message: impl Into<String>, hint: impl Into<String>) -> Self {
        Self { at, last: at, message: message.into(), hint: hint.into(), closed: None }
    }

    /// The same flaw of a part that ends before `end`.
    pub fn until(self, end: usize) -> Self {
        Self { last: end.saturating_sub(1).max(self.at), ..self }
    }
}

/// A flaw of a logical line, and which line that is.
pub(super) type Fault = (Rc<Origin>, Flaw);

/// All mistakes of a map, in the order in which they were found. A file that is read twice has
/// each of its mistakes once.
#[derive(Default)]
pub(super) struct Mistakes {
    found: Vec<MapMistake>,
    known: HashSet<MapMistake>,
}

impl Mistakes {
    pub fn push(&mut self, origin: &Origin, flaw: Flaw) {
        let (line, column) = origin.position(flaw.at);
        let end_column = match origin.position(flaw.last) {
            (same, end_column) if same == line => end_column.max(column),
            // The part goes on in the next physical line.
            _ => column,
        };
        let Flaw { message, hint, closed, .. } = flaw;
        let file = origin.file.to_string();
        let mistake = MapMistake { file, line, column, end_column, message, hint, closed };
        if !self.is_full() && self.known.insert(mistake.clone()) {
            self.found.push(mistake);
        }
    }

    pub fn is_full(&self) -> bool {
        self.found.len() >= MISTAKES
    }

    pub fn is_empty(&self) -> bool {
        self.found.is_empty()
    }

    pub fn into_found(self) -> Vec<MapMistake> {
        self.found
    }
}
