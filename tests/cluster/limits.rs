//! What keeps a role, and how it is told: every statement that a blocker names is run as it
//! stands, and then the role goes.

use std::sync::{Arc, Mutex};
use std::time::Duration;

use async_trait::async_trait;
use pgbridge::cluster::{
    AccessEnd, ClusterError, HandedOver, Removal, RoleTarget, Witness, Written,
};
use pgbridge::lease::{Blocker, BlockerKind, Holder};
use pgbridge::mapping::ObjectPolicy;
use pgbridge::names::{ClusterName, LeaseId, RoleOid};

use super::residue::Residue;
use super::{ALL_MAJORS, Held, MAJORS, Site, lease, open, settings};

const REASSIGN: ObjectPolicy = ObjectPolicy::Reassign;

/// The blockers of an attempt that does not complete.
#[track_caller]
fn blockers(removal: Removal) -> Vec<Blocker> {
    match removal {
        Removal::Blocked(blockers) => blockers,
        Removal::Gone => panic!("the role is gone"),
    }
}

fn kinds(blockers: &[Blocker]) -> Vec<BlockerKind> {
    blockers.iter().map(|blocker| blocker.kind).collect()
}

impl Site {
    /// One whose broker waits for no lock longer than a second.
    fn impatient(major: u32) -> Self {
        let mut site = Self::start(major);
        let mut settings = settings(&site.postgres);
        settings.lock_timeout = Duration::from_secs(1);
        site.cluster = open(settings, "b1", '7');
        site
    }

    /// The superuser who runs what is told.
    fn keeper(&self) {
        self.dba("CREATE ROLE keeper SUPERUSER");
    }

    /// The holder of a table and a function in `workbench`.
    async fn maker(&self) -> Held {
        let held = self.hold("orders_write").await;
        let make = "CREATE TABLE workbench.mine (n integer PRIMARY KEY);
                    CREATE FUNCTION workbench.run() RETURNS trigger
                        LANGUAGE plpgsql AS 'BEGIN RETURN NEW; END'";
        self.use_it(&held, "orders", make).expect("the holder may");
        held
    }
}

/// F-20: the access has ended; who reads is named with process, role and table.
#[tokio::test(flavor = "multi_thread")]
async fn a_long_reader_of_the_roles_table_is_named_and_the_role_goes_once_it_is_done() {
    for major in [13, 16, 18] {
        let site = Site::impatient(major);
        site.keeper();
        let held = site.maker().await;
        let reader = site.hold_open_in("orders", "TABLE workbench.mine");
        let pid = site.see("SELECT pid FROM pg_stat_activity WHERE state = 'idle in transaction'");
        for policy in [REASSIGN, ObjectPolicy::Drop] {
            let left = blockers(site.remove(&held, policy).await);
            let told = Blocker::new(
                BlockerKind::Lock,
                format!(
                    "server process {pid} of postgres, connected to orders, holds a lock on table \
                     workbench.mine; ending the process undoes what it has not committed"
                ),
            )
            .about("table workbench.mine")
            .within("orders")
            .held_by(Holder { pid: pid.parse().ok(), role: Some("postgres".into()) })
            .remedy_sql(&format!(
                "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE pid = {pid} \
                 AND usename = 'postgres'"
            ));
            assert_eq!(left, [told]);
            site.assert_closed(&held);
        }
        // Who may read it is told since when, too; and never what the process runs.
        site.dba("GRANT pg_read_all_stats TO pgbridge");
        let left = blockers(site.remove(&held, REASSIGN).await);
        let begun = "SELECT to_char(xact_start AT TIME ZONE 'UTC', 'YYYY-MM-DD HH24:MI:SS')
                     FROM pg_stat_activity WHERE state = 'idle in transaction'";
        let since =
            format!("in a transaction since {} UTC, its last statement begun at ", site.see(begun));
        assert!(left[0].detail.contains(&since), "{left:?}");
        assert!(!left[0].detail.contains("TABLE workbench.mine;"), "{left:?}");
        site.dba("REVOKE pg_read_all_stats FROM pgbridge");
        let left = blockers(site.remove(&held, REASSIGN).await);
        site.paste_until_gone(&held, REASSIGN, left).await;
        site.assert_gone(&held);
        drop(reader);
    }
}

/// Is told what is about to change hands, and can write it down from the second time on.
#[derive(Default)]
struct Notes(Mutex<Vec<String>>);

#[async_trait]
impl Witness for Notes {
    async fn hands_over(
        &self,
        _: &ClusterName,
        _: LeaseId,
        _: RoleOid,
        what: &HandedOver,
    ) -> Written {
        let mut notes = self.0.lock().expect("nobody panics with it");
        notes.push(what.announced());
        if notes.len() == 1 { Written::No } else { Written::Yes }
    }
}

