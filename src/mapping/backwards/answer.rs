//! What is told of who may act as what, as people and programs read it.

use std::fmt;
use std::ops::Not;

use serde::Serialize;
use utoipa::ToSchema;

use crate::mapping::explain::{Cause, LentTerms, NameOf, Verdict};
use crate::mapping::scan::{MapLine, is_none};
use crate::mapping::{RuleRef, RuleView};

/// Who may act as a role on a cluster, as the lines say it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, ToSchema)]
pub struct WhoCan {
    /// The cluster; left out for a duty of the broker's own.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(example = "orders")]
    pub cluster: Option<String>,
    /// The role, or the duty.
    #[schema(example = "orders_read")]
    pub role: String,
    /// The terms on which the cluster lends the role; left out when it does not, and for a duty.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub terms: Option<LentTerms>,
    /// That the cluster does not lend the role, and what it lends; nobody gets the role from pgbridge
    /// then, whatever the lines say.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(
        example = "cluster `orders` does not lend role `orders_raed` (no `[[cluster.profile]]` of it \
            names the role), so that nobody gets it from pgbridge; did you mean `orders_read`?"
    )]
    pub not_lent: Option<String>,
    /// The lines that let somebody in, way by way, in the order in which they are asked; at most
    /// 10000.
    pub lines: Vec<LineLetsIn>,
    /// The lines that end the scan for whom they are about, since `\1` has nothing to stand for:
    /// denied, also where a later line or group would let them in; at most 10000.
    pub ends: Vec<LineEnds>,
    /// The lines that give the role and let nobody in, at most 10000: an earlier line decides for each
    /// whom they are about, or they are about no name that anybody can have.
    pub never: Vec<LineNever>,
    /// Lines of all three kinds that are not listed, since there are too many of their kind.
    #[schema(example = 0)]
    pub unlisted_lines: usize,
    /// Which PostgreSQL's reading of the map: its major version.
    #[schema(example = 16)]
    pub postgres: u32,
    /// Which content of the map.
    pub map_revision: String,
}

/// A line, and where it is asked.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, ToSchema)]
pub struct PlacedLine {
    /// The way in; left out for a duty, whose maps are the same for every way in.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(example = "corp")]
    pub way: Option<String>,
    /// The map.
    #[schema(example = "corp")]
    pub map: String,
    /// Whether it is asked about people or about groups.
    pub of: NameOf,
    /// Whether every spelling in upper and lower case of the names that it spells out is meant: its
    /// map is used with `caseins_users`. Left out when it is not.
    #[serde(skip_serializing_if = "Not::not")]
    pub any_case: bool,
    /// The line.
    #[serde(flatten)]
    pub line: MapLine,
}

/// A line that lets somebody in.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, ToSchema)]
pub struct LineLetsIn {
    /// The line, and where it is asked.
    #[serde(flatten)]
    pub at: PlacedLine,
    /// Whom it lets in.
    pub who: Who,
    /// The group role of which the role must be a member, when it is not known whether it is.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(example = "staff")]
    pub if_member_of: Option<String>,
    /// How it spells the role, where upper and lower case are others than was asked and do not count.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(example = "Orders_Read")]
    pub role_spelled: Option<String>,
    /// That it was not found out whether anybody at all comes by it, for that would take too long or
    /// cannot be said of its regular expression. Left out where somebody does.
    #[serde(skip_serializing_if = "Not::not")]
    pub perhaps_nobody: bool,
    /// The first lines before it that end the scan for some whom it is about, at most 20; `ends` has
    /// what is written there.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub but_for: Vec<LinePlace>,
    /// How many more of them there are; `ends` has them.
    #[serde(skip_serializing_if = "is_none")]
    #[schema(example = 3)]
    pub but_for_others: usize,
}

/// Where a line stands, without what is written there: one line may be named by thousands.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, ToSchema)]
pub struct LinePlace {
    /// The file, as the configuration or the line that includes it names it.
    #[schema(example = "pg_ident.conf")]
    pub file: String,
    /// The line in it, from 1.
    #[schema(example = 3)]
    pub line: u32,
}

impl LinePlace {
    pub(super) fn of(rule: RuleView<'_>) -> Self {
        let RuleRef { file, line } = rule.reference();
        Self { file, line }
    }
}

