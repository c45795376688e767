//! Why a database is not cleared, and what a person can do about it.

use std::collections::BTreeMap;
use std::time::Duration;

use deadpool_postgres::ClientWrapper;
use tokio_postgres::Row;

use super::Cluster;
use super::connect::Query;
use super::error::{ClusterError, Failure, FailureKind};
use super::locks::LockHolder;
use super::row::{Shown, column};
use crate::causes::with_causes;
use crate::lease::plan::{Attic, Estate};
use crate::lease::{Blocker, BlockerKind};
use crate::names::identifier;

/// Dependants that are read, more than are told.
const DEPENDANTS: i64 = 25;

impl Cluster {
    /// Why `database` is not cleared, and what a person can do.
    pub(super) async fn explained(
        &self,
        client: &ClientWrapper,
        estate: &Estate,
        database: &str,
        failure: &Failure,
        waits: Vec<LockHolder>,
    ) -> Vec<Blocker> {
        let reasons = match failure.code.as_deref() {
            _ if failure.kind != FailureKind::Rejected => Ok(Vec::new()),
            Some("55P03") => self.lock_holders(client, waits).await,
            Some("42501") => self.lacking(client, estate).await,
            Some("2BP01") => self.dependants(client, estate).await,
            _ => Ok(Vec::new()),
        };
        // Without reasons, the server's own words are all there is.
        match reasons {
            Ok(reasons) if !reasons.is_empty() => {
                reasons.into_iter().map(|blocker| blocker.within(database)).collect()
            }
            Ok(_) | Err(_) => vec![not_cleared(estate, database, failure)],
        }
    }

    /// Reads `query` in the database of `client`.
    async fn ask(
        &self,
        client: &ClientWrapper,
        query: Query<'_>,
    ) -> Result<Vec<Row>, ClusterError> {
        let answer = self.connections.bounded(Duration::MAX, query.ask(client)).await;
        answer.map_err(|failure| failure.on(&self.name, "reading what keeps a role"))
    }

    async fn lock_holders(
        &self,
        client: &ClientWrapper,
        waits: Vec<LockHolder>,
    ) -> Result<Vec<Blocker>, ClusterError> {
        let relations: Vec<u32> = waits.iter().map(|holder| holder.relation).collect();
        let sql = "SELECT oid, pg_describe_object('pg_class'::regclass, oid, 0) AS name \
                   FROM pg_class WHERE oid = ANY ($1)";
        let rows = self.ask(client, Query { sql, parameters: &[&relations] }).await?;
        let mut names = BTreeMap::new();
        for row in &rows {
            let Shown(name) = column(&self.name, row, "name")?;
            names.insert(column::<u32>(&self.name, row, "oid")?, name);
        }
        let blocker = |holder: LockHolder| {
            let name = names.get(&holder.relation).map_or("an object of the role", String::as_str);
            holder.blocker(name)
        };
        Ok(waits.into_iter().map(blocker).collect())
    }

    async fn lacking(
        &self,
        client: &ClientWrapper,
        estate: &Estate,
    ) -> Result<Vec<Blocker>, ClusterError> {
        let Attic::Found { oid: attic, name, .. } = &estate.attic else { return Ok(Vec::new()) };
        let sql = include_str!("sql/lacking.sql");
        let rows = self.ask(client, Query { sql, parameters: &[&estate.oid.0, &attic.0] }).await?;
        let blocker = |row: &Row| {
            let sql: String = column(&self.name, row, "statement")?;
            let detail = format!("the attic role {name} may not take over what the role owns");
            Ok(Blocker::new(BlockerKind::BrokerRight, detail).remedy_sql(&sql))
        };
        rows.iter().map(blocker).collect()
    }

    /// What of others' would go with what the role owns, although nobody says so: nothing is
    /// dropped before they have dealt with it.
    pub(super) async fn taken_along(
        &self,
        client: &ClientWrapper,
        estate: &Estate,
        database: &str,
    ) -> Result<Vec<Blocker>, ClusterError> {
        let sql = include_str!("sql/taken_along.sql");
        let taken = self.of_others(client, estate, sql, "would be dropped with").await?;
        Ok(taken.into_iter().map(|blocker| blocker.within(database)).collect())
    }

