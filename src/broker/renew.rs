//! Renewing: the end moves, if the caller could still ask for the role today.

use std::time::Duration;

use jiff::Timestamp;
use tokio::time::timeout;
use tracing::{info, warn};

use super::standing::{Doubt, FRESH};
use super::{Broker, Caller, LeaseError, Request};
use crate::audit::{Action, Outcome, Subject};
use crate::auth::way::Reason;
use crate::causes::with_causes;
use crate::cluster::ClusterError;
use crate::crash::{self, Place};
use crate::lease::{Lease, RenewError};
use crate::mapping::{Entitlement, Profile, Refusal};
use crate::names::{ClusterName, LeaseId, RoleName, Ttl};
use crate::store::{Change, StoreError};

/// How long a renewal waits for a broker that has just started to know the time.
const TIME_KNOWN_WITHIN: Duration = Duration::from_secs(5);

/// Why a lease was not renewed.
#[derive(Debug, thiserror::Error)]
pub enum RenewLeaseError {
    /// There is no such lease, or it is another person's.
    #[error(transparent)]
    Lease(#[from] LeaseError),
    /// The person may not act as the role from where they ask; the lease stays as it is.
    #[error("the role is not on offer to you from here")]
    NotOnOffer(#[source] Refusal),
    /// The person may not act as the role any more. The lease has been told to end.
    #[error("the role is not on offer to you any more")]
    Withdrawn(#[source] Refusal),
    /// The directory cannot say whether the person still may have the lease.
    #[error("the directory cannot be asked now")]
    DirectoryAway,
    /// The map turns on who is a member of a group role, which the cluster does not say.
    #[error("cluster `{cluster}` cannot be asked now who is a member of what")]
    MembersUnknown {
        /// The cluster.
        cluster: ClusterName,
    },
    /// The broker has not compared the clocks since its start, so nobody knows when the end would be.
    #[error("the broker does not know the time yet; try again soon, or tell the administrators")]
    NotReady,
    /// The TTL is longer than the profile allows.
    #[error("a lease of role `{role}` lives at most {max_ttl}, {ttl} was asked for")]
    TtlTooLong {
        /// The role.
        role: RoleName,
        /// What was asked for.
        ttl: Ttl,
        /// The most that is allowed.
        max_ttl: Ttl,
    },
    /// The lease's state does not allow it.
    #[error(transparent)]
    State(#[from] RenewError),
    /// The login has ended since the request began.
    #[error("the login has ended")]
    LoginEnded,
    /// The lease has moved meanwhile.
    #[error("the lease has moved meanwhile")]
    Overtaken,
    /// The cluster did not move the end; the role ends at its old time or the lease's, whichever
    /// is earlier.
    #[error("cluster `{cluster}` did not move the end of the role")]
    NotExtended {
        /// The cluster.
        cluster: ClusterName,
        /// What it said.
        source: Box<ClusterError>,
    },
}

impl RenewLeaseError {
    /// Why the new end does not fit, in a word for the audit.
    fn word(&self) -> &'static str {
        match self {
            Self::TtlTooLong { .. } => "ttl_too_long",
            _ => "lease_over",
        }
    }
}

impl Broker {
    /// Moves the end of the caller's own lease to `ttl` from now, never past its ceiling. Without
    /// `ttl` it is the profile's, and the end never moves to an earlier time. The person is looked
    /// up and held against the map first, as for a new lease. The store moves first, and moves back
    /// if the cluster then fails: so no role outlives its lease.
    ///
    /// # Errors
    /// When the lease is not the caller's, the role is not on offer any more (then the lease ends),
    /// nobody can say whether it is or what time it is, the TTL is too long, the lease is over, or
    /// store or cluster do not do their part.
    pub async fn renew(
        &self,
        request: &Request,
        caller: &Caller,
        id: LeaseId,
        ttl: Option<Ttl>,
    ) -> Result<Lease, RenewLeaseError> {
        let lease = self.lease(request, caller, id).await?;
        let entitlement = self.still_allowed(request, caller, &lease).await?;
        self.need_time(request, caller, &lease).await?;
        let former = lease.expires_at;
        let renewed = match self.moved(lease.clone(), entitlement.profile(), ttl) {
            Ok(renewed) => renewed,
            Err(refused) => {
                let (cause, detail) = (refused.word(), refused.to_string());
                self.refuse_renewal(request, caller, &lease, cause, &detail).await?;
                return Err(refused);
            }
        };
        let record = self.record(request, Action::LeaseRenewed, caller.subject()).about(&renewed);
        let moved = Change::MoveLease(Box::new(renewed.clone()));
        let changes = vec![Change::NeedLogin(caller.login()), moved];
        crash::at(Place::RenewStore);
        match self.store().commit(changes, vec![record.clone()]).await {
            Ok(()) => {}
            Err(StoreError::Moved { .. }) => {
                self.refuse_renewal(request, caller, &lease, "overtaken", "").await?;
                return Err(RenewLeaseError::Overtaken);
            }
            Err(StoreError::LoginEnded) => {
                let record = record.ended(Outcome::Refused, "login_ended", "");
                self.store().commit(Vec::new(), vec![record]).await.map_err(LeaseError::Store)?;
                return Err(RenewLeaseError::LoginEnded);
            }
            Err(source) => return Err(LeaseError::Store(source).into()),
        }
        crash::at(Place::RenewCluster);
        if let Err(failed) = self.extend(request, &renewed).await {
            self.take_back(request, caller, renewed, former, &failed).await;
            return Err(failed);
        }
        crash::at(Place::RenewAnswer);
        info!(request.id, lease = %id, expires_at = %renewed.expires_at, "renewed");
        Ok(renewed)
    }

    /// An end by a clock that is wrong would be later than anybody may have it.
    async fn need_time(
        &self,
        request: &Request,
        caller: &Caller,
        lease: &Lease,
    ) -> Result<(), RenewLeaseError> {
        if timeout(TIME_KNOWN_WITHIN, self.0.time.settled()).await.is_ok() {
            return Ok(());
        }
        let detail = "the clocks were not compared since the start";
        self.refuse_renewal(request, caller, lease, "not_ready", detail).await?;
        Err(RenewLeaseError::NotReady)
    }

    /// The lease with its new end.
    fn moved(
        &self,
        lease: Lease,
        profile: &Profile,
        ttl: Option<Ttl>,
    ) -> Result<Lease, RenewLeaseError> {
        match ttl {
            Some(ttl) if ttl > profile.max_ttl => {
                let (role, max_ttl) = (profile.role.clone(), profile.max_ttl);
                Err(RenewLeaseError::TtlTooLong { role, ttl, max_ttl })
            }
            Some(ttl) => Ok(lease.renew(self.now(), ttl)?),
            None => Ok(lease.prolong(self.now(), profile.ttl)?),
        }
    }

    async fn extend(&self, request: &Request, lease: &Lease) -> Result<(), RenewLeaseError> {
        let cluster = &lease.cluster;
        let site = self.site(cluster).ok_or(LeaseError::NotFound { lease: lease.id })?;
        match site.cluster.extend(lease, lease.remaining(self.now())).await {
            Ok(_) => Ok(()),
            Err(source) => {
                warn!(request.id, lease = %lease.id, cluster = %cluster, cause = with_causes(&source), "the end of the role was not moved");
                self.compare_soon(cluster);
                let (cluster, source) = (cluster.clone(), Box::new(source));
                Err(RenewLeaseError::NotExtended { cluster, source })
            }
        }
    }

    /// Lets the former end hold again, and writes down why.
    async fn take_back(
        &self,
        request: &Request,
        caller: &Caller,
        renewed: Lease,
        former: Timestamp,
        failed: &RenewLeaseError,
    ) {
        let id = renewed.id;
        // Whoever ended it meanwhile has the last word.
        let Ok(lease) = renewed.renewal_failed(former) else { return };
        let record = self.record(request, Action::LeaseRenewed, caller.subject()).about(&lease);
        let record = record.ended(Outcome::Failed, "not_extended", &with_causes(failed));
        let moved = Change::MoveLease(Box::new(lease));
        crash::at(Place::RenewTakeBack);
        match self.store().commit(vec![moved], vec![record]).await {
            Ok(()) | Err(StoreError::Moved { .. }) => {}
            Err(failed) => {
                warn!(request.id, lease = %id, cause = with_causes(&failed), "a renewal that failed was not taken back; the role ends at its own time");
            }
        }
    }

    /// The entitlement that the caller has now, looked up for this; or the refusal, written down.
    /// What they may not have any more has been told to end then.
    async fn still_allowed(
        &self,
        request: &Request,
        caller: &Caller,
        lease: &Lease,
    ) -> Result<Entitlement, RenewLeaseError> {
        let identity = match self.standing(caller.identity(), FRESH).await {
            Ok(identity) => identity,
            Err(doubt) => {
                let Reason { word, detail } = doubt.reason();
                self.refuse_renewal(request, caller, lease, word, detail).await?;
                return Err(match doubt {
                    Doubt::Gone(_) => RenewLeaseError::LoginEnded,
                    Doubt::Away(_) => RenewLeaseError::DirectoryAway,
                });
            }
        };
        let (cluster, role) = (lease.cluster.as_str(), lease.role.as_str());
        let policy = self.policy();
        let entitled = self.entitle(&policy, &identity, (cluster, role), request.client).await;
        let refusal = match entitled {
            Ok(entitlement) => return Ok(entitlement),
            Err(refusal) => refusal,
        };
        self.refuse_renewal(request, caller, lease, refusal.word(), &refusal.to_string()).await?;
        // Nobody loses a lease because a cluster does not answer.
        if matches!(refusal, Refusal::MembersUnknown { .. }) {
            return Err(RenewLeaseError::MembersUnknown { cluster: lease.cluster.clone() });
        }
        // Whoever asks from elsewhere may still have it there where it was asked for.
        let refusal = match self.still_entitled(&policy, &identity, lease).await {
            Ok(()) => return Err(RenewLeaseError::NotOnOffer(refusal)),
            Err(Refusal::MembersUnknown { cluster, .. }) => {
                return Err(RenewLeaseError::MembersUnknown { cluster });
            }
            Err(refusal) => refusal,
        };
        let record = self.record(request, Action::RevokeRequested, Subject::Broker);
        let reason = Reason { word: refusal.word(), detail: refusal.to_string() };
        crash::at(Place::RenewWithdraw);
        self.withdraw(lease.clone(), record, &reason).await?;
        Err(RenewLeaseError::Withdrawn(refusal))
    }

    async fn refuse_renewal(
        &self,
        request: &Request,
        caller: &Caller,
        lease: &Lease,
        word: &str,
        detail: &str,
    ) -> Result<(), LeaseError> {
        let record = self.record(request, Action::LeaseRenewed, caller.subject()).about(lease);
        let record = record.ended(Outcome::Refused, word, detail);
        self.store().commit(Vec::new(), vec![record]).await.map_err(LeaseError::Store)
    }
}
