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
//! to do so. A name that is too much work for a pattern ends the scan there: where names of the
//! length that people log in by may be, what stands behind is not certain. What all of it may cost is bounded, and it can be called off ([`Effort`]): then too it is
//! said what was not compared. Names come before patterns, and what is gained before what is lost.

mod idle;
mod names;
mod patterns;
mod report;
mod roles;
mod side;
mod spellings;
#[cfg(test)]
mod tests;

use std::cell::OnceCell;
use std::collections::{BTreeMap, BTreeSet, HashSet};

use super::Effort;
use super::line::{Grant, Line, compared};
use super::{Case, IdentMap, MapRevision, MapUse, MapUses, RuleRef, SystemUserView};
use crate::names::{ACCOUNT_BYTES, GROUP_BYTES, MapName};

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
    /// The maps in which the case of letters is left out.
    caseins_users: BTreeSet<MapName>,
    changes: Vec<MapChange>,
    idle: Vec<IdleLine>,
    not_compared: Vec<NotCompared>,
    /// Why the broker would not take the new map; nothing where its configuration is not known.
    misfits: Option<Vec<String>>,
}

/// What of a map was not compared, because that would have taken too long.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct NotCompared {
    /// The map.
    pub map: MapName,
    /// How many names that lines are about.
    pub names: usize,
    /// How many lines with patterns. Each is among the changes too, as what may have changed.
    pub patterns: usize,
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

/// Says who gains and who loses what when `new` takes the place of `old`, as far as the effort
/// allows.
#[must_use]
pub fn diff(
    old: &IdentMap,
    new: &IdentMap,
    context: &DiffContext<'_>,
    effort: &Effort<'_>,
) -> MapDifference {
    diff_of_names(None, old, new, context, effort)
}

/// The same for names of at most `longest` bytes, or as long as those can be of which the map is
/// asked: where nobody says what it is used for, those of groups, the longer ones.
fn diff_of_names(
    longest: Option<usize>,
    old: &IdentMap,
    new: &IdentMap,
    context: &DiffContext<'_>,
    effort: &Effort<'_>,
) -> MapDifference {
    let maps: BTreeSet<&MapName> = old.map_names().chain(new.map_names()).collect();
    let mut compared = Vec::new();
    for map in maps {
        let used = context.uses.map(|uses| (uses, uses.of_map(map)));
        let cases = match used {
            Some((_, Some(used))) => used.cases.as_slice(),
            // What nobody asks lets nobody in.
            Some((_, None)) => &[],
            None => &[Case::Sensitive],
        };
        for case in cases {
            let of_map = used.and_then(|(_, used)| used);
            let asks_groups = of_map.is_none_or(MapUse::asks_groups);
            let longest = longest.unwrap_or(if asks_groups { GROUP_BYTES } else { ACCOUNT_BYTES });
            let side = |of| Side::of(of, map, *case, longest, effort);
            compared.push(Compared {
                map,
                spellings: OnceCell::new(),
                pair: Pair::new(side(old), side(new)),
                known: used.and_then(|(uses, used)| Some(Known::of(uses, map, used?))),
                is_of_groups: of_map.is_some_and(MapUse::is_of_groups),
                effort,
            });
        }
    }
    let (mut changes, mut not_compared) = all_changes(&compared, context.identities);
    changes.sort();
    changes.dedup();
    not_compared.dedup_by(|next, before| next.map == before.map && before.takes_in(next));
    let idle = context.uses.map(|uses| idle(old, new, uses, effort)).unwrap_or_default();
    let misfits = context.uses.map(|uses| uses.misfits(new));
    let caseins = compared.iter().filter(|one| one.pair.new.case == Case::Insensitive);
    let caseins_users = caseins.map(|one| one.map.clone()).collect();
    let (old, new) = (old.revision().clone(), new.revision().clone());
    MapDifference { old, new, caseins_users, changes, idle, not_compared, misfits }
}

