//! Whoever matches a pattern: sets of names, compared as automata.
//!
//! A line of one side gives something to a set of names. Lines of the other side that give it too
//! *cover* names of that set: surely, or perhaps (what `\1` gives, and who is a member of a group,
//! depends). First a name is looked for that no line covers even perhaps, then any that none surely
//! covers; each is held against both maps exactly. Only what was found so is called certain, and
//! only where no name is left that is not surely covered is there no change.

use std::collections::BTreeMap;

use super::side::Side;
use super::{Certainty, ChangedFor, Compared, Direction, Example, Gain, Grant, MapChange};
use crate::mapping::SystemUserView;
use crate::mapping::automaton::{Effort, Language, Words, words};
use crate::mapping::line::Line;
use crate::names::MapName;

/// Names that are tried for one line and one grant.
const TRIED: usize = 64;

/// What was found out about a line with a pattern.
pub(super) struct Found<'s, 'a> {
    pub line: &'s Line<'a>,
    pub grant: Grant,
    pub certainty: Certainty,
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
    /// What the changed patterns of a side give that the other side does not.
    pub(super) fn by_pattern(
        &self,
        direction: Direction,
        effort: &mut Effort,
    ) -> Vec<Found<'_, 'a>> {
        let (gaining, other) = self.sides(direction);
        let mut found = Vec::new();
        for line in gaining.changed_patterns() {
            // Few words are looked at one by one.
            if line.always_fails() || line.words().is_some() {
                continue;
            }
            for grant in self.grants_of(gaining, line) {
                let search = Search { compared: self, gaining, other, line, grant: &grant };
                if let Some((certainty, example)) = search.run(effort) {
                    found.push(Found { line, grant, certainty, example });
                }
            }
        }
        found
    }

    /// What a line gives: role by role where all roles that there are are known.
    fn grants_of(&self, gaining: &Side<'a>, line: &Line<'a>) -> Vec<Grant> {
        match (line.grant(), &self.roles) {
            (grant @ (Grant::Any | Grant::RolesMatching(_)), Some(roles)) => {
                let given = roles.iter().map(|role| Some((role, line.gives(gaining.case, role)?)));
                let given: Option<Vec<_>> = given.collect();
                given.map_or(vec![grant], |given| {
                    let given = given.into_iter().filter(|(_, is_given)| *is_given);
                    given.map(|(role, _)| Grant::Role(role.to_vec())).collect()
                })
            }
            (grant @ Grant::RolesMatching(_), None) => match line.few_roles() {
                Some(few) => few.into_iter().map(Grant::Role).collect(),
                None => vec![grant],
            },
            (grant, _) => vec![grant],
        }
    }
}

/// The search for a name that gains one grant by one line.
struct Search<'s, 'a> {
    compared: &'s Compared<'a>,
    gaining: &'s Side<'a>,
    other: &'s Side<'a>,
    line: &'s Line<'a>,
    grant: &'s Grant,
}

type Outcome = (Certainty, Option<Example>);

