//! The model of a directory: whom it shows, and in which groups.

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
    people: BTreeMap<&'static str, Person>,
    /// How often somebody was looked for and not shown.
    looks_in_vain: u32,
}

struct Person {
    account: Account,
    groups: BTreeSet<&'static str>,
}

/// What the directory says of somebody.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Account {
    /// They can log in.
    Open,
    /// They cannot.
    Locked,
    /// Nothing: they have left, or it was restored without them, or is searched in another place.
    Hidden,
}

impl Directory {
    /// A directory in which everybody is in every group.
    pub(super) fn new(people: &[&'static str], groups: &[&'static str], chance: Chance) -> Self {
        let person = || Person { account: Account::Open, groups: groups.iter().copied().collect() };
        let people = people.iter().map(|name| (*name, person())).collect();
        let state = Arc::new(Mutex::new(State { is_up: true, people, looks_in_vain: 0 }));
        Self { name: "corp".parse().unwrap(), state, chance }
    }

    pub(super) fn set_up(&self, is_up: bool) {
        self.state.lock().unwrap().is_up = is_up;
    }

    pub(super) fn set_account(&self, person: &str, account: Account) {
        if let Some(person) = self.state.lock().unwrap().people.get_mut(person) {
            person.account = account;
        }
    }

    /// From now on only this person is shown, or nobody.
    pub(super) fn show_only(&self, shown: Option<&str>) {
        for (name, person) in &mut self.state.lock().unwrap().people {
            if shown != Some(*name) {
                person.account = Account::Hidden;
            }
        }
    }

    /// Whoever was not shown is shown again.
    pub(super) fn show_all(&self) {
        for person in self.state.lock().unwrap().people.values_mut() {
            if person.account == Account::Hidden {
                person.account = Account::Open;
            }
        }
    }

    pub(super) fn looks_in_vain(&self) -> u32 {
        self.state.lock().unwrap().looks_in_vain
    }

    /// Puts somebody into a group, or takes them out of it.
    pub(super) fn set_member(&self, person: &str, group: &'static str, is_member: bool) {
        if let Some(person) = self.state.lock().unwrap().people.get_mut(person) {
            if is_member {
                person.groups.insert(group);
            } else {
                person.groups.remove(group);
            }
        }
    }

    /// Whether somebody can log in and is in the group.
    pub(super) fn is_member(&self, person: &str, group: &str) -> bool {
        let state = self.state.lock().unwrap();
        let person = state.people.get(person);
        person.is_some_and(|one| one.account == Account::Open && one.groups.contains(group))
    }

    pub(super) fn is_up(&self) -> bool {
        self.state.lock().unwrap().is_up
    }

    async fn look(&self, name: &str, now: Timestamp) -> Standing {
        let fate = self.chance.fate().await;
        let mut state = self.state.lock().unwrap();
        if !state.is_up || fate != Fate::Done {
            return Standing::Unknown(reason("away"));
        }
        match state.people.get(name) {
            Some(Person { account: Account::Open, groups }) => {
                Standing::Good(identity(name, groups, now))
            }
            Some(Person { account: Account::Locked, .. }) => Standing::Gone(reason("locked")),
            Some(Person { account: Account::Hidden, .. }) | None => {
                state.looks_in_vain += 1;
                Standing::Missing(reason(UNKNOWN))
            }
        }
    }
}

/// The word of the audit for whoever is not shown.
pub(super) const UNKNOWN: &str = "unknown_account";

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
        match self.look(username, now).await {
            Standing::Good(identity) if password.expose() == password_of(username) => Ok(identity),
            Standing::Unknown(reason) => Err(Unproven::Outage(reason)),
            _ => Err(Unproven::Refused(reason("refused"))),
        }
    }

    async fn look_again(&self, principal: &Principal, now: Timestamp) -> Standing {
        self.look(principal.subject(), now).await
    }

    async fn probe(&self) -> Result<(), Unproven> {
        Ok(())
    }
}
