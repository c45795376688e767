//! Why somebody may act as a role, or may not: every line that was asked, and what it said.
//!
//! ```text
//! inquiry    what is asked, of whom
//!   -> here  the way down the lines, as a decision takes it
//!   -> minutes, outcome    what each line said; what follows
//!   -> answer  what is told
//! ```

mod answer;
mod inquiry;
mod minutes;
mod outcome;
#[cfg(test)]
pub(super) mod stand;
#[cfg(test)]
mod tests;

pub use answer::{
    AskedLine, AskedMap, Cause, Explanation, LentTerms, LineSaid, NameOf, NearMiss, NetworkSaid,
    Spelled, Verdict,
};
pub use inquiry::{Inquiries, Inquiry, InquiryError};

pub(super) use minutes::Telling;

use std::collections::BTreeSet;

use super::near::Nearby;
use super::scan::{Arrival, Asked, Course, KnownMembers, MapLine, Of, Said, Step};
use super::{
    Because, Duty, Effort, IdentMap, Maps, Matched, Memberships, Policy, UnverifiedNames,
    UnverifiedPerson,
};
use crate::names::{ClusterName, RoleName, WayName};
use minutes::Minutes;
use outcome::Outcome;

/// Most lines that one answer lists. All are asked, however many there are.
pub(super) const LISTED_MAX: usize = 10_000;
/// Most near misses that are told.
const NEAR_MAX: usize = 5;

/// Said where nobody looked for near misses.
const NEAR_UNSOUGHT: &str =
    "name one role (`role`, `--role`) to be told which lines nearly let them in";

/// What somebody would act as, and what is known of its memberships.
#[derive(Clone, Copy, Debug)]
pub(super) struct Sought<'a> {
    /// A role of a cluster, or a duty.
    pub role: &'a str,
    pub members: &'a KnownMembers,
    /// Whether the answer is wanted any more, and what may be spent on what is told beside it.
    pub effort: &'a Effort<'a>,
}

/// How much is told beside the answer.
#[derive(Clone, Copy)]
enum Detail {
    /// Every line, and which lines nearly let them in.
    All,
    /// So many lines, since it is one explanation of many.
    Lines(usize),
}

/// One question on its way: the maps that are asked, about whom and for what.
#[derive(Clone, Copy)]
struct Hearing<'a> {
    policy: &'a Policy,
    maps: &'a Maps,
    names: &'a UnverifiedNames,
    sought: Sought<'a>,
    detail: Detail,
}

impl Policy {
    /// Explains whether somebody may act as a role: goes the way that [`Policy::entitle`] goes, and
    /// writes down what each line says.
    ///
    /// # Errors
    /// When cluster or way in are not configured, or the answer was called off.
    pub fn explain(
        &self,
        inquiry: &Inquiry<'_>,
        effort: &Effort<'_>,
    ) -> Result<Explanation, InquiryError> {
        self.explain_in(inquiry, Detail::All, effort)
    }

    /// The same by each way in and for each role that is meant. When that is every role, nobody
    /// looks for lines that nearly let them in, and the lines that are listed are fewer for each:
    /// together no more than for one.
    ///
    /// # Errors
    /// When the cluster or a way in are not configured, or the answer was called off.
    pub fn explain_each(
        &self,
        asked: &Inquiries<'_>,
        effort: &Effort<'_>,
    ) -> Result<Vec<Explanation>, InquiryError> {
        let Inquiries { people, cluster, role, members, address } = *asked;
        let lent = &self.target(cluster)?.profiles;
        let count = lent.len().saturating_mul(people.len()).max(1);
        let (roles, detail) = if let Some(role) = role {
            (vec![role], Detail::All)
        } else {
            let roles = lent.iter().map(|profile| &profile.role);
            (roles.collect(), Detail::Lines(LISTED_MAX / count))
        };
        let each = people.iter().flat_map(|person| roles.iter().map(move |role| (person, *role)));
        let explained = each.map(|(person, role)| {
            self.explain_in(&Inquiry { person, cluster, role, members, address }, detail, effort)
        });
        explained.collect()
    }

    fn explain_in(
        &self,
        inquiry: &Inquiry<'_>,
        detail: Detail,
        effort: &Effort<'_>,
    ) -> Result<Explanation, InquiryError> {
        let Inquiry { person, cluster, role, members, address } = *inquiry;
        let target = self.target(cluster)?;
        let maps = self.maps_of(person.way())?;
        let profile = target.lends(role);
        let terms = profile.as_ref().ok().map(|profile| LentTerms::of(profile, address));
        let sought = Sought { role: role.as_str(), members, effort };
        let hearing = Hearing { policy: self, maps, names: person.names(), sought, detail };
        let outcome = |arrival: &Arrival| Outcome::of_role(arrival, profile, address, sought);
        let explanation = wanted(hearing.explain(outcome), effort)?;
        Ok(Explanation {
            way: Some(person.way().to_string()),
            cluster: Some(cluster.to_string()),
            terms,
            ..explanation
        })
    }

