//! Logins: sessions, what rests on them, and what is accepted once.

use std::sync::Arc;

use uuid::Uuid;

use super::{at, intent, person, record, rule, session};
use crate::auth::{Admission, Session, SessionTimes};
use crate::store::{Change, LeaseFilter, Login, OneTimeValue, Store, StoreError};

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
