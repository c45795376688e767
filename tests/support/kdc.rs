//! A key distribution centre of MIT Kerberos, for one realm; two of them can trust each other.

use std::fs;
use std::io::Write;
use std::net::TcpStream;
use std::path::{Path, PathBuf};
use std::process::{Command, Output, Stdio};
use std::time::Duration;

use super::daemon::{Daemon, Signal};
use super::scratch::{Scratch, free_port};
use super::wait_for;

/// The realm, unless another is asked for.
pub const REALM: &str = "CORP.TEST";

/// How long krb5kdc may take to listen.
const STARTING: Duration = Duration::from_mins(1);

/// Where Debian keeps the server's programs, which is in the path of root alone.
const PROGRAMS: &str = "/usr/sbin";

/// A realm with the principals that a test adds; ends on drop.
pub struct Kdc {
    scratch: Scratch,
    realm: String,
    port: u16,
    /// Runs for as long as this lives.
    _daemon: Daemon,
}

impl Kdc {
    /// Starts krb5kdc on a free port of 127.0.0.1, without any principal of a person or service.
    pub fn start() -> Self {
        Self::start_as(REALM)
    }

    /// The same for another realm.
    pub fn start_as(realm: &str) -> Self {
        let scratch = Scratch::new("kdc");
        for attempt in 0..5 {
            let port = free_port();
            write_settings(&scratch, realm, port);
            if attempt == 0 {
                let made = run(&scratch, &["kdb5_util", "create", "-s", "-P", "of-the-database"]);
                assert!(made.status.success(), "no realm: {}", said(&made));
            }
            let environment = environment(&scratch);
            let environment: Vec<_> =
                environment.iter().map(|(name, path)| (*name, path.as_str())).collect();
            let mut daemon = Daemon::start_within(
                &Path::new(PROGRAMS).join("krb5kdc"),
                &["-n".to_owned()],
                None,
                &scratch.join("krb5kdc.log"),
                Signal::Terminate,
                &environment,
            );
            if listens(&mut daemon, port) {
                let realm = realm.to_owned();
                return Self { scratch, realm, port, _daemon: daemon };
            }
        }
        let log = fs::read_to_string(scratch.join("krb5kdc.log")).unwrap_or_default();
        panic!("krb5kdc does not start:\n{log}");
    }

    /// Lets whoever has a ticket of `other` have tickets for services of this realm.
    pub fn trust(&self, other: &Self) {
        let (here, there) = (&self.realm, &other.realm);
        let shared = format!("addprinc -pw between-the-realms krbtgt/{here}@{there}\n");
        self.administer(&shared);
        other.administer(&shared);
        let port = self.port;
        let known = format!("[realms]\n    {here} = {{\n        kdc = 127.0.0.1:{port}\n    }}\n");
        let path = other.scratch.join("krb5.conf");
        let settings = fs::read_to_string(&path).expect("it was written");
        fs::write(&path, settings + &known).expect("a file can be written");
    }

    /// Gives a principal new keys of these kinds, such as `aes256-cts:normal`, and no others.
    pub fn change_keys(&self, principal: &str, kinds: &str) {
        self.administer(&format!("cpw -randkey -e \"{kinds}\" \"{principal}\"\n"));
    }

