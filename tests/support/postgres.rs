//! A PostgreSQL server of a given major, seeded from `docker/seed/postgres`, with TLS.

use std::collections::hash_map::DefaultHasher;
use std::env;
use std::fs::{self, File};
use std::hash::{Hash, Hasher};
use std::io::{BufRead, BufReader, Write};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use super::daemon::{Daemon, Signal};
use super::scratch::{Scratch, ServiceUser, free_port, give};
use super::tls::TestCa;
use super::wait_for;

/// The login of the broker on a seeded server.
pub const BROKER_LOGIN: &str = "pgbridge";
/// Its password there.
pub const BROKER_PASSWORD: &str = "broker-login-password";

/// How long a server may take to accept connections.
const STARTING: Duration = Duration::from_mins(1);
/// Field and row separators of [`Postgres::sql`], which no value holds.
const FIELD: char = '\u{1f}';
const ROW: char = '\u{1e}';

/// `postgres` over the socket is the eye of the tests.
const SUPERUSER_LINE: &str = "local   all  postgres                 trust\n";
/// Who may come in, and how.
const HBA: &str = "\
local   all          postgres                 trust
local   replication  postgres                 trust
hostssl all          all       127.0.0.1/32   scram-sha-256
";

/// Settings of every server. Nothing here outlives the machine, so nothing is synced to disk; but what
/// was committed is written, and a crash of the server loses none of it.
const SETTINGS: &str = "\
fsync = off
full_page_writes = off
shared_buffers = 32MB
max_connections = 100
max_prepared_transactions = 10
wal_level = logical
password_encryption = 'scram-sha-256'
ssl = on
ssl_cert_file = 'server.pem'
ssl_key_file = 'server.key'
shared_preload_libraries = 'pg_stat_statements'
log_line_prefix = '%m [%p] %q%u@%d '
timezone = 'UTC'
";

/// A seeded PostgreSQL server; ends on drop.
pub struct Postgres {
    programs: PathBuf,
    scratch: Scratch,
    user: Option<ServiceUser>,
    port: u16,
    daemon: Daemon,
}

impl Postgres {
    /// Starts a server of `major` (15, 16, ...) on a free port of 127.0.0.1.
    pub fn start(major: u32) -> Self {
        Self::start_with(major, "")
    }

    /// Starts a server whose `postgresql.conf` ends with the lines of `settings`.
    pub fn start_with(major: u32, settings: &str) -> Self {
        let programs = programs(major);
        let user = ServiceUser::to_become("postgres");
        let scratch = Scratch::new(&format!("pg{major}"));
        let data = scratch.join("data");
        copy(&template(major, &programs), &data);
        write_own_files(&scratch, user, settings);

        for _ in 0..5 {
            let port = free_port();
            let mut daemon = run(&programs, &scratch, user, port);
            if accepts_connections(&mut daemon, scratch.path(), port) {
                return Self { programs, scratch, user, port, daemon };
            }
        }
        let log = fs::read_to_string(scratch.join("postgres.log")).unwrap_or_default();
        panic!("PostgreSQL {major} does not start:\n{log}");
    }

    /// A standby that follows this server, on a port of its own. Its major must have
    /// `pg_basebackup` beside the server, as Debian's has.
    pub fn standby(&self) -> Self {
        let scratch = Scratch::new("standby");
        give(scratch.path(), self.user);
        let (data, socket) = (scratch.join("data"), self.scratch.join("socket"));
        let arguments = [
            format!("--pgdata={}", data.display()),
            format!("--host={}", socket.display()),
            format!("--port={}", self.port),
            "--username=postgres".to_owned(),
            "--checkpoint=fast".to_owned(),
            "--write-recovery-conf".to_owned(),
            "--no-sync".to_owned(),
        ];
        let (program, log) = (self.programs.join("pg_basebackup"), scratch.join("backup.log"));
        let mut backup = Daemon::start(&program, &arguments, self.user, &log, Signal::Terminate);
        wait_for("pg_basebackup", Duration::from_mins(1), || (!backup.is_running()).then_some(()));
        assert!(data.join("standby.signal").exists(), "no standby:\n{}", backup.log());
        write_own_files(&scratch, self.user, "");
        let (programs, user) = (self.programs.clone(), self.user);
        for _ in 0..5 {
            let port = free_port();
            let mut daemon = run(&programs, &scratch, user, port);
            if accepts_connections(&mut daemon, scratch.path(), port) {
                return Self { programs, scratch, user, port, daemon };
            }
        }
        let log = fs::read_to_string(scratch.join("postgres.log")).unwrap_or_default();
        panic!("the standby does not start:\n{log}");
    }

