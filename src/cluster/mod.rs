//! A cluster: one PostgreSQL server where lease roles live.
//!
//! ```text
//! settings   what must be known to reach it
//! connect    the pools: one for issuing, its own for revoking, so neither starves the other
//! observe    what the catalogue says (sql/*.sql, runnable in psql)
//! apply      runs the statements that `lease::plan` made; no other module runs DDL
//! create, revoke   observe -> plan -> apply, and anew after any failure
//! ```
//!
//! Invariants: every role is addressed by OID and carries our mark, or it is not touched; a
//! connection with an unfinished transaction never goes back to a pool; no error, log line or
//! `Debug` text holds a password or a verifier.

mod client;
mod error;
mod settings;

use std::sync::Arc;
use std::time::Duration;

use jiff::Timestamp;

pub use self::client::{ClientConnection, ClientSslMode};
pub use self::error::{ClusterError, CreateError, CreateRefusal, Failure, FailureKind};
pub use self::settings::{
    ClusterHost, ClusterHostError, ClusterPassword, ClusterSettings, ClusterTls,
};
use crate::lease::{FoundRole, Lease, MarkerKey};
use crate::mapping::{ObjectPolicy, Profile};
use crate::names::{
    BrokerId, ClusterName, LeaseId, LeaseRoleName, RoleOid, RolePrefix, Ttl, Verifier,
};

/// One PostgreSQL server where lease roles live. Connects when first needed, reconnects by itself.
pub struct Cluster {
    settings: ClusterSettings,
}

/// Which role an operation is about. It is found by its OID when that is known, else by its name
/// or its mark; in any case it must carry the mark of `lease`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RoleTarget {
    /// The lease whose mark it must carry.
    pub lease: LeaseId,
    /// Its OID, if known.
    pub oid: Option<RoleOid>,
    /// The name it was made with, if known.
    pub name: Option<LeaseRoleName>,
}

impl RoleTarget {
    /// The role of `lease`.
    #[must_use]
    pub fn of(lease: &Lease) -> Self {
        Self { lease: lease.id, oid: lease.role_oid, name: Some(lease.role_name.clone()) }
    }

    /// A role found on the cluster whose mark names `lease`.
    #[must_use]
    pub fn found(lease: LeaseId, oid: RoleOid) -> Self {
        Self { lease, oid: Some(oid), name: None }
    }
}

/// A role that was made.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Created {
    /// Its OID.
    pub role_oid: RoleOid,
    /// Its VALID UNTIL, on the cluster's clock.
    pub valid_until: Timestamp,
}

/// What became of the access that a role gives.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum AccessEnd {
    /// The role is gone, and no session of it is left.
    Gone,
    /// The role cannot log in, is in no group, and no session of it is left.
    Ended(RoleOid),
    /// Something of its access is left; what could be taken away is gone. Each text says what is
    /// left and what a person can do.
    Blocked(Vec<String>),
}

/// What became of a role that was to be removed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Removal {
    /// Verified: no role, no session, nothing that depends on it.
    Gone,
    /// It is still there, without access unless a text says otherwise. Each text says what keeps
    /// it and what a person can do.
    Blocked(Vec<String>),
}

/// How a cluster is, as its server says.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ClusterHealth {
    /// `server_version_num`, such as 160014.
    pub version: u32,
    /// Whether it is a standby, where no role can be made.
    pub standby: bool,
    /// Whether the broker's login is a superuser, which it should not be.
    pub superuser: bool,
    /// Whether the broker's login may make roles.
    pub can_create_roles: bool,
    /// Whether the broker's login may end sessions of roles that are gone (`pg_signal_backend`).
    pub can_signal: bool,
    /// The server's clock, for comparing with the broker's.
    pub server_time: Timestamp,
}

impl Cluster {
    /// A cluster by its settings. Connects only when something is asked of it.
    ///
    /// # Errors
    /// When the root certificates cannot be read, or TLS is disabled for a host that is not local.
    pub fn new(
        settings: ClusterSettings,
        broker: BrokerId,
        key: Arc<MarkerKey>,
        role_prefix: RolePrefix,
    ) -> Result<Self, ClusterError> {
        let _ = (broker, key, role_prefix);
        Ok(Self { settings })
    }

    /// Its name in the configuration.
    #[must_use]
    pub fn name(&self) -> &ClusterName {
        &self.settings.name
    }

    /// Makes the role of `lease`: log-in by `verifier`, rights by membership in the profile's
    /// role only, `VALID UNTIL` at most `ttl` from now. Both lengths count from the moment of
    /// this call: once `within` is over the cluster itself refuses to commit.
    ///
    /// May be dropped at any await: then either nothing was made or, if the commit was already
    /// sent, the role is found by [`Self::find`].
    ///
    /// # Errors
    /// When the role must not or could not be made, or nobody knows ([`CreateError::InDoubt`]).
    pub async fn create(
        &self,
        lease: &Lease,
        profile: &Profile,
        verifier: &Verifier,
        ttl: Ttl,
        within: Duration,
    ) -> Result<Created, CreateError> {
        let _ = (lease, profile, verifier, ttl, within);
        unimplemented!()
    }

    /// Moves VALID UNTIL of the lease's role to at most `remaining` from now, on the cluster's
    /// clock, and gives it.
    ///
    /// # Errors
    /// When the role is missing, not ours, or its access has ended; or the cluster failed.
    pub async fn extend(&self, lease: &Lease, remaining: Ttl) -> Result<Timestamp, ClusterError> {
        let _ = (lease, remaining);
        unimplemented!()
    }

    /// The OID of the lease's role, if the role exists and carries the lease's mark.
    ///
    /// # Errors
    /// When the cluster failed. A role without the mark is no error: it is not the lease's.
    pub async fn find(&self, lease: &Lease) -> Result<Option<RoleOid>, ClusterError> {
        let _ = lease;
        unimplemented!()
    }

    /// Ends the access that a role gives: log-in, memberships, and then every session, by OID.
    /// Harmless when it has ended already.
    ///
    /// # Errors
    /// When the role is not ours, or the cluster failed.
    pub async fn end_access(&self, target: &RoleTarget) -> Result<AccessEnd, ClusterError> {
        let _ = target;
        unimplemented!()
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
        let _ = (target, policy);
        unimplemented!()
    }

    /// Every role that carries a mark, or whose name begins like ours.
    ///
    /// # Errors
    /// When the cluster failed.
    pub async fn lease_roles(&self) -> Result<Vec<FoundRole>, ClusterError> {
        unimplemented!()
    }

    /// Connects and asks how the cluster is.
    ///
    /// # Errors
    /// When the cluster failed.
    pub async fn probe(&self) -> Result<ClusterHealth, ClusterError> {
        unimplemented!()
    }
}
