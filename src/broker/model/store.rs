//! The model of a store: what the conformance suite asks for, in memory.

use std::collections::BTreeSet;
use std::fmt;
use std::ops::Range;
use std::sync::{Arc, Mutex, MutexGuard};
use std::time::Duration;

use async_trait::async_trait;
use jiff::Timestamp;
use uuid::Uuid;

use super::chance::{Chance, Fate};
use super::server::Server;
use super::tables::{Tables, due_at, failed, is_live, session_key};
use crate::audit::{Action, Outcome, Record};
use crate::auth::{Admission, Attempts, LockoutRule, Session, SessionTimes};
use crate::clock::Clock;
use crate::lease::{KeyFingerprint, Lease, LeaseState, LiveLease};
use crate::mapping::{MapRevision, RevisionBeginning};
use crate::names::{ClusterName, LeaseId, Principal, RequestKey, RoleOid, TokenHash};
use crate::store::{
    AuditEntry, CLAIM_LASTS, Change, Claimant, LATEST_AMONG, LeaseFilter, OneTimeValue,
    REVISIONS_TOLD, Store, StoreError, StoredMap,
};

/// The audit, and all other rows of a store.
#[derive(Default)]
pub(super) struct Rows {
    pub(super) tables: Tables,
    pub(super) audit: Vec<Record>,
    /// Every transaction, so that its changes can be held against its records.
    pub(super) journal: Vec<Transaction>,
}

/// What was written together.
#[derive(Clone, Debug)]
pub(super) struct Transaction {
    /// Each lease that it changed, as it was and as it is.
    pub(super) moves: Vec<(Option<Lease>, Lease)>,
    pub(super) has_begun_session: bool,
    /// The OIDs of sessions that had privileges on the server then, if it ended anybody's access.
    pub(super) privileged: Vec<RoleOid>,
    /// Its records, by their places in the audit.
    pub(super) records: Range<usize>,
}

impl Rows {
    /// Whether the audit says that the lease was issued.
    pub(super) fn is_issued(&self, lease: LeaseId) -> bool {
        let mut newest = self.audit.iter().rev();
        newest.any(|record| {
            let is_done = record.outcome == Outcome::Done;
            is_done && record.action == Action::LeaseIssued && record.lease == Some(lease)
        })
    }

    fn commit(
        &mut self,
        changes: Vec<Change>,
        records: Vec<Record>,
        witness: Option<&Server>,
    ) -> Result<(), StoreError> {
        let (mut after, mut moves, mut has_begun_session) =
            (self.tables.clone(), Vec::new(), false);
        for change in changes {
            let moved = match &change {
                Change::OpenLease(lease) | Change::MoveLease(lease) => Some(lease.id),
                _ => None,
            };
            has_begun_session |= matches!(change, Change::BeginSession(_));
            let before = moved.and_then(|id| after.leases.get(&id).cloned());
            after.apply(change)?;
            moves.extend(moved.map(|id| (before, after.leases[&id].clone())));
        }
        self.tables = after;
        let first = self.audit.len();
        self.audit.extend(records);
        let records = first..self.audit.len();
        let ends = moves.iter().any(|(before, after)| ends_access(before.as_ref(), after));
        let privileged = witness.filter(|_| ends).map(Server::privileged).unwrap_or_default();
        self.journal.push(Transaction { moves, has_begun_session, privileged, records });
        Ok(())
    }
}

/// Whether the move says that access is over.
pub(super) fn ends_access(before: Option<&Lease>, after: &Lease) -> bool {
    let has_ended = |lease: &Lease| lease.access_ended_at.is_some();
    has_ended(after) && !before.is_some_and(has_ended)
}

/// The store. Cloning gives the same one.
#[derive(Clone)]
pub(super) struct ModelStore {
    rows: Arc<Mutex<Rows>>,
    is_up: Arc<Mutex<bool>>,
    /// The true time, which is the store's own clock too.
    time: Clock,
    chance: Chance,
    /// The server, to be looked at in the moment of a commit.
    witness: Option<Server>,
}

impl fmt::Debug for ModelStore {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str("ModelStore")
    }
}