/// An attempt that is in vain is made again and again.
#[tokio::test(flavor = "multi_thread")]
async fn what_is_to_go_to_the_attic_is_told_until_it_is_written_down_and_then_no_more() {
    let site = Site::impatient(16);
    let notes = Arc::new(Notes::default());
    site.cluster.tell(Arc::clone(&notes) as Arc<dyn Witness>);
    let held = site.maker().await;
    let lock = site.hold_open_in("orders", "LOCK TABLE workbench.mine");
    for _ in 0..4 {
        assert_eq!(kinds(&blockers(site.remove(&held, REASSIGN).await)), [BlockerKind::Lock]);
    }
    drop(lock);
    assert_eq!(site.remove(&held, REASSIGN).await, Removal::Gone);
    let notes = notes.0.lock().expect("nobody panics with it");
    assert_eq!(notes.len(), 2, "{notes:?}");
    assert!(notes[0].starts_with("2 objects in database orders soon pgbridge_attic's"));
    assert_eq!(notes[0], notes[1]);
}

/// F-20: a prepared transaction has no process; it is named by its identifier.
#[tokio::test(flavor = "multi_thread")]
async fn a_prepared_transaction_of_somebody_else_that_holds_a_lock_is_named() {
    for major in [13, 18] {
        let site = Site::impatient(major);
        let held = site.maker().await;
        let prepare = "BEGIN; LOCK TABLE workbench.mine; PREPARE TRANSACTION 'the DBA''s\n'";
        site.postgres.sql("orders", prepare);
        let left = blockers(site.remove(&held, REASSIGN).await);
        assert_eq!(kinds(&left), [BlockerKind::Lock]);
        let remedy = left[0].remedy.as_deref().expect("a statement");
        assert_eq!(remedy, "ROLLBACK PREPARED U&'the DBA''s\\+00000a'");
        site.postgres.sql("orders", remedy);
        assert_eq!(site.remove(&held, REASSIGN).await, Removal::Gone);
        site.assert_gone(&held);
    }
}

/// Objects of two databases can have the same OIDs: a copy of a database has those of its template.
#[tokio::test(flavor = "multi_thread")]
async fn a_prepared_transaction_of_another_database_is_not_taken_for_the_one_that_waits() {
    for major in [13, 18] {
        let site = Site::impatient(major);
        let held = site.maker().await;
        site.dba("CREATE DATABASE copy TEMPLATE orders");
        let prepare = |gid: &str, mode: &str| {
            format!("BEGIN; LOCK TABLE workbench.mine IN {mode} MODE; PREPARE TRANSACTION '{gid}'")
        };
        site.postgres.sql("copy", &prepare("a", "ACCESS EXCLUSIVE"));
        site.postgres.sql("orders", &prepare("b", "ACCESS SHARE"));
        let left = blockers(site.remove(&held, ObjectPolicy::Drop).await);
        assert!(!left.is_empty());
        for blocker in left {
            let gid = if blocker.database.as_deref() == Some("copy") { "a" } else { "b" };
            let remedy = format!("ROLLBACK PREPARED '{gid}'");
            assert_eq!(blocker.remedy.as_deref(), Some(&*remedy), "{blocker:?}");
        }
        site.postgres.sql("orders", "ROLLBACK PREPARED 'b'");
        site.postgres.sql("copy", "ROLLBACK PREPARED 'a'");
        assert_eq!(site.remove(&held, ObjectPolicy::Drop).await, Removal::Gone);
        site.assert_gone(&held);
    }
}

