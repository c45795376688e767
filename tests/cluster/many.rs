//! A holder who has made more of something than goes into one transaction, or into the broker's
//! memory. Servers have their usual number of locks (`max_locks_per_transaction = 64`).

use pgbridge::cluster::{AccessEnd, ClusterError, Removal, RoleTarget};
use pgbridge::lease::plan::PORTION;
use pgbridge::lease::{BlockerKind, MarkerReading};
use pgbridge::mapping::ObjectPolicy;
use pgbridge::names::RoleOid;

use super::residue::Residue;
use super::{Held, Site};

/// The oldest and the newest.
const MAJORS: [u32; 2] = [13, 18];

const POLICIES: [ObjectPolicy; 2] = [ObjectPolicy::Reassign, ObjectPolicy::Drop];

impl Site {
    /// Runs `statement` as the holder for each `i` from 1 to `count`, 500 in one transaction.
    #[track_caller]
    fn make_many(&self, held: &Held, count: usize, statement: &str) {
        self.make_some(held, count, 500, statement);
    }

    #[track_caller]
    fn make_some(&self, held: &Held, count: usize, at_once: usize, statement: &str) {
        for from in (1..=count).step_by(at_once) {
            let to = count.min(from + at_once - 1);
            let make =
                format!("DO $do$BEGIN FOR i IN {from}..{to} LOOP {statement}; END LOOP; END$do$");
            self.use_it(held, "orders", &make).unwrap_or_else(|error| panic!("{make}: {error}"));
        }
    }

    /// A lease role that may make schemas in `orders`, as may the attic.
    async fn builder(&self) -> Held {
        self.dba("GRANT CREATE ON DATABASE orders TO orders_write, pgbridge_attic");
        self.hold("orders_write").await
    }

    /// Every answer that the broker got was a portion.
    #[track_caller]
    fn assert_read_in_portions(&self) {
        let largest = self.see(
            "SELECT coalesce(max(s.rows / s.calls), 0) FROM pg_stat_statements AS s
             JOIN pg_roles AS r ON r.oid = s.userid
             WHERE r.rolname = 'pgbridge' AND s.query NOT LIKE 'DO %'",
        );
        let largest: usize = largest.parse().expect("a number");
        assert!(largest <= PORTION, "an answer had {largest} rows");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn thirty_thousand_large_objects_that_anybody_may_read_go_with_their_role() {
    for major in MAJORS {
        let site = Site::start(major);
        for policy in POLICIES {
            let before = Residue::of(&site);
            let held = site.hold("orders_read").await;
            for _ in 0..6 {
                let make = "SELECT count(lo_create(0)) FROM generate_series(1, 5000)";
                site.use_it(&held, "orders", make).unwrap();
            }
            let give = "DO $$DECLARE o oid; BEGIN
                FOR o IN SELECT oid FROM pg_largeobject_metadata
                    WHERE lomowner = current_user::regrole LIMIT 2000
                LOOP EXECUTE format('GRANT SELECT, UPDATE ON LARGE OBJECT %s TO PUBLIC', o); END LOOP;
            END$$";
            site.use_it(&held, "orders", give).unwrap();
            assert_eq!(site.remove(&held, policy).await, Removal::Gone, "{major} {policy:?}");
            site.assert_gone(&held);
            site.assert_read_in_portions();
            let left = "SELECT concat_ws(',', count(*), count(*) FILTER (WHERE EXISTS (
                    SELECT FROM aclexplode(lomacl) AS a WHERE a.grantee <> lomowner)))
                FROM pg_largeobject_metadata WHERE lomowner = 'pgbridge_attic'::regrole";
            let left = site.postgres.sql("orders", left).concat().concat();
            if policy == ObjectPolicy::Drop {
                Residue::of(&site).since(&before).assert_none();
            } else {
                assert_eq!(left, "30000,0");
                let told = site.cluster.handed_over(held.lease.id);
                assert_eq!(told.iter().map(|one| one.count).sum::<usize>(), 30_000);
                site.cluster.forget_handed_over(held.lease.id);
                assert!(site.cluster.handed_over(held.lease.id).is_empty());
                site.postgres.sql(
                    "orders",
                    "SELECT count(lo_unlink(oid)) FROM (SELECT oid FROM pg_largeobject_metadata
                         WHERE lomowner = 'pgbridge_attic'::regrole LIMIT 5000) AS o",
                );
            }
        }
    }
}

