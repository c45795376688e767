//! Connections as we want them, and the schema they need.

use std::path::Path;
use std::time::Duration;

use rusqlite::config::DbConfig;
use rusqlite::{Connection, ErrorCode, OpenFlags};

use super::file::OpenError;

/// `PRAGMA application_id` of our files: `pgbr`. Tells our files from others.
const APPLICATION_ID: u32 = 0x7067_6272;

/// The steps of the schema, in order; the number of steps done is `PRAGMA user_version`. A step
/// that was released is never changed.
const MIGRATIONS: [&str; 5] = [
    include_str!("../migrations/sqlite/0001_leases_sessions_audit.sql"),
    include_str!("../migrations/sqlite/0002_maps.sql"),
    include_str!("../migrations/sqlite/0003_map_in_force.sql"),
    include_str!("../migrations/sqlite/0004_map_compared.sql"),
    include_str!("../migrations/sqlite/0005_account_id.sql"),
];

/// Prepared statements that one connection keeps.
const STATEMENTS: usize = 64;

/// Opens the existing file for the writer, looks through it for damage and brings its schema up
/// to date.
pub(super) fn open_writer(path: &Path, busy: Duration) -> Result<Connection, OpenError> {
    let mut connection = connect(path, OpenFlags::SQLITE_OPEN_READ_WRITE, busy)?;
    let version = version(&connection)?;
    check_whole(&connection)?;
    let mode: String =
        connection.pragma_update_and_check(None, "journal_mode", "wal", |row| row.get(0))?;
    if mode != "wal" {
        return Err(OpenError::NoWriteAheadLog { mode });
    }
    connection.pragma_update(None, "synchronous", "full")?;
    // The writer does its own checkpoints: SQLite's automatic ones swallow errors of the disk.
    connection.pragma_update(None, "wal_autocheckpoint", 0)?;
    connection.pragma_update(None, "journal_size_limit", 64 * 1024 * 1024)?;
    migrate(&mut connection, version)?;
    Ok(connection)
}

/// Opens the existing file for reading, beside its writer or without one.
pub(super) fn open_reader(path: &Path, busy: Duration) -> Result<Connection, OpenError> {
    let connection = connect(path, OpenFlags::SQLITE_OPEN_READ_ONLY, busy)?;
    let (found, known) = (version(&connection)?, known_version());
    if found < known {
        return Err(OpenError::TooOld { found, known });
    }
    Ok(connection)
}

fn connect(path: &Path, access: OpenFlags, busy: Duration) -> Result<Connection, OpenError> {
    let flags = access | OpenFlags::SQLITE_OPEN_NO_MUTEX | OpenFlags::SQLITE_OPEN_NOFOLLOW;
    let connection = Connection::open_with_flags(path, flags)?;
    connection.busy_timeout(busy)?;
    connection.set_prepared_statement_cache_capacity(STATEMENTS);
    connection.set_db_config(DbConfig::SQLITE_DBCONFIG_DEFENSIVE, true)?;
    connection.set_db_config(DbConfig::SQLITE_DBCONFIG_TRUSTED_SCHEMA, false)?;
    connection.pragma_update(None, "foreign_keys", true)?;
    Ok(connection)
}

fn known_version() -> u32 {
    u32::try_from(MIGRATIONS.len()).unwrap_or(u32::MAX)
}

/// The schema's version in the file, 0 for an empty one.
fn version(connection: &Connection) -> Result<u32, OpenError> {
    let application: u32 = pragma(connection, "application_id")?;
    let found: u32 = pragma(connection, "user_version")?;
    let known = known_version();
    if application != APPLICATION_ID {
        let tables: u32 =
            connection.query_row("SELECT count(*) FROM sqlite_schema", [], |row| row.get(0))?;
        if application == 0 && found == 0 && tables == 0 {
            return Ok(0);
        }
        return Err(OpenError::Alien { found: "a database of another program".to_owned() });
    }
    if found > known { Err(OpenError::TooNew { found, known }) } else { Ok(found) }
}

/// Reads a number from the header; the first one reads the file at all, and so finds out whether
/// it is a database.
fn pragma(connection: &Connection, name: &str) -> Result<u32, OpenError> {
    let read = connection.pragma_query_value(None, name, |row| row.get::<_, i64>(0));
    let number = read.map_err(|error| match error.sqlite_error_code() {
        Some(ErrorCode::NotADatabase) => {
            OpenError::Alien { found: "not an SQLite database".to_owned() }
        }
        Some(ErrorCode::DatabaseCorrupt) => OpenError::Damaged { found: error.to_string() },
        _ => OpenError::Engine(error),
    })?;
    u32::try_from(number).map_err(|_| OpenError::Alien { found: format!("its {name} is {number}") })
}

/// Looks through the whole file, the indexes too: what is due is found by an index alone, so a lease
/// that is missing there would never end. Takes about a second for 100,000 leases.
fn check_whole(connection: &Connection) -> Result<(), OpenError> {
    let checked = connection.query_row("PRAGMA integrity_check(1)", [], |row| row.get(0));
    let found: String = checked.or_else(|error| match error.sqlite_error_code() {
        Some(ErrorCode::DatabaseCorrupt | ErrorCode::NotADatabase) => Ok(error.to_string()),
        _ => Err(error),
    })?;
    if found == "ok" { Ok(()) } else { Err(OpenError::Damaged { found }) }
}

fn migrate(connection: &mut Connection, from: u32) -> Result<(), OpenError> {
    let steps = (1_u32..).zip(MIGRATIONS).filter(|(number, _)| *number > from);
    for (number, step) in steps {
        let transaction = connection.transaction()?;
        transaction.execute_batch(step)?;
        transaction.pragma_update(None, "application_id", APPLICATION_ID)?;
        transaction.pragma_update(None, "user_version", number)?;
        transaction.commit()?;
    }
    Ok(())
}
