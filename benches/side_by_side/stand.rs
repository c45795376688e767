//! What is measured: a PostgreSQL that syncs, a directory, and pgbridge as it is released.

use std::fs;
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use super::support::scratch::free_port;
use super::support::{
    BROKER_LOGIN, BROKER_PASSWORD, Directory, Postgres, SERVICE_DN, SERVICE_PASSWORD, Scratch,
    password_of, wait_for,
};
use super::wire::Wire;

/// SCRAM rounds that are measured, and the group role whose profile has them.
pub const PROFILES: [(u32, &str); 2] = [(4096, "orders_read"), (1, "orders_write")];

/// What the tests turn off or on for themselves is as it is in use: every commit is synced.
const AS_IN_USE: &str = "\
fsync = on
synchronous_commit = on
full_page_writes = on
max_wal_size = 4GB
shared_buffers = 128MB
wal_level = replica
shared_preload_libraries = ''
";

pub struct Stand {
    pub postgres: Postgres,
    pub directory: Directory,
    pub port: u16,
    pub token: String,
    /// From the start of the program until it is ready.
    pub started_in: Duration,
    broker: Child,
    _scratch: Scratch,
}

impl Stand {
    pub async fn start() -> Self {
        Self::start_prepared(|_, _| {}).await
    }

    /// Lets `prepare` write into the broker's directory, and onto the server, before it starts.
    pub async fn start_prepared(prepare: impl FnOnce(&Scratch, &Postgres)) -> Self {
        let postgres = Postgres::start_with(major(), AS_IN_USE);
        let directory = Directory::start();
        let scratch = Scratch::new("bench");
        let port = free_port();
        write_settings(&scratch, &postgres, &directory, port);
        prepare(&scratch, &postgres);
        let begun = Instant::now();
        let log = fs::File::create(scratch.join("broker.log")).expect("a log");
        let broker = Command::new(env!("CARGO_BIN_EXE_pgbridge"))
            .args(["serve", "--config"])
            .arg(scratch.join("pgbridge.toml"))
            .stderr(log.try_clone().expect("a log"))
            .stdout(log)
            .stdin(Stdio::null())
            .spawn()
            .expect("pgbridge starts");
        wait_until_ready(port, &scratch.join("broker.log"));
        let started_in = begun.elapsed();
        let body = format!(r#"{{"username": "alice", "password": "{}"}}"#, password_of("alice"));
        let (status, answer) = Wire::connect(port).await.post("/v1/login", None, &body).await;
        assert_eq!(status, 200, "{answer}");
        let answer: serde_json::Value = serde_json::from_str(&answer).expect("JSON");
        let token = answer["token"].as_str().expect("a token").to_owned();
        Self { postgres, directory, port, token, started_in, broker, _scratch: scratch }
    }

    /// The most memory that the broker ever held, in MiB.
    pub fn peak_rss_mb(&self) -> u64 {
        let status = fs::read_to_string(format!("/proc/{}/status", self.broker.id()));
        let status = status.expect("the broker runs");
        let line = status.lines().find_map(|line| line.strip_prefix("VmHWM:")).expect("Linux");
        line.trim().trim_end_matches(" kB").parse::<u64>().expect("a number") / 1024
    }
}

impl Drop for Stand {
    fn drop(&mut self) {
        let _ = self.broker.kill();
        let _ = self.broker.wait();
    }
}

/// Debian's own PostgreSQL, unless `BENCH_POSTGRES` names another. From 16 on a login without
/// superuser pays for each role that it has made and not yet dropped, on both sides.
fn major() -> u32 {
    std::env::var("BENCH_POSTGRES").ok().and_then(|text| text.parse().ok()).unwrap_or(15)
}

fn wait_until_ready(port: u16, log: &Path) {
    let ready = || {
        let ask = Command::new("curl")
            .args(["-sf", "-o", "/dev/null"])
            .arg(format!("http://127.0.0.1:{port}/readyz"))
            .status()
            .expect("curl");
        ask.success().then_some(())
    };
    let waited = std::panic::catch_unwind(|| wait_for("pgbridge", Duration::from_mins(5), ready));
    if waited.is_err() {
        panic!("pgbridge is not ready:\n{}", fs::read_to_string(log).unwrap_or_default());
    }
}

fn write_settings(scratch: &Scratch, postgres: &Postgres, directory: &Directory, port: u16) {
    let private = |name: &str, text: &str| {
        use std::os::unix::fs::PermissionsExt;
        let path = scratch.write(name, text, None);
        fs::set_permissions(path, fs::Permissions::from_mode(0o600)).expect("a mode");
    };
    private("postgres.password", BROKER_PASSWORD);
    private("ldap.password", SERVICE_PASSWORD);
    let lines = PROFILES.map(|(_, role)| format!("corp alice {role}\n")).concat();
    scratch.write("pg_ident.conf", &lines, None);
    let profiles = PROFILES.map(|(iterations, role)| {
        format!(
            "[[cluster.profile]]\nrole = \"{role}\"\ndatabases = [\"orders\"]\nttl = \"1h\"\n\
             max_ttl = \"8h\"\nscram_iterations = {iterations}\nmax_leases = 1000000\n"
        )
    });
    let ldap_port = directory.ldap_url().rsplit(':').next().expect("a port").to_owned();
    let text = format!(
        r#"
[server]
listen = "127.0.0.1:{port}"
[log]
level = "warn"
[store]
path = "pgbridge.db"
[map]
file = "pg_ident.conf"
[[ldap]]
name = "corp"
map = "corp"
ldapserver = ["127.0.0.1"]
ldapport = {ldap_port}
ldapbasedn = "ou=people,dc=example,dc=test"
ldapbinddn = "{SERVICE_DN}"
ldapbindpasswd_file = "ldap.password"
ldapsearchattribute = "uid"
[[cluster]]
name = "orders"
host = "127.0.0.1"
port = {}
user = "{BROKER_LOGIN}"
password_file = "postgres.password"
ca_file = "{}"
admin_role = "pgbridge_admin"
attic_role = "pgbridge_attic"
{}"#,
        postgres.port(),
        postgres.ca_file().display(),
        profiles.concat()
    );
    scratch.write("pgbridge.toml", &text, None);
}
