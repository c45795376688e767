//! `+role`: whoever the map lets act as the members of a group role is let in by what the cluster
//! says of memberships now.

use std::fs;

use reqwest::Method;
use serde_json::{Value, json};

use super::{decided_again, every, held, in_force, is_seen, issue, of_action, replace};
use crate::support::{Answer, Caller, Signal, TestBed, until};

/// A map by which alice may act as whatever is a member of the group role `lendable`.
const MAP: &str = "corp alice +lendable\ncorp bob orders_write\n\
                   corp-groups \"cn=nobody\" orders_read\n\
                   duties \"cn=auditors,ou=groups,dc=example,dc=test\" auditor\n";

async fn start(major: u32) -> TestBed {
    start_with(major, |config| config).await
}

async fn start_with(major: u32, edit: impl Fn(String) -> String) -> TestBed {
    let bed = TestBed::start_with(major, |config| edit(every("1h")(config)));
    bed.postgres.sql("postgres", "CREATE ROLE lendable NOLOGIN");
    fs::write(bed.file("pg_ident.conf"), MAP).expect("written");
    bed.signal(Signal::Hangup);
    in_force(&bed, 1).await;
    bed
}

async fn offered(bed: &TestBed, caller: Caller<'_>) -> (Vec<String>, Value) {
    let answer = bed.call(Method::GET, "/v1/roles", caller, None).await.json();
    let offers = answer["roles"].as_array().expect("a list");
    let roles = offers.iter().map(|offer| offer["role"].as_str().expect("a role").to_owned());
    (roles.collect(), answer["undecided"].clone())
}

async fn renew(bed: &TestBed, caller: Caller<'_>, id: &str) -> Answer {
    let path = format!("/v1/leases/{id}/renew");
    bed.call(Method::POST, &path, caller, Some(json!({}))).await
}

/// Membership goes by way of `between`, with whatever options the major has to make it useless.
async fn members_are_let_in_for_as_long_as_they_are(major: u32, options: &str) {
    let bed = start(major).await;
    let token = bed.login("alice").await;
    let alice = Caller::Session(&token);
    let nothing = (Vec::<String>::new(), json!([]));
    assert_eq!(offered(&bed, alice).await, nothing);
    let refused = issue(&bed, alice, "orders_read").await;
    assert!(refused.text("/type").ends_with(":not-on-offer"), "{refused:?}");

    let sql = |text: &str| drop(bed.postgres.sql("postgres", text));
    sql("CREATE ROLE between NOLOGIN NOINHERIT");
    sql(&format!("GRANT lendable TO between{options}"));
    sql(&format!("GRANT between TO orders_read{options}"));
    assert_eq!(offered(&bed, alice).await, (vec!["orders_read".to_owned()], json!([])));
    let issued = issue(&bed, alice, "orders_read").await;
    let (id, role, _) = held(&issued);
    assert_eq!(issued.json()["lease"]["rule"], json!({ "file": "pg_ident.conf", "line": 1 }));
    assert_eq!(decided_again(&bed, &id).await.1, "alice");
    assert_eq!(issue(&bed, alice, "reports_read").await.status, 403);
    assert_eq!(issue(&bed, alice, "orders_write").await.status, 403);
    assert_eq!(renew(&bed, alice, &id).await.status, 200);

    // Taken out of the middle, at once, also for what was asked a moment ago.
    sql("REVOKE lendable FROM between");
    assert_eq!(issue(&bed, alice, "orders_read").await.status, 403);
    assert_eq!(offered(&bed, alice).await, nothing);
    assert_eq!(bed.lease_roles(), [role]);
    let withdrawn = renew(&bed, alice, &id).await;
    assert!(withdrawn.text("/type").ends_with(":not-on-offer"), "{withdrawn:?}");
    until("the role to be gone", async || bed.lease_roles().is_empty().then_some(())).await;
    // What let her in then can still be told.
    assert_eq!(decided_again(&bed, &id).await.1, "alice");
    // A superuser is a member of nothing that does not say so.
    sql("ALTER ROLE orders_read SUPERUSER");
    assert_eq!(issue(&bed, alice, "orders_read").await.status, 403);
    let causes: Vec<Value> = of_action(&bed, "lease.requested")
        .into_iter()
        .filter(|record| record["outcome"] == "refused")
        .map(|record| record["cause"].clone())
        .collect();
    assert!(causes.iter().all(|cause| cause == "not_mapped"), "{causes:?}");
}

