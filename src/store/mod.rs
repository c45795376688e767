//! The broker's own database: leases, sessions, counters of attempts, and the audit.
//!
//! One trait, one implementation per engine, one conformance suite for all of them. Whatever
//! changes, changes together with its audit record in one transaction that is on disk before the
//! call returns. Times are kept to the microsecond at least.
//!
//! ```text
//! sqlite      one file, one broker: the default
//! postgres    one database, several brokers, no leader
//! rows        what both read from a row and write into one
//! refusal     why both refuse
//! maps        revisions of the map, kept for ever
//! open        where the store is
//! ```

#[cfg(any(test, debug_assertions))]
#[doc(hidden)]
pub mod conformance;
mod maps;
mod open;
pub mod postgres;
mod refusal;
mod rows;
pub mod sqlite;

use std::fmt::{self, Debug};
use std::time::Duration;

use async_trait::async_trait;
use aws_lc_rs::digest;
use jiff::Timestamp;
use rand::CryptoRng;
use uuid::Uuid;

pub use self::maps::{StoredMap, kept_map};
pub use self::open::{StoreSettings, open, open_read_only};
use crate::audit::Record;
use crate::auth::{Admission, Identity, LockoutRule, Session, SessionTimes};
use crate::lease::{KeyFingerprint, Lease, LeaseState, LiveLease};
use crate::mapping::{MapRevision, RevisionBeginning};
use crate::names::{
    ClusterName, LeaseId, LeaseLimit, Principal, RequestKey, RoleName, RoleOid, TokenHash,
};

/// Leases of one role that one person may have that are not over, beside those that are live.
pub const ENDING_MOST: u32 = 20;

/// Of so many of the newest audit records [`Store::latest`] looks for one that tells the time.
pub const LATEST_AMONG: u32 = 1000;
/// Revisions of the map that are told of those that begin alike.
pub const REVISIONS_TOLD: u32 = 5;

/// How long a claim lasts unless it is given back.
pub const CLAIM_LASTS: Duration = Duration::from_mins(1);

/// Rows of each kind that one sweep removes at most, so that nobody waits long behind it.
const SWEEP_ROWS: i64 = 10_000;

/// Longer than anything that was proven can be on its way before it becomes a session or a lease.
const ON_ITS_WAY: Duration = Duration::from_hours(24);

/// One change, made in the transaction that also writes its audit record.
#[derive(Clone, Debug)]
pub enum Change {
    /// A lease begins. Its id must be new ([`StoreError::Moved`] otherwise), and so must its
    /// request key among the live leases of its person ([`StoreError::KeyTaken`]).
    OpenLease(Box<Lease>),
    /// A lease has moved: accepted only if the stored version is one less (compare and swap).
    /// Written is what its moves change; whose it is and what was asked for stays as it was.
    MoveLease(Box<Lease>),
    /// A session begins.
    BeginSession(Box<Session>),
    /// A session ends; ending one that is gone is no error.
    EndSession(Uuid),
    /// The login that all of this rests on must still stand ([`StoreError::LoginEnded`]
    /// otherwise): its session has not ended, nor have the logins of its person since.
    NeedLogin(Login),
    /// There must be room for one more lease ([`StoreError::TooMany`] otherwise): counted are those
    /// in state intent or active, after the changes before this one. Of those that are ending there
    /// may be [`ENDING_MOST`] more, or somebody could pile up what resists its end.
    NeedRoom(Room),
    /// Every login of a person until a moment ends, named by key (`method:issuer:subject`) or
    /// printed form (`method:subject`): its sessions, and what was proven and is still on its way.
    EndLoginsOf {
        /// The person.
        person: String,
        /// The moment.
        at: Timestamp,
    },
    /// A counter of attempts begins anew: the account has logged in.
    ClearAttempts(String),
    /// A revision of the map is kept, if it is not yet, for ever: leases and records of decisions
    /// name it, and neither of them ever goes.
    KeepMap(Box<StoredMap>),
    /// One attempt is given back to a counter: it succeeded, or nobody could judge it. A counter
    /// that is gone has nothing to give back to, which is no error.
    GiveBackAttempt(String),
}

