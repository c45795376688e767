//! What becomes of a lease role, and what is never touched.

use std::process::{Child, Command, Stdio};
use std::time::Duration;

use pgbridge::cluster::{AccessEnd, ClusterError, Removal, RoleTarget};
use pgbridge::lease::{Blocker, BlockerKind, MarkerReading};
use pgbridge::mapping::ObjectPolicy;
use pgbridge::names::RoleOid;

use super::locked::LOCK_OWN_ROW;
use super::{Held, MAJORS, Site, lease, open, settings};
use crate::support::{SOON, wait_for};

const KEEP: ObjectPolicy = ObjectPolicy::Reassign;

impl Site {
    /// The holder's own session, asleep.
    pub(super) fn session(&self, held: &Held) -> Session {
        self.session_of(held, "psql -X -q -c 'SELECT pg_sleep(600)'")
    }

    /// What the holder runs in a shell, once it has a session.
    pub(super) fn session_of(&self, held: &Held, shell: &str) -> Session {
        let mut psql = Command::new("sh");
        psql.args(["-c", &format!("exec {shell}")])
            .env("PGHOST", "127.0.0.1")
            .env("PGPORT", self.postgres.port().to_string())
            .env("PGUSER", held.name())
            .env("PGPASSWORD", held.password.expose())
            .env("PGDATABASE", "orders")
            .stdout(Stdio::null())
            .stderr(Stdio::null());
        let session = Session(psql.spawn().expect("a shell and psql are installed"));
        wait_for("the session", SOON, || (self.sessions_of(held) != "0").then_some(()));
        session
    }

    /// Returns once a transaction of the holder has the lock on its role's row.
    #[track_caller]
    pub(super) fn row_is_locked(&self, held: &Held) {
        let locked = format!(
            "SELECT (xmax::text <> '0') FROM pg_authid WHERE oid = {}",
            held.created.role_oid
        );
        wait_for("the lock", SOON, || (self.see(&locked) == "t").then_some(()));
    }

    /// No log-in, no group, no session. (A password it may have: a session that is about to end
    /// can still set its own, which without LOGIN opens nothing.)
    #[track_caller]
    pub(super) fn assert_closed(&self, held: &Held) {
        let oid = held.created.role_oid;
        let state = self.see(&format!(
            "SELECT concat_ws(',', rolcanlogin, rolconnlimit,
                 (SELECT count(*) FROM pg_auth_members WHERE member = pg_authid.oid),
                 (SELECT count(*) FROM pg_stat_activity WHERE usesysid = pg_authid.oid))
             FROM pg_authid WHERE oid = {oid}"
        ));
        assert_eq!(state, "f,0,0,0");
    }

    #[track_caller]
    pub(super) fn sessions_of(&self, held: &Held) -> String {
        let oid = held.created.role_oid;
        self.see(&format!("SELECT count(*) FROM pg_stat_activity WHERE usesysid = {oid}"))
    }

    pub(super) async fn remove(&self, held: &Held, policy: ObjectPolicy) -> Removal {
        self.cluster.remove(&held.target(), policy).await.expect("an answer")
    }

    /// Nothing of the role is left anywhere.
    #[track_caller]
    pub(super) fn assert_gone(&self, held: &Held) {
        let oid = held.created.role_oid;
        let left = self.see(&format!(
            "SELECT (SELECT count(*) FROM pg_authid WHERE oid = {oid})
                  + (SELECT count(*) FROM pg_shdepend
                     WHERE refclassid = 'pg_authid'::regclass AND refobjid = {oid})
                  + (SELECT count(*) FROM pg_auth_members WHERE {oid} IN (roleid, member, grantor))
                  + (SELECT count(*) FROM pg_stat_activity WHERE usesysid = {oid})
                  + (SELECT count(*) FROM pg_db_role_setting WHERE setrole = {oid})
                  + (SELECT count(*) FROM pg_prepared_xact() WHERE ownerid = {oid})"
        ));
        assert_eq!(left, "0");
    }
}

pub(super) struct Session(pub(super) Child);

