//! What the writer does inside one savepoint. Each function here either does all of its work or
//! returns an error, after which the writer takes back whatever was done.

use jiff::Timestamp;
use rusqlite::ffi::{SQLITE_CONSTRAINT_PRIMARYKEY, SQLITE_CONSTRAINT_UNIQUE};
use rusqlite::{Connection, named_params, params};
use uuid::Uuid;

use super::problem::Problem;
use super::reads;
use super::rows::{nanoseconds, nanoseconds_if};
use crate::audit::Record;
use crate::auth::{Admission, Attempts, LockoutRule, Session, SessionTimes};
use crate::lease::{EndReason, KeyFingerprint, Lease};
use crate::names::RequestKey;
use crate::store::refusal::Refusal;
use crate::store::rows::{self, json, word};
use crate::store::{
    Change, ENDING_MOST, Login, ON_ITS_WAY, OneTimeValue, Room, SWEEP_ROWS, StoredMap,
};

/// All changes and all records, at least one record.
pub(super) fn commit(
    connection: &Connection,
    changes: &[Change],
    records: &[Record],
) -> Result<(), Problem> {
    if records.is_empty() {
        return Err(Refusal::NoRecord.into());
    }
    for change in changes {
        make(connection, change)?;
    }
    for record in records {
        append(connection, record)?;
    }
    Ok(())
}

fn make(connection: &Connection, change: &Change) -> Result<(), Problem> {
    match change {
        Change::OpenLease(lease) => open_lease(connection, lease),
        Change::MoveLease(lease) => move_lease(connection, lease),
        Change::BeginSession(session) => begin_session(connection, session),
        Change::EndSession(id) => end_session(connection, *id),
        Change::NeedLogin(login) => need_login(connection, login),
        Change::NeedRoom(room) => need_room(connection, room),
        Change::EndLoginsOf { person, at } => end_logins_of(connection, person, *at),
        Change::ClearAttempts(counter) => clear_attempts(connection, counter),
        Change::KeepMap(map) => keep_map(connection, map),
        Change::GiveBackAttempt(counter) => give_back_attempt(connection, counter),
    }
}

fn open_lease(connection: &Connection, lease: &Lease) -> Result<(), Problem> {
    let mut statement = connection.prepare_cached(concat!(
        "INSERT INTO lease (",
        rows::lease_columns!(),
        ") VALUES (:id, :version, :state, :principal, :principal_key, :account_id, :cluster, :database, :role, \
         :role_name, :role_oid, :requested_at, :create_before, :expires_at, :ceiling, \
         :owned_objects, :request_key, :reason, :client, :rule, :map_revision, :because, \
         :end_reason, :access_ended_at, :gone_at, :attempts, :retry_at, :blockers)"
    ))?;
    let inserted = statement.execute(named_params! {
        ":id": lease.id.to_string(),
        ":version": lease.version,
        ":state": lease.state.as_str(),
        ":principal": json(&lease.principal)?,
        ":principal_key": lease.principal.key(),
        ":account_id": lease.account_id.map(|id| id.to_string()),
        ":cluster": lease.cluster.as_str(),
        ":database": lease.database.as_str(),
        ":role": lease.role.as_str(),
        ":role_name": lease.role_name.as_str(),
        ":role_oid": lease.role_oid.map(|oid| oid.0),
        ":requested_at": nanoseconds(lease.requested_at)?,
        ":create_before": nanoseconds(lease.create_before)?,
        ":expires_at": nanoseconds(lease.expires_at)?,
        ":ceiling": nanoseconds(lease.ceiling)?,
        ":owned_objects": word(&lease.owned_objects)?,
        ":request_key": lease.request_key.as_ref().map(RequestKey::as_str),
        ":reason": lease.reason,
        ":client": lease.client.to_string(),
        ":rule": json(&lease.rule)?,
        ":map_revision": word(&lease.revision)?,
        ":because": lease.because.as_ref().map(json).transpose()?,
        ":end_reason": lease.end.map(EndReason::as_str),
        ":access_ended_at": nanoseconds_if(lease.access_ended_at)?,
        ":gone_at": nanoseconds_if(lease.gone_at)?,
        ":attempts": lease.attempts,
        ":retry_at": nanoseconds_if(lease.retry_at)?,
        ":blockers": rows::blockers(&lease.blockers)?,
    });
    inserted.map(drop).map_err(|error| conflict(lease, error))
}

