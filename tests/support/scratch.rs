//! A temporary directory that daemons of another user can work in, and free ports.

use std::fs::{self, Permissions};
use std::net::{Ipv4Addr, TcpListener, UdpSocket};
use std::os::unix::fs::{MetadataExt, PermissionsExt, chown};
use std::path::{Path, PathBuf};
use std::sync::{Mutex, PoisonError};

use tempfile::TempDir;

/// A user of the machine, as `/etc/passwd` knows them.
#[derive(Clone, Copy, Debug)]
pub struct ServiceUser {
    pub uid: u32,
    pub gid: u32,
}

impl ServiceUser {
    /// The user called `name` when this process is root; nobody else can become another user, and
    /// need not.
    pub fn to_become(name: &str) -> Option<Self> {
        if !is_root() {
            return None;
        }
        let passwd = fs::read_to_string("/etc/passwd").expect("/etc/passwd can be read");
        let found = passwd.lines().find_map(|line| {
            let mut fields = line.split(':');
            let (user, _, uid, gid) =
                (fields.next()?, fields.next()?, fields.next()?, fields.next()?);
            (user == name).then_some(Self { uid: uid.parse().ok()?, gid: gid.parse().ok()? })
        });
        let missing = || panic!("no user `{name}`: run scripts/install-packages test");
        Some(found.unwrap_or_else(missing))
    }
}

/// Whether this process may do everything.
pub fn is_root() -> bool {
    fs::metadata("/proc/self").expect("/proc is mounted").uid() == 0
}

/// A directory directly under `/tmp` (the path of a unix socket holds at most 107 bytes), removed
/// on drop. Others may enter it, so what is secret in it has its own mode.
pub struct Scratch(TempDir);

impl Scratch {
    pub fn new(kind: &str) -> Self {
        let made = tempfile::Builder::new().prefix(&format!("pgbridge-{kind}-")).tempdir_in("/tmp");
        let directory = made.expect("a directory can be made in /tmp");
        let entering = Permissions::from_mode(0o755);
        fs::set_permissions(directory.path(), entering).expect("its mode can be set");
        Self(directory)
    }

    pub fn path(&self) -> &Path {
        self.0.path()
    }

    /// The path of `name` in this directory.
    pub fn join(&self, name: &str) -> PathBuf {
        self.0.path().join(name)
    }

    /// Writes a file that only `owner` can read: keys, passwords, configuration.
    pub fn write(&self, name: &str, text: &str, owner: Option<ServiceUser>) -> PathBuf {
        let path = self.join(name);
        fs::write(&path, text).expect("a file can be written");
        fs::set_permissions(&path, Permissions::from_mode(0o600)).expect("its mode can be set");
        give(&path, owner);
        path
    }

    /// Makes a directory that only `owner` can enter.
    pub fn make_directory(&self, name: &str, owner: Option<ServiceUser>) -> PathBuf {
        let path = self.join(name);
        fs::create_dir(&path).expect("a directory can be made");
        fs::set_permissions(&path, Permissions::from_mode(0o700)).expect("its mode can be set");
        give(&path, owner);
        path
    }
}

/// Makes `owner` the owner of `path`.
pub fn give(path: &Path, owner: Option<ServiceUser>) {
    if let Some(ServiceUser { uid, gid }) = owner {
        chown(path, Some(uid), Some(gid)).expect("root can give a file away");
    }
}

/// A loopback port that nobody listens on, and that no other test gets while this process lives: not
/// before a server has it, and not while that is down. It lies below the range from which the kernel
/// takes the ports of outgoing connections, so only a program that is no test can come in between:
/// whoever starts a server tries again with another port.
pub fn free_port() -> u16 {
    // No server here speaks UDP, so the port of that name says whose the one for TCP is.
    static TAKEN: Mutex<Vec<UdpSocket>> = Mutex::new(Vec::new());
    for _ in 0..1000 {
        let place = (Ipv4Addr::LOCALHOST, rand::random_range(11_000..32_000));
        if let (Ok(mark), Ok(_)) = (UdpSocket::bind(place), TcpListener::bind(place)) {
            TAKEN.lock().unwrap_or_else(PoisonError::into_inner).push(mark);
            return place.1;
        }
    }
    panic!("no free port between 11000 and 32000");
}
