//! A whole stand: PostgreSQL, a directory, and the `pgbridge` program between them.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Output};
use std::time::Duration;

use pgbridge::crash::{self, Place};
use reqwest::{Certificate, Client, Method};
use serde_json::Value;

use super::daemon::{Daemon, Signal};
use super::scratch::{Scratch, free_port};
use super::tls::TestCa;
use super::{
    BROKER_LOGIN, BROKER_PASSWORD, Directory, Postgres, SERVICE_DN, SERVICE_PASSWORD, password_of,
    wait_for,
};

/// How long the broker may take to be ready, its first sweep of the cluster included.
const STARTING: Duration = Duration::from_mins(1);

/// Where a test says at which place the broker ends itself.
const CRASH_FILE: &str = "crash";

/// Who may act as which role. The groups are those of the seed.
const MAP: &str = r#"
corp         carol                                             reports_read
corp-groups  "cn=orders-readers,ou=groups,dc=example,dc=test"  orders_read
corp-groups  "cn=orders-writers,ou=groups,dc=example,dc=test"  orders_write
duties       "cn=auditors,ou=groups,dc=example,dc=test"        auditor
duties       "cn=operators,ou=groups,dc=example,dc=test"       operator
"#;

/// PostgreSQL, a directory and a running broker; all of it ends on drop.
pub struct TestBed {
    pub postgres: Postgres,
    pub directory: Directory,
    scratch: Scratch,
    port: u16,
    role_prefix: String,
    daemon: Daemon,
    around: Vec<String>,
}

/// Who makes a call.
#[derive(Clone, Copy, Debug)]
pub enum Caller<'a> {
    Nobody,
    /// The holder of a session token.
    Session(&'a str),
    /// Name and password with the call itself.
    Basic(&'a str, &'a str),
}

/// What the broker answered.
#[derive(Debug)]
pub struct Answer {
    pub status: u16,
    pub headers: reqwest::header::HeaderMap,
    pub body: String,
}

impl Answer {
    /// The body as JSON.
    ///
    /// # Panics
    /// When it is none.
    #[track_caller]
    pub fn json(&self) -> Value {
        serde_json::from_str(&self.body).unwrap_or_else(|error| panic!("{error} in {self:?}"))
    }

    /// The text at a JSON pointer such as `/lease/id`.
    ///
    /// # Panics
    /// When there is no text.
    #[track_caller]
    pub fn text(&self, pointer: &str) -> String {
        let found = self.json().pointer(pointer).and_then(Value::as_str).map(str::to_owned);
        found.unwrap_or_else(|| panic!("no {pointer} in {self:?}"))
    }
}

impl TestBed {
    /// Starts all three with PostgreSQL `major`. Alice may act as `orders_read`, bob as that and
    /// `orders_write`, carol as `reports_read` and as auditor and operator of the broker.
    pub fn start(major: u32) -> Self {
        Self::start_with(major, |config| config)
    }

    /// The same, with a configuration that `edit` makes of the usual one.
    pub fn start_with(major: u32, edit: impl Fn(String) -> String) -> Self {
        let (postgres, directory) = (Postgres::start(major), Directory::start());
        let scratch = Scratch::new("broker");
        let role_prefix = format!("pgb{:04x}_", rand::random::<u16>());
        write_own_files(&scratch, &postgres, &directory);
        for _ in 0..5 {
            let port = free_port();
            let config = edit(config(&postgres, &directory, &role_prefix, port));
            scratch.write("pgbridge.toml", &config, None);
            let mut daemon = run(&scratch);
            if is_ready(&mut daemon, &scratch, port) {
                let around = Vec::new();
                return Self { postgres, directory, scratch, port, role_prefix, daemon, around };
            }
        }
        let log = fs::read_to_string(scratch.join("pgbridge.log")).unwrap_or_default();
        panic!("pgbridge does not start:\n{log}");
    }

    /// `https://127.0.0.1:PORT`.
    pub fn url(&self) -> String {
        url(self.port)
    }

    /// The authority of all three servers.
    pub fn ca_file(&self) -> PathBuf {
        self.scratch.join("ca.pem")
    }

