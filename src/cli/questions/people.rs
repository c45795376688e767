//! Everybody who could log in, by every way in.

use std::time::Duration;

use jiff::Timestamp;
use serde::Serialize;

use crate::auth::ldap::{
    Everybody, LdapSettings, LdapSettingsError, LdapWay, SearchBounds, SearchError,
};
use crate::mapping::UnverifiedPerson;
use crate::names::{Group, WayName};

/// How much one directory is asked for.
const BOUNDS: SearchBounds = SearchBounds { people: 200_000, time: Duration::from_mins(10) };

/// Why nobody can say who everybody is.
#[derive(Debug, thiserror::Error)]
pub(in crate::cli) enum PeopleError {
    #[error(transparent)]
    Settings(#[from] LdapSettingsError),
    #[error("way in {way}: {source}; no part of the answer is shown")]
    Search { way: WayName, source: SearchError },
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

/// Asks every directory for everybody who could log in at `now`.
///
/// # Errors
/// When one of them does not show all.
pub(super) async fn all(ways: Vec<LdapSettings>, now: Timestamp) -> Result<Found, PeopleError> {
    let mut found = Found::default();
    for settings in ways {
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
