//! Several automata side by side, followed byte by byte.

use std::collections::{HashMap, VecDeque};

use super::effort::Portion;
use super::language::{Spot, State, closure};
use super::{Effort, Language, MARK, WORD_BYTES, Words};
use crate::mapping::bytes::ByteSet;

/// Steps that it takes to write a word out.
const WRITING: usize = 4;

/// Several automata side by side, for one question.
pub(super) struct Walk<'a> {
    portion: &'a Portion<'a>,
    within: Vec<&'a Language>,
    without: Vec<&'a Language>,
    /// Bytes that none of the automata tells apart, the one that is shown first.
    classes: Vec<Vec<u8>>,
}

/// Where each automaton is: the states that wait for a byte or for the end, sorted.
#[derive(Clone, PartialEq, Eq, Hash)]
struct Places {
    within: Vec<Vec<usize>>,
    without: Vec<Vec<usize>>,
}

impl Places {
    /// Whether no further byte can lead to a word.
    fn is_dead(&self) -> bool {
        self.within.iter().any(Vec::is_empty)
    }

    /// All places, and one more for each automaton: one that is nowhere is looked at too.
    fn size(&self) -> usize {
        self.within.iter().chain(&self.without).map(|states| 1 + states.len()).sum()
    }
}

impl<'a> Walk<'a> {
    /// Words, with each set of places followed at most `visits` times. There are none of more than
    /// `longest` bytes; where that is not given, long ones are not looked for.
    pub fn words(&self, longest: Option<usize>, wanted: usize, visits: u8) -> Words {
        let begin = self.begin();
        let mut found = Vec::new();
        let mut seen = HashMap::from([(begin.clone(), 1_u8)]);
        // From where, and over which class, each place in the queue was come upon.
        let mut trail: Vec<(usize, usize)> = vec![(0, 0)];
        let mut open = VecDeque::from([(0, begin, 0_usize)]);
        let mut is_whole = true;
        'walk: while let Some((here, at, length)) = open.pop_front() {
            for class in 0..self.classes.len() {
                let next = self.follow(&at, class);
                if !self.portion.pay(1) {
                    is_whole = false;
                    break 'walk;
                }
                if next.is_dead() {
                    continue;
                }
                if self.is_wanted(&next) {
                    found.push(self.word(&trail, here, class));
                }
                if found.len() >= wanted {
                    return Words::Some(found);
                }
                let seen = seen.entry(next.clone()).or_default();
                if *seen >= visits {
                    continue;
                }
                if length + 1 >= longest.unwrap_or(WORD_BYTES) {
                    is_whole &= longest.is_some();
                    continue;
                }
                *seen += 1;
                trail.push((here, class));
                open.push_back((trail.len() - 1, next, length + 1));
            }
        }
        match (found.is_empty(), is_whole) {
            (false, _) => Words::Some(found),
            (true, true) => Words::None,
            (true, false) => Words::NotFound,
        }
    }

    /// Nothing when the portion is not enough to begin with.
    pub fn new(
        within: &[&'a Language],
        without: &[&'a Language],
        portion: &'a Portion<'a>,
    ) -> Option<Self> {
        let states = within.iter().chain(without).map(|language| 1 + language.states.len());
        if !portion.pay(states.sum()) {
            return None;
        }
        let mut sets: Vec<ByteSet> = within
            .iter()
            .chain(without)
            .flat_map(|language| &language.states)
            .filter_map(|state| match state {
                State::Byte { set, .. } => Some(*set),
                _ => None,
            })
            .collect();
        sets.sort_unstable();
        sets.dedup();
        if !portion.pay(sets.len().saturating_mul(usize::from(u8::MAX))) {
            return None;
        }
        let mut classes: Vec<Vec<u8>> = Vec::new();
        let mut known: HashMap<Vec<u64>, usize> = HashMap::new();
        for byte in by_looks() {
            let mut key = vec![0_u64; sets.len().div_ceil(64)];
            for (index, set) in sets.iter().enumerate() {
                if let (true, Some(bits)) = (set.has(byte), key.get_mut(index / 64)) {
                    *bits |= 1 << (index % 64);
                }
            }
            let class = *known.entry(key).or_insert_with(|| {
                classes.push(Vec::new());
                classes.len() - 1
            });
            if let Some(class) = classes.get_mut(class) {
                class.push(byte);
            }
        }
        let mut states = within.iter().chain(without).flat_map(|language| &language.states);
        if states.any(|state| matches!(state, State::Mark(_))) {
            classes.push(vec![MARK]);
        }
        Some(Self { portion, within: within.to_vec(), without: without.to_vec(), classes })
    }

    fn begin(&self) -> Places {
        let start =
            |language: &&Language| closure(language, [language.start], Spot::Begin, self.portion);
        Places {
            within: self.within.iter().map(start).collect(),
            without: self.without.iter().map(start).collect(),
        }
    }

    fn bytes_of(&self, class: usize) -> impl Iterator<Item = u8> + '_ {
        self.classes.get(class).into_iter().flatten().copied()
    }

    /// Where everything is after a byte of the class.
    fn follow(&self, at: &Places, class: usize) -> Places {
        self.portion.pay(at.size());
        let byte = self.bytes_of(class).next().unwrap_or(b'a');
        let step = |(language, states): (&&Language, &Vec<usize>)| {
            let next = states.iter().filter_map(|state| match language.states.get(*state) {
                Some(State::Byte { set, next }) if set.has(byte) => Some(*next),
                Some(State::Mark(next)) if byte == MARK => Some(*next),
                _ => None,
            });
            closure(language, next, Spot::Middle, self.portion)
        };
        Places {
            within: self.within.iter().zip(&at.within).map(step).collect(),
            without: self.without.iter().zip(&at.without).map(step).collect(),
        }
    }

    fn is_wanted(&self, at: &Places) -> bool {
        let accepts = |(language, states): (&&Language, &Vec<usize>)| {
            let ends = closure(language, states.iter().copied(), Spot::End, self.portion);
            ends.iter().any(|state| matches!(language.states.get(*state), Some(State::Accept)))
        };
        self.within.iter().zip(&at.within).all(accepts)
            && !self.without.iter().zip(&at.without).any(accepts)
    }

    /// The word that leads to where `trail` has `here`, and one byte of `class` more.
    fn word(&self, trail: &[(usize, usize)], here: usize, class: usize) -> Vec<u8> {
        let mut word: Vec<u8> = self.bytes_of(class).take(1).collect();
        let mut here = here;
        while let Some((before, class)) = trail.get(here).filter(|_| here > 0) {
            word.extend(self.bytes_of(*class).take(1));
            here = *before;
        }
        word.reverse();
        word
    }
}