    /// A file of the broker: `pgbridge.toml`, `pg_ident.conf`, `pgbridge.db`.
    pub fn file(&self, name: &str) -> PathBuf {
        self.scratch.join(name)
    }

    /// From now on the program sees the files that the running broker sees: `around` is the command
    /// that brings it there, such as `["nsenter", "--mount", "--target", "12"]`.
    pub fn see_by(&mut self, around: Vec<String>) {
        self.around = around;
    }

    /// The program, where it sees the files that the broker sees.
    pub(super) fn program(&self) -> Command {
        let own = env!("CARGO_BIN_EXE_pgbridge").to_owned();
        let mut words = self.around.iter().cloned().chain([own]);
        let mut command = Command::new(words.next().expect("there is one"));
        command.args(words);
        command
    }

    /// Everything the broker has logged so far.
    pub fn log(&self) -> String {
        self.daemon.log()
    }

    pub fn signal(&self, signal: Signal) {
        self.daemon.signal(signal);
    }

    /// Ends the broker in an orderly way.
    pub fn stop(&mut self) {
        self.daemon.stop();
    }

    /// Kills the broker: no line of it runs any more.
    pub fn kill(&mut self) {
        self.daemon.end(Signal::Kill);
    }

    /// Starts the broker again, with what its files say now.
    pub fn start_again(&mut self) {
        assert!(!self.daemon.is_running(), "pgbridge runs already");
        self.daemon = run(&self.scratch);
        let ready = is_ready(&mut self.daemon, &self.scratch, self.port);
        assert!(ready, "pgbridge does not start again:\n{}", self.log());
    }

    /// From now on the broker ends itself when it comes to `place` for the `turn`th time.
    pub fn crash_at(&self, place: Place, turn: u32) {
        crash_at(&self.scratch, place, turn);
    }

    /// Waits until the broker has ended itself at `place`, and lets it come there again.
    pub fn wait_for_crash(&mut self, place: Place) {
        wait_for_crash(&self.scratch, &mut self.daemon, place);
    }

    /// Starts the broker again by the command `around`, such as `["nice"]`, and with `environment`.
    pub fn start_again_within(&mut self, around: &[String], environment: &[(&str, &str)]) {
        assert!(!self.daemon.is_running(), "pgbridge runs already");
        self.daemon = run_within(&self.scratch, around, environment);
        let ready = is_ready(&mut self.daemon, &self.scratch, self.port);
        assert!(ready, "pgbridge does not start again:\n{}", self.log());
    }

    /// Starts the broker again and does not wait until it is ready.
    pub fn start_again_unready(&mut self) {
        assert!(!self.daemon.is_running(), "pgbridge runs already");
        self.daemon = run(&self.scratch);
    }

    pub fn pid(&self) -> u32 {
        self.daemon.pid()
    }

    /// Waits until the broker has ended by itself.
    pub fn wait_for_its_end(&mut self) {
        wait_for("the end of pgbridge", STARTING, || (!self.daemon.is_running()).then_some(()));
    }

    /// What the names of its lease roles begin with.
    pub fn role_prefix(&self) -> &str {
        &self.role_prefix
    }

    /// The lease roles on the cluster, whatever the broker thinks of them.
    pub fn lease_roles(&self) -> Vec<String> {
        let starting = format!(
            "SELECT rolname FROM pg_roles WHERE starts_with(rolname, '{}') ORDER BY 1",
            self.role_prefix
        );
        self.postgres.sql("postgres", &starting).concat()
    }

    /// The program as `person` types it: a home and a session of their own, this broker.
    pub fn cli(&self, person: &str) -> Command {
        let home = self.scratch.join(&format!("home-{person}"));
        fs::create_dir_all(&home).expect("a directory can be made");
        let mut command = Command::new(env!("CARGO_BIN_EXE_pgbridge"));
        command.env("HOME", &home).env_remove("XDG_STATE_HOME");
        command.env("PGBRIDGE_URL", self.url()).env("PGBRIDGE_CA", self.ca_file());
        command
    }

