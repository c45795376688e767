//! Who holds a lock that a statement of ours waits for, and what of that is ours to end.
//!
//! Invariant: what is ended here keeps a role of ours from being closed or dropped, and is another
//! role's of ours, or, before 16, a transaction that was prepared as the group that ours was lent.
//! Everybody else is named and left alone.

use std::time::Duration;

use tokio_postgres::Row;
use tracing::debug;

use super::connect::{Lane, Query};
use super::error::ClusterError;
use super::locate::{Located, SeenRole};
use super::remove::cannot_act;
use super::row::{Shown, column};
use super::{Cluster, RoleTarget};
use crate::lease::plan::{self, HeldByPrepared};
use crate::lease::{Blocker, BlockerKind, Holder, Marker, MarkerReading};
use crate::names::{LeaseId, RoleOid, literal};

/// Whoever holds a lock that a statement of ours waits for.
pub(super) struct LockHolder {
    /// The server process; 0 stands for a prepared transaction.
    pub(super) pid: i32,
    pub(super) role: Option<String>,
    /// The prepared transaction, as far as it is known.
    gid: Option<String>,
    /// The database of the prepared transaction.
    database: Option<String>,
    /// OID of the relation that is waited for, or 0.
    pub(super) relation: u32,
}

impl LockHolder {
    /// That it holds a lock on `object`, and how it is ended.
    pub(super) fn blocker(self, object: &str) -> Blocker {
        let Self { pid, role, gid, database, .. } = self;
        let lock = |detail: String| Blocker::new(BlockerKind::Lock, detail).about(object);
        if pid != 0 {
            let name = role.as_deref().unwrap_or("nobody");
            let detail = format!("server process {pid} of {name} holds a lock on {object}");
            let sql = format!("SELECT pg_terminate_backend({pid})");
            return lock(detail).held_by(Holder { pid: Some(pid), role }).remedy_sql(&sql);
        }
        let holder = Holder { pid: None, role: None };
        let detail = "a prepared transaction holds a lock on";
        let blocker = match gid {
            Some(gid) => lock(format!("{detail} {object}: {gid}"))
                .held_by(holder)
                .remedy_sql(&format!("ROLLBACK PREPARED {}", literal(&gid))),
            None => lock(format!("{detail} {object}")).held_by(holder).remedy(
                "look in pg_prepared_xacts, and ROLLBACK PREPARED as its owner or as a superuser",
            ),
        };
        match database {
            Some(database) => blocker.within(database),
            None => blocker,
        }
    }
}

/// What holds a lock on a role and is ours to end.
enum OurDoing {
    /// A session of the role of `lease`.
    Session { pid: i32, lease: LeaseId, oid: RoleOid },
    /// A prepared transaction of such a role, or of the group that ours was lent.
    Prepared(HeldByPrepared),
}

impl Cluster {
    /// Ends what holds the lock that a session of the broker waits for on `role`, if that is a
    /// lease role's doing. Gives who else holds one, and what could not be ended.
    pub(super) async fn make_way(
        &self,
        lane: Lane,
        role: &SeenRole,
    ) -> Result<Vec<Blocker>, ClusterError> {
        let sql = include_str!("sql/in_the_way.sql");
        let query = Query { sql, parameters: &[&role.name, &role.groups] };
        let doing = "reading who holds a lock on a role";
        let [rows] = self.connections.read(lane, doing, [query]).await?;
        let mut left = Vec::new();
        for row in &rows {
            let blocker = self.lock_holder(row)?.blocker("the role");
            match self.our_doing(row)? {
                None => left.push(blocker),
                Some(ours) => {
                    debug!(cluster = %self.name, %blocker, "a lease role's doing is ended");
                    if let Err(why) = self.end_our_doing(lane, &ours).await {
                        left.extend([blocker, why]);
                    }
                }
            }
        }
        Ok(left)
    }

