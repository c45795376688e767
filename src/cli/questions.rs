//! What auditors ask the map: `explain`, `who-can`, `what-can`. Each reads the map and what the
//! configuration says of it; servers, and the secrets for them, are asked for only when the answer
//! turns on them.

mod members;
mod people;
mod source;
mod text;

use std::fmt::Display;

use serde::Serialize;

use super::args::{About, Explain, Members, WhatCan, WhoCan};
use super::exit::Exit;
use super::failure::Failure;
use super::operate::{OperateError, store_of};
use super::terminal::{self, safe_json};
use super::unanswered::settled;
use crate::clock::Clock;
use crate::lease::{self, Again, holder_of};
use crate::mapping::{
    Duty, Effort, Explanation, Inquiries, Inquiry, InquiryError, PersonCan, UnverifiedNames,
    UnverifiedPerson, Verdict,
};
use crate::names::{ClusterName, LeaseId, RoleName};
use crate::store;

use members::Clusters;
use people::{LeftOut, NotThere};
use source::Source;

pub(super) use people::PeopleError;

/// Why a question has no answer.
#[derive(Debug, thiserror::Error)]
pub(super) enum QuestionError {
    #[error(transparent)]
    Inquiry(#[from] InquiryError),
    #[error("the store has no lease {0}")]
    NoLease(LeaseId),
    #[error(
        "`--member {group}=` says that {group} has no member, and another `--member {group}=…` that it \
         has one: leave one of them out"
    )]
    Contradiction { group: String },
    #[error(transparent)]
    People(#[from] PeopleError),
}

/// Explains decisions of the map. Whatever fails here and in the others, the exit code must not be
/// that of a no.
pub(super) async fn explain(command: Explain, clock: &Clock) -> Exit {
    let json = command.json;
    settled(try_explain(command, clock).await, json)
}

/// Says who may act as a role.
pub(super) async fn who_can(command: WhoCan, clock: &Clock) -> Exit {
    let json = command.json;
    settled(try_who_can(command, clock).await, json)
}

/// Says as what somebody may act.
pub(super) async fn what_can(command: WhatCan, clock: &Clock) -> Exit {
    let json = command.json;
    settled(try_what_can(command, clock).await, json)
}

/// All explanations of one question: one for each way in and role that was meant.
#[derive(Serialize)]
struct Explanations {
    explanations: Vec<Explanation>,
    /// Ways in by which nobody of the name could log in, when the directories were asked.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    left_out: Vec<NotThere>,
}

async fn try_explain(command: Explain, clock: &Clock) -> Result<Exit, Failure> {
    let Explain { config, user, cluster, role, duty, about, from, lease, json } = command;
    let source = Source::read(config.config)?;
    if let Some(lease) = lease {
        return explain_lease(source, lease, json).await;
    }
    let Some(user) = user else { return Ok(Exit::Usage) };
    let somebody = Somebody::find(&source, user, &about, clock).await?;
    let explanations = match (cluster, duty) {
        (Some(cluster), _) => {
            let (people, role, effort) = (&somebody.people, role.as_ref(), Effort::default());
            let to_ask = source.policy.clusters_to_ask(people, Some(&cluster), role, &effort);
            let clusters = Clusters::ask(&source, &about.members, to_ask).await?;
            let (cluster, members) = (&cluster, clusters.known(&cluster));
            let asked = Inquiries { people, cluster, role, members, address: from };
            source.policy.explain_each(&asked, &effort).map_err(QuestionError::from)?
        }
        (None, Some(duty)) => somebody.explain_duty(&source, &about, duty)?,
        (None, None) => return Ok(Exit::Usage),
    };
    let exit = exit_of(explanations.iter().map(|explanation| explanation.verdict));
    let answer = Explanations { explanations, left_out: somebody.not_there };
    if json {
        print_json(&answer)?;
    } else {
        print(text::explanations(&answer))?;
    }
    Ok(exit)
}

