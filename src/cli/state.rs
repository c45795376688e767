//! What the CLI keeps between two calls: the session, and root certificates of clusters.
//!
//! Everything is written to a file beside its place and moved there, so that a reader finds the
//! old file or the new one and never half of one, and the mode is right from the first moment.

use std::ffi::OsString;
use std::fs::{self, DirBuilder, File, OpenOptions};
use std::io::{self, Read, Write};
use std::os::unix::fs::{DirBuilderExt, MetadataExt, OpenOptionsExt, PermissionsExt};
use std::path::{Path, PathBuf};

use jiff::Timestamp;
use rustls_pki_types::CertificateDer;
use rustls_pki_types::pem::PemObject;
use serde::{Deserialize, Serialize};

use super::secret::Secret;
use super::server::ServerUrl;
use crate::names::{ClusterName, SessionToken};

const SESSION: &str = "session.json";

/// Bytes a session file may have; ours have a few hundred.
const SESSION_MAX: u64 = 64 * 1024;

/// The directory of this user's state, 0700 when we make it.
#[derive(Debug)]
pub(super) struct StateDir(PathBuf);

/// A session as it is kept.
pub(super) struct SavedSession {
    pub server: ServerUrl,
    /// File with the root certificates for the server, absolute; none means those of the system.
    pub ca: Option<PathBuf>,
    pub principal: String,
    pub expires_at: Timestamp,
    pub token: SessionToken,
}

/// Why the state could not be read or written.
#[derive(Debug, thiserror::Error)]
pub(super) enum StateError {
    #[error(
        "there is no place for the session: neither XDG_STATE_HOME nor HOME is an absolute path in UTF-8"
    )]
    Nowhere,
    #[error("{path} cannot be {doing}")]
    Failed { path: PathBuf, doing: &'static str, source: io::Error },
    #[error(
        "{path} can be read by others (mode {mode:04o}): the session in it may be known. Remove it and log in again"
    )]
    Exposed { path: PathBuf, mode: u32 },
    #[error("{path} belongs to another user: remove it, or set XDG_STATE_HOME")]
    Foreign { path: PathBuf },
    #[error("{path} can be written by others (mode {mode:04o}): run `chmod 700` on it")]
    OpenDirectory { path: PathBuf, mode: u32 },
    #[error("{path} is no session file of this version: remove it and log in again")]
    Unreadable { path: PathBuf },
    #[error("the server's root certificate for cluster {cluster} is no certificate in PEM")]
    NoCertificate { cluster: ClusterName },
}

#[derive(Serialize)]
struct Written<'a> {
    server: &'a ServerUrl,
    ca: Option<&'a Path>,
    principal: &'a str,
    expires_at: Timestamp,
    token: &'a str,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Found {
    server: ServerUrl,
    ca: Option<PathBuf>,
    principal: String,
    expires_at: Timestamp,
    token: Secret,
}

impl StateDir {
    /// Where the state is by the environment (XDG Base Directory Specification: a relative path
    /// is ignored). Makes nothing yet.
    ///
    /// # Errors
    /// When neither `XDG_STATE_HOME` nor `HOME` is an absolute path in UTF-8.
    pub fn locate(variable: impl Fn(&str) -> Option<OsString>) -> Result<Self, StateError> {
        let absolute = |name| {
            variable(name)
                .and_then(|value| value.into_string().ok())
                .map(PathBuf::from)
                .filter(|path| path.is_absolute())
        };
        let base = absolute("XDG_STATE_HOME")
            .or_else(|| absolute("HOME").map(|home| home.join(".local/state")));
        base.map(|base| Self(base.join("pgbridge"))).ok_or(StateError::Nowhere)
    }

    /// Where the session is kept.
    pub fn session_path(&self) -> PathBuf {
        self.0.join(SESSION)
    }

    /// The kept session, or nothing.
    ///
    /// # Errors
    /// When the file is open to others, belongs to another user, or cannot be read.
    pub fn session(&self) -> Result<Option<SavedSession>, StateError> {
        let path = self.session_path();
        let failed = |source| StateError::Failed { path: path.clone(), doing: "read", source };
        let mut file = match File::open(&path) {
            Ok(file) => file,
            Err(absent) if absent.kind() == io::ErrorKind::NotFound => return Ok(None),
            Err(source) => return Err(failed(source)),
        };
        // Of the open file, not of its path: that may be another one by now.
        let metadata = file.metadata().map_err(failed)?;
        check_owner(&path, &metadata)?;
        let mode = metadata.permissions().mode() & 0o7777;
        if mode & 0o077 != 0 {
            return Err(StateError::Exposed { path, mode });
        }
        let mut text = String::new();
        let read = Read::by_ref(&mut file).take(SESSION_MAX).read_to_string(&mut text);
        let text = Secret::new(text);
        read.map_err(failed)?;
        // The parser's own message may quote what it read.
        let read: Found = serde_json::from_str(text.expose())
            .map_err(|_| StateError::Unreadable { path: path.clone() })?;
        Ok(Some(SavedSession {
            server: read.server,
            ca: read.ca,
            principal: read.principal,
            expires_at: read.expires_at,
            token: SessionToken::unverified(read.token.expose()),
        }))
    }

