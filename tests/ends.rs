//! How leases end where something stands in the way: a store that cannot write, an OID that another
//! role has now, an outage that lasted, an answer that was lost; and roles that would outlive theirs.

mod declared;
mod unwritten;

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use pgbridge::broker::{
    Broker, Caller, Credential, IssueError, LeaseError, Rehearsal, RenewLeaseError, Selection,
};
use pgbridge::clock::Clock;
use pgbridge::lease::{Lease, LeaseState};
use pgbridge::names::LeaseId;
use pgbridge::store::sqlite::SqliteStore;
use pgbridge::store::{Change, Store};
use reqwest::Method;
use serde_json::{Value, json};

use crate::support::inside::{
    Share, alice, audit, carol, length, live_leases, now, request, started, wish,
};
use crate::support::{self, FailingStore, Faults, Inside, Moment, SOON, TestBed, until, wait_for};

/// Compares every second, and lends many leases to one person.
fn busy(config: &str) -> String {
    let config =
        config.replace("[broker]", "[broker]\nreconcile_every = \"1s\"\ncreate_within = \"5s\"");
    config.replace("role = \"orders_read\"", "role = \"orders_read\"\nmax_leases = 1000")
}

/// A broker whose store fails when it is told to.
struct Stand {
    inside: Inside,
    sound: Arc<SqliteStore>,
    failing: Arc<FailingStore>,
    clock: Clock,
    broker: Broker,
}

impl Stand {
    async fn new(major: u32, clock: Clock) -> Self {
        let inside = Inside::start(major, |_, config| busy(&config)).await;
        let sound = inside.store("1.db");
        let failing = FailingStore::before(Arc::clone(&sound) as Arc<dyn Store>);
        let store = Arc::clone(&failing) as Arc<dyn Store>;
        let broker = inside.broker(Share(1), store, clock.clone());
        Self { inside, sound, failing, clock, broker }
    }

    async fn alice(&self) -> Caller {
        alice(&self.broker, &*self.sound, self.clock.now()).await
    }

    async fn lease(&self, id: LeaseId) -> Lease {
        self.sound.lease(id).await.expect("the store works").expect("it is there")
    }

    async fn can_log_in(&self, lease: &Lease) -> bool {
        let role = &lease.role_name;
        let text = format!("SELECT rolcanlogin FROM pg_roles WHERE rolname = '{role}'");
        self.inside.see(&text).await == ["t"]
    }

    async fn records_of(&self, id: LeaseId) -> Vec<String> {
        let records = audit(&*self.sound).await;
        let of = records.iter().filter(|record| record["lease"] == id.to_string());
        of.map(|record| record["action"].as_str().expect("an action").to_owned()).collect()
    }
}

/// F-13, D-15; and the same with a store that can.
#[tokio::test(flavor = "multi_thread")]
async fn an_operators_end_takes_the_access_when_the_store_cannot_write_it_down() {
    let stand = Stand::new(16, Clock::system()).await;
    let workers = started(&stand.broker, &stand.clock).await;
    let carol = carol(&stand.broker, &*stand.sound, now()).await;
    for selection in [
        Selection { person: Some("ldap:corp:alice".to_owned()), ..Selection::default() },
        Selection { cluster: "orders".parse().ok(), ..Selection::default() },
    ] {
        let issue = async || {
            let alice = stand.alice().await;
            let issued = stand.broker.issue(&request(), &alice, wish()).await;
            issued.unwrap_or_else(|error| panic!("{error:?}")).lease
        };
        let end = async || {
            let selection = selection.clone();
            stand.broker.revoke_selected(&request(), &carol, selection, Rehearsal::No).await
        };
        let whole = [
            "lease.requested",
            "lease.issued",
            "lease.revoke_requested",
            "lease.access_ended",
            "lease.revoked",
        ];
        let lease = issue().await;
        assert!(stand.can_log_in(&lease).await);
        stand.failing.refuse("commit");
        let failed = end().await;
        assert!(matches!(failed, Err(LeaseError::Store(_))), "{failed:?}");
        assert!(!stand.can_log_in(&lease).await);
        assert_eq!(stand.lease(lease.id).await.state, LeaseState::Active);
        assert_eq!(stand.records_of(lease.id).await, whole[..2]);
        // What is owed is written down once the store takes it.
        stand.failing.heal();
        until("the end to be written down", async || {
            (stand.lease(lease.id).await.state == LeaseState::Revoked).then_some(())
        })
        .await;
        assert_eq!(stand.records_of(lease.id).await, whole);

        let other = issue().await;
        let ended = end().await.expect("the store works");
        assert_eq!(ended.iter().map(|lease| lease.id).collect::<Vec<_>>(), [other.id]);
        assert_eq!(stand.lease(other.id).await.state, LeaseState::Revoked);
        assert_eq!(stand.records_of(other.id).await, whole);
    }
    workers.stop().await;
}

