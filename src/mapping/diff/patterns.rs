//! Whoever matches a pattern: sets of names, compared as automata.
//!
//! A line of one side gives something to a set of names. Lines of the other side that give it too
//! *cover* names of that set: surely, or perhaps (what `\1` gives, and who is a member of a group,
//! depends). First a name is looked for that no line covers even perhaps, then any that none surely
//! covers; each is held against both maps exactly. Only what was found so is called certain, and
//! only where no name is left that is not surely covered is there no change.

use std::collections::BTreeMap;

use super::roles::Gain;
use super::side::Side;
use super::{Certainty, ChangedFor, Compared, Direction, Example, Given, Grant, MapChange};
use crate::mapping::automaton::{Effort, Language, Part, Words, words};
use crate::mapping::line::{Giving, Line};
use crate::mapping::{Considered, SystemUserView};
use crate::names::MapName;

/// Names that are tried for one line and one grant.
const TRIED: usize = 64;
/// Names that lines name and that are left out of a pattern, since they are looked at by themselves.
const LEFT_OUT: usize = 1000;

/// What was found out about a line with a pattern.
pub(super) struct Found<'s, 'a> {
    pub line: &'s Line<'a>,
    pub grant: Grant,
    pub certainty: Certainty,
    /// Whether it was found out, or there was no effort left for that.
    pub is_compared: bool,
    but: Vec<Grant>,
    turns_on: Vec<Vec<u8>>,
    example: Option<Example>,
}

/// How a line of the other side covers what a line gives.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Cover {
    No,
    Perhaps,
    Surely,
}

impl<'a> Compared<'a> {
    /// What the changed patterns of a side give that the other side does not, or perhaps does not.
    pub(super) fn by_pattern(&self, direction: Direction) -> Vec<Found<'_, 'a>> {
        let (gaining, other) = self.sides(direction);
        let mut found = Vec::new();
        for line in gaining.changed_patterns() {
            // Few words are looked at one by one.
            if line.always_fails() || line.words().is_some() {
                continue;
            }
            for grant in self.grants_of(gaining, line) {
                let search = Search { compared: self, gaining, other, line, grant: &grant };
                let outcome = if self.effort.is_spent() { None } else { search.run() };
                // Nobody knows where a search would have ended that could not go on.
                let is_compared = !self.effort.is_spent();
                let outcome = if is_compared { outcome } else { Some(Outcome::unknown()) };
                if let Some(outcome) = outcome {
                    let Outcome { certainty, but, turns_on, example, .. } = outcome;
                    found.push(Found {
                        line,
                        grant,
                        certainty,
                        is_compared,
                        but,
                        turns_on,
                        example,
                    });
                }
            }
        }
        found
    }

    /// What a line gives: role by role where all roles that there are are known.
    fn grants_of(&self, gaining: &Side<'a>, line: &Line<'a>) -> Vec<Grant> {
        match (line.grant(), &self.known) {
            (Grant::MembersOf(_), Some(known)) if known.lent.is_empty() => Vec::new(),
            (grant @ (Grant::MembersOf(_) | Grant::Captured { .. }), _) => vec![grant],
            (grant, Some(known)) => {
                let given = known.roles.iter();
                let given = given.map(|role| Some((role, line.gives(gaining.case, role)?)));
                let given: Option<Vec<_>> = given.collect();
                given.map_or(vec![grant], |given| {
                    let given = given.into_iter().filter(|(_, is_given)| *is_given);
                    given.map(|(role, _)| Grant::Role(role.to_vec())).collect()
                })
            }
            (grant @ Grant::RolesMatching(_), None) => match line.few_roles() {
                Some(few) => few.iter().cloned().map(Grant::Role).collect(),
                None => vec![grant],
            },
            (grant, None) => vec![grant],
        }
    }
}

/// The search for a name that gains one grant by one line.
#[derive(Clone, Copy)]
struct Search<'s, 'a> {
    compared: &'s Compared<'a>,
    gaining: &'s Side<'a>,
    other: &'s Side<'a>,
    line: &'s Line<'a>,
    grant: &'s Grant,
}

/// What a search has found.
struct Outcome {
    certainty: Certainty,
    but: Vec<Grant>,
    turns_on: Vec<Vec<u8>>,
    example: Option<Example>,
    /// What the other side gives the example, and not all others.
    own_but: Vec<Grant>,
}

impl Outcome {
    /// The patterns cannot be compared.
    fn unknown() -> Self {
        Self {
            certainty: Certainty::Possible,
            but: Vec::new(),
            turns_on: Vec::new(),
            example: None,
            own_but: Vec::new(),
        }
    }

