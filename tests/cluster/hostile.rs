//! A holder who does all it can to leave something behind, against each policy, on every major.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Write as _;
use std::io::Write as _;
use std::process::{Command, Stdio};
use std::time::Duration;

use pgbridge::cluster::Removal;
use pgbridge::lease::{Blocker, BlockerKind};
use pgbridge::mapping::ObjectPolicy;
use tokio::time::timeout;

use super::residue::{Residue, owned_by};
use super::revoke::Session;
use super::{Held, Site};
use crate::support::{SOON, wait_for};

/// For how many seconds the hidden session's log-in is held back: longer than a removal takes, on a slow
/// machine too.
const HELD_BACK: u32 = 15;

/// Whether one more log-in is on its way.
#[derive(Clone, Copy, PartialEq, Eq)]
enum LogIn {
    None,
    HeldBack,
}

/// A holder, and all the sessions it has.
struct Hostile {
    held: Held,
    hidden: Option<Session>,
    _open: Vec<Session>,
    /// Shells that log in again and again.
    storm: Vec<Session>,
}

impl Site {
    /// psql as the holder, to be given something to do.
    pub(super) fn psql_of(&self, role: &str, password: &str, database: &str) -> Command {
        let mut psql = Command::new("psql");
        psql.args(["-X", "-q", "-v", "ON_ERROR_STOP=1"])
            .env("PGHOST", "127.0.0.1")
            .env("PGPORT", self.postgres.port().to_string())
            .env("PGUSER", role)
            .env("PGPASSWORD", password)
            .env("PGDATABASE", database)
            .stdin(Stdio::piped())
            .stdout(Stdio::null())
            .stderr(Stdio::null());
        psql
    }

    /// A session that has run `text` and stays open.
    pub(super) fn keep_open(mut psql: Command, text: &str) -> Session {
        let mut session = Session(psql.spawn().expect("psql is installed"));
        let input = session.0.stdin.as_mut().expect("it has an input");
        writeln!(input, "{text}").expect("it reads");
        session
    }

    /// Lays everything out as a DBA would have it before.
    fn prepare_for_hostile(&self) {
        self.dba(include_str!("hostile/prepare.sql"));
        self.postgres.sql("orders", include_str!("hostile/prepare_orders.sql"));
        let options = if self.major >= 16 { " WITH INHERIT TRUE, SET TRUE" } else { "" };
        self.dba(&format!("GRANT steward TO pgbridge{options}"));
        self.let_broker_hand_on("hostile");
        self.postgres.set("log_connections", "on");
    }

    /// A holder who has done everything.
    async fn hostile(&self, at: u32, log_in: LogIn) -> Hostile {
        let held = self.hold("hostile").await;
        let (role, password) = (held.name(), held.password.expose());
        let given = include_str!("hostile/given.sql").replace("{role}", role);
        self.postgres.sql("orders", &given);
        for (database, text) in [
            ("orders", include_str!("hostile/orders.sql")),
            ("reports", include_str!("hostile/reports.sql")),
        ] {
            self.run(&held, database, text);
        }
        let settings = format!(
            "ALTER ROLE CURRENT_USER SET work_mem = '1MB';
             ALTER ROLE {role} IN DATABASE orders SET search_path = own;
             ALTER ROLE CURRENT_USER PASSWORD '{password}'"
        );
        self.run(&held, "orders", &settings);
        self.hand_on_and_prepare(&held, at);

        let psql = |database| self.psql_of(role, password, database);
        let mut open = vec![
            Self::keep_open(
                psql("orders"),
                "BEGIN; LOCK TABLE own.parent; INSERT INTO own.fast VALUES (1);",
            ),
            Self::keep_open(
                psql("orders"),
                "CREATE TEMP TABLE t (n integer); CREATE FUNCTION pg_temp.f() RETURNS integer
                     LANGUAGE sql AS 'SELECT 1';
                 BEGIN; DECLARE c CURSOR WITH HOLD FOR TABLE sales.customer; COMMIT;
                 LISTEN c; SELECT pg_advisory_lock(1); SELECT pg_advisory_lock_shared(2);",
            ),
            Self::keep_open(psql("reports"), "CREATE TEMP TABLE t (n integer);"),
        ];
        if self.major < 16 {
            open.push(Self::keep_open(psql("orders"), "SET ROLE hostile;"));
        }
        if self.major < 15 {
            // Somebody else who is the role by now.
            let eve = self.psql_of("eve", "eve", "orders");
            open.push(Self::keep_open(eve, &format!("SET ROLE {role};")));
        }
        let sessions = if self.major < 16 { "4" } else { "3" };
        let idle = format!(
            "SELECT count(*) FROM pg_stat_activity
             WHERE usesysid = {} AND state LIKE 'idle%' AND query <> ''",
            held.created.role_oid
        );
        wait_for("its sessions", SOON, || (self.see(&idle) == sessions).then_some(()));
        let hidden = (log_in == LogIn::HeldBack).then(|| self.hide(&held, at));
        Hostile { hidden, _open: open, storm: self.storm(&held), held }
    }