/// D-02, F-03: whatever answer of the store is lost, nobody is left with a lease that nobody holds,
/// and asking again with the same key gives one.
#[tokio::test(flavor = "multi_thread")]
async fn a_lease_whose_activation_was_not_answered_ends_and_the_same_key_gives_another() {
    let stand = Stand::new(15, Clock::system()).await;
    let workers = started(&stand.broker, &stand.clock).await;
    let alice = stand.alice().await;
    let mut lost = 0;
    for first in 1..=4 {
        let key = format!("key-{first}").parse().expect("a key");
        let keyed = pgbridge::broker::Wish { request_key: Some(key), ..wish() };
        // Only what issuing itself asks of the store.
        stand.failing.fail_in(
            &["lease_of_key", "commit"],
            Faults { first, count: 1, moment: Moment::After },
        );
        let issued = stand.broker.issue(&request(), &alice, keyed.clone()).await;
        let failed = stand.failing.heal();
        if let Err(error) = &issued {
            lost += 1;
            assert!(!failed.is_empty(), "{error:?}");
            // What nobody holds ends by itself, and not at its time.
            until("the end of what nobody holds", async || {
                live_leases(&*stand.sound).await.is_empty().then_some(())
            })
            .await;
        }
        let again = stand.broker.issue(&request(), &alice, keyed).await;
        let Credential { lease, .. } = again.unwrap_or_else(|error| panic!("{first}: {error:?}"));
        let live = stand.inside.in_order(Share(1), &*stand.sound, "asked again").await;
        assert_eq!(live.iter().map(|live| live.id).collect::<Vec<_>>(), [lease.id]);
        let ended = stand.broker.revoke(&request(), &alice, lease.id).await;
        assert!(ended.is_ok_and(|lease| lease.state.is_final()));
    }
    assert_eq!(lost, 3, "the key, the intent and the activation");
    workers.stop().await;
}

/// I-13.
#[tokio::test(flavor = "multi_thread")]
async fn a_wish_that_is_being_fulfilled_elsewhere_is_refused_and_that_is_written_down() {
    let stand = Stand::new(15, Clock::system()).await;
    let workers = started(&stand.broker, &stand.clock).await;
    let alice = stand.alice().await;
    let key: pgbridge::names::RequestKey = "key".parse().expect("a key");
    let keyed = pgbridge::broker::Wish { request_key: Some(key.clone()), ..wish() };
    let first = stand.broker.issue(&request(), &alice, wish()).await;
    let first = first.unwrap_or_else(|error| panic!("{error:?}")).lease;
    // An intent with the key, as another broker has just written it.
    let id = LeaseId::random(&mut rand::rng());
    let other = Lease {
        id,
        version: 1,
        state: LeaseState::Intent,
        role_oid: None,
        request_key: Some(key),
        ..first
    };
    let record = pgbridge::audit::Record::new(
        now(),
        pgbridge::audit::Action::LeaseRequested,
        pgbridge::audit::Subject::Broker,
    );
    let opened = vec![Change::OpenLease(Box::new(other.clone()))];
    stand.sound.commit(opened, vec![record]).await.expect("the store works");

    let (first_ask, second_ask) = (request(), request());
    let refused = stand.broker.issue(&first_ask, &alice, keyed.clone()).await;
    assert!(matches!(refused, Err(IssueError::InProgress)));
    let records = audit(&*stand.sound).await;
    let told = records.iter().find(|record| record["request_id"] == first_ask.id);
    let told = told.expect("it is written down");
    assert_eq!((&told["outcome"], &told["cause"]), (&json!("refused"), &json!("in_progress")));
    let aborted = other.abort(now()).expect("it is an intent");
    let record = pgbridge::audit::Record::new(
        now(),
        pgbridge::audit::Action::LeaseAborted,
        pgbridge::audit::Subject::Broker,
    );
    let moved = vec![Change::MoveLease(Box::new(aborted))];
    stand.sound.commit(moved, vec![record]).await.expect("the store works");
    assert!(stand.broker.issue(&second_ask, &alice, keyed).await.is_ok());
    workers.stop().await;
}

