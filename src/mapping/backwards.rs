//! The map asked backwards: who may act as a role, and as what somebody may act.
//!
//! Both go by the same steps as a decision. What is exact about people who are listed is an answer
//! for each; about people who are not, it is the lines that let somebody in, each with the lines
//! before it that end the scan for some of those whom it is about.

use std::collections::{HashMap, HashSet};
use std::ops::ControlFlow;

use serde::Serialize;
use utoipa::ToSchema;

use super::explain::{Cause, InquiryError, LentTerms, NameOf, UnverifiedPerson, Verdict};
use super::scan::{Arrival, Asked, Course, KnownMembers, MapLine, Of, Said, Step, readable};
use super::{
    Case, DatabaseUserView, IdentMap, Index, Policy, Question, RoleAlone, RuleView, SystemUserView,
};
use crate::names::{ClusterName, MapName, RoleName, WayName};

/// Who may act as a role on a cluster, as the lines say it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, ToSchema)]
pub struct WhoCan {
    /// The cluster.
    #[schema(example = "orders")]
    pub cluster: String,
    /// The role.
    #[schema(example = "orders_read")]
    pub role: String,
    /// The terms on which the cluster lends the role; left out when it does not, and then nobody
    /// may act as it, whatever the lines say.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub terms: Option<LentTerms>,
    /// The lines that let somebody in.
    pub lines: Vec<LineLetsIn>,
    /// The lines that end the scan for whom they are about: denied, also where a later line or a
    /// group would let them in.
    pub ends: Vec<LineEnds>,
    /// The lines that give the role and never decide.
    pub never: Vec<LineNever>,
    /// Which PostgreSQL's reading of the map: its major version.
    #[schema(example = 16)]
    pub postgres: u32,
    /// Which content of the map.
    pub map_revision: String,
}

/// A line that lets somebody in.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, ToSchema)]
pub struct LineLetsIn {
    /// The way in.
    #[schema(example = "corp")]
    pub way: String,
    /// The map.
    #[schema(example = "corp")]
    pub map: String,
    /// Whether it is about people or about groups.
    pub of: NameOf,
    /// Whom it lets in.
    pub who: Who,
    /// The line.
    #[serde(flatten)]
    pub line: MapLine,
    /// The group role of which the role must be a member, when it is not known whether it is.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(example = "staff")]
    pub if_member_of: Option<String>,
    /// The first lines before it that end the scan for some whom it is about, at most 20.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub but_for: Vec<MapLine>,
    /// How many more of them there are; `ends` has them all.
    #[serde(skip_serializing_if = "is_none")]
    #[schema(example = 3)]
    pub but_for_others: usize,
}

#[expect(clippy::trivially_copy_pass_by_ref, reason = "serde asks with a reference")]
fn is_none(count: &usize) -> bool {
    *count == 0
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
    /// The way in.
    #[schema(example = "corp")]
    pub way: String,
    /// The map.
    #[schema(example = "corp")]
    pub map: String,
    /// Whether it is about people or about groups.
    pub of: NameOf,
    /// For whom; of those that a regular expression matches, some or all.
    pub who: Who,
    /// The line.
    #[serde(flatten)]
    pub line: MapLine,
}

/// A line that gives the role and never decides.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, ToSchema)]
pub struct LineNever {
    /// The way in.
    #[schema(example = "corp")]
    pub way: String,
    /// The map.
    #[schema(example = "corp")]
    pub map: String,
    /// The line.
    #[serde(flatten)]
    pub line: MapLine,
    /// The earlier line that decides in its place.
    pub because_of: MapLine,
    /// What that does: it lets them in already, or it ends the scan, which denies.
    pub which: Earlier,
}

