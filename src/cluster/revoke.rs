//! A role ends: first its access, then what it left, then the role.
//!
//! Each step looks anew and is harmless when it has been done already, so that any of them may
//! run twice, or by two brokers at once.
//!
//! What a server does not tell, nobody can take away:
//! - who made a replication slot. Only a role that a DBA gave REPLICATION can have, and that one is
//!   held until the DBA takes it back;
//! - before 16, what a session made after `SET ROLE` to its group: that is the group's, prepared
//!   transactions too. Since 16 a lease role cannot become its group;
//! - what a log-in that was held back until its role is gone prepares in the second before it is
//!   seen: a transaction without locks on anything, which only a superuser can end.

use std::pin::pin;
use std::time::Duration;

use moka::sync::Cache;
use tokio::time::sleep;
use tokio_postgres::Row;
use tracing::debug;

use super::apply::Refused;
use super::clear::Overtaken;
use super::connect::{Lane, Query};
use super::error::{ClusterError, Failure, FailureKind};
use super::observe::{Located, Search, SeenRole, Shown, column, moved_on};
use super::{AccessEnd, Cluster, Removal, RoleTarget};
use crate::clock::Stopwatch;
use crate::crash::{self, Place};
use crate::lease::plan::{self, AccessPlan, Estate, Rollback, Statement};
use crate::lease::{Blocker, BlockerKind, Holder};
use crate::mapping::ObjectPolicy;
use crate::names::{LeaseId, RoleOid, identifier, literal};

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

/// How long a log-in may be held back by its client before its session shows
/// (`post_auth_delay` is at most 2147 s), and a margin.
pub const HIDDEN_FOR: Duration = Duration::from_secs(2200);

/// Since when roles were seen closed, for those of which nobody else knows.
pub(super) struct ClosedRoles(Cache<u32, Stopwatch>);

impl ClosedRoles {
    pub(super) fn new() -> Self {
        Self(Cache::builder().max_capacity(100_000).time_to_idle(2 * HIDDEN_FOR).build())
    }

    /// For how long the role `oid` has been known to be closed; from now on, if not before.
    fn seen(&self, oid: RoleOid) -> Duration {
        self.0.get_with(oid.0, Stopwatch::start).elapsed()
    }
}

impl Cluster {
    /// Ends the access that a role gives: log-in, memberships, and then every session, by OID.
    /// Harmless when it has ended already.
    ///
    /// # Errors
    /// When the role is not ours, or the cluster failed.
    pub async fn end_access(&self, target: &RoleTarget) -> Result<AccessEnd, ClusterError> {
        self.end_access_after(target, Search::IfItMay).await
    }