    /// Explains whether somebody of these `names` has a duty of the broker's own, as
    /// [`Policy::duties`] decides it. Its maps are the same for every way in; `way` is told when the
    /// names are known by one.
    ///
    /// # Errors
    /// When the answer was called off.
    pub fn explain_duty(
        &self,
        names: &UnverifiedNames,
        way: Option<&WayName>,
        duty: Duty,
        effort: &Effort<'_>,
    ) -> Result<Explanation, InquiryError> {
        let members = KnownMembers::all(Memberships::none());
        let sought = Sought { role: duty.as_str(), members: &members, effort };
        let (maps, detail) = (&self.access, Detail::All);
        let hearing = Hearing { policy: self, maps, names, sought, detail };
        let explanation = hearing.explain(|arrival| Outcome::of_map(arrival, sought));
        wanted(Explanation { way: way.map(ToString::to_string), ..explanation }, effort)
    }

    /// The clusters on whose memberships it turns what is said of these `people`: of `only` this one,
    /// or of each; and of `role`, or of each that a cluster lends. No other need be asked.
    #[must_use]
    pub fn clusters_to_ask(
        &self,
        people: &[UnverifiedPerson],
        only: Option<&ClusterName>,
        role: Option<&RoleName>,
        effort: &Effort<'_>,
    ) -> BTreeSet<ClusterName> {
        let people: Vec<(&Maps, &UnverifiedNames)> = people
            .iter()
            .filter_map(|person| Some((self.ways.get(person.way())?, person.names())))
            .filter(|(maps, _)| self.asks_members(maps))
            .collect();
        let targets = self.targets.iter();
        let targets = targets.filter(|target| only.is_none_or(|only| *only == target.cluster));
        let turning = targets.filter(|target| {
            let lent = target.profiles.iter().map(|profile| &profile.role);
            let mut lent = lent.filter(|lent| role.is_none_or(|role| role == *lent));
            lent.any(|role| {
                people.iter().any(|(maps, names)| self.turns(maps, names, role, effort))
            })
        });
        turning.map(|target| target.cluster.clone()).collect()
    }

    /// Whether who is a member of what decides, or by which line, whether somebody may act as `role`.
    fn turns(
        &self,
        maps: &Maps,
        names: &UnverifiedNames,
        role: &RoleName,
        effort: &Effort<'_>,
    ) -> bool {
        let members = &KnownMembers::nothing();
        let sought = Sought { role: role.as_str(), members, effort };
        match self.arrive(maps, names, sought, |_| {}) {
            Arrival::Open(_) => true,
            Arrival::Allowed { or_earlier, .. } => !or_earlier.is_empty(),
            Arrival::NoMatch | Arrival::Failed { .. } => false,
        }
    }

    /// Where somebody comes to who asks for a role. Each line that may be about them is shown to
    /// `tell` with what it said, and whether that decided: all others are about others. Where the
    /// answer is called off, whoever asks for it must not take what comes of this for one.
    pub(super) fn arrive<'m>(
        &'m self,
        maps: &'m Maps,
        names: &'m UnverifiedNames,
        sought: Sought<'_>,
        mut tell: impl FnMut(Telling<'_, 'm>),
    ) -> Arrival {
        let mut course = Course::default();
        for asked in maps.asked_about(names) {
            tell(Telling::Asks(&asked));
            let question = asked.question(sought.role, sought.members.memberships());
            for (place, rule) in self.map.rules_about(asked.map, asked.name.as_bytes()) {
                if sought.effort.is_called_off() {
                    return course.arrive();
                }
                let said = Said::by(rule, &question, sought.members);
                let end = course.take(&asked, rule, &said);
                tell(Telling::Says { place, rule, said, decides: end.is_break() });
                if end.is_break() {
                    return course.arrive();
                }
            }
        }
        course.arrive()
    }
}

