//! One line of a map, with what can be said of all whom it is about: for comparing and checking.

use std::cell::OnceCell;
use std::collections::HashMap;
use std::rc::Rc;

use super::automaton::{Effort, Language, Part, Words, words};
use super::bytes::ByteSet;
use super::ident::{Group1, PatternFacts};
use super::matched::MatchedNames;
use super::{
    Case, Considered, DatabaseUserView, Dialect, IdentMap, Memberships, Question, RuleRef,
    RuleView, SystemUserView,
};
use crate::names::MapName;

/// Steps that it takes to ask a line about a name: a pattern is followed over all of it.
const ASKING: usize = 4;

/// What a line says, wherever it stands and however it is written.
pub(super) type Meaning<'a> = (SystemUserView<'a>, DatabaseUserView<'a>);

/// What a line gives.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Grant {
    /// This role.
    Role(Vec<u8>),
    /// Every role.
    Any,
    /// The group, and every role that is a member of it.
    MembersOf(Vec<u8>),
    /// Every role that matches a pattern; without the `/`.
    RolesMatching(Vec<u8>),
    /// The role that `\1` makes.
    Captured {
        /// What stands before `\1`.
        before: Vec<u8>,
        /// What stands after it.
        after: Vec<u8>,
    },
}

/// One line.
pub(super) struct Line<'a> {
    view: RuleView<'a>,
    map: &'a MapName,
    /// What all that is found out of it is paid from. Where that is spent, less is known of it.
    effort: &'a Effort<'a>,
    /// Its place among the lines that it was made with.
    pub index: usize,
    group_1: Group1,
    grant: OnceCell<Grant>,
    /// Of its pattern, and of that of its roles; other lines may have the same.
    names: Option<Rc<MatchedNames<'a>>>,
    roles: Option<Rc<MatchedNames<'a>>>,
}

/// What is known of each pattern.
type Patterns<'a> = HashMap<&'a [u8], Rc<MatchedNames<'a>>>;

/// The lines of one map, in file order; what is found out of them is paid from `effort`.
pub(super) fn lines<'a>(
    map: &'a IdentMap,
    name: &'a MapName,
    effort: &'a Effort<'a>,
) -> impl Iterator<Item = Line<'a>> + use<'a> {
    let mut patterns = Patterns::new();
    let views = map.rules(name).enumerate();
    views.map(move |(index, view)| {
        let matched = |pattern| {
            let new = || Rc::new(MatchedNames::of(pattern, map.dialect(), effort));
            Rc::clone(patterns.entry(pattern).or_insert_with(new))
        };
        Line::with(view, name, index, effort, matched)
    })
}

impl<'a> Line<'a> {
    /// One line alone, of a map that is read as `dialect`, at place `index` of those that it is
    /// looked at with.
    pub fn of(
        view: RuleView<'a>,
        (map, dialect): (&'a MapName, Dialect),
        index: usize,
        effort: &'a Effort<'a>,
    ) -> Self {
        let matched = |pattern| Rc::new(MatchedNames::of(pattern, dialect, effort));
        Self::with(view, map, index, effort, matched)
    }

    fn with(
        view: RuleView<'a>,
        map: &'a MapName,
        index: usize,
        effort: &'a Effort<'a>,
        mut matched: impl FnMut(&'a [u8]) -> Rc<MatchedNames<'a>>,
    ) -> Self {
        let (SystemUserView::Literal(text) | SystemUserView::Pattern(text)) = view.system_user();
        effort.pay(1 + text.len());
        let names = match view.system_user() {
            SystemUserView::Pattern(pattern) => Some(matched(pattern)),
            SystemUserView::Literal(_) => None,
        };
        let roles = match view.database_user() {
            DatabaseUserView::Pattern(pattern) => Some(matched(pattern)),
            _ => None,
        };
        let facts = names.as_ref().and_then(|names| names.facts());
        let group_1 = match (view.database_user(), facts) {
            (DatabaseUserView::WithCapture { .. }, Some(facts)) => facts.group_1,
            // A pattern that is not understood may have no group.
            (DatabaseUserView::WithCapture { .. }, None) => Group1::Sometimes,
            _ => Group1::Always,
        };
        Self { view, map, effort, index, group_1, grant: OnceCell::new(), names, roles }
    }

    /// Where it stands.
    pub fn reference(&self) -> RuleRef {
        self.view.reference()
    }

    pub fn system_user(&self) -> SystemUserView<'a> {
        self.view.system_user()
    }

    pub fn database_user(&self) -> DatabaseUserView<'a> {
        self.view.database_user()
    }

    pub fn has_extra_field(&self) -> bool {
        self.view.has_extra_field()
    }

    pub fn is_user_quoted(&self) -> bool {
        self.view.is_user_quoted()
    }

    pub fn is_role_quoted(&self) -> bool {
        self.view.is_role_quoted()
    }