/// What is pasted must not cost others what they have stored.
#[tokio::test(flavor = "multi_thread")]
async fn what_others_have_stored_is_never_dropped_by_a_statement_that_is_told() {
    for major in ALL_MAJORS {
        let site = Site::start(major);
        let held = site.hold("orders_write").await;
        let make = "CREATE TYPE workbench.mood AS ENUM ('a', 'b');
                    CREATE TYPE workbench.pair AS (x integer);
                    CREATE TABLE workbench.parent (n integer);
                    CREATE SEQUENCE workbench.numbers;
                    CREATE FUNCTION workbench.one() RETURNS integer
                        IMMUTABLE LANGUAGE sql AS 'SELECT 1'";
        site.use_it(&held, "orders", make).unwrap();
        let build = "CREATE TABLE sales.invoices (amount integer, \"m;\" workbench.mood);
                     CREATE TABLE sales.child () INHERITS (workbench.parent);
                     CREATE TABLE sales.typed OF workbench.pair;
                     CREATE TABLE sales.numbered (n integer DEFAULT nextval('workbench.numbers'),
                         g integer GENERATED ALWAYS AS (workbench.one()) STORED);
                     CREATE MATERIALIZED VIEW sales.copied AS TABLE workbench.parent;
                     CREATE INDEX found ON sales.invoices ((amount + workbench.one()));
                     CREATE VIEW sales.seen AS TABLE workbench.parent;
                     INSERT INTO sales.invoices VALUES (1, 'a');
                     INSERT INTO sales.child VALUES (2);
                     INSERT INTO sales.typed VALUES (3);
                     INSERT INTO sales.numbered VALUES (4)";
        site.postgres.sql("orders", build);
        let stored = "SELECT (SELECT sum(amount) FROM sales.invoices),
                             (SELECT sum(n) FROM sales.child), (SELECT sum(x) FROM sales.typed),
                             (SELECT sum(n + g) FROM sales.numbered)";
        let before = site.postgres.sql("orders", stored);
        let is_sql = |blocker: &Blocker| {
            let remedy = blocker.remedy.as_deref().expect("a remedy");
            assert!(!remedy.contains("DROP TABLE"), "{blocker:?}");
            remedy.starts_with("DROP ") || remedy.starts_with("ALTER ")
        };
        let mut left = blockers(site.remove(&held, ObjectPolicy::Drop).await);
        for _ in 0..10 {
            for blocker in left.iter().filter(|blocker| is_sql(blocker)) {
                let remedy = blocker.remedy.as_deref().unwrap_or_default();
                site.postgres.try_sql("orders", remedy).expect(remedy);
            }
            left = blockers(site.remove(&held, ObjectPolicy::Drop).await);
            if !left.iter().any(is_sql) {
                break;
            }
        }
        let told: Vec<_> = left.iter().map(|blocker| blocker.detail.as_str()).collect();
        assert_eq!(
            told,
            [
                "column m; of table sales.invoices depends on type workbench.mood of the role",
                "materialized view sales.copied depends on table workbench.parent of the role",
            ]
        );
        let words = left.iter().map(|blocker| blocker.remedy.as_deref().unwrap_or_default());
        assert!(words.clone().all(|words| words.contains("loses what it holds")), "{left:?}");
        assert!(words.clone().any(|words| words.contains("ALTER COLUMN")), "{left:?}");
        assert_eq!(site.postgres.sql("orders", stored), before);
        let mend = "ALTER TABLE sales.invoices ALTER COLUMN \"m;\" TYPE text;
                    DROP MATERIALIZED VIEW sales.copied";
        site.postgres.sql("orders", mend);
        assert_eq!(site.remove(&held, ObjectPolicy::Drop).await, Removal::Gone);
        site.assert_gone(&held);
    }
}

/// A partition goes with its table, whoever owns it.
#[tokio::test(flavor = "multi_thread")]
async fn a_partition_of_somebody_else_is_not_dropped_with_the_roles_table() {
    for major in [13, 18] {
        let site = Site::start(major);
        let held = site.hold("orders_write").await;
        let make = "CREATE TABLE workbench.parent (n integer) PARTITION BY RANGE (n);
                    CREATE TABLE workbench.own PARTITION OF workbench.parent DEFAULT";
        site.use_it(&held, "orders", make).unwrap();
        let attach = "CREATE TABLE sales.theirs (n integer);
                      INSERT INTO sales.theirs VALUES (5);
                      ALTER TABLE workbench.parent ATTACH PARTITION sales.theirs
                          FOR VALUES FROM (0) TO (10)";
        site.postgres.sql("orders", attach);
        let left = blockers(site.remove(&held, ObjectPolicy::Drop).await);
        let told = Blocker::new(
            BlockerKind::Object,
            "table sales.theirs would be dropped with table workbench.parent of the role",
        )
        .within("orders")
        .about("table workbench.parent")
        .remedy_sql("ALTER TABLE workbench.parent DETACH PARTITION sales.theirs");
        assert_eq!(left, [told]);
        site.postgres.sql("orders", left[0].remedy.as_deref().unwrap_or_default());
        assert_eq!(site.remove(&held, ObjectPolicy::Drop).await, Removal::Gone);
        site.assert_gone(&held);
        assert_eq!(site.postgres.sql("orders", "SELECT n FROM sales.theirs"), [["5"]]);
    }
}