impl Hearing<'_> {
    /// The explanation, without what is to be said of way in, cluster and terms. `outcome` says what
    /// follows from where the lines led.
    fn explain(&self, outcome: impl FnOnce(&Arrival) -> Outcome) -> Explanation {
        let Self { policy, maps, names, sought, detail } = *self;
        let most = match detail {
            Detail::All => LISTED_MAX,
            Detail::Lines(most) => most,
        };
        let mut minutes = Minutes::new(&policy.map, sought.role, most);
        let arrival = policy.arrive(maps, names, sought, |telling| minutes.take(telling));
        let (asked, unlisted_lines) = minutes.finish();
        let Outcome { verdict, cause, mut reason } = outcome(&arrival);
        let decisive = asked.last().and_then(|asked| asked.lines.last());
        if let (Cause::Mapped, Some(spelled)) =
            (cause, decisive.and_then(|line| line.spelled.as_ref()))
        {
            reason = format!("{reason}; {spelled}");
        }
        let (near, near_unsought) = match (cause, detail) {
            (Cause::NotMapped, Detail::All) => (self.near_misses(), None),
            (Cause::NotMapped, Detail::Lines(_)) => (Vec::new(), Some(NEAR_UNSOUGHT)),
            _ => (Vec::new(), None),
        };
        let (rule, open) = match arrival {
            Arrival::Allowed { by, or_earlier } => (Some(by), or_earlier),
            Arrival::Failed { at, .. } => (Some(at), Vec::new()),
            Arrival::NoMatch => (None, Vec::new()),
            Arrival::Open(open) => (None, open),
        };
        // Where many explanations leave no room, the first is told all the same.
        let room = most.max(1);
        let undecided_others = open.len().saturating_sub(room);
        let undecided = open.into_iter().take(room).map(|step| step.line).collect();
        Explanation {
            verdict,
            cause,
            reason,
            way: None,
            system_user: names.system_user().to_owned(),
            groups: names.groups().to_vec(),
            cluster: None,
            role: sought.role.to_owned(),
            by_group: rule.clone().and_then(Step::group),
            rule: rule.map(|step| step.line),
            undecided,
            undecided_others,
            asked,
            unlisted_lines,
            unasked_group_map: maps.unasked_group_map(names),
            near,
            near_unsought,
            terms: None,
            postgres: policy.map.dialect().major(),
            map_revision: policy.map.revision().to_string(),
        }
    }

    /// The lines that would let somebody in if one thing about their name, or the role's, were
    /// different.
    fn near_misses(&self) -> Vec<NearMiss> {
        let Self { policy, maps, names, sought, .. } = *self;
        let mut found: Vec<NearMiss> = Vec::new();
        let mut nearby: Option<Nearby<'_>> = None;
        for asked in maps.asked_about(names) {
            if sought.effort.is_called_off() {
                return found;
            }
            let question = asked.question(sought.role, sought.members.memberships());
            let nearby = match &mut nearby {
                Some(nearby) if nearby.name() == asked.map => nearby,
                other => other.insert(Nearby::of(&policy.map, asked.map)),
            };
            for (rule, differs, detail) in nearby.misses(&question) {
                let line = MapLine::of(rule);
                if found.iter().all(|known| known.line != line) {
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

/// The answer, unless nobody wants it any more: it is not whole then.
///
/// # Errors
/// When it was called off.
pub(super) fn wanted<Answer>(answer: Answer, effort: &Effort<'_>) -> Result<Answer, InquiryError> {
    if effort.is_called_off() { Err(InquiryError::CalledOff) } else { Ok(answer) }
}

impl Because {
    /// Asks `map`, which must be the one of that time, once more: the lines of the map that let them
    /// in, with what each says, and the one that allows it, if one does.
    #[must_use]
    pub fn explain(&self, map: &IdentMap, role: &RoleName) -> (AskedMap, Option<MapLine>) {
        let members = KnownMembers::all(self.members.clone().unwrap_or_else(Memberships::none));
        let of = match &self.matched {
            Matched::Name(_) => Of::Person,
            Matched::Group(_) => Of::Group,
        };
        let asked = Asked { map: &self.map, of, name: self.matched.as_str(), case: self.case };
        let question = asked.question(role.as_str(), members.memberships());
        let mut minutes = Minutes::new(map, role.as_str(), LISTED_MAX);
        minutes.take(Telling::Asks(&asked));
        let mut allowed = None;
        for (place, rule) in map.rules_about(asked.map, asked.name.as_bytes()) {
            let said = Said::by(rule, &question, &members);
            let is_allowed = matches!(said, Said::Allows { .. });
            let decides = is_allowed || matches!(said, Said::Fails { .. });
            minutes.take(Telling::Says { place, rule, said, decides });
            if decides {
                allowed = is_allowed.then(|| MapLine::of(rule));
                break;
            }
        }
        let (mut told, _) = minutes.finish();
        (told.pop().unwrap_or_else(|| AskedMap::begin(&asked)), allowed)
    }
}
