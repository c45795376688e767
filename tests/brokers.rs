//! Several brokers on one store, without a leader: the real program twice, beside each other.

use std::fs;

use reqwest::Method;
use serde_json::{Value, json};

use crate::support::{
    Answer, Caller, Fellow, SOON, StoreServer, TestBed, password_of, until, wait_for,
};

/// A broker on a store of its own server, which may have fellows.
fn start(edit: impl Fn(String) -> String) -> (TestBed, StoreServer) {
    let server = StoreServer::start(16);
    server.make("store");
    let lines = server.lines("store");
    let bed = TestBed::start_with(15, |config| {
        let config = config.replace("path = \"pgbridge.db\"", &lines);
        edit(config.replace("[broker]", "[broker]\nreconcile_every = \"1s\""))
    });
    (bed, server)
}

fn wish(ttl: &str) -> Value {
    json!({ "cluster": "orders", "role": "orders_read", "ttl": ttl })
}

#[track_caller]
fn held(answer: &Answer) -> (String, String, String) {
    assert_eq!(answer.status, 201, "{answer:?}");
    (answer.text("/lease/id"), answer.text("/lease/role_name"), answer.text("/password"))
}

#[tokio::test]
async fn a_login_at_one_broker_is_good_at_the_other_until_it_ends_at_either() {
    let (bed, _server) = start(|config| config);
    let fellow = bed.fellow();
    let token = bed.login("alice").await;
    let who = async |at: &Fellow, token: &str| {
        at.call(Method::GET, "/v1/whoami", Caller::Session(token), None).await.status
    };
    assert_eq!(who(&fellow, &token).await, 200);
    let out = fellow.call(Method::POST, "/v1/logout", Caller::Session(&token), None).await;
    assert_eq!(out.status, 204, "{out:?}");
    let again = bed.call(Method::GET, "/v1/whoami", Caller::Session(&token), None).await;
    assert_eq!(again.status, 401);

    let (here, there) = (bed.login("alice").await, fellow.login("alice").await);
    let operator = bed.login("carol").await;
    let end = json!({ "person": "ldap:corp:alice" });
    let ended =
        bed.call(Method::POST, "/v1/operator/revoke", Caller::Session(&operator), Some(end)).await;
    assert_eq!(ended.status, 200, "{ended:?}");
    assert_eq!(who(&fellow, &here).await, 401);
    assert_eq!(who(&fellow, &there).await, 401);
    assert_eq!(who(&fellow, &operator).await, 200);
}

#[tokio::test]
async fn an_account_that_is_locked_out_at_one_broker_is_locked_out_at_the_other() {
    let (bed, _server) = start(|config| config);
    let fellow = bed.fellow();
    let login = |password: &str| Some(json!({ "username": "alice", "password": password }));
    for attempt in 0..5 {
        let body = login("wrong");
        let answer = if attempt % 2 == 0 {
            bed.call(Method::POST, "/v1/login", Caller::Nobody, body).await
        } else {
            fellow.call(Method::POST, "/v1/login", Caller::Nobody, body).await
        };
        assert_eq!(answer.status, 401, "{answer:?}");
    }
    let right = login(&password_of("alice"));
    for answer in [
        bed.call(Method::POST, "/v1/login", Caller::Nobody, right.clone()).await,
        fellow.call(Method::POST, "/v1/login", Caller::Nobody, right).await,
    ] {
        assert_eq!(answer.status, 401, "{answer:?}");
    }
    fellow.login("bob").await;
}

#[tokio::test]
async fn a_lease_of_one_broker_is_renewed_and_revoked_at_the_other() {
    let (bed, _server) = start(|config| config);
    let fellow = bed.fellow();
    let token = bed.login("alice").await;
    let alice = Caller::Session(&token);
    let answer = bed.call(Method::POST, "/v1/leases", alice, Some(wish("10m"))).await;
    let (id, role, password) = held(&answer);
    assert!(bed.postgres.sql_as(&role, &password, "orders", "SELECT 1").is_ok());

    let path = format!("/v1/leases/{id}/renew");
    let renewed = fellow.call(Method::POST, &path, alice, Some(json!({ "ttl": "2h" }))).await;
    assert_eq!(renewed.status, 200, "{renewed:?}");
    let longer = format!(
        "SELECT rolvaliduntil > now() + interval '1 hour' FROM pg_roles WHERE rolname = '{role}'"
    );
    assert_eq!(bed.postgres.sql("postgres", &longer), [["t"]]);
    let gone = fellow.call(Method::DELETE, &format!("/v1/leases/{id}"), alice, None).await;
    assert_eq!((gone.status, gone.text("/state").as_str()), (200, "revoked"), "{gone:?}");
    assert!(bed.lease_roles().is_empty());
    assert!(bed.postgres.sql_as(&role, &password, "orders", "SELECT 1").is_err());

    let records = bed.records();
    let story: Vec<&str> = records
        .iter()
        .filter(|record| record["lease"] == *id)
        .map(|record| record["action"].as_str().expect("an action"))
        .collect();
    let told = [
        "lease.requested",
        "lease.issued",
        "lease.renewed",
        "lease.revoke_requested",
        "lease.access_ended",
        "lease.revoked",
    ];
    assert_eq!(story, told);
    let numbers: Vec<u64> = records.iter().filter_map(|record| record["seq"].as_u64()).collect();
    assert_eq!(numbers, (1..=records.len() as u64).collect::<Vec<_>>());
}

