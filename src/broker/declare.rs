//! Declaring a lease gone: an operator's word, where the broker may not find out by itself.
//!
//! After a cluster was restored, the OID of a lease's role may be that of a role which somebody else
//! made. The broker touches no role without its mark, and as long as a role has that OID it does not
//! say that its own is gone: a mark can be taken away from a role that still lends rights. So such
//! a lease would be revoking for ever, and what was decided about it would be nowhere in the audit.

use tracing::warn;

use super::issue::is_fit;
use super::standing::Doubt;
use super::{Broker, Caller, LeaseError, Request};
use crate::audit::{Action, Outcome, Record};
use crate::cluster::{ClusterError, RoleTarget};
use crate::lease::{FoundRole, Lease, LeaseState, MarkerReading};
use crate::names::{LeaseId, printable};
use crate::store::{Change, StoreError};

impl Broker {
    /// Closes the lease `id` on an operator's word that nothing is left of its role; `reason` says
    /// how they know. The role that has its OID now is not touched.
    ///
    /// # Errors
    /// When the caller is no operator, no reason is given, the lease is not being taken away, a role
    /// carries its mark or its name, no other role stands in its way, or cluster or store cannot be
    /// asked. Every refusal is written down.
    pub async fn declare_gone(
        &self,
        request: &Request,
        caller: &Caller,
        id: LeaseId,
        reason: &str,
    ) -> Result<Lease, LeaseError> {
        self.need_operator_to_declare(request, caller).await?;
        loop {
            let lease = self.store().lease(id).await.map_err(LeaseError::Store)?;
            let lease = lease.ok_or(LeaseError::NotFound { lease: id })?;
            let record = self.record(request, Action::DeclaredGone, caller.subject());
            let foreign = match self.may_be_declared(&lease, reason).await {
                Ok(foreign) => foreign,
                Err(refusal) => return Err(self.refuse_to_declare(record, &lease, refusal).await),
            };
            let Ok(gone) = lease.declare_gone(self.now()) else { continue };
            let detail = Some(format!("{foreign}; the operator says: {reason}"));
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

    /// As for every end that an operator asks for: while nobody can look them up, what was seen last
    /// counts.
    async fn need_operator_to_declare(
        &self,
        request: &Request,
        caller: &Caller,
    ) -> Result<(), LeaseError> {
        const WHAT: &str = "declare a lease gone";
        let duties = match self.duties_now(caller).await {
            Ok(duties) => duties,
            Err(Doubt::Away(_)) => caller.duties(),
            Err(gone @ Doubt::Gone(_)) => {
                return Err(self.refuse_in_doubt(request, caller, gone, WHAT).await);
            }
        };
        self.need(request, caller, duties.operator, "operator", WHAT).await
    }

    /// Looks whether the lease may be declared gone, and gives what stands in its way.
    async fn may_be_declared(&self, lease: &Lease, reason: &str) -> Result<String, LeaseError> {
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
        let site = self.site(&lease.cluster);
        let site = site.ok_or_else(|| LeaseError::NoCluster { cluster: lease.cluster.clone() })?;
        let roles = site.cluster.lease_roles().await.map_err(away)?;
        if let Some(own) = roles.iter().find(|role| is_own(role, lease)) {
            let role = printable(&own.name);
            return Err(LeaseError::StillThere { lease: id, role, oid: own.oid });
        }
        match site.cluster.end_access(&RoleTarget::of(lease)).await {
            Err(foreign @ ClusterError::NotOurs { .. }) => Ok(foreign.to_string()),
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
