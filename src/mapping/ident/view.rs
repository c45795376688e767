//! One line as those see it who explain, search backwards or compare.

use std::borrow::Cow;

use super::pattern::Use;
use super::question::{Question, RuleRef};
use super::rule::{DatabaseUser, Rule, SystemUser, Verdict};

/// One line of a map.
#[derive(Clone, Copy, Debug)]
pub struct RuleView<'a>(pub(super) &'a Rule);

/// Whom a line is about.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum SystemUserView<'a> {
    /// This user. What the case of letters means is for the question to say.
    Literal(&'a [u8]),
    /// Every user whom this regular expression matches; without the `/`.
    Pattern(&'a [u8]),
}

/// Which roles a line lets its users act as.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum DatabaseUserView<'a> {
    /// Every role.
    All,
    /// This group, and every role that is a member of it.
    MemberOf(&'a [u8]),
    /// Every role that this regular expression matches; without the `/`.
    Pattern(&'a [u8]),
    /// This role.
    Literal(&'a [u8]),
    /// The role that is called so, with group 1 of the system user's pattern between.
    WithCapture {
        /// What comes before the first `\1`.
        before: &'a [u8],
        /// What comes after it.
        after: &'a [u8],
    },
}

/// What one line says of a question. PostgreSQL asks the next one when it is about another user or
/// role, and stops otherwise.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Considered {
    /// The line is not about this user.
    OtherUser,
    /// The line is about this user, and about another role.
    OtherRole {
        /// What group 1 of the system user's pattern holds, when the line uses it.
        capture: Option<Vec<u8>>,
        /// What the role would have to be.
        wanted: Wanted,
    },
    /// The line lets the user act as the role.
    Allows {
        /// What group 1 of the system user's pattern holds, when the line uses it.
        capture: Option<Vec<u8>>,
    },
    /// The line could not be evaluated: nobody is let in, and no later line is asked.
    Fails {
        /// Why, in PostgreSQL's words.
        reason: String,
    },
}

/// What a role would have to be for a line to allow it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Wanted {
    /// This one; `\1` is filled in.
    Role(Vec<u8>),
    /// A member of this group.
    MemberOf(Vec<u8>),
    /// One that this regular expression matches; without the `/`.
    Match(Vec<u8>),
}

impl<'a> RuleView<'a> {
    /// Where the line stands.
    #[must_use]
    pub fn reference(&self) -> RuleRef {
        RuleRef { file: self.0.file.to_string(), line: self.0.line }
    }

    /// The three fields as they are written, from one blank to the next; what is not UTF-8 is
    /// replaced.
    #[must_use]
    pub fn text(&self) -> Cow<'a, str> {
        String::from_utf8_lossy(&self.0.text)
    }

    /// Whether the line has more fields than the three that count.
    #[must_use]
    pub fn has_extra_field(&self) -> bool {
        self.0.written.extra_field
    }

    /// Whether the system user begins with a quote.
    #[must_use]
    pub fn is_user_quoted(&self) -> bool {
        self.0.written.user_quoted
    }

    /// Whether the database user begins with a quote.
    #[must_use]
    pub fn is_role_quoted(&self) -> bool {
        self.0.written.role_quoted
    }

    /// Whom the line is about.
    #[must_use]
    pub fn system_user(&self) -> SystemUserView<'a> {
        match &self.0.system_user {
            SystemUser::Literal(name) => SystemUserView::Literal(name),
            SystemUser::Pattern(pattern) => SystemUserView::Pattern(pattern.text()),
        }
    }

    /// Which roles it lets them act as.
    #[must_use]
    pub fn database_user(&self) -> DatabaseUserView<'a> {
        match &self.0.database_user {
            DatabaseUser::All => DatabaseUserView::All,
            DatabaseUser::MemberOf(group) => DatabaseUserView::MemberOf(group),
            DatabaseUser::Pattern(pattern) => DatabaseUserView::Pattern(pattern.text()),
            DatabaseUser::Literal(name) => DatabaseUserView::Literal(name),
            DatabaseUser::WithCapture { before, after } => {
                DatabaseUserView::WithCapture { before, after }
            }
        }
    }

    /// What the line says of `question`, whatever map that names.
    #[must_use]
    pub fn consider(&self, question: &Question<'_>) -> Considered {
        let uses_capture = self.0.database_user.purpose() == Use::Capture;
        let kept = |capture: Option<&[u8]>| capture.filter(|_| uses_capture).map(<[u8]>::to_vec);
        match self.0.judge(question) {
            Verdict::OtherUser => Considered::OtherUser,
            Verdict::OtherRole(capture) => {
                let wanted = wanted(&self.0.database_user, capture);
                Considered::OtherRole { capture: kept(capture), wanted }
            }
            Verdict::Allows(capture) => Considered::Allows { capture: kept(capture) },
            Verdict::Fails(reason) => Considered::Fails { reason },
        }
    }
}

fn wanted(database_user: &DatabaseUser, capture: Option<&[u8]>) -> Wanted {
    match database_user {
        DatabaseUser::MemberOf(group) => Wanted::MemberOf(group.to_vec()),
        DatabaseUser::Pattern(pattern) => Wanted::Match(pattern.text().to_vec()),
        // `all` wants no role in particular, and so is never another role.
        DatabaseUser::All | DatabaseUser::Literal(_) => Wanted::Role(database_user.written()),
        DatabaseUser::WithCapture { before, after } => {
            Wanted::Role([&**before, capture.unwrap_or_default(), after].concat())
        }
    }
}
