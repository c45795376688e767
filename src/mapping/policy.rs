//! All that decides who may become what.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::sync::Arc;

use super::{Case, IdentMap, MapUses, Profile};
use crate::names::{ClusterName, MapName, WayName};

/// The maps that one way in uses, as `map=` does in `pg_hba.conf`.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Maps {
    /// Matched against the principal's subject.
    pub map: Option<MapName>,
    /// Matched against each group of the identity.
    pub group_map: Option<MapName>,
    /// Whether the case of letters counts, in both.
    pub case: Case,
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

/// As the configuration has them.
impl fmt::Display for Maps {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (key, name) in [("map", &self.map), ("group_map", &self.group_map)] {
            if let Some(name) = name {
                write!(formatter, "{key} = {:?}, ", name.as_str())?;
            }
        }
        write!(formatter, "caseins_users = {}", self.case == Case::Insensitive)
    }
}

/// The role, and the networks that it is lent to unless it is any.
fn lent(profile: &Profile) -> String {
    let role = format!("role = {:?}", profile.role.as_str());
    let Some(networks) = &profile.networks else { return role };
    let networks: BTreeSet<String> = networks.iter().map(ToString::to_string).collect();
    format!("{role}, networks = {networks:?}")
}

impl Policy {
    /// The same with another map.
    #[must_use]
    pub fn with_map(&self, map: IdentMap) -> Self {
        let Self { ways, access, targets, .. } = self;
        Self { map, ways: ways.clone(), access: access.clone(), targets: targets.clone() }
    }

    /// Why `map` cannot take the place of the one here, as far as that does not stand in a line:
    /// [`MapUses::misfits`].
    #[must_use]
    pub fn misfits(&self, map: &IdentMap) -> Vec<String> {
        MapUses::of(self).misfits(map)
    }

    /// What decides beside the files of the map, a line each, sorted: which maps are used for what, and
    /// what is lent to where. As long as these are the same, the same map says the same.
    #[must_use]
    pub fn configured(&self) -> Vec<String> {
        let ways = self.ways.iter().map(|(way, maps)| format!("[[ldap]] {way}: {maps}"));
        let lent = self.targets.iter().flat_map(|target| {
            let of = move |profile: &Arc<Profile>| {
                format!("[[cluster]] {}: {}", target.cluster, lent(profile))
            };
            target.profiles.iter().map(of)
        });
        let mut lines: Vec<String> =
            ways.chain([format!("[access]: {}", self.access)]).chain(lent).collect();
        lines.sort();
        lines
    }
}
