//! What every store must do, whatever engine it stands on.
//!
//! Each function gets a store that is empty and its own. Times are whole microseconds, which every
//! engine keeps. It is a part of debug builds, so that the tests that start a server can run it.
#![expect(
    clippy::unwrap_used,
    clippy::panic,
    clippy::indexing_slicing,
    clippy::must_use_candidate,
    reason = "these are tests, whose names say what they promise"
)]

use std::collections::BTreeSet;
use std::sync::Arc;

use futures::future::BoxFuture;
use jiff::{SignedDuration, Timestamp};
use uuid::Uuid;

use super::{
    AuditEntry, Change, Claimant, ENDING_MOST, LeaseFilter, Login, OneTimeValue, Room, Store,
    StoreError,
};
use crate::audit::{Action, Record, Subject};
use crate::auth::{Admission, Identity, LockoutRule, Session, SessionTimes};
use crate::lease::{
    Blocker, BlockerKind, EndReason, Holder, Lease, LeaseState, LiveLease, MarkerKey,
};
use crate::mapping::{ObjectPolicy, RuleRef};
use crate::names::{
    ClusterName, LeaseId, LeaseRoleName, Principal, RequestKey, RoleOid, RolePrefix, SessionToken,
};

/// Gives the names of all promises to another macro, behind what stands in the brackets.
macro_rules! with_every_promise {
    ($then:ident [$($before:tt)*]) => { $crate::store::conformance::$then! { [$($before)*]
            every_field_of_a_lease_reads_back
            a_move_writes_all_that_a_move_may_change_and_nothing_else
            a_lease_moves_from_one_version_only_once
            what_was_never_stored_is_not_found
            a_change_and_its_record_happen_together_or_not_at_all
            nothing_changes_without_a_record
            a_person_has_one_live_lease_for_a_request_key
            a_lease_is_replaced_in_one_step
            a_person_has_no_more_live_leases_of_a_role_than_there_is_room_for
            leases_opened_side_by_side_are_never_more_than_there_is_room_for
            who_has_live_leases_or_sessions_is_known
            the_live_leases_of_a_person_are_read_page_by_page
            what_is_due_is_claimed_oldest_first
            a_claim_keeps_everybody_else_away_until_it_is_given_back
            a_claimed_lease_is_moved_by_anybody
            claims_side_by_side_never_give_one_lease_twice
            live_leases_are_those_that_are_not_final
            leases_are_listed_newest_first_by_what_the_filter_names
            a_session_is_found_by_its_token_until_it_ends
            what_rests_on_a_login_needs_it_to_stand
            a_person_is_known_by_every_letter_of_their_name
            a_login_that_ends_beside_a_wish_leaves_no_lease_unseen
            a_role_that_is_gone_is_known_by_its_oid_and_cluster
            a_sweep_removes_what_is_over_and_nothing_else
            attempts_side_by_side_are_never_more_than_the_rule_allows
            one_counter_that_refuses_keeps_all_from_counting
            an_attempt_given_back_or_cleared_counts_no_more
            a_one_time_value_is_accepted_once
            one_of_many_who_show_a_one_time_value_is_let_through
            audit_records_are_numbered_without_gaps_and_read_back_exactly
            the_newest_lease_tells_how_late_it_was_at_least
            the_marker_key_of_the_first_broker_is_in_force
            a_store_that_works_can_be_probed
    } };
}

/// A promise that every store keeps.
#[derive(Clone, Copy)]
pub struct Promise {
    /// What is promised.
    pub name: &'static str,
    /// Keeps it on a store that is empty, or panics.
    pub keep: fn(Arc<dyn Store>) -> BoxFuture<'static, ()>,
}

macro_rules! listed {
    ([] $($name:ident)+) => {
        &[$(Promise { name: stringify!($name), keep: |store| Box::pin($name(store)) }),+]
    };
}

/// All of them, for a server that is too costly to be started for each.
pub const PROMISES: &[Promise] = with_every_promise!(listed []);

/// Runs every promise as a test of its own. `$fresh` is a function whose future gives an empty
/// store as `Arc<dyn Store>` and whatever must live as long as it.
#[cfg(test)]
macro_rules! conformance {
    ($fresh:path) => {
        mod conformance {
            use super::*;
            $crate::store::conformance::with_every_promise!(tests[$fresh]);
        }
    };
}

#[cfg(test)]
macro_rules! tests {
    ([$fresh:path] $($name:ident)+) => {
        $(
            #[tokio::test(flavor = "multi_thread", worker_threads = 2)]
            async fn $name() {
                let (store, _kept) = $fresh().await;
                $crate::store::conformance::$name(store).await;
            }
        )+
    };
}

pub(super) use listed;
#[cfg(test)]
pub(crate) use {conformance, tests, with_every_promise};

pub fn at(seconds: i64) -> Timestamp {
    Timestamp::from_second(1_800_000_000 + seconds).unwrap()
}

fn micros(count: i64) -> SignedDuration {
    SignedDuration::from_micros(count)
}

pub fn person(account: &str) -> Principal {
    Principal::Ldap { directory: "corp".parse().unwrap(), account: account.to_owned() }
}

pub fn key(text: &str) -> RequestKey {
    text.parse().unwrap()
}

/// An intent of `account` on cluster `orders`, asked for at second 0.
pub fn intent(account: &str) -> Lease {
    let (id, principal) = (LeaseId::random(&mut rand::rng()), person(account));
    Lease {
        id,
        version: 1,
        state: LeaseState::Intent,
        role_name: LeaseRoleName::new(&RolePrefix::default(), &principal, id),
        principal,
        cluster: "orders".parse().unwrap(),
        database: "orders".parse().unwrap(),
        role: "orders_read".parse().unwrap(),
        role_oid: None,
        requested_at: at(0),
        create_before: at(30),
        expires_at: at(3600),
        ceiling: at(7200),
        owned_objects: ObjectPolicy::Drop,
        request_key: None,
        reason: None,
        client: "127.0.0.1".parse().unwrap(),
        rule: RuleRef { file: "pg_ident.conf".to_owned(), line: 12 },
        revision: serde_json::from_value("0b5e".repeat(16).into()).unwrap(),
        end: None,
        access_ended_at: None,
        gone_at: None,
        attempts: 0,
        retry_at: None,
        blockers: Vec::new(),
    }
}

