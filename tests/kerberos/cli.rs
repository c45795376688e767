//! The program and the ticket of its person: `kinit`, and nothing is asked any more.

use std::fs;
use std::path::PathBuf;
use std::process::{Command, Output, Stdio};
use std::sync::{Arc, Mutex, PoisonError};

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use reqwest::Method;
use serde_json::Value;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};

use super::http::{log_in, reply, start, with_tickets};
use super::tokens::der;
use super::{Realm, SERVICE, Ticket, token};
use crate::support::initiator::{Initiator, Wishes};
use crate::support::{Caller, TestBed, password_of};

/// A person at their machine: a ticket or none, and a server.
struct Person<'a> {
    bed: &'a TestBed,
    ticket: Ticket,
    url: String,
}

impl<'a> Person<'a> {
    /// Somebody with `ticket`, who knows the broker by the name of its service.
    fn new(bed: &'a TestBed, ticket: &Ticket) -> Self {
        Self { bed, ticket: ticket.clone(), url: bed.url().replace("127.0.0.1", "localhost") }
    }

    /// The same person at another address.
    fn at(&self, url: &str) -> Self {
        Self { bed: self.bed, ticket: self.ticket.clone(), url: url.to_owned() }
    }

    /// The same without a ticket.
    fn without_ticket(&self) -> Self {
        let cache = ("KRB5CCNAME", "FILE:/nonexistent".to_owned());
        let ticket = vec![self.ticket[0].clone(), cache];
        Self { bed: self.bed, ticket, url: self.url.clone() }
    }

    /// The program away from any terminal: whoever asks a question gets no answer.
    fn command(&self, words: &[&str]) -> Command {
        let plain = self.bed.cli("ticket-holder");
        let mut command = Command::new("setsid");
        command.arg("--wait").args(words).stdin(Stdio::null());
        for (name, value) in plain.get_envs() {
            match value {
                Some(value) => command.env(name, value),
                None => command.env_remove(name),
            };
        }
        command.envs(self.ticket.iter().map(|(name, value)| (name, value)));
        command.env("PGBRIDGE_URL", &self.url);
        command
    }

    fn run(&self, arguments: &[&str]) -> Outcome {
        let program = [&[env!("CARGO_BIN_EXE_pgbridge")], arguments].concat();
        Outcome::of(&self.command(&program).output().expect("pgbridge runs"))
    }

    /// Where the session is kept.
    fn session(&self) -> PathBuf {
        self.bed.file("home-ticket-holder/.local/state/pgbridge/session.json")
    }

    /// The kept session.
    fn kept(&self) -> Value {
        let text = fs::read_to_string(self.session()).expect("a session is kept");
        serde_json::from_str(&text).expect("JSON")
    }

    /// Ends the session at the broker, without the program knowing.
    async fn end_session(&self) {
        let kept = self.kept();
        let token = Caller::Session(kept["token"].as_str().unwrap());
        let ended = self.bed.call(Method::POST, "/v1/logout", token, None).await;
        assert_eq!(ended.status, 204, "{ended:?}");
    }
}

#[derive(Debug)]
struct Outcome {
    code: Option<i32>,
    stdout: String,
    stderr: String,
}

impl Outcome {
    fn of(output: &Output) -> Self {
        let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
        let code = output.status.code();
        Self { code, stdout: text(&output.stdout), stderr: text(&output.stderr) }
    }

    #[track_caller]
    fn check(&self, code: i32, words: &str) {
        assert_eq!(self.code, Some(code), "{self:?}");
        assert!(self.stderr.contains(words), "`{words}` is not in {self:?}");
    }
}

/// The logins in the audit, by who came or why they were refused.
fn logins(bed: &TestBed) -> Vec<String> {
    let records = bed.records().into_iter().filter(|record| record["action"] == "login");
    let told = |record: Value| match &record["cause"] {
        Value::String(cause) => cause.clone(),
        _ => record["subject"]["principal"]["name"].as_str().unwrap_or_default().to_owned(),
    };
    records.map(told).collect()
}

