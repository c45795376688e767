//! What auditors ask the map: `explain`, `who-can`, `what-can`. Each reads the configuration and
//! the map; servers are asked only for what the answer turns on.

mod members;
mod people;
mod text;

use std::fmt::Display;

use serde::Serialize;

use super::args::{About, Explain, Members, WhatCan, WhoCan};
use super::exit::Exit;
use super::failure::Failure;
use super::operate::{OperateError, configuration};
use super::terminal::{self, safe_json};
use crate::clock::Clock;
use crate::config::Config;
use crate::lease::{self, Again, holder_of};
use crate::mapping::{
    Explanation, Inquiry, InquiryError, PersonCan, Policy, RoleAnswer, UnverifiedPerson, Verdict,
};
use crate::names::{LeaseId, WayName};
use crate::store;

use members::Clusters;
use people::LeftOut;

pub(super) use people::PeopleError;

/// Why a question has no answer.
#[derive(Debug, thiserror::Error)]
pub(super) enum QuestionError {
    #[error(transparent)]
    Inquiry(#[from] InquiryError),
    #[error("the store has no lease {0}")]
    NoLease(LeaseId),
    #[error(transparent)]
    People(#[from] PeopleError),
}

/// Explains decisions of the map.
pub(super) async fn explain(command: Explain) -> Result<Exit, Failure> {
    unanswered(try_explain(command).await)
}

/// Says who may act as a role.
pub(super) async fn who_can(command: WhoCan, clock: &Clock) -> Result<Exit, Failure> {
    unanswered(try_who_can(command, clock).await)
}

/// Says as what somebody may act.
pub(super) async fn what_can(command: WhatCan) -> Result<Exit, Failure> {
    unanswered(try_what_can(command).await)
}

/// Whatever fails here, there is no answer: the exit code must not be that of a no.
fn unanswered(outcome: Result<Exit, Failure>) -> Result<Exit, Failure> {
    outcome.map_err(|failure| Failure::Unanswered(Box::new(failure)))
}

/// All explanations of one question: one for each way in and role that was meant.
#[derive(Serialize)]
struct Explanations {
    explanations: Vec<Explanation>,
}

async fn try_explain(command: Explain) -> Result<Exit, Failure> {
    let Explain { config, user, cluster, role, about, from, lease, json } = command;
    let mut config = configuration(&config.config)?;
    if let Some(lease) = lease {
        return explain_lease(config, lease, json).await;
    }
    let (Some(user), Some(cluster)) = (user, cluster) else { return Ok(Exit::Usage) };
    let roles = match role {
        Some(role) => vec![role],
        None => config.policy.lent_on(&cluster).map_err(QuestionError::from)?,
    };
    let people = people_of(&config.policy, &user, &about)?;
    let clusters = Clusters::ask(&mut config, &about.members, Some(&cluster)).await;
    let members = clusters.known(&cluster);
    let mut explanations = Vec::new();
    for person in &people {
        for role in &roles {
            let cluster = &cluster;
            let inquiry = Inquiry { person, cluster, role, members, address: from };
            let explained = config.policy.explain(&inquiry).map_err(QuestionError::from)?;
            explanations.push(explained);
        }
    }
    let exit = exit_of(explanations.iter().map(|explanation| explanation.verdict));
    if json {
        print_json(&Explanations { explanations })?;
    } else {
        let texts: Vec<String> = explanations.iter().map(text::explanation).collect();
        print(texts.join("\n"))?;
    }
    Ok(exit)
}

/// Explains from the store why a lease was issued. The answer is that of the map of its time.
async fn explain_lease(mut config: Config, id: LeaseId, json: bool) -> Result<Exit, Failure> {
    let clusters = Clusters::ask(&mut config, &Members::default(), None).await;
    let Config { store, policy, .. } = config;
    let store = store::open_read_only(store).await.map_err(OperateError::Store)?;
    let lease = store.lease(id).await.map_err(OperateError::Store)?;
    let lease = lease.ok_or(QuestionError::NoLease(id))?;
    let map = store::kept_map(&*store, &lease.revision).await.map_err(OperateError::Store)?;
    let now = policy.explain(&Inquiry {
        person: &holder_of(&lease),
        cluster: &lease.cluster,
        role: &lease.role,
        members: clusters.known(&lease.cluster),
        address: Some(lease.client),
    });
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

/// The same person by each way in that may be meant.
fn people_of(
    policy: &Policy,
    user: &str,
    about: &About,
) -> Result<Vec<UnverifiedPerson>, QuestionError> {
    let person = |way: WayName| UnverifiedPerson::new(way, user.to_owned(), about.groups.clone());
    match &about.way {
        Some(way) if policy.ways.contains_key(way) => Ok(vec![person(way.clone())]),
        Some(way) => Err(InquiryError::UnknownWay(way.clone()).into()),
        None => Ok(policy.ways.keys().cloned().map(person).collect()),
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
    let WhoCan { config, role, cluster, resolve, members, json } = command;
    let mut config = configuration(&config.config)?;
    let clusters = Clusters::ask(&mut config, &members, Some(&cluster)).await;
    let known = clusters.known(&cluster);
    let who = config.policy.who_can(&cluster, &role, known).map_err(QuestionError::from)?;
    let mut answer = WhoAnswer { who, people: None, left_out: None };
    if resolve {
        let found = people::all(config.ways, clock.now()).await.map_err(QuestionError::from)?;
        let may = config.policy.who_of(&cluster, &role, known, &found.people);
        answer.people = Some(may.map_err(QuestionError::from)?);
        answer.left_out = Some(found.left_out);
    }
    let exit = exit_of_who(&answer);
    if json {
        print_json(&answer)?;
    } else {
        print(text::who_can(&answer))?;
    }
    Ok(exit)
}

fn exit_of_who(answer: &WhoAnswer) -> Exit {
    if let Some(people) = &answer.people {
        return exit_of(people.iter().map(|person| person.verdict));
    }
    let may = if answer.who.terms.is_some() { answer.who.lines.as_slice() } else { &[] };
    exit_of(may.iter().map(|line| match line.if_member_of {
        None => Verdict::Allowed,
        Some(_) => Verdict::Unknown,
    }))
}

/// All that somebody may act as, by each way in that was meant.
#[derive(Serialize)]
struct WhatAnswer {
    people: Vec<crate::mapping::WhatCan>,
}

async fn try_what_can(command: WhatCan) -> Result<Exit, Failure> {
    let WhatCan { config, user, about, json } = command;
    let mut config = configuration(&config.config)?;
    let people = people_of(&config.policy, &user, &about)?;
    let clusters = Clusters::ask(&mut config, &about.members, None).await;
    let mut answer = WhatAnswer { people: Vec::new() };
    for person in &people {
        let can = config.policy.what_can(person, |cluster| clusters.known(cluster));
        answer.people.push(can.map_err(QuestionError::from)?);
    }
    let roles = answer.people.iter().flat_map(|person| &person.roles);
    let exit = exit_of(roles.map(|RoleAnswer { verdict, .. }| *verdict));
    if json {
        print_json(&answer)?;
    } else {
        let texts: Vec<String> = answer.people.iter().map(text::what_can).collect();
        print(texts.join("\n"))?;
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
