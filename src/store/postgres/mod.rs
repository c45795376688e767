//! The store as a database on PostgreSQL, for one broker or several without a leader.
//!
//! ```text
//! settings  the address, and what protects the way there
//! connect   connections to the primary, each checked, in pools
//! schema    made, brought up to date and checked, for brokers of two versions side by side
//! writer    changes with their audit records: many in one transaction
//! changes   each change as statements
//! work      changes without a record: claims, counters (`attempts`), one-time values, sweeping
//! reads     what is asked
//! value     texts and times as the server keeps them, and `rows` to read them
//! problem   what goes wrong
//! ```
//!
//! - On disk: `synchronous_commit = on` in every session; an answer leaves after the commit's.
//! - Whatever must not happen twice or side by side is decided by the server: versions of leases
//!   by compare and swap, request keys by a unique index, logins and counters by locks.
//! - Every wait is bounded. A connection that is lost, or leads to a server that takes no writes
//!   any more, is made anew; a commit whose answer is missing is in doubt and never sent again.
//! - Every change finds out by itself whether the server is still the primary, whether the schema
//!   is still one that this version understands, and whether settings still hold.

mod attempts;
mod changes;
mod connect;
mod problem;
mod reads;
mod rows;
mod schema;
mod settings;
mod value;
mod work;
mod writer;

use std::fmt;
use std::sync::Arc;

use async_trait::async_trait;
use jiff::Timestamp;
use uuid::Uuid;

pub use settings::{PostgresSettings, StorePassword, StoreUrl, StoreUrlError};

use self::changes::{Changes, Line};
use self::connect::{Dial, Pool};
use self::problem::Problem;
use self::schema::{Known, Old};
use self::writer::Writer;
use super::refusal::Refusal;
use super::{
    AuditEntry, Change, Claimant, LeaseFilter, OneTimeValue, Store, StoreError, StoredMap,
};
use crate::audit::Record;
use crate::auth::{Admission, LockoutRule, Session, SessionTimes};
use crate::lease::{KeyFingerprint, Lease, LiveLease};
use crate::mapping::{MapRevision, RevisionBeginning};
use crate::names::{ClusterName, LeaseId, Principal, RequestKey, RoleOid, TokenHash};

/// Connections kept beside the two of the writer.
const CONNECTIONS: usize = 8;

/// The store in one database. Dropping it closes its connections, after what waits to be written.
pub struct PostgresStore {
    access: Access,
    pool: Pool,
    address: String,
}

enum Access {
    Serve(Writer),
    Read,
}

impl fmt::Debug for PostgresStore {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.debug_tuple("PostgresStore").field(&self.address).finish()
    }
}

impl PostgresStore {
    /// Opens the store to serve it, and brings its schema up to date.
    ///
    /// # Errors
    /// When no server of it takes writes or is what a store needs, or its schema is not ours or
    /// of a version that this one must not work with: a [`StoreError::Failed`] that says what to do.
    pub async fn open(settings: &PostgresSettings) -> Result<Self, StoreError> {
        Self::opened(settings, Old::Migrate).await
    }

    /// Opens the store to read it only, beside the brokers that serve it. Its login needs to be
    /// allowed to read, and nothing else.
    ///
    /// # Errors
    /// As [`Self::open`], and when its schema is missing or older than this version reads.
    pub async fn open_read_only(settings: &PostgresSettings) -> Result<Self, StoreError> {
        Self::opened(settings, Old::Refuse).await
    }

    async fn opened(settings: &PostgresSettings, old: Old) -> Result<Self, StoreError> {
        let opened = Self::try_open(settings, old).await.map_err(Problem::at_start);
        opened.map_err(|problem| problem.into_error(&settings.url.to_string(), "opening it"))
    }

    async fn try_open(settings: &PostgresSettings, old: Old) -> Result<Self, Problem> {
        let (dial, known) = (Arc::new(Dial::new(settings)?), Known::newest());
        schema::prepare(&dial, known, old).await?;
        let pool = |size: usize| Pool::new(Arc::clone(&dial), known, size);
        let access = match old {
            Old::Migrate => Access::Serve(Writer::start(pool(1), pool(1))),
            Old::Refuse => Access::Read,
        };
        Ok(Self { access, pool: pool(CONNECTIONS), address: settings.url.to_string() })
    }

    fn told<T>(&self, doing: &'static str, done: Result<T, Problem>) -> Result<T, StoreError> {
        done.map_err(|problem| problem.into_error(&self.address, doing))
    }

    fn writer(&self) -> Result<&Writer, Problem> {
        match &self.access {
            Access::Serve(writer) => Ok(writer),
            Access::Read => Err(Refusal::ReadOnly.into()),
        }
    }

    /// The pool, for what writes without the writer.
    fn to_write(&self) -> Result<&Pool, Problem> {
        self.writer().map(|_| &self.pool)
    }

    async fn try_commit(&self, changes: &[Change], records: &[Record]) -> Result<(), Problem> {
        if records.is_empty() {
            return Err(Refusal::NoRecord.into());
        }
        let lines = records.iter().map(Line::of).collect::<Result<_, _>>()?;
        self.writer()?.call(Changes::of(changes)?, lines).await
    }
}

#[async_trait]
impl Store for PostgresStore {
    async fn commit(&self, changes: Vec<Change>, records: Vec<Record>) -> Result<(), StoreError> {
        let doing = "writing a change and its audit record";
        self.told(doing, self.try_commit(&changes, &records).await)
    }