/// F-21: the rest is cleaned, and each database that is out of reach is told with the reason.
#[tokio::test(flavor = "multi_thread")]
async fn each_database_out_of_reach_is_told_and_the_others_are_cleared() {
    for major in MAJORS {
        let site = Site::start(major);
        site.keeper();
        let names = ["brief", "closed", "forbidden", "full", "good"];
        let held = site.hold("orders_write").await;
        for name in names {
            site.dba(&format!("CREATE DATABASE \"{name}\""));
            let quoted = format!("\"{name}\"");
            site.dba(&format!(
                "GRANT CREATE ON DATABASE {quoted} TO pgbridge_attic, {}",
                held.name()
            ));
            site.use_it(&held, name, "CREATE SCHEMA own CREATE TABLE notes (n integer)").unwrap();
            site.dba(&format!("REVOKE CREATE ON DATABASE {quoted} FROM {}", held.name()));
        }
        site.dba("DROP DATABASE brief");
        site.dba("ALTER DATABASE closed ALLOW_CONNECTIONS false");
        site.dba("REVOKE CONNECT ON DATABASE forbidden FROM PUBLIC");
        site.dba("ALTER DATABASE \"full\" CONNECTION LIMIT 0");

        let left = blockers(site.remove(&held, REASSIGN).await);
        let mut databases: Vec<_> =
            left.iter().filter_map(|blocker| blocker.database.as_deref()).collect();
        databases.sort_unstable();
        assert_eq!(databases, ["closed", "forbidden", "full"], "{left:#?}");
        assert!(left.iter().all(|blocker| blocker.kind == BlockerKind::Database), "{left:#?}");
        let owner = "SELECT relowner::regrole FROM pg_class WHERE relname = 'notes'";
        assert_eq!(site.postgres.sql("good", owner), [["pgbridge_attic"]]);

        site.dba("ALTER DATABASE \"full\" CONNECTION LIMIT -1");
        for blocker in &left {
            if let Some(remedy) = &blocker.remedy {
                site.dba(remedy);
            }
        }
        assert_eq!(site.remove(&held, REASSIGN).await, Removal::Gone);
        site.assert_gone(&held);
    }
}

/// F-22, M-10: what others have given it cannot be taken back by the broker; each statement that
/// is told does.
#[tokio::test(flavor = "multi_thread")]
async fn what_others_gave_the_role_is_told_as_statements_that_take_it_back() {
    for major in ALL_MAJORS {
        let site = Site::start(major);
        site.keeper();
        site.dba("CREATE ROLE mayor; CREATE ROLE eve; CREATE ROLE extra");
        site.postgres.sql(
            "orders",
            "CREATE SCHEMA hall AUTHORIZATION mayor;
             SET ROLE mayor;
             CREATE TABLE hall.\"b\"\"ook; --\" (\"c\nd\" integer, e integer);
             ALTER TABLE hall.\"b\"\"ook; --\" ENABLE ROW LEVEL SECURITY",
        );
        let before = Residue::of(&site);
        let held = site.hold("orders_write").await;
        let role = held.name();
        site.postgres.sql(
            "orders",
            &format!(
                "SET ROLE mayor;
                 GRANT SELECT (\"c\nd\"), UPDATE ON hall.\"b\"\"ook; --\" TO {role} WITH GRANT OPTION;
                 GRANT USAGE ON SCHEMA hall TO {role} WITH GRANT OPTION;
                 ALTER DEFAULT PRIVILEGES IN SCHEMA hall GRANT INSERT ON TABLES TO {role};
                 ALTER DEFAULT PRIVILEGES GRANT EXECUTE ON ROUTINES TO {role};
                 CREATE POLICY \"only;\" ON hall.\"b\"\"ook; --\" TO {role} USING (true);
                 CREATE POLICY too ON hall.\"b\"\"ook; --\" TO eve, {role} USING (true)"
            ),
        );
        let hand_on =
            "GRANT UPDATE ON hall.\"b\"\"ook; --\" TO eve; GRANT USAGE ON SCHEMA hall TO PUBLIC";
        site.use_it(&held, "orders", hand_on).unwrap();
        site.dba(&format!("GRANT CREATE ON DATABASE reports TO {role}"));
        site.dba(&format!("GRANT CREATE ON TABLESPACE pg_default TO {role}"));
        if major >= 15 {
            site.dba(&format!("GRANT SET, ALTER SYSTEM ON PARAMETER work_mem, \"a.b\" TO {role}"));
        }
        let left = blockers(site.remove(&held, REASSIGN).await);
        let privilege = |blocker: &Blocker| blocker.kind == BlockerKind::Privilege;
        assert!(left.iter().all(privilege), "{left:#?}");
        site.assert_closed(&held);
        site.paste_until_gone(&held, REASSIGN, left).await;
        site.assert_gone(&held);
        // The policy that named nobody else went with the role, as DROP OWNED would have it; with
        // the other the DBA had made room for the role.
        let change = Residue::of(&site).since(&before);
        assert!(change.removed.is_empty(), "{change:?}");
        let ours = |line: &&String| {
            !line.contains("policy")
                && !line.contains("a.b")
                && !line.contains("work_mem")
                && !line.contains("pg_default|postgres")
                && !line.contains("database|reports")
                && !line.contains("keeper")
        };
        let foreign: Vec<_> = change.added.iter().filter(ours).collect();
        assert!(foreign.is_empty(), "{foreign:#?}");
    }
}

/// M-09, F-22: a membership that is not the broker's to take ends with the role.
#[tokio::test(flavor = "multi_thread")]
async fn memberships_that_a_dba_made_do_not_outlive_the_role() {
    for major in ALL_MAJORS {
        let site = Site::start(major);
        let held = site.hold("orders_read").await;
        let role = held.name();
        site.dba("CREATE ROLE eve; CREATE ROLE tom LOGIN PASSWORD 'tom'; CREATE ROLE extra");
        site.dba(&format!("GRANT extra TO {role} WITH ADMIN OPTION; GRANT {role} TO eve"));
        site.use_it(&held, "orders", "GRANT extra TO tom").unwrap();
        if major < 16 {
            // Its right to grant goes, and what it granted stays with a grantor that dangles.
            site.dba(&format!("REVOKE ADMIN OPTION FOR extra FROM {role}"));
        }
        assert_eq!(site.remove(&held, REASSIGN).await, Removal::Gone, "{major}");
        site.assert_gone(&held);
        let tom = site.see("SELECT count(*) FROM pg_auth_members WHERE member = 'tom'::regrole");
        assert_eq!(tom, "0");
    }
}

/// A view, a rule or a routine acts with its owner's rights, so the attic must have none.
#[tokio::test(flavor = "multi_thread")]
async fn an_attic_that_is_somebody_gets_nothing_and_what_it_lacks_is_told() {
    for major in [13, 15, 16, 18] {
        let site = Site::start(major);
        site.keeper();
        let held = site.maker().await;
        site.dba("ALTER ROLE pgbridge_attic LOGIN; GRANT orders_read TO pgbridge_attic");
        site.postgres.sql("orders", "REVOKE CREATE ON SCHEMA workbench FROM pgbridge_attic");
        let left = blockers(site.remove(&held, REASSIGN).await);
        assert_eq!(kinds(&left), [BlockerKind::Object, BlockerKind::Object], "{left:#?}");
        let owner = "SELECT relowner::regrole FROM pg_class WHERE relname = 'mine'";
        assert_eq!(site.postgres.sql("orders", owner), [[held.name()]]);
        site.paste_until_gone(&held, REASSIGN, left).await;
        site.assert_gone(&held);
        assert_eq!(site.postgres.sql("orders", owner), [["pgbridge_attic"]]);
        let attic = "SELECT concat_ws(',', rolcanlogin, (SELECT count(*) FROM pg_auth_members
                         WHERE member = pg_roles.oid)) FROM pg_roles WHERE rolname = 'pgbridge_attic'";
        assert_eq!(site.see(attic), "f,0");
    }
}