/// Without portions: 53200, "out of shared memory".
#[tokio::test(flavor = "multi_thread")]
async fn ten_thousand_tables_are_dropped_or_handed_over() {
    for (major, policy) in MAJORS.into_iter().zip(POLICIES) {
        let site = Site::start(major);
        let held = site.hold("orders_write").await;
        site.make_many(
            &held,
            10_000,
            "EXECUTE format('CREATE TABLE workbench.t%s (n serial, note text)', i)",
        );
        assert_eq!(site.remove(&held, policy).await, Removal::Gone, "{major} {policy:?}");
        site.assert_gone(&held);
        site.assert_read_in_portions();
        let left = "SELECT count(*) FROM pg_class WHERE relnamespace = 'workbench'::regnamespace
                        AND relowner = 'pgbridge_attic'::regrole";
        let left = site.postgres.sql("orders", left).concat().concat();
        assert_eq!(left, if policy == ObjectPolicy::Drop { "0" } else { "20000" });
    }
}

/// A table that takes hundreds of locks when it goes: fewer at a time go.
#[tokio::test(flavor = "multi_thread")]
async fn objects_that_take_many_locks_each_go_a_few_at_a_time() {
    for (major, policy) in MAJORS.into_iter().zip([ObjectPolicy::Drop, ObjectPolicy::Reassign]) {
        let site = Site::start(major);
        let held = site.hold("orders_write").await;
        site.make_some(
            &held,
            60,
            20,
            "EXECUTE format('CREATE TABLE workbench.t%s (n integer)', i);
             FOR k IN 1..300 LOOP EXECUTE format('CREATE INDEX ON workbench.t%s (n)', i); END LOOP",
        );
        assert_eq!(site.remove(&held, policy).await, Removal::Gone, "{major} {policy:?}");
        site.assert_gone(&held);
    }
}

/// A table of thousands of partitions, which are also what makes it large.
#[tokio::test(flavor = "multi_thread")]
async fn a_table_of_thousands_of_partitions_goes_with_them() {
    for (major, policy) in MAJORS.into_iter().zip(POLICIES) {
        let site = Site::start(major);
        let held = site.hold("orders_write").await;
        let table = "CREATE TABLE workbench.parent (n integer) PARTITION BY LIST (n)";
        site.use_it(&held, "orders", table).unwrap();
        let make = "EXECUTE format('CREATE TABLE workbench.p%s PARTITION OF workbench.parent
                        FOR VALUES IN (%s)', i, i)";
        site.make_many(&held, 4000, make);
        assert_eq!(site.remove(&held, policy).await, Removal::Gone, "{major} {policy:?}");
        site.assert_gone(&held);
    }
}

/// Sequences of one column go with its table, however many somebody says are the column's.
#[tokio::test(flavor = "multi_thread")]
async fn a_table_with_thousands_of_sequences_is_dropped_after_them() {
    for major in MAJORS {
        let site = Site::start(major);
        let held = site.hold("orders_write").await;
        let table = "CREATE TABLE workbench.one (n serial, m integer GENERATED ALWAYS AS IDENTITY)";
        site.use_it(&held, "orders", table).unwrap();
        let make = "EXECUTE format('CREATE SEQUENCE workbench.s%s OWNED BY workbench.one.n', i)";
        site.make_many(&held, 15_000, make);
        assert_eq!(site.remove(&held, ObjectPolicy::Drop).await, Removal::Gone, "{major}");
        site.assert_gone(&held);
    }
}

