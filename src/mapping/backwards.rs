//! The map asked backwards: who may act as a role, and as what somebody may act.
//!
//! Both go by the same steps as a decision. What is exact about people who are listed is an answer
//! for each; about people who are not, it is the lines that let somebody in, each with the lines
//! before it that end the scan for some of those whom it is about.
//!
//! ```text
//! lines    those of a map that matter to one role
//!   -> survey   tells them one by one
//!   -> reach    whether anybody comes by one
//!   -> judge    goes down them with many people
//!   -> answer   what is told
//! ```

mod answer;
mod judge;
mod lines;
mod reach;
mod survey;
#[cfg(test)]
mod tests;

pub use answer::{
    DutyAnswer, LineAnswer, LineEnds, LineLetsIn, LineNever, PersonCan, PlacedLine, RoleAnswer,
    WhatCan, Who, WhoCan, WhyNever,
};

use super::explain::{Cause, InquiryError, LentTerms, Sought, Verdict, wanted};
use super::scan::{Arrival, KnownMembers};
use super::{Duty, Effort, Maps, Memberships, Policy, UnverifiedNames, UnverifiedPerson};
use crate::names::{ClusterName, RoleName, WayName};
use judge::Judge;
use lines::RoleLines;
use survey::{Ending, Survey};

impl Policy {
    /// Who may act as `role` on `cluster`, by every way in, as the lines say it. Where `effort` ends
    /// before it is found out whether anybody comes by a line, the line is told all the same.
    ///
    /// # Errors
    /// When the cluster is not configured, or the answer was called off.
    pub fn who_can(
        &self,
        cluster: &ClusterName,
        role: &RoleName,
        members: &KnownMembers,
        effort: &Effort<'_>,
    ) -> Result<WhoCan, InquiryError> {
        let (terms, not_lent) = match self.target(cluster)?.lends(role) {
            Ok(profile) => (Some(LentTerms::of(profile, None)), None),
            Err(reason) => (None, Some(reason)),
        };
        let ways = self.ways.iter().map(|(way, maps)| (Some(way), maps));
        let answer = self.survey(ways, Sought { role: role.as_str(), members, effort })?;
        Ok(WhoCan { cluster: Some(cluster.to_string()), terms, not_lent, ..answer })
    }

    /// Whether it turns on the memberships on `cluster` who may act as `role` there. Where it does
    /// not, the cluster need not be asked.
    #[must_use]
    pub fn who_turns_on_members(
        &self,
        cluster: &ClusterName,
        role: &RoleName,
        effort: &Effort<'_>,
    ) -> bool {
        if !self.ways.values().any(|maps| self.asks_members(maps)) {
            return false;
        }
        let who = self.who_can(cluster, role, &KnownMembers::nothing(), effort);
        who.is_ok_and(|WhoCan { not_lent, lines, unlisted_lines, .. }| {
            let turns = unlisted_lines > 0 || lines.iter().any(|line| line.if_member_of.is_some());
            not_lent.is_none() && turns
        })
    }

    /// Who has a duty of the broker's own, as the lines say it.
    ///
    /// # Errors
    /// When the answer was called off.
    pub fn who_has(&self, duty: Duty, effort: &Effort<'_>) -> Result<WhoCan, InquiryError> {
        let members = KnownMembers::all(Memberships::none());
        let maps = std::iter::once((None, &self.access));
        self.survey(maps, Sought { role: duty.as_str(), members: &members, effort })
    }