    /// Keeps `session` in the place of any other.
    ///
    /// # Errors
    /// When the directory is open to others, or the file cannot be written.
    pub fn keep_session(&self, session: &SavedSession) -> Result<(), StateError> {
        let written = Written {
            server: &session.server,
            ca: session.ca.as_deref(),
            principal: &session.principal,
            expires_at: session.expires_at,
            token: session.token.expose(),
        };
        let text = serde_json::to_string(&written).map(Secret::new);
        let path = self.session_path();
        let text = text.map_err(|source| StateError::Failed {
            path,
            doing: "written",
            source: source.into(),
        })?;
        self.write(SESSION, 0o600, text.expose().as_bytes()).map(drop)
    }

    /// Removes the kept session; it is no error when there is none.
    ///
    /// # Errors
    /// When the file is there and cannot be removed.
    pub fn forget_session(&self) -> Result<(), StateError> {
        let path = self.session_path();
        match fs::remove_file(&path) {
            Err(source) if source.kind() != io::ErrorKind::NotFound => {
                Err(StateError::Failed { path, doing: "removed", source })
            }
            _ => Ok(()),
        }
    }

    /// Writes the root certificates of `cluster` for libpq, 0644, and gives the file's path.
    ///
    /// # Errors
    /// When `pem` holds no certificate, or the file cannot be written.
    pub fn keep_certificate(
        &self,
        cluster: &ClusterName,
        pem: &str,
    ) -> Result<PathBuf, StateError> {
        let read: Result<Vec<_>, _> = CertificateDer::pem_slice_iter(pem.as_bytes()).collect();
        if !read.is_ok_and(|certificates| !certificates.is_empty()) {
            return Err(StateError::NoCertificate { cluster: cluster.clone() });
        }
        self.write(&format!("{cluster}.crt"), 0o644, pem.as_bytes())
    }

    fn write(&self, name: &str, mode: u32, bytes: &[u8]) -> Result<PathBuf, StateError> {
        self.make()?;
        let path = self.0.join(name);
        let failed = |source| StateError::Failed { path: path.clone(), doing: "written", source };
        let (beside, mut file) = self.create_beside(name, mode).map_err(failed)?;
        let written = file
            .set_permissions(fs::Permissions::from_mode(mode))
            .and_then(|()| file.write_all(bytes))
            .and_then(|()| file.sync_all())
            .and_then(|()| fs::rename(&beside, &path));
        if let Err(source) = written {
            // The failure to write is what matters; a left-over file has the right mode.
            let _ = fs::remove_file(&beside);
            return Err(failed(source));
        }
        Ok(path)
    }

    /// A new file in the same directory that nobody else has open. A crashed call may have left
    /// one of the same name, so several are tried.
    fn create_beside(&self, name: &str, mode: u32) -> io::Result<(PathBuf, File)> {
        let process = std::process::id();
        let mut outcome = Err(io::ErrorKind::AlreadyExists.into());
        for attempt in 0..100 {
            let beside = self.0.join(format!(".{name}.{process}.{attempt}"));
            let created = OpenOptions::new().write(true).create_new(true).mode(mode).open(&beside);
            outcome = created.map(|file| (beside, file));
            match &outcome {
                Err(taken) if taken.kind() == io::ErrorKind::AlreadyExists => {}
                _ => break,
            }
        }
        outcome
    }

    fn make(&self) -> Result<(), StateError> {
        let path = self.0.clone();
        let made = DirBuilder::new().recursive(true).mode(0o700).create(&path);
        let metadata = made
            .and_then(|()| fs::metadata(&path))
            .map_err(|source| StateError::Failed { path: path.clone(), doing: "made", source })?;
        check_owner(&path, &metadata)?;
        let bits = metadata.permissions().mode() & 0o7777;
        // Who can write the directory can put a session of theirs in the place of ours.
        if bits & 0o022 != 0 {
            return Err(StateError::OpenDirectory { path, mode: bits });
        }
        Ok(())
    }
}