/// A view on a view on a view, made in either direction, and each with a function between. The
/// server would follow them down its stack, and lock all of them.
#[tokio::test(flavor = "multi_thread")]
async fn a_chain_of_thousands_of_dependencies_is_dropped_from_its_end() {
    for major in MAJORS {
        let site = Site::start(major);
        let held = site.hold("orders_write").await;
        let begin = "CREATE VIEW workbench.up0 AS SELECT 1 AS n; CREATE VIEW workbench.down3001 AS SELECT 1 AS n";
        site.use_it(&held, "orders", begin).unwrap();
        let up = "EXECUTE format('CREATE VIEW workbench.up%s AS TABLE workbench.up%s', i, i - 1)";
        site.make_many(&held, 3000, up);
        let rest = "EXECUTE format('CREATE VIEW workbench.down%s AS SELECT 1 AS n', i)";
        site.make_many(&held, 3000, rest);
        let down = "EXECUTE format('CREATE OR REPLACE VIEW workbench.down%s AS TABLE workbench.down%s', i, i + 1)";
        site.make_many(&held, 3000, down);
        assert_eq!(site.remove(&held, ObjectPolicy::Drop).await, Removal::Gone, "{major}");
        site.assert_gone(&held);
    }
}

/// Objects that rest on each other have no end to begin with; all go at once.
#[tokio::test(flavor = "multi_thread")]
async fn objects_that_rest_on_each_other_go_together() {
    for major in MAJORS {
        let site = Site::start(major);
        let held = site.hold("orders_write").await;
        site.make_many(
            &held,
            300,
            "EXECUTE format('CREATE TABLE workbench.t%s (n integer)', i);
             EXECUTE format('CREATE FUNCTION workbench.f%s(workbench.t%s) RETURNS boolean
                 LANGUAGE sql IMMUTABLE AS ''SELECT true''', i, i);
             EXECUTE format('ALTER TABLE workbench.t%s ADD CHECK (workbench.f%s(t%s.*))', i, i, i);
             EXECUTE format('CREATE DOMAIN workbench.d%s AS integer', i);
             EXECUTE format('CREATE TYPE workbench.c%s AS (a workbench.d%s)', i, i);
             EXECUTE format('CREATE FUNCTION workbench.g%s(workbench.c%s) RETURNS workbench.d%s
                 LANGUAGE sql AS ''SELECT 1''', i, i, i)",
        );
        assert_eq!(site.remove(&held, ObjectPolicy::Drop).await, Removal::Gone, "{major}");
        site.assert_gone(&held);
    }
}

/// What others built on one of many objects is told, and is never dropped with it.
#[tokio::test(flavor = "multi_thread")]
async fn of_many_objects_those_that_somebody_built_on_stay_and_are_told() {
    for major in MAJORS {
        let site = Site::start(major);
        let held = site.hold("orders_write").await;
        let make = "EXECUTE format('CREATE TABLE workbench.t%s (n integer)', i)";
        site.make_many(&held, 600, make);
        site.postgres.sql("orders", "CREATE VIEW sales.theirs AS TABLE workbench.t7");
        let removal = site.remove(&held, ObjectPolicy::Drop).await;
        let Removal::Blocked(left) = removal else { panic!("{removal:?}") };
        let told: Vec<_> = left.iter().map(|one| (one.kind, one.remedy.as_deref())).collect();
        assert_eq!(told, [(BlockerKind::Object, Some("DROP VIEW sales.theirs"))]);
        let views = "SELECT count(*) FROM pg_class WHERE relname = 'theirs'";
        assert_eq!(site.postgres.sql("orders", views), [["1"]]);
        site.postgres.sql("orders", "DROP VIEW sales.theirs");
        assert_eq!(site.remove(&held, ObjectPolicy::Drop).await, Removal::Gone, "{major}");
        site.assert_gone(&held);
    }
}

