//! The states of a lease and the moves between them.

use std::fmt;
use std::net::IpAddr;
use std::time::Duration;

use jiff::Timestamp;
use rand::CryptoRng;
use serde::{Deserialize, Serialize};

use super::Blocker;
use crate::auth::Identity;
use crate::mapping::{Because, Entitlement, MapRevision, ObjectPolicy, RuleRef};
use crate::names::{
    AccountId, ClusterName, DatabaseName, LeaseId, LeaseRoleName, Principal, RequestKey, RoleName,
    RoleOid, RolePrefix, Ttl,
};

/// Where a lease stands. It only moves forward:
/// `intent → active → revoking → quarantined → revoked`, or `intent → aborted`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum LeaseState {
    /// Written down; its role may or may not exist yet. Nobody has its password.
    Intent,
    /// Its role exists and its password was handed out.
    Active,
    /// It must end; what is left of it on the cluster is being taken away.
    Revoking,
    /// Its role cannot log in and has no rights, but something keeps it from being dropped.
    Quarantined,
    /// Nothing of it is left on the cluster.
    Revoked,
    /// Its role never came to be.
    Aborted,
}

impl LeaseState {
    /// Every state, in the order of life.
    pub const ALL: [Self; 6] = [
        Self::Intent,
        Self::Active,
        Self::Revoking,
        Self::Quarantined,
        Self::Revoked,
        Self::Aborted,
    ];

    /// The state as a word, the same in the store, the API and the audit.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Intent => "intent",
            Self::Active => "active",
            Self::Revoking => "revoking",
            Self::Quarantined => "quarantined",
            Self::Revoked => "revoked",
            Self::Aborted => "aborted",
        }
    }

    /// Whether nothing more will happen to the lease.
    #[must_use]
    pub fn is_final(self) -> bool {
        match self {
            Self::Intent | Self::Active | Self::Revoking | Self::Quarantined => false,
            Self::Revoked | Self::Aborted => true,
        }
    }
}

impl fmt::Display for LeaseState {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(self.as_str())
    }
}

/// Why a lease ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum EndReason {
    /// Its time was over.
    Expired,
    /// Its holder gave it back.
    Released,
    /// An operator ended it.
    Operator,
    /// Its holder asked again with the same request key.
    Replaced,
    /// The answer with the password never left, or may not have.
    Undelivered,
    /// Its role was gone from the cluster without our doing.
    Lost,
    /// The person may not have it any more.
    Withdrawn,
}

impl EndReason {
    /// All of them.
    pub const ALL: [Self; 7] = [
        Self::Expired,
        Self::Released,
        Self::Operator,
        Self::Replaced,
        Self::Undelivered,
        Self::Lost,
        Self::Withdrawn,
    ];

    /// The reason as a word, the same in the store, the API and the audit.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Expired => "expired",
            Self::Released => "released",
            Self::Operator => "operator",
            Self::Replaced => "replaced",
            Self::Undelivered => "undelivered",
            Self::Lost => "lost",
            Self::Withdrawn => "withdrawn",
        }
    }
}

/// What somebody asks for, next to the entitlement that lets them.
#[derive(Clone, Debug)]
pub struct Order {
    /// The database for the connection string, one of the profile's.
    pub database: DatabaseName,
    /// How long the lease is to live at first, at most the profile's `max_ttl`.
    pub ttl: Ttl,
    /// Why it is wanted, in the person's words.
    pub reason: Option<String>,
    /// The client's key for this wish.
    pub request_key: Option<RequestKey>,
    /// Where the wish came from.
    pub client: IpAddr,
}

/// The broker's own terms for every lease.
#[derive(Clone, Debug)]
pub struct Terms {
    /// What the names of lease roles begin with.
    pub role_prefix: RolePrefix,
    /// How long a role may take to be made; then the cluster itself refuses it.
    pub create_within: Ttl,
    /// Whether a lease may outlive the login that asked for it.
    pub outlive_login: bool,
}