    async fn admit(
        &self,
        counters: &[(String, LockoutRule)],
        now: Timestamp,
    ) -> Result<Vec<Admission>, StoreError> {
        let admit = async { attempts::admit(self.to_write()?, counters, now).await };
        self.told("counting an attempt", admit.await)
    }

    async fn lease(&self, id: LeaseId) -> Result<Option<Lease>, StoreError> {
        self.told("reading a lease", reads::lease(&self.pool, id).await)
    }

    async fn leases(&self, filter: &LeaseFilter) -> Result<Vec<Lease>, StoreError> {
        self.told("listing leases", reads::leases(&self.pool, filter).await)
    }

    async fn live_leases_of(
        &self,
        principal: &Principal,
        after: Option<&Lease>,
        limit: u32,
    ) -> Result<Vec<Lease>, StoreError> {
        let live = reads::live_leases_of(&self.pool, principal, after, limit).await;
        self.told("listing somebody's leases", live)
    }

    async fn people(&self) -> Result<Vec<Principal>, StoreError> {
        self.told("listing who has a lease or a session", reads::people(&self.pool).await)
    }

    async fn lease_of_key(
        &self,
        principal: &Principal,
        key: &RequestKey,
    ) -> Result<Option<Lease>, StoreError> {
        let found = reads::lease_of_key(&self.pool, principal, key).await;
        self.told("reading a lease by its request key", found)
    }

    async fn claim(
        &self,
        cluster: &ClusterName,
        now: Timestamp,
        limit: u32,
        by: Claimant,
    ) -> Result<Vec<Lease>, StoreError> {
        if limit == 0 {
            return Ok(Vec::new());
        }
        let claim = async { work::claim(self.to_write()?, cluster, now, limit, by).await };
        self.told("claiming what is due", claim.await)
    }

    async fn unclaim(&self, lease: LeaseId, by: Claimant) -> Result<(), StoreError> {
        let unclaim = async { work::unclaim(self.to_write()?, lease, by).await };
        self.told("giving back a claim", unclaim.await)
    }

    async fn live(&self, cluster: &ClusterName) -> Result<Vec<LiveLease>, StoreError> {
        self.told("listing live leases", reads::live(&self.pool, cluster).await)
    }

    async fn had_role(&self, cluster: &ClusterName, oid: RoleOid) -> Result<bool, StoreError> {
        let had = reads::had_role(&self.pool, cluster, oid).await;
        self.told("reading whose role it was", had)
    }

    async fn map_revision(&self, revision: &MapRevision) -> Result<Option<StoredMap>, StoreError> {
        let found = reads::map_revision(&self.pool, revision).await;
        self.told("reading a revision of the map", found)
    }

    async fn map_revisions(
        &self,
        beginning: &RevisionBeginning,
    ) -> Result<Vec<MapRevision>, StoreError> {
        let found = reads::map_revisions(&self.pool, beginning).await;
        self.told("looking for revisions of the map", found)
    }

    async fn map_records(&self, limit: u32) -> Result<Vec<Record>, StoreError> {
        let records = reads::map_records(&self.pool, limit).await;
        self.told("reading which maps were in force", records)
    }

    async fn session(&self, hash: &TokenHash) -> Result<Option<Session>, StoreError> {
        self.told("reading a session", reads::session(&self.pool, hash).await)
    }

    async fn touch_session(&self, id: Uuid, seen_at: Timestamp) -> Result<(), StoreError> {
        let touch = async { work::touch_session(self.to_write()?, id, seen_at).await };
        self.told("noting that a session was used", touch.await)
    }

    async fn spend(
        &self,
        value: &OneTimeValue,
        until: Timestamp,
        now: Timestamp,
    ) -> Result<bool, StoreError> {
        let spend = async { work::spend(self.to_write()?, value, until, now).await };
        self.told("accepting a one-time value", spend.await)
    }

    async fn sweep(&self, now: Timestamp, times: SessionTimes) -> Result<(), StoreError> {
        let sweep = async { work::sweep(self.to_write()?, now, times).await };
        self.told("removing what is over", sweep.await)
    }

    async fn audit_after(&self, after: u64, limit: u32) -> Result<Vec<AuditEntry>, StoreError> {
        self.told("reading the audit", reads::audit_after(&self.pool, after, limit).await)
    }

    async fn latest(&self) -> Result<Option<Timestamp>, StoreError> {
        let latest = reads::latest(&self.pool).await;
        self.told("reading how late it was at least", latest)
    }

    async fn clock(&self) -> Result<Option<Timestamp>, StoreError> {
        self.told("reading its clock", reads::clock(&self.pool).await)
    }

    async fn marker_key(
        &self,
        offered: Option<&KeyFingerprint>,
    ) -> Result<Option<KeyFingerprint>, StoreError> {
        let compare = async {
            match offered {
                Some(offered) => work::marker_key(self.to_write()?, offered).await,
                None => reads::marker_key(&self.pool).await,
            }
        };
        self.told("comparing the marker key", compare.await)
    }

    async fn probe(&self) -> Result<(), StoreError> {
        let probe = async { self.writer()?.call(Changes::probe(), Vec::new()).await };
        self.told("writing a probe", probe.await)
    }

    /// Never: a server that cannot be written to now may be written to later.
    async fn broken(&self) -> StoreError {
        std::future::pending().await
    }
}
