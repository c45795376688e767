//! A role ends: first its access, then what it left, then the role.
//!
//! Each step looks anew and is harmless when it has been done already, so that any of them may
//! run twice, or by two brokers at once.

use std::error::Error;
use std::pin::pin;
use std::time::Duration;

use tokio::time::sleep;
use tokio_postgres::Row;
use tracing::debug;

use super::connect::{Lane, Query};
use super::error::{ClusterError, Failure, FailureKind};
use super::observe::{Located, SeenRole, column, moved_on};
use super::{AccessEnd, Cluster, Removal, RoleTarget};
use crate::clock::Stopwatch;
use crate::crash;
use crate::lease::plan::{self, Clearing, Rollback, Statement};
use crate::lease::{Blocker, BlockerKind, Holder};
use crate::mapping::ObjectPolicy;
use crate::names::{RoleName, RoleOid, printable};

/// What is being done when a role is closed.
const CLOSING: &str = "ending a role's access";

/// How often a plan is made anew because the world moved while it was run.
const RETRIES: u32 = 5;

/// How long closing a role is tried against somebody who keeps its row locked or changing.
const CLOSES_WITHIN: Duration = Duration::from_secs(10);

/// How often it is tried at least, however long the server lets one try wait.
const CLOSING_TRIES: u32 = 2;

/// How long closing a role may take before what it waits for is ended, and the pause between two
/// such blows. Short, or a client that reconnects at once keeps the row locked.
const PATIENCE: Duration = Duration::from_millis(50);

/// How long sessions may take to end once they were told to.
const SESSIONS_END_WITHIN: Duration = Duration::from_secs(10);

impl Cluster {
    /// Ends the access that a role gives: log-in, memberships, and then every session, by OID.
    /// Harmless when it has ended already.
    ///
    /// # Errors
    /// When the role is not ours, or the cluster failed.
    pub async fn end_access(&self, target: &RoleTarget) -> Result<AccessEnd, ClusterError> {
        match self.close(target).await? {
            Closed::Absent { oid: None } => Ok(AccessEnd::Gone),
            Closed::Absent { oid: Some(oid) } => Ok(match self.end_sessions(oid).await? {
                None => AccessEnd::Gone,
                Some(blocker) => AccessEnd::Blocked(vec![blocker]),
            }),
            Closed::Done { oid, mut blockers } => {
                blockers.extend(self.end_sessions(oid).await?);
                let ended = blockers.is_empty();
                Ok(if ended { AccessEnd::Ended(oid) } else { AccessEnd::Blocked(blockers) })
            }
            Closed::Not { oid, failure, in_the_way } => {
                let sessions = self.end_sessions(oid).await;
                if !contended(&failure) {
                    return Err(failure.on(&self.name, CLOSING));
                }
                let detail = format!("the role (OID {oid}) cannot be closed to log-ins: {failure}");
                let mut blockers = vec![Blocker::new(BlockerKind::Role, detail)];
                blockers.extend(in_the_way);
                blockers.extend(sessions?);
                Ok(AccessEnd::Blocked(blockers))
            }
        }
    }

    /// Removes a role with all it owns in every database, and verifies that it is gone. Ends its
    /// access first if that has not happened. Harmless when it is gone already.
    ///
    /// # Errors
    /// When the role is not ours, or the cluster failed.
    pub async fn remove(
        &self,
        target: &RoleTarget,
        policy: ObjectPolicy,
    ) -> Result<Removal, ClusterError> {
        let mut tries = 0;
        loop {
            let role = match self.locate(Lane::Revoke, target).await? {
                Located::Ours(role) => role,
                Located::Missing => return self.verify_gone(target.oid).await,
                Located::OidTaken => return Ok(Removal::Gone),
                Located::NotOurs(error) => return Err(error),
            };
            let blockers = if role.can_login {
                match self.end_access(&RoleTarget::found(target.lease, role.oid)).await? {
                    AccessEnd::Blocked(blockers) => blockers,
                    AccessEnd::Ended(_) | AccessEnd::Gone => Vec::new(),
                }
            } else {
                self.end_sessions(role.oid).await?.into_iter().collect()
            };
            if !blockers.is_empty() {
                return Ok(Removal::Blocked(blockers));
            }
            match self.remove_closed(&role, policy).await? {
                Removed::Dropped => return self.verify_gone(Some(role.oid)).await,
                Removed::Moved if tries < RETRIES => tries += 1,
                Removed::Moved => {
                    let again = "the role is being changed by somebody else";
                    return Ok(Removal::Blocked(vec![Blocker::new(BlockerKind::Role, again)]));
                }
                Removed::Blocked(blockers) => return Ok(Removal::Blocked(blockers)),
            }
        }
    }