    /// Runs `text` as the holder.
    #[track_caller]
    fn run(&self, held: &Held, database: &str, text: &str) {
        let quiet = format!("SET client_min_messages = error; {text}");
        if let Err(error) = self.use_it(held, database, &quiet) {
            panic!("PostgreSQL {}, {database}: {error}", self.major);
        }
    }

    /// It lets others in, who let others in; and leaves transactions without a session.
    fn hand_on_and_prepare(&self, held: &Held, at: u32) {
        let role = held.name();
        let eve = |text: &str| {
            self.postgres.sql_as("eve", "eve", "orders", text).expect("eve may");
        };
        eve("GRANT SELECT ON stewarded.ledger TO tom; GRANT USAGE ON SCHEMA own TO tom;
             GRANT SELECT ON own.parent TO tom");
        let mut prepared = format!(
            "BEGIN; CREATE TABLE workbench.half (n integer);
             ALTER ROLE CURRENT_USER SET work_mem = '2MB'; PREPARE TRANSACTION 'it''s\nmine {at}';"
        );
        if self.major < 15 {
            // Before 15 a role may give itself away.
            self.run(held, "orders", &format!("GRANT {role} TO eve WITH ADMIN OPTION"));
            eve(&format!("GRANT {role} TO tom"));
            write!(
                prepared,
                "BEGIN; GRANT {role} TO pgbridge_attic; PREPARE TRANSACTION 'given {at}';"
            )
            .expect("text grows");
        }
        self.run(held, "orders", &prepared);
        let there = format!("BEGIN; SELECT lo_create(0); PREPARE TRANSACTION 'there {at}'");
        self.run(held, "reports", &there);
    }

    /// A session that is let in and shows only after a while.
    fn hide(&self, held: &Held, at: u32) -> Session {
        let application = format!("hidden_{at}");
        let mut psql = self.psql_of(held.name(), held.password.expose(), "orders");
        psql.env("PGOPTIONS", format!("-c post_auth_delay={HELD_BACK}"))
            .env("PGAPPNAME", &application)
            .args(["-c", "SELECT count(*) FROM sales.customer", "-c", "SELECT pg_sleep(600)"])
            .stdin(Stdio::null());
        let hidden = Session(psql.spawn().expect("psql is installed"));
        let let_in = format!("application_name={application}");
        wait_for("the log-in", SOON, || {
            let log = self.postgres.log();
            let mut lines = log.lines();
            lines.any(|line| line.contains("authorized") && line.contains(&let_in)).then_some(())
        });
        hidden
    }

    /// Shells that log in again as soon as they are out.
    fn storm(&self, held: &Held) -> Vec<Session> {
        let again = "sh -c \"while :; do psql -X -q -c 'SELECT pg_sleep(0.05)'; done\"";
        (0..3).map(|_| self.session_of(held, again)).collect()
    }

    /// The session that was held back is ended when it shows, and has seen nothing.
    async fn assert_hidden_ends(&self, hostile: &mut Hostile) {
        let oid = hostile.held.created.role_oid;
        let hidden = hostile.hidden.as_mut().expect("there is one");
        let ended = async {
            while hidden.0.try_wait().expect("one's own child").is_none() {
                self.cluster.end_without_role(oid).await.expect("the cluster answers");
                tokio::time::sleep(Duration::from_millis(20)).await;
            }
        };
        timeout(SOON, ended).await.expect("the session that was held back ends");
        let status = hidden.0.wait().expect("one's own child");
        assert!(!status.success(), "{status}");
    }

    /// A person runs the statement of each blocker, as the superuser `keeper`, until the role is gone.
    pub(super) async fn paste_until_gone(
        &self,
        held: &Held,
        policy: ObjectPolicy,
        mut blockers: Vec<Blocker>,
    ) {
        for _ in 0..20 {
            let mut pasted = BTreeMap::new();
            for blocker in &blockers {
                let Some(remedy) = &blocker.remedy else { continue };
                let database = blocker.database.as_deref().unwrap_or("postgres");
                let begin = || "SET client_min_messages = error; SET ROLE keeper".to_owned();
                let text: &mut String = pasted.entry(database).or_insert_with(begin);
                write!(text, "; {remedy}").expect("text grows");
            }
            for (database, text) in pasted {
                self.postgres.sql(database, &text);
            }
            match self.remove(held, policy).await {
                Removal::Gone => return,
                Removal::Blocked(left) => blockers = left,
            }
        }
        panic!("what is told does not help: {blockers:#?}");
    }

    /// Nothing names the role but what it owns, and the brokers' own memberships.
    #[track_caller]
    fn assert_only_owns(&self, held: &Held) {
        let oid = held.created.role_oid;
        let left = self.see(&format!(
            "SELECT count(*) FROM pg_shdepend WHERE refclassid = 'pg_authid'::regclass
                 AND refobjid = {oid} AND deptype = 'a' AND classid <> 'pg_auth_members'::regclass"
        ));
        assert_eq!(left, "0");
        let members = self.see(&format!(
            "SELECT string_agg(DISTINCT member::regrole::text, ',') FROM pg_auth_members
             WHERE {oid} IN (roleid, member, grantor)"
        ));
        assert!(["pgbridge", "pgbridge,pgbridge_admin"].contains(&members.as_str()), "{members}");
    }
}

/// C-163, F-28, F-29, I-08: whatever it did, its role goes and takes all of it along.
async fn nothing_is_left(major: u32) {
    let site = Site::start(major);
    site.prepare_for_hostile();

    let before = Residue::of(&site);
    let mut hostile = site.hostile(1, LogIn::HeldBack).await;
    gone(&site, &hostile.held, ObjectPolicy::Drop).await;
    hostile.storm.clear();
    site.assert_hidden_ends(&mut hostile).await;
    site.assert_gone(&hostile.held);
    Residue::of(&site).since(&before).assert_none();
    drop(hostile);

    kept_until_a_person_has_dealt_with_it(&site).await;

    let before = Residue::of(&site);
    let mut hostile = site.hostile(3, LogIn::None).await;
    let (made, kept) = (owned_by(&site, hostile.held.name()), owned_by(&site, "pgbridge_attic"));
    gone(&site, &hostile.held, ObjectPolicy::Reassign).await;
    hostile.storm.clear();
    site.assert_gone(&hostile.held);
    // All that it made, and nothing else, is the attic's now; and that is what is told.
    let handed_over: BTreeSet<String> =
        owned_by(&site, "pgbridge_attic").difference(&kept).cloned().collect();
    assert_eq!(handed_over, made);
    assert_told(&site, &hostile.held, &handed_over);
    Residue::of(&site).since(&before).assert_only_of("pgbridge_attic");
    assert_the_attic_gives_nothing(&site);
}

#[track_caller]
fn assert_told(site: &Site, held: &Held, handed_over: &BTreeSet<String>) {
    let told = site.cluster.handed_over(held.lease.id);
    assert_eq!(told.iter().map(|one| one.count).sum::<usize>(), handed_over.len(), "{told:#?}");
    for one in &told {
        assert_eq!(one.attic, "pgbridge_attic");
        for object in &one.first {
            let object = format!("{}: {} {}", one.database, object.kind, object.identity);
            assert!(handed_over.contains(&object), "{object}");
        }
    }
}

/// Whoever logs in again and again may be seen in the very moment; the next attempt ends that.
async fn gone(site: &Site, held: &Held, policy: ObjectPolicy) {
    let is_seen = |left: &Vec<Blocker>| left.iter().all(|one| one.kind == BlockerKind::Session);
    let mut removal = site.remove(held, policy).await;
    if matches!(&removal, Removal::Blocked(left) if is_seen(left)) {
        removal = site.remove(held, policy).await;
    }
    assert_eq!(removal, Removal::Gone, "PostgreSQL {}", site.major);
}

async fn kept_until_a_person_has_dealt_with_it(site: &Site) {
    let before = Residue::of(site);
    let mut hostile = site.hostile(2, LogIn::None).await;
    let removal = site.remove(&hostile.held, ObjectPolicy::Keep).await;
    hostile.storm.clear();
    let held = &hostile.held;
    let Removal::Blocked(blockers) = removal else { panic!("{removal:?}") };
    assert_eq!(blockers.len(), 21, "{blockers:#?}");
    let owned = |blocker: &Blocker| blocker.kind == BlockerKind::Object;
    assert!(blockers.iter().all(owned), "{blockers:#?}");
    assert!(blockers[..20].iter().all(|blocker| blocker.remedy.is_some()), "{blockers:#?}");
    site.assert_closed(held);
    site.assert_only_owns(held);

    site.dba("CREATE ROLE keeper SUPERUSER");
    site.paste_until_gone(held, ObjectPolicy::Keep, blockers).await;
    site.assert_gone(held);
    for database in ["orders", "reports"] {
        site.postgres.sql(
            database,
            "SET client_min_messages = error; REASSIGN OWNED BY pgbridge_attic TO keeper; \
                 DROP OWNED BY keeper CASCADE",
        );
    }
    site.dba("DROP ROLE keeper");
    Residue::of(site).since(&before).assert_none();
}

/// What went to the attic serves nobody: not by its rights, and not by what the holder allowed.
#[track_caller]
fn assert_the_attic_gives_nothing(site: &Site) {
    let eve = |text: &str| site.postgres.sql_as("eve", "eve", "orders", text);
    site.postgres.sql("orders", "GRANT USAGE ON SCHEMA own TO eve");
    for (text, because) in [
        ("TABLE own.spy", "permission denied for view spy"),
        ("TABLE own.copy", "permission denied for materialized view copy"),
        ("TABLE own.parent", "permission denied for table parent"),
        ("SELECT own.definer()", "permission denied for function definer"),
        ("CALL own.proc()", "permission denied for procedure proc"),
        ("SELECT lo_get(4711)", "permission denied for large object 4711"),
        ("TABLE stewarded.ledger", "permission denied for schema stewarded"),
    ] {
        let refused = eve(text).expect_err(text);
        assert!(refused.contains(because), "{text}: {refused}");
    }
    // Even who may use the view gets nothing: the attic itself may not read what it shows.
    site.postgres.sql("orders", "GRANT SELECT ON own.spy TO eve");
    let refused = eve("TABLE own.spy").expect_err("the attic has no rights");
    assert!(refused.contains("permission denied for"), "{refused}");
    let twin = site.postgres.sql("orders", "TABLE own.copy");
    assert_eq!(twin.len(), 3);
}

#[tokio::test(flavor = "multi_thread")]
async fn nothing_of_a_hostile_holder_is_left_on_13() {
    nothing_is_left(13).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn nothing_of_a_hostile_holder_is_left_on_14() {
    nothing_is_left(14).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn nothing_of_a_hostile_holder_is_left_on_15() {
    nothing_is_left(15).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn nothing_of_a_hostile_holder_is_left_on_16() {
    nothing_is_left(16).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn nothing_of_a_hostile_holder_is_left_on_17() {
    nothing_is_left(17).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn nothing_of_a_hostile_holder_is_left_on_18() {
    nothing_is_left(18).await;
}
