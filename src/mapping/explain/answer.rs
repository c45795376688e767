//! What an explanation says, as people and programs read it.

use std::fmt;
use std::net::IpAddr;
use std::ops::Not;

use serde::Serialize;
use utoipa::ToSchema;

use crate::mapping::near::Near;
use crate::mapping::scan::{MapLine, Of, is_none};
use crate::mapping::{Profile, ReasonRule};

/// Whether somebody may act as a role.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, ToSchema)]
#[serde(rename_all = "lowercase")]
pub enum Verdict {
    /// They may.
    Allowed,
    /// They may not.
    Denied,
    /// It depends on memberships that are not known.
    Unknown,
}

/// Why: one stable word.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, ToSchema)]
#[serde(rename_all = "snake_case")]
pub enum Cause {
    /// A line of the map lets them in.
    Mapped,
    /// No line of the map does.
    NotMapped,
    /// A line of the map ended in an error, which denies.
    MapFailed,
    /// The cluster does not lend the role.
    NoProfile,
    /// The role is not issued to the address.
    Network,
    /// It depends on the members of a group role, and they are not known.
    MembersUnknown,
}

/// Why somebody may act as a role on a cluster, or may not.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, ToSchema)]
pub struct Explanation {
    /// The answer.
    pub verdict: Verdict,
    /// Why, as one word.
    pub cause: Cause,
    /// Why, as a sentence.
    #[schema(
        example = "pg_ident.conf:3 lets group `cn=readers,ou=groups,dc=example,dc=test` act as `orders_read`"
    )]
    pub reason: String,
    /// The way in; left out for a duty of the broker's own, whose maps are the same for every way in,
    /// unless one was named.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(example = "corp")]
    pub way: Option<String>,
    /// The name that the maps were asked about.
    #[schema(example = "alice")]
    pub system_user: String,
    /// The groups that the maps were asked about, in order.
    #[schema(example = json!(["cn=readers,ou=groups,dc=example,dc=test"]))]
    pub groups: Vec<String>,
    /// The cluster; left out for a duty of the broker's own.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(example = "orders")]
    pub cluster: Option<String>,
    /// The role, or the duty.
    #[schema(example = "orders_read")]
    pub role: String,
    /// The line that decided; left out when none did.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub rule: Option<MapLine>,
    /// The group that it decided for; left out when that was the person's own name.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(example = "cn=readers,ou=groups,dc=example,dc=test")]
    pub by_group: Option<String>,
    /// Lines that would decide if the role were a member of their group role, which is not known: the
    /// first of them, each once.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub undecided: Vec<MapLine>,
    /// How many more of them there are.
    #[serde(skip_serializing_if = "is_none")]
    #[schema(example = 3)]
    pub undecided_others: usize,
    /// Each map that was asked, in order, with each name that it was asked about.
    pub asked: Vec<AskedMap>,
    /// Lines asked that are not listed, since there are too many. What decided is listed in any case.
    #[schema(example = 0)]
    pub unlisted_lines: usize,
    /// The map of groups, when no group was named to ask it about.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(example = "corp-groups")]
    pub unasked_group_map: Option<String>,
    /// Lines that nearly let them in, when no line did, at most 5.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub near: Vec<NearMiss>,
    /// How to be told which lines nearly let them in, when no line did and that was not looked for.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(
        example = "name one role (`role`, `--role`) to be told which lines nearly let them in"
    )]
    pub near_unsought: Option<&'static str>,
    /// The terms on which the cluster lends the role; left out when it does not, and for a duty.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub terms: Option<LentTerms>,
    /// Which PostgreSQL's reading of the map: its major version.
    #[schema(example = 16)]
    pub postgres: u32,
    /// Which content of the map.
    pub map_revision: String,
}

/// One map that was asked about one name.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, ToSchema)]
pub struct AskedMap {
    /// The map.
    #[schema(example = "corp")]
    pub map: String,
    /// Whose name it is.
    pub of: NameOf,
    /// The name.
    #[schema(example = "alice")]
    pub name: String,
    /// Whether the case of letters does not count where a line spells a name or a role out: the map
    /// is used with `caseins_users`. Left out when it counts.
    #[serde(skip_serializing_if = "Not::not")]
    pub any_case: bool,
    /// Its lines, in order, up to the one that decided.
    pub lines: Vec<AskedLine>,
}