/// One lease. Its moves take it and give the next one, one version on; the store accepts a
/// version only once.
///
/// Invariant: `issued_at` < `expires_at` <= `ceiling`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Lease {
    /// Its id, known from outside; gives no right to anything.
    pub id: LeaseId,
    /// Counts the moves, from 1.
    pub version: u32,
    /// Where it stands.
    pub state: LeaseState,
    /// Who has it.
    pub principal: Principal,
    /// Which account of that name they had, if their way in showed that.
    pub account_id: Option<AccountId>,
    /// Where its role lives.
    pub cluster: ClusterName,
    /// The database in its connection string.
    pub database: DatabaseName,
    /// The group role whose rights it has.
    pub role: RoleName,
    /// Name of its own role.
    pub role_name: LeaseRoleName,
    /// OID of its own role, once known.
    pub role_oid: Option<RoleOid>,
    /// When it was asked for.
    pub requested_at: Timestamp,
    /// Until when its role may be made.
    pub create_before: Timestamp,
    /// When it ends unless renewed.
    pub expires_at: Timestamp,
    /// When it ends at the latest.
    pub ceiling: Timestamp,
    /// What becomes of objects that its role owns.
    pub owned_objects: ObjectPolicy,
    /// The client's key for the wish.
    pub request_key: Option<RequestKey>,
    /// Why it was wanted.
    pub reason: Option<String>,
    /// Where the wish came from.
    pub client: IpAddr,
    /// The line of the map that allowed it.
    pub rule: RuleRef,
    /// The revision of the map.
    pub revision: MapRevision,
    /// By what of the person the line let them in. Nothing for a lease of a version that did not
    /// keep it.
    pub because: Option<Because>,
    /// Why it ended or is ending.
    pub end: Option<EndReason>,
    /// Since when nobody can use it: no log-in, no rights, no session.
    pub access_ended_at: Option<Timestamp>,
    /// Since when its role is gone.
    pub gone_at: Option<Timestamp>,
    /// Attempts to take it away so far.
    pub attempts: u32,
    /// When the next attempt is due.
    pub retry_at: Option<Timestamp>,
    /// What kept the last attempt from completing; empty when nothing did.
    pub blockers: Vec<Blocker>,
}

/// A move that the lease's state does not allow.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("lease {id} is {state}, which does not allow this")]
pub struct MoveError {
    /// The lease.
    pub id: LeaseId,
    /// The state it was in.
    pub state: LeaseState,
}

/// Why a lease was not renewed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum RenewError {
    /// It is not active.
    #[error("the lease is {state}, only an active lease is renewed")]
    NotActive {
        /// The state it was in.
        state: LeaseState,
    },
    /// Its end is past: it is revoked, never revived.
    #[error("the lease ended at {expires_at}")]
    Expired {
        /// When it ended.
        expires_at: Timestamp,
    },
}

impl Lease {
    /// Writes down the wish for a lease, before anything exists on the cluster.
    ///
    /// The ceiling is the profile's max TTL from now, and the end of the login too unless
    /// [`Terms::outlive_login`].
    #[must_use]
    pub fn open(
        entitlement: &Entitlement,
        order: Order,
        terms: &Terms,
        now: Timestamp,
        rng: &mut impl CryptoRng,
    ) -> Self {
        let (id, profile, identity) =
            (LeaseId::random(rng), entitlement.profile(), entitlement.identity());
        let longest = now + profile.max_ttl.span();
        let ceiling =
            if terms.outlive_login { longest } else { longest.min(identity.expires_at()) };
        Self {
            id,
            version: 1,
            state: LeaseState::Intent,
            role_name: LeaseRoleName::new(&terms.role_prefix, identity.principal(), id),
            principal: identity.principal().clone(),
            account_id: identity.account_id(),
            cluster: entitlement.cluster().clone(),
            database: order.database,
            role: profile.role.clone(),
            role_oid: None,
            requested_at: now,
            create_before: now + terms.create_within.span(),
            expires_at: (now + order.ttl.span()).min(ceiling),
            ceiling,
            owned_objects: profile.owned_objects,
            request_key: order.request_key,
            reason: order.reason,
            client: order.client,
            rule: entitlement.rule().clone(),
            revision: entitlement.revision().clone(),
            because: Some(entitlement.because().clone()),
            end: None,
            access_ended_at: None,
            gone_at: None,
            attempts: 0,
            retry_at: None,
            blockers: Vec::new(),
        }
    }

