//! Why somebody may act as a role, or may not: every line that was asked, and what it said.

use std::net::IpAddr;

use serde::Serialize;
use utoipa::ToSchema;

use super::near::{self, Near};
use super::scan::{Arrival, Asked, Course, KnownMembers, MapLine, Of, Said, Step, readable};
use super::{
    Because, DatabaseUserView, IdentMap, Maps, Matched, Memberships, Policy, Profile, ReasonRule,
    RuleView, Target,
};
use crate::names::{ClusterName, RoleName, WayName};

/// Most lines that one explanation lists. All are asked, however many there are.
const LISTED_MAX: usize = 10_000;
/// Most near misses that are told.
const NEAR_MAX: usize = 5;

/// A question: may this person act as this role there? Nobody has proven who the person is.
#[derive(Clone, Copy, Debug)]
pub struct Inquiry<'a> {
    /// The person.
    pub person: &'a UnverifiedPerson,
    /// The cluster.
    pub cluster: &'a ClusterName,
    /// The role.
    pub role: &'a RoleName,
    /// What is known of the memberships there.
    pub members: &'a KnownMembers,
    /// Where they would ask from, if that is to count.
    pub address: Option<IpAddr>,
}

/// Somebody as a person describes them who asks about them.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct UnverifiedPerson {
    way: WayName,
    system_user: String,
    groups: Vec<String>,
}

impl UnverifiedPerson {
    /// Somebody who would come by `way` as `system_user` and be in `groups`.
    #[must_use]
    pub fn new(way: WayName, system_user: String, mut groups: Vec<String>) -> Self {
        // As a login has them.
        groups.sort();
        groups.dedup();
        Self { way, system_user, groups }
    }

    /// The way in.
    #[must_use]
    pub fn way(&self) -> &WayName {
        &self.way
    }

    /// What the map is asked about.
    #[must_use]
    pub fn system_user(&self) -> &str {
        &self.system_user
    }

    /// Their groups, in order, each once.
    #[must_use]
    pub fn groups(&self) -> &[String] {
        &self.groups
    }
}

impl Maps {
    /// The map of groups, when `person` names no group to ask it about.
    pub(super) fn unasked_group_map(&self, person: &UnverifiedPerson) -> Option<String> {
        let map = self.group_map.as_ref().filter(|_| person.groups.is_empty());
        map.map(ToString::to_string)
    }
}

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
    /// The way in.
    #[schema(example = "corp")]
    pub way: String,
    /// The name that the maps were asked about.
    #[schema(example = "alice")]
    pub system_user: String,
    /// The groups that the maps were asked about, in order.
    #[schema(example = json!(["cn=readers,ou=groups,dc=example,dc=test"]))]
    pub groups: Vec<String>,
    /// The cluster.
    #[schema(example = "orders")]
    pub cluster: String,
    /// The role.
    #[schema(example = "orders_read")]
    pub role: String,
    /// The line that decided; left out when none did.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub rule: Option<MapLine>,
    /// The group that it decided for; left out when that was the person's own name.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(example = "cn=readers,ou=groups,dc=example,dc=test")]
    pub by_group: Option<String>,
    /// Lines that would decide if the role were a member of their group role, which is not known.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub undecided: Vec<MapLine>,
    /// Each map that was asked, in order, with each name that it was asked about.
    pub asked: Vec<AskedMap>,
    /// Lines asked that are not listed, since there are too many.
    #[schema(example = 0)]
    pub unlisted_lines: usize,
    /// The map of groups, when no group was named to ask it about.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(example = "corp-groups")]
    pub unasked_group_map: Option<String>,
    /// Lines that nearly let them in, when no line did.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub near: Vec<NearMiss>,
    /// The terms on which the cluster lends the role; left out when it does not.
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
    /// Why it ended in an error, in PostgreSQL's words.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub error: Option<String>,
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

