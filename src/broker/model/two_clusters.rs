//! A broker with two clusters, and clocks that do not agree.

use std::time::Duration;

use jiff::{SignedDuration, Timestamp};

use super::chance::Chance;
use super::directory::Directory;
use super::server::Server;
use super::stand;
use super::store::ModelStore;
use crate::audit::{Action, Record, Subject};
use crate::broker::Broker;
use crate::clock::Clock;
use crate::store::Store;

const HOUR: SignedDuration = SignedDuration::from_hours(1);

/// A broker, its two clusters, and the true time.
struct Two {
    time: Clock,
    orders: Server,
    beta: Server,
    store: ModelStore,
    /// The clock of the broker's machine.
    clock: Clock,
    broker: Broker,
}

impl Two {
    /// Before the broker begins to work; then its machine's clock is `wall` ahead.
    fn new(wall: SignedDuration) -> Self {
        let start: Timestamp = "2026-01-01T00:00:00Z".parse().unwrap();
        let (time, clock) = (Clock::manual(start), Clock::manual(start + wall));
        let chance = Chance::new(0);
        let orders = Server::new("orders", time.clone(), chance.clone());
        let beta = Server::new("beta", time.clone(), chance.clone());
        let store = ModelStore::new(time.clone(), chance.clone());
        let directory = Directory::new(&[], &[], chance);
        let broker = stand::broker(clock.clone(), &store, &[&orders, &beta], &directory);
        Self { time, orders, beta, store, clock, broker }
    }

    fn start(&self) {
        // The work goes on for as long as the test.
        drop(self.broker.start());
    }

    async fn pass(&self, seconds: u64) {
        for _ in 0..seconds {
            for _ in 0..100 {
                tokio::task::yield_now().await;
            }
            for clock in [&self.time, &self.clock] {
                clock.advance(Duration::from_secs(1));
            }
            tokio::time::advance(Duration::from_secs(1)).await;
        }
    }

    /// How far the broker's time is ahead of the true one; nothing while it is not settled.
    fn ahead(&self) -> Option<i64> {
        let ahead = self.broker.now().duration_since(self.time.now());
        self.broker.0.time.is_settled().then_some(ahead.as_secs())
    }

    /// Whether clocks keep leases from being issued on `cluster`.
    fn keeps(&self, cluster: &str) -> bool {
        let site = self.broker.site(&cluster.parse().unwrap()).unwrap();
        self.broker.clocks_apart(site).is_some()
    }
}

#[tokio::test(start_paused = true)]
async fn a_cluster_whose_clock_is_wrong_moves_no_other_and_keeps_nothing_from_it() {
    for ahead in [-77, -8 * 3600, 77, 8 * 3600] {
        let two = Two::new(SignedDuration::ZERO);
        two.beta.set_clock_ahead(SignedDuration::from_secs(ahead));
        two.start();
        two.pass(20).await;
        assert_eq!(two.ahead(), Some(0), "{ahead}");
        assert!(!two.keeps("orders"), "{ahead}");
        assert_eq!(two.keeps("beta"), ahead.abs() > 120, "{ahead}");
        two.beta.set_clock_ahead(SignedDuration::ZERO);
        two.pass(20).await;
        assert!(!two.keeps("beta"), "{ahead}");
    }
}

#[tokio::test(start_paused = true)]
async fn one_clock_alone_decides_only_until_another_one_can_be_read() {
    for (ahead, alone) in [(-8 * HOUR, -8 * 3600), (SignedDuration::from_secs(100), 100)] {
        let two = Two::new(SignedDuration::ZERO);
        two.beta.set_clock_ahead(ahead);
        two.orders.set_up(false);
        two.start();
        two.pass(3).await;
        assert_eq!(two.ahead(), None, "others are waited for");
        two.pass(10).await;
        assert_eq!(two.ahead(), Some(alone));
        two.orders.set_up(true);
        two.pass(20).await;
        assert_eq!(two.ahead(), Some(0));
        assert!(!two.keeps("orders"));
    }
}

#[tokio::test(start_paused = true)]
async fn a_cluster_that_is_down_holds_up_no_start_when_the_other_two_clocks_agree() {
    let two = Two::new(SignedDuration::ZERO);
    two.beta.set_up(false);
    two.start();
    two.pass(1).await;
    assert_eq!(two.ahead(), Some(0));
}

#[tokio::test(start_paused = true)]
async fn a_clock_that_is_before_what_was_written_down_is_not_believed() {
    for (wall, beta) in [(SignedDuration::ZERO, -8 * HOUR), (-8 * HOUR, SignedDuration::ZERO)] {
        let two = Two::new(wall);
        two.beta.set_clock_ahead(beta);
        two.orders.set_up(false);
        let record = Record::new(two.time.now(), Action::BrokerStopped, Subject::Broker);
        two.store.commit(Vec::new(), vec![record]).await.unwrap();
        two.start();
        two.pass(10).await;
        assert_eq!(two.ahead(), Some(0), "{wall} {beta}");
        // It gains no word by the time that passes meanwhile.
        two.clock.move_wall(-wall);
        two.pass(3600).await;
        assert_eq!(two.ahead(), Some(0), "{wall} {beta}");
    }
}

#[tokio::test(start_paused = true)]
async fn a_machine_that_begins_far_ahead_ends_nothing_alone_and_goes_on_with_the_others() {
    let two = Two::new(3650 * 24 * HOUR);
    two.beta.set_up(false);
    two.start();
    two.pass(10).await;
    assert_eq!(two.ahead(), Some(0));
    assert!(two.keeps("orders"), "not while the machine's clock is off");
    two.orders.set_up(false);
    two.pass(60).await;
    assert_eq!(two.ahead(), Some(0));
    two.clock.move_wall(-3650 * 24 * HOUR);
    two.orders.set_up(true);
    two.pass(20).await;
    assert!(!two.keeps("orders"));
}