/// The same lease, one version on, with everything a move may change as different as can be.
fn moved(lease: &Lease, state: LeaseState, end: EndReason) -> Lease {
    Lease {
        version: lease.version + 1,
        state,
        role_oid: Some(RoleOid(u32::MAX)),
        expires_at: at(4000) + micros(1),
        end: Some(end),
        access_ended_at: Some(at(4001) + micros(999_999)),
        gone_at: Some(at(4002)),
        attempts: u32::MAX,
        retry_at: Some(Timestamp::UNIX_EPOCH - micros(1)),
        blockers: vec![
            Blocker::new(
                BlockerKind::Object,
                "role \"we\"ird'x\" owns\nσ things; DROP TABLE lease",
            )
            .within("we\"ird'x\n")
            .about("\u{0}")
            .held_by(Holder { pid: Some(i32::MAX), role: Some("ü".to_owned()) })
            .remedy("';"),
        ],
        ..lease.clone()
    }
}

pub fn record(seconds: i64) -> Record {
    Record::new(at(seconds), Action::LeaseRequested, Subject::Broker)
}

pub fn session(account: &str, token: &str, authenticated_at: Timestamp) -> Session {
    let identity = serde_json::json!({
        "principal": person(account),
        "groups": ["cn=\"staff\",dc=example,dc=test"],
        "authenticated_at": authenticated_at,
        "expires_at": authenticated_at + SignedDuration::from_hours(8),
    });
    let identity = Identity::from_session_json(&identity.to_string()).unwrap();
    let hash = SessionToken::unverified(token).hash();
    Session::begin(Uuid::new_v4(), hash, identity, authenticated_at)
}

pub async fn opened(store: &dyn Store, lease: &Lease) {
    let change = Change::OpenLease(Box::new(lease.clone()));
    store.commit(vec![change], vec![record(0)]).await.unwrap();
}

async fn try_move(store: &dyn Store, lease: &Lease) -> Result<(), StoreError> {
    store.commit(vec![Change::MoveLease(Box::new(lease.clone()))], vec![record(1)]).await
}

pub async fn audit(store: &dyn Store) -> Vec<AuditEntry> {
    store.audit_after(0, u32::MAX).await.unwrap()
}

const ENDS: [EndReason; 7] = [
    EndReason::Expired,
    EndReason::Released,
    EndReason::Operator,
    EndReason::Replaced,
    EndReason::Undelivered,
    EndReason::Lost,
    EndReason::Withdrawn,
];

pub async fn every_field_of_a_lease_reads_back(store: Arc<dyn Store>) {
    let hostile = "we\"ird'x\n\u{0}σ'; DROP TABLE lease; --";
    for (state, end) in LeaseState::ALL.into_iter().cycle().zip(ENDS) {
        let bare = Lease { state, ..intent("alice") };
        let full = Lease {
            version: u32::MAX,
            principal: person(hostile),
            database: "we\"ird'x\n".parse().unwrap(),
            role: "we\"ird'y\n".parse().unwrap(),
            requested_at: at(0) + micros(123_456),
            create_before: at(30) + micros(1),
            ceiling: at(7200) + micros(999_999),
            owned_objects: ObjectPolicy::Reassign,
            request_key: Some(key(&format!("'{state}{}'", end.as_str()))),
            reason: Some(hostile.to_owned()),
            client: "2001:db8::1".parse().unwrap(),
            rule: RuleRef { file: hostile.to_owned(), line: u32::MAX },
            ..moved(&Lease { version: 1, ..intent("alice") }, state, end)
        };
        for lease in [bare, full] {
            opened(&*store, &lease).await;
            assert_eq!(store.lease(lease.id).await.unwrap(), Some(lease));
        }
    }
}

pub async fn a_move_writes_all_that_a_move_may_change_and_nothing_else(store: Arc<dyn Store>) {
    for (state, end) in LeaseState::ALL.into_iter().zip(ENDS) {
        let lease = intent("alice");
        opened(&*store, &lease).await;
        let next = moved(&lease, state, end);
        let stolen = Lease { principal: person("mallory"), ceiling: at(999_999), ..next.clone() };
        try_move(&*store, &stolen).await.unwrap();
        assert_eq!(store.lease(lease.id).await.unwrap(), Some(next));
    }
}

pub async fn a_lease_moves_from_one_version_only_once(store: Arc<dyn Store>) {
    let lease = intent("alice");
    opened(&*store, &lease).await;
    let tries = (1..=50).map(|oid| {
        let (store, lease) = (Arc::clone(&store), lease.clone());
        tokio::spawn(async move {
            let next = lease.activate(RoleOid(oid)).unwrap();
            (oid, try_move(&*store, &next).await)
        })
    });
    let mut winners = Vec::new();
    for tried in futures::future::join_all(tries).await {
        match tried.unwrap() {
            (oid, Ok(())) => winners.push(oid),
            (_, Err(StoreError::Moved { lease: id })) => assert_eq!(id, lease.id),
            (_, Err(other)) => panic!("{other:?}"),
        }
    }
    let stored = store.lease(lease.id).await.unwrap().unwrap();
    assert_eq!(winners.len(), 1, "{winners:?}");
    assert_eq!((stored.version, stored.role_oid), (2, winners.pop().map(RoleOid)));
    assert_eq!(audit(&*store).await.len(), 2);
}

pub async fn what_was_never_stored_is_not_found(store: Arc<dyn Store>) {
    let lease = intent("alice");
    let hash = SessionToken::unverified("none").hash();
    assert_eq!(store.lease(lease.id).await.unwrap(), None);
    assert_eq!(store.lease_of_key(&lease.principal, &key("k")).await.unwrap(), None);
    assert_eq!(store.session(&hash).await.unwrap(), None);
    assert_eq!(store.leases(&LeaseFilter::default()).await.unwrap(), []);
    assert_eq!(claim(&*store, at(i64::from(u32::MAX)), 10, claimant()).await, []);
    assert_eq!(store.live(&lease.cluster).await.unwrap(), []);
    assert_eq!(store.latest().await.unwrap(), None);
    let answer = try_move(&*store, &lease.clone().activate(RoleOid(1)).unwrap()).await;
    assert!(matches!(answer, Err(StoreError::Moved { lease: id }) if id == lease.id));
    assert_eq!(audit(&*store).await, []);
}

