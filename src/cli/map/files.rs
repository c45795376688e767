//! What the commands of a map read.

use std::ffi::OsString;
use std::fs;
use std::io;
use std::path::Path;

use serde_json::{Value, json};

use crate::cli::closed::{Closed, read_map};
use crate::cli::failure::Failure;
use crate::cli::in_one_line;
use crate::cli::terminal::{Shown, warn};
use crate::config::{self, Diagnostic, MapDisk, MapSettings};
use crate::mapping::{
    Dialect, IdentMap, MapFiles, MapMistake, MapRevision, RevisionBeginning, load_error,
};

/// A map without a line, as it is to diff(1).
const NOTHING: &str = "/dev/null";

/// Bytes of a file of identities: a million of them.
const IDENTITIES_BYTES_MAX: u64 = 64 << 20;

/// Why there is nothing to compare or to check.
#[derive(Debug, thiserror::Error)]
pub(in crate::cli) enum MapError {
    #[error("{0}")]
    Closed(Shown),
    #[error("the map {path} cannot be read (mistakes: {})", .mistakes.len())]
    Map { path: Shown, mistakes: Vec<MapMistake> },
    #[error("there is no file {named}, and the store has no map of the revision {beginning}")]
    NoRevision { named: Shown, beginning: RevisionBeginning },
    #[error(
        "several revisions of the map begin with {beginning}: {found}; give more digits",
        found = listed(.found)
    )]
    ManyRevisions { beginning: RevisionBeginning, found: Vec<MapRevision> },
    #[error(
        "there is no file {named}; a revision of the map is named by 8 digits or more, with the \
         --config whose store has it"
    )]
    NeitherFileNorRevision { named: Shown },
    #[error("the configuration {path} cannot be used")]
    Config { path: Shown, mistakes: Vec<Diagnostic> },
    #[error("the identities {path} cannot be read: {why}")]
    Identities { path: Shown, why: String },
    #[error("cluster {cluster} cannot be asked: {why}")]
    Cluster { cluster: String, why: Shown },
}

/// Reads the map in `path`, and what it includes, from what `disk` has.
///
/// # Errors
/// Every mistake of the map. That the file cannot be read is one too.
pub(super) fn load(
    path: &Path,
    dialect: Dialect,
    disk: &MapDisk,
) -> Result<IdentMap, Vec<MapMistake>> {
    IdentMap::load(dialect, path, &Named { path, disk })
}

/// The map on disk, by the name that somebody gave it.
struct Named<'a> {
    path: &'a Path,
    disk: &'a MapDisk,
}

impl MapFiles for Named<'_> {
    fn read(&self, path: &Path) -> io::Result<Vec<u8>> {
        if path == self.path && path == Path::new(NOTHING) {
            Ok(Vec::new())
        } else {
            self.disk.read(path)
        }
    }

    fn list(&self, directory: &Path) -> io::Result<Vec<OsString>> {
        self.disk.list(directory)
    }
}

/// The same for commands that need the map. Its lines are told to stand where whoever named the
/// file would look for them.
///
/// # Errors
/// When it has mistakes; all of them are on standard error by then.
pub(super) fn map(path: &Path, dialect: Dialect, disk: &MapDisk) -> Result<IdentMap, Failure> {
    let map = read_map(path, dialect, &Named { path, disk });
    let map = map.map_err(|(mistakes, closed)| match closed {
        Some(closed) => MapError::Closed(closed.told()).into(),
        None => refused(path, mistakes),
    })?;
    let directory = path.parent().unwrap_or(Path::new(""));
    Ok(map.shown_at(|file| directory.join(file).display().to_string()))
}

fn listed(revisions: &[MapRevision]) -> String {
    revisions.iter().map(MapRevision::as_str).collect::<Vec<_>>().join(", ")
}

/// Tells every mistake of the map in `path`, and gives what is said last.
pub(super) fn refused(path: &Path, mut mistakes: Vec<MapMistake>) -> Failure {
    let directory = path.parent().unwrap_or(Path::new(""));
    for mistake in &mut mistakes {
        mistake.file = directory.join(&mistake.file).display().to_string();
        warn(Shown::new(&mistake));
        if !mistake.hint.is_empty() {
            warn(Shown::new(format!("  hint: {}", mistake.hint)));
        }
    }
    MapError::Map { path: Shown::new(path.display()), mistakes }.into()
}

/// What programs read in the place of an answer: what is wrong first, and where.
pub(super) fn as_json(failure: &Failure) -> String {
    match failure {
        Failure::Map(MapError::Map { path, mistakes }) => load_error(&path.to_string(), mistakes),
        Failure::Map(MapError::Config { path, mistakes }) => of_config(path, mistakes).to_string(),
        other => json!({
            "load_error": in_one_line(other), "file": null, "line": null, "column": null,
            "end_column": null, "hint": null, "mistakes": 1,
        })
        .to_string(),
    }
}

fn of_config(path: &Shown, mistakes: &[Diagnostic]) -> Value {
    let first = mistakes.first();
    let position = first.and_then(|first| first.position);
    json!({
        "load_error": first.map(|first| &first.message),
        "file": first.map_or(path.to_string(), |first| first.file.clone()),
        "line": position.map(|position| position.line),
        "column": position.map(|position| position.column),
        "end_column": position.map(|position| position.end_column),
        "hint": first.and_then(|first| first.hint.as_ref()),
        "mistakes": mistakes.len(),
    })
}

/// What the configuration says of maps.
///
/// # Errors
/// When it cannot be read; why is on standard error by then.
pub(super) fn settings(path: &Path) -> Result<MapSettings, Failure> {
    config::map_only(path).map_err(|diagnostics| {
        if let Some(closed) = Closed::one(path) {
            return MapError::Closed(closed.told()).into();
        }
        for line in diagnostics
            .iter()
            .flat_map(|one| one.to_string().lines().map(Shown::new).collect::<Vec<_>>())
        {
            warn(line);
        }
        MapError::Config { path: Shown::new(path.display()), mistakes: diagnostics }.into()
    })
}

/// The lines of a file, each an account or a group. Empty lines are none.
///
/// # Errors
/// When it cannot be read, or is too large.
pub(super) fn identities(path: &Path) -> Result<Vec<Vec<u8>>, Failure> {
    let failed = |why: String| MapError::Identities { path: Shown::new(path.display()), why };
    let metadata = fs::metadata(path).map_err(|error| failed(error.to_string()))?;
    if metadata.len() > IDENTITIES_BYTES_MAX {
        return Err(failed(format!("it has more than {IDENTITIES_BYTES_MAX} bytes")).into());
    }
    let text = fs::read(path).map_err(|error| failed(error.to_string()))?;
    let lines = text.split(|byte| *byte == b'\n');
    let lines = lines.map(|line| line.strip_suffix(b"\r").unwrap_or(line));
    Ok(lines.filter(|line| !line.is_empty()).map(<[u8]>::to_vec).collect())
}
