//! The API as programs call it, with a real cluster and a real directory behind it.

use std::collections::BTreeSet;
use std::fs;
use std::process::Command;
use std::time::Duration;

use reqwest::Method;
use serde_json::{Value, json};

use crate::support::broker::Answer;
use crate::support::{Caller, TestBed, password_of, wait_for};

const SOON: Duration = Duration::from_secs(20);

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

/// The audit as it is exported, one JSON record a line.
fn audit(bed: &TestBed) -> Vec<Value> {
    let mut export = bed.cli("auditor");
    export.args(["audit", "export", "--config"]).arg(bed.file("pgbridge.toml"));
    let output = export.output().unwrap();
    assert!(output.status.success(), "{output:?}");
    let text = String::from_utf8(output.stdout).unwrap();
    text.lines().map(|line| serde_json::from_str(line).unwrap()).collect()
}

#[tokio::test]
async fn a_password_becomes_a_role_that_is_renewed_and_given_back() {
    for major in [15, 16] {
        let bed = TestBed::start(major);
        let token = bed.login("bob").await;
        let bob = Caller::Session(&token);
        let whoami = get(&bed, bob, "/v1/whoami").await;
        assert_eq!(whoami.text("/person"), "ldap:corp:bob");
        let roles = get(&bed, bob, "/v1/roles").await.json();
        let names: Vec<&str> = roles["roles"]
            .as_array()
            .unwrap()
            .iter()
            .map(|r| r["role"].as_str().unwrap())
            .collect();
        assert_eq!(names, ["orders_read", "orders_write"]);

        let body = json!({ "cluster": "orders", "role": "orders_write", "reason": "ticket 4711" });
        let issued = issue(&bed, bob, body).await;
        assert_eq!(issued.status, 201, "{issued:?}");
        assert_eq!(issued.headers["cache-control"], "no-store");
        let path = format!("/v1/leases/{}", issued.text("/lease/id"));
        assert_eq!(issued.headers["location"], path);
        assert_eq!(issued.text("/lease/reason"), "ticket 4711");
        assert_eq!(issued.text("/connection/sslmode"), "verify-full");
        assert!(issued.text("/connection/root_certificate").contains("BEGIN CERTIFICATE"));
        let uri = issued.text("/uri");
        let role = issued.text("/lease/role_name");
        assert_eq!(psql(&uri, "SELECT current_user"), Ok(role.clone()));

        let shown = get(&bed, bob, &path).await.json();
        assert_eq!(shown, issued.json()["lease"]);
        let listed = get(&bed, bob, "/v1/leases?state=active").await.json();
        assert_eq!(listed["leases"], json!([shown]));
        let until = || {
            let text = format!("SELECT rolvaliduntil FROM pg_roles WHERE rolname = '{role}'");
            bed.postgres.sql("postgres", &text).concat().concat()
        };
        let before = until();
        let renew = format!("{path}/renew");
        let renewed = bed.call(Method::POST, &renew, bob, Some(json!({ "ttl": "50m" }))).await;
        assert_eq!(renewed.status, 200, "{renewed:?}");
        assert!(renewed.text("/expires_at") > issued.text("/lease/expires_at"), "{renewed:?}");
        assert_ne!(until(), before);
        let without_body = bed.call(Method::POST, &renew, bob, None).await;
        assert_eq!(without_body.status, 200, "{without_body:?}");
        let too_long = bed.call(Method::POST, &renew, bob, Some(json!({ "ttl": "2h" }))).await;
        assert_eq!(problem(&too_long), "ttl-too-long");

        let revoked = bed.call(Method::DELETE, &path, bob, None).await;
        assert_eq!((revoked.status, revoked.text("/state").as_str()), (200, "revoked"));
        assert_eq!(revoked.text("/end"), "released");
        assert!(bed.lease_roles().is_empty());
        psql(&uri, "SELECT 1").unwrap_err();
        let again = bed.call(Method::DELETE, &path, bob, None).await;
        assert_eq!(again.json(), revoked.json());
        let renewed = bed.call(Method::POST, &renew, bob, None).await;
        assert_eq!(problem(&renewed), "lease-over");

        assert_eq!(bed.call(Method::POST, "/v1/logout", bob, None).await.status, 204);
        assert_eq!(problem(&get(&bed, bob, "/v1/whoami").await), "not-logged-in");
    }
}

