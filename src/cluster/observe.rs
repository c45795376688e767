//! What the catalogue says. Nothing here changes anything, and nothing here decides.

use std::collections::BTreeMap;
use std::error::Error;
use std::time::SystemTime;

use jiff::{SignedDuration, Timestamp};
use tokio_postgres::Row;
use tokio_postgres::types::{FromSql, Type};

use super::connect::{Lane, Query};
use super::error::{ClusterError, Failure};
use super::{Cluster, ClusterHealth, RoleTarget};
use crate::lease::plan::{
    self, Attic, Dependency, Estate, Membership, Named, PreparedTransaction, RoleView,
    ServerVersion,
};
use crate::lease::{Blocker, BlockerKind, FoundRole, Lease, Marker, MarkerReading};
use crate::names::{ClusterName, LeaseId, LeaseRoleName, RoleOid, identifier, printable};

/// Roles that are read at once.
const PAGE: usize = 2000;

/// Roles with a mark of ours and another name that are told.
const RENAMED: usize = 1000;

/// Roles that only look like ours that are told.
const STRANGERS: usize = 100;

/// Memberships of one role that are dealt with at once.
pub(super) const MEMBERSHIPS: usize = 1000;

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
    pub(super) lease: LeaseId,
    pub(super) oid: RoleOid,
    pub(super) name: String,
    pub(super) can_login: bool,
    pub(super) has_replication: bool,
    pub(super) server_time: Timestamp,
    /// Groups that it was lent, as far as they are known.
    pub(super) groups: Vec<String>,
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

    /// Every role that has the mark and the name of a lease of ours, and of others that carry a
    /// mark, or whose names begin like ours, the first: whoever may make roles can make any number.
    ///
    /// # Errors
    /// When the cluster failed.
    pub async fn lease_roles(&self) -> Result<Vec<FoundRole>, ClusterError> {
        let (prefix, page) = (self.role_prefix.as_str(), count(PAGE));
        let mut last = 0_u32;
        let (mut found, mut copies, mut others) = (Vec::new(), 0, 0);
        loop {
            let query = Query {
                sql: include_str!("sql/lease_roles.sql"),
                parameters: &[&Marker::BEGIN, &prefix, &last, &page],
            };
            let doing = "listing lease roles";
            let [rows] = self.connections.read(Lane::Revoke, doing, [query]).await?;
            for row in &rows {
                let role = self.found_role(row)?;
                last = role.oid.0;
                let kept = match role.marker {
                    MarkerReading::Ours(lease) if leads_to(&role.name, lease) => true,
                    // The role may have been renamed, or a mark was copied.
                    MarkerReading::Ours(_) => is_within(&mut copies, RENAMED),
                    MarkerReading::Foreign | MarkerReading::Invalid => {
                        is_within(&mut others, STRANGERS)
                    }
                };
                if kept {
                    found.push(role);
                }
            }
            if rows.len() < PAGE {
                return Ok(found);
            }
        }
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
        // Without an OID the name decides; only if nobody has it, a mark under another name does,
        // and of several copies of a mark nobody knows the right one.
        let named = rows
            .iter()
            .find(|row| row.try_get::<_, Shown>("name").is_ok_and(|shown| shown.0 == name));
        match (named, rows.as_slice()) {
            (Some(row), _) | (None, [row]) => self.judge(row, target),
            (None, []) => Ok(Located::Missing),
            (None, [row, ..]) => self.not_ours(row, target.lease, "others carry the same mark"),
        }
    }

    fn judge(&self, row: &Row, target: &RoleTarget) -> Result<Located, ClusterError> {
        let lease = target.lease;
        let Shown(comment) = column(&self.name, row, "comment")?;
        let of = match Marker::read(&comment, &self.key, &self.broker, &self.name) {
            MarkerReading::Ours(of) => of,
            MarkerReading::Foreign => {
                return self.not_ours(row, lease, "its mark is of another broker");
            }
            MarkerReading::Invalid => {
                return self.not_ours(row, lease, "it does not carry our mark");
            }
        };
        let role = SeenRole {
            lease,
            oid: RoleOid(column(&self.name, row, "oid")?),
            name: column(&self.name, row, "name")?,
            can_login: column(&self.name, row, "can_login")?,
            has_replication: column(&self.name, row, "replication")?,
            server_time: self.time(row, "server_time")?,
            groups: target.group.iter().map(|group| group.as_str().to_owned()).collect(),
        };
        let superuser: bool = column(&self.name, row, "superuser")?;
        if of == lease && superuser {
            self.not_ours(row, lease, "it was made a superuser")
        } else if of == lease {
            Ok(Located::Ours(role))
        } else if leads_to(&role.name, of) {
            Ok(Located::OidTaken)
        } else {
            self.not_ours(row, lease, "its mark is of another lease")
        }
    }

    fn not_ours(
        &self,
        row: &Row,
        lease: LeaseId,
        because: &'static str,
    ) -> Result<Located, ClusterError> {
        let (cluster, oid) = (self.name.clone(), RoleOid(column(&self.name, row, "oid")?));
        let Shown(name) = column(&self.name, row, "name")?;
        let name = printable(&name);
        Ok(Located::NotOurs(ClusterError::NotOurs { cluster, lease, oid, name, because }))
    }

    /// What must be known to end the access of `role`; nothing when it is gone meanwhile.
    ///
    /// `search` says how thoroughly memberships are looked for that it has handed on.
    pub(super) async fn view(
        &self,
        role: &SeenRole,
        search: Search,
    ) -> Result<Option<RoleView>, ClusterError> {
        let admin = self.admin_role.as_ref().map_or("", |role| role.as_str());
        let broker = Query { sql: include_str!("sql/broker.sql"), parameters: &[&role.oid.0] };
        let everywhere = search == Search::Everywhere;
        let memberships = Query {
            sql: include_str!("sql/memberships.sql"),
            parameters: &[&role.oid.0, &admin, &everywhere, &count(MEMBERSHIPS)],
        };
        let doing = "reading a role's memberships";
        let [broker, memberships] =
            self.connections.read(Lane::Revoke, doing, [broker, memberships]).await?;
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
        let broker = Query { sql: include_str!("sql/broker.sql"), parameters: &[&role.oid.0] };
        let dependencies =
            Query { sql: include_str!("sql/dependencies.sql"), parameters: &[&role.oid.0] };
        let prepared = Query { sql: include_str!("sql/prepared.sql"), parameters: &[&role.oid.0] };
        let admin = self.admin_role.as_ref().map_or("", |role| role.as_str());
        let memberships = Query {
            sql: include_str!("sql/memberships.sql"),
            parameters: &[&role.oid.0, &admin, &true, &count(MEMBERSHIPS)],
        };
        let doing = "reading what a role leaves behind";
        let queries = [broker, dependencies, prepared, memberships];
        let [broker, dependencies, prepared, memberships] =
            self.connections.read(lane, doing, queries).await?;
        let Some(broker) = broker.first() else { return Ok(None) };
        let mut estate = Estate {
            oid: role.oid,
            name: role.name.clone(),
            version: self.version(broker)?,
            broker: column(&self.name, broker, "broker")?,
            broker_is_member: column(&self.name, broker, "is_member")?,
            broker_may_signal: column(&self.name, broker, "may_signal")?,
            has_memberships: false,
            prepared: self.prepared(&prepared)?,
            dependencies: Vec::new(),
            owned_shared: Vec::new(),
            shared_privileges: false,
            attic: Attic::Unset,
        };
        for row in &dependencies {
            if let Some(database) = column(&self.name, row, "database")? {
                let connectable = column(&self.name, row, "connectable")?;
                let owned = column(&self.name, row, "owned")?;
                estate.dependencies.push(Dependency { database, connectable, owned });
            } else {
                estate.owned_shared = named(&self.name, row)?;
                estate.shared_privileges = column::<i64>(&self.name, row, "privileges")? > 0;
            }
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

    fn found_role(&self, row: &Row) -> Result<FoundRole, ClusterError> {
        let Shown(comment) = column(&self.name, row, "comment")?;
        let Shown(name) = column(&self.name, row, "name")?;
        Ok(FoundRole {
            oid: RoleOid(column(&self.name, row, "oid")?),
            name,
            marker: Marker::read(&comment, &self.key, &self.broker, &self.name),
            valid_for: column::<Option<f64>>(&self.name, row, "valid_for")?
                .and_then(|seconds| SignedDuration::try_from_secs_f64(seconds).ok()),
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

/// How thoroughly memberships are looked for that a role has handed on: before 16 that reads the
/// whole table.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum Search {
    /// Only if the role may hand one on now.
    IfItMay,
    /// In any case.
    Everywhere,
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
    let blocker = Blocker::new(BlockerKind::ReplicationSlot, detail).about(slot).remedy(remedy);
    match database {
        Some(Shown(database)) => blocker.within(database),
        None => blocker,
    }
}

/// What `pg_identify_object` says of several objects, and where they are, in three columns.
pub(super) fn named(cluster: &ClusterName, row: &Row) -> Result<Vec<Named>, ClusterError> {
    let kinds: Vec<Shown> = column(cluster, row, "types")?;
    let identities: Vec<Shown> = column(cluster, row, "identities")?;
    let places: Vec<Option<Shown>> = column(cluster, row, "places")?;
    let named = |((Shown(kind), Shown(identity)), place): ((Shown, Shown), Option<Shown>)| Named {
        kind,
        identity,
        database: place.map(|Shown(place)| place),
    };
    Ok(kinds.into_iter().zip(identities).zip(places).map(named).collect())
}

/// What it says of those that are to stand in a statement, in two columns.
pub(super) fn named_portion(cluster: &ClusterName, row: &Row) -> Result<Vec<Named>, ClusterError> {
    let kinds: Vec<String> = column(cluster, row, "portion_types")?;
    let identities: Vec<String> = column(cluster, row, "portion_identities")?;
    let named = |(kind, identity)| Named { kind, identity, database: None };
    Ok(kinds.into_iter().zip(identities).map(named).collect())
}

/// What it says of one; nothing when its name is no text that could stand in a statement.
pub(super) fn named_here(row: &Row) -> Option<Named> {
    let (kind, identity) = (row.try_get("type").ok()?, row.try_get("identity").ok()?);
    Some(Named { kind, identity, database: None })
}

/// A text of the server that is only read or shown. One that is no UTF-8, as a database of
/// another encoding can put into shared tables, is read as far as it can be.
pub(super) struct Shown(pub(super) String);

impl<'a> FromSql<'a> for Shown {
    fn from_sql(_: &Type, raw: &'a [u8]) -> Result<Self, Box<dyn Error + Sync + Send>> {
        Ok(Self(String::from_utf8_lossy(raw).into_owned()))
    }

    fn accepts(of: &Type) -> bool {
        matches!(*of, Type::TEXT | Type::NAME | Type::VARCHAR)
    }
}

/// Whether there is room for one more of `most`, which it then takes.
fn is_within(seen: &mut usize, most: usize) -> bool {
    *seen += 1;
    *seen <= most
}

/// A number of rows as the server takes it.
pub(super) fn count(rows: usize) -> i64 {
    i64::try_from(rows).unwrap_or(i64::MAX)
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
