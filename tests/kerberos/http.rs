//! Tickets shown to a broker over HTTP: the whole way to a role, and what is left of refusals.

use std::fs;
use std::path::PathBuf;
use std::process::Command;

use aws_lc_rs::digest::{SHA256, digest};
use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use pgbridge::auth::way::EndPoint;
use reqwest::{Client, Method};
use rustls_pki_types::CertificateDer;
use rustls_pki_types::pem::PemObject;
use serde_json::{Value, json};

use super::tokens::offer;
use super::{Realm, SERVICE, Ticket, token};
use crate::support::initiator::{Heard, Initiator, Wishes};
use crate::support::kdc::Kdc;
use crate::support::{Answer, Caller, Signal, StoreServer, TestBed, TestCa, until};

const MAP: &str = r#"
corp         carol                                             reports_read
corp-groups  "cn=orders-readers,ou=groups,dc=example,dc=test"  orders_read
corp-groups  "cn=orders-writers,ou=groups,dc=example,dc=test"  orders_write
duties       "cn=auditors,ou=groups,dc=example,dc=test"        auditor
duties       "cn=operators,ou=groups,dc=example,dc=test"       operator
tickets      "alice@CORP.TEST"                                 orders_read
"#;

/// The mechanism of Kerberos, as it stands in an offer.
const KRB5: &[u8] = b"\x06\x09\x2a\x86\x48\x86\xf7\x12\x01\x02\x02";

/// A broker that takes tickets of a realm, with `more` in its section.
pub(super) fn start(realm: &Realm, more: &str) -> TestBed {
    TestBed::start_with(16, |config| with_tickets(realm, more, &config))
}

pub(super) fn with_tickets(realm: &Realm, more: &str, config: &str) -> String {
    let (map, keytab) = (realm.keytab.with_file_name("pg_ident.conf"), realm.keytab.display());
    fs::write(&map, MAP).unwrap();
    let map = format!("file = \"{}\"", map.display());
    let section = format!(
        "[[kerberos]]\nname = \"tickets\"\nmap = \"tickets\"\nservice = \"{SERVICE}\"\n\
         keytab_file = \"{keytab}\"\nrealms = [\"CORP.TEST\"]\nkdc = \"mit\"\n{more}\n[[ldap]]"
    );
    config.replace("file = \"pg_ident.conf\"", &map).replace("[[ldap]]", &section)
}

/// Sends a token, or only asks to negotiate when there is none.
async fn send(client: &Client, url: &str, token: Option<&[u8]>, body: Option<Value>) -> Answer {
    let mut request = client.request(Method::POST, url);
    if let Some(token) = token {
        let shown = format!("Negotiate {}", STANDARD.encode(token));
        request = request.header("authorization", shown.trim_end());
    }
    if let Some(body) = body {
        request = request.json(&body);
    }
    let response = request.send().await.expect("the broker answers");
    let (status, headers) = (response.status().as_u16(), response.headers().clone());
    Answer { status, headers, body: response.text().await.expect("text") }
}

pub(super) async fn log_in(url: &str, token: &[u8]) -> Answer {
    send(&TestBed::client(), &format!("{url}/v1/login"), Some(token), None).await
}

/// The challenges of an answer, in order.
fn challenges(answer: &Answer) -> Vec<String> {
    let all = answer.headers.get_all("www-authenticate").iter();
    all.map(|value| value.to_str().unwrap().to_owned()).collect()
}

/// The token in the answer's challenge.
#[track_caller]
pub(super) fn reply(answer: &Answer) -> Vec<u8> {
    let challenges = challenges(answer);
    let token = challenges.first().and_then(|first| first.strip_prefix("Negotiate "));
    STANDARD.decode(token.unwrap_or_else(|| panic!("no token in {answer:?}"))).unwrap()
}

/// All of an answer that a client could tell it from another by.
fn looks(answer: &Answer) -> String {
    let mut body = answer.json();
    body["request_id"] = Value::Null;
    let mut headers = answer.headers.clone();
    headers.remove("x-request-id");
    headers.remove("date");
    format!("{} {headers:?} {body}", answer.status)
}

