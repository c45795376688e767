//! Comparing: roles found on a cluster against the leases of the store, and acting on the
//! difference. It has no other input, so that nothing that was missed stays missed.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Mutex, PoisonError};

use futures::{StreamExt, stream};
use tracing::warn;

use super::worker::{Setback, handed_over};
use super::{Broker, Site, report};
use crate::audit::{Action, Outcome, Record, Subject};
use crate::causes::with_causes;
use crate::cluster::{AccessEnd, ClusterError, Removal, RoleTarget};
use crate::crash::{self, Place};
use crate::lease::{Blocker, EndReason, Finding, FoundRole, Lease, LeaseState, compare};
use crate::mapping::ObjectPolicy;
use crate::names::{LeaseId, RoleOid};
use crate::store::{LeaseFilter, StoreError};

/// Differences that are mended side by side.
const SIDE_BY_SIDE: usize = 4;

/// Roles without a lease that could not be taken away, and what was said to keep them.
#[derive(Default)]
pub(super) struct OrphansLeft {
    kept: Mutex<BTreeMap<RoleOid, Vec<Blocker>>>,
    /// All that were ever found: a log-in of one that was held back is ended when it shows.
    found: Mutex<BTreeSet<RoleOid>>,
}

impl OrphansLeft {
    /// Notes that `oid` was found; `true` when that is new.
    fn note_found(&self, oid: RoleOid) -> bool {
        self.found.lock().unwrap_or_else(PoisonError::into_inner).insert(oid)
    }

    /// Whether a role without a lease had this OID.
    pub(super) fn had(&self, oid: RoleOid) -> bool {
        self.found.lock().unwrap_or_else(PoisonError::into_inner).contains(&oid)
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

    /// Forgets those that are not found any more.
    fn keep_only(&self, found: &[Finding]) {
        let found: BTreeSet<RoleOid> = found
            .iter()
            .filter_map(|finding| match finding {
                Finding::Orphan { role, .. } => Some(role.oid),
                _ => None,
            })
            .collect();
        let mut left = self.kept.lock().unwrap_or_else(PoisonError::into_inner);
        left.retain(|oid, _| found.contains(oid));
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
    /// Compares once, and ends what must not be.
    pub(super) async fn reconcile(&self, site: &Site) -> Result<(), ReconcileError> {
        // Roles before leases: an intent is in the store before its role exists.
        let roles = site.cluster.lease_roles().await?;
        let leases = self.store().live(site.cluster.name()).await?;
        report::states(site, &leases);
        let mut findings = compare(&roles, &leases, self.now());
        for finding in &mut findings {
            self.unmask(finding).await?;
        }
        let strangers = findings.iter().filter(|found| matches!(found, Finding::Stranger { .. }));
        let strangers = strangers.count();
        site.orphans_left.keep_only(&findings);
        // One that resists keeps nobody from the others; it is found again next time.
        let mending = stream::iter(findings).for_each_concurrent(SIDE_BY_SIDE, async |finding| {
            if let Err(failed) = self.mend(site, finding).await {
                warn!(cluster = %site.cluster.name(), cause = with_causes(&failed), "a difference between store and cluster is not mended yet");
            }
        });
        mending.await;
        report::unexplained(site, strangers, site.orphans_left.count());
        report::blockers(site, &self.held(site).await?, self.now());
        self.end_hidden(site).await
    }

    /// Leases that did not end at once.
    async fn held(&self, site: &Site) -> Result<Vec<Lease>, StoreError> {
        let states = vec![LeaseState::Revoking, LeaseState::Quarantined];
        let (cluster, limit) = (Some(site.cluster.name().clone()), Some(report::LOOKED_AT));
        self.store().leases(&LeaseFilter { principal: None, cluster, states, limit }).await
    }

    /// An orphan that only has the mark is a stranger: somebody copied the comment.
    async fn unmask(&self, finding: &mut Finding) -> Result<(), StoreError> {
        let Finding::Orphan { role, lease } = finding else { return Ok(()) };
        let oid = self.store().lease(*lease).await?.and_then(|lease| lease.role_oid);
        if !role.is_of(*lease, oid) {
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
                warn!(lease = %lease.id, role = %lease.role_name, cluster = %lease.cluster, "the role is gone without our doing; the lease is lost");
                let Ok(lost) = lease.lose(self.now()) else { return Ok(()) };
                crash::at(Place::ReconcileLost);
                Ok(stepped(self.step(lost, Action::LeaseLost).await)?)
            }
            Finding::Stranger { role } => {
                warn!(role = %role.name.escape_debug(), oid = %role.oid, cluster = %site.cluster.name(), "a role has a name or a mark like ours and was not made by us; it is left alone");
                Ok(())
            }
        }
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
        let record = |action| Record {
            lease: Some(id),
            cluster: Some(site.cluster.name().clone()),
            role: Some(role.name.clone()),
            role_oid: Some(role.oid),
            ..Record::new(self.now(), action, Subject::Broker)
        };
        if site.orphans_left.note_found(role.oid) {
            crash::at(Place::ReconcileFound);
            // Before it goes, or a crash could leave it gone and untold. It goes in any case.
            let found = record(Action::OrphanFound);
            if let Err(failed) = self.store().commit(Vec::new(), vec![found]).await {
                warn!(lease = %id, cause = with_causes(&failed), "that a role without a lease was found is not recorded");
            }
        }
        crash::at(Place::ReconcileAccess);
        let blockers = match site.cluster.end_access(&target).await? {
            AccessEnd::Blocked(blockers) => blockers,
            AccessEnd::Gone | AccessEnd::Ended(_) => {
                crash::at(Place::ReconcileRemove);
                match site.cluster.remove(&target, policy).await? {
                    Removal::Gone => Vec::new(),
                    Removal::Blocked(blockers) => blockers,
                }
            }
        };
        let handed_over = handed_over(site, id);
        let record = record(Action::OrphanRemoved);
        // What keeps it is said once, and again when it is something else.
        let is_new = site.orphans_left.note(role.oid, &blockers);
        if !is_new && handed_over.is_none() {
            return Ok(());
        }
        let record = if blockers.is_empty() {
            site.last_gone.note();
            warn!(lease = %id, role = %role.name.escape_debug(), cluster = %site.cluster.name(), "a role without a lease was taken away");
            Record { detail: handed_over, ..record }
        } else {
            let kept = Blocker::join(&blockers);
            let detail = handed_over.map_or(kept.clone(), |done| format!("{kept}; {done}"));
            record.ended(Outcome::Failed, "blocked", &detail)
        };
        crash::at(Place::ReconcileRemoved);
        Ok(self.store().commit(Vec::new(), vec![record]).await?)
    }
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
