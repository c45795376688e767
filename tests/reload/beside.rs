//! What happens beside: a lease that is on its way, a store that is away, another broker.

use std::fs;
use std::sync::Arc;

use pgbridge::broker::MapHealth;
use pgbridge::clock::Clock;
use pgbridge::store::Store;
use reqwest::Method;
use serde_json::{Value, json};

use super::{edited, every, held, in_force, issue, logged, of_action, readiness, replace, told};
use crate::support::inside::{Share, alice, audit, live_leases, request, started, wish};
use crate::support::{
    Caller, FailingStore, Faults, Inside, Moment, Signal, StoreServer, TestBed, locked_roles,
    until, waiting,
};

/// A lease that the old map allowed is not handed out when the new one comes first.
#[tokio::test]
async fn a_lease_that_is_on_its_way_when_the_map_takes_it_away_is_not_handed_out() {
    let bed = TestBed::start_with(16, every("1h"));
    let (alice, bob) = (bed.login("alice").await, bed.login("bob").await);
    let (alice, bob) = (Caller::Session(&alice), Caller::Session(&bob));
    let path = bed.file("pg_ident.conf");
    let map = fs::read_to_string(&path).expect("the map");

    let lock = locked_roles(&bed).await;
    let reload = async {
        waiting(&bed).await;
        replace(&path, &edited(&map, "orders-readers", ""));
        bed.signal(Signal::Hangup);
        in_force(&bed, 1).await;
        lock.batch_execute("COMMIT").await.expect("it is held");
    };
    let (alices, bobs, ()) =
        tokio::join!(issue(&bed, alice, "orders_read"), issue(&bed, bob, "orders_write"), reload);
    assert_ne!(alices.status, 201, "{alices:?}");
    let (_, kept, _) = held(&bobs);
    until("only bob's role to be left", async || {
        (bed.lease_roles() == [kept.clone()]).then_some(())
    })
    .await;
    let issued = of_action(&bed, "lease.requested");
    assert!(issued.iter().any(|record| record["role"] == "orders_read"), "{issued:?}");
}

/// Nothing is in force that is not written down; and what takes rights away comes as soon as it is.
#[tokio::test]
async fn a_map_that_cannot_be_written_down_comes_into_force_when_it_can() {
    let inside = Inside::start(16, |_, config| every("1s")(config)).await;
    let (share, clock) = (Share(1), Clock::system());
    let kept = inside.store("kept.db");
    let store = FailingStore::before(Arc::clone(&kept) as Arc<dyn Store>);
    let broker = inside.broker(share, Arc::clone(&store) as Arc<dyn Store>, clock.clone());
    broker.record_start().await.expect("the store works");
    let workers = started(&broker, &clock).await;
    let caller = alice(&broker, &*store, clock.now()).await;
    let issued = broker.issue(&request(), &caller, wish()).await;
    let issued = issued.unwrap_or_else(|error| panic!("{error}"));
    let former = broker.map_revision();

    store.fail_in(&["commit"], Faults { first: 1, count: u64::MAX, moment: Moment::Before });
    let path = inside.file("pg_ident.conf");
    let map = fs::read_to_string(&path).expect("the map");
    replace(&path, &edited(&map, "orders-readers", ""));
    until("the map to be tried twice", async || {
        let stale = broker.health().await.map == MapHealth::Stale;
        stale.then_some(())
    })
    .await;
    assert_eq!(broker.map_revision(), former);
    assert_eq!(broker.on_offer(&request(), &caller).await.entitlements.len(), 1);
    let failed = store.heal();
    assert!(failed["commit"] > 0, "{failed:?}");

    until("the map to be in force", async || (broker.map_revision() != former).then_some(())).await;
    until("the lease to end", async || live_leases(&*kept).await.is_empty().then_some(())).await;
    let records = audit(&*kept).await;
    let reloaded: Vec<&Value> =
        records.iter().filter(|record| record["action"] == "map.reloaded").collect();
    assert_eq!(reloaded.len(), 1, "{reloaded:?}");
    let revision = broker.map_revision();
    assert_eq!(reloaded[0]["map_revision"], json!(revision));
    for revision in [&former, &revision] {
        assert!(kept.map_revision(revision).await.expect("the store works").is_some());
    }
    assert!(!inside.lease_roles(share).await.contains(issued.lease.role_name.as_str()));
    workers.stop().await;
}

