//! The model of a store: what the conformance suite asks for, in memory.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::sync::{Arc, Mutex, MutexGuard};
use std::time::Duration;

use async_trait::async_trait;
use jiff::Timestamp;
use uuid::Uuid;

use super::chance::{Chance, Fate};
use crate::audit::Record;
use crate::auth::{Admission, Attempts, LockoutRule, Session, SessionTimes};
use crate::clock::Clock;
use crate::lease::{KeyFingerprint, Lease, LeaseState, LiveLease};
use crate::names::{ClusterName, LeaseId, Principal, RequestKey, RoleOid, TokenHash};
use crate::store::{
    AuditEntry, CLAIM_LASTS, Change, Claimant, ENDING_MOST, LATEST_AMONG, LeaseFilter, Login,
    OneTimeValue, Room, Store, StoreError,
};

/// The audit, and all other rows of a store.
#[derive(Default)]
pub(super) struct Rows {
    pub(super) tables: Tables,
    pub(super) audit: Vec<Record>,
}

#[derive(Clone, Default)]
pub(super) struct Tables {
    pub(super) leases: BTreeMap<LeaseId, Lease>,
    sessions: BTreeMap<String, Session>,
    logins_ended: BTreeMap<String, Timestamp>,
    attempts: BTreeMap<String, Attempts>,
    spent: BTreeMap<String, Timestamp>,
    claims: BTreeMap<LeaseId, (Claimant, Timestamp)>,
    marker_key: Option<KeyFingerprint>,
}

/// The store. Cloning gives the same one.
#[derive(Clone)]
pub(super) struct ModelStore {
    rows: Arc<Mutex<Rows>>,
    is_up: Arc<Mutex<bool>>,
    /// The true time, which is the store's own clock too.
    time: Clock,
    chance: Chance,
}

impl fmt::Debug for ModelStore {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str("ModelStore")
    }
}

impl ModelStore {
    pub(super) fn new(time: Clock, chance: Chance) -> Self {
        let (rows, is_up) = (Arc::default(), Arc::new(Mutex::new(true)));
        Self { rows, is_up, time, chance }
    }

    pub(super) fn rows(&self) -> MutexGuard<'_, Rows> {
        self.rows.lock().unwrap()
    }

    pub(super) fn set_up(&self, is_up: bool) {
        *self.is_up.lock().unwrap() = is_up;
    }

    fn failed(doing: &'static str) -> StoreError {
        let source = "the model says so".into();
        StoreError::Failed { path: "model".to_owned(), doing, source }
    }

    /// Fails before anything has happened, or says whether the answer will be lost.
    async fn begin(&self) -> Result<Fate, StoreError> {
        let fate = self.chance.fate().await;
        let is_up = *self.is_up.lock().unwrap();
        if is_up && fate != Fate::FailedBefore { Ok(fate) } else { Err(Self::failed("beginning")) }
    }

    async fn end<T>(&self, fate: Fate, answer: T) -> Result<T, StoreError> {
        tokio::task::yield_now().await;
        if fate == Fate::AnswerLost { Err(Self::failed("answering")) } else { Ok(answer) }
    }

    async fn read<T>(&self, read: impl FnOnce(&Rows) -> T) -> Result<T, StoreError> {
        let fate = self.begin().await?;
        let answer = read(&self.rows());
        self.end(fate, answer).await
    }
}

fn session_key(hash: &TokenHash) -> String {
    hash.as_str().to_owned()
}

