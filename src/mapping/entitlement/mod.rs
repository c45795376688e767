//! From an identity to what it may act as.

mod decided;
mod refusal;
#[cfg(test)]
mod tests;

use std::net::IpAddr;
use std::sync::Arc;

use self::decided::Decided;
pub use self::decided::Members;
pub use self::refusal::Refusal;
use super::{Because, MapRevision, Maps, Memberships, Policy, Profile, RuleRef, Target};
use crate::auth::Identity;
use crate::names::{ClusterName, RoleName};

/// All that an identity may act as, as far as that is known.
#[derive(Clone, Debug, Default)]
pub struct Offers {
    /// What it may act as, in the order of the configuration.
    pub entitlements: Vec<Entitlement>,
    /// Roles of which that turns on memberships that are not known.
    pub undecided: Vec<(ClusterName, RoleName)>,
}

/// Evidence that one identity may act as one role on one cluster under one profile, by one rule
/// of one revision of the map. Whoever issues a lease must have one.
///
/// Invariant: only [`Policy::entitle`] and [`Policy::offers`] make one.
#[derive(Clone, Debug)]
pub struct Entitlement {
    identity: Identity,
    cluster: ClusterName,
    profile: Arc<Profile>,
    rule: RuleRef,
    revision: MapRevision,
    because: Because,
}

/// What a person may do with the broker itself.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Duties {
    /// May read every lease and the audit.
    pub auditor: bool,
    /// May read every lease and end it.
    pub operator: bool,
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

    /// By what of the identity, and what else that rested on.
    #[must_use]
    pub fn because(&self) -> &Because {
        &self.because
    }
}

impl Policy {
    /// Lets `identity`, at `address`, act as `role` on `cluster`.
    ///
    /// # Errors
    /// When the cluster or the profile does not exist, no line of the map lets the identity in, a
    /// line fails, or the profile is not issued to the address. [`Refusal::MembersUnknown`] when
    /// it turns on memberships that `members` does not have.
    pub fn entitle(
        &self,
        identity: &Identity,
        cluster: &str,
        role: &str,
        address: IpAddr,
        members: &Members,
    ) -> Result<Entitlement, Refusal> {
        let target = self.targets.iter().find(|target| target.cluster.as_str() == cluster);
        let target = target.ok_or_else(|| Refusal::UnknownCluster(cluster.to_owned()))?;
        let profile = target.profiles.iter().find(|profile| profile.role.as_str() == role);
        let profile = profile.ok_or_else(|| Refusal::NoProfile {
            cluster: target.cluster.clone(),
            role: role.to_owned(),
        })?;
        self.entitle_to(identity, target, profile, address, members)
    }

    /// All that `identity`, at `address`, may act as, and what of it turns on memberships that
    /// `members` does not have.
    #[must_use]
    pub fn offers(&self, identity: &Identity, address: IpAddr, members: &Members) -> Offers {
        let pairs = self
            .targets
            .iter()
            .flat_map(|target| target.profiles.iter().map(move |profile| (target, profile)));
        let mut offers = Offers::default();
        for (target, profile) in pairs {
            match self.entitle_to(identity, target, profile, address, members) {
                Ok(entitlement) => offers.entitlements.push(entitlement),
                Err(Refusal::MembersUnknown { cluster, role }) => {
                    offers.undecided.push((cluster, role));
                }
                Err(_) => {}
            }
        }
        offers
    }

    /// The broker's own duties that the access maps give `identity`.
    #[must_use]
    pub fn duties(&self, identity: &Identity) -> Duties {
        // A duty is no role of any cluster, so it is a member of nothing.
        let none = Memberships::none();
        let has = |duty| {
            let decided = self.scan(&self.access, identity, duty, &none);
            matches!(decided, Decided::Allowed { .. })
        };
        Duties { auditor: has("auditor"), operator: has("operator") }
    }

    fn entitle_to(
        &self,
        identity: &Identity,
        target: &Target,
        profile: &Arc<Profile>,
        address: IpAddr,
        members: &Members,
    ) -> Result<Entitlement, Refusal> {
        let principal = identity.principal();
        let none = Maps::default();
        let maps = self.ways.get(principal.issuer()).unwrap_or(&none);
        let members = members.of(&target.cluster);
        let (rule, because) = match self.decide(maps, identity, profile.role.as_str(), members) {
            Decided::Allowed { rule, because } => (rule, because),
            Decided::Failed { rule, reason } => {
                return Err(Refusal::MapFailed { rule, reason });
            }
            Decided::NoMatch => {
                let (principal, role) = (principal.clone(), profile.role.clone());
                return Err(Refusal::NotMapped { principal, role });
            }
            Decided::MembersNeeded => {
                let (cluster, role) = (target.cluster.clone(), profile.role.clone());
                return Err(Refusal::MembersUnknown { cluster, role });
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
            because,
        })
    }
}
