//! Rows as the types of the field, and back, whatever engine keeps them.
//!
//! Invariant: what cannot be read exactly is [`Refusal::Unreadable`] and never guessed; an unknown
//! state is not a final one.

use std::convert::Infallible;
use std::fmt::Display;
use std::str::FromStr;

use jiff::Timestamp;
use serde::Serialize;
use serde::de::DeserializeOwned;
use serde_json::Value;

use super::refusal::Refusal;
use super::{AuditEntry, StoredMap};
use crate::audit::Record;
use crate::auth::{Attempts, Identity, Session};
use crate::lease::{Blocker, KeyFingerprint, Lease, LiveLease};
use crate::mapping::{Dialect, MapRevision};
use crate::names::{LeaseRoleName, Principal, RoleOid, TokenHash};

/// Every column of a lease that can be read into one.
macro_rules! lease_columns {
    () => {
        "id, version, state, principal, principal_key, account_id, cluster, database, role, role_name, \
         role_oid, requested_at, create_before, expires_at, ceiling, owned_objects, request_key, \
         reason, client, rule, map_revision, because, end_reason, access_ended_at, gone_at, \
         attempts, retry_at, blockers"
    };
}
pub(super) use lease_columns;

/// A value that is one text in JSON, such as a state, as that text.
pub(super) fn word(value: &impl Serialize) -> Result<String, Refusal> {
    match serde_json::to_value(value) {
        Ok(Value::String(text)) => Ok(text),
        _ => Err(Refusal::Unwritable("a value that is no text")),
    }
}

/// A value as JSON, which has its own way to write a NUL.
pub(super) fn json(value: &impl Serialize) -> Result<String, Refusal> {
    serde_json::to_string(value).map_err(|_| Refusal::Unwritable("a value that is no JSON"))
}

/// Who a session remembers, as its column holds them.
pub(super) fn identity(session: &Session) -> Result<String, Refusal> {
    let json = session.identity.to_session_json();
    json.map_err(|_| Refusal::Unwritable("an identity that is no JSON"))
}

/// Blockers as their column holds them: JSON, and nothing when there are none.
pub(super) fn blockers(blockers: &[Blocker]) -> Result<Option<String>, Refusal> {
    (!blockers.is_empty()).then(|| json(&blockers)).transpose()
}

/// A row of an engine. Each function gives nothing for NULL, and an error that says why for a
/// column that is missing or of another kind.
pub(super) trait Row {
    /// A text as it is kept.
    fn kept(&self, column: &str) -> Result<Option<&str>, String>;

    /// What a text that is `kept` means; nothing when it means nothing.
    fn meant(&self, kept: &str) -> Option<String>;

    /// A whole number.
    fn number(&self, column: &str) -> Result<Option<i64>, String>;

    /// The OID of a role.
    fn oid(&self, column: &str) -> Result<Option<u32>, String>;

    /// A time in the engine's own form.
    fn time(&self, column: &str) -> Result<Option<Timestamp>, String>;
}

/// The first of the leases that are due, as far as they can be read. One that cannot keeps no other
/// from its end; whoever lists or compares leases is told of it.
pub(super) struct Due {
    asked: usize,
    leases: Vec<Lease>,
    refused: Vec<Refusal>,
}

impl Due {
    /// What came of asking for `asked` at most.
    pub(super) fn read(asked: u32, rows: impl IntoIterator<Item = Result<Lease, Refusal>>) -> Self {
        let (mut leases, mut refused) = (Vec::new(), Vec::new());
        for row in rows {
            match row {
                Ok(lease) => leases.push(lease),
                Err(refusal) => refused.push(refusal),
            }
        }
        Self { asked: asked as usize, leases, refused }
    }

    /// How many to ask for instead where `wanted` are wanted, if what cannot be read may stand
    /// before others.
    pub(super) fn more(&self, wanted: u32) -> Option<u32> {
        let is_cut = self.leases.len() + self.refused.len() >= self.asked;
        let is_short = !self.refused.is_empty() && self.leases.len() < wanted as usize;
        (is_cut && is_short).then(|| u32::try_from(self.asked * 2).unwrap_or(u32::MAX))
    }

    /// At most `wanted` of them.
    ///
    /// # Errors
    /// When there are some, and none can be read: why the first one cannot.
    pub(super) fn leases(mut self, wanted: u32) -> Result<Vec<Lease>, Refusal> {
        if self.leases.is_empty() && !self.refused.is_empty() {
            return Err(self.refused.swap_remove(0));
        }
        self.leases.truncate(wanted as usize);
        Ok(self.leases)
    }
}

