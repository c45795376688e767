//! Several at once: brokers that end the same role, and a renewal that meets the end.

use std::time::Duration;

use pgbridge::clock::Stopwatch;
use pgbridge::cluster::{ClusterError, Removal};
use pgbridge::mapping::ObjectPolicy;
use tokio::task::yield_now;

use super::{Held, Site, hour, open, settings};

/// How often a renewal meets an end at least: `RACES` says otherwise.
fn races() -> u32 {
    std::env::var("RACES").ok().and_then(|races| races.parse().ok()).unwrap_or(200)
}

/// How long each of these may go on.
const FOR: Duration = Duration::from_secs(4);

/// F-17: whoever is slower sees the role gone, or its rows changing, and says the same.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn two_brokers_that_remove_the_same_role_both_find_it_gone() {
    for major in [15, 16] {
        let site = Site::start(major);
        let other = open(settings(&site.postgres), "b1", '7');
        let mut rounds = 0;
        let begun = Stopwatch::start();
        while rounds < 50 || begun.elapsed() < FOR {
            let held = site.hold("orders_read").await;
            let target = held.target();
            let (one, two) = tokio::join!(
                site.cluster.remove(&target, ObjectPolicy::Reassign),
                other.remove(&target, ObjectPolicy::Reassign),
            );
            assert_eq!((one.unwrap(), two.unwrap()), (Removal::Gone, Removal::Gone));
            rounds += 1;
        }
        let left = "SELECT count(*) FROM pg_roles WHERE rolname LIKE 'pgb\\_%'";
        assert_eq!(site.see(left), "0", "after {rounds} rounds");
    }
}

/// F-18: an end that has been told is an end, whatever a renewal is doing.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_renewal_that_meets_the_end_never_leaves_a_role_that_can_log_in() {
    for major in [15, 16] {
        let site = Site::start(major);
        let other = open(settings(&site.postgres), "b1", '7');
        let (mut rounds, mut renewed) = (0, 0);
        let begun = Stopwatch::start();
        while rounds < races() || begun.elapsed() < FOR {
            let held = site.hold("orders_read").await;
            let (extended, ended) = tokio::join!(
                after(rounds % 23, other.extend(&held.lease, hour())),
                after(rounds % 17, ended(&site, &held)),
            );
            ended.unwrap();
            match extended {
                Ok(_) => renewed += 1,
                Err(ClusterError::AccessEnded { .. }) => {}
                Err(error) => panic!("{error:?}"),
            }
            rounds += 1;
        }
        let open = site.see(
            "SELECT count(*) FROM pg_roles WHERE rolname LIKE 'pgb\\_%'
                 AND (rolcanlogin OR rolvaliduntil <> '-infinity')",
        );
        assert_eq!(open, "0", "after {rounds} rounds on {major}");
        assert!((1..rounds).contains(&renewed), "{renewed} of {rounds}: they never met");
    }
}

async fn ended(site: &Site, held: &Held) -> Result<(), ClusterError> {
    site.cluster.end_access(&held.target()).await.map(|_| ())
}

/// Lets others go on `turns` times first.
async fn after<T>(turns: u32, work: impl Future<Output = T>) -> T {
    for _ in 0..turns * 40 {
        yield_now().await;
    }
    work.await
}
