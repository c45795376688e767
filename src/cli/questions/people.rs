//! What directories say of people: of everybody who could log in, or of one.

use std::time::Duration;

use jiff::Timestamp;
use serde::Serialize;

use crate::auth::ldap::{Everybody, LdapSettingsError, LdapWay, SearchBounds, SearchError};
use crate::auth::way::{Reason, Standing};
use crate::cli::terminal::Shown;
use crate::config::Config;
use crate::mapping::{NamesError, UnverifiedNames, UnverifiedPerson};
use crate::names::{Group, Principal, WayName};

/// How much one directory is asked for.
const BOUNDS: SearchBounds = SearchBounds { people: 200_000, time: Duration::from_mins(10) };

/// Why nobody can say who everybody is.
#[derive(Debug, thiserror::Error)]
pub(in crate::cli) enum PeopleError {
    #[error(transparent)]
    Settings(#[from] LdapSettingsError),
    #[error("way in {way}: no part of the answer is shown")]
    Search { way: WayName, source: SearchError },
    #[error("way in {way}: it cannot be said which groups they are in: {why}")]
    Unknown { way: WayName, why: Shown },
    #[error("way in {way}: {}; name the groups with `--groups`", SearchError::OnlyBinds)]
    OnlyBinds { way: WayName },
    #[error(
        "way in {way}: whoever comes by a ticket is in no directory that could be asked, so nobody can say \
         who everybody is; ask without `--resolve`"
    )]
    OnlyTickets { way: WayName },
    #[error("nobody of this name could log in{}", listed(.0))]
    Nobody(Vec<NotThere>),
    #[error(transparent)]
    Names(#[from] NamesError),
}

fn listed(not_there: &[NotThere]) -> String {
    let ways = not_there.iter().map(|one| format!("; way in {}: {}", one.way, one.detail));
    ways.collect()
}

/// Everybody, and how many entries are of nobody.
#[derive(Default)]
pub(super) struct Found {
    pub(super) people: Vec<UnverifiedPerson>,
    pub(super) left_out: Vec<LeftOut>,
}

/// Entries of a directory that are of nobody who could log in.
#[derive(Serialize)]
pub(super) struct LeftOut {
    /// The way in.
    pub(super) way: String,
    /// Why, in the audit's word for such a login.
    pub(super) why: &'static str,
    /// How many.
    pub(super) entries: usize,
}

/// Somebody, by each way in by which they could log in.
#[derive(Default)]
pub(super) struct Named {
    pub(super) people: Vec<UnverifiedPerson>,
    pub(super) not_there: Vec<NotThere>,
}

/// A way in by which nobody of the name could log in.
#[derive(Debug, Serialize)]
pub(in crate::cli) struct NotThere {
    /// The way in.
    pub(super) way: String,
    /// Why, in the audit's word for such a login.
    pub(super) why: &'static str,
    /// The same for a reader.
    pub(super) detail: String,
}

/// Asks every directory for everybody who could log in at `now`.
///
/// # Errors
/// When one of them does not show all, or there is a way in without one.
pub(super) async fn all(config: Config, now: Timestamp) -> Result<Found, PeopleError> {
    if let Some(tickets) = config.kerberos.into_iter().next() {
        return Err(PeopleError::OnlyTickets { way: tickets.name });
    }
    let mut found = Found::default();
    for settings in config.ways {
        let directory = LdapWay::new(settings)?;
        let way = directory.name().clone();
        let everybody = directory.everybody(now, BOUNDS).await;
        let everybody =
            everybody.map_err(|source| PeopleError::Search { way: way.clone(), source })?;
        let Everybody { people, left_out } = everybody;
        found.people.extend(people.into_iter().map(|(account, groups)| {
            let groups = groups.into_iter().map(|Group(group)| group).collect();
            UnverifiedPerson::new(way.clone(), account, groups)
        }));
        found.left_out.extend(left_out.into_iter().map(|(why, entries)| LeftOut {
            way: way.to_string(),
            why,
            entries,
        }));
    }
    Ok(found)
}

/// Asks the directories of the ways in that are `meant` who `user` is at `now`, and in which groups.
///
/// # Errors
/// When one of them cannot say, or none has somebody of that name who could log in.
pub(super) async fn named(
    config: Config,
    meant: &[&WayName],
    user: &str,
    now: Timestamp,
) -> Result<Named, PeopleError> {
    // What no login sends, no directory is asked.
    UnverifiedNames::typed(user.to_owned(), Vec::new())?;
    let mut found = Named::default();
    let tickets = config.kerberos.iter().filter(|settings| meant.contains(&&settings.name));
    found.not_there.extend(tickets.map(|settings| {
        NotThere {
            way: settings.name.to_string(),
            why: "only_tickets",
            detail:
                "whoever comes by a ticket is in no directory that could be asked; ask without \
                 `--resolve`"
                    .to_owned(),
        }
    }));
    for settings in config.ways.into_iter().filter(|settings| meant.contains(&&settings.name)) {
        let directory = LdapWay::new(settings)?;
        let way = directory.name().clone();
        let principal = Principal::Ldap { directory: way.clone(), account: user.to_owned() };
        match directory.look_again(&principal, now).await {
            Standing::Good(identity) => {
                let groups = identity.groups().iter().map(|group| group.as_str().to_owned());
                found.people.push(UnverifiedPerson::new(way, user.to_owned(), groups.collect()));
            }
            Standing::Gone(reason) | Standing::Missing(reason) => {
                let Reason { word: why, detail } = reason;
                found.not_there.push(NotThere { way: way.to_string(), why, detail });
            }
            Standing::Unknown(Reason { detail, .. }) => {
                return Err(PeopleError::Unknown { way, why: Shown::new(detail) });
            }
            Standing::OnlyAtLogin => return Err(PeopleError::OnlyBinds { way }),
        }
    }
    if found.people.is_empty() { Err(PeopleError::Nobody(found.not_there)) } else { Ok(found) }
}
