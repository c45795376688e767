//! What the catalogue says of the cluster and of a role of ours. Nothing here changes anything, and
//! nothing here decides.

use std::collections::BTreeMap;

use jiff::Timestamp;
use tokio_postgres::Row;

use super::connect::{Lane, Query};
use super::error::ClusterError;
use super::locate::SeenRole;
use super::row::{Shown, column, count, name_or_empty, named};
use super::sessions::HAS_SESSIONS;
use super::{Cluster, ClusterHealth};
use crate::lease::plan::{
    Attic, Dependency, Estate, Membership, Named, PreparedTransaction, RoleView,
};
use crate::lease::{Blocker, BlockerKind, Marker};
use crate::names::{RoleOid, identifier};

/// Memberships of one role that are dealt with at once.
pub(super) const MEMBERSHIPS: usize = 1000;

/// How thoroughly memberships are looked for that a role has handed on: before 16 that reads the
/// whole table.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum Search {
    /// Only if the role may hand one on now.
    IfItMay,
    /// In any case.
    Everywhere,
}

impl Cluster {
    /// Reads the cluster's clock.
    ///
    /// # Errors
    /// When the cluster failed.
    pub async fn clock(&self) -> Result<Timestamp, ClusterError> {
        let sql = "SELECT clock_timestamp() AS server_time";
        let query = Query { sql, parameters: &[] };
        let [rows] = self.connections.read(Lane::Help, "reading its clock", [query]).await?;
        let row = self.only(&rows)?;
        self.time(row, "server_time")
    }

    /// Connects and asks how the cluster is.
    ///
    /// # Errors
    /// When the cluster failed.
    pub async fn probe(&self) -> Result<ClusterHealth, ClusterError> {
        let query = Query { sql: include_str!("sql/health.sql"), parameters: &[] };
        let [rows] = self.connections.read(Lane::Revoke, "asking how it is", [query]).await?;
        let row = self.only(&rows)?;
        Ok(ClusterHealth {
            version: self.version(row)?.0,
            standby: column(&self.name, row, "standby")?,
            superuser: column(&self.name, row, "superuser")?,
            can_create_roles: column(&self.name, row, "can_create_roles")?,
            can_signal: column(&self.name, row, "can_signal")?,
            server_time: self.time(row, "server_time")?,
        })
    }

