mod measure;
mod survival;

use std::fs::{self, File};
use std::future::{Ready, ready};
use std::os::unix::fs::{PermissionsExt, symlink};
use std::path::PathBuf;
use std::time::Duration;

use rusqlite::Connection;
use tempfile::TempDir;

use super::*;
use crate::causes::with_causes;
use crate::lease::LeaseState;
use crate::store::conformance::{
    at, audit, claim, claimant, conformance, intent, opened, overdue, record,
};

fn fresh() -> Ready<(Arc<dyn Store>, TempDir)> {
    let directory = tempfile::tempdir().unwrap();
    let store = SqliteStore::open(&directory.path().join("store.db")).unwrap();
    ready((Arc::new(store), directory))
}

conformance!(fresh);

/// A directory and the path of a store in it that does not exist yet.
fn place() -> (TempDir, PathBuf) {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("store.db");
    (directory, path)
}

/// The store at `path` is refused with an error that holds each of `parts`.
#[track_caller]
fn refused(path: &Path, parts: &[&str]) {
    let error = SqliteStore::open(path).expect_err("it was opened");
    let told = with_causes(&error);
    for part in parts.iter().copied().chain([path.to_str().unwrap()]) {
        assert!(told.contains(part), "`{part}` is not in: {told}");
    }
}

fn mode(path: &Path) -> u32 {
    fs::metadata(path).unwrap().permissions().mode() & 0o7777
}

fn beside(path: &Path, suffix: &str) -> PathBuf {
    let mut name = path.as_os_str().to_owned();
    name.push(suffix);
    name.into()
}

/// Another program with the file open, such as the `sqlite3` shell.
fn shell(path: &Path) -> Connection {
    Connection::open(path).unwrap()
}

#[tokio::test]
async fn every_file_is_private_from_its_first_moment() {
    let (_directory, path) = place();
    let store = SqliteStore::open(&path).unwrap();
    opened(&store, &intent("alice")).await;
    for suffix in ["", "-wal", "-shm", ".lock"] {
        assert_eq!(mode(&beside(&path, suffix)), 0o600, "{suffix}");
    }
}

#[test]
fn a_file_that_others_may_use_is_refused_and_a_private_one_is_not() {
    let (_directory, path) = place();
    drop(SqliteStore::open(&path).unwrap());
    for exposed in [0o640, 0o604, 0o660, 0o610, 0o666] {
        fs::set_permissions(&path, fs::Permissions::from_mode(exposed)).unwrap();
        refused(&path, &[&format!("mode {exposed:04o}"), "chmod 600"]);
        assert!(SqliteStore::open_read_only(&path).is_err());
        assert_eq!(mode(&path), exposed, "it was changed");
    }
    fs::set_permissions(&path, fs::Permissions::from_mode(0o600)).unwrap();
    assert!(SqliteStore::open(&path).is_ok());
}

#[test]
fn only_a_plain_file_of_one_name_is_opened() {
    let (directory, path) = place();
    let real = directory.path().join("real.db");
    drop(SqliteStore::open(&real).unwrap());
    symlink(&real, &path).unwrap();
    refused(&path, &["a symbolic link", "name a plain file"]);
    fs::remove_file(&path).unwrap();
    fs::hard_link(&real, &path).unwrap();
    refused(&path, &["several hard links"]);
    fs::remove_file(&path).unwrap();
    symlink(directory.path().join("nowhere"), &path).unwrap();
    refused(&path, &["a symbolic link"]);
    assert!(!directory.path().join("nowhere").exists());
    fs::remove_file(&path).unwrap();
    fs::create_dir(&path).unwrap();
    refused(&path, &["a directory"]);

    let linked = tempfile::tempdir().unwrap();
    let linked = linked.path().join("linked");
    symlink(directory.path(), &linked).unwrap();
    assert!(SqliteStore::open(&linked.join("real.db")).is_ok(), "a link to its directory");
}

#[test]
fn a_place_where_no_store_can_be_is_told() {
    let (directory, _) = place();
    refused(&directory.path().join("none/store.db"), &["none cannot be used", "create it"]);
    File::create(directory.path().join("file")).unwrap();
    refused(&directory.path().join("file/store.db"), &["cannot be opened"]);
    refused(Path::new("/"), &["names no file"]);
    refused(Path::new("/proc/store.db"), &["/proc/store.db"]);
    assert!(SqliteStore::open_read_only(&directory.path().join("missing.db")).is_err());
    assert!(!directory.path().join("missing.db").exists(), "reading has made a file");
}