/// Why nothing can be explained.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum InquiryError {
    /// No cluster of this name is configured.
    #[error("no cluster `{0}` is configured")]
    UnknownCluster(ClusterName),
    /// No way in of this name is configured.
    #[error("no way in `{0}` is configured")]
    UnknownWay(WayName),
}

impl Policy {
    /// Explains whether somebody may act as a role: goes the way that [`Policy::entitle`] goes, and
    /// writes down what each line says.
    ///
    /// # Errors
    /// When cluster or way in are not configured.
    pub fn explain(&self, inquiry: &Inquiry<'_>) -> Result<Explanation, InquiryError> {
        let target = self.target(inquiry.cluster)?;
        let maps = self.maps_of(inquiry.person.way())?;
        let profile = target.profiles.iter().find(|profile| profile.role == *inquiry.role);
        let Inquiry { person, role, members, .. } = *inquiry;
        let mut minutes = Minutes { role, asked: Vec::new(), listed: 0, unlisted: 0 };
        let arrival = self.arrive(maps, person, role, members, |telling| minutes.take(telling));
        let outcome = Outcome::of(&arrival, profile.map(AsRef::as_ref), inquiry);
        let near = match outcome.cause {
            Cause::NotMapped => self.near_misses(maps, inquiry),
            _ => Vec::new(),
        };
        let (rule, open) = match arrival {
            Arrival::Allowed { by, or_earlier } => (Some(by), or_earlier),
            Arrival::Failed { at, .. } => (Some(at), Vec::new()),
            Arrival::NoMatch => (None, Vec::new()),
            Arrival::Open(open) => (None, open),
        };
        let mut undecided: Vec<MapLine> = open.into_iter().map(|step| step.line).collect();
        undecided.dedup();
        Ok(Explanation {
            verdict: outcome.verdict,
            cause: outcome.cause,
            reason: outcome.reason,
            way: person.way.to_string(),
            system_user: person.system_user.clone(),
            groups: person.groups.clone(),
            cluster: inquiry.cluster.to_string(),
            role: inquiry.role.to_string(),
            by_group: rule.clone().and_then(Step::group),
            rule: rule.map(|step| step.line),
            undecided,
            asked: minutes.asked,
            unlisted_lines: minutes.unlisted,
            unasked_group_map: maps.unasked_group_map(person),
            near,
            terms: profile.map(|profile| LentTerms::of(profile, inquiry.address)),
            postgres: self.map.dialect().major(),
            map_revision: self.map.revision().to_string(),
        })
    }

    /// The roles that `cluster` lends, in the order of the configuration.
    ///
    /// # Errors
    /// When the cluster is not configured.
    pub fn lent_on(&self, cluster: &ClusterName) -> Result<Vec<RoleName>, InquiryError> {
        let target = self.target(cluster)?;
        Ok(target.profiles.iter().map(|profile| profile.role.clone()).collect())
    }

    pub(super) fn target(&self, cluster: &ClusterName) -> Result<&Target, InquiryError> {
        let target = self.targets.iter().find(|target| target.cluster == *cluster);
        target.ok_or_else(|| InquiryError::UnknownCluster(cluster.clone()))
    }

    pub(super) fn maps_of(&self, way: &WayName) -> Result<&Maps, InquiryError> {
        self.ways.get(way).ok_or_else(|| InquiryError::UnknownWay(way.clone()))
    }

    /// Where somebody comes to who asks for `role`. Each line is shown to `tell` with what it said,
    /// and whether that decided.
    pub(super) fn arrive(
        &self,
        maps: &Maps,
        person: &UnverifiedPerson,
        role: &RoleName,
        members: &KnownMembers,
        mut tell: impl FnMut(Telling<'_, '_>),
    ) -> Arrival {
        let groups = person.groups.iter().map(String::as_str);
        let mut course = Course::default();
        for asked in maps.asked(&person.system_user, groups) {
            tell(Telling::Asks(&asked));
            let question = asked.question(role.as_str(), members.memberships());
            for rule in self.map.rules(asked.map) {
                let said = Said::by(rule, &question, members);
                let end = course.take(&asked, rule, &said);
                tell(Telling::Says { rule, said, decides: end.is_break() });
                if end.is_break() {
                    return course.arrive();
                }
            }
        }
        course.arrive()
    }