    pub fn meaning(&self) -> Meaning<'a> {
        (self.system_user(), self.database_user())
    }

    /// What the line gives, before `\1` is filled in.
    pub fn grant(&self) -> Grant {
        self.grant.get_or_init(|| self.what_it_gives()).clone()
    }

    fn what_it_gives(&self) -> Grant {
        match self.database_user() {
            DatabaseUserView::All => Grant::Any,
            DatabaseUserView::MemberOf(group) => Grant::MembersOf(group.to_vec()),
            DatabaseUserView::Pattern(_) if self.gives_every_role() => Grant::Any,
            DatabaseUserView::Pattern(pattern) => Grant::RolesMatching(pattern.to_vec()),
            DatabaseUserView::Literal(role) => Grant::Role(role.to_vec()),
            DatabaseUserView::WithCapture { before, after } => {
                Grant::Captured { before: before.to_vec(), after: after.to_vec() }
            }
        }
    }

    /// Whether its pattern of roles matches each.
    fn gives_every_role(&self) -> bool {
        let all = Language::of(&Part::Byte(ByteSet::ALL).anywhere());
        all.zip(self.roles())
            .is_some_and(|(all, roles)| words(&[&all], &[roles], 1, self.effort) == Words::None)
    }

    /// The roles that its pattern of roles matches, when that can be said.
    pub fn roles(&self) -> Option<&Language> {
        self.roles.as_ref()?.language()
    }

    /// All of them, when they are few.
    pub fn few_roles(&self) -> Option<&[Vec<u8>]> {
        self.roles.as_ref()?.words()
    }

    /// Whether the line can end the scan with an error, for want of a group.
    pub fn can_fail(&self) -> bool {
        self.group_1 != Group1::Always
    }

    /// Whether it does so for everybody whom it is about.
    pub fn always_fails(&self) -> bool {
        self.group_1 == Group1::Never
    }

    /// Whether it can do so for a name of at most so many bytes, since that is too much work for its
    /// pattern.
    pub fn may_give_up(&self, bytes: usize) -> bool {
        self.view.may_give_up(bytes)
    }

    /// Whether it needs what its pattern captures.
    pub fn is_capturing(&self) -> bool {
        matches!(self.database_user(), DatabaseUserView::WithCapture { .. })
    }

    /// The same line at another place.
    pub fn at(self, index: usize) -> Self {
        Self { index, ..self }
    }

    pub fn is_pattern(&self) -> bool {
        matches!(self.system_user(), SystemUserView::Pattern(_))
    }

    /// What its pattern is like; nothing for a literal name.
    pub fn facts(&self) -> Option<&PatternFacts> {
        self.names.as_ref()?.facts()
    }

    /// What the pattern of its roles is like, if it has one.
    pub fn role_facts(&self) -> Option<&PatternFacts> {
        self.roles.as_ref()?.facts()
    }

    /// The names that its pattern matches, when that can be said.
    pub fn language(&self) -> Option<&Language> {
        self.names.as_ref()?.language()
    }

    /// The names of which `\1` makes the role.
    pub fn names_given(&self, case: Case, role: &[u8]) -> Giving {
        let DatabaseUserView::WithCapture { before, after } = self.database_user() else {
            return Giving::Unknown(None);
        };
        let captured = captured(case, role, before, after);
        let Some(captured) = captured.map(|captured| spelled(captured, case)) else {
            return Giving::Nobody;
        };
        let marks = Part::Row(vec![Part::Mark, captured.clone(), Part::Mark]).anywhere();
        let language = |part: &Part| Language::within(part, self.effort);
        let names = self.names.as_ref();
        let marked = names.and_then(|names| names.marked());
        let (Some(marked), Some(marks)) = (marked, language(&marks)) else {
            return Giving::Unknown(language(&captured.anywhere()));
        };
        if words(&[marked, &marks], &[], 1, self.effort) == Words::None {
            return Giving::Nobody;
        }
        let part = names.and_then(|names| names.marked_part());
        let names = part.and_then(|part| language(&part.with_marked(&captured)));
        names.map_or(Giving::Unknown(None), Giving::These)
    }

    /// Whether the pattern of `other` matches all names that this one does, and `\1` surely holds the
    /// same for them.
    pub fn captures_like(&self, other: &Self, effort: &Effort<'_>) -> bool {
        if self.system_user() == other.system_user() {
            return true;
        }
        // Quicker to ask: a name that this one matches and the other does not.
        let is_matched = |user| other.consider(Case::Sensitive, user, b"") != Considered::OtherUser;
        if !self.sample().is_some_and(is_matched) {
            return false;
        }
        let names = self.names.as_ref().zip(other.names.as_ref());
        names.is_some_and(|(own, others)| own.captures_like(others, effort))
    }

    /// What every name begins with that its pattern matches; nothing where that is not known.
    pub fn prefix(&self) -> &[u8] {
        self.names.as_ref().map_or(&[], |names| names.prefix())
    }

    /// All names that its pattern matches, when they are few.
    pub fn words(&self) -> Option<&[Vec<u8>]> {
        self.names.as_ref()?.words()
    }

    /// One name that the line is about.
    fn sample(&self) -> Option<&[u8]> {
        match self.system_user() {
            SystemUserView::Literal(name) => Some(name),
            SystemUserView::Pattern(_) => self.names.as_ref()?.sample(),
        }
    }

    /// What the line says of a user and a role. Who is a member of what is not known here.
    pub fn consider(&self, case: Case, user: &[u8], role: &[u8]) -> Considered {
        self.effort.pay(ASKING + user.len());
        let members = Memberships::none();
        let map = self.map;
        self.view.consider(&Question { map, system_user: user, role, case, members: &members })
    }

    /// Whether the line lets the user be the role.
    pub fn allows(&self, case: Case, user: &[u8], role: &[u8]) -> bool {
        matches!(self.consider(case, user, role), Considered::Allows { .. })
    }

    /// Whether the line gives the role to whoever it is about; nothing when that depends on who it
    /// is, or cannot be said.
    pub fn gives(&self, case: Case, role: &[u8]) -> Option<bool> {
        match self.database_user() {
            DatabaseUserView::All => Some(true),
            DatabaseUserView::Literal(name) => Some(case.is_same(name, role)),
            // Which roles match does not depend on who asks, so one of them is asked for.
            DatabaseUserView::Pattern(_) => self.sample().map(|user| self.allows(case, user, role)),
            DatabaseUserView::MemberOf(_) | DatabaseUserView::WithCapture { .. } => None,
        }
    }

    /// What the line gives a user, `\1` filled in. Nothing when it is about others.
    ///
    /// # Errors
    /// When the line ends the scan.
    pub fn given_to(&self, case: Case, user: &[u8]) -> Result<Option<Grant>, Ended> {
        let capture = match self.consider(case, user, b"") {
            Considered::OtherUser => return Ok(None),
            Considered::Fails { .. } => return Err(Ended),
            Considered::OtherRole { capture, .. } | Considered::Allows { capture } => capture,
        };
        Ok(Some(match (self.grant(), capture) {
            (Grant::Captured { before, after }, Some(capture)) => {
                Grant::Role([before, capture, after].concat())
            }
            (grant, _) => grant,
        }))
    }
}