    /// Whether `identity` has it. Who has come to the name of its holder since has not.
    #[must_use]
    pub fn is_of(&self, identity: &Identity) -> bool {
        self.principal == *identity.principal()
            && AccountId::may_be_same(self.account_id, identity.account_id())
    }

    /// Its role exists now, as `role_oid`.
    ///
    /// # Errors
    /// When the lease is no intent any more.
    pub fn activate(self, role_oid: RoleOid) -> Result<Self, MoveError> {
        match self.state {
            LeaseState::Intent => {
                Ok(Self { state: LeaseState::Active, role_oid: Some(role_oid), ..self.next() })
            }
            _ => Err(self.not_allowed()),
        }
    }

    /// Its role never came to be and cannot any more.
    ///
    /// # Errors
    /// When the lease is no intent any more.
    pub fn abort(self, now: Timestamp) -> Result<Self, MoveError> {
        match self.state {
            LeaseState::Intent => Ok(Self {
                state: LeaseState::Aborted,
                end: Some(EndReason::Undelivered),
                access_ended_at: Some(now),
                gone_at: Some(now),
                ..self.next()
            }),
            _ => Err(self.not_allowed()),
        }
    }

    /// Moves the end of an active lease to `ttl` after `now`, and never past its ceiling (the
    /// profile's max TTL, or the end of the login, whichever comes first).
    ///
    /// `ttl` counts from `now`, not from the old end, so asking for less shortens the lease. The
    /// caller must still move `VALID UNTIL`.
    ///
    /// # Errors
    /// When the lease is no longer active, or its end is already past: an expired lease is
    /// revoked, never revived.
    pub fn renew(self, now: Timestamp, ttl: Ttl) -> Result<Self, RenewError> {
        if self.state != LeaseState::Active {
            return Err(RenewError::NotActive { state: self.state });
        }
        if self.expires_at <= now {
            return Err(RenewError::Expired { expires_at: self.expires_at });
        }
        let expires_at = (now + ttl.span()).min(self.ceiling);
        Ok(Self { expires_at, ..self.next() })
    }

    /// As [`Self::renew`], but the end never moves to an earlier time: for who asks for more time
    /// and not for how much.
    ///
    /// # Errors
    /// As [`Self::renew`].
    pub fn prolong(self, now: Timestamp, ttl: Ttl) -> Result<Self, RenewError> {
        let former = self.expires_at;
        let renewed = self.renew(now, ttl)?;
        Ok(Self { expires_at: renewed.expires_at.max(former), ..renewed })
    }

    /// The cluster did not follow a renewal: the `former` end holds again, or the new one where
    /// that is earlier. Whatever the cluster did, no role outlives it.
    ///
    /// # Errors
    /// When it is ending or has ended meanwhile.
    pub fn renewal_failed(self, former: Timestamp) -> Result<Self, MoveError> {
        if self.state != LeaseState::Active {
            return Err(self.not_allowed());
        }
        Ok(Self { expires_at: self.expires_at.min(former), ..self.next() })
    }

    /// It must end, for `reason`; the first attempt to take it away is due at once, behind what was
    /// due before `now`.
    ///
    /// # Errors
    /// When it is already ending or ended.
    pub fn revoke(self, reason: EndReason, now: Timestamp) -> Result<Self, MoveError> {
        match self.state {
            LeaseState::Intent | LeaseState::Active => Ok(Self {
                state: LeaseState::Revoking,
                end: Some(reason),
                // Not when it was asked for: that may be yet to come, by a clock that was ahead.
                retry_at: Some(now),
                ..self.next()
            }),
            _ => Err(self.not_allowed()),
        }
    }