    pub fn port(&self) -> u16 {
        self.port
    }

    pub fn pid(&self) -> u32 {
        self.daemon.pid()
    }

    /// The certificate of the authority that signed the server's.
    pub fn ca_file(&self) -> PathBuf {
        self.scratch.join("ca.pem")
    }

    /// The file that the server logs to.
    pub fn log_file(&self) -> PathBuf {
        self.scratch.join("postgres.log")
    }

    /// Everything the server has logged so far.
    pub fn log(&self) -> String {
        self.daemon.log()
    }

    /// Ends the server, and its sessions with it (a "fast shutdown").
    pub fn stop(&mut self) {
        self.daemon.stop();
    }

    /// Ends the server as a crash does.
    pub fn crash(&mut self) {
        self.daemon.end(Signal::Quit);
    }

    /// Starts the server again after [`Self::stop`] or [`Self::crash`], on the same port.
    pub fn start_again(&mut self) {
        self.start_again_within(&[]);
    }

    /// The same with `environment` beside the test's own.
    pub fn start_again_within(&mut self, environment: &[(&str, &str)]) {
        assert!(!self.daemon.is_running(), "PostgreSQL runs already");
        self.daemon = run_within(&self.programs, &self.scratch, self.user, self.port, environment);
        let up = accepts_connections(&mut self.daemon, self.scratch.path(), self.port);
        assert!(up, "PostgreSQL does not start again:\n{}", self.log());
    }

    /// Replaces `pg_hba.conf`, but for the superuser's way in over the socket. New connections go by
    /// it once this returns.
    pub fn set_hba(&self, lines: &str) {
        let text = format!("{SUPERUSER_LINE}{lines}\n");
        self.scratch.write("data/pg_hba.conf", &text, self.user);
        let loaded = || self.sql("postgres", "SELECT pg_conf_load_time()");
        let before = loaded();
        self.sql("postgres", "SELECT pg_reload_conf()");
        wait_for("pg_hba.conf to be read", STARTING, || (loaded() != before).then_some(()));
    }

    /// Makes it a standby, which nobody can write to until it is promoted.
    pub fn become_standby(&mut self) {
        self.stop();
        self.make_standby();
        self.start_again();
    }

    /// Copies all that the server has, which must not run, as a backup does.
    pub fn keep(&mut self) {
        assert!(!self.daemon.is_running(), "PostgreSQL runs");
        copy(&self.scratch.join("data"), &self.scratch.join("kept"));
    }

    /// Sets the server, which must not run, back to what was kept.
    pub fn set_back(&mut self) {
        assert!(!self.daemon.is_running(), "PostgreSQL runs");
        let data = self.scratch.join("data");
        fs::remove_dir_all(&data).expect("what is there can be removed");
        fs::rename(self.scratch.join("kept"), data).expect("what was kept can be put there");
    }

    /// Makes the server, which must not run, a standby from its next start on. It follows nobody.
    pub fn make_standby(&mut self) {
        assert!(!self.daemon.is_running(), "PostgreSQL runs");
        self.scratch.write("data/standby.signal", "", self.user);
    }

    /// The directory of the server's Unix socket.
    pub fn socket(&self) -> PathBuf {
        self.scratch.join("socket")
    }

    /// Stops the world: the postmaster answers nobody who is not in yet.
    pub fn hang(&self) {
        self.daemon.signal(Signal::Freeze);
    }

    pub fn resume(&self) {
        self.daemon.signal(Signal::Thaw);
    }

    /// Changes a setting that needs no restart, for all sessions: `set("log_statement", "all")`.
    pub fn set(&self, name: &str, value: &str) {
        self.sql("postgres", &format!("ALTER SYSTEM SET {name} = '{value}'"));
        self.sql("postgres", "SELECT pg_reload_conf()");
        let shown = [[value]];
        wait_for(&format!("{name} = {value}"), STARTING, || {
            (self.sql("postgres", &format!("SHOW {name}")) == shown).then_some(())
        });
    }

    /// Runs `text` as the superuser and gives the rows of the one statement in it that has rows;
    /// NULL is empty text.
    ///
    /// # Panics
    /// When the server refuses it; see [`Self::try_sql`].
    #[track_caller]
    pub fn sql(&self, database: &str, text: &str) -> Vec<Vec<String>> {
        self.try_sql(database, text).unwrap_or_else(|error| panic!("{text}\n{error}"))
    }