    /// Takes log-in and memberships away, in one transaction. Whoever holds a lock on the role's
    /// row (its holder can, by `ALTER ROLE CURRENT_USER PASSWORD`) is ended meanwhile.
    async fn close(&self, target: &RoleTarget) -> Result<Closed, ClusterError> {
        let (begun, mut tries) = (Stopwatch::start(), 0);
        loop {
            let role = match self.locate(Lane::Revoke, target).await? {
                Located::Ours(role) => role,
                Located::Missing => return Ok(Closed::Absent { oid: target.oid }),
                Located::OidTaken => return Ok(Closed::Absent { oid: None }),
                Located::NotOurs(error) => return Err(error),
            };
            let oid = role.oid;
            let Some(view) = self.view(&role).await? else { continue };
            let statements = plan::end_access(&view);
            let (closed, mut in_the_way) = self.close_by_force(&role, &statements).await;
            tries += 1;
            match closed {
                Ok(blockers) => return Ok(Closed::Done { oid, blockers }),
                Err(failure) if !contended(&failure) => {
                    return Ok(Closed::Not { oid, failure, in_the_way });
                }
                Err(failure) if tries >= CLOSING_TRIES && begun.elapsed() > CLOSES_WITHIN => {
                    return Ok(Closed::Not { oid, failure, in_the_way });
                }
                // Should the connection for help not be had, this one is there.
                Err(_) => in_the_way = self.clear_the_way(Lane::Revoke, &role).await,
            }
            debug!(cluster = %self.name, %oid, ?in_the_way, "closing a role is tried again");
        }
    }

    /// Sends `statements`, which then stand first in the queue for the row, and for as long as
    /// they wait ends on another connection what they may wait for. Gives what that left too.
    async fn close_by_force(
        &self,
        role: &SeenRole,
        statements: &[Statement],
    ) -> (Result<Vec<Blocker>, Failure>, Vec<Blocker>) {
        let mut closing = pin!(self.close_by(statements));
        let mut in_the_way = Vec::new();
        loop {
            let clearing = async {
                sleep(PATIENCE).await;
                self.clear_the_way(Lane::Help, role).await
            };
            tokio::select! {
                biased;
                closed = &mut closing => return (closed, in_the_way),
                left = clearing => in_the_way = left,
            }
        }
    }

    /// Ends, once, what can hold a lock in the role's name: its sessions and its prepared
    /// transactions. Gives a text for each that does not give way, and for who else holds one.
    async fn clear_the_way(&self, lane: Lane, role: &SeenRole) -> Vec<Blocker> {
        let mut left = Vec::new();
        match self.signal_sessions(lane, role.oid).await {
            Ok(_) => {}
            Err(error) if not_permitted(&error) => {
                left.extend(self.signal_as_member(lane, role).await.err());
            }
            Err(error) => left.push(away(&error)),
        }
        match self.estate(lane, role).await {
            Ok(Some(estate)) => left.extend(self.roll_all_back(&plan::roll_back(&estate)).await),
            Ok(None) => {}
            Err(error) => left.push(away(&error)),
        }
        match self.in_the_way(lane, role).await {
            Ok(holders) => left.extend(holders),
            Err(error) => left.push(away(&error)),
        }
        left
    }

    /// Like `signal_sessions`, for a login without `pg_signal_backend`: the closing transaction
    /// would make it a member of the role, but that one waits.
    async fn signal_as_member(&self, lane: Lane, role: &SeenRole) -> Result<(), Blocker> {
        let estate = self.estate(lane, role).await.map_err(|error| away(&error))?;
        let join = estate.map(|estate| plan::join(&estate)).unwrap_or_default();
        let joined = self.connections.apply(lane, &self.limits, &join, Duration::MAX).await;
        joined.map_err(|failure| {
            let detail = format!("the broker cannot act for the role: {failure}");
            Blocker::new(BlockerKind::BrokerRight, detail)
        })?;
        let signalled = self.signal_sessions(lane, role.oid).await;
        signalled.map(|_| ()).map_err(|error| away(&error))
    }

