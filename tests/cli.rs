//! The command line, run as people run it, against servers that are away, strange or hostile.

mod map;
mod operate;
mod psql;
mod questions;
mod unanswered;
mod whole;

use std::io::{Read, Write};
use std::net::{TcpListener, TcpStream};
use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::process::{Command, Output, Stdio};
use std::sync::{Arc, Mutex, PoisonError};
use std::{fs, thread};

use tempfile::TempDir;

use rustls_pki_types::pem::PemObject;
use rustls_pki_types::{CertificateDer, PrivateKeyDer};

use crate::support::TestCa;
use crate::support::scratch::free_port;

const PASSWORD: &str = "canary-password";
const TOKEN: &str = "pgbs_canary-token";

/// A person's machine: their state directory and nothing else of ours.
struct Machine(TempDir);

impl Machine {
    fn new() -> Self {
        Self(tempfile::tempdir().expect("a directory"))
    }

    fn command(&self, arguments: &[&str]) -> Command {
        let mut command = Command::new(env!("CARGO_BIN_EXE_pgbridge"));
        command.args(arguments).env_clear().env("PATH", "/usr/bin:/bin");
        command.env("XDG_STATE_HOME", self.0.path());
        command
    }

    fn run(&self, arguments: &[&str]) -> Outcome {
        self.command(arguments).stdin(Stdio::null()).output().expect("pgbridge runs").into()
    }

    fn log_in(&self, arguments: &[&str]) -> Outcome {
        let login = ["login", "--user", "alice", "--password-stdin"];
        let mut command = self.command(&[&login, arguments].concat());
        command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
        let mut child = command.spawn().expect("pgbridge runs");
        let mut stdin = child.stdin.take().expect("its input");
        // It may have refused before it read anything.
        let _ = writeln!(stdin, "{PASSWORD}");
        drop(stdin);
        child.wait_with_output().expect("pgbridge ends").into()
    }

    fn session(&self) -> std::path::PathBuf {
        self.0.path().join("pgbridge/session.json")
    }
}

struct Outcome {
    code: Option<i32>,
    stdout: String,
    stderr: String,
}

impl From<Output> for Outcome {
    fn from(output: Output) -> Self {
        let outcome = Self {
            code: output.status.code(),
            stdout: String::from_utf8_lossy(&output.stdout).into_owned(),
            stderr: String::from_utf8_lossy(&output.stderr).into_owned(),
        };
        for secret in [PASSWORD, TOKEN] {
            assert!(!outcome.stderr.contains(secret), "a secret was shown: {}", outcome.stderr);
        }
        assert!(!outcome.stderr.contains("panicked"), "{}", outcome.stderr);
        outcome
    }
}

impl Outcome {
    #[track_caller]
    fn check(&self, code: i32, words: &str) {
        assert_eq!(self.code, Some(code), "{} / {}", self.stdout, self.stderr);
        assert!(self.stderr.contains(words), "`{words}` is not in: {}", self.stderr);
    }
}

/// A party that listens where a broker should, answers whatever it was told to, and remembers
/// what it was asked.
struct Stranger {
    url: String,
    asked: Arc<Mutex<Vec<String>>>,
}

impl Stranger {
    fn start(answer: impl Fn(&str) -> String + Send + 'static) -> Self {
        Self::listen("http", move |stream, asked| exchange(stream, asked, &answer))
    }

    /// The same behind TLS, with a certificate of `ca`.
    fn start_encrypted(ca: &TestCa, answer: impl Fn(&str) -> String + Send + 'static) -> Self {
        let config = Arc::new(encrypted(ca));
        Self::listen("https", move |mut stream, asked| {
            let mut session = rustls::ServerConnection::new(Arc::clone(&config)).expect("TLS");
            exchange(rustls::Stream::new(&mut session, &mut stream), asked, &answer);
        })
    }

