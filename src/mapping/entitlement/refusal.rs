//! Why an identity may not act as a role.

use std::net::IpAddr;

use crate::mapping::RuleRef;
use crate::names::{ClusterName, Principal, RoleName};

/// Why an identity may not act as a role. The person is told only that it is not theirs; the
/// audit has this.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Refusal {
    /// No cluster of this name is configured.
    #[error("no cluster `{0}` is configured")]
    UnknownCluster(String),
    /// The cluster has no profile for the role.
    #[error("cluster `{cluster}` has no profile for role `{role}`")]
    NoProfile {
        /// The cluster asked for.
        cluster: ClusterName,
        /// The role asked for.
        role: String,
    },
    /// No line of the map lets the identity in.
    #[error("no line of the map lets {principal} act as `{role}`")]
    NotMapped {
        /// Who asked.
        principal: Principal,
        /// The role asked for.
        role: RoleName,
    },
    /// A line of the map ended in an error, which denies.
    #[error("{rule} ended in an error, which denies: {reason}")]
    MapFailed {
        /// The line.
        rule: RuleRef,
        /// What was wrong.
        reason: String,
    },
    /// Whether a line lets the identity in turns on what the cluster says of memberships, and that
    /// is not known.
    #[error(
        "whether `{role}` may be had turns on its memberships on cluster `{cluster}`, which are not known"
    )]
    MembersUnknown {
        /// The cluster.
        cluster: ClusterName,
        /// The role asked for.
        role: RoleName,
    },
    /// The profile is not issued to the client's address.
    #[error("role `{role}` is not issued to {address}")]
    NetworkNotAdmitted {
        /// The role asked for.
        role: RoleName,
        /// The client's address.
        address: IpAddr,
    },
}

impl Refusal {
    /// One stable word, for the audit and for metrics.
    #[must_use]
    pub fn word(&self) -> &'static str {
        match self {
            Self::UnknownCluster(_) => "unknown_cluster",
            Self::NoProfile { .. } => "no_profile",
            Self::NotMapped { .. } => "not_mapped",
            Self::MapFailed { .. } => "map_failed",
            Self::MembersUnknown { .. } => "members_unknown",
            Self::NetworkNotAdmitted { .. } => "network",
        }
    }
}
