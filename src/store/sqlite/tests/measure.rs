//! How fast the store is.

use std::sync::Arc;
use std::time::Duration;

use super::place;
use crate::clock::Stopwatch;
use crate::lease::{Lease, LeaseState};
use crate::store::conformance::{at, intent, opened, record, session};
use crate::store::sqlite::SqliteStore;
use crate::store::{Change, Store};

/// Prints what the store does on this disk. To measure a release build of it:
/// `cargo test --release --lib store::sqlite -- --ignored --nocapture`.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
#[ignore = "a measurement"]
async fn measure() {
    let (_directory, path) = place();
    let store = Arc::new(SqliteStore::open(&path).unwrap());
    for callers in [1, 4, 16, 64] {
        let watch = Stopwatch::start();
        let moves = 4000 / u32::try_from(callers).unwrap() + 500;
        let tasks = (0..callers).map(|_| tokio::spawn(move_one_lease(Arc::clone(&store), moves)));
        let mut waits: Vec<Duration> = Vec::new();
        for task in futures::future::join_all(tasks).await {
            waits.extend(task.unwrap());
        }
        let rate = f64::from(u32::try_from(waits.len()).unwrap()) / watch.elapsed().as_secs_f64();
        println!("{callers} callers: {rate:.0} commits/s, {}", spread(waits));
    }
    for readers in [1, 4] {
        let tasks = (0..readers).map(|reader| tokio::spawn(look_up(Arc::clone(&store), reader)));
        for task in futures::future::join_all(tasks).await {
            println!("{readers} readers: session look-up {}", spread(task.unwrap()));
        }
    }
}

async fn move_one_lease(store: Arc<SqliteStore>, moves: u32) -> Vec<Duration> {
    let mut lease = intent("alice");
    opened(&*store, &lease).await;
    let mut waits = Vec::new();
    for _ in 0..moves {
        lease = Lease { version: lease.version + 1, state: LeaseState::Active, ..lease };
        let change = Change::MoveLease(Box::new(lease.clone()));
        let watch = Stopwatch::start();
        store.commit(vec![change], vec![record(0).about(&lease)]).await.unwrap();
        waits.push(watch.elapsed());
    }
    waits
}

async fn look_up(store: Arc<SqliteStore>, reader: u32) -> Vec<Duration> {
    let session = session("alice", &reader.to_string(), at(i64::from(reader)));
    let begin = Change::BeginSession(Box::new(session.clone()));
    drop(store.commit(vec![begin], vec![record(0)]).await);
    let mut waits = Vec::new();
    for _ in 0..5000 {
        let watch = Stopwatch::start();
        let found = store.session(&session.token_hash).await.unwrap();
        waits.push(watch.elapsed());
        assert!(found.is_some());
    }
    waits
}

fn spread(mut waits: Vec<Duration>) -> String {
    waits.sort();
    let at = |share: usize| waits[waits.len() * share / 100];
    format!("p50 {:?}, p99 {:?}, most {:?}", at(50), at(99), waits[waits.len() - 1])
}
