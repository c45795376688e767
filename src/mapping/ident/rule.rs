//! What one line says of a system user and a role (`check_ident_usermap` in `hba.c`).

use std::sync::Arc;

use super::pattern::{Match, Pattern, Use};
use super::question::Question;

/// One line of a map.
#[derive(Debug)]
pub(super) struct Rule {
    /// The file that it stands in.
    pub file: Arc<str>,
    /// Number of its first physical line.
    pub line: u32,
    /// Its three fields as they are written.
    pub text: Box<[u8]>,
    pub system_user: SystemUser,
    pub database_user: DatabaseUser,
    pub written: Written,
}

/// How a line is written, where that decides nothing.
#[derive(Clone, Copy, Debug)]
pub(super) struct Written {
    /// The line has more than three fields.
    pub extra_field: bool,
    /// The system user begins with a quote.
    pub user_quoted: bool,
    /// The database user begins with a quote.
    pub role_quoted: bool,
}

#[derive(Debug)]
pub(super) enum SystemUser {
    /// Neither `all` nor `+` is special here.
    Literal(Box<[u8]>),
    /// `/…`, quoted or not.
    Pattern(Arc<Pattern>),
}

#[derive(Debug)]
pub(super) enum DatabaseUser {
    /// `all`, not quoted: any role.
    All,
    /// `+group`, not quoted: any role that is a member of the group.
    MemberOf(Box<[u8]>),
    /// `/…`, quoted or not.
    Pattern(Arc<Pattern>),
    Literal(Box<[u8]>),
    /// The first `\1` of a line whose system user is a pattern stands for group 1. What comes of
    /// it is compared literally, never read as `all` or `+group`.
    WithCapture {
        before: Box<[u8]>,
        after: Box<[u8]>,
    },
}

/// What one rule says of one system user and role. A capture is given when the rule uses it.
pub(super) enum Verdict<'a> {
    OtherUser,
    OtherRole(Option<&'a [u8]>),
    Allows(Option<&'a [u8]>),
    /// PostgreSQL ends the whole scan here with a denial, for this reason.
    Fails(String),
}

impl Rule {
    /// The group whose members the line is about. A `+` alone has none, and so no members.
    pub fn group(&self) -> Option<&[u8]> {
        match &self.database_user {
            DatabaseUser::MemberOf(group) if !group.is_empty() => Some(group),
            _ => None,
        }
    }

    pub fn judge<'a>(&self, question: &Question<'a>) -> Verdict<'a> {
        if !question.is_askable() {
            return Verdict::OtherUser;
        }
        let capture = match &self.system_user {
            SystemUser::Literal(name) if question.case.is_same(name, question.system_user) => None,
            SystemUser::Literal(_) => return Verdict::OtherUser,
            SystemUser::Pattern(pattern) => {
                match pattern.matches(question.system_user, self.database_user.purpose()) {
                    Match::No => return Verdict::OtherUser,
                    Match::Yes(capture) => capture,
                    Match::Fails(reason) => return Verdict::Fails(failed(pattern, &reason)),
                }
            }
        };
        match self.database_user.admits(question, capture) {
            Some(true) => Verdict::Allows(capture),
            Some(false) => Verdict::OtherRole(capture),
            None => Verdict::Fails(self.no_capture()),
        }
    }

    /// The reason in PostgreSQL's words.
    fn no_capture(&self) -> String {
        let pattern = match &self.system_user {
            SystemUser::Literal(name) => name,
            SystemUser::Pattern(pattern) => pattern.text(),
        };
        let pattern = String::from_utf8_lossy(pattern);
        let role = String::from_utf8_lossy(&self.database_user.written()).into_owned();
        format!(
            "regular expression \"{pattern}\" has no subexpressions as requested by \
             backreference in \"{role}\""
        )
    }
}

fn failed(pattern: &Pattern, reason: &str) -> String {
    let pattern = String::from_utf8_lossy(pattern.text());
    format!("regular expression match for \"{pattern}\" failed: {reason}")
}

impl DatabaseUser {
    /// What group 1 of the system user's pattern is used for.
    pub fn purpose(&self) -> Use {
        match self {
            Self::WithCapture { .. } => Use::Capture,
            Self::All | Self::MemberOf(_) | Self::Pattern(_) | Self::Literal(_) => Use::Match,
        }
    }

    /// The token, without its quotes.
    pub fn written(&self) -> Vec<u8> {
        match self {
            Self::All => b"all".to_vec(),
            Self::MemberOf(group) => [b"+", &**group].concat(),
            Self::Pattern(pattern) => [b"/", pattern.text()].concat(),
            Self::Literal(name) => name.to_vec(),
            Self::WithCapture { before, after } => [before, br"\1".as_slice(), after].concat(),
        }
    }

    /// Whether the role is one of these; nothing when it depends on a capture that is not there.
    pub fn admits(&self, question: &Question<'_>, capture: Option<&[u8]>) -> Option<bool> {
        Some(match self {
            Self::All => true,
            Self::MemberOf(group) => question.members.is_member(question.role, group),
            // A failure is no match here, and the scan goes on: `check_role` in `hba.c`.
            Self::Pattern(pattern) => {
                matches!(pattern.matches(question.role, Use::Match), Match::Yes(_))
            }
            Self::Literal(name) => question.case.is_same(name, question.role),
            Self::WithCapture { before, after } => is_joined(question, [before, capture?, after]),
        })
    }
}

/// Whether the role is the `parts` one after another.
fn is_joined(question: &Question<'_>, parts: [&[u8]; 3]) -> bool {
    let mut rest = Some(question.role);
    for part in parts {
        rest = rest.and_then(|rest| {
            let (head, tail) = rest.split_at_checked(part.len())?;
            question.case.is_same(head, part).then_some(tail)
        });
    }
    rest.is_some_and(<[u8]>::is_empty)
}
