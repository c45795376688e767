//! What revoking does in one database: look, plan, apply; and when the server refuses, say what a
//! person can do.

use std::collections::BTreeMap;
use std::pin::pin;
use std::time::Duration;

use deadpool_postgres::ClientWrapper;
use futures::future::try_join_all;
use tokio::time::sleep;
use tokio_postgres::Row;

use super::Cluster;
use super::connect::{Lane, Query};
use super::error::{ClusterError, Failure, FailureKind};
use super::observe::{LockHolder, Shown, column, moved_on, named};
use crate::crash::{self, Place};
use crate::lease::plan::{self, Attic, Contents, Estate, Fate, Grant, Policy, Statement};
use crate::lease::{Blocker, BlockerKind};
use crate::names::identifier;

/// How often it is asked whom a statement waits for.
const LOOK_EVERY: Duration = Duration::from_millis(200);

/// Dependants that are read, more than are told.
const DEPENDANTS: i64 = 25;

/// Somebody else changed the role meanwhile: look again.
pub(super) struct Overtaken;

/// What is found in a database that is connected to.
struct Found {
    contents: Contents,
    /// The server process of the connection.
    pid: i32,
}

impl Cluster {
    /// Clears shared objects and each of `databases`. Gives what is left; a failure in one is no
    /// reason to leave another.
    pub(super) async fn clear(
        &self,
        estate: &Estate,
        fate: Fate,
        databases: &[String],
    ) -> Result<Vec<Blocker>, Overtaken> {
        let mut blockers = Vec::new();
        if estate.shared_privileges {
            crash::at(Place::RevokeShared);
            blockers.extend(self.clear_shared(estate).await?);
        }
        for database in databases {
            crash::at(Place::RevokeDatabase);
            blockers.extend(self.clear_database(estate, fate, database).await?);
        }
        Ok(blockers)
    }

    async fn clear_shared(&self, estate: &Estate) -> Result<Vec<Blocker>, Overtaken> {
        let grants = match self.shared_grants(estate).await {
            Ok(grants) => grants,
            Err(error) => return Ok(vec![Blocker::new(BlockerKind::Cluster, error.with_cause())]),
        };
        let plan = plan::clear_shared(estate, &grants);
        let (lane, limits) = (Lane::Revoke, &self.limits);
        match self.connections.apply(lane, limits, &plan.statements, Duration::MAX).await {
            Ok(_) => {}
            Err(failure) if moved_on(&failure) => return Err(Overtaken),
            Err(failure) => {
                let detail = format!("privileges on shared objects are not taken back: {failure}");
                return Ok(vec![Blocker::new(BlockerKind::Privilege, detail)]);
            }
        }
        if !plan.look_again {
            return Ok(Vec::new());
        }
        Ok(match self.shared_grants(estate).await {
            Ok(grants) => plan::left(&estate.name, None, &grants, &[]),
            Err(error) => vec![Blocker::new(BlockerKind::Cluster, error.with_cause())],
        })
    }

    async fn shared_grants(&self, estate: &Estate) -> Result<Vec<Grant>, ClusterError> {
        let doing = "reading privileges on shared objects";
        let oid = estate.oid.0;
        let sql = include_str!("sql/shared_grants.sql");
        let [rows] = self
            .connections
            .read(Lane::Revoke, doing, [Query { sql, parameters: &[&oid] }])
            .await?;
        let mut grants = self.grants(&rows)?;
        if estate.version.has_parameter_privileges() {
            let sql = include_str!("sql/parameter_grants.sql");
            let query = Query { sql, parameters: &[&oid] };
            let [rows] = self.connections.read(Lane::Revoke, doing, [query]).await?;
            grants.extend(self.grants(&rows)?);
        }
        Ok(grants)
    }

