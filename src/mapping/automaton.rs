//! Sets of names as automata over bytes: which names one pattern matches and another does not.
//!
//! A pattern is given as [`Part`]s and becomes a nondeterministic automaton; those are followed
//! side by side, set of states by set of states, as far as a question needs. Nothing is made whole
//! beforehand, and every walk has an end ([`Effort`]), after which the answer is that none was
//! found in time, never a wrong one.
//!
//! Words here are names: no NUL byte, and at least one byte.

use std::collections::{HashMap, HashSet, VecDeque};

/// Steps of one walk. A step follows one state over one class of bytes.
const STEPS: usize = 300_000;
/// Steps of all walks for one answer: a few seconds.
const ALL_STEPS: usize = 10_000_000;
/// Most states of one automaton.
const STATES: usize = 20_000;
/// How often the same places are come by in other ways, for more words.
const VISITS: u8 = 6;
/// Longest word that is looked for.
const WORD_BYTES: usize = 256;

/// What stands for a [`Part::Mark`] in a word: no name holds it.
const MARK: u8 = 0;

/// A set of bytes that names can hold.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub(crate) struct Bytes {
    low: u128,
    high: u128,
}

/// A part of a pattern, as far as it says which names match.
#[derive(Clone, Debug)]
pub(crate) enum Part {
    /// One byte of a set.
    Byte(Bytes),
    /// One after the other.
    Row(Vec<Part>),
    /// One of them.
    Branches(Vec<Part>),
    /// The part, between `min` and `max` times.
    Repeat { part: Box<Part>, min: u32, max: Option<u32> },
    /// Nothing, at the beginning of the name.
    Begin,
    /// Nothing, at the end of the name.
    End,
    /// Where what `\1` holds begins, and where it ends. Not together with `Begin` and `End`.
    Mark,
}

/// The names that a pattern matches.
#[derive(Debug)]
pub(crate) struct Language {
    states: Vec<State>,
    start: usize,
    /// Which states that wait for something can still come to a word's end.
    alive: Vec<bool>,
}

#[derive(Debug)]
enum State {
    Byte { set: Bytes, next: usize },
    Split(Vec<usize>),
    Begin(usize),
    End(usize),
    Mark(usize),
    Accept,
}

/// What all walks for one answer may still cost. Counted in steps, so that the answer is the same
/// on every machine.
#[derive(Debug)]
pub(crate) struct Effort(usize);

impl Default for Effort {
    fn default() -> Self {
        Self(ALL_STEPS)
    }
}

/// What a walk has found.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Words {
    /// There is no such word.
    None,
    /// These are some, shorter ones first.
    Some(Vec<Vec<u8>>),
    /// The walk ended before it came upon one.
    NotFound,
}

impl Bytes {
    pub(crate) fn of(holds: impl Fn(u8) -> bool) -> Self {
        let bits = |bytes: std::ops::RangeInclusive<u8>| {
            let held = bytes.filter(|byte| *byte != MARK && holds(*byte));
            held.fold(0, |bits, byte| bits | 1_u128 << (byte & 127))
        };
        Self { low: bits(0..=127), high: bits(128..=255) }
    }

    /// Every byte but the mark.
    pub(crate) const ALL: Self = Self { low: !1, high: u128::MAX };

    /// The byte of a set that holds one.
    fn only(self) -> Option<u8> {
        let count = self.low.count_ones() + self.high.count_ones();
        (count == 1).then(|| (0..=255).find(|byte| self.holds(*byte))).flatten()
    }

    fn holds(self, byte: u8) -> bool {
        let half = if byte < 128 { self.low } else { self.high };
        half >> (byte & 127) & 1 == 1
    }
}

impl Part {
    /// The part anywhere in a name, as an unanchored pattern matches.
    pub(crate) fn anywhere(self) -> Self {
        let any = || Self::Repeat { part: Box::new(Self::Byte(Bytes::ALL)), min: 0, max: None };
        Self::Row(vec![any(), self, any()])
    }

    /// The bytes one after the other.
    #[cfg(test)]
    pub(crate) fn literal(text: &str) -> Self {
        Self::Row(text.bytes().map(|byte| Self::Byte(Bytes::of(|other| other == byte))).collect())
    }
}

