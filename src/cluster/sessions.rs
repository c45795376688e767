//! Sessions of a role, which is ours or gone, and their end.

use std::time::Duration;

use tokio::time::sleep;
use tokio_postgres::Row;

use super::Cluster;
use super::connect::{Lane, Query};
use super::error::ClusterError;
use super::row::column;
use crate::causes::with_causes;
use crate::clock::Stopwatch;
use crate::lease::{Blocker, BlockerKind, Holder};
use crate::names::{RoleOid, identifier};

/// Whether a role has sessions.  $1  its OID
///
/// Asked before what the role has: whatever a session did that is not seen here is seen there.
pub(super) const HAS_SESSIONS: &str =
    "SELECT EXISTS (SELECT FROM pg_stat_activity WHERE usesysid = $1) AS has_sessions";

/// How long sessions may take to end once they were told to.
const SESSIONS_END_WITHIN: Duration = Duration::from_secs(10);

/// Whose sessions are ended.
#[derive(Clone, Copy)]
pub(super) enum Whose {
    /// Those of a role that is ours.
    TheRoles,
    /// Those of a role that is gone; if another has its OID by now, none.
    Nobodys,
}

impl Cluster {
    /// The OIDs of roles that have sessions and are gone, of whomever they were.
    ///
    /// # Errors
    /// When the cluster cannot be asked.
    pub async fn without_role(&self) -> Result<Vec<RoleOid>, ClusterError> {
        let query = Query { sql: include_str!("sql/without_role.sql"), parameters: &[] };
        let doing = "looking for sessions of roles that are gone";
        let [rows] = self.connections.read(Lane::Help, doing, [query]).await?;
        rows.iter().map(|row| column(&self.name, row, "oid").map(RoleOid)).collect()
    }

    /// Ends the sessions of a role that is gone and had `oid`, and gives how many there were.
    ///
    /// # Errors
    /// When the cluster cannot be asked.
    pub async fn end_without_role(&self, oid: RoleOid) -> Result<usize, ClusterError> {
        self.signal_without_role(Lane::Help, oid).await.map(|rows| rows.len())
    }

    /// Ends every session of the role `oid`. Gives those that are left.
    pub(super) async fn end_sessions(
        &self,
        lane: Lane,
        oid: RoleOid,
        whose: Whose,
    ) -> Result<Vec<Blocker>, ClusterError> {
        let begun = Stopwatch::start();
        let mut pause = Duration::from_millis(5);
        loop {
            let signalled = match whose {
                Whose::TheRoles => self.signal_sessions(lane, oid).await,
                Whose::Nobodys => self.signal_without_role(lane, oid).await,
            };
            let sessions = match signalled {
                Err(error) if error.is_not_permitted() => {
                    return Ok(vec![may_not_end(oid, self.connections.login(), &error)]);
                }
                answer => answer?,
            };
            if sessions.is_empty() {
                return Ok(Vec::new());
            }
            if begun.elapsed() > SESSIONS_END_WITHIN {
                let pids = sessions.iter().map(|row| column::<i32>(&self.name, row, "pid"));
                return pids.map(|pid| Ok(does_not_end(oid, pid?))).collect();
            }
            sleep(pause).await;
            pause = (pause * 2).min(Duration::from_millis(250));
        }
    }

    /// Tells every session of the role `oid` to end, and gives those that there were.
    pub(super) async fn signal_sessions(
        &self,
        lane: Lane,
        oid: RoleOid,
    ) -> Result<Vec<Row>, ClusterError> {
        let query = Query { sql: include_str!("sql/end_sessions.sql"), parameters: &[&oid.0] };
        let [sessions] = self.connections.read(lane, "ending a role's sessions", [query]).await?;
        Ok(sessions)
    }

    /// Tells every session to end whose role had `oid` and is gone, and gives those that there were.
    async fn signal_without_role(
        &self,
        lane: Lane,
        oid: RoleOid,
    ) -> Result<Vec<Row>, ClusterError> {
        let sql = include_str!("sql/end_without_role.sql");
        let query = Query { sql, parameters: &[&oid.0] };
        let doing = "ending sessions of a role that is gone";
        let [sessions] = self.connections.read(lane, doing, [query]).await?;
        Ok(sessions)
    }
}

fn does_not_end(oid: RoleOid, pid: i32) -> Blocker {
    let detail = format!(
        "a session of the role (OID {oid}) does not end although it was told to, server process {pid}"
    );
    let holder = Holder { pid: Some(pid), role: None };
    Blocker::new(BlockerKind::Session, detail)
        .held_by(holder)
        .remedy("look why the process does not answer; restarting the server ends it")
}

/// That the broker lacks `pg_signal_backend`, and how it gets it.
fn may_not_end(oid: RoleOid, login: &str, error: &ClusterError) -> Blocker {
    let cause = with_causes(error);
    let detail =
        format!("a session of the role (OID {oid}) is open and the broker may not end it: {cause}");
    let sql = format!("GRANT pg_signal_backend TO {}", identifier(login));
    Blocker::new(BlockerKind::BrokerRight, detail).remedy_sql(&sql)
}