    /// Gets whoever `ticket` is of a ticket for `service`, by the machine's clock.
    pub fn fetch(&self, ticket: &[(&'static str, String)], service: &str) {
        let mut kvno = command(&self.scratch, "kvno");
        kvno.envs(ticket.iter().map(|(name, value)| (name, value))).arg(service);
        let output = kvno.stdin(Stdio::null()).output().expect("kvno is installed");
        assert!(output.status.success(), "no ticket for {service}: {}", said(&output));
    }

    /// Adds principals of the realm, each by its name without the realm, with random keys.
    pub fn add(&self, principals: &[&str]) {
        let lines = principals.iter().map(|name| format!("addprinc -randkey \"{name}\"\n"));
        self.administer(&lines.collect::<String>());
    }

    /// Writes the keys of a principal to the file `name`, and gives its path.
    pub fn keytab(&self, principal: &str, name: &str) -> PathBuf {
        let path = self.scratch.join(name);
        self.administer(&format!("ktadd -norandkey -k {} \"{principal}\"\n", path.display()));
        assert!(path.exists(), "{principal} has no keys");
        path
    }

    /// The environment of a program that has a ticket of `principal`, and nothing else of Kerberos.
    pub fn logged_in(&self, principal: &str, cache: &str) -> Vec<(&'static str, String)> {
        self.logged_in_with(principal, cache, &[])
    }

    /// The same with `options` of kinit.
    pub fn logged_in_with(
        &self,
        principal: &str,
        cache: &str,
        options: &[&str],
    ) -> Vec<(&'static str, String)> {
        let keytab = self.keytab(principal, &format!("{cache}.keytab"));
        let cache = format!("FILE:{}", self.scratch.join(cache).display());
        let keytab = keytab.display().to_string();
        let own = ["-c", &cache, "-k", "-t", &keytab, principal];
        let words: Vec<&str> = ["kinit"].iter().chain(options).chain(&own).copied().collect();
        let kinit = run(&self.scratch, &words);
        assert!(kinit.status.success(), "{principal} gets no ticket: {}", said(&kinit));
        let [settings, _] = environment(&self.scratch);
        vec![settings, ("KRB5CCNAME", cache)]
    }

    /// Has kadmin.local do the `lines`, which it reads as a shell would.
    fn administer(&self, lines: &str) {
        let mut kadmin = command(&self.scratch, "kadmin.local");
        kadmin.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
        let mut kadmin = kadmin.spawn().expect("kadmin.local is installed");
        let mut input = kadmin.stdin.take().expect("it has an input");
        input.write_all(lines.as_bytes()).expect("it reads");
        drop(input);
        let output = kadmin.wait_with_output().expect("it ends");
        let said = said(&output);
        assert!(output.status.success() && !said.contains("while "), "{lines}: {said}");
    }
}

/// Names are what they are, whatever a name server says, and every message goes over TCP.
fn write_settings(scratch: &Scratch, realm: &str, port: u16) {
    let settings = format!(
        "[libdefaults]
    default_realm = {realm}
    dns_canonicalize_hostname = false
    dns_lookup_kdc = false
    dns_lookup_realm = false
    rdns = false
    udp_preference_limit = 1
[domain_realm]
    localhost = {REALM}
[realms]
    {realm} = {{
        kdc = 127.0.0.1:{port}
    }}
"
    );
    let place = scratch.path().display();
    let own = format!(
        "[kdcdefaults]
    kdc_listen = \"\"
    kdc_tcp_listen = 127.0.0.1:{port}
[realms]
    {realm} = {{
        database_name = {place}/principal
        key_stash_file = {place}/stash
        acl_file = {place}/acl
        max_life = 10h
    }}
[logging]
    kdc = STDERR
"
    );
    // Whoever has a ticket reads it, as whoever they are.
    fs::write(scratch.join("krb5.conf"), settings).expect("a file can be written");
    scratch.write("kdc.conf", &own, None);
}

fn environment(scratch: &Scratch) -> [(&'static str, String); 2] {
    let path = |name: &str| scratch.join(name).display().to_string();
    [("KRB5_CONFIG", path("krb5.conf")), ("KRB5_KDC_PROFILE", path("kdc.conf"))]
}

fn command(scratch: &Scratch, program: &str) -> Command {
    let own = Path::new(PROGRAMS).join(program);
    let mut command = Command::new(if own.exists() { own } else { program.into() });
    command.envs(environment(scratch)).env_remove("KRB5CCNAME").env_remove("KRB5_KTNAME");
    command
}

fn run(scratch: &Scratch, words: &[&str]) -> Output {
    let output = command(scratch, words[0]).args(&words[1..]).stdin(Stdio::null()).output();
    output
        .unwrap_or_else(|error| panic!("{}: {error}: run scripts/install-packages test", words[0]))
}

fn said(output: &Output) -> String {
    let both = [&output.stdout[..], &output.stderr].concat();
    String::from_utf8_lossy(&both).into_owned()
}

/// Waits until the port is open; `false` when krb5kdc ended instead.
fn listens(daemon: &mut Daemon, port: u16) -> bool {
    wait_for("krb5kdc to start", STARTING, || {
        if !daemon.is_running() {
            return Some(false);
        }
        TcpStream::connect(("127.0.0.1", port)).is_ok().then_some(true)
    })
}
