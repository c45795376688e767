//! What a map is read from, and all that was read: a revision that can be read again years later.

use std::collections::BTreeMap;
use std::ffi::OsString;
use std::fmt::{self, Write as _};
use std::io;
use std::path::Path;
use std::sync::Arc;

use aws_lc_rs::digest::{SHA256, digest};
use data_encoding::{BASE64, HEXLOWER};
use serde::{Deserialize, Serialize};

use super::dialect::Dialect;

/// Where the files of a map are. The edge implements it on the file system, [`MapText`] on what
/// was read before.
pub trait MapFiles {
    /// The whole of a file.
    ///
    /// # Errors
    /// When it cannot be had. [`io::ErrorKind::NotFound`] when there is no such file, and for no
    /// other reason: `include_if_exists` leaves out what is not there.
    fn read(&self, path: &Path) -> io::Result<Vec<u8>>;

    /// The names of all that is in a directory and is not itself a directory, in any order.
    ///
    /// # Errors
    /// When they cannot be had.
    fn list(&self, directory: &Path) -> io::Result<Vec<OsString>>;
}

/// All that was read for one revision: every file, every file that was found missing, and what
/// each directory listed. A map is loaded from it again exactly as it was.
///
/// Paths begin at the directory of the main file, so that the revision does not depend on where
/// the files lie; a path that the map itself writes from the root stays as it is.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(try_from = "Stored", into = "Stored")]
pub struct MapText {
    main: String,
    /// The paths, as they were first asked for; that of a directory ends in `/`.
    order: Vec<String>,
    read: BTreeMap<String, Found>,
}

/// What stands in the manifest in place of the main file's name, as `sha256sum` prints it of its
/// standard input.
const MAIN: &str = "-";

/// What one content is called.
#[derive(Debug)]
pub(super) struct Revision {
    pub now: MapRevision,
    /// The same when the main file's own name was a part of it. Stores that were written then have
    /// leases and maps by it.
    pub formerly: MapRevision,
}

/// What was found at a path.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Found {
    /// A file, and its bytes.
    File(Arc<[u8]>),
    /// No such file.
    Missing,
    /// A directory, and the names that it included, sorted.
    Directory(Vec<String>),
}

impl MapText {
    /// Nothing of the map in the file `main` is read yet.
    pub(super) fn of(main: &str) -> Self {
        Self { main: main.to_owned(), order: Vec::new(), read: BTreeMap::new() }
    }

    /// The main file, as [`IdentMap::load`](super::IdentMap::load) takes it.
    #[must_use]
    pub fn main(&self) -> &Path {
        Path::new(&self.main)
    }

    /// Every file that was read, with its bytes, in the order of first reading.
    pub fn files(&self) -> impl Iterator<Item = (&str, &[u8])> {
        self.order.iter().filter_map(|path| match self.read.get(path) {
            Some(Found::File(bytes)) => Some((path.as_str(), &**bytes)),
            _ => None,
        })
    }

    pub(super) fn found(&self, path: &str) -> Option<&Found> {
        self.read.get(path)
    }

    pub(super) fn record(&mut self, path: String, found: Found) {
        if self.read.insert(path.clone(), found).is_none() {
            self.order.push(path);
        }
    }

    /// The revision that this is, read by `dialect`.
    pub(super) fn revision(&self, dialect: Dialect) -> Revision {
        let begin = format!("postgres {dialect}\n");
        let (mut now, mut formerly) = (begin.clone(), begin);
        let all = self.order.iter().filter_map(|path| self.read.get_key_value(path));
        for (place, (path, found)) in all.enumerate() {
            let digest = match found {
                Found::File(bytes) => sha256(bytes),
                Found::Missing => "missing".to_owned(),
                Found::Directory(names) => sha256(names.join("\n").as_bytes()),
            };
            // The main file is read first. What it is called is no part of what the map says.
            let name = if place == 0 { MAIN } else { path };
            // Writing to a String cannot fail.
            let _ = writeln!(now, "{digest}  {name}");
            let _ = writeln!(formerly, "{digest}  {path}");
        }
        let [now, formerly] = [now, formerly].map(|text| MapRevision(sha256(text.as_bytes())));
        Revision { now, formerly }
    }
}

fn sha256(bytes: &[u8]) -> String {
    HEXLOWER.encode(digest(&SHA256, bytes).as_ref())
}

impl MapFiles for MapText {
    fn read(&self, path: &Path) -> io::Result<Vec<u8>> {
        match path.to_str().and_then(|path| self.read.get(path)) {
            Some(Found::File(bytes)) => Ok(bytes.to_vec()),
            Some(Found::Missing) => Err(io::ErrorKind::NotFound.into()),
            Some(Found::Directory(_)) | None => Err(not_stored()),
        }
    }