/// One row being read; `of` says which, for the reader of an error.
struct Columns<'row> {
    row: &'row dyn Row,
    of: String,
}

/// The columns of a lease, which is named by its id from then on.
fn of_lease(row: &dyn Row) -> Result<Columns<'_>, Refusal> {
    let unnamed = Columns { row, of: "a lease".to_owned() };
    let id: String = unnamed.parsed("id")?;
    Ok(Columns { row, of: format!("lease {id}") })
}

impl Columns<'_> {
    fn unreadable(&self, column: &str, why: impl Display) -> Refusal {
        Refusal::Unreadable(format!("{}, column {column}: {why}", self.of))
    }

    fn there<T>(&self, column: &str, value: Option<T>) -> Result<T, Refusal> {
        value.ok_or_else(|| self.unreadable(column, "it is missing"))
    }

    /// A text that `read` makes something of.
    fn read_if<T, E: Display>(
        &self,
        column: &str,
        read: impl FnOnce(&str) -> Result<T, E>,
    ) -> Result<Option<T>, Refusal> {
        let kept = self.row.kept(column).map_err(|why| self.unreadable(column, why))?;
        kept.map(read).transpose().map_err(|why| self.unreadable(column, why))
    }

    fn text_if(&self, column: &str) -> Result<Option<String>, Refusal> {
        self.read_if(column, |kept| self.row.meant(kept).ok_or("it was never written like this"))
    }

    fn text(&self, column: &str) -> Result<String, Refusal> {
        self.there(column, self.text_if(column)?)
    }

    fn parsed_if<T: FromStr<Err: Display>>(&self, column: &str) -> Result<Option<T>, Refusal> {
        self.read_if(column, str::parse)
    }

    fn parsed<T: FromStr<Err: Display>>(&self, column: &str) -> Result<T, Refusal> {
        self.there(column, self.parsed_if(column)?)
    }

    fn word_if<T: DeserializeOwned>(&self, column: &str) -> Result<Option<T>, Refusal> {
        self.read_if(column, |word| serde_json::from_value(Value::String(word.to_owned())))
    }

    fn word<T: DeserializeOwned>(&self, column: &str) -> Result<T, Refusal> {
        self.there(column, self.word_if(column)?)
    }

    fn json_if<T: DeserializeOwned>(&self, column: &str) -> Result<Option<T>, Refusal> {
        self.read_if(column, |json| serde_json::from_str(json))
    }

    fn json<T: DeserializeOwned>(&self, column: &str) -> Result<T, Refusal> {
        self.there(column, self.json_if(column)?)
    }

    fn number<T: TryFrom<i64, Error: Display>>(&self, column: &str) -> Result<T, Refusal> {
        let number = self.row.number(column).map_err(|why| self.unreadable(column, why))?;
        let number = self.there(column, number)?;
        T::try_from(number).map_err(|why| self.unreadable(column, why))
    }

    fn oid_if(&self, column: &str) -> Result<Option<RoleOid>, Refusal> {
        let oid = self.row.oid(column).map_err(|why| self.unreadable(column, why))?;
        Ok(oid.map(RoleOid))
    }

    fn time_if(&self, column: &str) -> Result<Option<Timestamp>, Refusal> {
        self.row.time(column).map_err(|why| self.unreadable(column, why))
    }

    fn time(&self, column: &str) -> Result<Timestamp, Refusal> {
        self.there(column, self.time_if(column)?)
    }
}

/// A lease from the columns of `lease_columns!`.
pub(super) fn lease(row: &dyn Row) -> Result<Lease, Refusal> {
    let columns = of_lease(row)?;
    let lease = Lease {
        id: columns.parsed("id")?,
        version: columns.number("version")?,
        state: columns.word("state")?,
        principal: columns.json("principal")?,
        account_id: columns.parsed_if("account_id")?,
        cluster: columns.parsed("cluster")?,
        database: columns.parsed("database")?,
        role: columns.parsed("role")?,
        role_name: columns.word::<LeaseRoleName>("role_name")?,
        role_oid: columns.oid_if("role_oid")?,
        requested_at: columns.time("requested_at")?,
        create_before: columns.time("create_before")?,
        expires_at: columns.time("expires_at")?,
        ceiling: columns.time("ceiling")?,
        owned_objects: columns.word("owned_objects")?,
        request_key: columns.parsed_if("request_key")?,
        reason: columns.text_if("reason")?,
        client: columns.parsed("client")?,
        rule: columns.json("rule")?,
        revision: columns.word("map_revision")?,
        because: columns.json_if("because")?,
        end: columns.word_if("end_reason")?,
        access_ended_at: columns.time_if("access_ended_at")?,
        gone_at: columns.time_if("gone_at")?,
        attempts: columns.number("attempts")?,
        retry_at: columns.time_if("retry_at")?,
        blockers: columns.json_if("blockers")?.unwrap_or_default(),
    };
    // The key decides whose the lease is, the principal is what is shown: both or neither.
    if columns.text("principal_key")? == lease.principal.key() {
        Ok(lease)
    } else {
        Err(columns.unreadable("principal_key", "it is another person's"))
    }
}