/// A broker that has just started goes by its machine's clock, until it has asked others.
#[tokio::test(flavor = "multi_thread")]
async fn what_is_told_to_end_by_a_clock_that_is_ahead_ends_as_soon_as_others_were_asked() {
    let stand = Stand::new(16, Clock::system()).await;
    let workers = started(&stand.broker, &stand.clock).await;
    let issued = stand.broker.issue(&request(), &stand.alice().await, wish()).await;
    let id = issued.unwrap_or_else(|error| panic!("{error:?}")).lease.id;
    workers.stop().await;

    let clock = Clock::manual(now() + Duration::from_hours(2));
    let store = Arc::clone(&stand.sound) as Arc<dyn Store>;
    let broker = stand.inside.broker(Share(1), store, clock.clone());
    let alice = alice(&broker, &*stand.sound, clock.now()).await;
    let asks = broker.clone();
    let asked = tokio::spawn(async move { asks.revoke(&request(), &alice, id).await });
    let is = async |state: LeaseState| (stand.lease(id).await.state == state).then_some(());
    until("the end to be written down", async || is(LeaseState::Revoking).await).await;
    let workers = broker.start();
    until("the end", async || is(LeaseState::Revoked).await).await;
    assert!(asked.await.expect("it does not panic").is_ok());
    workers.stop().await;
}

/// A clock that nobody has compared prolongs no lease.
#[tokio::test(flavor = "multi_thread")]
async fn a_lease_is_renewed_once_the_clocks_were_compared_and_not_before() {
    let stand = Stand::new(16, Clock::system()).await;
    let workers = started(&stand.broker, &stand.clock).await;
    let issued = stand.broker.issue(&request(), &stand.alice().await, wish()).await;
    let lease = issued.unwrap_or_else(|error| panic!("{error:?}")).lease;
    workers.stop().await;

    let store = Arc::clone(&stand.sound) as Arc<dyn Store>;
    let clock = Clock::manual(now() + Duration::from_mins(30));
    let broker = stand.inside.broker(Share(1), store, clock.clone());
    let (alice, asked) = (alice(&broker, &*stand.sound, clock.now()).await, request());
    let refused = broker.renew(&asked, &alice, lease.id, None).await;
    assert!(matches!(refused, Err(RenewLeaseError::NotReady)), "{refused:?}");
    assert_eq!(stand.lease(lease.id).await, lease);
    let records = audit(&*stand.sound).await;
    let told = records.iter().find(|record| record["request_id"] == asked.id);
    assert_eq!(told.expect("it is written down")["cause"], "not_ready");

    let renews = broker.clone();
    let renewed =
        tokio::spawn(async move { renews.renew(&request(), &alice, lease.id, None).await });
    let workers = broker.start();
    let renewed = renewed.await.expect("it does not panic").expect("it is renewed");
    assert!(renewed.expires_at > lease.expires_at);
    workers.stop().await;
}