#[tokio::test]
async fn the_same_wish_at_both_brokers_gives_one_lease() {
    let (bed, server) = start(|config| config);
    let fellow = bed.fellow();
    let token = bed.login("alice").await;
    let key = "the-same-key";
    let ask = |url: String| {
        let request = TestBed::client().post(format!("{url}/v1/leases")).bearer_auth(&token);
        request.header("idempotency-key", key).json(&wish("10m")).send()
    };
    for _ in 0..5 {
        let (here, there) = tokio::join!(ask(bed.url()), ask(fellow.url()));
        let statuses = [here, there].map(|answer| answer.expect("an answer").status().as_u16());
        assert!(statuses.contains(&201), "{statuses:?}");
        let live = "SELECT count(*) FROM pgbridge.lease \
                    WHERE request_key IS NOT NULL AND state IN ('intent', 'active')";
        assert_eq!(server.postgres.sql("store", live), [["1"]]);
    }
    wait_for("the replaced ones to go", SOON, || (bed.lease_roles().len() == 1).then_some(()));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_a_killed_broker_had_begun_the_other_one_ends() {
    let edit = |config: String| config.replace("[broker]", "[broker]\ncreate_within = \"5s\"");
    let (bed, server) = start(edit);
    let mut fellow = bed.fellow();
    let token = bed.login("alice").await;
    let path = "/v1/leases";
    let delivered =
        fellow.call(Method::POST, path, Caller::Session(&token), Some(wish("3s"))).await;
    held(&delivered);
    // Killed in the middle of many.
    let calls: Vec<_> =
        (0..12).map(|_| fellow.calling(Method::POST, path, &token, wish("3s"))).collect();
    wait_for("some of them to have begun", SOON, || (bed.lease_roles().len() > 3).then_some(()));
    fellow.kill();
    for call in calls {
        drop(call.await);
    }
    wait_for("every role to be gone", SOON, || bed.lease_roles().is_empty().then_some(()));
    let left = "SELECT count(*) FROM pgbridge.lease WHERE state NOT IN ('revoked', 'aborted')";
    wait_for("every lease to be over", SOON, || {
        (server.postgres.sql("store", left) == [["0"]]).then_some(())
    });
    let answer = bed.call(Method::POST, path, Caller::Session(&token), Some(wish("10m"))).await;
    held(&answer);
}

#[test]
fn a_broker_with_another_marker_key_or_none_does_not_start() {
    let (bed, _server) = start(|config| config);
    let mut fellow = bed.fellow_files();
    let key = fellow.file("marker.key");
    let right = fs::read_to_string(bed.file("marker.key")).expect("a key");

    fellow.write("marker.key", &"ab".repeat(32));
    assert!(!fellow.start());
    assert!(fellow.log().contains("copy the file from another broker"), "{}", fellow.log());

    fs::remove_file(&key).expect("it was there");
    assert!(!fellow.start());
    assert!(fellow.log().contains("is missing"), "{}", fellow.log());
    assert!(!key.exists(), "a key was made");

    fellow.write("marker.key", &right);
    assert!(fellow.start(), "{}", fellow.log());
}

#[tokio::test]
async fn while_the_store_is_down_both_brokers_say_so_and_afterwards_go_on_by_themselves() {
    let (bed, mut server) = start(|config| config);
    let fellow = bed.fellow();
    let token = bed.login("alice").await;
    let alice = Caller::Session(&token);
    let answer = bed.call(Method::POST, "/v1/leases", alice, Some(wish("10m"))).await;
    let (id, ..) = held(&answer);
    let readiness = async |at_bed: bool| {
        if at_bed {
            bed.call(Method::GET, "/readyz", Caller::Nobody, None).await
        } else {
            fellow.call(Method::GET, "/readyz", Caller::Nobody, None).await
        }
    };
    server.postgres.stop();
    for at_bed in [true, false] {
        until("the store to be seen down", async || {
            (readiness(at_bed).await.status == 503).then_some(())
        })
        .await;
        assert_eq!(readiness(at_bed).await.json()["store"], "down");
    }
    let refused = bed.call(Method::POST, "/v1/leases", alice, Some(wish("10m"))).await;
    assert_eq!(refused.status, 503, "{refused:?}");

    server.postgres.start_again();
    for at_bed in [true, false] {
        until("the store to be seen up", async || {
            (readiness(at_bed).await.status == 200).then_some(())
        })
        .await;
    }
    let answer = fellow.call(Method::POST, "/v1/leases", alice, Some(wish("10m"))).await;
    held(&answer);
    let gone = fellow.call(Method::DELETE, &format!("/v1/leases/{id}"), alice, None).await;
    assert_eq!((gone.status, gone.text("/state").as_str()), (200, "revoked"), "{gone:?}");
}

/// One SQLite file is served once; a copy of the configuration does not make it two.
#[test]
fn a_second_broker_on_the_same_sqlite_file_does_not_start() {
    let bed = TestBed::start(16);
    let mut fellow = bed.fellow_files();
    let config = fs::read_to_string(fellow.file("pgbridge.toml")).expect("it was copied");
    let there = format!("path = \"{}\"", bed.file("pgbridge.db").display());
    let config = config.replace("path = \"pgbridge.db\"", &there);
    fellow.write("pgbridge.toml", &config);
    assert!(!fellow.start());
    assert!(fellow.log().contains("another pgbridge is serving it"), "{}", fellow.log());
}