/// What changes in all maps, and what was not compared. Where the effort does not last, that is so
/// of patterns before it is of names, and of what is lost before it is of what is gained: whoever
/// wrote a map that is hard to compare would hide what they gain.
fn all_changes(
    compared: &[Compared<'_>],
    identities: &[Vec<u8>],
) -> (Vec<MapChange>, Vec<NotCompared>) {
    let identities: HashSet<&[u8]> = identities.iter().map(Vec::as_slice).collect();
    let mut by_name: Vec<ByName<'_, '_>> = compared.iter().map(|_| ByName::default()).collect();
    for named in Named::ALL {
        for (one, by_name) in compared.iter().zip(&mut by_name) {
            one.look_at_names(named, &identities, by_name);
        }
    }
    let [gains, losses] = [Direction::Gains, Direction::Loses].map(|direction| -> Vec<_> {
        compared.iter().map(|one| one.by_pattern(direction)).collect()
    });
    let (mut changes, mut not_compared) = (Vec::new(), Vec::new());
    for (((one, by_name), gains), losses) in compared.iter().zip(by_name).zip(gains).zip(losses) {
        let left_out = [&gains, &losses].map(|found| {
            let left_out = found.iter().filter(|found| !found.is_compared);
            left_out.map(|found| found.line.index).collect::<BTreeSet<_>>().len()
        });
        not_compared.push(NotCompared {
            map: one.map.clone(),
            names: by_name.left_out + one.spellings().left_out,
            patterns: left_out.iter().sum(),
        });
        changes.extend(one.joined(Direction::Gains, by_name.gains, gains));
        changes.extend(one.joined(Direction::Loses, by_name.losses, losses));
    }
    not_compared.retain(|left| left.names + left.patterns > 0);
    not_compared.sort();
    (changes, not_compared)
}

impl NotCompared {
    /// Adds what was not compared of the same map in another case: the same names, the same lines.
    fn takes_in(&mut self, other: &Self) -> bool {
        self.names = self.names.max(other.names);
        self.patterns = self.patterns.max(other.patterns);
        true
    }
}

/// One map, asked in one case.
struct Compared<'a> {
    map: &'a MapName,
    pair: Pair<'a>,
    spellings: OnceCell<Spellings>,
    /// Nothing without a configuration: then any role may be one, and a member of any group.
    known: Option<Known<'a>>,
    is_of_groups: bool,
    effort: &'a Effort<'a>,
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

/// Where a name comes from, in the order in which they are looked at.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Named {
    /// A line is about it that only one side has.
    InChangedLine,
    /// Whoever compares named it.
    AskedFor,
    /// Any other line is about it.
    InLine,
    /// A pattern that matches few names, and only one side has.
    OfPattern,
    /// It is another spelling of what a line names.
    Spelled,
}

impl Named {
    const ALL: [Self; 5] =
        [Self::InChangedLine, Self::AskedFor, Self::InLine, Self::OfPattern, Self::Spelled];
}

/// What names gain and lose, one by one.
#[derive(Default)]
struct ByName<'s, 'a> {
    looked_at: HashSet<Vec<u8>>,
    gains: Vec<OfName<'s, 'a>>,
    losses: Vec<OfName<'s, 'a>>,
    /// How many names were not looked at.
    left_out: usize,
}

/// What one name gains, or what it loses.
type OfName<'s, 'a> = (LookedAt, Vec<u8>, Vec<Gain<'s, 'a>>);

impl<'a> Compared<'a> {
    fn spellings(&self) -> &Spellings {
        self.spellings.get_or_init(|| Spellings::of(&self.pair, self.effort))
    }

