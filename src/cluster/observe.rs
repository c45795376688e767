//! What the catalogue says. Nothing here changes anything, and nothing here decides.

use std::time::SystemTime;

use jiff::Timestamp;
use tokio_postgres::Row;
use tokio_postgres::types::FromSql;

use super::connect::{Lane, Query};
use super::error::{ClusterError, Failure};
use super::{Cluster, ClusterHealth, RoleTarget};
use crate::lease::plan::{
    self, Dependency, Estate, Membership, PreparedTransaction, RoleView, ServerVersion,
};
use crate::lease::{Blocker, BlockerKind, FoundRole, Holder, Lease, Marker, MarkerReading};
use crate::names::{ClusterName, LeaseId, LeaseRoleName, RoleOid, printable};

/// The role that a target names.
pub(super) enum Located {
    /// No role has its OID, its name or its mark.
    Missing,
    /// Its OID belongs to the role of another lease of ours by now, as after a fail-over or a
    /// restore; so its own role is gone.
    OidTaken,
    /// The lease's role.
    Ours(SeenRole),
    /// A role that must not be touched, and why.
    NotOurs(ClusterError),
}

/// A role that carries the mark of the lease it was looked up for.
pub(super) struct SeenRole {
    pub(super) oid: RoleOid,
    pub(super) name: String,
    pub(super) can_login: bool,
    pub(super) server_time: Timestamp,
}

impl Cluster {
    /// The OID of the lease's role, if the role exists and carries the lease's mark.
    ///
    /// # Errors
    /// When the cluster failed. A role without the mark is no error: it is not the lease's.
    pub async fn find(&self, lease: &Lease) -> Result<Option<RoleOid>, ClusterError> {
        match self.locate(Lane::Revoke, &RoleTarget::of(lease)).await? {
            Located::Ours(role) => Ok(Some(role.oid)),
            Located::Missing | Located::OidTaken | Located::NotOurs(_) => Ok(None),
        }
    }

    /// Every role that carries a mark, or whose name begins like ours.
    ///
    /// # Errors
    /// When the cluster failed.
    pub async fn lease_roles(&self) -> Result<Vec<FoundRole>, ClusterError> {
        let query = Query {
            sql: include_str!("sql/lease_roles.sql"),
            parameters: &[&Marker::BEGIN, &self.role_prefix.as_str()],
        };
        let [rows] = self.connections.read(Lane::Revoke, "listing lease roles", [query]).await?;
        rows.iter().map(|row| self.found_role(row)).collect()
    }

    /// Reads the cluster's clock.
    ///
    /// # Errors
    /// When the cluster failed.
    pub async fn clock(&self) -> Result<Timestamp, ClusterError> {
        let sql = "SELECT clock_timestamp() AS server_time";
        let query = Query { sql, parameters: &[] };
        let [rows] = self.connections.read(Lane::Help, "reading its clock", [query]).await?;
        let row = rows.first().ok_or_else(|| self.unreadable("an empty answer"))?;
        self.time(row, "server_time")
    }

    /// Connects and asks how the cluster is.
    ///
    /// # Errors
    /// When the cluster failed.
    pub async fn probe(&self) -> Result<ClusterHealth, ClusterError> {
        let query = Query { sql: include_str!("sql/health.sql"), parameters: &[] };
        let [rows] = self.connections.read(Lane::Revoke, "asking how it is", [query]).await?;
        let row = rows.first().ok_or_else(|| self.unreadable("an empty answer"))?;
        Ok(ClusterHealth {
            version: self.version(row)?.0,
            standby: column(&self.name, row, "standby")?,
            superuser: column(&self.name, row, "superuser")?,
            can_create_roles: column(&self.name, row, "can_create_roles")?,
            can_signal: column(&self.name, row, "can_signal")?,
            server_time: self.time(row, "server_time")?,
        })
    }