pub async fn a_change_and_its_record_happen_together_or_not_at_all(store: Arc<dyn Store>) {
    let (known, new) = (intent("alice"), intent("bob"));
    opened(&*store, &known).await;
    let session = session("bob", "token", at(0));
    let good = vec![
        Change::OpenLease(Box::new(new.clone())),
        Change::BeginSession(Box::new(session.clone())),
        Change::MoveLease(Box::new(known.clone().activate(RoleOid(7)).unwrap())),
    ];
    let stale = Change::MoveLease(Box::new(known.clone()));
    for place in 0..=good.len() {
        let mut changes = good.clone();
        changes.insert(place, stale.clone());
        let answer = store.commit(changes, vec![record(1), record(2)]).await;
        assert!(matches!(answer, Err(StoreError::Moved { .. })), "{answer:?}");
        assert_eq!(store.lease(new.id).await.unwrap(), None, "{place}");
        assert_eq!(store.lease(known.id).await.unwrap(), Some(known.clone()), "{place}");
        assert_eq!(store.session(&session.token_hash).await.unwrap(), None, "{place}");
        assert_eq!(audit(&*store).await.len(), 1, "{place}");
    }
    store.commit(good, vec![record(1), record(2)]).await.unwrap();
    assert!(store.lease(new.id).await.unwrap().is_some());
    assert!(store.session(&session.token_hash).await.unwrap().is_some());
    assert_eq!(audit(&*store).await.len(), 3);
}

pub async fn nothing_changes_without_a_record(store: Arc<dyn Store>) {
    let lease = intent("alice");
    let open = || vec![Change::OpenLease(Box::new(lease.clone()))];
    assert!(matches!(store.commit(open(), vec![]).await, Err(StoreError::Failed { .. })));
    assert_eq!(store.lease(lease.id).await.unwrap(), None);
    store.commit(open(), vec![record(0)]).await.unwrap();
    assert!(store.lease(lease.id).await.unwrap().is_some());
    store.commit(vec![], vec![record(1)]).await.unwrap();
    assert_eq!(audit(&*store).await.len(), 2);
}

pub async fn a_person_has_one_live_lease_for_a_request_key(store: Arc<dyn Store>) {
    let keyed = |account| Lease { request_key: Some(key("k")), ..intent(account) };
    let open = async |lease: &Lease| {
        store.commit(vec![Change::OpenLease(Box::new(lease.clone()))], vec![record(0)]).await
    };
    let first = keyed("alice");
    open(&first).await.unwrap();
    assert!(matches!(open(&keyed("alice")).await, Err(StoreError::KeyTaken)));
    let same_id = Lease { request_key: None, ..first.clone() };
    assert!(matches!(open(&same_id).await, Err(StoreError::Moved { .. })));
    open(&keyed("bob")).await.unwrap();
    open(&intent("alice")).await.unwrap();
    open(&intent("alice")).await.unwrap();

    let active = first.clone().activate(RoleOid(7)).unwrap();
    try_move(&*store, &active).await.unwrap();
    assert!(matches!(open(&keyed("alice")).await, Err(StoreError::KeyTaken)));
    let found = store.lease_of_key(&first.principal, &key("k")).await.unwrap();
    assert_eq!(found, Some(active.clone()));
    assert_eq!(store.lease_of_key(&first.principal, &key("other")).await.unwrap(), None);

    let ending = active.revoke(EndReason::Released).unwrap();
    try_move(&*store, &ending).await.unwrap();
    assert_eq!(store.lease_of_key(&first.principal, &key("k")).await.unwrap(), None);
    open(&keyed("alice")).await.unwrap();
}

pub async fn a_lease_is_replaced_in_one_step(store: Arc<dyn Store>) {
    let keyed = || Lease { request_key: Some(key("k")), ..intent("alice") };
    let (old, new) = (keyed(), keyed());
    opened(&*store, &old).await;
    let ended = old.revoke(EndReason::Replaced).unwrap();
    let changes =
        vec![Change::MoveLease(Box::new(ended)), Change::OpenLease(Box::new(new.clone()))];
    store.commit(changes, vec![record(1), record(1)]).await.unwrap();
    let found = store.lease_of_key(&new.principal, &key("k")).await.unwrap();
    assert_eq!(found.map(|lease| lease.id), Some(new.id));
}

fn room(lease: &Lease, most: u32) -> Change {
    let (cluster, role) = (lease.cluster.clone(), lease.role.clone());
    let most = most.try_into().unwrap();
    Change::NeedRoom(Room { principal: lease.principal.clone(), cluster, role, most })
}

async fn open_with_room(store: &dyn Store, lease: &Lease, most: u32) -> Result<(), StoreError> {
    let changes = vec![room(lease, most), Change::OpenLease(Box::new(lease.clone()))];
    store.commit(changes, vec![record(0)]).await
}

pub async fn a_person_has_no_more_live_leases_of_a_role_than_there_is_room_for(
    store: Arc<dyn Store>,
) {
    let open = async |lease: &Lease| open_with_room(&*store, lease, 2).await;
    let (first, second, third) = (intent("alice"), intent("alice"), intent("alice"));
    open(&first).await.unwrap();
    open(&second).await.unwrap();
    let active = first.activate(RoleOid(1)).unwrap();
    try_move(&*store, &active).await.unwrap();
    let refused = open(&third).await;
    assert!(matches!(refused, Err(StoreError::TooMany { most }) if most.get() == 2), "{refused:?}");
    assert_eq!(store.lease(third.id).await.unwrap(), None);

    // Another person, role or cluster has room of its own.
    open(&intent("bob")).await.unwrap();
    open(&Lease { role: "orders_write".parse().unwrap(), ..intent("alice") }).await.unwrap();
    open(&Lease { cluster: "other".parse().unwrap(), ..intent("alice") }).await.unwrap();

    // One that ends makes room, also in the same step, and whatever keeps its role.
    let ending = active.revoke(EndReason::Replaced).unwrap();
    let changes = vec![
        Change::MoveLease(Box::new(ending)),
        room(&third, 2),
        Change::OpenLease(Box::new(third.clone())),
    ];
    store.commit(changes, vec![record(5)]).await.unwrap();
    assert!(open(&intent("alice")).await.is_err());
    try_move(&*store, &third.abort(at(6)).unwrap()).await.unwrap();
    open(&intent("alice")).await.unwrap();

    // But not without end: what resists its end counts too, and what is over does not.
    for (person, state, has_room) in [
        ("carol", LeaseState::Revoked, true),
        ("dave", LeaseState::Quarantined, false),
        ("eve", LeaseState::Revoking, false),
    ] {
        for _ in 0..ENDING_MOST + 2 {
            opened(&*store, &Lease { state, ..intent(person) }).await;
        }
        assert_eq!(open(&intent(person)).await.is_ok(), has_room, "{state}");
    }
}