#[test]
fn a_file_of_something_else_is_refused_and_left_alone() {
    let private = |path: &Path| {
        fs::set_permissions(path, fs::Permissions::from_mode(0o600)).unwrap();
    };
    let (_directory, text) = place();
    fs::write(&text, "Dear diary, ".repeat(1000)).unwrap();
    private(&text);
    refused(&text, &["no store of pgbridge", "not an SQLite database"]);
    assert_eq!(fs::read_to_string(&text).unwrap(), "Dear diary, ".repeat(1000));

    let (_directory, alien) = place();
    shell(&alien).execute_batch("CREATE TABLE lease (id TEXT)").unwrap();
    private(&alien);
    refused(&alien, &["no store of pgbridge", "another program"]);

    let (_directory, empty) = place();
    File::create(&empty).unwrap();
    private(&empty);
    assert!(SqliteStore::open(&empty).is_ok(), "an empty file is a new store");
}

#[tokio::test]
async fn a_damaged_file_is_refused() {
    let (_directory, path) = place();
    let store = SqliteStore::open(&path).unwrap();
    for _ in 0..200 {
        opened(&store, &intent("alice")).await;
    }
    drop(store);
    assert!(SqliteStore::open(&path).is_ok());
    let mut bytes = fs::read(&path).unwrap();
    let middle = bytes.len() / 2;
    bytes[middle..middle + 4096].fill(0x5a);
    fs::write(&path, &bytes).unwrap();
    refused(&path, &["it is damaged", "restore a backup"]);
}

/// What is due is found by an index: a lease that is missing there would never end.
#[tokio::test]
async fn a_file_with_an_index_that_misses_a_lease_is_refused() {
    let (_directory, path) = place();
    let store = SqliteStore::open(&path).unwrap();
    opened(&store, &intent("alice")).await;
    drop(store);
    let hidden = "PRAGMA writable_schema = ON; \
                  CREATE TABLE hidden AS SELECT * FROM sqlite_schema WHERE name = 'lease_due'; \
                  DELETE FROM sqlite_schema WHERE name = 'lease_due'";
    shell(&path).execute_batch(hidden).unwrap();
    let unseen = "PRAGMA writable_schema = ON; UPDATE lease SET state = 'active'; \
                  INSERT INTO sqlite_schema SELECT * FROM hidden; DROP TABLE hidden";
    shell(&path).execute_batch(unseen).unwrap();
    let quick: String = shell(&path).query_row("PRAGMA quick_check", [], |row| row.get(0)).unwrap();
    assert_eq!(quick, "ok");
    refused(&path, &["it is damaged", "lease_due", "restore a backup"]);
    shell(&path).execute_batch("REINDEX").unwrap();
    assert!(SqliteStore::open(&path).is_ok());
}

/// What `sqlite3 store.db .dump` gives of a store of the first version, as far as it matters.
const FIRST_VERSION: &str = "PRAGMA application_id = 1885823602; PRAGMA user_version = 1; \
    INSERT INTO lease (id, version, state, principal, principal_key, cluster, database, role, \
        role_name, requested_at, create_before, expires_at, ceiling, owned_objects, client, rule, \
        map_revision, attempts) VALUES ('aaaaaaaaaaaaaaaa', 1, 'intent', \
        '{\"method\":\"ldap\",\"directory\":\"corp\",\"account\":\"alice\"}', \
        'ldap:corp:alice', 'orders', 'orders', 'orders_read', 'pgb_alice_aaaaaaaaaaaaaaaa', 1, 2, 3, \
        4, 'drop', '127.0.0.1', '{\"file\":\"pg_ident.conf\",\"line\":1}', '0b5e', 0);";

#[tokio::test]
async fn a_store_of_the_version_before_is_brought_up_to_date_and_its_leases_are_read() {
    let (_directory, path) = place();
    let first = include_str!("../migrations/sqlite/0001_leases_sessions_audit.sql");
    shell(&path).execute_batch(&format!("{first}\n{FIRST_VERSION}")).unwrap();
    fs::set_permissions(&path, fs::Permissions::from_mode(0o600)).unwrap();
    assert!(SqliteStore::open_read_only(&path).is_err());
    let store = SqliteStore::open(&path).unwrap();
    let lease = store.lease("aaaaaaaaaaaaaaaa".parse().unwrap()).await.unwrap().unwrap();
    assert_eq!((lease.because, lease.account_id, lease.rule.line), (None, None, 1));
    opened(&store, &intent("alice")).await;
    drop(store);
    let version = |connection: &Connection| {
        connection.pragma_query_value(None, "user_version", |row| row.get::<_, u32>(0)).unwrap()
    };
    assert_eq!(version(&shell(&path)), 5);
    for change in ["UPDATE map_revision SET postgres = 13", "DELETE FROM map_revision"] {
        let kept = "INSERT INTO map_revision VALUES ('r', 16, '{}', 1) ON CONFLICT DO NOTHING";
        shell(&path).execute_batch(kept).unwrap();
        assert!(shell(&path).execute_batch(change).unwrap_err().to_string().contains("are never"));
    }
}

