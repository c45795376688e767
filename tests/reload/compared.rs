//! Who gains and who loses what: told once the map is in force, whatever it takes to find it out.

use std::fmt::Write as _;
use std::fs;

use std::sync::Arc;
use std::time::Duration;

use jiff::Timestamp;
use pgbridge::audit::{Action, Record, Subject};
use pgbridge::broker::Broker;
use pgbridge::clock::Clock;
use pgbridge::mapping::{Dialect, IdentMap, MapRevision};
use pgbridge::store::{Change, Store, StoredMap};
use serde_json::Value;

use super::{every, held, issue, of_action, replace, told};
use crate::support::inside::{Share, audit, started};
use crate::support::{Caller, Inside, Signal, TestBed, until};

/// Patterns that could match the same, for every role that is lent: much to compare with others.
fn hard(map: &str, between: &str) -> String {
    let mut map = map.to_owned();
    for number in 0..800 {
        let _ = writeln!(map, "corp \"/^(.*)x{number}{between}$\" \\1");
    }
    map
}

/// The `count`th comparison, with how it ended, and why.
async fn compared(bed: &TestBed, count: usize) -> (Value, String, String) {
    let record = told(bed, "map.compared", count).await[count - 1].clone();
    let word = |key: &str| record[key].as_str().unwrap_or_default().to_owned();
    let (outcome, cause) = (word("outcome"), word("cause"));
    (record, outcome, cause)
}

#[tokio::test]
async fn a_map_that_is_much_to_compare_is_in_force_meanwhile_and_called_off_by_the_next() {
    let mut bed = TestBed::start_with(16, every("1h"));
    let (path, carol) = (bed.file("pg_ident.conf"), bed.login("carol").await);
    let map = fs::read_to_string(&path).expect("the map");
    let reload = async |text: &str, count: usize| {
        replace(&path, text);
        bed.signal(Signal::Hangup);
        told(&bed, "map.reloaded", count).await[count - 1].clone()
    };
    reload(&hard(&map, ""), 1).await;
    // However much of it is found out: the next comparison begins after it.
    compared(&bed, 1).await;
    assert_eq!(issue(&bed, Caller::Session(&carol), "orders_read").await.status, 403);

    let with_carol = format!("{map}corp carol orders_read\n");
    let second = reload(&hard(&with_carol, "y?"), 2).await;
    held(&issue(&bed, Caller::Session(&carol), "orders_read").await);
    let third = reload(&hard(&format!("{with_carol}corp dave orders_read\n"), "y?"), 3).await;
    let (record, outcome, cause) = compared(&bed, 2).await;
    assert_eq!((outcome.as_str(), cause.as_str()), ("failed", "newer_map"));
    for key in ["former_map_revision", "map_revision"] {
        assert_eq!(record[key], second[key]);
    }
    let detail = record["detail"].as_str().expect("what was found by then");
    let lines: Vec<&str> = detail.lines().collect();
    assert!(lines[0].starts_with("! corp: ") && lines[0].ends_with("too long"), "{}", lines[0]);
    assert!(lines[1].starts_with("+ corp: carol may now act as orders_read"), "{}", lines[1]);
    let last = lines.last().expect("one");
    assert!(last.contains("another map has come") && last.contains("map diff"), "{last}");

    // The one after is compared with the one before it, and is little.
    let (record, outcome, _) = compared(&bed, 3).await;
    assert_eq!(outcome, "done");
    assert_eq!(record["former_map_revision"], third["former_map_revision"]);
    assert_eq!(record["former_map_revision"], second["map_revision"]);
    let detail = record["detail"].as_str().expect("what was found");
    assert!(detail.starts_with("+ corp: dave may now act as orders_read"), "{detail}");
    assert_eq!(detail.lines().count(), 1, "{detail}");

    // A broker that stops waits for none, and says so.
    reload(&hard(&map, ""), 4).await;
    bed.stop();
    let (_, outcome, cause) = compared(&bed, 4).await;
    assert_eq!((outcome.as_str(), cause.as_str()), ("failed", "broker_stopped"));
}

