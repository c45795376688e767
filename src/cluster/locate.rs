//! Which role a lease has, by its OID, its name or its mark. What is found is judged here: nothing
//! without the lease's own mark is ever touched.

use jiff::{SignedDuration, Timestamp};
use tokio_postgres::Row;

use super::connect::{Lane, Query};
use super::error::ClusterError;
use super::row::{Shown, column, count};
use super::{Cluster, RoleTarget};
use crate::lease::{FoundRole, Lease, Marker, MarkerReading, leads_to};
use crate::names::{LeaseId, LeaseRoleName, RoleOid, printable};

/// Roles that are read at once.
const PAGE: usize = 2000;

/// Roles with a mark of ours and another name that are told.
const RENAMED: usize = 1000;

/// Roles that only look like ours that are told.
const STRANGERS: usize = 100;

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
}

/// Whether there is room for one more of `most`, which it then takes.
fn is_within(seen: &mut usize, most: usize) -> bool {
    *seen += 1;
    *seen <= most
}
