//! Which database is opened as a store, by whom, and which is refused.

use std::path::Path;

use pgbridge::dial::ServerTls;
use pgbridge::names::RoleOid;
use pgbridge::store::conformance::{audit, claimant, intent, opened, record};
use pgbridge::store::postgres::{PostgresSettings, PostgresStore};
use pgbridge::store::{Change, Store};

use super::hung::Holder;
use super::{moved, open, refused, told};
use crate::support::daemon::Daemon;
use crate::support::scratch::{ServiceUser, free_port, give};
use crate::support::store::{STORE_LOGIN, STORE_PASSWORD};
use crate::support::{SOON, Scratch, Signal, StoreServer, wait_for};

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
    let parts = ["version 9", "knows version 8", "this one knows 5", "run the newer one"];
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
    schema(&server, 2, 1);
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
