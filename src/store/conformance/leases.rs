//! Leases: kept as they are, moved once from each version, found by what is known of them.

use std::sync::Arc;

use jiff::Timestamp;

use super::{at, audit, claim, claimant, intent, key, micros, opened, person, record, try_move};
use crate::audit::{Action, Record};
use crate::lease::{Blocker, BlockerKind, EndReason, Holder, Lease, LeaseState, LiveLease};
use crate::mapping::{Because, Case, Matched, Memberships, ObjectPolicy, RuleRef};
use crate::names::{AccountId, Principal, RoleOid, SessionToken};
use crate::store::{Change, LATEST_AMONG, LeaseFilter, Store, StoreError};

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

/// As much as there can be, with `text` wherever there can be any.
fn because(text: &str) -> Because {
    let roles = ["orders_read", "staff", text];
    let edges = [(roles[0], roles[1]), (roles[1], roles[2])];
    Because {
        map: "corp".parse().unwrap(),
        matched: Matched::Group(text.to_owned()),
        case: Case::Insensitive,
        capture: Some(text.to_owned()),
        members: Some(Memberships::of_edges(roles, edges)),
    }
}

pub async fn every_field_of_a_lease_reads_back(store: Arc<dyn Store>) {
    let hostile = "we\"ird'x\n\u{0}σ'; DROP TABLE lease; --";
    for (state, end) in LeaseState::ALL.into_iter().cycle().zip(EndReason::ALL) {
        let bare = Lease { state, ..intent("alice") };
        let full = Lease {
            version: u32::MAX,
            principal: person(hostile),
            account_id: AccountId::of_guid(&[0xb2; 16]),
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
            because: Some(because(hostile)),
            ..moved(&Lease { version: 1, ..intent("alice") }, state, end)
        };
        for lease in [bare, full] {
            opened(&*store, &lease).await;
            assert_eq!(store.lease(lease.id).await.unwrap(), Some(lease));
        }
    }
}

pub async fn a_move_writes_all_that_a_move_may_change_and_nothing_else(store: Arc<dyn Store>) {
    for (state, end) in LeaseState::ALL.into_iter().zip(EndReason::ALL) {
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

    let ending = active.revoke(EndReason::Released, at(9)).unwrap();
    try_move(&*store, &ending).await.unwrap();
    assert_eq!(store.lease_of_key(&first.principal, &key("k")).await.unwrap(), None);
    open(&keyed("alice")).await.unwrap();
}

pub async fn a_lease_is_replaced_in_one_step(store: Arc<dyn Store>) {
    let keyed = || Lease { request_key: Some(key("k")), ..intent("alice") };
    let (old, new) = (keyed(), keyed());
    opened(&*store, &old).await;
    let ended = old.revoke(EndReason::Replaced, at(9)).unwrap();
    let changes =
        vec![Change::MoveLease(Box::new(ended)), Change::OpenLease(Box::new(new.clone()))];
    store.commit(changes, vec![record(1), record(1)]).await.unwrap();
    let found = store.lease_of_key(&new.principal, &key("k")).await.unwrap();
    assert_eq!(found.map(|lease| lease.id), Some(new.id));
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
    let ending = step(active.revoke(EndReason::Released, at(9)).unwrap()).await;
    assert!(!store.had_role(&orders, RoleOid(77)).await.unwrap());
    let ended = step(ending.end_access(at(11)).unwrap()).await;
    step(ended.close(at(12)).unwrap()).await;
    assert!(store.had_role(&orders, RoleOid(77)).await.unwrap());
    assert!(!store.had_role(&orders, RoleOid(78)).await.unwrap());
    assert!(!store.had_role(&reports, RoleOid(77)).await.unwrap());
}

pub async fn what_was_written_by_compared_clocks_tells_how_late_it_was_at_least(
    store: Arc<dyn Store>,
) {
    let write = async |at_second: i64, action: Action, cause: Option<&str>| {
        let cause = cause.map(str::to_owned);
        let record = Record { action, cause, ..record(at_second) };
        store.commit(vec![], vec![record]).await.unwrap();
        store.latest().await.unwrap()
    };
    // What is written before the clocks are compared may bear any time.
    for action in [Action::BrokerStarted, Action::Login, Action::RevokeRequested] {
        assert_eq!(write(90, action, None).await, None);
    }
    assert_eq!(write(90, Action::BrokerStopped, Some("clocks_not_compared")).await, None);
    for (asked, latest) in [(5, 5), (9, 9), (7, 9)] {
        opened(&*store, &Lease { requested_at: at(asked), ..intent("alice") }).await;
        assert_eq!(store.latest().await.unwrap(), Some(at(latest)));
    }
    assert_eq!(write(8, Action::LeaseRevoked, None).await, Some(at(9)));
    assert_eq!(write(12, Action::AccessEnded, None).await, Some(at(12)));
    assert_eq!(write(11, Action::ClockSet, None).await, Some(at(12)));
    assert_eq!(write(15, Action::BrokerStopped, None).await, Some(at(15)));
    // Behind very many others only the lease counts.
    let many = (0..LATEST_AMONG).map(|_| record(90)).collect();
    store.commit(vec![], many).await.unwrap();
    assert_eq!(store.latest().await.unwrap(), Some(at(9)));
}