/// Writes what a move may change, and nothing else: whose a lease is and for what stays.
fn move_lease(connection: &Connection, lease: &Lease) -> Result<(), Problem> {
    let mut statement = connection.prepare_cached(
        "UPDATE lease SET version = :version, state = :state, role_oid = :role_oid, \
         expires_at = :expires_at, end_reason = :end_reason, \
         access_ended_at = :access_ended_at, gone_at = :gone_at, attempts = :attempts, \
         retry_at = :retry_at, blockers = :blockers \
         WHERE id = :id AND version = :version - 1",
    )?;
    let updated = statement.execute(named_params! {
        ":id": lease.id.to_string(),
        ":version": lease.version,
        ":state": lease.state.as_str(),
        ":role_oid": lease.role_oid.map(|oid| oid.0),
        ":expires_at": nanoseconds(lease.expires_at)?,
        ":end_reason": lease.end.map(EndReason::as_str),
        ":access_ended_at": nanoseconds_if(lease.access_ended_at)?,
        ":gone_at": nanoseconds_if(lease.gone_at)?,
        ":attempts": lease.attempts,
        ":retry_at": nanoseconds_if(lease.retry_at)?,
        ":blockers": rows::blockers(&lease.blockers)?,
    });
    match updated {
        Ok(1) => Ok(()),
        Ok(_) => Err(Refusal::Moved(lease.id).into()),
        Err(error) => Err(conflict(lease, error)),
    }
}

/// A lease has two things that must be its own: its id, and its live request key.
fn conflict(lease: &Lease, error: rusqlite::Error) -> Problem {
    match error.sqlite_error().map(|error| error.extended_code) {
        Some(SQLITE_CONSTRAINT_PRIMARYKEY) => Refusal::Moved(lease.id).into(),
        Some(SQLITE_CONSTRAINT_UNIQUE) => Refusal::KeyTaken.into(),
        _ => Problem::Engine(error),
    }
}

fn begin_session(connection: &Connection, session: &Session) -> Result<(), Problem> {
    let mut statement = connection.prepare_cached(
        "INSERT INTO session (id, token_hash, identity, authenticated_at, expires_at, seen_at, \
         principal_key, principal_text) VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8)",
    )?;
    statement.execute(params![
        session.id.to_string(),
        session.token_hash.as_str(),
        rows::identity(session)?,
        nanoseconds(session.identity.authenticated_at())?,
        nanoseconds(session.identity.expires_at())?,
        nanoseconds(session.seen_at)?,
        session.identity.principal().key(),
        session.identity.principal().to_string(),
    ])?;
    Ok(())
}

fn need_login(connection: &Connection, login: &Login) -> Result<(), Problem> {
    if let Some(session) = login.session {
        let mut sessions = connection.prepare_cached("SELECT 1 FROM session WHERE id = ?1")?;
        if !sessions.exists([session.to_string()])? {
            return Err(Refusal::LoginEnded.into());
        }
    }
    let mut ended = connection
        .prepare_cached("SELECT 1 FROM logins_ended WHERE person IN (?1, ?2) AND at > ?3")?;
    let (key, text) = (login.principal.key(), login.principal.to_string());
    if ended.exists(params![key, text, nanoseconds(login.authenticated_at)?])? {
        return Err(Refusal::LoginEnded.into());
    }
    Ok(())
}

fn need_room(connection: &Connection, room: &Room) -> Result<(), Problem> {
    let mut live = connection.prepare_cached(
        "SELECT count(*) FILTER (WHERE state IN ('intent', 'active')), count(*) FROM lease \
         WHERE principal_key = ?1 AND cluster = ?2 AND role = ?3 AND state NOT IN ('revoked', 'aborted')",
    )?;
    let Room { principal, cluster, role, most } = room;
    let of = params![principal.key(), cluster.as_str(), role.as_str()];
    let (live, all): (i64, i64) = live.query_row(of, |row| Ok((row.get(0)?, row.get(1)?)))?;
    let most_live = i64::from(most.get());
    let is_room = live < most_live && all < most_live + i64::from(ENDING_MOST);
    if is_room { Ok(()) } else { Err(Refusal::TooMany(*most).into()) }
}