/// A trigger would go on running what the holder wrote, with the rights of whoever changes the
/// table.
#[tokio::test(flavor = "multi_thread")]
async fn a_routine_that_anothers_trigger_runs_does_not_go_to_the_attic() {
    for major in MAJORS {
        let site = Site::start(major);
        site.keeper();
        site.postgres.sql("orders", "GRANT TRIGGER ON sales.customer TO orders_write");
        for policy in [REASSIGN, ObjectPolicy::Keep, ObjectPolicy::Drop] {
            let held = site.maker().await;
            let arm = "CREATE TRIGGER \"tr\"\"ap; --\" BEFORE INSERT ON sales.customer
                       FOR EACH ROW EXECUTE FUNCTION workbench.run()";
            site.use_it(&held, "orders", arm).unwrap();
            let left = blockers(site.remove(&held, policy).await);
            let told = "DROP TRIGGER \"tr\"\"ap; --\" ON sales.customer";
            let of_trigger: Vec<_> =
                left.iter().filter_map(|blocker| blocker.remedy.as_deref()).collect();
            assert!(of_trigger.contains(&told), "{left:#?}");
            site.paste_until_gone(&held, policy, left).await;
            site.assert_gone(&held);
            site.postgres.sql(
                "orders",
                "DROP TABLE IF EXISTS workbench.mine; DROP FUNCTION IF EXISTS workbench.run",
            );
        }
    }
}