/// Schemas, what was given in advance in each, and mappings for servers: each is a lock of its own
/// when the role's privileges go.
#[tokio::test(flavor = "multi_thread")]
async fn thousands_of_default_privileges_and_mappings_do_not_keep_the_role() {
    for (major, policy) in MAJORS.into_iter().zip(POLICIES) {
        let site = Site::start(major);
        site.postgres.sql(
            "orders",
            "CREATE EXTENSION postgres_fdw;
             GRANT USAGE ON FOREIGN DATA WRAPPER postgres_fdw TO orders_write, pgbridge_attic",
        );
        let before = Residue::of(&site);
        let held = site.builder().await;
        site.make_many(
            &held,
            4000,
            "EXECUTE format('CREATE SCHEMA s%s', i);
             EXECUTE format('ALTER DEFAULT PRIVILEGES IN SCHEMA s%s GRANT ALL ON TABLES TO PUBLIC', i);
             EXECUTE format('ALTER DEFAULT PRIVILEGES IN SCHEMA s%s GRANT ALL ON SEQUENCES TO CURRENT_USER', i);
             EXECUTE format('ALTER DEFAULT PRIVILEGES IN SCHEMA s%s GRANT ALL ON FUNCTIONS TO orders_read', i);
             EXECUTE format('ALTER DEFAULT PRIVILEGES IN SCHEMA s%s GRANT ALL ON TYPES TO orders_read', i)",
        );
        site.make_many(
            &held,
            1000,
            "EXECUTE format('CREATE SERVER s%s FOREIGN DATA WRAPPER postgres_fdw', i);
             EXECUTE format('CREATE USER MAPPING FOR CURRENT_USER SERVER s%s', i)",
        );
        assert_eq!(site.remove(&held, policy).await, Removal::Gone, "{major} {policy:?}");
        site.assert_gone(&held);
        site.assert_read_in_portions();
        if policy == ObjectPolicy::Drop {
            site.dba("REVOKE CREATE ON DATABASE orders FROM orders_write, pgbridge_attic");
            Residue::of(&site).since(&before).assert_none();
        }
    }
}

/// A portion of objects that cannot be named hides no routine that would act with the attic's
/// rights.
#[tokio::test(flavor = "multi_thread")]
async fn what_lies_behind_a_portion_that_cannot_be_named_is_not_handed_over_armed() {
    for major in MAJORS {
        let site = Site::start(major);
        let held = site.hold("orders_write").await;
        site.dba(
            "CREATE DATABASE odd ENCODING 'SQL_ASCII' TEMPLATE template0 LC_COLLATE 'C' LC_CTYPE 'C'",
        );
        site.postgres.sql("odd", "GRANT CREATE ON SCHEMA public TO PUBLIC");
        let make = r#"DO $$BEGIN FOR i IN 1..250 LOOP
                EXECUTE E'CREATE TABLE public."t\xFF' || i || '" (n integer)'; END LOOP; END$$;
            CREATE FUNCTION public.trap() RETURNS text SECURITY DEFINER LANGUAGE sql
                AS 'SELECT current_user::text'"#;
        site.use_it(&held, "odd", make).unwrap();
        let removal = site.remove(&held, ObjectPolicy::Reassign).await;
        let Removal::Blocked(left) = removal else { panic!("{removal:?}") };
        let remedy = left[0].remedy.as_deref().expect("there is one");
        assert!(remedy.contains("rename them to plain letters"), "{left:#?}");
        let trap = "SELECT concat_ws(',', proowner::regrole, prosecdef) FROM pg_proc
                    WHERE proname = 'trap'";
        assert_eq!(site.postgres.sql("odd", trap), [[format!("{},t", held.name())]]);
        let rename = r#"DO $$BEGIN FOR i IN 1..250 LOOP
            EXECUTE E'ALTER TABLE public."t\xFF' || i || '" RENAME TO t' || i; END LOOP; END$$"#;
        site.postgres.sql("odd", rename);
        assert_eq!(site.remove(&held, ObjectPolicy::Reassign).await, Removal::Gone, "{major}");
        site.assert_gone(&held);
        assert_eq!(site.postgres.sql("odd", trap), [["pgbridge_attic,f"]]);
    }
}

