//! What is asked without changing anything, each with one statement.

use futures::{TryStreamExt, pin_mut};
use jiff::Timestamp;
use tokio::time::timeout;

use super::connect::{ANSWER, Pool};
use super::problem::{Failure, Problem};
use super::value::escaped;
use crate::audit::Record;
use crate::auth::Session;
use crate::lease::{KeyFingerprint, Lease, LeaseState, LiveLease};
use crate::mapping::{MapRevision, RevisionBeginning};
use crate::names::{ClusterName, LeaseId, Principal, RequestKey, RoleOid, TokenHash};
use crate::store::refusal::Refusal;
use crate::store::rows::{self, Row};
use crate::store::{AuditEntry, LATEST_AMONG, LeaseFilter, REVISIONS_TOLD, StoredMap};

pub(super) async fn lease(pool: &Pool, id: LeaseId) -> Result<Option<Lease>, Problem> {
    const SQL: &str = concat!("SELECT ", rows::lease_columns!(), " FROM lease WHERE id = $1");
    first(&pool.read(SQL, &[&id.to_string()]).await?, rows::lease)
}

/// The statement is put together from the literals below, by what the filter names: a plan for all
/// of them at once would be good for none. Every value has its place in each.
pub(super) async fn leases(pool: &Pool, filter: &LeaseFilter) -> Result<Vec<Lease>, Problem> {
    let principal = filter.principal.as_ref().map(|principal| escaped(&principal.key()));
    let cluster = filter.cluster.as_ref().map(ClusterName::as_str);
    let states: Vec<&str> = filter.states.iter().map(|state| state.as_str()).collect();
    let limit = filter.limit.map(i64::from);
    if !states.is_empty() {
        refuse_unknown_states(pool).await?;
    }
    let sql = [
        concat!("SELECT ", rows::lease_columns!(), " FROM lease WHERE"),
        if principal.is_some() { "principal_key = $1" } else { "$1::text IS NULL" },
        if cluster.is_some() { "AND cluster = $2" } else { "AND $2::text IS NULL" },
        if states.is_empty() { "AND $3::text[] = '{}'" } else { "AND state = ANY ($3)" },
        "ORDER BY requested_at DESC, id DESC LIMIT $4::bigint",
    ]
    .join(" ");
    all(&pool.read(&sql, &[&principal, &cluster, &states, &limit]).await?, rows::lease)
}

/// A lease in a state that this version does not know would be in no list by state, and its role
/// would look like one without a lease. So such a list is refused while there is one.
async fn refuse_unknown_states(pool: &Pool) -> Result<(), Problem> {
    const SQL: &str = concat!(
        "SELECT ",
        rows::lease_columns!(),
        // The order is that of the index in which there is nothing else.
        " FROM lease WHERE state NOT IN \
         ('intent', 'active', 'revoking', 'quarantined', 'revoked', 'aborted') \
         ORDER BY id LIMIT 1"
    );
    const { assert!(LeaseState::ALL.len() == 6, "the states in the statement are all") };
    all(&pool.read(SQL, &[]).await?, rows::lease).map(drop)
}

pub(super) async fn live_leases_of(
    pool: &Pool,
    principal: &Principal,
    after: Option<&Lease>,
    limit: u32,
) -> Result<Vec<Lease>, Problem> {
    const SQL: &str = concat!(
        "SELECT ",
        rows::lease_columns!(),
        " FROM lease WHERE principal_key = $1 AND state IN ('intent', 'active') \
         AND (cluster, role, id) > ($2, $3, $4) ORDER BY cluster, role, id LIMIT $5"
    );
    let text = |of: fn(&Lease) -> String| after.map(of).unwrap_or_default();
    let cluster = text(|lease| lease.cluster.to_string());
    let role = text(|lease| lease.role.to_string());
    let id = text(|lease| lease.id.to_string());
    let person = escaped(&principal.key());
    let rows = pool.read(SQL, &[&person, &cluster, &role, &id, &i64::from(limit)]).await?;
    all(&rows, rows::lease)
}

pub(super) async fn people(pool: &Pool) -> Result<Vec<Principal>, Problem> {
    const SQL: &str = "SELECT principal_key FROM session \
         UNION SELECT principal_key FROM lease WHERE state IN ('intent', 'active')";
    all(&pool.read(SQL, &[]).await?, rows::principal)
}

pub(super) async fn lease_of_key(
    pool: &Pool,
    principal: &Principal,
    key: &RequestKey,
) -> Result<Option<Lease>, Problem> {
    const SQL: &str = concat!(
        "SELECT ",
        rows::lease_columns!(),
        " FROM lease WHERE principal_key = $1 AND request_key = $2 AND request_key IS NOT NULL \
         AND state IN ('intent', 'active')"
    );
    let rows = pool.read(SQL, &[&escaped(&principal.key()), &key.as_str()]).await?;
    first(&rows, rows::lease)
}