/// What the relay makes of the challenges of an answer that lets somebody in.
type Edit = Box<dyn Fn(Vec<String>) -> Vec<String> + Send + Sync>;

/// A server in the clear on this machine that hands everything on to a broker, but for what it does
/// to the proof that the broker gives of itself.
struct Relay {
    url: String,
    asked: Arc<Mutex<Vec<String>>>,
}

impl Relay {
    async fn start(bed: &TestBed, edit: Edit) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("a port");
        let port = listener.local_addr().expect("its address").port();
        let asked = Arc::new(Mutex::new(Vec::new()));
        let (remembered, broker) = (Arc::clone(&asked), bed.url());
        tokio::spawn(async move {
            while let Ok((stream, _)) = listener.accept().await {
                hand_on(stream, &broker, &asked, &edit).await;
            }
        });
        Self { url: format!("http://localhost:{port}"), asked: remembered }
    }

    /// The request lines so far.
    fn asked(&self) -> Vec<String> {
        self.asked.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }
}

async fn hand_on(mut stream: TcpStream, broker: &str, asked: &Mutex<Vec<String>>, edit: &Edit) {
    let mut request = Vec::new();
    let end = |request: &[u8]| request.windows(4).position(|four| four == b"\r\n\r\n");
    while end(&request).is_none() {
        match stream.read_buf(&mut request).await {
            Ok(0) | Err(_) => return,
            Ok(_) => {}
        }
    }
    let head = String::from_utf8_lossy(&request[..end(&request).unwrap()]).into_owned();
    let mut lines = head.lines();
    let line = lines.next().unwrap_or_default().to_owned();
    let words: Vec<&str> = line.split(' ').collect();
    let method = Method::from_bytes(words[0].as_bytes()).expect("a method");
    let mut onward = TestBed::client().request(method, format!("{broker}{}", words[1]));
    for (name, value) in lines.filter_map(|header| header.split_once(": ")) {
        if ["authorization", "x-pgbridge-way"].contains(&name) {
            onward = onward.header(name, value);
        }
    }
    let answer = onward.send().await.expect("the broker answers");
    let (status, headers) = (answer.status(), answer.headers().clone());
    let body = answer.text().await.expect("text");
    asked.lock().unwrap_or_else(PoisonError::into_inner).push(format!("{line} {status}"));
    let given = headers.get_all("www-authenticate").iter();
    let mut challenges: Vec<String> =
        given.map(|value| value.to_str().unwrap().to_owned()).collect();
    if words[1] == "/v1/login" && status.is_success() {
        challenges = edit(challenges);
    }
    let challenges: Vec<_> =
        challenges.iter().map(|challenge| format!("www-authenticate: {challenge}\r\n")).collect();
    let challenges = challenges.concat();
    let kind = headers.get("content-type").map_or("", |kind| kind.to_str().unwrap());
    let whole = format!(
        "HTTP/1.1 {status}\r\ncontent-length: {}\r\nconnection: close\r\ncontent-type: {kind}\r\n\
         {challenges}\r\n{body}",
        body.len()
    );
    let _ = stream.write_all(whole.as_bytes()).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn after_kinit_nothing_is_asked_and_psql_needs_no_login() {
    let realm = Realm::start();
    let bed = start(&realm, "");
    let alice = Person::new(&bed, &realm.alice);
    let question = ["psql", "orders", "--", "-XAtc", "SELECT session_user"];
    let who = alice.run(&question);
    who.check(0, "");
    assert!(who.stdout.contains("alice"), "{who:?}");
    assert_eq!(logins(&bed), ["alice@CORP.TEST"]);
    assert_eq!(alice.kept()["principal"], "gss:alice@CORP.TEST");
    // The session is used again, until it is over: by the server's word, or by its time.
    alice.run(&question).check(0, "");
    assert_eq!(logins(&bed).len(), 1);
    alice.end_session().await;
    alice.run(&question).check(0, "");
    assert_eq!(logins(&bed).len(), 2);
    let mut past = alice.kept();
    past["expires_at"] = "2020-01-01T00:00:00Z".into();
    fs::write(alice.session(), past.to_string()).unwrap();
    // The server is known from before.
    let mut command = alice.command(&[env!("CARGO_BIN_EXE_pgbridge"), "roles"]);
    command.env_remove("PGBRIDGE_URL").env_remove("PGBRIDGE_CA");
    let roles = Outcome::of(&command.output().unwrap());
    roles.check(0, "");
    assert!(roles.stdout.contains("orders_read"), "{roles:?}");
    assert_eq!(logins(&bed).len(), 3);
    // Logging out begins no session, and without a ticket there is none again.
    alice.run(&["logout"]).check(0, "");
    alice.run(&["logout"]).check(4, "pgbridge login");
    alice.without_ticket().run(&question).check(4, "pgbridge login");
    assert_eq!(logins(&bed).len(), 3);
    assert!(bed.lease_roles().is_empty());
}

#[tokio::test(flavor = "multi_thread")]
async fn login_takes_the_ticket_unless_a_password_is_meant() {
    let realm = Realm::start();
    let bed = start(&realm, "");
    let alice = Person::new(&bed, &realm.alice);
    alice.run(&["login"]).check(0, "");
    let me = alice.run(&["whoami"]);
    assert!(me.stdout.contains("gss:tickets:alice@CORP.TEST"), "{me:?}");
    alice.run(&["login", "--way", "tickets"]).check(0, "");
    assert_eq!(logins(&bed), ["alice@CORP.TEST", "alice@CORP.TEST"]);
    // Without a ticket, and where a password is meant, that is asked for.
    let unanswered = "without a terminal";
    alice.without_ticket().run(&["login"]).check(2, unanswered);
    alice.run(&["login", "--password"]).check(2, unanswered);
    alice.run(&["login", "--user", "alice"]).check(2, unanswered);
    alice.run(&["login", "--way", "corp"]).check(2, unanswered);
    assert_eq!(logins(&bed).len(), 2);
    let password = bed.file("typed");
    fs::write(&password, password_of("alice")).unwrap();
    let words = [env!("CARGO_BIN_EXE_pgbridge"), "login", "--user", "alice", "--password-stdin"];
    let mut by_password = alice.command(&words);
    by_password.stdin(fs::File::open(password).unwrap());
    Outcome::of(&by_password.output().unwrap()).check(0, "");
    assert_eq!(alice.kept()["principal"], "ldap:alice");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_ticket_that_could_be_given_away_stays_with_its_person() {
    let realm = Realm::start();
    let bed = start(&realm, "");
    let forwardable = realm.kdc.logged_in_with("alice", "forwardable", &["-f"]);
    let note = |bed: &TestBed| {
        let last = bed.records().into_iter().rfind(|record| record["action"] == "login");
        last.expect("a login")["detail"].clone()
    };
    Person::new(&bed, &forwardable).run(&["login"]).check(0, "");
    assert_eq!(note(&bed), Value::Null);
    // Of one that came along, there is a note.
    let wishes = Wishes { delegates: true, ..Wishes::default() };
    let token = Initiator::new(&forwardable, SERVICE, &wishes).token();
    assert_eq!(log_in(&bed.url(), &token).await.status, 200);
    assert_ne!(note(&bed), Value::Null);
}

#[tokio::test(flavor = "multi_thread")]
async fn an_expired_ticket_is_told_and_not_shown() {
    let realm = Realm::start();
    let bed = start(&realm, "");
    let short = realm.kdc.logged_in_with("alice", "short", &["-l", "5m"]);
    let alice = Person::new(&bed, &short);
    let later = |arguments: &[&str]| {
        let clock = ["faketime", "-f", "+10m", env!("CARGO_BIN_EXE_pgbridge")];
        Outcome::of(&alice.command(&[&clock, arguments].concat()).output().unwrap())
    };
    later(&["roles"]).check(4, "ticket has expired: run `kinit`");
    let login = later(&["login"]);
    login.check(2, "your Kerberos ticket has expired");
    login.check(2, "without a terminal");
    assert!(!alice.session().exists() && logins(&bed).is_empty());
    alice.run(&["roles"]).check(0, "");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_ticket_is_for_the_server_that_was_named_and_a_refused_one_asks_for_no_password() {
    let realm = Realm::start();
    let bed = start(&realm, "");
    let named = Person::new(&bed, &realm.alice);
    let elsewhere = named.at(&bed.url());
    // No service of that name has keys.
    for command in ["login", "roles"] {
        let unknown = elsewhere.run(&[command]);
        unknown.check(4, "cannot be shown to https://127.0.0.1");
        unknown.check(4, "pgbridge login --password");
    }
    assert!(logins(&bed).is_empty());
    // One has, and it is not the one that answers.
    realm.kdc.add(&["HTTP/127.0.0.1"]);
    for command in ["login", "roles"] {
        let refused = elsewhere.run(&[command]);
        refused.check(4, "refused your ticket");
        assert!(!refused.stderr.contains("without a terminal"), "{refused:?}");
    }
    assert_eq!(logins(&bed).len(), 2);
    assert!(!named.session().exists());
    named.run(&["login"]).check(0, "");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_ticket_is_bound_to_the_certificate_that_the_server_showed() {
    let realm = Realm::start();
    let bed = start(&realm, "channel_binding = \"required\"");
    let alice = Person::new(&bed, &realm.alice);
    // In the clear there is nothing to bind to.
    let relay = Relay::start(&bed, Box::new(|challenges| challenges)).await;
    alice.at(&relay.url).run(&["login"]).check(4, "refused your ticket");
    assert_eq!(logins(&bed), ["channel_not_bound"]);
    assert!(!alice.session().exists());
    alice.run(&["login"]).check(0, "");
    assert_eq!(alice.kept()["principal"], "gss:alice@CORP.TEST");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_server_that_does_not_prove_itself_is_not_believed() {
    let realm = Realm::start();
    let bed = start(&realm, "");
    let alice = Person::new(&bed, &realm.alice);
    let others = reply(&log_in(&bed.url(), &token(&realm.alice)).await);
    let of_others = format!("Negotiate {}", STANDARD.encode(others));
    // SPNEGO says that all is well, and Kerberos says nothing (RFC 4178 section 4.2.2).
    let completed = der(0xa1, &[&der(0x30, &[&der(0xa0, &[&der(0x0a, &[&[0]])])])]);
    let completed = format!("Negotiate {}", STANDARD.encode(completed));
    let lies: [(&str, Edit); 5] = [
        ("nothing", Box::new(|_| Vec::new())),
        ("an offer", Box::new(|_| vec!["Negotiate".to_owned()])),
        ("the proof for somebody else", Box::new(move |_| vec![of_others.clone()])),
        ("the word of SPNEGO alone", Box::new(move |_| vec![completed.clone()])),
        ("what is no token", Box::new(|_| vec!["Negotiate YWJj".to_owned()])),
    ];
    for (lie, edit) in lies {
        let relay = Relay::start(&bed, edit).await;
        for command in ["login", "roles"] {
            let liar = alice.at(&relay.url).run(&[command]);
            liar.check(4, "without proving that it is HTTP@localhost");
            assert!(!alice.session().exists(), "{lie}");
            let last = relay.asked().pop();
            assert_eq!(last.as_deref(), Some("POST /v1/logout HTTP/1.1 204 No Content"), "{lie}");
        }
    }
    let faithful = Relay::start(&bed, Box::new(|challenges| challenges)).await;
    alice.at(&faithful.url).run(&["login"]).check(0, "");
    assert!(alice.session().exists());
}

#[tokio::test(flavor = "multi_thread")]
async fn where_only_tickets_are_taken_no_password_is_asked_for() {
    let realm = Realm::start();
    let bed = TestBed::start_with(16, |config| {
        let config = with_tickets(&realm, "", &config);
        let (before, after) = config.split_once("[[ldap]]").unwrap();
        let (_, after) = after.split_once("[[cluster]]").unwrap();
        format!("{before}[[cluster]]{after}")
    });
    let alice = Person::new(&bed, &realm.alice);
    alice.without_ticket().run(&["login"]).check(4, "get a Kerberos ticket with `kinit`");
    alice.run(&["login"]).check(0, "");
}