/// How many leases of one role one person may have at once.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Room {
    /// The person.
    pub principal: Principal,
    /// The cluster.
    pub cluster: ClusterName,
    /// The group role.
    pub role: RoleName,
    /// The most they may have, the next one included.
    pub most: LeaseLimit,
}

/// A login that a change rests on.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Login {
    /// Who logged in.
    pub principal: Principal,
    /// When they proved it.
    pub authenticated_at: Timestamp,
    /// The session that remembers it, if one does.
    pub session: Option<Uuid>,
}

impl Login {
    /// The login that proved `identity`, remembered by `session` if by any.
    #[must_use]
    pub fn of(identity: &Identity, session: Option<Uuid>) -> Self {
        let principal = identity.principal().clone();
        Self { principal, authenticated_at: identity.authenticated_at(), session }
    }
}

/// Who claims work: one running broker, from its start to its end.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Claimant(Uuid);

impl Claimant {
    /// A claimant that nobody else is.
    #[must_use]
    pub fn random(rng: &mut impl CryptoRng) -> Self {
        let mut bytes = [0; 16];
        rng.fill_bytes(&mut bytes);
        Self(uuid::Builder::from_random_bytes(bytes).into_uuid())
    }
}

impl fmt::Display for Claimant {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(formatter, "{}", self.0)
    }
}

/// A value that is accepted once: a state, a nonce, the id of an assertion. Kept is a hash of it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct OneTimeValue {
    kind: &'static str,
    hash: String,
}

impl OneTimeValue {
    /// `value` of one `kind`, a stable word such as `saml-assertion`. Values of two kinds never
    /// meet.
    #[must_use]
    pub fn new(kind: &'static str, value: &[u8]) -> Self {
        let hash = digest::digest(&digest::SHA256, value);
        Self { kind, hash: data_encoding::HEXLOWER.encode(hash.as_ref()) }
    }
}

/// Which leases to list; newest first.
#[derive(Clone, Debug, Default)]
pub struct LeaseFilter {
    /// Only of this person.
    pub principal: Option<Principal>,
    /// Only on this cluster.
    pub cluster: Option<ClusterName>,
    /// Only in one of these states; none given means any.
    pub states: Vec<LeaseState>,
    /// At most so many; nothing given means all.
    pub limit: Option<u32>,
}

/// One stored audit record.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct AuditEntry {
    /// Its number, from 1, without gaps.
    pub seq: u64,
    /// The record as one line of JSON, exactly as it was written.
    pub json: String,
}

/// Why the store did not do what it was asked.
#[derive(Debug, thiserror::Error)]
pub enum StoreError {
    /// The lease has moved meanwhile: somebody else was quicker. Nothing was changed.
    #[error("lease {lease} has moved meanwhile")]
    Moved {
        /// The lease.
        lease: LeaseId,
    },
    /// The person already has a live lease for this request key. Nothing was changed.
    #[error("a live lease for this request key exists already")]
    KeyTaken,
    /// The person has as many live leases of the role as they may have. Nothing was changed.
    #[error("the person has {} live leases of the role already", .most.get())]
    TooMany {
        /// How many they may have.
        most: LeaseLimit,
    },
    /// The login that the change rests on has ended. Nothing was changed.
    #[error("the login has ended")]
    LoginEnded,
    /// The engine failed. Nothing was changed, or the change is not known to be durable.
    #[error("the store {path} failed: {doing}")]
    Failed {
        /// The store's file or address, without a secret.
        path: String,
        /// What it was doing.
        doing: &'static str,
        /// The engine's own error.
        source: Box<dyn std::error::Error + Send + Sync>,
    },
    /// A row cannot be read by this version.
    #[error("the store {path} holds what this version cannot read: {what}")]
    Unreadable {
        /// The store's file or address.
        path: String,
        /// Which row and column.
        what: String,
    },
}

