//! Which broker has the work that is due in hand.

use std::collections::BTreeSet;
use std::sync::{Arc, Mutex};

use pgbridge::lease::{EndReason, Lease};
use pgbridge::store::Store;
use pgbridge::store::conformance::{at, claim, claimant, opened, overdue};

use super::{moved, open};
use crate::support::StoreServer;

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn two_brokers_never_hold_a_claim_on_the_same_lease() {
    let server = StoreServer::start(16);
    let settings = server.fresh("store");
    let stores = [open(&settings).await, open(&settings).await];
    for age in 0..200 {
        opened(&*stores[0], &overdue(age % 50)).await;
    }
    let in_hand = Arc::new(Mutex::new(BTreeSet::new()));
    // Neither goes on before the other has something, too.
    let both = Arc::new(tokio::sync::Barrier::new(2));
    let brokers = stores.map(|store| {
        let (in_hand, both) = (Arc::clone(&in_hand), Arc::clone(&both));
        tokio::spawn(async move {
            let (by, mut done) = (claimant(), 0);
            loop {
                let claimed = claim(&*store, at(100), 3, by).await;
                if done == 0 {
                    both.wait().await;
                }
                for lease in &claimed {
                    let is_alone = in_hand.lock().unwrap().insert(lease.id);
                    assert!(is_alone, "{} was claimed twice", lease.id);
                }
                for lease in &claimed {
                    let ending = lease.clone().revoke(EndReason::Expired, at(9)).unwrap();
                    moved(&*store, &ending).await.unwrap();
                    moved(&*store, &ending.close(at(101)).unwrap()).await.unwrap();
                }
                if claimed.is_empty() {
                    return done;
                }
                done += claimed.len();
            }
        })
    });
    let mut done = 0;
    for broker in brokers {
        let mine: usize = broker.await.unwrap();
        assert!(mine > 0, "one has nothing");
        done += mine;
    }
    assert_eq!(done, 200);
}

/// A lease on which a broker has a claim that is there no more, and the store of another one.
async fn left_by_a_dead_broker() -> (StoreServer, Arc<dyn Store>, Lease) {
    let server = StoreServer::start(16);
    let settings = server.fresh("store");
    let (dead, living) = (open(&settings).await, open(&settings).await);
    let lease = overdue(1);
    opened(&*dead, &lease).await;
    assert_eq!(claim(&*dead, at(100), 9, claimant()).await, std::slice::from_ref(&lease));
    (server, living, lease)
}

#[tokio::test]
async fn a_claim_of_a_dead_broker_is_free_again_after_its_time() {
    let (server, living, lease) = left_by_a_dead_broker().await;
    assert_eq!(claim(&*living, at(100), 9, claimant()).await, []);
    let left = "SELECT claimed_until - clock_timestamp() BETWEEN interval '30 s' AND interval '60 s' \
                FROM pgbridge.lease";
    assert_eq!(server.postgres.sql("store", left), [["t"]]);
    let over = "UPDATE pgbridge.lease SET claimed_until = clock_timestamp()";
    server.postgres.sql("store", over);
    assert_eq!(claim(&*living, at(100), 9, claimant()).await, [lease]);
}

/// As it looks after the clock of the server was set back.
#[tokio::test]
async fn a_claim_that_would_last_longer_than_any_can_keeps_nobody_away() {
    let (server, living, lease) = left_by_a_dead_broker().await;
    let until = |ahead: &str| {
        let until = format!(
            "UPDATE pgbridge.lease SET claimed_by = 'dead', \
             claimed_until = clock_timestamp() + interval '{ahead}'"
        );
        server.postgres.sql("store", &until);
    };
    until("50 s");
    assert_eq!(claim(&*living, at(100), 9, claimant()).await, []);
    until("1 day");
    assert_eq!(claim(&*living, at(100), 9, claimant()).await, std::slice::from_ref(&lease));
    assert_eq!(claim(&*living, at(100), 9, claimant()).await, [], "it is claimed anew");
}
