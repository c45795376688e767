//! Servers that go away, connections that break, callers that leave.
//!
//! Of the faults of section 4 of the reference, these show at one cluster and are here or beside:
//! F-05 (`create`: the cluster itself refuses a role that comes too late), F-07, F-12, F-24, F-26,
//! F-28 and F-30 (here), F-10, F-20 to F-23 and F-37 (`limits`), F-17 and F-18 (`races`), F-25
//! (`create`: no password reaches the server), F-29 (`hostile`, and the slots in `limits`).
//!
//! Not at this level, because they are about the store, the clock or several processes: F-01 to
//! F-04, F-06, F-11, F-13 to F-16, F-19, F-31 to F-36. Not with what can be run here: F-08 and
//! F-09, a fail-over with asynchronous replicas (the lost role is F-23, the one that is back F-10);
//! F-27, a real pgbouncer, which no package source of the tests has: no transaction of ours is
//! open between two messages, and each sets its own limits; of F-28 a loop in C, which needs a
//! compiled extension: a stopped process stands for it.

use std::time::Duration;

use pgbridge::cluster::{AccessEnd, ClusterError, CreateError, CreateRefusal, Removal};
use pgbridge::dial::ServerTls;
use pgbridge::lease::BlockerKind;
use pgbridge::mapping::ObjectPolicy;
use tokio::time::timeout;

use super::{ALL_MAJORS, MAJORS, Site, WITHIN, credential, hour, lease, open, profile, settings};
use crate::support::{BROKER_PASSWORD, Postgres, SOON, Signal, TestCa, send, wait_for};

const END_BROKER: &str =
    "SELECT count(pg_terminate_backend(pid)) FROM pg_stat_activity WHERE usename = 'pgbridge'";