    fn listen(
        scheme: &str,
        serve: impl Fn(TcpStream, &Mutex<Vec<String>>) + Send + 'static,
    ) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").expect("a port");
        let url = format!("{scheme}://{}", listener.local_addr().expect("its address"));
        let asked = Arc::new(Mutex::new(Vec::new()));
        let remembered = Arc::clone(&asked);
        thread::spawn(move || {
            for stream in listener.incoming().flatten() {
                serve(stream, &asked);
            }
        });
        Self { url, asked: remembered }
    }

    /// What it was asked so far: request line, headers and body as one text each.
    fn asked(&self) -> Vec<String> {
        self.asked.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }
}

fn encrypted(ca: &TestCa) -> rustls::ServerConfig {
    let signed = ca.server_certificate();
    let certificate = CertificateDer::from_pem_slice(signed.certificate.as_bytes());
    let key = PrivateKeyDer::from_pem_slice(signed.key.as_bytes());
    let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
    rustls::ServerConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .expect("TLS versions")
        .with_no_client_auth()
        .with_single_cert(vec![certificate.expect("a certificate")], key.expect("a key"))
        .expect("a pair")
}

/// Where nobody listens.
fn nowhere() -> String {
    format!("http://127.0.0.1:{}", free_port())
}

/// Reads one request, remembers it, answers, and closes. A client that goes away is no matter.
fn exchange(
    mut stream: impl Read + Write,
    asked: &Mutex<Vec<String>>,
    answer: &impl Fn(&str) -> String,
) {
    let mut request = Vec::new();
    let mut part = [0; 4096];
    while !is_whole(&request) {
        match stream.read(&mut part) {
            Ok(0) | Err(_) => break,
            Ok(count) => request.extend_from_slice(part.get(..count).unwrap_or_default()),
        }
    }
    if request.is_empty() {
        return;
    }
    let request = String::from_utf8_lossy(&request).into_owned();
    asked.lock().unwrap_or_else(PoisonError::into_inner).push(request.clone());
    let _ = stream.write_all(answer(&request).as_bytes());
    let _ = stream.flush();
}

fn is_whole(request: &[u8]) -> bool {
    let text = String::from_utf8_lossy(request).to_lowercase();
    let Some((head, body)) = text.split_once("\r\n\r\n") else { return false };
    let length = head.lines().find_map(|line| line.strip_prefix("content-length: "));
    body.len() >= length.and_then(|length| length.trim().parse().ok()).unwrap_or(0)
}

fn response(status: &str, headers: &str, body: &str) -> String {
    let length = body.len();
    format!(
        "HTTP/1.1 {status}\r\ncontent-length: {length}\r\nconnection: close\r\n{headers}\r\n{body}"
    )
}

fn json(status: &str, body: &str) -> String {
    response(status, "content-type: application/json\r\n", body)
}

fn problem(status: &str, title: &str, detail: &str) -> String {
    let body = serde_json::json!({"title": title, "detail": detail, "request_id": "r-1"});
    response(status, "content-type: application/problem+json\r\n", &body.to_string())
}

/// Lets everybody in, and answers anything else by `answer`.
fn open_house(answer: impl Fn(&str) -> String) -> impl Fn(&str) -> String {
    move |request| {
        if request.starts_with("POST /v1/login ") {
            let token = serde_json::json!({
                "token": TOKEN, "expires_at": "2100-01-01T00:00:00Z", "principal": "ldap:alice",
            });
            return json("200 OK", &token.to_string());
        }
        answer(request)
    }
}

fn logged_in(answer: impl Fn(&str) -> String + Send + 'static) -> (Machine, Stranger) {
    let (machine, server) = (Machine::new(), Stranger::start(open_house(answer)));
    machine.log_in(&["--server", &server.url]).check(0, "");
    (machine, server)
}

#[test]
fn without_a_session_or_a_server_one_is_told_what_to_do() {
    let machine = Machine::new();
    for command in ["whoami", "roles", "leases", "logout"] {
        machine.run(&[command]).check(4, "pgbridge login");
    }
    machine.run(&["issue", "orders"]).check(4, "pgbridge login");
    machine.log_in(&[]).check(2, "--server");
}

