//! A cluster: one PostgreSQL server where lease roles live.
//!
//! ```text
//! settings   what must be known to reach it
//! connect    the pools: for issuing, for ending access and for removing, so none starves another
//! locate     which role a lease has, and that it is ours
//! observe    what the catalogue says of it (sql/*.sql, runnable in psql); row: column by column
//! members    who is a member of what, for the map
//! look       what of it is looked at before a role is made, at most once a second
//! apply      runs the statements that `lease::plan` made; no other module runs DDL
//! create, revoke, remove   observe -> plan -> apply, and anew after any failure
//! handed     what goes to the attic, and who is told
//! sessions   those of a role, and their end
//! clear      what removing does in one database; explain, locks: what keeps it from that
//! examine    whether the cluster is fit and safe, and what makes it so; changes nothing
//! ```
//!
//! Invariants: every role is addressed by OID and carries our mark, or it is not touched; a
//! connection with an unfinished transaction never goes back to a pool; no error, log line or
//! `Debug` text holds a password or a verifier.

mod apply;
mod clear;
mod client;
mod connect;
mod create;
mod error;
mod examine;
mod explain;
mod handed;
mod locate;
mod locks;
mod look;
mod members;
mod observe;
mod remove;
mod revoke;
mod roles;
mod row;
mod sessions;
mod settings;

use std::fmt;
use std::sync::{Arc, OnceLock};
use std::time::Duration;

use jiff::Timestamp;

use self::apply::Limits;

pub use self::client::{ClientConnection, ClientSslMode};
use self::connect::Connections;
pub use self::error::{ClusterError, CreateError, CreateRefusal, Failure, FailureKind};
pub use self::examine::{
    Check, Examination, Examiner, Finding, HbaServer, LookedAtRoles, StorePlace, Verdict,
};
use self::handed::Handed;
pub use self::handed::{HandedOver, Witness, Written};
use self::look::Looks;
use self::remove::ClosedRoles;
pub use self::remove::HIDDEN_FOR;
pub use self::roles::LeaseRoles;
pub use self::settings::{ClusterPassword, ClusterSettings};
use crate::lease::{Blocker, Lease, MarkerKey};
use crate::names::{BrokerId, ClusterName, LeaseId, LeaseRoleName, RoleName, RoleOid, RolePrefix};

/// One PostgreSQL server where lease roles live. Connects when first needed, reconnects by itself.
pub struct Cluster {
    name: ClusterName,
    connections: Connections,
    limits: Limits,
    looks: Looks,
    closed: ClosedRoles,
    handed: Handed,
    witness: OnceLock<Arc<dyn Witness>>,
    admin_role: Option<RoleName>,
    attic_role: Option<RoleName>,
    broker: BrokerId,
    key: Arc<MarkerKey>,
    role_prefix: RolePrefix,
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
    /// The group role that it was lent, if known.
    pub group: Option<RoleName>,
    /// For how long its access has been over, if known.
    pub closed_for: Option<Duration>,
}

impl RoleTarget {
    /// The role of `lease`.
    #[must_use]
    pub fn of(lease: &Lease) -> Self {
        let (name, group) = (Some(lease.role_name.clone()), Some(lease.role.clone()));
        Self { lease: lease.id, oid: lease.role_oid, name, group, closed_for: None }
    }

    /// A role found on the cluster whose mark names `lease`.
    #[must_use]
    pub fn found(lease: LeaseId, oid: RoleOid) -> Self {
        Self { lease, oid: Some(oid), name: None, group: None, closed_for: None }
    }

    /// Its access has been over for `closed_for`.
    #[must_use]
    pub fn closed_for(self, closed_for: Option<Duration>) -> Self {
        Self { closed_for, ..self }
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
    /// Something of its access is left; what could be taken away is gone.
    Blocked(Vec<Blocker>),
}

/// What became of a role that was to be removed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Removal {
    /// Verified: no role, no session, nothing that depends on it.
    Gone,
    /// It is still there, without access unless a blocker says otherwise.
    Blocked(Vec<Blocker>),
}

/// How a cluster is, as its server says.
#[derive(Clone, Debug, PartialEq, Eq)]
#[expect(clippy::struct_excessive_bools, reason = "independent facts, as the catalogue has them")]
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
        let unusable = |mistake| {
            let cluster = settings.name.clone();
            ClusterError::Settings { cluster, mistake }
        };
        let connections = Connections::new(&settings).map_err(unusable)?;
        let ClusterSettings {
            name, admin_role, attic_role, statement_timeout, lock_timeout, ..
        } = settings;
        let limits = Limits::new(statement_timeout, lock_timeout);
        let looks = Looks::new();
        Ok(Self {
            name,
            connections,
            limits,
            looks,
            closed: ClosedRoles::new(),
            handed: Handed::default(),
            witness: OnceLock::new(),
            admin_role,
            attic_role,
            broker,
            key,
            role_prefix,
        })
    }

    /// Its name in the configuration.
    #[must_use]
    pub fn name(&self) -> &ClusterName {
        &self.name
    }
}

impl fmt::Debug for Cluster {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.debug_struct("Cluster").field("name", &self.name).finish_non_exhaustive()
    }
}