#[tokio::test]
async fn what_a_killed_broker_did_not_compare_is_compared_at_the_next_start() {
    let mut bed = TestBed::start_with(16, every("1h"));
    let path = bed.file("pg_ident.conf");
    let map = fs::read_to_string(&path).expect("the map");
    let reload = async |text: &str, count: usize| {
        replace(&path, text);
        bed.signal(Signal::Hangup);
        told(&bed, "map.reloaded", count).await[count - 1].clone()
    };
    reload(&hard(&map, ""), 1).await;
    compared(&bed, 1).await;
    let second = reload(&hard(&map, "y?"), 2).await;
    bed.kill();
    assert_eq!(of_action(&bed, "map.compared").len(), 1, "it was too little to compare");
    bed.start_again();
    let (record, ..) = compared(&bed, 2).await;
    for key in ["former_map_revision", "map_revision"] {
        assert_eq!(record[key], second[key]);
    }
    // That is all there was.
    bed.stop();
    replace(&path, &map);
    bed.start_again();
    let (record, ..) = compared(&bed, 3).await;
    assert_eq!(record["former_map_revision"], second["map_revision"]);
    assert_eq!(of_action(&bed, "map.reloaded").len(), 3);
}

fn record(
    action: Action,
    (former, revision): (&MapRevision, &MapRevision),
    policy: &[String],
    at: Timestamp,
) -> Record {
    Record {
        former_map_revision: Some(former.clone()),
        map_revision: Some(revision.clone()),
        policy: Some(policy.to_vec()),
        ..Record::new(at, action, Subject::Broker)
    }
}

/// What the configuration of a broker says, as it is written down when it starts.
async fn configured(broker: &Broker, store: &dyn Store) -> Vec<String> {
    broker.record_start().await.expect("the store works");
    let started = store.map_records(1).await.expect("the store works");
    started.into_iter().find_map(|record| record.policy).expect("it says what it goes by")
}

/// Revisions, causes and details of all comparisons, once there are `count`.
async fn comparisons(store: &dyn Store, count: usize) -> Vec<[Value; 4]> {
    until(&format!("{count} comparisons"), async || {
        let mut records = audit(store).await;
        records.retain(|record| record["action"] == "map.compared");
        let told = records.iter().map(|record| {
            ["former_map_revision", "map_revision", "cause", "detail"]
                .map(|key| record[key].clone())
        });
        (records.len() >= count).then(|| told.collect())
    })
    .await
}

/// A map that is kept, with the lines of the usual one and more.
async fn another(store: &dyn Store, map: &str, more: &str) -> MapRevision {
    let text = format!("{map}{more}");
    let map = IdentMap::parse(Dialect::default(), "pg_ident.conf", text.as_bytes()).expect("a map");
    let kept = StoredMap {
        revision: map.revision().clone(),
        dialect: map.dialect(),
        text: map.text().clone(),
        first_used_at: Timestamp::UNIX_EPOCH,
    };
    let record = Record::new(Timestamp::UNIX_EPOCH, Action::Login, Subject::Broker);
    let kept = vec![Change::KeepMap(Box::new(kept))];
    store.commit(kept, vec![record]).await.expect("the store works");
    map.revision().clone()
}

