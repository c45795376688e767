//! Rows as the types of the field, and back.
//!
//! Invariant: what cannot be read exactly is [`Problem::Unreadable`] and never guessed; an unknown
//! state is not a final one.

use std::fmt::Display;
use std::str::FromStr;

use jiff::Timestamp;
use rusqlite::Row;
use rusqlite::types::FromSql;
use serde::Serialize;
use serde::de::DeserializeOwned;
use serde_json::Value;

use super::problem::Problem;
use crate::auth::{Attempts, Identity, Session};
use crate::lease::{Blocker, KeyFingerprint, Lease, LiveLease};
use crate::names::{LeaseRoleName, Principal, RoleOid, TokenHash};
use crate::store::AuditEntry;

/// Every column of a lease that can be read into one.
macro_rules! lease_columns {
    () => {
        "id, version, state, principal, principal_key, cluster, database, role, role_name, \
         role_oid, requested_at, create_before, expires_at, ceiling, owned_objects, request_key, \
         reason, client, rule, map_revision, end_reason, access_ended_at, gone_at, attempts, \
         retry_at, blockers"
    };
}
pub(super) use lease_columns;

/// A time as its column holds it: whole nanoseconds since 1970-01-01 00:00 UTC.
pub(super) fn nanoseconds(at: Timestamp) -> Result<i64, Problem> {
    i64::try_from(at.as_nanosecond()).map_err(|_| Problem::Unwritable("a time after the year 2262"))
}

/// The same for a time that may be missing.
pub(super) fn nanoseconds_if(at: Option<Timestamp>) -> Result<Option<i64>, Problem> {
    at.map(nanoseconds).transpose()
}

/// A value that is one text in JSON, such as a state, as that text.
pub(super) fn word(value: &impl Serialize) -> Result<String, Problem> {
    match serde_json::to_value(value) {
        Ok(Value::String(text)) => Ok(text),
        _ => Err(Problem::Unwritable("a value that is no text")),
    }
}

/// A value as JSON.
pub(super) fn json(value: &impl Serialize) -> Result<String, Problem> {
    serde_json::to_string(value).map_err(|_| Problem::Unwritable("a value that is no JSON"))
}

/// Blockers as their column holds them: JSON, and nothing when there are none.
pub(super) fn blockers(blockers: &[Blocker]) -> Result<Option<String>, Problem> {
    (!blockers.is_empty()).then(|| json(&blockers)).transpose()
}

/// One row being read; `of` says which, for the reader of an error.
struct Columns<'row> {
    row: &'row Row<'row>,
    of: String,
}

impl Columns<'_> {
    fn unreadable(&self, column: &str, why: impl Display) -> Problem {
        Problem::Unreadable(format!("{}, column {column}: {why}", self.of))
    }

    fn get<T: FromSql>(&self, column: &str) -> Result<T, Problem> {
        self.row.get(column).map_err(|error| self.unreadable(column, error))
    }

    fn parsed<T: FromStr<Err: Display>>(&self, column: &str) -> Result<T, Problem> {
        let text: String = self.get(column)?;
        text.parse().map_err(|error| self.unreadable(column, error))
    }

    fn parsed_if<T: FromStr<Err: Display>>(&self, column: &str) -> Result<Option<T>, Problem> {
        let text: Option<String> = self.get(column)?;
        let parsed = text.map(|text| text.parse());
        parsed.transpose().map_err(|error| self.unreadable(column, error))
    }

    fn word<T: DeserializeOwned>(&self, column: &str) -> Result<T, Problem> {
        let text = Value::String(self.get(column)?);
        serde_json::from_value(text).map_err(|error| self.unreadable(column, error))
    }

    fn word_if<T: DeserializeOwned>(&self, column: &str) -> Result<Option<T>, Problem> {
        let text: Option<String> = self.get(column)?;
        let read = text.map(|text| serde_json::from_value(Value::String(text)));
        read.transpose().map_err(|error| self.unreadable(column, error))
    }

    fn json<T: DeserializeOwned>(&self, column: &str) -> Result<T, Problem> {
        let text: String = self.get(column)?;
        serde_json::from_str(&text).map_err(|error| self.unreadable(column, error))
    }

    fn json_if<T: DeserializeOwned>(&self, column: &str) -> Result<Option<T>, Problem> {
        let text: Option<String> = self.get(column)?;
        let read = text.map(|text| serde_json::from_str(&text));
        read.transpose().map_err(|error| self.unreadable(column, error))
    }

    fn time(&self, column: &str) -> Result<Timestamp, Problem> {
        let nanoseconds: i64 = self.get(column)?;
        Timestamp::from_nanosecond(i128::from(nanoseconds))
            .map_err(|error| self.unreadable(column, error))
    }

    fn time_if(&self, column: &str) -> Result<Option<Timestamp>, Problem> {
        let missing = self.get::<Option<i64>>(column)?.is_none();
        if missing { Ok(None) } else { self.time(column).map(Some) }
    }
}

