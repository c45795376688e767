//! Counters of attempts.

use std::collections::BTreeMap;

use jiff::Timestamp;

use super::changes::advisory_key;
use super::connect::{Pool, Transaction};
use super::problem::Problem;
use super::reads::all;
use super::value::{Moment, escaped};
use crate::auth::{Admission, Attempts, LockoutRule};
use crate::store::rows;

/// Asks every counter and counts for all of them, or for none when one refuses.
pub(super) async fn admit(
    pool: &Pool,
    counters: &[(String, LockoutRule)],
    now: Timestamp,
) -> Result<Vec<Admission>, Problem> {
    let transaction = pool.begin().await?;
    let former = lock(&transaction, counters).await?;
    let ask = |(counter, rule): &(String, LockoutRule)| {
        former.get(counter).copied().unwrap_or_else(|| Attempts::none(now)).admit(now, *rule)
    };
    let admissions: Vec<Admission> = counters.iter().map(ask).collect();
    if admissions.iter().any(|admission| matches!(admission, Admission::Locked { .. })) {
        transaction.roll_back().await?;
        return Ok(admissions);
    }
    for ((counter, rule), admission) in counters.iter().zip(&admissions) {
        if let Admission::Admitted(attempts) = admission {
            write(&transaction, counter, attempts, attempts.over_at(*rule)).await?;
        }
    }
    transaction.commit().await?;
    Ok(admissions)
}

/// Locks the counters for everybody else who admits, whether they have a row or not, and their
/// rows in the order of their names. Gives those that there are.
async fn lock(
    transaction: &Transaction<'_>,
    counters: &[(String, LockoutRule)],
) -> Result<BTreeMap<String, Attempts>, Problem> {
    let mut keys: Vec<i64> =
        counters.iter().map(|(counter, _)| advisory_key("counter", counter)).collect();
    keys.sort_unstable();
    let names: Vec<String> = counters.iter().map(|(counter, _)| escaped(counter)).collect();
    let sql = "SELECT pg_advisory_xact_lock(key) FROM unnest($1::bigint[]) AS key";
    transaction.ask(sql, &[&keys]).await?;
    let sql = "SELECT counter, count, since, locked_until FROM attempts \
               WHERE counter = ANY ($1) ORDER BY counter FOR UPDATE";
    Ok(all(&transaction.ask(sql, &[&names]).await?, rows::attempts)?.into_iter().collect())
}

async fn write(
    transaction: &Transaction<'_>,
    counter: &str,
    attempts: &Attempts,
    over_at: Timestamp,
) -> Result<(), Problem> {
    let sql = "INSERT INTO attempts (counter, count, since, locked_until, over_at) \
               VALUES ($1, $2, $3, $4, $5) \
               ON CONFLICT (counter) DO UPDATE SET count = excluded.count, \
               since = excluded.since, locked_until = excluded.locked_until, \
               over_at = excluded.over_at";
    let locked_until = attempts.locked_until.map(Moment::not_before);
    let (since, over_at) = (Moment::not_after(attempts.since), Moment::not_before(over_at));
    let count = i64::from(attempts.count);
    transaction.ask(sql, &[&escaped(counter), &count, &since, &locked_until, &over_at]).await?;
    Ok(())
}