    /// The lines that would let somebody in if one thing about their name, or the role's, were
    /// different.
    fn near_misses(&self, maps: &Maps, inquiry: &Inquiry<'_>) -> Vec<NearMiss> {
        let person = inquiry.person;
        let groups = person.groups.iter().map(String::as_str);
        let mut found = Vec::new();
        for asked in maps.asked(&person.system_user, groups) {
            let question = asked.question(inquiry.role.as_str(), inquiry.members.memberships());
            for rule in self.map.rules(asked.map) {
                let Some((differs, detail)) = near::miss(rule, &question) else { continue };
                let line = MapLine::of(rule);
                if found.iter().all(|known: &NearMiss| known.line != line) {
                    found.push(NearMiss { line, differs, detail });
                }
                if found.len() == NEAR_MAX {
                    return found;
                }
            }
        }
        found
    }
}

impl Because {
    /// Asks `map`, which must be the one of that time, once more: the lines of the map that let them
    /// in, with what each says, and the one that allows it, if one does.
    #[must_use]
    pub fn explain(&self, map: &IdentMap, role: &RoleName) -> (AskedMap, Option<MapLine>) {
        let members = self.members.clone().unwrap_or_else(Memberships::none);
        let (of, members) = match &self.matched {
            Matched::Name(_) => (Of::Person, KnownMembers::all(members)),
            Matched::Group(_) => (Of::Group, KnownMembers::all(members)),
        };
        let asked = Asked { map: &self.map, of, name: self.matched.as_str(), case: self.case };
        let question = asked.question(role.as_str(), members.memberships());
        let mut minutes = Minutes { role, asked: Vec::new(), listed: 0, unlisted: 0 };
        minutes.take(Telling::Asks(&asked));
        let mut allowed = None;
        for rule in map.rules(asked.map) {
            let said = Said::by(rule, &question, &members);
            let is_allowed = matches!(said, Said::Allows { .. });
            let decides = is_allowed || matches!(said, Said::Fails { .. });
            minutes.take(Telling::Says { rule, said, decides });
            if decides {
                allowed = is_allowed.then(|| MapLine::of(rule));
                break;
            }
        }
        let nothing = || AskedMap::begin(&asked);
        (minutes.asked.pop().unwrap_or_else(nothing), allowed)
    }
}

/// The answer, with its reason.
struct Outcome {
    verdict: Verdict,
    cause: Cause,
    reason: String,
}

impl Outcome {
    /// What follows: the profile is asked for before the map, the address after it, as whoever asks
    /// for a lease is judged.
    fn of(arrival: &Arrival, profile: Option<&Profile>, inquiry: &Inquiry<'_>) -> Self {
        let Inquiry { cluster, role, .. } = inquiry;
        let Some(profile) = profile else {
            let reason = format!("cluster `{cluster}` does not lend role `{role}`");
            return Self { verdict: Verdict::Denied, cause: Cause::NoProfile, reason };
        };
        let turned_away = inquiry.address.filter(|address| !profile.admits(*address));
        match (arrival, turned_away) {
            (Arrival::NoMatch, _) => {
                let reason = format!("no line lets them act as `{role}`");
                Self { verdict: Verdict::Denied, cause: Cause::NotMapped, reason }
            }
            (Arrival::Failed { at, reason }, _) => {
                let rule = &at.line;
                let reason = format!("{rule} ends in an error, which denies: {reason}");
                Self { verdict: Verdict::Denied, cause: Cause::MapFailed, reason }
            }
            (_, Some(address)) => {
                let reason = format!("role `{role}` is not issued to {address}");
                Self { verdict: Verdict::Denied, cause: Cause::Network, reason }
            }
            (Arrival::Open(open), None) => {
                let mut rules: Vec<String> =
                    open.iter().map(|step| step.line.to_string()).collect();
                rules.dedup();
                let reason = format!(
                    "it depends on the members of a group role, which are not known: {}",
                    rules.join(", ")
                );
                Self { verdict: Verdict::Unknown, cause: Cause::MembersUnknown, reason }
            }
            (Arrival::Allowed { by, .. }, None) => {
                let reason = match by.of {
                    Of::Person => format!("{} lets `{}` act as `{role}`", by.line, by.name),
                    Of::Group => {
                        format!("{} lets group `{}` act as `{role}`", by.line, by.name)
                    }
                };
                Self { verdict: Verdict::Allowed, cause: Cause::Mapped, reason }
            }
        }
    }
}

