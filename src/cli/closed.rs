//! Files that whoever runs a command may not read. That is no mistake in them, and says nothing of
//! what the broker reads.

use std::collections::BTreeSet;
use std::ffi::OsString;
use std::fs::File;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::{Mutex, PoisonError};

use super::terminal::Shown;
use crate::config::{self, MapSettings};
use crate::mapping::{Dialect, IdentMap, MapFiles, MapMistake};

/// Files and directories that this user may not read, at least one.
#[derive(Debug)]
pub(super) struct Closed(BTreeSet<PathBuf>);

impl Closed {
    /// The configuration in `path`, or files of its map, when they are closed to this user.
    pub(super) fn of_config(path: &Path) -> Option<Self> {
        Self::one(path).or_else(|| {
            let MapSettings { file, dialect, disk, .. } = config::map_only(path).ok()?;
            read_map(&file, dialect, &disk).err()?.1
        })
    }

    /// The file in `path`, when it is closed to this user.
    pub(super) fn one(path: &Path) -> Option<Self> {
        let failed = File::open(path).err()?;
        is_denied(&failed).then(|| Self(BTreeSet::from([path.to_owned()])))
    }

    /// What keeps this user from an answer, and what they can do.
    pub(super) fn told(&self) -> Shown {
        let paths: Vec<String> = self.0.iter().map(|path| path.display().to_string()).collect();
        Shown::new(format!(
            "this user may not read {}: run this as a user who may, such as the broker's, or ask for the \
             right to read it and to enter the directories above it",
            paths.join(", ")
        ))
    }
}

/// Reads the map in `path`, and what it includes, from what `files` has.
///
/// # Errors
/// Every mistake of the map, one that cannot be read among them; and which of its files are closed to
/// this user, if any are.
pub(super) fn read_map(
    path: &Path,
    dialect: Dialect,
    files: &impl MapFiles,
) -> Result<IdentMap, (Vec<MapMistake>, Option<Closed>)> {
    let files = Noting { files, denied: Mutex::default() };
    IdentMap::load(dialect, path, &files).map_err(|mistakes| (mistakes, files.into_closed()))
}

/// The files of a map, and which of them are closed to this user.
struct Noting<'f, Files> {
    files: &'f Files,
    denied: Mutex<BTreeSet<PathBuf>>,
}

impl<Files> Noting<'_, Files> {
    fn noted<Answer>(&self, path: &Path, answer: io::Result<Answer>) -> io::Result<Answer> {
        if answer.as_ref().is_err_and(is_denied) {
            self.denied.lock().unwrap_or_else(PoisonError::into_inner).insert(path.to_owned());
        }
        answer
    }

    fn into_closed(self) -> Option<Closed> {
        let paths = self.denied.into_inner().unwrap_or_else(PoisonError::into_inner);
        (!paths.is_empty()).then_some(Closed(paths))
    }
}

impl<Files: MapFiles> MapFiles for Noting<'_, Files> {
    fn read(&self, path: &Path) -> io::Result<Vec<u8>> {
        self.noted(path, self.files.read(path))
    }

    fn list(&self, directory: &Path) -> io::Result<Vec<OsString>> {
        self.noted(directory, self.files.list(directory))
    }
}

fn is_denied(error: &io::Error) -> bool {
    error.kind() == io::ErrorKind::PermissionDenied
}