#[test]
fn a_server_that_is_away_is_named_and_has_its_own_exit_code() {
    let machine = Machine::new();
    let url = nowhere();
    let outcome = machine.log_in(&["--server", &url]);
    let why = "Connection refused (os error 111)";
    assert_eq!(outcome.stderr, format!("pgbridge: {url} cannot be reached: {why}\n"));
    outcome.check(5, "");
    assert!(outcome.stdout.is_empty() && !machine.session().exists());
}

#[test]
fn a_password_never_goes_in_the_clear_to_another_machine() {
    let outcome = Machine::new().log_in(&["--server", "http://pgbridge.example.test"]);
    outcome.check(2, "use `https://`");
}

#[test]
fn a_password_goes_as_typed_and_a_blank_one_does_not_go_at_all() {
    let server = Stranger::start(open_house(|_| String::new()));
    let machine = Machine::new();
    machine.log_in(&["--server", &server.url]).check(0, "");
    let asked = server.asked();
    assert!(asked[0].contains(&format!("\"password\":\"{PASSWORD}\"")), "{asked:?}");
    let login = ["login", "--server", &server.url, "--user", "alice", "--password-stdin"];
    let before = server.asked().len();
    machine.run(&login).check(2, "was not sent");
    assert_eq!(server.asked().len(), before);
}

#[test]
fn a_session_is_kept_for_its_owner_and_a_file_open_to_others_is_refused() {
    let (machine, server) = logged_in(|_| problem("404 Not Found", "No", ""));
    let mode = |path: &Path| fs::metadata(path).expect("the file").permissions().mode() & 0o7777;
    assert_eq!(mode(&machine.session()), 0o600);
    assert_eq!(mode(machine.session().parent().expect("its directory")), 0o700);
    machine.run(&["whoami"]).check(3, "No");
    let before = server.asked().len();
    fs::set_permissions(machine.session(), fs::Permissions::from_mode(0o644)).expect("chmod");
    machine.run(&["whoami"]).check(1, "can be read by others");
    assert_eq!(server.asked().len(), before, "the token was sent all the same");
}

#[test]
fn each_refusal_has_its_exit_code_and_shows_why_without_steering_the_terminal() {
    for (status, code) in [
        ("400 Bad Request", 1),
        ("401 Unauthorized", 4),
        ("403 Forbidden", 3),
        ("404 Not Found", 3),
        ("409 Conflict", 3),
        ("422 Unprocessable Content", 3),
        ("500 Internal Server Error", 1),
    ] {
        let hostile = "\u{1b}[2Jgone\nsecond line\u{202e}";
        let (machine, _server) = logged_in(move |_| problem(status, "Refused", hostile));
        let outcome = machine.run(&["leases"]);
        outcome.check(code, "(request r-1)");
        assert!(outcome.stdout.is_empty());
        assert_eq!(outcome.stderr.lines().count(), 1, "{}", outcome.stderr);
        assert!(!outcome.stderr.contains(['\u{1b}', '\u{202e}']), "{}", outcome.stderr);
        let words = if code == 4 { "pgbridge login" } else { "Refused: \\u{1b}[2Jgone\\nsecond" };
        outcome.check(code, words);
    }
}

#[test]
fn a_stranger_is_not_taken_for_a_broker() {
    for answer in [
        response("200 OK", "content-type: text/html\r\n", "<html>Welcome</html>"),
        json("200 OK", "{}"),
        json("200 OK", &format!("{{\"token\":[\"{TOKEN}\"]}}")),
    ] {
        let server = Stranger::start(move |_| answer.clone());
        let machine = Machine::new();
        machine.log_in(&["--server", &server.url]).check(1, "cannot be read");
        assert!(!machine.session().exists());
    }
    let server = Stranger::start(|_| response("502 Bad Gateway", "", "<html>"));
    Machine::new().log_in(&["--server", &server.url]).check(1, "502 Bad Gateway");
    let server = Stranger::start(|_| "SSH-2.0-OpenSSH_9.2\r\n".to_owned());
    Machine::new().log_in(&["--server", &server.url]).check(5, "gave no whole answer");
}