    /// Whether no other example could say more.
    fn is_best(&self) -> bool {
        self.certainty == Certainty::Certain && self.own_but.is_empty()
    }

    fn is_unknown(&self) -> bool {
        self.certainty == Certainty::Possible && self.example.is_none()
    }
}

impl<'s, 'a> Search<'s, 'a> {
    fn effort(&self) -> &'a Effort<'a> {
        self.compared.effort
    }

    /// Nothing when nobody gains anything.
    fn run(&self) -> Option<Outcome> {
        match (self.grant, &self.compared.known) {
            (Grant::Captured { .. }, Some(known)) => {
                let mut possible = None;
                for role in &known.roles {
                    match self.of_captured(role) {
                        Some(found) if found.certainty == Certainty::Certain => return Some(found),
                        found => possible = possible.or(found),
                    }
                }
                possible
            }
            _ => self.among(self.line.language().as_slice()),
        }
    }

    /// Whether anybody gains this role by what the pattern captures.
    fn of_captured(&self, role: &[u8]) -> Option<Outcome> {
        let given = self.line.names_given(self.gaining.case, role);
        let names = match &given {
            Giving::Nobody => return None,
            Giving::These(names) | Giving::Unknown(Some(names)) => Some(names),
            Giving::Unknown(None) => None,
        };
        let names: Vec<&Language> = self.line.language().into_iter().chain(names).collect();
        let grant = &Grant::Role(role.to_vec());
        let found = self.of(grant).among(&names)?;
        let role = Some(role.to_vec());
        let example = found.example.map(|example| Example { role, ..example });
        Some(Outcome { example, ..found })
    }

    /// Whether any name gains it that is in all of these; none of them is: which names are meant
    /// cannot be said. When the answer is unknown, those that lines name are left out: what they gain
    /// is told by name.
    fn among(&self, names: &[&Language]) -> Option<Outcome> {
        let covers = self.covers();
        let found = self.beside(names, &covers, &[])?;
        if found.is_unknown()
            && let Some(named) = self.named()
        {
            return self.beside(names, &covers, &[&named]);
        }
        Some(found)
    }

    fn beside(
        &self,
        own: &[&Language],
        covers: &[(&'s Line<'a>, Cover)],
        left_out: &[&Language],
    ) -> Option<Outcome> {
        let (sure, stops) = self.sure(covers);
        if self.is_among(&sure) {
            return None;
        }
        if own.is_empty() {
            return Some(Outcome::unknown());
        }
        let mut failing: Vec<&Line<'_>> = self.gaining.failing_before(self.line).collect();
        let sure = languages(sure);
        let covering = languages(covers.iter().map(|(line, _)| *line));
        let can_fail = languages(failing.iter().copied());
        failing.retain(|line| line.always_fails());
        let fail = languages(failing);

        let without = [&covering[..], &can_fail, left_out].concat();
        let uncovered = words(own, &without, TRIED, self.effort());
        let mut best = None;
        if self.confirms(uncovered, own, &mut best) {
            return best;
        }
        for stop in stops {
            let stopped = words(
                &[own, &[stop]].concat(),
                &[&sure[..], left_out].concat(),
                TRIED,
                self.effort(),
            );
            if self.confirms(stopped, own, &mut best) {
                return best;
            }
        }
        let without = [&sure[..], &fail, left_out].concat();
        let left = words(own, &without, TRIED, self.effort());
        if left == Words::None || self.confirms(left, own, &mut best) {
            return best;
        }
        // Whoever is given nothing of it by the other side is a better example.
        let own_but = best.as_ref().map(|best| best.own_but.clone()).unwrap_or_default();
        if !own_but.is_empty() {
            let giving = own_but.iter().flat_map(|grant| self.of(grant).covers());
            let giving = languages(giving.map(|(line, _)| line).collect::<Vec<_>>());
            let left = words(own, &[&without[..], &giving].concat(), TRIED, self.effort());
            self.confirms(left, own, &mut best);
        }
        Some(best.unwrap_or_else(Outcome::unknown))
    }

