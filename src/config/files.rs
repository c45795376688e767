//! The files that a configuration names: there, readable, private where they are secret, and
//! holding what they should.

use std::fs::{File, Metadata, OpenOptions};
use std::io::{self, Read};
use std::os::fd::AsRawFd;
use std::os::unix::fs::{MetadataExt, OpenOptionsExt, PermissionsExt};
use std::path::{Component, Path, PathBuf};

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use rustix::fs::{Access, AtFlags, CWD, Mode, OFlags};
use rustls::RootCertStore;
use rustls::crypto::aws_lc_rs;
use rustls::sign::CertifiedKey;
use rustls_pki_types::pem::PemObject;
use rustls_pki_types::{CertificateDer, PrivateKeyDer};
use zeroize::Zeroizing;

use super::diagnostic::Diagnostic;
use super::form;
use super::reader::Table;
use crate::mapping::HoldsSecret;

/// Bytes that a file with certificates, keys or a map may have: 8 MiB.
pub(super) const FILE_BYTES_MAX: u64 = 8 << 20;
/// Bytes that a password may have. PostgreSQL's own clients and servers stop at 1 KiB or sooner.
const PASSWORD_BYTES_MAX: usize = 1024;

const RELATIVE: &str = "a relative path begins at the directory of this file";
const MAKE_PRIVATE: &str = "chmod 600 it, and make the broker's user its owner";

/// Who may read a file.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum Privacy {
    /// Anybody.
    Public,
    /// Its owner only.
    Secret,
    /// Anybody, for what is read from it is shown: it may be none of the secrets.
    Shown,
}

/// The files with secrets that the configuration names.
#[derive(Clone, Debug, Default)]
pub(super) struct Secrets(Vec<PathBuf>);

impl Secrets {
    pub(super) fn add(&mut self, path: &Path) {
        self.0.push(path.to_owned());
    }

    /// Whether a file is one of them now, by whatever name: links are what they lead to. One that is
    /// not there, or that this user may not even look at, is no file that could be read.
    fn have(&self, file: &Metadata) -> bool {
        let id = |file: &Metadata| (file.dev(), file.ino());
        let is_it = |path: &PathBuf| std::fs::metadata(path).is_ok_and(|one| id(&one) == id(file));
        self.0.iter().any(is_it)
    }

    /// Whether one of them stands, or would stand, at `path`, as far as links can be followed by this
    /// user: for what cannot be looked at.
    fn stand_at(&self, path: &Path) -> bool {
        let place = place(path);
        self.0.iter().any(|secret| self::place(secret) == place)
    }
}

/// Links that are followed to a file, as many as Linux follows.
const LINKS_MOST: u32 = 40;

/// Where a path leads: links are followed where this user may look, and the rest is taken as it is
/// written, whether anything is there or not.
fn place(path: &Path) -> PathBuf {
    let mut links = 0;
    let mut place = PathBuf::new();
    let mut rest = std::path::absolute(path).unwrap_or_else(|_| path.to_owned());
    loop {
        let mut parts = rest.components();
        let Some(part) = parts.next() else { return place };
        let behind = parts.as_path().to_owned();
        match part {
            Component::ParentDir => drop(place.pop()),
            part => place.push(part),
        }
        rest = match std::fs::read_link(&place) {
            Ok(target) if links < LINKS_MOST => {
                links += 1;
                place.pop();
                target.join(behind)
            }
            _ => behind,
        };
    }
}

