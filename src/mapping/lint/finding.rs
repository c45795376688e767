//! What was found, by a name that stays.

use std::fmt;

use serde::Serialize;

use crate::mapping::RuleRef;
use crate::names::{printable, shortened};

/// Letters of a message: a name in it can be of any length.
const MESSAGE: usize = 500;

/// How bad it is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum LintSeverity {
    /// Most likely not meant.
    Warning,
    /// Lets in whom nobody can mean, or does not work at all.
    Error,
}

macro_rules! codes {
    ($(#[doc = $meaning:literal] $name:ident = $text:literal, $severity:ident;)+) => {
        /// What was found. The names are the same for people and programs, and stay.
        #[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize)]
        pub enum LintCode {
            $(#[doc = $meaning] #[serde(rename = $text)] $name,)+
        }

        impl LintCode {
            /// Every one.
            pub const ALL: &[Self] = &[$(Self::$name,)+];

            /// Its name.
            #[must_use]
            pub fn as_str(self) -> &'static str {
                match self {
                    $(Self::$name => $text,)+
                }
            }

            /// What it means, as a sentence.
            #[must_use]
            pub fn meaning(self) -> &'static str {
                match self {
                    $(Self::$name => $meaning.trim_ascii(),)+
                }
            }

            /// How bad it is.
            #[must_use]
            pub fn severity(self) -> LintSeverity {
                match self {
                    $(Self::$name => LintSeverity::$severity,)+
                }
            }
        }
    };
}

codes! {
    /// `all` for whoever asks.
    AllForEverybody = "all-for-everybody", Error;
    /// A pattern that matches every name.
    MatchesEverybody = "matches-everybody", Warning;
    /// A pattern that matches no name that anybody can have, or no role.
    MatchesNobody = "matches-nobody", Warning;
    /// A pattern that is not held at both ends of the name.
    Unanchored = "unanchored-pattern", Warning;
    /// A pattern that takes names of any realm or domain.
    AnyRealm = "any-realm", Warning;
    /// A dot in a pattern that matches any character.
    LooseDot = "unescaped-dot", Warning;
    /// A line whose `\1` has no group.
    AlwaysFails = "always-fails", Error;
    /// A line whose `\1` has a group that need not take part.
    MayFail = "may-fail", Warning;
    /// A line that is never reached, since one before it ends the scan.
    BehindFailing = "behind-failing-line", Error;
    /// A second line that says the same.
    Duplicate = "duplicate-line", Warning;
    /// A line that decides nothing, since those before it give as much.
    Shadowed = "shadowed-line", Warning;
    /// `\1` where it is taken by its letters: no pattern, behind a `+`, or a second one.
    LiteralBackreference = "literal-backreference", Warning;
    /// Two users that differ in case only.
    CaseTwins = "case-twins", Warning;
    /// A name of bytes that no identity has.
    NotUtf8 = "not-utf8", Warning;
    /// A group by a part of its distinguished name, where groups are whole ones.
    BareGroupName = "bare-group-name", Warning;
    /// A literal with `*`, `.*` or `^` in it, which is no pattern without a `/`.
    LiteralPattern = "literal-pattern", Warning;
    /// `all` or `+group` as system user, where neither is special.
    LiteralKeyword = "literal-keyword", Warning;
    /// An empty name, which is nobody's.
    EmptyName = "empty-name", Warning;
    /// A fourth field, which is ignored without a word.
    ExtraField = "extra-field", Warning;
    /// `include` with more behind the file than its name: a line of a map that is called so.
    NotIncluded = "not-included", Error;
    /// `include` of several files, of which only the first is included.
    HalfIncluded = "half-included", Error;
    /// A file that begins with a byte order mark, which is read as a part of the first name.
    ByteOrderMark = "byte-order-mark", Error;
    /// A distinguished name where accounts are matched.
    AccountByDn = "account-by-dn", Warning;
    /// `all` for whoever is in a group.
    AllForGroup = "all-for-group", Warning;
    /// A map that nobody uses.
    UnusedMap = "unused-map", Warning;
    /// A map that is called almost like another.
    MapNameSlip = "map-name-slip", Warning;
    /// A map that cannot be asked for.
    UnaskableMap = "unaskable-map", Warning;
    /// A map that is used and has no line.
    MissingMap = "missing-map", Error;
    /// A role that no cluster lends, or a pattern or `\1` that gives no other.
    RoleNotLent = "role-not-lent", Warning;
    /// A map that is too much to check all of it.
    NotAllChecked = "not-all-checked", Warning;
    /// A duty that the broker does not have.
    UnknownDuty = "unknown-duty", Warning;
    /// `+group` where no cluster can be asked for its members.
    MembersOfDuty = "members-of-duty", Error;
    /// A role that is lent and that the cluster does not have.
    RoleMissing = "role-missing", Error;
    /// A group that the cluster does not have.
    GroupMissing = "group-missing", Warning;
    /// A role that reaches what rules the cluster or the broker.
    PowerfulRole = "powerful-role", Error;
}

impl fmt::Display for LintCode {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.pad(self.as_str())
    }
}

/// One finding. Displays as `pg_ident.conf:3: warning: … [shadowed-line]`; what to do stands
/// beside it.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize)]
pub struct LintFinding {
    /// The line; nothing when it is about what is not there.
    #[serde(flatten)]
    pub place: Option<RuleRef>,
    /// What was found.
    pub code: LintCode,
    /// How bad it is.
    pub severity: LintSeverity,
    /// What is seen, on one line; names of the map are safe to show in it.
    pub message: String,
    /// What to do about it.
    pub hint: &'static str,
}

impl LintFinding {
    pub(super) fn new(
        place: Option<RuleRef>,
        code: LintCode,
        message: impl AsRef<str>,
        hint: &'static str,
    ) -> Self {
        let message = shortened(message.as_ref(), MESSAGE);
        Self { place, code, severity: code.severity(), message, hint }
    }
}

impl fmt::Display for LintFinding {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        if let Some(RuleRef { file, line }) = &self.place {
            write!(formatter, "{}:{line}: ", printable(file))?;
        }
        let severity = match self.severity {
            LintSeverity::Warning => "warning",
            LintSeverity::Error => "error",
        };
        write!(formatter, "{severity}: {} [{}]", self.message, self.code)
    }
}

/// That nobody uses a map, as it is said everywhere.
pub(in crate::mapping) fn unused_map(map: &[u8]) -> String {
    format!("nobody uses the map {}", shown(map))
}

/// That a role is not lent, as it is said everywhere.
pub(in crate::mapping) fn not_lent(role: &[u8]) -> String {
    format!("no cluster lends {}, so the line allows nothing", shown(role))
}

/// A name as it would stand in a map, safe to show: in quotes where it needs them.
pub(in crate::mapping) fn shown(name: &[u8]) -> String {
    let name = printed(name);
    let is_plain = !name.is_empty() && !name.contains([' ', ',', '"', '#']);
    if is_plain { name } else { format!("\"{}\"", name.replace('"', "\"\"")) }
}

/// A name or a pattern, safe to show.
pub(in crate::mapping) fn printed(name: &[u8]) -> String {
    printable(&String::from_utf8_lossy(name).replace('\n', "\\n").replace('\t', "\\t"))
}