    async fn clear_database(
        &self,
        estate: &Estate,
        fate: Fate,
        database: &str,
    ) -> Result<Vec<Blocker>, Overtaken> {
        let client = match self.connections.open(database).await {
            Ok(client) => client,
            Err(failure) => return Ok(vec![not_reached(estate, database, &failure)]),
        };
        let not_read = |error: &ClusterError| {
            let detail = format!("what the role has in database {database} cannot be read");
            let detail = format!("{detail}: {}", error.with_cause());
            let blocker = Blocker::new(BlockerKind::Database, detail).within(database);
            vec![match (error, &estate.attic) {
                // A name there is no text in any encoding; statements without names still work.
                (ClusterError::Rejected { source, .. }, Attic::Found { name, .. })
                    if source.is_one_of(&["22021", "22P05"]) =>
                {
                    let (role, attic) = (identifier(&estate.name), name.quoted());
                    let sql = format!("REASSIGN OWNED BY {role} TO {attic}; DROP OWNED BY {role}");
                    blocker.remedy_sql(&sql)
                }
                _ => blocker,
            }]
        };
        let found = match self.contents(&client, estate, database).await {
            Ok(Some(found)) => found,
            Ok(None) => return Err(Overtaken),
            Err(error) => return Ok(not_read(&error)),
        };
        let plan = plan::clear(estate, &found.contents, fate);
        let (done, waits) = self.watched(&client, found.pid, &plan.statements).await;
        match done {
            Ok(()) => {}
            Err(failure) if moved_on(&failure) => return Err(Overtaken),
            Err(failure) => {
                return Ok(self.explained(&client, estate, database, &failure, waits).await);
            }
        }
        let mut blockers = plan.blockers;
        if plan.look_again {
            match self.contents(&client, estate, database).await {
                Ok(Some(Found { contents, .. })) => {
                    let Contents { role, grants, policies, .. } = &contents;
                    blockers.extend(plan::left(role, Some(database), grants, policies));
                }
                Ok(None) => return Err(Overtaken),
                Err(error) => blockers.extend(not_read(&error)),
            }
        }
        Ok(blockers)
    }

    /// What the role has in the database of `client`; nothing when the role is gone meanwhile.
    async fn contents(
        &self,
        client: &ClientWrapper,
        estate: &Estate,
        database: &str,
    ) -> Result<Option<Found>, ClusterError> {
        let oid = estate.oid.0;
        let attic = if let Attic::Found { oid, .. } = &estate.attic { oid.0 } else { 0 };
        let queries = [
            Query { sql: include_str!("sql/contents.sql"), parameters: &[&oid, &attic] },
            Query { sql: include_str!("sql/grants.sql"), parameters: &[&oid] },
            Query { sql: include_str!("sql/policies.sql"), parameters: &[&oid] },
        ];
        let answers = try_join_all(queries.iter().map(|query| query.ask(client)));
        let answers = self.connections.bounded(Duration::MAX, answers).await;
        let answers =
            answers.map_err(|failure| failure.on(&self.name, "reading what a role has"))?;
        let [contents, grants, policies] = answers.as_slice() else {
            return Err(self.unreadable("another number of answers"));
        };
        let row = contents.first().ok_or_else(|| self.unreadable("an empty answer"))?;
        let Some(role) = column(&self.name, row, "role_name")? else { return Ok(None) };
        let contents = Contents {
            database: database.to_owned(),
            role,
            attic: column(&self.name, row, "attic_name")?,
            definers: column(&self.name, row, "definers")?,
            schemas: column(&self.name, row, "schemas")?,
            triggers: column(&self.name, row, "triggers")?,
            parts: column(&self.name, row, "parts")?,
            owned: column(&self.name, row, "owned")?,
            objects: named(&self.name, row)?,
            grants: self.grants(grants)?,
            policies: policies.iter().map(|row| self.policy(row)).collect::<Result<_, _>>()?,
        };
        Ok(Some(Found { contents, pid: column(&self.name, row, "pid")? }))
    }

