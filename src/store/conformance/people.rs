//! People: what each of them has, how much they may have, and that no two are taken for one.

use std::collections::BTreeSet;
use std::sync::Arc;

use super::{at, intent, key, opened, person, record, rule, session, try_move};
use crate::auth::Admission;
use crate::lease::{EndReason, Lease, LeaseState};
use crate::names::{Principal, RoleOid, SessionToken};
use crate::store::{Change, ENDING_MOST, LeaseFilter, Room, Store, StoreError};

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
    let ending = active.revoke(EndReason::Replaced, at(9)).unwrap();
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
