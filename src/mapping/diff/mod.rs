//! Change with eyes open: who gains and who loses what when one map takes another's place.
//!
//! ```text
//! side      one map of one file: who is given what, and which lines could matter
//! names     every name that is known, one by one: exact
//! spellings the same where the case of letters is left out, and a pattern does not leave it out
//! roles     what a line gives, held against all that the other map gives the same name
//! patterns  whoever matches a pattern, as a set of names (../automaton.rs)
//! idle      lines that are new and give nobody anything, by the configuration
//! report    what was found, for people, programs and the audit
//! ```
//!
//! What is compared is what the files decide and not what stands in them: order, comments,
//! quotes, included files, and `^(a|b)$` in place of two lines are no difference, unless they
//! decide one. A line that ends the scan with an error, and what stands behind it, count as they
//! do at a log-in.
//!
//! Never silent: where two patterns cannot be told to be the same, that is said ("may gain"). Who
//! is a member of what is not known here: a `+group` is told as such, and what turns on it is told
//! to do so.

mod idle;
mod names;
mod patterns;
mod report;
mod roles;
mod side;
mod spellings;
#[cfg(test)]
mod tests;

use std::collections::{BTreeMap, BTreeSet};

use super::automaton::Effort;
use super::line::{Grant, Line, compared};
use super::{Case, IdentMap, MapRevision, MapUse, MapUses, RuleRef};
use crate::names::MapName;

use idle::idle;
pub use idle::{IdleLine, WhyIdle};
use roles::Gain;
use side::{Pair, Side};
use spellings::Spellings;

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
    idle: Vec<IdleLine>,
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
    /// The groups on whose members it turns whether it is a change at all. Nothing when it does not,
    /// or when something else keeps it from being known.
    pub turns_on: Vec<Vec<u8>>,
    /// What.
    pub grants: Vec<Given>,
}

/// What is gained or lost, and by which line.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Given {
    /// What.
    pub grant: Grant,
    /// What of it is no change, for the other map gives it too.
    pub but: Vec<Grant>,
    /// The new line that gives it, or the old one that gave it.
    pub line: RuleRef,
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
        let used = context.uses.map(|uses| (uses, uses.of_map(map)));
        let cases = match used {
            Some((_, Some(used))) => used.cases.as_slice(),
            // What nobody asks lets nobody in.
            Some((_, None)) => &[],
            None => &[Case::Sensitive],
        };
        for case in cases {
            let pair = Pair::new(Side::of(old, map, *case), Side::of(new, map, *case));
            let of_map = Compared {
                spellings: Spellings::of(&pair, &mut effort),
                pair,
                known: used.and_then(|(uses, used)| Some(Known::of(uses, map, used?))),
                is_of_groups: used
                    .and_then(|(_, used)| used)
                    .is_some_and(super::MapUse::is_of_groups),
            };
            changes.extend(of_map.changes(map, context.identities, &mut effort));
        }
    }
    changes.sort();
    changes.dedup();
    let idle = context.uses.map(|uses| idle(old, new, uses)).unwrap_or_default();
    MapDifference { old: old.revision().clone(), new: new.revision().clone(), changes, idle }
}

/// One map, asked in one case.
struct Compared<'a> {
    pair: Pair<'a>,
    spellings: Spellings,
    /// Nothing without a configuration: then any role may be one, and a member of any group.
    known: Option<Known<'a>>,
    is_of_groups: bool,
}

/// The roles that there are for one map.
struct Known<'a> {
    /// All of them.
    roles: BTreeSet<&'a [u8]>,
    /// Those of clusters, which can be members of groups: the broker's own duties are none's.
    lent: BTreeSet<&'a [u8]>,
}

impl<'a> Known<'a> {
    fn of(uses: &'a MapUses, map: &MapName, used: &MapUse) -> Self {
        let roles = uses.roles_of(map).unwrap_or_default();
        let lent = uses.lent().keys().map(|role| role.as_str().as_bytes());
        Self {
            roles: roles.into_iter().map(str::as_bytes).collect(),
            lent: if used.is_of_duties() { BTreeSet::new() } else { lent.collect() },
        }
    }
}