/// What an earlier line does.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, ToSchema)]
#[serde(rename_all = "snake_case")]
pub enum Earlier {
    /// It lets the same in.
    LetsIn,
    /// It ended in an error, which denies.
    EndsTheScan,
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
    /// `allowed`, or `unknown` when it depends on memberships that are not known.
    pub verdict: Verdict,
    /// The line that lets them in, or the first that may.
    #[serde(flatten)]
    pub line: MapLine,
    /// The group by which it does; left out when it is their own name.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(example = "cn=readers,ou=groups,dc=example,dc=test")]
    pub group: Option<String>,
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
    /// The answer.
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
    /// The terms on which the cluster lends it.
    pub terms: LentTerms,
}

impl Policy {
    /// Who may act as `role` on `cluster`, by every way in, as the lines say it.
    ///
    /// # Errors
    /// When the cluster is not configured.
    pub fn who_can(
        &self,
        cluster: &ClusterName,
        role: &RoleName,
        members: &KnownMembers,
    ) -> Result<WhoCan, InquiryError> {
        let target = self.target(cluster)?;
        let profile = target.profiles.iter().find(|profile| profile.role == *role);
        let mut answer = WhoCan {
            cluster: cluster.to_string(),
            role: role.to_string(),
            terms: profile.map(|profile| LentTerms::of(profile, None)),
            lines: Vec::new(),
            ends: Vec::new(),
            never: Vec::new(),
            postgres: self.map.dialect().major(),
            map_revision: self.map.revision().to_string(),
        };
        for (way, maps) in &self.ways {
            // Whoever a line about people denies is not let in by a group either.
            let mut ending = Ending::default();
            for (map, of) in maps.each() {
                let lines = RoleLines::of(&self.map, map, maps.case, role, members);
                Survey { way, map, of, lines: &lines }.write(&mut answer, &mut ending);
            }
        }
        Ok(answer)
    }

    /// Which of `people` may act as `role` on `cluster`: exactly those whom a decision lets in, in
    /// their order, and those for whom it depends on memberships that are not known. The networks
    /// of the role are not asked.
    ///
    /// # Errors
    /// When the cluster is not configured. Whoever comes by a way in that is not configured may act
    /// as nothing.
    pub fn who_of<'p>(
        &self,
        cluster: &ClusterName,
        role: &RoleName,
        members: &KnownMembers,
        people: impl IntoIterator<Item = &'p UnverifiedPerson>,
    ) -> Result<Vec<PersonCan>, InquiryError> {
        let target = self.target(cluster)?;
        if target.profiles.iter().all(|profile| profile.role != *role) {
            return Ok(Vec::new());
        }
        let mut desk = Desk::new(self, role, members);
        let found = people.into_iter().filter_map(|person| desk.judge(person));
        Ok(found.collect())
    }

    /// All that `person` may act as, on every cluster.
    ///
    /// # Errors
    /// When the way in is not configured.
    pub fn what_can<'k>(
        &self,
        person: &UnverifiedPerson,
        members: impl Fn(&ClusterName) -> &'k KnownMembers,
    ) -> Result<WhatCan, InquiryError> {
        let maps = self.maps_of(person.way())?;
        let mut roles = Vec::new();
        for target in &self.targets {
            let members = members(&target.cluster);
            for profile in &target.profiles {
                let arrival = self.arrive(maps, person, &profile.role, members, |_| {});
                let Some((verdict, cause, step)) = answer(arrival) else { continue };
                roles.push(RoleAnswer {
                    cluster: target.cluster.to_string(),
                    role: profile.role.to_string(),
                    verdict,
                    cause,
                    line: step.line.clone(),
                    group: step.group(),
                    terms: LentTerms::of(profile, None),
                });
            }
        }
        Ok(WhatCan {
            way: person.way().to_string(),
            system_user: person.system_user().to_owned(),
            groups: person.groups().to_vec(),
            unasked_group_map: maps.unasked_group_map(person),
            roles,
            postgres: self.map.dialect().major(),
            map_revision: self.map.revision().to_string(),
        })
    }
}