#[test]
fn neither_password_nor_token_follows_a_redirect() {
    let elsewhere = Stranger::start(|_| json("200 OK", "{}"));
    let location = format!("location: {}/v1/login\r\n", elsewhere.url);
    let server = Stranger::start(move |_| response("307 Temporary Redirect", &location, ""));
    Machine::new().log_in(&["--server", &server.url]).check(1, "redirect");
    let location = format!("location: {}/v1/whoami\r\n", elsewhere.url);
    let (machine, _server) = logged_in(move |_| response("302 Found", &location, ""));
    machine.run(&["whoami"]).check(1, "redirect");
    assert!(elsewhere.asked().is_empty());
}

#[test]
fn no_proxy_carries_an_unencrypted_password() {
    let proxy = Stranger::start(|_| json("200 OK", "{}"));
    let (machine, server) = logged_in(|_| problem("404 Not Found", "No", ""));
    for name in ["http_proxy", "HTTP_PROXY", "all_proxy", "ALL_PROXY"] {
        let mut command = machine.command(&["whoami"]);
        let outcome: Outcome = command.env(name, &proxy.url).output().expect("runs").into();
        outcome.check(3, "No");
    }
    assert!(proxy.asked().is_empty());
    assert_eq!(server.asked().len(), 5);
}

#[test]
fn a_machine_without_root_certificates_still_reaches_its_own_loopback() {
    let (machine, server) = logged_in(|_| problem("404 Not Found", "No", ""));
    let mut command = machine.command(&["whoami"]);
    command.env("SSL_CERT_FILE", "/nowhere").env("SSL_CERT_DIR", "/nowhere");
    Outcome::from(command.output().expect("pgbridge runs")).check(3, "No");
    assert_eq!(server.asked().len(), 2);
}

#[test]
fn a_certificate_of_another_authority_is_refused_and_of_the_given_one_accepted() {
    let (ours, other, machine) = (TestCa::new(), TestCa::new(), Machine::new());
    let [ours_file, other_file, empty] = ["ours.crt", "other.crt", "empty.crt"]
        .map(|name| machine.0.path().join(name).to_str().expect("UTF-8").to_owned());
    fs::write(&ours_file, ours.pem()).expect("written");
    fs::write(&other_file, other.pem()).expect("written");
    fs::write(&empty, "").expect("written");
    let server =
        Stranger::start_encrypted(&ours, open_house(|_| problem("404 Not Found", "No", "")));
    let log_in = |ca: &str| machine.log_in(&["--server", &server.url, "--ca", ca]);
    log_in(&other_file).check(5, "cannot be reached");
    machine.log_in(&["--server", &server.url]).check(5, "cannot be reached");
    log_in(&empty).check(1, "holds no certificate");
    log_in("/nowhere/ca.crt").check(1, "cannot be found");
    assert!(server.asked().is_empty(), "something was sent before the certificate was checked");
    log_in(&ours_file).check(0, "");
    // The session remembers its authority.
    machine.run(&["whoami"]).check(3, "No");
    machine.log_in(&[]).check(0, "");
}

#[test]
fn logging_out_forgets_the_session_even_when_the_server_is_away() {
    let (machine, server) = logged_in(|_| response("204 No Content", "", ""));
    machine.run(&["logout"]).check(0, "");
    assert!(!machine.session().exists());
    let last = server.asked().pop().expect("a request");
    assert!(last.starts_with("POST /v1/logout "), "{last}");
    assert!(last.to_lowercase().contains(&format!("authorization: bearer {TOKEN}")), "{last}");

    let (machine, _server) = logged_in(|_| String::new());
    let kept = fs::read_to_string(machine.session()).expect("the session");
    let away = nowhere();
    let url = serde_json::from_str::<serde_json::Value>(&kept).expect("JSON")["server"].to_string();
    fs::write(machine.session(), kept.replace(&url, &format!("\"{away}\""))).expect("written");
    machine.run(&["logout"]).check(5, "forgotten here");
    assert!(!machine.session().exists());
}