/// What curl says to `https://localhost`, with the ticket and nothing else.
fn curl(bed: &TestBed, ticket: &Ticket, path: &str, more: &[&str]) -> String {
    let url = bed.url().replace("127.0.0.1", "localhost");
    let mut curl = Command::new("curl");
    curl.args(["-s", "-i", "--http1.1", "--negotiate", "-u", ":", "--cacert"]);
    curl.arg(bed.ca_file()).args(more).arg(format!("{url}{path}"));
    curl.envs(ticket.iter().map(|(name, value)| (name, value)));
    let output = curl.output().expect("curl is installed");
    String::from_utf8_lossy(&output.stdout).into_owned()
}

/// How many records there are of logins, refused ones too.
fn logins(bed: &TestBed) -> usize {
    bed.records().iter().filter(|record| record["action"] == "login").count()
}

fn wish() -> Value {
    json!({ "cluster": "orders", "role": "orders_read" })
}

#[tokio::test]
async fn curl_logs_in_and_gets_a_role_by_a_ticket_alone() {
    let realm = Realm::start();
    let bed = start(&realm, "");
    let answer = curl(&bed, &realm.alice, "/v1/login", &["-X", "POST"]);
    assert!(answer.contains("HTTP/1.1 200"), "{answer}");
    assert!(answer.to_lowercase().contains("www-authenticate: negotiate "), "{answer}");
    let body: Value = serde_json::from_str(answer.lines().last().unwrap()).unwrap();
    assert_eq!(body["principal"], "gss:alice@CORP.TEST");
    assert_eq!((&body["method"], &body["issuer"]), (&json!("gss"), &json!("tickets")));
    let session = body["token"].as_str().unwrap();
    let who = bed.call(Method::GET, "/v1/whoami", Caller::Session(session), None).await;
    assert_eq!(who.text("/person"), "gss:tickets:alice@CORP.TEST");

    let body = wish().to_string();
    let more = ["-H", "content-type: application/json", "-d", &body];
    let answer = curl(&bed, &realm.alice, "/v1/leases", &more);
    assert!(answer.contains("HTTP/1.1 201"), "{answer}");
    let issued: Value = serde_json::from_str(answer.lines().last().unwrap()).unwrap();
    let role = issued["lease"]["role_name"].as_str().unwrap();
    assert!(role.contains("alice"), "{role}");
    assert_eq!(bed.lease_roles(), [role]);
    let records = bed.records();
    let issued = records.iter().find(|record| record["action"] == "lease.issued").unwrap();
    assert_eq!(issued["subject"]["principal"]["name"], "alice@CORP.TEST");
    assert_eq!(issued["rule"]["line"], 7);

    // Without a ticket there is nothing to show.
    let nobody = vec![realm.alice[0].clone(), ("KRB5CCNAME", "FILE:/nonexistent".to_owned())];
    let answer = curl(&bed, &nobody, "/v1/login", &["-X", "POST"]);
    assert!(answer.contains("HTTP/1.1 401"), "{answer}");
}

#[tokio::test]
async fn whoever_is_let_in_may_still_be_nobody_to_the_map() {
    let realm = Realm::start();
    // A role of the cluster has the same name, and that is worth nothing.
    realm.kdc.add(&["orders_read"]);
    let bed = start(&realm, "");
    let leases = format!("{}/v1/leases", bed.url());
    let ticket = realm.kdc.logged_in("orders_read", "unmapped");
    let mut client = Initiator::new(&ticket, SERVICE, &Wishes::default());
    let answer = send(&TestBed::client(), &leases, Some(&client.token()), Some(wish())).await;
    assert_eq!(answer.status, 403, "{answer:?}");
    // Also whoever is refused knows whom they have reached.
    assert_eq!(client.answer(&reply(&answer)), Heard::Complete);
    let alice = token(&realm.alice);
    let answer = send(&TestBed::client(), &leases, Some(&alice), Some(wish())).await;
    assert_eq!(answer.status, 201, "{answer:?}");
}