/// The whole of the file at `path`, at most 8 MiB. Nothing when it cannot be had; that is noted
/// at `key`.
pub(super) fn read(
    table: &Table<'_>,
    key: &str,
    path: &Path,
    privacy: Privacy,
) -> Option<Zeroizing<Vec<u8>>> {
    if privacy == Privacy::Secret {
        table.reader().note_secret(path);
    }
    if !table.reader().opens_others() {
        return None;
    }
    let read = match privacy {
        Privacy::Shown => read_beside(path, FILE_BYTES_MAX, &table.reader().secrets()),
        Privacy::Public | Privacy::Secret => read_bounded(path, FILE_BYTES_MAX),
    };
    match read {
        Ok((metadata, bytes)) => {
            let is_open = metadata.permissions().mode() & 0o077 != 0;
            if privacy == Privacy::Secret && is_open {
                table.mistake(key, "names a secret file that others may read", MAKE_PRIVATE);
                return None;
            }
            Some(bytes)
        }
        Err(error) => {
            let is_closed = error.kind() == io::ErrorKind::PermissionDenied;
            if is_closed && privacy != Privacy::Secret {
                table.reader().elsewhere(closed(table, key, path));
            } else {
                let (what, hint) = unread(&error, if_relative(table, key));
                table.mistake(key, &what, hint);
            }
            None
        }
    }
}

const CLOSED: &str = "names a file that this user may not read";

/// That this user may not read the file at `path`, which `key` names, and which is no secret.
pub(super) fn closed(table: &Table<'_>, key: &str, path: &Path) -> Diagnostic {
    let message = format!("`{key}` in {} {CLOSED}", table.title());
    let hint = "the broker's user must be able to read it, and to enter the directories above it";
    table.reader().closed(table.place_of(key), path, message, hint)
}

/// Reads at most `most` bytes of a regular file, and says what file that was.
///
/// # Errors
/// When it is not there, a directory or another thing that is no regular file, not readable, or
/// longer.
pub(super) fn read_bounded(path: &Path, most: u64) -> io::Result<(Metadata, Zeroizing<Vec<u8>>)> {
    // Opening a pipe would wait for its other end, and opening a device may do something to it: so
    // what it is comes first. It may be a pipe by the time it is opened all the same.
    let kind = std::fs::metadata(path)?.file_type();
    if kind.is_dir() {
        return Err(io::ErrorKind::IsADirectory.into());
    }
    if !kind.is_file() {
        return Err(io::ErrorKind::InvalidInput.into());
    }
    let no_wait = OFlags::NONBLOCK | OFlags::NOCTTY;
    let flags = i32::try_from(no_wait.bits()).unwrap_or_default();
    let file = OpenOptions::new().read(true).custom_flags(flags).open(path)?;
    let metadata = file.metadata()?;
    if !metadata.is_file() {
        return Err(io::ErrorKind::InvalidInput.into());
    }
    // Room for all of it at once, so that no copy of a secret is left behind by growing.
    let capacity = usize::try_from(metadata.len().min(most) + 1).unwrap_or_default();
    let mut bytes = Zeroizing::new(Vec::with_capacity(capacity));
    file.take(most + 1).read_to_end(&mut bytes)?;
    if bytes.len() as u64 > most {
        return Err(io::ErrorKind::FileTooLarge.into());
    }
    Ok((metadata, bytes))
}

/// The same, but of no file that is one of `secrets`: that is not opened either. Needs `/proc`.
///
/// # Errors
/// As there, and [`HoldsSecret`].
pub(super) fn read_beside(
    path: &Path,
    most: u64,
    secrets: &Secrets,
) -> io::Result<(Metadata, Zeroizing<Vec<u8>>)> {
    // Found without opening it: what is found is what is read, whatever comes into its place. To open
    // a file of SQLite's and to close it would let go of the locks that this process has on it.
    let found = match rustix::fs::open(path, OFlags::PATH | OFlags::CLOEXEC, Mode::empty()) {
        Ok(found) => File::from(found),
        // Nobody is told how it could be read, or whether it is there.
        Err(_) if secrets.stand_at(path) => return Err(io::Error::other(HoldsSecret)),
        Err(error) => return Err(error.into()),
    };
    if secrets.have(&found.metadata()?) {
        return Err(io::Error::other(HoldsSecret));
    }
    read_bounded(Path::new(&format!("/proc/self/fd/{}", found.as_raw_fd())), most)
}