/// The broker's own database.
#[async_trait]
pub trait Store: Send + Sync + Debug {
    /// Makes all `changes` and writes `records`, at least one, in one transaction that is durable
    /// when the call returns.
    ///
    /// # Errors
    /// When a lease has moved meanwhile ([`StoreError::Moved`]), its key is taken
    /// ([`StoreError::KeyTaken`]), what it needs is not so ([`StoreError::LoginEnded`],
    /// [`StoreError::TooMany`]), and then none of it has happened; or when the engine
    /// fails, and then nobody knows ([`StoreError::Failed`]).
    async fn commit(&self, changes: Vec<Change>, records: Vec<Record>) -> Result<(), StoreError>;

    /// Counts one attempt at `now` for each counter, all or none, before anything is asked of a
    /// directory. Gives the answer of each, in the order of `counters`, which are all different.
    /// The attempt may go on only if none is [`Admission::Locked`]; if one is, none has counted.
    ///
    /// # Errors
    /// When the engine fails.
    async fn admit(
        &self,
        counters: &[(String, LockoutRule)],
        now: Timestamp,
    ) -> Result<Vec<Admission>, StoreError>;

    /// The lease of this id.
    ///
    /// # Errors
    /// When the engine fails.
    async fn lease(&self, id: LeaseId) -> Result<Option<Lease>, StoreError>;

    /// Leases by filter, newest first. A list by state is refused as a whole while any lease is in
    /// a state that this version does not know: its role would look like one without a lease.
    ///
    /// # Errors
    /// When the engine fails, or a lease cannot be read ([`StoreError::Unreadable`]).
    async fn leases(&self, filter: &LeaseFilter) -> Result<Vec<Lease>, StoreError>;

    /// Leases in state intent or active that `principal` has, however many they had before: in the
    /// order of cluster, role and id as text, those behind `after`, at most `limit`.
    ///
    /// # Errors
    /// When the engine fails.
    async fn live_leases_of(
        &self,
        principal: &Principal,
        after: Option<&Lease>,
        limit: u32,
    ) -> Result<Vec<Lease>, StoreError>;

    /// Everybody who has a lease in state intent or active, or a session that was not swept away;
    /// each once, in any order.
    ///
    /// # Errors
    /// When the engine fails.
    async fn people(&self) -> Result<Vec<Principal>, StoreError>;

    /// The lease in state intent or active that `principal` asked for with `key`.
    ///
    /// # Errors
    /// When the engine fails.
    async fn lease_of_key(
        &self,
        principal: &Principal,
        key: &RequestKey,
    ) -> Result<Option<Lease>, StoreError>;

    /// Claims leases of `cluster` with work due at `now`: active ones whose end is not after `now`,
    /// and revoking or quarantined ones whose `retry_at` is not after `now`, or missing. Those
    /// whose access has not ended come first, then those that were never tried, then oldest due first;
    /// at most `limit`.
    ///
    /// Nobody is given a lease that somebody else has claimed. `by` is given its own claims again,
    /// made anew, so that work is not left lying for as long as a claim lasts when an answer was
    /// lost. A claim ends with [`Self::unclaim`], with a move to a final state, or [`CLAIM_LASTS`]
    /// after it was made, by the store's own clock. It saves two brokers from doing the same work
    /// and nothing else: a claimed lease can be moved by anybody, and every move is a compare and
    /// swap all the same. A lease that cannot be read keeps no other from being given.
    ///
    /// # Errors
    /// When the engine fails, or nothing that it found can be read.
    async fn claim(
        &self,
        cluster: &ClusterName,
        now: Timestamp,
        limit: u32,
        by: Claimant,
    ) -> Result<Vec<Lease>, StoreError>;

    /// Gives back a claim; one that has ended or is another's stays as it is.
    ///
    /// # Errors
    /// When the engine fails. The claim then ends by itself.
    async fn unclaim(&self, lease: LeaseId, by: Claimant) -> Result<(), StoreError>;

    /// What every lease of `cluster` that is not final must be for the cluster to agree, without
    /// loading the leases. It is refused as a whole while one of them is in a state that this
    /// version does not know: its role would look like one without a lease.
    ///
    /// # Errors
    /// When the engine fails, or a lease cannot be read ([`StoreError::Unreadable`]).
    async fn live(&self, cluster: &ClusterName) -> Result<Vec<LiveLease>, StoreError>;