fn end_logins_of(connection: &Connection, person: &str, at: Timestamp) -> Result<(), Problem> {
    let mut sessions = connection
        .prepare_cached("DELETE FROM session WHERE principal_key = ?1 OR principal_text = ?1")?;
    sessions.execute([person])?;
    let mut ended = connection.prepare_cached(
        "INSERT INTO logins_ended (person, at) VALUES (?1, ?2) \
         ON CONFLICT (person) DO UPDATE SET at = max(at, excluded.at)",
    )?;
    ended.execute(params![person, nanoseconds(at)?])?;
    Ok(())
}

fn end_session(connection: &Connection, id: Uuid) -> Result<(), Problem> {
    let mut statement = connection.prepare_cached("DELETE FROM session WHERE id = ?1")?;
    statement.execute([id.to_string()])?;
    Ok(())
}

/// Notes that a session was used; one that has ended stays ended, and time does not run backwards.
pub(super) fn touch_session(
    connection: &Connection,
    id: Uuid,
    seen_at: Timestamp,
) -> Result<(), Problem> {
    let mut statement = connection
        .prepare_cached("UPDATE session SET seen_at = ?2 WHERE id = ?1 AND seen_at < ?2")?;
    statement.execute(params![id.to_string(), nanoseconds(seen_at)?])?;
    Ok(())
}

/// Asks every counter and counts for all of them, or for none when one refuses.
pub(super) fn admit(
    connection: &Connection,
    counters: &[(String, LockoutRule)],
    now: Timestamp,
) -> Result<Vec<Admission>, Problem> {
    let ask = |(counter, rule): &(String, LockoutRule)| {
        let attempts = attempts(connection, counter)?.unwrap_or_else(|| Attempts::none(now));
        Ok(attempts.admit(now, *rule))
    };
    let admissions = counters.iter().map(ask).collect::<Result<Vec<_>, Problem>>()?;
    let refused = admissions.iter().any(|admission| matches!(admission, Admission::Locked { .. }));
    if !refused {
        for ((counter, rule), admission) in counters.iter().zip(&admissions) {
            if let Admission::Admitted(attempts) = admission {
                write_attempts(connection, counter, attempts, attempts.over_at(*rule))?;
            }
        }
    }
    Ok(admissions)
}

fn attempts(connection: &Connection, counter: &str) -> Result<Option<Attempts>, Problem> {
    let mut statement = connection.prepare_cached(
        "SELECT counter, count, since, locked_until FROM attempts WHERE counter = ?1",
    )?;
    let mut found = statement.query([counter])?;
    match found.next()? {
        Some(row) => Ok(Some(rows::attempts(row)?.1)),
        None => Ok(None),
    }
}

fn write_attempts(
    connection: &Connection,
    counter: &str,
    attempts: &Attempts,
    over_at: Timestamp,
) -> Result<(), Problem> {
    let mut statement = connection.prepare_cached(
        "INSERT INTO attempts (counter, count, since, locked_until, over_at) \
         VALUES (?1, ?2, ?3, ?4, ?5) \
         ON CONFLICT (counter) DO UPDATE SET count = excluded.count, since = excluded.since, \
         locked_until = excluded.locked_until, over_at = excluded.over_at",
    )?;
    statement.execute(params![
        counter,
        attempts.count,
        nanoseconds(attempts.since)?,
        nanoseconds_if(attempts.locked_until)?,
        nanoseconds(over_at)?,
    ])?;
    Ok(())
}

fn clear_attempts(connection: &Connection, counter: &str) -> Result<(), Problem> {
    let mut statement = connection.prepare_cached("DELETE FROM attempts WHERE counter = ?1")?;
    statement.execute([counter])?;
    Ok(())
}

fn keep_map(connection: &Connection, map: &StoredMap) -> Result<(), Problem> {
    let mut statement = connection.prepare_cached(
        "INSERT INTO map_revision (revision, postgres, text, first_used_at) \
         VALUES (?1, ?2, ?3, ?4) ON CONFLICT (revision) DO NOTHING",
    )?;
    statement.execute(params![
        word(&map.revision)?,
        map.dialect.major(),
        json(&map.text)?,
        nanoseconds(map.first_used_at)?,
    ])?;
    Ok(())
}

