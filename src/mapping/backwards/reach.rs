//! Whether anybody at all comes by a line to the role. There may be no name that its regular
//! expression matches, none for which `\1` makes the role, or none that no earlier line denies.
//!
//! A name is looked for, and held against the lines exactly; that there is none is said only where it
//! is proven. Where neither is found out the line stays told: too much may be said, never too little.

use super::answer::{LinePlace, WhyNever};
use super::lines::RoleLines;
use crate::mapping::automaton::{Effort, Language, Part, Words};
use crate::mapping::bytes::ByteSet;
use crate::mapping::line::{Giving, Line, spelled};
use crate::mapping::possible::{Names, can_be};
use crate::mapping::scan::{Of, Said};
use crate::mapping::{Case, Dialect, RuleView};

/// Names that are tried for one line.
const TRIED: usize = 64;
/// Names that are few enough to try each that a line is about.
const FEW_NAMES: usize = 200;
/// Lines that end the scan that one line is held against at once; more are passed over.
const COVERS: usize = 100;
/// Steps that it takes to ask a line about a name.
const ASKING: usize = 4;

/// Who comes by a line to the role.
pub(super) enum Reach {
    /// Somebody, by this line or by one before it that says the same of them.
    Somebody,
    /// Nobody: whomever it is about, it gives them another role.
    OtherRoles,
    /// Nobody: it is about no name that anybody can have.
    NoName,
    /// Nobody: this earlier line decides for each whom it is about, or the last of several.
    Decided(LinePlace, WhyNever),
    /// That was not found out.
    Unknown,
}

/// What is known of the lines of one map so far, to say who comes by the next.
pub(super) struct Reaches<'s> {
    lines: &'s RoleLines<'s>,
    /// Whose names they are about.
    of: Of,
    /// All of those.
    names: Option<&'static Names>,
    dialect: Dialect,
    effort: &'s Effort<'s>,
    /// Those that end the scan for each whom they match.
    failing: Vec<Line<'s>>,
    /// Whether one of them may end the scan.
    may_fail: bool,
}

/// What becomes of a name at a line.
enum Fate {
    /// The line lets it in.
    LetIn,
    /// It is not about the name, or gives it another role, or ends the scan itself.
    PassedBy,
    /// An earlier line decides.
    Decided(LinePlace, WhyNever),
}

impl<'s> Reaches<'s> {
    pub(super) fn of(
        (lines, of): (&'s RoleLines<'s>, Of),
        dialect: Dialect,
        effort: &'s Effort<'s>,
    ) -> Self {
        let names = Names::of(of);
        Self { lines, of, names, dialect, effort, failing: Vec::new(), may_fail: false }
    }

    /// Takes note of a line that may end the scan, before the ones that come after it.
    pub(super) fn push(&mut self, index: usize, rule: RuleView<'s>) {
        self.may_fail = true;
        let line = self.line(index, rule);
        if line.always_fails() && self.failing.len() < COVERS {
            self.failing.push(line);
        }
    }