pub async fn leases_opened_side_by_side_are_never_more_than_there_is_room_for(
    store: Arc<dyn Store>,
) {
    let tries = (0..30).map(|_| {
        let store = Arc::clone(&store);
        tokio::spawn(async move { open_with_room(&*store, &intent("alice"), 7).await })
    });
    let mut opened = 0;
    for outcome in futures::future::join_all(tries).await {
        match outcome.unwrap() {
            Ok(()) => opened += 1,
            Err(StoreError::TooMany { .. }) => {}
            Err(error) => panic!("{error:?}"),
        }
    }
    assert_eq!(opened, 7);
    assert_eq!(store.live_leases_of(&person("alice"), None, 9).await.unwrap().len(), 7);
}

pub async fn who_has_live_leases_or_sessions_is_known(store: Arc<dyn Store>) {
    let people = async || {
        let people = store.people().await.unwrap();
        let count = people.len();
        let people: BTreeSet<Principal> = people.into_iter().collect();
        assert_eq!(people.len(), count, "somebody twice");
        people
    };
    assert_eq!(people().await, [].into());
    let hostile = "a:b'\"σ; --";
    let (first, second) = (intent("alice"), intent("alice").activate(RoleOid(1)).unwrap());
    let over = LeaseState::ALL
        .into_iter()
        .filter(|state| !matches!(state, LeaseState::Intent | LeaseState::Active));
    let over = over.map(|state| Lease { state, ..intent("carol") });
    for lease in [first, second, intent(hostile)].into_iter().chain(over) {
        opened(&*store, &lease).await;
    }
    let bob = session("bob", "b", at(0));
    for session in [&bob, &session("alice", "a", at(0)), &session("alice", "c", at(0))] {
        let begin = Change::BeginSession(Box::new(session.clone()));
        store.commit(vec![begin], vec![record(0)]).await.unwrap();
    }
    let all = ["alice", "bob", hostile].map(person);
    assert_eq!(people().await, all.into());
    assert_eq!(store.live_leases_of(&person("carol"), None, 9).await.unwrap(), []);
    store.commit(vec![Change::EndSession(bob.id)], vec![record(0)]).await.unwrap();
    assert_eq!(people().await, ["alice", hostile].map(person).into());
}

/// In the order of cluster, role and id, whose texts are compared byte by byte.
pub async fn the_live_leases_of_a_person_are_read_page_by_page(store: Arc<dyn Store>) {
    let mut leases = Vec::new();
    for (cluster, role) in [("a", "z"), ("b", "Z"), ("b", "z"), ("b-c", "a"), ("b", "é\"")] {
        for state in [LeaseState::Active, LeaseState::Intent, LeaseState::Active] {
            let (cluster, role) = (cluster.parse().unwrap(), role.parse().unwrap());
            leases.push(Lease { state, cluster, role, ..intent("alice") });
        }
    }
    let ended = Lease { state: LeaseState::Revoking, ..intent("alice") };
    for lease in leases.iter().rev().chain([&ended, &intent("bob")]) {
        opened(&*store, lease).await;
    }
    leases.sort_by_key(|lease| {
        (lease.cluster.to_string(), lease.role.to_string(), lease.id.to_string())
    });
    for limit in [1, 2, 7, 15, 99] {
        let (mut read, mut pages) = (Vec::<Lease>::new(), 0);
        loop {
            let page = store.live_leases_of(&person("alice"), read.last(), limit).await.unwrap();
            assert!(page.len() <= limit as usize);
            if page.is_empty() {
                break;
            }
            read.extend(page);
            pages += 1;
        }
        assert_eq!(read, leases, "{limit}");
        assert_eq!(pages, 15_u32.div_ceil(limit));
    }
}

pub async fn what_is_due_is_claimed_oldest_first(store: Arc<dyn Store>) {
    let lease = |state, expires_at, retry_at| Lease {
        state,
        expires_at: at(expires_at),
        retry_at,
        ..intent("alice")
    };
    let due = [
        lease(LeaseState::Revoking, 900, None), // since it was asked for, at second 0
        lease(LeaseState::Active, 10, None),
        lease(LeaseState::Revoking, 900, Some(at(20))),
        lease(LeaseState::Quarantined, 1, Some(at(30))),
        lease(LeaseState::Active, 100, None),
    ];
    let not_due = [
        lease(LeaseState::Intent, 1, None),
        lease(LeaseState::Active, 101, None),
        lease(LeaseState::Revoking, 1, Some(at(101))),
        lease(LeaseState::Quarantined, 1, Some(at(101))),
        lease(LeaseState::Revoked, 1, None),
        lease(LeaseState::Aborted, 1, None),
        Lease { cluster: "other".parse().unwrap(), ..lease(LeaseState::Active, 1, None) },
    ];
    for lease in not_due.iter().chain(due.iter().rev()) {
        opened(&*store, lease).await;
    }
    let by = claimant();
    for (now, limit, expected) in
        [(100, 10, &due[..]), (100, 2, &due[..2]), (99, 10, &due[..4]), (100, 0, &[])]
    {
        let claimed = claim(&*store, at(now), limit, by).await;
        assert_eq!(claimed, expected);
        for lease in claimed {
            store.unclaim(lease.id, by).await.unwrap();
        }
    }
}

pub fn claimant() -> Claimant {
    Claimant::random(&mut rand::rng())
}

