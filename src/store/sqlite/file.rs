//! The files of a store on disk: who may read them, and who serves them.

use std::fs::{self, File, Metadata, OpenOptions, TryLockError};
use std::io;
use std::os::unix::fs::{FileTypeExt, MetadataExt, OpenOptionsExt, PermissionsExt};
use std::path::{Path, PathBuf};

use rusqlite::ErrorCode;
use rustix::fs::{Access, AtFlags, CWD};
use rustix::io::Errno;

/// Why a store was not opened. `Display` says what to do.
#[derive(Debug, thiserror::Error)]
pub enum OpenError {
    /// The path names no file, such as `/` or `data/..`.
    #[error("the path names no file")]
    NoFileName,
    /// Its directory is missing or cannot be read.
    #[error("its directory {directory} cannot be used: create it with mode 0700")]
    NoDirectory {
        /// The directory.
        directory: String,
        /// The system's own error.
        source: io::Error,
    },
    /// Something else than a plain file has its name.
    #[error("{path} is {found}, not a plain file: name a plain file")]
    NotAFile {
        /// The file.
        path: String,
        /// What it is.
        found: &'static str,
    },
    /// Others than its owner may read or write it.
    #[error(
        "{path} has mode {mode:04o}, so that others than its owner may use it: run `chmod 600 {path}`"
    )]
    Exposed {
        /// The file.
        path: String,
        /// Its permissions.
        mode: u32,
    },
    /// The system does not let us.
    #[error("{path} cannot be opened for {access}")]
    File {
        /// The file.
        path: String,
        /// For what it was opened.
        access: &'static str,
        /// The system's own error.
        source: io::Error,
    },
    /// There is nothing to be read.
    #[error(
        "there is no {path}: a broker makes it when it starts; does `path` in [store] name the store \
         that it serves?"
    )]
    Missing {
        /// The file, or the directory that it would be in.
        path: String,
    },
    /// Only another user may read it.
    #[error("this user may not read {path}: run this as the broker's user")]
    Closed {
        /// The file, or a directory above it.
        path: String,
    },
    /// It can be read, but not as SQLite reads it.
    #[error(
        "SQLite cannot read {path} as this user, who must be able to use the files beside it that \
         end in -wal and -shm, and to make them where they are missing: run this as the broker's user"
    )]
    ClosedBeside {
        /// The file.
        path: String,
    },
    /// Another process serves it.
    #[error("another pgbridge is serving it and holds {lock}: stop that one first")]
    InUse {
        /// The lock file.
        lock: String,
    },
    /// It is something else.
    #[error("it is no store of pgbridge ({found}): name another file, or move that one away")]
    Alien {
        /// What it is.
        found: String,
    },
    /// SQLite finds it damaged.
    #[error("it is damaged ({found}): keep a copy, then restore a backup")]
    Damaged {
        /// What SQLite found.
        found: String,
    },
    /// A newer pgbridge has written it.
    #[error(
        "its schema has version {found}, this pgbridge knows {known}: run the newer pgbridge, or \
         restore a backup from before it ran"
    )]
    TooNew {
        /// The version in the file.
        found: u32,
        /// The newest version known.
        known: u32,
    },
    /// It was opened for reading and needs a migration first.
    #[error(
        "its schema has version {found}, reading it needs {known}: start `pgbridge serve` once to \
         bring it up to date"
    )]
    TooOld {
        /// The version in the file.
        found: u32,
        /// The version needed.
        known: u32,
    },
    /// Its file system has no shared memory or locks.
    #[error(
        "its file system does not allow write-ahead logging (journal mode is {mode}): put it on a \
         local disk"
    )]
    NoWriteAheadLog {
        /// The journal mode that SQLite has chosen instead.
        mode: String,
    },
    /// SQLite does not open it.
    #[error("SQLite does not open it")]
    Engine(#[from] rusqlite::Error),
}

/// `path` with its directory made absolute and free of symbolic links.
///
/// SQLite would take a relative path that begins with `file:` for a URI, and would follow a
/// symbolic link; an absolute path of a plain file leaves it neither.
pub(super) fn resolve(path: &Path) -> Result<PathBuf, OpenError> {
    let name = path.file_name().ok_or(OpenError::NoFileName)?;
    let directory = match path.parent() {
        Some(parent) if !parent.as_os_str().is_empty() => parent,
        _ => Path::new("."),
    };
    let resolved = fs::canonicalize(directory).map_err(|source| OpenError::NoDirectory {
        directory: directory.display().to_string(),
        source,
    })?;
    Ok(resolved.join(name))
}

