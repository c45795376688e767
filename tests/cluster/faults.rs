//! Servers that go away, connections that break, callers that leave.

use std::time::Duration;

use pgbridge::cluster::{ClusterError, ClusterTls, CreateError, Removal};
use pgbridge::mapping::ObjectPolicy;

use super::{MAJORS, Site, WITHIN, credential, hour, lease, open, profile, settings};
use crate::support::{Postgres, TestCa, wait_for};

const END_BROKER: &str =
    "SELECT count(pg_terminate_backend(pid)) FROM pg_stat_activity WHERE usename = 'pgbridge'";

#[tokio::test(flavor = "multi_thread")]
async fn connections_that_were_ended_are_replaced_without_anybody_noticing() {
    for major in MAJORS {
        let site = Site::start(major);
        let held = site.hold("orders_read").await;
        for _ in 0..3 {
            assert_ne!(site.see(END_BROKER), "0");
            let other = site.hold("orders_read").await;
            assert_eq!(site.roles_of(&other), "1");
            site.see(END_BROKER);
            assert_eq!(site.cluster.find(&held.lease).await.unwrap(), held.lease.role_oid);
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_server_that_restarts_is_used_again_and_its_absence_is_said() {
    let mut site = Site::start(16);
    let held = site.hold("orders_read").await;
    site.postgres.stop();
    let error = site.try_hold("orders_read").await.err().unwrap();
    // Nothing was sent: not in doubt.
    let CreateError::Failed { source: ClusterError::Unreachable { .. }, .. } = error else {
        panic!("{error:?}")
    };
    assert!(site.cluster.probe().await.is_err());
    site.postgres.start_again();
    site.hold("orders_read").await;
    let removed = site.cluster.remove(&held.target(), ObjectPolicy::Reassign).await.unwrap();
    assert_eq!(removed, Removal::Gone);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_connection_that_breaks_after_the_last_message_leaves_the_role_in_doubt() {
    for major in MAJORS {
        let site = Site::start(major);
        // The comment's row is locked by a superuser, so the one message waits in its middle.
        let in_doubt = lease("orders_read");
        let profile = profile("orders_read");
        let (_, verifier) = credential();
        let lock = site.hold_open("LOCK TABLE pg_shdescription IN SHARE MODE");
        let create = site.cluster.create(&in_doubt, &profile, &verifier, hour(), WITHIN);
        let (answer, ()) = tokio::join!(create, async {
            site.broker_is_waiting().await;
            site.see(END_BROKER);
        });
        drop(lock);
        let error = answer.err().unwrap();
        assert!(matches!(error, CreateError::InDoubt { .. }), "{error:?}");
        assert_eq!(site.cluster.find(&in_doubt).await.unwrap(), None);
        site.hold("orders_read").await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_caller_who_leaves_in_the_middle_leaves_no_open_transaction_in_the_pool() {
    for major in MAJORS {
        let site = Site::start(major);
        let (profile, (_, verifier)) = (profile("orders_read"), credential());
        for _ in 0..6 {
            let lease = lease("orders_read");
            let lock = site.hold_open("LOCK TABLE pg_shdescription IN SHARE MODE");
            tokio::select! {
                answer = site.cluster.create(&lease, &profile, &verifier, hour(), WITHIN) => {
                    panic!("{answer:?}")
                }
                () = site.broker_is_waiting() => {}
            }
            drop(lock);
            // The message was sent, so the server may still run it; it is all or nothing.
            let settled = "SELECT count(*) FROM pg_stat_activity
                           WHERE usename = 'pgbridge' AND state <> 'idle'";
            wait_for("the server to finish", Duration::from_secs(20), || {
                (site.see(settled) == "0").then_some(())
            });
            if let Some(oid) = site.cluster.find(&lease).await.unwrap() {
                let groups =
                    site.see(&format!("SELECT count(*) FROM pg_auth_members WHERE member = {oid}"));
                assert_eq!(groups, "1");
            }
        }
        for _ in 0..8 {
            site.hold("orders_read").await;
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_server_with_another_certificate_or_name_gets_no_password() {
    let postgres = Postgres::start(16);
    let cluster = |change: fn(&mut pgbridge::cluster::ClusterSettings)| {
        let mut settings = settings(&postgres);
        change(&mut settings);
        open(settings, "b1", '7')
    };
    let stranger = cluster(|settings| {
        settings.tls = ClusterTls::VerifyFull { roots: Some(TestCa::new().pem()) };
    });
    let error = stranger.probe().await.unwrap_err();
    assert!(source_text(&error).contains("certificate"), "{error:?}");
    let other_name = cluster(|settings| settings.host = "127.0.0.2".parse().unwrap());
    assert!(other_name.probe().await.is_err());
    let wrong = cluster(|settings| {
        settings.password = pgbridge::cluster::ClusterPassword::from_file("wrong-canary".into());
    });
    let error = wrong.probe().await.unwrap_err();
    assert!(source_text(&error).contains("password authentication failed"), "{error:?}");
    assert!(!format!("{error:?}").contains("wrong-canary"), "{error:?}");

    let health = cluster(|_| {}).probe().await.unwrap();
    assert!(health.version >= 160_000, "{health:?}");
    assert!(health.can_create_roles && health.can_signal, "{health:?}");
    assert!(!health.superuser && !health.standby, "{health:?}");
}

fn source_text(error: &ClusterError) -> String {
    std::error::Error::source(error).map(ToString::to_string).unwrap_or_default()
}

#[test]
fn plain_text_to_another_machine_and_unreadable_roots_are_refused_at_once() {
    let postgres = Postgres::start(15);
    let cluster = |change: fn(&mut pgbridge::cluster::ClusterSettings)| {
        let mut settings = settings(&postgres);
        change(&mut settings);
        let key = std::sync::Arc::new(pgbridge::lease::MarkerKey::random(&mut rand::rng()));
        let opened = pgbridge::cluster::Cluster::new(
            settings,
            "b1".parse().unwrap(),
            key,
            pgbridge::names::RolePrefix::default(),
        );
        opened.map(|_| ()).map_err(|error| error.to_string())
    };
    let remote = cluster(|settings| {
        settings.tls = ClusterTls::Disabled;
        settings.host = "db.example.test".parse().unwrap();
    });
    assert!(remote.unwrap_err().contains("in the clear to db.example.test"));
    let bad = cluster(|settings| {
        settings.tls = ClusterTls::VerifyFull { roots: Some("no certificate".into()) };
    });
    assert!(bad.unwrap_err().contains("no root certificate"));
    let local = cluster(|settings| settings.tls = ClusterTls::Disabled);
    assert_eq!(local, Ok(()));
}