#[test]
fn a_schema_of_a_newer_version_is_refused() {
    let (_directory, path) = place();
    drop(SqliteStore::open(&path).unwrap());
    shell(&path).pragma_update(None, "user_version", 99).unwrap();
    refused(&path, &["version 99", "knows 5", "newer pgbridge"]);
    assert!(SqliteStore::open_read_only(&path).is_err());
    shell(&path).pragma_update(None, "user_version", 5).unwrap();
    assert!(SqliteStore::open(&path).is_ok());
}

#[tokio::test]
async fn one_store_is_served_once_at_a_time() {
    let (_directory, path) = place();
    let first = SqliteStore::open(&path).unwrap();
    refused(&path, &["another pgbridge is serving it", "store.db.lock"]);
    first.probe().await.unwrap();
    drop(first);
    SqliteStore::open(&path).unwrap().probe().await.unwrap();
}

#[tokio::test]
async fn the_audit_is_read_beside_its_writer_and_without_one() {
    let (_directory, path) = place();
    let store = SqliteStore::open(&path).unwrap();
    let lease = intent("alice");
    opened(&store, &lease).await;
    let reader = SqliteStore::open_read_only(&path).unwrap();
    assert_eq!(audit(&reader).await.len(), 1);
    store.commit(vec![], vec![record(1)]).await.unwrap();
    assert_eq!(audit(&reader).await, audit(&store).await);
    assert_eq!(reader.lease(lease.id).await.unwrap(), Some(lease));

    let refusal = reader.commit(vec![], vec![record(2)]).await.unwrap_err();
    assert!(with_causes(&refusal).contains("reading only"), "{refusal:?}");
    assert!(reader.probe().await.is_err());
    drop(store);
    assert_eq!(audit(&reader).await.len(), 2);
    drop(reader);
    assert_eq!(audit(&SqliteStore::open_read_only(&path).unwrap()).await.len(), 2);
}

#[tokio::test]
async fn what_was_answered_is_there_after_reopening() {
    let (_directory, path) = place();
    let lease = intent("alice");
    let store = SqliteStore::open(&path).unwrap();
    opened(&store, &lease).await;
    let entries = audit(&store).await;
    drop(store);
    let store = SqliteStore::open(&path).unwrap();
    assert_eq!(store.lease(lease.id).await.unwrap(), Some(lease));
    assert_eq!(audit(&store).await, entries);
}

#[tokio::test]
async fn sql_cannot_change_an_audit_record() {
    let (_directory, path) = place();
    let store = SqliteStore::open(&path).unwrap();
    for number in 0..3 {
        store.commit(vec![], vec![record(number)]).await.unwrap();
    }
    let before = audit(&store).await;
    for sql in [
        "UPDATE audit SET record = '{}' WHERE seq = 1",
        "UPDATE audit SET seq = 9 WHERE seq = 3",
        "DELETE FROM audit WHERE seq = 3",
        "DELETE FROM audit",
        "INSERT OR REPLACE INTO audit (seq, at, record) VALUES (2, 0, '{}')",
        "REPLACE INTO audit (seq, at, record) VALUES (3, 0, '{}')",
        "INSERT INTO audit (seq, at, record) VALUES (9, 0, '{}')",
        "INSERT INTO audit (seq, at, record) VALUES (0, 0, '{}')",
        "INSERT INTO audit (at, record) VALUES (0, '{}')",
        "INSERT INTO audit (seq, at, record) VALUES (2, 0, '{}') \
         ON CONFLICT (seq) DO UPDATE SET record = '{}'",
    ] {
        assert!(shell(&path).execute_batch(sql).is_err(), "{sql}");
        assert_eq!(audit(&store).await, before, "{sql}");
    }
    store.commit(vec![], vec![record(3)]).await.unwrap();
    assert_eq!(audit(&store).await.len(), 4);
}

