//! What removing does in one database: look, plan, apply, portion by portion.
//!
//! Invariant: nothing here is as large as what the role's holder has made. What is read is a
//! portion, and what is dealt with is gone from what is read next.

use std::time::Duration;

use deadpool_postgres::ClientWrapper;
use futures::future::try_join_all;
use tokio_postgres::Row;
use tracing::debug;

use super::Cluster;
use super::connect::{Lane, Query};
use super::error::{ClusterError, Failure};
use super::explain::{not_reached, not_read};
use super::handed::HandedOver;
use super::locks::{LockHolder, while_looking};
use super::row::{column, count, named, named_here, named_portion};
use crate::clock::Stopwatch;
use crate::crash::{self, Place};
use crate::lease::plan::{
    self, Attic, COUNTED, Contents, Estate, Fate, Grant, Next, PORTION, Pace, Policy,
};
use crate::lease::{Blocker, BlockerKind};
use crate::names::LeaseId;

/// For how long one attempt goes on with portion after portion. Somebody who goes on granting can
/// make more of them all the time, and others wait for their turn.
const GOES_ON_FOR: Duration = Duration::from_mins(5);

/// Somebody else changed the role meanwhile: look again.
pub(super) struct Overtaken;

/// What is found in a database that is connected to.
struct Found {
    contents: Contents,
    /// The server process of the connection.
    pid: i32,
}

/// A database that is being cleared.
struct Clearance<'a> {
    lease: LeaseId,
    client: ClientWrapper,
    estate: &'a Estate,
    database: &'a str,
    fate: Fate,
    /// How many of each sort are dealt with at once.
    limit: usize,
    pace: Pace,
    /// What the last portion was made from.
    before: Option<Contents>,
}

impl Clearance<'_> {
    /// Fewer at a time may do where so many were too much for the server.
    fn take_fewer(&mut self) {
        self.limit = (self.limit / 4).max(1);
        (self.pace, self.before) = (Pace::InPortions, None);
    }
}

/// What is left when no more can be done.
enum Cleared {
    /// All was done, but for these.
    All(Vec<Blocker>),
    /// The server did not let us, or could not be asked.
    Not(Vec<Blocker>),
}

/// Which privileges and policies are read.
#[derive(Clone, Copy)]
enum Which {
    /// Those that the broker can take back.
    Ours,
    /// The others too.
    All,
}

impl Which {
    fn as_str(self) -> &'static str {
        match self {
            Self::Ours => "ours",
            Self::All => "all",
        }
    }
}

impl Cluster {
    /// Clears shared objects and each of `databases`. Gives what is left; a failure in one is no
    /// reason to leave another.
    pub(super) async fn clear(
        &self,
        lease: LeaseId,
        estate: &Estate,
        fate: Fate,
        databases: &[String],
    ) -> Result<Vec<Blocker>, Overtaken> {
        let mut blockers = Vec::new();
        if estate.shared_privileges {
            blockers.extend(self.clear_shared(estate).await?);
        }
        for database in databases {
            crash::at(Place::RevokeDatabase);
            blockers.extend(self.clear_database(lease, estate, fate, database).await?);
        }
        Ok(blockers)
    }

    async fn clear_shared(&self, estate: &Estate) -> Result<Vec<Blocker>, Overtaken> {
        let mut before = Vec::new();
        loop {
            let grants = match self.shared_grants(estate, Which::Ours).await {
                Ok(grants) => grants,
                Err(error) => return Ok(vec![error.blocker()]),
            };
            let plan = plan::clear_shared(estate, &grants);
            let (lane, limits) = (Lane::Remove, &self.limits);
            crash::at(Place::RevokeShared);
            match self.connections.apply(lane, limits, &plan.statements).await {
                Ok(_) => {}
                Err(failure) if failure.moved_on() => return Err(Overtaken),
                Err(failure) => {
                    let detail =
                        format!("privileges on shared objects are not taken back: {failure}");
                    return Ok(vec![Blocker::new(BlockerKind::Privilege, detail)]);
                }
            }
            if grants.len() < PORTION || grants == before {
                break;
            }
            before = grants;
        }
        Ok(match self.shared_grants(estate, Which::All).await {
            Ok(grants) => plan::left(&estate.name, None, &grants, &[]),
            Err(error) => vec![error.blocker()],
        })
    }

    async fn shared_grants(
        &self,
        estate: &Estate,
        which: Which,
    ) -> Result<Vec<Grant>, ClusterError> {
        let doing = "reading privileges on shared objects";
        let (oid, limit, which) = (estate.oid.0, count(PORTION), which.as_str());
        let sql = include_str!("sql/shared_grants.sql");
        let query = Query { sql, parameters: &[&oid, &limit, &which] };
        let [rows] = self.connections.read(Lane::Remove, doing, [query]).await?;
        let mut grants = self.grants(&rows)?;
        if estate.version.has_parameter_privileges() {
            let sql = include_str!("sql/parameter_grants.sql");
            let query = Query { sql, parameters: &[&oid, &limit, &which] };
            let [rows] = self.connections.read(Lane::Remove, doing, [query]).await?;
            grants.extend(self.grants(&rows)?);
        }
        Ok(grants)
    }