impl fmt::Display for LinePlace {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(formatter, "{}:{}", self.file, self.line)
    }
}

/// Whom a line is about.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, ToSchema)]
#[serde(rename_all = "snake_case")]
pub enum Who {
    /// This name.
    #[schema(example = "alice")]
    Name(String),
    /// Every name.
    Everybody,
    /// Every name that this regular expression matches.
    #[schema(example = "^(.*)@CORP\\.TEST$")]
    Pattern(String),
    /// The names that this regular expression matches so that group 1 is as given.
    Capture {
        /// The regular expression.
        pattern: String,
        /// What group 1 must be.
        capture: String,
    },
}

/// A line that ends the scan.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, ToSchema)]
pub struct LineEnds {
    /// The line, and where it is asked.
    #[serde(flatten)]
    pub at: PlacedLine,
    /// For whom; of those that a regular expression matches, some or all.
    pub who: Who,
}

/// A line that gives the role and lets nobody in.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, ToSchema)]
pub struct LineNever {
    /// The line, and where it is asked.
    #[serde(flatten)]
    pub at: PlacedLine,
    /// The earlier line that decides in its place, or the last of several; left out when it is about
    /// nobody.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub because_of: Option<LinePlace>,
    /// Why: what that line does, or that it is about nobody.
    pub which: WhyNever,
}

/// Why a line lets nobody in.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, ToSchema)]
#[serde(rename_all = "snake_case")]
pub enum WhyNever {
    /// An earlier line lets the same in.
    LetsIn,
    /// An earlier line ends in an error, which denies.
    EndsTheScan,
    /// It is about no name that anybody can have.
    AboutNobody,
}

/// An answer, and the line that it rests on.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, ToSchema)]
pub struct LineAnswer {
    /// The answer; `unknown` when it depends on memberships that are not known.
    pub verdict: Verdict,
    /// Why.
    pub cause: Cause,
    /// The line that decides, or the first that may.
    #[serde(flatten)]
    pub line: MapLine,
    /// The group by which it does; left out when it is their own name.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(example = "cn=readers,ou=groups,dc=example,dc=test")]
    pub group: Option<String>,
}

/// One of many people who were asked about, and who may act as the role.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, ToSchema)]
pub struct PersonCan {
    /// The way in.
    #[schema(example = "corp")]
    pub way: String,
    /// The name.
    #[schema(example = "alice")]
    pub system_user: String,
    /// `allowed` or `unknown`, and by which line.
    #[serde(flatten)]
    pub answer: LineAnswer,
}

/// All that somebody may act as.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, ToSchema)]
pub struct WhatCan {
    /// The way in.
    #[schema(example = "corp")]
    pub way: String,
    /// The name.
    #[schema(example = "alice")]
    pub system_user: String,
    /// The groups, in order.
    #[schema(example = json!(["cn=readers,ou=groups,dc=example,dc=test"]))]
    pub groups: Vec<String>,
    /// The map of groups, when no group was named to ask it about: it may give them more.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(example = "corp-groups")]
    pub unasked_group_map: Option<String>,
    /// The roles, in the order of the configuration, without those that are denied because no line
    /// gives them.
    pub roles: Vec<RoleAnswer>,
    /// The duties of the broker's own, likewise.
    pub duties: Vec<DutyAnswer>,
    /// Which PostgreSQL's reading of the map: its major version.
    #[schema(example = 16)]
    pub postgres: u32,
    /// Which content of the map.
    pub map_revision: String,
}

/// One role that somebody may act as, or that a failing line or an unknown membership keeps from
/// them.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, ToSchema)]
pub struct RoleAnswer {
    /// The cluster.
    #[schema(example = "orders")]
    pub cluster: String,
    /// The role.
    #[schema(example = "orders_read")]
    pub role: String,
    /// The answer, and by which line.
    #[serde(flatten)]
    pub answer: LineAnswer,
    /// The terms on which the cluster lends it.
    pub terms: LentTerms,
}

/// One duty of the broker's own that somebody has, or that a failing line keeps from them.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, ToSchema)]
pub struct DutyAnswer {
    /// The duty: `auditor` or `operator`.
    #[schema(example = "auditor")]
    pub duty: String,
    /// The answer, and by which line.
    #[serde(flatten)]
    pub answer: LineAnswer,
}
