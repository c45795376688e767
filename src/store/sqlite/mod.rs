//! The store as one SQLite file, for one broker.
//!
//! - On disk: write-ahead log, `synchronous = FULL`; an answer leaves after the fsync.
//! - One thread writes, a few connections read. Work that waits while a commit is on its way to
//!   the disk goes into the next commit together.
//! - The file has mode 0600 from its first moment; `FILE-wal` and `FILE-shm` get the same mode
//!   from SQLite. `FILE.lock` is held while the store is served, so that a second broker on the
//!   same file is refused.

mod changes;
mod claims;
mod file;
mod problem;
mod readers;
mod reads;
mod rows;
mod schema;
mod writer;

use std::path::Path;
use std::sync::Arc;

use async_trait::async_trait;
use jiff::Timestamp;
use uuid::Uuid;

pub use file::OpenError;

use self::claims::Claims;
use self::file::ServeLock;
use self::problem::Problem;
use self::readers::{READERS, Readers};
use self::reads::Place;
use self::writer::{Limits, Writer};
use super::refusal::Refusal;
use super::{
    AuditEntry, Change, Claimant, LeaseFilter, OneTimeValue, Store, StoreError, StoredMap,
};
use crate::audit::Record;
use crate::auth::{Admission, LockoutRule, Session, SessionTimes};
use crate::lease::{KeyFingerprint, Lease, LiveLease};
use crate::mapping::{MapRevision, RevisionBeginning};
use crate::names::{ClusterName, LeaseId, Principal, RequestKey, RoleOid, TokenHash};

/// The store in one file. Dropping it finishes what waits to be written and closes the file.
#[derive(Debug)]
pub struct SqliteStore {
    // In the order of their end: SQLite tidies the log away with the last connection, which
    // should be the writer's; the lock is given back when the file is closed.
    readers: Readers,
    access: Access,
    path: Arc<str>,
    claims: Claims,
}

#[derive(Debug)]
enum Access {
    Serve { writer: Writer, _lock: ServeLock },
    Read,
}

impl SqliteStore {
    /// Opens the store to serve it: makes the file if there is none, takes the lock, looks through
    /// the file for damage and brings its schema up to date. Blocks for as long as that takes.
    ///
    /// # Errors
    /// When the file or its directory cannot be used, others than its owner may use it, another
    /// process serves it, or it is damaged, not ours, or written by a newer pgbridge: an
    /// [`OpenError`] in a [`StoreError::Failed`].
    pub fn open(path: &Path) -> Result<Self, StoreError> {
        Self::open_within(path, Limits::DEFAULT)
    }

    fn open_within(path: &Path, limits: Limits) -> Result<Self, StoreError> {
        Self::try_open(path, limits).map_err(|error| not_opened(path, error))
    }

    fn try_open(path: &Path, limits: Limits) -> Result<Self, OpenError> {
        let path = file::resolve(path)?;
        // The lock comes first: whoever holds it may have the file open with SQLite already.
        let lock = ServeLock::take(&path)?;
        file::make_private(&path)?;
        let name: Arc<str> = path.display().to_string().into();
        let writer = schema::open_writer(&path, limits.busy)?;
        let readers = open_readers(&path, &name, limits)?;
        let writer = Writer::start(writer, Arc::clone(&name), limits).map_err(|source| {
            OpenError::File { path: name.to_string(), access: "writing, by a thread", source }
        })?;
        let (access, claims) = (Access::Serve { writer, _lock: lock }, Claims::default());
        Ok(Self { readers, access, path: name, claims })
    }

    /// Opens the store to read it only, beside a broker that serves it or without one. Whatever
    /// would write is refused.
    ///
    /// # Errors
    /// When the file cannot be used, others than its owner may use it, or it is not ours or of
    /// another version: an [`OpenError`] in a [`StoreError::Failed`].
    pub fn open_read_only(path: &Path) -> Result<Self, StoreError> {
        Self::try_open_read_only(path).map_err(|error| not_opened(path, error))
    }

    fn try_open_read_only(path: &Path) -> Result<Self, OpenError> {
        let path = file::find(path)?;
        let name: Arc<str> = path.display().to_string().into();
        let readers = open_readers(&path, &name, Limits::DEFAULT);
        let readers = readers.map_err(|error| error.of_sqlite(&path))?;
        Ok(Self { readers, access: Access::Read, path: name, claims: Claims::default() })
    }

    async fn write<T: Send + 'static>(
        &self,
        doing: &'static str,
        work: impl FnOnce(&rusqlite::Connection) -> Result<T, Problem> + Send + 'static,
    ) -> Result<T, StoreError> {
        match &self.access {
            Access::Serve { writer, .. } => writer.call(doing, work).await,
            Access::Read => Err(Problem::from(Refusal::ReadOnly).into_error(&self.path, doing)),
        }
    }
}

fn open_readers(path: &Path, name: &Arc<str>, limits: Limits) -> Result<Readers, OpenError> {
    let connections =
        (0..READERS).map(|_| schema::open_reader(path, limits.busy)).collect::<Result<_, _>>()?;
    Ok(Readers::new(connections, Arc::clone(name), limits))
}

fn not_opened(path: &Path, error: OpenError) -> StoreError {
    let path = path.display().to_string();
    StoreError::Failed { path, doing: "opening it", source: Box::new(error) }
}

#[async_trait]
impl Store for SqliteStore {
    async fn commit(&self, changes: Vec<Change>, records: Vec<Record>) -> Result<(), StoreError> {
        let work = move |connection: &_| changes::commit(connection, &changes, &records);
        self.write("writing a change and its audit record", work).await
    }