/// The same for a file that is only read: it is there, nobody but its owner may use it, and this user
/// may. It is not opened.
pub(super) fn find(path: &Path) -> Result<PathBuf, OpenError> {
    let found = resolve(path).map_err(OpenError::for_a_reader)?;
    check_private(&found).map_err(OpenError::for_a_reader)?;
    for suffix in ["", "-wal", "-shm"] {
        let mut file = found.clone().into_os_string();
        file.push(suffix);
        let may_read = rustix::fs::accessat(CWD, &file, Access::READ_OK, AtFlags::EACCESS);
        if may_read == Err(Errno::ACCESS) {
            return Err(OpenError::Closed { path: Path::new(&file).display().to_string() });
        }
    }
    Ok(found)
}

impl OpenError {
    /// What it is to whoever only reads: they make no directory, and change no mode.
    pub(super) fn for_a_reader(self) -> Self {
        match self {
            Self::NoDirectory { directory: path, source } | Self::File { path, source, .. }
                if matches!(
                    source.kind(),
                    io::ErrorKind::NotFound | io::ErrorKind::NotADirectory
                ) =>
            {
                Self::Missing { path }
            }
            Self::NoDirectory { directory: path, source } | Self::File { path, source, .. }
                if source.kind() == io::ErrorKind::PermissionDenied =>
            {
                Self::Closed { path }
            }
            other => other,
        }
    }

    /// What it is to whoever reads the store at `path`, once [`find`] has found it.
    pub(super) fn of_sqlite(self, path: &Path) -> Self {
        let code = match &self {
            Self::Engine(error) => error.sqlite_error_code(),
            _ => None,
        };
        match code {
            Some(ErrorCode::CannotOpen | ErrorCode::ReadOnly | ErrorCode::PermissionDenied) => {
                Self::ClosedBeside { path: path.display().to_string() }
            }
            _ => self,
        }
    }
}

/// Makes the file with mode 0600 from its first moment, whatever the umask, or checks the one
/// that exists.
///
/// Only for a file that this process has not opened with SQLite: closing any handle of a file
/// gives back all the locks (`fcntl`) that a process has on it.
pub(super) fn make_private(path: &Path) -> Result<(), OpenError> {
    let failed = |source| OpenError::File {
        path: path.display().to_string(),
        access: "reading and writing",
        source,
    };
    let make = OpenOptions::new().read(true).write(true).create_new(true).mode(0o600).open(path);
    match make {
        Ok(file) => {
            file.sync_all().map_err(failed)?;
            sync_directory(path).map_err(failed)
        }
        Err(error) if error.kind() == io::ErrorKind::AlreadyExists => {
            check_private(path)?;
            OpenOptions::new().read(true).write(true).open(path).map(drop).map_err(failed)
        }
        Err(error) => Err(failed(error)),
    }
}

/// A plain file that nobody but its owner may use, or an error.
pub(super) fn check_private(path: &Path) -> Result<(), OpenError> {
    let name = path.display().to_string();
    let metadata = fs::symlink_metadata(path).map_err(|source| OpenError::File {
        path: name.clone(),
        access: "reading",
        source,
    })?;
    if let Some(found) = other_than_file(&metadata) {
        return Err(OpenError::NotAFile { path: name, found });
    }
    let mode = metadata.permissions().mode() & 0o7777;
    if mode & 0o077 != 0 {
        return Err(OpenError::Exposed { path: name, mode });
    }
    Ok(())
}

fn other_than_file(metadata: &Metadata) -> Option<&'static str> {
    let kind = metadata.file_type();
    if kind.is_file() {
        // A second name could lead around whatever guards the first one.
        (metadata.nlink() > 1).then_some("a file with several hard links")
    } else if kind.is_dir() {
        Some("a directory")
    } else if kind.is_symlink() {
        Some("a symbolic link")
    } else if kind.is_fifo() || kind.is_socket() {
        Some("a pipe or socket")
    } else {
        Some("a device")
    }
}

/// Makes the name of a new file durable, which syncing the file does not.
fn sync_directory(path: &Path) -> io::Result<()> {
    path.parent().map_or(Ok(()), |directory| File::open(directory)?.sync_all())
}

/// The right to serve a store, held as long as this lives. The file stays when it is given back:
/// removing it would let two processes lock two files of one name.
#[derive(Debug)]
pub(super) struct ServeLock {
    _file: File,
}

impl ServeLock {
    /// Takes the right to serve the store at `path`, by an exclusive lock on `path.lock`.
    pub(super) fn take(path: &Path) -> Result<Self, OpenError> {
        let mut lock = path.as_os_str().to_owned();
        lock.push(".lock");
        let lock = PathBuf::from(lock);
        make_private(&lock)?;
        let name = lock.display().to_string();
        let failed = |source| OpenError::File { path: name.clone(), access: "locking", source };
        let file = OpenOptions::new().read(true).write(true).open(&lock).map_err(failed)?;
        match file.try_lock() {
            Ok(()) => Ok(Self { _file: file }),
            Err(TryLockError::WouldBlock) => Err(OpenError::InUse { lock: name }),
            Err(TryLockError::Error(source)) => Err(failed(source)),
        }
    }
}
