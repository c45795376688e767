//! How somebody is held against the lines: which map is asked about which name, in which order,
//! and where that ends. Deciding, explaining and asking backwards share it, so that they cannot
//! differ.

use std::collections::{BTreeSet, HashSet};
use std::fmt::{self, Write as _};
use std::ops::ControlFlow;

use serde::Serialize;
use utoipa::ToSchema;

use super::{
    Case, Considered, DatabaseUserView, Maps, Members, Memberships, Policy, Question, RuleRef,
    RuleView, UnverifiedNames,
};
use crate::names::{ClusterName, MapName};

/// One name that a map is asked about: the person's own, or that of a group of theirs.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Asked<'a> {
    pub map: &'a MapName,
    pub of: Of,
    pub name: &'a str,
    pub case: Case,
}

/// Whose name it is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Of {
    Person,
    Group,
}

impl<'a> Asked<'a> {
    /// The same as a question to the map.
    pub(super) fn question(&self, role: &'a str, members: &'a Memberships) -> Question<'a> {
        Question {
            map: self.map,
            system_user: self.name.as_bytes(),
            role: role.as_bytes(),
            case: self.case,
            members,
        }
    }
}

impl Maps {
    /// All that is asked about somebody of these names.
    pub(super) fn asked_about<'a>(
        &'a self,
        names: &'a UnverifiedNames,
    ) -> impl Iterator<Item = Asked<'a>> {
        self.asked(names.system_user(), names.groups().iter().map(String::as_str))
    }

    /// All that is asked about somebody, in order: their own map about them first, then the map of
    /// groups about each group, in the order that they are given in.
    pub(super) fn asked<'a>(
        &'a self,
        system_user: &'a str,
        groups: impl Iterator<Item = &'a str>,
    ) -> impl Iterator<Item = Asked<'a>> {
        let case = self.case;
        let own = self.map.iter();
        let own = own.map(move |map| Asked { map, of: Of::Person, name: system_user, case });
        let mapped = self.group_map.as_ref();
        let groups =
            groups.filter_map(move |name| Some(Asked { map: mapped?, of: Of::Group, name, case }));
        own.chain(groups)
    }

    /// The maps, in the order in which they are asked.
    pub(super) fn each(&self) -> impl Iterator<Item = (&MapName, Of)> {
        let own = self.map.iter().map(|map| (map, Of::Person));
        own.chain(self.group_map.iter().map(|map| (map, Of::Group)))
    }
}

/// What is known of who is a member of what on one cluster. What is not known is never guessed:
/// a line that needs it says neither yes nor no.
#[derive(Clone, Debug)]
pub struct KnownMembers {
    memberships: Memberships,
    told: Told,
}

/// Of which groups.
#[derive(Clone, Debug)]
enum Told {
    All,
    Only(BTreeSet<Vec<u8>>),
}

impl KnownMembers {
    /// Everything, as the cluster told it.
    #[must_use]
    pub fn all(memberships: Memberships) -> Self {
        Self { memberships, told: Told::All }
    }

    /// Nothing.
    #[must_use]
    pub fn nothing() -> Self {
        Self { memberships: Memberships::none(), told: Told::Only(BTreeSet::new()) }
    }

    /// What `members` says of the roles that `cluster` lends.
    #[must_use]
    pub fn on(cluster: &ClusterName, members: &Members) -> Self {
        members.of(cluster).map_or_else(Self::nothing, |known| Self::all(known.clone()))
    }

    /// All members of these `groups`, and of no other group.
    #[must_use]
    pub fn of_groups(groups: BTreeSet<Vec<u8>>, memberships: Memberships) -> Self {
        Self { memberships, told: Told::Only(groups) }
    }

    /// What is known, where what is not known reads as no.
    pub(super) fn memberships(&self) -> &Memberships {
        &self.memberships
    }

    /// Whether `role` is a member of `group`, when that is known. Of no name, and of one that is not
    /// UTF-8, nobody is; and each role is one of itself, as long as it exists, and none that does not
    /// can be lent. So no cluster is asked for these.
    pub(super) fn has_member(&self, role: &[u8], group: &[u8]) -> Option<bool> {
        if !may_have_members(group) {
            return Some(false);
        }
        let is_told = match &self.told {
            Told::All => true,
            Told::Only(groups) => groups.contains(group),
        };
        if is_told {
            Some(self.memberships.is_member(role, group))
        } else {
            (role == group).then_some(true)
        }
    }
}

fn may_have_members(group: &[u8]) -> bool {
    !group.is_empty() && std::str::from_utf8(group).is_ok()
}

impl Policy {
    /// Whether a line of these `maps` turns on who is a member of what.
    pub(super) fn asks_members(&self, maps: &Maps) -> bool {
        let mut rules = maps.each().flat_map(|(map, _)| self.map.rules(map));
        rules.any(|rule| match rule.database_user() {
            DatabaseUserView::MemberOf(group) => may_have_members(group),
            _ => false,
        })
    }
}

