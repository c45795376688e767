//! An OpenLDAP directory, seeded from `docker/seed/directory` and `hostile.ldif`, with TLS.

use std::fs;
use std::net::TcpStream;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use super::daemon::{Daemon, Signal};
use super::scratch::{Scratch, ServiceUser, free_port, give};
use super::tls::TestCa;
use super::wait_for;

/// The service account that may search people and groups.
pub const SERVICE_DN: &str = "cn=pgbridge,ou=services,dc=example,dc=test";
/// Its password.
pub const SERVICE_PASSWORD: &str = "service-directory-password";

const ROOT_DN: &str = "cn=admin,dc=example,dc=test";
const ROOT_PASSWORD: &str = "root-directory-password";

/// How long slapd may take to listen.
const STARTING: Duration = Duration::from_mins(1);

/// The password of a person of the seed: alice, bob, carol, dave (who is locked).
pub fn password_of(uid: &str) -> String {
    format!("{uid}-directory-password")
}

/// A seeded directory; ends on drop.
pub struct Directory {
    scratch: Scratch,
    user: Option<ServiceUser>,
    ports: Ports,
    daemon: Daemon,
}

#[derive(Clone, Copy)]
struct Ports {
    ldap: u16,
    ldaps: u16,
}

impl Directory {
    /// Starts slapd on two free ports of 127.0.0.1 and fills it.
    pub fn start() -> Self {
        Self::start_with("")
    }

    /// The same, with more global lines before the seed's own (slapd.conf(5)).
    pub fn start_with(lines: &str) -> Self {
        Self::start_as(lines, "")
    }

    /// The same, with more lines in the section of the database.
    pub fn start_with_database(lines: &str) -> Self {
        Self::start_as("", lines)
    }

    fn start_as(global: &str, database: &str) -> Self {
        let user = ServiceUser::to_become("openldap");
        let scratch = Scratch::new("ldap");
        write_own_files(&scratch, user, (global, database));
        for _ in 0..5 {
            let ports = Ports { ldap: free_port(), ldaps: free_port() };
            let mut daemon = run(&scratch, user, ports);
            if listens(&mut daemon, ports) {
                let directory = Self { scratch, user, ports, daemon };
                directory.fill();
                return directory;
            }
        }
        let log = fs::read_to_string(scratch.join("slapd.log")).unwrap_or_default();
        panic!("slapd does not start:\n{log}");
    }

    /// `ldap://127.0.0.1:PORT`, which also speaks StartTLS.
    pub fn ldap_url(&self) -> String {
        format!("ldap://127.0.0.1:{}", self.ports.ldap)
    }

    /// `ldaps://127.0.0.1:PORT`.
    pub fn ldaps_url(&self) -> String {
        format!("ldaps://127.0.0.1:{}", self.ports.ldaps)
    }

    /// The certificate of the authority that signed the server's.
    pub fn ca_file(&self) -> PathBuf {
        self.scratch.join("ca.pem")
    }

    /// Everything slapd has logged so far: each connection, bind and search, no password.
    pub fn log(&self) -> String {
        self.daemon.log()
    }

    /// Changes the directory as its administrator: `ldif` is a list of change records (ldif(5)).
    pub fn change(&self, ldif: &str) {
        let file = self.scratch.write("change.ldif", ldif, None);
        self.load(&file, &[]);
    }

    /// From now on connections are accepted (by the kernel) and nothing is answered.
    pub fn hang(&self) {
        self.daemon.signal(Signal::Freeze);
    }

    pub fn resume(&self) {
        self.daemon.signal(Signal::Thaw);
    }

    /// Ends slapd: connections are refused.
    pub fn stop(&mut self) {
        self.daemon.stop();
    }

    /// Starts slapd again after [`Self::stop`], on the same ports.
    pub fn start_again(&mut self) {
        assert!(!self.daemon.is_running(), "slapd runs already");
        self.daemon = run(&self.scratch, self.user, self.ports);
        assert!(listens(&mut self.daemon, self.ports), "no start again:\n{}", self.log());
    }

    /// Loads the seed over LDAP, for the memberOf overlay to see each group.
    fn fill(&self) {
        let seed = seed_directory();
        let entries = read(&seed.join("entries.ldif.in"));
        let entries = ["alice", "bob", "carol", "dave"].iter().fold(entries, |text, uid| {
            let placeholder = format!("@{}_PASSWORD@", uid.to_uppercase());
            text.replace(&placeholder, &password_of(uid))
        });
        let entries = entries.replace("@SERVICE_PASSWORD@", SERVICE_PASSWORD);
        let groups = read(&seed.join("groups.ldif"));
        let seed = self.scratch.write("seed.ldif", &format!("{entries}\n{groups}"), None);
        self.load(&seed, &["-a"]);
        let hostile = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/support/hostile.ldif");
        self.load(&hostile, &["-a", "-e", "!relax"]);
    }

    fn load(&self, file: &Path, options: &[&str]) {
        let mut ldapmodify = Command::new("ldapmodify");
        ldapmodify.args(options).args(["-x", "-H", &self.ldap_url()]);
        ldapmodify.args(["-D", ROOT_DN, "-w", ROOT_PASSWORD, "-f"]).arg(file);
        let loaded = ldapmodify.output().expect("ldapmodify is installed");
        let said = String::from_utf8_lossy(&loaded.stderr);
        assert!(loaded.status.success(), "{}: {said}", file.display());
    }
}

fn seed_directory() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("docker/seed/directory")
}

fn read(path: &Path) -> String {
    fs::read_to_string(path).unwrap_or_else(|error| panic!("{}: {error}", path.display()))
}

/// Certificates, `slapd.conf` and an empty database.
fn write_own_files(scratch: &Scratch, user: Option<ServiceUser>, (global, database): (&str, &str)) {
    give(scratch.path(), user);
    let ca = TestCa::shared();
    let server = ca.server_certificate();
    scratch.write("ca.pem", &ca.pem(), user);
    scratch.write("server.pem", &server.certificate, user);
    scratch.write("server.key", &server.key, user);
    let place = scratch.path().display().to_string();
    let config = read(&seed_directory().join("slapd.conf.in"))
        .replace("@DIR@", &place)
        .replace("@ROOT_PASSWORD@", ROOT_PASSWORD)
        .replace("\ndbnosync\n", &format!("\ndbnosync\n{database}\n"));
    scratch.write("slapd.conf", &format!("{global}\n{config}"), user);
    scratch.make_directory("data", user);
}

fn run(scratch: &Scratch, user: Option<ServiceUser>, ports: Ports) -> Daemon {
    let Ports { ldap, ldaps } = ports;
    let arguments = [
        "-f".to_owned(),
        scratch.join("slapd.conf").display().to_string(),
        "-h".to_owned(),
        format!("ldap://127.0.0.1:{ldap}/ ldaps://127.0.0.1:{ldaps}/"),
        // In the foreground, one line an operation.
        "-d".to_owned(),
        "stats".to_owned(),
    ];
    let log = scratch.join("slapd.log");
    Daemon::start(Path::new("/usr/sbin/slapd"), &arguments, user, &log, Signal::Terminate)
}

/// Waits until both ports are open; `false` when slapd ended instead.
fn listens(daemon: &mut Daemon, ports: Ports) -> bool {
    wait_for("slapd to start", STARTING, || {
        if !daemon.is_running() {
            return Some(false);
        }
        let open = |port: u16| TcpStream::connect(("127.0.0.1", port)).is_ok();
        (open(ports.ldap) && open(ports.ldaps)).then_some(true)
    })
}
