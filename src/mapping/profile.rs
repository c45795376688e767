//! What a mapped role may be issued as, on one cluster.

use std::net::IpAddr;

use ipnet::IpNet;
use serde::{Deserialize, Serialize};

use crate::names::{ConnectionLimit, DatabaseName, LeaseLimit, RoleName, ScramIterations, Ttl};

/// The terms on which one group role of a cluster is lent.
///
/// Invariant: at least one database; `ttl` <= `max_ttl`; `networks`, when given, names at least
/// one network.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Profile {
    /// The group role on the cluster, the DATABASE-USERNAME of the map.
    pub role: RoleName,
    /// Databases that a connection string may name; the first is the default.
    pub databases: Vec<DatabaseName>,
    /// How long a lease lives when nothing is asked.
    pub ttl: Ttl,
    /// How long a lease may live with all renewals, from its issue.
    pub max_ttl: Ttl,
    /// Leases that one person may have at once.
    pub max_leases: LeaseLimit,
    /// Sessions that one lease may have open at once.
    pub connection_limit: ConnectionLimit,
    /// Rounds of the SCRAM verifier.
    pub scram_iterations: ScramIterations,
    /// `ALTER ROLE … SET` for the lease role: parameter and value.
    pub settings: Vec<(String, String)>,
    /// Networks that it is issued to; nothing given means any.
    pub networks: Option<Vec<IpNet>>,
    /// Whether whoever asks must say why.
    pub reason: ReasonRule,
    /// What becomes of objects that a lease role owns when it ends.
    pub owned_objects: ObjectPolicy,
}

/// Whether whoever asks for a role must say why.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ReasonRule {
    /// A reason is recorded when it is given.
    Optional,
    /// Without a reason nothing is issued.
    Required,
}

/// What becomes of objects that a lease role owns when it ends.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum ObjectPolicy {
    /// They go to the cluster's attic role, which nobody can log in as.
    Reassign,
    /// They are dropped, without CASCADE: what others built on them stays, and so does the role,
    /// in quarantine.
    Drop,
    /// They stay as they are, and so does the role, without access and in quarantine, until a
    /// person has dealt with each of them.
    Keep,
}

impl Profile {
    /// `role` on the terms of a configuration that says no more than this: from anywhere and
    /// without a reason, with nothing set, and with no attic for what its leases make.
    #[must_use]
    pub fn plain(role: RoleName, database: DatabaseName, ttl: Ttl, max_ttl: Ttl) -> Self {
        Self {
            role,
            databases: vec![database],
            ttl,
            max_ttl,
            max_leases: LeaseLimit::DEFAULT,
            connection_limit: ConnectionLimit::DEFAULT,
            scram_iterations: ScramIterations::DEFAULT,
            settings: Vec::new(),
            networks: None,
            reason: ReasonRule::Optional,
            owned_objects: ObjectPolicy::Drop,
        }
    }

    /// Whether the profile is issued to a client at `address`. An IPv4 address in IPv6 clothes
    /// (`::ffff:10.0.0.1`) counts as the IPv4 address it is.
    #[must_use]
    pub fn admits(&self, address: IpAddr) -> bool {
        let address = address.to_canonical();
        let inside =
            |networks: &Vec<IpNet>| networks.iter().any(|network| network.contains(&address));
        self.networks.as_ref().is_none_or(inside)
    }
}