/// The names of which a line's `\1` makes a role.
pub(super) enum Giving {
    /// It makes it of none.
    Nobody,
    /// It may make it of these, and of no others.
    These(Language),
    /// It is not known of which; all of them are among these, when that can be said.
    Unknown(Option<Language>),
}

/// What `\1` has to hold for a role.
fn captured<'r>(case: Case, role: &'r [u8], before: &[u8], after: &[u8]) -> Option<&'r [u8]> {
    let (head, rest) = role.split_at_checked(before.len())?;
    let (captured, tail) = rest.split_at_checked(rest.len().checked_sub(after.len())?)?;
    (case.is_same(head, before) && case.is_same(tail, after)).then_some(captured)
}

/// A name in every spelling that is the same to `case`.
pub(super) fn spelled(name: &[u8], case: Case) -> Part {
    let one = |byte: &u8| match case {
        Case::Sensitive => ByteSet::single(*byte),
        Case::Insensitive => ByteSet::single(*byte).in_any_case(),
    };
    Part::Row(name.iter().map(|byte| Part::Byte(one(byte))).collect())
}

/// A line ends the scan with an error.
#[derive(Debug)]
pub(super) struct Ended;

/// A name as literal names are compared.
pub(super) fn compared(name: &[u8], case: Case) -> Vec<u8> {
    match case {
        Case::Sensitive => name.to_vec(),
        Case::Insensitive => name.to_ascii_lowercase(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_many_lines_with_one_pattern_cost_is_little_more_than_what_one_costs() {
        let spent = |of_pattern: fn(usize) -> String, count: usize| {
            let text: String = (0..count).map(of_pattern).collect();
            let map = IdentMap::parse(Dialect::default(), "f", text.as_bytes()).unwrap();
            let effort = Effort::of(10_000_000);
            let name = "m".parse().unwrap();
            for line in lines(&map, &name, &effort) {
                assert!(line.language().is_some() || line.roles().is_some());
            }
            10_000_000 - effort.left()
        };
        let users = |place| format!("m /^(a{{255}}){{4}}$ r{place}\n");
        let roles = |place| format!("m u{place} /^(a{{255}}){{4}}$\n");
        for of_pattern in [users, roles] {
            assert!(spent(of_pattern, 100) < 2 * spent(of_pattern, 1));
        }
        let others = |place| format!("m /^(a{{255}}){{4}}[{place}]$ r\n");
        assert!(spent(others, 4) > 3 * spent(others, 1));
    }
}
