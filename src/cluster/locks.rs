//! Who holds a lock that a statement of ours waits for.

use tokio_postgres::Row;

use super::Cluster;
use super::connect::{Lane, Query};
use super::error::ClusterError;
use super::observe::{SeenRole, Shown, column};
use crate::lease::{Blocker, BlockerKind, Holder};
use crate::names::literal;

/// Whoever holds a lock that a statement of ours waits for.
pub(super) struct LockHolder {
    /// The server process; 0 stands for a prepared transaction.
    pub(super) pid: i32,
    pub(super) role: Option<String>,
    /// The prepared transaction, as far as it is known.
    gid: Option<String>,
    /// OID of the relation that is waited for, or 0.
    pub(super) relation: u32,
}

impl LockHolder {
    /// That it holds a lock on `object`, and how it is ended.
    pub(super) fn blocker(self, object: &str) -> Blocker {
        let Self { pid, role, gid, .. } = self;
        let lock = |detail: String| Blocker::new(BlockerKind::Lock, detail).about(object);
        if pid != 0 {
            let name = role.as_deref().unwrap_or("nobody");
            let detail = format!("server process {pid} of {name} holds a lock on {object}");
            let sql = format!("SELECT pg_terminate_backend({pid})");
            return lock(detail).held_by(Holder { pid: Some(pid), role }).remedy_sql(&sql);
        }
        let holder = Holder { pid: None, role: None };
        let detail = "a prepared transaction holds a lock on";
        match gid {
            Some(gid) => lock(format!("{detail} {object}: {gid}"))
                .held_by(holder)
                .remedy_sql(&format!("ROLLBACK PREPARED {}", literal(&gid))),
            None => lock(format!("{detail} {object}")).held_by(holder).remedy(
                "look in pg_prepared_xacts, and ROLLBACK PREPARED as its owner or as a superuser",
            ),
        }
    }
}

impl Cluster {
    /// Who holds the lock that a session of the broker waits for on `role`.
    pub(super) async fn in_the_way(
        &self,
        lane: Lane,
        role: &SeenRole,
    ) -> Result<Vec<Blocker>, ClusterError> {
        let sql = include_str!("sql/in_the_way.sql");
        let query = Query { sql, parameters: &[&role.name] };
        let doing = "reading who holds a lock on a role";
        let [rows] = self.connections.read(lane, doing, [query]).await?;
        let blocker = |row: &Row| Ok(self.lock_holder(row)?.blocker("the role"));
        rows.iter().map(blocker).collect()
    }

    /// Whom the server process `pid` of ours waits for.
    pub(super) async fn waits(&self, pid: i32) -> Result<Vec<LockHolder>, ClusterError> {
        let query = Query { sql: include_str!("sql/waits.sql"), parameters: &[&pid] };
        let doing = "reading whom a statement waits for";
        let [rows] = self.connections.read(Lane::Help, doing, [query]).await?;
        let holder = |row: &Row| {
            let relation = column(&self.name, row, "relation")?;
            Ok(LockHolder { relation, ..self.lock_holder(row)? })
        };
        rows.iter().map(holder).collect()
    }

    fn lock_holder(&self, row: &Row) -> Result<LockHolder, ClusterError> {
        let text = |name| Ok(column::<Option<Shown>>(&self.name, row, name)?.map(|shown| shown.0));
        Ok(LockHolder {
            pid: column(&self.name, row, "pid")?,
            role: text("owner")?,
            gid: text("gid")?,
            relation: 0,
        })
    }
}
