//! The API as programs call it, with a real cluster and a real directory behind it.

use std::collections::BTreeSet;
use std::process::Command;

use reqwest::Method;
use serde_json::{Value, json};

use crate::support::broker::Answer;
use crate::support::{Caller, SOON, TestBed, locked_roles, password_of, until, wait_for, waiting};

/// The word of a problem, after checking that it is a whole one.
#[track_caller]
fn problem(answer: &Answer) -> String {
    let body = answer.json();
    assert_eq!(answer.headers["content-type"], "application/problem+json", "{answer:?}");
    assert_eq!(body["status"], answer.status, "{answer:?}");
    assert_eq!(body["request_id"].as_str().unwrap(), answer.headers["x-request-id"], "{answer:?}");
    let kind = body["type"].as_str().unwrap().strip_prefix("urn:pgbridge:problem:");
    kind.unwrap().to_owned()
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

async fn issue(bed: &TestBed, caller: Caller<'_>, body: Value) -> Answer {
    bed.call(Method::POST, "/v1/leases", caller, Some(body)).await
}

async fn get(bed: &TestBed, caller: Caller<'_>, path: &str) -> Answer {
    bed.call(Method::GET, path, caller, None).await
}

/// Runs psql with nothing but the connection URI of an answer.
fn psql(uri: &str, text: &str) -> Result<String, String> {
    let mut psql = Command::new("psql");
    let output = psql.args(["-XAtq", "-c", text, uri]).env_clear().output().unwrap();
    let said = |bytes: &[u8]| String::from_utf8_lossy(bytes).trim().to_owned();
    if output.status.success() { Ok(said(&output.stdout)) } else { Err(said(&output.stderr)) }
}

#[tokio::test]
async fn a_role_is_issued_to_its_networks_only() {
    let networks = |config: String| {
        let elsewhere = "role = \"orders_read\"\nnetworks = [\"10.0.0.0/8\", \"::1/128\"]";
        let here = "role = \"orders_write\"\nnetworks = [\"127.0.0.0/8\"]";
        let config = config.replace("role = \"orders_read\"", elsewhere);
        config.replace("role = \"orders_write\"", here)
    };
    let bed = TestBed::start_with(16, networks);
    let token = bed.login("bob").await;
    let bob = Caller::Session(&token);
    let roles = get(&bed, bob, "/v1/roles").await.json();
    assert_eq!(roles["roles"].as_array().unwrap().len(), 1, "{roles}");
    let wish = |role: &str| json!({ "cluster": "orders", "role": role, "reason": "x" });
    assert_eq!(problem(&issue(&bed, bob, wish("orders_read")).await), "not-on-offer");
    let url = format!("{}/v1/leases", bed.url());
    let spoofed = TestBed::client().post(url).bearer_auth(&token).json(&wish("orders_read"));
    let spoofed = spoofed.header("x-forwarded-for", "10.0.0.1").header("forwarded", "for=10.0.0.1");
    assert_eq!(spoofed.send().await.unwrap().status(), 403);
    assert_eq!(issue(&bed, bob, wish("orders_write")).await.status, 201);
}

#[tokio::test]
async fn an_answer_about_a_lease_says_where_it_is_and_is_kept_nowhere() {
    let bed = TestBed::start(16);
    let token = bed.login("alice").await;
    let alice = Caller::Session(&token);
    let issued = issue(&bed, alice, json!({ "cluster": "orders" })).await;
    assert_eq!(issued.status, 201, "{issued:?}");
    assert_eq!(issued.headers["cache-control"], "no-store");
    assert_eq!(issued.headers["strict-transport-security"], "max-age=31536000");
    let path = format!("/v1/leases/{}", issued.text("/lease/id"));
    assert_eq!(issued.headers["location"], path);
    let uri = issued.text("/uri");
    assert_eq!(psql(&uri, "SELECT current_user"), Ok(issued.text("/lease/role_name")));
    let shown = get(&bed, alice, &path).await.json();
    assert_eq!(shown, issued.json()["lease"]);

    let renewed = bed.call(Method::POST, &format!("{path}/renew"), alice, None).await;
    assert_eq!(renewed.status, 200, "{renewed:?}");
    let revoked = bed.call(Method::DELETE, &path, alice, None).await;
    assert_eq!(revoked.status, 200, "{revoked:?}");
    let again = bed.call(Method::DELETE, &path, alice, None).await;
    assert_eq!(again.json(), revoked.json());
    psql(&uri, "SELECT 1").unwrap_err();

    let log = bed.log();
    let line = log.lines().find(|line| line.contains("/v1/leases/{id}")).expect("a line");
    let line: Value = serde_json::from_str(line).unwrap();
    for (field, value) in [("principal", "ldap:corp:alice"), ("client", "127.0.0.1")] {
        assert_eq!(line[field], value, "{line}");
    }
    assert_eq!(line["status"], 200, "{line}");
    assert!(log.contains(issued.headers["x-request-id"].to_str().unwrap()));
}

#[tokio::test]
async fn the_key_of_a_wish_stands_in_the_header_or_in_the_body() {
    let bed = TestBed::start(16);
    let token = bed.login("alice").await;
    let send = async |key: &str, body: Value| {
        let url = format!("{}/v1/leases", bed.url());
        let request = TestBed::client().post(url).bearer_auth(&token).json(&body);
        request.header("idempotency-key", key).send().await.unwrap().status().as_u16()
    };
    let keyed = || json!({ "cluster": "orders", "idempotency_key": "k-1" });
    assert_eq!(issue(&bed, Caller::Session(&token), keyed()).await.status, 201);
    assert_eq!(send("\"k-2\"", keyed()).await, 422);
    assert_eq!(send("\"k-1\"", json!({ "cluster": "orders" })).await, 201);
    wait_for("the first lease to go", SOON, || (bed.lease_roles().len() == 1).then_some(()));
    assert_eq!(send("k-2", json!({ "cluster": "orders" })).await, 201);
    assert_eq!(bed.lease_roles().len(), 2);
}

/// The list of routes is the document's own, so that a new one cannot be forgotten.
#[tokio::test]
async fn anothers_living_lease_is_answered_like_none_on_every_route() {
    let bed = TestBed::start(16);
    let (alice, bob) = (bed.login("alice").await, bed.login("bob").await);
    let (alice, bob) = (Caller::Session(&alice), Caller::Session(&bob));
    let issued = issue(&bed, alice, json!({ "cluster": "orders" })).await;
    let id = issued.text("/lease/id");

    let document = get(&bed, Caller::Nobody, "/openapi.json").await.json();
    let paths = document["paths"].as_object().unwrap();
    let mut tried = 0;
    let of_people = |path: &str| path.contains("{id}") && !path.starts_with("/v1/operator/");
    for (path, item) in paths.iter().filter(|(path, _)| of_people(path)) {
        for method in item.as_object().unwrap().keys() {
            let method: Method = method.to_uppercase().parse().unwrap();
            let of = async |id: &str| {
                let answer = bed.call(method.clone(), &path.replace("{id}", id), bob, None).await;
                assert_eq!(answer.status, 404, "{method} {path}: {answer:?}");
                looks(&answer)
            };
            assert_eq!(of(&id).await, of("abcdefghijklmnop").await, "{method} {path}");
            assert_eq!(of(&id).await, of("x").await, "{method} {path}");
            tried += 1;
        }
    }
    assert_eq!(tried, 3);
    assert!(psql(&issued.text("/uri"), "SELECT 1").is_ok());
    let own = get(&bed, alice, &format!("/v1/leases/{id}")).await;
    assert_eq!(own.text("/state"), "active");
}

#[tokio::test]
async fn the_lease_of_a_client_that_hung_up_is_taken_away() {
    let bed = TestBed::start(16);
    let token = bed.login("alice").await;
    let alice = Caller::Session(&token);
    // Nobody can make a role while this is held, so the wish waits in the middle of its work.
    let lock = locked_roles(&bed).await;
    let url = format!("{}/v1/leases", bed.url());
    let wish =
        TestBed::client().post(url).bearer_auth(&token).json(&json!({ "cluster": "orders" }));
    let asked = tokio::spawn(wish.send());
    waiting(&bed).await;
    let id = get(&bed, alice, "/v1/leases?state=intent").await.text("/leases/0/id");
    asked.abort();
    assert!(asked.await.unwrap_err().is_cancelled());
    bed.is_left_alone().await;
    lock.batch_execute("ROLLBACK").await.unwrap();
    let lease = until("the end of the lease", async || {
        let lease = get(&bed, alice, &format!("/v1/leases/{id}")).await;
        (lease.text("/state") == "revoked").then_some(lease)
    })
    .await;
    assert_eq!(lease.text("/end"), "undelivered", "{lease:?}");
    assert!(bed.lease_roles().is_empty());
}

#[tokio::test]
async fn a_party_that_is_away_is_said_to_be_and_nothing_more_is_said() {
    let mut bed = TestBed::start(16);
    let token = bed.login("alice").await;
    let wish = || json!({ "cluster": "orders" });
    bed.postgres.stop();
    let away = issue(&bed, Caller::Session(&token), wish()).await;
    assert_eq!((away.status, problem(&away).as_str()), (503, "cluster-away"), "{away:?}");
    let said = away.text("/detail");
    let expected = "cluster `orders` cannot be reached now, nothing was issued; try again soon";
    assert_eq!(said, expected);
    assert!(away.headers.contains_key("retry-after"), "{away:?}");
    for word in ["refused", "connect", "out of reach", &bed.postgres.port().to_string()] {
        assert!(!away.body.contains(word), "{word}: {away:?}");
    }
    assert!(bed.log().contains("the role could not be created"));
    bed.postgres.start_again();
    let back = issue(&bed, Caller::Session(&token), wish()).await;
    assert_eq!(back.status, 201, "{back:?}");

    bed.postgres.stop();
    let path = format!("/v1/leases/{}", back.text("/lease/id"));
    let longer = Some(json!({ "ttl": "2h" }));
    let renew = format!("{path}/renew");
    let renewed = bed.call(Method::POST, &renew, Caller::Session(&token), longer.clone()).await;
    assert_eq!((renewed.status, problem(&renewed).as_str()), (502, "not-extended"), "{renewed:?}");
    let lease = get(&bed, Caller::Session(&token), &path).await;
    assert_eq!(lease.text("/expires_at"), back.text("/lease/expires_at"), "the former end holds");
    bed.postgres.start_again();
    let renewed = bed.call(Method::POST, &renew, Caller::Session(&token), longer).await;
    assert_eq!(renewed.status, 200, "{renewed:?}");
    assert!(renewed.text("/expires_at") > lease.text("/expires_at"));

    bed.directory.stop();
    let body = json!({ "username": "alice", "password": password_of("alice") });
    let away = bed.call(Method::POST, "/v1/login", Caller::Nobody, Some(body)).await;
    assert_eq!((away.status, problem(&away).as_str()), (503, "directory-away"), "{away:?}");
    assert!(away.headers.contains_key("retry-after"), "{away:?}");
    let ready = until("the directory to be seen down", async || {
        let ready = get(&bed, Caller::Nobody, "/readyz").await;
        (ready.status == 503).then_some(ready)
    })
    .await;
    assert_eq!(ready.json()["ways"], "down", "{ready:?}");
    assert_eq!(get(&bed, Caller::Nobody, "/healthz").await.status, 200);
}

/// I-13.
#[tokio::test]
async fn whatever_somebody_is_refused_is_written_down_with_its_reason() {
    let bed = TestBed::start(16);
    let (bob, carol) = (bed.login("bob").await, bed.login("carol").await);
    let (bob, carol) = (Caller::Session(&bob), Caller::Session(&carol));
    let wish = |role: Option<&str>, ttl: &str| json!({ "cluster": "orders", "role": role, "ttl": ttl, "reason": "x" });
    let held = issue(&bed, bob, wish(Some("orders_read"), "10m")).await;
    let path = format!("/v1/leases/{}", held.text("/lease/id"));
    let renew = async |caller, ttl: &str| {
        let body = Some(json!({ "ttl": ttl }));
        bed.call(Method::POST, &format!("{path}/renew"), caller, body).await
    };
    let mut refused = vec![
        ("role_needed", issue(&bed, bob, wish(None, "10m")).await),
        ("unfit_wish", issue(&bed, bob, wish(Some("orders_read"), "30d")).await),
        ("not_mapped", issue(&bed, bob, wish(Some("reports_read"), "10m")).await),
        ("not_the_holder", renew(carol, "10m").await),
        ("ttl_too_long", renew(bob, "30d").await),
        ("duty_needed", get(&bed, bob, "/v1/operator/leases").await),
    ];
    assert_eq!(renew(bob, "20m").await.status, 200);
    assert_eq!(bed.call(Method::DELETE, &path, bob, None).await.status, 200);
    refused.push(("lease_over", renew(bob, "10m").await));
    let records = bed.records();
    for (cause, answer) in &refused {
        assert!((400..500).contains(&answer.status), "{cause}: {answer:?}");
        let id = answer.headers["x-request-id"].to_str().unwrap();
        let told: Vec<&Value> =
            records.iter().filter(|record| record["request_id"] == id).collect();
        assert_eq!(told.len(), 1, "{cause}: {answer:?}");
        assert_eq!((&told[0]["outcome"], &told[0]["cause"]), (&json!("refused"), &json!(cause)));
    }
    let id = held.headers["x-request-id"].to_str().unwrap();
    let told = records.iter().filter(|record| record["request_id"] == id);
    assert!(told.clone().all(|record| record["outcome"] == "done") && told.count() == 2);
}

/// Brokers of one store must go by one map, and somebody must be able to see whether they do.
#[tokio::test]
async fn a_broker_says_what_it_runs_and_by_which_map() {
    let bed = TestBed::start(16);
    let token = bed.login("alice").await;
    let roles = get(&bed, Caller::Session(&token), "/v1/roles").await;
    let (version, map) = (env!("CARGO_PKG_VERSION"), roles.text("/roles/0/map_revision"));
    let log = bed.log();
    let start = log.lines().find(|line| line.contains("starting")).expect("it says so");
    for told in [version, "pgbridge.db", "orders", "corp", &map] {
        assert!(start.contains(told), "{told}: {start}");
    }
    let metrics = get(&bed, Caller::Nobody, "/metrics").await.body;
    let info = format!("pgbridge_info{{version=\"{version}\",map_revision=\"{map}\"}} 1");
    assert!(metrics.lines().any(|line| line == info), "{metrics}");
}

/// An alert on a metric that is spelled differently would never sound.
#[tokio::test]
async fn every_metric_that_an_alert_watches_is_there() {
    let mut bed = TestBed::start(16);
    let token = bed.login("alice").await;
    let alice = Caller::Session(&token);
    assert_eq!(issue(&bed, alice, json!({ "cluster": "orders" })).await.status, 201);
    let refused = issue(&bed, alice, json!({ "cluster": "orders", "role": "reports_read" })).await;
    assert_eq!(problem(&refused), "not-on-offer");
    let wrong = issue(&bed, Caller::Basic("bob", "wrong"), json!({ "cluster": "orders" })).await;
    assert_eq!(problem(&wrong), "login-refused");
    bed.postgres.stop();
    assert_eq!(issue(&bed, alice, json!({ "cluster": "orders" })).await.status, 503);
    let metrics = get(&bed, Caller::Nobody, "/metrics").await.body;
    let shown: BTreeSet<&str> = metrics
        .lines()
        .filter(|line| !line.starts_with('#'))
        .filter_map(|line| line.split(['{', ' ']).next())
        .collect();

    let alerts = include_str!("../config/alerts.yaml");
    let words = alerts.split(|letter: char| !letter.is_ascii_alphanumeric() && letter != '_');
    let watched: BTreeSet<&str> = words
        .filter(|word| word.starts_with("pgbridge_") || word.starts_with("http_request"))
        .collect();
    assert!(watched.len() > 10, "{watched:?}");
    for metric in watched {
        assert!(shown.iter().any(|shown| shown.starts_with(metric)), "{metric}\n{metrics}");
        let family = metric.trim_end_matches("_bucket");
        assert!(metrics.contains(&format!("# HELP {family} ")), "{family}\n{metrics}");
    }
    assert_eq!(alerts.matches("- alert: ").count(), alerts.matches("summary: ").count());
    assert_eq!(alerts.matches("- alert: ").count(), alerts.matches("description: ").count());
}

#[test]
fn every_metric_that_is_written_is_described() {
    let sources = Command::new("grep")
        .args(["-rhozP", r#"(counter|gauge|histogram)!\(\s*"\K[a-z_]+"#, "--include=*.rs"])
        .arg(concat!(env!("CARGO_MANIFEST_DIR"), "/src"))
        .output()
        .expect("grep is there");
    let written = String::from_utf8(sources.stdout).expect("sources are UTF-8");
    let written: BTreeSet<&str> = written.split('\0').filter(|name| !name.is_empty()).collect();
    assert!(written.len() > 15, "{written:?}");
    let telemetry = include_str!("../src/http/telemetry.rs");
    let (_, described) = telemetry.split_once("const METRICS").expect("the table is there");
    let (described, _) = described.split_once("];").expect("it ends");
    for metric in written {
        assert!(described.contains(&format!("\"{metric}\",")), "{metric} is not described");
    }
}

#[test]
fn every_log_line_that_an_alert_names_is_one_that_the_broker_writes() {
    let alerts = include_str!("../config/alerts.yaml");
    let alerts = alerts.split_whitespace().collect::<Vec<_>>().join(" ");
    let named: Vec<&str> = alerts
        .split("log line \"")
        .skip(1)
        .filter_map(|rest| rest.split_once('"').map(|(line, _)| line))
        .collect();
    assert!(named.len() >= 5, "{named:?}");
    let sources = Command::new("grep")
        .args(["-rhE", "^[^/]*\"", "--include=*.rs"])
        .arg(concat!(env!("CARGO_MANIFEST_DIR"), "/src"))
        .output()
        .expect("grep is there");
    let written = String::from_utf8(sources.stdout).expect("sources are UTF-8");
    for line in named {
        assert!(written.contains(&format!("\"{line}")), "no such line: {line}");
    }
}