/// Explains from the store why a lease was issued. The answer is that of the map of its time.
async fn explain_lease(source: Source, id: LeaseId, json: bool) -> Result<Exit, Failure> {
    let store = store::open_read_only(store_of(source.path())?).await;
    let store = store.map_err(OperateError::Store)?;
    let lease = store.lease(id).await.map_err(OperateError::Store)?;
    let lease = lease.ok_or(QuestionError::NoLease(id))?;
    let map = store::kept_map(&*store, &lease.revision).await.map_err(OperateError::Store)?;
    let (cluster, role, effort) = (&lease.cluster, &lease.role, Effort::default());
    let people = [holder_of(&lease)];
    let to_ask = source.policy.clusters_to_ask(&people, Some(cluster), Some(role), &effort);
    let clusters = Clusters::ask(&source, &Members::default(), to_ask).await?;
    let [person] = &people;
    let (members, address) = (clusters.known(cluster), Some(lease.client));
    let now = source.policy.explain(&Inquiry { person, cluster, role, members, address }, &effort);
    let answer = lease::explain(&lease, map.as_ref(), now.ok());
    if json {
        print_json(&answer)?;
    } else {
        print(text::lease(&answer))?;
    }
    Ok(match answer.then.again {
        Again::Same => Exit::Done,
        Again::Differs => Exit::Failed,
        Again::NotKept => Exit::Unanswered,
    })
}

/// Whoever is asked about, by each way in that may be meant.
struct Somebody {
    names: UnverifiedNames,
    people: Vec<UnverifiedPerson>,
    not_there: Vec<NotThere>,
}

impl Somebody {
    /// Who it is: as it was typed, or as the directories say.
    ///
    /// # Errors
    /// When the way in is not configured, nobody can have such names, or a directory cannot say.
    async fn find(
        source: &Source,
        user: String,
        about: &About,
        clock: &Clock,
    ) -> Result<Self, Failure> {
        let policy = &source.policy;
        let meant = policy.meant(about.way.as_ref()).map_err(QuestionError::from)?;
        let names = UnverifiedNames::typed(user, about.groups.clone());
        let names = names.map_err(|error| QuestionError::from(InquiryError::from(error)))?;
        if about.resolve {
            let ways = source.config()?.ways;
            let found = people::named(ways, &meant, names.system_user(), clock.now()).await;
            let people::Named { people, not_there } = found.map_err(QuestionError::from)?;
            return Ok(Self { names, people, not_there });
        }
        let people = policy.by_each_way(&names, about.way.as_ref()).map_err(QuestionError::from)?;
        Ok(Self { names, people, not_there: Vec::new() })
    }

    /// One explanation, or one for each way in whose directory has said which groups they are in.
    fn explain_duty(
        &self,
        source: &Source,
        about: &About,
        duty: Duty,
    ) -> Result<Vec<Explanation>, QuestionError> {
        let (policy, effort) = (&source.policy, &Effort::default());
        if about.resolve {
            let people = self.people.iter();
            let each =
                people.map(|one| policy.explain_duty(one.names(), Some(one.way()), duty, effort));
            return Ok(each.collect::<Result<_, _>>()?);
        }
        Ok(vec![policy.explain_duty(&self.names, about.way.as_ref(), duty, effort)?])
    }
}

/// How the process ends on these answers: one yes is a yes, and without one what is not known is
/// no no.
fn exit_of(mut verdicts: impl Iterator<Item = Verdict> + Clone) -> Exit {
    if verdicts.clone().any(|verdict| verdict == Verdict::Allowed) {
        Exit::Done
    } else if verdicts.any(|verdict| verdict == Verdict::Unknown) {
        Exit::Unanswered
    } else {
        Exit::Failed
    }
}

/// Who may act as a role: the lines that say so, and the people when they were asked for.
#[derive(Serialize)]
struct WhoAnswer {
    #[serde(flatten)]
    who: crate::mapping::WhoCan,
    /// Everybody who could log in and may act as the role.
    #[serde(skip_serializing_if = "Option::is_none")]
    people: Option<Vec<PersonCan>>,
    /// Entries of the directories that are of nobody who could log in.
    #[serde(skip_serializing_if = "Option::is_none")]
    left_out: Option<Vec<LeftOut>>,
}

async fn try_who_can(command: WhoCan, clock: &Clock) -> Result<Exit, Failure> {
    let WhoCan { config, role, cluster, duty, resolve, members, json } = command;
    let source = Source::read(config.config)?;
    let directories = resolve.then_some(clock);
    let answer = match (role.zip(cluster), duty) {
        (Some((role, cluster)), _) => {
            who_can_be(&source, &cluster, &role, &members, directories).await?
        }
        (None, Some(duty)) => {
            let found = everybody(&source, directories).await?;
            let people = found.as_ref().map(|all| source.policy.who_of_duty(duty, &all.people));
            let who = source.policy.who_has(duty, &Effort::default());
            WhoAnswer::new(who.map_err(QuestionError::from)?, people, found)
        }
        (None, None) => return Ok(Exit::Usage),
    };
    let exit = exit_of_who(&answer);
    if json {
        print_json(&answer)?;
    } else {
        print(text::who_can(&answer))?;
    }
    Ok(exit)
}