/// What was asked for by a time that is yet to come for a clock that is behind ends all the same; and
/// by one that is ahead, nobody is kept from logging in again.
#[tokio::test(flavor = "multi_thread")]
async fn whoever_is_told_to_end_by_a_wrong_clock_loses_all_and_may_come_back() {
    const AWAY: Duration = Duration::from_hours(2);
    let stand = Stand::new(16, Clock::system()).await;
    for wrong in [now() - AWAY, now() + AWAY] {
        let workers = started(&stand.broker, &stand.clock).await;
        let issued = stand.broker.issue(&request(), &stand.alice().await, wish()).await;
        let lease = issued.unwrap_or_else(|error| panic!("{error:?}")).lease;
        workers.stop().await;

        let store = Arc::clone(&stand.sound) as Arc<dyn Store>;
        let clock = Clock::manual(wrong);
        let broker = stand.inside.broker(Share(1), store, clock.clone());
        let carol = carol(&broker, &*stand.sound, clock.now()).await;
        let person = Some(lease.principal.key());
        let selection = Selection { person, ..Selection::default() };
        let asks = broker.clone();
        let asked = tokio::spawn(async move {
            asks.revoke_selected(&request(), &carol, selection, Rehearsal::No).await
        });
        let workers = broker.start();
        let told = asked.await.expect("it does not panic");
        let told: Vec<LeaseId> = told.expect("all end").iter().map(|lease| lease.id).collect();
        assert!(told.contains(&lease.id), "{wrong}: {told:?}");
        assert!(stand.lease(lease.id).await.state.is_final(), "{wrong}");
        workers.stop().await;
        let workers = started(&stand.broker, &stand.clock).await;
        let again = stand.broker.issue(&request(), &stand.alice().await, wish()).await;
        let again = again.unwrap_or_else(|error| panic!("{wrong}: {error:?}")).lease;
        assert!(!again.state.is_final());
        workers.stop().await;
    }
}

/// D-14: the longest overdue first, a few at a time; nothing is issued before store and cluster were
/// compared, and from then on at once.
#[tokio::test(flavor = "multi_thread")]
async fn after_a_long_outage_the_longest_overdue_leases_end_first_and_issuing_waits_for_the_comparison()
 {
    const LEASES: usize = 300;
    // Leases whose access is ended side by side.
    const AT_ONCE: usize = 4;
    let stand = Stand::new(16, Clock::manual(now())).await;
    let workers = started(&stand.broker, &stand.clock).await;
    let alice = stand.alice().await;
    let mut ends = BTreeMap::new();
    for _ in 0..LEASES {
        let wish = pgbridge::broker::Wish { ttl: Some(length("15s")), ..wish() };
        let issued = stand.broker.issue(&request(), &alice, wish).await;
        let lease = issued.unwrap_or_else(|error| panic!("{error:?}")).lease;
        ends.insert(lease.id.to_string(), lease.expires_at);
        stand.clock.advance(Duration::from_millis(10));
    }
    workers.stop().await;
    assert_eq!(live_leases(&*stand.sound).await.len(), LEASES);
    // Every one of them is over before the next broker begins.
    stand.clock.advance(Duration::from_secs(16));
    let before = audit(&*stand.sound).await.len();

    let store = Arc::clone(&stand.sound) as Arc<dyn Store>;
    let broker = stand.inside.broker(Share(1), store, stand.clock.clone());
    let early = request();
    let refused = broker.issue(&early, &alice, wish()).await;
    assert!(matches!(refused, Err(IssueError::NotReady { .. })));
    let workers = started(&broker, &stand.clock).await;
    let issued = broker.issue(&request(), &alice, wish()).await;
    let kept = issued.unwrap_or_else(|error| panic!("{error:?}")).lease;
    until("the end of all that were overdue", async || {
        let live = live_leases(&*stand.sound).await;
        (live.iter().map(|live| live.id).collect::<Vec<_>>() == [kept.id]).then_some(())
    })
    .await;
    stand.inside.in_order(Share(1), &*stand.sound, "after the outage").await;
    workers.stop().await;

    let records = audit(&*stand.sound).await;
    let told = records.iter().find(|record| record["request_id"] == early.id);
    assert_eq!(told.expect("it is written down")["cause"], "not_ready");
    let (mut waiting, mut closing) = (ends, 0);
    for record in &records[before..] {
        match record["action"].as_str() {
            Some("lease.revoke_requested") => {
                let id = record["lease"].as_str().expect("a lease");
                let end = waiting.remove(id).expect("each is told to end once");
                assert_eq!(record["cause"], "expired");
                closing += 1;
                // What was taken up before it may not be written down yet.
                let older = waiting.values().filter(|other| **other < end).count();
                assert!(older < AT_ONCE, "{older} were overdue for longer");
            }
            Some("lease.access_ended") => closing -= 1,
            _ => {}
        }
        assert!(closing <= AT_ONCE, "the access of {closing} was being ended at once");
    }
    assert!(waiting.is_empty() && closing == 0);
}