/// Privileges and policies on others' objects are read and taken back in portions. Those that the
/// broker cannot take back are told, and hide none that it can.
#[tokio::test(flavor = "multi_thread")]
async fn thousands_of_privileges_go_although_others_among_them_cannot() {
    for major in MAJORS {
        let site = Site::start(major);
        let options = if major >= 16 { " WITH INHERIT TRUE, SET TRUE" } else { "" };
        site.dba(&format!(
            "CREATE ROLE steward; CREATE ROLE eve; GRANT steward TO pgbridge{options}"
        ));
        site.postgres.sql("orders", "GRANT USAGE, CREATE ON SCHEMA workbench TO steward");
        let held = site.hold("orders_write").await;
        let role = held.name();
        let given = |owner: &str, count: usize, option: &str| {
            format!(
                "SET ROLE {owner}; DO $$DECLARE o oid; BEGIN FOR i IN 1..{count} LOOP
                     o := lo_create(0);
                     EXECUTE format('GRANT SELECT ON LARGE OBJECT %s TO {role} {option}', o);
                 END LOOP; END$$"
            )
        };
        site.postgres.sql("orders", &given("postgres", 450, ""));
        site.postgres.sql("orders", &given("steward", 3000, "WITH GRANT OPTION"));
        site.postgres.sql(
            "orders",
            &format!(
                "SET ROLE steward; CREATE TABLE workbench.ledger (n integer);
                 DO $$BEGIN FOR i IN 1..500 LOOP
                     EXECUTE format('CREATE POLICY p%s ON workbench.ledger TO eve, {role}', i);
                 END LOOP; END$$"
            ),
        );
        let hand_on = "DO $$DECLARE o oid; BEGIN
            FOR o IN SELECT oid FROM pg_largeobject_metadata WHERE lomowner = 'steward'::regrole
            LOOP EXECUTE format('GRANT SELECT ON LARGE OBJECT %s TO eve', o); END LOOP; END$$";
        site.use_it(&held, "orders", hand_on).unwrap();

        let removal = site.remove(&held, ObjectPolicy::Reassign).await;
        let Removal::Blocked(left) = removal else { panic!("{removal:?}") };
        let by_postgres = |told: &str| told.starts_with("postgres gave the role SELECT on LARGE");
        assert!(left[..20].iter().all(|one| by_postgres(&one.detail)), "{left:#?}");
        site.assert_read_in_portions();
        let rest = format!(
            "SELECT concat_ws(',', deptype, count(*)) FROM pg_shdepend
             WHERE refobjid = {} AND refclassid = 'pg_authid'::regclass
                 AND classid <> 'pg_auth_members'::regclass GROUP BY deptype",
            held.created.role_oid
        );
        assert_eq!(site.see(&rest), "a,450");
        let eve =
            "SELECT count(*) FROM pg_shdepend WHERE refobjid = 'eve'::regrole AND deptype = 'a'";
        assert_eq!(site.see(eve), "0");
        site.postgres.sql(
            "orders",
            &format!(
                "DO $$DECLARE o oid; BEGIN
                    FOR o IN SELECT oid FROM pg_largeobject_metadata WHERE lomowner = 10
                    LOOP EXECUTE format('REVOKE ALL ON LARGE OBJECT %s FROM {role}', o); END LOOP;
                 END$$"
            ),
        );
        assert_eq!(site.remove(&held, ObjectPolicy::Reassign).await, Removal::Gone, "{major}");
        site.assert_gone(&held);
    }
}

/// How much memory this process has had at most, in bytes.
fn most_memory() -> usize {
    let status = std::fs::read_to_string("/proc/self/status").expect("there is /proc");
    let line = status.lines().find_map(|line| line.strip_prefix("VmHWM:")).expect("it is told");
    let kilobytes = line.trim().trim_end_matches(" kB").parse::<usize>().expect("a number");
    kilobytes * 1024
}

impl Site {
    fn mark_of(&self, held: &Held) -> String {
        self.see(&format!("SELECT shobj_description({}, 'pg_authid')", held.created.role_oid))
    }

    async fn assert_ends(&self, held: &Held) {
        let ended = AccessEnd::Ended(held.created.role_oid);
        assert_eq!(self.cluster.end_access(&held.target()).await.unwrap(), ended);
    }
}

