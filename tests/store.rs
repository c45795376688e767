//! The store on PostgreSQL: the promises of every store, alone and by two brokers together, and
//! what only a server can do to it.

mod claims;
mod hung;
mod opening;
mod pair;

use std::sync::Arc;

use futures::StreamExt;
use pgbridge::causes::with_causes;
use pgbridge::clock::Stopwatch;
use pgbridge::lease::{Lease, LeaseState};
use pgbridge::store::conformance::{
    PROMISES, at, audit, claim, claimant, intent, opened, overdue, record,
};
use pgbridge::store::postgres::{PostgresSettings, PostgresStore};
use pgbridge::store::{Change, LeaseFilter, Store, StoreError};

use self::pair::Pair;
use crate::support::store::STORE_PASSWORD;
use crate::support::{SOON, StoreServer, wait_for};

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
async fn a_lease_that_cannot_be_read_keeps_no_other_from_its_end() {
    let server = StoreServer::start(16);
    let store = open(&server.fresh("store")).await;
    for _ in 0..30 {
        opened(&*store, &overdue(2)).await;
    }
    let breaks = "UPDATE pgbridge.lease SET principal = '{}'";
    server.postgres.sql("store", breaks);
    let other = overdue(1);
    opened(&*store, &other).await;
    let by = claimant();
    assert_eq!(claim(&*store, at(100), 9, by).await, [other]);
    server.postgres.sql("store", breaks);
    let error = store.claim(&"orders".parse().unwrap(), at(100), 9, by).await.unwrap_err();
    assert!(matches!(error, StoreError::Unreadable { .. }), "{error:?}");
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