#[tokio::test]
async fn members_of_a_group_role_are_let_in_for_as_long_as_they_are_on_13() {
    members_are_let_in_for_as_long_as_they_are(13, "").await;
}

#[tokio::test]
async fn members_of_a_group_role_are_let_in_for_as_long_as_they_are_on_16() {
    members_are_let_in_for_as_long_as_they_are(16, " WITH INHERIT FALSE, SET FALSE").await;
}

#[tokio::test]
async fn members_of_a_group_role_are_let_in_for_as_long_as_they_are_on_18() {
    members_are_let_in_for_as_long_as_they_are(18, " WITH INHERIT FALSE, SET FALSE").await;
}

#[tokio::test]
async fn who_is_no_member_any_more_loses_the_lease_within_the_period_without_asking() {
    let bed = start_with(18, |config| {
        let often = "[broker]\nrecheck_every = \"10s\"\nrecheck_grace = \"20s\"";
        config.replace("[broker]", often)
    })
    .await;
    bed.postgres.sql("postgres", "GRANT lendable TO orders_read, reports_read");
    let token = bed.login("alice").await;
    let alice = Caller::Session(&token);
    held(&issue(&bed, alice, "orders_read").await);
    let wish = json!({ "cluster": "orders", "role": "reports_read", "ttl": "10m" });
    let (_, kept, _) = held(&bed.call(Method::POST, "/v1/leases", alice, Some(wish)).await);
    bed.postgres.sql("postgres", "REVOKE lendable FROM orders_read");
    until("the role to be gone", async || (bed.lease_roles() == [kept.clone()]).then_some(()))
        .await;
    let ended = of_action(&bed, "lease.revoke_requested");
    assert_eq!((ended.len(), &ended[0]["cause"]), (1, &json!("withdrawn")));
}

#[tokio::test]
async fn while_a_cluster_does_not_say_who_is_a_member_nothing_is_issued_and_nothing_ends() {
    let mut bed = start(16).await;
    bed.postgres.sql("postgres", "GRANT lendable TO orders_read");
    let (alice, bob) = (bed.login("alice").await, bed.login("bob").await);
    let (alice, bob) = (Caller::Session(&alice), Caller::Session(&bob));
    let (id, role, _) = held(&issue(&bed, alice, "orders_read").await);
    bed.postgres.stop();

    for answer in [issue(&bed, alice, "orders_read").await, renew(&bed, alice, &id).await] {
        assert_eq!(answer.status, 503, "{answer:?}");
        assert!(answer.text("/type").ends_with(":cluster-away"), "{answer:?}");
        assert!(answer.headers.contains_key("retry-after"), "{answer:?}");
    }
    assert_eq!(offered(&bed, alice).await, (Vec::new(), json!(["orders"])));
    // Where the map does not ask, the cluster is not asked.
    assert_eq!(offered(&bed, bob).await, (vec!["orders_write".to_owned()], json!([])));
    // Another map comes, by which it still turns on what the cluster says.
    replace(&bed.file("pg_ident.conf"), &format!("{MAP}corp carol orders_read\n"));
    bed.signal(Signal::Hangup);
    in_force(&bed, 2).await;
    is_seen_or_not_ready(&bed).await;
    let lease = bed.call(Method::GET, &format!("/v1/leases/{id}"), alice, None).await;
    assert_eq!(lease.text("/state"), "active");

    bed.postgres.start_again();
    until("the cluster to be asked again", async || {
        (renew(&bed, alice, &id).await.status == 200).then_some(())
    })
    .await;
    assert_eq!(bed.lease_roles(), [role]);
    is_seen(&bed, "current").await;
    let refused = of_action(&bed, "lease.requested");
    let refused = refused.iter().find(|record| record["outcome"] == "refused").expect("a refusal");
    assert_eq!(refused["cause"], "members_unknown");
    assert_eq!(of_action(&bed, "lease.revoke_requested"), Vec::<Value>::new());
}

/// The new map was held against, as far as that could be.
async fn is_seen_or_not_ready(bed: &TestBed) {
    until("the cluster to be asked in vain", async || {
        bed.log().contains("who is a member of what cannot be asked").then_some(())
    })
    .await;
}
