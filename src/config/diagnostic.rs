//! One mistake in a configuration, as people read it.

use std::fmt;
use std::path::PathBuf;

use crate::names::printable;

/// One mistake: where it stands, what is expected there, and what may help.
///
/// Invariant: it never holds the value of a key, nor any other text of a line: a value may be a
/// secret that somebody put in the wrong place. It may name a key, and a file that a map names.
///
/// Prints as `FILE:LINE:COLUMN: message` or `FILE:LINE:COLUMN-COLUMN: message`, and `  hint: …` on a line of its own.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Diagnostic {
    /// The file, as it was named to us.
    pub file: String,
    /// Where in the file; nothing when the file itself is what is wrong.
    pub position: Option<Position>,
    /// What is wrong and what is expected.
    pub message: String,
    /// What to do about it.
    pub hint: Option<String>,
    /// The file that this user may not read, when that is all that is wrong: it says nothing of what
    /// the broker reads. It is no file with a secret.
    pub closed: Option<PathBuf>,
    pub(super) kind: Kind,
}

/// Something in a file that is allowed and probably not meant.
///
/// Invariant: like a [`Diagnostic`], it holds no text of a line. Prints as
/// `FILE:LINE: note: message`.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Note {
    /// The file, as a [`Diagnostic`] names it.
    pub file: String,
    /// The line, counted from 1.
    pub line: u32,
    /// What is odd about it.
    pub message: &'static str,
}

/// A place in a text. Both count from 1; columns are characters, and in a map bytes.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Position {
    /// The line.
    pub line: u32,
    /// The character in the line.
    pub column: u32,
    /// The last character of the part that is meant, in the same line.
    pub end_column: u32,
}

impl Position {
    /// A place where something begins that has no end of its own.
    pub(super) fn at(line: u32, column: u32) -> Self {
        Self { line, column, end_column: column }
    }
}

/// What sort of mistake it is: after a syntax error only some can be told for sure.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Kind {
    /// The text is not TOML.
    Syntax,
    /// A value has the wrong type, form or size.
    Value,
    /// A key is not known.
    UnknownKey,
    /// A key, a section or a file is missing, or does not fit the others.
    Fit,
}

impl fmt::Display for Diagnostic {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(&printable(&self.file))?;
        if let Some(Position { line, column, end_column }) = self.position {
            write!(formatter, ":{line}:{column}")?;
            if end_column > column {
                write!(formatter, "-{end_column}")?;
            }
        }
        write!(formatter, ": {}", self.message)?;
        match &self.hint {
            Some(hint) => write!(formatter, "\n  hint: {hint}"),
            None => Ok(()),
        }
    }
}

impl fmt::Display for Note {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        let file = printable(&self.file);
        write!(formatter, "{file}:{}: note: {}", self.line, self.message)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_name_of_a_file_does_not_steer_the_terminal() {
        let file = "x\u{1b}[31m".to_owned();
        let position = Some(Position::at(2, 9));
        let (message, hint, closed, kind) = ("no".to_owned(), None, None, Kind::Fit);
        let diagnostic = Diagnostic { file: file.clone(), position, message, hint, closed, kind };
        assert_eq!(diagnostic.to_string(), "x\\u{1b}[31m:2:9: no");
        let note = Note { file, line: 3, message: "so" };
        assert_eq!(note.to_string(), "x\\u{1b}[31m:3: note: so");
    }
}