#[tokio::test]
async fn a_thousand_questions_leave_nothing_behind() {
    let realm = Realm::start();
    let bed = start(&realm, "");
    let (client, login) = (TestBed::client(), format!("{}/v1/login", bed.url()));
    let before = logins(&bed);
    for _ in 0..1000 {
        let asked = send(&client, &login, None, None).await;
        assert_eq!(asked.status, 401, "{asked:?}");
        assert_eq!(challenges(&asked)[0], "Negotiate", "{asked:?}");
    }
    let leases = send(&client, &format!("{}/v1/leases", bed.url()), None, Some(wish())).await;
    assert_eq!(challenges(&leases)[0], "Negotiate", "{leases:?}");
    assert!(challenges(&leases)[1].starts_with("Basic "), "{leases:?}");
    // So do negotiations that are begun and left lying, each on a connection of its own.
    for _ in 0..100 {
        let goes_on = log_in(&bed.url(), &offer(&[KRB5], None)).await;
        assert_eq!(goes_on.status, 401, "{goes_on:?}");
        assert!(!reply(&goes_on).is_empty());
    }
    assert_eq!(logins(&bed), before);
    // And nobody is locked out.
    let answer = log_in(&bed.url(), &token(&realm.alice)).await;
    assert_eq!(answer.status, 200, "{answer:?}");
    assert_eq!(logins(&bed), before + 1);
}

#[tokio::test]
async fn a_negotiation_goes_on_on_its_own_connection_only() {
    let realm = Realm::start();
    let bed = start(&realm, "");
    let login = format!("{}/v1/login", bed.url());
    let wishes = Wishes { without_spnego: true, ..Wishes::default() };
    let last = || {
        let token = Initiator::new(&realm.alice, SERVICE, &wishes).token();
        let der = super::tokens::der;
        der(0xa1, &[&der(0x30, &[&der(0xa2, &[&der(4, &[&token])])])])
    };
    let (here, elsewhere) = (TestBed::client(), TestBed::client());
    let begun = send(&here, &login, Some(&offer(&[KRB5], None)), None).await;
    assert_eq!(begun.status, 401, "{begun:?}");
    let stolen = send(&elsewhere, &login, Some(&last()), None).await;
    assert_eq!(stolen.status, 401, "{stolen:?}");
    let done = send(&here, &login, Some(&last()), None).await;
    assert_eq!(done.status, 200, "{done:?}");
    // The connection remembers nobody.
    let asked = send(&here, &login, None, None).await;
    assert_eq!(asked.status, 401, "{asked:?}");
}

#[tokio::test]
async fn every_ticket_that_is_refused_is_refused_alike_and_the_audit_has_the_reason() {
    let realm = Realm::start();
    let other = Kdc::start_as("OTHER.TEST");
    other.add(&["alice"]);
    realm.kdc.trust(&other);
    realm.kdc.add(&["alice/admin"]);
    let bed = start(&realm, "");
    let good = token(&realm.alice);
    let refused = [
        ("realm_not_allowed", token(&other.logged_in("alice", "foreign"))),
        ("principal_shape", realm.token_of("alice/admin", "admin")),
        ("token_refused", good[..good.len() / 2].to_vec()),
        ("mechanism_not_kerberos", b"NTLMSSP\0\x01\0\0\0\x97\x82\x08\xe2".to_vec()),
    ];
    let mut seen = Vec::new();
    for (cause, token) in refused {
        let answer = log_in(&bed.url(), &token).await;
        assert_eq!(answer.status, 401, "{cause}: {answer:?}");
        let id = answer.headers["x-request-id"].to_str().unwrap().to_owned();
        let records = bed.records();
        let told = records.iter().find(|record| record["request_id"] == id);
        let told = told.unwrap_or_else(|| panic!("{cause} has no record"));
        assert_eq!((&told["outcome"], &told["action"]), (&json!("refused"), &json!("login")));
        assert_eq!(told["cause"], cause, "{told}");
        assert_eq!(told["subject"]["way"], "tickets");
        seen.push(looks(&answer));
    }
    seen.dedup();
    assert_eq!(seen.len(), 1, "{seen:#?}");
    assert_eq!(log_in(&bed.url(), &good).await.status, 200);
}

