//! From a pattern to an automaton: its states, and what is reached without a byte.

use std::collections::HashSet;

use super::effort::Portion;
use super::{Effort, MARK, Part, WORD_BYTES};
use crate::mapping::bytes::ByteSet;

/// Most states of one automaton.
const STATES: usize = 20_000;

/// The names that a pattern matches.
#[derive(Debug)]
pub(crate) struct Language {
    pub(super) states: Vec<State>,
    pub(super) start: usize,
    /// Which states that wait for something can still come to a word's end.
    alive: Vec<bool>,
}

/// What an automaton waits for.
#[derive(Debug)]
pub(super) enum State {
    Byte { set: ByteSet, next: usize },
    Split(Vec<usize>),
    Begin(usize),
    End(usize),
    Mark(usize),
    Accept,
}

impl Language {
    /// The names that match `part` from beginning to end; nothing when it is too large.
    pub(crate) fn of(part: &Part) -> Option<Self> {
        Self::within(part, &Effort::default())
    }

    /// The same; nothing also when there is not enough effort left.
    pub(crate) fn within(part: &Part, effort: &Effort<'_>) -> Option<Self> {
        let mut language = Self { states: vec![State::Accept], start: 0, alive: Vec::new() };
        language.start = language.before(part, 0)?;
        language.alive = language.alive(effort)?;
        Some(language)
    }

    /// What comes to an end from each state. Behind a byte it is not the beginning any more, and
    /// behind an end there is no byte.
    fn alive(&self, effort: &Effort<'_>) -> Option<Vec<bool>> {
        let is = |states: &[bool], state: &usize| states.get(*state).is_some_and(|is| *is);
        let mut ends = vec![false; self.states.len()];
        let mut alive = ends.clone();
        // Each round costs all states, and a part in a part in a part may take as many rounds.
        while effort.pay(self.states.len()) {
            let mut is_settled = true;
            for (index, state) in self.states.iter().enumerate() {
                let (at_end, before) = match state {
                    State::Accept => (true, true),
                    State::Byte { set, next } => {
                        (false, *set != ByteSet::EMPTY && is(&alive, next))
                    }
                    State::Split(ways) => (
                        ways.iter().any(|way| is(&ends, way)),
                        ways.iter().any(|way| is(&alive, way)),
                    ),
                    State::End(next) => (is(&ends, next), is(&ends, next)),
                    State::Mark(next) => (is(&ends, next), is(&alive, next)),
                    State::Begin(_) => (false, false),
                };
                for (known, found) in [(&mut ends, at_end), (&mut alive, before)] {
                    if let Some(known) = known.get_mut(index).filter(|known| found && !**known) {
                        *known = true;
                        is_settled = false;
                    }
                }
            }
            if is_settled {
                return Some(alive);
            }
        }
        None
    }

    /// Adds the states of `part`, after which comes `next`, and gives the first of them.
    fn before(&mut self, part: &Part, next: usize) -> Option<usize> {
        match part {
            Part::Byte(set) => self.add(State::Byte { set: set.without(MARK), next }),
            Part::Begin => self.add(State::Begin(next)),
            Part::End => self.add(State::End(next)),
            Part::Mark => self.add(State::Mark(next)),
            Part::Row(parts) => {
                parts.iter().rev().try_fold(next, |next, part| self.before(part, next))
            }
            Part::Branches(parts) => {
                let ways: Option<Vec<_>> =
                    parts.iter().map(|part| self.before(part, next)).collect();
                self.add(State::Split(ways?))
            }
            Part::Repeat { part, min, max } => {
                let mut first = match max {
                    None => {
                        let again = self.add(State::Split(vec![next]))?;
                        let once = self.before(part, again)?;
                        if let Some(State::Split(ways)) = self.states.get_mut(again) {
                            ways.push(once);
                        }
                        again
                    }
                    Some(max) => {
                        let mut first = next;
                        for _ in *min..*max {
                            let once = self.before(part, first)?;
                            first = self.add(State::Split(vec![next, once]))?;
                        }
                        first
                    }
                };
                for _ in 0..*min {
                    first = self.before(part, first)?;
                }
                Some(first)
            }
        }
    }

    fn add(&mut self, state: State) -> Option<usize> {
        self.states.push(state);
        (self.states.len() <= STATES).then(|| self.states.len() - 1)
    }

    /// Bytes that every word begins with, as many of them as the effort allows.
    pub(crate) fn prefix(&self, effort: &Effort<'_>) -> Vec<u8> {
        let mut prefix = Vec::new();
        let portion = effort.of_a_walk();
        let mut places = closure(self, [self.start], Spot::Begin, &portion);
        while prefix.len() < WORD_BYTES && portion.pay(places.len()) {
            let mut only = None;
            for place in &places {
                let Some(State::Byte { set, .. }) = self.states.get(*place) else { return prefix };
                let byte = set.only();
                if byte.is_none() || (only.is_some() && only != byte) {
                    return prefix;
                }
                only = byte;
            }
            let Some(byte) = only else { return prefix };
            prefix.push(byte);
            let next = places.iter().filter_map(|place| match self.states.get(*place) {
                Some(State::Byte { next, .. }) => Some(*next),
                _ => None,
            });
            places = closure(self, next, Spot::Middle, &portion);
        }
        prefix
    }
}

#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum Spot {
    Begin,
    Middle,
    End,
}

/// All states that are reached without a byte. Those that wait are kept, sorted.
pub(super) fn closure(
    language: &Language,
    from: impl IntoIterator<Item = usize>,
    spot: Spot,
    portion: &Portion<'_>,
) -> Vec<usize> {
    let mut open: Vec<usize> = from.into_iter().collect();
    let mut seen: HashSet<usize> = open.iter().copied().collect();
    let mut reached = Vec::new();
    while let Some(state) = open.pop() {
        let ways: &[usize] = match language.states.get(state) {
            Some(State::Split(ways)) => ways,
            Some(State::Begin(next)) if spot == Spot::Begin => std::slice::from_ref(next),
            Some(State::End(next)) if spot == Spot::End => std::slice::from_ref(next),
            Some(State::Byte { .. } | State::End(_) | State::Mark(_) | State::Accept) => {
                if language.alive.get(state).is_some_and(|is_alive| *is_alive) {
                    reached.push(state);
                }
                &[]
            }
            Some(State::Begin(_)) | None => &[],
        };
        open.extend(ways.iter().filter(|way| seen.insert(**way)));
    }
    portion.pay(seen.len());
    reached.sort_unstable();
    reached
}