    fn our_doing(&self, row: &Row) -> Result<Option<OurDoing>, ClusterError> {
        let Some(oid) = column::<Option<u32>>(&self.name, row, "owner_oid")? else {
            return Ok(None);
        };
        let oid = RoleOid(oid);
        let comment: Option<Shown> = column(&self.name, row, "owner_comment")?;
        let comment = comment.map(|Shown(comment)| comment).unwrap_or_default();
        let lease = match Marker::read(&comment, &self.key, &self.broker, &self.name) {
            MarkerReading::Ours(lease) => Some(lease),
            MarkerReading::Foreign | MarkerReading::Invalid => None,
        };
        let pid: i32 = column(&self.name, row, "pid")?;
        if pid != 0 {
            // Only who has changed the role's row: a lock on its name may be anybody's.
            let for_row: bool = column(&self.name, row, "for_row")?;
            let session = |lease| OurDoing::Session { pid, lease, oid };
            return Ok(lease.filter(|_| for_row).map(session));
        }
        let of_group = column::<Option<bool>>(&self.name, row, "of_group")? == Some(true);
        if !column::<bool>(&self.name, row, "may_become")? || (lease.is_none() && !of_group) {
            return Ok(None);
        }
        // A name that is no text cannot stand in a statement.
        let text = |name| row.try_get::<_, Option<String>>(name).ok().flatten();
        let (Some(gid), Some(transaction)) = (text("gid"), text("transaction")) else {
            return Ok(None);
        };
        let (Some(database), Some(owner)) = (text("database"), text("owner")) else {
            return Ok(None);
        };
        Ok(Some(OurDoing::Prepared(HeldByPrepared {
            gid,
            transaction,
            database,
            owner,
            owner_oid: oid,
            broker_is_member: column(&self.name, row, "broker_is_member")?,
        })))
    }

    async fn end_our_doing(&self, lane: Lane, ours: &OurDoing) -> Result<(), Blocker> {
        match ours {
            OurDoing::Session { pid, lease, oid } => {
                self.end_session(lane, *pid, *lease, *oid).await
            }
            OurDoing::Prepared(held) => {
                let rolled_back = self.roll_back(&plan::roll_back_as_owner(held)).await;
                rolled_back.map_err(|failure| {
                    let HeldByPrepared { gid, owner, database, .. } = held;
                    let detail = format!(
                        "prepared transaction {gid} of {owner} is not rolled back: {failure}"
                    );
                    Blocker::new(BlockerKind::PreparedTransaction, detail).within(database)
                })
            }
        }
    }

    /// Ends the session `pid`, if it is one of the role of `lease`; as a member of that role when
    /// the broker's login may not otherwise.
    async fn end_session(
        &self,
        lane: Lane,
        pid: i32,
        lease: LeaseId,
        oid: RoleOid,
    ) -> Result<(), Blocker> {
        match self.signal_one(lane, pid, oid).await {
            Err(error) if error.is_not_permitted() => {}
            answer => return answer.map_err(|error| error.blocker()),
        }
        let located = self.locate(lane, &RoleTarget::found(lease, oid)).await;
        let Located::Ours(role) = located.map_err(|error| error.blocker())? else { return Ok(()) };
        let estate = self.estate(lane, &role).await.map_err(|error| error.blocker())?;
        let Some(estate) = estate else { return Ok(()) };
        let join = plan::join(&estate);
        let joined = self.connections.apply(lane, &self.limits, &join, Duration::MAX);
        joined.await.map_err(|failure| cannot_act(&estate, &failure))?;
        self.signal_one(lane, pid, oid).await.map_err(|error| error.blocker())
    }

    async fn signal_one(&self, lane: Lane, pid: i32, oid: RoleOid) -> Result<(), ClusterError> {
        // The call stands in the select list: as a condition it could run for other rows too.
        let sql = "SELECT pg_terminate_backend(pid) AS signalled FROM pg_stat_activity \
                   WHERE pid = $1 AND usesysid = $2";
        let query = Query { sql, parameters: &[&pid, &oid.0] };
        let doing = "ending a session that keeps a role locked";
        self.connections.read(lane, doing, [query]).await.map(|_| ())
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
            database: text("database")?,
            relation: 0,
        })
    }
}
