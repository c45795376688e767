//! From an identity to what it may act as.

use std::collections::BTreeMap;
use std::net::IpAddr;
use std::sync::Arc;

use super::{IdentMap, MapDecision, MapRevision, Profile, RuleRef};
use crate::auth::Identity;
use crate::names::{ClusterName, MapName, Principal, RoleName, WayName};

/// The maps that one way in uses, as `map=` does in `pg_hba.conf`.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Maps {
    /// Matched against the principal's subject.
    pub map: Option<MapName>,
    /// Matched against each group of the identity.
    pub group_map: Option<MapName>,
}

/// The maps that give the broker's own duties, `auditor` and `operator`.
pub type AccessMaps = Maps;

/// One cluster as the map sees it: its name and what it lends.
#[derive(Clone, Debug)]
pub struct Target {
    /// The cluster.
    pub cluster: ClusterName,
    /// Its profiles, at most one a role.
    pub profiles: Vec<Arc<Profile>>,
}

/// All that decides who may become what: the map file, which way in uses which map, and the
/// profiles of every cluster.
#[derive(Debug)]
pub struct Policy {
    /// The parsed map file.
    pub map: IdentMap,
    /// The maps of each way in.
    pub ways: BTreeMap<WayName, Maps>,
    /// The maps of the broker's own duties.
    pub access: AccessMaps,
    /// The clusters and what they lend.
    pub targets: Vec<Target>,
}

/// Evidence that one identity may act as one role on one cluster under one profile, by one rule
/// of one revision of the map. Whoever issues a lease must have one.
///
/// Invariant: only [`Policy::entitle`] and [`Policy::entitlements`] make one.
#[derive(Clone, Debug)]
pub struct Entitlement {
    identity: Identity,
    cluster: ClusterName,
    profile: Arc<Profile>,
    rule: RuleRef,
    revision: MapRevision,
}

/// What a person may do with the broker itself.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Duties {
    /// May read every lease and the audit.
    pub auditor: bool,
    /// May read every lease and end it.
    pub operator: bool,
}

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
    /// The profile is not issued to the client's address.
    #[error("role `{role}` is not issued to {address}")]
    NetworkNotAdmitted {
        /// The role asked for.
        role: RoleName,
        /// The client's address.
        address: IpAddr,
    },
}

impl Entitlement {
    /// Who may act.
    #[must_use]
    pub fn identity(&self) -> &Identity {
        &self.identity
    }

    /// On which cluster.
    #[must_use]
    pub fn cluster(&self) -> &ClusterName {
        &self.cluster
    }

    /// As which role, on which terms.
    #[must_use]
    pub fn profile(&self) -> &Arc<Profile> {
        &self.profile
    }

    /// By which line of the map.
    #[must_use]
    pub fn rule(&self) -> &RuleRef {
        &self.rule
    }

    /// Of which revision of the map.
    #[must_use]
    pub fn revision(&self) -> &MapRevision {
        &self.revision
    }
}

impl Policy {
    /// Lets `identity`, at `address`, act as `role` on `cluster`.
    ///
    /// # Errors
    /// When the cluster or the profile does not exist, no line of the map lets the identity in, a
    /// line fails, or the profile is not issued to the address.
    pub fn entitle(
        &self,
        identity: &Identity,
        cluster: &str,
        role: &str,
        address: IpAddr,
    ) -> Result<Entitlement, Refusal> {
        let target = self.targets.iter().find(|target| target.cluster.as_str() == cluster);
        let target = target.ok_or_else(|| Refusal::UnknownCluster(cluster.to_owned()))?;
        let profile = target.profiles.iter().find(|profile| profile.role.as_str() == role);
        let profile = profile.ok_or_else(|| Refusal::NoProfile {
            cluster: target.cluster.clone(),
            role: role.to_owned(),
        })?;
        self.entitle_to(identity, target, profile, address)
    }

    /// All that `identity`, at `address`, may act as, in the order of the configuration.
    #[must_use]
    pub fn entitlements(&self, identity: &Identity, address: IpAddr) -> Vec<Entitlement> {
        let pairs = self
            .targets
            .iter()
            .flat_map(|target| target.profiles.iter().map(move |profile| (target, profile)));
        pairs
            .filter_map(|(target, profile)| {
                self.entitle_to(identity, target, profile, address).ok()
            })
            .collect()
    }

    /// The broker's own duties that the access maps give `identity`.
    #[must_use]
    pub fn duties(&self, identity: &Identity) -> Duties {
        let has =
            |duty| matches!(self.decide(&self.access, identity, duty), MapDecision::Allowed(_));
        Duties { auditor: has("auditor"), operator: has("operator") }
    }

    fn entitle_to(
        &self,
        identity: &Identity,
        target: &Target,
        profile: &Arc<Profile>,
        address: IpAddr,
    ) -> Result<Entitlement, Refusal> {
        let principal = identity.principal();
        let none = Maps::default();
        let maps = self.ways.get(principal.issuer()).unwrap_or(&none);
        let rule = match self.decide(maps, identity, profile.role.as_str()) {
            MapDecision::Allowed(rule) => rule,
            MapDecision::Failed { rule, reason } => {
                return Err(Refusal::MapFailed { rule, reason });
            }
            MapDecision::NoMatch => {
                let (principal, role) = (principal.clone(), profile.role.clone());
                return Err(Refusal::NotMapped { principal, role });
            }
        };
        if !profile.admits(address) {
            return Err(Refusal::NetworkNotAdmitted { role: profile.role.clone(), address });
        }
        Ok(Entitlement {
            identity: identity.clone(),
            cluster: target.cluster.clone(),
            profile: Arc::clone(profile),
            rule,
            revision: self.map.revision().clone(),
        })
    }

    /// The person's own map first, then each group in order. A line that fails denies at once:
    /// a later map or group is not asked, as PostgreSQL asks no later line.
    fn decide(&self, maps: &Maps, identity: &Identity, role: &str) -> MapDecision {
        let own = maps.map.iter().map(|map| (map, identity.principal().subject()));
        let groups = maps
            .group_map
            .iter()
            .flat_map(|map| identity.groups().iter().map(move |group| (map, group.as_str())));
        for (map, system_user) in own.chain(groups) {
            match self.map.decide(map, system_user, role) {
                MapDecision::NoMatch => {}
                decided => return decided,
            }
        }
        MapDecision::NoMatch
    }
}