/// What is wrong with a map is written down also when the store is away just then, and once.
#[tokio::test]
async fn a_map_that_is_refused_while_the_store_is_away_is_written_down_once_it_is_back() {
    let inside = Inside::start(16, |_, config| every("1s")(config)).await;
    let (share, clock) = (Share(1), Clock::system());
    let kept = inside.store("kept.db");
    let store = FailingStore::before(Arc::clone(&kept) as Arc<dyn Store>);
    let broker = inside.broker(share, Arc::clone(&store) as Arc<dyn Store>, clock.clone());
    broker.record_start().await.expect("the store works");
    let workers = started(&broker, &clock).await;
    let path = inside.file("pg_ident.conf");
    let map = fs::read_to_string(&path).expect("the map");
    let is = async |health: MapHealth| {
        until("the map's health", async || (broker.health().await.map == health).then_some(()))
            .await;
    };
    let refused = async |count: usize| {
        until("what was refused", async || {
            let mut records = audit(&*kept).await;
            records.retain(|record| record["action"] == "map.refused");
            (records.len() >= count).then_some(records)
        })
        .await
    };

    // It is gone before the store is back.
    store.refuse("commit");
    replace(&path, &format!("{map}corp mallory\n"));
    is(MapHealth::Stale).await;
    replace(&path, &map);
    is(MapHealth::Current).await;
    store.heal();
    let records = refused(1).await;
    assert!(records[0]["detail"].as_str().expect("why").contains("missing entry"), "{records:?}");

    // It is there when the store is back.
    store.refuse("commit");
    replace(&path, &format!("{map}corp mallory\ncorp mallory\n"));
    is(MapHealth::Stale).await;
    store.heal();
    refused(2).await;
    replace(&path, &format!("{map}corp bob orders_read\n"));
    until("another map", async || {
        let records = audit(&*kept).await;
        records.iter().any(|record| record["action"] == "map.reloaded").then_some(())
    })
    .await;
    assert_eq!(refused(2).await.len(), 2);
    workers.stop().await;
}

/// Each broker follows its own file, and both tell by which map they decide.
#[tokio::test]
async fn of_two_brokers_each_decides_by_its_own_map_and_the_store_keeps_both() {
    let server = StoreServer::start(16);
    server.make("store");
    let lines = server.lines("store");
    let bed = TestBed::start_with(15, |config| {
        every("1h")(config.replace("path = \"pgbridge.db\"", &lines))
    });
    let fellow = bed.fellow();
    let token = bed.login("alice").await;
    let alice = Caller::Session(&token);
    let (_, first, _) = held(&issue(&bed, alice, "orders_read").await);
    let map = fs::read_to_string(bed.file("pg_ident.conf")).expect("the map");
    let new = edited(&map, "orders-readers", "");
    replace(&bed.file("pg_ident.conf"), &new);
    bed.signal(Signal::Hangup);
    told(&bed, "map.reloaded", 1).await;
    until("the first role to be gone", async || {
        (!bed.lease_roles().contains(&first)).then_some(())
    })
    .await;
    assert_eq!(issue(&bed, alice, "orders_read").await.status, 403);

    // The other was told nothing, and has not changed.
    let wish = json!({ "cluster": "orders", "role": "orders_read", "ttl": "10m" });
    let there = fellow.call(Method::POST, "/v1/leases", alice, Some(wish.clone())).await;
    let (_, second, _) = held(&there);
    fellow.write("pg_ident.conf", &new);
    fellow.signal(Signal::Hangup);
    let reloaded = told(&bed, "map.reloaded", 2).await;
    assert_eq!(reloaded[0]["map_revision"], reloaded[1]["map_revision"]);
    until("the second role to be gone", async || {
        (!bed.lease_roles().contains(&second)).then_some(())
    })
    .await;
    let refused = fellow.call(Method::POST, "/v1/leases", alice, Some(wish)).await;
    assert_eq!(refused.status, 403, "{refused:?}");
    let kept = server.postgres.sql("store", "SELECT count(*) FROM pgbridge.map_revision");
    assert_eq!(kept, [["2"]]);
    // What was kept is never changed.
    for change in
        ["UPDATE pgbridge.map_revision SET postgres = 13", "TRUNCATE pgbridge.map_revision"]
    {
        let refused = server.postgres.try_sql("store", change).expect_err("it is kept");
        assert!(refused.contains("never changed"), "{refused}");
    }
    bed.signal(Signal::Hangup);
    logged(&bed, "the map has not changed").await;
    assert_eq!(readiness(&bed).await, (200, "current".to_owned()));
}
