//! The schema: made and brought up to date under a lock, checked with every connection and every
//! change, so that brokers of two versions can share a store while they are replaced one by one.

use std::time::Duration;

use deadpool_postgres::ClientWrapper;
use tokio_postgres::Row;

use super::connect::{ANSWER, Dial, ask, bounded, commit};
use super::problem::{Problem, Unfit};
use crate::names::printable;
use crate::store::refusal::Refusal;

/// One step of the schema.
struct Migration {
    sql: &'static str,
    /// The oldest schema that a pgbridge may know and go on working after this step. A step that
    /// only adds what others need not know leaves it as it is.
    oldest: u32,
}

/// The steps, in order; the number of steps done is the version. A step that was released is
/// never changed.
const MIGRATIONS: [Migration; 5] = [
    Migration {
        sql: include_str!("../migrations/postgres/0001_leases_sessions_audit.sql"),
        oldest: 1,
    },
    Migration { sql: include_str!("../migrations/postgres/0002_maps.sql"), oldest: 1 },
    Migration { sql: include_str!("../migrations/postgres/0003_map_in_force.sql"), oldest: 1 },
    Migration { sql: include_str!("../migrations/postgres/0004_map_compared.sql"), oldest: 1 },
    Migration { sql: include_str!("../migrations/postgres/0005_account_id.sql"), oldest: 1 },
];

/// Advisory lock of the schema (`pgbridge` in ASCII): shared by whoever writes, alone for whoever
/// changes it.
const LOCK_KEY: i64 = 0x7067_6272_6964_6765;

/// How long the lock of the schema is waited for by who changes it.
const LOCK: Duration = Duration::from_mins(1);

/// How long one step may take.
const STEP: Duration = Duration::from_mins(10);

/// The newest version of the schema that this pgbridge knows.
#[derive(Clone, Copy, Debug)]
pub(super) struct Known(u32);

impl Known {
    pub(super) fn newest() -> Self {
        Self(u32::try_from(MIGRATIONS.len()).unwrap_or(u32::MAX))
    }

    /// Whether this pgbridge may work with a schema of version `found` that tolerates `oldest`.
    fn accept(self, found: u32, oldest: u32) -> Result<(), Unfit> {
        let Self(known) = self;
        if oldest > known { Err(Unfit::TooNew { found, oldest, known }) } else { Ok(()) }
    }
}

/// What is done about a schema that is missing or old.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum Old {
    /// It is brought up to date.
    Migrate,
    /// It is refused.
    Refuse,
}

/// Looks at the schema, and brings it up to date if `old` says so. Whoever serves the store runs
/// what stands in the schema, so nobody else may have put it there.
pub(super) async fn prepare(dial: &Dial, known: Known, old: Old) -> Result<(), Problem> {
    let client = dial.connect().await?;
    if old == Old::Migrate {
        check_ours(&client).await?;
    }
    let found = version(&client, known).await?;
    if found >= known.0 {
        return Ok(());
    }
    match old {
        Old::Migrate => migrate(&client, known).await,
        Old::Refuse if found == 0 => Err(Unfit::NoSchema.into()),
        Old::Refuse => Err(Unfit::TooOld { found, known: known.0 }.into()),
    }
}

/// Who can make a function, an operator or a trigger in the schema, or owns one there: a function
/// of our schema is run in place of the server's own when it fits better. Superusers can do that
/// anyway, and so can we with the rights of those whose members we are.
const STRANGERS: &str = "\
    WITH ours AS (SELECT oid, nspowner, nspacl FROM pg_catalog.pg_namespace WHERE nspname = 'pgbridge'), \
    found (role) AS (\
        SELECT nspowner FROM ours \
        UNION SELECT relowner FROM pg_catalog.pg_class, ours WHERE relnamespace = ours.oid \
        UNION SELECT proowner FROM pg_catalog.pg_proc, ours WHERE pronamespace = ours.oid \
        UNION SELECT oprowner FROM pg_catalog.pg_operator, ours WHERE oprnamespace = ours.oid \
        UNION SELECT granted.grantee FROM ours, LATERAL pg_catalog.aclexplode(nspacl) AS granted \
            WHERE granted.privilege_type = 'CREATE' \
        UNION SELECT granted.grantee FROM pg_catalog.pg_class AS relation, ours, \
            LATERAL pg_catalog.aclexplode(relation.relacl) AS granted \
            WHERE relation.relnamespace = ours.oid AND granted.privilege_type = 'TRIGGER'\
    ) \
    SELECT CASE role WHEN 0 THEN 'PUBLIC' ELSE pg_catalog.pg_get_userbyid(role)::text END \
    FROM found LEFT JOIN pg_catalog.pg_roles ON pg_roles.oid = role \
    WHERE role = 0 OR NOT (coalesce(rolsuper, false) OR pg_catalog.pg_has_role(role, 'USAGE')) \
    ORDER BY 1";

/// Whether nobody but us, and those above us, has a hand in the schema.
async fn check_ours(client: &ClientWrapper) -> Result<(), Problem> {
    let strangers = ask(client, STRANGERS, &[]).await?;
    let names = strangers.iter().map(|row| row.try_get(0)).collect::<Result<Vec<String>, _>>()?;
    if names.is_empty() { Ok(()) } else { Err(Unfit::Exposed(printable(&names.join(", "))).into()) }
}

