//! The access that a role gives ends: log-in and memberships in one transaction, then every session.
//!
//! Each step looks anew and is harmless when it has been done already, so that any of them may
//! run twice, or by two brokers at once.

use std::pin::pin;
use std::time::Duration;

use tokio::time::sleep;
use tracing::debug;

use super::apply::{Limits, Refused};
use super::connect::Lane;
use super::error::{ClusterError, Failure, FailureKind};
use super::locate::{Located, SeenRole};
use super::observe::{MEMBERSHIPS, Search};
use super::remove::cannot_act;
use super::sessions::Whose;
use super::{AccessEnd, Cluster, RoleTarget};
use crate::clock::Stopwatch;
use crate::crash::{self, Place};
use crate::lease::plan::{self, AccessPlan};
use crate::lease::{Blocker, BlockerKind};
use crate::names::RoleOid;

/// What is being done when a role is closed.
const CLOSING: &str = "ending a role's access";

/// How long closing a role is tried against somebody who keeps its row locked or changing.
const CLOSES_WITHIN: Duration = Duration::from_secs(10);

/// How often it is tried at least, however long the server lets one try wait.
const CLOSING_TRIES: u32 = 2;

/// How long closing a role may take before what it waits for is ended, and the pause between two
/// such blows. Short, or a client that reconnects at once keeps the row locked.
const PATIENCE: Duration = Duration::from_millis(50);

/// How long ending a role's rights alone may wait for a lock.
const RIGHTS_WITHIN: Duration = Duration::from_millis(500);

impl Cluster {
    /// Ends the access that a role gives: log-in, memberships, and then every session, by OID.
    /// Harmless when it has ended already.
    ///
    /// # Errors
    /// When the role is not ours, or the cluster failed.
    pub async fn end_access(&self, target: &RoleTarget) -> Result<AccessEnd, ClusterError> {
        self.end_access_after(target, Search::IfItMay).await
    }

    pub(super) async fn end_access_after(
        &self,
        target: &RoleTarget,
        search: Search,
    ) -> Result<AccessEnd, ClusterError> {
        let blocked = |blockers| AccessEnd::Blocked(Blocker::first(blockers));
        match self.close(target, search).await? {
            Closed::Absent { oid: None } => Ok(AccessEnd::Gone),
            Closed::Absent { oid: Some(oid) } => {
                let blockers = self.end_sessions(Lane::Revoke, oid, Whose::Nobodys).await?;
                Ok(if blockers.is_empty() { AccessEnd::Gone } else { blocked(blockers) })
            }
            Closed::Done { role, mut blockers } => {
                crash::at(Place::RevokeSessions);
                blockers.extend(self.end_sessions(Lane::Revoke, role.oid, Whose::TheRoles).await?);
                if blockers.is_empty() {
                    return Ok(AccessEnd::Ended(role.oid));
                }
                blockers.extend(self.slots(Lane::Revoke, &role).await?);
                Ok(blocked(blockers))
            }
            Closed::Not { role, failure, in_the_way } => {
                let oid = role.oid;
                let sessions = self.end_sessions(Lane::Revoke, oid, Whose::TheRoles).await;
                if !contended(&failure) {
                    return Err(failure.on(&self.name, CLOSING));
                }
                let rights = self.rights_left(&role).await;
                let detail =
                    format!("the role (OID {oid}) cannot be closed to log-ins{rights}: {failure}");
                let mut blockers = vec![Blocker::new(BlockerKind::Role, detail)];
                blockers.extend(in_the_way);
                blockers.extend(sessions?);
                Ok(blocked(blockers))
            }
        }
    }

    /// What a role gives that cannot be closed yet.
    async fn rights_left(&self, role: &SeenRole) -> String {
        match self.view(Lane::Revoke, role, Search::IfItMay).await {
            Ok(Some(view)) if view.groups.is_empty() => {
                "; its rights have ended, it is in no group".to_owned()
            }
            Ok(Some(view)) => {
                let groups: Vec<&str> = view.groups.iter().map(|one| one.group.as_str()).collect();
                format!("; it is still in {}", groups.join(", "))
            }
            Ok(None) | Err(_) => String::new(),
        }
    }