    async fn dependants(
        &self,
        client: &ClientWrapper,
        estate: &Estate,
    ) -> Result<Vec<Blocker>, ClusterError> {
        self.of_others(client, estate, include_str!("sql/dependants.sql"), "depends on").await
    }

    /// What `sql` finds of others' that `rests` on an object of the role.
    async fn of_others(
        &self,
        client: &ClientWrapper,
        estate: &Estate,
        sql: &'static str,
        rests: &str,
    ) -> Result<Vec<Blocker>, ClusterError> {
        let query = Query { sql, parameters: &[&estate.oid.0, &DEPENDANTS] };
        let rows = self.ask(client, query).await?;
        let blocker = |row: &Row| {
            let Shown(dependant) = column(&self.name, row, "dependant")?;
            let Shown(object) = column(&self.name, row, "object")?;
            let detail = format!("{dependant} {rests} {object} of the role");
            let blocker = Blocker::new(BlockerKind::Object, detail).about(object);
            let remedy: Option<String> = column(&self.name, row, "remedy")?;
            let loses: Option<String> = column(&self.name, row, "loses")?;
            Ok(match remedy {
                Some(sql) => blocker.remedy_sql(&sql),
                None => blocker.remedy(instead_of_dropping(loses.as_deref())),
            })
        };
        rows.iter().map(blocker).collect()
    }
}

/// What to do about a dependant for which no statement can be told: a statement that is pasted must
/// not cost others what they have stored.
fn instead_of_dropping(loses: Option<&str>) -> &'static str {
    match loses {
        Some("column") => {
            "have its owner give the column another type or expression (ALTER TABLE … ALTER \
             COLUMN …), or give the role's object to a role without rights; dropping the column \
             loses what it holds"
        }
        Some(_) => {
            "have its owner make it do without the role's object, or give that to a role without \
             rights; dropping it loses what it holds"
        }
        None => "drop it, or give the role's object another owner",
    }
}

/// A database that the broker cannot connect to.
pub(super) fn not_reached(estate: &Estate, database: &str, failure: &Failure) -> Blocker {
    let detail = format!("database {database} cannot be connected to: {failure}");
    let blocker = Blocker::new(BlockerKind::Database, detail).within(database);
    if failure.is_one_of(&["42501"]) {
        let (database, broker) = (identifier(database), identifier(&estate.broker));
        blocker.remedy_sql(&format!("GRANT CONNECT ON DATABASE {database} TO {broker}"))
    } else {
        blocker
    }
}

/// A database whose contents cannot be read.
pub(super) fn not_read(estate: &Estate, database: &str, error: &ClusterError) -> Blocker {
    let cause = with_causes(error);
    let detail = format!("what the role has in database {database} cannot be read: {cause}");
    let blocker = Blocker::new(BlockerKind::Database, detail).within(database);
    match error {
        // A name that is no text in any encoding. What goes to the attic must be made harmless
        // first, each by its name: so there is no statement that moves all of it.
        ClusterError::Rejected { source, .. } if source.is_one_of(&["22021", "22P05"]) => {
            let role = &estate.name;
            blocker.remedy(format!(
                "something that {role} owns there, or was given or gave, has a name that is no \
                 text: look in pg_shdepend, rename it to plain letters, and the next attempt does \
                 the rest; do not run or take over anything of it"
            ))
        }
        _ => blocker,
    }
}

fn not_cleared(estate: &Estate, database: &str, failure: &Failure) -> Blocker {
    let kind = match failure.code.as_deref() {
        Some("55P03") => BlockerKind::Lock,
        Some("42501") => BlockerKind::BrokerRight,
        Some("2BP01") => BlockerKind::Object,
        _ => BlockerKind::Database,
    };
    let detail = format!("database {database} is not cleared: {failure}");
    let blocker = Blocker::new(kind, detail).within(database);
    match (failure.code.as_deref(), &estate.attic) {
        (Some("55P03"), _) => blocker.remedy("somebody is using an object of the role"),
        (Some("42501"), Attic::Found { name, .. }) => {
            let sql = format!("GRANT {} TO {}", name.quoted(), identifier(&estate.broker));
            blocker.remedy_sql(&sql)
        }
        // As many locks as there are objects.
        (Some("53200"), _) => blocker
            .remedy("raise max_locks_per_transaction, or drop what the role owns in several parts"),
        _ => blocker,
    }
}