/// What follows for one role: nothing when no line gives it to them.
fn answer(arrival: Arrival) -> Option<(Verdict, Cause, Step)> {
    match arrival {
        Arrival::NoMatch => None,
        Arrival::Allowed { by, .. } => Some((Verdict::Allowed, Cause::Mapped, by)),
        Arrival::Failed { at, .. } => Some((Verdict::Denied, Cause::MapFailed, at)),
        Arrival::Open(open) => {
            let first = open.into_iter().next()?;
            Some((Verdict::Unknown, Cause::MembersUnknown, first))
        }
    }
}

/// The lines of one map that matter to who may act as one role: those that can give it, and those
/// that can end the scan before one that does. The others say nothing to anybody who asks for it.
struct RoleLines<'m> {
    asked: Question<'m>,
    members: &'m KnownMembers,
    /// In file order.
    rules: Vec<RuleView<'m>>,
    /// Which of them may be about whom.
    index: Index,
}

impl<'m> RoleLines<'m> {
    fn of(
        map: &'m IdentMap,
        name: &'m MapName,
        case: Case,
        role: &'m RoleName,
        members: &'m KnownMembers,
    ) -> Self {
        let role = role.as_str().as_bytes();
        let memberships = members.memberships();
        let asked = Question { map: name, system_user: b"", role, case, members: memberships };
        let mut lines = Self { asked, members, rules: Vec::new(), index: Index::default() };
        let mut seen = Seen::default();
        for rule in map.rules(name) {
            lines.push(rule, &mut seen);
        }
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

    fn said(&self, rule: RuleView<'_>, name: &[u8]) -> Said {
        Said::by(rule, &Question { system_user: name, ..self.asked }, self.members)
    }

    fn gives(&self, rule: RuleView<'_>) -> Gives {
        match rule.role_alone(&self.asked) {
            RoleAlone::Yes => Gives::Role,
            RoleAlone::WithCapture(capture) => Gives::ByCapture(capture),
            RoleAlone::No => match rule.database_user() {
                DatabaseUserView::MemberOf(group) if !self.members.tells(group) => {
                    Gives::IfMemberOf(readable(group))
                }
                _ => Gives::Nothing,
            },
        }
    }

    /// What the lines say of `name` that matters, up to the one that decides.
    fn steps(&self, name: &[u8]) -> Steps {
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
    fn all_said<'s>(&'s self, name: &'s [u8]) -> impl Iterator<Item = (usize, Said)> + 's {
        self.about(name).filter_map(move |(index, rule)| match self.said(rule, name) {
            Said::OtherUser | Said::OtherRole { .. } => None,
            said => Some((index, said)),
        })
    }

    /// The lines that may be about `name`, in file order.
    fn about(&self, name: &[u8]) -> impl Iterator<Item = (usize, RuleView<'m>)> {
        let places = self.index.that_may_match(name).into_iter();
        places.filter_map(|place| Some((place, *self.rules.get(place)?)))
    }

    /// Whether a line is about those whom a regular expression matches.
    fn is_pattern(&self, place: usize) -> bool {
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
enum Gives {
    Nothing,
    /// It gives the role to all whom it is about.
    Role,
    /// It gives the role to those whose capture is this.
    ByCapture(Vec<u8>),
    /// It gives the role if that is a member of this group, which is not known.
    IfMemberOf(String),
}

/// Most lines that are named as ending the scan before each line that lets somebody in: a map may
/// have thousands of either.
const BUT_FOR: usize = 20;

/// Lines that may end the scan for some.
#[derive(Clone, Default)]
struct Ending {
    lines: Vec<MapLine>,
    /// How many are not among them.
    others: usize,
}

impl Ending {
    fn push(&mut self, line: MapLine) {
        if self.lines.len() < BUT_FOR {
            self.lines.push(line);
        } else {
            self.others += 1;
        }
    }
}

/// The lines of one map for one role, told one by one.
struct Survey<'s> {
    way: &'s WayName,
    map: &'s MapName,
    of: Of,
    lines: &'s RoleLines<'s>,
}

impl Survey<'_> {
    /// Tells each line in order. `ending` has those that may end the scan for some, so far.
    fn write(&self, answer: &mut WhoCan, ending: &mut Ending) {
        // Those that decide for all whom they are about, by their regular expression.
        let mut deciding: HashMap<Vec<u8>, MapLine> = HashMap::new();
        for (index, rule) in self.lines.rules.iter().copied().enumerate() {
            match rule.system_user() {
                SystemUserView::Literal(name) => {
                    self.write_name(index, rule, name, ending, answer);
                }
                SystemUserView::Pattern(pattern) => {
                    if let Some(earlier) = deciding.get(pattern).or_else(|| deciding.get(&b""[..]))
                    {
                        self.write_never(rule, earlier.clone(), Earlier::LetsIn, answer);
                        continue;
                    }
                    self.write_pattern(rule, pattern, ending, answer);
                    if rule.may_fail() {
                        ending.push(MapLine::of(rule));
                    } else if self.lines.gives(rule) == Gives::Role {
                        let all =
                            if is_everything(pattern) { Vec::new() } else { pattern.to_vec() };
                        deciding.insert(all, MapLine::of(rule));
                    }
                }
            }
        }
    }

    /// A line with a name: what decides for that name is known to the end. Where case does not
    /// count it is many names, and regular expressions before it may decide for some of them.
    fn write_name(
        &self,
        index: usize,
        rule: RuleView<'_>,
        name: &[u8],
        ending: &Ending,
        answer: &mut WhoCan,
    ) {
        let is_one_name = self.lines.asked.case == Case::Sensitive;
        let counts = |step: usize| is_one_name || !self.lines.is_pattern(step);
        let is_decisive = |said: &Said| !matches!(said, Said::Unknown { .. });
        let decided = self
            .lines
            .all_said(name)
            .find(|(step, said)| *step == index || (is_decisive(said) && counts(*step)));
        let who = Who::Name(readable(name));
        // For one name nothing else counts; but who is in a group has a name too, and other groups.
        let but_for = match (self.of, is_one_name) {
            (Of::Person, true) => Ending::default(),
            (Of::Person, false) | (Of::Group, _) => ending.clone(),
        };
        match decided {
            Some((step, said)) if step == index => {
                let group = match said {
                    Said::Unknown { group } => Some(readable(&group)),
                    _ => None,
                };
                self.write_lets_in(rule, who, group, but_for, answer);
            }
            Some((step, said)) => {
                let Some(earlier) = self.lines.rules.get(step).copied() else { return };
                let which = match said {
                    Said::Fails { .. } => Earlier::EndsTheScan,
                    _ => Earlier::LetsIn,
                };
                self.write_never(rule, MapLine::of(earlier), which, answer);
            }
            None => {}
        }
    }

    fn write_pattern(
        &self,
        rule: RuleView<'_>,
        pattern: &[u8],
        ending: &Ending,
        answer: &mut WhoCan,
    ) {
        if rule.may_fail() {
            self.write_ends(rule, Who::Pattern(readable(pattern)), answer);
        }
        let all = || {
            if is_everything(pattern) { Who::Everybody } else { Who::Pattern(readable(pattern)) }
        };
        let (who, group) = match self.lines.gives(rule) {
            Gives::Nothing => return,
            Gives::Role => (all(), None),
            Gives::IfMemberOf(group) => (all(), Some(group)),
            Gives::ByCapture(capture) => {
                let (pattern, capture) = (readable(pattern), readable(&capture));
                (Who::Capture { pattern, capture }, None)
            }
        };
        self.write_lets_in(rule, who, group, ending.clone(), answer);
    }

    fn write_lets_in(
        &self,
        rule: RuleView<'_>,
        who: Who,
        if_member_of: Option<String>,
        ending: Ending,
        answer: &mut WhoCan,
    ) {
        let (way, map) = (self.way.to_string(), self.map.to_string());
        let (of, line) = (self.of.into(), MapLine::of(rule));
        let Ending { lines: but_for, others: but_for_others } = ending;
        answer.lines.push(LineLetsIn {
            way,
            map,
            of,
            who,
            line,
            if_member_of,
            but_for,
            but_for_others,
        });
    }

    fn write_ends(&self, rule: RuleView<'_>, who: Who, answer: &mut WhoCan) {
        let (way, map) = (self.way.to_string(), self.map.to_string());
        let (of, line) = (self.of.into(), MapLine::of(rule));
        answer.ends.push(LineEnds { way, map, of, who, line });
    }

    fn write_never(
        &self,
        rule: RuleView<'_>,
        because_of: MapLine,
        which: Earlier,
        answer: &mut WhoCan,
    ) {
        let (way, map) = (self.way.to_string(), self.map.to_string());
        answer.never.push(LineNever { way, map, line: MapLine::of(rule), because_of, which });
    }
}

/// Whether every name matches, as far as that is plain to see.
fn is_everything(pattern: &[u8]) -> bool {
    let inner = pattern.strip_prefix(b"^").unwrap_or(pattern);
    let inner = inner.strip_suffix(b"$").unwrap_or(inner);
    // One anchor alone, or none, leaves room for anything on the other side.
    matches!(inner, b".*" | b"(.*)") || (inner.is_empty() && pattern.len() < 2)
}

/// What lines said of a name that mattered, up to the one that decides.
type Steps = Vec<(usize, Said)>;

/// Judges many people about one role, each name of a map once.
struct Desk<'d> {
    policy: &'d Policy,
    role: &'d RoleName,
    members: &'d KnownMembers,
    lines: HashMap<(&'d MapName, bool), RoleLines<'d>>,
    groups: HashMap<(&'d MapName, bool, &'d str), Steps>,
}

impl<'d> Desk<'d> {
    fn new(policy: &'d Policy, role: &'d RoleName, members: &'d KnownMembers) -> Self {
        Self { policy, role, members, lines: HashMap::new(), groups: HashMap::new() }
    }

    fn judge(&mut self, person: &'d UnverifiedPerson) -> Option<PersonCan> {
        let maps = self.policy.ways.get(person.way())?;
        let groups = person.groups().iter().map(String::as_str);
        let mut course = Course::default();
        for asked in maps.asked(person.system_user(), groups) {
            if self.pass(&asked, &mut course).is_break() {
                break;
            }
        }
        let (verdict, _, step) = answer(course.arrive())?;
        (verdict != Verdict::Denied).then(|| PersonCan {
            way: person.way().to_string(),
            system_user: person.system_user().to_owned(),
            verdict,
            line: step.line.clone(),
            group: step.group(),
        })
    }

    /// Goes down the lines of one map with one name.
    fn pass(&mut self, asked: &Asked<'d>, course: &mut Course) -> ControlFlow<()> {
        let is_folded = asked.case == Case::Insensitive;
        let key = (asked.map, is_folded);
        let lines = self.lines.entry(key).or_insert_with(|| {
            RoleLines::of(&self.policy.map, asked.map, asked.case, self.role, self.members)
        });
        let name = asked.name.as_bytes();
        let own;
        let steps = match asked.of {
            Of::Person => {
                own = lines.steps(name);
                &own
            }
            // Groups come again and again.
            Of::Group => {
                let key = (asked.map, is_folded, asked.name);
                self.groups.entry(key).or_insert_with(|| lines.steps(name))
            }
        };
        for (index, said) in steps {
            let Some(rule) = lines.rules.get(*index) else { continue };
            course.take(asked, *rule, said)?;
        }
        ControlFlow::Continue(())
    }
}

#[cfg(test)]
mod tests;