/// An answer to an issuing call whose texts are `text`.
fn credential(text: &str, root: Option<&str>) -> String {
    let answer = serde_json::json!({
        "lease": {
            "id": "abcdefghijklmnop", "state": "active", "cluster": "orders", "database": "orders",
            "role": "orders_read", "role_name": "pgb_alice", "principal": "ldap:alice",
            "requested_at": "2026-11-20T20:00:00Z", "expires_at": "2026-11-20T21:00:00Z",
            "ceiling": "2026-11-21T04:00:00Z", "rule": {"file": "pg_ident.conf", "line": 1},
            "map_revision": "x",
        },
        "password": text,
        "connection": {
            "host": "db.example.test", "port": 5432, "database": text, "user": "pgb_alice",
            "sslmode": "verify-full", "sslrootcert": "/broker/ca.crt", "root_certificate": root,
        },
        "uri": "postgresql://as-the-broker-says",
    });
    json("201 Created", &answer.to_string())
}

#[test]
fn a_role_is_printed_with_the_root_certificate_of_its_cluster() {
    let pem = TestCa::new().pem();
    let sent = pem.clone();
    let (machine, server) = logged_in(move |_| credential("it's", Some(&sent)));
    let issue = |format: &str| {
        machine.run(&["issue", "orders", "--role", "orders_read", "--format", format])
    };
    let file = machine.0.path().join("pgbridge/orders.crt");
    let path = file.to_str().expect("UTF-8");
    for (format, words) in [
        ("table", format!("sslrootcert      {path}\n")),
        ("env", format!("export PGSSLROOTCERT='{path}'\nexport PGPASSWORD='it'\\''s'\n")),
        ("uri", format!("sslmode=verify-full&sslrootcert={}", path.replace('/', "%2F"))),
        ("service", format!("sslmode=verify-full\nsslrootcert={path}\n")),
        ("pgpass", "\ndb.example.test:5432:it's:pgb_alice:it's\n".to_owned()),
    ] {
        let outcome = issue(format);
        outcome.check(0, "");
        assert!(outcome.stdout.contains(&words), "{format}: {}", outcome.stdout);
    }
    let answer: serde_json::Value = serde_json::from_str(&issue("json").stdout).expect("JSON");
    assert_eq!(answer["connection"]["sslrootcert"], path);
    assert_eq!(answer["password"], "it's");
    assert_eq!(fs::read_to_string(&file).expect("the certificate"), pem);
    assert_eq!(fs::metadata(file).expect("it").permissions().mode() & 0o777, 0o644);
    assert!(!server.asked().iter().any(|request| request.starts_with("DELETE")));
}

#[test]
fn a_lease_that_cannot_be_handed_out_is_given_back() {
    let revoked = |server: &Stranger| {
        let last = server.asked().pop().expect("a request");
        assert!(last.starts_with("DELETE /v1/leases/abcdefghijklmnop "), "{last}");
    };
    let issue = |machine: &Machine, format: &str| {
        machine.run(&["issue", "orders", "--role", "orders_read", "--format", format])
    };
    let (machine, server) = logged_in(|_| credential("two\nlines", None));
    issue(&machine, "pgpass").check(1, "given back");
    revoked(&server);
    issue(&machine, "service").check(1, "given back");
    issue(&machine, "env").check(0, "");
    let (machine, server) = logged_in(|_| credential("nul\0", None));
    issue(&machine, "table").check(1, "NUL");
    revoked(&server);
    let (machine, server) = logged_in(|_| credential("x", Some("no certificate")));
    issue(&machine, "table").check(1, "no certificate in PEM");
    revoked(&server);

    // Nobody reads standard output.
    let (machine, server) = logged_in(|_| credential("x", None));
    let (reader, writer) = std::io::pipe().expect("a pipe");
    drop(reader);
    let mut command = machine.command(&["issue", "orders", "--role", "orders_read"]);
    let outcome: Outcome = command.stdout(writer).output().expect("runs").into();
    outcome.check(1, "given back");
    revoked(&server);
}

