//! The model of a directory: who is there, and in which groups.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use async_trait::async_trait;
use jiff::Timestamp;

use super::chance::{Chance, Fate};
use crate::auth::Identity;
use crate::auth::way::{Reason, Standing, Unproven, Way};
use crate::names::{LoginPassword, Principal, WayName};

/// How long a login is good for.
const LIFETIME: Duration = Duration::from_hours(8);

/// The directory. Cloning gives the same one.
#[derive(Clone)]
pub(super) struct Directory {
    name: WayName,
    state: Arc<Mutex<State>>,
    chance: Chance,
}

struct State {
    is_up: bool,
    /// The groups of everybody who is there.
    people: BTreeMap<&'static str, BTreeSet<&'static str>>,
}

impl Directory {
    /// A directory in which everybody is in every group.
    pub(super) fn new(people: &[&'static str], groups: &[&'static str], chance: Chance) -> Self {
        let groups: BTreeSet<_> = groups.iter().copied().collect();
        let people = people.iter().map(|person| (*person, groups.clone())).collect();
        let state = Arc::new(Mutex::new(State { is_up: true, people }));
        Self { name: "corp".parse().unwrap(), state, chance }
    }

    pub(super) fn set_up(&self, is_up: bool) {
        self.state.lock().unwrap().is_up = is_up;
    }

    /// Takes somebody away, with all groups, or lets them return without any.
    pub(super) fn set_there(&self, person: &'static str, is_there: bool) {
        let people = &mut self.state.lock().unwrap().people;
        if is_there {
            people.entry(person).or_default();
        } else {
            people.remove(person);
        }
    }

    /// Puts somebody who is there into a group, or takes them out of it.
    pub(super) fn set_member(&self, person: &str, group: &'static str, is_member: bool) {
        if let Some(groups) = self.state.lock().unwrap().people.get_mut(person) {
            if is_member {
                groups.insert(group);
            } else {
                groups.remove(group);
            }
        }
    }

    /// Whether somebody is there and in the group.
    pub(super) fn is_member(&self, person: &str, group: &str) -> bool {
        let state = self.state.lock().unwrap();
        state.people.get(person).is_some_and(|groups| groups.contains(group))
    }

    pub(super) fn is_up(&self) -> bool {
        self.state.lock().unwrap().is_up
    }

    /// Whoever is there, with their groups.
    async fn look(&self, account: &str, now: Timestamp) -> Result<Option<Identity>, Reason> {
        let fate = self.chance.fate().await;
        let state = self.state.lock().unwrap();
        if !state.is_up || fate != Fate::Done {
            return Err(reason("away"));
        }
        Ok(state.people.get(account).map(|groups| identity(account, groups, now)))
    }
}

/// What somebody types to log in.
pub(super) fn password_of(person: &str) -> String {
    format!("what-only-{person}-knows")
}

fn reason(word: &'static str) -> Reason {
    Reason { word, detail: "the model says so".to_owned() }
}

fn identity(account: &str, groups: &BTreeSet<&'static str>, now: Timestamp) -> Identity {
    let identity = serde_json::json!({
        "principal": { "method": "ldap", "directory": "corp", "account": account },
        "groups": groups,
        "authenticated_at": now,
        "expires_at": now + LIFETIME,
    });
    Identity::from_session_json(&identity.to_string()).unwrap()
}

#[async_trait]
impl Way for Directory {
    fn name(&self) -> &WayName {
        &self.name
    }

    async fn login(
        &self,
        username: &str,
        password: &LoginPassword,
        now: Timestamp,
    ) -> Result<Identity, Unproven> {
        let found = self.look(username, now).await.map_err(Unproven::Outage)?;
        let found = found.filter(|_| password.expose() == password_of(username));
        found.ok_or_else(|| Unproven::Refused(reason("refused")))
    }

    async fn look_again(&self, principal: &Principal, now: Timestamp) -> Standing {
        match self.look(principal.subject(), now).await {
            Ok(Some(identity)) => Standing::Good(identity),
            Ok(None) => Standing::Gone(reason("gone")),
            Err(reason) => Standing::Unknown(reason),
        }
    }

    async fn probe(&self) -> Result<(), Unproven> {
        Ok(())
    }
}
