//! Change with eyes open: who gains and who loses what when one map takes another's place.
//!
//! ```text
//! side      one map of one file: who is given what, and which lines could matter
//! names     every name that is known, one by one: exact
//! patterns  whoever matches a pattern, as a set of names (../automaton.rs)
//! report    what was found, for people, programs and the audit
//! ```
//!
//! What is compared is what the files decide and not what stands in them: order, comments,
//! quotes, included files, and `^(a|b)$` in place of two lines are no difference, unless they
//! decide one. A line that ends the scan with an error, and what stands behind it, count as they
//! do at a log-in.
//!
//! Never silent: where two patterns cannot be told to be the same, that is said ("may gain").

mod names;
mod patterns;
mod report;
mod side;
#[cfg(test)]
mod tests;

use std::collections::{BTreeMap, BTreeSet};

use super::automaton::Effort;
use super::line::{Grant, Line};
use super::{Case, IdentMap, MapRevision, MapUses, RuleRef};
use crate::names::MapName;

use side::{Pair, Side};

/// What is known beside the two files.
#[derive(Clone, Copy, Debug, Default)]
pub struct DiffContext<'a> {
    /// Which map is used for what, and what is lent. Without it every map is compared for every
    /// role.
    pub uses: Option<&'a MapUses>,
    /// Accounts and groups to compare one by one, each in every map.
    pub identities: &'a [Vec<u8>],
}

/// Who gains and who loses what.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct MapDifference {
    old: MapRevision,
    new: MapRevision,
    changes: Vec<MapChange>,
}

/// What changes for one name, or for whoever matches one pattern, in one map.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct MapChange {
    /// The map.
    pub map: MapName,
    /// Who.
    pub who: ChangedFor,
    /// Gained or lost.
    pub direction: Direction,
    /// Whether it is known.
    pub certainty: Certainty,
    /// What, and by which line: the new one that gives it, or the old one that gave it.
    pub grants: Vec<(Grant, RuleRef)>,
}

/// For whom something changes.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum ChangedFor {
    /// The account, or, in a map of groups, whoever is in the group.
    Name {
        /// As it is compared.
        name: Vec<u8>,
        /// Whether the map is asked about groups only.
        is_group: bool,
    },
    /// Whoever's account or group matches a pattern.
    Matching {
        /// Without the `/`.
        pattern: Vec<u8>,
        /// Somebody for whom it does change something.
        example: Option<Example>,
    },
}

/// A name that is in one set and not in another.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Example {
    /// The name.
    pub name: Vec<u8>,
    /// The role that `\1` makes of it.
    pub role: Option<Vec<u8>>,
}

/// Whether something is gained or lost.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Direction {
    /// The new map gives it.
    Gains,
    /// Only the old map gave it.
    Loses,
}

/// Whether a change is known to be one.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Certainty {
    /// It is: there is somebody for whom the maps decide differently.
    Certain,
    /// It may be: the patterns could not be compared.
    Possible,
}

/// Says who gains and who loses what when `new` takes the place of `old`.
#[must_use]
pub fn diff(old: &IdentMap, new: &IdentMap, context: &DiffContext<'_>) -> MapDifference {
    let maps: BTreeSet<&MapName> = old.map_names().chain(new.map_names()).collect();
    let mut effort = Effort::default();
    let mut changes = Vec::new();
    for map in maps {
        let used = context.uses.and_then(|uses| uses.of_map(map));
        let cases = used.map_or(&[Case::Sensitive][..], |used| &used.cases);
        for case in cases {
            let roles = context.uses.and_then(|uses| uses.roles_of(map));
            let compared = Compared {
                pair: Pair::new(Side::of(old, map, *case), Side::of(new, map, *case)),
                roles: roles.map(|roles| roles.into_iter().map(str::as_bytes).collect()),
                is_of_groups: used.is_some_and(super::MapUse::is_of_groups),
            };
            changes.extend(compared.changes(map, context.identities, &mut effort));
        }
    }
    changes.sort();
    changes.dedup();
    MapDifference { old: old.revision().clone(), new: new.revision().clone(), changes }
}

