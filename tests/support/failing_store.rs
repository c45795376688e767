//! A store that fails when the test wants it to.

use std::collections::BTreeMap;
use std::future::Future;
use std::sync::{Arc, Mutex, MutexGuard};

use async_trait::async_trait;
use jiff::Timestamp;
use pgbridge::audit::Record;
use pgbridge::auth::{Admission, LockoutRule, Session, SessionTimes};
use pgbridge::lease::{KeyFingerprint, Lease, LiveLease};
use pgbridge::mapping::{MapRevision, RevisionBeginning};
use pgbridge::names::{ClusterName, LeaseId, Principal, RequestKey, RoleOid, TokenHash};
use pgbridge::store::{
    AuditEntry, Change, Claimant, LeaseFilter, OneTimeValue, Store, StoreError, StoredMap,
};
use uuid::Uuid;

/// When a call fails.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Moment {
    /// Nothing of it has happened.
    Before,
    /// All of it has happened; only the answer is lost.
    After,
}

/// Which calls fail: `count` of them from the `first` on, where 1 is the next one.
#[derive(Clone, Copy, Debug)]
pub struct Faults {
    pub first: u64,
    pub count: u64,
    pub moment: Moment,
}

/// What a change answers that fails; all else answers that the engine did.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
enum AsIf {
    /// The engine failed.
    #[default]
    Failed,
    /// Somebody else had moved the lease.
    Moved,
}

/// A store before another one.
#[derive(Debug)]
pub struct FailingStore {
    inner: Arc<dyn Store>,
    state: Mutex<State>,
}

#[derive(Debug, Default)]
struct State {
    calls: u64,
    faults: Option<Faults>,
    /// How often each call has failed.
    failed: BTreeMap<&'static str, u64>,
    /// The calls that are counted and may fail; none means all.
    among: Vec<&'static str>,
    /// What a change answers that fails.
    as_if: AsIf,
    /// The call that panics when it is made next.
    panics: Option<&'static str>,
}

impl FailingStore {
    /// A store that does all that `inner` does.
    pub fn before(inner: Arc<dyn Store>) -> Arc<Self> {
        Arc::new(Self { inner, state: Mutex::default() })
    }

    /// From now on calls of these names are counted, or all if there are none, and some of them fail.
    pub fn fail_in(&self, among: &[&'static str], faults: Faults) {
        let (faults, among) = (Some(faults), among.to_vec());
        *self.state() = State { faults, among, ..State::default() };
    }

    /// The same, but a change that fails answers as if somebody else had moved the lease.
    pub fn overtake_in(&self, among: &[&'static str], faults: Faults) {
        self.fail_in(among, faults);
        self.state().as_if = AsIf::Moved;
    }

    /// From now on every call of that name fails, before anything of it has happened.
    pub fn refuse(&self, call: &'static str) {
        self.fail_in(&[call], Faults { first: 1, count: u64::MAX, moment: Moment::Before });
    }

    /// The next call of that name panics.
    pub fn panic_at(&self, call: &'static str) {
        self.state().panics = Some(call);
    }

    /// Whether what was to panic has.
    pub fn has_panicked(&self) -> bool {
        self.state().panics.is_none()
    }

    /// From now on nothing fails; which calls have failed since [`Self::fail_in`], and how often.
    pub fn heal(&self) -> BTreeMap<&'static str, u64> {
        std::mem::take(&mut *self.state()).failed
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().expect("nobody panics with it")
    }

    /// When this call fails, if it does.
    fn fate(&self, call: &'static str) -> Option<Moment> {
        let mut state = self.state();
        let faults = state.faults?;
        if !state.among.is_empty() && !state.among.contains(&call) {
            return None;
        }
        state.calls += 1;
        let calls = state.calls;
        let moment = (faults.first..faults.first.saturating_add(faults.count))
            .contains(&calls)
            .then_some(faults.moment)?;
        *state.failed.entry(call).or_default() += 1;
        Some(moment)
    }

    async fn around<T>(
        &self,
        call: &'static str,
        work: impl Future<Output = Result<T, StoreError>>,
    ) -> Result<T, StoreError> {
        let panics = self.state().panics.take_if(|panics| *panics == call).is_some();
        assert!(!panics, "the test wants it");
        let fate = self.fate(call);
        let answer = match fate {
            Some(Moment::Before) => return Err(self.failure(call)),
            Some(Moment::After) | None => work.await,
        };
        if fate.is_some() { Err(self.failure(call)) } else { answer }
    }

    fn failure(&self, doing: &'static str) -> StoreError {
        if doing == "commit" && self.state().as_if == AsIf::Moved {
            return StoreError::Moved { lease: LeaseId::random(&mut rand::rng()) };
        }
        let source = "the test wants it".into();
        StoreError::Failed { path: "failing".to_owned(), doing, source }
    }
}

/// Each call of the trait, handed on by [`FailingStore::around`].
macro_rules! calls {
    ($(fn $name:ident(&self $(, $argument:ident: $type:ty)*) -> $value:ty;)*) => {
        #[async_trait]
        impl Store for FailingStore {
            $(async fn $name(&self $(, $argument: $type)*) -> Result<$value, StoreError> {
                self.around(stringify!($name), self.inner.$name($($argument),*)).await
            })*

            async fn broken(&self) -> StoreError {
                self.inner.broken().await
            }
        }
    };
}

calls! {
    fn commit(&self, changes: Vec<Change>, records: Vec<Record>) -> ();
    fn admit(&self, counters: &[(String, LockoutRule)], now: Timestamp) -> Vec<Admission>;
    fn lease(&self, id: LeaseId) -> Option<Lease>;
    fn leases(&self, filter: &LeaseFilter) -> Vec<Lease>;
    fn lease_of_key(&self, principal: &Principal, key: &RequestKey) -> Option<Lease>;
    fn live_leases_of(&self, principal: &Principal, after: Option<&Lease>, limit: u32) -> Vec<Lease>;
    fn people(&self) -> Vec<Principal>;
    fn claim(&self, cluster: &ClusterName, now: Timestamp, limit: u32, by: Claimant) -> Vec<Lease>;
    fn unclaim(&self, lease: LeaseId, by: Claimant) -> ();
    fn live(&self, cluster: &ClusterName) -> Vec<LiveLease>;
    fn spend(&self, value: &OneTimeValue, until: Timestamp, now: Timestamp) -> bool;
    fn latest(&self) -> Option<Timestamp>;
    fn map_records(&self, limit: u32) -> Vec<Record>;
    fn clock(&self) -> Option<Timestamp>;
    fn marker_key(&self, offered: Option<&KeyFingerprint>) -> Option<KeyFingerprint>;
    fn had_role(&self, cluster: &ClusterName, oid: RoleOid) -> bool;
    fn map_revision(&self, revision: &MapRevision) -> Option<StoredMap>;
    fn map_revisions(&self, beginning: &RevisionBeginning) -> Vec<MapRevision>;
    fn session(&self, hash: &TokenHash) -> Option<Session>;
    fn touch_session(&self, id: Uuid, seen_at: Timestamp) -> ();
    fn sweep(&self, now: Timestamp, times: SessionTimes) -> ();
    fn audit_after(&self, after: u64, limit: u32) -> Vec<AuditEntry>;
    fn probe(&self) -> ();
}