    /// Tells every session of the role `oid` to end, and gives those that there were.
    async fn signal_sessions(&self, lane: Lane, oid: RoleOid) -> Result<Vec<Row>, ClusterError> {
        let query = Query { sql: include_str!("sql/end_sessions.sql"), parameters: &[&oid.0] };
        let [sessions] = self.connections.read(lane, "ending a role's sessions", [query]).await?;
        Ok(sessions)
    }

    /// All at once; when the server refuses one of them, as many as it lets us.
    async fn close_by(&self, statements: &[Statement]) -> Result<Vec<Blocker>, Failure> {
        let (lane, limits, vital) = (Lane::Revoke, &self.limits, plan::VITAL_TO_END_ACCESS);
        match self.connections.apply(lane, limits, statements, Duration::MAX).await {
            Ok(_) => Ok(Vec::new()),
            Err(failure) if failure.kind == FailureKind::Rejected && !moved_on(&failure) => {
                let run = self.connections.apply_what_can_be(
                    lane,
                    limits,
                    statements,
                    vital,
                    Duration::MAX,
                );
                let refused = run.await?;
                Ok(refused.into_iter().map(not_revoked).collect())
            }
            Err(failure) => Err(failure),
        }
    }

    /// Ends every session of the role `oid`, whether the role exists or not. Gives a text when
    /// one is left.
    async fn end_sessions(&self, oid: RoleOid) -> Result<Option<Blocker>, ClusterError> {
        let begun = Stopwatch::start();
        let mut pause = Duration::from_millis(5);
        loop {
            let sessions = match self.signal_sessions(Lane::Revoke, oid).await {
                Err(error) if not_permitted(&error) => {
                    let detail = format!(
                        "a session of the role (OID {oid}) is open and the broker may not end it: {}",
                        with_cause(&error)
                    );
                    let blocker = Blocker::new(BlockerKind::BrokerRight, detail);
                    let remedy = "grant pg_signal_backend to the broker's login";
                    return Ok(Some(blocker.remedy(remedy)));
                }
                answer => answer?,
            };
            if sessions.is_empty() {
                return Ok(None);
            }
            if begun.elapsed() > SESSIONS_END_WITHIN {
                let pids = sessions.iter().map(|row| column::<i32>(&self.name, row, "pid"));
                let pids = pids.collect::<Result<Vec<_>, _>>()?;
                let detail = format!(
                    "sessions of the role (OID {oid}) do not end although they were told to, \
                     server processes {pids:?}"
                );
                let holder = Holder { pid: pids.first().copied(), role: None };
                return Ok(Some(Blocker::new(BlockerKind::Session, detail).held_by(holder)));
            }
            sleep(pause).await;
            pause = (pause * 2).min(Duration::from_millis(250));
        }
    }

    /// Removes a role that has no access any more.
    async fn remove_closed(
        &self,
        role: &SeenRole,
        policy: ObjectPolicy,
    ) -> Result<Removed, ClusterError> {
        let Some(estate) = self.estate(Lane::Revoke, role).await? else {
            return Ok(Removed::Moved);
        };
        let plan = plan::remove(&estate, policy, self.attic_role.as_ref());
        let mut blockers = plan.blockers;
        blockers.extend(self.roll_all_back(&plan.rollbacks).await);
        for clearing in &plan.clearings {
            crash::at("revoke before a database is cleared");
            match self.clear(role.oid, clearing).await {
                Ok(()) => {}
                Err(failure) if self.lacks_attic(&failure) => {
                    let detail = format!("the attic role is missing: {failure}");
                    let blocker = Blocker::new(BlockerKind::Object, detail);
                    blockers.push(blocker.remedy("make the role that `attic_role` names"));
                }
                Err(failure) if moved_on(&failure) => return Ok(Removed::Moved),
                Err(failure) => blockers.push(not_cleared(clearing, &failure)),
            }
        }
        if !blockers.is_empty() {
            return Ok(Removed::Blocked(blockers));
        }
        crash::at("revoke before the drop");
        self.drop_role(&plan.drop).await
    }

