//! A role without access goes: first what it left, then the role.
//!
//! Each step looks anew and is harmless when it has been done already, so that any of them may
//! run twice, or by two brokers at once. All of it runs on connections of its own
//! ([`Lane::Remove`]): what waits here for somebody's lock keeps no access open.
//!
//! What a server does not tell, nobody can take away:
//! - who made a replication slot. Only a role that a DBA gave REPLICATION can have, and that one is
//!   held until the DBA takes it back;
//! - before 16, what a session made after `SET ROLE` to its group: that is the group's, prepared
//!   transactions too (one that keeps a role of ours locked is ended all the same). Since 16 a
//!   lease role cannot become its group;
//! - what a log-in that was held back until its role is gone prepares in the second before it is
//!   seen: a transaction without locks on anything, which only a superuser can end.

use std::time::Duration;

use moka::sync::Cache;
use tokio_postgres::Row;

use super::clear::Overtaken;
use super::connect::{Lane, Query};
use super::error::{ClusterError, Failure, FailureKind};
use super::locate::{Located, SeenRole};
use super::locks::while_looking;
use super::observe::Search;
use super::row::{Shown, column};
use super::sessions::{HAS_SESSIONS, Whose};
use super::{AccessEnd, Cluster, Removal, RoleTarget};
use crate::clock::Stopwatch;
use crate::crash::{self, Place};
use crate::lease::plan::{self, Estate, Rollback, Statement};
use crate::lease::{Blocker, BlockerKind};
use crate::mapping::ObjectPolicy;
use crate::names::{LeaseId, RoleOid, identifier, literal};

