//! The map asked backwards: who may act as a role, and as what somebody may act.
//!
//! Both go by the same steps as a decision. What is exact about people who are listed is an answer
//! for each; about people who are not, it is the lines that let somebody in, each with the lines
//! before it that end the scan for some of those whom it is about.
//!
//! ```text
//! lines    those of a map that matter to one role
//!   -> survey   tells them one by one
//!   -> judge    goes down them with many people
//!   -> answer   what is told
//! ```

mod answer;
mod judge;
mod lines;
mod survey;
#[cfg(test)]
mod tests;

pub use answer::{
    DutyAnswer, Earlier, LineAnswer, LineEnds, LineLetsIn, LineNever, PersonCan, PlacedLine,
    RoleAnswer, WhatCan, Who, WhoCan,
};

use super::explain::{Cause, InquiryError, LentTerms, Sought, Verdict};
use super::scan::{Arrival, KnownMembers};
use super::{Duty, Maps, Memberships, Policy, UnverifiedNames, UnverifiedPerson};
use crate::names::{ClusterName, RoleName, WayName};
use judge::Judge;
use lines::RoleLines;
use survey::{Ending, Survey};

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
        let (terms, not_lent) = match self.target(cluster)?.lends(role) {
            Ok(profile) => (Some(LentTerms::of(profile, None)), None),
            Err(reason) => (None, Some(reason)),
        };
        let ways = self.ways.iter().map(|(way, maps)| (Some(way), maps));
        let answer = self.survey(ways, Sought { role: role.as_str(), members });
        Ok(WhoCan { cluster: Some(cluster.to_string()), terms, not_lent, ..answer })
    }

    /// Who has a duty of the broker's own, as the lines say it.
    #[must_use]
    pub fn who_has(&self, duty: Duty) -> WhoCan {
        let members = KnownMembers::all(Memberships::none());
        let maps = std::iter::once((None, &self.access));
        self.survey(maps, Sought { role: duty.as_str(), members: &members })
    }

    fn survey<'p>(
        &'p self,
        maps: impl Iterator<Item = (Option<&'p WayName>, &'p Maps)>,
        sought: Sought<'_>,
    ) -> WhoCan {
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
                Survey { way, map, of, lines: &lines }.write(&mut answer, &mut ending);
            }
        }
        answer
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
        let mut judge = Judge::new(&self.map, Sought { role: role.as_str(), members });
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
        let sought = Sought { role: duty.as_str(), members: &members };
        let mut judge = Judge::new(&self.map, sought);
        people.into_iter().filter_map(|person| judge.judge(&self.access, person)).collect()
    }

    /// All that `person` may act as, on every cluster, and their duties.
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
                let sought = Sought { role: profile.role.as_str(), members };
                let Some(answer) = self.answer(maps, person.names(), sought) else { continue };
                roles.push(RoleAnswer {
                    cluster: target.cluster.to_string(),
                    role: profile.role.to_string(),
                    answer,
                    terms: LentTerms::of(profile, None),
                });
            }
        }
        Ok(WhatCan {
            way: person.way().to_string(),
            system_user: person.system_user().to_owned(),
            groups: person.groups().to_vec(),
            unasked_group_map: maps.unasked_group_map(person.names()),
            roles,
            duties: self.duties_of(person.names()),
            postgres: self.map.dialect().major(),
            map_revision: self.map.revision().to_string(),
        })
    }

    /// The duties of somebody of these names.
    fn duties_of(&self, names: &UnverifiedNames) -> Vec<DutyAnswer> {
        let members = KnownMembers::all(Memberships::none());
        let answer = |duty: Duty| {
            let sought = Sought { role: duty.as_str(), members: &members };
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
