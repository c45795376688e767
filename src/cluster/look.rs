//! What is looked at before a role is made: the cluster's clock, and the role that is to be lent.
//!
//! A look that found nothing wrong is good for a second. Nothing rests on its being younger: who
//! is given a role keeps it when an administrator makes it more powerful afterwards, and when the
//! server's clock was set meanwhile, the transaction that makes the role sees that it is too late.

use std::sync::Arc;
use std::time::Duration;

use jiff::{SignedDuration, Timestamp};
use moka::sync::Cache;

use super::Cluster;
use super::connect::{Lane, Query};
use super::error::{ClusterError, CreateRefusal};
use super::observe::column;
use crate::clock::Stopwatch;
use crate::lease::Marker;
use crate::lease::plan::ServerVersion;
use crate::names::{RoleName, printable};

/// How long a look is good for.
const FRESH: Duration = Duration::from_secs(1);

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
        let name = |role: &Option<RoleName>| {
            role.as_ref().map(|role| role.as_str().to_owned()).unwrap_or_default()
        };
        let (admin, attic) = (name(&self.admin_role), name(&self.attic_role));
        let query = Query {
            sql: include_str!("sql/before_create.sql"),
            parameters: &[&group.as_str(), &admin, &attic, &Marker::BEGIN],
        };
        let [rows] =
            self.connections.read(Lane::Issue, "looking at the role to lend", [query]).await?;
        let row = rows.first().ok_or_else(|| self.unreadable("an empty answer"))?;
        Ok(Look {
            version: self.version(row)?,
            server_time: self.time(row, "server_time")?,
            answered: Stopwatch::start(),
            standby: column(&self.name, row, "standby")?,
            known: column(&self.name, row, "known")?,
            too_powerful: column(&self.name, row, "too_powerful")?,
        })
    }
}

/// `time` moved by `by`, cut to the microsecond that the server keeps.
pub(super) fn later(time: Timestamp, by: Duration) -> Timestamp {
    let microseconds = i64::try_from(by.as_micros()).unwrap_or(i64::MAX);
    time.saturating_add(SignedDuration::from_micros(microseconds)).unwrap_or(Timestamp::MAX)
}