/// A live lease from `id, version, state, role_oid, create_before, expires_at`.
pub(super) fn live_lease(row: &dyn Row) -> Result<LiveLease, Refusal> {
    let columns = of_lease(row)?;
    Ok(LiveLease {
        id: columns.parsed("id")?,
        version: columns.number("version")?,
        state: columns.word("state")?,
        role_oid: columns.oid_if("role_oid")?,
        create_before: columns.time("create_before")?,
        expires_at: columns.time("expires_at")?,
    })
}

/// A principal from `principal_key`.
pub(super) fn principal(row: &dyn Row) -> Result<Principal, Refusal> {
    let columns = Columns { row, of: "a lease or session".to_owned() };
    let key = columns.text("principal_key")?;
    Principal::of_key(&key).ok_or_else(|| columns.unreadable("principal_key", "it is nobody's"))
}

/// A revision of the map from `revision, postgres, text, first_used_at`.
pub(super) fn stored_map(row: &dyn Row) -> Result<StoredMap, Refusal> {
    let columns = Columns { row, of: "a revision of the map".to_owned() };
    let dialect = Dialect::try_from(columns.number::<u32>("postgres")?);
    Ok(StoredMap {
        revision: columns.word("revision")?,
        dialect: dialect.map_err(|why| columns.unreadable("postgres", why))?,
        text: columns.json("text")?,
        first_used_at: columns.time("first_used_at")?,
    })
}

/// Only its `revision`.
pub(super) fn map_revision(row: &dyn Row) -> Result<MapRevision, Refusal> {
    Columns { row, of: "a revision of the map".to_owned() }.word("revision")
}

/// A session from `id, identity, seen_at`, found by `token_hash`.
pub(super) fn session(row: &dyn Row, token_hash: TokenHash) -> Result<Session, Refusal> {
    let columns = Columns { row, of: "a session".to_owned() };
    let identity = columns.read_if("identity", Identity::from_session_json)?;
    Ok(Session {
        id: columns.parsed("id")?,
        token_hash,
        identity: columns.there("identity", identity)?,
        seen_at: columns.time("seen_at")?,
    })
}

/// A counter and its name from `counter, count, since, locked_until`.
pub(super) fn attempts(row: &dyn Row) -> Result<(String, Attempts), Refusal> {
    let columns = Columns { row, of: "a counter of attempts".to_owned() };
    let attempts = Attempts {
        count: columns.number("count")?,
        since: columns.time("since")?,
        locked_until: columns.time_if("locked_until")?,
    };
    Ok((columns.text("counter")?, attempts))
}

/// An audit record from `seq, record`.
pub(super) fn audit_entry(row: &dyn Row) -> Result<AuditEntry, Refusal> {
    let columns = Columns { row, of: "an audit record".to_owned() };
    let line = columns.read_if("record", |line| Ok::<_, Infallible>(line.to_owned()))?;
    Ok(AuditEntry { seq: columns.number("seq")?, json: columns.there("record", line)? })
}

/// The newest time in `entries` that was written by compared clocks. A line that cannot be read
/// tells nothing.
pub(super) fn latest(entries: &[AuditEntry]) -> Option<Timestamp> {
    let records = records(entries).into_iter();
    records.filter(Record::is_by_compared_clocks).map(|record| record.at).max()
}

/// The records of `entries` that this version can read.
pub(super) fn records(entries: &[AuditEntry]) -> Vec<Record> {
    entries.iter().filter_map(|entry| serde_json::from_str(&entry.json).ok()).collect()
}

/// A time from `at`.
pub(super) fn time(row: &dyn Row) -> Result<Timestamp, Refusal> {
    Columns { row, of: "a time".to_owned() }.time("at")
}

/// The fingerprint of the marker key from `marker_key`, if one is in force.
pub(super) fn fingerprint(row: &dyn Row) -> Result<Option<KeyFingerprint>, Refusal> {
    Columns { row, of: "the marker key".to_owned() }.parsed_if("marker_key")
}