#[tokio::test]
async fn each_map_that_was_not_compared_is_told_with_what_can_still_be_said_of_it() {
    let inside = Inside::start(16, |_, config| every("1h")(config)).await;
    let (clock, store) = (Clock::system(), inside.store("kept.db"));
    let broker = inside.broker(Share(1), Arc::clone(&store) as Arc<dyn Store>, clock.clone());
    let map = fs::read_to_string(inside.file("pg_ident.conf")).expect("the map");
    let now = broker.map_revision();
    let first = another(&*store, &map, "corp dave orders_read\n").await;
    let second = another(&*store, &map, "corp erin orders_read\n").await;
    let unknown = MapRevision::from_hex(&"0".repeat(64)).expect("a revision");
    let policy = configured(&broker, &*store).await;
    let came = async |former, revision, policy: &[String]| {
        let came = record(Action::MapReloaded, (former, revision), policy, clock.now());
        store.commit(Vec::new(), vec![came]).await.expect("the store works");
    };
    for (former, revision) in [(&first, &second), (&unknown, &now), (&second, &now)] {
        came(former, revision, &policy).await;
    }
    broker.record_start().await.expect("the store works");
    let workers = started(&broker, &clock).await;
    clock.advance(Duration::from_secs(20));
    let told = comparisons(&*store, 3).await;
    let [superseded, lost, whole] = told.as_slice() else { panic!("{told:?}") };
    let text = |revision: &MapRevision| Value::from(revision.as_str());
    assert_eq!(superseded[..3], [text(&first), text(&second), "newer_map".into()]);
    assert_eq!(lost[..3], [text(&unknown), text(&now), "not_kept".into()]);
    let detail = lost[3].as_str().expect("why");
    assert!(detail.contains("the map before cannot be read again"), "{detail}");
    assert_eq!(whole[..3], [text(&second), text(&now), Value::Null]);
    let detail = whole[3].as_str().expect("who loses");
    assert!(detail.starts_with("- corp: erin may no longer act as orders_read"), "{detail}");
    assert_eq!(detail.lines().count(), 1, "{detail}");
    workers.stop().await;
    // Who gained by a map is not known where the configuration goes by others today.
    came(&first, &now, &["corp: map other".to_owned()]).await;
    let broker = inside.broker(Share(1), Arc::clone(&store) as Arc<dyn Store>, clock.clone());
    broker.record_start().await.expect("the store works");
    let workers = started(&broker, &clock).await;
    clock.advance(Duration::from_secs(20));
    let told = comparisons(&*store, 4).await;
    assert_eq!(told[3][..3], [text(&first), text(&now), "configuration_changed".into()]);
    workers.stop().await;
    // Not again at the next start, which tells of the next map.
    let map = format!("{map}corp frank orders_read\n");
    replace(&inside.file("pg_ident.conf"), &map);
    let broker = inside.broker(Share(1), Arc::clone(&store) as Arc<dyn Store>, clock.clone());
    broker.record_start().await.expect("the store works");
    let workers = started(&broker, &clock).await;
    let told = comparisons(&*store, 5).await;
    assert_eq!(told[4][0], text(&now));
    workers.stop().await;
}

/// Another broker took the map, and is comparing it when this one starts.
#[tokio::test]
async fn what_another_broker_is_just_comparing_is_told_once() {
    let inside = Inside::start(16, |_, config| every("1h")(config)).await;
    let (clock, store) = (Clock::system(), inside.store("kept.db"));
    let broker = inside.broker(Share(1), Arc::clone(&store) as Arc<dyn Store>, clock.clone());
    let map = fs::read_to_string(inside.file("pg_ident.conf")).expect("the map");
    let (now, before) = (broker.map_revision(), another(&*store, &map, "corp dave all\n").await);
    let policy = configured(&broker, &*store).await;
    let commit = async |action: Action| {
        let record = record(action, (&before, &now), &policy, clock.now());
        store.commit(Vec::new(), vec![record]).await.expect("the store works");
    };
    commit(Action::MapReloaded).await;
    broker.record_start().await.expect("the store works");
    commit(Action::MapCompared).await;
    let workers = started(&broker, &clock).await;
    clock.advance(Duration::from_secs(20));
    // What comes after is compared after.
    let path = inside.file("pg_ident.conf");
    replace(&path, &format!("{map}corp dave orders_read\n"));
    broker.reload_map();
    let told = comparisons(&*store, 2).await;
    assert_eq!(told[1][0], Value::from(now.as_str()));
    let detail = told[1][3].as_str().expect("who gains");
    assert!(detail.starts_with("+ corp: dave may now act as orders_read"), "{detail}");
    workers.stop().await;
    assert_eq!(comparisons(&*store, 2).await.len(), 2);
}
