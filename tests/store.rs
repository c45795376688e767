//! The store on PostgreSQL: the promises of every store, alone and by two brokers together, and
//! what only a server can do to it.

mod pair;

use std::collections::BTreeSet;
use std::path::Path;
use std::process::{Child, Stdio};
use std::sync::{Arc, Mutex};

use futures::StreamExt;
use pgbridge::causes::with_causes;
use pgbridge::clock::Stopwatch;
use pgbridge::dial::ServerTls;
use pgbridge::lease::{EndReason, Lease, LeaseState};
use pgbridge::names::RoleOid;
use pgbridge::store::conformance::{
    PROMISES, at, audit, claim, claimant, intent, opened, overdue, record,
};
use pgbridge::store::postgres::{PostgresSettings, PostgresStore};
use pgbridge::store::{Change, LeaseFilter, Store, StoreError};

use self::pair::Pair;
use crate::support::daemon::Daemon;
use crate::support::scratch::{ServiceUser, free_port, give};
use crate::support::store::{STORE_LOGIN, STORE_PASSWORD};
use crate::support::{SOON, Scratch, Signal, StoreServer, wait_for};

async fn open(settings: &PostgresSettings) -> Arc<dyn Store> {
    Arc::new(PostgresStore::open(settings).await.unwrap_or_else(|error| panic!("{}", told(&error))))
}

/// An error with all its causes in one line, as it is logged. It never holds the password.
fn told(error: &StoreError) -> String {
    let told = with_causes(error);
    assert!(!told.contains(STORE_PASSWORD), "{told}");
    told
}

/// The store is not opened, with an error that holds each of `parts`.
async fn refused(settings: &PostgresSettings, parts: &[&str]) {
    let opened = PostgresStore::open(settings).await;
    let told = told(&opened.expect_err("it was opened"));
    for part in parts {
        assert!(told.contains(part), "`{part}` is not in: {told}");
    }
}

async fn moved(store: &dyn Store, lease: &Lease) -> Result<(), StoreError> {
    store.commit(vec![Change::MoveLease(Box::new(lease.clone()))], vec![record(1)]).await
}

