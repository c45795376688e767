//! Issuing, cut short.

use super::{Place, Request, Story};
use crate::support::{TestBed, locked_roles, waiting};

pub(super) const PLACES: &[Place] = &[
    Place::IssueIntent,
    Place::IssueRole,
    Place::IssueActivation,
    Place::IssueAnswer,
    Place::IssueAbort,
    Place::IssueEndUndelivered,
    Place::IssueEndUnheard,
];

fn key(place: Place) -> String {
    format!("{place:?}")
}

/// Whoever asks again with the same key gets a lease, and is the only one who has one.
async fn asks_again(story: &mut Story, place: Place) {
    let held = story.issue("10m", Some(&key(place))).await;
    story.is_in_order(&[&held]).await;
    let used = story.bed.postgres.sql_as(&held.role, &held.password, "orders", "SELECT 1");
    assert!(used.is_ok(), "{place:?}: {used:?}");
    story.revoke(&held).await;
    story.is_in_order(&[]).await;
}

async fn while_issuing(major: u32) {
    let mut story = Story::start(major).await;
    for place in [Place::IssueIntent, Place::IssueRole, Place::IssueActivation, Place::IssueAnswer]
    {
        story.crash(place, 1, Request::to_issue("10m", Some(&key(place)))).await;
        story.pass_the_time_to_make();
        story.bed.start_again();
        if place == Place::IssueAnswer {
            // Nobody has its password: it ends with its TTL, or when it is asked for again.
            let live = story.bed.live_roles(&story.token).await.expect("the store works");
            let live: Vec<&str> = live.iter().map(String::as_str).collect();
            assert_eq!(live.len(), 1);
            story.bed.in_order(&story.token, &live).await;
        } else {
            story.is_in_order(&[]).await;
        }
        let told = |action: &str| {
            let records = story.bed.records();
            records.iter().filter(|record| record["action"] == action).count()
        };
        match place {
            // The intent was written, and nothing else.
            Place::IssueRole => assert_eq!(told("lease.aborted"), 1),
            // The role was there, found by its name, and taken away.
            Place::IssueActivation => {
                let records = story.bed.records();
                let end = records.iter().rfind(|record| record["action"] == "lease.revoked");
                assert_eq!(end.expect("it ended")["cause"], "undelivered", "{end:?}");
            }
            _ => {}
        }
        asks_again(&mut story, place).await;
    }
}

/// F-01.
#[tokio::test(flavor = "multi_thread")]
async fn a_crash_before_any_step_of_issuing_leaves_no_role_without_a_lease_on_15() {
    while_issuing(15).await;
}

/// F-01, F-02.
#[tokio::test(flavor = "multi_thread")]
async fn a_crash_before_any_step_of_issuing_leaves_no_role_without_a_lease_on_16() {
    while_issuing(16).await;
}

/// Asks in the background; the answer may never come.
fn ask(story: &Story, key: &str) -> tokio::task::JoinHandle<()> {
    let Request { path, body, .. } = Request::to_issue("10m", Some(key));
    let request = TestBed::client().post(format!("{}{path}", story.bed.url()));
    let request = request.bearer_auth(&story.token).json(&body);
    tokio::spawn(async move { drop(request.send().await) })
}

#[tokio::test(flavor = "multi_thread")]
async fn a_crash_before_what_was_not_issued_is_ended_leaves_nothing_of_it() {
    let mut story = Story::start(16).await;

    story.bed.postgres.sql("postgres", "ALTER ROLE pgbridge NOCREATEROLE");
    let place = Place::IssueAbort;
    story.crash(place, 1, Request::to_issue("10m", Some(&key(place)))).await;
    story.bed.postgres.sql("postgres", "ALTER ROLE pgbridge CREATEROLE");
    mended(&mut story, place).await;

    // The connection breaks while the role is made: nobody knows whether it was.
    let place = Place::IssueEndUndelivered;
    crash_while_locked(&mut story, place, async |story, lock, asked| {
        let pid = waiting(&story.bed).await;
        story.bed.postgres.sql("postgres", &format!("SELECT pg_terminate_backend({pid})"));
        drop(asked.await);
        drop(lock);
    })
    .await;
    mended(&mut story, place).await;

    // The client goes away while the role is made: there is nobody to hand the password to.
    let place = Place::IssueEndUnheard;
    crash_while_locked(&mut story, place, async |story, lock, asked| {
        waiting(&story.bed).await;
        asked.abort();
        story.bed.is_left_alone().await;
        lock.batch_execute("ROLLBACK").await.expect("it holds the lock");
    })
    .await;
    // It was issued, so it lives on until it is asked for again.
    story.bed.start_again();
    asks_again(&mut story, place).await;
}

async fn crash_while_locked(
    story: &mut Story,
    place: Place,
    meanwhile: impl AsyncFnOnce(&Story, tokio_postgres::Client, tokio::task::JoinHandle<()>),
) {
    let lock = locked_roles(&story.bed).await;
    story.bed.crash_at(place, 1);
    let asked = ask(story, &key(place));
    meanwhile(story, lock, asked).await;
    story.bed.wait_for_crash(place);
}

async fn mended(story: &mut Story, place: Place) {
    story.pass_the_time_to_make();
    story.bed.start_again();
    story.is_in_order(&[]).await;
    asks_again(story, place).await;
}
