//! Who gets in by the directory, and who is locked out.

use std::collections::BTreeSet;

use reqwest::Method;
use serde_json::{Value, json};

use super::{issue, read_orders};
use crate::support::{Caller, TestBed, password_of};

#[tokio::test]
async fn every_failed_login_looks_the_same_and_the_audit_knows_the_reason() {
    let bed = TestBed::start(15);
    let tries = [
        ("alice", "wrong"),
        ("alice", ""),
        ("nobody-here", "wrong"),
        ("dave", &password_of("dave")),
        ("*", "wrong"),
        ("alice)(uid=*", &password_of("alice")),
        ("al\0ice", &password_of("alice")),
    ];
    let mut seen = BTreeSet::new();
    for (username, password) in tries {
        let body = json!({ "username": username, "password": password });
        let answer = bed.call(Method::POST, "/v1/login", Caller::Nobody, Some(body)).await;
        assert_eq!(answer.status, 401, "{username:?}: {answer:?}");
        let mut problem = answer.json();
        problem["request_id"] = Value::Null;
        seen.insert(problem.to_string());
    }
    assert_eq!(seen.len(), 1, "{seen:?}");
    bed.login("alice").await;
    let causes: Vec<String> = bed
        .records()
        .iter()
        .filter(|record| record["action"] == "login" && record["outcome"] == "refused")
        .map(|record| record["cause"].as_str().expect("a cause").to_owned())
        .collect();
    let known = [
        "wrong_password",
        "blank_password",
        "unknown_account",
        "locked",
        "unknown_account",
        "unknown_account",
        "impossible_name",
    ];
    assert_eq!(causes, known);
}

#[tokio::test]
async fn an_account_is_locked_out_under_every_spelling_and_others_are_not() {
    let bed = TestBed::start(16);
    let login = async |username: &str, password: &str| {
        let body = json!({ "username": username, "password": password });
        bed.call(Method::POST, "/v1/login", Caller::Nobody, Some(body)).await.status
    };
    for username in ["alice", "ALICE", " alice", "alice ", "Alice"] {
        assert_eq!(login(username, "wrong").await, 401);
    }
    assert_eq!(login("alice", &password_of("alice")).await, 401);
    assert_eq!(login("bob", &password_of("bob")).await, 200);
    let basic = issue(&bed, Caller::Basic("aLiCe", &password_of("alice")), read_orders()).await;
    assert_eq!(basic.status, 401);
    let last = bed.records().into_iter().rfind(|record| record["outcome"] == "refused");
    assert_eq!(last.expect("a refusal")["cause"], "account_locked_out");
}

/// Right passwords side by side lock nobody out; wrong ones are not more than the rule allows.
#[tokio::test]
async fn attempts_side_by_side_count_as_if_they_came_one_by_one() {
    let bed = TestBed::start(16);
    let login = async |username: &str, password: String| {
        let body = json!({ "username": username, "password": password });
        bed.call(Method::POST, "/v1/login", Caller::Nobody, Some(body)).await.status
    };
    let right = (0..16).map(|_| login("bob", password_of("bob")));
    assert_eq!(futures::future::join_all(right).await, [200; 16]);
    let wrong = (0..20).map(|guess| login("alice", format!("guess {guess}")));
    assert_eq!(futures::future::join_all(wrong).await, [401; 20]);
    let judged = bed.records().iter().filter(|record| record["cause"] == "wrong_password").count();
    assert_eq!(judged, 5);
}

/// No name that somebody types elsewhere reads as the counter of another account.
#[tokio::test]
async fn a_name_made_like_a_counter_locks_nobody_out() {
    let bed = TestBed::start(15);
    let login = async |username: &str, password: &str| {
        let body = json!({ "username": username, "password": password });
        bed.call(Method::POST, "/v1/login", Caller::Nobody, Some(body)).await.status
    };
    for name in ["alice from 127.0.0.1", "127.0.0.1:corp:alice", "corp:alice"] {
        for _ in 0..5 {
            assert_eq!(login(name, "guess").await, 401);
        }
    }
    // One slip of her own: were those counted with it, it would be one too many.
    assert_eq!(login("alice", "slip").await, 401);
    assert_eq!(login("alice", &password_of("alice")).await, 200);
}

/// A way in that does not exist counts for its source.
#[tokio::test]
async fn unknown_ways_count_and_refusals_of_the_locked_out_do_not_fill_the_audit() {
    let bed = TestBed::start_with(16, |config| {
        format!("{config}\n[lockout]\nsource_failures = 4\npause = \"1h\"\n")
    });
    let mut answers = Vec::new();
    for _ in 0..12 {
        let body = json!({ "way": "nowhere", "username": "eve", "password": "guess" });
        let answer = bed.call(Method::POST, "/v1/login", Caller::Nobody, Some(body)).await;
        answers.push(answer.status);
    }
    assert_eq!(answers, [[401; 4].as_slice(), [429; 8].as_slice()].concat());
    let refused = bed.records().into_iter().filter(|record| record["outcome"] == "refused");
    let causes: Vec<Value> = refused.map(|record| record["cause"].clone()).collect();
    let written = ["unknown_way", "unknown_way", "unknown_way", "unknown_way", "source_locked_out"];
    assert_eq!(causes, written);
}

#[tokio::test]
async fn a_source_that_fails_too_often_waits_and_is_told_how_long() {
    let bed = TestBed::start_with(15, |config| {
        format!("{config}\n[lockout]\nsource_failures = 3\npause = \"1h\"\n")
    });
    for account in ["eve-1", "eve-2", "eve-3"] {
        let body = json!({ "username": account, "password": "guess" });
        let answer = bed.call(Method::POST, "/v1/login", Caller::Nobody, Some(body)).await;
        assert_eq!(answer.status, 401);
    }
    let body = json!({ "username": "bob", "password": password_of("bob") });
    let answer = bed.call(Method::POST, "/v1/login", Caller::Nobody, Some(body)).await;
    assert_eq!(answer.status, 429);
    let wait = answer.headers.get("retry-after").expect("how long").to_str().expect("text");
    assert!((3500..=3600).contains(&wait.parse::<u32>().expect("seconds")), "{wait}");
}

#[tokio::test]
async fn a_directory_that_is_down_or_hangs_judges_nobody_and_locks_nobody_out() {
    let mut bed = TestBed::start_with(16, |config| {
        config.replace("ldapscheme", "timeout = \"2s\"\ndeadline = \"5s\"\nldapscheme")
    });
    let token = bed.login("alice").await;
    let login = async |bed: &TestBed| {
        let body = json!({ "username": "alice", "password": password_of("alice") });
        bed.call(Method::POST, "/v1/login", Caller::Nobody, Some(body)).await.status
    };
    bed.directory.hang();
    for _ in 0..7 {
        assert_eq!(login(&bed).await, 503);
    }
    bed.directory.resume();
    bed.directory.stop();
    assert_eq!(login(&bed).await, 503);
    // Who is in stays in: the directory is asked at login only.
    assert_eq!(issue(&bed, Caller::Session(&token), read_orders()).await.status, 201);
    bed.directory.start_again();
    assert_eq!(login(&bed).await, 200);
}