/// Keeps every promise, each on a database of its own, and names those that are broken.
async fn every_promise(major: u32, brokers: usize) {
    let server = StoreServer::start(major);
    let kept = futures::stream::iter(PROMISES.iter().enumerate()).map(async |(number, promise)| {
        let settings = server.fresh(&format!("promise{number}"));
        let store = if brokers == 1 {
            open(&settings).await
        } else {
            Arc::new(Pair::new([open(&settings).await, open(&settings).await]))
        };
        let kept = tokio::spawn((promise.keep)(store)).await;
        kept.err().map(|panicked| format!("{}: {panicked}", promise.name))
    });
    let broken: Vec<String> =
        kept.buffer_unordered(3).filter_map(async |kept| kept).collect().await;
    assert_eq!(broken, [""; 0]);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn every_promise_is_kept_on_the_oldest_and_the_newest_server() {
    every_promise(13, 1).await;
    every_promise(18, 1).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn every_promise_is_kept_on_15() {
    every_promise(15, 1).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn every_promise_is_kept_on_16() {
    every_promise(16, 1).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn every_promise_is_kept_by_two_brokers_together_on_15() {
    every_promise(15, 2).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn every_promise_is_kept_by_two_brokers_together_on_16() {
    every_promise(16, 2).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn two_brokers_never_hold_a_claim_on_the_same_lease() {
    let server = StoreServer::start(16);
    let settings = server.fresh("store");
    let stores = [open(&settings).await, open(&settings).await];
    for age in 0..200 {
        opened(&*stores[0], &overdue(age % 50)).await;
    }
    let in_hand = Arc::new(Mutex::new(BTreeSet::new()));
    // Neither goes on before the other has something, too.
    let both = Arc::new(tokio::sync::Barrier::new(2));
    let brokers = stores.map(|store| {
        let (in_hand, both) = (Arc::clone(&in_hand), Arc::clone(&both));
        tokio::spawn(async move {
            let (by, mut done) = (claimant(), 0);
            loop {
                let claimed = claim(&*store, at(100), 3, by).await;
                if done == 0 {
                    both.wait().await;
                }
                for lease in &claimed {
                    let is_alone = in_hand.lock().unwrap().insert(lease.id);
                    assert!(is_alone, "{} was claimed twice", lease.id);
                }
                for lease in &claimed {
                    let ending = lease.clone().revoke(EndReason::Expired, at(9)).unwrap();
                    moved(&*store, &ending).await.unwrap();
                    moved(&*store, &ending.close(at(101)).unwrap()).await.unwrap();
                }
                if claimed.is_empty() {
                    return done;
                }
                done += claimed.len();
            }
        })
    });
    let mut done = 0;
    for broker in brokers {
        let mine: usize = broker.await.unwrap();
        assert!(mine > 0, "one has nothing");
        done += mine;
    }
    assert_eq!(done, 200);
}

/// A lease on which a broker has a claim that is there no more, and the store of another one.
async fn left_by_a_dead_broker() -> (StoreServer, Arc<dyn Store>, Lease) {
    let server = StoreServer::start(16);
    let settings = server.fresh("store");
    let (dead, living) = (open(&settings).await, open(&settings).await);
    let lease = overdue(1);
    opened(&*dead, &lease).await;
    assert_eq!(claim(&*dead, at(100), 9, claimant()).await, std::slice::from_ref(&lease));
    (server, living, lease)
}

#[tokio::test]
async fn a_claim_of_a_dead_broker_is_free_again_after_its_time() {
    let (server, living, lease) = left_by_a_dead_broker().await;
    assert_eq!(claim(&*living, at(100), 9, claimant()).await, []);
    let left = "SELECT claimed_until - clock_timestamp() BETWEEN interval '30 s' AND interval '60 s' \
                FROM pgbridge.lease";
    assert_eq!(server.postgres.sql("store", left), [["t"]]);
    let over = "UPDATE pgbridge.lease SET claimed_until = clock_timestamp()";
    server.postgres.sql("store", over);
    assert_eq!(claim(&*living, at(100), 9, claimant()).await, [lease]);
}

/// As it looks after the clock of the server was set back.
#[tokio::test]
async fn a_claim_that_would_last_longer_than_any_can_keeps_nobody_away() {
    let (server, living, lease) = left_by_a_dead_broker().await;
    let until = |ahead: &str| {
        let until = format!(
            "UPDATE pgbridge.lease SET claimed_by = 'dead', \
             claimed_until = clock_timestamp() + interval '{ahead}'"
        );
        server.postgres.sql("store", &until);
    };
    until("50 s");
    assert_eq!(claim(&*living, at(100), 9, claimant()).await, []);
    until("1 day");
    assert_eq!(claim(&*living, at(100), 9, claimant()).await, std::slice::from_ref(&lease));
    assert_eq!(claim(&*living, at(100), 9, claimant()).await, [], "it is claimed anew");
}

#[tokio::test]
async fn a_lease_that_somebody_moves_just_now_is_passed_over_and_the_next_one_claimed() {
    let server = StoreServer::start(16);
    let store = open(&server.fresh("store")).await;
    let (first, second) = (overdue(2), overdue(1));
    opened(&*store, &first).await;
    opened(&*store, &second).await;
    let lock = format!("SELECT 1 FROM pgbridge.lease WHERE id = '{}' FOR UPDATE", first.id);
    let holder = Holder::begin(&server, "store", &lock);
    assert_eq!(claim(&*store, at(100), 9, claimant()).await, [second]);
    holder.end();
    assert_eq!(claim(&*store, at(100), 9, claimant()).await, [first]);
}

/// A session of a DBA that holds something in an open transaction.
struct Holder<'server> {
    server: &'server StoreServer,
    psql: Child,
}

impl<'server> Holder<'server> {
    fn begin(server: &'server StoreServer, database: &str, sql: &str) -> Self {
        let mut psql = server.postgres.superuser(database);
        psql.env("PGAPPNAME", "holder").stdout(Stdio::null()).stderr(Stdio::null());
        psql.args(["-c", "BEGIN", "-c", sql, "-c", "SELECT pg_sleep(600)"]);
        let held = Self { server, psql: psql.spawn().expect("psql is installed") };
        wait_for("the holder to hold", SOON, || {
            let sleeps = "SELECT 1 FROM pg_stat_activity WHERE application_name = 'holder' \
                          AND wait_event = 'PgSleep'";
            (!server.postgres.sql("postgres", sleeps).is_empty()).then_some(())
        });
        held
    }

    /// Lets go: psql alone cannot, because the server does not look after it while it sleeps.
    fn end(mut self) {
        let end = "SELECT pg_terminate_backend(pid, 10000) FROM pg_stat_activity \
                   WHERE application_name = 'holder'";
        self.server.postgres.sql("postgres", end);
        self.psql.wait().unwrap();
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_lease_that_a_hung_transaction_holds_holds_up_no_other() {
    let server = StoreServer::start(16);
    let store = open(&server.fresh("store")).await;
    let (held, other) = (intent("alice"), intent("bob"));
    opened(&*store, &held).await;
    opened(&*store, &other).await;
    let lock = format!("SELECT 1 FROM pgbridge.lease WHERE id = '{}' FOR UPDATE", held.id);
    let holder = Holder::begin(&server, "store", &lock);
    let waiting = {
        let (store, next) = (Arc::clone(&store), held.clone().activate(RoleOid(7)).unwrap());
        tokio::spawn(async move { moved(&*store, &next).await })
    };
    moved(&*store, &other.clone().activate(RoleOid(8)).unwrap()).await.unwrap();
    for _ in 0..5 {
        opened(&*store, &intent("carol")).await;
    }
    assert!(!waiting.is_finished());
    holder.end();
    waiting.await.unwrap().unwrap();
    assert_eq!(store.lease(held.id).await.unwrap().unwrap().state, LeaseState::Active);

    // And when nobody lets go, the wait is bounded and nothing has happened.
    let holder = Holder::begin(&server, "store", &lock);
    let active = store.lease(held.id).await.unwrap().unwrap();
    let ending = active.clone().revoke(EndReason::Operator, at(9)).unwrap();
    let error = moved(&*store, &ending).await.unwrap_err();
    assert!(told(&error).contains("55P03"), "{}", told(&error));
    assert_eq!(store.lease(held.id).await.unwrap(), Some(active));
    holder.end();
    moved(&*store, &ending).await.unwrap();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_audit_that_a_hung_transaction_holds_is_a_bounded_wait_and_no_half_change() {
    let server = StoreServer::start(16);
    let store = open(&server.fresh("store")).await;
    let holder = Holder::begin(&server, "store", "SELECT 1 FROM pgbridge.head FOR UPDATE");
    let lease = intent("alice");
    let open = || vec![Change::OpenLease(Box::new(lease.clone()))];
    let error = store.commit(open(), vec![record(0)]).await.unwrap_err();
    assert!(told(&error).contains("55P03"), "{}", told(&error));
    assert_eq!(store.lease(lease.id).await.unwrap(), None, "reading goes on");
    holder.end();
    store.commit(open(), vec![record(0)]).await.unwrap();
    assert_eq!(audit(&*store).await.len(), 1);
}

/// A broker that stops in the middle of a transaction, as by SIGSTOP: its runtime is not driven.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_broker_that_hangs_in_a_transaction_is_put_out_by_the_server() {
    let server = StoreServer::start(16);
    let settings = server.fresh("store");
    let living = open(&settings).await;
    let lease = intent("alice");
    opened(&*living, &lease).await;
    let lock = format!("SELECT 1 FROM pgbridge.lease WHERE id = '{}' FOR UPDATE", lease.id);
    let holder = Holder::begin(&server, "store", &lock);
    let (stop, stopped) = tokio::sync::oneshot::channel::<()>();
    let (thaw, thawed) = std::sync::mpsc::channel::<()>();
    let hung = lease.clone().activate(RoleOid(1)).unwrap();
    let hanging = std::thread::spawn(move || {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        let store = runtime.block_on(open(&settings));
        let waiting = runtime.spawn(async move { moved(&*store, &hung).await });
        runtime.block_on(stopped).unwrap();
        thawed.recv().unwrap();
        runtime.block_on(waiting).unwrap()
    });
    let waits = "SELECT 1 FROM pg_stat_activity WHERE application_name = 'pgbridge store' \
                 AND wait_event_type = 'Lock' AND clock_timestamp() - query_start > interval '0.3 s'";
    wait_for("it to wait for the lock", SOON, || {
        (!server.postgres.sql("postgres", waits).is_empty()).then_some(())
    });
    stop.send(()).unwrap();
    holder.end();
    moved(&*living, &lease.activate(RoleOid(2)).unwrap()).await.unwrap();
    thaw.send(()).unwrap();
    let hung = tokio::task::spawn_blocking(|| hanging.join().unwrap()).await.unwrap();
    assert!(matches!(hung, Err(StoreError::Moved { .. })), "{hung:?}");
    assert_eq!(audit(&*living).await.len(), 2);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_commit_whose_answer_is_missing_is_in_doubt_and_not_sent_again() {
    let server = StoreServer::start(16);
    let store = open(&server.fresh("store")).await;
    store.probe().await.unwrap();
    // A standby that nobody is: every commit waits for it after it is on disk here.
    server.postgres.set("synchronous_standby_names", "nobody");
    let end = "SELECT pg_terminate_backend(pid) FROM pg_stat_activity \
               WHERE wait_event = 'SyncRep' AND application_name = 'pgbridge store'";
    let mut before = 0;
    let (lease, error) = loop {
        let lease = intent("alice");
        let committing = {
            let (store, open) = (Arc::clone(&store), Change::OpenLease(Box::new(lease.clone())));
            tokio::spawn(async move { store.commit(vec![open], vec![record(0)]).await })
        };
        wait_for("the commit to wait for its standby", SOON, || {
            let is_cut = !server.postgres.sql("store", end).is_empty();
            (is_cut || committing.is_finished()).then_some(())
        });
        match committing.await.unwrap() {
            Err(error) => break (lease, error),
            // The server process that makes commits wait hears of it a moment later than a session.
            Ok(()) => before += 1,
        }
        assert!(before < 1000, "no commit waits");
    };
    assert!(told(&error).contains("nobody knows whether it was committed"), "{}", told(&error));
    server.postgres.set("synchronous_standby_names", "");
    opened(&*store, &intent("bob")).await;
    assert!(store.lease(lease.id).await.unwrap().is_some(), "this one was");
    assert_eq!(audit(&*store).await.len(), before + 2, "once");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn after_a_restart_of_its_server_the_store_goes_on_by_itself() {
    let mut server = StoreServer::start(15);
    let store = open(&server.fresh("store")).await;
    let lease = intent("alice");
    opened(&*store, &lease).await;
    for crash in [false, true] {
        if crash {
            server.postgres.crash();
        } else {
            server.postgres.stop();
        }
        assert!(store.probe().await.is_err());
        assert!(store.lease(lease.id).await.is_err());
        let error = store.commit(vec![], vec![record(1)]).await.unwrap_err();
        assert!(matches!(error, StoreError::Failed { .. }), "{error:?}");
        server.postgres.start_again();
        store.probe().await.unwrap();
        opened(&*store, &intent("bob")).await;
        assert_eq!(store.lease(lease.id).await.unwrap().as_ref(), Some(&lease));
    }
    assert_eq!(audit(&*store).await.len(), 3);

    // The same without anybody having noticed meanwhile.
    for ended in 1..=3 {
        server.postgres.stop();
        server.postgres.start_again();
        store.commit(vec![], vec![record(1)]).await.unwrap();
        assert_eq!(audit(&*store).await.len(), 3 + ended);
    }
}

#[tokio::test]
async fn sql_cannot_change_an_audit_record() {
    let server = StoreServer::start(15);
    let store = open(&server.fresh("store")).await;
    for number in 0..3 {
        store.commit(vec![], vec![record(number)]).await.unwrap();
    }
    let before = audit(&*store).await;
    for sql in [
        "UPDATE audit SET record = '{}' WHERE seq = 1",
        "UPDATE audit SET seq = 9 WHERE seq = 3",
        "DELETE FROM audit WHERE seq = 3",
        "DELETE FROM audit",
        "TRUNCATE audit",
        "TRUNCATE audit, head, lease, session, probe, attempts, spent, logins_ended",
        "INSERT INTO audit (seq, at, record) VALUES (3, now(), '{}')",
        "INSERT INTO audit (seq, at, record) VALUES (9, now(), '{}')",
        "INSERT INTO audit (seq, at, record) VALUES (4, now(), '{}'), (6, now(), '{}')",
        "INSERT INTO audit (seq, at, record) VALUES (0, now(), '{}')",
        "INSERT INTO audit (at, record) VALUES (now(), '{}')",
        "INSERT INTO audit (seq, at, record) VALUES (2, now(), '{}') \
         ON CONFLICT (seq) DO UPDATE SET record = '{}'",
        "SET session_replication_role = replica; DELETE FROM audit",
    ] {
        let sql = format!("SET search_path = pgbridge; {sql}");
        assert!(server.postgres.try_sql("store", &sql).is_err(), "{sql}");
        assert_eq!(audit(&*store).await, before, "{sql}");
    }
    store.commit(vec![], vec![record(3)]).await.unwrap();
    assert_eq!(audit(&*store).await.len(), 4);
}

#[tokio::test]
async fn a_row_that_cannot_be_read_exactly_is_an_error_that_names_it() {
    let server = StoreServer::start(16);
    let store = open(&server.fresh("store")).await;
    for (change, column) in [
        ("state = 'zombie'", "state"),
        ("state = 'Active'", "state"),
        ("cluster = 'NO'", "cluster"),
        ("role = 'pg_monitor'", "role"),
        ("principal = '{}'", "principal"),
        ("principal_key = 'ldap:corp:mallory'", "principal_key"),
        ("client = '1.2.3'", "client"),
        ("version = 5000000000", "version"),
        ("owned_objects = 'burn'", "owned_objects"),
        ("end_reason = 'bored'", "end_reason"),
        ("reason = '\u{2400}'", "reason"),
        ("retry_at = 'infinity'", "retry_at"),
        ("ceiling = '20000-01-01'", "ceiling"),
    ] {
        let lease = intent("alice");
        opened(&*store, &lease).await;
        let sql = format!("UPDATE pgbridge.lease SET {change} WHERE id = '{}'", lease.id);
        server.postgres.sql("store", &sql);
        let error = store.lease(lease.id).await.unwrap_err();
        let StoreError::Unreadable { what, .. } = error else { panic!("{error:?}") };
        assert!(what.contains(&lease.id.to_string()), "{what}");
        assert!(what.contains(&format!("column {column}:")), "{what}");
    }
    assert!(store.leases(&LeaseFilter::default()).await.is_err());
}

#[tokio::test]
async fn a_lease_in_an_unknown_state_is_in_no_list_and_hides_in_none() {
    let server = StoreServer::start(16);
    let store = open(&server.fresh("store")).await;
    let (lease, elsewhere) =
        (intent("alice"), Lease { cluster: "other".parse().unwrap(), ..intent("bob") });
    opened(&*store, &lease).await;
    opened(&*store, &elsewhere).await;
    let live = LeaseFilter { states: vec![LeaseState::Intent], ..Default::default() };
    assert_eq!(store.leases(&live).await.unwrap().len(), 2);
    assert_eq!(store.live(&lease.cluster).await.unwrap().len(), 1);
    let zombie = format!("UPDATE pgbridge.lease SET state = 'zombie' WHERE id = '{}'", lease.id);
    server.postgres.sql("store", &zombie);
    for error in
        [store.leases(&live).await.unwrap_err(), store.live(&lease.cluster).await.unwrap_err()]
    {
        assert!(matches!(error, StoreError::Unreadable { .. }), "{error:?}");
    }
    assert_eq!(store.live(&elsewhere.cluster).await.unwrap().len(), 1);
}

#[tokio::test]
async fn common_questions_are_answered_by_an_index() {
    let server = StoreServer::start(16);
    let _store = open(&server.fresh("store")).await;
    // Somebody with many, for the planner to see what each index is good for.
    let many = "INSERT INTO pgbridge.lease (id, version, state, principal, principal_key, cluster, \
                database, role, role_name, requested_at, create_before, expires_at, ceiling, \
                owned_objects, request_key, client, rule, map_revision, attempts) \
                SELECT n, 1, CASE WHEN n % 50 = 0 THEN 'active' ELSE 'revoked' END, '{}', \
                CASE WHEN n % 10 = 0 THEN 'a' ELSE 'b' || n % 10 END, 'a', \
                'd', 'r' || n % 9, n, at, at, at, at, 'drop', n, '::', '{}', '', 0 \
                FROM generate_series(1, 20000) AS n, \
                LATERAL (SELECT now() - n * interval '1 s') AS t (at)";
    server.postgres.sql("store", many);
    server.postgres.sql("store", "ANALYZE pgbridge.lease");
    for (sql, index) in [
        ("SELECT 1 FROM lease WHERE cluster = 'a' AND due_at <= now()", "lease_due"),
        (
            "SELECT 1 FROM lease WHERE principal_key = 'a' AND request_key = 'b' AND request_key \
             IS NOT NULL AND state IN ('intent', 'active')",
            // By its key, or among the live ones of the person: few either way.
            "lease_live_",
        ),
        (
            "SELECT 1 FROM lease WHERE state NOT IN \
             ('intent', 'active', 'revoking', 'quarantined', 'revoked', 'aborted') \
             ORDER BY id LIMIT 1",
            "lease_unknown",
        ),
        (
            "SELECT role_oid FROM lease WHERE cluster = 'a' \
             AND state NOT IN ('revoked', 'aborted') ORDER BY id",
            "lease_live",
        ),
        (
            "SELECT * FROM lease WHERE principal_key = 'a' \
             ORDER BY requested_at DESC, id DESC LIMIT 5",
            "lease_of_person",
        ),
        ("SELECT * FROM lease ORDER BY requested_at DESC, id DESC LIMIT 5", "lease_by_age"),
        ("SELECT requested_at AS at FROM lease ORDER BY requested_at DESC LIMIT 1", "lease_by_age"),
        (
            "SELECT 1 FROM lease WHERE principal_key = 'a' AND cluster = 'a' AND role = 'r1' \
             AND state NOT IN ('revoked', 'aborted') \
             HAVING count(*) FILTER (WHERE state IN ('intent', 'active')) >= 20 OR count(*) >= 40",
            "lease_unfinished_of_person",
        ),
        (
            "SELECT * FROM lease WHERE principal_key = 'a' AND state IN ('intent', 'active') \
             AND (cluster, role, id) > ('a', 'r1', '') ORDER BY cluster, role, id LIMIT 500",
            "lease_live_of_person",
        ),
        (
            "SELECT principal_key FROM lease WHERE state IN ('intent', 'active')",
            "lease_live_of_person",
        ),
    ] {
        let plan = format!("SET search_path = pgbridge; SET enable_seqscan = off; EXPLAIN {sql}");
        let steps = server.postgres.sql("store", &plan).concat().join("\n");
        assert!(steps.contains(index), "{sql}: {steps}");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn brokers_that_start_at_once_on_an_empty_database_make_one_schema() {
    let server = StoreServer::start(16);
    let settings = server.fresh("store");
    let stores = futures::future::join_all((0..5).map(|_| open(&settings))).await;
    for (number, store) in (1..).zip(&stores) {
        opened(&**store, &intent("alice")).await;
        assert_eq!(audit(&*stores[0]).await.len(), number);
    }
}

#[tokio::test]
async fn what_is_no_database_for_a_store_is_refused_and_left_alone() {
    let server = StoreServer::start(16);
    let alien = server.fresh("alien");
    server.postgres.sql("alien", "CREATE SCHEMA pgbridge; CREATE TABLE pgbridge.diary (n integer)");
    server.postgres.sql("alien", &format!("ALTER SCHEMA pgbridge OWNER TO {STORE_LOGIN}"));
    refused(&alien, &["tables that are not ours", "another database"]).await;
    assert_eq!(server.postgres.sql("alien", "SELECT count(*) FROM pgbridge.diary"), [["0"]]);

    let latin = format!(
        "CREATE DATABASE latin OWNER {STORE_LOGIN} TEMPLATE template0 ENCODING 'LATIN1' LOCALE 'C'"
    );
    server.postgres.sql("postgres", &latin);
    refused(&server.settings(&server.url("latin")), &["LATIN1", "UTF8"]).await;

    let foreign = "CREATE DATABASE foreign_one TEMPLATE template0";
    server.postgres.sql("postgres", foreign);
    refused(&server.settings(&server.url("foreign_one")), &["permission denied"]).await;
    refused(&server.settings(&server.url("missing")), &["does not exist"]).await;

    // A schema that a DBA has made for a login that may make none.
    let made = format!("CREATE SCHEMA pgbridge AUTHORIZATION {STORE_LOGIN}");
    server.postgres.sql("foreign_one", &made);
    open(&server.settings(&server.url("foreign_one"))).await.probe().await.unwrap();
}

#[tokio::test]
async fn the_way_to_the_store_is_checked_to_its_end() {
    let server = StoreServer::start(16);
    server.make("store");
    let url = server.url("store");
    let other = crate::support::TestCa::new().pem();
    let with = |url: &str, tls| PostgresSettings { tls, ..server.settings(url) };
    refused(&with(&url, ServerTls::VerifyFull { roots: Some(other) }), &["certificate"]).await;
    refused(&with(&url, ServerTls::Disabled), &["no pg_hba.conf entry"]).await;
    let away = "postgresql://p@db.example.test/store";
    refused(&with(away, ServerTls::Disabled), &["in the clear", "verify-full"]).await;
    let another = url.replace(STORE_LOGIN, "mallory");
    refused(&server.settings(&another), &["password authentication failed"]).await;
    open(&server.settings(&url)).await.probe().await.unwrap();
}

#[tokio::test]
async fn what_a_dba_sets_for_the_login_does_not_lower_what_the_store_needs() {
    let server = StoreServer::start(16);
    let settings = server.fresh("store");
    for setting in [
        "synchronous_commit = off",
        "search_path = public",
        "statement_timeout = 1",
        "default_transaction_read_only = on",
        "default_transaction_isolation = 'serializable'",
        "TimeZone = 'Asia/Tokyo'",
    ] {
        server.postgres.sql("postgres", &format!("ALTER ROLE {STORE_LOGIN} SET {setting}"));
    }
    let store = open(&settings).await;
    let lease = intent("alice");
    opened(&*store, &lease).await;
    assert_eq!(store.lease(lease.id).await.unwrap(), Some(lease));
}

/// Servers from 17 on can end a session whose transaction takes long, whatever it does.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn no_limit_of_a_dba_ends_a_transaction_that_waits_its_turn() {
    for major in [17, 18] {
        let server = StoreServer::start(major);
        let settings = server.fresh("store");
        let limit = format!("ALTER ROLE {STORE_LOGIN} SET transaction_timeout = '1s'");
        server.postgres.sql("postgres", &limit);
        let store = open(&settings).await;
        let lease = intent("alice");
        opened(&*store, &lease).await;
        let lock = format!("SELECT 1 FROM pgbridge.lease WHERE id = '{}' FOR UPDATE", lease.id);
        let holder = Holder::begin(&server, "store", &lock);
        let waiting = {
            let (store, next) = (Arc::clone(&store), lease.clone().activate(RoleOid(7)).unwrap());
            tokio::spawn(async move { moved(&*store, &next).await })
        };
        let waits = "SELECT 1 FROM pg_stat_activity WHERE application_name = 'pgbridge store' \
                     AND wait_event_type = 'Lock' \
                     AND clock_timestamp() - xact_start > interval '1.5 s'";
        wait_for("it to wait longer than the limit", SOON, || {
            (!server.postgres.sql("postgres", waits).is_empty()).then_some(())
        });
        holder.end();
        waiting.await.unwrap().unwrap();
    }
}

/// What stands in the schema is run by the broker's login.
#[tokio::test]
async fn a_schema_into_which_others_can_put_code_is_refused() {
    let server = StoreServer::start(16);
    let settings = server.fresh("store");
    open(&settings).await.probe().await.unwrap();
    let sql = |sql: &str| server.postgres.sql("store", sql);
    sql("CREATE ROLE mallory; CREATE ROLE analyst; CREATE ROLE brokers");
    let function = "CREATE FUNCTION pgbridge.unnest(text[]) RETURNS SETOF text \
                    LANGUAGE sql AS 'SELECT NULL::text'";
    for (who, give, take) in [
        (
            "PUBLIC",
            "GRANT CREATE ON SCHEMA pgbridge TO PUBLIC",
            "REVOKE CREATE ON SCHEMA pgbridge FROM PUBLIC",
        ),
        (
            "mallory",
            "GRANT CREATE ON SCHEMA pgbridge TO mallory",
            "REVOKE CREATE ON SCHEMA pgbridge FROM mallory",
        ),
        (
            "mallory",
            "GRANT TRIGGER ON pgbridge.lease TO mallory",
            "REVOKE TRIGGER ON pgbridge.lease FROM mallory",
        ),
        (
            "mallory",
            &format!("{function}; ALTER FUNCTION pgbridge.unnest(text[]) OWNER TO mallory"),
            "DROP FUNCTION pgbridge.unnest(text[])",
        ),
        (
            "mallory",
            "ALTER TABLE pgbridge.spent OWNER TO mallory",
            &format!("ALTER TABLE pgbridge.spent OWNER TO {STORE_LOGIN}"),
        ),
        (
            "mallory",
            &format!(
                "ALTER SCHEMA pgbridge OWNER TO mallory; GRANT ALL ON SCHEMA pgbridge TO {STORE_LOGIN}"
            ),
            &format!("ALTER SCHEMA pgbridge OWNER TO {STORE_LOGIN}"),
        ),
    ] {
        sql(give);
        refused(&settings, &[who, "can put code into the schema", "CREATE on the schema"]).await;
        sql(take);
        open(&settings).await.probe().await.unwrap();
    }
    // Readers are no danger, and neither are roles above us.
    sql(
        "GRANT USAGE ON SCHEMA pgbridge TO analyst; GRANT SELECT ON ALL TABLES IN SCHEMA pgbridge TO analyst",
    );
    sql(&format!("GRANT brokers TO {STORE_LOGIN}; ALTER SCHEMA pgbridge OWNER TO brokers"));
    open(&settings).await.probe().await.unwrap();
}

#[tokio::test]
async fn the_audit_is_read_beside_brokers_by_a_login_that_may_only_read() {
    let server = StoreServer::start(16);
    let settings = server.fresh("store");
    let unmade = PostgresStore::open_read_only(&settings).await.unwrap_err();
    assert!(told(&unmade).contains("no schema yet"), "{}", told(&unmade));
    let store = open(&settings).await;
    opened(&*store, &intent("alice")).await;
    let auditor = format!(
        "CREATE ROLE auditor LOGIN PASSWORD '{STORE_PASSWORD}'; \
         GRANT USAGE ON SCHEMA pgbridge TO auditor; \
         GRANT SELECT ON pgbridge.head, pgbridge.audit TO auditor"
    );
    server.postgres.sql("store", &auditor);
    let auditor = server.settings(&server.url("store").replace(STORE_LOGIN, "auditor"));
    let reader = PostgresStore::open_read_only(&auditor).await.unwrap();
    assert_eq!(audit(&reader).await, audit(&*store).await);
    for refusal in [
        reader.commit(vec![], vec![record(2)]).await,
        reader.probe().await,
        reader.unclaim(intent("alice").id, claimant()).await,
    ] {
        assert!(told(&refusal.unwrap_err()).contains("reading only"));
    }
}

fn schema(server: &StoreServer, version: u32, oldest: u32) {
    let set =
        format!("UPDATE pgbridge.head SET schema_version = {version}, oldest_schema = {oldest}");
    server.postgres.sql("store", &set);
}

#[tokio::test]
async fn an_older_broker_goes_on_beside_a_newer_one_as_long_as_the_schema_allows() {
    let server = StoreServer::start(16);
    let settings = server.fresh("store");
    let running = open(&settings).await;
    opened(&*running, &intent("alice")).await;

    schema(&server, 9, 1);
    opened(&*running, &intent("alice")).await;
    open(&settings).await.probe().await.unwrap();

    schema(&server, 9, 8);
    let parts = ["version 9", "knows version 8", "this one knows 1", "run the newer one"];
    refused(&settings, &parts).await;
    let lease = intent("bob");
    let open_lease = vec![Change::OpenLease(Box::new(lease.clone()))];
    for error in [
        running.commit(open_lease, vec![record(0)]).await.unwrap_err(),
        running.probe().await.unwrap_err(),
        running.unclaim(lease.id, claimant()).await.unwrap_err(),
    ] {
        assert!(told(&error).contains("run the newer one"), "{}", told(&error));
    }
    schema(&server, 1, 1);
    assert_eq!(audit(&*running).await.len(), 2, "something was written");
    opened(&*running, &lease).await;
}

#[tokio::test]
async fn while_a_newer_broker_changes_the_schema_nobody_writes_with_the_old_one() {
    let server = StoreServer::start(16);
    let store = open(&server.fresh("store")).await;
    opened(&*store, &intent("alice")).await;
    // What a migration does: the lock of the schema, then its steps, then the version.
    let migration = format!(
        "SELECT pg_advisory_xact_lock({}); \
         UPDATE pgbridge.head SET schema_version = 9, oldest_schema = 9",
        0x7067_6272_6964_6765_i64
    );
    let holder = Holder::begin(&server, "store", &migration);
    let error = store.commit(vec![], vec![record(1)]).await.unwrap_err();
    assert!(told(&error).contains("55P03"), "{}", told(&error));
    holder.end();
    store.commit(vec![], vec![record(1)]).await.unwrap();
}

/// A pooler that lends a server connection for one transaction at a time.
fn pooler(server: &StoreServer, scratch: &Scratch) -> Option<(Daemon, u16)> {
    let places = ["/usr/sbin/pgbouncer", "/usr/bin/pgbouncer"];
    let program = places.into_iter().map(Path::new).find(|place| place.exists())?;
    let (port, user) = (free_port(), ServiceUser::to_become("postgres"));
    give(scratch.path(), user);
    let users = format!("\"{STORE_LOGIN}\" \"{STORE_PASSWORD}\"\n");
    let users = scratch.write("users", &users, user);
    let config = format!(
        "[databases]\nstore = host=127.0.0.1 port={} dbname=store\n[pgbouncer]\n\
         listen_addr = 127.0.0.1\nlisten_port = {port}\nunix_socket_dir =\n\
         auth_type = scram-sha-256\nauth_file = {}\npool_mode = transaction\n\
         server_tls_sslmode = require\nignore_startup_parameters = options,extra_float_digits\n",
        server.postgres.port(),
        users.display()
    );
    let config = scratch.write("pgbouncer.ini", &config, user);
    let log = scratch.join("pgbouncer.log");
    let arguments = [config.display().to_string()];
    let mut daemon = Daemon::start(program, &arguments, user, &log, Signal::Interrupt);
    wait_for("the pooler to listen", SOON, || {
        assert!(daemon.is_running(), "{}", daemon.log());
        std::net::TcpStream::connect(("127.0.0.1", port)).ok()
    });
    Some((daemon, port))
}

#[tokio::test]
async fn a_pooler_that_keeps_no_session_is_refused() {
    let server = StoreServer::start(16);
    let settings = server.fresh("store");
    open(&settings).await.probe().await.unwrap();
    let scratch = Scratch::new("pooler");
    let Some((_daemon, port)) = pooler(&server, &scratch) else {
        println!("not run: pgbouncer is not installed");
        return;
    };
    let url = format!("postgresql://{STORE_LOGIN}@127.0.0.1:{port}/store");
    let pooled = PostgresSettings { tls: ServerTls::Disabled, ..server.settings(&url) };
    refused(&pooled, &["behind a pooler", "name the server itself"]).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn of_several_servers_the_primary_is_used_also_after_a_fail_over() {
    let mut server = StoreServer::start(15);
    let settings = server.fresh("store");
    open(&settings).await.probe().await.unwrap();
    let standby = server.postgres.standby();
    let standby_only = format!("postgresql://{STORE_LOGIN}@127.0.0.1:{}/store", standby.port());
    refused(&server.settings(&standby_only), &["127.0.0.1", "does not allow writes"]).await;

    let both = format!(
        "postgresql://{STORE_LOGIN}@127.0.0.1:{},127.0.0.1:{}/store",
        standby.port(),
        server.postgres.port()
    );
    let store = open(&server.settings(&both)).await;
    let lease = intent("alice");
    opened(&*store, &lease).await;
    wait_for("the standby to have it", SOON, || {
        let found = standby.sql("store", "SELECT 1 FROM pgbridge.lease");
        (!found.is_empty()).then_some(())
    });
    server.postgres.stop();
    let error = store.probe().await.unwrap_err();
    assert!(told(&error).contains("does not allow writes"), "{}", told(&error));
    standby.sql("postgres", "SELECT pg_promote()");
    store.probe().await.unwrap();
    moved(&*store, &lease.activate(RoleOid(7)).unwrap()).await.unwrap();
    assert_eq!(audit(&*store).await.len(), 2);
}

/// Prints what the store does on this disk, beside what it does without one. To measure a release
/// build of it, `cargo test --test integration store::measure -- --ignored --nocapture` with
/// `--config profile.dev.opt-level=3`.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
#[ignore = "a measurement"]
async fn measure() {
    let server = StoreServer::start(16);
    for (disk, fsync) in [("with fsync", "on"), ("without fsync", "off")] {
        server.postgres.set("fsync", fsync);
        let store = open(&server.fresh(&format!("measured_{fsync}"))).await;
        for callers in [1, 4, 16, 64] {
            let watch = Stopwatch::start();
            let moves = 1000 / callers + 100;
            let movers = (0..callers).map(|_| {
                let store = Arc::clone(&store);
                tokio::spawn(async move {
                    let mut lease = intent("alice");
                    opened(&*store, &lease).await;
                    for _ in 0..moves {
                        lease = Lease { version: lease.version + 1, ..lease };
                        moved(&*store, &lease).await.unwrap();
                    }
                })
            });
            for mover in futures::future::join_all(movers).await {
                mover.unwrap();
            }
            let rate = f64::from(moves * callers) / watch.elapsed().as_secs_f64();
            println!("{disk}, {callers} callers: {rate:.0} commits/s");
        }
    }
    many_live_leases(&server).await;
}

async fn many_live_leases(server: &StoreServer) {
    let store = open(&server.fresh("many")).await;
    let lease = intent("alice");
    opened(&*store, &lease).await;
    // Copies of it, with ids of the same form.
    let rest = "version, state, principal, principal_key, cluster, database, role, role_name, \
                requested_at, create_before, expires_at, ceiling, owned_objects, client, rule, \
                map_revision, attempts";
    let copies = format!(
        "INSERT INTO pgbridge.lease (id, {rest}) SELECT lpad(translate(n::text, '0123456789', \
         'abcdefghij'), 16, 'a'), {rest} FROM pgbridge.lease, generate_series(1, 100000) AS n"
    );
    server.postgres.sql("many", &copies);
    let watch = Stopwatch::start();
    let live = store.live(&lease.cluster).await.unwrap();
    println!("{} live leases: {:?}", live.len(), watch.elapsed());
}