/// M-07, F-29: the server does not say whose a slot is. A role that may make one is held until a
/// DBA has looked; one that may not is not.
#[tokio::test(flavor = "multi_thread")]
async fn a_replication_slot_that_may_be_the_roles_holds_it_until_a_dba_has_looked() {
    for major in ALL_MAJORS {
        let site = Site::start(major);
        site.keeper();
        site.dba("SELECT pg_create_physical_replication_slot('theirs')");
        let plain = site.hold("orders_read").await;
        assert_eq!(site.remove(&plain, REASSIGN).await, Removal::Gone);

        let held = site.hold("orders_read").await;
        let _session = site.session(&held);
        site.dba(&format!("ALTER ROLE {} REPLICATION", held.name()));
        let make = "SELECT pg_create_logical_replication_slot('its', 'pgoutput')";
        site.use_it(&held, "orders", make).unwrap();
        let end = site.cluster.end_access(&held.target()).await.unwrap();
        let slots = [BlockerKind::ReplicationSlot, BlockerKind::ReplicationSlot];
        if major >= 16 {
            assert_eq!(end, AccessEnd::Ended(held.created.role_oid));
            assert_eq!(kinds(&blockers(site.remove(&held, REASSIGN).await)), slots);
        } else {
            // Only a superuser may close it; it has no group and no session all the same.
            let AccessEnd::Blocked(left) = end else { panic!("{end:?}") };
            assert_eq!(kinds(&left)[0], BlockerKind::Role);
            assert_eq!(kinds(&left)[1..], slots);
            assert_eq!(
                left[0].remedy.as_deref(),
                Some(&*format!("ALTER ROLE \"{}\" NOLOGIN NOREPLICATION", held.name()))
            );
        }
        assert_eq!(site.sessions_of(&held), "0");
        let groups = format!(
            "SELECT count(*) FROM pg_auth_members WHERE member = {}",
            held.created.role_oid
        );
        assert_eq!(site.see(&groups), "0");

        // Whose a slot is nobody knows but the DBA, so none is dropped by what is told.
        let left = blockers(site.remove(&held, REASSIGN).await);
        let of_slots = left.iter().filter(|one| one.kind == BlockerKind::ReplicationSlot);
        for told in of_slots {
            let slot = told.object.as_deref().expect("it is named");
            assert!(told.detail.contains("or somebody else's"), "{told:?}");
            assert!(["its", "theirs"].contains(&slot) && told.detail.contains(slot), "{told:?}");
            let remedy = told.remedy.as_deref().expect("there is one");
            let first = format!("run ALTER ROLE \"{}\" NOREPLICATION, ask", held.name());
            assert!(remedy.starts_with(&first) && !remedy.contains("pg_drop"), "{remedy}");
        }
        site.dba(&format!("ALTER ROLE {} NOREPLICATION", held.name()));
        assert_eq!(site.remove(&held, REASSIGN).await, Removal::Gone);
        site.assert_gone(&held);
        let slots =
            "SELECT string_agg(slot_name, ',' ORDER BY slot_name) FROM pg_replication_slots";
        assert_eq!(site.see(slots), "its,theirs");
    }
}

/// A subscription is shared and of one database, and nothing of ours may move it.
#[tokio::test(flavor = "multi_thread")]
async fn a_subscription_that_a_dba_gave_the_role_is_told_with_its_database() {
    for major in [16, 18] {
        let site = Site::start(major);
        site.keeper();
        let held = site.hold("orders_read").await;
        let role = held.name();
        site.postgres.sql(
            "orders",
            "SET client_min_messages = error; CREATE SUBSCRIPTION \"s;\" CONNECTION 'dbname=none'
                 PUBLICATION p WITH (connect = false, password_required = false)",
        );
        site.dba(&format!(
            "GRANT pg_create_subscription TO {role}; GRANT CREATE ON DATABASE orders TO {role}"
        ));
        site.postgres.sql("orders", &format!("ALTER SUBSCRIPTION \"s;\" OWNER TO {role}"));
        site.dba(&format!("REVOKE CREATE ON DATABASE orders FROM {role}"));
        let left = blockers(site.remove(&held, REASSIGN).await);
        let told = Blocker::new(BlockerKind::Object, "the role owns subscription \"s;\"")
            .about("subscription \"s;\"")
            .within("orders")
            .remedy_sql(
                "ALTER SUBSCRIPTION \"s;\" DISABLE; ALTER SUBSCRIPTION \"s;\" SET (slot_name = NONE); \
                 DROP SUBSCRIPTION \"s;\"",
            );
        assert!(left.contains(&told), "{left:#?}");
        site.paste_until_gone(&held, REASSIGN, left).await;
        site.assert_gone(&held);
    }
}