fn check_owner(path: &Path, metadata: &fs::Metadata) -> Result<(), StateError> {
    if metadata.uid() == rustix::process::geteuid().as_raw() {
        Ok(())
    } else {
        Err(StateError::Foreign { path: path.to_owned() })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn state(within: &tempfile::TempDir) -> StateDir {
        let base = within.path().as_os_str().to_owned();
        StateDir::locate(|name| (name == "XDG_STATE_HOME").then(|| base.clone())).unwrap()
    }

    fn session() -> SavedSession {
        SavedSession {
            server: "https://e.test".parse().unwrap(),
            ca: Some("/etc/ca.crt".into()),
            principal: "ldap:corp:alice".into(),
            expires_at: Timestamp::UNIX_EPOCH,
            token: SessionToken::unverified("pgbs_canary"),
        }
    }

    fn mode(path: &Path) -> u32 {
        fs::metadata(path).unwrap().permissions().mode() & 0o7777
    }

    #[test]
    fn a_session_comes_back_as_it_was_kept_and_only_its_owner_can_read_it() {
        let scratch = tempfile::tempdir().unwrap();
        let state = state(&scratch);
        assert!(state.session().unwrap().is_none());
        state.keep_session(&session()).unwrap();
        state.keep_session(&session()).unwrap();
        let back = state.session().unwrap().unwrap();
        assert_eq!(back.token.expose(), "pgbs_canary");
        assert_eq!((back.server, back.ca), (session().server, session().ca));
        assert_eq!(mode(&state.session_path()), 0o600);
        assert_eq!(mode(state.session_path().parent().unwrap()), 0o700);
        assert_eq!(fs::read_dir(&state.0).unwrap().count(), 1, "a file was left beside it");
        state.forget_session().unwrap();
        state.forget_session().unwrap();
        assert!(state.session().unwrap().is_none());
    }

    #[test]
    fn a_session_that_others_can_read_is_refused() {
        let scratch = tempfile::tempdir().unwrap();
        let state = state(&scratch);
        state.keep_session(&session()).unwrap();
        for open in [0o640, 0o604, 0o660, 0o610] {
            fs::set_permissions(state.session_path(), fs::Permissions::from_mode(open)).unwrap();
            let refusal = state.session().err().unwrap();
            assert!(
                matches!(refusal, StateError::Exposed { mode, .. } if mode == open),
                "{refusal}"
            );
        }
        fs::set_permissions(state.session_path(), fs::Permissions::from_mode(0o400)).unwrap();
        assert!(state.session().unwrap().is_some());
    }

    #[test]
    fn a_directory_that_others_can_write_is_refused() {
        let scratch = tempfile::tempdir().unwrap();
        let state = state(&scratch);
        fs::create_dir(&state.0).unwrap();
        fs::set_permissions(&state.0, fs::Permissions::from_mode(0o770)).unwrap();
        let refusal = state.keep_session(&session()).unwrap_err();
        assert!(matches!(refusal, StateError::OpenDirectory { .. }), "{refusal}");
        fs::set_permissions(&state.0, fs::Permissions::from_mode(0o755)).unwrap();
        state.keep_session(&session()).unwrap();
    }

    #[test]
    fn a_file_that_is_no_session_is_refused_without_showing_it() {
        let scratch = tempfile::tempdir().unwrap();
        let state = state(&scratch);
        for wrong in ["", "{}", r#"{"token":["canary"]}"#, r#""canary""#] {
            state.write(SESSION, 0o600, wrong.as_bytes()).unwrap();
            let refusal = state.session().err().unwrap();
            assert!(matches!(refusal, StateError::Unreadable { .. }), "{refusal}");
            assert!(!format!("{refusal:?}{refusal}").contains("canary"));
        }
    }

    #[test]
    fn a_root_certificate_is_kept_for_others_to_read_and_must_be_one() {
        let scratch = tempfile::tempdir().unwrap();
        let state = state(&scratch);
        let cluster: ClusterName = "orders".parse().unwrap();
        let key = rcgen::KeyPair::generate().unwrap();
        let pem = rcgen::CertificateParams::new(vec![]).unwrap().self_signed(&key).unwrap().pem();
        let path = state.keep_certificate(&cluster, &pem).unwrap();
        assert_eq!(path, state.0.join("orders.crt"));
        assert_eq!(mode(&path), 0o644);
        assert_eq!(fs::read_to_string(path).unwrap(), pem);
        for wrong in ["", "hello", "-----BEGIN CERTIFICATE-----\n"] {
            let refusal = state.keep_certificate(&cluster, wrong).unwrap_err();
            assert!(matches!(refusal, StateError::NoCertificate { .. }), "{refusal}");
        }
    }

    #[test]
    fn the_state_is_where_xdg_says_else_below_the_home() {
        let place = |xdg: Option<&str>, home: Option<&str>| {
            let (xdg, home) = (xdg.map(OsString::from), home.map(OsString::from));
            let variable = |name: &str| match name {
                "XDG_STATE_HOME" => xdg.clone(),
                "HOME" => home.clone(),
                _ => None,
            };
            StateDir::locate(variable).map(|state| state.0).ok()
        };
        assert_eq!(place(Some("/x"), Some("/h")), Some("/x/pgbridge".into()));
        assert_eq!(place(Some("x"), Some("/h")), Some("/h/.local/state/pgbridge".into()));
        assert_eq!(place(None, Some("/h")), Some("/h/.local/state/pgbridge".into()));
        assert_eq!(place(Some(""), None), None);
    }

    #[test]
    fn a_kept_session_cannot_be_printed() {
        super::super::secret::tests::assert_unprintable!(SavedSession, Found);
    }
}
