//! The lines that matter to who may act as one role.

use std::collections::HashSet;

use crate::mapping::explain::Sought;
use crate::mapping::scan::{KnownMembers, Said, readable};
use crate::mapping::{
    Case, DatabaseUserView, IdentMap, Index, Question, RoleAlone, RuleView, SystemUserView,
};
use crate::names::MapName;

/// The lines of one map that matter to who may act as one role: those that can give it, and those
/// that can end the scan before one that does. The others say nothing to anybody who asks for it.
pub(super) struct RoleLines<'m> {
    asked: Question<'m>,
    members: &'m KnownMembers,
    /// In file order.
    pub(super) rules: Vec<RuleView<'m>>,
    /// Which of them may be about whom.
    index: Index,
}

/// What lines said of a name that mattered, up to the one that decides.
pub(super) type Steps = Vec<(usize, Said)>;

impl<'m> RoleLines<'m> {
    pub(super) fn of(map: &'m IdentMap, name: &'m MapName, case: Case, sought: Sought<'m>) -> Self {
        let Sought { role, members, .. } = sought;
        let (role, memberships) = (role.as_bytes(), members.memberships());
        let asked = Question { map: name, system_user: b"", role, case, members: memberships };
        let mut lines = Self { asked, members, rules: Vec::new(), index: Index::default() };
        let mut seen = Seen::default();
        let rules = map.rules(name).take_while(|_| !sought.effort.is_called_off());
        rules.for_each(|rule| lines.push(rule, &mut seen));
        lines.index = Index::of(lines.rules.iter().copied());
        lines
    }

    /// Takes a line, unless it says nothing to anybody who asks for the role, or nothing new.
    fn push(&mut self, rule: RuleView<'m>, seen: &mut Seen<'m>) {
        match rule.system_user() {
            SystemUserView::Literal(name) => {
                if matches!(self.said(rule, name), Said::OtherUser | Said::OtherRole { .. }) {
                    return;
                }
            }
            SystemUserView::Pattern(_) => {
                let is_new = seen.lines.insert((rule.system_user(), rule.database_user()));
                // Whom it fails, an earlier line with the same regular expression has failed.
                let captures = matches!(rule.database_user(), DatabaseUserView::WithCapture { .. });
                let is_new_pattern = seen.patterns.insert((rule.system_user(), captures));
                let fails_nobody = rule.never_fails() || !is_new_pattern;
                if !is_new || (fails_nobody && self.gives(rule) == Gives::Nothing) {
                    return;
                }
            }
        }
        self.rules.push(rule);
    }

    /// What a line says of `name`.
    pub(super) fn said(&self, rule: RuleView<'_>, name: &[u8]) -> Said {
        Said::by(rule, &Question { system_user: name, ..self.asked }, self.members)
    }

    /// What a line does for the role, whoever asks.
    pub(super) fn gives(&self, rule: RuleView<'_>) -> Gives {
        match rule.role_alone(&self.asked) {
            RoleAlone::Yes => Gives::Role,
            RoleAlone::WithCapture(capture) => Gives::ByCapture(capture),
            RoleAlone::No => match rule.database_user() {
                DatabaseUserView::MemberOf(group) => {
                    match self.members.has_member(self.asked.role, group) {
                        Some(true) => Gives::Role,
                        Some(false) => Gives::Nothing,
                        None => Gives::IfMemberOf(readable(group)),
                    }
                }
                _ => Gives::Nothing,
            },
        }
    }

    /// What the lines say of `name` that matters, up to the one that decides.
    pub(super) fn steps(&self, name: &[u8]) -> Steps {
        let mut steps = Vec::new();
        for (index, said) in self.all_said(name) {
            let decides = !matches!(said, Said::Unknown { .. });
            steps.push((index, said));
            if decides {
                break;
            }
        }
        steps
    }

    /// What the lines say of `name` that matters.
    pub(super) fn all_said<'s>(
        &'s self,
        name: &'s [u8],
    ) -> impl Iterator<Item = (usize, Said)> + 's {
        self.about(name).filter_map(move |(index, rule)| match self.said(rule, name) {
            Said::OtherUser | Said::OtherRole { .. } => None,
            said => Some((index, said)),
        })
    }

    /// The lines that may be about `name`, in file order.
    pub(super) fn about(&self, name: &[u8]) -> impl Iterator<Item = (usize, RuleView<'m>)> {
        let places = self.index.that_may_match(name).into_iter();
        places.filter_map(|place| Some((place, *self.rules.get(place)?)))
    }

    /// Whether a line is about those whom a regular expression matches.
    pub(super) fn is_pattern(&self, place: usize) -> bool {
        let rule = self.rules.get(place).map(RuleView::system_user);
        matches!(rule, Some(SystemUserView::Pattern(_)))
    }
}

/// Regular expressions that came before: alone with whether group 1 of them is asked for, and with
/// all else that the line says.
#[derive(Default)]
struct Seen<'m> {
    patterns: HashSet<(SystemUserView<'m>, bool)>,
    lines: HashSet<(SystemUserView<'m>, DatabaseUserView<'m>)>,
}

/// What a line does for the role, whoever asks.
#[derive(PartialEq, Eq)]
pub(super) enum Gives {
    Nothing,
    /// It gives the role to all whom it is about.
    Role,
    /// It gives the role to those whose capture is this.
    ByCapture(Vec<u8>),
    /// It gives the role if that is a member of this group, which is not known.
    IfMemberOf(String),
}

impl RoleLines<'_> {
    /// Whether the case of letters counts in names.
    pub(super) fn case(&self) -> Case {
        self.asked.case
    }

    /// The map whose lines they are.
    pub(super) fn map(&self) -> &'_ MapName {
        self.asked.map
    }

    /// How a line that gives the role spells it, where that is not how it is asked for.
    pub(super) fn role_spelled(&self, rule: RuleView<'_>) -> Option<String> {
        match rule.database_user() {
            DatabaseUserView::Literal(name) if name != self.asked.role => Some(readable(name)),
            _ => None,
        }
    }

    /// The role that is asked for.
    pub(super) fn role(&self) -> &[u8] {
        self.asked.role
    }
}
