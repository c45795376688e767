//! Several at once: brokers that end the same role, and a renewal that meets the end.

use std::time::Duration;

use pgbridge::clock::Stopwatch;
use pgbridge::cluster::{AccessEnd, ClusterError, Removal};
use pgbridge::mapping::ObjectPolicy;
use tokio::task::yield_now;
use tokio::time::sleep;

use super::{Held, Site, hour, open, settings};

/// How often a renewal meets an end at least: `RACES` says otherwise.
fn races() -> u32 {
    std::env::var("RACES").ok().and_then(|races| races.parse().ok()).unwrap_or(200)
}

/// After how many of them it is looked.
const TOGETHER: u32 = 200;

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
            if rounds % TOGETHER == 0 {
                none_is_open(&site, rounds);
            }
        }
        none_is_open(&site, rounds);
        assert!((1..rounds).contains(&renewed), "{renewed} of {rounds}: they never met");
    }
}

/// None of our roles can be logged in to; and all of them go, because many make a server slow.
fn none_is_open(site: &Site, rounds: u32) {
    let open = site.see(
        "SELECT count(*) FROM pg_roles WHERE rolname LIKE 'pgb\\_%'
             AND (rolcanlogin OR rolvaliduntil <> '-infinity')",
    );
    assert_eq!(open, "0", "after {rounds} rounds on {}", site.major);
    site.dba(
        "DO $$ DECLARE name text; BEGIN
             FOR name IN SELECT rolname FROM pg_roles WHERE rolname LIKE 'pgb\\_%' LOOP
                 EXECUTE format('DROP ROLE %I', name);
             END LOOP; END $$",
    );
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

/// I-09: before 16 the broker cannot lock the row of a role with REPLICATION, so another role can
/// get its name while its memberships go.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_role_that_gets_the_name_of_one_that_is_being_closed_loses_nothing() {
    for major in [13, 15] {
        let mut site = Site::start(major);
        let mut quick = settings(&site.postgres);
        quick.lock_timeout = Duration::from_secs(6);
        site.cluster = open(quick, "b1", '7');
        let held = site.hold("orders_read").await;
        let (name, target) = (held.name(), held.target());
        site.dba(&format!(
            "CREATE ROLE a_locked; CREATE ROLE z_free; GRANT a_locked, z_free TO {name};
             ALTER ROLE {name} REPLICATION"
        ));
        // Whoever changes a membership holds its row until the commit.
        let lock = site.hold_open(&format!("GRANT a_locked TO {name} WITH ADMIN OPTION"));
        let meanwhile = async {
            // All at once has failed by then. What ends the rights alone does not wait for so long.
            let one_by_one = "SELECT count(*) FROM pg_stat_activity
                              WHERE usename = 'pgbridge' AND wait_event_type = 'Lock'
                                AND query LIKE 'SAVEPOINT one;%REVOKE \"a_locked\"%'
                                AND query_start < clock_timestamp() - interval '1 second'";
            let deadline = Stopwatch::start();
            while site.see(one_by_one) == "0" {
                assert!(deadline.elapsed() < Duration::from_mins(1), "it does not go one by one");
                sleep(Duration::from_millis(20)).await;
            }
            site.dba(&format!(
                "ALTER ROLE {name} RENAME TO aside; CREATE ROLE {name}; GRANT z_free TO {name}"
            ));
            drop(lock);
        };
        let (end, ()) = tokio::join!(site.cluster.end_access(&target), meanwhile);
        let AccessEnd::Blocked(blockers) = end.unwrap() else { panic!("it has REPLICATION") };
        assert!(blockers.iter().any(|one| one.detail.contains("REPLICATION")), "{blockers:?}");
        let groups = |role: &str| {
            site.see(&format!(
                "SELECT string_agg(roleid::regrole::text, ',') FROM pg_auth_members
                 WHERE member = '{role}'::regrole"
            ))
        };
        assert_eq!((groups(name), groups("aside")), ("z_free".to_owned(), String::new()));
    }
}