    /// The same search for another grant.
    fn of<'g>(&self, grant: &'g Grant) -> Search<'g, 'a>
    where
        's: 'g,
    {
        let Search { compared, gaining, other, line, .. } = *self;
        Search { compared, gaining, other, line, grant }
    }

    /// The names that lines name and that the pattern matches, unless they are too many. A name that
    /// is looked at in all its spellings is left out in all of them.
    fn named(&self) -> Option<Language> {
        let sides = [self.gaining, self.other];
        let matched =
            |name: &[u8]| self.line.consider(self.gaining.case, name, b"") != Considered::OtherUser;
        let prefix = self.line.prefix();
        let spelled = self.compared.spellings().whole();
        let spelled = spelled.filter(|(name, _)| {
            self.effort().pay(1)
                && name.get(..prefix.len()).is_some_and(|begin| begin.eq_ignore_ascii_case(prefix))
        });
        let names = sides.iter().flat_map(|side| side.literal_names());
        let names =
            names.filter(|name| self.effort().pay(1) && name.starts_with(prefix) && matched(name));
        let names: Vec<Part> = spelled
            .map(|(_, part)| part)
            .chain(names.map(Part::bytes))
            .take(LEFT_OUT + 1)
            .collect();
        let is_bounded = (1..=LEFT_OUT).contains(&names.len());
        is_bounded.then(|| Language::within(&Part::Branches(names), self.effort())).flatten()
    }

    /// Whether one of the lines is about the same names, however they are written.
    fn is_among(&self, lines: &[&Line<'a>]) -> bool {
        lines.iter().any(|other| other.system_user() == self.line.system_user())
    }

    /// The lines of the other side that may give the grant to whom the line is about.
    fn covers(&self) -> Vec<(&'s Line<'a>, Cover)> {
        self.other
            .that_may_give(self.grant)
            .filter(|other| self.meets(other))
            .collect::<Vec<_>>()
            .into_iter()
            .map(|other| (other, self.cover(other)))
            .filter(|(_, cover)| *cover != Cover::No)
            .collect()
    }

    /// Whether a name is in both patterns, as far as that can be said.
    fn meets(&self, other: &Line<'a>) -> bool {
        if !self.effort().pay(1) {
            return true;
        }
        // Quicker to see: names that begin otherwise.
        let (own, others) = (self.line.prefix(), other.prefix());
        if !own.starts_with(others) && !others.starts_with(own) {
            return false;
        }
        let both = self.line.language().zip(other.language());
        both.is_none_or(|(own, others)| words(&[own, others], &[], 1, self.effort()) != Words::None)
    }

    /// The lines that surely cover; and the names that lines of the other side stop before they
    /// come to one which would, or that one itself.
    fn sure(&self, covers: &[(&'s Line<'a>, Cover)]) -> (Vec<&'s Line<'a>>, Vec<&'s Language>) {
        let (mut sure, mut stops) = (Vec::new(), Vec::new());
        for (line, cover) in covers {
            if *cover != Cover::Surely {
                continue;
            }
            // What is too much for the same pattern is so on both sides.
            let mut is_sure =
                !self.other.may_give_up(line) || line.system_user() == self.line.system_user();
            for failing in self.other.failing_before(line) {
                if self.meets(failing) {
                    is_sure = false;
                    stops.extend(failing.language());
                }
            }
            if is_sure {
                sure.push(*line);
            }
        }
        (sure, stops)
    }

    /// How a line of the other side covers the grant for whom it is about.
    fn cover(&self, other: &Line<'a>) -> Cover {
        let given = other.grant();
        match (self.grant, &given) {
            (_, Grant::Any) => Cover::Surely,
            (Grant::RolesMatching(own), Grant::RolesMatching(others)) if own == others => {
                Cover::Surely
            }
            (Grant::Captured { .. }, Grant::Captured { .. }) => {
                let is_same = *self.grant == given && self.line.captures_like(other, self.effort());
                if is_same { Cover::Surely } else { Cover::Perhaps }
            }
            (Grant::Role(role), Grant::Role(_) | Grant::RolesMatching(_)) => {
                match other.gives(self.other.case, role) {
                    Some(true) => Cover::Surely,
                    Some(false) => Cover::No,
                    None => Cover::Perhaps,
                }
            }
            (Grant::Role(role), Grant::MembersOf(group)) => {
                match (self.compared.can_be_member(role), group == role) {
                    (true, true) => Cover::Surely,
                    (true, false) => Cover::Perhaps,
                    (false, _) => Cover::No,
                }
            }
            (Grant::Role(_), Grant::Captured { .. }) => self.cover_of_captured(other),
            (Grant::RolesMatching(_), Grant::RolesMatching(_)) => {
                let both = self.line.roles().zip(other.roles());
                let is_part = |(own, others): (&Language, &Language)| {
                    words(&[own], &[others], 1, self.effort()) == Words::None
                };
                if both.is_some_and(is_part) { Cover::Surely } else { Cover::Perhaps }
            }
            (grant, given) if *grant == *given => Cover::Surely,
            _ => Cover::Perhaps,
        }
    }

    /// How a line that captures covers a role.
    fn cover_of_captured(&self, other: &Line<'a>) -> Cover {
        let Grant::Role(role) = self.grant else { return Cover::Perhaps };
        // What is captured alike is the role for the same names.
        if self.line.grant() == other.grant() && self.line.captures_like(other, self.effort()) {
            return Cover::Surely;
        }
        match other.names_given(self.other.case, role) {
            Giving::Nobody => Cover::No,
            Giving::These(_) | Giving::Unknown(_) => Cover::Perhaps,
        }
    }

    /// Keeps the best of what the names really gain; whether there can be no better.
    fn confirms(&self, names: Words, own: &[&Language], best: &mut Option<Outcome>) -> bool {
        let Words::Some(names) = names else { return false };
        for name in names {
            let gains = self.compared.gains(self.gaining, self.other, &name);
            let Some(gain) = gains.into_iter().find(|gain| self.is_it(gain)) else { continue };
            if best.as_ref().is_some_and(|best| best.certainty < gain.certainty) {
                continue;
            }
            let found = self.outcome(name, gain, own);
            let rank = |outcome: &Outcome| (outcome.certainty, outcome.own_but.len());
            if best.as_ref().is_none_or(|best| rank(&found) < rank(best)) {
                *best = Some(found);
            }
            if best.as_ref().is_some_and(Outcome::is_best) {
                return true;
            }
        }
        false
    }

    fn outcome(&self, name: Vec<u8>, gain: Gain<'_, '_>, own: &[&Language]) -> Outcome {
        let Gain { grant, but, mut certainty, mut turns_on, .. } = gain;
        let role = match (self.grant, grant) {
            (Grant::Captured { .. }, Grant::Role(role)) => Some(role),
            _ => None,
        };
        let (but, own_but): (Vec<_>, Vec<_>) =
            but.into_iter().partition(|kept| self.is_kept_by_all(kept, own));
        if let (Grant::MembersOf(group), false) = (self.grant, own_but.is_empty()) {
            // The other side may give this name all members that there are.
            certainty = Certainty::Possible;
            turns_on.push(group.clone());
            turns_on.sort_unstable();
            turns_on.dedup();
        }
        Outcome { certainty, but, turns_on, example: Some(Example { name, role }), own_but }
    }

    /// Whether the other side gives all these names what one of them has of it. What no cluster
    /// lends is nobody's, whatever the other side says.
    fn is_kept_by_all(&self, kept: &Grant, own: &[&Language]) -> bool {
        if let (Grant::Role(role), Some(known)) = (kept, &self.compared.known)
            && !known.roles.contains(role.as_slice())
        {
            return true;
        }
        let search = self.of(kept);
        let (sure, _) = search.sure(&search.covers());
        self.is_among(&sure) || words(own, &languages(sure), 1, self.effort()) == Words::None
    }

    fn is_it(&self, gain: &Gain<'_, '_>) -> bool {
        let is_same = match self.grant {
            Grant::Captured { .. } => true,
            grant => *grant == gain.grant,
        };
        is_same && gain.line.index == self.line.index
    }
}

fn languages<'s, 'a: 's>(lines: impl IntoIterator<Item = &'s Line<'a>>) -> Vec<&'s Language> {
    lines.into_iter().filter_map(Line::language).collect()
}

/// For whom it is, how certain, and on whose members it turns.
type Alike = (ChangedFor, Certainty, Vec<Vec<u8>>);

/// The changes of a map: one for each pattern and example, with all that it gives.
pub(super) fn joined(
    map: &MapName,
    direction: Direction,
    found: Vec<Found<'_, '_>>,
) -> Vec<MapChange> {
    let mut changes: BTreeMap<Alike, Vec<Given>> = BTreeMap::new();
    for Found { line, grant, certainty, but, turns_on, example, .. } in found {
        let (SystemUserView::Pattern(pattern) | SystemUserView::Literal(pattern)) =
            line.system_user();
        let who = ChangedFor::Matching { pattern: pattern.to_vec(), example };
        let place = changes.entry((who, certainty, turns_on)).or_default();
        place.push(Given { grant, but, line: line.reference() });
    }
    let changes = changes.into_iter().map(|((who, certainty, turns_on), grants)| {
        let map = map.clone();
        MapChange { map, who, direction, certainty, turns_on, grants }
    });
    changes.collect()
}
