//! Declaring a lease gone: an operator's word, where the broker cannot find out by itself.
//!
//! After a cluster was restored, the OID of a lease's role may be that of a role which somebody else
//! made. The broker touches no role without its mark, and as long as a role has that OID it does not
//! say that its own is gone: a mark can be taken away from a role that still lends rights. So such
//! a lease would be revoking for ever, and what was decided about it would be nowhere in the audit.
//!
//! And a cluster may have been taken out of the configuration, with leases that nobody takes away
//! since. Of such a lease the operator's word is all there is, and the OID of its role stays known:
//! should the cluster come back, with the role, then comparing finds that by its mark and takes it
//! away.

use tracing::warn;

use super::issue::is_fit;
use super::{Broker, Caller, LeaseError, Request};
use crate::audit::{Action, Outcome, Record};
use crate::cluster::{ClusterError, RoleTarget};
use crate::lease::{FoundRole, Lease, LeaseState, MarkerReading};
use crate::names::{LeaseId, printable};
use crate::store::{Change, StoreError};

/// What the audit is told of a lease whose cluster nobody can ask.
const NO_CLUSTER: &str = "its cluster is not in the configuration, so nobody can look";

/// Why a lease may be declared gone.
enum Grounds {
    /// Another role has its OID; this is what is known of that.
    OidTaken(String),
    /// Its cluster is not in the configuration.
    NoCluster,
}

impl Broker {
    /// Closes the lease `id` on an operator's word that nothing is left of its role; `reason` says
    /// how they know. The role that has its OID now is not touched.
    ///
    /// # Errors
    /// When the caller is no operator, no reason is given, the lease is not being taken away, a role
    /// of its cluster carries its mark or its name, no other role there stands in its way, or cluster
    /// or store cannot be asked. Every refusal is written down.
    pub async fn declare_gone(
        &self,
        request: &Request,
        caller: &Caller,
        id: LeaseId,
        reason: &str,
    ) -> Result<Lease, LeaseError> {
        self.need_operator(request, caller, "declare a lease gone").await?;
        loop {
            let lease = self.store().lease(id).await.map_err(LeaseError::Store)?;
            let lease = lease.ok_or(LeaseError::NotFound { lease: id })?;
            let record = self.record(request, Action::DeclaredGone, caller.subject());
            let (gone, why) = match self.may_be_declared(&lease, reason).await {
                Ok(Grounds::OidTaken(foreign)) => (lease.declare_gone(self.now()), foreign),
                Ok(Grounds::NoCluster) => (lease.close(self.now()), NO_CLUSTER.to_owned()),
                Err(refusal) => return Err(self.refuse_to_declare(record, &lease, refusal).await),
            };
            let Ok(gone) = gone else { continue };
            let detail = Some(format!("{why}; the operator says: {reason}"));
            let record = Record { detail, ..record.about(&gone) };
            let moved = Change::MoveLease(Box::new(gone.clone()));
            match self.store().commit(vec![moved], vec![record]).await {
                Ok(()) => {
                    warn!(request.id, lease = %id, role = %gone.role_name, cluster = %gone.cluster, "an operator declared the lease gone");
                    self.0.moves.notify_waiters();
                    return Ok(gone);
                }
                // An attempt to take it away came in between: all is looked at anew.
                Err(StoreError::Moved { .. }) => {}
                Err(failed) => return Err(LeaseError::Store(failed)),
            }
        }
    }

    /// Looks whether the lease may be declared gone, and why.
    async fn may_be_declared(&self, lease: &Lease, reason: &str) -> Result<Grounds, LeaseError> {
        if reason.trim().is_empty() || !is_fit(reason) {
            return Err(LeaseError::ReasonUnfit);
        }
        let (id, state) = (lease.id, lease.state);
        if !matches!(state, LeaseState::Revoking | LeaseState::Quarantined) {
            return Err(LeaseError::NotEnding { lease: id, state });
        }
        let away = |source| {
            let (cluster, source) = (lease.cluster.clone(), Box::new(source));
            LeaseError::ClusterAway { cluster, source }
        };
        let Some(site) = self.site(&lease.cluster) else { return Ok(Grounds::NoCluster) };
        let roles = site.cluster.lease_roles().await.map_err(away)?;
        if let Some(own) = roles.iter().find(|role| is_own(role, lease)) {
            let role = printable(&own.name);
            return Err(LeaseError::StillThere { lease: id, role, oid: own.oid });
        }
        match site.cluster.end_access(&RoleTarget::of(lease)).await {
            Err(foreign @ ClusterError::NotOurs { .. }) => {
                Ok(Grounds::OidTaken(foreign.to_string()))
            }
            Ok(_) => Err(LeaseError::NothingInTheWay { lease: id }),
            Err(failed) => Err(away(failed)),
        }
    }

    async fn refuse_to_declare(
        &self,
        record: Record,
        lease: &Lease,
        refusal: LeaseError,
    ) -> LeaseError {
        let cause = match &refusal {
            LeaseError::ReasonUnfit => "reason_unfit",
            LeaseError::NotEnding { .. } => "not_ending",
            LeaseError::StillThere { .. } => "still_there",
            LeaseError::NothingInTheWay { .. } => "nothing_in_the_way",
            _ => "cluster_away",
        };
        let record = record.about(lease).ended(Outcome::Refused, cause, &refusal.to_string());
        let written = self.store().commit(Vec::new(), vec![record]).await;
        written.map_or_else(LeaseError::Store, |()| refusal)
    }
}

/// Whether a role is the lease's for all that can be seen: by its mark, whatever became of the role
/// since, or by its name, which leads back to the lease.
fn is_own(role: &FoundRole, lease: &Lease) -> bool {
    role.marker == MarkerReading::Ours(lease.id) || role.name == lease.role_name.as_str()
}