#[tokio::test]
async fn a_row_that_cannot_be_read_exactly_is_an_error_that_names_it() {
    let (_directory, path) = place();
    let store = SqliteStore::open(&path).unwrap();
    for (change, column) in [
        ("state = 'zombie'", "state"),
        ("state = 'Active'", "state"),
        ("cluster = 'NO'", "cluster"),
        ("role = 'pg_monitor'", "role"),
        ("principal = '{}'", "principal"),
        ("principal_key = 'ldap:corp:mallory'", "principal_key"),
        ("client = '1.2.3'", "client"),
        ("role_oid = -1", "role_oid"),
        ("owned_objects = 'hoard'", "owned_objects"),
        ("end_reason = 'bored'", "end_reason"),
    ] {
        let lease = intent("alice");
        opened(&store, &lease).await;
        shell(&path)
            .execute(&format!("UPDATE lease SET {change} WHERE id = ?1"), [lease.id.to_string()])
            .unwrap();
        let error = store.lease(lease.id).await.unwrap_err();
        let StoreError::Unreadable { what, .. } = error else { panic!("{error:?}") };
        assert!(what.contains(&lease.id.to_string()), "{what}");
        assert!(what.contains(&format!("column {column}:")), "{what}");
    }
    assert!(store.leases(&LeaseFilter::default()).await.is_err());
}

#[tokio::test]
async fn a_lease_that_cannot_be_read_keeps_no_other_from_its_end() {
    let (_directory, path) = place();
    let store = SqliteStore::open(&path).unwrap();
    for _ in 0..30 {
        opened(&store, &overdue(2)).await;
    }
    shell(&path).execute_batch("UPDATE lease SET principal = '{}'").unwrap();
    let other = overdue(1);
    opened(&store, &other).await;
    let by = claimant();
    assert_eq!(claim(&store, at(100), 9, by).await, [other]);
    shell(&path).execute_batch("UPDATE lease SET principal = '{}'").unwrap();
    let error = store.claim(&"orders".parse().unwrap(), at(100), 9, by).await.unwrap_err();
    assert!(matches!(error, StoreError::Unreadable { .. }), "{error:?}");
}

#[tokio::test]
async fn a_lease_in_an_unknown_state_is_in_no_list_and_hides_in_none() {
    let (_directory, path) = place();
    let store = SqliteStore::open(&path).unwrap();
    let lease = intent("alice");
    opened(&store, &lease).await;
    let active =
        LeaseFilter { states: vec![LeaseState::Active, LeaseState::Intent], ..Default::default() };
    assert_eq!(store.leases(&active).await.unwrap(), [lease]);
    shell(&path).execute_batch("UPDATE lease SET state = 'zombie'").unwrap();
    let error = store.leases(&active).await.unwrap_err();
    assert!(matches!(error, StoreError::Unreadable { .. }), "{error:?}");
}

#[test]
fn common_questions_are_answered_by_an_index() {
    let (_directory, path) = place();
    drop(SqliteStore::open(&path).unwrap());
    let shell = shell(&path);
    for (sql, index) in [
        (
            "SELECT * FROM lease WHERE cluster = 'a' AND due_at <= 1 ORDER BY due_at, id",
            "lease_due",
        ),
        (
            "SELECT * FROM lease WHERE principal_key = 'a' AND request_key = 'b' AND request_key \
             IS NOT NULL AND state IN ('intent', 'active')",
            "lease_live_key",
        ),
        (
            "SELECT * FROM lease WHERE state NOT IN \
             ('intent', 'active', 'revoking', 'quarantined', 'revoked', 'aborted') LIMIT 1",
            "lease_unknown",
        ),
        (
            "SELECT * FROM lease WHERE true AND cluster = ? AND state IN (NULL, ?, ?) \
             ORDER BY requested_at DESC, id DESC LIMIT ?",
            "lease_of_cluster",
        ),
        (
            "SELECT * FROM lease WHERE true AND principal_key = ? \
             ORDER BY requested_at DESC, id DESC LIMIT ?",
            "lease_of_person",
        ),
        ("SELECT * FROM lease WHERE true ORDER BY requested_at DESC, id DESC", "lease_by_age"),
        ("SELECT requested_at AS at FROM lease ORDER BY requested_at DESC LIMIT 1", "lease_by_age"),
        (
            "SELECT count(*) FILTER (WHERE state IN ('intent', 'active')), count(*) FROM lease \
             WHERE principal_key = ?1 AND cluster = ?2 AND role = ?3 AND state NOT IN ('revoked', 'aborted')",
            "lease_unfinished_of_person (principal_key=? AND cluster=? AND role=?)",
        ),
        (
            "SELECT * FROM lease INDEXED BY lease_live_of_person WHERE principal_key = ?1 \
             AND state IN ('intent', 'active') AND (cluster, role, id) > (?2, ?3, ?4) \
             ORDER BY cluster, role, id LIMIT ?5",
            "lease_live_of_person (principal_key=? AND (cluster,role,id)>(?,?,?))",
        ),
        (
            "SELECT principal_key FROM session \
             UNION SELECT principal_key FROM lease WHERE state IN ('intent', 'active')",
            "lease_live_of_person",
        ),
    ] {
        let mut plan = shell.prepare(&format!("EXPLAIN QUERY PLAN {sql}")).unwrap();
        let count = plan.parameter_count();
        let values = rusqlite::params_from_iter(vec![""; count]);
        let steps = plan.query_map(values, |row| row.get::<_, String>(3)).unwrap();
        let steps = steps.map(Result::unwrap).collect::<Vec<_>>().join("; ");
        assert!(steps.contains(index), "{sql}: {steps}");
    }
}

