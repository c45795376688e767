//! A power cut before every step of a lease's life. Whatever was done by then, after the next start
//! the lease roles on the cluster are those of the live leases, and no other.

use std::collections::BTreeSet;
use std::time::Duration;

use pgbridge::crash::PLACES;
use reqwest::Method;
use serde_json::{Value, json};

use crate::support::{Answer, Caller, TestBed, wait_for};

/// How long a broker may take, once it is back, to have everything in order.
const SOON: Duration = Duration::from_secs(30);

/// Compares often, and gives up soon on a role that was to be made.
fn bed(major: u32) -> TestBed {
    TestBed::start_with(major, |config| {
        config.replace("[broker]", "[broker]\nreconcile_every = \"1s\"\ncreate_within = \"1s\"")
    })
}

fn places(step: &str) -> impl Iterator<Item = &'static str> {
    let chosen: Vec<&str> = PLACES.into_iter().filter(|place| place.starts_with(step)).collect();
    assert!(!chosen.is_empty(), "no place begins with {step}");
    chosen.into_iter()
}

async fn issue(bed: &TestBed, token: &str) -> Answer {
    let wish = json!({ "cluster": "orders", "role": "orders_write", "ttl": "10m", "reason": "r" });
    bed.call(Method::POST, "/v1/leases", Caller::Session(token), Some(wish)).await
}

/// The roles of live leases, as the broker tells.
async fn live(bed: &TestBed, token: &str) -> BTreeSet<String> {
    let path = "/v1/leases?state=intent,active,revoking,quarantined";
    let answer = bed.call(Method::GET, path, Caller::Session(token), None).await;
    assert_eq!(answer.status, 200, "{answer:?}");
    let leases = answer.json()["leases"].as_array().expect("a list").clone();
    let name = |lease: &Value| lease["role_name"].as_str().expect("a name").to_owned();
    leases.iter().map(name).collect()
}

/// Returns once the roles on the cluster are those of the live leases, and so many.
async fn in_order(bed: &TestBed, token: &str, count: usize) -> BTreeSet<String> {
    let deadline = tokio::time::Instant::now() + SOON;
    loop {
        let (live, roles) = (live(bed, token).await, bed.lease_roles());
        let roles: BTreeSet<String> = roles.into_iter().collect();
        if live == roles && live.len() == count {
            return live;
        }
        assert!(
            tokio::time::Instant::now() < deadline,
            "leases {live:?}, roles {roles:?}\n{}",
            bed.log()
        );
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
}

/// Runs `request` on a broker that ends itself at `place`, and starts it again.
async fn crash_at(
    bed: &mut TestBed,
    place: &str,
    request: (Method, String, Option<Value>),
    token: &str,
) {
    bed.stop();
    bed.start_again_to_crash(place);
    let (method, path, body) = request;
    let answer = bed.try_call(method, &path, Caller::Session(token), body).await;
    assert!(answer.is_err(), "{place}: {answer:?}");
    bed.wait_for_its_end();
    bed.start_again();
}

async fn while_issuing(major: u32) {
    let mut bed = bed(major);
    let token = bed.login("bob").await;
    for place in places("issue") {
        let wish = json!({ "cluster": "orders", "role": "orders_write", "reason": "r" });
        let request = (Method::POST, "/v1/leases".to_owned(), Some(wish));
        crash_at(&mut bed, place, request, &token).await;
        // Nobody has the password of the last one; it ends with its TTL, or when it is asked for again.
        let left = usize::from(place == "issue before the answer");
        in_order(&bed, &token, left).await;
    }
    assert_eq!(issue(&bed, &token).await.status, 201);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_crash_before_any_step_of_issuing_leaves_no_role_without_a_lease_on_15() {
    while_issuing(15).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_crash_before_any_step_of_issuing_leaves_no_role_without_a_lease_on_16() {
    while_issuing(16).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_crash_before_any_step_of_renewing_leaves_no_role_that_outlives_its_lease() {
    let mut bed = bed(16);
    let token = bed.login("bob").await;
    for (place, renewed) in places("renew").zip(1..) {
        let lease = issue(&bed, &token).await;
        let (id, role) = (lease.text("/lease/id"), lease.text("/lease/role_name"));
        let path = format!("/v1/leases/{id}/renew");
        crash_at(&mut bed, place, (Method::POST, path, Some(json!({ "ttl": "20m" }))), &token)
            .await;
        assert!(in_order(&bed, &token, renewed).await.contains(&role), "{place}");
        let lease =
            bed.call(Method::GET, &format!("/v1/leases/{id}"), Caller::Session(&token), None).await;
        let ends = lease.text("/expires_at");
        let outlives = format!(
            "SELECT rolvaliduntil > timestamptz '{ends}' + interval '1 second' FROM pg_roles WHERE rolname = '{role}'"
        );
        assert_eq!(bed.postgres.sql("postgres", &outlives), [["f"]], "{place}");
    }
}

async fn while_revoking(major: u32) {
    let mut bed = bed(major);
    let token = bed.login("bob").await;
    for place in places("revoke") {
        let lease = issue(&bed, &token).await;
        let (id, role) = (lease.text("/lease/id"), lease.text("/lease/role_name"));
        let table = "CREATE TABLE workbench.mine (n integer); DROP TABLE IF EXISTS workbench.gone";
        let made = bed.postgres.sql_as(&role, &lease.text("/password"), "orders", table);
        assert_eq!(made, Ok(Vec::new()), "{place}");
        crash_at(&mut bed, place, (Method::DELETE, format!("/v1/leases/{id}"), None), &token).await;
        let again = format!("/v1/leases/{id}");
        let revoked = bed.call(Method::DELETE, &again, Caller::Session(&token), None).await;
        assert_eq!(revoked.status, 200, "{place}: {revoked:?}");
        wait_for("the end of the role", SOON, || bed.lease_roles().is_empty().then_some(()));
        in_order(&bed, &token, 0).await;
        let one_end = format!(
            "SELECT count(*) FROM pg_class WHERE relname = 'mine' AND relowner = 'pgbridge_attic'::regrole -- {id}"
        );
        assert_eq!(bed.postgres.sql("orders", &one_end), [["1"]], "{place}");
        bed.postgres.sql("orders", "DROP TABLE workbench.mine");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_crash_before_any_step_of_revoking_is_made_good_on_15() {
    while_revoking(15).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_crash_before_any_step_of_revoking_is_made_good_on_16() {
    while_revoking(16).await;
}