impl Tables {
    fn apply(&mut self, change: Change) -> Result<(), StoreError> {
        match change {
            Change::OpenLease(lease) => self.open(*lease),
            Change::MoveLease(lease) => self.shift(*lease),
            Change::BeginSession(session) => {
                let before = self.sessions.insert(session_key(&session.token_hash), *session);
                before.map_or(Ok(()), |_| Err(ModelStore::failed("beginning a session again")))
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

fn is_live(lease: &Lease) -> bool {
    matches!(lease.state, LeaseState::Intent | LeaseState::Active)
}

fn is_of(principal: &Principal, person: &str) -> bool {
    principal.key() == person || principal.to_string() == person
}

/// When the broker must act on it next without being asked.
fn due_at(lease: &Lease) -> Option<Timestamp> {
    match lease.state {
        LeaseState::Active => Some(lease.expires_at),
        LeaseState::Revoking | LeaseState::Quarantined => {
            Some(lease.retry_at.unwrap_or(lease.requested_at))
        }
        LeaseState::Intent | LeaseState::Revoked | LeaseState::Aborted => None,
    }
}

#[async_trait]
impl Store for ModelStore {
    async fn commit(&self, changes: Vec<Change>, records: Vec<Record>) -> Result<(), StoreError> {
        let fate = self.begin().await?;
        if records.is_empty() {
            return Err(Self::failed("a change without an audit record"));
        }
        {
            let mut rows = self.rows();
            let mut after = rows.tables.clone();
            for change in changes {
                after.apply(change)?;
            }
            rows.tables = after;
            rows.audit.extend(records);
        }
        self.end(fate, ()).await
    }

    async fn admit(
        &self,
        counters: &[(String, LockoutRule)],
        now: Timestamp,
    ) -> Result<Vec<Admission>, StoreError> {
        let fate = self.begin().await?;
        let admissions: Vec<Admission> = {
            let rows = self.rows();
            let attempts = |counter: &String| rows.tables.attempts.get(counter).copied();
            let ask = |(counter, rule): &(String, LockoutRule)| {
                attempts(counter).unwrap_or_else(|| Attempts::none(now)).admit(now, *rule)
            };
            counters.iter().map(ask).collect()
        };
        if !admissions.iter().any(|admission| matches!(admission, Admission::Locked { .. })) {
            for ((counter, _), admission) in counters.iter().zip(&admissions) {
                if let Admission::Admitted(attempts) = admission {
                    self.rows().tables.attempts.insert(counter.clone(), *attempts);
                }
            }
        }
        self.end(fate, admissions).await
    }

    async fn lease(&self, id: LeaseId) -> Result<Option<Lease>, StoreError> {
        self.read(|rows| rows.tables.leases.get(&id).cloned()).await
    }

    async fn leases(&self, filter: &LeaseFilter) -> Result<Vec<Lease>, StoreError> {
        let wanted = |lease: &&Lease| {
            filter.principal.as_ref().is_none_or(|principal| *principal == lease.principal)
                && filter.cluster.as_ref().is_none_or(|cluster| *cluster == lease.cluster)
                && (filter.states.is_empty() || filter.states.contains(&lease.state))
        };
        self.read(|rows| {
            let mut leases: Vec<Lease> =
                rows.tables.leases.values().filter(wanted).cloned().collect();
            leases.sort_by_key(|lease| std::cmp::Reverse((lease.requested_at, lease.id)));
            leases.truncate(filter.limit.map_or(usize::MAX, |limit| limit as usize));
            leases
        })
        .await
    }

    async fn live_leases_of(
        &self,
        principal: &Principal,
        after: Option<&Lease>,
        limit: u32,
    ) -> Result<Vec<Lease>, StoreError> {
        let place = |lease: &Lease| {
            (lease.cluster.to_string(), lease.role.to_string(), lease.id.to_string())
        };
        let is_behind = |lease: &Lease| after.is_none_or(|after| place(lease) > place(after));
        let wanted =
            |lease: &&Lease| is_live(lease) && lease.principal == *principal && is_behind(lease);
        self.read(|rows| {
            let mut leases: Vec<Lease> =
                rows.tables.leases.values().filter(wanted).cloned().collect();
            leases.sort_by_key(place);
            leases.truncate(limit as usize);
            leases
        })
        .await
    }

    async fn people(&self) -> Result<Vec<Principal>, StoreError> {
        self.read(|rows| {
            let leases = rows.tables.leases.values().filter(|lease| is_live(lease));
            let leases = leases.map(|lease| &lease.principal);
            let sessions = rows.tables.sessions.values();
            let sessions = sessions.map(|session| session.identity.principal());
            let people: BTreeSet<&Principal> = leases.chain(sessions).collect();
            people.into_iter().cloned().collect()
        })
        .await
    }

    async fn lease_of_key(
        &self,
        principal: &Principal,
        key: &RequestKey,
    ) -> Result<Option<Lease>, StoreError> {
        let wanted = |lease: &&Lease| {
            lease.request_key.as_ref() == Some(key)
                && lease.principal == *principal
                && matches!(lease.state, LeaseState::Intent | LeaseState::Active)
        };
        self.read(|rows| rows.tables.leases.values().find(wanted).cloned()).await
    }

    async fn claim(
        &self,
        cluster: &ClusterName,
        now: Timestamp,
        limit: u32,
        by: Claimant,
    ) -> Result<Vec<Lease>, StoreError> {
        let fate = self.begin().await?;
        let (clock, mut claimed) = (self.time.now(), Vec::new());
        {
            let mut rows = self.rows();
            rows.tables.claims.retain(|_, (_, until)| *until > clock);
            let is_due = |lease: &&Lease| {
                lease.cluster == *cluster
                    && due_at(lease).is_some_and(|due| due <= now)
                    && rows.tables.claims.get(&lease.id).is_none_or(|(holder, _)| *holder == by)
            };
            claimed.extend(rows.tables.leases.values().filter(is_due).cloned());
            claimed.sort_by_key(|lease| {
                let ended = lease.access_ended_at.is_some();
                (ended, lease.attempts > 0, due_at(lease), lease.id.to_string())
            });
            claimed.truncate(limit as usize);
            for lease in &claimed {
                rows.tables.claims.insert(lease.id, (by, clock + CLAIM_LASTS));
            }
        }
        self.end(fate, claimed).await
    }

    async fn unclaim(&self, lease: LeaseId, by: Claimant) -> Result<(), StoreError> {
        let fate = self.begin().await?;
        self.rows().tables.claims.retain(|id, (holder, _)| *id != lease || *holder != by);
        self.end(fate, ()).await
    }

    async fn live(&self, cluster: &ClusterName) -> Result<Vec<LiveLease>, StoreError> {
        let wanted = |lease: &&Lease| lease.cluster == *cluster && !lease.state.is_final();
        self.read(|rows| rows.tables.leases.values().filter(wanted).map(LiveLease::from).collect())
            .await
    }

    async fn had_role(&self, cluster: &ClusterName, oid: RoleOid) -> Result<bool, StoreError> {
        let had = |lease: &Lease| {
            lease.cluster == *cluster && lease.role_oid == Some(oid) && lease.gone_at.is_some()
        };
        self.read(|rows| rows.tables.leases.values().any(had)).await
    }

    async fn session(&self, hash: &TokenHash) -> Result<Option<Session>, StoreError> {
        self.read(|rows| rows.tables.sessions.get(&session_key(hash)).cloned()).await
    }

    async fn touch_session(&self, id: Uuid, seen_at: Timestamp) -> Result<(), StoreError> {
        let fate = self.begin().await?;
        if let Some(session) =
            self.rows().tables.sessions.values_mut().find(|session| session.id == id)
        {
            session.seen_at = session.seen_at.max(seen_at);
        }
        self.end(fate, ()).await
    }

    async fn spend(
        &self,
        value: &OneTimeValue,
        until: Timestamp,
        now: Timestamp,
    ) -> Result<bool, StoreError> {
        let fate = self.begin().await?;
        let accepted = {
            let mut rows = self.rows();
            let key = format!("{value:?}");
            let is_new = rows.tables.spent.get(&key).is_none_or(|until| *until <= now);
            let accepted = until > now && is_new;
            if accepted {
                rows.tables.spent.insert(key, until);
            }
            accepted
        };
        self.end(fate, accepted).await
    }

    async fn sweep(&self, now: Timestamp, times: SessionTimes) -> Result<(), StoreError> {
        let fate = self.begin().await?;
        {
            let mut rows = self.rows();
            rows.tables.sessions.retain(|_, session| session.end_at(now, times).is_none());
            rows.tables.spent.retain(|_, until| *until > now);
        }
        self.end(fate, ()).await
    }

    async fn audit_after(&self, after: u64, limit: u32) -> Result<Vec<AuditEntry>, StoreError> {
        self.read(|rows| {
            let numbered = (1..).zip(&rows.audit).filter(|(seq, _)| *seq > after);
            let json = |record: &Record| serde_json::to_string(record).unwrap();
            let entry = |(seq, record): (u64, &Record)| AuditEntry { seq, json: json(record) };
            numbered.map(entry).take(limit as usize).collect()
        })
        .await
    }

    async fn latest(&self) -> Result<Option<Timestamp>, StoreError> {
        self.read(|rows| {
            let leases = rows.tables.leases.values().map(|lease| lease.requested_at);
            let newest = rows.audit.iter().rev().take(LATEST_AMONG as usize);
            let records = newest.filter(|record| record.is_by_compared_clocks());
            leases.chain(records.map(|record| record.at)).max()
        })
        .await
    }

    async fn clock(&self) -> Result<Option<Timestamp>, StoreError> {
        self.read(|_| None).await
    }

    async fn marker_key(
        &self,
        offered: Option<&KeyFingerprint>,
    ) -> Result<Option<KeyFingerprint>, StoreError> {
        let fate = self.begin().await?;
        let in_force = {
            let mut rows = self.rows();
            rows.tables.marker_key = rows.tables.marker_key.clone().or_else(|| offered.cloned());
            rows.tables.marker_key.clone()
        };
        self.end(fate, in_force).await
    }

    async fn probe(&self) -> Result<(), StoreError> {
        self.read(|_| ()).await
    }

    async fn broken(&self) -> StoreError {
        tokio::time::sleep(Duration::MAX).await;
        Self::failed("nothing")
    }
}

fn fresh() -> impl Future<Output = (Arc<dyn Store>, ())> {
    let time = Clock::manual("2026-01-01T00:00:00Z".parse().unwrap());
    std::future::ready((Arc::new(ModelStore::new(time, Chance::new(0))) as Arc<dyn Store>, ()))
}

crate::store::conformance::conformance!(fresh);