#[tokio::test]
async fn one_call_with_a_password_is_enough_and_a_key_has_one_lease() {
    let bed = TestBed::start(16);
    let password = password_of("alice");
    let alice = Caller::Basic("alice", &password);
    let keyed = || json!({ "cluster": "orders", "idempotency_key": "k-1" });
    let first = issue(&bed, alice, keyed()).await;
    assert_eq!(first.status, 201, "{first:?}");
    assert!(psql(&first.text("/uri"), "SELECT count(*) FROM sales.customer").is_ok());
    let url = format!("{}/v1/leases", bed.url());
    let send = |key: &'static str, body: Value| {
        let request = TestBed::client().post(&url).basic_auth("alice", Some(&password));
        request.header("idempotency-key", key).json(&body).send()
    };
    let differ = send("\"k-2\"", keyed()).await.unwrap();
    assert_eq!(differ.status(), 422);
    let second = send("\"k-1\"", json!({ "cluster": "orders" })).await.unwrap();
    assert_eq!(second.status(), 201);
    let second: Value = second.json().await.unwrap();
    wait_for("the first lease to be replaced", SOON, || {
        (bed.lease_roles().len() == 1).then_some(())
    });
    assert_eq!(bed.lease_roles(), [second["lease"]["role_name"].as_str().unwrap()]);
    psql(&first.text("/uri"), "SELECT 1").unwrap_err();
    let other = issue(&bed, alice, json!({ "cluster": "orders", "idempotency_key": "k-3" })).await;
    assert_eq!(other.status, 201);
    assert_eq!(bed.lease_roles().len(), 2);
}

#[tokio::test]
async fn every_refused_login_looks_the_same_and_the_audit_knows_why() {
    let bed = TestBed::start(16);
    let right = password_of("alice");
    let attempts = [
        ("alice", "wrong"),
        ("alice", ""),
        ("alice", " "),
        ("nobody", "wrong"),
        ("dave", &password_of("dave")),
        ("twin", "twin-password"),
        ("*", &right),
        ("alice)(uid=*", &right),
        ("uid=alice,ou=people,dc=example,dc=test", &right),
        ("", &right),
        ("\"; DROP ROLE orders_read; --\n\u{1b}[31m", "wrong"),
    ];
    let mut seen = BTreeSet::new();
    for (username, password) in attempts {
        let body = json!({ "username": username, "password": password });
        let answer = bed.call(Method::POST, "/v1/login", Caller::Nobody, Some(body)).await;
        assert_eq!(answer.status, 401, "{username}: {answer:?}");
        seen.insert(looks(&answer));
    }
    assert_eq!(seen.len(), 1, "{seen:#?}");
    let basic = issue(&bed, Caller::Basic("alice", "wrong"), json!({ "cluster": "orders" })).await;
    assert_eq!(problem(&basic), "login-refused");
    bed.login("alice").await;
    assert!(!bed.log().contains('\u{1b}'));

    let audit = audit(&bed);
    let refused: Vec<&Value> = audit
        .iter()
        .filter(|record| record["action"] == "login" && record["outcome"] == "refused")
        .collect();
    assert_eq!(refused.len(), attempts.len() + 1, "{refused:#?}");
    let causes: BTreeSet<&str> = refused.iter().filter_map(|one| one["cause"].as_str()).collect();
    assert!(causes.len() > 3, "{causes:?}");
    for record in refused {
        assert_eq!(record["client"], "127.0.0.1", "{record}");
        assert_eq!(record["request_id"].as_str().unwrap().len(), 32, "{record}");
    }
}

