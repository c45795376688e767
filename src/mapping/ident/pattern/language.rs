//! Where a part of a pattern can end when it begins at a given place of a name.
//!
//! This is a question about a regular language and so has one answer, whichever way an engine
//! takes to it. All that [`dissect`](super::dissect) chooses, it chooses among these answers.

use std::rc::Rc;

use super::classes::is_word;
use super::tree::{Direction, Look, Node, Place, Sequence};
use crate::mapping::bytes::ByteSet;

/// Most words of memory that are taken or gone through for one name: 32 MiB, however long the name
/// is. Far more than a pattern that people write takes; the name is denied when it is not enough.
pub(super) const WORK: usize = 4_000_000;

/// A part of a pattern, by its place in [`Language`].
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) struct Part(pub(super) usize);

/// The parts of a pattern.
#[derive(Debug, Default)]
pub(super) struct Language {
    pub(super) forms: Vec<Form>,
}

#[derive(Debug)]
pub(super) enum Form {
    Byte(ByteSet),
    Place(Place),
    Look { direction: Direction, wanted: bool, part: Part },
    Row(Box<[Part]>),
    AnyOf(Box<[Part]>),
    Repeat { part: Part, min: u32, max: Option<u32> },
}

impl Language {
    fn add(&mut self, form: Form) -> Part {
        self.forms.push(form);
        Part(self.forms.len() - 1)
    }

    /// Parts one after another.
    pub fn row(&mut self, parts: &[Part]) -> Part {
        match parts {
            [only] => *only,
            parts => self.add(Form::Row(parts.into())),
        }
    }

    /// Any one of the parts.
    pub fn any_of(&mut self, parts: &[Part]) -> Part {
        match parts {
            [only] => *only,
            parts => self.add(Form::AnyOf(parts.into())),
        }
    }

    /// A part from `min` to `max` times.
    pub fn repeat(&mut self, part: Part, min: u32, max: Option<u32>) -> Part {
        self.add(Form::Repeat { part, min, max })
    }

    /// The branches of a group.
    pub fn branches(&mut self, branches: &[Sequence]) -> Part {
        let parts: Vec<_> = branches.iter().map(|branch| self.sequence(branch)).collect();
        self.any_of(&parts)
    }

    fn sequence(&mut self, sequence: &[Node]) -> Part {
        let parts: Vec<_> = sequence.iter().map(|node| self.node(node)).collect();
        self.row(&parts)
    }

    /// One part of the tree.
    pub fn node(&mut self, node: &Node) -> Part {
        match node {
            Node::Byte(set) => self.add(Form::Byte(*set)),
            Node::Place(place) => self.add(Form::Place(*place)),
            Node::Look(Look { direction, wanted, branches }) => {
                let part = self.branches(branches);
                self.add(Form::Look { direction: *direction, wanted: *wanted, part })
            }
            Node::Group { branches, .. } => self.branches(branches),
            Node::Repeat { node, min, max, .. } => {
                let part = self.node(node);
                self.repeat(part, *min, *max)
            }
        }
    }
}

/// A set of places in a name: 0 is before its first byte.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(super) struct Places(Box<[u64]>);

impl Places {
    fn none(bytes: usize) -> Self {
        Self(vec![0; bytes / 64 + 1].into())
    }

    fn insert(&mut self, place: usize) {
        if let Some(word) = self.0.get_mut(place / 64) {
            *word |= 1 << (place % 64);
        }
    }

    fn add(&mut self, others: &Self) {
        for (word, other) in self.0.iter_mut().zip(&others.0) {
            *word |= other;
        }
    }

    /// Takes away what `others` has.
    fn remove(&mut self, others: &Self) {
        for (word, other) in self.0.iter_mut().zip(&others.0) {
            *word &= !other;
        }
    }

    pub fn is_empty(&self) -> bool {
        self.0.iter().all(|word| *word == 0)
    }

    pub fn has(&self, place: usize) -> bool {
        self.0.get(place / 64).is_some_and(|word| word >> (place % 64) & 1 == 1)
    }

    /// The first place that is not before `low`.
    pub fn first_from(&self, low: usize) -> Option<usize> {
        let (first, rest) = self.0.get(low / 64..)?.split_first()?;
        let first = first >> (low % 64) << (low % 64);
        let words = std::iter::once(first).chain(rest.iter().copied()).zip(low / 64..);
        let mut found = words.filter(|(word, _)| *word != 0);
        found.next().map(|(word, index)| index * 64 + word.trailing_zeros() as usize)
    }

    /// The last place that is not behind `high`.
    pub fn last_to(&self, high: usize) -> Option<usize> {
        let index = (high / 64).min(self.0.len().checked_sub(1)?);
        let (last, rest) = self.0.get(..=index)?.split_last()?;
        let spare = if index == high / 64 { 63 - high % 64 } else { 0 };
        let last = last << spare >> spare;
        if last != 0 {
            return Some(index * 64 + last.ilog2() as usize);
        }
        let index = rest.iter().rposition(|word| *word != 0)?;
        rest.get(index).map(|word| index * 64 + word.ilog2() as usize)
    }

    /// In order.
    fn iter(&self) -> impl Iterator<Item = usize> + '_ {
        std::iter::successors(self.first_from(0), |place| self.first_from(place + 1))
    }
}

/// The question was too much work.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct TooMuch;

/// One name, and what was found out about it.
pub(super) struct Reading<'pattern, 'name> {
    language: &'pattern Language,
    name: &'name [u8],
    /// By part, then by beginning.
    known: Vec<Vec<Option<Rc<Places>>>>,
    pub(super) work: usize,
}