/// Claims on cluster `orders`.
pub async fn claim(store: &dyn Store, now: Timestamp, limit: u32, by: Claimant) -> Vec<Lease> {
    let orders: ClusterName = "orders".parse().unwrap();
    store.claim(&orders, now, limit, by).await.unwrap()
}

/// A lease that is due at second 100, and so that the sooner `age` is high.
pub fn overdue(age: i64) -> Lease {
    Lease { state: LeaseState::Active, expires_at: at(100 - age), ..intent("alice") }
}

pub async fn a_claim_keeps_everybody_else_away_until_it_is_given_back(store: Arc<dyn Store>) {
    let (first, second) = (overdue(2), overdue(1));
    opened(&*store, &first).await;
    opened(&*store, &second).await;
    let (alpha, beta) = (claimant(), claimant());
    assert_eq!(claim(&*store, at(100), 1, alpha).await, std::slice::from_ref(&first));
    assert_eq!(claim(&*store, at(100), 9, beta).await, std::slice::from_ref(&second));
    assert_eq!(claim(&*store, at(100), 9, claimant()).await, []);
    // Whoever has claimed is given it again: the first answer may have been lost.
    assert_eq!(claim(&*store, at(100), 9, alpha).await, std::slice::from_ref(&first));
    store.unclaim(first.id, beta).await.unwrap();
    let own = claim(&*store, at(100), 9, beta).await;
    assert_eq!(own, std::slice::from_ref(&second), "given back by another");
    store.unclaim(first.id, alpha).await.unwrap();
    assert_eq!(claim(&*store, at(100), 9, beta).await, [first, second.clone()]);
    store.unclaim(second.id, beta).await.unwrap();
    store.unclaim(second.id, beta).await.unwrap();
    assert_eq!(claim(&*store, at(100), 9, alpha).await, [second]);
}

pub async fn a_claimed_lease_is_moved_by_anybody(store: Arc<dyn Store>) {
    let lease = overdue(1);
    let (id, by) = (lease.id, claimant());
    opened(&*store, &lease).await;
    assert_eq!(claim(&*store, at(100), 9, by).await, std::slice::from_ref(&lease));
    let ending = lease.clone().revoke(EndReason::Operator).unwrap();
    try_move(&*store, &ending).await.unwrap();
    let stale = lease.revoke(EndReason::Expired).unwrap();
    assert!(matches!(try_move(&*store, &stale).await, Err(StoreError::Moved { .. })));
    assert_eq!(claim(&*store, at(100), 9, claimant()).await, [], "the claim still stands");
    store.unclaim(id, by).await.unwrap();
    assert_eq!(claim(&*store, at(100), 9, by).await, std::slice::from_ref(&ending));
    try_move(&*store, &ending.close(at(101)).unwrap()).await.unwrap();
    store.unclaim(id, by).await.unwrap();
    assert_eq!(claim(&*store, at(999), 9, claimant()).await, []);
}

pub async fn claims_side_by_side_never_give_one_lease_twice(store: Arc<dyn Store>) {
    let mut ids = BTreeSet::new();
    for age in 0..40 {
        let lease = overdue(age);
        ids.insert(lease.id);
        opened(&*store, &lease).await;
    }
    let tries = (0..20).map(|_| {
        let store = Arc::clone(&store);
        tokio::spawn(async move { claim(&*store, at(100), 4, claimant()).await })
    });
    let mut claimed = BTreeSet::new();
    for tried in futures::future::join_all(tries).await {
        for lease in tried.unwrap() {
            assert!(claimed.insert(lease.id), "{} was claimed twice", lease.id);
        }
    }
    claimed.extend(claim(&*store, at(100), 40, claimant()).await.iter().map(|lease| lease.id));
    assert_eq!(claimed, ids);
}

pub async fn live_leases_are_those_that_are_not_final(store: Arc<dyn Store>) {
    let mut live = Vec::new();
    for state in LeaseState::ALL {
        for role_oid in [None, Some(RoleOid(u32::MAX))] {
            let lease = Lease { state, role_oid, version: 7, ..intent("alice") };
            opened(&*store, &lease).await;
            if !state.is_final() {
                live.push((&lease).into());
            }
        }
    }
    let elsewhere = Lease { cluster: "other".parse().unwrap(), ..intent("alice") };
    opened(&*store, &elsewhere).await;
    let mut found = store.live(&"orders".parse().unwrap()).await.unwrap();
    for leases in [&mut live, &mut found] {
        leases.sort_by_key(|lease: &LiveLease| lease.id);
    }
    assert_eq!(found, live);
    assert_eq!(store.live(&elsewhere.cluster).await.unwrap(), [(&elsewhere).into()]);
}

pub async fn leases_are_listed_newest_first_by_what_the_filter_names(store: Arc<dyn Store>) {
    let mut leases = Vec::new();
    for (age, (account, cluster)) in
        [("alice", "orders"), ("bob", "orders"), ("alice", "other"), ("alice", "orders")]
            .into_iter()
            .enumerate()
    {
        let state = if age == 0 { LeaseState::Active } else { LeaseState::Intent };
        let requested_at = at(-i64::try_from(age).unwrap());
        let cluster = cluster.parse().unwrap();
        leases.push(Lease { state, cluster, requested_at, ..intent(account) });
    }
    for lease in [&leases[2], &leases[0], &leases[3], &leases[1]] {
        opened(&*store, lease).await;
    }
    let check = async |filter: LeaseFilter, expected: &[usize]| {
        let listed = store.leases(&filter).await.unwrap();
        let expected: Vec<Lease> = expected.iter().map(|&index| leases[index].clone()).collect();
        assert_eq!(listed, expected, "{filter:?}");
    };
    let any = LeaseFilter::default;
    let alice = || Some(person("alice"));
    let orders = || Some("orders".parse().unwrap());
    check(any(), &[0, 1, 2, 3]).await;
    check(LeaseFilter { limit: Some(2), ..any() }, &[0, 1]).await;
    check(LeaseFilter { principal: alice(), ..any() }, &[0, 2, 3]).await;
    check(LeaseFilter { cluster: orders(), ..any() }, &[0, 1, 3]).await;
    check(LeaseFilter { states: vec![LeaseState::Intent], ..any() }, &[1, 2, 3]).await;
    check(LeaseFilter { states: LeaseState::ALL.to_vec(), ..any() }, &[0, 1, 2, 3]).await;
    check(LeaseFilter { states: vec![LeaseState::Revoked], ..any() }, &[]).await;
    check(
        LeaseFilter {
            principal: alice(),
            cluster: orders(),
            states: vec![LeaseState::Intent, LeaseState::Revoking],
            limit: Some(9),
        },
        &[3],
    )
    .await;
    let other =
        Principal::Ldap { directory: "partner".parse().unwrap(), account: "alice".to_owned() };
    check(LeaseFilter { principal: Some(other), ..any() }, &[]).await;
}

