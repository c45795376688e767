//! Transactions that hang: a DBA's, and a broker's own.

use std::process::{Child, Stdio};
use std::sync::Arc;

use pgbridge::lease::{EndReason, LeaseState};
use pgbridge::names::RoleOid;
use pgbridge::store::conformance::{at, audit, claim, claimant, intent, opened, overdue, record};
use pgbridge::store::{Change, StoreError};

use super::{moved, open, told};
use crate::support::store::STORE_LOGIN;
use crate::support::{SOON, StoreServer, wait_for};

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
pub(super) struct Holder<'server> {
    server: &'server StoreServer,
    psql: Child,
}

impl<'server> Holder<'server> {
    pub(super) fn begin(server: &'server StoreServer, database: &str, sql: &str) -> Self {
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
    pub(super) fn end(mut self) {
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
