//! Nobody's access stays open because somebody else's role cannot be removed yet.

use std::time::Duration;

use futures::future::join_all;
use pgbridge::cluster::{AccessEnd, Removal};
use pgbridge::mapping::ObjectPolicy;
use reqwest::Method;
use serde_json::json;

use super::{Site, open, settings};
use crate::support::{Caller, SOON, TestBed, until, wait_for};

/// Longer than anything is waited for here ([`SOON`]).
const LONG: Duration = Duration::from_mins(3);

/// Sessions of the broker that wait for somebody's lock.
const WAITING: &str = "SELECT count(*) FROM pg_stat_activity
                       WHERE usename = 'pgbridge' AND wait_event_type = 'Lock'";

/// With one connection of each kind: the drop of a role waits, and the access of another ends.
#[tokio::test(flavor = "multi_thread")]
async fn the_drop_of_a_role_that_waits_for_a_lock_takes_no_connection_from_ending_access() {
    for major in [13, 18] {
        let mut site = Site::start(major);
        let mut slow = settings(&site.postgres);
        (slow.lock_timeout, slow.statement_timeout) = (LONG, LONG);
        slow.revoke_connections = 1;
        site.cluster = open(slow, "b1", '7');
        let (held, other) = (site.hold("orders_read").await, site.hold("orders_read").await);
        let _session = site.session(&other);
        assert_eq!(
            site.cluster.end_access(&held.target()).await.unwrap(),
            AccessEnd::Ended(held.created.role_oid)
        );
        // Whoever gives the role something holds a lock on it until the commit.
        let lock = site.hold_open(&format!("GRANT CREATE ON DATABASE orders TO {}", held.name()));
        let meanwhile = async {
            site.broker_is_waiting().await;
            let ended = site.cluster.end_access(&other.target()).await.unwrap();
            assert_eq!(ended, AccessEnd::Ended(other.created.role_oid));
            assert_eq!(site.see(WAITING), "1");
            drop(lock);
        };
        let (removal, ()) = tokio::join!(site.remove(&held, ObjectPolicy::Drop), meanwhile);
        assert_eq!(removal, Removal::Gone);
        site.assert_closed(&other);
    }
}

/// Until 14 a role can give itself to a group that is lent: that is taken back before the next lease.
#[tokio::test(flavor = "multi_thread")]
async fn taking_back_what_a_role_gave_away_waits_for_no_connection_that_ends_access() {
    for major in [13, 14] {
        let mut site = Site::start(major);
        let mut slow = settings(&site.postgres);
        (slow.lock_timeout, slow.statement_timeout) = (LONG, LONG);
        slow.revoke_connections = 1;
        site.cluster = open(slow, "b1", '7');
        let (held, giver) = (site.hold("reports_read").await, site.hold("reports_read").await);
        let gift = format!("GRANT {} TO orders_read", giver.name());
        site.use_it(&giver, "reports", &gift).unwrap();
        let lock = site.hold_open(&format!("ALTER ROLE {} CONNECTION LIMIT 9", held.name()));
        let meanwhile = async {
            site.broker_is_waiting().await;
            site.hold("orders_read").await;
            drop(lock);
        };
        let target = held.target();
        let (ended, ()) = tokio::join!(site.cluster.end_access(&target), meanwhile);
        assert_eq!(ended.unwrap(), AccessEnd::Ended(held.created.role_oid));
    }
}

/// A reader of what many leases own has all removals wait; the lease of somebody else ends.
#[tokio::test(flavor = "multi_thread")]
async fn leases_whose_objects_are_locked_hold_up_nobodys_end_of_access() {
    let bed = TestBed::start_with(16, |config| {
        let slow = "[[cluster]]\nlock_timeout = \"3m\"\nstatement_timeout = \"4m\"";
        config
            .replace("[[cluster]]", slow)
            .replace("[broker]", "[broker]\nreconcile_every = \"1m\"")
    });
    let bob = bed.login("bob").await;
    let wish = json!({ "cluster": "orders", "role": "orders_write", "reason": "to try it" });
    let mut ids = Vec::new();
    for at in 0..12 {
        let answer =
            bed.call(Method::POST, "/v1/leases", Caller::Session(&bob), Some(wish.clone())).await;
        assert_eq!(answer.status, 201, "{answer:?}");
        let (role, password) = (answer.text("/lease/role_name"), answer.text("/password"));
        let make = format!("CREATE TABLE workbench.t{at} (n integer)");
        bed.postgres.sql_as(&role, &password, "orders", &make).unwrap();
        ids.push(answer.text("/lease/id"));
    }
    let eye = bed.postgres.eye_in("orders").await;
    let read: Vec<_> = (0..12).map(|at| format!("TABLE workbench.t{at}")).collect();
    eye.batch_execute(&format!("BEGIN; {}", read.join(";"))).await.unwrap();
    let ends = ids.iter().map(|id| {
        let client = TestBed::client().delete(format!("{}/v1/leases/{id}", bed.url()));
        tokio::spawn(client.bearer_auth(&bob).send())
    });
    let ends: Vec<_> = ends.collect();
    let all_wait = async || {
        let mut ended = 0;
        for id in &ids {
            let path = format!("/v1/leases/{id}");
            let lease = bed.call(Method::GET, &path, Caller::Session(&bob), None).await;
            ended += usize::from(lease.json()["access_ended_at"].is_string());
        }
        ended == ids.len()
    };
    until("the end of all access", async || all_wait().await.then_some(())).await;
    wait_for("removals that wait", SOON, || {
        (bed.postgres.sql("postgres", WAITING) == [["4"]]).then_some(())
    });

    let alice = bed.login("alice").await;
    let wish = json!({ "cluster": "orders", "role": "orders_read" });
    let answer = bed.call(Method::POST, "/v1/leases", Caller::Session(&alice), Some(wish)).await;
    let path = format!("/v1/leases/{}", answer.text("/lease/id"));
    bed.call(Method::DELETE, &path, Caller::Session(&alice), None).await;
    until("the end of her access", async || {
        let lease = bed.call(Method::GET, &path, Caller::Session(&alice), None).await;
        lease.json()["access_ended_at"].is_string().then_some(())
    })
    .await;
    // Not one of the others could be removed meanwhile.
    assert_eq!(bed.postgres.sql("postgres", WAITING), [["4"]]);
    eye.batch_execute("COMMIT").await.unwrap();
    join_all(ends).await;
    wait_for("the roles to be gone", SOON, || bed.lease_roles().is_empty().then_some(()));
}