    /// Whether it is the attic role that does not exist, and not the lease role.
    fn lacks_attic(&self, failure: &Failure) -> bool {
        let named = |attic: &RoleName| failure.text.contains(&format!("\"{attic}\""));
        failure.is_one_of(&["42704"]) && self.attic_role.as_ref().is_some_and(named)
    }

    async fn drop_role(&self, statements: &[Statement]) -> Result<Removed, ClusterError> {
        let (lane, limits) = (Lane::Revoke, &self.limits);
        match self.connections.apply(lane, limits, statements, Duration::MAX).await {
            Ok(_) => Ok(Removed::Dropped),
            Err(failure) if moved_on(&failure) => Ok(Removed::Moved),
            Err(failure) if failure.kind == FailureKind::Rejected => {
                let detail = format!("the role cannot be dropped: {failure}");
                Ok(Removed::Blocked(vec![Blocker::new(BlockerKind::Privilege, detail)]))
            }
            Err(failure) => Err(failure.on(&self.name, "dropping a role")),
        }
    }

    /// Gives a text for each that could not be rolled back.
    async fn roll_all_back(&self, rollbacks: &[Rollback]) -> Vec<Blocker> {
        let mut left = Vec::new();
        for rollback in rollbacks {
            if let Err(failure) = self.roll_back(rollback).await {
                let (gid, database) = (printable(&rollback.gid), printable(&rollback.database));
                let detail = format!(
                    "prepared transaction {gid} in database {database} is not rolled back: {failure}"
                );
                let blocker = Blocker::new(BlockerKind::PreparedTransaction, detail);
                left.push(blocker.within(&rollback.database).about(&rollback.gid));
            }
        }
        left
    }

    /// Each statement on its own: a prepared transaction ends outside of any other.
    async fn roll_back(&self, rollback: &Rollback) -> Result<(), Failure> {
        let client = self.connections.open(&rollback.database).await?;
        for statement in &rollback.statements {
            let run = client.batch_execute(statement.sql());
            self.connections.bounded(Duration::MAX, run).await?;
        }
        Ok(())
    }

    async fn clear(&self, oid: RoleOid, clearing: &Clearing) -> Result<(), Failure> {
        let (limits, within) = (&self.limits, Duration::MAX);
        if let Some(database) = &clearing.database {
            let client = self.connections.open(database).await?;
            // The role has no session any more that could make another one.
            let query = Query { sql: include_str!("sql/definers.sql"), parameters: &[&oid.0] };
            let rows = self.connections.bounded(within, query.ask(&client)).await?;
            let unreadable = |_| Failure::broken("the name of a routine is unreadable".to_owned());
            let definers = rows.iter().map(|row| row.try_get("routine").map_err(unreadable));
            let statements = clearing.disarming(&definers.collect::<Result<Vec<_>, _>>()?);
            self.connections.apply_on(&client, limits, &statements, within).await?;
        } else {
            let statements = &clearing.statements;
            self.connections.apply(Lane::Revoke, limits, statements, within).await?;
        }
        Ok(())
    }

    /// The OIDs of roles that have sessions and are gone, of whomever they were.
    ///
    /// # Errors
    /// When the cluster cannot be asked.
    pub async fn without_role(&self) -> Result<Vec<RoleOid>, ClusterError> {
        let query = Query { sql: include_str!("sql/without_role.sql"), parameters: &[] };
        let doing = "looking for sessions of roles that are gone";
        let [rows] = self.connections.read(Lane::Help, doing, [query]).await?;
        rows.iter().map(|row| column(&self.name, row, "oid").map(RoleOid)).collect()
    }

    /// Ends the sessions of a role that is gone and had `oid`, and gives how many there were.
    ///
    /// # Errors
    /// When the cluster cannot be asked.
    pub async fn end_without_role(&self, oid: RoleOid) -> Result<usize, ClusterError> {
        let sql = include_str!("sql/end_without_role.sql");
        let query = Query { sql, parameters: &[&oid.0] };
        let doing = "ending sessions of a role that is gone";
        let [rows] = self.connections.read(Lane::Help, doing, [query]).await?;
        Ok(rows.len())
    }