/// One map, asked in one case.
struct Compared<'a> {
    pair: Pair<'a>,
    /// All roles that there are, when that is known.
    roles: Option<BTreeSet<&'a [u8]>>,
    is_of_groups: bool,
}

/// Lines that are told already, and what each gives.
type Told = BTreeSet<(usize, Grant)>;

/// Something that one side gives and the other does not, and the line of that side.
struct Gain<'s, 'a> {
    grant: Grant,
    line: &'s Line<'a>,
}

impl<'a> Compared<'a> {
    fn changes(
        &self,
        map: &MapName,
        identities: &[Vec<u8>],
        effort: &mut Effort,
    ) -> Vec<MapChange> {
        let names = self.names(identities);
        let mut changes = Vec::new();
        for direction in [Direction::Gains, Direction::Loses] {
            let by_pattern = self.by_pattern(direction, effort);
            let certain = by_pattern.iter().filter(|found| found.certainty == Certainty::Certain);
            let told: Told = certain.map(|found| (found.line.index, found.grant.clone())).collect();
            for (name, asked_for) in &names {
                // What a pattern gives is told with the pattern, but for names that were asked for.
                let told = if *asked_for == AskedFor::ByName { &Told::new() } else { &told };
                changes.extend(self.change_of_name(map, direction, name, told));
            }
            changes.extend(patterns::joined(map, direction, by_pattern));
        }
        changes
    }

    /// What one name gains or loses, but by the lines that are told already.
    fn change_of_name(
        &self,
        map: &MapName,
        direction: Direction,
        name: &[u8],
        told: &Told,
    ) -> Option<MapChange> {
        let (gaining, other) = self.sides(direction);
        let gains = self.gains(gaining, other, name).into_iter();
        let is_told = |gain: &Gain<'_, '_>| {
            [&gain.grant, &gain.line.grant()]
                .into_iter()
                .any(|grant| told.contains(&(gain.line.index, grant.clone())))
        };
        let untold = gains.filter(|gain| !is_told(gain));
        let grants: Vec<_> = untold.map(|gain| (gain.grant, gain.line.reference())).collect();
        let who = ChangedFor::Name { name: name.to_vec(), is_group: self.is_of_groups };
        let (map, certainty) = (map.clone(), Certainty::Certain);
        let change = MapChange { map, who, direction, certainty, grants };
        Some(change).filter(|change| !change.grants.is_empty())
    }

    /// The side that gives what is gained or lost, and the one that does not.
    fn sides(&self, direction: Direction) -> (&Side<'a>, &Side<'a>) {
        match direction {
            Direction::Gains => (&self.pair.new, &self.pair.old),
            Direction::Loses => (&self.pair.old, &self.pair.new),
        }
    }

    /// Every name that is looked at by itself, once.
    fn names(&self, identities: &[Vec<u8>]) -> BTreeMap<Vec<u8>, AskedFor> {
        let sides = [&self.pair.old, &self.pair.new];
        let mut names = BTreeMap::new();
        for name in sides.iter().flat_map(|side| side.literal_names()) {
            names.insert(name.to_vec(), AskedFor::ByLine);
        }
        let words = sides.iter().flat_map(|side| side.changed_patterns()).filter_map(Line::words);
        for name in words.flatten() {
            names.insert(name.clone(), AskedFor::ByLine);
        }
        for name in identities {
            names.insert(name.clone(), AskedFor::ByName);
        }
        names.retain(|name, _| !name.is_empty() && self.pair.may_differ(name));
        names
    }
}

/// Why a name is looked at.
#[derive(Clone, Copy, PartialEq, Eq)]
enum AskedFor {
    /// A line names it.
    ByLine,
    /// Whoever compares named it.
    ByName,
}

impl MapDifference {
    /// The revision before.
    #[must_use]
    pub fn before(&self) -> &MapRevision {
        &self.old
    }

    /// The revision after.
    #[must_use]
    pub fn after(&self) -> &MapRevision {
        &self.new
    }

    /// What changes, sorted by map and name.
    #[must_use]
    pub fn changes(&self) -> &[MapChange] {
        &self.changes
    }

    /// Whether nobody gains or loses anything.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.changes.is_empty()
    }
}
