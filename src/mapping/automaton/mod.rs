//! Sets of names as automata over bytes: which names one pattern matches and another does not.
//!
//! A pattern is given as [`Part`]s and becomes a nondeterministic automaton; those are followed
//! side by side, set of states by set of states, as far as a question needs. Nothing is made whole
//! beforehand, and every walk has an end ([`Effort`]), after which the answer is that none was
//! found in time, never a wrong one. It ends also when nobody wants the answer any more.
//!
//! Words here are names: no NUL byte, and at least one byte.

mod effort;
mod language;
mod marks;
mod walk;

use walk::Walk;

pub use effort::Effort;
pub(crate) use language::Language;
pub(crate) use marks::is_marked_in_one_way;

use super::bytes::ByteSet;

/// How often the same places are come by in other ways, for more words.
const VISITS: u8 = 6;
/// Longest word that is looked for where nobody says how long names are.
const WORD_BYTES: usize = 256;

/// Bytes of a name that is made up without a walk.
const GUESS_BYTES: usize = 256;

/// What stands for a [`Part::Mark`] in a word: no name holds it.
const MARK: u8 = 0;

/// A part of a pattern, as far as it says which names match.
#[derive(Clone, Debug)]
pub(crate) enum Part {
    /// One byte of a set.
    Byte(ByteSet),
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

impl Part {
    /// The part anywhere in a name, as an unanchored pattern matches.
    pub(crate) fn anywhere(self) -> Self {
        let any = || Self::Repeat { part: Box::new(Self::Byte(ByteSet::ALL)), min: 0, max: None };
        Self::Row(vec![any(), self, any()])
    }

    /// The bytes one after the other.
    pub(crate) fn bytes(bytes: &[u8]) -> Self {
        Self::Row(bytes.iter().map(|byte| Self::Byte(ByteSet::single(*byte))).collect())
    }

    /// The same of a text.
    #[cfg(test)]
    pub(crate) fn literal(text: &str) -> Self {
        Self::bytes(text.as_bytes())
    }

    /// What matches, if its places hold: the first of each choice, as often as needs be. Most often
    /// that is a word, and costs next to nothing.
    pub(crate) fn simplest(&self) -> Option<Vec<u8>> {
        let name = match self {
            Self::Byte(set) => {
                let mut bytes = (b'a'..=b'z').chain(b'0'..=b'9').chain(1..=u8::MAX);
                vec![bytes.find(|byte| set.has(*byte))?]
            }
            Self::Row(parts) => {
                let parts: Option<Vec<_>> = parts.iter().map(Self::simplest).collect();
                parts?.concat()
            }
            Self::Branches(parts) => parts.iter().find_map(Self::simplest)?,
            Self::Repeat { min: 0, .. } | Self::Begin | Self::End | Self::Mark => Vec::new(),
            Self::Repeat { part, min, .. } => {
                let times = usize::try_from(*min).ok()?;
                let once = part.simplest()?;
                (once.len().checked_mul(times)? <= GUESS_BYTES).then(|| once.repeat(times))?
            }
        };
        (name.len() <= GUESS_BYTES).then_some(name)
    }

    /// The same without its marks.
    pub(crate) fn unmarked(&self) -> Self {
        let of_each = |parts: &[Self]| parts.iter().map(Self::unmarked).collect();
        match self {
            Self::Mark => Self::Row(Vec::new()),
            Self::Row(parts) => Self::Row(of_each(parts)),
            Self::Branches(parts) => Self::Branches(of_each(parts)),
            Self::Repeat { part, min, max } => {
                Self::Repeat { part: Box::new(part.unmarked()), min: *min, max: *max }
            }
            Self::Byte(_) | Self::Begin | Self::End => self.clone(),
        }
    }

    /// The same with `part` in the place of what stands between marks, and without those.
    pub(crate) fn with_marked(&self, part: &Self) -> Self {
        let of_each = |parts: &[Self]| parts.iter().map(|one| one.with_marked(part)).collect();
        match self {
            Self::Row(parts) if matches!(parts.as_slice(), [Self::Mark, _, Self::Mark]) => {
                part.clone()
            }
            Self::Row(parts) => Self::Row(of_each(parts)),
            Self::Branches(parts) => Self::Branches(of_each(parts)),
            Self::Repeat { part: repeated, min, max } => {
                let part = Box::new(repeated.with_marked(part));
                Self::Repeat { part, min: *min, max: *max }
            }
            Self::Byte(_) | Self::Begin | Self::End | Self::Mark => self.clone(),
        }
    }
}

/// Names that are in each of `within` and in none of `without`: some of them, at most `wanted`,
/// shorter ones and those that look like names first. `within` holds at least one.
pub(crate) fn words(
    within: &[&Language],
    without: &[&Language],
    wanted: usize,
    effort: &Effort<'_>,
) -> Words {
    words_up_to(None, within, without, wanted, effort)
}

/// The same where no name has more than `longest` bytes.
pub(crate) fn words_up_to(
    longest: Option<usize>,
    within: &[&Language],
    without: &[&Language],
    wanted: usize,
    effort: &Effort<'_>,
) -> Words {
    let visited = |visits| {
        let portion = effort.of_a_walk();
        let walk = Walk::new(within, without, &portion);
        walk.map_or(Words::NotFound, |walk| walk.words(longest, wanted, visits))
    };
    // Following each set of places once finds a word if there is one. Only when more are wanted
    // is it worth to come by the same places in other ways.
    match visited(1) {
        Words::Some(few) if few.len() < wanted => match visited(VISITS) {
            Words::Some(more) => Words::Some(more),
            Words::None | Words::NotFound => Words::Some(few),
        },
        found => found,
    }
}

#[cfg(test)]
mod tests;
