//! Changes that are no event and so have no audit record, each in a transaction of its own.

use jiff::Timestamp;
use tokio_postgres::types::ToSql;
use uuid::Uuid;

use super::connect::Pool;
use super::problem::Problem;
use super::reads::all;
use super::value::Moment;
use crate::auth::SessionTimes;
use crate::lease::{KeyFingerprint, Lease};
use crate::names::{ClusterName, LeaseId};
use crate::store::rows::{self, Due};
use crate::store::{CLAIM_LASTS, Claimant, ON_ITS_WAY, OneTimeValue, SWEEP_ROWS};

/// Claims what is due and nobody else has claimed. A lease that somebody moves just now is passed
/// over, and a claim that has more than half of its time left is not written anew. A claim that
/// would last longer than any can was made before the server's clock was set back, and is over.
pub(super) async fn claim(
    pool: &Pool,
    cluster: &ClusterName,
    now: Timestamp,
    limit: u32,
    by: Claimant,
) -> Result<Vec<Lease>, Problem> {
    const DUE: &str = concat!(
        "SELECT ",
        rows::lease_columns!(),
        " FROM lease WHERE cluster = $1 AND due_at <= $2 \
         AND (claimed_by = $4 OR claimed_until IS NULL OR claimed_until <= clock_timestamp() \
         OR claimed_until > clock_timestamp() + $5::float8 * 2 * interval '1 second') \
         ORDER BY access_ended_at IS NOT NULL, attempts > 0, due_at, id LIMIT $3 FOR UPDATE SKIP LOCKED"
    );
    const CLAIM: &str = "UPDATE lease SET claimed_by = $2, \
                         claimed_until = clock_timestamp() + $3::float8 * interval '1 second' \
                         WHERE id = ANY ($1) AND (claimed_by IS DISTINCT FROM $2 \
                         OR claimed_until <= clock_timestamp() + $3::float8 / 2 * interval '1 second')";
    let transaction = pool.begin().await?;
    let (cluster, now) = (cluster.as_str(), Moment::not_after(now));
    let (by, lasts) = (by.to_string(), CLAIM_LASTS.as_secs_f64());
    let mut most = limit;
    let due = loop {
        let values: [&(dyn ToSql + Sync); 5] = [&cluster, &now, &i64::from(most), &by, &lasts];
        let rows = transaction.ask(DUE, &values).await?;
        let due = Due::read(most, rows.iter().map(|row| rows::lease(row)));
        let Some(more) = due.more(limit) else { break due.leases(limit)? };
        most = more;
    };
    if due.is_empty() {
        transaction.roll_back().await?;
        return Ok(due);
    }
    let ids: Vec<String> = due.iter().map(|lease| lease.id.to_string()).collect();
    transaction.ask(CLAIM, &[&ids, &by, &lasts]).await?;
    transaction.commit().await?;
    Ok(due)
}

pub(super) async fn unclaim(pool: &Pool, lease: LeaseId, by: Claimant) -> Result<(), Problem> {
    let sql = "UPDATE lease SET claimed_by = NULL, claimed_until = NULL \
               WHERE id = $1 AND claimed_by = $2";
    let transaction = pool.begin().await?;
    transaction.ask(sql, &[&lease.to_string(), &by.to_string()]).await?;
    transaction.commit().await
}

/// Notes that a session was used; one that has ended stays ended, and time does not run backwards.
pub(super) async fn touch_session(
    pool: &Pool,
    id: Uuid,
    seen_at: Timestamp,
) -> Result<(), Problem> {
    let sql = "UPDATE session SET seen_at = $2 WHERE id = $1 AND seen_at < $2";
    let transaction = pool.begin().await?;
    transaction.ask(sql, &[&id.to_string(), &Moment::not_after(seen_at)]).await?;
    transaction.commit().await
}

/// Accepts a value whose time is not over, if it is new or an older use of it is over.
pub(super) async fn spend(
    pool: &Pool,
    value: &OneTimeValue,
    until: Timestamp,
    now: Timestamp,
) -> Result<bool, Problem> {
    let sql = "INSERT INTO spent (kind, hash, until) VALUES ($1, $2, $3) \
               ON CONFLICT (kind, hash) DO UPDATE SET until = excluded.until \
               WHERE spent.until <= $4 RETURNING 1";
    if until <= now {
        return Ok(false);
    }
    let (until, now) = (Moment::not_before(until), Moment::not_after(now));
    let transaction = pool.begin().await?;
    let rows = transaction.ask(sql, &[&value.kind, &value.hash, &until, &now]).await?;
    transaction.commit().await?;
    Ok(!rows.is_empty())
}

/// Puts the marker key of `offered` in force if there is none, and gives the one in force.
pub(super) async fn marker_key(
    pool: &Pool,
    offered: &KeyFingerprint,
) -> Result<Option<KeyFingerprint>, Problem> {
    let sql = "UPDATE head SET marker_key = coalesce(marker_key, $1) WHERE id = 1 \
               RETURNING marker_key";
    let transaction = pool.begin().await?;
    let rows = transaction.ask(sql, &[&offered.as_str()]).await?;
    let in_force = all(&rows, rows::fingerprint)?.pop().flatten();
    transaction.commit().await?;
    Ok(in_force)
}

/// Removes what [`crate::auth::Session::end_at`] calls over at `now`, and what else is over. What
/// somebody uses just now is left for the next sweep.
pub(super) async fn sweep(pool: &Pool, now: Timestamp, times: SessionTimes) -> Result<(), Problem> {
    let at = Moment::not_after(now);
    let transaction = pool.begin().await?;
    let sessions = "DELETE FROM session WHERE id IN (SELECT id FROM session \
                    WHERE expires_at <= $1 OR authenticated_at <= $2 OR seen_at <= $3 \
                    LIMIT $4 FOR UPDATE SKIP LOCKED)";
    let oldest = Moment::not_after(now - times.absolute.span());
    let idle = Moment::not_after(now - times.idle.span());
    transaction.ask(sessions, &[&at, &oldest, &idle, &SWEEP_ROWS]).await?;
    let counters = "DELETE FROM attempts WHERE counter IN (SELECT counter FROM attempts \
                    WHERE over_at <= $1 LIMIT $2 FOR UPDATE SKIP LOCKED)";
    transaction.ask(counters, &[&at, &SWEEP_ROWS]).await?;
    let ended = "DELETE FROM logins_ended WHERE person IN (SELECT person FROM logins_ended \
                 WHERE at <= $1 LIMIT $2 FOR UPDATE SKIP LOCKED)";
    transaction.ask(ended, &[&Moment::not_after(now - ON_ITS_WAY), &SWEEP_ROWS]).await?;
    let spent = "DELETE FROM spent WHERE (kind, hash) IN (SELECT kind, hash FROM spent \
                 WHERE until <= $1 LIMIT $2 FOR UPDATE SKIP LOCKED)";
    transaction.ask(spent, &[&at, &SWEEP_ROWS]).await?;
    transaction.commit().await
}