/// Seconds for which the password of `role` is good still; nothing if for ever.
fn valid_for(bed: &TestBed, role: &str) -> Option<f64> {
    let text = format!(
        "SELECT extract(epoch FROM rolvaliduntil - now()) FROM pg_roles \
         WHERE rolname = '{role}' AND isfinite(rolvaliduntil)"
    );
    bed.postgres.sql("postgres", &text).concat().first()?.parse().ok()
}

async fn issued(bed: &TestBed, token: &str, ttl: &str) -> (String, String, String) {
    let wish = json!({ "cluster": "orders", "role": "orders_read", "ttl": ttl });
    let caller = support::Caller::Session(token);
    let answer = bed.call(Method::POST, "/v1/leases", caller, Some(wish)).await;
    assert_eq!(answer.status, 201, "{answer:?}");
    (answer.text("/lease/id"), answer.text("/lease/role_name"), answer.text("/password"))
}

/// I-04, D-06: a renewal whose failure reached nobody but the cluster, or a DBA, made them longer.
#[tokio::test]
async fn a_role_that_is_good_for_longer_than_its_lease_is_set_back_and_a_shorter_one_is_left() {
    let bed = TestBed::start_with(16, |config| busy(&config));
    let token = bed.login("alice").await;
    let (_, longer, password) = issued(&bed, &token, "10m").await;
    let (_, endless, _) = issued(&bed, &token, "10m").await;
    let (_, shorter, _) = issued(&bed, &token, "10m").await;
    let set = |role: &str, end: &str| {
        let text = format!("ALTER ROLE {role} VALID UNTIL {end}");
        bed.postgres.sql("postgres", &text);
    };
    let later = "SELECT quote_literal(now() + interval '5 hours')";
    let sooner = "SELECT quote_literal(now() + interval '5 minutes')";
    set(&shorter, &bed.postgres.sql("postgres", sooner).concat().concat());
    set(&longer, &bed.postgres.sql("postgres", later).concat().concat());
    set(&endless, "'infinity'");
    for role in [&longer, &endless] {
        wait_for("it to be set back", SOON, || {
            valid_for(&bed, role).is_some_and(|seconds| seconds < 606.0).then_some(())
        });
        assert!(valid_for(&bed, role).is_some_and(|seconds| seconds > 500.0));
    }
    assert!(valid_for(&bed, &shorter).is_some_and(|seconds| seconds < 301.0));
    assert!(bed.postgres.sql_as(&longer, &password, "orders", "SELECT 1").is_ok());
    assert_eq!(bed.log().matches("it was set back").count(), 2, "{}", bed.log());
}