#[tokio::test]
async fn a_token_is_good_once_over_all_brokers() {
    let realm = Realm::start();
    let server = StoreServer::start(16);
    server.make("store");
    let lines = server.lines("store");
    let bed = TestBed::start_with(15, |config| {
        with_tickets(&realm, "", &config.replace("path = \"pgbridge.db\"", &lines))
    });
    let fellow = bed.fellow();
    let first = token(&realm.alice);
    assert_eq!(log_in(&bed.url(), &first).await.status, 200);
    for url in [fellow.url(), bed.url()] {
        let again = log_in(&url, &first).await;
        assert_eq!(again.status, 401, "{again:?}");
        let leases = format!("{url}/v1/leases");
        let again = send(&TestBed::client(), &leases, Some(&first), Some(wish())).await;
        assert_eq!(again.status, 401, "{again:?}");
    }
    assert_eq!(log_in(&fellow.url(), &token(&realm.alice)).await.status, 200);
    // At the same moment it is good at one of them too.
    let both = token(&realm.alice);
    let (here, there) = (bed.url(), fellow.url());
    let (here, there) = tokio::join!(log_in(&here, &both), log_in(&there, &both));
    let mut statuses = [here.status, there.status];
    statuses.sort_unstable();
    assert_eq!(statuses, [200, 401]);
    let records = bed.records();
    let replayed = records.iter().filter(|record| record["cause"] == "token_replayed");
    assert_eq!(replayed.count(), 5);
}

#[tokio::test]
async fn a_token_must_be_bound_to_the_certificate_of_its_connection_where_that_is_required() {
    let realm = Realm::start();
    // Many tokens are shown in vain until the certificate is renewed.
    let patient = "\n[lockout]\nsource_failures = 10000\n";
    let bed = TestBed::start_with(16, |config| {
        with_tickets(&realm, "channel_binding = \"required\"", &(config + patient))
    });
    let bound_to = |certificate: PathBuf| {
        let pem = fs::read(certificate).unwrap();
        let certificate = CertificateDer::from_pem_slice(&pem).unwrap();
        let end_point = EndPoint::of_hash(digest(&SHA256, &certificate).as_ref());
        let wishes = Wishes { channel: Some(end_point.application_data()), ..Wishes::default() };
        Initiator::new(&realm.alice, SERVICE, &wishes).token()
    };
    let old = bound_to(bed.file("server.crt"));
    assert_eq!(log_in(&bed.url(), &token(&realm.alice)).await.status, 401);
    assert_eq!(log_in(&bed.url(), &bound_to(bed.ca_file())).await.status, 401);
    assert_eq!(log_in(&bed.url(), &old).await.status, 200);

    // A connection keeps the certificate that it was begun with, the next has the new one.
    let (kept, login) = (TestBed::client(), format!("{}/v1/login", bed.url()));
    assert_eq!(send(&kept, &login, None, None).await.status, 401);
    let of_before = || bound_to(bed.file("before.crt"));
    fs::copy(bed.file("server.crt"), bed.file("before.crt")).unwrap();
    let renewed = TestCa::shared().server_certificate();
    fs::write(bed.file("server.crt"), renewed.certificate).unwrap();
    fs::write(bed.file("server.key"), renewed.key).unwrap();
    bed.signal(Signal::Hangup);
    until("the new certificate to be served", async || {
        let answer = log_in(&bed.url(), &bound_to(bed.file("server.crt"))).await;
        (answer.status == 200).then_some(())
    })
    .await;
    assert_eq!(log_in(&bed.url(), &of_before()).await.status, 401);
    let answer = send(&kept, &login, Some(&of_before()), None).await;
    assert_eq!(answer.status, 200, "{answer:?}");
}