    /// Finds the role of `target`: by OID if it is known, else by name or mark.
    pub(super) async fn locate(
        &self,
        lane: Lane,
        target: &RoleTarget,
    ) -> Result<Located, ClusterError> {
        const DOING: &str = "looking for a lease role";
        let marker = Marker::new(&self.key, &self.broker, &self.name, target.lease);
        let name = target.name.as_ref().map_or("", LeaseRoleName::as_str);
        let rows = if let Some(oid) = target.oid {
            let sql = include_str!("sql/role_by_oid.sql");
            let query = Query { sql, parameters: &[&oid.0] };
            self.connections.read(lane, DOING, [query]).await?
        } else {
            let sql = include_str!("sql/role_by_name.sql");
            let query = Query { sql, parameters: &[&name, &marker.as_str()] };
            self.connections.read(lane, DOING, [query]).await?
        };
        let [rows] = rows;
        // Without an OID the name decides; only if nobody has it, a mark under another name does.
        let mut named = None;
        for row in &rows {
            if column::<String>(&self.name, row, "name")? == name {
                named = Some(row);
            }
        }
        match named.or(rows.first()) {
            Some(row) => self.judge(row, target.lease),
            None => Ok(Located::Missing),
        }
    }

    fn judge(&self, row: &Row, lease: LeaseId) -> Result<Located, ClusterError> {
        let comment: String = column(&self.name, row, "comment")?;
        let role = SeenRole {
            oid: RoleOid(column(&self.name, row, "oid")?),
            name: column(&self.name, row, "name")?,
            can_login: column(&self.name, row, "can_login")?,
            server_time: self.time(row, "server_time")?,
        };
        let superuser: bool = column(&self.name, row, "superuser")?;
        let because = match Marker::read(&comment, &self.key, &self.broker, &self.name) {
            MarkerReading::Ours(of) if of == lease && superuser => "it was made a superuser",
            MarkerReading::Ours(of) if of == lease => return Ok(Located::Ours(role)),
            MarkerReading::Ours(of) if leads_to(&role.name, of) => return Ok(Located::OidTaken),
            MarkerReading::Ours(_) => "its mark is of another lease",
            MarkerReading::Foreign => "its mark is of another broker",
            MarkerReading::Invalid => "it does not carry our mark",
        };
        let (oid, name) = (role.oid, printable(&role.name));
        let cluster = self.name.clone();
        Ok(Located::NotOurs(ClusterError::NotOurs { cluster, lease, oid, name, because }))
    }

    /// What must be known to end the access of `role`; nothing when it is gone meanwhile.
    pub(super) async fn view(&self, role: &SeenRole) -> Result<Option<RoleView>, ClusterError> {
        let admin = self.admin_role.as_ref().map_or("", |role| role.as_str());
        let broker = Query { sql: include_str!("sql/broker.sql"), parameters: &[&role.oid.0] };
        let memberships =
            Query { sql: include_str!("sql/memberships.sql"), parameters: &[&role.oid.0, &admin] };
        let doing = "reading a role's memberships";
        let [broker, memberships] =
            self.connections.read(Lane::Revoke, doing, [broker, memberships]).await?;
        let Some(broker) = broker.first() else { return Ok(None) };
        let mut view = RoleView {
            oid: role.oid,
            name: role.name.clone(),
            can_login: role.can_login,
            version: self.version(broker)?,
            broker_may_end_sessions: column(&self.name, broker, "may_signal")?
                || column(&self.name, broker, "is_member")?,
            groups: Vec::new(),
            members: Vec::new(),
            handed_on: Vec::new(),
        };
        for row in &memberships {
            let membership = self.membership(row)?;
            if column(&self.name, row, "is_member")? {
                view.groups.push(membership);
            } else if column(&self.name, row, "is_group")? {
                view.members.push(membership);
            } else {
                view.handed_on.push(membership);
            }
        }
        Ok(Some(view))
    }