/// Lines that are told already, and what each gives.
type Told = BTreeSet<(usize, Grant)>;

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
            let mut spelled = BTreeSet::new();
            for (name, why) in &names {
                // What a pattern gives is told with the pattern, but for names that were asked for.
                let told = if *why == LookedAt::Asked { &Told::new() } else { &told };
                let found = self.changes_of_name(map, direction, name, told);
                // Where case is left out, a name is told once if its spelling makes no difference.
                let what: Vec<_> = found.iter().map(|change| change.grants.clone()).collect();
                let is_new = spelled.insert((compared(name, self.pair.new.case), what));
                if is_new || *why == LookedAt::Asked {
                    changes.extend(found);
                }
            }
            changes.extend(patterns::joined(map, direction, by_pattern));
        }
        changes
    }

    /// What one name gains or loses, but by the lines that are told already: what is known, and what
    /// turns on the members of the same groups.
    fn changes_of_name(
        &self,
        map: &MapName,
        direction: Direction,
        name: &[u8],
        told: &Told,
    ) -> Vec<MapChange> {
        let (gaining, other) = self.sides(direction);
        let is_told = |gain: &Gain<'_, '_>| {
            [&gain.grant, &gain.line.grant()]
                .into_iter()
                .any(|grant| told.contains(&(gain.line.index, grant.clone())))
        };
        let mut known = BTreeSet::new();
        let mut changes: BTreeMap<(Certainty, Vec<Vec<u8>>), Vec<Given>> = BTreeMap::new();
        for gain in self.gains(gaining, other, name) {
            // Of two lines that give the same the first is told.
            if known.insert(gain.grant.clone()) && !is_told(&gain) {
                let place = changes.entry((gain.certainty, gain.turns_on.clone())).or_default();
                place.push(gain.into_given());
            }
        }
        let who = ChangedFor::Name { name: name.to_vec(), is_group: self.is_of_groups };
        let changes = changes.into_iter().map(|((certainty, turns_on), grants)| {
            let (map, who) = (map.clone(), who.clone());
            MapChange { map, who, direction, certainty, turns_on, grants }
        });
        changes.collect()
    }

    /// The side that gives what is gained or lost, and the one that does not.
    fn sides(&self, direction: Direction) -> (&Side<'a>, &Side<'a>) {
        match direction {
            Direction::Gains => (&self.pair.new, &self.pair.old),
            Direction::Loses => (&self.pair.old, &self.pair.new),
        }
    }

    /// Every name that is looked at by itself, once.
    fn names(&self, identities: &[Vec<u8>]) -> Vec<(Vec<u8>, LookedAt)> {
        let sides = [&self.pair.old, &self.pair.new];
        let mut names = BTreeMap::new();
        for name in sides.iter().flat_map(|side| side.literal_names()) {
            names.insert(name.to_vec(), LookedAt::Named);
        }
        let words = sides.iter().flat_map(|side| side.changed_patterns()).filter_map(Line::words);
        for name in words.flatten() {
            names.insert(name.clone(), LookedAt::Named);
        }
        for name in &self.spellings.others {
            names.entry(name.clone()).or_insert(LookedAt::Spelled);
        }
        for name in identities {
            names.insert(name.clone(), LookedAt::Asked);
        }
        names.retain(|name, _| !name.is_empty() && self.pair.may_differ(name));
        let mut names: Vec<_> = names.into_iter().collect();
        names.sort_by_key(|(_, why)| *why);
        names
    }
}

/// Why a name is looked at.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum LookedAt {
    /// Whoever compares named it.
    Asked,
    /// A line names it.
    Named,
    /// It is another spelling of what a line names.
    Spelled,
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

    /// Lines that are new and give nobody anything by the configuration, sorted.
    #[must_use]
    pub fn idle(&self) -> &[IdleLine] {
        &self.idle
    }

    /// Whether nobody gains or loses anything.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.changes.is_empty()
    }
}
