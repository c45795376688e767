//! Comparing: roles found on a cluster against the leases of the store, and acting on the
//! difference. It has no other input, so that nothing that was missed stays missed.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use futures::{StreamExt, stream};
use jiff::Timestamp;
use tracing::warn;

use super::ending::{Setback, blocked_by, handed_over};
use super::{Broker, Site, report};
use crate::audit::{Action, Outcome, Record, Subject};
use crate::causes::with_causes;
use crate::clock::Stopwatch;
use crate::cluster::{AccessEnd, ClusterError, HIDDEN_FOR, Removal, RoleTarget};
use crate::crash::{self, Place};
use crate::lease::{Blocker, EndReason, Finding, FoundRole, Lease, LeaseState, LiveLease, compare};
use crate::mapping::ObjectPolicy;
use crate::names::{LeaseId, RoleOid};
use crate::store::{LeaseFilter, StoreError};

/// Differences that are mended side by side.
const SIDE_BY_SIDE: usize = 4;

/// Roles without a lease that could not be taken away, and what was said to keep them.
#[derive(Default)]
pub(super) struct OrphansLeft {
    kept: Mutex<BTreeMap<RoleOid, Vec<Blocker>>>,
    /// All that were found, and how long ago the last time: a log-in of one that was held back is
    /// ended when it shows.
    found: Mutex<BTreeMap<RoleOid, Stopwatch>>,
}

impl OrphansLeft {
    /// Notes that `oid` was found; `true` when that is new.
    fn note_found(&self, oid: RoleOid) -> bool {
        let mut found = self.found.lock().unwrap_or_else(PoisonError::into_inner);
        found.insert(oid, Stopwatch::start()).is_none()
    }

    /// Whether a role without a lease had this OID.
    pub(super) fn had(&self, oid: RoleOid) -> bool {
        self.found.lock().unwrap_or_else(PoisonError::into_inner).contains_key(&oid)
    }

    /// Notes what keeps the role `oid`, if anything does; `true` when that is new.
    fn note(&self, oid: RoleOid, blockers: &[Blocker]) -> bool {
        let mut left = self.kept.lock().unwrap_or_else(PoisonError::into_inner);
        if blockers.is_empty() {
            left.remove(&oid);
            return true;
        }
        left.insert(oid, blockers.to_vec()).is_none_or(|before| before != blockers)
    }

    /// Forgets those that are not found any more; that they were there, once a log-in of theirs
    /// can be held back no longer, which takes `hidden_for`.
    fn keep_only(&self, findings: &[Finding], hidden_for: Duration) {
        let oids = findings.iter().filter_map(|finding| match finding {
            Finding::Orphan { role, .. } => Some(role.oid),
            _ => None,
        });
        let oids: BTreeSet<RoleOid> = oids.collect();
        let mut left = self.kept.lock().unwrap_or_else(PoisonError::into_inner);
        left.retain(|oid, _| oids.contains(oid));
        let mut found = self.found.lock().unwrap_or_else(PoisonError::into_inner);
        found.retain(|oid, last| oids.contains(oid) || last.elapsed() < hidden_for);
    }

    fn count(&self) -> usize {
        self.kept.lock().unwrap_or_else(PoisonError::into_inner).len()
    }
}

