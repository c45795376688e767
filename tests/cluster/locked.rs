//! Whoever keeps the row of a role locked keeps nobody's access open.

use std::time::Duration;

use pgbridge::cluster::{AccessEnd, Removal};
use pgbridge::lease::Blocker;
use pgbridge::mapping::ObjectPolicy;

use super::{Held, MAJORS, Site, open, settings};

const KEEP: ObjectPolicy = ObjectPolicy::Reassign;

/// Leaves the row of the role that runs it locked, for as long as the session lives.
pub(super) const LOCK_OWN_ROW: &str =
    "psql -X -q -c \"BEGIN; ALTER ROLE CURRENT_USER PASSWORD 'x'; SELECT pg_sleep(600)\"";

#[tokio::test(flavor = "multi_thread")]
async fn a_holder_who_keeps_the_row_of_the_role_locked_is_ended_like_any_other() {
    for major in MAJORS {
        let site = Site::start(major);
        let (locking, plain) = (site.hold("orders_read").await, site.hold("orders_read").await);
        let mut trick = site.session_of(&locking, LOCK_OWN_ROW);
        let mut other = site.session(&plain);
        site.row_is_locked(&locking);
        for (held, session) in [(&locking, &mut trick), (&plain, &mut other)] {
            let ended = AccessEnd::Ended(held.created.role_oid);
            assert_eq!(site.cluster.end_access(&held.target()).await.unwrap(), ended);
            site.assert_closed(held);
            assert!(!session.0.wait().unwrap().success());
            assert_eq!(site.remove(held, KEEP).await, Removal::Gone);
            site.assert_gone(held);
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_prepared_transaction_does_not_keep_the_role_open() {
    for major in MAJORS {
        let site = Site::start(major);
        let (locking, plain) = (site.hold("orders_read").await, site.hold("orders_read").await);
        let lock = "BEGIN; ALTER ROLE CURRENT_USER PASSWORD 'x'; PREPARE TRANSACTION 'stay'";
        site.use_it(&locking, "orders", lock).unwrap();
        site.row_is_locked(&locking);
        let _sessions = [site.session(&locking), site.session(&plain)];
        for held in [&locking, &plain] {
            let ended = AccessEnd::Ended(held.created.role_oid);
            assert_eq!(site.cluster.end_access(&held.target()).await.unwrap(), ended);
            site.assert_closed(held);
            assert_eq!(site.remove(held, KEEP).await, Removal::Gone);
            site.assert_gone(held);
        }
    }
}

/// Before 16 a holder can become the group, and then the transaction is the group's.
#[tokio::test(flavor = "multi_thread")]
async fn what_a_holder_prepares_as_the_group_does_not_keep_the_role_open() {
    for major in [13, 14, 15] {
        let site = Site::start(major);
        let other = site.hold("orders_read").await;
        let prepare = |held: &Held, change: &str, gid: &str| {
            let become_it = "SET ROLE orders_read; PREPARE TRANSACTION";
            let text = format!("BEGIN; ALTER ROLE CURRENT_USER {change}; {become_it} '{gid}'");
            site.use_it(held, "orders", &text).unwrap();
        };
        prepare(&other, "PASSWORD 'x'", "other");
        for change in ["PASSWORD 'x'", "SET application_name = 'x'"] {
            let held = site.hold("orders_read").await;
            prepare(&held, change, "it''s");
            let _session = site.session(&held);
            let ended = AccessEnd::Ended(held.created.role_oid);
            assert_eq!(site.cluster.end_access(&held.target()).await.unwrap(), ended);
            site.assert_closed(&held);
            assert_eq!(site.remove(&held, KEEP).await, Removal::Gone);
            site.assert_gone(&held);
        }
        // What keeps no role that is to be closed stays, and the broker is nobody's member.
        assert_eq!(site.see("SELECT gid FROM pg_prepared_xacts"), "other");
        let member = "SELECT count(*) FROM pg_auth_members
                      WHERE member = 'pgbridge'::regrole AND roleid = 'orders_read'::regrole";
        assert_eq!(site.see(member), "0");
        assert_eq!(site.remove(&other, KEEP).await, Removal::Gone);
        assert_eq!(site.see("SELECT count(*) FROM pg_prepared_xacts"), "0");
    }
}

/// Until 14 a role can make others its members.
#[tokio::test(flavor = "multi_thread")]
async fn an_accomplice_with_a_lease_does_not_keep_the_role_open() {
    for major in [13, 14] {
        for signals in [true, false] {
            let site = Site::start(major);
            if !signals {
                site.dba("REVOKE pg_signal_backend FROM pgbridge");
            }
            let (held, accomplice) =
                (site.hold("orders_read").await, site.hold("orders_read").await);
            let grant = format!("GRANT {} TO {}", held.name(), accomplice.name());
            site.use_it(&held, "orders", &grant).unwrap();
            let lock = format!(
                "psql -X -q -c \"BEGIN; SET ROLE {0}; ALTER ROLE {0} PASSWORD 'x'; \
                 SELECT pg_sleep(600)\"",
                held.name()
            );
            let (mut trick, mut plain) =
                (site.session_of(&accomplice, &lock), site.session(&accomplice));
            site.row_is_locked(&held);
            let ended = AccessEnd::Ended(held.created.role_oid);
            assert_eq!(site.cluster.end_access(&held.target()).await.unwrap(), ended);
            site.assert_closed(&held);
            assert!(!trick.0.wait().unwrap().success());
            // Only that one: the lease of the accomplice goes on.
            assert!(plain.0.try_wait().unwrap().is_none());
            assert_eq!(site.sessions_of(&accomplice), "1");
            site.use_it(&accomplice, "orders", "SELECT count(*) FROM sales.customer").unwrap();
        }
    }
}

/// Nor does a second lease of another group.
#[tokio::test(flavor = "multi_thread")]
async fn what_an_accomplice_prepares_does_not_keep_the_role_open() {
    for major in [13, 14] {
        let site = Site::start(major);
        for become_it in ["RESET ROLE", "SET ROLE reports_read"] {
            let (held, accomplice) =
                (site.hold("orders_read").await, site.hold("reports_read").await);
            let grant = format!("GRANT {} TO {}", held.name(), accomplice.name());
            site.use_it(&held, "orders", &grant).unwrap();
            let prepare = format!(
                "BEGIN; SET ROLE {0}; ALTER ROLE {0} PASSWORD 'x'; {become_it};
                 PREPARE TRANSACTION 'hold'",
                held.name()
            );
            site.use_it(&accomplice, "reports", &prepare).unwrap();
            site.row_is_locked(&held);
            let ended = AccessEnd::Ended(held.created.role_oid);
            assert_eq!(site.cluster.end_access(&held.target()).await.unwrap(), ended);
            site.assert_closed(&held);
            site.use_it(&accomplice, "reports", "SELECT 1").unwrap();
        }
        let left = "SELECT count(*) FROM pg_auth_members WHERE member = 'pgbridge'::regrole
                        AND roleid <> 'pg_signal_backend'::regrole";
        let before = Site::start(major).see(left);
        assert_eq!(site.see(left), before);
    }
}

/// Until 14 a role can make anybody its member, and a stranger's session is not the broker's to end.
#[tokio::test(flavor = "multi_thread")]
async fn a_stranger_who_keeps_the_log_in_open_as_the_role_keeps_no_rights_and_is_named() {
    for major in [13, 14] {
        let site = Site::start(major);
        let mut settings = settings(&site.postgres);
        settings.lock_timeout = Duration::from_millis(500);
        let impatient = open(settings, "b1", '7');
        site.dba("CREATE ROLE eve LOGIN PASSWORD 'eve'; GRANT CONNECT ON DATABASE orders TO eve");
        let held = site.hold("orders_read").await;
        let _session = site.session(&held);
        site.use_it(&held, "orders", &format!("GRANT {} TO eve", held.name())).unwrap();
        let lock = format!("BEGIN; SET ROLE {0}; ALTER ROLE {0} PASSWORD 'x';", held.name());
        let mut eve = Site::keep_open(site.psql_of("eve", "eve", "orders"), &lock);
        site.row_is_locked(&held);

        let end = impatient.end_access(&held.target()).await.unwrap();
        let AccessEnd::Blocked(blockers) = end else { panic!("{end:?}") };
        assert!(blockers[0].detail.contains("its rights have ended"), "{blockers:?}");
        let is_eve = |one: &&Blocker| {
            one.held_by.as_ref().is_some_and(|holder| holder.role.as_deref() == Some("eve"))
        };
        let told = blockers.iter().find(is_eve).expect("she is named");
        assert_eq!(site.sessions_of(&held), "0");
        let refused = site.use_it(&held, "orders", "SELECT count(*) FROM sales.customer");
        assert!(refused.unwrap_err().contains("permission denied"));
        assert!(eve.0.try_wait().unwrap().is_none());

        site.dba(told.remedy.as_deref().expect("a statement"));
        let ended = AccessEnd::Ended(held.created.role_oid);
        assert_eq!(impatient.end_access(&held.target()).await.unwrap(), ended);
        site.assert_closed(&held);
        let members = format!(
            "SELECT count(*) FROM pg_auth_members WHERE roleid = {} AND member = 'eve'::regrole",
            held.created.role_oid
        );
        assert_eq!(site.see(&members), "0");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn rights_end_although_somebody_else_keeps_the_log_in_open() {
    for major in [13, 16, 18] {
        let site = Site::start(major);
        let held = site.hold("orders_read").await;
        let _session = site.session(&held);
        let mut settings = settings(&site.postgres);
        settings.lock_timeout = Duration::from_millis(500);
        let impatient = open(settings, "b1", '7');
        let prepare = format!(
            "BEGIN; ALTER ROLE {} CONNECTION LIMIT 9; PREPARE TRANSACTION 'a dba'",
            held.name()
        );
        site.dba(&prepare);
        let end = impatient.end_access(&held.target()).await.unwrap();
        let AccessEnd::Blocked(blockers) = end else { panic!("{end:?}") };
        assert!(blockers[0].detail.contains("its rights have ended"), "{blockers:?}");
        assert_eq!(blockers[1].remedy.as_deref(), Some("ROLLBACK PREPARED 'a dba'"));
        assert_eq!(site.sessions_of(&held), "0");
        let read = "SELECT count(*) FROM sales.customer";
        let refused = site.use_it(&held, "orders", read).unwrap_err();
        assert!(refused.contains("permission denied"), "{refused}");
        // Somebody else's, with a reason of their own.
        assert_eq!(site.see("SELECT gid FROM pg_prepared_xacts"), "a dba");
        site.dba("ROLLBACK PREPARED 'a dba'");
        let ended = AccessEnd::Ended(held.created.role_oid);
        assert_eq!(impatient.end_access(&held.target()).await.unwrap(), ended);
        site.assert_closed(&held);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_holder_who_comes_back_at_once_does_not_keep_the_role_open() {
    let again = |once: &str| format!("sh -c \"while :; do {}; done\"", once.replace('"', "\\\""));
    let change = "yes \"ALTER ROLE CURRENT_USER PASSWORD '$PGPASSWORD';\" | psql -X -q";
    for major in MAJORS {
        for trick in [LOCK_OWN_ROW, change] {
            let site = Site::start(major);
            let held = site.hold("orders_read").await;
            let _sessions: Vec<_> = (0..4).map(|_| site.session_of(&held, &again(trick))).collect();
            site.row_is_locked(&held);
            let ended = AccessEnd::Ended(held.created.role_oid);
            // The second time is for a log-in that the first has met on its way in.
            for _ in 0..2 {
                assert_eq!(site.cluster.end_access(&held.target()).await.unwrap(), ended);
            }
            site.assert_closed(&held);
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_role_that_somebody_else_keeps_locked_loses_its_sessions_and_the_process_is_named() {
    let site = Site::start(16);
    let mut settings = settings(&site.postgres);
    settings.lock_timeout = Duration::from_millis(500);
    let impatient = open(settings, "b1", '7');
    for renamed in [None, Some("re\"\"named")] {
        let held = site.hold("orders_read").await;
        let _session = site.session(&held);
        let name = renamed.map_or(held.name().to_owned(), |name| format!("\"{name}\""));
        if renamed.is_some() {
            site.dba(&format!("ALTER ROLE {} RENAME TO {name}", held.name()));
        }
        let lock = site.hold_open(&format!("ALTER ROLE {name} CONNECTION LIMIT 9"));
        let pid = site.see("SELECT pid FROM pg_stat_activity WHERE state = 'idle in transaction'");

        let end = impatient.end_access(&held.target()).await.unwrap();
        let AccessEnd::Blocked(blockers) = end else { panic!("{end:?}") };
        assert!(blockers[0].to_string().contains("55P03"), "{blockers:?}");
        let who = format!("server process {pid} of postgres, connected to postgres, holds a lock");
        assert!(blockers[1].to_string().contains(&who), "{blockers:?}");
        assert_eq!(site.sessions_of(&held), "0");

        drop(lock);
        let ended = AccessEnd::Ended(held.created.role_oid);
        assert_eq!(impatient.end_access(&held.target()).await.unwrap(), ended);
        site.assert_closed(&held);
    }
}