    async fn clear_database(
        &self,
        lease: LeaseId,
        estate: &Estate,
        fate: Fate,
        database: &str,
    ) -> Result<Vec<Blocker>, Overtaken> {
        let client = match self.connections.open(database).await {
            Ok(client) => client,
            Err(failure) => return Ok(vec![not_reached(estate, database, &failure)]),
        };
        let mut told = Vec::new();
        if fate == Fate::Drop {
            told = match self.taken_along(&client, estate, database).await {
                Ok(told) => told,
                Err(error) => vec![not_read(estate, database, &error)],
            };
        }
        let fate = if told.is_empty() { fate } else { Fate::Leave };
        let (limit, pace, before) = (PORTION, Pace::InPortions, None);
        let mut clearance =
            Clearance { lease, client, estate, database, fate, limit, pace, before };
        let mut blockers = match self.clear_in_portions(&mut clearance).await? {
            Cleared::All(blockers) => [told, blockers].concat(),
            Cleared::Not(blockers) => return Ok([told, blockers].concat()),
        };
        match self.contents(&clearance, Which::All).await {
            Ok(Some(Found { contents, .. })) => {
                let Contents { role, grants, policies, .. } = &contents;
                blockers.extend(plan::left(role, Some(database), grants, policies));
            }
            Ok(None) => return Err(Overtaken),
            Err(error) => blockers.push(not_read(estate, database, &error)),
        }
        Ok(blockers)
    }

    /// Goes on until all is done, or nothing gets less any more.
    async fn clear_in_portions(&self, work: &mut Clearance<'_>) -> Result<Cleared, Overtaken> {
        let begun = Stopwatch::start();
        loop {
            if let Some(cleared) = self.clear_portion(work).await? {
                return Ok(cleared);
            }
            if begun.elapsed() > GOES_ON_FOR {
                return Ok(Cleared::Not(vec![goes_on(work.database)]));
            }
        }
    }

    /// Deals with the next portion; gives what came of all when that was the last.
    async fn clear_portion(&self, work: &mut Clearance<'_>) -> Result<Option<Cleared>, Overtaken> {
        let (estate, database) = (work.estate, work.database);
        let Found { contents, pid } = match self.contents(work, Which::Ours).await {
            Ok(Some(found)) => found,
            Ok(None) => return Err(Overtaken),
            Err(error) => return Ok(Some(Cleared::Not(vec![not_read(estate, database, &error)]))),
        };
        if work.before.as_ref() == Some(&contents) {
            work.pace = Pace::AtOnce;
        }
        let plan = plan::clear(estate, &contents, work.fate, work.pace);
        let attic = contents.attic.as_ref().filter(|_| plan.handed_over > 0);
        let handed_over = attic
            .map(|attic| HandedOver::new(database, attic, plan.handed_over, &contents.portion));
        if let Some(what) = &handed_over {
            crash::at(Place::RevokeHandOver);
            self.announce(work.lease, estate.oid, what).await;
        }
        crash::at(Place::RevokePortion);
        let (client, limits) = (&work.client, &self.limits);
        let run = self.connections.apply_on(client, limits, &plan.statements, Duration::MAX);
        let (done, mut waits) = while_looking(run, || self.waits(pid)).await;
        let mut done = done.map(|_| ());
        if let (Ok(()), Some(what)) = (&done, handed_over) {
            self.handed.note(work.lease, what);
        }
        if done.is_ok() && plan.next == Next::DropSome {
            (done, waits) = self.drop_some(work, &contents.role, pid).await;
        }
        let failure = match done {
            Ok(()) if plan.next == Next::Nothing => return Ok(Some(Cleared::All(plan.blockers))),
            Ok(()) => {
                work.before = (plan.next == Next::Again).then_some(contents);
                return Ok(None);
            }
            Err(failure) if failure.moved_on() => return Err(Overtaken),
            Err(failure) => failure,
        };
        if is_too_much(&failure) && work.limit > 1 {
            work.take_fewer();
            debug!(cluster = %self.name, database, limit = work.limit, %failure, "too much at once for the server");
            return Ok(None);
        }
        let why = self.explained(&work.client, estate, database, &failure, waits).await;
        Ok(Some(Cleared::Not(why)))
    }