impl Language {
    /// The names that match `part` from beginning to end; nothing when it is too large.
    pub(crate) fn of(part: &Part) -> Option<Self> {
        let mut language = Self { states: vec![State::Accept], start: 0, alive: Vec::new() };
        language.start = language.before(part, 0)?;
        language.alive = language.alive();
        Some(language)
    }

    /// What comes to an end from each state. Behind a byte it is not the beginning any more, and
    /// behind an end there is no byte.
    fn alive(&self) -> Vec<bool> {
        let is = |states: &[bool], state: &usize| states.get(*state).is_some_and(|is| *is);
        let mut ends = vec![false; self.states.len()];
        let mut alive = ends.clone();
        loop {
            let mut is_settled = true;
            for (index, state) in self.states.iter().enumerate() {
                let (at_end, before) = match state {
                    State::Accept => (true, true),
                    State::Byte { set, next } => {
                        (false, *set != Bytes::of(|_| false) && is(&alive, next))
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
                return alive;
            }
        }
    }

    /// Adds the states of `part`, after which comes `next`, and gives the first of them.
    fn before(&mut self, part: &Part, next: usize) -> Option<usize> {
        match part {
            Part::Byte(set) => self.add(State::Byte { set: *set, next }),
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

    /// Bytes that every word begins with.
    pub(crate) fn prefix(&self) -> Vec<u8> {
        let mut prefix = Vec::new();
        let mut places = closure(self, [self.start], Spot::Begin);
        while prefix.len() < WORD_BYTES {
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
            places = closure(self, next, Spot::Middle);
        }
        prefix
    }

    /// All words, when they are at most `most`; nothing when they are more, or may be.
    pub(crate) fn all_words(&self, most: usize) -> Option<Vec<Vec<u8>>> {
        let walk = Walk::new(&[self], &[]);
        let mut words = Vec::new();
        let mut open = VecDeque::from([(Vec::new(), walk.begin())]);
        while let Some((word, at)) = open.pop_front() {
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
                for byte in walk.bytes_of(class) {
                    open.push_back(([word.as_slice(), &[byte]].concat(), next.clone()));
                }
            }
        }
        Some(words)
    }
}

/// Names that are in each of `within` and in none of `without`: some of them, at most `wanted`,
/// shorter ones and those that look like names first. `within` holds at least one.
pub(crate) fn words(
    within: &[&Language],
    without: &[&Language],
    wanted: usize,
    effort: &mut Effort,
) -> Words {
    let walk = Walk::new(within, without);
    // Following each set of places once finds a word if there is one. Only when more are wanted
    // is it worth to come by the same places in other ways.
    match walk.words(wanted, 1, effort) {
        Words::Some(few) if few.len() < wanted => match walk.words(wanted, VISITS, effort) {
            Words::Some(more) => Words::Some(more),
            Words::None | Words::NotFound => Words::Some(few),
        },
        found => found,
    }
}

/// Whether every name can be marked in one way only, so that what stands between the marks does not
/// depend on which way to match is taken. `false` too when that takes too long to find out.
pub(crate) fn is_marked_in_one_way(language: &Language, effort: &mut Effort) -> bool {
    // Two readings of one name, side by side: `true` once one of them has had a mark where the
    // other had none.
    type Two = (Reading, Reading, bool);
    let begin = unmarked(language, [(language.start, 0)]);
    let mut open: Vec<Two> = pairs(&begin, &begin).map(|(one, two)| (one, two, false)).collect();
    let mut seen: HashSet<Two> = open.iter().copied().collect();
    let mut left = STEPS.min(effort.0);
    while let Some((one, two, differ)) = open.pop() {
        let (first, second) = (language.states.get(one.0), language.states.get(two.0));
        if differ && matches!((first, second), (Some(State::Accept), Some(State::Accept))) {
            return false;
        }
        let (Some(State::Byte { set: a, next: x }), Some(State::Byte { set: b, next: y })) =
            (first, second)
        else {
            continue;
        };
        if a.low & b.low == 0 && a.high & b.high == 0 {
            continue;
        }
        let differ = differ || one.1 != two.1;
        let after = [(*x, one.1), (*y, two.1)].map(|next| unmarked(language, [next]));
        let [ones, twos] = &after;
        for (one, two) in pairs(ones, twos) {
            effort.0 = effort.0.saturating_sub(1);
            let Some(rest) = left.checked_sub(1) else { return false };
            left = rest;
            if seen.insert((one, two, differ)) {
                open.push((one, two, differ));
            }
        }
    }
    true
}

/// A state that waits for a byte or for the end, and how many marks came before it.
type Reading = (usize, u8);

/// All that is reached without a byte, marks counted.
fn unmarked(language: &Language, from: impl IntoIterator<Item = Reading>) -> Vec<Reading> {
    let mut open: Vec<Reading> = from.into_iter().collect();
    let mut seen: HashSet<Reading> = open.iter().copied().collect();
    let mut reached = Vec::new();
    while let Some((state, marks)) = open.pop() {
        let next: Vec<Reading> = match language.states.get(state) {
            Some(State::Split(ways)) => ways.iter().map(|way| (*way, marks)).collect(),
            Some(State::Mark(next)) => vec![(*next, marks.saturating_add(1))],
            Some(State::Byte { .. } | State::Accept) => {
                reached.push((state, marks));
                Vec::new()
            }
            Some(State::Begin(_) | State::End(_)) | None => Vec::new(),
        };
        open.extend(next.into_iter().filter(|next| seen.insert(*next)));
    }
    reached
}

fn pairs<'r>(
    ones: &'r [Reading],
    twos: &'r [Reading],
) -> impl Iterator<Item = (Reading, Reading)> + use<'r> {
    ones.iter().flat_map(move |one| twos.iter().map(move |two| (*one, *two)))
}

/// Several automata side by side.
struct Walk<'a> {
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