    /// Whether a lease on `cluster` had the role with `oid`, and has ended.
    ///
    /// # Errors
    /// When the engine fails.
    async fn had_role(&self, cluster: &ClusterName, oid: RoleOid) -> Result<bool, StoreError>;

    /// The map that had this revision, if it was ever in force.
    ///
    /// # Errors
    /// When the engine fails, or it cannot be read ([`StoreError::Unreadable`]).
    async fn map_revision(&self, revision: &MapRevision) -> Result<Option<StoredMap>, StoreError>;

    /// The revisions of maps that were in force and begin so, sorted; at most
    /// [`REVISIONS_TOLD`] of them.
    ///
    /// # Errors
    /// When the engine fails.
    async fn map_revisions(
        &self,
        beginning: &RevisionBeginning,
    ) -> Result<Vec<MapRevision>, StoreError>;

    /// What the audit has of maps: the newest records that a broker took one, at its start or later,
    /// and that one was compared. Newest first, of the newest `limit` those that can be read.
    ///
    /// # Errors
    /// When the engine fails.
    async fn map_records(&self, limit: u32) -> Result<Vec<Record>, StoreError>;

    /// The session whose token has this hash.
    ///
    /// # Errors
    /// When the engine fails.
    async fn session(&self, hash: &TokenHash) -> Result<Option<Session>, StoreError>;

    /// Notes that a session was used at `seen_at`. A session that has ended stays ended. No audit
    /// record: this is no event.
    ///
    /// # Errors
    /// When the engine fails.
    async fn touch_session(&self, id: Uuid, seen_at: Timestamp) -> Result<(), StoreError>;

    /// Accepts `value` once, over all brokers, until `until`. `true` is on disk when the call
    /// returns. A value whose `until` is not after `now` is never accepted, since nothing would
    /// keep it from being accepted again.
    ///
    /// # Errors
    /// When the engine fails: whether the value counts as accepted is then not known, so it must
    /// be refused.
    async fn spend(
        &self,
        value: &OneTimeValue,
        until: Timestamp,
        now: Timestamp,
    ) -> Result<bool, StoreError>;

    /// Removes sessions that are over at `now` ([`Session::end_at`]), counters that would begin
    /// anew with the next attempt, and one-time values that are not accepted any more because
    /// their time is over. Many of them are removed in several calls.
    ///
    /// # Errors
    /// When the engine fails.
    async fn sweep(&self, now: Timestamp, times: SessionTimes) -> Result<(), StoreError>;

    /// Audit records with a number above `after`, in order, at most `limit`.
    ///
    /// # Errors
    /// When the engine fails.
    async fn audit_after(&self, after: u64, limit: u32) -> Result<Vec<AuditEntry>, StoreError>;

    /// How late it was at least, whatever a clock shows now: the newest time of a lease that was
    /// asked for, and of the newest [`LATEST_AMONG`] records those that a broker writes only once it
    /// has compared the clocks ([`Record::is_by_compared_clocks`]).
    ///
    /// # Errors
    /// When the engine fails.
    async fn latest(&self) -> Result<Option<Timestamp>, StoreError>;

    /// The time now by the store's own clock, when it has one that is not this process's.
    ///
    /// # Errors
    /// When the engine fails.
    async fn clock(&self) -> Result<Option<Timestamp>, StoreError>;

    /// The fingerprint of the marker key that all brokers of this store use: `offered`, if none
    /// was in force yet. Without an offer nothing is written.
    ///
    /// # Errors
    /// When the engine fails.
    async fn marker_key(
        &self,
        offered: Option<&KeyFingerprint>,
    ) -> Result<Option<KeyFingerprint>, StoreError>;

    /// Whether the store can take a change now: writes and syncs something harmless.
    ///
    /// # Errors
    /// When it cannot.
    async fn probe(&self) -> Result<(), StoreError>;

    /// Returns when nothing can be written any more until a restart, with the reason. Whoever
    /// serves the store should then stop.
    async fn broken(&self) -> StoreError;
}
