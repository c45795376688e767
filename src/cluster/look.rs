//! What is looked at before a role is made: the cluster's clock, and the role that is to be lent.
//!
//! A look that found nothing wrong is good for a second. Nothing rests on its being younger: who
//! is given a role keeps it when an administrator makes it more powerful afterwards, and when the
//! server's clock was set meanwhile, the transaction that makes the role sees that it is too late.

use std::sync::Arc;
use std::time::Duration;

use jiff::{SignedDuration, Timestamp};
use moka::sync::Cache;
use tracing::warn;

use super::apply::Limits;
use super::connect::{Lane, Query};
use super::error::{ClusterError, CreateRefusal};
use super::locate::Located;
use super::observe::Search;
use super::row::{Shown, column, name_or_empty};
use super::{Cluster, RoleTarget};
use crate::clock::Stopwatch;
use crate::lease::plan::{self, ServerVersion};
use crate::lease::{Marker, MarkerReading};
use crate::names::{RoleName, RoleOid, printable};

/// How long a look is good for.
const FRESH: Duration = Duration::from_secs(1);

/// How long taking back what a lease role gave away may wait for a lock.
const TAKES_BACK_WITHIN: Duration = Duration::from_millis(500);

/// Roles whose looks are kept, more than a cluster has profiles.
const KEPT: u64 = 1000;

/// Looks that are fresh, by the role that was looked at.
pub(super) struct Looks(Cache<RoleName, Arc<Look>>);

impl Looks {
    pub(super) fn new() -> Self {
        Self(Cache::builder().max_capacity(KEPT).time_to_live(FRESH).build())
    }
}

/// What `sql/before_create.sql` found.
pub(super) struct Look {
    pub(super) version: ServerVersion,
    /// The server's clock at some time before the answer came.
    server_time: Timestamp,
    answered: Stopwatch,
    standby: bool,
    known: bool,
    too_powerful: Vec<String>,
    /// Roles with a mark that the role reaches, and their comments.
    lease_roles: Vec<(RoleOid, String)>,
}

impl Look {
    /// The server's clock now, or a little earlier.
    pub(super) fn server_now(&self) -> Timestamp {
        later(self.server_time, self.answered.elapsed())
    }

    /// Whether the role may be lent.
    pub(super) fn check(&self) -> Result<(), CreateRefusal> {
        if self.standby {
            Err(CreateRefusal::Standby)
        } else if !self.known {
            Err(CreateRefusal::NoSuchRole)
        } else if !self.too_powerful.is_empty() {
            Err(CreateRefusal::TooPowerful(printable(&self.too_powerful.join(", "))))
        } else {
            Ok(())
        }
    }
}

impl Cluster {
    /// A look at `group`, at most a second old.
    pub(super) async fn look(&self, group: &RoleName) -> Result<Arc<Look>, ClusterError> {
        if let Some(fresh) = self.looks.0.get(group) {
            return Ok(fresh);
        }
        let look = Arc::new(self.look_anew(group).await?);
        if look.check().is_ok() {
            self.looks.0.insert(group.clone(), Arc::clone(&look));
        }
        Ok(look)
    }

    async fn look_anew(&self, group: &RoleName) -> Result<Look, ClusterError> {
        let look = self.look_past(group, &[]).await?;
        let gave_themselves = self.take_back_gifts(&look.lease_roles).await?;
        if gave_themselves.is_empty() {
            Ok(look)
        } else {
            self.look_past(group, &gave_themselves).await
        }
    }

    /// Takes out of each of the roles that is ours whom it made its member itself. Gives those
    /// roles: should one do it again at once, that is no reason not to lend others.
    async fn take_back_gifts(&self, roles: &[(RoleOid, String)]) -> Result<Vec<u32>, ClusterError> {
        let mut gave_themselves = Vec::new();
        for (oid, comment) in roles {
            let reading = Marker::read(comment, &self.key, &self.broker, &self.name);
            let MarkerReading::Ours(lease) = reading else { continue };
            let target = RoleTarget::found(lease, *oid);
            let Located::Ours(role) = self.locate(Lane::Issue, &target).await? else { continue };
            let Some(view) = self.view(Lane::Issue, &role, Search::IfItMay).await? else {
                continue;
            };
            let statements = plan::take_back_gifts(&view);
            if statements.is_empty() {
                continue;
            }
            gave_themselves.push(oid.0);
            let limits = Limits::new(TAKES_BACK_WITHIN, TAKES_BACK_WITHIN);
            let run = self.connections.apply(Lane::Issue, &limits, &statements);
            let (cluster, role) = (&self.name, printable(&role.name));
            match run.await {
                Ok(_) => {
                    warn!(%cluster, %lease, role, "a lease role made others its members; that is taken back");
                }
                Err(failure) => {
                    warn!(%cluster, %lease, role, %failure, "a lease role made others its members; that is not taken back yet");
                }
            }
        }
        Ok(gave_themselves)
    }

    async fn look_past(
        &self,
        group: &RoleName,
        gave_themselves: &[u32],
    ) -> Result<Look, ClusterError> {
        let admin = name_or_empty(self.admin_role.as_ref());
        let attic = name_or_empty(self.attic_role.as_ref());
        let query = Query {
            sql: include_str!("sql/before_create.sql"),
            parameters: &[&group.as_str(), &admin, &attic, &Marker::BEGIN, &gave_themselves],
        };
        let [rows] =
            self.connections.read(Lane::Issue, "looking at the role to lend", [query]).await?;
        let row = self.only(&rows)?;
        let oids: Vec<u32> = column(&self.name, row, "lease_roles")?;
        let comments: Vec<Shown> = column(&self.name, row, "lease_comments")?;
        let comments = comments.into_iter().map(|Shown(comment)| comment);
        Ok(Look {
            version: self.version(row)?,
            server_time: self.time(row, "server_time")?,
            answered: Stopwatch::start(),
            standby: column(&self.name, row, "standby")?,
            known: column(&self.name, row, "known")?,
            too_powerful: column(&self.name, row, "too_powerful")?,
            lease_roles: oids.into_iter().map(RoleOid).zip(comments).collect(),
        })
    }
}

/// `time` moved by `by`, cut to the microsecond that the server keeps.
pub(super) fn later(time: Timestamp, by: Duration) -> Timestamp {
    let microseconds = i64::try_from(by.as_micros()).unwrap_or(i64::MAX);
    time.saturating_add(SignedDuration::from_micros(microseconds)).unwrap_or(Timestamp::MAX)
}