/// The version of the schema, 0 when there is none.
async fn version(client: &ClientWrapper, known: Known) -> Result<u32, Problem> {
    const TABLES: &str = "SELECT count(*) FILTER (WHERE relname = 'head'), count(*) \
                          FROM pg_catalog.pg_class \
                          JOIN pg_catalog.pg_namespace ON pg_namespace.oid = relnamespace \
                          WHERE nspname = 'pgbridge'";
    const VERSION: &str = "SELECT schema_version, oldest_schema FROM head WHERE id = 1";
    for row in ask(client, TABLES, &[]).await? {
        let (heads, tables): (i64, i64) = (row.try_get(0)?, row.try_get(1)?);
        if tables == 0 {
            return Ok(0);
        }
        if heads == 0 {
            return Err(Unfit::Alien.into());
        }
    }
    let rows = ask(client, VERSION, &[]).await?;
    let (found, oldest) = versions(rows.first())?;
    known.accept(found, oldest)?;
    Ok(found)
}

/// Does the steps that are missing, all or none of them. Whoever writes waits until it is done.
async fn migrate(client: &ClientWrapper, known: Known) -> Result<(), Problem> {
    let (lock, step) = (LOCK.as_millis(), STEP.as_millis());
    let begin = format!(
        "BEGIN; SET LOCAL lock_timeout = {lock}; SET LOCAL statement_timeout = {step}; \
         SELECT pg_advisory_xact_lock({LOCK_KEY})"
    );
    bounded(LOCK + ANSWER, client.batch_execute(&begin)).await?;
    // Another broker may have done it meanwhile.
    let found = version(client, known).await?;
    if found == 0 {
        make_namespace(client).await?;
    }
    let steps = (1_u32..).zip(&MIGRATIONS).filter(|(number, _)| *number > found);
    for (number, Migration { sql, oldest }) in steps {
        bounded(STEP + ANSWER, client.batch_execute(sql)).await?;
        let done = format!(
            "UPDATE head SET schema_version = {number}, \
             oldest_schema = greatest(oldest_schema, {oldest})"
        );
        bounded(ANSWER, client.batch_execute(&done)).await?;
    }
    commit(client).await
}

/// Makes the schema unless somebody has made it for us, because our login may make none.
async fn make_namespace(client: &ClientWrapper) -> Result<(), Problem> {
    const SQL: &str = "SELECT 1 FROM pg_catalog.pg_namespace WHERE nspname = 'pgbridge'";
    if ask(client, SQL, &[]).await?.is_empty() {
        bounded(ANSWER, client.batch_execute("CREATE SCHEMA pgbridge")).await?;
    }
    Ok(())
}

/// What every connection and every change must find.
const CHECK: &str = "SELECT schema_version, oldest_schema, pg_is_in_recovery(), \
                     current_setting('synchronous_commit'), \
                     coalesce(current_setting('pgbridge.session', true), '') \
                     FROM head WHERE id = 1";

/// Checks a connection before its first use.
pub(super) async fn check(
    client: &ClientWrapper,
    dial: &Dial,
    known: Known,
) -> Result<(), Problem> {
    match ask(client, CHECK, &[]).await {
        Ok(rows) => judge(rows.first(), dial, known),
        Err(failure) if failure.is_missing_table() => Err(Unfit::NoSchema.into()),
        Err(failure) => Err(failure.into()),
    }
}

/// Begins a transaction that writes, and waits for locks at most `lock`. The schema cannot be
/// changed until it ends.
pub(super) async fn begin(
    client: &ClientWrapper,
    dial: &Dial,
    known: Known,
    lock: Duration,
) -> Result<(), Problem> {
    let lock = lock.as_millis();
    let begin = format!(
        "BEGIN; SELECT pg_advisory_xact_lock_shared({LOCK_KEY}); SET LOCAL lock_timeout = {lock}"
    );
    let check = bounded(ANSWER, client.prepare_cached(CHECK)).await?;
    // In one flight, and in this order: what is checked is what holds under the lock.
    let both = async {
        let (begun, rows) = futures::join!(client.batch_execute(&begin), client.query(&check, &[]));
        begun.and(rows)
    };
    let rows = bounded(ANSWER, both).await?;
    judge(rows.first(), dial, known)
}

fn judge(row: Option<&Row>, dial: &Dial, known: Known) -> Result<(), Problem> {
    let (found, oldest) = versions(row)?;
    known.accept(found, oldest)?;
    row.map_or(Ok(()), |row| dial.judge(row, 2))
}

fn versions(row: Option<&Row>) -> Result<(u32, u32), Problem> {
    let unreadable = |what: &str| Problem::from(Refusal::Unreadable(format!("the head: {what}")));
    let row = row.ok_or_else(|| unreadable("its row is missing"))?;
    let version = |column: usize| -> Result<u32, Problem> {
        let version: i32 = row.try_get(column)?;
        u32::try_from(version).map_err(|_| unreadable("a version below 0"))
    };
    Ok((version(0)?, version(1)?))
}