    /// Logs `person` of the seed in by the program.
    #[track_caller]
    pub fn cli_login(&self, person: &str) -> Output {
        let password = self.scratch.write("typed", &format!("{}\n", password_of(person)), None);
        let mut login = self.cli(person);
        login.args(["login", "--user", person, "--password-stdin"]);
        login.stdin(fs::File::open(password).expect("it was just written"));
        let output = login.output().expect("pgbridge can be run");
        assert!(output.status.success(), "{output:?}");
        output
    }

    /// One request to the broker; `body` is sent as JSON.
    ///
    /// # Panics
    /// When it does not answer.
    pub async fn call(
        &self,
        method: Method,
        path: &str,
        caller: Caller<'_>,
        body: Option<Value>,
    ) -> Answer {
        self.try_call(method, path, caller, body).await.expect("the broker answers")
    }

    /// One request to the broker; `body` is sent as JSON.
    ///
    /// # Errors
    /// When it does not answer.
    pub async fn try_call(
        &self,
        method: Method,
        path: &str,
        caller: Caller<'_>,
        body: Option<Value>,
    ) -> Result<Answer, reqwest::Error> {
        call(self.port, method, path, caller, body).await
    }

    /// An HTTP client that trusts the authority of the test and no other.
    pub fn client() -> Client {
        let authority = Certificate::from_pem(TestCa::shared().pem().as_bytes());
        let authority = authority.expect("the authority has a certificate");
        let client = Client::builder().tls_certs_only([authority]);
        client.timeout(Duration::from_mins(1)).build().expect("a client can be made")
    }

    /// Logs `person` of the seed in and gives the session token.
    ///
    /// # Panics
    /// When the login is refused.
    pub async fn login(&self, person: &str) -> String {
        login(self.port, person).await
    }

    /// Another broker with the same files, but for its own SQLite store: one that shares the
    /// cluster, the directory, the marker key and, if the store is on PostgreSQL, the store.
    pub fn fellow(&self) -> Fellow {
        let mut fellow = self.fellow_files();
        let started = fellow.start();
        assert!(started, "another pgbridge does not start:\n{}", fellow.log());
        fellow
    }

    /// This broker on another host: the same with a copy of its SQLite store, which must not be in
    /// use, not started yet.
    pub fn on_another_host(&self) -> Fellow {
        let fellow = self.fellow_files();
        let copied = fs::copy(self.file("pgbridge.db"), fellow.file("pgbridge.db"));
        copied.expect("the store can be copied");
        fellow
    }

    /// The same, not started yet.
    pub fn fellow_files(&self) -> Fellow {
        let scratch = Scratch::new("fellow");
        for entry in fs::read_dir(self.scratch.path()).expect("a directory can be read") {
            let entry = entry.expect("it can be listed");
            let name = entry.file_name().to_string_lossy().into_owned();
            let is_own =
                name.starts_with("pgbridge.db") || [CRASH_FILE, "pgbridge.log"].contains(&&*name);
            if !is_own && entry.path().is_file() {
                let text = fs::read_to_string(entry.path()).expect("the files are text");
                scratch.write(&name, &text, None);
            }
        }
        let port = free_port();
        let config = fs::read_to_string(scratch.join("pgbridge.toml")).expect("it was copied");
        let config = config.replace(&format!(":{}\"", self.port), &format!(":{port}\""));
        scratch.write("pgbridge.toml", &config, None);
        Fellow { scratch, port, daemon: None }
    }
}

/// Another broker beside that of a [`TestBed`]. It ends on drop.
pub struct Fellow {
    scratch: Scratch,
    port: u16,
    daemon: Option<Daemon>,
}

impl Fellow {
    /// Starts it; `false` when it ended instead of getting ready.
    pub fn start(&mut self) -> bool {
        let daemon = self.daemon.insert(run(&self.scratch));
        is_ready(daemon, &self.scratch, self.port)
    }

    /// `https://127.0.0.1:PORT`.
    pub fn url(&self) -> String {
        url(self.port)
    }