/// Every lease that is not in a final state that is known, read row by row: there may be very
/// many. A connection that is lost meanwhile is not replaced.
pub(super) async fn live(pool: &Pool, cluster: &ClusterName) -> Result<Vec<LiveLease>, Problem> {
    const SQL: &str = "SELECT id, version, state, role_oid, create_before, expires_at FROM lease \
                       WHERE cluster = $1 AND state NOT IN ('revoked', 'aborted')";
    let borrowed = pool.borrow().await?;
    let client = borrowed.client()?;
    let reading = async {
        let statement = client.prepare_cached(SQL).await?;
        let rows = client.query_raw(&statement, [cluster.as_str()]).await?;
        pin_mut!(rows);
        let mut live = Vec::new();
        while let Some(row) = rows.try_next().await? {
            live.push(rows::live_lease(&row)?);
        }
        Ok::<_, Problem>(live)
    };
    let live = timeout(ANSWER, reading).await.map_err(|_| Failure::no_answer(ANSWER))??;
    borrowed.settle();
    Ok(live)
}

pub(super) async fn had_role(
    pool: &Pool,
    cluster: &ClusterName,
    oid: RoleOid,
) -> Result<bool, Problem> {
    const SQL: &str = "SELECT 1 FROM lease \
                       WHERE cluster = $1 AND role_oid = $2 AND gone_at IS NOT NULL LIMIT 1";
    Ok(!pool.read(SQL, &[&cluster.as_str(), &oid.0]).await?.is_empty())
}

pub(super) async fn session(pool: &Pool, hash: &TokenHash) -> Result<Option<Session>, Problem> {
    const SQL: &str = "SELECT id, identity, seen_at FROM session WHERE token_hash = $1";
    let rows = pool.read(SQL, &[&hash.as_str()]).await?;
    first(&rows, |row| rows::session(row, hash.clone()))
}

pub(super) async fn audit_after(
    pool: &Pool,
    after: u64,
    limit: u32,
) -> Result<Vec<AuditEntry>, Problem> {
    const SQL: &str = "SELECT seq, record FROM audit WHERE seq > $1 ORDER BY seq LIMIT $2";
    let after = i64::try_from(after).unwrap_or(i64::MAX);
    all(&pool.read(SQL, &[&after, &i64::from(limit)]).await?, rows::audit_entry)
}

pub(super) async fn latest(pool: &Pool) -> Result<Option<Timestamp>, Problem> {
    const LEASE: &str = "SELECT requested_at AS at FROM lease ORDER BY requested_at DESC LIMIT 1";
    const AUDIT: &str = "SELECT seq, record FROM audit ORDER BY seq DESC LIMIT $1";
    let lease = first(&pool.read(LEASE, &[]).await?, rows::time)?;
    let newest = all(&pool.read(AUDIT, &[&i64::from(LATEST_AMONG)]).await?, rows::audit_entry)?;
    Ok(lease.max(rows::latest(&newest)))
}

pub(super) async fn map_revision(
    pool: &Pool,
    revision: &MapRevision,
) -> Result<Option<StoredMap>, Problem> {
    const SQL: &str =
        "SELECT revision, postgres, text, first_used_at FROM map_revision WHERE revision = $1";
    first(&pool.read(SQL, &[&revision.as_str()]).await?, rows::stored_map)
}

pub(super) async fn map_revisions(
    pool: &Pool,
    beginning: &RevisionBeginning,
) -> Result<Vec<MapRevision>, Problem> {
    const SQL: &str = "SELECT revision FROM map_revision \
         WHERE left(revision, length($1)) = $1 ORDER BY revision COLLATE \"C\" LIMIT $2";
    let most = i64::from(REVISIONS_TOLD);
    all(&pool.read(SQL, &[&beginning.as_str(), &most]).await?, rows::map_revision)
}

pub(super) async fn map_records(pool: &Pool, limit: u32) -> Result<Vec<Record>, Problem> {
    const SQL: &str = "SELECT seq, record FROM audit \
         WHERE strpos(record, '\"action\":\"broker.started\"') > 0 \
            OR strpos(record, '\"action\":\"map.reloaded\"') > 0 \
            OR strpos(record, '\"action\":\"map.compared\"') > 0 \
         ORDER BY seq DESC LIMIT $1";
    Ok(rows::records(&all(&pool.read(SQL, &[&i64::from(limit)]).await?, rows::audit_entry)?))
}

pub(super) async fn clock(pool: &Pool) -> Result<Option<Timestamp>, Problem> {
    first(&pool.read("SELECT clock_timestamp() AS at", &[]).await?, rows::time)
}

pub(super) async fn marker_key(pool: &Pool) -> Result<Option<KeyFingerprint>, Problem> {
    let rows = pool.read("SELECT marker_key FROM head WHERE id = 1", &[]).await?;
    Ok(first(&rows, rows::fingerprint)?.flatten())
}

/// Every row read by `read`; the first that cannot be read ends it.
pub(super) fn all<T>(
    rows: &[tokio_postgres::Row],
    read: impl Fn(&dyn Row) -> Result<T, Refusal>,
) -> Result<Vec<T>, Problem> {
    let read = rows.iter().map(|row| read(row));
    Ok(read.collect::<Result<_, _>>()?)
}

fn first<T>(
    rows: &[tokio_postgres::Row],
    read: impl Fn(&dyn Row) -> Result<T, Refusal>,
) -> Result<Option<T>, Problem> {
    Ok(rows.first().map(|row| read(row)).transpose()?)
}