#[tokio::test]
async fn a_time_that_does_not_fit_is_refused_and_a_nanosecond_is_kept() {
    let (_directory, path) = place();
    let store = SqliteStore::open(&path).unwrap();
    let nanosecond = jiff::SignedDuration::from_nanos(1);
    let lease = Lease { requested_at: at(0) + nanosecond, ..intent("alice") };
    opened(&store, &lease).await;
    assert_eq!(store.lease(lease.id).await.unwrap(), Some(lease));

    let far = Lease { ceiling: Timestamp::MAX, ..intent("alice") };
    let change = Change::OpenLease(Box::new(far));
    let error = store.commit(vec![change], vec![record(0)]).await.unwrap_err();
    assert!(with_causes(&error).contains("2262"), "{error:?}");
    let error = store.commit(vec![], vec![Record { at: Timestamp::MAX, ..record(0) }]).await;
    assert!(error.is_err());
    assert_eq!(audit(&store).await.len(), 1);
}

#[tokio::test]
async fn a_store_that_another_program_has_locked_is_an_error_and_no_half_change() {
    let (_directory, path) = place();
    let limits = Limits { busy: Duration::from_millis(50), ..Limits::DEFAULT };
    let store = SqliteStore::open_within(&path, limits).unwrap();
    let shell = shell(&path);
    shell.execute_batch("BEGIN IMMEDIATE").unwrap();
    let lease = intent("alice");
    let open = || vec![Change::OpenLease(Box::new(lease.clone()))];
    let error = store.commit(open(), vec![record(0)]).await.unwrap_err();
    assert!(with_causes(&error).contains("locked"), "{}", with_causes(&error));
    assert_eq!(store.lease(lease.id).await.unwrap(), None, "reading goes on");
    shell.execute_batch("ROLLBACK").unwrap();
    store.commit(open(), vec![record(0)]).await.unwrap();
    assert_eq!(audit(&store).await.len(), 1);
}

#[tokio::test]
async fn a_queue_that_is_full_refuses_after_a_bounded_wait() {
    let (_directory, path) = place();
    let limits = Limits {
        queue: 1,
        busy: Duration::from_mins(1),
        begin_within: Duration::from_millis(100),
        answer_within: Duration::from_millis(200),
    };
    let store = SqliteStore::open_within(&path, limits).unwrap();
    let shell = shell(&path);
    shell.execute_batch("BEGIN IMMEDIATE").unwrap();
    // One is with the writer, one waits, and for the others there is no room.
    let commits = (0..4).map(|number| store.commit(vec![], vec![record(number)]));
    for answer in futures::future::join_all(commits).await {
        let told = with_causes(&answer.unwrap_err());
        assert!(told.contains("the disk is slow, or the store is locked"), "{told}");
    }
    shell.execute_batch("ROLLBACK").unwrap();
    // None of them had begun in time, so none happens behind the back of who was told so.
    drop(store);
    let store = SqliteStore::open(&path).unwrap();
    assert_eq!(audit(&store).await, []);
    store.commit(vec![], vec![record(9)]).await.unwrap();
    assert_eq!(audit(&store).await.len(), 1);
}