impl Language {
    /// All words, when they are at most `most`; nothing when they are more, or may be.
    pub(crate) fn all_words(&self, most: usize, effort: &Effort<'_>) -> Option<Vec<Vec<u8>>> {
        let portion = effort.of_a_walk();
        let walk = Walk::new(&[self], &[], &portion)?;
        let mut words = Vec::new();
        let mut open = VecDeque::from([(Vec::new(), walk.begin())]);
        while let Some((word, at)) = open.pop_front() {
            if !portion.pay(1) {
                return None;
            }
            if !word.is_empty() && walk.is_wanted(&at) {
                words.push(word.clone());
            }
            if words.len() > most || open.len() > most.saturating_mul(4) || word.len() > WORD_BYTES
            {
                return None;
            }
            for (class, _) in walk.classes.iter().enumerate() {
                let next = walk.follow(&at, class);
                if next.is_dead() {
                    continue;
                }
                // Too many: they need not be written out.
                if open.len() + walk.bytes_of(class).count() > most.saturating_mul(4) {
                    return None;
                }
                for byte in walk.bytes_of(class) {
                    if !portion.pay(WRITING) {
                        return None;
                    }
                    open.push_back(([word.as_slice(), &[byte]].concat(), next.clone()));
                }
            }
        }
        // What was left out when the effort ended were no words to be had.
        portion.pay(0).then_some(words)
    }
}

/// Every byte that a name can hold; first those that an example is best made of.
fn by_looks() -> impl Iterator<Item = u8> {
    let groups: [fn(u8) -> bool; 5] = [
        |byte| byte.is_ascii_lowercase(),
        |byte| byte.is_ascii_digit(),
        |byte| byte.is_ascii_uppercase(),
        |byte| byte.is_ascii_graphic() && !byte.is_ascii_alphanumeric(),
        |byte| !byte.is_ascii_graphic(),
    ];
    groups.into_iter().flat_map(|holds| (1..=255_u8).filter(move |byte| holds(*byte)))
}