    fn size(&self) -> usize {
        1 + self.within.iter().chain(&self.without).map(Vec::len).sum::<usize>()
    }
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Spot {
    Begin,
    Middle,
    End,
}

impl<'a> Walk<'a> {
    /// Words, with each set of places followed at most `visits` times.
    fn words(&self, wanted: usize, visits: u8, effort: &mut Effort) -> Words {
        let begin = self.begin();
        let mut found = Vec::new();
        let mut seen = HashMap::from([(begin.clone(), 1_u8)]);
        // From where, and over which class, each place in the queue was come upon.
        let mut trail: Vec<(usize, usize)> = vec![(0, 0)];
        let mut open = VecDeque::from([(0, begin, 0_usize)]);
        let mut left = STEPS.min(effort.0);
        let mut is_whole = true;
        while let Some((here, at, length)) = open.pop_front() {
            let cost = at.size().saturating_mul(self.classes.len());
            effort.0 = effort.0.saturating_sub(cost);
            let Some(rest) = left.checked_sub(cost) else {
                is_whole = false;
                break;
            };
            left = rest;
            for class in 0..self.classes.len() {
                let next = self.follow(&at, class);
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
                if length >= WORD_BYTES {
                    is_whole = false;
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

    fn new(within: &[&'a Language], without: &[&'a Language]) -> Self {
        let mut sets: Vec<Bytes> = within
            .iter()
            .chain(without)
            .flat_map(|language| &language.states)
            .filter_map(|state| match state {
                State::Byte { set, .. } => Some(*set),
                _ => None,
            })
            .collect();
        sets.sort_unstable_by_key(|set| (set.low, set.high));
        sets.dedup();
        let mut classes: Vec<Vec<u8>> = Vec::new();
        let mut known: HashMap<Vec<u64>, usize> = HashMap::new();
        for byte in by_looks() {
            let mut key = vec![0_u64; sets.len().div_ceil(64)];
            for (index, set) in sets.iter().enumerate() {
                if let (true, Some(bits)) = (set.holds(byte), key.get_mut(index / 64)) {
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
        Self { within: within.to_vec(), without: without.to_vec(), classes }
    }

    fn begin(&self) -> Places {
        let start = |language: &&Language| closure(language, [language.start], Spot::Begin);
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
        let byte = self.bytes_of(class).next().unwrap_or(b'a');
        let step = |(language, states): (&&Language, &Vec<usize>)| {
            let next = states.iter().filter_map(|state| match language.states.get(*state) {
                Some(State::Byte { set, next }) if set.holds(byte) => Some(*next),
                Some(State::Mark(next)) if byte == MARK => Some(*next),
                _ => None,
            });
            closure(language, next, Spot::Middle)
        };
        Places {
            within: self.within.iter().zip(&at.within).map(step).collect(),
            without: self.without.iter().zip(&at.without).map(step).collect(),
        }
    }

    fn is_wanted(&self, at: &Places) -> bool {
        let accepts = |(language, states): (&&Language, &Vec<usize>)| {
            let ends = closure(language, states.iter().copied(), Spot::End);
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

/// All states that are reached without a byte. Those that wait are kept, sorted.
fn closure(language: &Language, from: impl IntoIterator<Item = usize>, spot: Spot) -> Vec<usize> {
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
    reached.sort_unstable();
    reached
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

#[cfg(test)]
mod tests {
    use super::*;

    fn any(part: Part) -> Part {
        Part::Repeat { part: Box::new(part), min: 0, max: None }
    }

    fn dots() -> Part {
        any(Part::Byte(Bytes::ALL))
    }

    fn whole(parts: Vec<Part>) -> Language {
        let mut row = vec![Part::Begin];
        row.extend(parts);
        row.push(Part::End);
        Language::of(&Part::Row(row).anywhere()).unwrap()
    }

    fn literal(text: &str) -> Part {
        Part::literal(text)
    }

    #[track_caller]
    fn check(within: &Language, without: &Language, first: Option<&str>) {
        let found = match words(&[within], &[without], 8, &mut Effort::default()) {
            Words::None => None,
            Words::Some(words) => words.into_iter().next(),
            Words::NotFound => panic!("the walk did not end"),
        };
        let found = found.map(|word| String::from_utf8(word).unwrap());
        assert_eq!(found.as_deref(), first);
    }

    #[test]
    fn a_name_that_one_pattern_matches_and_the_other_not_is_found() {
        let corp = whole(vec![dots(), literal("@corp")]);
        let named = whole(vec![literal("svc_"), dots(), literal("@corp")]);
        check(&named, &corp, None);
        check(&corp, &named, Some("@corp"));
        check(&corp, &corp, None);
        check(&whole(vec![dots()]), &whole(vec![dots(), literal("a")]), Some("b"));
    }

    #[test]
    fn an_anchor_holds_only_at_the_end_of_the_name() {
        let begins = Language::of(&Part::Row(vec![Part::Begin, literal("ab")]).anywhere()).unwrap();
        let ends = Language::of(&Part::Row(vec![literal("ab"), Part::End]).anywhere()).unwrap();
        let holds = Language::of(&literal("ab").anywhere()).unwrap();
        check(&begins, &holds, None);
        check(&ends, &holds, None);
        check(&holds, &begins, Some("aab"));
        check(&begins, &ends, Some("aba"));
        let nothing = Language::of(&Part::Row(vec![literal("a"), Part::Begin]).anywhere()).unwrap();
        check(&nothing, &ends, None);
    }

    #[test]
    fn what_every_word_begins_with() {
        let prefix = |parts| String::from_utf8(whole(parts).prefix()).unwrap();
        assert_eq!(prefix(vec![literal("svc_"), dots()]), "svc_");
        assert_eq!(prefix(vec![literal("ab")]), "ab");
        assert_eq!(prefix(vec![Part::Branches(vec![literal("xa"), literal("xb")])]), "x");
        assert_eq!(prefix(vec![any(literal("a")), literal("b")]), "");
        assert_eq!(Language::of(&literal("ab").anywhere()).unwrap().prefix(), b"");
    }

    #[test]
    fn what_is_in_two_and_not_in_a_third() {
        let begins = whole(vec![literal("a"), dots()]);
        let ends = whole(vec![dots(), literal("b")]);
        let middle = whole(vec![literal("ab")]);
        let mut effort = Effort::default();
        let found = words(&[&begins, &ends], &[&middle], 1, &mut effort);
        assert_eq!(found, Words::Some(vec![b"aab".to_vec()]));
        assert_eq!(words(&[&begins, &middle], &[&ends], 1, &mut effort), Words::None);
    }

    #[test]
    fn bounds_are_counted() {
        let times = |min, max| {
            let part = Box::new(literal("ab"));
            whole(vec![Part::Repeat { part, min, max }])
        };
        check(&times(1, Some(2)), &times(1, Some(3)), None);
        check(&times(1, Some(3)), &times(1, Some(2)), Some("ababab"));
        check(&times(2, None), &times(1, None), None);
        check(&times(1, None), &times(2, None), Some("ab"));
        check(&times(0, Some(0)), &times(1, None), None);
    }

    #[test]
    fn a_few_words_are_told_all_and_many_are_not() {
        let few = whole(vec![Part::Branches(vec![literal("ann"), literal("bob")])]);
        let texts = |words: Option<Vec<Vec<u8>>>| {
            words.map(|words| {
                words.into_iter().map(|word| String::from_utf8(word).unwrap()).collect::<Vec<_>>()
            })
        };
        assert_eq!(texts(few.all_words(10)).unwrap(), ["ann", "bob"]);
        let digit = || Part::Byte(Bytes::of(|byte| byte.is_ascii_digit()));
        assert_eq!(whole(vec![digit()]).all_words(10).unwrap().len(), 10);
        assert!(whole(vec![digit()]).all_words(9).is_none());
        assert!(whole(vec![dots()]).all_words(1000).is_none());
        // A pattern that only the empty name would match has no word at all.
        assert_eq!(whole(vec![]).all_words(10).unwrap().len(), 0);
    }

    #[test]
    fn marks_are_placed_in_one_way_or_in_several() {
        let marked = |before: Part, within: Part, after: Part| {
            Language::of(&Part::Row(vec![before, Part::Mark, within, Part::Mark, after])).unwrap()
        };
        let no_at = || any(Part::Byte(Bytes::of(|byte| byte != b'@')));
        let nothing = || Part::Row(Vec::new());
        let is_one = |language: &Language| is_marked_in_one_way(language, &mut Effort::default());
        let realm = marked(nothing(), dots(), literal("@corp"));
        let named = marked(nothing(), no_at(), literal("@corp"));
        assert!(is_one(&realm) && is_one(&named));
        assert!(is_one(&marked(no_at(), literal("@"), no_at())));
        assert!(!is_one(&marked(dots(), literal("@"), dots())));
        assert!(!is_one(&marked(nothing(), dots(), dots())));
        assert!(!is_one(&marked(any(literal("a")), any(literal("a")), nothing())));
        // With its marks, the one is a part of the other.
        let mut effort = Effort::default();
        assert_eq!(words(&[&named], &[&realm], 1, &mut effort), Words::None);
        assert!(matches!(words(&[&realm], &[&named], 1, &mut effort), Words::Some(_)));
        let shifted = marked(literal("a"), dots(), literal("@corp"));
        assert!(matches!(words(&[&shifted], &[&realm], 1, &mut effort), Words::Some(_)));
    }

    #[test]
    fn a_walk_that_is_too_long_says_so() {
        // The n-th byte before the end is an `a`: 2^n sets of states.
        let far = |byte: &str, count: u32| {
            let part = Box::new(Part::Byte(Bytes::ALL));
            let tail = Part::Repeat { part, min: count, max: Some(count) };
            whole(vec![dots(), literal(byte), tail])
        };
        let mut effort = Effort::default();
        let mut beyond =
            |one: &str, other: &str| words(&[&far(one, 40)], &[&far(other, 40)], 1, &mut effort);
        assert_eq!(beyond("a", "a"), Words::NotFound);
        let mut none = Effort(0);
        assert_eq!(words(&[&whole(vec![dots()])], &[], 1, &mut none), Words::NotFound);
        assert!(
            Language::of(&Part::Repeat {
                part: Box::new(literal(&"a".repeat(1000))),
                min: 255,
                max: Some(255),
            })
            .is_none()
        );
    }
}