impl<'pattern, 'name> Reading<'pattern, 'name> {
    pub fn of(language: &'pattern Language, name: &'name [u8]) -> Self {
        Self { language, name, known: vec![Vec::new(); language.forms.len()], work: 0 }
    }

    /// Where `part` can end when it begins at `from`.
    ///
    /// # Errors
    /// When there is too much to find out.
    pub fn ends(&mut self, part: Part, from: usize) -> Result<Rc<Places>, TooMuch> {
        let known = self.known.get(part.0).and_then(|ends| ends.get(from)?.clone());
        if let Some(ends) = known {
            return Ok(ends);
        }
        if self.known.get(part.0).is_some_and(Vec::is_empty) {
            self.begin_table(part)?;
        }
        let ends = Rc::new(self.find(part, from)?);
        let known = self.known.get_mut(part.0);
        if let Some(place) = known.and_then(|known| known.get_mut(from)) {
            *place = Some(Rc::clone(&ends));
        }
        Ok(ends)
    }

    /// Makes room for what will be known of a part: a word for each place of the name.
    fn begin_table(&mut self, part: Part) -> Result<(), TooMuch> {
        let places = self.name.len() + 1;
        self.spend(places)?;
        if let Some(known) = self.known.get_mut(part.0) {
            known.resize(places, None);
        }
        Ok(())
    }

    fn find(&mut self, part: Part, from: usize) -> Result<Places, TooMuch> {
        let mut found = Places::none(self.name.len());
        self.count()?;
        let language = self.language;
        let Some(form) = language.forms.get(part.0) else { return Ok(found) };
        match form {
            Form::Byte(set) => {
                if self.name.get(from).is_some_and(|byte| set.has(*byte)) {
                    found.insert(from + 1);
                }
            }
            Form::Place(place) => {
                if is_at(self.name, *place, from) {
                    found.insert(from);
                }
            }
            Form::Look { direction, wanted, part } => {
                if self.sees(*direction, *part, from)? == *wanted {
                    found.insert(from);
                }
            }
            Form::Row(parts) => {
                found.insert(from);
                for part in parts {
                    found = self.after(*part, &found)?;
                }
            }
            Form::AnyOf(parts) => {
                for part in parts {
                    found.add(&*self.ends(*part, from)?);
                }
            }
            Form::Repeat { part, min, max } => {
                found.insert(from);
                found = self.repeated(*part, *min, *max, found)?;
            }
        }
        Ok(found)
    }

    /// Where `part` can end when it begins at any of `places`.
    fn after(&mut self, part: Part, places: &Places) -> Result<Places, TooMuch> {
        let mut found = Places::none(self.name.len());
        for from in places.iter() {
            self.count()?;
            found.add(&*self.ends(part, from)?);
        }
        Ok(found)
    }

    /// Where `part` can end after `min` to `max` times.
    fn repeated(
        &mut self,
        part: Part,
        min: u32,
        max: Option<u32>,
        mut reached: Places,
    ) -> Result<Places, TooMuch> {
        for _ in 0..min {
            reached = self.after(part, &reached)?;
        }
        let mut found = reached.clone();
        let mut times = min;
        // What was reached before needs no second look: it was followed with more times to go.
        while !reached.is_empty() && max.is_none_or(|max| times < max) {
            reached = self.after(part, &reached)?;
            reached.remove(&found);
            found.add(&reached);
            times += 1;
        }
        Ok(found)
    }

    fn sees(&mut self, direction: Direction, part: Part, at: usize) -> Result<bool, TooMuch> {
        match direction {
            Direction::Ahead => Ok(!self.ends(part, at)?.is_empty()),
            Direction::Behind => {
                for from in 0..=at {
                    if self.ends(part, from)?.has(at) {
                        return Ok(true);
                    }
                }
                Ok(false)
            }
        }
    }

    /// Counts one step of work.
    ///
    /// # Errors
    /// When there have been too many.
    pub fn count(&mut self) -> Result<(), TooMuch> {
        self.spend(1 + self.name.len() / 64)
    }

    fn spend(&mut self, words: usize) -> Result<(), TooMuch> {
        self.work = self.work.saturating_add(words);
        if self.work > WORK { Err(TooMuch) } else { Ok(()) }
    }
}

/// Whether `at` is such a place of the name.
fn is_at(name: &[u8], place: Place, at: usize) -> bool {
    let before = at.checked_sub(1).and_then(|before| name.get(before)).copied();
    let after = name.get(at).copied();
    let word = |byte: Option<u8>| byte.is_some_and(is_word);
    match place {
        Place::Begin => before.is_none(),
        Place::End => after.is_none(),
        Place::LineBegin => before.is_none_or(|byte| byte == b'\n'),
        Place::LineEnd => after.is_none_or(|byte| byte == b'\n'),
        Place::WordBegin => !word(before) && word(after),
        Place::WordEnd => word(before) && !word(after),
        Place::WordBorder => word(before) != word(after),
        Place::NoWordBorder => word(before) == word(after),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn memory_for_a_name_is_bounded_however_long_it_is() {
        let mut language = Language::default();
        let parts: Vec<_> = (0..500).map(|_| language.add(Form::Place(Place::Begin))).collect();
        let all = language.any_of(&parts);
        let words = |bytes: usize| {
            let name = vec![b'a'; bytes];
            let mut reading = Reading::of(&language, &name);
            let outcome = reading.ends(all, 0).map(|_| ());
            (outcome, reading.known.iter().map(Vec::capacity).sum::<usize>())
        };
        assert_eq!(words(256), (Ok(()), 501 * 257));
        let (outcome, taken) = words(100_000);
        assert_eq!(outcome, Err(TooMuch));
        assert!(taken <= WORK, "{taken}");
    }
}
