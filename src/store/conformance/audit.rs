//! The audit and the head: a change and its record are one, and all brokers go by one key.

use std::collections::BTreeSet;
use std::sync::Arc;

use super::{at, audit, intent, opened, record, session};
use crate::audit::{Action, Record, Subject};
use crate::lease::MarkerKey;
use crate::mapping::{Dialect, IdentMap, RevisionBeginning};
use crate::names::RoleOid;
use crate::store::{Change, Store, StoreError, StoredMap};

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

pub async fn what_the_audit_has_of_maps_is_found_behind_whatever_came_after(store: Arc<dyn Store>) {
    let revision = |line: &str| {
        let map = IdentMap::parse(Dialect::default(), "pg_ident.conf", line.as_bytes()).unwrap();
        map.revision().clone()
    };
    let of = |action: Action, line: &str| Record {
        map_revision: Some(revision(line)),
        ..Record::new(at(1), action, Subject::Broker)
    };
    let (first, second) = ("corp alice all\n", "corp bob all\n");
    store.commit(vec![], vec![record(1)]).await.unwrap();
    assert_eq!(store.map_records(9).await.unwrap(), []);
    let started = Record {
        policy: Some(vec!["[access]: map = \"duties\"".to_owned()]),
        ..of(Action::BrokerStarted, first)
    };
    let reloaded =
        Record { former_map_revision: Some(revision(first)), ..of(Action::MapReloaded, second) };
    let compared = Record { action: Action::MapCompared, ..reloaded.clone() };
    let mut newest = Vec::new();
    for of_map in [started, reloaded, compared] {
        store.commit(vec![], vec![of_map.clone()]).await.unwrap();
        newest.insert(0, of_map);
        // Records of decisions name maps too, and texts say anything.
        let detail = Some("\"action\":\"map.reloaded\"".to_owned());
        for action in [Action::LeaseRequested, Action::MapRefused] {
            let record = Record { detail: detail.clone(), ..of(action, first) };
            store.commit(vec![], vec![record]).await.unwrap();
        }
        assert_eq!(store.map_records(9).await.unwrap(), newest);
    }
    assert_eq!(store.map_records(1).await.unwrap(), newest[..1]);
}

pub async fn a_revision_of_the_map_is_kept_as_it_was_read(store: Arc<dyn Store>) {
    let map = |line: &[u8]| {
        let bytes = [b"corp alice orders_read # \xff \xc3\xbc\n", line].concat();
        IdentMap::parse(Dialect::default(), "pg_ident.conf", &bytes).unwrap()
    };
    let kept = |map: &IdentMap, seconds| StoredMap {
        revision: map.revision().clone(),
        dialect: map.dialect(),
        text: map.text().clone(),
        first_used_at: at(seconds),
    };
    let [first, second] = [map(b"corp bob all\n"), map(b"corp carol all\n")];
    assert_ne!(first.revision(), second.revision());
    assert_eq!(store.map_revision(first.revision()).await.unwrap(), None);
    let keep = |map: &IdentMap, seconds| vec![Change::KeepMap(Box::new(kept(map, seconds)))];
    store.commit(keep(&first, 1), vec![record(1)]).await.unwrap();
    // Whoever takes it again, and when, changes nothing.
    let again = (0..8).map(|number| store.commit(keep(&first, 10 + number), vec![record(2)]));
    futures::future::try_join_all(again).await.unwrap();
    assert_eq!(store.map_revision(first.revision()).await.unwrap(), Some(kept(&first, 1)));
    assert_eq!(store.map_revision(second.revision()).await.unwrap(), None);
    store.commit(keep(&second, 3), vec![record(3)]).await.unwrap();
    for (map, seconds) in [(&first, 1), (&second, 3)] {
        let stored = store.map_revision(map.revision()).await.unwrap();
        assert_eq!(stored, Some(kept(map, seconds)));
        let read_again = stored.unwrap().map().unwrap();
        assert_eq!(read_again.revision(), map.revision());
    }
    assert!(matches!(store.commit(keep(&first, 9), vec![]).await, Err(StoreError::Failed { .. })));
    for map in [&first, &second] {
        let revision = map.revision();
        for digits in [8, 64] {
            let beginning = RevisionBeginning::from_hex(&revision.as_str()[..digits]).unwrap();
            let found = store.map_revisions(&beginning).await.unwrap();
            assert_eq!(found, std::slice::from_ref(revision), "{beginning}");
        }
    }
    let unknown = RevisionBeginning::from_hex("00000000").unwrap();
    assert_eq!(store.map_revisions(&unknown).await.unwrap(), []);
}

pub async fn a_store_that_works_can_be_probed(store: Arc<dyn Store>) {
    store.probe().await.unwrap();
    store.probe().await.unwrap();
}