    /// Takes log-in and memberships away, in one transaction. Whoever holds a lock on the role's
    /// row (its holder can, by `ALTER ROLE CURRENT_USER PASSWORD`) is ended meanwhile, and its
    /// memberships go at once.
    async fn close(&self, target: &RoleTarget, search: Search) -> Result<Closed, ClusterError> {
        let (begun, mut tries) = (Stopwatch::start(), 0);
        // What was seen last: between two tries nobody waits, so nobody is seen in the way.
        let mut in_the_way = Vec::new();
        // Those that it was in when it was first seen: they are taken away on the way.
        let mut groups = Vec::new();
        loop {
            let mut role = match self.locate(Lane::Revoke, target).await? {
                Located::Ours(role) => role,
                Located::Missing => return Ok(Closed::Absent { oid: target.oid }),
                Located::OidTaken => return Ok(Closed::Absent { oid: None }),
                Located::NotOurs(error) => return Err(error),
            };
            let oid = role.oid;
            let Some(view) = self.view(Lane::Revoke, &role, search).await? else { continue };
            groups.extend(view.groups.iter().map(|membership| membership.group.clone()));
            role.groups.extend(groups.iter().cloned());
            let (plan, mut rights) = (plan::end_access(&view), Some(plan::end_rights(&view)));
            let (closed, seen) = self.close_by_force(&role, &plan, &mut rights).await;
            tries += 1;
            if !seen.is_empty() {
                in_the_way = seen;
            }
            match closed {
                // There may be more than are dealt with at once.
                Ok(_) if view.memberships() >= MEMBERSHIPS && begun.elapsed() < CLOSES_WITHIN => {}
                Ok(refused) => {
                    let more = (view.memberships() >= MEMBERSHIPS).then(more_memberships);
                    let blockers = plan.blockers.into_iter().chain(refused).chain(more).collect();
                    return Ok(Closed::Done { role, blockers });
                }
                Err(failure) if !contended(&failure) => {
                    return Ok(Closed::Not { role, failure, in_the_way });
                }
                Err(failure) if tries >= CLOSING_TRIES && begun.elapsed() > CLOSES_WITHIN => {
                    return Ok(Closed::Not { role, failure, in_the_way });
                }
                // Should the connection for help not be had, this one is there.
                Err(_) => {
                    let seen = self.clear_the_way(Lane::Revoke, &role, &mut rights).await;
                    if !seen.is_empty() {
                        in_the_way = seen;
                    }
                }
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
        rights: &mut Option<AccessPlan>,
    ) -> (Result<Vec<Blocker>, Failure>, Vec<Blocker>) {
        let mut closing = pin!(self.close_by(Lane::Revoke, &self.limits, plan));
        let mut in_the_way = Vec::new();
        loop {
            let clearing = async {
                sleep(PATIENCE).await;
                self.clear_the_way(Lane::Help, role, rights).await
            };
            tokio::select! {
                biased;
                closed = &mut closing => return (closed, in_the_way),
                left = clearing => if !left.is_empty() {
                    in_the_way = left;
                },
            }
        }
    }

    /// Ends, once, the `rights` that need no lock, and what can hold one in the role's name: its
    /// sessions and its prepared transactions, and what it did by another role of ours or as its
    /// group. Gives each that does not give way, and who else holds a lock.
    async fn clear_the_way(
        &self,
        lane: Lane,
        role: &SeenRole,
        rights: &mut Option<AccessPlan>,
    ) -> Vec<Blocker> {
        crash::at(Place::RevokeWay);
        let mut left = self.end_rights(lane, rights).await;
        match self.signal_sessions(lane, role.oid).await {
            Ok(_) => {}
            Err(error) if error.is_not_permitted() => {
                left.extend(self.signal_as_member(lane, role).await.err());
            }
            Err(error) => left.push(error.blocker()),
        }
        match self.estate(lane, role).await {
            Ok(Some(estate)) => left.extend(self.roll_all_back(lane, &estate).await),
            Ok(None) => {}
            Err(error) => left.push(error.blocker()),
        }
        match self.make_way(lane, role).await {
            Ok(holders) => left.extend(holders),
            Err(error) => left.push(error.blocker()),
        }
        left
    }

    /// Takes the role out of its groups, once. What stands in the way of that has little time: the
    /// connection is needed to end what the log-in waits for.
    async fn end_rights(&self, lane: Lane, rights: &mut Option<AccessPlan>) -> Vec<Blocker> {
        let Some(plan) = rights.take_if(|plan| !plan.statements.is_empty()) else {
            return Vec::new();
        };
        let limits = Limits::new(RIGHTS_WITHIN, RIGHTS_WITHIN);
        match self.close_by(lane, &limits, &plan).await {
            Ok(refused) => refused,
            Err(failure) => {
                *rights = Some(plan);
                let detail = format!("its rights cannot be ended by themselves: {failure}");
                vec![Blocker::new(BlockerKind::Membership, detail)]
            }
        }
    }

    /// Like `signal_sessions`, for a login without `pg_signal_backend`: the closing transaction
    /// would make it a member of the role, but that one waits.
    async fn signal_as_member(&self, lane: Lane, role: &SeenRole) -> Result<(), Blocker> {
        let estate = self.estate(lane, role).await.map_err(|error| error.blocker())?;
        let join = estate.as_ref().map(plan::join).unwrap_or_default();
        crash::at(Place::RevokeJoinToSignal);
        let joined = self.connections.apply(lane, &self.limits, &join).await;
        if let (Err(failure), Some(estate)) = (joined, estate) {
            return Err(cannot_act(&estate, &failure));
        }
        crash::at(Place::RevokeSignalAsMember);
        let signalled = self.signal_sessions(lane, role.oid).await;
        signalled.map(|_| ()).map_err(|error| error.blocker())
    }

    /// All at once; when the server refuses one of them, as many as it lets us.
    async fn close_by(
        &self,
        lane: Lane,
        limits: &Limits,
        plan: &AccessPlan,
    ) -> Result<Vec<Blocker>, Failure> {
        let AccessPlan { statements, vital, .. } = plan;
        match self.connections.apply(lane, limits, statements).await {
            Ok(_) => Ok(Vec::new()),
            Err(failure) if failure.kind == FailureKind::Rejected && !failure.moved_on() => {
                crash::at(Place::RevokePiecemeal);
                let run =
                    self.connections.apply_what_can_be(lane, limits, statements, *vital).await;
                let refused = run?;
                Ok(refused.iter().map(|one| not_revoked(one, &plan.join_remedy)).collect())
            }
            Err(failure) => Err(failure),
        }
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
    Not { role: SeenRole, failure: Failure, in_the_way: Vec<Blocker> },
}

/// Whether a role was not closed because somebody keeps its row locked or changing.
fn contended(failure: &Failure) -> bool {
    failure.moved_on() || failure.is_one_of(&["55P03", "57014"])
}

fn more_memberships() -> Blocker {
    let detail = "the role has more members than went at once; the next attempt goes on";
    Blocker::new(BlockerKind::Membership, detail)
}

/// A membership that the server did not let the broker revoke.
fn not_revoked(refused: &Refused, join_remedy: &str) -> Blocker {
    let Refused { statement, failure } = refused;
    let detail = format!("could not {}: {failure}", statement.what);
    if statement.sql().starts_with("GRANT") {
        Blocker::new(BlockerKind::BrokerRight, detail).remedy_sql(join_remedy)
    } else {
        Blocker::new(BlockerKind::Membership, detail).remedy_sql(statement.sql())
    }
}