/// What happens on the way down the lines.
pub(super) enum Telling<'t, 'm> {
    /// A map is asked about a name.
    Asks(&'t Asked<'t>),
    /// A line of it says this.
    Says { rule: RuleView<'m>, said: Said, decides: bool },
}

/// What is written down on the way.
struct Minutes<'r> {
    role: &'r RoleName,
    asked: Vec<AskedMap>,
    listed: usize,
    unlisted: usize,
}

impl Minutes<'_> {
    fn take(&mut self, telling: Telling<'_, '_>) {
        match telling {
            Telling::Asks(asked) => self.asked.push(AskedMap::begin(asked)),
            Telling::Says { rule, said, decides } => {
                // The line that decided, and those that may have, are listed in any case.
                let matters = decides || matches!(said, Said::Unknown { .. });
                if self.listed >= LISTED_MAX && !matters {
                    self.unlisted += 1;
                    return;
                }
                self.listed += 1;
                if let Some(asked) = self.asked.last_mut() {
                    asked.lines.push(AskedLine::of(rule, said, self.role));
                }
            }
        }
    }
}

impl AskedMap {
    fn begin(asked: &Asked<'_>) -> Self {
        Self {
            map: asked.map.to_string(),
            of: asked.of.into(),
            name: asked.name.to_owned(),
            lines: Vec::new(),
        }
    }
}

impl AskedLine {
    fn of(rule: RuleView<'_>, said: Said, role: &RoleName) -> Self {
        let line = MapLine::of(rule);
        let plain =
            |said| Self { line: line.clone(), said, capture: None, gives: None, error: None };
        let with = |said, capture: Option<Vec<u8>>| {
            let gives =
                Some(gives(rule, capture.as_deref())).filter(|gives| gives != role.as_str());
            let capture = capture.as_deref().map(readable);
            Self { capture, gives, ..plain(said) }
        };
        match said {
            Said::OtherUser => plain(LineSaid::OtherUser),
            Said::OtherRole { capture } => with(LineSaid::OtherRole, capture),
            Said::Allows { capture } => with(LineSaid::Allows, capture),
            Said::Fails { reason } => Self { error: Some(reason), ..plain(LineSaid::Fails) },
            Said::Unknown { .. } => with(LineSaid::Unknown, None),
        }
    }
}

/// What a line gives to whom it is about.
fn gives(rule: RuleView<'_>, capture: Option<&[u8]>) -> String {
    match rule.database_user() {
        DatabaseUserView::All => "all".to_owned(),
        DatabaseUserView::MemberOf(group) => format!("+{}", readable(group)),
        DatabaseUserView::Pattern(pattern) => format!("/{}", readable(pattern)),
        DatabaseUserView::Literal(role) => readable(role),
        DatabaseUserView::WithCapture { before, after } => {
            readable(&[before, capture.unwrap_or_default(), after].concat())
        }
    }
}

impl From<Of> for NameOf {
    fn from(of: Of) -> Self {
        match of {
            Of::Person => Self::Person,
            Of::Group => Self::Group,
        }
    }
}

impl LentTerms {
    pub(super) fn of(profile: &Profile, address: Option<IpAddr>) -> Self {
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

#[cfg(test)]
pub(super) mod stand;
#[cfg(test)]
mod tests;