/// A counter that is gone has nothing to give back to.
fn give_back_attempt(connection: &Connection, counter: &str) -> Result<(), Problem> {
    let Some(attempts) = attempts(connection, counter)?.map(Attempts::give_back) else {
        return Ok(());
    };
    let mut statement = connection
        .prepare_cached("UPDATE attempts SET count = ?2, locked_until = ?3 WHERE counter = ?1")?;
    let locked_until = nanoseconds_if(attempts.locked_until)?;
    statement.execute(params![counter, attempts.count, locked_until])?;
    Ok(())
}

/// Accepts a value whose time is not over, if it is new or an older use of it is over.
pub(super) fn spend(
    connection: &Connection,
    value: &OneTimeValue,
    until: Timestamp,
    now: Timestamp,
) -> Result<bool, Problem> {
    if until <= now {
        return Ok(false);
    }
    let mut statement = connection.prepare_cached(
        "INSERT INTO spent (kind, hash, until) VALUES (?1, ?2, ?3) \
         ON CONFLICT (kind, hash) DO UPDATE SET until = excluded.until WHERE until <= ?4",
    )?;
    let values = params![value.kind, value.hash, nanoseconds(until)?, nanoseconds(now)?];
    Ok(statement.execute(values)? == 1)
}

/// Puts the marker key of `offered` in force if there is none, and gives the one in force.
pub(super) fn marker_key(
    connection: &Connection,
    offered: &KeyFingerprint,
) -> Result<Option<KeyFingerprint>, Problem> {
    let mut statement = connection
        .prepare_cached("INSERT OR IGNORE INTO marker_key (id, fingerprint) VALUES (1, ?1)")?;
    statement.execute([offered.as_str()])?;
    reads::marker_key(connection)
}

/// Removes what [`Session::end_at`] calls over at `now`, and what else is over.
pub(super) fn sweep(
    connection: &Connection,
    now: Timestamp,
    times: SessionTimes,
) -> Result<(), Problem> {
    let mut sessions = connection.prepare_cached(
        "DELETE FROM session WHERE id IN (SELECT id FROM session \
         WHERE expires_at <= :now OR authenticated_at <= :oldest OR seen_at <= :idle \
         LIMIT :rows)",
    )?;
    sessions.execute(named_params! {
        ":now": nanoseconds(now)?,
        ":oldest": nanoseconds(now - times.absolute.span())?,
        ":idle": nanoseconds(now - times.idle.span())?,
        ":rows": SWEEP_ROWS,
    })?;
    let mut counters = connection.prepare_cached(
        "DELETE FROM attempts WHERE counter IN \
         (SELECT counter FROM attempts WHERE over_at <= ?1 LIMIT ?2)",
    )?;
    counters.execute(params![nanoseconds(now)?, SWEEP_ROWS])?;
    let mut ended = connection.prepare_cached(
        "DELETE FROM logins_ended WHERE person IN \
         (SELECT person FROM logins_ended WHERE at <= ?1 LIMIT ?2)",
    )?;
    ended.execute(params![nanoseconds(now - ON_ITS_WAY)?, SWEEP_ROWS])?;
    let mut spent = connection.prepare_cached(
        "DELETE FROM spent WHERE (kind, hash) IN \
         (SELECT kind, hash FROM spent WHERE until <= ?1 LIMIT ?2)",
    )?;
    spent.execute(params![nanoseconds(now)?, SWEEP_ROWS])?;
    Ok(())
}

/// Writes one audit record under the next number.
fn append(connection: &Connection, record: &Record) -> Result<(), Problem> {
    let mut statement = connection.prepare_cached(
        "INSERT INTO audit (seq, at, record) \
         VALUES ((SELECT coalesce(max(seq), 0) + 1 FROM audit), ?1, ?2)",
    )?;
    statement.execute(params![nanoseconds(record.at)?, json(record)?])?;
    Ok(())
}

/// Writes something harmless.
pub(super) fn probe(connection: &Connection) -> Result<(), Problem> {
    let mut statement =
        connection.prepare_cached("UPDATE probe SET count = count + 1 WHERE id = 1")?;
    statement.execute([])?;
    Ok(())
}
