//! Renewing, cut short.

use reqwest::Method;
use serde_json::json;

use super::{Held, Place, Request, Story};
use crate::support::{Caller, until};

pub(super) const PLACES: &[Place] = &[
    Place::RenewStore,
    Place::RenewCluster,
    Place::RenewAnswer,
    Place::RenewTakeBack,
    Place::RenewWithdraw,
];

/// Whether the role can log in longer than its lease lives.
async fn outlives(story: &Story, held: &Held) -> bool {
    let path = format!("/v1/leases/{}", held.id);
    let lease = story.call(Request { method: Method::GET, path, body: None }).await;
    let (ends, role) = (lease.text("/expires_at"), &held.role);
    let outlives = format!(
        "SELECT rolvaliduntil > timestamptz '{ends}' + interval '1 second' \
         FROM pg_roles WHERE rolname = '{role}'"
    );
    story.bed.postgres.sql("postgres", &outlives) != [["f"]]
}

#[tokio::test(flavor = "multi_thread")]
async fn a_crash_before_any_step_of_renewing_leaves_no_role_that_outlives_its_lease() {
    let mut story = Story::start(16).await;
    for place in [Place::RenewStore, Place::RenewCluster, Place::RenewAnswer, Place::RenewTakeBack]
    {
        let held = story.issue("10m", None).await;
        if place == Place::RenewTakeBack {
            // The cluster refuses, so the store takes back what it has written.
            story.bed.postgres.sql("postgres", &format!("ALTER ROLE {} NOLOGIN", held.role));
        }
        story.crash(place, 1, Request::to_renew(&held)).await;
        story.bed.start_again();
        story.is_in_order(&[&held]).await;
        assert!(!outlives(&story, &held).await, "{place:?}");
        story.revoke(&held).await;
        story.is_in_order(&[]).await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_crash_before_a_lease_is_withdrawn_keeps_nobody_from_withdrawing_it() {
    let mut story = Story::start(15).await;
    story.token = story.bed.login("alice").await;
    let wish = json!({ "cluster": "orders", "role": "orders_read", "ttl": "10m" });
    let issued = Request { body: Some(wish), ..Request::to_issue("10m", None) };
    let answer = story.call(issued).await;
    let [id, role, password] =
        ["/lease/id", "/lease/role_name", "/password"].map(|pointer| answer.text(pointer));
    let held = Held { id, role, password };
    story.bed.directory.change(
        "dn: cn=orders-readers,ou=groups,dc=example,dc=test\nchangetype: modify\n\
         delete: member\nmember: uid=alice,ou=people,dc=example,dc=test\n",
    );
    let place = Place::RenewWithdraw;
    story.bed.crash_at(place, 1);
    // What was seen at the login counts for a moment.
    until("the directory to be asked", async || {
        let Request { method, path, body } = Request::to_renew(&held);
        let caller = Caller::Session(&story.token);
        story.bed.try_call(method, &path, caller, body).await.err()
    })
    .await;
    story.bed.wait_for_crash(place);
    story.bed.start_again();
    // Whether she is looked up or asks: it ends.
    let again = story.call(Request::to_renew(&held)).await;
    assert!([403, 409].contains(&again.status), "{again:?}");
    story.is_in_order(&[]).await;
    let lease = Request { method: Method::GET, body: None, ..Request::to_revoke(&held) };
    assert_eq!(story.call(lease).await.text("/end"), "withdrawn");
}