/// What may help whoever meant another file: nothing when its whole path is written.
fn if_relative(table: &Table<'_>, key: &str) -> &'static str {
    if table.text_of(key).is_some_and(|path| Path::new(path).is_absolute()) { "" } else { RELATIVE }
}

/// Why a file was not read, to stand after the key's name, and what to do; `elsewhere` is what
/// may help when it stands elsewhere.
fn unread(error: &io::Error, elsewhere: &'static str) -> (String, &'static str) {
    match error.kind() {
        io::ErrorKind::NotFound => ("names a file that does not exist".into(), elsewhere),
        io::ErrorKind::PermissionDenied => (
            CLOSED.into(),
            "run this as the broker's user, who must own it and be let into the directories above it",
        ),
        io::ErrorKind::InvalidInput | io::ErrorKind::IsADirectory => {
            ("names something that is no regular file".into(), "name the file itself")
        }
        io::ErrorKind::FileTooLarge => {
            ("names a file of more than 8 MiB".into(), "is it the right file?")
        }
        _ if HoldsSecret::is_why(error) => (
            "names a file with a secret".into(),
            "what is read from it would be shown: it must stand in a file without a secret",
        ),
        // The words of a kind are the library's own and hold nothing of ours.
        kind => (format!("names a file that cannot be read: {kind}"), elsewhere),
    }
}

/// A file that need not be there yet: the directory that it will be made in must be, and let
/// this user make it.
pub(super) fn path_to_make(table: &Table<'_>, key: &'static str, path: &Path) -> PathBuf {
    let path = table.reader().resolve(path);
    let directory = path.parent().filter(|parent| !parent.as_os_str().is_empty());
    let directory = directory.unwrap_or(Path::new("."));
    if !table.reader().opens_others() {
        return path;
    }
    if !directory.is_dir() {
        let what = "names a file in a directory that does not exist";
        table.mistake(key, what, if_relative(table, key));
    } else if path.is_dir() {
        table.mistake(key, "names a directory", "name a file in it");
    } else if path.exists() && !path.is_file() {
        table.mistake(key, "names something that is no regular file", "name the file itself");
    } else if !path.exists() && !can_make_in(directory) {
        let what = "names a file that is not there, in a directory where this user may make none";
        table.mistake(key, what, "the broker's user must be able to make a file there");
    }
    path
}

/// As the kernel sees it for this process: modes, groups, ACLs and read-only mounts (access(2)).
fn can_make_in(directory: &Path) -> bool {
    let needed = Access::WRITE_OK | Access::EXEC_OK;
    rustix::fs::accessat(CWD, directory, needed, AtFlags::EACCESS).is_ok()
}

/// The password in the file that `key` names: all of its text but one line end.
pub(super) fn password(table: &Table<'_>, key: &str, path: &Path) -> Option<Zeroizing<String>> {
    let bytes = read(table, key, path, Privacy::Secret)?;
    let bytes = bytes.strip_suffix(b"\n").unwrap_or(&bytes);
    let wrong = |what: &str| {
        table.mistake(key, what, "the file holds the password alone, on one line");
        None
    };
    let Ok(text) = std::str::from_utf8(bytes) else {
        return wrong("names a password file that is not UTF-8");
    };
    if text.trim().is_empty() {
        return wrong("names a password file that is empty or blank");
    }
    if text.len() > PASSWORD_BYTES_MAX {
        return wrong("names a password file of more than 1 KiB");
    }
    // A line end of another system would be taken for a part of the password.
    if text.contains(['\0', '\n', '\r']) {
        return wrong("names a password file with a NUL, or with a line end inside the password");
    }
    Some(Zeroizing::new(text.to_owned()))
}

/// The certificate authorities in the file that `key` names, written anew as PEM: what else
/// stands in the file goes no further.
pub(super) fn authorities(table: &Table<'_>, key: &'static str) -> Option<Authorities> {
    let named = table.optional(key, &form::path())?;
    let path = table.reader().resolve(&named);
    let bytes = read(table, key, &path, Privacy::Public)?;
    if holds_private_key(&bytes) {
        table.mistake(key, "names a file with a private key", "name one with certificates only");
        return None;
    }
    let certificates = certificates(table, key, &bytes)?;
    let mut roots = RootCertStore::empty();
    let is_root = |certificate: &CertificateDer<'static>| roots.add(certificate.clone()).is_ok();
    if !certificates.iter().all(is_root) {
        table.mistake(key, "names a file with a certificate that cannot be read", MAKE_PEM);
        return None;
    }
    let pem = certificates.iter().map(|certificate| to_pem(certificate)).collect();
    let path = std::path::absolute(&path).unwrap_or(path);
    Some(Authorities { pem, path })
}

/// Certificate authorities, and where they stand.
pub(super) struct Authorities {
    /// All of them as PEM, without anything else.
    pub pem: String,
    /// The absolute path of their file.
    pub path: PathBuf,
}

/// Checks that the two files are a certificate chain and its private key.
pub(super) fn key_pair(table: &Table<'_>, certificate: &Path, key: &Path) {
    let chain = read(table, "certificate_file", certificate, Privacy::Public)
        .and_then(|bytes| certificates(table, "certificate_file", &bytes));
    let key =
        read(table, "key_file", key, Privacy::Secret).and_then(|bytes| private_key(table, &bytes));
    let Some((chain, key)) = chain.zip(key) else { return };
    let provider = aws_lc_rs::default_provider();
    let hint =
        "the first certificate must be the server's own, and the key the one it was made for";
    match CertifiedKey::from_der(chain, key, &provider) {
        Ok(_) => {}
        Err(rustls::Error::InconsistentKeys(_)) => {
            table.mistake("key_file", "does not fit the certificate in `certificate_file`", hint);
        }
        Err(_) => {
            let what = "and `certificate_file` cannot be used: their kind is not supported";
            table.mistake("key_file", what, "use ECDSA P-256 or P-384, Ed25519, or RSA");
        }
    }
}

const MAKE_PEM: &str = "certificates stand between `-----BEGIN CERTIFICATE-----` and `-----END \
                        CERTIFICATE-----`";

fn certificates(
    table: &Table<'_>,
    key: &str,
    bytes: &[u8],
) -> Option<Vec<CertificateDer<'static>>> {
    let certificates: Result<Vec<_>, _> = CertificateDer::pem_slice_iter(bytes).collect();
    let certificates = certificates.unwrap_or_default();
    if certificates.is_empty() {
        table.mistake(key, "names a file without a certificate in PEM form", MAKE_PEM);
        return None;
    }
    Some(certificates)
}

fn private_key(table: &Table<'_>, bytes: &[u8]) -> Option<PrivateKeyDer<'static>> {
    let key = PrivateKeyDer::from_pem_slice(bytes).ok();
    if key.is_none() {
        let hint = "an encrypted key cannot be used; `openssl pkey` writes it without its password";
        table.mistake("key_file", "names a file without a private key in PEM form", hint);
    }
    key
}

fn holds_private_key(bytes: &[u8]) -> bool {
    String::from_utf8_lossy(bytes).contains("PRIVATE KEY-----")
}

/// RFC 7468 section 2: lines of 64 characters.
fn to_pem(certificate: &CertificateDer<'_>) -> String {
    let base64 = STANDARD.encode(certificate);
    let lines = base64.as_bytes().chunks(64).map(String::from_utf8_lossy).collect::<Vec<_>>();
    format!("-----BEGIN CERTIFICATE-----\n{}\n-----END CERTIFICATE-----\n", lines.join("\n"))
}