/// Why store and cluster could not be compared.
#[derive(Debug, thiserror::Error)]
pub(super) enum ReconcileError {
    #[error("the cluster could not be asked")]
    Cluster(#[from] ClusterError),
    #[error("the store could not be asked")]
    Store(#[from] StoreError),
}

impl Broker {
    /// Compares once, and ends what must not be. Gives when an intent is over that is not yet: by
    /// then it was activated, or whoever made it is no more and its role must go.
    ///
    /// So after a crash the roles are those of the live leases with the first comparison, and no
    /// role of a lease without a holder is left a quarter of `reconcile_every` after the time in
    /// which it could be made.
    pub(super) async fn reconcile(&self, site: &Site) -> Result<Option<Timestamp>, ReconcileError> {
        // Roles before leases: an intent is in the store before its role exists.
        let roles = site.cluster.lease_roles().await?;
        let leases = self.store().live(site.cluster.name()).await?;
        report::states(site, &leases);
        let (mut findings, next) = (compare(&roles, &leases, self.now()), next(&leases));
        for finding in &mut findings {
            self.unmask(finding).await?;
        }
        let strangers = findings.iter().filter(|found| matches!(found, Finding::Stranger { .. }));
        let strangers = strangers.count();
        site.orphans_left.keep_only(&findings, HIDDEN_FOR);
        // One that resists keeps nobody from the others; it is found again next time.
        let mending = stream::iter(findings).for_each_concurrent(SIDE_BY_SIDE, async |finding| {
            if let Err(failed) = self.mend(site, finding).await {
                warn!(cluster = %site.cluster.name(), cause = with_causes(&failed), "a difference between store and cluster is not mended yet");
            }
        });
        mending.await;
        report::unexplained(site, strangers, site.orphans_left.count());
        report::blockers(site, &self.held(site).await?, self.now());
        self.end_hidden(site).await?;
        Ok(next)
    }

    /// Leases that did not end at once.
    pub(super) async fn held(&self, site: &Site) -> Result<Vec<Lease>, StoreError> {
        let states = vec![LeaseState::Revoking, LeaseState::Quarantined];
        let (cluster, limit) = (Some(site.cluster.name().clone()), Some(report::LOOKED_AT));
        self.store().leases(&LeaseFilter { principal: None, cluster, states, limit }).await
    }

    /// An orphan that only has the mark is a stranger: somebody copied the comment.
    async fn unmask(&self, finding: &mut Finding) -> Result<(), StoreError> {
        let Finding::Orphan { role, lease } = finding else { return Ok(()) };
        let known = self.store().lease(*lease).await?;
        if !role.is_of(*lease, known.as_ref()) {
            *finding = Finding::Stranger { role: role.clone() };
        }
        Ok(())
    }

    async fn mend(&self, site: &Site, finding: Finding) -> Result<(), ReconcileError> {
        match finding {
            Finding::Orphan { role, lease } => self.remove_orphan(site, role, lease).await,
            Finding::Undelivered { lease } => {
                let Some(lease) = self.still(lease, LeaseState::Intent).await? else {
                    return Ok(());
                };
                crash::at(Place::ReconcileUndelivered);
                Ok(moved_on(self.begin_end(lease, EndReason::Undelivered, None).await)?)
            }
            Finding::NeverMade { lease } => {
                let Some(lease) = self.still(lease, LeaseState::Intent).await? else {
                    return Ok(());
                };
                if site.cluster.find(&lease).await?.is_some() {
                    return Ok(());
                }
                let Ok(aborted) = lease.abort(self.now()) else { return Ok(()) };
                crash::at(Place::ReconcileAbort);
                Ok(stepped(self.step(aborted, Action::LeaseAborted).await)?)
            }
            Finding::Lost { lease } => {
                let Some(lease) = self.still(lease, LeaseState::Active).await? else {
                    return Ok(());
                };
                if site.cluster.find(&lease).await?.is_some() {
                    return Ok(());
                }
                crash::at(Place::ReconcileLostAccess);
                // Its sessions stayed, and one that had become its group has the rights of that.
                if site.cluster.end_access(&RoleTarget::of(&lease)).await? != AccessEnd::Gone {
                    return Ok(());
                }
                site.last_gone.note();
                warn!(lease = %lease.id, role = %lease.role_name, cluster = %lease.cluster, "the role is gone without our doing; the lease is lost");
                let Ok(lost) = lease.lose(self.now()) else { return Ok(()) };
                crash::at(Place::ReconcileLost);
                Ok(stepped(self.step(lost, Action::LeaseLost).await)?)
            }
            Finding::Outlived { lease } => self.set_back(site, lease).await,
            Finding::Stranger { role } => {
                warn!(role = %role.name.escape_debug(), oid = %role.oid, cluster = %site.cluster.name(), "a role has a name or a mark like ours and was not made by us; it is left alone");
                Ok(())
            }
        }
    }

    /// Lets the role of an active lease be good for as long as the lease lasts, and no longer. Not
    /// by a clock that is far from the others: once that one is right again, every log-in set by it
    /// would be over before its time.
    async fn set_back(&self, site: &Site, id: LeaseId) -> Result<(), ReconcileError> {
        self.read_clock(site).await;
        if self.clocks_apart(site).is_some() {
            return Ok(());
        }
        let mut set = None;
        // Again when it was renewed in between: what was set then must not be cut off.
        while let Some(lease) = self.still(id, LeaseState::Active).await?
            && set != Some(lease.expires_at)
        {
            crash::at(Place::ReconcileSetBack);
            site.cluster.extend(&lease, lease.remaining(self.now())).await?;
            set = Some(lease.expires_at);
            warn!(lease = %id, role = %lease.role_name, cluster = %lease.cluster, expires_at = %lease.expires_at, "the role was good for longer than its lease; it was set back");
        }
        Ok(())
    }

    /// The lease, read anew, if it is in `state` still.
    async fn still(&self, id: LeaseId, state: LeaseState) -> Result<Option<Lease>, StoreError> {
        let lease = self.store().lease(id).await?;
        Ok(lease.filter(|lease| lease.state == state))
    }

    /// Takes away a role with our mark that no live lease knows.
    async fn remove_orphan(
        &self,
        site: &Site,
        role: FoundRole,
        id: LeaseId,
    ) -> Result<(), ReconcileError> {
        let known = self.store().lease(id).await?;
        if known.as_ref().is_some_and(|lease| !lease.state.is_final()) {
            return Ok(());
        }
        // Of a lease that nobody knows, as after a restored backup, nothing is lost.
        let policy = known.map_or(ObjectPolicy::Reassign, |lease| lease.owned_objects);
        let target = RoleTarget::found(id, role.oid);
        self.note_found(site, &role, id).await;
        let taken = take_orphan(site, &target, policy).await;
        let handed_over = handed_over(site, id);
        let blockers = match taken {
            Ok(blockers) => blockers,
            // It may be gone by now, and then nobody comes back to it.
            Err(failed) if handed_over.is_some() => vec![blocked_by(&failed)],
            Err(failed) => return Err(failed.into()),
        };
        let record = self.of_orphan(site, &role, id, Action::OrphanRemoved);
        // What keeps it is said once, and again when it is something else.
        let is_new = site.orphans_left.note(role.oid, &blockers);
        if !is_new && handed_over.is_none() {
            return Ok(());
        }
        let record = if blockers.is_empty() {
            site.last_gone.note();
            warn!(lease = %id, role = %role.name.escape_debug(), cluster = %site.cluster.name(), handed_over, "a role without a lease was taken away");
            Record { detail: handed_over, ..record }
        } else {
            let kept = Blocker::join(&blockers);
            let detail = handed_over.map_or(kept.clone(), |done| format!("{kept}; {done}"));
            record.ended(Outcome::Failed, "blocked", &detail)
        };
        crash::at(Place::ReconcileRemoved);
        self.store().commit(Vec::new(), vec![record]).await?;
        site.cluster.forget_handed_over(id);
        Ok(())
    }

    /// Writes down, once, that a role without a lease was found: before it goes, or a crash could
    /// leave it gone and untold. It goes in any case.
    async fn note_found(&self, site: &Site, role: &FoundRole, id: LeaseId) {
        if !site.orphans_left.note_found(role.oid) {
            return;
        }
        crash::at(Place::ReconcileFound);
        let found = self.of_orphan(site, role, id, Action::OrphanFound);
        if let Err(failed) = self.store().commit(Vec::new(), vec![found]).await {
            warn!(lease = %id, cause = with_causes(&failed), "that a role without a lease was found is not recorded");
        }
    }

    fn of_orphan(&self, site: &Site, role: &FoundRole, id: LeaseId, action: Action) -> Record {
        Record {
            lease: Some(id),
            cluster: Some(site.cluster.name().clone()),
            role: Some(role.name.clone()),
            role_oid: Some(role.oid),
            ..Record::new(self.now(), action, Subject::Broker)
        }
    }
}

/// Takes away all of a role without a lease; gives what keeps it, if anything does.
async fn take_orphan(
    site: &Site,
    target: &RoleTarget,
    policy: ObjectPolicy,
) -> Result<Vec<Blocker>, ClusterError> {
    crash::at(Place::ReconcileAccess);
    match site.cluster.end_access(target).await? {
        // A membership that is not ours to take ends with the role.
        AccessEnd::Blocked(blockers) if !blockers.iter().all(Blocker::is_membership) => {
            return Ok(blockers);
        }
        AccessEnd::Blocked(_) | AccessEnd::Gone | AccessEnd::Ended(_) => {}
    }
    crash::at(Place::ReconcileRemove);
    match site.cluster.remove(target, policy).await? {
        Removal::Gone => Ok(Vec::new()),
        Removal::Blocked(blockers) => Ok(blockers),
    }
}

/// When the first intent is over that is not over yet.
fn next(leases: &[LiveLease]) -> Option<Timestamp> {
    let intents = leases.iter().filter(|lease| lease.state == LeaseState::Intent);
    intents.map(|lease| lease.create_before).min()
}

/// A lease that moved meanwhile needs nothing more from this comparison.
fn moved_on(done: Result<(), StoreError>) -> Result<(), StoreError> {
    match done {
        Err(StoreError::Moved { .. }) => Ok(()),
        done => done,
    }
}

fn stepped(step: Result<Lease, Setback>) -> Result<(), StoreError> {
    match step {
        Ok(_) | Err(Setback::Overtaken) => Ok(()),
        Err(Setback::Store(failed)) => Err(failed),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::lease::MarkerReading;

    #[test]
    fn an_orphan_is_remembered_for_as_long_as_a_log_in_of_it_can_be_held_back() {
        let (left, oid) = (OrphansLeft::default(), RoleOid(16_500));
        let lease: LeaseId = "a".repeat(16).parse().unwrap();
        let marker = MarkerReading::Ours(lease);
        let role = FoundRole { oid, name: "pgb_x".to_owned(), marker, valid_for: None };
        left.note_found(oid);
        left.note(oid, &[]);
        left.keep_only(&[Finding::Orphan { role, lease }], Duration::ZERO);
        assert!(left.had(oid), "it is there still");
        left.keep_only(&[], HIDDEN_FOR);
        assert!(left.had(oid), "it may show itself still");
        left.keep_only(&[], Duration::ZERO);
        assert!(!left.had(oid));
        assert!(left.found.lock().unwrap().is_empty());
    }
}