    async fn admit(
        &self,
        counters: &[(String, LockoutRule)],
        now: Timestamp,
    ) -> Result<Vec<Admission>, StoreError> {
        let counters = counters.to_vec();
        let work = move |connection: &_| changes::admit(connection, &counters, now);
        self.write("counting an attempt", work).await
    }

    async fn lease(&self, id: LeaseId) -> Result<Option<Lease>, StoreError> {
        self.readers
            .look_up("reading a lease", move |connection| reads::lease(connection, id))
            .await
    }

    async fn leases(&self, filter: &LeaseFilter) -> Result<Vec<Lease>, StoreError> {
        let filter = filter.clone();
        let read = move |connection: &_| reads::leases(connection, &filter);
        self.readers.call("listing leases", read).await
    }

    async fn lease_of_key(
        &self,
        principal: &Principal,
        key: &RequestKey,
    ) -> Result<Option<Lease>, StoreError> {
        let (principal, key) = (principal.clone(), key.clone());
        let read = move |connection: &_| reads::lease_of_key(connection, &principal, &key);
        self.readers.look_up("reading the lease of a request key", read).await
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
        let cluster = cluster.clone();
        // What others have claimed is due too, and stands in front.
        let most = limit.saturating_add(self.claims.count());
        let read = move |connection: &_| reads::due(connection, &cluster, now, most);
        let due = self.readers.call("reading what is due", read).await?;
        Ok(self.claims.take(due, limit, by))
    }

    async fn unclaim(&self, lease: LeaseId, by: Claimant) -> Result<(), StoreError> {
        self.claims.give_back(lease, by);
        Ok(())
    }

    async fn live(&self, cluster: &ClusterName) -> Result<Vec<LiveLease>, StoreError> {
        let cluster = cluster.clone();
        let read = move |connection: &_| reads::live(connection, &cluster);
        self.readers.call("listing live leases", read).await
    }

    async fn live_leases_of(
        &self,
        principal: &Principal,
        after: Option<&Lease>,
        limit: u32,
    ) -> Result<Vec<Lease>, StoreError> {
        let place = Place::of(principal, after);
        let read = move |connection: &_| reads::live_leases_of(connection, &place, limit);
        self.readers.call("reading a person's leases", read).await
    }

    async fn people(&self) -> Result<Vec<Principal>, StoreError> {
        self.readers.call("listing who has leases or sessions", reads::people).await
    }

    async fn had_role(&self, cluster: &ClusterName, oid: RoleOid) -> Result<bool, StoreError> {
        let cluster = cluster.clone();
        let read = move |connection: &_| reads::had_role(connection, &cluster, oid);
        self.readers.call("reading whose role it was", read).await
    }

    async fn map_revision(&self, revision: &MapRevision) -> Result<Option<StoredMap>, StoreError> {
        let revision = revision.clone();
        let read = move |connection: &_| reads::map_revision(connection, &revision);
        self.readers.call("reading a revision of the map", read).await
    }

    async fn map_revisions(
        &self,
        beginning: &RevisionBeginning,
    ) -> Result<Vec<MapRevision>, StoreError> {
        let beginning = beginning.clone();
        let read = move |connection: &_| reads::map_revisions(connection, &beginning);
        self.readers.call("looking for revisions of the map", read).await
    }

    async fn map_records(&self, limit: u32) -> Result<Vec<Record>, StoreError> {
        let read = move |connection: &_| reads::map_records(connection, limit);
        self.readers.call("reading which maps were in force", read).await
    }

    async fn session(&self, hash: &TokenHash) -> Result<Option<Session>, StoreError> {
        let hash = hash.clone();
        let read = move |connection: &_| reads::session(connection, &hash);
        self.readers.look_up("reading a session", read).await
    }

    async fn touch_session(&self, id: Uuid, seen_at: Timestamp) -> Result<(), StoreError> {
        let work = move |connection: &_| changes::touch_session(connection, id, seen_at);
        self.write("noting that a session was used", work).await
    }

    async fn spend(
        &self,
        value: &OneTimeValue,
        until: Timestamp,
        now: Timestamp,
    ) -> Result<bool, StoreError> {
        let value = value.clone();
        let work = move |connection: &_| changes::spend(connection, &value, until, now);
        self.write("accepting a one-time value", work).await
    }

    async fn sweep(&self, now: Timestamp, times: SessionTimes) -> Result<(), StoreError> {
        let work = move |connection: &_| changes::sweep(connection, now, times);
        self.write("removing what is over", work).await
    }

    async fn audit_after(&self, after: u64, limit: u32) -> Result<Vec<AuditEntry>, StoreError> {
        let read = move |connection: &_| reads::audit_after(connection, after, limit);
        self.readers.call("reading the audit", read).await
    }

    async fn latest(&self) -> Result<Option<Timestamp>, StoreError> {
        self.readers.call("reading how late it was at least", reads::latest).await
    }

    async fn clock(&self) -> Result<Option<Timestamp>, StoreError> {
        Ok(None)
    }

    async fn marker_key(
        &self,
        offered: Option<&KeyFingerprint>,
    ) -> Result<Option<KeyFingerprint>, StoreError> {
        let doing = "comparing the marker key";
        let Some(offered) = offered.cloned() else {
            return self.readers.call(doing, reads::marker_key).await;
        };
        self.write(doing, move |connection| changes::marker_key(connection, &offered)).await
    }

    async fn probe(&self) -> Result<(), StoreError> {
        self.write("writing a probe", changes::probe).await
    }

    async fn broken(&self) -> StoreError {
        match &self.access {
            Access::Serve { writer, .. } => writer.broken().await.into_error(&self.path, "writing"),
            Access::Read => std::future::pending().await,
        }
    }
}

#[cfg(test)]
mod tests;