    /// Proves by OID that nothing is left: no role, nothing that depends on it, no session.
    async fn verify_gone(&self, oid: Option<RoleOid>) -> Result<Removal, ClusterError> {
        let Some(oid) = oid else { return Ok(Removal::Gone) };
        // A session may have begun between the last look and the drop.
        let mut blockers: Vec<Blocker> = self.end_sessions(oid).await?.into_iter().collect();
        let query = Query { sql: include_str!("sql/remains.sql"), parameters: &[&oid.0] };
        let doing = "verifying that a role is gone";
        let [rows] = self.connections.read(Lane::Revoke, doing, [query]).await?;
        let row = rows.first().ok_or_else(|| self.unreadable("an empty answer"))?;
        if column(&self.name, row, "role")? {
            let detail = format!("the role (OID {oid}) is back, or is not ours any more");
            blockers.push(Blocker::new(BlockerKind::Role, detail));
        }
        if column(&self.name, row, "dependencies")? {
            let detail = format!("pg_shdepend still names the role (OID {oid})");
            blockers.push(Blocker::new(BlockerKind::Object, detail));
        }
        Ok(if blockers.is_empty() { Removal::Gone } else { Removal::Blocked(blockers) })
    }
}

/// What became of a role's log-in and memberships.
enum Closed {
    /// There is no such role; `oid` is what its sessions are known by, if it had one and nobody
    /// else has it now.
    Absent { oid: Option<RoleOid> },
    /// They are gone, but for the blockers.
    Done { oid: RoleOid, blockers: Vec<Blocker> },
    /// They are not, and each of these may be in the way.
    Not { oid: RoleOid, failure: Failure, in_the_way: Vec<Blocker> },
}

/// Whether a role was not closed because somebody keeps its row locked or changing.
fn contended(failure: &Failure) -> bool {
    moved_on(failure) || failure.is_one_of(&["55P03", "57014"])
}

/// Whether the broker lacks the right to do it (42501).
fn not_permitted(error: &ClusterError) -> bool {
    matches!(error, ClusterError::Rejected { source, .. } if source.is_one_of(&["42501"]))
}

fn with_cause(error: &ClusterError) -> String {
    error.source().map_or_else(|| error.to_string(), |cause| format!("{error}: {cause}"))
}

/// What became of an attempt to remove a role.
enum Removed {
    Dropped,
    /// Somebody else changed it meanwhile: look again.
    Moved,
    Blocked(Vec<Blocker>),
}

/// A cluster that cannot be asked, as what keeps the role.
fn away(error: &ClusterError) -> Blocker {
    Blocker::new(BlockerKind::Cluster, with_cause(error))
}

/// A membership that the server did not let the broker revoke.
fn not_revoked(refused: String) -> Blocker {
    Blocker::new(BlockerKind::Membership, refused)
}

fn not_cleared(clearing: &Clearing, failure: &Failure) -> Blocker {
    let place = clearing.database.as_deref().unwrap_or("the maintenance database");
    let hint = match failure.code.as_deref() {
        Some("42501") if failure.text.contains("for schema") => {
            Some("to take over an object there, the attic role needs CREATE on the schema")
        }
        // The server quotes the name when it refuses to connect, and does not when an object of
        // the whole database, such as a schema, is to be taken over.
        Some("42501") if failure.text.contains("for database \"") => {
            Some("the broker's login needs CONNECT on the database")
        }
        Some("42501") if failure.text.contains("for database ") => {
            Some("to take over a schema, the attic role needs CREATE on the database")
        }
        Some("42501") => Some("the broker's login must be a member of the attic role"),
        Some("55P03") => Some("somebody is using an object of the role"),
        _ => None,
    };
    let kind = match failure.code.as_deref() {
        Some("55P03") => BlockerKind::Lock,
        Some("42501") => BlockerKind::BrokerRight,
        Some("2BP01") => BlockerKind::Object,
        _ => BlockerKind::Database,
    };
    let detail = format!("database {} is not cleared: {failure}", printable(place));
    let blocker = Blocker { database: clearing.database.clone(), ..Blocker::new(kind, detail) };
    Blocker { remedy: hint.map(str::to_owned), ..blocker }
}