/// F-22, F-23.
#[tokio::test]
async fn an_operator_declares_a_lease_gone_whose_oid_another_role_has_and_no_other() {
    let bed = TestBed::start_with(16, |config| busy(&config));
    let (alice, carol) = (bed.login("alice").await, bed.login("carol").await);
    let (id, role, _) = issued(&bed, &alice, "10m").await;
    let path = format!("/v1/operator/leases/{id}/declare-gone");
    let declare = async |token: &str, reason: &str| {
        let body = Some(json!({ "reason": reason }));
        let answer = bed.call(Method::POST, &path, support::Caller::Session(token), body).await;
        let word = answer.json()["type"].as_str().unwrap_or("done").to_owned();
        (answer.status, word.trim_start_matches("urn:pgbridge:problem:").to_owned())
    };
    let refused = |status: u16, word: &str| (status, word.to_owned());
    assert_eq!(declare(&carol, "it is active").await, refused(409, "not-gone"));

    // It has our mark, whatever else became of it.
    bed.postgres.sql("postgres", &format!("ALTER ROLE {role} SUPERUSER"));
    let end = format!("/v1/leases/{id}");
    let ended = bed.call(Method::DELETE, &end, support::Caller::Session(&alice), None).await;
    assert_eq!((ended.status, ended.text("/state").as_str()), (202, "revoking"), "{ended:?}");
    assert!(ended.text("/blockers/0/remedy").contains(&format!("declare-gone {id}")), "{ended:?}");
    assert_eq!(declare(&carol, "a superuser").await, refused(409, "not-gone"));
    // It has our name.
    let oid = bed.postgres.sql("postgres", &format!("SELECT '{role}'::regrole::oid"));
    let oid = oid.concat().concat();
    bed.postgres.sql("postgres", &format!("COMMENT ON ROLE {role} IS 'reports'"));
    assert_eq!(declare(&carol, "no mark").await, refused(409, "not-gone"));
    // It has nothing of ours but the OID, as one that was made after a restore.
    bed.postgres.sql("postgres", &format!("ALTER ROLE {role} RENAME TO reports_new"));
    for (token, reason, expected) in [
        (&alice, "mine", refused(403, "duty-needed")),
        (&carol, " ", refused(422, "reason-unfit")),
        (&carol, "a\u{200b}b", refused(422, "reason-unfit")),
        (&carol, "restored from Monday's backup", refused(200, "done")),
        (&carol, "again", refused(409, "not-gone")),
    ] {
        assert_eq!(declare(token, reason).await, expected, "{reason}");
    }
    let other = "/v1/operator/leases/aaaaaaaaaaaaaaaa/declare-gone";
    let reason = Some(json!({ "reason": "x" }));
    let none = bed.call(Method::POST, other, support::Caller::Session(&carol), reason).await;
    assert_eq!(none.status, 404, "{none:?}");

    let lease = bed.call(Method::GET, &end, support::Caller::Session(&alice), None).await;
    assert_eq!(lease.text("/state"), "revoked");
    let untouched = "SELECT oid, rolcanlogin, rolsuper FROM pg_roles WHERE rolname = 'reports_new'";
    assert_eq!(bed.postgres.sql("postgres", untouched), [[oid.as_str(), "t", "t"]]);
    let records = bed.records();
    let told: Vec<(&Value, &Value)> = records
        .iter()
        .filter(|record| record["action"] == "lease.declared_gone")
        .map(|record| (&record["outcome"], &record["cause"]))
        .collect();
    let refusals = ["not_ending", "still_there", "still_there", "reason_unfit", "reason_unfit"]
        .map(|cause| json!(cause));
    let (no, done, released) = (json!("refused"), json!("done"), json!("released"));
    let mut expected: Vec<_> = refusals.iter().map(|cause| (&no, cause)).collect();
    let again = json!("not_ending");
    expected.extend([(&done, &released), (&no, &again)]);
    assert_eq!(told, expected);
    let said = records
        .iter()
        .find(|record| record["action"] == "lease.declared_gone" && record["outcome"] == "done");
    let said = said.expect("it is written down");
    assert_eq!(said["subject"]["principal"]["account"], "carol", "{said}");
    let detail = said["detail"].as_str().expect("why");
    assert!(detail.contains(&oid) && detail.contains("restored from Monday"), "{detail}");
}

#[test]
fn an_operator_declares_a_lease_gone_by_the_program() {
    let bed = TestBed::start_with(15, |config| busy(&config));
    let run = |person: &str, line: &[&str]| {
        bed.cli(person).args(line).output().expect("pgbridge can be run")
    };
    bed.cli_login("alice");
    bed.cli_login("carol");
    let issued = run("alice", &["issue", "orders", "--role", "orders_read", "--format", "json"]);
    let issued: Value = serde_json::from_slice(&issued.stdout).expect("JSON");
    let word = |pointer: &str| issued.pointer(pointer).and_then(Value::as_str).expect("a word");
    let (id, role) = (word("/lease/id"), word("/lease/role_name"));
    let declare = ["declare-gone", id, "--reason", "restored"];
    assert_eq!(run("carol", &declare).status.code(), Some(3));
    bed.postgres.sql("postgres", &format!("COMMENT ON ROLE {role} IS 'reports'"));
    bed.postgres.sql("postgres", &format!("ALTER ROLE {role} RENAME TO reports_new"));
    let revoked = run("alice", &["revoke", id]);
    assert_eq!(revoked.status.code(), Some(1), "{revoked:?}");
    assert!(String::from_utf8_lossy(&revoked.stdout).contains(&format!("declare-gone {id}")));
    assert_eq!(run("alice", &declare).status.code(), Some(3));
    let declared = run("carol", &declare);
    assert!(declared.status.success(), "{declared:?}");
    assert!(String::from_utf8_lossy(&declared.stdout).contains("revoked"), "{declared:?}");
}
