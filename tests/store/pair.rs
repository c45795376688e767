//! Two stores on one database that take turns, so that what one has written the other must read.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

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

/// Every call goes to the other one than the call before.
#[derive(Debug)]
pub struct Pair {
    stores: [Arc<dyn Store>; 2],
    calls: AtomicUsize,
}

impl Pair {
    pub fn new(stores: [Arc<dyn Store>; 2]) -> Self {
        Self { stores, calls: AtomicUsize::new(0) }
    }

    fn next(&self) -> &dyn Store {
        &*self.stores[self.calls.fetch_add(1, Ordering::Relaxed) % 2]
    }
}

/// Each function of a store, handed to the next of the two.
macro_rules! handed_on {
    ($($name:ident($($value:ident: $kind:ty),*) -> $answer:ty;)+) => {
        #[async_trait]
        impl Store for Pair {
            $(async fn $name(&self $(, $value: $kind)*) -> $answer {
                self.next().$name($($value),*).await
            })+
        }
    };
}

handed_on! {
    commit(changes: Vec<Change>, records: Vec<Record>) -> Result<(), StoreError>;
    admit(counters: &[(String, LockoutRule)], now: Timestamp) -> Result<Vec<Admission>, StoreError>;
    lease(id: LeaseId) -> Result<Option<Lease>, StoreError>;
    leases(filter: &LeaseFilter) -> Result<Vec<Lease>, StoreError>;
    live_leases_of(principal: &Principal, after: Option<&Lease>, limit: u32)
        -> Result<Vec<Lease>, StoreError>;
    people() -> Result<Vec<Principal>, StoreError>;
    lease_of_key(person: &Principal, key: &RequestKey) -> Result<Option<Lease>, StoreError>;
    claim(cluster: &ClusterName, now: Timestamp, limit: u32, by: Claimant)
        -> Result<Vec<Lease>, StoreError>;
    unclaim(lease: LeaseId, by: Claimant) -> Result<(), StoreError>;
    live(cluster: &ClusterName) -> Result<Vec<LiveLease>, StoreError>;
    had_role(cluster: &ClusterName, oid: RoleOid) -> Result<bool, StoreError>;
    map_revision(revision: &MapRevision) -> Result<Option<StoredMap>, StoreError>;
    map_revisions(beginning: &RevisionBeginning) -> Result<Vec<MapRevision>, StoreError>;
    map_records(limit: u32) -> Result<Vec<Record>, StoreError>;
    session(hash: &TokenHash) -> Result<Option<Session>, StoreError>;
    touch_session(id: Uuid, seen_at: Timestamp) -> Result<(), StoreError>;
    spend(value: &OneTimeValue, until: Timestamp, now: Timestamp) -> Result<bool, StoreError>;
    sweep(now: Timestamp, times: SessionTimes) -> Result<(), StoreError>;
    audit_after(after: u64, limit: u32) -> Result<Vec<AuditEntry>, StoreError>;
    latest() -> Result<Option<Timestamp>, StoreError>;
    clock() -> Result<Option<Timestamp>, StoreError>;
    marker_key(offered: Option<&KeyFingerprint>) -> Result<Option<KeyFingerprint>, StoreError>;
    probe() -> Result<(), StoreError>;
    broken() -> StoreError;
}