    async fn end_access_after(
        &self,
        target: &RoleTarget,
        search: Search,
    ) -> Result<AccessEnd, ClusterError> {
        let blocked = |blockers| AccessEnd::Blocked(Blocker::first(blockers));
        match self.close(target, search).await? {
            Closed::Absent { oid: None } => Ok(AccessEnd::Gone),
            Closed::Absent { oid: Some(oid) } => {
                let blockers = self.end_sessions(oid, Whose::Nobodys).await?;
                Ok(if blockers.is_empty() { AccessEnd::Gone } else { blocked(blockers) })
            }
            Closed::Done { role, mut blockers } => {
                crash::at(Place::RevokeSessions);
                blockers.extend(self.end_sessions(role.oid, Whose::TheRoles).await?);
                if blockers.is_empty() {
                    return Ok(AccessEnd::Ended(role.oid));
                }
                blockers.extend(self.slots(&role).await?);
                Ok(blocked(blockers))
            }
            Closed::Not { oid, failure, in_the_way } => {
                let sessions = self.end_sessions(oid, Whose::TheRoles).await;
                if !contended(&failure) {
                    return Err(failure.on(&self.name, CLOSING));
                }
                let detail = format!("the role (OID {oid}) cannot be closed to log-ins: {failure}");
                let mut blockers = vec![Blocker::new(BlockerKind::Role, detail)];
                blockers.extend(in_the_way);
                blockers.extend(sessions?);
                Ok(blocked(blockers))
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
        let blockers = loop {
            let role = match self.locate(Lane::Revoke, target).await? {
                Located::Ours(role) => role,
                Located::Missing => return self.verify_gone(target.oid).await,
                Located::OidTaken => return Ok(Removal::Gone),
                Located::NotOurs(error) => return Err(error),
            };
            // A membership that is not ours to take goes with the role.
            let Some((access, estate)) = self.make_sure(&role, target.lease).await? else {
                continue;
            };
            if !access.iter().all(Blocker::is_membership) {
                break access;
            }
            match self.remove_closed(&role, &estate, policy, target.closed_for).await? {
                Removed::Dropped => return self.verify_gone(Some(role.oid)).await,
                Removed::Moved if tries < RETRIES => tries += 1,
                Removed::Moved => {
                    let again = "the role is being changed by somebody else";
                    break vec![Blocker::new(BlockerKind::Role, again)];
                }
                Removed::Blocked(blockers) => break [access, blockers].concat(),
            }
        };
        Ok(Removal::Blocked(Blocker::first(blockers)))
    }

    /// Makes sure that `role` gives no access (it may have been opened again, or been given a
    /// membership, since that was ended) and reads what it leaves; nothing when it is gone meanwhile.
    async fn make_sure(
        &self,
        role: &SeenRole,
        lease: LeaseId,
    ) -> Result<Option<(Vec<Blocker>, Estate)>, ClusterError> {
        let access = if role.can_login {
            self.close_again(role, lease).await?
        } else {
            self.end_sessions(role.oid, Whose::TheRoles).await?
        };
        let Some(estate) = self.estate(Lane::Revoke, role).await? else { return Ok(None) };
        if role.can_login || !estate.has_memberships {
            return Ok(Some((access, estate)));
        }
        Ok(Some((self.close_again(role, lease).await?, estate)))
    }

    async fn close_again(
        &self,
        role: &SeenRole,
        lease: LeaseId,
    ) -> Result<Vec<Blocker>, ClusterError> {
        crash::at(Place::RevokeCloseAgain);
        let target = RoleTarget::found(lease, role.oid);
        Ok(match self.end_access_after(&target, Search::Everywhere).await? {
            AccessEnd::Blocked(blockers) => blockers,
            AccessEnd::Ended(_) | AccessEnd::Gone => Vec::new(),
        })
    }

    /// Takes log-in and memberships away, in one transaction. Whoever holds a lock on the role's
    /// row (its holder can, by `ALTER ROLE CURRENT_USER PASSWORD`) is ended meanwhile.
    async fn close(&self, target: &RoleTarget, search: Search) -> Result<Closed, ClusterError> {
        let (begun, mut tries) = (Stopwatch::start(), 0);
        loop {
            let role = match self.locate(Lane::Revoke, target).await? {
                Located::Ours(role) => role,
                Located::Missing => return Ok(Closed::Absent { oid: target.oid }),
                Located::OidTaken => return Ok(Closed::Absent { oid: None }),
                Located::NotOurs(error) => return Err(error),
            };
            let oid = role.oid;
            let Some(view) = self.view(&role, search).await? else { continue };
            let plan = plan::end_access(&view);
            let (closed, mut in_the_way) = self.close_by_force(&role, &plan).await;
            tries += 1;
            match closed {
                Ok(refused) => {
                    let blockers = plan.blockers.into_iter().chain(refused).collect();
                    return Ok(Closed::Done { role, blockers });
                }
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

    /// Sends the statements of `plan`, which then stand first in the queue for the row, and for as long as
    /// they wait ends on another connection what they may wait for. Gives what that left too.
    async fn close_by_force(
        &self,
        role: &SeenRole,
        plan: &AccessPlan,
    ) -> (Result<Vec<Blocker>, Failure>, Vec<Blocker>) {
        let mut closing = pin!(self.close_by(plan));
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
    /// transactions. Gives each that does not give way, and who else holds one.
    async fn clear_the_way(&self, lane: Lane, role: &SeenRole) -> Vec<Blocker> {
        crash::at(Place::RevokeWay);
        let mut left = Vec::new();
        match self.signal_sessions(lane, role.oid).await {
            Ok(_) => {}
            Err(error) if not_permitted(&error) => {
                left.extend(self.signal_as_member(lane, role).await.err());
            }
            Err(error) => left.push(away(&error)),
        }
        match self.estate(lane, role).await {
            Ok(Some(estate)) => left.extend(self.roll_all_back(lane, &estate).await),
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
        joined.map_err(|failure| cannot_act(&failure))?;
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
    async fn close_by(&self, plan: &AccessPlan) -> Result<Vec<Blocker>, Failure> {
        let (lane, limits) = (Lane::Revoke, &self.limits);
        let AccessPlan { statements, vital, .. } = plan;
        match self.connections.apply(lane, limits, statements, Duration::MAX).await {
            Ok(_) => Ok(Vec::new()),
            Err(failure) if failure.kind == FailureKind::Rejected && !moved_on(&failure) => {
                crash::at(Place::RevokePiecemeal);
                let run = self.connections.apply_what_can_be(
                    lane,
                    limits,
                    statements,
                    *vital,
                    Duration::MAX,
                );
                Ok(run.await?.iter().map(not_revoked).collect())
            }
            Err(failure) => Err(failure),
        }
    }

    /// Ends every session of the role `oid`. Gives those that are left.
    async fn end_sessions(&self, oid: RoleOid, whose: Whose) -> Result<Vec<Blocker>, ClusterError> {
        let begun = Stopwatch::start();
        let mut pause = Duration::from_millis(5);
        loop {
            let signalled = match whose {
                Whose::TheRoles => self.signal_sessions(Lane::Revoke, oid).await,
                Whose::Nobodys => self.signal_without_role(Lane::Revoke, oid).await,
            };
            let sessions = match signalled {
                Err(error) if not_permitted(&error) => {
                    let detail = format!(
                        "a session of the role (OID {oid}) is open and the broker may not end it: {}",
                        error.with_cause()
                    );
                    let blocker = Blocker::new(BlockerKind::BrokerRight, detail);
                    let remedy = "grant pg_signal_backend to the broker's login";
                    return Ok(vec![blocker.remedy(remedy)]);
                }
                answer => answer?,
            };
            if sessions.is_empty() {
                return Ok(Vec::new());
            }
            if begun.elapsed() > SESSIONS_END_WITHIN {
                let pids = sessions.iter().map(|row| column::<i32>(&self.name, row, "pid"));
                return pids.map(|pid| Ok(does_not_end(oid, pid?))).collect();
            }
            sleep(pause).await;
            pause = (pause * 2).min(Duration::from_millis(250));
        }
    }

    /// Removes a role that has no access any more, and has had none for `closed_for` if that is
    /// known.
    async fn remove_closed(
        &self,
        role: &SeenRole,
        estate: &Estate,
        policy: ObjectPolicy,
        closed_for: Option<Duration>,
    ) -> Result<Removed, ClusterError> {
        let plan = plan::remove(estate, policy);
        let mut blockers = plan.blockers;
        blockers.extend(self.slots(role).await?);
        blockers.extend(self.roll_all_back(Lane::Revoke, estate).await);
        match self.clear(estate, plan.fate, &plan.databases).await {
            Ok(left) => blockers.extend(left),
            Err(Overtaken) => return Ok(Removed::Moved),
        }
        blockers.extend(self.too_soon(estate, closed_for));
        if !blockers.is_empty() {
            return Ok(Removed::Blocked(blockers));
        }
        crash::at(Place::RevokeDrop);
        self.drop_role(role, &plan.drop).await
    }

    /// A log-in that is held back shows when its role is gone, and then only `pg_signal_backend`
    /// ends its session: without it the role stays as long as there can be one.
    fn too_soon(&self, estate: &Estate, closed_for: Option<Duration>) -> Option<Blocker> {
        if estate.broker_may_signal {
            return None;
        }
        let waited = self.closed.seen(estate.oid).max(closed_for.unwrap_or_default());
        let left = HIDDEN_FOR.checked_sub(waited).filter(|left| !left.is_zero())?;
        let detail = format!(
            "the role stays for {} s, in which a log-in that was held back can show: the broker \
             could not end its session once the role is gone",
            left.as_secs()
        );
        let sql = format!("GRANT pg_signal_backend TO {}", identifier(&estate.broker));
        Some(Blocker::new(BlockerKind::BrokerRight, detail).remedy_sql(&sql))
    }

    async fn drop_role(
        &self,
        role: &SeenRole,
        statements: &[Statement],
    ) -> Result<Removed, ClusterError> {
        let run = self.connections.apply(Lane::Revoke, &self.limits, statements, Duration::MAX);
        let (done, waits) = self.while_looking(run, || self.in_the_way(Lane::Help, role)).await;
        match done {
            Ok(_) => Ok(Removed::Dropped),
            Err(failure) if moved_on(&failure) => Ok(Removed::Moved),
            Err(failure) if failure.is_one_of(&["55P03"]) && !waits.is_empty() => {
                Ok(Removed::Blocked(waits))
            }
            Err(failure) if failure.kind == FailureKind::Rejected => {
                let detail = format!("the role cannot be dropped: {failure}");
                Ok(Removed::Blocked(vec![Blocker::new(BlockerKind::Privilege, detail)]))
            }
            Err(failure) => Err(failure.on(&self.name, "dropping a role")),
        }
    }

    /// Rolls back what the role has prepared, as the role. Gives each that could not be.
    async fn roll_all_back(&self, lane: Lane, estate: &Estate) -> Vec<Blocker> {
        if estate.prepared.is_empty() {
            return Vec::new();
        }
        let join = plan::join(estate);
        if !join.is_empty() {
            crash::at(Place::RevokeJoin);
            let joined = self.connections.apply(lane, &self.limits, &join, Duration::MAX).await;
            if let Err(failure) = joined {
                return vec![cannot_act(&failure)];
            }
        }
        let mut left = Vec::new();
        for rollback in plan::roll_back(estate) {
            crash::at(Place::RevokePrepared);
            if let Err(failure) = self.roll_back(&rollback).await {
                left.push(not_rolled_back(&rollback.gid, &rollback.database, &failure.to_string()));
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
        self.signal_without_role(Lane::Help, oid).await.map(|rows| rows.len())
    }

    /// Tells every session to end whose role had `oid` and is gone, and gives those that there were.
    async fn signal_without_role(
        &self,
        lane: Lane,
        oid: RoleOid,
    ) -> Result<Vec<Row>, ClusterError> {
        let sql = include_str!("sql/end_without_role.sql");
        let query = Query { sql, parameters: &[&oid.0] };
        let doing = "ending sessions of a role that is gone";
        let [sessions] = self.connections.read(lane, doing, [query]).await?;
        Ok(sessions)
    }

    /// Proves by OID that nothing is left: no role, no session, no prepared transaction, no
    /// membership, no setting, and nothing in any database that depends on it.
    async fn verify_gone(&self, oid: Option<RoleOid>) -> Result<Removal, ClusterError> {
        let Some(oid) = oid else { return Ok(Removal::Gone) };
        crash::at(Place::RevokeVerify);
        // A session may have begun between the last look and the drop.
        let mut blockers = self.end_sessions(oid, Whose::Nobodys).await?;
        let remains = Query { sql: include_str!("sql/remains.sql"), parameters: &[&oid.0] };
        let prepared = Query { sql: include_str!("sql/prepared.sql"), parameters: &[&oid.0] };
        let doing = "verifying that a role is gone";
        let [remains, prepared] =
            self.connections.read(Lane::Revoke, doing, [remains, prepared]).await?;
        let row = remains.first().ok_or_else(|| self.unreadable("an empty answer"))?;
        if column(&self.name, row, "role")? {
            let detail = format!("the role (OID {oid}) is back, or is not ours any more");
            blockers.push(Blocker::new(BlockerKind::Role, detail));
        }
        for Shown(place) in column::<Vec<Shown>>(&self.name, row, "dependencies")? {
            let detail = format!("pg_shdepend still names the role (OID {oid}) for {place}");
            blockers.push(Blocker::new(BlockerKind::Object, detail).within(place));
        }
        for Shown(membership) in column::<Vec<Shown>>(&self.name, row, "memberships")? {
            let detail = format!("pg_auth_members still names the role (OID {oid}): {membership}");
            let blocker = Blocker::new(BlockerKind::Membership, detail);
            blockers.push(blocker.remedy_sql(&format!("REVOKE {membership}")));
        }
        if column(&self.name, row, "settings")? {
            let detail = format!("pg_db_role_setting still names the role (OID {oid})");
            blockers.push(Blocker::new(BlockerKind::Role, detail));
        }
        for one in self.prepared(&prepared)? {
            let nobody = "only a superuser may end it, its role is gone";
            blockers.push(not_rolled_back(&one.gid, &one.database, nobody));
        }
        if blockers.is_empty() {
            return Ok(Removal::Gone);
        }
        Ok(Removal::Blocked(Blocker::first(blockers)))
    }
}

/// What became of a role's log-in and memberships.
enum Closed {
    /// There is no such role; `oid` is what its sessions are known by, if it had one and nobody
    /// else has it now.
    Absent { oid: Option<RoleOid> },
    /// They are gone, but for the blockers.
    Done { role: SeenRole, blockers: Vec<Blocker> },
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

/// What became of an attempt to remove a role.
enum Removed {
    Dropped,
    /// Somebody else changed it meanwhile: look again.
    Moved,
    Blocked(Vec<Blocker>),
}

/// A cluster that cannot be asked, as what keeps the role.
fn away(error: &ClusterError) -> Blocker {
    Blocker::new(BlockerKind::Cluster, error.with_cause())
}

/// Whose sessions are ended.
#[derive(Clone, Copy)]
enum Whose {
    /// Those of a role that is ours.
    TheRoles,
    /// Those of a role that is gone; if another has its OID by now, none.
    Nobodys,
}

/// A membership that the server did not let the broker revoke.
fn not_revoked(refused: &Refused) -> Blocker {
    let Refused { statement, failure } = refused;
    let joins = statement.sql().starts_with("GRANT");
    let kind = if joins { BlockerKind::BrokerRight } else { BlockerKind::Membership };
    let detail = format!("could not {}: {failure}", statement.what);
    Blocker::new(kind, detail).remedy_sql(statement.sql())
}

fn cannot_act(failure: &Failure) -> Blocker {
    let detail = format!("the broker cannot act for the role: {failure}");
    Blocker::new(BlockerKind::BrokerRight, detail)
}

fn does_not_end(oid: RoleOid, pid: i32) -> Blocker {
    let detail = format!(
        "a session of the role (OID {oid}) does not end although it was told to, server process {pid}"
    );
    let holder = Holder { pid: Some(pid), role: None };
    Blocker::new(BlockerKind::Session, detail)
        .held_by(holder)
        .remedy("look why the process does not answer; restarting the server ends it")
}

fn not_rolled_back(gid: &str, database: &str, because: &str) -> Blocker {
    let detail =
        format!("prepared transaction {gid} in database {database} is not rolled back: {because}");
    Blocker::new(BlockerKind::PreparedTransaction, detail)
        .within(database)
        .about(gid)
        .remedy_sql(&format!("ROLLBACK PREPARED {}", literal(gid)))
}