impl Drop for Session {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn ending_access_ends_sessions_logins_and_rights_and_may_run_twice() {
    for major in MAJORS {
        let site = Site::start(major);
        let (held, other) = (site.hold("orders_read").await, site.hold("orders_read").await);
        let (mut one, mut two) = (site.session(&held), site.session(&held));
        let _third = site.session(&other);

        let ended = AccessEnd::Ended(held.created.role_oid);
        assert_eq!(site.cluster.end_access(&held.target()).await.unwrap(), ended);
        assert_eq!(site.sessions_of(&held), "0");
        assert_eq!(site.sessions_of(&other), "1");
        for session in [&mut one, &mut two] {
            assert!(!session.0.wait().unwrap().success());
        }
        let refused = site.use_it(&held, "orders", "SELECT 1").unwrap_err();
        assert!(refused.contains("password authentication failed"), "{refused}");
        let state = site.see(&format!(
            "SELECT concat_ws(',', rolcanlogin, rolconnlimit, rolpassword IS NULL, rolvaliduntil,
                 (SELECT count(*) FROM pg_auth_members WHERE member = pg_authid.oid))
             FROM pg_authid WHERE oid = {}",
            held.created.role_oid
        ));
        assert_eq!(state, "f,0,t,-infinity,0");

        assert_eq!(site.cluster.end_access(&held.target()).await.unwrap(), ended);
        site.use_it(&other, "orders", "SELECT 1").unwrap();
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_removed_role_is_gone_and_a_second_removal_is_harmless() {
    for major in MAJORS {
        let site = Site::start(major);
        let held = site.hold("orders_read").await;
        let _session = site.session(&held);
        assert_eq!(site.remove(&held, KEEP).await, Removal::Gone);
        site.assert_gone(&held);
        assert_eq!(site.remove(&held, KEEP).await, Removal::Gone);
        assert_eq!(site.cluster.end_access(&held.target()).await.unwrap(), AccessEnd::Gone);
        assert_eq!(site.cluster.find(&held.lease).await.unwrap(), None);
    }
}

/// A holder who has left all sorts of things in two databases.
async fn messy(site: &Site) -> Held {
    site.group("everywhere");
    site.dba(
        "GRANT CREATE, CONNECT ON DATABASE reports TO everywhere;
         GRANT CREATE ON DATABASE reports TO pgbridge_attic;
         GRANT orders_write TO everywhere",
    );
    let held = site.hold("everywhere").await;
    let in_orders = "CREATE TABLE workbench.mine (n integer);
        INSERT INTO workbench.mine VALUES (1);
        CREATE FUNCTION workbench.one() RETURNS integer LANGUAGE sql AS 'SELECT 1';
        ALTER DEFAULT PRIVILEGES GRANT SELECT ON TABLES TO PUBLIC;
        SELECT lo_create(4711)";
    site.use_it(&held, "orders", in_orders).expect("the holder may");
    let in_reports = "CREATE SCHEMA own CREATE TABLE notes (n integer)";
    site.use_it(&held, "reports", in_reports).expect("the holder may");
    let prepared =
        "BEGIN; CREATE TABLE workbench.half (n integer); PREPARE TRANSACTION 'it''s mine'";
    site.use_it(&held, "orders", prepared).expect("the holder may");
    held
}

#[tokio::test(flavor = "multi_thread")]
async fn what_a_role_made_in_two_databases_goes_to_the_attic() {
    for major in MAJORS {
        let site = Site::start(major);
        let held = messy(&site).await;
        assert_eq!(site.remove(&held, KEEP).await, Removal::Gone);
        site.assert_gone(&held);
        let owner = "SELECT string_agg(DISTINCT relowner::regrole::text, ',') FROM pg_class
                     WHERE relname IN ('mine', 'notes', 'half')";
        assert_eq!(site.postgres.sql("orders", owner), [["pgbridge_attic"]]);
        assert_eq!(site.postgres.sql("reports", owner), [["pgbridge_attic"]]);
        assert_eq!(site.postgres.sql("orders", "TABLE workbench.mine"), [["1"]]);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn what_a_role_made_is_dropped_if_so_agreed_but_not_what_others_built_on_it() {
    for major in MAJORS {
        let site = Site::start(major);
        let held = messy(&site).await;
        site.postgres.sql("orders", "CREATE VIEW sales.theirs AS TABLE workbench.mine");
        let blocked = site.remove(&held, ObjectPolicy::Drop).await;
        let Removal::Blocked(blockers) = blocked else { panic!("{blocked:?}") };
        assert_eq!(blockers.len(), 1);
        let told = Blocker {
            database: Some("orders".into()),
            object: Some("table workbench.mine".into()),
            ..Blocker::new(
                BlockerKind::Object,
                "view sales.theirs depends on table workbench.mine of the role",
            )
            .remedy_sql("DROP VIEW sales.theirs")
        };
        assert_eq!(blockers, [told]);
        assert_eq!(site.sessions_of(&held), "0");
        assert!(site.use_it(&held, "orders", "SELECT 1").is_err());

        site.postgres.sql("orders", "DROP VIEW sales.theirs");
        assert_eq!(site.remove(&held, ObjectPolicy::Drop).await, Removal::Gone);
        site.assert_gone(&held);
        let left = "SELECT count(*) FROM pg_class WHERE relname IN ('mine', 'notes', 'half')";
        assert_eq!(site.postgres.sql("orders", left), [["0"]]);
        assert_eq!(site.postgres.sql("reports", left), [["0"]]);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_role_is_found_by_its_oid_when_a_dba_renamed_it() {
    for major in MAJORS {
        let site = Site::start(major);
        let (known, unknown) = (site.hold("orders_read").await, site.hold("orders_read").await);
        let hostile = "\"re\"\"named; \n'x\"";
        site.dba(&format!("ALTER ROLE {} RENAME TO {hostile}", known.name()));
        site.dba(&format!("ALTER ROLE {} RENAME TO renamed_too", unknown.name()));
        // The name is taken again by somebody who is not ours.
        site.dba(&format!("CREATE ROLE {}", known.name()));

        assert_eq!(site.remove(&known, KEEP).await, Removal::Gone);
        site.assert_gone(&known);
        let stranger =
            site.see(&format!("SELECT count(*) FROM pg_roles WHERE rolname = '{}'", known.name()));
        assert_eq!(stranger, "1");

        let mut in_doubt = unknown.lease.clone();
        in_doubt.role_oid = None;
        let found = site.cluster.find(&in_doubt).await.unwrap();
        assert_eq!(found, Some(unknown.created.role_oid));
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_role_without_our_mark_is_never_touched() {
    for major in MAJORS {
        let site = Site::start(major);
        let (bare, foreign, moved) = (
            site.hold("orders_read").await,
            site.hold("orders_read").await,
            site.hold("orders_read").await,
        );
        let comment = |held: &Held, text: &str| {
            site.dba(&format!("COMMENT ON ROLE {} IS {text}", held.name()));
        };
        let mark_of = |held: &Held| {
            let oid = held.created.role_oid;
            site.see(&format!("SELECT shobj_description({oid}, 'pg_authid')"))
        };
        let (ours, others) = (mark_of(&moved), mark_of(&bare));
        comment(&bare, "NULL");
        comment(&foreign, "'pgbridge v1 broker=b2 lease=aaaaaaaaaaaaaaaa mac=00'");
        comment(&moved, &format!("'{others}'"));

        for (held, because) in [
            (&bare, "does not carry our mark"),
            (&foreign, "another broker"),
            (&moved, "another lease"),
        ] {
            for target in [held.target(), {
                let mut by_name = held.target();
                by_name.oid = None;
                by_name
            }] {
                let end = site.cluster.end_access(&target).await.unwrap_err();
                let remove = site.cluster.remove(&target, KEEP).await.unwrap_err();
                for error in [end, remove] {
                    assert!(matches!(error, ClusterError::NotOurs { .. }), "{error:?}");
                    assert!(error.to_string().contains(because), "{error}");
                }
            }
            assert_eq!(site.cluster.find(&held.lease).await.unwrap(), None);
            site.use_it(held, "orders", "SELECT 1").unwrap();
        }
        comment(&moved, &format!("'{ours}'"));
        assert_eq!(site.remove(&moved, KEEP).await, Removal::Gone);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn an_oid_that_another_lease_has_by_now_is_left_to_it() {
    for major in MAJORS {
        let site = Site::start(major);
        let (lost, other) = (lease("orders_read"), site.hold("orders_read").await);
        let _session = site.session(&other);
        let mut target = RoleTarget::of(&lost);
        target.oid = Some(other.created.role_oid);
        assert_eq!(site.cluster.end_access(&target).await.unwrap(), AccessEnd::Gone);
        assert_eq!(site.cluster.remove(&target, KEEP).await.unwrap(), Removal::Gone);
        assert_eq!(site.sessions_of(&other), "1");
        site.use_it(&other, "orders", "SELECT 1").unwrap();
        let mut lost = lost;
        lost.role_oid = target.oid;
        assert_eq!(site.cluster.find(&lost).await.unwrap(), None);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_role_that_was_made_a_superuser_is_refused() {
    for major in MAJORS {
        let site = Site::start(major);
        let held = site.hold("orders_read").await;
        site.dba(&format!("ALTER ROLE {} SUPERUSER", held.name()));
        let error = site.cluster.end_access(&held.target()).await.unwrap_err();
        assert!(error.to_string().contains("made a superuser"), "{error}");
        site.dba(&format!("ALTER ROLE {} NOSUPERUSER", held.name()));
        assert_eq!(site.remove(&held, KEEP).await, Removal::Gone);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_listing_tells_our_roles_from_foreign_ones_and_strangers() {
    for major in MAJORS {
        let site = Site::start(major);
        let held = site.hold("orders_read").await;
        site.dba(
            "CREATE ROLE pgb_stranger; CREATE ROLE pgbridge_like; CREATE ROLE theirs;
             COMMENT ON ROLE theirs IS 'pgbridge v1 broker=b2 lease=aaaaaaaaaaaaaaaa mac=00'",
        );
        let roles = site.cluster.lease_roles().await.unwrap();
        let listed: Vec<_> = roles.iter().map(|role| (&*role.name, role.marker.clone())).collect();
        assert_eq!(
            listed,
            [
                (held.name(), MarkerReading::Ours(held.lease.id)),
                ("pgb_stranger", MarkerReading::Invalid),
                ("theirs", MarkerReading::Foreign),
            ]
        );
        assert_eq!(roles[0].oid, held.created.role_oid);
        let other_key = open(settings(&site.postgres), "b1", '8');
        let roles = other_key.lease_roles().await.unwrap();
        assert_eq!(roles[0].marker, MarkerReading::Invalid);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn what_a_dba_gave_the_role_blocks_with_words_and_not_the_end_of_access() {
    for major in MAJORS {
        let site = Site::start(major);
        let held = site.hold("orders_read").await;
        let role = held.name();
        site.dba("CREATE ROLE eve LOGIN; CREATE ROLE extra");
        site.dba(&format!("GRANT extra TO {role} WITH ADMIN OPTION; GRANT {role} TO eve"));
        site.dba(&format!("ALTER DATABASE reports OWNER TO {role}"));
        let end = site.cluster.end_access(&held.target()).await.unwrap();
        let state = site.see(&format!(
            "SELECT concat_ws(',', rolcanlogin, pg_has_role(oid, 'orders_read', 'MEMBER'),
                 pg_has_role('eve', oid, 'MEMBER')) FROM pg_roles WHERE rolname = '{role}'"
        ));
        if major >= 16 {
            // The superuser's grants are not the broker's to take: said, and the rest is done.
            let AccessEnd::Blocked(blockers) = end else { panic!("{end:?}") };
            assert_eq!(blockers.len(), 2, "{blockers:?}");
            assert!(blockers[0].to_string().contains("REVOKE \"extra\" FROM"), "{blockers:?}");
            assert!(blockers[1].to_string().contains("FROM \"eve\""), "{blockers:?}");
            assert_eq!(state, "f,f,t");
            site.dba(&format!("REVOKE extra FROM {role}; REVOKE {role} FROM eve"));
        } else {
            assert_eq!(end, AccessEnd::Ended(held.created.role_oid));
            assert_eq!(state, "f,f,f");
        }

        let blocked = site.remove(&held, KEEP).await;
        let Removal::Blocked(blockers) = blocked else { panic!("{blocked:?}") };
        let remedy = "ALTER DATABASE reports OWNER TO CURRENT_USER";
        assert_eq!(blockers[0].remedy.as_deref(), Some(remedy), "{blockers:?}");
        site.dba("ALTER DATABASE reports OWNER TO postgres");

        // The superuser's grant on an object is not the broker's to take either.
        site.dba(&format!("GRANT CREATE ON DATABASE reports TO {role}"));
        let blocked = site.remove(&held, KEEP).await;
        let Removal::Blocked(blockers) = blocked else { panic!("{blocked:?}") };
        assert_eq!(blockers[0].object.as_deref(), Some("DATABASE reports"), "{blockers:?}");
        assert_eq!(blockers[0].kind, BlockerKind::Privilege);
        site.dba(blockers[0].remedy.as_deref().expect("a statement"));
        assert_eq!(site.remove(&held, KEEP).await, Removal::Gone);
        site.assert_gone(&held);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_database_that_takes_no_connections_blocks_and_one_that_is_gone_does_not() {
    for major in MAJORS {
        let site = Site::start(major);
        let held = messy(&site).await;
        site.dba("CREATE DATABASE brief");
        site.dba(&format!("GRANT CREATE ON DATABASE brief TO {}", held.name()));
        site.use_it(&held, "brief", "CREATE SCHEMA mine").unwrap();
        site.dba("DROP DATABASE brief");
        site.dba("ALTER DATABASE reports ALLOW_CONNECTIONS false");

        let blocked = site.remove(&held, KEEP).await;
        let Removal::Blocked(blockers) = blocked else { panic!("{blocked:?}") };
        assert_eq!(blockers.len(), 1, "{blockers:?}");
        assert!(
            blockers[0].to_string().contains("database reports takes no connections"),
            "{blockers:?}"
        );
        let owner = "SELECT relowner::regrole FROM pg_class WHERE relname = 'mine'";
        assert_eq!(site.postgres.sql("orders", owner), [["pgbridge_attic"]]);

        site.dba("ALTER DATABASE reports ALLOW_CONNECTIONS true");
        assert_eq!(site.remove(&held, KEEP).await, Removal::Gone);
        site.assert_gone(&held);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn another_brokers_login_of_the_same_group_removes_the_role() {
    for major in MAJORS {
        let site = Site::start(major);
        let held = messy(&site).await;
        let options = if major >= 16 { "WITH INHERIT TRUE, SET TRUE" } else { "" };
        site.dba(&format!(
            "CREATE ROLE pgbridge_2 LOGIN CREATEROLE PASSWORD 'second';
             GRANT pg_signal_backend TO pgbridge_2;
             GRANT CONNECT ON DATABASE orders, reports TO pgbridge_2;
             GRANT pgbridge_admin, pgbridge_attic TO pgbridge_2 {options}"
        ));
        let mut settings = settings(&site.postgres);
        settings.user = "pgbridge_2".parse().unwrap();
        settings.password = pgbridge::cluster::ClusterPassword::from_file("second".into());
        let second = open(settings, "b1", '7');
        assert_eq!(second.remove(&held.target(), KEEP).await.unwrap(), Removal::Gone);
        site.assert_gone(&held);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_broker_without_pg_signal_backend_ends_sessions_all_the_same() {
    for major in MAJORS {
        let site = Site::start(major);
        site.dba("REVOKE pg_signal_backend FROM pgbridge");
        for shell in ["psql -X -q -c 'SELECT pg_sleep(600)'", LOCK_OWN_ROW] {
            let held = site.hold("orders_read").await;
            let _session = site.session_of(&held, shell);
            if shell == LOCK_OWN_ROW {
                site.row_is_locked(&held);
            }
            let ended = AccessEnd::Ended(held.created.role_oid);
            assert_eq!(site.cluster.end_access(&held.target()).await.unwrap(), ended);
            assert_eq!(site.sessions_of(&held), "0");
            assert_stays_until_none_can_be_hidden(&site, &held).await;
        }
        let held = messy(&site).await;
        assert_stays_until_none_can_be_hidden(&site, &held).await;
        let owner = "SELECT relowner::regrole FROM pg_class WHERE relname = 'mine'";
        assert_eq!(site.postgres.sql("orders", owner), [["pgbridge_attic"]]);
    }
}

/// D-08: a log-in that is held back could not be ended once its role is gone, so the role stays.
async fn assert_stays_until_none_can_be_hidden(site: &Site, held: &Held) {
    let minutes = |minutes| held.target().closed_for(Some(Duration::from_mins(minutes)));
    for target in [held.target(), minutes(30)] {
        let removal = site.cluster.remove(&target, KEEP).await.unwrap();
        let Removal::Blocked(blockers) = removal else { panic!("{removal:?}") };
        let remedy = "GRANT pg_signal_backend TO \"pgbridge\"";
        assert_eq!(blockers.len(), 1, "{blockers:?}");
        assert_eq!(blockers[0].remedy.as_deref(), Some(remedy));
        assert_eq!(site.roles_of(held), "1");
    }
    assert_eq!(site.cluster.remove(&minutes(37), KEEP).await.unwrap(), Removal::Gone);
    site.assert_gone(held);
}

#[tokio::test(flavor = "multi_thread")]
async fn two_removals_at_once_both_succeed() {
    for major in MAJORS {
        let site = Site::start(major);
        for _ in 0..5 {
            let held = site.hold("orders_read").await;
            let (one, two) = tokio::join!(site.remove(&held, KEEP), site.remove(&held, KEEP));
            assert_eq!((one, two), (Removal::Gone, Removal::Gone));
        }
    }
}

/// Before 16 a membership that is granted in the moment of the drop outlives the role.
#[tokio::test(flavor = "multi_thread")]
async fn a_membership_that_outlived_its_role_is_told_with_what_takes_it_away() {
    for major in [13, 15] {
        let site = Site::start(major);
        let held = site.hold("orders_read").await;
        assert_eq!(site.remove(&held, KEEP).await, Removal::Gone);
        let oid = held.created.role_oid;
        for (role, member) in
            [("'orders_write'::regrole", &*oid.to_string()), (&oid.to_string(), "10")]
        {
            site.dba(&format!("INSERT INTO pg_auth_members VALUES ({role}, {member}, 10, false)"));
            let removal = site.remove(&held, KEEP).await;
            let Removal::Blocked(blockers) = removal else { panic!("{removal:?}") };
            assert_eq!(blockers.len(), 1, "{blockers:?}");
            assert_eq!(blockers[0].kind, BlockerKind::Membership);
            site.dba(blockers[0].remedy.as_deref().expect("a statement"));
            assert_eq!(site.remove(&held, KEEP).await, Removal::Gone);
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_lease_that_never_had_a_role_has_nothing_to_end() {
    let site = Site::start(16);
    let target = RoleTarget::of(&lease("orders_read"));
    assert_eq!(site.cluster.end_access(&target).await.unwrap(), AccessEnd::Gone);
    assert_eq!(site.cluster.remove(&target, KEEP).await.unwrap(), Removal::Gone);
    let nobody = RoleTarget::found(target.lease, RoleOid(4_000_000_000));
    assert_eq!(site.cluster.remove(&nobody, KEEP).await.unwrap(), Removal::Gone);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_refused_revocation_costs_no_connection_and_ends_the_sessions() {
    for major in MAJORS {
        let site = Site::start(major);
        let held = site.hold("orders_read").await;
        let _session = site.session(&held);
        assert!(site.cluster.find(&held.lease).await.unwrap().is_some());
        let pids = "SELECT string_agg(pid::text, ',' ORDER BY pid) FROM pg_stat_activity
                    WHERE usename = 'pgbridge'";
        let before = site.see(pids);
        site.dba("ALTER ROLE pgbridge NOCREATEROLE");
        let error = site.cluster.end_access(&held.target()).await.unwrap_err();
        assert!(matches!(error, ClusterError::Rejected { .. }), "{error:?}");
        let after = site.see(pids);
        assert!(before.split(',').all(|pid| after.contains(pid)), "{before} then {after}");
        assert_eq!(site.sessions_of(&held), "0");

        site.dba("ALTER ROLE pgbridge CREATEROLE");
        let ended = AccessEnd::Ended(held.created.role_oid);
        assert_eq!(site.cluster.end_access(&held.target()).await.unwrap(), ended);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_routine_left_behind_runs_with_the_rights_of_its_caller_and_not_of_the_attic() {
    for major in MAJORS {
        let site = Site::start(major);
        site.group("maker");
        site.dba("CREATE ROLE eve LOGIN PASSWORD 'eve'; GRANT orders_write TO maker");
        site.postgres.sql(
            "orders",
            "GRANT CONNECT ON DATABASE orders TO eve; GRANT USAGE ON SCHEMA workbench TO eve",
        );
        let held = site.hold("maker").await;
        let who = "LANGUAGE sql AS 'SELECT current_user::text'";
        let make = format!(
            "CREATE FUNCTION workbench.\"o'd\"\"d; --\"(\"x y\" integer, numeric[]) RETURNS text SECURITY DEFINER {who};
             CREATE FUNCTION workbench.plain() RETURNS text {who};
             CREATE PROCEDURE workbench.act() SECURITY DEFINER LANGUAGE sql AS 'SELECT 1'"
        );
        site.use_it(&held, "orders", &make).expect("the holder may");
        let eve = |text: &str| site.postgres.sql_as("eve", "eve", "orders", text);
        let trap = "SELECT workbench.\"o'd\"\"d; --\"(1, '{}')";
        assert_eq!(eve(trap).unwrap(), [[held.name()]]);

        assert_eq!(site.remove(&held, KEEP).await, Removal::Gone);
        let left = "SELECT count(*), bool_or(prosecdef), min(proowner::regrole::text)
                    FROM pg_proc WHERE pronamespace = 'workbench'::regnamespace";
        assert_eq!(site.postgres.sql("orders", left), [["3", "f", "pgbridge_attic"]]);
        assert!(eve(trap).unwrap_err().contains("permission denied"));
        assert!(eve("CALL workbench.act()").unwrap_err().contains("permission denied"));
        assert_eq!(eve("SELECT workbench.plain()").unwrap(), [["eve"]]);
    }
}