/// A lease from the columns of `lease_columns!`.
pub(super) fn lease(row: &Row<'_>) -> Result<Lease, Problem> {
    let unnamed = Columns { row, of: "a lease".to_owned() };
    let id: String = unnamed.get("id")?;
    let columns = Columns { row, of: format!("lease {id}") };
    let lease = Lease {
        id: columns.parsed("id")?,
        version: columns.get("version")?,
        state: columns.word("state")?,
        principal: columns.json("principal")?,
        cluster: columns.parsed("cluster")?,
        database: columns.parsed("database")?,
        role: columns.parsed("role")?,
        role_name: columns.word::<LeaseRoleName>("role_name")?,
        role_oid: columns.get::<Option<u32>>("role_oid")?.map(RoleOid),
        requested_at: columns.time("requested_at")?,
        create_before: columns.time("create_before")?,
        expires_at: columns.time("expires_at")?,
        ceiling: columns.time("ceiling")?,
        owned_objects: columns.word("owned_objects")?,
        request_key: columns.parsed_if("request_key")?,
        reason: columns.get("reason")?,
        client: columns.parsed("client")?,
        rule: columns.json("rule")?,
        revision: columns.word("map_revision")?,
        end: columns.word_if("end_reason")?,
        access_ended_at: columns.time_if("access_ended_at")?,
        gone_at: columns.time_if("gone_at")?,
        attempts: columns.get("attempts")?,
        retry_at: columns.time_if("retry_at")?,
        blockers: columns.json_if("blockers")?.unwrap_or_default(),
    };
    // The key decides whose the lease is, the principal is what is shown: both or neither.
    if columns.get::<String>("principal_key")? == lease.principal.key() {
        Ok(lease)
    } else {
        Err(columns.unreadable("principal_key", "it is another person's"))
    }
}

/// A live lease from `id, version, state, role_oid, create_before`.
pub(super) fn live_lease(row: &Row<'_>) -> Result<LiveLease, Problem> {
    let unnamed = Columns { row, of: "a lease".to_owned() };
    let id: String = unnamed.get("id")?;
    let columns = Columns { row, of: format!("lease {id}") };
    Ok(LiveLease {
        id: columns.parsed("id")?,
        version: columns.get("version")?,
        state: columns.word("state")?,
        role_oid: columns.get::<Option<u32>>("role_oid")?.map(RoleOid),
        create_before: columns.time("create_before")?,
        expires_at: columns.time("expires_at")?,
    })
}

/// A principal from `principal_key`.
pub(super) fn principal(row: &Row<'_>) -> Result<Principal, Problem> {
    let columns = Columns { row, of: "a lease or session".to_owned() };
    let key: String = columns.get("principal_key")?;
    Principal::of_key(&key).ok_or_else(|| columns.unreadable("principal_key", "it is nobody's"))
}

/// A session from `id, identity, seen_at`, found by `token_hash`.
pub(super) fn session(row: &Row<'_>, token_hash: TokenHash) -> Result<Session, Problem> {
    let columns = Columns { row, of: "a session".to_owned() };
    let identity: String = columns.get("identity")?;
    let identity = Identity::from_session_json(&identity);
    Ok(Session {
        id: columns.parsed("id")?,
        token_hash,
        identity: identity.map_err(|error| columns.unreadable("identity", error))?,
        seen_at: columns.time("seen_at")?,
    })
}

/// A counter from `count, since, locked_until`.
pub(super) fn attempts(row: &Row<'_>) -> Result<Attempts, Problem> {
    let columns = Columns { row, of: "a counter of attempts".to_owned() };
    Ok(Attempts {
        count: columns.get("count")?,
        since: columns.time("since")?,
        locked_until: columns.time_if("locked_until")?,
    })
}

/// An audit record from `seq, record`.
pub(super) fn audit_entry(row: &Row<'_>) -> Result<AuditEntry, Problem> {
    let columns = Columns { row, of: "an audit record".to_owned() };
    let seq: i64 = columns.get("seq")?;
    let seq = u64::try_from(seq).map_err(|error| columns.unreadable("seq", error))?;
    Ok(AuditEntry { seq, json: columns.get("record")? })
}

/// The time of an audit record from `at`.
pub(super) fn audit_time(row: &Row<'_>) -> Result<Timestamp, Problem> {
    Columns { row, of: "an audit record".to_owned() }.time("at")
}

/// The fingerprint of the marker key from `fingerprint`.
pub(super) fn fingerprint(row: &Row<'_>) -> Result<KeyFingerprint, Problem> {
    Columns { row, of: "the marker key".to_owned() }.parsed("fingerprint")
}
