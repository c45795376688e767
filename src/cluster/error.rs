//! What can go wrong with a cluster, said without a secret.

use crate::causes::with_causes;
pub use crate::dial::{Failure, FailureKind};
use crate::lease::{Blocker, BlockerKind, plan};
use crate::names::{ClusterName, LeaseId, LeaseRoleName, RoleName, RoleOid};

impl Failure {
    /// The same without `secret`, should a server's message ever repeat it.
    pub(super) fn without(mut self, secret: &str) -> Self {
        self.text = self.text.replace(secret, "…");
        self
    }

    /// Whether a statement failed because somebody else was quicker, so that looking again helps: the
    /// role is gone or renamed (42704, and the plan's own check), its row was changed or deleted in
    /// the same moment (XX000, "tuple concurrently updated"), or a deadlock was broken (40P01).
    pub(super) fn moved_on(&self) -> bool {
        self.is_one_of(&["42704", plan::CHECK_FAILED, "40P01"])
            || self.is_one_of(&["XX000"]) && self.text.contains("concurrently")
    }

    /// The failure of `doing` something on `cluster`.
    pub(super) fn on(self, cluster: &ClusterName, doing: &'static str) -> ClusterError {
        let (cluster, source) = (cluster.clone(), self);
        match source.kind {
            FailureKind::Rejected => ClusterError::Rejected { cluster, doing, source },
            FailureKind::Broken | FailureKind::TimedOut => {
                ClusterError::Unreachable { cluster, doing, source }
            }
        }
    }
}

/// Why something did not work on a cluster.
#[derive(Debug, thiserror::Error)]
pub enum ClusterError {
    /// The settings cannot be used. Only [`Cluster::new`](super::Cluster::new) says so.
    #[error("cluster {cluster} cannot be used as configured: {mistake}")]
    Settings {
        /// The cluster.
        cluster: ClusterName,
        /// What is wrong, and what to change.
        mistake: String,
    },
    /// It could not be reached or did not answer. Nothing is known of what was under way.
    #[error("cluster {cluster} is out of reach: {doing}")]
    Unreachable {
        /// The cluster.
        cluster: ClusterName,
        /// What was being done.
        doing: &'static str,
        /// What the driver said.
        source: Failure,
    },
    /// The server refused. Nothing was changed.
    #[error("cluster {cluster} refused: {doing}")]
    Rejected {
        /// The cluster.
        cluster: ClusterName,
        /// What was being done.
        doing: &'static str,
        /// What the server said.
        source: Failure,
    },
    /// The role with the lease's OID or name is not, or not any more, the lease's role: its mark
    /// is missing, changed, or another lease's; or it was made a superuser. It was not touched.
    #[error(
        "cluster {cluster}: role {name} (OID {oid}) is not touched for lease {lease}: {because}"
    )]
    NotOurs {
        /// The cluster.
        cluster: ClusterName,
        /// The lease.
        lease: LeaseId,
        /// OID of the role.
        oid: RoleOid,
        /// Its name, control characters escaped.
        name: String,
        /// What is wrong with it.
        because: &'static str,
    },
    /// The lease has no role on the cluster.
    #[error("cluster {cluster} has no role for lease {lease}")]
    RoleMissing {
        /// The cluster.
        cluster: ClusterName,
        /// The lease.
        lease: LeaseId,
    },
    /// The lease's role cannot log in any more: its end has begun, so it is not renewed.
    #[error("cluster {cluster}: the access of lease {lease} has ended, it is not renewed")]
    AccessEnded {
        /// The cluster.
        cluster: ClusterName,
        /// The lease.
        lease: LeaseId,
    },
    /// The catalogue held something that this version cannot read.
    #[error("cluster {cluster} answered what cannot be understood: {what}")]
    Unreadable {
        /// The cluster.
        cluster: ClusterName,
        /// What was read.
        what: &'static str,
    },
}

/// Why no role was made.
#[derive(Debug, thiserror::Error)]
pub enum CreateError {
    /// It must not be made. Nothing was changed; asking again will not help until an
    /// administrator has changed something.
    #[error("cluster {cluster} cannot lend role {role}: {refusal}")]
    Refused {
        /// The cluster.
        cluster: ClusterName,
        /// The group role that was to be lent.
        role: RoleName,
        /// Why not.
        refusal: CreateRefusal,
    },
    /// It could not be made, and certainly was not.
    #[error("role {role_name} was not made")]
    Failed {
        /// The lease role.
        role_name: LeaseRoleName,
        /// What failed.
        source: ClusterError,
    },
    /// It was to be made, and nobody knows whether it was: the answer to the commit is missing.
    /// The caller looks with [`Cluster::find`](super::Cluster::find).
    #[error("role {role_name} may or may not have been made")]
    InDoubt {
        /// The lease role.
        role_name: LeaseRoleName,
        /// What failed.
        source: ClusterError,
    },
}

/// Why a group role is not lent.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum CreateRefusal {
    /// There is no such role.
    #[error("the cluster has no role of this name")]
    NoSuchRole,
    /// The role is, or through membership reaches, one that rules the cluster or the broker. The
    /// text names each such role and why, control characters escaped.
    #[error("it reaches more than a lease may give: {0}")]
    TooPowerful(String),
    /// The server is a standby: roles are made on the primary only.
    #[error("the server is a standby in recovery; connect the broker to the primary")]
    Standby,
    /// The time in which it may be made was over before anything was sent to be committed, or
    /// the server's own check said so.
    #[error("the time in which the role may be made is over")]
    TooLate,
}

impl ClusterError {
    /// A cluster that cannot be asked, as what keeps the role.
    pub(super) fn blocker(&self) -> Blocker {
        Blocker::new(BlockerKind::Cluster, with_causes(self))
    }

    /// Whether the broker lacks the right to do it (42501).
    pub(super) fn is_not_permitted(&self) -> bool {
        matches!(self, Self::Rejected { source, .. } if source.is_one_of(&["42501"]))
    }
}