    /// A file of it: `pgbridge.toml`, `marker.key`.
    pub fn file(&self, name: &str) -> PathBuf {
        self.scratch.join(name)
    }

    /// Writes one of its files anew.
    pub fn write(&self, name: &str, text: &str) {
        self.scratch.write(name, text, None);
    }

    /// Everything it has logged so far.
    pub fn log(&self) -> String {
        fs::read_to_string(self.scratch.join("pgbridge.log")).unwrap_or_default()
    }

    /// Sends it a signal, if it runs.
    pub fn signal(&self, signal: Signal) {
        if let Some(daemon) = &self.daemon {
            daemon.signal(signal);
        }
    }

    /// From now on it ends itself when it comes to `place`.
    pub fn crash_at(&self, place: Place) {
        crash_at(&self.scratch, place, 1);
    }

    /// Waits until it has ended itself at `place`, and lets it come there again.
    pub fn wait_for_crash(&mut self, place: Place) {
        wait_for_crash(&self.scratch, self.daemon.as_mut().expect("it was started"), place);
    }

    /// Kills it: no line of it runs any more.
    pub fn kill(&mut self) {
        if let Some(daemon) = &mut self.daemon {
            daemon.end(Signal::Kill);
        }
    }

    /// One request to it; `body` is sent as JSON.
    pub async fn call(
        &self,
        method: Method,
        path: &str,
        caller: Caller<'_>,
        body: Option<Value>,
    ) -> Answer {
        call(self.port, method, path, caller, body).await.expect("the broker answers")
    }

    /// A request in the background, whose answer may never come.
    pub fn calling(
        &self,
        method: Method,
        path: &str,
        token: &str,
        body: Value,
    ) -> tokio::task::JoinHandle<Option<Answer>> {
        let (port, path, token) = (self.port, path.to_owned(), token.to_owned());
        tokio::spawn(async move {
            call(port, method, &path, Caller::Session(&token), Some(body)).await.ok()
        })
    }

    /// Logs `person` of the seed in and gives the session token.
    ///
    /// # Panics
    /// When the login is refused.
    pub async fn login(&self, person: &str) -> String {
        login(self.port, person).await
    }
}

fn crash_at(scratch: &Scratch, place: Place, turn: u32) {
    let (file, new) = (scratch.join(CRASH_FILE), scratch.join("crash.new"));
    fs::write(&new, format!("{}#{turn}", place.name())).expect("a file can be written");
    fs::rename(new, file).expect("a file can be put in its place");
}

fn wait_for_crash(scratch: &Scratch, daemon: &mut Daemon, place: Place) {
    wait_for(place.name(), STARTING, || (!daemon.is_running()).then_some(()));
    let file = scratch.join(CRASH_FILE);
    let told = fs::read_to_string(&file).expect("it was written");
    assert_eq!(told, format!("crashed {}", place.name()), "{}", daemon.log());
    fs::remove_file(file).expect("it can be removed");
}

async fn login(port: u16, person: &str) -> String {
    let body = serde_json::json!({ "username": person, "password": password_of(person) });
    let answer = call(port, Method::POST, "/v1/login", Caller::Nobody, Some(body)).await;
    let answer = answer.expect("the broker answers");
    assert_eq!(answer.status, 200, "{answer:?}");
    answer.text("/token")
}

async fn call(
    port: u16,
    method: Method,
    path: &str,
    caller: Caller<'_>,
    body: Option<Value>,
) -> Result<Answer, reqwest::Error> {
    let mut request = TestBed::client().request(method, format!("{}{path}", url(port)));
    request = match caller {
        Caller::Nobody => request,
        Caller::Session(token) => request.bearer_auth(token),
        Caller::Basic(name, password) => request.basic_auth(name, Some(password)),
    };
    if let Some(body) = body {
        request = request.json(&body);
    }
    let response = request.send().await?;
    let (status, headers) = (response.status().as_u16(), response.headers().clone());
    let body = response.text().await?;
    Ok(Answer { status, headers, body })
}

fn url(port: u16) -> String {
    format!("https://127.0.0.1:{port}")
}

