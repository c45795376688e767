//! What the rows of the model's store allow, as the real ones do.

use std::collections::BTreeMap;

use jiff::Timestamp;

use crate::auth::{Attempts, Session};
use crate::lease::{KeyFingerprint, Lease, LeaseState};
use crate::names::{LeaseId, Principal, TokenHash};
use crate::store::{Change, Claimant, ENDING_MOST, Login, Room, StoreError, StoredMap};

/// All rows but the audit.
#[derive(Clone, Default)]
pub(super) struct Tables {
    pub(super) leases: BTreeMap<LeaseId, Lease>,
    pub(super) sessions: BTreeMap<String, Session>,
    logins_ended: BTreeMap<String, Timestamp>,
    pub(super) attempts: BTreeMap<String, Attempts>,
    pub(super) spent: BTreeMap<String, Timestamp>,
    pub(super) claims: BTreeMap<LeaseId, (Claimant, Timestamp)>,
    pub(super) marker_key: Option<KeyFingerprint>,
    pub(super) maps: BTreeMap<String, StoredMap>,
}

pub(super) fn session_key(hash: &TokenHash) -> String {
    hash.as_str().to_owned()
}

/// The engine failed.
pub(super) fn failed(doing: &'static str) -> StoreError {
    let source = "the model says so".into();
    StoreError::Failed { path: "model".to_owned(), doing, source }
}

impl Tables {
    pub(super) fn apply(&mut self, change: Change) -> Result<(), StoreError> {
        match change {
            Change::OpenLease(lease) => self.open(*lease),
            Change::MoveLease(lease) => self.shift(*lease),
            Change::BeginSession(session) => {
                let before = self.sessions.insert(session_key(&session.token_hash), *session);
                before.map_or(Ok(()), |_| Err(failed("beginning a session again")))
            }
            Change::EndSession(id) => {
                self.sessions.retain(|_, session| session.id != id);
                Ok(())
            }
            Change::NeedLogin(login) => self.need(&login),
            Change::NeedRoom(room) => self.need_room(&room),
            Change::EndLoginsOf { person, at } => {
                self.sessions.retain(|_, session| !is_of(session.identity.principal(), &person));
                let ended = self.logins_ended.entry(person).or_insert(at);
                *ended = (*ended).max(at);
                Ok(())
            }
            Change::KeepMap(map) => {
                self.maps.entry(map.revision.to_string()).or_insert(*map);
                Ok(())
            }
            Change::ClearAttempts(counter) => {
                self.attempts.remove(&counter);
                Ok(())
            }
            Change::GiveBackAttempt(counter) => {
                if let Some(attempts) = self.attempts.get_mut(&counter) {
                    *attempts = attempts.give_back();
                }
                Ok(())
            }
        }
    }

    fn open(&mut self, lease: Lease) -> Result<(), StoreError> {
        if self.leases.contains_key(&lease.id) {
            return Err(StoreError::Moved { lease: lease.id });
        }
        let same_wish = |other: &Lease| {
            lease.request_key.is_some()
                && other.request_key == lease.request_key
                && other.principal == lease.principal
                && matches!(other.state, LeaseState::Intent | LeaseState::Active)
        };
        if self.leases.values().any(same_wish) {
            return Err(StoreError::KeyTaken);
        }
        self.leases.insert(lease.id, lease);
        Ok(())
    }

    fn shift(&mut self, lease: Lease) -> Result<(), StoreError> {
        let stored = self.leases.get_mut(&lease.id);
        let Some(stored) = stored.filter(|stored| stored.version + 1 == lease.version) else {
            return Err(StoreError::Moved { lease: lease.id });
        };
        if lease.state.is_final() {
            self.claims.remove(&lease.id);
        }
        *stored = Lease {
            version: lease.version,
            state: lease.state,
            role_oid: lease.role_oid,
            expires_at: lease.expires_at,
            end: lease.end,
            access_ended_at: lease.access_ended_at,
            gone_at: lease.gone_at,
            attempts: lease.attempts,
            retry_at: lease.retry_at,
            blockers: lease.blockers,
            ..stored.clone()
        };
        Ok(())
    }

    fn need_room(&self, room: &Room) -> Result<(), StoreError> {
        let here = |lease: &&Lease| {
            lease.principal == room.principal
                && lease.cluster == room.cluster
                && lease.role == room.role
        };
        let (most, ending) = (room.most.get() as usize, ENDING_MOST as usize);
        let live = self.leases.values().filter(here).filter(|lease| is_live(lease)).count();
        let all = self.leases.values().filter(here).filter(|lease| !lease.state.is_final()).count();
        let is_room = live < most && all < most + ending;
        if is_room { Ok(()) } else { Err(StoreError::TooMany { most: room.most }) }
    }

    fn need(&self, login: &Login) -> Result<(), StoreError> {
        let session_stands =
            login.session.is_none_or(|id| self.sessions.values().any(|session| session.id == id));
        let ended = self.logins_ended.iter();
        let mut ended = ended.filter(|(person, _)| is_of(&login.principal, person));
        let login_stands = ended.all(|(_, at)| *at <= login.authenticated_at);
        if session_stands && login_stands { Ok(()) } else { Err(StoreError::LoginEnded) }
    }
}

pub(super) fn is_live(lease: &Lease) -> bool {
    matches!(lease.state, LeaseState::Intent | LeaseState::Active)
}

fn is_of(principal: &Principal, person: &str) -> bool {
    principal.key() == person || principal.to_string() == person
}

/// When the broker must act on it next without being asked.
pub(super) fn due_at(lease: &Lease) -> Option<Timestamp> {
    match lease.state {
        LeaseState::Active => Some(lease.expires_at),
        LeaseState::Revoking | LeaseState::Quarantined => {
            Some(lease.retry_at.unwrap_or(lease.requested_at))
        }
        LeaseState::Intent | LeaseState::Revoked | LeaseState::Aborted => None,
    }
}
