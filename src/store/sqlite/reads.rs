//! What readers ask, each with one statement.

use jiff::Timestamp;
use rusqlite::types::Value;
use rusqlite::{Connection, Params, named_params, params, params_from_iter};

use super::problem::Problem;
use super::rows::nanoseconds;
use crate::audit::Record;
use crate::auth::Session;
use crate::lease::{KeyFingerprint, Lease, LiveLease};
use crate::mapping::{MapRevision, RevisionBeginning};
use crate::names::{ClusterName, LeaseId, Principal, RequestKey, RoleOid, TokenHash};
use crate::store::refusal::Refusal;
use crate::store::rows::{self, Due, Row};
use crate::store::{AuditEntry, LATEST_AMONG, LeaseFilter, REVISIONS_TOLD, StoredMap};

pub(super) fn lease(connection: &Connection, id: LeaseId) -> Result<Option<Lease>, Problem> {
    const SQL: &str = concat!("SELECT ", rows::lease_columns!(), " FROM lease WHERE id = ?1");
    Ok(all(connection, SQL, [id.to_string()], rows::lease)?.pop())
}

/// The statement is put together from the literals below, by what the filter names.
pub(super) fn leases(connection: &Connection, filter: &LeaseFilter) -> Result<Vec<Lease>, Problem> {
    let mut sql = concat!("SELECT ", rows::lease_columns!(), " FROM lease WHERE true").to_owned();
    let mut values: Vec<Value> = Vec::new();
    if let Some(principal) = &filter.principal {
        sql.push_str(" AND principal_key = ?");
        values.push(principal.key().into());
    }
    if let Some(cluster) = &filter.cluster {
        sql.push_str(" AND cluster = ?");
        values.push(cluster.to_string().into());
    }
    if !filter.states.is_empty() {
        refuse_unknown_states(connection)?;
        sql.push_str(" AND state IN (NULL");
        for state in &filter.states {
            sql.push_str(", ?");
            values.push(state.to_string().into());
        }
        sql.push(')');
    }
    sql.push_str(" ORDER BY requested_at DESC, id DESC LIMIT ?");
    values.push(filter.limit.map_or(-1, i64::from).into());
    all(connection, &sql, params_from_iter(values), rows::lease)
}

/// A lease in a state that this version does not know would be in no list by state, and its role
/// would look like one without a lease. So such a list is refused while there is one.
fn refuse_unknown_states(connection: &Connection) -> Result<(), Problem> {
    const SQL: &str = concat!(
        "SELECT ",
        rows::lease_columns!(),
        " FROM lease WHERE state NOT IN \
         ('intent', 'active', 'revoking', 'quarantined', 'revoked', 'aborted') LIMIT 1"
    );
    all(connection, SQL, [], rows::lease).map(drop)
}

/// A place among the live leases of a person, in their order.
pub(super) struct Place {
    person: String,
    cluster: String,
    role: String,
    id: String,
}

impl Place {
    /// Behind `after`, or before all.
    pub(super) fn of(principal: &Principal, after: Option<&Lease>) -> Self {
        let text = |of: fn(&Lease) -> String| after.map(of).unwrap_or_default();
        Self {
            person: principal.key(),
            cluster: text(|lease| lease.cluster.to_string()),
            role: text(|lease| lease.role.to_string()),
            id: text(|lease| lease.id.to_string()),
        }
    }
}

pub(super) fn live_leases_of(
    connection: &Connection,
    place: &Place,
    limit: u32,
) -> Result<Vec<Lease>, Problem> {
    const SQL: &str = concat!(
        "SELECT ",
        rows::lease_columns!(),
        " FROM lease INDEXED BY lease_live_of_person WHERE principal_key = ?1 \
         AND state IN ('intent', 'active') AND (cluster, role, id) > (?2, ?3, ?4) \
         ORDER BY cluster, role, id LIMIT ?5"
    );
    let Place { person, cluster, role, id } = place;
    all(connection, SQL, params![person, cluster, role, id, limit], rows::lease)
}

pub(super) fn people(connection: &Connection) -> Result<Vec<Principal>, Problem> {
    const SQL: &str = "SELECT principal_key FROM session \
         UNION SELECT principal_key FROM lease WHERE state IN ('intent', 'active')";
    all(connection, SQL, [], rows::principal)
}

pub(super) fn lease_of_key(
    connection: &Connection,
    principal: &Principal,
    key: &RequestKey,
) -> Result<Option<Lease>, Problem> {
    const SQL: &str = concat!(
        "SELECT ",
        rows::lease_columns!(),
        " FROM lease WHERE principal_key = ?1 AND request_key = ?2 AND request_key IS NOT NULL \
         AND state IN ('intent', 'active')"
    );
    Ok(all(connection, SQL, params![principal.key(), key.as_str()], rows::lease)?.pop())
}