    /// Runs `text` as the superuser.
    ///
    /// # Errors
    /// What psql says, when the server refuses it.
    pub fn try_sql(&self, database: &str, text: &str) -> Result<Vec<Vec<String>>, String> {
        let mut psql = superuser_psql(self.scratch.path(), self.port, database);
        rows(psql.args(["-c", text]))
    }

    /// psql as the superuser, to be given something to do.
    pub fn superuser(&self, database: &str) -> Command {
        superuser_psql(self.scratch.path(), self.port, database)
    }

    /// A connection of the superuser, for a test that looks often.
    pub async fn eye(&self) -> tokio_postgres::Client {
        self.eye_in("postgres").await
    }

    /// The same in `database`.
    pub async fn eye_in(&self, database: &str) -> tokio_postgres::Client {
        let mut config = tokio_postgres::Config::new();
        config.host_path(self.scratch.join("socket")).port(self.port).user("postgres");
        let connected = config.dbname(database).connect(tokio_postgres::NoTls).await;
        let (client, connection) = connected.expect("the superuser gets in");
        tokio::spawn(connection);
        client
    }

    /// Who may come in from now on, and how: before the lines of every server stand `lines`.
    pub fn admit(&self, lines: &str) {
        self.set_hba(&format!("{lines}\n{HBA}"));
    }

    /// Logs in as `role` over TLS, as the holder of a lease does, and runs `text`.
    ///
    /// # Errors
    /// What psql says, when the login or the statement is refused.
    pub fn sql_as(
        &self,
        role: &str,
        password: &str,
        database: &str,
        text: &str,
    ) -> Result<Vec<Vec<String>>, String> {
        rows(self.psql_as(role, password, database).args(["-c", text]))
    }

    /// psql as `role` over TLS, without a password, to a server called `localhost`.
    pub fn over_loopback(&self, role: &str, database: &str) -> Command {
        let mut psql = psql();
        psql.env("PGHOST", "localhost")
            .env("PGHOSTADDR", "127.0.0.1")
            .env("PGPORT", self.port.to_string())
            .env("PGUSER", role)
            .env("PGDATABASE", database)
            .env("PGSSLMODE", "require");
        psql
    }

    /// psql as `role` over TLS, to be given something to do.
    fn psql_as(&self, role: &str, password: &str, database: &str) -> Command {
        let mut psql = psql();
        psql.env("PGHOST", "127.0.0.1")
            .env("PGPORT", self.port.to_string())
            .env("PGUSER", role)
            .env("PGPASSWORD", password)
            .env("PGDATABASE", database)
            .env("PGSSLMODE", "verify-full")
            .env("PGSSLROOTCERT", self.ca_file());
        psql
    }

    /// Logs in as `role` and holds the log-in back for `seconds`: its password is accepted when this
    /// returns, and its session does not show yet.
    pub fn hide_as(&self, role: &str, password: &str, database: &str, seconds: u32) -> Staying {
        self.set("log_connections", "on");
        let mut psql = self.psql_as(role, password, database);
        psql.env("PGOPTIONS", format!("-c post_auth_delay={seconds}"));
        psql.env("PGCONNECT_TIMEOUT", "0");
        psql.args(["-c", "SELECT pg_sleep(60)"]).stdout(Stdio::null()).stderr(Stdio::null());
        let hidden = Staying(psql.spawn().expect("psql is installed"));
        let proven = format!("connection authenticated: identity=\"{role}\"");
        wait_for("the log-in", STARTING, || self.log().contains(&proven).then_some(()));
        hidden
    }

    /// Logs in as `role` and stays; it has run `text` when this returns.
    ///
    /// # Panics
    /// When the login or the statement is refused.
    pub fn stay_as(&self, role: &str, password: &str, database: &str, text: &str) -> Staying {
        let mut psql = self.psql_as(role, password, database);
        psql.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::null());
        let mut child = psql.spawn().expect("psql is installed");
        let stdin = child.stdin.as_mut().expect("it has one");
        writeln!(stdin, "{text};\n\\echo done").expect("psql listens");
        let mut line = String::new();
        let mut said = BufReader::new(child.stdout.as_mut().expect("it has one"));
        while line != "done\n" {
            line.clear();
            let count = said.read_line(&mut line).expect("it speaks");
            assert!(count > 0, "{role} is not let in, or may not: {text}");
        }
        Staying(child)
    }
}