    /// Nobody can use it any more: its role cannot log in, has no rights and no session.
    ///
    /// # Errors
    /// When it is not being taken away.
    pub fn end_access(self, now: Timestamp) -> Result<Self, MoveError> {
        match self.state {
            LeaseState::Revoking | LeaseState::Quarantined => {
                let access_ended_at = Some(self.access_ended_at.unwrap_or(now));
                Ok(Self { access_ended_at, ..self.next() })
            }
            _ => Err(self.not_allowed()),
        }
    }

    /// An attempt to take it away did not complete; the next is due at `retry_at`. It is
    /// quarantined once access has ended, and still revoking before.
    ///
    /// # Errors
    /// When it is not being taken away.
    pub fn hold(self, blockers: Vec<Blocker>, retry_at: Timestamp) -> Result<Self, MoveError> {
        let state = match self.state {
            LeaseState::Revoking if self.access_ended_at.is_none() => LeaseState::Revoking,
            LeaseState::Revoking | LeaseState::Quarantined => LeaseState::Quarantined,
            _ => return Err(self.not_allowed()),
        };
        let (attempts, retry_at) = (self.attempts.saturating_add(1), Some(retry_at));
        Ok(Self { state, attempts, retry_at, blockers, ..self.next() })
    }

    /// Nothing of it is left on the cluster, verified by OID.
    ///
    /// # Errors
    /// When it is not being taken away.
    pub fn close(self, now: Timestamp) -> Result<Self, MoveError> {
        match self.state {
            LeaseState::Revoking | LeaseState::Quarantined => Ok(Self {
                state: LeaseState::Revoked,
                access_ended_at: Some(self.access_ended_at.unwrap_or(now)),
                gone_at: Some(now),
                retry_at: None,
                blockers: Vec::new(),
                ..self.next()
            }),
            _ => Err(self.not_allowed()),
        }
    }

    /// Nothing of it is left on the cluster, as an operator says: the role with its OID is another's.
    /// The OID is forgotten, so that nothing of that role is ever taken for ours.
    ///
    /// # Errors
    /// When it is not being taken away.
    pub fn declare_gone(self, now: Timestamp) -> Result<Self, MoveError> {
        Ok(Self { role_oid: None, ..self.close(now)? })
    }

    /// Its role is gone from the cluster without our doing.
    ///
    /// # Errors
    /// When it is not active.
    pub fn lose(self, now: Timestamp) -> Result<Self, MoveError> {
        match self.state {
            LeaseState::Active => Ok(Self {
                state: LeaseState::Revoked,
                end: Some(EndReason::Lost),
                access_ended_at: Some(now),
                gone_at: Some(now),
                ..self.next()
            }),
            _ => Err(self.not_allowed()),
        }
    }

    /// What is left of its life at `now`: the TTL for its role. Rounded up to whole seconds, so
    /// that a lease of an hour gives a role of an hour; at least a second.
    #[must_use]
    pub fn remaining(&self, now: Timestamp) -> Ttl {
        let millis = u64::try_from(self.expires_at.duration_since(now).as_millis()).unwrap_or(0);
        let seconds = millis.div_ceil(1000).max(1);
        Ttl::from_seconds(seconds).unwrap_or(Ttl::LONGEST)
    }

    /// How long its role may still take to be made at `now`; nothing when it is too late, or the
    /// lease would be over by then.
    #[must_use]
    pub fn time_to_make(&self, now: Timestamp) -> Option<Duration> {
        let left = self.create_before.duration_since(now);
        let is_over = self.expires_at <= now;
        Duration::try_from(left).ok().filter(|left| !left.is_zero() && !is_over)
    }

    fn next(self) -> Self {
        Self { version: self.version.saturating_add(1), ..self }
    }

    fn not_allowed(&self) -> MoveError {
        MoveError { id: self.id, state: self.state }
    }
}

#[cfg(test)]
pub(super) mod tests;