/// Whoever may make roles can write what they like into their comments.
#[tokio::test(flavor = "multi_thread")]
async fn a_comment_of_any_length_is_read_as_far_as_a_mark_goes() {
    const LONG: usize = 100_000_000;
    for major in MAJORS {
        let site = Site::start(major);
        let held = site.hold("orders_read").await;
        let mark = site.mark_of(&held);
        let comment = |role: &str| {
            format!("EXECUTE format('COMMENT ON ROLE {role} IS %L', rpad('{mark}', {LONG}, 'x'))")
        };
        let (one, two) = (comment("fat"), comment("pgb_fat"));
        site.dba(&format!(
            "CREATE ROLE fat; CREATE ROLE pgb_fat; GRANT orders_read TO fat;
             DO $$ BEGIN {one}; {two}; END $$"
        ));
        let before = most_memory();
        let roles = site.cluster.lease_roles().await.unwrap();
        let marks: Vec<_> = roles.iter().map(|role| (&*role.name, role.marker.clone())).collect();
        let of = MarkerReading::Ours(held.lease.id);
        let invalid = MarkerReading::Invalid;
        assert_eq!(marks, [(held.name(), of), ("fat", invalid.clone()), ("pgb_fat", invalid)]);
        let oid = site.see("SELECT 'fat'::regrole::oid").parse().unwrap();
        let target = RoleTarget { oid: Some(RoleOid(oid)), ..held.target() };
        let error = site.cluster.end_access(&target).await.unwrap_err();
        assert!(matches!(error, ClusterError::NotOurs { .. }), "{error:?}");
        site.hold("orders_read").await;
        site.assert_ends(&held).await;
        let grown = most_memory() - before;
        assert!(grown < LONG / 2, "{grown} bytes more");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn any_number_of_roles_that_look_like_ours_hides_none_of_ours() {
    let site = Site::start(18);
    let first = site.hold("orders_read").await;
    let mark = site.mark_of(&first);
    site.dba(&format!(
        "DO $$ BEGIN FOR i IN 1..2500 LOOP
             EXECUTE format('CREATE ROLE pgb_like_%s', i);
             EXECUTE format('CREATE ROLE copy_%s', i);
             EXECUTE format('COMMENT ON ROLE copy_%s IS %L', i, '{mark}');
         END LOOP; END $$"
    ));
    let last = site.hold("orders_read").await;
    let roles = site.cluster.lease_roles().await.unwrap();
    for held in [&first, &last] {
        assert!(roles.iter().any(|role| role.oid == held.created.role_oid));
    }
    // Some of the others, so that somebody looks.
    let invalid = roles.iter().filter(|role| role.marker == MarkerReading::Invalid).count();
    assert_eq!((invalid, roles.len() - invalid), (100, 1002));
    site.assert_ends(&first).await;
}

/// Until 14 a role can make any other its member.
#[tokio::test(flavor = "multi_thread")]
async fn a_role_with_more_members_than_go_at_once_is_closed() {
    let site = Site::start(13);
    let make = "EXECUTE format('CREATE ROLE member_%s', i)";
    site.dba(&format!("DO $$ BEGIN FOR i IN 1..2500 LOOP {make}; END LOOP; END $$"));
    let held = site.hold("orders_read").await;
    let give = format!("EXECUTE format('GRANT {} TO member_%s', i)", held.name());
    site.make_many(&held, 2500, &give);
    site.assert_ends(&held).await;
    let oid = held.created.role_oid;
    let members = format!("SELECT count(*) FROM pg_auth_members WHERE roleid = {oid}");
    assert_eq!(site.see(&members), "0");
    let gone = site.cluster.remove(&held.target(), ObjectPolicy::Drop).await.unwrap();
    assert_eq!(gone, Removal::Gone);
}

/// Every file is read here, so that a new one cannot forget it.
#[test]
fn every_comment_is_cut_where_it_is_read() {
    let folder = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("src/cluster/sql");
    let mut seen = 0;
    for entry in std::fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        let text = std::fs::read_to_string(&path).unwrap();
        for line in text.lines().filter(|line| !line.starts_with("--")) {
            // What is compared with a whole mark is compared by its length first.
            let rest = line
                .replace("left(d.description, 300)", "")
                .replace("left(shobj_description(g.oid, 'pg_authid'), 300)", "")
                .replace("d.description = $2", "");
            seen += usize::from(rest != line);
            let whole = rest.contains("_description(g") || rest.contains("d.description");
            assert!(!whole, "{}: {line}", path.display());
        }
    }
    assert!(seen >= 8, "{seen}");
}