    fn survey<'p>(
        &'p self,
        maps: impl Iterator<Item = (Option<&'p WayName>, &'p Maps)>,
        sought: Sought<'_>,
    ) -> Result<WhoCan, InquiryError> {
        let mut answer = WhoCan {
            cluster: None,
            role: sought.role.to_owned(),
            terms: None,
            not_lent: None,
            lines: Vec::new(),
            ends: Vec::new(),
            never: Vec::new(),
            unlisted_lines: 0,
            postgres: self.map.dialect().major(),
            map_revision: self.map.revision().to_string(),
        };
        for (way, maps) in maps {
            // Whoever a line about people denies is not let in by a group either.
            let mut ending = Ending::default();
            for (map, of) in maps.each() {
                let lines = RoleLines::of(&self.map, map, maps.case, sought);
                let (dialect, effort) = (self.map.dialect(), sought.effort);
                let survey = Survey { way, map, of, lines: &lines, dialect, effort };
                survey.write(&mut answer, &mut ending);
            }
        }
        wanted(answer, sought.effort)
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
        if self.target(cluster)?.lends(role).is_err() {
            return Ok(Vec::new());
        }
        let effort = Effort::default();
        let sought = Sought { role: role.as_str(), members, effort: &effort };
        let mut judge = Judge::new(&self.map, sought);
        let known = people.into_iter().filter_map(|person| {
            let maps = self.ways.get(person.way())?;
            Some((maps, person))
        });
        Ok(known.filter_map(|(maps, person)| judge.judge(maps, person)).collect())
    }

    /// Which of `people` have a duty of the broker's own, in their order.
    pub fn who_of_duty<'p>(
        &self,
        duty: Duty,
        people: impl IntoIterator<Item = &'p UnverifiedPerson>,
    ) -> Vec<PersonCan> {
        let members = KnownMembers::all(Memberships::none());
        let effort = Effort::default();
        let sought = Sought { role: duty.as_str(), members: &members, effort: &effort };
        let mut judge = Judge::new(&self.map, sought);
        people.into_iter().filter_map(|person| judge.judge(&self.access, person)).collect()
    }

    /// All that `person` may act as, on every cluster, and their duties.
    ///
    /// # Errors
    /// When the way in is not configured, or the answer was called off.
    pub fn what_can<'k>(
        &self,
        person: &UnverifiedPerson,
        members: impl Fn(&ClusterName) -> &'k KnownMembers,
        effort: &Effort<'_>,
    ) -> Result<WhatCan, InquiryError> {
        let maps = self.maps_of(person.way())?;
        let mut roles = Vec::new();
        for target in &self.targets {
            let members = members(&target.cluster);
            for profile in &target.profiles {
                let sought = Sought { role: profile.role.as_str(), members, effort };
                let Some(answer) = self.answer(maps, person.names(), sought) else { continue };
                roles.push(RoleAnswer {
                    cluster: target.cluster.to_string(),
                    role: profile.role.to_string(),
                    answer,
                    terms: LentTerms::of(profile, None),
                });
            }
        }
        let answer = WhatCan {
            way: person.way().to_string(),
            system_user: person.system_user().to_owned(),
            groups: person.groups().to_vec(),
            unasked_group_map: maps.unasked_group_map(person.names()),
            roles,
            duties: self.duties_of(person.names(), effort),
            postgres: self.map.dialect().major(),
            map_revision: self.map.revision().to_string(),
        };
        wanted(answer, effort)
    }

    /// The duties of somebody of these names.
    fn duties_of(&self, names: &UnverifiedNames, effort: &Effort<'_>) -> Vec<DutyAnswer> {
        let members = KnownMembers::all(Memberships::none());
        let answer = |duty: Duty| {
            let sought = Sought { role: duty.as_str(), members: &members, effort };
            let answer = self.answer(&self.access, names, sought)?;
            Some(DutyAnswer { duty: duty.to_string(), answer })
        };
        Duty::ALL.into_iter().filter_map(answer).collect()
    }

    fn answer(
        &self,
        maps: &Maps,
        names: &UnverifiedNames,
        sought: Sought<'_>,
    ) -> Option<LineAnswer> {
        LineAnswer::of(self.arrive(maps, names, sought, |_| {}))
    }
}

impl LineAnswer {
    /// What follows for one role: nothing when no line gives it to them.
    fn of(arrival: Arrival) -> Option<Self> {
        let (verdict, cause, step) = match arrival {
            Arrival::NoMatch => return None,
            Arrival::Allowed { by, .. } => (Verdict::Allowed, Cause::Mapped, by),
            Arrival::Failed { at, .. } => (Verdict::Denied, Cause::MapFailed, at),
            Arrival::Open(open) => {
                let first = open.into_iter().next()?;
                (Verdict::Unknown, Cause::MembersUnknown, first)
            }
        };
        let line = step.line.clone();
        Some(Self { verdict, cause, line, group: step.group() })
    }
}