pub async fn a_session_is_found_by_its_token_until_it_ends(store: Arc<dyn Store>) {
    let (mut alice, bob) = (session("alice", "a", at(0)), session("bob", "b", at(0)));
    let begin = |session: &Session| vec![Change::BeginSession(Box::new(session.clone()))];
    store.commit(begin(&alice), vec![record(0)]).await.unwrap();
    store.commit(begin(&bob), vec![record(0)]).await.unwrap();
    assert!(store.commit(begin(&alice), vec![record(0)]).await.is_err(), "a token is not new");
    assert_eq!(store.session(&alice.token_hash).await.unwrap(), Some(alice.clone()));

    for (seen_at, stored) in [(9, 9), (5, 9), (10, 10)] {
        store.touch_session(alice.id, at(seen_at)).await.unwrap();
        alice.seen_at = at(stored);
        assert_eq!(store.session(&alice.token_hash).await.unwrap(), Some(alice.clone()));
    }
    for _ in 0..2 {
        store.commit(vec![Change::EndSession(alice.id)], vec![record(0)]).await.unwrap();
        store.touch_session(alice.id, at(11)).await.unwrap();
        assert_eq!(store.session(&alice.token_hash).await.unwrap(), None);
    }
    assert_eq!(store.session(&bob.token_hash).await.unwrap(), Some(bob));
}

pub async fn a_role_that_is_gone_is_known_by_its_oid_and_cluster(store: Arc<dyn Store>) {
    let (orders, reports) = ("orders".parse().unwrap(), "reports".parse().unwrap());
    let lease = intent("alice");
    opened(&*store, &lease).await;
    let step = async |lease: Lease| {
        let change = Change::MoveLease(Box::new(lease.clone()));
        store.commit(vec![change], vec![record(0)]).await.unwrap();
        lease
    };
    let active = step(lease.activate(RoleOid(77)).unwrap()).await;
    let ending = step(active.revoke(EndReason::Released).unwrap()).await;
    assert!(!store.had_role(&orders, RoleOid(77)).await.unwrap());
    let ended = step(ending.end_access(at(11)).unwrap()).await;
    step(ended.close(at(12)).unwrap()).await;
    assert!(store.had_role(&orders, RoleOid(77)).await.unwrap());
    assert!(!store.had_role(&orders, RoleOid(78)).await.unwrap());
    assert!(!store.had_role(&reports, RoleOid(77)).await.unwrap());
}

pub async fn what_rests_on_a_login_needs_it_to_stand(store: Arc<dyn Store>) {
    let stands = async |account: &str, proven: i64, session: Option<Uuid>| {
        let (principal, lease) = (person(account), intent(account));
        let login = Login { principal, authenticated_at: at(proven), session };
        let changes = vec![Change::NeedLogin(login), Change::OpenLease(Box::new(lease.clone()))];
        let outcome = store.commit(changes, vec![record(0)]).await;
        let opened = store.lease(lease.id).await.unwrap().is_some();
        match outcome {
            Ok(()) => assert!(opened),
            Err(StoreError::LoginEnded) => assert!(!opened),
            Err(error) => panic!("{error:?}"),
        }
        opened
    };
    let commit = async |change: Change| store.commit(vec![change], vec![record(0)]).await.unwrap();
    let (first, second) = (session("alice", "a", at(0)), session("alice", "b", at(5)));
    for session in [&first, &second] {
        commit(Change::BeginSession(Box::new(session.clone()))).await;
    }
    assert!(stands("alice", 0, Some(first.id)).await);
    assert!(!stands("alice", 0, Some(Uuid::new_v4())).await);
    commit(Change::EndSession(first.id)).await;
    assert!(!stands("alice", 0, Some(first.id)).await);
    assert!(stands("alice", 5, Some(second.id)).await);

    // By key, by printed form, and an earlier moment takes nothing back.
    for (named, moment) in [("ldap:corp:alice", 10), ("ldap:alice", 20), ("ldap:alice", 15)] {
        assert!(stands("alice", moment, None).await || moment == 15);
        commit(Change::EndLoginsOf { person: named.to_owned(), at: at(moment) }).await;
        assert!(!stands("alice", moment - 1, None).await);
    }
    assert_eq!(store.session(&second.token_hash).await.unwrap(), None);
    assert!(!stands("alice", 19, None).await);
    assert!(stands("alice", 20, None).await, "they may log in again");
    assert!(stands("bob", 0, None).await);
}

pub async fn a_person_is_known_by_every_letter_of_their_name(store: Arc<dyn Store>) {
    let names = [
        "a",
        "a\0",
        "a\u{2400}",
        "a\u{2400}0",
        "a\u{2400}\u{2400}",
        "a\\0",
        "\0",
        "A",
        "\u{e4}",
        "a ",
    ];
    let keyed = |name: &str| Lease { request_key: Some(key("k")), ..intent(name) };
    for name in names {
        let lease = keyed(name);
        opened(&*store, &lease).await;
        let found = store.lease_of_key(&lease.principal, &key("k")).await.unwrap();
        assert_eq!(found, Some(lease.clone()), "{name:?}");
        let filter = LeaseFilter { principal: Some(lease.principal.clone()), ..Default::default() };
        assert_eq!(store.leases(&filter).await.unwrap(), [lease], "{name:?}");
        let session = session(name, name, at(0));
        let begin = Change::BeginSession(Box::new(session.clone()));
        store.commit(vec![begin], vec![record(0)]).await.unwrap();
        let answer = store.admit(&[(name.to_owned(), rule(1))], at(0)).await.unwrap();
        assert!(matches!(answer[..], [Admission::Admitted(_)]), "{name:?}");
    }
    for (ended, name) in names.into_iter().enumerate() {
        let counter = Change::ClearAttempts(name.to_owned());
        let logins = Change::EndLoginsOf { person: person(name).to_string(), at: at(1) };
        store.commit(vec![counter, logins], vec![record(0)]).await.unwrap();
        for (index, other) in names.into_iter().enumerate() {
            let hash = SessionToken::unverified(other).hash();
            let stands = store.session(&hash).await.unwrap().is_some();
            assert_eq!(stands, index > ended, "{other:?} after {name:?}");
        }
        let answer = store.admit(&[(name.to_owned(), rule(1))], at(0)).await.unwrap();
        assert!(matches!(answer[..], [Admission::Admitted(_)]), "{name:?}");
    }
}