#[tokio::test]
async fn the_host_that_a_client_names_has_no_influence() {
    let realm = Realm::start();
    realm.kdc.add(&["HTTP/127.0.0.1"]);
    realm.kdc.keytab("HTTP/127.0.0.1", "service.keytab");
    let bed = start(&realm, "");
    let login = format!("{}/v1/login", bed.url());
    let other = "HTTP/127.0.0.1@CORP.TEST";
    let for_other = Initiator::new(&realm.alice, other, &Wishes::default()).token();
    // The URL names 127.0.0.1, whose keys are in the keytab, and another service is configured.
    assert_eq!(log_in(&bed.url(), &for_other).await.status, 401);
    assert_eq!(log_in(&bed.url(), &token(&realm.alice)).await.status, 200);
    let localhost = login.replace("127.0.0.1", "localhost");
    let answer = send(&TestBed::client(), &localhost, Some(&token(&realm.alice)), None).await;
    assert_eq!(answer.status, 200, "{answer:?}");
}

#[tokio::test]
async fn tickets_and_passwords_are_two_doors_and_one_is_used_at_a_time() {
    let realm = Realm::start();
    let bed = start(&realm, "");
    let login = format!("{}/v1/login", bed.url());
    // Nobody has to say which of the two ways takes passwords, or which takes tickets.
    bed.login("alice").await;
    let password = json!({ "username": "bob", "password": crate::support::password_of("bob") });
    let both = send(&TestBed::client(), &login, Some(b"x"), Some(password.clone())).await;
    assert_eq!(both.status, 400, "{both:?}");
    let mut at_tickets = password.clone();
    at_tickets["way"] = json!("tickets");
    let refused = send(&TestBed::client(), &login, None, Some(at_tickets)).await;
    assert_eq!(refused.status, 401, "{refused:?}");
    let ticket = |way: &str| {
        let shown = format!("Negotiate {}", STANDARD.encode(token(&realm.alice)));
        let request = TestBed::client().post(&login).header("authorization", shown);
        request.header("x-pgbridge-way", way).send()
    };
    assert_eq!(ticket("corp").await.unwrap().status(), 401);
    assert_eq!(ticket("tickets").await.unwrap().status(), 200);
    // A session and a ticket are not one another's either.
    let with_ticket = format!("Negotiate {}", STANDARD.encode(token(&realm.alice)));
    let listed = TestBed::client().get(format!("{}/v1/leases", bed.url()));
    let listed = listed.header("authorization", with_ticket).send().await.unwrap();
    assert_eq!(listed.status(), 401);
}

#[tokio::test]
async fn ten_thousand_broken_tokens_do_no_harm() {
    let realm = Realm::start();
    let bed = start(&realm, "");
    let (client, login) = (TestBed::client(), format!("{}/v1/login", bed.url()));
    let before = logins(&bed);
    let mut locked = 0;
    for number in 0..10_000_u32 {
        let broken = [&b"\xa1\x07\x30\x05\xa2\x03\x04\x01"[..], &number.to_be_bytes()].concat();
        let answer = send(&client, &login, Some(&broken), None).await;
        assert!([401, 429].contains(&answer.status), "{answer:?}");
        locked += u32::from(answer.status == 429);
    }
    assert!(locked > 9000, "{locked}");
    let written = logins(&bed) - before;
    assert!(written < 100, "{written} records");
    // Who has a ticket is let in all the same: a ticket is no guess.
    assert_eq!(log_in(&bed.url(), &token(&realm.alice)).await.status, 200);
    // A token of the greatest length is looked at.
    let longest = send(&client, &login, Some(&vec![0x60; 64 * 1024]), None).await;
    assert_eq!(longest.status, 429, "{longest:?}");
}