#[tokio::test]
async fn guessing_ends_in_a_lock_out_of_the_account_and_then_of_the_address() {
    let bed = TestBed::start_with(16, |config| config + "\n[lockout]\nsource_failures = 8\n");
    let login = async |username: &str, password: &str| {
        let body = json!({ "username": username, "password": password });
        bed.call(Method::POST, "/v1/login", Caller::Nobody, Some(body)).await
    };
    let mut seen = BTreeSet::new();
    for username in ["alice", "ALICE", " alice", "Alice ", "\u{ff41}lice"] {
        seen.insert(looks(&login(username, "wrong").await));
    }
    let right = password_of("alice");
    seen.insert(looks(&login("alice", &right).await));
    assert_eq!(seen.len(), 1, "{seen:#?}");
    // Another account is not locked, and its success costs the address nothing.
    bed.login("bob").await;
    bed.login("bob").await;
    login("carol", "wrong").await;
    let mut last = login("carol", "wrong").await;
    for _ in 0..3 {
        last = login("bob", &password_of("bob")).await;
    }
    assert_eq!((last.status, problem(&last).as_str()), (429, "too-many-attempts"), "{last:?}");
    let seconds: u64 = last.headers["retry-after"].to_str().unwrap().parse().unwrap();
    assert!((1..=900).contains(&seconds), "{seconds}");
    let metrics = get(&bed, Caller::Nobody, "/metrics").await.body;
    for cause in ["account_locked_out", "source_locked_out"] {
        let line = format!("pgbridge_logins_refused_total{{cause=\"{cause}\"}}");
        assert!(metrics.contains(&line), "{line}\n{metrics}");
    }
}