    fn line(&self, index: usize, rule: RuleView<'s>) -> Line<'s> {
        Line::of(rule, (self.lines.map(), self.dialect), index, self.effort)
    }

    /// Who comes by the line at `index`, which has a regular expression: whoever it matches so that
    /// `\1` is `capture`, when that is given.
    pub(super) fn by_pattern(
        &self,
        index: usize,
        rule: RuleView<'s>,
        capture: Option<&[u8]>,
    ) -> Reach {
        let line = self.line(index, rule);
        // Most often it is as simple as that, and thousands of lines need no automaton.
        if guess(&line, capture).is_some_and(|name| self.comes(index, &name)) {
            return Reach::Somebody;
        }
        let Some(own) = line.language() else { return self.by_look_around(index, &line, capture) };
        let given = match line.names_given(self.lines.case(), self.lines.role()) {
            Giving::Nobody => return self.of_other_roles(own),
            Giving::These(names) => Some(names),
            Giving::Unknown(names) => names,
        };
        let names: Vec<&Language> = [own].into_iter().chain(&given).collect();
        match self.search(index, &names, || line.words().map(<[_]>::to_vec)) {
            Reach::NoName if given.is_some() => self.of_other_roles(own),
            reach => reach,
        }
    }

    /// The same of a line with look-around. All names that it matches are among those that it would
    /// without; of these some are tried that are likely to be seen.
    fn by_look_around(&self, index: usize, line: &Line<'s>, capture: Option<&[u8]>) -> Reach {
        let language = |part: &Part| Language::within(part, self.effort);
        let Some(loose) = line.facts().and_then(|facts| language(&facts.loose)) else {
            return Reach::Unknown;
        };
        if self.words(&[&loose], &[], 1) == Words::None {
            return Reach::NoName;
        }
        let captured = capture.and_then(|capture| language(&Part::bytes(capture).anywhere()));
        let names: Vec<&Language> = [&loose].into_iter().chain(&captured).collect();
        if self.words(&names, &[], 1) == Words::None {
            return Reach::OtherRoles;
        }
        let looks = line.facts().map(|facts| facts.looks.as_slice()).unwrap_or_default();
        let (seen, unseen): (Vec<_>, Vec<_>) = looks.iter().partition(|look| look.wanted);
        let [seen, unseen] = [seen, unseen]
            .map(|looks| looks.iter().filter_map(|look| language(&look.names)).collect::<Vec<_>>());
        let word = language(&word_by_word());
        let likely: Vec<&Language> = names.iter().copied().chain(&seen).chain(&word).collect();
        let unlikely: Vec<&Language> = self.failing().into_iter().chain(&unseen).collect();
        for (within, without) in [(&likely, &unlikely), (&names, &self.failing())] {
            match self.words(within, without, TRIED) {
                Words::Some(names) if names.iter().any(|name| self.comes(index, name)) => {
                    return Reach::Somebody;
                }
                _ => {}
            }
        }
        Reach::Unknown
    }

    /// Who comes by the line at `index`, which spells a name out of which case does not count: lines
    /// before it may be about some of its spellings.
    pub(super) fn by_spellings(&self, index: usize, name: &[u8]) -> Reach {
        let Some(names) = Language::within(&spelled(name, Case::Insensitive), self.effort) else {
            return Reach::Unknown;
        };
        self.search(index, &[&names], || names.all_words(FEW_NAMES, self.effort))
    }

    /// The line that ends the scan for everybody who comes as far as behind the last, or the last of
    /// several; nothing when somebody may come by them all.
    pub(super) fn end_of_all(&self) -> Option<(LinePlace, WhyNever)> {
        if self.failing.is_empty() || self.words(&[], &self.failing(), 1) != Words::None {
            return None;
        }
        match self.by_none(self.lines.rules.len(), &[]) {
            Reach::Decided(line, which) => Some((line, which)),
            _ => None,
        }
    }

    /// Why nobody comes by a line that gives none of the `names` whom it is about the role.
    fn of_other_roles(&self, names: &Language) -> Reach {
        let is_empty = self.words(&[names], &[], 1) == Words::None;
        if is_empty { Reach::NoName } else { Reach::OtherRoles }
    }

    /// Names that somebody can have, in each of `within` and in none of `without`.
    fn words(&self, within: &[&Language], without: &[&Language], wanted: usize) -> Words {
        let words = |names: &Names| names.words(within, without, wanted, self.effort);
        self.names.map_or(Words::NotFound, words)
    }

    /// The names for whom lines end the scan.
    fn failing(&self) -> Vec<&Language> {
        self.failing.iter().filter_map(Line::language).collect()
    }

    /// Looks for somebody among names that are in each of `within`. `all` gives each name that the line
    /// is about, when they are few.
    fn search(
        &self,
        index: usize,
        within: &[&Language],
        all: impl FnOnce() -> Option<Vec<Vec<u8>>>,
    ) -> Reach {
        let failing = self.failing();
        let comes = |names: &[Vec<u8>]| names.iter().any(|name| self.comes(index, name));
        // Most often the first is good enough.
        match self.words(within, &failing, 1) {
            Words::None => return self.by_none(index, within),
            Words::Some(names) if comes(&names) => return Reach::Somebody,
            Words::Some(_) | Words::NotFound => {}
        }
        match self.words(within, &failing, TRIED) {
            Words::Some(names) if comes(&names) => return Reach::Somebody,
            _ => {}
        }
        match all() {
            Some(names) if comes(&names) => Reach::Somebody,
            Some(names) => self.of_none(index, &names),
            None => Reach::Unknown,
        }
    }

    /// Why nobody comes by a line that is about the names in each of `within`.
    fn by_none(&self, index: usize, within: &[&Language]) -> Reach {
        match self.words(within, &[], TRIED) {
            Words::None => Reach::NoName,
            Words::Some(names) => self.of_none(index, &names),
            Words::NotFound => Reach::Unknown,
        }
    }

    /// The same of some names, if they could be asked. That an earlier line denies counts more than
    /// that one lets in.
    fn of_none(&self, index: usize, names: &[Vec<u8>]) -> Reach {
        let names = || names.iter().filter(|name| self.can_be(name));
        let mut found = if names().next().is_none() { Reach::Unknown } else { Reach::OtherRoles };
        for name in names() {
            if let Fate::Decided(line, which) = self.fate(index, name) {
                found = Reach::Decided(line, which);
                if which == WhyNever::EndsTheScan {
                    break;
                }
            }
        }
        if self.effort.is_spent() { Reach::Unknown } else { found }
    }

    /// Whether somebody can have the name.
    fn can_be(&self, name: &[u8]) -> bool {
        can_be(self.of, name)
    }

    /// Whether the line is about the name, and may give it the role.
    fn gives(&self, rule: RuleView<'_>, name: &[u8]) -> bool {
        self.effort.pay(ASKING + name.len());
        matches!(self.lines.said(rule, name), Said::Allows { .. } | Said::Unknown { .. })
    }

    /// Whether the name comes to the role by the line at `index`, or would if one before it had not
    /// let it in.
    fn comes(&self, index: usize, name: &[u8]) -> bool {
        self.can_be(name)
            && self.lines.rules.get(index).is_some_and(|rule| self.gives(*rule, name))
            && match self.fate(index, name) {
                Fate::LetIn | Fate::Decided(_, WhyNever::LetsIn) => true,
                Fate::Decided(..) | Fate::PassedBy => false,
            }
    }

    fn fate(&self, index: usize, name: &[u8]) -> Fate {
        let from = if self.may_fail { 0 } else { index };
        let about = self.lines.about(name).filter(|(place, _)| (from..=index).contains(place));
        for (place, rule) in about {
            if !self.effort.pay(ASKING + name.len()) {
                return Fate::PassedBy;
            }
            let said = self.lines.said(rule, name);
            let is_own = place == index;
            let decided = |which| Fate::Decided(LinePlace::of(rule), which);
            match said {
                Said::Allows { .. } | Said::Unknown { .. } if is_own => return Fate::LetIn,
                Said::Allows { .. } => return decided(WhyNever::LetsIn),
                Said::Fails { .. } if !is_own => return decided(WhyNever::EndsTheScan),
                Said::Fails { .. } => return Fate::PassedBy,
                Said::OtherUser | Said::OtherRole { .. } | Said::Unknown { .. } => {}
            }
        }
        Fate::PassedBy
    }
}

/// All names; but walking through them, what a word is made of is tried apart from all else, for
/// places where one begins or ends.
fn word_by_word() -> Part {
    let word = ByteSet::of(|byte| byte.is_ascii_alphanumeric() || byte == b'_');
    let part = Part::Branches(vec![Part::Byte(word), Part::Byte(word.complement())]);
    Part::Repeat { part: Box::new(part), min: 0, max: None }
}

/// A name that the line most likely matches so that `\1` is `capture`; it is still to be asked.
fn guess(line: &Line<'_>, capture: Option<&[u8]>) -> Option<Vec<u8>> {
    let facts = line.facts()?;
    let name = match capture {
        Some(capture) => {
            let marked = facts.marked.as_ref().or(facts.whole.as_ref())?;
            marked.with_marked(&Part::bytes(capture)).simplest()
        }
        None => facts.names.as_ref()?.simplest(),
    };
    name.filter(|name| !name.is_empty())
}