/// What one line says of one name and role, as far as the memberships are known.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Said {
    OtherUser,
    OtherRole {
        capture: Option<Vec<u8>>,
    },
    Allows {
        capture: Option<Vec<u8>>,
    },
    Fails {
        reason: String,
    },
    /// It lets members of this group in, and nobody knows whether the role is one.
    Unknown {
        group: Vec<u8>,
    },
}

impl Said {
    /// What `rule` says to `question`, which must ask with the memberships that are `known`.
    pub(super) fn by(rule: RuleView<'_>, question: &Question<'_>, known: &KnownMembers) -> Self {
        match rule.consider(question) {
            Considered::OtherUser => Self::OtherUser,
            Considered::Allows { capture } => Self::Allows { capture },
            Considered::Fails { reason } => Self::Fails { reason },
            Considered::OtherRole { capture, .. } => match rule.database_user() {
                DatabaseUserView::MemberOf(group) => match known.has_member(question.role, group) {
                    Some(true) => Self::Allows { capture },
                    Some(false) => Self::OtherRole { capture },
                    None => Self::Unknown { group: group.to_vec() },
                },
                _ => Self::OtherRole { capture },
            },
        }
    }
}

/// A line of the map.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, ToSchema)]
pub struct MapLine {
    /// The file, as the configuration or the line that includes it names it.
    #[schema(example = "pg_ident.conf")]
    pub file: String,
    /// The line in it, from 1.
    #[schema(example = 3)]
    pub line: u32,
    /// What is written there.
    #[schema(example = "corp alice orders_read")]
    pub text: String,
}

impl MapLine {
    pub(super) fn of(rule: RuleView<'_>) -> Self {
        let RuleRef { file, line } = rule.reference();
        Self { file, line, text: rule.text().to_string() }
    }
}

impl fmt::Display for MapLine {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(formatter, "{}:{}", self.file, self.line)
    }
}

/// A line that mattered, and the name that it was asked about.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Step {
    pub line: MapLine,
    pub of: Of,
    pub name: String,
}

impl Step {
    /// The group by which the line was reached; nothing when it was the person's own name.
    pub(super) fn group(self) -> Option<String> {
        match self.of {
            Of::Person => None,
            Of::Group => Some(self.name),
        }
    }
}

/// How far somebody has come down the lines.
#[derive(Debug, Default)]
pub(super) struct Course {
    /// Lines that would have let them in, had the role been a member of a group of which that is
    /// not known; each once, by the first name that reached it, however many do.
    open: Vec<Step>,
    /// Which lines those are.
    reached: HashSet<RuleRef>,
    end: Option<End>,
}

#[derive(Debug)]
enum End {
    Allowed(Step),
    Failed { at: Step, reason: String },
}

/// Where they came to.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Arrival {
    /// This line lets them in, unless one of `or_earlier` does, which are open.
    Allowed { by: Step, or_earlier: Vec<Step> },
    /// No line does.
    NoMatch,
    /// This line ends in an error, which denies.
    Failed { at: Step, reason: String },
    /// It depends on memberships that are not known, by these lines, of which there is at least
    /// one; and if they do not let them in, then no other does.
    Open(Vec<Step>),
}

impl Course {
    /// Takes what the next line says; breaks when no later line is asked.
    pub(super) fn take(
        &mut self,
        asked: &Asked<'_>,
        rule: RuleView<'_>,
        said: &Said,
    ) -> ControlFlow<()> {
        let step = || Step { line: MapLine::of(rule), of: asked.of, name: asked.name.to_owned() };
        match said {
            Said::OtherUser | Said::OtherRole { .. } => return ControlFlow::Continue(()),
            Said::Unknown { .. } => {
                if self.reached.insert(rule.reference()) {
                    self.open.push(step());
                }
                return ControlFlow::Continue(());
            }
            Said::Allows { .. } => self.end = Some(End::Allowed(step())),
            Said::Fails { reason } => {
                self.end = Some(End::Failed { at: step(), reason: reason.clone() });
            }
        }
        ControlFlow::Break(())
    }

    pub(super) fn arrive(self) -> Arrival {
        match (self.end, self.open) {
            (Some(End::Allowed(by)), or_earlier) => Arrival::Allowed { by, or_earlier },
            (None, open) if open.is_empty() => Arrival::NoMatch,
            (Some(End::Failed { at, reason }), open) if open.is_empty() => {
                Arrival::Failed { at, reason }
            }
            (_, open) => Arrival::Open(open),
        }
    }
}

/// Whether a count is not worth telling.
#[expect(clippy::trivially_copy_pass_by_ref, reason = "serde asks with a reference")]
pub(super) fn is_none(count: &usize) -> bool {
    *count == 0
}

/// Bytes as text: what is no UTF-8 is written as `\x` and two digits.
pub(super) fn readable(bytes: &[u8]) -> String {
    let mut text = String::with_capacity(bytes.len());
    for chunk in bytes.utf8_chunks() {
        text.push_str(chunk.valid());
        for byte in chunk.invalid() {
            let _ = write!(text, "\\x{byte:02x}");
        }
    }
    text
}