    fn list(&self, directory: &Path) -> io::Result<Vec<OsString>> {
        let path = directory.to_str().map(directory_path);
        match path.and_then(|path| self.read.get(&path)) {
            Some(Found::Directory(names)) => Ok(names.iter().map(OsString::from).collect()),
            _ => Err(not_stored()),
        }
    }
}

/// The path of a directory, which no file can have.
pub(super) fn directory_path(path: &str) -> String {
    if path.ends_with('/') { path.to_owned() } else { format!("{path}/") }
}

fn not_stored() -> io::Error {
    io::Error::new(io::ErrorKind::InvalidData, "it is no part of the stored revision")
}

/// A [`MapText`] as it is stored.
#[derive(Serialize, Deserialize)]
struct Stored {
    main: String,
    read: Vec<Piece>,
}

/// One thing that was read. What is text stays legible.
#[derive(Serialize, Deserialize)]
#[serde(untagged, deny_unknown_fields)]
enum Piece {
    Text { file: String, text: String },
    Bytes { file: String, base64: String },
    Missing { missing: String },
    Directory { directory: String, names: Vec<String> },
}

/// Why what was stored is no map text.
#[derive(Debug, thiserror::Error)]
#[error("`{0}` in a stored map is not base64")]
struct NotBase64(String);

impl TryFrom<Stored> for MapText {
    type Error = NotBase64;

    fn try_from(stored: Stored) -> Result<Self, NotBase64> {
        let mut text = Self::of(&stored.main);
        for piece in stored.read {
            let (path, found) = match piece {
                Piece::Text { file, text } => (file, Found::File(text.into_bytes().into())),
                Piece::Bytes { file, base64 } => match BASE64.decode(base64.as_bytes()) {
                    Ok(bytes) => (file, Found::File(bytes.into())),
                    Err(_) => return Err(NotBase64(file)),
                },
                Piece::Missing { missing } => (missing, Found::Missing),
                Piece::Directory { directory, names } => {
                    (directory_path(&directory), Found::Directory(names))
                }
            };
            text.record(path, found);
        }
        Ok(text)
    }
}

impl From<MapText> for Stored {
    fn from(text: MapText) -> Self {
        let MapText { main, order, mut read } = text;
        let piece = |path: String| {
            Some(match read.remove(&path)? {
                Found::File(bytes) => match std::str::from_utf8(&bytes) {
                    Ok(text) => Piece::Text { file: path, text: text.to_owned() },
                    Err(_) => Piece::Bytes { file: path, base64: BASE64.encode(&bytes) },
                },
                Found::Missing => Piece::Missing { missing: path },
                Found::Directory(names) => Piece::Directory { directory: path, names },
            })
        };
        Self { main, read: order.into_iter().filter_map(piece).collect() }
    }
}

/// Which content of a map, read by which dialect: the SHA-256 of a manifest, in lower-case
/// hexadecimal. The manifest is `postgres 16`, then the SHA-256 and the path of each file in the
/// order of first reading, as `sha256sum` prints them, one a line. The main file comes first, as
/// `-`: by whatever name it is read, it is the same. In place of the SHA-256, a file that was not
/// there has `missing`, and a directory that of the names it included.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct MapRevision(String);

impl MapRevision {
    /// The revision that is written so, if one can be.
    #[must_use]
    pub fn from_hex(text: &str) -> Option<Self> {
        (text.len() == 64 && text.bytes().all(is_hex)).then(|| Self(text.to_owned()))
    }

    /// 64 hexadecimal digits.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

/// The first digits of a revision, as many as name one among others.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RevisionBeginning(String);

impl RevisionBeginning {
    /// The fewest.
    pub const DIGITS: usize = 8;

    /// The beginning that is written so: 8 to 64 digits, in capitals or not.
    #[must_use]
    pub fn from_hex(text: &str) -> Option<Self> {
        let is_long = (Self::DIGITS..=64).contains(&text.len());
        let is_hex = text.bytes().all(|byte| byte.is_ascii_hexdigit());
        (is_long && is_hex).then(|| Self(text.to_ascii_lowercase()))
    }

    /// Its digits.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl fmt::Display for RevisionBeginning {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(&self.0)
    }
}

fn is_hex(byte: u8) -> bool {
    byte.is_ascii_digit() || (b'a'..=b'f').contains(&byte)
}

impl fmt::Display for MapRevision {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(&self.0)
    }
}