/// F-23, F-37, I-09: an OID, a name or a copied mark alone is nobody.
#[tokio::test(flavor = "multi_thread")]
async fn a_role_is_ours_by_oid_and_mark_together() {
    for major in MAJORS {
        let site = Site::start(major);
        let (held, copied) = (site.hold("orders_read").await, site.hold("orders_read").await);
        let mark =
            site.see(&format!("SELECT shobj_description({}, 'pg_authid')", held.created.role_oid));
        site.dba(
            "CREATE ROLE stranger LOGIN PASSWORD 'stranger'; CREATE ROLE copy; CREATE ROLE copy2",
        );
        site.dba(&format!(
            "GRANT CONNECT ON DATABASE orders TO stranger; COMMENT ON ROLE copy IS '{mark}'"
        ));
        // Another role under that OID, as after a wrap-around.
        let mut target = held.target();
        target.oid = Some(RoleOid(site.see("SELECT 'stranger'::regrole::oid").parse().unwrap()));
        for result in [
            site.cluster.end_access(&target).await.map(|_| ()),
            site.cluster.remove(&target, REASSIGN).await.map(|_| ()),
        ] {
            assert!(matches!(result, Err(ClusterError::NotOurs { .. })), "{result:?}");
        }
        assert_eq!(site.see("SELECT rolcanlogin FROM pg_roles WHERE rolname = 'stranger'"), "t");

        // The name decides between the role and a copy; a copy alone that was renamed is not told
        // from the role, two are.
        let mut by_name = held.target();
        by_name.oid = None;
        let mut lease_by_name = held.lease.clone();
        lease_by_name.role_oid = None;
        assert_eq!(site.cluster.find(&lease_by_name).await.unwrap(), held.lease.role_oid);
        site.dba(&format!(
            "COMMENT ON ROLE copy2 IS '{mark}'; ALTER ROLE {} RENAME TO moved",
            held.name()
        ));
        assert_eq!(site.cluster.find(&lease_by_name).await.unwrap(), None);
        let error = site.cluster.remove(&by_name, REASSIGN).await.unwrap_err();
        assert!(error.to_string().contains("others carry the same mark"), "{error}");
        assert_eq!(site.remove(&held, REASSIGN).await, Removal::Gone);
        assert_eq!(site.see("SELECT count(*) FROM pg_roles WHERE rolname LIKE 'copy%'"), "2");

        // A DBA dropped the role and made another of the same name.
        let name = copied.name();
        site.dba(&format!("DROP ROLE {name}; CREATE ROLE {name} LOGIN"));
        assert_eq!(site.remove(&copied, REASSIGN).await, Removal::Gone);
        assert_eq!(
            site.see(&format!("SELECT rolcanlogin FROM pg_roles WHERE rolname = '{name}'")),
            "t"
        );
        let unknown = lease("orders_read");
        assert_eq!(site.cluster.find(&unknown).await.unwrap(), None);
    }
}

/// F-10 at one cluster: a role that a backup brought back, its end long past, is removed by its
/// mark alone.
#[tokio::test(flavor = "multi_thread")]
async fn a_role_that_a_backup_brought_back_is_removed() {
    for major in MAJORS {
        let site = Site::start(major);
        let held = site.maker().await;
        site.dba(&format!("ALTER ROLE {} VALID UNTIL '2001-01-01'", held.name()));
        assert!(site.use_it(&held, "orders", "SELECT 1").is_err());
        let found = site.cluster.lease_roles().await.unwrap();
        let target = RoleTarget::found(held.lease.id, found[0].oid);
        assert_eq!(site.cluster.remove(&target, ObjectPolicy::Drop).await.unwrap(), Removal::Gone);
        site.assert_gone(&held);
    }
}