#[test]
fn a_reader_that_has_seen_enough_is_no_failure() {
    for arguments in [["completions", "bash"].as_slice(), &["man"], &["--help"]] {
        let (reader, writer) = std::io::pipe().expect("a pipe");
        drop(reader);
        let mut command = Machine::new().command(arguments);
        let outcome: Outcome = command.stdout(writer).output().expect("runs").into();
        outcome.check(0, "");
        assert!(outcome.stderr.is_empty(), "{}", outcome.stderr);
    }
}

#[test]
fn without_psql_nothing_is_issued() {
    let (machine, server) = logged_in(|_| credential("x", None));
    let before = server.asked().len();
    let mut command = machine.command(&["psql", "orders", "--role", "orders_read"]);
    let outcome: Outcome = command.env("PATH", "/nowhere").output().expect("runs").into();
    outcome.check(1, "psql is not installed");
    assert_eq!(server.asked().len(), before);
}

#[test]
fn completions_and_manual_pages_know_every_command() {
    let machine = Machine::new();
    for shell in ["bash", "zsh", "fish"] {
        let outcome = machine.run(&["completions", shell]);
        outcome.check(0, "");
        assert!(outcome.stdout.contains("revoke"), "{shell}");
    }
    let pages = machine.0.path().join("man");
    machine.run(&["man", "--dir", pages.to_str().expect("UTF-8")]).check(0, "");
    for name in ["pgbridge", "pgbridge-psql", "pgbridge-serve", "pgbridge-audit-export"] {
        assert!(pages.join(format!("{name}.1")).exists(), "{name}");
    }
    assert!(machine.run(&["man"]).stdout.contains("pgbridge"));
}

