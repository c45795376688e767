//! What the commands of a map read.

use std::ffi::OsString;
use std::fs::File;
use std::io::{self, Read};
use std::os::unix::fs::FileTypeExt;
use std::path::Path;

use rustix::fs::{Mode, OFlags};

use crate::cli::closed;
use crate::cli::failure::Failure;
use crate::cli::operate::{OperateError, told};
use crate::cli::terminal::{Shown, warn};
use crate::config::{self, MapDisk, MapSettings};
use crate::mapping::{Dialect, IdentMap, MapFiles, MapMistake, MapRevision, RevisionBeginning};

/// A map without a line, as it is to diff(1).
const NOTHING: &str = "/dev/null";

/// Bytes of a file of identities: a million of them.
const IDENTITIES_BYTES_MAX: u64 = 64 << 20;

/// Why there is nothing to compare or to check.
#[derive(Debug, thiserror::Error)]
pub(in crate::cli) enum MapError {
    #[error("{told}")]
    Closed { told: Shown, path: Shown, mistakes: Vec<MapMistake> },
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
    let map = load(path, dialect, disk).map_err(|mistakes| refused(path, mistakes))?;
    Ok(at_its_place(map, path))
}

/// The same of the map that the configuration in `config` names: its key is what names a file that
/// is closed to this user.
///
/// # Errors
/// As there.
pub(super) fn map_of(
    config: &Path,
    settings: &MapSettings,
    dialect: Dialect,
) -> Result<IdentMap, Failure> {
    let file = settings.file.as_path();
    let is_closed = |mistake: &MapMistake| mistake.closed.as_deref() == Some(file);
    match load(file, dialect, &settings.disk) {
        Ok(map) => Ok(at_its_place(map, file)),
        Err(mistakes) if mistakes.iter().any(is_closed) => {
            Err(told(config, vec![settings.closed.clone()]).into())
        }
        Err(mistakes) => Err(refused(file, mistakes)),
    }
}

fn at_its_place(map: IdentMap, path: &Path) -> IdentMap {
    let directory = path.parent().unwrap_or(Path::new(""));
    map.shown_at(|file| directory.join(file).display().to_string())
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
    let path = Shown::new(path.display());
    match closed::told(mistakes.iter().filter_map(|mistake| mistake.closed.as_deref())) {
        Some(told) => MapError::Closed { told, path, mistakes }.into(),
        None => MapError::Map { path, mistakes }.into(),
    }
}

/// What the configuration says of maps.
///
/// # Errors
/// When it cannot be read; why is on standard error by then.
pub(super) fn settings(path: &Path) -> Result<MapSettings, OperateError> {
    config::map_only(path).map_err(|mistakes| told(path, mistakes))
}

/// The lines of a file, each an account or a group. Empty lines are none.
///
/// # Errors
/// When it cannot be read, or is too large; when it is a pipe and nobody writes into it.
pub(super) fn identities(path: &Path) -> Result<Vec<Vec<u8>>, Failure> {
    let failed = |why: String| MapError::Identities { path: Shown::new(path.display()), why };
    let text = read_or_take(path).map_err(|error| failed(error.to_string()))?;
    if text.len() as u64 > IDENTITIES_BYTES_MAX {
        return Err(failed(format!("it has more than {IDENTITIES_BYTES_MAX} bytes")).into());
    }
    let lines = text.split(|byte| *byte == b'\n');
    let lines = lines.map(|line| line.strip_suffix(b"\r").unwrap_or(line));
    Ok(lines.filter(|line| !line.is_empty()).map(<[u8]>::to_vec).collect())
}

/// The bytes of a file, or of a pipe into which somebody writes; as far as one byte too many.
fn read_or_take(path: &Path) -> io::Result<Vec<u8>> {
    // Opened without waiting for who would write into it, and then read with waiting for what they do.
    let flags = OFlags::RDONLY | OFlags::NONBLOCK | OFlags::NOCTTY | OFlags::CLOEXEC;
    let file = File::from(rustix::fs::open(path, flags, Mode::empty())?);
    rustix::fs::fcntl_setfl(&file, rustix::fs::fcntl_getfl(&file)? - OFlags::NONBLOCK)?;
    let is_pipe = file.metadata()?.file_type().is_fifo();
    let mut bytes = Vec::new();
    file.take(IDENTITIES_BYTES_MAX + 1).read_to_end(&mut bytes)?;
    if is_pipe && bytes.is_empty() {
        return Err(io::Error::other("nobody writes into this pipe"));
    }
    Ok(bytes)
}
