//! Who holds a lock that a statement of ours waits for, and what of that is ours to end.
//!
//! Invariant: what is ended here keeps a role of ours from being closed or dropped, and is another
//! role's of ours, or, before 16, a transaction that was prepared as the group that ours was lent.
//! Everybody else is named and left alone.

use std::fmt::Write as _;
use std::pin::pin;
use std::time::{Duration, SystemTime};

use jiff::Timestamp;
use tokio::time::sleep;
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
use crate::names::{LeaseId, RoleOid, identifier, literal};

/// How often it is asked whom a statement waits for.
const LOOK_EVERY: Duration = Duration::from_millis(200);

/// Awaits `run` and asks now and then what it waits for: once it has failed, nobody can say any
/// more. Gives what was seen last.
pub(super) async fn while_looking<T, L, F>(
    run: impl Future<Output = T>,
    look: impl Fn() -> F,
) -> (T, Vec<L>)
where
    F: Future<Output = Vec<L>>,
{
    let mut run = pin!(run);
    let mut seen = Vec::new();
    loop {
        let looking = async {
            sleep(LOOK_EVERY).await;
            look().await
        };
        tokio::select! {
            biased;
            done = &mut run => return (done, seen),
            now = looking => if !now.is_empty() {
                seen = now;
            }
        }
    }
}

/// Whoever holds a lock that a statement of ours waits for.
pub(super) struct LockHolder {
    who: Who,
    /// OID of the relation that is waited for, or 0.
    pub(super) relation: u32,
}

enum Who {
    Session(Session),
    /// A prepared transaction, as far as it is known.
    Prepared {
        gid: Option<String>,
        database: Option<String>,
    },
}

/// A session of somebody: what it runs is not read, for that may hold a secret.
struct Session {
    pid: i32,
    role: Option<String>,
    database: Option<String>,
    /// Since when it has had its transaction, and its last statement: hidden from most logins.
    since: Option<(Timestamp, Timestamp)>,
}

impl LockHolder {
    /// That it holds a lock on `object`, and how it is ended.
    pub(super) fn blocker(self, object: &str) -> Blocker {
        match self.who {
            Who::Session(session) => session.blocker(object),
            Who::Prepared { gid, database } => prepared_blocker(object, gid, database),
        }
    }
}

impl Session {
    /// A person must know whose work it is: ending the session undoes what it has begun.
    fn blocker(self, object: &str) -> Blocker {
        let Self { pid, role, database, since } = self;
        let mut who = format!("server process {pid} of {}", role.as_deref().unwrap_or("nobody"));
        if let Some(database) = database {
            let _ = write!(who, ", connected to {database}");
        }
        if let Some((transaction, statement)) = since {
            let (transaction, statement) = (to_the_second(transaction), to_the_second(statement));
            let _ = write!(
                who,
                ", in a transaction since {transaction}, its last statement begun at {statement}"
            );
        }
        let detail = format!(
            "{who}, holds a lock on {object}; ending the process undoes what it has not committed"
        );
        let mut sql =
            format!("SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE pid = {pid}");
        // Somebody else can have the process's number by the time that this is run.
        match &role {
            Some(role) => _ = write!(sql, " AND usename = {}", literal(role)),
            None => sql.push_str(" AND usename IS NULL"),
        }
        let holder = Holder { pid: Some(pid), role };
        let blocker = Blocker::new(BlockerKind::Lock, detail).about(object);
        blocker.held_by(holder).remedy_sql(&sql)
    }
}

fn prepared_blocker(object: &str, gid: Option<String>, database: Option<String>) -> Blocker {
    let detail = format!("a prepared transaction holds a lock on {object}");
    let lock = |detail: String| {
        let holder = Holder { pid: None, role: None };
        Blocker::new(BlockerKind::Lock, detail).about(object).held_by(holder)
    };
    let blocker = match gid {
        Some(gid) => lock(format!("{detail}: {gid}"))
            .remedy_sql(&format!("ROLLBACK PREPARED {}", literal(&gid))),
        None => lock(detail).remedy(
            "look in pg_prepared_xacts, and ROLLBACK PREPARED as its owner or as a superuser",
        ),
    };
    blocker.within_if(database)
}

fn to_the_second(time: Timestamp) -> String {
    time.strftime("%Y-%m-%d %H:%M:%S UTC").to_string()
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
        let name = identifier(&role.name);
        let rows = self.holders(lane, 0, &name, &role.groups).await?;
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
        let joined = self.connections.apply(lane, &self.limits, &join);
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

    /// Whom the server process `pid` of ours waits for; nobody, if that cannot be read now.
    pub(super) async fn waits(&self, pid: i32) -> Vec<LockHolder> {
        let rows = self.holders(Lane::Help, pid, "", &[]).await.unwrap_or_default();
        rows.iter().filter_map(|row| self.lock_holder(row).ok()).collect()
    }

    /// Who holds what the server process `pid` of ours waits for; or, if that is 0, each that closes
    /// or drops the role whose `quoted` name this is.
    async fn holders(
        &self,
        lane: Lane,
        pid: i32,
        quoted: &str,
        groups: &[String],
    ) -> Result<Vec<Row>, ClusterError> {
        let sql = include_str!("sql/holders.sql");
        let query = Query { sql, parameters: &[&pid, &quoted, &groups] };
        let doing = "reading whom a statement waits for";
        let [rows] = self.connections.read(lane, doing, [query]).await?;
        Ok(rows)
    }

    fn lock_holder(&self, row: &Row) -> Result<LockHolder, ClusterError> {
        let text = |name| Ok(column::<Option<Shown>>(&self.name, row, name)?.map(|shown| shown.0));
        let since = |name| row.try_get::<_, Option<SystemTime>>(name).ok().flatten();
        let time = |name| Timestamp::try_from(since(name)?).ok();
        let pid = column(&self.name, row, "pid")?;
        let who = if pid == 0 {
            Who::Prepared { gid: text("gid")?, database: text("database")? }
        } else {
            Who::Session(Session {
                pid,
                role: text("owner")?,
                database: text("session_database")?,
                since: time("xact_start").zip(time("query_start")),
            })
        };
        Ok(LockHolder { who, relation: column(&self.name, row, "relation")? })
    }
}