impl ModelStore {
    pub(super) fn new(time: Clock, chance: Chance) -> Self {
        let (rows, is_up) = (Arc::default(), Arc::new(Mutex::new(true)));
        Self { rows, is_up, time, chance, witness: None }
    }

    pub(super) fn seen_by(self, witness: Server) -> Self {
        Self { witness: Some(witness), ..self }
    }

    pub(super) fn rows(&self) -> MutexGuard<'_, Rows> {
        self.rows.lock().unwrap()
    }

    pub(super) fn set_up(&self, is_up: bool) {
        *self.is_up.lock().unwrap() = is_up;
    }

    /// Fails before anything has happened, or says whether the answer will be lost.
    async fn begin(&self) -> Result<Fate, StoreError> {
        let fate = self.chance.fate().await;
        let is_up = *self.is_up.lock().unwrap();
        if is_up && fate != Fate::FailedBefore { Ok(fate) } else { Err(failed("beginning")) }
    }

    async fn end<T>(&self, fate: Fate, answer: T) -> Result<T, StoreError> {
        tokio::task::yield_now().await;
        if fate == Fate::AnswerLost { Err(failed("answering")) } else { Ok(answer) }
    }

    async fn read<T>(&self, read: impl FnOnce(&Rows) -> T) -> Result<T, StoreError> {
        let fate = self.begin().await?;
        let answer = read(&self.rows());
        self.end(fate, answer).await
    }
}

#[async_trait]
impl Store for ModelStore {
    async fn commit(&self, changes: Vec<Change>, records: Vec<Record>) -> Result<(), StoreError> {
        let fate = self.begin().await?;
        if records.is_empty() {
            return Err(failed("a change without an audit record"));
        }
        self.rows().commit(changes, records, self.witness.as_ref())?;
        self.end(fate, ()).await
    }

    async fn admit(
        &self,
        counters: &[(String, LockoutRule)],
        now: Timestamp,
    ) -> Result<Vec<Admission>, StoreError> {
        let fate = self.begin().await?;
        let admissions: Vec<Admission> = {
            let mut rows = self.rows();
            let attempts = |counter: &String| rows.tables.attempts.get(counter).copied();
            let ask = |(counter, rule): &(String, LockoutRule)| {
                attempts(counter).unwrap_or_else(|| Attempts::none(now)).admit(now, *rule)
            };
            let admissions: Vec<Admission> = counters.iter().map(ask).collect();
            let is_locked = |admission: &Admission| matches!(admission, Admission::Locked { .. });
            if !admissions.iter().any(is_locked) {
                for ((counter, _), admission) in counters.iter().zip(&admissions) {
                    if let Admission::Admitted(attempts) = admission {
                        rows.tables.attempts.insert(counter.clone(), *attempts);
                    }
                }
            }
            admissions
        };
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

    async fn map_revision(&self, revision: &MapRevision) -> Result<Option<StoredMap>, StoreError> {
        self.read(|rows| rows.tables.maps.get(revision.as_str()).cloned()).await
    }

    async fn map_revisions(
        &self,
        beginning: &RevisionBeginning,
    ) -> Result<Vec<MapRevision>, StoreError> {
        let begins = |map: &&StoredMap| map.revision.as_str().starts_with(beginning.as_str());
        self.read(|rows| {
            let revisions =
                rows.tables.maps.values().filter(begins).map(|map| map.revision.clone());
            revisions.take(REVISIONS_TOLD as usize).collect()
        })
        .await
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

    async fn map_records(&self, limit: u32) -> Result<Vec<Record>, StoreError> {
        self.read(|rows| {
            let of_maps = [Action::BrokerStarted, Action::MapReloaded, Action::MapCompared];
            let newest = rows.audit.iter().rev().filter(|one| of_maps.contains(&one.action));
            newest.take(limit as usize).cloned().collect()
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
        failed("nothing")
    }
}

fn fresh() -> impl Future<Output = (Arc<dyn Store>, ())> {
    let time = Clock::manual("2026-01-01T00:00:00Z".parse().unwrap());
    std::future::ready((Arc::new(ModelStore::new(time, Chance::new(0))) as Arc<dyn Store>, ()))
}

crate::store::conformance::conformance!(fresh);