    fn grants(&self, rows: &[Row]) -> Result<Vec<Grant>, ClusterError> {
        let grant = |row: &Row| {
            Ok(Grant {
                prefix: column(&self.name, row, "prefix")?,
                privileges: column(&self.name, row, "privileges")?,
                target: column(&self.name, row, "target")?,
                grantor: column(&self.name, row, "grantor")?,
                grantee: column(&self.name, row, "grantee")?,
                of_own: column(&self.name, row, "of_own")?,
                by_role: column(&self.name, row, "by_role")?,
                can_act: column(&self.name, row, "can_act")?,
            })
        };
        rows.iter().map(grant).collect()
    }

    fn policy(&self, row: &Row) -> Result<Policy, ClusterError> {
        Ok(Policy {
            name: column(&self.name, row, "policy")?,
            table: column(&self.name, row, "table")?,
            others: column(&self.name, row, "others")?,
            owner: column(&self.name, row, "owner")?,
            of_own: column(&self.name, row, "of_own")?,
            can_act: column(&self.name, row, "can_act")?,
        })
    }

    /// Awaits `run` and asks now and then what it waits for: once it has failed, nobody can say
    /// any more.
    pub(super) async fn while_looking<T, L, F>(
        &self,
        run: impl Future<Output = T>,
        look: impl Fn() -> F,
    ) -> (T, Vec<L>)
    where
        F: Future<Output = Result<Vec<L>, ClusterError>>,
    {
        let mut run = pin!(run);
        let mut waits = Vec::new();
        loop {
            let looking = async {
                sleep(LOOK_EVERY).await;
                look().await
            };
            tokio::select! {
                biased;
                done = &mut run => return (done, waits),
                seen = looking => if let Ok(seen) = seen && !seen.is_empty() {
                    waits = seen;
                }
            }
        }
    }

    /// Runs `statements` and watches from another connection whom they wait for.
    async fn watched(
        &self,
        client: &ClientWrapper,
        pid: i32,
        statements: &[Statement],
    ) -> (Result<(), Failure>, Vec<LockHolder>) {
        let run = self.connections.apply_on(client, &self.limits, statements, Duration::MAX);
        let (done, waits) = self.while_looking(run, || self.waits(pid)).await;
        (done.map(|_| ()), waits)
    }

    /// Why `database` is not cleared, and what a person can do.
    async fn explained(
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

    async fn dependants(
        &self,
        client: &ClientWrapper,
        estate: &Estate,
    ) -> Result<Vec<Blocker>, ClusterError> {
        let sql = include_str!("sql/dependants.sql");
        let parameters: &[&(dyn tokio_postgres::types::ToSql + Sync)] =
            &[&estate.oid.0, &DEPENDANTS];
        let rows = self.ask(client, Query { sql, parameters }).await?;
        let blocker = |row: &Row| {
            let Shown(dependant) = column(&self.name, row, "dependant")?;
            let Shown(object) = column(&self.name, row, "object")?;
            let remedy: Option<String> = column(&self.name, row, "remedy")?;
            let detail = format!("{dependant} depends on {object} of the role");
            let blocker = Blocker::new(BlockerKind::Object, detail).about(object);
            Ok(match remedy {
                Some(sql) => blocker.remedy_sql(&sql),
                None => blocker.remedy("drop it, or give the role's object another owner"),
            })
        };
        rows.iter().map(blocker).collect()
    }
}

/// A database that the broker cannot connect to.
fn not_reached(estate: &Estate, database: &str, failure: &Failure) -> Blocker {
    let detail = format!("database {database} cannot be connected to: {failure}");
    let blocker = Blocker::new(BlockerKind::Database, detail).within(database);
    if failure.is_one_of(&["42501"]) {
        let (database, broker) = (identifier(database), identifier(&estate.broker));
        blocker.remedy_sql(&format!("GRANT CONNECT ON DATABASE {database} TO {broker}"))
    } else {
        blocker
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
