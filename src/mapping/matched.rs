//! The names that one pattern matches, for the lines that are compared and checked.

use std::cell::OnceCell;

use super::Dialect;
use super::automaton::{Effort, Language, Part, Words, is_marked_in_one_way, words};
use super::ident::PatternFacts;

/// Words of a pattern that are few enough to be looked at one by one.
const FEW_WORDS: usize = 200;

/// The names that a pattern matches. What is asked of them is found out once, for as many lines as
/// have the pattern.
pub(super) struct MatchedNames<'a> {
    /// What all that is found out is paid from. Where that is spent, less is known.
    effort: &'a Effort<'a>,
    facts: Option<PatternFacts>,
    language: OnceCell<Option<Language>>,
    marked: OnceCell<Option<Language>>,
    whole: OnceCell<Option<Language>>,
    shorter: OnceCell<Option<Language>>,
    words: OnceCell<Option<Vec<Vec<u8>>>>,
    sample: OnceCell<Option<Vec<u8>>>,
    prefix: OnceCell<Vec<u8>>,
}

impl<'a> MatchedNames<'a> {
    /// The names that `pattern` matches, which is without its `/`.
    pub fn of(pattern: &[u8], dialect: Dialect, effort: &'a Effort<'a>) -> Self {
        Self {
            effort,
            facts: PatternFacts::of(pattern, dialect),
            language: OnceCell::new(),
            marked: OnceCell::new(),
            whole: OnceCell::new(),
            shorter: OnceCell::new(),
            words: OnceCell::new(),
            sample: OnceCell::new(),
            prefix: OnceCell::new(),
        }
    }

    /// What the pattern is like, when it is understood.
    pub fn facts(&self) -> Option<&PatternFacts> {
        self.facts.as_ref()
    }

    /// The names, when they can be said.
    pub fn language(&self) -> Option<&Language> {
        let part = self.facts.as_ref().and_then(|facts| facts.names.as_ref());
        self.language.get_or_init(|| Language::within(part?, self.effort)).as_ref()
    }

    /// The same with what `\1` holds marked, in every way in which the pattern can match.
    pub fn marked(&self) -> Option<&Language> {
        self.marked.get_or_init(|| Language::within(self.marked_part()?, self.effort)).as_ref()
    }

    /// A pattern that is not held at both ends can be marked too when it takes the whole of every name
    /// that it matches.
    pub fn marked_part(&self) -> Option<&Part> {
        let facts = self.facts.as_ref()?;
        let takes_all = |whole: &&Part| {
            let all = Language::within(&whole.unmarked(), self.effort).zip(self.language());
            all.is_some_and(|(all, own)| words(&[own], &[&all], 1, self.effort) == Words::None)
        };
        facts.marked.as_ref().or_else(|| facts.whole.as_ref().filter(takes_all))
    }

    /// As [`PatternFacts::whole`].
    fn whole(&self) -> Option<&Language> {
        let part = self.facts.as_ref().and_then(|facts| facts.whole.as_ref());
        self.whole.get_or_init(|| Language::within(part?, self.effort)).as_ref()
    }

    /// As [`PatternFacts::shorter`].
    fn shorter(&self) -> Option<&Language> {
        let part = self.facts.as_ref().and_then(|facts| facts.shorter.as_ref());
        self.shorter.get_or_init(|| Language::within(part?, self.effort)).as_ref()
    }

    /// Whether the pattern of `other` matches all these names, and `\1` surely holds the same for
    /// them.
    pub fn captures_like(&self, other: &Self, effort: &Effort<'_>) -> bool {
        let (Some(own), Some(others)) = (self.marked(), other.whole()) else { return false };
        if words(&[own], &[others], 1, effort) != Words::None {
            return false;
        }
        // What is marked by this one is one way for the other: the only one, or the longest.
        let is_longest = |shorter| words(&[own, shorter], &[], 1, effort) == Words::None;
        other.shorter().is_some_and(is_longest) || is_marked_in_one_way(others, effort)
    }

    /// What each of the names begins with; nothing where that is not known.
    pub fn prefix(&self) -> &[u8] {
        let prefix = || Some(self.language()?.prefix(self.effort));
        self.prefix.get_or_init(|| prefix().unwrap_or_default())
    }

    /// All of the names, when they are few.
    pub fn words(&self) -> Option<&[Vec<u8>]> {
        let all =
            || self.language().and_then(|language| language.all_words(FEW_WORDS, self.effort));
        self.words.get_or_init(all).as_deref()
    }

    /// One of the names.
    pub fn sample(&self) -> Option<&[u8]> {
        let first = || match words(&[self.language()?], &[], 1, self.effort) {
            Words::Some(words) => words.into_iter().next(),
            Words::None | Words::NotFound => None,
        };
        self.sample.get_or_init(first).as_deref()
    }
}