pub(super) fn due(
    connection: &Connection,
    cluster: &ClusterName,
    now: Timestamp,
    limit: u32,
) -> Result<Vec<Lease>, Problem> {
    const SQL: &str = concat!(
        "SELECT ",
        rows::lease_columns!(),
        " FROM lease WHERE cluster = :cluster AND due_at <= :now \
         ORDER BY access_ended_at IS NOT NULL, attempts > 0, due_at, id LIMIT :limit"
    );
    let mut most = limit;
    loop {
        let values = named_params! {
            ":cluster": cluster.as_str(),
            ":now": nanoseconds(now)?,
            ":limit": most,
        };
        let due = Due::read(most, all(connection, SQL, values, |row| Ok(rows::lease(row)))?);
        let Some(more) = due.more(limit) else { return Ok(due.leases(limit)?) };
        most = more;
    }
}

/// Every lease that is not in a final state that is known.
pub(super) fn live(
    connection: &Connection,
    cluster: &ClusterName,
) -> Result<Vec<LiveLease>, Problem> {
    const SQL: &str = "SELECT id, version, state, role_oid, create_before, expires_at FROM lease \
                       WHERE cluster = ?1 AND state NOT IN ('revoked', 'aborted')";
    all(connection, SQL, [cluster.as_str()], rows::live_lease)
}

pub(super) fn had_role(
    connection: &Connection,
    cluster: &ClusterName,
    oid: RoleOid,
) -> Result<bool, Problem> {
    const SQL: &str =
        "SELECT 1 FROM lease WHERE cluster = ?1 AND role_oid = ?2 AND gone_at IS NOT NULL";
    Ok(connection.prepare_cached(SQL)?.exists(params![cluster.as_str(), oid.0])?)
}

pub(super) fn map_revision(
    connection: &Connection,
    revision: &MapRevision,
) -> Result<Option<StoredMap>, Problem> {
    const SQL: &str =
        "SELECT revision, postgres, text, first_used_at FROM map_revision WHERE revision = ?1";
    Ok(all(connection, SQL, [revision.as_str()], rows::stored_map)?.pop())
}

pub(super) fn map_revisions(
    connection: &Connection,
    beginning: &RevisionBeginning,
) -> Result<Vec<MapRevision>, Problem> {
    const SQL: &str = "SELECT revision FROM map_revision \
         WHERE substr(revision, 1, length(?1)) = ?1 ORDER BY revision LIMIT ?2";
    all(connection, SQL, params![beginning.as_str(), REVISIONS_TOLD], rows::map_revision)
}

pub(super) fn session(
    connection: &Connection,
    hash: &TokenHash,
) -> Result<Option<Session>, Problem> {
    const SQL: &str = "SELECT id, identity, seen_at FROM session WHERE token_hash = ?1";
    let read = |row: &dyn Row| rows::session(row, hash.clone());
    Ok(all(connection, SQL, [hash.as_str()], read)?.pop())
}

pub(super) fn audit_after(
    connection: &Connection,
    after: u64,
    limit: u32,
) -> Result<Vec<AuditEntry>, Problem> {
    const SQL: &str = "SELECT seq, record FROM audit WHERE seq > ?1 ORDER BY seq LIMIT ?2";
    let after = i64::try_from(after).unwrap_or(i64::MAX);
    all(connection, SQL, params![after, limit], rows::audit_entry)
}

/// How late it was at least.
pub(super) fn latest(connection: &Connection) -> Result<Option<Timestamp>, Problem> {
    const LEASE: &str = "SELECT requested_at AS at FROM lease ORDER BY requested_at DESC LIMIT 1";
    const AUDIT: &str = "SELECT seq, record FROM audit ORDER BY seq DESC LIMIT ?1";
    let lease = all(connection, LEASE, [], rows::time)?.pop();
    let newest = all(connection, AUDIT, [LATEST_AMONG], rows::audit_entry)?;
    Ok(lease.max(rows::latest(&newest)))
}

pub(super) fn map_records(connection: &Connection, limit: u32) -> Result<Vec<Record>, Problem> {
    const SQL: &str = "SELECT seq, record FROM audit \
         WHERE instr(record, '\"action\":\"broker.started\"') > 0 \
            OR instr(record, '\"action\":\"map.reloaded\"') > 0 \
            OR instr(record, '\"action\":\"map.compared\"') > 0 \
         ORDER BY seq DESC LIMIT ?1";
    Ok(rows::records(&all(connection, SQL, [limit], rows::audit_entry)?))
}

pub(super) fn marker_key(connection: &Connection) -> Result<Option<KeyFingerprint>, Problem> {
    const SQL: &str = "SELECT fingerprint AS marker_key FROM marker_key WHERE id = 1";
    Ok(all(connection, SQL, [], rows::fingerprint)?.pop().flatten())
}

/// Every row that `sql` finds, read by `read`; the first that cannot be read ends it.
fn all<T>(
    connection: &Connection,
    sql: &str,
    values: impl Params,
    read: impl Fn(&dyn Row) -> Result<T, Refusal>,
) -> Result<Vec<T>, Problem> {
    let mut statement = connection.prepare_cached(sql)?;
    let mut found = statement.query(values)?;
    let mut all = Vec::new();
    while let Some(row) = found.next()? {
        all.push(read(row)?);
    }
    Ok(all)
}