#[test]
fn a_lease_that_nobody_can_use_any_more_is_not_said_to_end_later() {
    let lease = |more: &str| {
        format!(
            r#"{{"id":"abcdefghijklmnop","cluster":"orders","database":"orders",
            "role":"orders_read","role_name":"pgb_alice","requested_at":"2026-11-20T20:00:00Z",
            "expires_at":"2100-01-01T00:00:00Z","ceiling":"2100-01-01T00:00:00Z",{more}}}"#
        )
    };
    let closed = r#""state":"quarantined","access_ended_at":"2026-11-20T20:30:00Z""#;
    let (usable, closed) = (lease(r#""state":"active""#), lease(closed));
    let list = format!(r#"{{"leases":[{usable},{closed}]}}"#);
    let (machine, _server) = logged_in(move |request| {
        if request.starts_with("DELETE ") {
            json("202 Accepted", &closed)
        } else if request.starts_with("POST ") {
            json("200 OK", &usable)
        } else {
            json("200 OK", &list)
        }
    });
    let listed = machine.run(&["leases", "--all"]).stdout;
    let line = |index| listed.lines().nth(index).expect("a line");
    assert!(line(1).contains("  in ") && line(1).contains("(2100-01-01 00:00:00 UTC)"), "{listed}");
    assert!(line(2).contains("  access ended ") && !line(2).contains("2100"), "{listed}");
    assert!(line(2).ends_with("(2026-11-20 20:30:00 UTC)"), "{listed}");
    let words = "nobody can log in with it any more; what is left of it is tried again";
    let revoked = machine.run(&["revoke", "abcdefghijklmnop"]);
    revoked.check(0, "");
    assert!(revoked.stdout.contains("access ended  "), "{}", revoked.stdout);
    assert!(revoked.stdout.ends_with(&format!("{words}\n")), "{}", revoked.stdout);
    let renewed = machine.run(&["renew", "abcdefghijklmnop"]).stdout;
    assert!(renewed.contains("ends   in ") && !renewed.contains(words), "{renewed}");
}

#[test]
fn a_list_that_may_not_be_whole_says_so() {
    let lease = r#"{"id":"abcdefghijklmnop","cluster":"orders","database":"orders","state":"active",
        "role":"orders_read","role_name":"pgb_alice","requested_at":"2026-11-20T20:00:00Z",
        "expires_at":"2100-01-01T00:00:00Z","ceiling":"2100-01-01T00:00:00Z"}"#;
    for (count, says_so) in [(999, false), (1000, true)] {
        let list = format!(r#"{{"leases":[{}]}}"#, vec![lease; count].join(","));
        let (machine, _server) = logged_in(move |_| json("200 OK", &list));
        let listed = machine.run(&["leases"]);
        listed.check(0, "");
        assert_eq!(listed.stdout.lines().count(), count + 1);
        assert_eq!(listed.stderr.contains("only the newest 1000"), says_so, "{}", listed.stderr);
    }
}

#[test]
fn a_server_in_the_environment_that_is_not_that_of_the_session_is_refused() {
    let (machine, server) = logged_in(|_| problem("404 Not Found", "No", ""));
    let with = |url: &str, arguments: &[&str]| -> Outcome {
        let mut command = machine.command(arguments);
        command.env("PGBRIDGE_URL", url).output().expect("pgbridge runs").into()
    };
    for same in [server.url.clone(), format!("{}/", server.url), String::new()] {
        with(&same, &["whoami"]).check(3, "No");
    }
    let before = server.asked().len();
    for command in ["whoami", "leases", "logout"] {
        let words = format!("you are logged in at {}, but PGBRIDGE_URL is ", server.url);
        with("https://other.example.test", &[command]).check(4, &words);
    }
    with("nonsense", &["whoami"]).check(2, "PGBRIDGE_URL");
    assert_eq!(server.asked().len(), before);
    assert!(machine.session().exists(), "the session was forgotten");
}

#[test]
fn an_empty_variable_is_as_good_as_none() {
    let (machine, server) = logged_in(|_| String::new());
    let mut command = machine.command(&["login", "--user", "alice", "--password-stdin"]);
    command.env("PGBRIDGE_URL", "").env("PGBRIDGE_CA", "");
    let typed = machine.0.path().join("typed");
    fs::write(&typed, PASSWORD).expect("written");
    command.stdin(fs::File::open(typed).expect("it was just written"));
    Outcome::from(command.output().expect("pgbridge runs")).check(0, "");
    assert_eq!(server.asked().iter().filter(|asked| asked.contains("/v1/login ")).count(), 2);
}

#[test]
fn who_mixes_up_http_and_https_is_told() {
    let plain = Stranger::listen("https", |mut stream, _| {
        let _ = stream.read(&mut [0; 4096]);
        let _ = stream.write_all(response("400 Bad Request", "", "").as_bytes());
    });
    Machine::new().log_in(&["--server", &plain.url]).check(5, "does it speak https?");
    let ca = TestCa::new();
    let encrypted = Stranger::start_encrypted(&ca, open_house(|_| String::new()));
    let url = encrypted.url.replace("https://", "http://");
    Machine::new().log_in(&["--server", &url]).check(5, "does it speak https?");
    let refused = Machine::new().log_in(&["--server", &encrypted.url]);
    refused.check(5, "invalid peer certificate");
    assert!(!refused.stderr.contains("does it speak"), "{}", refused.stderr);
}

#[test]
fn without_a_role_on_offer_one_is_told_who_decides() {
    let (machine, _server) = logged_in(|_| json("200 OK", r#"{"roles":[]}"#));
    machine.run(&["roles"]).check(0, "the map of the administrators decides");
    machine.run(&["issue", "orders"]).check(3, "no role on orders is on offer to you");
}