/// Whose name a map was asked about.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, ToSchema)]
#[serde(rename_all = "lowercase")]
pub enum NameOf {
    /// The person's own.
    Person,
    /// That of a group of theirs.
    Group,
}

/// One line, and what it said.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, ToSchema)]
pub struct AskedLine {
    /// The line.
    #[serde(flatten)]
    pub line: MapLine,
    /// What it said.
    pub said: LineSaid,
    /// What group 1 of its regular expression matched.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(example = "alice")]
    pub capture: Option<String>,
    /// The role that it gives with that, or the role, group or expression that it names, when it is
    /// not what was asked for.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(example = "orders_read")]
    pub gives: Option<String>,
    /// How it spells the name and the role that it lets in, where upper and lower case are others than
    /// was asked and do not count.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub spelled: Option<Spelled>,
    /// Why it ended in an error, in PostgreSQL's words.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub error: Option<String>,
}

/// How a line spells what it lets in, where that is not how it was asked.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, ToSchema)]
pub struct Spelled {
    /// The name; left out when it is spelled as it was asked.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(example = "Alice")]
    pub name: Option<String>,
    /// The role; likewise.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(example = "Orders_Read")]
    pub role: Option<String>,
}

/// What a line said.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, ToSchema)]
#[serde(rename_all = "snake_case")]
pub enum LineSaid {
    /// It is about another name.
    OtherUser,
    /// It is about this name, and gives another role.
    OtherRole,
    /// It lets them in.
    Allows,
    /// It ended in an error, which denies; no later line was asked.
    Fails,
    /// It lets the members of a group role in, and whether the role is one is not known.
    Unknown,
}

/// A line that nearly let somebody in.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, ToSchema)]
pub struct NearMiss {
    /// The line.
    #[serde(flatten)]
    pub line: MapLine,
    /// What is different.
    pub differs: Near,
    /// The same as a sentence.
    pub detail: String,
}

/// The terms on which a cluster lends a role.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, ToSchema)]
pub struct LentTerms {
    /// The databases it is lent for.
    #[schema(example = json!(["orders"]))]
    pub databases: Vec<String>,
    /// How long a lease lives when nothing is asked.
    #[schema(example = 3600)]
    pub ttl_seconds: u32,
    /// How long a lease may live with all renewals.
    #[schema(example = 28800)]
    pub max_ttl_seconds: u32,
    /// Whether a reason must be given.
    pub reason_required: bool,
    /// The networks it is issued to; left out when that is any.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(example = json!(["10.0.0.0/8"]))]
    pub networks: Option<Vec<String>>,
    /// What that says of the address that was named.
    pub network: NetworkSaid,
}

/// What the networks of a role say of an address.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, ToSchema)]
#[serde(rename_all = "snake_case")]
pub enum NetworkSaid {
    /// It is issued to any.
    Any,
    /// It is issued to this one.
    Admitted,
    /// It is not issued to this one.
    NotAdmitted,
    /// No address was named.
    NotAsked,
}

impl From<Of> for NameOf {
    fn from(of: Of) -> Self {
        match of {
            Of::Person => Self::Person,
            Of::Group => Self::Group,
        }
    }
}

impl fmt::Display for Spelled {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        let named = |what: &str, name: &Option<String>| {
            name.as_ref().map(|name| format!("`{name}` for the {what}"))
        };
        let all = [named("name", &self.name), named("role", &self.role)];
        let all: Vec<String> = all.into_iter().flatten().collect();
        write!(formatter, "the line has {}, and case does not count", all.join(" and "))
    }
}

impl LentTerms {
    pub(in crate::mapping) fn of(profile: &Profile, address: Option<IpAddr>) -> Self {
        let network = match (&profile.networks, address) {
            (None, _) => NetworkSaid::Any,
            (Some(_), None) => NetworkSaid::NotAsked,
            (Some(_), Some(address)) if profile.admits(address) => NetworkSaid::Admitted,
            (Some(_), Some(_)) => NetworkSaid::NotAdmitted,
        };
        let networks = profile.networks.as_ref();
        Self {
            databases: profile.databases.iter().map(ToString::to_string).collect(),
            ttl_seconds: profile.ttl.seconds(),
            max_ttl_seconds: profile.max_ttl.seconds(),
            reason_required: profile.reason == ReasonRule::Required,
            networks: networks.map(|all| all.iter().map(ToString::to_string).collect()),
            network,
        }
    }
}
