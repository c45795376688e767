//! What a map is asked, and what it answers.

use std::fmt;

use serde::{Deserialize, Serialize};

use super::members::Memberships;
use crate::names::MapName;

/// May this user act as this role?
#[derive(Clone, Copy, Debug)]
pub struct Question<'a> {
    /// The map that is asked.
    pub map: &'a MapName,
    /// The SYSTEM-USERNAME: an account, or a group in a group map.
    pub system_user: &'a [u8],
    /// The DATABASE-USERNAME.
    pub role: &'a [u8],
    /// Whether the letters' case counts.
    pub case: Case,
    /// Who is a member of which group on the cluster, for `+role` lines.
    pub members: &'a Memberships,
}

impl Question<'_> {
    /// PostgreSQL could not be asked for a name with a NUL byte at all.
    pub(super) fn is_askable(&self) -> bool {
        !self.system_user.contains(&0) && !self.role.contains(&0)
    }
}

/// Whether the case of letters counts when literal names are compared: `krb_caseins_users`. Only
/// ASCII letters have one. Regular expressions, map names and groups never leave case out.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Case {
    /// `Alice` is not `alice`.
    #[default]
    Sensitive,
    /// `Alice` is `alice`.
    Insensitive,
}

impl Case {
    /// Whether two literal names are the same.
    #[must_use]
    pub fn is_same(self, one: &[u8], other: &[u8]) -> bool {
        match self {
            Self::Sensitive => one == other,
            Self::Insensitive => one.eq_ignore_ascii_case(other),
        }
    }
}

/// One line of one revision, for audit and explanation. Displays as `pg_ident.conf:12`.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
pub struct RuleRef {
    /// The file: the name of the main file, or the path of an included one, which begins at the
    /// directory of the main file.
    pub file: String,
    /// The physical line, counted from 1; the first one of a continued line.
    pub line: u32,
}

impl fmt::Display for RuleRef {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(formatter, "{}:{}", self.file, self.line)
    }
}

/// What a map says of one system user and one role.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum MapDecision {
    /// This line lets the user act as the role.
    Allowed(RuleRef),
    /// No line does.
    NoMatch,
    /// This line could not be evaluated, which ends the scan: denied, whatever comes after it.
    Failed {
        /// The line.
        rule: RuleRef,
        /// Why, in PostgreSQL's words.
        reason: String,
    },
}
