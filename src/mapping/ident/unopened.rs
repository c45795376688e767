//! Why a file or a directory that a map names was not opened, and what may help.

use std::error::Error;
use std::io;
use std::path::Path;

use super::expand::TEXT_BYTES;
use super::mistake::Flaw;
use crate::names::{printable, shortened};

/// Letters of a path that are told. What is longer was hardly meant to be a path.
const PATH_LETTERS: usize = 300;

/// Why a file is not read that could be: a map that took tokens from a secret would show them in its
/// answers.
#[derive(Clone, Copy, Debug, thiserror::Error)]
#[error("the configuration names it as a file with a secret")]
pub struct HoldsSecret;

impl HoldsSecret {
    /// Whether that is why something failed.
    #[must_use]
    pub fn is_why(failed: &io::Error) -> bool {
        failed.get_ref().is_some_and(<dyn Error + Send + Sync>::is::<Self>)
    }
}

/// What was to be opened.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum Entry {
    /// To be read.
    File,
    /// To be listed.
    Directory,
}

/// How it is named.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum Named {
    /// By no line: it is the main file.
    Main,
    /// By a path from the root.
    Absolute,
    /// By a path from the directory of the file that names it.
    Relative,
}

impl Named {
    /// How a line names what it calls `path`.
    pub fn by_line(path: &str) -> Self {
        if path.starts_with('/') { Self::Absolute } else { Self::Relative }
    }
}

/// What kept it from being opened.
pub(super) enum Why {
    /// It is not there.
    Missing,
    /// It is a directory, and was to be read as a file.
    IsDirectory,
    /// Files nest too deep where it is named.
    TooDeep,
    /// A directory holds a file whose name cannot be kept.
    OddName,
    /// It holds a secret.
    Secret,
    /// Something else.
    Failed(io::Error),
}

impl Why {
    /// Whether it may well be in order for another user.
    fn is_closed(&self) -> bool {
        matches!(self, Self::Failed(error) if error.kind() == io::ErrorKind::PermissionDenied)
    }
}

impl From<io::Error> for Why {
    fn from(error: io::Error) -> Self {
        match error.kind() {
            _ if HoldsSecret::is_why(&error) => Self::Secret,
            io::ErrorKind::NotFound => Self::Missing,
            io::ErrorKind::IsADirectory => Self::IsDirectory,
            _ => Self::Failed(error),
        }
    }
}

/// The flaw of whatever names it at `at`. `path` is where it was looked for.
pub(super) fn flaw(at: usize, entry: Entry, named: Named, path: &Path, why: &Why) -> Flaw {
    let noun = match entry {
        Entry::File => "file",
        Entry::Directory => "directory",
    };
    let shown = shortened(&printable(&path.to_string_lossy()), PATH_LETTERS);
    let message = format!("could not open the {noun} `{shown}`: {}", reason(why));
    let closed = why.is_closed().then(|| path.to_owned());
    Flaw { closed, ..Flaw::new(at, message, hint(entry, named, why)) }
}

/// In words of ours: those of the system hold a number.
fn reason(why: &Why) -> String {
    match why {
        Why::Missing => "no such file or directory".to_owned(),
        Why::IsDirectory => "it is a directory".to_owned(),
        Why::TooDeep => "maximum nesting depth exceeded".to_owned(),
        Why::OddName => "the name of a file in it is not UTF-8, or holds a line end".to_owned(),
        Why::Secret => HoldsSecret.to_string(),
        Why::Failed(error) => match error.kind() {
            io::ErrorKind::FileTooLarge => format!("it has more than {TEXT_BYTES} bytes"),
            io::ErrorKind::InvalidInput => "it is no regular file".to_owned(),
            _ if error.raw_os_error().is_some() => error.kind().to_string(),
            _ => error.to_string(),
        },
    }
}

fn hint(entry: Entry, named: Named, why: &Why) -> &'static str {
    match why {
        Why::Missing if named == Named::Relative => {
            "a relative path begins at the directory of the file that names it"
        }
        Why::Missing => "",
        Why::IsDirectory if named == Named::Main => {
            "name the map file in it, such as `pg_ident.conf`"
        }
        Why::IsDirectory => {
            "name a file in it; from PostgreSQL 16 on, `include_dir` reads its files that end in \
             `.conf`"
        }
        Why::TooDeep => "files may nest ten deep: does one include itself?",
        Why::OddName => "rename the file",
        Why::Secret => "what the map is to read must stand in a file without a secret",
        Why::Failed(error) => match (error.kind(), entry) {
            (io::ErrorKind::PermissionDenied, _) => {
                "let the broker's user read it, and enter the directories above it"
            }
            (io::ErrorKind::NotADirectory, Entry::Directory) => "`include` reads a file",
            (io::ErrorKind::NotADirectory, Entry::File) => "its path leads through a file",
            (io::ErrorKind::FileTooLarge, _) => "is it the right file?",
            (io::ErrorKind::InvalidInput, _) => "name a file, no device, pipe or socket",
            (io::ErrorKind::Unsupported, _) => "write its lines here",
            _ => "",
        },
    }
}
