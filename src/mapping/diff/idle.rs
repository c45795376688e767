//! Lines that are new and give nobody anything, by the configuration. They are no gain; but whoever
//! wrote them meant one.

use std::collections::BTreeSet;

use super::{Effort, RuleRef};
use crate::mapping::line::{Grant, lines};
use crate::mapping::{Case, IdentMap, MapUses};
use crate::names::MapName;

/// A line that is new and gives nobody anything.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct IdleLine {
    /// Its map.
    pub map: MapName,
    /// Why it gives nobody anything.
    pub why: WhyIdle,
    /// The line; of a map, the first that is new.
    pub line: RuleRef,
}

/// Why a line gives nobody anything.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum WhyIdle {
    /// No way in asks its map.
    UnusedMap,
    /// No cluster lends its role, and it is no duty where the map gives those.
    NotLent(Vec<u8>),
}

/// Such lines of `new`, each map and each role once.
pub(super) fn idle(
    old: &IdentMap,
    new: &IdentMap,
    uses: &MapUses,
    effort: &Effort<'_>,
) -> Vec<IdleLine> {
    let mut idle = Vec::new();
    for map in new.map_names() {
        let known: BTreeSet<_> = lines(old, map, effort).map(|line| line.meaning()).collect();
        let roles = uses.roles_of(map).unwrap_or_default();
        let mut told = BTreeSet::new();
        for line in lines(new, map, effort).filter(|line| !known.contains(&line.meaning())) {
            let why = match (uses.of_map(map), line.grant()) {
                (None, _) => Some(WhyIdle::UnusedMap),
                (Some(used), Grant::Role(role)) => {
                    // Asked in both cases, the one that lets more in counts.
                    let case = used.cases.iter().max_by_key(|case| **case == Case::Insensitive);
                    let case = case.copied().unwrap_or_default();
                    let is_known = roles.iter().any(|known| case.is_same(known.as_bytes(), &role));
                    (!is_known).then_some(WhyIdle::NotLent(role))
                }
                (Some(_), _) => None,
            };
            if let Some(why) = why.filter(|why| told.insert(why.clone())) {
                idle.push(IdleLine { map: map.clone(), why, line: line.reference() });
            }
        }
    }
    idle.sort();
    idle
}