    /// Drops what can be dropped one after the other. When nothing can, all is tried at once.
    async fn drop_some(
        &self,
        work: &mut Clearance<'_>,
        role: &str,
        pid: i32,
    ) -> (Result<(), Failure>, Vec<LockHolder>) {
        let (oid, limit) = (work.estate.oid.0, count(work.limit));
        let query = Query { sql: include_str!("sql/droppable.sql"), parameters: &[&oid, &limit] };
        let answer = self.connections.bounded(Duration::MAX, query.ask(&work.client)).await;
        let objects = match answer {
            Ok(rows) => rows.iter().filter_map(named_here).collect::<Vec<_>>(),
            Err(failure) => return (Err(failure), Vec::new()),
        };
        let (first, each) = plan::drop_each(work.estate, role, &objects);
        crash::at(Place::RevokeDropSome);
        let run = self.connections.apply_each(&work.client, &self.limits, &first, &each);
        let (dropped, waits) = while_looking(run, || self.waits(pid)).await;
        let done = dropped.map(|dropped| {
            if dropped == 0 {
                work.pace = Pace::AtOnce;
            }
        });
        (done, waits)
    }

    /// A portion of what the role has in a database; nothing when the role is gone meanwhile.
    async fn contents(
        &self,
        work: &Clearance<'_>,
        which: Which,
    ) -> Result<Option<Found>, ClusterError> {
        let (oid, limit, counted) = (work.estate.oid.0, count(work.limit), count(COUNTED));
        let attic = if let Attic::Found { oid, .. } = &work.estate.attic { oid.0 } else { 0 };
        let sql = include_str!("sql/contents.sql");
        let query = Query { sql, parameters: &[&oid, &attic, &limit, &counted] };
        let rows = self.look_into(&work.client, [query]).await?;
        let row = rows.first().and_then(|rows| rows.first());
        let row = row.ok_or_else(|| self.unreadable("an empty answer"))?;
        let Some(role) = column(&self.name, row, "role_name")? else { return Ok(None) };
        let (grants, policies) = self.privileges(work, which, row).await?;
        let owned: i64 = column(&self.name, row, "owned")?;
        let contents = Contents {
            database: work.database.to_owned(),
            limit: work.limit,
            role,
            attic: column(&self.name, row, "attic_name")?,
            definers: column(&self.name, row, "definers")?,
            schemas: column(&self.name, row, "schemas")?,
            triggers: column(&self.name, row, "triggers")?,
            parts: column(&self.name, row, "parts")?,
            mappings: column(&self.name, row, "mappings")?,
            owned: usize::try_from(owned).map_err(|_| self.unreadable("owned"))?,
            objects: named(&self.name, row)?,
            portion: named_portion(&self.name, row)?,
            grants,
            policies,
        };
        Ok(Some(Found { contents, pid: column(&self.name, row, "pid")? }))
    }

    /// Privileges and policies that name the role, besides those on objects of the portion in `row`.
    async fn privileges(
        &self,
        work: &Clearance<'_>,
        which: Which,
        row: &Row,
    ) -> Result<(Vec<Grant>, Vec<Policy>), ClusterError> {
        let (mut classes, mut oids): (Vec<u32>, Vec<u32>) =
            (column(&self.name, row, "portion_classes")?, column(&self.name, row, "portion_oids")?);
        if work.fate != Fate::HandOver {
            // What it gave on its own goes or stays with that.
            (classes, oids) = (Vec::new(), Vec::new());
        }
        let (oid, limit, which) = (work.estate.oid.0, count(work.limit), which.as_str());
        let queries = [
            Query {
                sql: include_str!("sql/grants.sql"),
                parameters: &[&oid, &limit, &which, &classes, &oids],
            },
            Query { sql: include_str!("sql/policies.sql"), parameters: &[&oid, &limit, &which] },
        ];
        let answers = self.look_into(&work.client, queries).await?;
        let [grants, policies] = answers.as_slice() else {
            return Err(self.unreadable("another number of answers"));
        };
        let policies = policies.iter().map(|row| self.policy(row)).collect::<Result<_, _>>()?;
        Ok((self.grants(grants)?, policies))
    }

    async fn look_into<const N: usize>(
        &self,
        client: &ClientWrapper,
        queries: [Query<'_>; N],
    ) -> Result<Vec<Vec<Row>>, ClusterError> {
        let answers = try_join_all(queries.iter().map(|query| query.ask(client)));
        let answers = self.connections.bounded(Duration::MAX, answers).await;
        answers.map_err(|failure| failure.on(&self.name, "reading what a role has"))
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
}

/// Whether fewer objects at a time may be less than too much: for the server's lock table (53200),
/// its stack (54001, a long chain of dependencies), or the time there is for a statement (57014).
fn is_too_much(failure: &Failure) -> bool {
    failure.is_one_of(&["53200", "54001", "57014"])
}

fn goes_on(database: &str) -> Blocker {
    let detail = format!(
        "there was more of the role in database {database} than went in {} s; the next attempt \
         goes on",
        GOES_ON_FOR.as_secs()
    );
    Blocker::new(BlockerKind::Database, detail).within(database)
}