/// An operator ends the logins of a person, then reads their leases and ends those. Whatever was
/// asked for beside it is either refused or read.
pub async fn a_login_that_ends_beside_a_wish_leaves_no_lease_unseen(store: Arc<dyn Store>) {
    for round in 0..20 {
        let principal = person(&format!("alice{round}"));
        let wishes = (0..8).map(|_| {
            let (store, principal) = (Arc::clone(&store), principal.clone());
            tokio::spawn(async move {
                let login = Login { principal, authenticated_at: at(0), session: None };
                let lease = intent(login.principal.subject());
                let changes =
                    vec![Change::NeedLogin(login), Change::OpenLease(Box::new(lease.clone()))];
                let outcome = store.commit(changes, vec![record(0)]).await;
                match outcome {
                    Ok(()) => Some(lease.id),
                    Err(StoreError::LoginEnded) => None,
                    Err(error) => panic!("{error:?}"),
                }
            })
        });
        let wishes: Vec<_> = wishes.collect();
        let ended = Change::EndLoginsOf { person: principal.key(), at: at(1) };
        store.commit(vec![ended], vec![record(0)]).await.unwrap();
        let filter = LeaseFilter { principal: Some(principal), ..Default::default() };
        let seen = store.leases(&filter).await.unwrap();
        for wish in wishes {
            if let Some(id) = wish.await.unwrap() {
                assert!(seen.iter().any(|lease| lease.id == id), "{id} was opened unseen");
            }
        }
    }
}

fn rule(failures: u32) -> LockoutRule {
    LockoutRule { failures, window: "10m".parse().unwrap(), pause: "5m".parse().unwrap() }
}

pub async fn a_sweep_removes_what_is_over_and_nothing_else(store: Arc<dyn Store>) {
    let times = SessionTimes { idle: "30m".parse().unwrap(), absolute: "4h".parse().unwrap() };
    let minutes = |count: i64| at(count * 60);
    // At minute 600: by idle time, by the absolute time of sessions (4 h), by the identity (8 h).
    let mut sessions = Vec::new();
    for (index, (begun, seen)) in
        [(580, 599), (560, 570), (590, 571), (360, 599), (361, 599), (100, 599)]
            .into_iter()
            .enumerate()
    {
        let begun = session("alice", &index.to_string(), minutes(begun));
        sessions.push(Session { seen_at: minutes(seen), ..begun });
    }
    for session in &sessions {
        let begin = Change::BeginSession(Box::new(session.clone()));
        store.commit(vec![begin], vec![record(0)]).await.unwrap();
    }
    let counters = [("old", 589), ("over", 590), ("new", 591)];
    for (counter, minute) in counters {
        store.admit(&[(counter.to_owned(), rule(9))], minutes(minute)).await.unwrap();
    }
    for (value, until) in [("later", 601), ("over", 600)] {
        let value = OneTimeValue::new("test", value.as_bytes());
        assert!(store.spend(&value, minutes(until), minutes(599)).await.unwrap());
    }
    store.sweep(minutes(600), times).await.unwrap();
    for session in &sessions {
        let kept = store.session(&session.token_hash).await.unwrap().is_some();
        let over = session.end_at(minutes(600), times).is_some();
        assert_eq!(kept, !over, "{session:?}");
    }
    let used = |name: &str| OneTimeValue::new("test", name.as_bytes());
    assert!(!store.spend(&used("later"), minutes(601), minutes(599)).await.unwrap());
    assert!(store.spend(&used("over"), minutes(601), minutes(599)).await.unwrap());
    for (counter, minute) in counters {
        // A kept counter goes on counting: with a limit of one more it closes now.
        let answer = store.admit(&[(counter.to_owned(), rule(9))], minutes(600)).await.unwrap();
        let [Admission::Admitted(attempts)] = answer[..] else { panic!("{answer:?}") };
        assert_eq!(attempts.count, if minute > 590 { 2 } else { 1 }, "{counter}");
    }
}

pub async fn attempts_side_by_side_are_never_more_than_the_rule_allows(store: Arc<dyn Store>) {
    let tries = (0..50).map(|_| {
        let store = Arc::clone(&store);
        tokio::spawn(async move {
            let counters = [("account".to_owned(), rule(5)), ("source".to_owned(), rule(500))];
            store.admit(&counters, at(0)).await.unwrap()
        })
    });
    let mut admitted = 0;
    for answer in futures::future::join_all(tries).await {
        match answer.unwrap()[..] {
            [Admission::Admitted(_), Admission::Admitted(_)] => admitted += 1,
            [Admission::Locked { until }, _] => assert_eq!(until, at(300)),
            ref other => panic!("{other:?}"),
        }
    }
    assert_eq!(admitted, 5);
    let answer = store.admit(&[("source".to_owned(), rule(500))], at(1)).await.unwrap();
    let [Admission::Admitted(source)] = answer[..] else { panic!("{answer:?}") };
    assert_eq!(source.count, 6, "a refused attempt has counted for the source");
}