#[tokio::test]
async fn a_lease_is_its_holders_alone_but_an_operator_may_end_it() {
    let bed = TestBed::start(16);
    let (alice, bob, carol) =
        (bed.login("alice").await, bed.login("bob").await, bed.login("carol").await);
    let (alice, bob, carol) =
        (Caller::Session(&alice), Caller::Session(&bob), Caller::Session(&carol));
    let issued = issue(&bed, alice, json!({ "cluster": "orders" })).await;
    let (id, uri) = (issued.text("/lease/id"), issued.text("/uri"));

    let document = get(&bed, Caller::Nobody, "/openapi.json").await.json();
    let paths = document["paths"].as_object().unwrap();
    let mut tried = 0;
    for (path, item) in paths.iter().filter(|(path, _)| path.contains("{id}")) {
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
    assert_eq!(get(&bed, bob, "/v1/leases").await.json(), json!({ "leases": [] }));
    assert!(psql(&uri, "SELECT 1").is_ok());

    for caller in [alice, bob] {
        assert_eq!(problem(&get(&bed, caller, "/v1/operator/leases").await), "duty-needed");
        let body = json!({ "person": "ldap:corp:alice" });
        let answer = bed.call(Method::POST, "/v1/operator/revoke", caller, Some(body)).await;
        assert_eq!(problem(&answer), "duty-needed");
    }
    let all = get(&bed, carol, "/v1/operator/leases?person=ldap:corp:alice&cluster=orders").await;
    assert_eq!(all.json()["leases"][0]["id"], id, "{all:?}");
    let end = async |person: &str| {
        let body = json!({ "person": person });
        bed.call(Method::POST, "/v1/operator/revoke", carol, Some(body)).await
    };
    assert_eq!(end("ldap:corp:bob").await.json(), json!({ "leases": [] }));
    assert!(psql(&uri, "SELECT 1").is_ok());
    let ended = end("ldap:corp:alice").await;
    assert_eq!((ended.status, ended.text("/leases/0/state").as_str()), (200, "revoked"));
    assert_eq!(ended.text("/leases/0/end"), "operator");
    psql(&uri, "SELECT 1").unwrap_err();
    assert!(bed.lease_roles().is_empty());
}

#[tokio::test]
async fn a_lease_ends_by_itself_and_no_secret_stays_anywhere() {
    let bed = TestBed::start(16);
    let token = bed.login("alice").await;
    let alice = Caller::Session(&token);
    let issued = issue(&bed, alice, json!({ "cluster": "orders", "ttl": "2s" })).await;
    let kept = issue(&bed, alice, json!({ "cluster": "orders", "ttl": "1h" })).await;
    let role = kept.text("/lease/role_name");
    wait_for("the short lease to end", SOON, || {
        (bed.lease_roles() == [role.clone()]).then_some(())
    });
    let path = format!("/v1/leases/{}", issued.text("/lease/id"));
    let ended = get(&bed, alice, &path).await;
    assert_eq!((ended.text("/state"), ended.text("/end")), ("revoked".into(), "expired".into()));
    let renew = bed.call(Method::POST, &format!("{path}/renew"), alice, None).await;
    assert_eq!(problem(&renew), "lease-over");

    // A secret where it does not belong comes back in no answer and is written down nowhere.
    let (password, secret) = (password_of("alice"), kept.text("/password"));
    let misplaced = json!({ "username": "alice", "password": [password], "token": token });
    let refused = bed.call(Method::POST, "/v1/login", Caller::Nobody, Some(misplaced)).await;
    assert_eq!(problem(&refused), "body-unfit");
    assert!(!refused.body.contains(&password) && !refused.body.contains(&token), "{refused:?}");
    psql(&kept.text("/uri"), "SELECT count(*) FROM sales.customer").unwrap();
    let audit = audit(&bed).into_iter().map(|record| record.to_string()).collect::<Vec<_>>();
    let activity = bed.postgres.sql("postgres", "SELECT query FROM pg_stat_activity").concat();
    let mut places = vec![
        ("log of the broker", bed.log()),
        ("log of the cluster", bed.postgres.log()),
        ("audit", audit.join("\n")),
        ("activity", activity.join("\n")),
        ("metrics", get(&bed, Caller::Nobody, "/metrics").await.body),
    ];
    for name in ["pgbridge.db", "pgbridge.db-wal"] {
        let bytes = fs::read(bed.file(name)).unwrap_or_default();
        places.push(("store", String::from_utf8_lossy(&bytes).into_owned()));
    }
    for (place, text) in places {
        for (what, canary) in [("login", &password), ("token", &token), ("role", &secret)] {
            assert!(!text.contains(canary.as_str()), "the {what} secret is in the {place}");
        }
    }
    let line = bed.log().lines().find(|line| line.contains("/v1/leases/{id}")).map(str::to_owned);
    let line: Value = serde_json::from_str(&line.expect("a line of the access log")).unwrap();
    assert_eq!(line["principal"], "ldap:corp:alice", "{line}");
    assert_eq!(line["method"], "GET", "{line}");
    assert_eq!(line["status"], 200, "{line}");
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
async fn a_party_that_is_away_is_said_to_be_and_comes_back() {
    let mut bed = TestBed::start(16);
    let token = bed.login("alice").await;
    let wish = || json!({ "cluster": "orders" });
    let metrics = get(&bed, Caller::Nobody, "/metrics").await.body;
    assert!(metrics.contains("pgbridge_ready 1"), "{metrics}");

    bed.postgres.stop();
    let away = issue(&bed, Caller::Session(&token), wish()).await;
    assert_eq!((away.status, problem(&away).as_str()), (502, "role-not-created"), "{away:?}");
    for word in ["refused", "connect", "5432", &bed.postgres.port().to_string()] {
        assert!(!away.body.contains(word), "{word}: {away:?}");
    }
    bed.postgres.start_again();
    let back = issue(&bed, Caller::Session(&token), wish()).await;
    assert_eq!(back.status, 201, "{back:?}");

    bed.directory.stop();
    let password = password_of("alice");
    let body = json!({ "username": "alice", "password": password });
    let away = bed.call(Method::POST, "/v1/login", Caller::Nobody, Some(body)).await;
    assert_eq!((away.status, problem(&away).as_str()), (503, "directory-away"), "{away:?}");
    assert!(away.headers.contains_key("retry-after"), "{away:?}");
    // A session needs no directory.
    assert_eq!(issue(&bed, Caller::Session(&token), wish()).await.status, 201);
    let mut ready = get(&bed, Caller::Nobody, "/readyz").await;
    for _ in 0..100 {
        if ready.status == 503 {
            break;
        }
        tokio::time::sleep(Duration::from_millis(200)).await;
        ready = get(&bed, Caller::Nobody, "/readyz").await;
    }
    assert_eq!(ready.json()["ways"], "down", "{ready:?}");
    assert_eq!(get(&bed, Caller::Nobody, "/healthz").await.status, 200);
    bed.directory.start_again();
    bed.login("alice").await;
}
