//! What a line says of a role alone, whoever asks: for searching backwards.

use super::pattern::Group1;
use super::question::Question;
use super::rule::{DatabaseUser, SystemUser};
use super::view::RuleView;

/// What a line says of a role, whoever it is about.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(in crate::mapping) enum RoleAlone {
    /// It lets all whom it is about act as the role.
    Yes,
    /// It lets those act as the role whose group 1 holds this.
    WithCapture(Vec<u8>),
    /// It lets nobody act as the role.
    No,
}

impl RuleView<'_> {
    /// What the line says of the role of `question`, whoever asks.
    pub(in crate::mapping) fn role_alone(self, question: &Question<'_>) -> RoleAlone {
        let DatabaseUser::WithCapture { before, after } = &self.0.database_user else {
            let admits = self.0.database_user.admits(question, None);
            return if admits == Some(true) { RoleAlone::Yes } else { RoleAlone::No };
        };
        if self.group_1() == Group1::Never {
            return RoleAlone::No;
        }
        let between = |role: &[u8]| -> Option<Vec<u8>> {
            let (head, rest) = role.split_at_checked(before.len())?;
            let (capture, tail) = rest.split_at_checked(rest.len().checked_sub(after.len())?)?;
            let case = question.case;
            (case.is_same(head, before) && case.is_same(tail, after)).then(|| capture.to_vec())
        };
        between(question.role).map_or(RoleAlone::No, RoleAlone::WithCapture)
    }

    /// Whether the line may end in an error for somebody whom it is about: because it needs group 1
    /// of a regular expression that may match without it.
    pub(in crate::mapping) fn may_fail(self) -> bool {
        match &self.0.database_user {
            DatabaseUser::WithCapture { .. } => self.group_1() != Group1::Always,
            _ => false,
        }
    }

    /// Whether the line ends in an error for nobody at all, however long their name is.
    pub(in crate::mapping) fn never_fails(self) -> bool {
        match &self.0.system_user {
            SystemUser::Pattern(pattern) => !pattern.can_fail(),
            SystemUser::Literal(_) => true,
        }
    }

    /// Whether the line may end in an error for a name of at most so many bytes, since that is too much
    /// for its expression.
    pub(in crate::mapping) fn may_give_up(self, bytes: usize) -> bool {
        match &self.0.system_user {
            SystemUser::Pattern(pattern) => pattern.may_give_up(bytes),
            SystemUser::Literal(_) => false,
        }
    }

    /// Whether a match of the system user's expression gives `\1` something.
    fn group_1(self) -> Group1 {
        match &self.0.system_user {
            SystemUser::Pattern(pattern) => pattern.group_1(),
            SystemUser::Literal(_) => Group1::Never,
        }
    }
}