    /// What must be known to end the access of `role`; nothing when it is gone meanwhile.
    ///
    /// `search` says how thoroughly memberships are looked for that it has handed on.
    pub(super) async fn view(
        &self,
        lane: Lane,
        role: &SeenRole,
        search: Search,
    ) -> Result<Option<RoleView>, ClusterError> {
        let admin = name_or_empty(self.admin_role.as_ref());
        let broker = Query { sql: include_str!("sql/broker.sql"), parameters: &[&role.oid.0] };
        let everywhere = search == Search::Everywhere;
        let memberships = Query {
            sql: include_str!("sql/memberships.sql"),
            parameters: &[&role.oid.0, &admin, &everywhere, &count(MEMBERSHIPS)],
        };
        let doing = "reading a role's memberships";
        let [broker, memberships] =
            self.connections.read(lane, doing, [broker, memberships]).await?;
        let Some(broker) = broker.first() else { return Ok(None) };
        let mut view = RoleView {
            oid: role.oid,
            name: role.name.clone(),
            can_login: role.can_login,
            has_replication: role.has_replication,
            version: self.version(broker)?,
            broker: column(&self.name, broker, "broker")?,
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
        let sessions = Query { sql: HAS_SESSIONS, parameters: &[&role.oid.0] };
        let broker = Query { sql: include_str!("sql/broker.sql"), parameters: &[&role.oid.0] };
        let dependencies =
            Query { sql: include_str!("sql/dependencies.sql"), parameters: &[&role.oid.0] };
        let prepared = Query { sql: include_str!("sql/prepared.sql"), parameters: &[&role.oid.0] };
        let admin = name_or_empty(self.admin_role.as_ref());
        let memberships = Query {
            sql: include_str!("sql/memberships.sql"),
            parameters: &[&role.oid.0, &admin, &true, &count(MEMBERSHIPS)],
        };
        let doing = "reading what a role leaves behind";
        let queries = [sessions, broker, dependencies, prepared, memberships];
        let [sessions, broker, dependencies, prepared, memberships] =
            self.connections.read(lane, doing, queries).await?;
        let Some(broker) = broker.first() else { return Ok(None) };
        let mut estate = Estate {
            oid: role.oid,
            name: role.name.clone(),
            version: self.version(broker)?,
            broker: column(&self.name, broker, "broker")?,
            broker_is_member: column(&self.name, broker, "is_member")?,
            broker_may_signal: column(&self.name, broker, "may_signal")?,
            has_sessions: column(&self.name, self.only(&sessions)?, "has_sessions")?,
            has_memberships: false,
            prepared: self.prepared(&prepared)?,
            dependencies: Vec::new(),
            owned_shared: Vec::new(),
            shared_privileges: false,
            attic: Attic::Unset,
        };
        for row in &dependencies {
            self.add_dependency(&mut estate, row)?;
        }
        for row in &memberships {
            estate.has_memberships |= !column::<bool>(&self.name, row, "member_is_broker")?;
        }
        self.place_subscriptions(lane, &mut estate).await?;
        if estate.owns_objects() {
            estate.attic = self.attic(lane).await?;
        }
        Ok(Some(estate))
    }

    fn add_dependency(&self, estate: &mut Estate, row: &Row) -> Result<(), ClusterError> {
        if let Some(database) = column(&self.name, row, "database")? {
            let connectable = column(&self.name, row, "connectable")?;
            let owned = column(&self.name, row, "owned")?;
            estate.dependencies.push(Dependency { database, connectable, owned });
        } else {
            estate.owned_shared = named(&self.name, row)?;
            estate.shared_privileges = column::<i64>(&self.name, row, "privileges")? > 0;
        }
        Ok(())
    }

    pub(super) fn prepared(&self, rows: &[Row]) -> Result<Vec<PreparedTransaction>, ClusterError> {
        let prepared = |row: &Row| {
            let gid = column(&self.name, row, "gid")?;
            Ok(PreparedTransaction { gid, database: column(&self.name, row, "database")? })
        };
        rows.iter().map(prepared).collect()
    }

    /// A subscription is of one database, although it is shared; before 14 only superusers may know.
    async fn place_subscriptions(
        &self,
        lane: Lane,
        estate: &mut Estate,
    ) -> Result<(), ClusterError> {
        let is_one = |object: &&mut Named| object.kind == "subscription";
        let oid = estate.oid.0;
        let mut subscriptions = estate.owned_shared.iter_mut().filter(is_one).peekable();
        if subscriptions.peek().is_none() || !estate.version.shows_subscriptions() {
            return Ok(());
        }
        let query = Query { sql: include_str!("sql/subscriptions.sql"), parameters: &[&oid] };
        let doing = "reading a role's subscriptions";
        let [rows] = self.connections.read(lane, doing, [query]).await?;
        let mut places = BTreeMap::new();
        for row in &rows {
            let Shown(identity) = column(&self.name, row, "identity")?;
            let Shown(database) = column(&self.name, row, "database")?;
            places.insert(identity, database);
        }
        for subscription in subscriptions {
            subscription.database = places.remove(&subscription.identity);
        }
        Ok(())
    }

    async fn attic(&self, lane: Lane) -> Result<Attic, ClusterError> {
        let Some(name) = &self.attic_role else { return Ok(Attic::Unset) };
        let sql = include_str!("sql/attic.sql");
        let query = Query { sql, parameters: &[&name.as_str(), &Marker::BEGIN] };
        let [rows] = self.connections.read(lane, "looking at the attic role", [query]).await?;
        let Some(row) = rows.first() else { return Ok(Attic::Missing(name.clone())) };
        Ok(Attic::Found {
            name: name.clone(),
            oid: RoleOid(column(&self.name, row, "oid")?),
            can_login: column(&self.name, row, "can_login")?,
            has_attributes: column(&self.name, row, "has_attributes")?,
            groups: column(&self.name, row, "groups")?,
        })
    }

    /// The replication slots that `role` may have made, if a DBA gave it the right to.
    pub(super) async fn slots(
        &self,
        lane: Lane,
        role: &SeenRole,
    ) -> Result<Vec<Blocker>, ClusterError> {
        if !role.has_replication {
            return Ok(Vec::new());
        }
        let query = Query { sql: include_str!("sql/slots.sql"), parameters: &[&role.oid.0] };
        let doing = "looking for replication slots of a role";
        let [rows] = self.connections.read(lane, doing, [query]).await?;
        let blocker = |row: &Row| {
            let Shown(slot) = column(&self.name, row, "slot")?;
            let database: Option<Shown> = column(&self.name, row, "database")?;
            Ok(may_be_its_slot(&role.name, &slot, database))
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
}

/// The server does not say who made a slot: it may be somebody else's, so there is no statement to
/// paste that drops it. Taking REPLICATION away is how a DBA says that none of those that are left
/// is the role's.
fn may_be_its_slot(role: &str, slot: &str, database: Option<Shown>) -> Blocker {
    let detail = format!(
        "replication slot {slot} may be the role's, which was given REPLICATION, or somebody else's"
    );
    let remedy = format!(
        "run ALTER ROLE {} NOREPLICATION, ask who follows the slot, and drop it only if nobody \
         but the role did",
        identifier(role)
    );
    Blocker::new(BlockerKind::ReplicationSlot, detail)
        .about(slot)
        .within_if(database.map(|Shown(database)| database))
        .remedy(remedy)
}
