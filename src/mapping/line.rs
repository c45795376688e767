//! One line of a map, with what can be said of all whom it is about: for comparing and checking.

use std::cell::OnceCell;

use super::automaton::{Effort, Language, Part, Words, is_marked_in_one_way, words};
use super::bytes::ByteSet;
use super::ident::{Group1, PatternFacts};
use super::{
    Case, Considered, DatabaseUserView, Dialect, IdentMap, Memberships, Question, RuleRef,
    RuleView, SystemUserView,
};
use crate::names::MapName;

/// Words of a pattern that are few enough to be looked at one by one.
const FEW_WORDS: usize = 200;

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
    dialect: Dialect,
    /// What all that is found out of it is paid from. Where that is spent, less is known of it.
    effort: &'a Effort<'a>,
    /// Its place among the lines that it was made with.
    pub index: usize,
    group_1: Group1,
    facts: Option<PatternFacts>,
    grant: OnceCell<Grant>,
    language: OnceCell<Option<Language>>,
    marked: OnceCell<Option<Language>>,
    whole: OnceCell<Option<Language>>,
    shorter: OnceCell<Option<Language>>,
    words: OnceCell<Option<Vec<Vec<u8>>>>,
    sample: OnceCell<Option<Vec<u8>>>,
    roles: OnceCell<Option<Language>>,
    prefix: OnceCell<Vec<u8>>,
}

/// The lines of one map, in file order; what is found out of them is paid from `effort`.
pub(super) fn lines<'a>(
    map: &'a IdentMap,
    name: &'a MapName,
    effort: &'a Effort<'a>,
) -> impl Iterator<Item = Line<'a>> + use<'a> {
    let views = map.rules(name).enumerate();
    views.map(move |(index, view)| Line::of(view, (name, map.dialect()), index, effort))
}

impl<'a> Line<'a> {
    fn of(
        view: RuleView<'a>,
        (map, dialect): (&'a MapName, Dialect),
        index: usize,
        effort: &'a Effort<'a>,
    ) -> Self {
        let (SystemUserView::Literal(text) | SystemUserView::Pattern(text)) = view.system_user();
        effort.pay(1 + text.len());
        let facts = match view.system_user() {
            SystemUserView::Pattern(pattern) => PatternFacts::of(pattern, dialect),
            SystemUserView::Literal(_) => None,
        };
        let group_1 = match (view.database_user(), &facts) {
            (DatabaseUserView::WithCapture { .. }, Some(facts)) => facts.group_1,
            // A pattern that is not understood may have no group.
            (DatabaseUserView::WithCapture { .. }, None) => Group1::Sometimes,
            _ => Group1::Always,
        };
        Self {
            view,
            map,
            dialect,
            effort,
            index,
            group_1,
            facts,
            grant: OnceCell::new(),
            language: OnceCell::new(),
            marked: OnceCell::new(),
            whole: OnceCell::new(),
            shorter: OnceCell::new(),
            words: OnceCell::new(),
            sample: OnceCell::new(),
            roles: OnceCell::new(),
            prefix: OnceCell::new(),
        }
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
        let part = || self.role_facts()?.names;
        let roles = || Language::within(&part()?, self.effort);
        self.roles.get_or_init(roles).as_ref()
    }

    /// All of them, when they are few.
    pub fn few_roles(&self) -> Option<Vec<Vec<u8>>> {
        self.roles()?.all_words(FEW_WORDS, self.effort)
    }

    /// Whether the line can end the scan with an error.
    pub fn can_fail(&self) -> bool {
        self.group_1 != Group1::Always
    }

    /// Whether it does so for everybody whom it is about.
    pub fn always_fails(&self) -> bool {
        self.group_1 == Group1::Never
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
        self.facts.as_ref()
    }

    /// What the pattern of its roles is like, if it has one.
    pub fn role_facts(&self) -> Option<PatternFacts> {
        match self.database_user() {
            DatabaseUserView::Pattern(pattern) => PatternFacts::of(pattern, self.dialect),
            _ => None,
        }
    }

    /// The names that its pattern matches, when that can be said.
    pub fn language(&self) -> Option<&Language> {
        let part = self.facts.as_ref().and_then(|facts| facts.names.as_ref());
        self.language.get_or_init(|| Language::within(part?, self.effort)).as_ref()
    }

    /// The same with what `\1` holds marked, in every way in which the pattern can match.
    fn marked(&self) -> Option<&Language> {
        self.marked.get_or_init(|| Language::within(self.marked_part()?, self.effort)).as_ref()
    }

    /// A pattern that is not held at both ends can be marked too when it takes the whole of every name
    /// that it matches.
    fn marked_part(&self) -> Option<&Part> {
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
        let (Some(marked), Some(marks)) = (self.marked(), language(&marks)) else {
            return Giving::Unknown(language(&captured.anywhere()));
        };
        if words(&[marked, &marks], &[], 1, self.effort) == Words::None {
            return Giving::Nobody;
        }
        let part = self.marked_part();
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
        let (Some(own), Some(others)) = (self.marked(), other.whole()) else { return false };
        if words(&[own], &[others], 1, effort) != Words::None {
            return false;
        }
        // What is marked by this one is one way for the other: the only one, or the longest.
        let is_longest = |shorter| words(&[own, shorter], &[], 1, effort) == Words::None;
        other.shorter().is_some_and(is_longest) || is_marked_in_one_way(others, effort)
    }

    /// What every name begins with that its pattern matches; nothing where that is not known.
    pub fn prefix(&self) -> &[u8] {
        let prefix = || Some(self.language()?.prefix(self.effort));
        self.prefix.get_or_init(|| prefix().unwrap_or_default())
    }

    /// All names that its pattern matches, when they are few.
    pub fn words(&self) -> Option<&[Vec<u8>]> {
        let all =
            || self.language().and_then(|language| language.all_words(FEW_WORDS, self.effort));
        self.words.get_or_init(all).as_deref()
    }

    /// One name that the line is about.
    fn sample(&self) -> Option<&[u8]> {
        let first = || match self.system_user() {
            SystemUserView::Literal(name) => Some(name.to_vec()),
            SystemUserView::Pattern(_) => match words(&[self.language()?], &[], 1, self.effort) {
                Words::Some(words) => words.into_iter().next(),
                Words::None | Words::NotFound => None,
            },
        };
        self.sample.get_or_init(first).as_deref()
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
