//! What the map says of an identity and a role, as far as memberships are known.

use std::collections::BTreeMap;

use crate::auth::Identity;
use crate::mapping::scan::Of;
use crate::mapping::{Because, MapDecision, Maps, Matched, Memberships, Policy, RuleRef};
use crate::names::{ClusterName, Group};

/// What clusters say of the memberships of the roles that they lend. Of a cluster that is not
/// among them nothing is known.
#[derive(Clone, Debug, Default)]
pub struct Members(BTreeMap<ClusterName, Memberships>);

/// What a map says of an identity and a role.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Decided {
    /// This line lets the identity act as the role.
    Allowed { rule: RuleRef, because: Because },
    /// No line does.
    NoMatch,
    /// This line could not be evaluated, which denies.
    Failed { rule: RuleRef, reason: String },
    /// It turns on memberships that are not known.
    MembersNeeded,
}

impl Members {
    /// Nothing is known.
    #[must_use]
    pub fn none() -> Self {
        Self::default()
    }

    pub(in crate::mapping) fn of(&self, cluster: &ClusterName) -> Option<&Memberships> {
        self.0.get(cluster)
    }
}

impl FromIterator<(ClusterName, Memberships)> for Members {
    fn from_iter<All: IntoIterator<Item = (ClusterName, Memberships)>>(all: All) -> Self {
        Self(all.into_iter().collect())
    }
}

impl Policy {
    /// What the map says, by the memberships of the role on its cluster. When those are not known,
    /// and the role being a member of nothing and of everything makes a difference, it does not say.
    pub(super) fn decide(
        &self,
        maps: &Maps,
        identity: &Identity,
        role: &str,
        members: Option<&Memberships>,
    ) -> Decided {
        let (groups, none) = (self.map.asked_groups(), Memberships::none());
        if groups.is_empty() {
            return self.scan(maps, identity, role, &none);
        }
        let member_of = |is_member: &dyn Fn(&[u8]) -> bool| {
            let groups = groups.iter().filter(|group| is_member(group));
            let groups = groups.filter_map(|group| std::str::from_utf8(group).ok());
            Memberships::of_edges([role], groups.map(|group| (role, group)))
        };
        let Some(members) = members else {
            let least = self.scan(maps, identity, role, &none);
            let most = self.scan(maps, identity, role, &member_of(&|_| true));
            return if least == most { least } else { Decided::MembersNeeded };
        };
        // Only what of it this map asks: that is kept with what it decided.
        let asked = if members.is_member(role.as_bytes(), role.as_bytes()) {
            member_of(&|group| members.is_member(role.as_bytes(), group))
        } else {
            none
        };
        match self.scan(maps, identity, role, &asked) {
            Decided::Allowed { rule, because } => {
                let because = Because { members: Some(asked), ..because };
                Decided::Allowed { rule, because }
            }
            decided => decided,
        }
    }

    /// The person's own map first, then each group in order. A line that fails denies at once:
    /// a later map or group is not asked, as PostgreSQL asks no later line.
    pub(super) fn scan(
        &self,
        maps: &Maps,
        identity: &Identity,
        role: &str,
        members: &Memberships,
    ) -> Decided {
        let groups = identity.groups().iter().map(Group::as_str);
        for asked in maps.asked(identity.principal().subject(), groups) {
            let question = asked.question(role, members);
            match self.map.decide(&question) {
                MapDecision::NoMatch => {}
                MapDecision::Allowed(rule) => {
                    let capture = self.map.capture(&question);
                    let because = Because {
                        map: asked.map.clone(),
                        matched: match asked.of {
                            Of::Person => Matched::Name(asked.name.to_owned()),
                            Of::Group => Matched::Group(asked.name.to_owned()),
                        },
                        case: asked.case,
                        capture: capture.map(|bytes| String::from_utf8_lossy(&bytes).into_owned()),
                        members: None,
                    };
                    return Decided::Allowed { rule, because };
                }
                MapDecision::Failed { rule, reason } => return Decided::Failed { rule, reason },
            }
        }
        Decided::NoMatch
    }
}