/// How often a plan is made anew because the world moved while it was run.
const RETRIES: u32 = 5;

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
            let role = match self.locate(Lane::Remove, target).await? {
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
        let mut access = Vec::new();
        if role.can_login {
            access = self.close_again(role, lease).await?;
        }
        let Some(mut estate) = self.estate(Lane::Remove, role).await? else { return Ok(None) };
        if estate.has_sessions && access.is_empty() {
            access.extend(self.end_sessions(Lane::Remove, role.oid, Whose::TheRoles).await?);
            let Some(anew) = self.estate(Lane::Remove, role).await? else { return Ok(None) };
            estate = anew;
        }
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
        blockers.extend(self.slots(Lane::Remove, role).await?);
        blockers.extend(self.roll_all_back(Lane::Remove, estate).await);
        match self.clear(role.lease, estate, plan.fate, &plan.databases).await {
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
        let run = self.connections.apply(Lane::Remove, &self.limits, statements);
        let look = || async { self.make_way(Lane::Help, role).await.unwrap_or_default() };
        let (done, waits) = while_looking(run, look).await;
        match done {
            Ok(_) => Ok(Removed::Dropped),
            Err(failure) if failure.moved_on() => Ok(Removed::Moved),
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
    pub(super) async fn roll_all_back(&self, lane: Lane, estate: &Estate) -> Vec<Blocker> {
        if estate.prepared.is_empty() {
            return Vec::new();
        }
        let join = plan::join(estate);
        if !join.is_empty() {
            crash::at(Place::RevokeJoin);
            let joined = self.connections.apply(lane, &self.limits, &join).await;
            if let Err(failure) = joined {
                return vec![cannot_act(estate, &failure)];
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
    pub(super) async fn roll_back(&self, rollback: &Rollback) -> Result<(), Failure> {
        let client = self.connections.open(&rollback.database).await?;
        for statement in &rollback.statements {
            let run = client.batch_execute(statement.sql());
            self.connections.bounded(Duration::MAX, run).await?;
        }
        Ok(())
    }

    /// Proves by OID that nothing is left: no role, no session, no prepared transaction, no
    /// membership, no setting, and nothing in any database that depends on it.
    async fn verify_gone(&self, oid: Option<RoleOid>) -> Result<Removal, ClusterError> {
        let Some(oid) = oid else { return Ok(Removal::Gone) };
        crash::at(Place::RevokeVerify);
        let mut blockers = Vec::new();
        let mut left = self.remains(oid).await?;
        if left.has_sessions {
            // One may have begun between the last look and the drop, and prepared something.
            blockers = self.end_sessions(Lane::Remove, oid, Whose::Nobodys).await?;
            left = self.remains(oid).await?;
        }
        blockers.extend(left.blockers);
        if blockers.is_empty() {
            return Ok(Removal::Gone);
        }
        Ok(Removal::Blocked(Blocker::first(blockers)))
    }

    async fn remains(&self, oid: RoleOid) -> Result<Remains, ClusterError> {
        let sessions = Query { sql: HAS_SESSIONS, parameters: &[&oid.0] };
        let remains = Query { sql: include_str!("sql/remains.sql"), parameters: &[&oid.0] };
        let prepared = Query { sql: include_str!("sql/prepared.sql"), parameters: &[&oid.0] };
        let doing = "verifying that a role is gone";
        let [sessions, remains, prepared] =
            self.connections.read(Lane::Remove, doing, [sessions, remains, prepared]).await?;
        let mut blockers = self.named_still(oid, self.only(&remains)?)?;
        for one in self.prepared(&prepared)? {
            let nobody = "only a superuser may end it, its role is gone";
            blockers.push(not_rolled_back(&one.gid, &one.database, nobody));
        }
        let has_sessions = column(&self.name, self.only(&sessions)?, "has_sessions")?;
        Ok(Remains { has_sessions, blockers })
    }

    /// What of the catalogue names the role still, as `sql/remains.sql` found it.
    fn named_still(&self, oid: RoleOid, row: &Row) -> Result<Vec<Blocker>, ClusterError> {
        let mut blockers = Vec::new();
        if column(&self.name, row, "role")? {
            let detail = format!("the role (OID {oid}) is back, or is not ours any more");
            blockers.push(Blocker::new(BlockerKind::Role, detail));
        }
        for Shown(place) in column::<Vec<Shown>>(&self.name, row, "dependencies")? {
            let detail = format!("pg_shdepend still names the role (OID {oid}) for {place}");
            blockers.push(Blocker::new(BlockerKind::Object, detail).within(place));
        }
        for Shown(remedy) in column::<Vec<Shown>>(&self.name, row, "memberships")? {
            let detail = format!("pg_auth_members still names the role (OID {oid})");
            blockers.push(Blocker::new(BlockerKind::Membership, detail).remedy_sql(&remedy));
        }
        if column(&self.name, row, "settings")? {
            let detail = format!("pg_db_role_setting still names the role (OID {oid})");
            blockers.push(Blocker::new(BlockerKind::Role, detail));
        }
        Ok(blockers)
    }
}

/// What is found of a role after it was dropped.
struct Remains {
    has_sessions: bool,
    /// All the rest.
    blockers: Vec<Blocker>,
}

/// What became of an attempt to remove a role.
enum Removed {
    Dropped,
    /// Somebody else changed it meanwhile: look again.
    Moved,
    Blocked(Vec<Blocker>),
}

/// That the broker could not become a member of the role, and how a person makes it one.
pub(super) fn cannot_act(estate: &Estate, failure: &Failure) -> Blocker {
    let detail = format!("the broker cannot act for the role: {failure}");
    let sql = plan::join_remedy(&estate.name, &estate.broker, estate.version);
    Blocker::new(BlockerKind::BrokerRight, detail).remedy_sql(&sql)
}

fn not_rolled_back(gid: &str, database: &str, because: &str) -> Blocker {
    let detail =
        format!("prepared transaction {gid} in database {database} is not rolled back: {because}");
    Blocker::new(BlockerKind::PreparedTransaction, detail)
        .within(database)
        .about(gid)
        .remedy_sql(&format!("ROLLBACK PREPARED {}", literal(gid)))
}