    /// What keeps `role` from being dropped; nothing when it is gone meanwhile.
    pub(super) async fn estate(
        &self,
        lane: Lane,
        role: &SeenRole,
    ) -> Result<Option<Estate>, ClusterError> {
        let broker = Query { sql: include_str!("sql/broker.sql"), parameters: &[&role.oid.0] };
        let dependencies =
            Query { sql: include_str!("sql/dependencies.sql"), parameters: &[&role.oid.0] };
        let prepared = Query { sql: include_str!("sql/prepared.sql"), parameters: &[&role.name] };
        let doing = "reading what a role leaves behind";
        let queries = [broker, dependencies, prepared];
        let [broker, dependencies, prepared] = self.connections.read(lane, doing, queries).await?;
        let Some(broker) = broker.first() else { return Ok(None) };
        let mut estate = Estate {
            oid: role.oid,
            name: role.name.clone(),
            version: self.version(broker)?,
            broker_is_member: column(&self.name, broker, "is_member")?,
            prepared: Vec::new(),
            dependencies: Vec::new(),
            owned_shared: Vec::new(),
            shared_privileges: false,
        };
        for row in &prepared {
            let gid = column(&self.name, row, "gid")?;
            let database = column(&self.name, row, "database")?;
            estate.prepared.push(PreparedTransaction { gid, database });
        }
        for row in &dependencies {
            if let Some(database) = column(&self.name, row, "database")? {
                let connectable = column(&self.name, row, "connectable")?;
                let owned = column(&self.name, row, "owned")?;
                estate.dependencies.push(Dependency { database, connectable, owned });
            } else {
                estate.owned_shared = column(&self.name, row, "owned_shared")?;
                estate.shared_privileges = column::<i64>(&self.name, row, "privileges")? > 0;
            }
        }
        Ok(Some(estate))
    }

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
        let blocker = |row: &Row| {
            let pid: i32 = column(&self.name, row, "pid")?;
            let owner: String = column(&self.name, row, "owner")?;
            Ok(holds_a_lock(pid, &owner))
        };
        rows.iter().map(blocker).collect()
    }

    fn membership(&self, row: &Row) -> Result<Membership, ClusterError> {
        Ok(Membership {
            group: column(&self.name, row, "group_name")?,
            member: column(&self.name, row, "member_name")?,
            member_is_broker: column(&self.name, row, "member_is_broker")?,
            grantor: column(&self.name, row, "grantor_name")?,
        })
    }

    fn found_role(&self, row: &Row) -> Result<FoundRole, ClusterError> {
        let comment: String = column(&self.name, row, "comment")?;
        Ok(FoundRole {
            oid: RoleOid(column(&self.name, row, "oid")?),
            name: column(&self.name, row, "name")?,
            marker: Marker::read(&comment, &self.key, &self.broker, &self.name),
        })
    }

    pub(super) fn version(&self, row: &Row) -> Result<ServerVersion, ClusterError> {
        let number: i32 = column(&self.name, row, "version")?;
        let number = u32::try_from(number).map_err(|_| self.unreadable("version"))?;
        Ok(ServerVersion(number))
    }

    pub(super) fn time(&self, row: &Row, name: &'static str) -> Result<Timestamp, ClusterError> {
        let time: SystemTime = column(&self.name, row, name)?;
        Timestamp::try_from(time).map_err(|_| self.unreadable(name))
    }

    pub(super) fn unreadable(&self, what: &'static str) -> ClusterError {
        ClusterError::Unreadable { cluster: self.name.clone(), what }
    }
}

/// Whoever holds a lock on a role; process 0 stands for a prepared transaction.
fn holds_a_lock(pid: i32, owner: &str) -> Blocker {
    if pid == 0 {
        return Blocker::new(BlockerKind::Lock, "a prepared transaction holds a lock on it")
            .held_by(Holder { pid: None, role: None })
            .remedy(
                "look in pg_prepared_xacts, and ROLLBACK PREPARED as its owner or as a superuser",
            );
    }
    let detail = format!("server process {pid} of {} holds a lock on it", printable(owner));
    Blocker::new(BlockerKind::Lock, detail)
        .held_by(Holder { pid: Some(pid), role: Some(owner.to_owned()) })
        .remedy("end its transaction")
}

/// Whether the name is that of a role made for `lease`: mark and name agree.
fn leads_to(name: &str, lease: LeaseId) -> bool {
    let name = LeaseRoleName::try_from(name.to_owned()).ok();
    name.and_then(|name| name.lease_id()) == Some(lease)
}

/// A column by its name.
///
/// # Errors
/// When it is not there or holds another type.
pub(super) fn column<'a, T: FromSql<'a>>(
    cluster: &ClusterName,
    row: &'a Row,
    name: &'static str,
) -> Result<T, ClusterError> {
    let unreadable = || ClusterError::Unreadable { cluster: cluster.clone(), what: name };
    row.try_get(name).map_err(|_| unreadable())
}

/// Whether a statement failed because somebody else was quicker, so that looking again helps: the
/// role is gone or renamed (42704, and the plan's own check), its row was changed or deleted in
/// the same moment (XX000, "tuple concurrently updated"), or a deadlock was broken (40P01).
pub(super) fn moved_on(failure: &Failure) -> bool {
    failure.is_one_of(&["42704", plan::CHECK_FAILED, "40P01"])
        || failure.is_one_of(&["XX000"]) && failure.text.contains("concurrently")
}