/// Who may act as a role of a cluster. What is not configured is told before any directory is asked.
async fn who_can_be(
    source: &Source,
    cluster: &ClusterName,
    role: &RoleName,
    said: &Members,
    directories: Option<&Clock>,
) -> Result<WhoAnswer, Failure> {
    let policy = &source.policy;
    let turns = policy.who_turns_on_members(cluster, role, &Effort::default());
    let to_ask = turns.then(|| cluster.clone()).into_iter().collect();
    let clusters = Clusters::ask(source, said, to_ask).await?;
    let known = clusters.known(cluster);
    let who =
        policy.who_can(cluster, role, known, &Effort::default()).map_err(QuestionError::from)?;
    let found = everybody(source, directories).await?;
    let people = found.as_ref().map(|all| policy.who_of(cluster, role, known, &all.people));
    let people = people.transpose().map_err(QuestionError::from)?;
    Ok(WhoAnswer::new(who, people, found))
}

/// Everybody who could log in, when the `directories` are to be asked, by the clock that is given
/// for it.
async fn everybody(
    source: &Source,
    directories: Option<&Clock>,
) -> Result<Option<people::Found>, Failure> {
    let Some(clock) = directories else { return Ok(None) };
    let found = people::all(source.config()?.ways, clock.now()).await;
    Ok(Some(found.map_err(QuestionError::from)?))
}

impl WhoAnswer {
    fn new(
        who: crate::mapping::WhoCan,
        people: Option<Vec<PersonCan>>,
        found: Option<people::Found>,
    ) -> Self {
        Self { who, people, left_out: found.map(|found| found.left_out) }
    }
}

fn exit_of_who(answer: &WhoAnswer) -> Exit {
    if let Some(people) = &answer.people {
        return exit_of(people.iter().map(|person| person.answer.verdict));
    }
    let may = if answer.who.not_lent.is_none() { answer.who.lines.as_slice() } else { &[] };
    exit_of(may.iter().map(|line| match line.if_member_of {
        None if !line.perhaps_nobody => Verdict::Allowed,
        _ => Verdict::Unknown,
    }))
}

/// All that somebody may act as, by each way in that was meant.
#[derive(Serialize)]
struct WhatAnswer {
    people: Vec<crate::mapping::WhatCan>,
    /// Ways in by which nobody of the name could log in, when the directories were asked.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    left_out: Vec<NotThere>,
}

async fn try_what_can(command: WhatCan, clock: &Clock) -> Result<Exit, Failure> {
    let WhatCan { config, user, about, json } = command;
    let source = Source::read(config.config)?;
    let somebody = Somebody::find(&source, user, &about, clock).await?;
    let (policy, effort) = (&source.policy, &Effort::default());
    let to_ask = policy.clusters_to_ask(&somebody.people, None, None, effort);
    let clusters = Clusters::ask(&source, &about.members, to_ask).await?;
    let people = somebody.people.iter();
    let people = people.map(|one| policy.what_can(one, |cluster| clusters.known(cluster), effort));
    let people: Result<_, InquiryError> = people.collect();
    let people = people.map_err(QuestionError::from)?;
    let answer = WhatAnswer { people, left_out: somebody.not_there };
    let exit = exit_of(answer.people.iter().flat_map(|person| {
        let roles = person.roles.iter().map(|role| role.answer.verdict);
        roles.chain(person.duties.iter().map(|duty| duty.answer.verdict))
    }));
    if json {
        print_json(&answer)?;
    } else {
        print(text::what_they_can(&answer))?;
    }
    Ok(exit)
}

fn print(text: impl Display) -> Result<(), Failure> {
    terminal::answer(&text.to_string()).map_err(Failure::Output)
}

fn print_json(answer: &impl Serialize) -> Result<(), Failure> {
    let value = serde_json::to_string_pretty(answer).map_err(std::io::Error::from);
    terminal::answer(&safe_json(&value.map_err(Failure::Output)?)).map_err(Failure::Output)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_no_and_no_answer_end_differently() {
        use Verdict::{Allowed, Denied, Unknown};

        let code = |verdicts: &[Verdict]| exit_of(verdicts.iter().copied()).code();
        assert_eq!(code(&[Denied, Unknown, Allowed]), 0);
        assert_eq!(code(&[Denied, Denied]), 1);
        assert_eq!(code(&[]), 1);
        assert_eq!(code(&[Denied, Unknown]), 2);
    }
}