/// A session that stays until it is ended or dropped.
pub struct Staying(Child);

impl Drop for Staying {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

/// Where the programs of a major are: `PGBRIDGE_POSTGRES_<major>` names a `bin` directory; else
/// Debian's place; else where `scripts/install-packages test` puts what Debian does not have.
fn programs(major: u32) -> PathBuf {
    let named = env::var_os(format!("PGBRIDGE_POSTGRES_{major}")).map(PathBuf::from);
    let debian = PathBuf::from(format!("/usr/lib/postgresql/{major}/bin"));
    let package = format!("pgbridge/postgresql-{major}");
    let home = env::var_os("HOME").map(|home| Path::new(&home).join(".cache"));
    let cache = env::var_os("XDG_CACHE_HOME").map(PathBuf::from).or(home);
    let cached = [Some(PathBuf::from("/var/cache")), cache].into_iter().flatten();
    let cached = cached.map(|cache| cache.join(&package).join("native/bin"));

    let mut places = named.into_iter().chain([debian]).chain(cached);
    let found = places.find(|place| place.join("postgres").exists());
    found.unwrap_or_else(|| panic!("no PostgreSQL {major}: run scripts/install-packages test"))
}

/// A data directory that was made and seeded once for all tests of this checkout.
///
/// Its name holds a hash of all that went into it, so that a changed seed makes a new one.
fn template(major: u32, programs: &Path) -> PathBuf {
    let cache = Path::new(env!("CARGO_TARGET_TMPDIR"));
    fs::create_dir_all(cache).expect("target/tmp can be made");
    let owner = ServiceUser::to_become("postgres").map(|user| user.uid);
    let mut ingredients = DefaultHasher::new();
    (seed_text(), SETTINGS, HBA, programs, owner, BROKER_PASSWORD).hash(&mut ingredients);
    let template = cache.join(format!("postgres-{major}-{:016x}", ingredients.finish()));

    // Tests run in processes of their own: the first one here makes it, the others wait.
    let lock = File::create(cache.join(format!("postgres-{major}.lock")));
    let lock = lock.expect("a lock file can be made");
    lock.lock().expect("a file can be locked");
    if !template.exists() {
        make_template(programs, &template);
    }
    template
}

/// The text of all seed files, in a fixed order.
fn seed_text() -> Vec<String> {
    let listed = fs::read_dir(seed_directory()).expect("the seed is in the repository");
    let mut files: Vec<_> = listed.map(|entry| entry.expect("it can be listed").path()).collect();
    files.sort();
    files.iter().map(|file| fs::read_to_string(file).expect("a seed file is text")).collect()
}

fn seed_directory() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("docker/seed/postgres")
}

/// Runs initdb and the seed in a temporary directory, and moves the result to `template`.
fn make_template(programs: &Path, template: &Path) {
    let user = ServiceUser::to_become("postgres");
    let scratch = Scratch::new("template");
    give(scratch.path(), user);
    let data = scratch.join("data");
    let arguments = [
        "--pgdata".to_owned(),
        data.display().to_string(),
        "--username=postgres".to_owned(),
        "--auth=trust".to_owned(),
        "--encoding=UTF8".to_owned(),
        "--locale=C.UTF-8".to_owned(),
        "--wal-segsize=1".to_owned(),
        "--no-sync".to_owned(),
    ];
    let log = scratch.join("initdb.log");
    let mut initdb =
        Daemon::start(&programs.join("initdb"), &arguments, user, &log, Signal::Terminate);
    wait_for("initdb", Duration::from_mins(1), || (!initdb.is_running()).then_some(()));
    assert!(data.join("PG_VERSION").exists(), "initdb failed:\n{}", initdb.log());
    write_own_files(&scratch, user, "");

    let port = free_port();
    let mut daemon = run(programs, &scratch, user, port);
    let up = accepts_connections(&mut daemon, scratch.path(), port);
    assert!(up, "the template does not start:\n{}", daemon.log());
    let password = scratch.write("broker-password", BROKER_PASSWORD, None);
    let mut psql = superuser_psql(scratch.path(), port, "postgres");
    psql.arg(format!("--set=broker_password_file={}", password.display()));
    rows(psql.arg("-f").arg(seed_directory().join("seed.sql"))).expect("the seed can be loaded");
    let statistics = "CREATE EXTENSION pg_stat_statements";
    rows(superuser_psql(scratch.path(), port, "postgres").args(["-c", statistics]))
        .expect("pg_stat_statements can be created");
    daemon.stop();

    let unfinished = template.with_extension("unfinished");
    let _ = fs::remove_dir_all(&unfinished);
    copy(&data, &unfinished);
    fs::rename(unfinished, template).expect("the template can be put in its place");
}

