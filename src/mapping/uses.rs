//! Which map is used for what: what comparing and checking maps needs to know beside the file.

use std::collections::{BTreeMap, BTreeSet};

use super::{AccessMaps, Case, DatabaseUserView, Duty, IdentMap, Maps, Policy, RuleView};
use crate::names::{ClusterName, MapName, RoleName, WayName};

/// Which maps the configuration uses, and what the clusters lend.
#[derive(Clone, Debug, Default)]
pub struct MapUses {
    maps: BTreeMap<MapName, MapUse>,
    lent: BTreeMap<RoleName, BTreeSet<ClusterName>>,
}

/// What one map is used for.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct MapUse {
    /// The ways in whose people it is asked about.
    pub people: BTreeSet<WayName>,
    /// The ways in whose groups it is asked about.
    pub groups: BTreeSet<WayName>,
    /// Whether it gives the broker's own duties to people.
    pub duties: bool,
    /// Whether it gives them to groups.
    pub group_duties: bool,
    /// How names are compared: each case in which it is asked, once.
    pub cases: Vec<Case>,
}

impl MapUse {
    /// Whether groups are matched against its system users, and no people.
    #[must_use]
    pub fn is_of_groups(&self) -> bool {
        let of_people = !self.people.is_empty() || self.duties;
        self.asks_groups() && !of_people
    }

    /// Whether groups are matched against its system users, besides people or not.
    #[must_use]
    pub fn asks_groups(&self) -> bool {
        !self.groups.is_empty() || self.group_duties
    }

    /// Whether it gives the broker's own duties, and no roles of clusters.
    #[must_use]
    pub fn is_of_duties(&self) -> bool {
        let of_roles = !self.people.is_empty() || !self.groups.is_empty();
        (self.duties || self.group_duties) && !of_roles
    }
}

impl MapUse {
    /// Who uses it, each once.
    fn users(&self) -> Vec<String> {
        let ways: BTreeSet<&WayName> = self.people.union(&self.groups).collect();
        let ways = ways.into_iter().map(|way| format!("the way in `{way}`"));
        let access = (self.duties || self.group_duties).then(|| "[access]".to_owned());
        ways.chain(access).collect()
    }
}

impl MapUses {
    /// What a policy uses.
    #[must_use]
    pub fn of(policy: &Policy) -> Self {
        let lent = policy.targets.iter().flat_map(|target| {
            let roles = target.profiles.iter().map(|profile| profile.role.clone());
            roles.map(|role| (role, target.cluster.clone()))
        });
        Self::new(&policy.ways, &policy.access, lent)
    }

    /// What these ways, duties and clusters use.
    pub fn new(
        ways: &BTreeMap<WayName, Maps>,
        access: &AccessMaps,
        lent: impl IntoIterator<Item = (RoleName, ClusterName)>,
    ) -> Self {
        let mut uses = Self::default();
        for (way, maps) in ways {
            if let Some(name) = &maps.map {
                uses.map(name, maps.case).people.insert(way.clone());
            }
            if let Some(name) = &maps.group_map {
                uses.map(name, maps.case).groups.insert(way.clone());
            }
        }
        if let Some(name) = &access.map {
            uses.map(name, access.case).duties = true;
        }
        if let Some(name) = &access.group_map {
            uses.map(name, access.case).group_duties = true;
        }
        for (role, cluster) in lent {
            uses.lent.entry(role).or_default().insert(cluster);
        }
        uses
    }

    fn map(&mut self, name: &MapName, case: Case) -> &mut MapUse {
        let used = self.maps.entry(name.clone()).or_default();
        if !used.cases.contains(&case) {
            used.cases.push(case);
        }
        used
    }

    /// What a map is used for; nothing when nobody uses it.
    #[must_use]
    pub fn of_map(&self, name: &MapName) -> Option<&MapUse> {
        self.maps.get(name)
    }

    /// The maps that are used.
    pub fn used_maps(&self) -> impl Iterator<Item = &MapName> {
        self.maps.keys()
    }

    /// Why the broker would not take `map`, as far as that does not stand in a line.
    ///
    /// A name of the configuration without a line lets nobody in, so it is a slip: in the name, or
    /// because half of a file is missing. And the broker's own duties are roles of no cluster, so
    /// that nobody can be asked who is a member of one.
    #[must_use]
    pub fn misfits(&self, map: &IdentMap) -> Vec<String> {
        let missing = self.maps.iter().filter(|(name, _)| !map.has_map(name));
        let missing = missing.flat_map(|(name, used)| {
            let users = used.users().into_iter();
            users
                .map(move |user| format!("{user} uses map `{name}`, which has no line in the file"))
        });
        let asks =
            |rule: &RuleView<'_>| matches!(rule.database_user(), DatabaseUserView::MemberOf(_));
        let of_duties = self.maps.iter().filter(|(_, used)| used.duties || used.group_duties);
        let asking = of_duties.flat_map(|(name, _)| map.rules(name).filter(asks)).map(|rule| {
            let place = rule.reference();
            format!("{place}: `+role` in a map of [access], whose roles are of no cluster")
        });
        missing.chain(asking).collect()
    }

    /// The roles that clusters lend, and which clusters.
    #[must_use]
    pub fn lent(&self) -> &BTreeMap<RoleName, BTreeSet<ClusterName>> {
        &self.lent
    }

    /// All roles that a line of the map can let somebody be; nothing when nobody uses the map, so
    /// that no role is known to be out of its reach.
    #[must_use]
    pub fn roles_of(&self, name: &MapName) -> Option<BTreeSet<&str>> {
        let used = self.of_map(name)?;
        let mut roles = BTreeSet::new();
        if !used.people.is_empty() || !used.groups.is_empty() {
            roles.extend(self.lent.keys().map(RoleName::as_str));
        }
        if used.duties || used.group_duties {
            roles.extend(Duty::ALL.map(Duty::as_str));
        }
        Some(roles)
    }
}