    /// Looks at each name that comes from there, and was not looked at before.
    fn look_at_names<'s>(
        &'s self,
        named: Named,
        identities: &HashSet<&[u8]>,
        by_name: &mut ByName<'s, 'a>,
    ) {
        for name in self.names(named, identities) {
            if name.is_empty() || !by_name.looked_at.insert(name.clone()) {
                continue;
            }
            if !self.effort.is_spent() && !self.pair.may_differ(&name) {
                continue;
            }
            if self.effort.is_spent() {
                by_name.left_out += 1;
                continue;
            }
            let [gains, losses] = [Direction::Gains, Direction::Loses].map(|direction| {
                let (gaining, other) = self.sides(direction);
                self.gains(gaining, other, &name)
            });
            // What was found with less than all of it may be wrong.
            if self.effort.is_spent() {
                by_name.left_out += 1;
                continue;
            }
            let why = match named {
                _ if identities.contains(name.as_slice()) => LookedAt::Asked,
                Named::Spelled => LookedAt::Spelled,
                _ => LookedAt::Named,
            };
            for (found, kept) in [(gains, &mut by_name.gains), (losses, &mut by_name.losses)] {
                if !found.is_empty() {
                    kept.push((why, name.clone(), found));
                }
            }
        }
    }

    /// The changes of one direction.
    fn joined(
        &self,
        direction: Direction,
        mut by_name: Vec<OfName<'_, 'a>>,
        by_pattern: Vec<patterns::Found<'_, 'a>>,
    ) -> Vec<MapChange> {
        let certain = by_pattern.iter().filter(|found| found.certainty == Certainty::Certain);
        let told: Told = certain.map(|found| (found.line.index, found.grant.clone())).collect();
        let (mut spelled, mut changes) = (BTreeSet::new(), Vec::new());
        by_name.sort_by(|(why, name, _), (whys, names, _)| (why, name).cmp(&(whys, names)));
        for (why, name, gains) in by_name {
            // What a pattern gives is told with the pattern, but for names that were asked for.
            let told = if why == LookedAt::Asked { &Told::new() } else { &told };
            let found = self.changes_of_name(direction, &name, gains, told);
            // Where case is left out, a name is told once if its spelling makes no difference.
            let what: Vec<_> = found.iter().map(|change| change.grants.clone()).collect();
            let is_new = spelled.insert((compared(&name, self.pair.new.case), what));
            if is_new || why == LookedAt::Asked {
                changes.extend(found);
            }
        }
        changes.extend(patterns::joined(self.map, direction, by_pattern));
        changes
    }

    /// What one name gains or loses, but by the lines that are told already: what is known, and what
    /// turns on the members of the same groups.
    fn changes_of_name(
        &self,
        direction: Direction,
        name: &[u8],
        gains: Vec<Gain<'_, 'a>>,
        told: &Told,
    ) -> Vec<MapChange> {
        let is_told = |gain: &Gain<'_, '_>| {
            [&gain.grant, &gain.line.grant()]
                .into_iter()
                .any(|grant| told.contains(&(gain.line.index, grant.clone())))
        };
        let mut known = BTreeSet::new();
        let mut changes: BTreeMap<(Certainty, Vec<Vec<u8>>), Vec<Given>> = BTreeMap::new();
        for gain in gains {
            // Of two lines that give the same the first is told.
            if known.insert(gain.grant.clone()) && !is_told(&gain) {
                let place = changes.entry((gain.certainty, gain.turns_on.clone())).or_default();
                place.push(gain.into_given());
            }
        }
        let who = ChangedFor::Name { name: name.to_vec(), is_group: self.is_of_groups };
        let changes = changes.into_iter().map(|((certainty, turns_on), grants)| {
            let (map, who) = (self.map.clone(), who.clone());
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

    /// The names that come from there, in order.
    fn names(&self, named: Named, identities: &HashSet<&[u8]>) -> BTreeSet<Vec<u8>> {
        let sides = || [&self.pair.old, &self.pair.new].into_iter();
        match named {
            Named::InChangedLine => {
                let lines = sides().flat_map(Side::changed_literals);
                let names = lines.filter_map(|line| match line.system_user() {
                    SystemUserView::Literal(name) => Some(name.to_vec()),
                    SystemUserView::Pattern(_) => None,
                });
                names.collect()
            }
            Named::AskedFor => identities.iter().map(|name| name.to_vec()).collect(),
            Named::InLine => sides().flat_map(Side::literal_names).map(Vec::from).collect(),
            Named::OfPattern => {
                let words = sides().flat_map(Side::changed_patterns).filter_map(Line::words);
                words.flatten().cloned().collect()
            }
            Named::Spelled => self.spellings().others.iter().cloned().collect(),
        }
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

    /// The maps in which the case of letters does not count in names that are spelled out, as the
    /// configuration says it (`caseins_users`), sorted.
    pub fn caseins_users(&self) -> impl Iterator<Item = &MapName> {
        self.caseins_users.iter()
    }

    /// Why the broker would refuse the new map at a reload, although it has no mistake, and go on with
    /// the one before; empty also where its configuration is not known.
    #[must_use]
    pub fn misfits(&self) -> &[String] {
        self.misfits.as_deref().unwrap_or_default()
    }

    /// What was not compared, by map.
    #[must_use]
    pub fn not_compared(&self) -> &[NotCompared] {
        &self.not_compared
    }

    /// Whether everything was compared.
    #[must_use]
    pub fn is_whole(&self) -> bool {
        self.not_compared.is_empty()
    }

    /// Whether it is known that nobody gains or loses anything.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.changes.is_empty() && self.is_whole()
    }
}