/// Copies a data directory with owners and modes.
fn copy(from: &Path, to: &Path) {
    let mut cp = Command::new("cp");
    cp.args(["-a", "--reflink=auto"]).args([from, to]);
    let copied = cp.status().expect("there is cp");
    assert!(copied.success(), "{} could not be copied", from.display());
}

/// Certificates, `pg_hba.conf` and settings: all that differs from what initdb makes.
fn write_own_files(scratch: &Scratch, user: Option<ServiceUser>, settings: &str) {
    let ca = TestCa::shared();
    let server = ca.server_certificate();
    scratch.write("ca.pem", &ca.pem(), None);
    scratch.write("data/server.pem", &server.certificate, user);
    scratch.write("data/server.key", &server.key, user);
    scratch.write("data/pg_hba.conf", HBA, user);
    scratch.write("data/postgresql.conf", &format!("{SETTINGS}{settings}\n"), user);
    if !scratch.join("socket").exists() {
        scratch.make_directory("socket", user);
    }
}

fn run(programs: &Path, scratch: &Scratch, user: Option<ServiceUser>, port: u16) -> Daemon {
    run_within(programs, scratch, user, port, &[])
}

fn run_within(
    programs: &Path,
    scratch: &Scratch,
    user: Option<ServiceUser>,
    port: u16,
    environment: &[(&str, &str)],
) -> Daemon {
    let data = scratch.join("data");
    let socket = scratch.join("socket");
    let arguments = [
        "-D".to_owned(),
        data.display().to_string(),
        "-k".to_owned(),
        socket.display().to_string(),
        "-h".to_owned(),
        "127.0.0.1".to_owned(),
        "-p".to_owned(),
        port.to_string(),
    ];
    let log = scratch.join("postgres.log");
    // Set behind the change of user, which is not to be under the spell of what is set.
    let environment = environment.iter().map(|(name, value)| format!("{name}={value}"));
    let program = programs.join("postgres").display().to_string();
    let words: Vec<String> = environment.chain([program]).chain(arguments).collect();
    Daemon::start(Path::new("env"), &words, user, &log, Signal::Interrupt)
}

/// Waits until the server lets the superuser in; `false` when it ended instead.
fn accepts_connections(daemon: &mut Daemon, scratch: &Path, port: u16) -> bool {
    wait_for("PostgreSQL to start", STARTING, || {
        if !daemon.is_running() {
            return Some(false);
        }
        let mut psql = superuser_psql(scratch, port, "postgres");
        rows(psql.args(["-c", "SELECT 1"])).is_ok().then_some(true)
    })
}

fn superuser_psql(scratch: &Path, port: u16, database: &str) -> Command {
    let mut psql = psql();
    psql.env("PGHOST", scratch.join("socket"))
        .env("PGPORT", port.to_string())
        .env("PGUSER", "postgres")
        .env("PGDATABASE", database);
    psql
}

/// psql without the caller's settings, printing plain values; it stops at the first error.
fn psql() -> Command {
    let mut psql = Command::new("psql");
    for (name, _) in env::vars_os().filter(|(name, _)| name.to_string_lossy().starts_with("PG")) {
        psql.env_remove(name);
    }
    psql.env("PGCONNECT_TIMEOUT", "10").env("PGGSSENCMODE", "disable");
    psql.args(["-X", "-A", "-t", "-q", "-w", "-v", "ON_ERROR_STOP=1"]);
    psql.arg(format!("-F{FIELD}")).arg(format!("-R{ROW}"));
    psql
}

fn rows(psql: &mut Command) -> Result<Vec<Vec<String>>, String> {
    let output = psql.output().expect("psql is installed");
    if !output.status.success() {
        return Err(String::from_utf8_lossy(&output.stderr).into_owned());
    }
    let text = String::from_utf8_lossy(&output.stdout).into_owned();
    // psql ends its last row with a newline, and prints nothing at all for no rows.
    let Some(text) = text.strip_suffix('\n') else { return Ok(Vec::new()) };
    let row = |line: &str| line.split(FIELD).map(str::to_owned).collect();
    Ok(text.split(ROW).map(row).collect())
}
