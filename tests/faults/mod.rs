//! Faults of the network, the disk, the clocks and the store, on a real cluster.

mod clocks;
mod clusters;
mod cuts;
mod disk;
mod hosts;
mod network;
mod store;

use std::collections::BTreeSet;
use std::process::Command;
use std::time::Duration;

use reqwest::Method;
use serde_json::{Value, json};

use crate::support::{Answer, Caller, TestBed};

/// How long the broker's own work may take to show.
const SOON: Duration = Duration::from_secs(40);

/// A broker that compares often, and gives up soon on a role that was to be made.
fn bed(major: u32) -> TestBed {
    TestBed::start_with(major, often)
}

fn often(config: String) -> String {
    config.replace("[broker]", "[broker]\nreconcile_every = \"1s\"\ncreate_within = \"2s\"")
}

fn wish(ttl: &str) -> Value {
    json!({ "cluster": "orders", "role": "orders_read", "ttl": ttl })
}

async fn issue(bed: &TestBed, token: &str, ttl: &str) -> Answer {
    bed.call(Method::POST, "/v1/leases", Caller::Session(token), Some(wish(ttl))).await
}

/// Issues and gives id, role and password of the lease.
async fn held(bed: &TestBed, token: &str, ttl: &str) -> [String; 3] {
    let answer = issue(bed, token, ttl).await;
    assert_eq!(answer.status, 201, "{answer:?}\n{}", bed.log());
    ["/lease/id", "/lease/role_name", "/password"].map(|pointer| answer.text(pointer))
}

/// Issues until that is possible.
async fn held_in_the_end(bed: &TestBed, token: &str, ttl: &str) -> [String; 3] {
    until("a lease", async || {
        let answer = issue(bed, token, ttl).await;
        let held = ["/lease/id", "/lease/role_name", "/password"];
        (answer.status == 201).then(|| held.map(|pointer| answer.text(pointer)))
    })
    .await
}

/// The answer was an error that says so, and holds no password.
#[track_caller]
fn assert_refused(answer: &Answer) {
    assert!(answer.status >= 400, "{answer:?}");
    assert!(answer.json().get("password").is_none(), "{answer:?}");
}

async fn revoke(bed: &TestBed, token: &str, id: &str) -> Answer {
    bed.call(Method::DELETE, &format!("/v1/leases/{id}"), Caller::Session(token), None).await
}

async fn lease(bed: &TestBed, token: &str, id: &str) -> Answer {
    bed.call(Method::GET, &format!("/v1/leases/{id}"), Caller::Session(token), None).await
}

/// Returns once the lease is in `state`.
async fn is_in_state(bed: &TestBed, token: &str, id: &str, state: &str) -> Answer {
    until(&format!("state {state} of {id}"), async || {
        let answer = lease(bed, token, id).await;
        (answer.status == 200 && answer.text("/state") == state).then_some(answer)
    })
    .await
}

/// The roles of the person's live leases, as the broker tells.
async fn live(bed: &TestBed, token: &str) -> Option<BTreeSet<String>> {
    let path = "/v1/leases?state=intent,active,revoking,quarantined";
    let answer = bed.call(Method::GET, path, Caller::Session(token), None).await;
    let leases = answer.json()["leases"].as_array()?.clone();
    leases.iter().map(|lease| lease["role_name"].as_str().map(str::to_owned)).collect()
}

/// Returns once the roles on the cluster are `roles`, and the live leases theirs.
async fn in_order(bed: &TestBed, token: &str, roles: &[&str]) {
    let wanted: BTreeSet<String> = roles.iter().map(|role| (*role).to_owned()).collect();
    let mut seen = String::new();
    let deadline = tokio::time::Instant::now() + SOON;
    while tokio::time::Instant::now() < deadline {
        let (live, roles) = (live(bed, token).await, bed.lease_roles());
        let roles: BTreeSet<String> = roles.into_iter().collect();
        if live.as_ref() == Some(&wanted) && roles == wanted {
            return;
        }
        seen = format!("leases {live:?}, roles {roles:?}, wanted {wanted:?}");
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
    panic!("{seen}\n{}", bed.log());
}

/// Asks `probe` until it gives a value.
async fn until<T>(what: &str, mut probe: impl AsyncFnMut() -> Option<T>) -> T {
    let deadline = tokio::time::Instant::now() + SOON;
    loop {
        if let Some(found) = probe().await {
            return found;
        }
        assert!(tokio::time::Instant::now() < deadline, "waited {SOON:?} for {what}");
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
}

/// Every record of the audit.
fn records(bed: &TestBed) -> Vec<Value> {
    let mut export = Command::new(env!("CARGO_BIN_EXE_pgbridge"));
    export.args(["audit", "export", "--config"]).arg(bed.file("pgbridge.toml"));
    let output = export.output().expect("pgbridge can be run");
    assert!(output.status.success(), "{output:?}");
    let text = String::from_utf8(output.stdout).expect("JSON lines");
    let lines = text.lines().map(|line| serde_json::from_str(line).expect("a JSON line"));
    lines.map(|line: Value| line.get("record").cloned().unwrap_or(line)).collect()
}

/// How many records there are of `action` about the lease `id`.
fn told(bed: &TestBed, action: &str, id: &str) -> usize {
    let about = |record: &&Value| record["action"] == action && record["lease"] == id;
    records(bed).iter().filter(about).count()
}

/// Whether the role can log in, or has a right by being in a group.
fn has_access(bed: &TestBed, role: &str) -> bool {
    let query = format!(
        "SELECT 1 FROM pg_roles AS r WHERE rolname = '{role}' AND (rolcanlogin AND \
         coalesce(rolvaliduntil > now(), true) OR EXISTS (SELECT FROM pg_auth_members \
         WHERE member = r.oid))"
    );
    !bed.postgres.sql("postgres", &query).is_empty()
}