pub async fn one_counter_that_refuses_keeps_all_from_counting(store: Arc<dyn Store>) {
    let account = ("account".to_owned(), rule(3));
    let source = ("source".to_owned(), rule(1));
    store.admit(std::slice::from_ref(&source), at(0)).await.unwrap();
    for _ in 0..9 {
        let answer = store.admit(&[account.clone(), source.clone()], at(1)).await.unwrap();
        assert!(
            matches!(answer[..], [Admission::Admitted(_), Admission::Locked { until }] if until == at(300)),
            "{answer:?}"
        );
    }
    let answer = store.admit(std::slice::from_ref(&account), at(1)).await.unwrap();
    let [Admission::Admitted(attempts)] = answer[..] else { panic!("{answer:?}") };
    assert_eq!(attempts.count, 1);
    let answer = store.admit(&[account, source], at(300)).await.unwrap();
    assert!(matches!(answer[..], [Admission::Admitted(_), Admission::Admitted(_)]));
}

pub async fn an_attempt_given_back_or_cleared_counts_no_more(store: Arc<dyn Store>) {
    let admit = async || {
        let answer = store.admit(&[("account".to_owned(), rule(2))], at(0)).await.unwrap();
        matches!(answer[..], [Admission::Admitted(_)])
    };
    let change = async |change: Change| store.commit(vec![change], vec![record(0)]).await.unwrap();
    let counter = || "account".to_owned();
    assert!(admit().await && admit().await);
    assert!(!admit().await);
    change(Change::GiveBackAttempt(counter())).await;
    assert!(admit().await);
    assert!(!admit().await);
    change(Change::ClearAttempts(counter())).await;
    assert!(admit().await && admit().await);
    assert!(!admit().await);
    change(Change::GiveBackAttempt("nobody".to_owned())).await;
    change(Change::ClearAttempts("nobody".to_owned())).await;
}

pub async fn a_one_time_value_is_accepted_once(store: Arc<dyn Store>) {
    let value = OneTimeValue::new("state", b"1");
    let spend = async |value: &OneTimeValue, until: i64, now: i64| {
        store.spend(value, at(until), at(now)).await.unwrap()
    };
    assert!(!spend(&value, 10, 10).await, "its time is over");
    assert!(spend(&value, 10, 0).await);
    assert!(!spend(&value, 10, 0).await);
    assert!(!spend(&value, 99, 9).await);
    assert!(spend(&OneTimeValue::new("nonce", b"1"), 10, 0).await, "another kind");
    assert!(spend(&OneTimeValue::new("state", b"2"), 10, 0).await, "another value");
    assert!(spend(&value, 20, 10).await, "its first time is over");
    assert!(!spend(&value, 20, 19).await);
}

pub async fn one_of_many_who_show_a_one_time_value_is_let_through(store: Arc<dyn Store>) {
    let tries = (0..50).map(|number| {
        let store = Arc::clone(&store);
        tokio::spawn(async move {
            let value = OneTimeValue::new("assertion", &[number % 5]);
            (number % 5, store.spend(&value, at(10), at(0)).await.unwrap())
        })
    });
    let tried = futures::future::join_all(tries).await.into_iter().map(Result::unwrap);
    let mut accepted: Vec<u8> = tried.filter(|(_, ok)| *ok).map(|(value, _)| value).collect();
    accepted.sort_unstable();
    assert_eq!(accepted, [0, 1, 2, 3, 4]);
}

pub async fn the_newest_lease_tells_how_late_it_was_at_least(store: Arc<dyn Store>) {
    store.commit(vec![], vec![record(9)]).await.unwrap();
    assert_eq!(store.latest().await.unwrap(), None);
    for (asked, latest) in [(5, 5), (9, 9), (7, 9)] {
        opened(&*store, &Lease { requested_at: at(asked), ..intent("alice") }).await;
        assert_eq!(store.latest().await.unwrap(), Some(at(latest)));
    }
}

pub async fn the_marker_key_of_the_first_broker_is_in_force(store: Arc<dyn Store>) {
    let fingerprint = || MarkerKey::random(&mut rand::rng()).fingerprint();
    assert_eq!(store.marker_key(None).await.unwrap(), None);
    let offers = (0..8).map(|_| {
        let store = Arc::clone(&store);
        tokio::spawn(async move { store.marker_key(Some(&fingerprint())).await.unwrap() })
    });
    let in_force = store.marker_key(Some(&fingerprint())).await.unwrap();
    assert!(in_force.is_some());
    for offered in futures::future::join_all(offers).await {
        assert_eq!(offered.unwrap(), in_force);
    }
    assert_eq!(store.marker_key(None).await.unwrap(), in_force);
}

pub async fn audit_records_are_numbered_without_gaps_and_read_back_exactly(store: Arc<dyn Store>) {
    let stale = intent("nobody").activate(RoleOid(1)).unwrap();
    let tries = (0..40).map(|number| {
        let (store, stale) = (Arc::clone(&store), stale.clone());
        tokio::spawn(async move {
            let detail = Some(format!("{number} \"σ\u{7f}\n"));
            let records = vec![record(number), Record { detail, ..record(number) }];
            let changes =
                if number % 4 == 0 { vec![Change::MoveLease(Box::new(stale))] } else { vec![] };
            (store.commit(changes, records.clone()).await.is_ok(), records)
        })
    });
    let mut written = BTreeSet::new();
    for tried in futures::future::join_all(tries).await {
        let (done, records) = tried.unwrap();
        if done {
            let lines = records.iter().map(|record| serde_json::to_string(record).unwrap());
            written.insert(lines.collect::<Vec<_>>());
        }
    }
    let entries = audit(&*store).await;
    let numbers: Vec<u64> = entries.iter().map(|entry| entry.seq).collect();
    assert_eq!(numbers, (1..=60).collect::<Vec<_>>());
    let pairs = entries.chunks(2).map(|pair| pair.iter().map(|entry| entry.json.clone()));
    assert_eq!(pairs.map(Iterator::collect).collect::<BTreeSet<Vec<_>>>(), written);

    assert_eq!(store.audit_after(10, 5).await.unwrap(), entries[10..15]);
    assert_eq!(store.audit_after(58, 5).await.unwrap(), entries[58..]);
    assert_eq!(store.audit_after(60, 5).await.unwrap(), []);
    assert_eq!(store.audit_after(u64::MAX, 5).await.unwrap(), []);
}

pub async fn a_store_that_works_can_be_probed(store: Arc<dyn Store>) {
    store.probe().await.unwrap();
    store.probe().await.unwrap();
}
