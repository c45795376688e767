//! Whether anybody at all comes by a line to the role. There may be no name that its regular
//! expression matches, none for which `\1` makes the role, or none that no earlier line denies.
//!
//! A name is looked for, and held against the lines exactly; that there is none is said only where it
//! is proven. Where neither is found out the line stays told: too much may be said, never too little.

use super::answer::{LinePlace, WhyNever};
use super::lines::RoleLines;
use crate::mapping::automaton::{Effort, Language, Part, Words, words};
use crate::mapping::bytes::ByteSet;
use crate::mapping::line::{Giving, Line, spelled};
use crate::mapping::scan::Said;
use crate::mapping::{Case, Dialect, RuleView};

/// Names that are tried for one line.
const TRIED: usize = 64;
/// Names that are few enough to try each that a line is about.
const FEW_NAMES: usize = 200;
/// Lines that end the scan that one line is held against at once; more are passed over.
const COVERS: usize = 100;
/// Steps that it takes to ask a line about a name.
const ASKING: usize = 4;
/// Bytes of a name that is made up.
const GUESS_BYTES: usize = 256;

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
    pub(super) fn of(lines: &'s RoleLines<'s>, dialect: Dialect, effort: &'s Effort<'s>) -> Self {
        Self { lines, dialect, effort, failing: Vec::new(), may_fail: false }
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
        let Some(own) = line.language() else { return Reach::Unknown };
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
        let any = Part::Repeat { part: Box::new(Part::Byte(ByteSet::ALL)), min: 1, max: None };
        let everybody = Language::within(&any, self.effort).filter(|_| !self.failing.is_empty())?;
        let is_all = words(&[&everybody], &self.failing(), 1, self.effort) == Words::None;
        match self.by_none(self.lines.rules.len(), &[&everybody]) {
            Reach::Decided(line, which) if is_all => Some((line, which)),
            _ => None,
        }
    }

    /// Why nobody comes by a line that gives none of the `names` whom it is about the role.
    fn of_other_roles(&self, names: &Language) -> Reach {
        let is_empty = words(&[names], &[], 1, self.effort) == Words::None;
        if is_empty { Reach::NoName } else { Reach::OtherRoles }
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
        match words(within, &failing, 1, self.effort) {
            Words::None => return self.by_none(index, within),
            Words::Some(names) if comes(&names) => return Reach::Somebody,
            Words::Some(_) | Words::NotFound => {}
        }
        match words(within, &failing, TRIED, self.effort) {
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
        match words(within, &[], TRIED, self.effort) {
            Words::None => Reach::NoName,
            Words::Some(names) => self.of_none(index, &names),
            Words::NotFound => Reach::Unknown,
        }
    }

    /// The same of some names, if they could be asked. That an earlier line denies counts more than
    /// that one lets in.
    fn of_none(&self, index: usize, names: &[Vec<u8>]) -> Reach {
        let mut found = Reach::OtherRoles;
        for name in names {
            if let Fate::Decided(line, which) = self.fate(index, name) {
                found = Reach::Decided(line, which);
                if which == WhyNever::EndsTheScan {
                    break;
                }
            }
        }
        if self.effort.is_spent() { Reach::Unknown } else { found }
    }

    /// Whether the line is about the name, and may give it the role.
    fn gives(&self, rule: RuleView<'_>, name: &[u8]) -> bool {
        self.effort.pay(ASKING + name.len());
        matches!(self.lines.said(rule, name), Said::Allows { .. } | Said::Unknown { .. })
    }

    /// Whether the name comes to the role by the line at `index`, or would if one before it had not
    /// let it in.
    fn comes(&self, index: usize, name: &[u8]) -> bool {
        self.lines.rules.get(index).is_some_and(|rule| self.gives(*rule, name))
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

/// A name that the line most likely matches so that `\1` is `capture`; it is still to be asked.
fn guess(line: &Line<'_>, capture: Option<&[u8]>) -> Option<Vec<u8>> {
    let facts = line.facts()?;
    let name = match capture {
        Some(capture) => {
            let marked = facts.marked.as_ref().or(facts.whole.as_ref())?;
            simplest(&marked.with_marked(&Part::bytes(capture)))
        }
        None => simplest(facts.names.as_ref()?),
    };
    name.filter(|name| !name.is_empty())
}

/// What matches a part, if its places hold: the first of each choice, as often as needs be.
fn simplest(part: &Part) -> Option<Vec<u8>> {
    let name = match part {
        Part::Byte(set) => {
            let mut bytes = (b'a'..=b'z').chain(b'0'..=b'9').chain(1..=u8::MAX);
            vec![bytes.find(|byte| set.has(*byte))?]
        }
        Part::Row(parts) => {
            let parts: Option<Vec<_>> = parts.iter().map(simplest).collect();
            parts?.concat()
        }
        Part::Branches(parts) => parts.iter().find_map(simplest)?,
        Part::Repeat { min: 0, .. } | Part::Begin | Part::End | Part::Mark => Vec::new(),
        Part::Repeat { part, min, .. } => {
            let times = usize::try_from(*min).ok()?;
            let once = simplest(part)?;
            (once.len().checked_mul(times)? <= GUESS_BYTES).then(|| once.repeat(times))?
        }
    };
    (name.len() <= GUESS_BYTES).then_some(name)
}