impl<'s, 'a> Search<'s, 'a> {
    /// Nothing when nobody gains anything.
    fn run(&self, effort: &mut Effort) -> Option<Outcome> {
        let covers: Vec<(&Line<'a>, Cover)> = self
            .other
            .that_may_give(self.grant)
            .filter(|other| self.meets(other, effort))
            .collect::<Vec<_>>()
            .into_iter()
            .map(|other| (other, self.cover(other, effort)))
            .filter(|(_, cover)| *cover != Cover::No)
            .collect();
        let (sure, stops) = self.sure(&covers, effort);
        let same_names = |other: &&Line<'_>| other.system_user() == self.line.system_user();
        if sure.iter().any(same_names) {
            return None;
        }
        let Some(own) = self.line.language() else { return Some((Certainty::Possible, None)) };
        let mut failing: Vec<&Line<'_>> = self.gaining.failing_before(self.line).collect();
        let sure = languages(sure);
        let covering = languages(covers.into_iter().map(|(line, _)| line));
        let can_fail = languages(failing.iter().copied());
        failing.retain(|line| line.always_fails());
        let fail = languages(failing);

        let uncovered = words(&[own], &[covering, can_fail].concat(), TRIED, effort);
        if let Some(found) = self.confirmed(uncovered) {
            return Some(found);
        }
        for stop in stops {
            let stopped = words(&[own, stop], &sure, TRIED, effort);
            if let Some(found) = self.confirmed(stopped) {
                return Some(found);
            }
        }
        match words(&[own], &[sure, fail].concat(), TRIED, effort) {
            Words::None => None,
            left => Some(self.confirmed(left).unwrap_or((Certainty::Possible, None))),
        }
    }

    /// Whether a name is in both patterns, as far as that can be said.
    fn meets(&self, other: &Line<'a>, effort: &mut Effort) -> bool {
        // Quicker to see: names that begin otherwise.
        let (own, others) = (self.line.prefix(), other.prefix());
        if !own.starts_with(others) && !others.starts_with(own) {
            return false;
        }
        let both = self.line.language().zip(other.language());
        both.is_none_or(|(own, others)| words(&[own, others], &[], 1, effort) != Words::None)
    }

    /// The lines that surely cover; and the names that lines of the other side stop before they
    /// come to one which would.
    fn sure(
        &self,
        covers: &[(&'s Line<'a>, Cover)],
        effort: &mut Effort,
    ) -> (Vec<&'s Line<'a>>, Vec<&'s Language>) {
        let (mut sure, mut stops) = (Vec::new(), Vec::new());
        for (line, cover) in covers {
            if *cover != Cover::Surely {
                continue;
            }
            let mut is_reached = true;
            for failing in self.other.failing_before(line) {
                if self.meets(failing, effort) {
                    is_reached = false;
                    stops.extend(failing.language());
                }
            }
            if is_reached {
                sure.push(*line);
            }
        }
        (sure, stops)
    }

    /// How a line of the other side covers the grant for whom it is about.
    fn cover(&self, other: &Line<'a>, effort: &mut Effort) -> Cover {
        let given = other.grant();
        match (self.grant, &given) {
            (_, Grant::Any) => Cover::Surely,
            (Grant::Captured { .. }, Grant::Captured { .. }) => {
                let is_same = *self.grant == given && self.line.captures_like(other, effort);
                if is_same { Cover::Surely } else { Cover::Perhaps }
            }
            (Grant::Role(role), Grant::Role(_) | Grant::RolesMatching(_)) => {
                match other.gives(self.other.case, role) {
                    Some(true) => Cover::Surely,
                    Some(false) => Cover::No,
                    None => Cover::Perhaps,
                }
            }
            (Grant::Role(role), Grant::Captured { before, after }) => {
                let fits = role.len() >= before.len() + after.len()
                    && role.starts_with(before)
                    && role.ends_with(after);
                if fits { Cover::Perhaps } else { Cover::No }
            }
            (grant, given) if *grant == *given => Cover::Surely,
            _ => Cover::Perhaps,
        }
    }

    /// The first of the names that really gains the grant.
    fn confirmed(&self, names: Words) -> Option<Outcome> {
        let Words::Some(names) = names else { return None };
        names.into_iter().find_map(|name| {
            let gains = self.compared.gains(self.gaining, self.other, &name);
            let gain = gains.into_iter().find(|gain| self.is_it(gain))?;
            let role = match (self.grant, gain.grant) {
                (Grant::Captured { .. }, Grant::Role(role)) => Some(role),
                _ => None,
            };
            Some((Certainty::Certain, Some(Example { name, role })))
        })
    }

    fn is_it(&self, gain: &Gain<'_, '_>) -> bool {
        match self.grant {
            Grant::Captured { .. } => gain.line.index == self.line.index,
            grant => *grant == gain.grant,
        }
    }
}

fn languages<'s, 'a: 's>(lines: impl IntoIterator<Item = &'s Line<'a>>) -> Vec<&'s Language> {
    lines.into_iter().filter_map(Line::language).collect()
}

/// The changes of a map: one for each pattern and certainty, with all that it gives.
pub(super) fn joined(
    map: &MapName,
    direction: Direction,
    found: Vec<Found<'_, '_>>,
) -> Vec<MapChange> {
    let mut changes: BTreeMap<(Vec<u8>, Certainty), MapChange> = BTreeMap::new();
    for Found { line, grant, certainty, example } in found {
        let (SystemUserView::Pattern(pattern) | SystemUserView::Literal(pattern)) =
            line.system_user();
        let pattern = pattern.to_vec();
        let change = changes.entry((pattern.clone(), certainty)).or_insert_with(|| MapChange {
            map: map.clone(),
            who: ChangedFor::Matching { pattern, example: None },
            direction,
            certainty,
            grants: Vec::new(),
        });
        // An example with a role says the most.
        if let ChangedFor::Matching { example: kept, .. } = &mut change.who {
            let says_more = |example: &Example| example.role.is_some();
            if kept.is_none() || example.as_ref().is_some_and(says_more) {
                *kept = example;
            }
        }
        change.grants.push((grant, line.reference()));
    }
    changes.into_values().collect()
}
