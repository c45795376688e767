//! Ending leases: what a person or an operator asks for.

use std::time::Duration;

use futures::future::try_join_all;
use tracing::{info, warn};

use super::{Broker, Caller, LeaseError, Listing, Request};
use crate::audit::{Action, Record, Subject, cut};
use crate::cluster::{AccessEnd, RoleTarget};
use crate::crash;
use crate::lease::{EndReason, Lease};
use crate::names::{ClusterName, LeaseId};
use crate::store::{Change, StoreError};

/// How long an answer waits for the role to be gone; the work goes on after it.
const ANSWER_WITHIN: Duration = Duration::from_secs(10);

impl Broker {
    /// Ends the caller's own lease. The answer waits a while for the role to be gone; the lease
    /// it gives says how far that is. Ending a lease that has ended is no error.
    ///
    /// # Errors
    /// When the lease is not the caller's, or the end could not be written down.
    pub async fn revoke(
        &self,
        request: &Request,
        caller: &Caller,
        id: LeaseId,
    ) -> Result<Lease, LeaseError> {
        let lease = self.lease(request, caller, id).await?;
        let record = self.record(request, Action::RevokeRequested, caller.subject());
        self.end(lease, EndReason::Released, record).await?;
        info!(request.id, lease = %id, "revoke asked for by its holder");
        self.settled(id).await
    }

    /// Ends every login and every lease of the person with key or printed form `person`: for
    /// operators.
    ///
    /// # Errors
    /// When the caller is no operator, `person` can name nobody, or an end could not be written
    /// down.
    pub async fn revoke_person(
        &self,
        request: &Request,
        caller: &Caller,
        person: String,
    ) -> Result<Vec<Lease>, LeaseError> {
        let operator = caller.duties().operator;
        self.need(request, caller, operator, "operator", "revoke by person").await?;
        let listing = Listing { person: Some(person.clone()), ..Listing::default() };
        listing.check()?;
        let record = || self.record(request, Action::RevokeRequested, caller.subject());
        let mut ids = Vec::new();
        self.end_logins_of(&person, record()).await?;
        // Again until nothing is left: a lease may be told to end by somebody else meanwhile.
        loop {
            let leases = self.live_leases_of(&person).await?;
            if leases.is_empty() {
                break;
            }
            for lease in leases {
                ids.push(lease.id);
                self.end(lease, EndReason::Operator, record()).await?;
            }
        }
        try_join_all(ids.into_iter().map(|id| self.settled(id))).await
    }

    /// Ends every login of a person, also one whose request is still on its way: they must prove
    /// themselves again.
    async fn end_logins_of(&self, person: &str, record: Record) -> Result<(), LeaseError> {
        let ended = Change::EndLoginsOf { person: person.to_owned(), at: self.now() };
        let record = Record { detail: Some(format!("sessions of {}", cut(person))), ..record };
        self.store().commit(vec![ended], vec![record]).await.map_err(LeaseError::Store)
    }

    /// Tells `lease` to end, on behalf of the broker itself or of whom `record` names.
    pub(super) async fn begin_end(
        &self,
        lease: Lease,
        reason: EndReason,
        record: Option<Record>,
    ) -> Result<(), StoreError> {
        let cluster = lease.cluster.clone();
        let now = self.now();
        let Ok(ending) = lease.revoke(reason) else { return Ok(()) };
        let broker = || Record::new(now, Action::RevokeRequested, Subject::Broker);
        let record = record.unwrap_or_else(broker).about(&ending);
        crash::at("revoke before it is requested");
        self.store().commit(vec![Change::MoveLease(Box::new(ending))], vec![record]).await?;
        self.nudge(&cluster);
        Ok(())
    }

    /// As [`Self::begin_end`], again with the lease as it is now when it moved meanwhile. When the
    /// store does not take it, the access ends all the same.
    async fn end(
        &self,
        mut lease: Lease,
        reason: EndReason,
        record: Record,
    ) -> Result<(), LeaseError> {
        let id = lease.id;
        loop {
            let (cluster, target) = (lease.cluster.clone(), RoleTarget::of(&lease));
            match self.begin_end(lease, reason, Some(record.clone())).await {
                Ok(()) => return Ok(()),
                Err(StoreError::Moved { .. }) => {
                    let now = self.store().lease(id).await.map_err(LeaseError::Store)?;
                    lease = now.ok_or(LeaseError::NotFound { lease: id })?;
                }
                Err(source) => {
                    self.end_access_unwritten(&cluster, &target).await;
                    return Err(LeaseError::Store(source));
                }
            }
        }
    }

    /// Ends the access of a lease whose end the store does not take: revoking never waits for it.
    /// The lease stays as it was written until somebody asks again, or its time is over.
    async fn end_access_unwritten(&self, cluster: &ClusterName, target: &RoleTarget) {
        let Some(site) = self.site(cluster) else { return };
        let ended = site.cluster.end_access(target).await;
        let access_ended = matches!(ended, Ok(AccessEnd::Gone | AccessEnd::Ended(_)));
        warn!(lease = %target.lease, access_ended, "the store did not take the end of a lease; its access was ended without");
    }

    /// The lease once its fate is known: gone, quarantined, or still being worked on after a while.
    async fn settled(&self, id: LeaseId) -> Result<Lease, LeaseError> {
        let mut moves = self.0.moves.subscribe();
        let waited = tokio::time::timeout(ANSWER_WITHIN, async {
            loop {
                let lease = self.store().lease(id).await.map_err(LeaseError::Store)?;
                let lease = lease.ok_or(LeaseError::NotFound { lease: id })?;
                let held = lease.attempts > 0;
                if lease.state.is_final() || held || moves.changed().await.is_err() {
                    return Ok(lease);
                }
            }
        });
        if let Ok(settled) = waited.await {
            return settled;
        }
        let lease = self.store().lease(id).await.map_err(LeaseError::Store)?;
        lease.ok_or(LeaseError::NotFound { lease: id })
    }
}