/// A superuser who pastes what is told runs and owns nothing that the holder wrote: what the broker
/// cannot read, it cannot make harmless, so there is no statement that moves it.
#[tokio::test(flavor = "multi_thread")]
async fn what_has_a_name_that_is_no_text_goes_to_the_attic_only_once_it_is_harmless() {
    for major in [13, 18] {
        let site = Site::start(major);
        site.dba("CREATE ROLE eve LOGIN PASSWORD 'eve'");
        let held = site.hold("orders_write").await;
        site.dba(
            "CREATE DATABASE odd ENCODING 'SQL_ASCII' TEMPLATE template0 LC_COLLATE 'C' LC_CTYPE 'C'",
        );
        site.postgres.sql("odd", "GRANT CREATE ON SCHEMA public TO PUBLIC");
        let make = r#"DO $$BEGIN EXECUTE E'CREATE FUNCTION public."f\xFF"() RETURNS text
                SECURITY DEFINER LANGUAGE sql AS ''SELECT current_user::text''';
            EXECUTE E'CREATE TABLE public."t\xFF" (n integer); GRANT ALL ON public."t\xFF" TO eve';
        END$$"#;
        site.use_it(&held, "odd", make).unwrap();
        for policy in [REASSIGN, ObjectPolicy::Keep] {
            let left = blockers(site.remove(&held, policy).await);
            assert_eq!(kinds(&left)[0], BlockerKind::Database, "{left:#?}");
            let remedy = left[0].remedy.as_deref().expect("there is one");
            assert!(remedy.contains("rename it to plain letters"), "{remedy}");
            for statement in ["REASSIGN", "OWNER TO", "DROP"] {
                assert!(!remedy.contains(statement), "{remedy}");
            }
        }
        let definers = "SELECT concat_ws(',', proowner::regrole, prosecdef) FROM pg_proc
                        WHERE pronamespace = 'public'::regnamespace";
        assert_eq!(site.postgres.sql("odd", definers), [[format!("{},t", held.name())]]);
        let rename = r#"DO $$BEGIN EXECUTE E'ALTER FUNCTION public."f\xFF"() RENAME TO f';
            EXECUTE E'ALTER TABLE public."t\xFF" RENAME TO t'; END$$"#;
        site.postgres.sql("odd", rename);
        assert_eq!(site.remove(&held, REASSIGN).await, Removal::Gone);
        site.assert_gone(&held);
        assert_eq!(site.postgres.sql("odd", definers), [["pgbridge_attic,f"]]);
        let eve = |text: &str| site.postgres.sql_as("eve", "eve", "odd", text).unwrap_err();
        assert!(eve("SELECT public.f()").contains("permission denied"));
        assert!(eve("TABLE public.t").contains("permission denied"));
    }
}

/// A person who pastes it is not the broker, so it names the broker's login.
#[tokio::test(flavor = "multi_thread")]
async fn how_the_broker_gets_to_act_for_a_role_is_told_with_its_login() {
    // Since 16 a login that may close a role may join it.
    for major in [13, 15] {
        let site = Site::start(major);
        site.keeper();
        site.dba("REVOKE pg_signal_backend FROM pgbridge");
        let held = site.hold("orders_read").await;
        // A circle of memberships is refused.
        site.dba(&format!("GRANT pgbridge TO {}", held.name()));
        let _session = site.session(&held);
        let end = site.cluster.end_access(&held.target()).await.unwrap();
        let AccessEnd::Blocked(left) = end else { panic!("{end:?}") };
        let remedy = format!("GRANT \"{}\" TO \"pgbridge\"", held.name());
        let told: Vec<_> = left.iter().filter_map(|one| one.remedy.as_deref()).collect();
        assert!(told.contains(&&*remedy), "{left:#?}");
        assert!(told.contains(&"GRANT pg_signal_backend TO \"pgbridge\""), "{left:#?}");
        site.dba(&format!("REVOKE pgbridge FROM {}; SET ROLE keeper; {remedy}", held.name()));
        let ended = AccessEnd::Ended(held.created.role_oid);
        assert_eq!(site.cluster.end_access(&held.target()).await.unwrap(), ended);
        assert_eq!(site.sessions_of(&held), "0");
    }
}

/// Names travel in the client's encoding, and are stored in the database's.
#[tokio::test(flavor = "multi_thread")]
async fn databases_of_other_encodings_are_cleared_too() {
    for major in [13, 18] {
        let site = Site::start(major);
        site.dba("CREATE ROLE eve");
        let held = site.hold("orders_write").await;
        for encoding in ["LATIN1", "SQL_ASCII"] {
            site.dba(&format!(
                "CREATE DATABASE \"dé_{encoding}\" ENCODING '{encoding}' TEMPLATE template0
                     LC_COLLATE 'C' LC_CTYPE 'C'"
            ));
            let database = format!("dé_{encoding}");
            site.dba(&format!(
                "GRANT CREATE ON DATABASE \"{database}\" TO {}, pgbridge_attic",
                held.name()
            ));
            let make = r#"CREATE SCHEMA "größe";
                CREATE TABLE "größe"."é" (n integer);
                CREATE FUNCTION "größe"."ß"() RETURNS integer SECURITY DEFINER LANGUAGE sql AS 'SELECT 1';
                GRANT USAGE ON SCHEMA "größe" TO eve; GRANT SELECT ON "größe"."é" TO eve"#;
            site.use_it(&held, &database, make).unwrap();
            site.dba(&format!("REVOKE CREATE ON DATABASE \"{database}\" FROM {}", held.name()));
        }
        // A name that is no text in any encoding of ours.
        let odd = r#"DO $$BEGIN EXECUTE E'CREATE TABLE "gr\xF6\xDFe\xFF" (n integer)'; END$$"#;
        site.postgres.sql("dé_SQL_ASCII", "GRANT CREATE ON SCHEMA public TO PUBLIC");
        site.use_it(&held, "dé_SQL_ASCII", odd).unwrap();
        site.dba(&format!("ALTER ROLE {} RENAME TO \"pgb_größe\"", held.name()));
        assert_eq!(site.remove(&held, REASSIGN).await, Removal::Gone);
        site.assert_gone(&held);
        let owners = "SELECT string_agg(DISTINCT relowner::regrole::text, ',') FROM pg_class WHERE oid >= 16384";
        for database in ["dé_LATIN1", "dé_SQL_ASCII"] {
            assert_eq!(site.postgres.sql(database, owners), [["pgbridge_attic"]]);
        }
        let eve = "SELECT count(*) FROM pg_shdepend WHERE refobjid = 'eve'::regrole";
        assert_eq!(site.see(eve), "0");
    }
}