impl Site {
    /// Ends every connection of the broker, and waits until none is left.
    fn end_brokers_connections(&self) {
        assert_ne!(self.see(END_BROKER), "0");
        wait_for("the end of the broker's connections", SOON, || {
            (self.see(END_BROKER) == "0").then_some(())
        });
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn connections_that_were_ended_are_replaced_without_anybody_noticing() {
    for major in MAJORS {
        let site = Site::start(major);
        let held = site.hold("orders_read").await;
        for _ in 0..3 {
            site.end_brokers_connections();
            let other = site.hold("orders_read").await;
            assert_eq!(site.roles_of(&other), "1");
            site.end_brokers_connections();
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
            wait_for("the server to finish", SOON, || (site.see(settled) == "0").then_some(()));
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
        settings.tls = ServerTls::VerifyFull { roots: Some(TestCa::new().pem()) };
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
        settings.tls = ServerTls::Disabled;
        settings.host = "db.example.test".parse().unwrap();
    });
    assert!(remote.unwrap_err().contains("in the clear to db.example.test"));
    let bad = cluster(|settings| {
        settings.tls = ServerTls::VerifyFull { roots: Some("no certificate".into()) };
    });
    assert!(bad.unwrap_err().contains("no root certificate"));
    let local = cluster(|settings| settings.tls = ServerTls::Disabled);
    assert_eq!(local, Ok(()));
}

/// F-07: a crash at any moment of a removal leaves what the next attempt completes.
#[tokio::test(flavor = "multi_thread")]
async fn a_server_that_crashes_in_the_middle_of_a_removal_is_cleared_when_it_is_back() {
    let mut site = Site::start(16);
    let mut quick = settings(&site.postgres);
    quick.connect_timeout = Duration::from_secs(3);
    site.cluster = open(quick, "b1", '7');
    for turns in [0, 3, 6, 12, 25] {
        let held = site.hold("orders_write").await;
        site.use_it(&held, "orders", "CREATE TABLE workbench.mine (n integer)").unwrap();
        let target = held.target();
        let pid = site.postgres.pid();
        let crash = async {
            for _ in 0..turns * 20 {
                tokio::task::yield_now().await;
            }
            send(Signal::Quit, pid);
        };
        // Whatever it says, nothing hangs.
        let both = async { tokio::join!(site.cluster.remove(&target, ObjectPolicy::Drop), crash) };
        let _ = timeout(SOON, both).await.expect("it ends");
        site.postgres.crash();
        site.postgres.start_again();
        let removed = site.cluster.remove(&target, ObjectPolicy::Drop).await.unwrap();
        assert_eq!(removed, Removal::Gone);
        site.assert_gone(&held);
    }
}

/// F-12: a standby says so, at once and without end, until it is promoted.
#[tokio::test(flavor = "multi_thread")]
async fn a_standby_is_refused_with_clear_words_and_used_once_it_is_promoted() {
    for major in [13, 18] {
        let mut site = Site::start(major);
        let held = site.hold("orders_read").await;
        site.postgres.become_standby();
        assert!(site.cluster.probe().await.unwrap().standby);
        let error = site.try_hold("orders_read").await.err().unwrap();
        let CreateError::Refused { refusal, .. } = error else { panic!("{error:?}") };
        assert_eq!(refusal, CreateRefusal::Standby);
        let _session = site.session(&held);
        for error in [
            site.cluster.extend(&held.lease, hour()).await.map(|_| ()).unwrap_err(),
            site.cluster.end_access(&held.target()).await.map(|_| ()).unwrap_err(),
            site.cluster.remove(&held.target(), ObjectPolicy::Drop).await.map(|_| ()).unwrap_err(),
        ] {
            let ClusterError::Rejected { source, .. } = error else { panic!("{error:?}") };
            assert_eq!(source.code.as_deref(), Some("25006"), "{source}");
        }
        // What can be ended there is.
        assert_eq!(site.sessions_of(&held), "0");
        assert_eq!(site.see("SELECT pg_promote()"), "t");
        assert_eq!(site.remove(&held, ObjectPolicy::Drop).await, Removal::Gone);
        site.hold("orders_read").await;
    }
}

/// F-24: revoking has its own connections and keeps them.
#[tokio::test(flavor = "multi_thread")]
async fn a_broker_that_gets_no_new_connection_ends_access_on_the_one_it_has() {
    for major in MAJORS {
        let site = Site::start(major);
        let held = site.hold("orders_read").await;
        let _session = site.session(&held);
        assert!(site.cluster.find(&held.lease).await.unwrap().is_some());
        site.dba("ALTER ROLE pgbridge CONNECTION LIMIT 0 PASSWORD 'rotated'");
        let stranger = open(settings(&site.postgres), "b1", '7');
        assert!(stranger.probe().await.is_err());
        let ended = AccessEnd::Ended(held.created.role_oid);
        assert_eq!(site.cluster.end_access(&held.target()).await.unwrap(), ended);
        site.assert_closed(&held);
        // Removing the role can wait, and does not take that one.
        let removed = site.cluster.remove(&held.target(), ObjectPolicy::Drop).await;
        assert!(matches!(removed, Err(ClusterError::Unreachable { .. })), "{removed:?}");
        site.dba(&format!("ALTER ROLE pgbridge CONNECTION LIMIT -1 PASSWORD '{BROKER_PASSWORD}'"));
        assert_eq!(site.remove(&held, ObjectPolicy::Drop).await, Removal::Gone);
    }
}

/// F-26: what a DBA set for the login or for a database does not reach our statements.
#[tokio::test(flavor = "multi_thread")]
async fn settings_of_the_login_or_a_database_do_not_reach_a_removal() {
    for major in MAJORS {
        let site = Site::start(major);
        let held = site.hold("orders_write").await;
        let make = "CREATE TABLE workbench.mine AS SELECT generate_series(1, 10)";
        site.use_it(&held, "orders", make).unwrap();
        for setting in [
            "statement_timeout = 1",
            "lock_timeout = 1",
            "idle_in_transaction_session_timeout = 1",
            "default_transaction_isolation = 'serializable'",
            "search_path = sales",
            "standard_conforming_strings = off",
            "default_transaction_read_only = on",
        ] {
            site.dba(&format!("ALTER ROLE pgbridge SET {setting}"));
            site.dba(&format!("ALTER DATABASE orders SET {setting}"));
        }
        assert_eq!(site.remove(&held, ObjectPolicy::Reassign).await, Removal::Gone);
        site.assert_gone(&held);
    }
}

/// F-28: as many sessions as one lease can have end in one go.
#[tokio::test(flavor = "multi_thread")]
async fn a_hundred_open_sessions_end() {
    let postgres = Postgres::start_with(16, "max_connections = 150");
    let cluster = open(settings(&postgres), "b1", '7');
    let site = Site { major: 16, postgres, cluster };
    let mut profile = profile("orders_read");
    profile.connection_limit = 100.try_into().unwrap();
    let held = site.issue(lease("orders_read"), &profile, WITHIN).await.unwrap();
    let many =
        "sh -c \"for i in \\$(seq 100); do psql -X -q -c 'SELECT pg_sleep(600)' & done; wait\"";
    let _sessions = site.session_of(&held, many);
    wait_for("the sessions", SOON, || (site.sessions_of(&held) == "100").then_some(()));
    let ended = AccessEnd::Ended(held.created.role_oid);
    assert_eq!(site.cluster.end_access(&held.target()).await.unwrap(), ended);
    assert_eq!(site.sessions_of(&held), "0");
}

/// F-28: a session that hears no signal has no rights from then on, and its process is told.
#[tokio::test(flavor = "multi_thread")]
async fn a_session_that_hears_no_signal_is_told_with_its_process() {
    let site = Site::start(16);
    let (held, other) = (site.hold("orders_read").await, site.hold("orders_read").await);
    let _sessions = [site.session(&held), site.session(&other)];
    let oid = held.created.role_oid;
    let pid = site.see(&format!("SELECT pid FROM pg_stat_activity WHERE usesysid = {oid}"));
    send(Signal::Freeze, pid.parse().unwrap());
    let (one, two) = (held.target(), other.target());
    let (end, twin) = tokio::join!(site.cluster.end_access(&one), site.cluster.end_access(&two));
    let AccessEnd::Blocked(blockers) = end.unwrap() else { panic!("it has ended") };
    assert_eq!(blockers.len(), 1, "{blockers:?}");
    assert_eq!(blockers[0].kind, BlockerKind::Session);
    let holder = blockers[0].held_by.as_ref().and_then(|holder| holder.pid);
    assert_eq!(holder, pid.parse().ok());
    assert_eq!(twin.unwrap(), AccessEnd::Ended(other.created.role_oid));
    let groups = format!("SELECT count(*) FROM pg_auth_members WHERE member = {oid}");
    assert_eq!(site.see(&groups), "0");

    send(Signal::Thaw, pid.parse().unwrap());
    assert_eq!(site.cluster.end_access(&one).await.unwrap(), AccessEnd::Ended(oid));
}

/// A server that stops in the middle of an answer holds nobody for ever; another connection does it.
#[tokio::test(flavor = "multi_thread")]
async fn a_server_process_that_freezes_is_given_up_and_the_next_attempt_gets_another() {
    for major in MAJORS {
        let mut site = Site::start(major);
        let mut quick = settings(&site.postgres);
        quick.statement_timeout = Duration::from_secs(2);
        site.cluster = open(quick, "b1", '7');
        let held = site.hold("orders_read").await;
        let _session = site.session(&held);
        assert!(site.cluster.find(&held.lease).await.unwrap().is_some());
        let pids =
            "SELECT string_agg(pid::text, ',') FROM pg_stat_activity WHERE usename = 'pgbridge'";
        let frozen: Vec<u32> = site.see(pids).split(',').map(|pid| pid.parse().unwrap()).collect();
        for pid in &frozen {
            send(Signal::Freeze, *pid);
        }
        let target = held.target();
        let bounded = timeout(SOON, site.cluster.end_access(&target));
        let error = bounded.await.expect("it gives up").unwrap_err();
        assert!(matches!(error, ClusterError::Unreachable { .. }), "{error:?}");
        let ended = AccessEnd::Ended(held.created.role_oid);
        let mut answer = site.cluster.end_access(&target).await;
        for _ in 0..frozen.len() {
            if answer.is_err() {
                answer = site.cluster.end_access(&target).await;
            }
        }
        assert_eq!(answer.unwrap(), ended);
        for pid in &frozen {
            send(Signal::Thaw, *pid);
        }
        assert_eq!(site.remove(&held, ObjectPolicy::Drop).await, Removal::Gone);
    }
}

/// F-30: what makes connecting to one database fail or hang touches nothing else.
#[tokio::test(flavor = "multi_thread")]
async fn a_database_that_lets_nobody_in_is_told_in_bounded_time_and_issuing_goes_on() {
    for major in ALL_MAJORS {
        let mut site = Site::start(major);
        let mut quick = settings(&site.postgres);
        quick.connect_timeout = Duration::from_secs(3);
        site.cluster = open(quick, "b1", '7');
        let held = site.hold("orders_write").await;
        site.use_it(&held, "orders", "CREATE TABLE workbench.mine (n integer)").unwrap();
        let preload = "ALTER DATABASE orders SET session_preload_libraries = 'no_such_library'";
        let mut tricks =
            vec![("postgres", preload, "ALTER DATABASE orders RESET session_preload_libraries")];
        let trigger = |body: &str| {
            let make = format!(
                "CREATE FUNCTION at_login() RETURNS event_trigger LANGUAGE plpgsql AS $$
                 BEGIN IF session_user <> 'postgres' THEN {body}; END IF; END $$;
                 CREATE EVENT TRIGGER at_login ON login EXECUTE FUNCTION at_login()"
            );
            make
        };
        let (fails, hangs) = (trigger("RAISE 'not you'"), trigger("PERFORM pg_sleep(600)"));
        let undo = "DROP EVENT TRIGGER at_login; DROP FUNCTION at_login()";
        if major >= 17 {
            tricks.extend([("orders", fails.as_str(), undo), ("orders", hangs.as_str(), undo)]);
        }
        for (place, trick, undo) in tricks {
            site.postgres.sql(place, trick);
            let target = held.target();
            let removal = site.cluster.remove(&target, ObjectPolicy::Drop);
            let removal = timeout(SOON, removal).await.expect("it is bounded");
            let Ok(Removal::Blocked(blockers)) = removal else { panic!("{removal:?}") };
            assert_eq!(blockers.len(), 1, "{blockers:?}");
            assert_eq!(blockers[0].kind, BlockerKind::Database);
            assert_eq!(blockers[0].database.as_deref(), Some("orders"));
            site.assert_closed(&held);
            let other = site.hold("orders_read").await;
            assert_eq!(site.remove(&other, ObjectPolicy::Drop).await, Removal::Gone);
            site.postgres.sql(place, undo);
        }
        assert_eq!(site.remove(&held, ObjectPolicy::Drop).await, Removal::Gone);
        site.assert_gone(&held);
    }
}