/// Everything that the configuration names.
pub(super) fn write_own_files(scratch: &Scratch, postgres: &Postgres, directory: &Directory) {
    assert_eq!(fs::read(postgres.ca_file()).ok(), fs::read(directory.ca_file()).ok());
    let ca = TestCa::shared();
    let server = ca.server_certificate();
    scratch.write("ca.pem", &ca.pem(), None);
    scratch.write("server.crt", &server.certificate, None);
    scratch.write("server.key", &server.key, None);
    scratch.write("orders.password", BROKER_PASSWORD, None);
    scratch.write("corp.password", SERVICE_PASSWORD, None);
    scratch.write("pg_ident.conf", MAP, None);
}

/// The usual configuration.
pub(super) fn config(
    postgres: &Postgres,
    directory: &Directory,
    role_prefix: &str,
    port: u16,
) -> String {
    let ldap_port = directory.ldaps_url().rsplit(':').next().unwrap_or_default().to_owned();
    let pg_port = postgres.port();
    format!(
        r#"
[server]
listen = "127.0.0.1:{port}"
certificate_file = "server.crt"
key_file = "server.key"

[log]
format = "json"
level = "debug"

[store]
path = "pgbridge.db"

[broker]
role_prefix = "{role_prefix}"

[map]
file = "pg_ident.conf"

[access]
group_map = "duties"

[[ldap]]
name = "corp"
map = "corp"
group_map = "corp-groups"
ldapserver = ["127.0.0.1"]
ldapport = {ldap_port}
ldapscheme = "ldaps"
ca_file = "ca.pem"
ldapbasedn = "ou=people,dc=example,dc=test"
ldapbinddn = "{SERVICE_DN}"
ldapbindpasswd_file = "corp.password"
ldapsearchattribute = "uid"
member_of_attribute = "memberOf"

[[cluster]]
name = "orders"
host = "127.0.0.1"
port = {pg_port}
user = "{BROKER_LOGIN}"
password_file = "orders.password"
ca_file = "ca.pem"
admin_role = "pgbridge_admin"
attic_role = "pgbridge_attic"

[[cluster.profile]]
role = "orders_read"
databases = ["orders"]
ttl = "15m"
max_ttl = "8h"

[[cluster.profile]]
role = "orders_write"
databases = ["orders"]
ttl = "15m"
max_ttl = "1h"
reason = "required"

[[cluster.profile]]
role = "reports_read"
databases = ["reports"]
ttl = "15m"
max_ttl = "8h"
"#
    )
}

fn run(scratch: &Scratch) -> Daemon {
    run_within(scratch, &[], &[])
}

fn run_within(scratch: &Scratch, around: &[String], environment: &[(&str, &str)]) -> Daemon {
    let config = scratch.join("pgbridge.toml").display().to_string();
    let own = [env!("CARGO_BIN_EXE_pgbridge"), "serve", "--config", &config];
    let mut command = around.iter().cloned().chain(own.map(str::to_owned));
    let program = command.next().expect("it has a first word");
    let arguments: Vec<String> = command.collect();
    let log = scratch.join("pgbridge.log");
    let program = Path::new(&program);
    let crash = scratch.join(CRASH_FILE).display().to_string();
    let environment: Vec<(&str, &str)> =
        environment.iter().copied().chain([(crash::VARIABLE, crash.as_str())]).collect();
    Daemon::start_within(program, &arguments, None, &log, Signal::Terminate, &environment)
}

/// Waits until the broker says that it is ready; `false` when it ended instead.
fn is_ready(daemon: &mut Daemon, scratch: &Scratch, port: u16) -> bool {
    wait_for("pgbridge to be ready", STARTING, || {
        if !daemon.is_running() {
            return Some(false);
        }
        let mut ask = Command::new("curl");
        ask.args(["-sf", "-o", "/dev/null", "--max-time", "5", "--cacert"]);
        ask.arg(scratch.join("ca.pem")).arg(format!("{}/readyz", url(port)));
        ask.status().expect("curl is installed").success().then_some(true)
    })
}
