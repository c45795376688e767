//! Changes as statements, each with what its answer must be.

use std::collections::{BTreeMap, BTreeSet};

use aws_lc_rs::digest;
use jiff::Timestamp;
use tokio_postgres::Row;
use tokio_postgres::types::ToSql;

use super::problem::{Failure, Problem};
use super::value::{Moment, escaped};
use crate::audit::Record;
use crate::auth::Session;
use crate::lease::{EndReason, Lease};
use crate::names::{LeaseId, LeaseLimit, RequestKey};
use crate::store::refusal::Refusal;
use crate::store::rows::{self, json, word};
use crate::store::{Change, ENDING_MOST, Login, Room, StoredMap};

/// One statement of a change.
pub(super) struct Statement {
    pub(super) sql: &'static str,
    values: Vec<Box<dyn ToSql + Sync + Send>>,
    expect: Expect,
}

/// What the answer to a statement must be.
enum Expect {
    /// Anything but an error.
    Anything,
    /// The lease is new, and so is its live request key.
    Opened(LeaseId),
    /// A row, or the lease has moved meanwhile.
    Moved(LeaseId),
    /// A row, or the login has ended.
    Stands,
    /// No row, or the login has ended.
    NotEnded,
    /// No row, or there is no room for one more lease.
    Room(LeaseLimit),
}

impl Statement {
    fn new(sql: &'static str, values: Vec<Box<dyn ToSql + Sync + Send>>, expect: Expect) -> Self {
        Self { sql, values, expect }
    }

    pub(super) fn values(&self) -> Vec<&(dyn ToSql + Sync)> {
        self.values.iter().map(|value| value.as_ref() as &(dyn ToSql + Sync)).collect()
    }

    /// Judges the answer.
    pub(super) fn judge(&self, answer: Result<Vec<Row>, Failure>) -> Result<(), Problem> {
        let found = match answer {
            Ok(rows) => !rows.is_empty(),
            Err(failure) => return Err(self.conflict(failure)),
        };
        match self.expect {
            Expect::Moved(lease) if !found => Err(Refusal::Moved(lease).into()),
            Expect::Stands if !found => Err(Refusal::LoginEnded.into()),
            Expect::NotEnded if found => Err(Refusal::LoginEnded.into()),
            Expect::Room(most) if found => Err(Refusal::TooMany(most).into()),
            _ => Ok(()),
        }
    }

    /// A lease has two things that must be its own: its id, and its live request key.
    fn conflict(&self, failure: Failure) -> Problem {
        match self.expect {
            Expect::Opened(lease) if failure.violates("lease_pkey") => Refusal::Moved(lease).into(),
            Expect::Opened(_) | Expect::Moved(_) if failure.violates("lease_live_key") => {
                Refusal::KeyTaken.into()
            }
            _ => Problem::Failed(failure),
        }
    }
}

/// Puts values of several types into one list.
macro_rules! values {
    ($($value:expr),+ $(,)?) => {
        vec![$(Box::new($value) as Box<dyn ToSql + Sync + Send>),+]
    };
}

/// What one call changes.
#[derive(Default)]
pub(super) struct Changes {
    /// Done in this order.
    pub(super) statements: Vec<Statement>,
    /// Done after those of everybody else, in an order that is the same for all.
    pub(super) counters: Vec<CounterStep>,
}

/// One change of a counter of attempts.
pub(super) enum CounterStep {
    /// It begins anew.
    Clear(String),
    /// One attempt is given back.
    GiveBack(String),
}

impl Changes {
    pub(super) fn of(changes: &[Change]) -> Result<Self, Problem> {
        let mut all = Self::default();
        for change in changes {
            all.add(change)?;
        }
        Ok(all)
    }

    /// Writes something harmless.
    pub(super) fn probe() -> Self {
        let sql = "UPDATE probe SET count = count + 1 WHERE id = 1";
        let statement = Statement::new(sql, Vec::new(), Expect::Anything);
        Self { statements: vec![statement], counters: Vec::new() }
    }

    fn add(&mut self, change: &Change) -> Result<(), Problem> {
        match change {
            Change::OpenLease(lease) => self.statements.push(open_lease(lease)?),
            Change::MoveLease(lease) => self.statements.push(move_lease(lease)?),
            Change::BeginSession(session) => self.statements.push(begin_session(session)?),
            Change::EndSession(id) => {
                let sql = "DELETE FROM session WHERE id = $1";
                let values = values![id.to_string()];
                self.statements.push(Statement::new(sql, values, Expect::Anything));
            }
            Change::NeedLogin(login) => self.statements.extend(need_login(login)),
            Change::NeedRoom(room) => self.statements.extend(need_room(room)),
            Change::EndLoginsOf { person, at } => {
                self.statements.extend(end_logins_of(person, *at));
            }
            Change::KeepMap(map) => self.statements.push(keep_map(map)?),
            Change::ClearAttempts(counter) => {
                self.counters.push(CounterStep::Clear(escaped(counter)));
            }
            Change::GiveBackAttempt(counter) => {
                self.counters.push(CounterStep::GiveBack(escaped(counter)));
            }
        }
        Ok(())
    }
}

fn open_lease(lease: &Lease) -> Result<Statement, Problem> {
    const SQL: &str = concat!(
        "INSERT INTO lease (",
        rows::lease_columns!(),
        ") VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11, $12, $13, $14, $15, $16, $17, \
         $18, $19, $20, $21, $22, $23, $24, $25, $26, $27, $28)"
    );
    let values = values![
        lease.id.to_string(),
        i64::from(lease.version),
        lease.state.as_str(),
        json(&lease.principal)?,
        escaped(&lease.principal.key()),
        lease.account_id.map(|id| id.to_string()),
        lease.cluster.to_string(),
        lease.database.to_string(),
        lease.role.to_string(),
        lease.role_name.to_string(),
        lease.role_oid.map(|oid| oid.0),
        Moment::not_after(lease.requested_at),
        Moment::not_after(lease.create_before),
        Moment::not_after(lease.expires_at),
        Moment::not_after(lease.ceiling),
        word(&lease.owned_objects)?,
        lease.request_key.as_ref().map(RequestKey::as_str).map(str::to_owned),
        lease.reason.as_deref().map(escaped),
        lease.client.to_string(),
        json(&lease.rule)?,
        word(&lease.revision)?,
        lease.because.as_ref().map(json).transpose()?,
        lease.end.map(EndReason::as_str),
        lease.access_ended_at.map(Moment::not_after),
        lease.gone_at.map(Moment::not_after),
        i64::from(lease.attempts),
        lease.retry_at.map(Moment::not_after),
        rows::blockers(&lease.blockers)?,
    ];
    Ok(Statement::new(SQL, values, Expect::Opened(lease.id)))
}

/// Writes what a move may change, and nothing else: whose a lease is and for what stays. A lease
/// that is over needs no claim.
fn move_lease(lease: &Lease) -> Result<Statement, Problem> {
    const SQL: &str = "UPDATE lease SET version = $2, state = $3, role_oid = $4, \
                       expires_at = $5, end_reason = $6, access_ended_at = $7, gone_at = $8, \
                       attempts = $9, retry_at = $10, blockers = $11, \
                       claimed_by = CASE WHEN $12 THEN NULL ELSE claimed_by END, \
                       claimed_until = CASE WHEN $12 THEN NULL ELSE claimed_until END \
                       WHERE id = $1 AND version = $2::bigint - 1 RETURNING 1";
    let values = values![
        lease.id.to_string(),
        i64::from(lease.version),
        lease.state.as_str(),
        lease.role_oid.map(|oid| oid.0),
        Moment::not_after(lease.expires_at),
        lease.end.map(EndReason::as_str),
        lease.access_ended_at.map(Moment::not_after),
        lease.gone_at.map(Moment::not_after),
        i64::from(lease.attempts),
        lease.retry_at.map(Moment::not_after),
        rows::blockers(&lease.blockers)?,
        lease.state.is_final(),
    ];
    Ok(Statement::new(SQL, values, Expect::Moved(lease.id)))
}

fn begin_session(session: &Session) -> Result<Statement, Problem> {
    const SQL: &str = "INSERT INTO session (id, token_hash, identity, authenticated_at, \
                       expires_at, seen_at, principal_key, principal_text) \
                       VALUES ($1, $2, $3, $4, $5, $6, $7, $8)";
    let values = values![
        session.id.to_string(),
        session.token_hash.as_str().to_owned(),
        rows::identity(session)?,
        Moment::not_after(session.identity.authenticated_at()),
        Moment::not_after(session.identity.expires_at()),
        Moment::not_after(session.seen_at),
        escaped(&session.identity.principal().key()),
        escaped(&session.identity.principal().to_string()),
    ];
    Ok(Statement::new(SQL, values, Expect::Anything))
}

fn keep_map(map: &StoredMap) -> Result<Statement, Problem> {
    const SQL: &str = "INSERT INTO map_revision (revision, postgres, text, first_used_at) \
                       VALUES ($1, $2, $3, $4) ON CONFLICT (revision) DO NOTHING";
    let values = values![
        word(&map.revision)?,
        i64::from(map.dialect.major()),
        json(&map.text)?,
        Moment::not_after(map.first_used_at),
    ];
    Ok(Statement::new(SQL, values, Expect::Anything))
}

/// What rests on a login and what ends it lock each other out until one of them is committed:
/// whoever ends the logins of a person and then reads their leases has read all of them. The
/// session's row is one lock; for what has no row there is an advisory lock on the person.
fn need_login(login: &Login) -> Vec<Statement> {
    let names = [login.principal.key(), login.principal.to_string()];
    let mut locks = names.each_ref().map(|name| advisory_key("person", name));
    locks.sort_unstable();
    let mut statements = vec![Statement::new(
        "SELECT pg_advisory_xact_lock_shared($1), pg_advisory_xact_lock_shared($2)",
        values![locks[0], locks[1]],
        Expect::Anything,
    )];
    if let Some(session) = login.session {
        let sql = "SELECT 1 FROM session WHERE id = $1 FOR KEY SHARE";
        statements.push(Statement::new(sql, values![session.to_string()], Expect::Stands));
    }
    let [key, text] = names.map(|name| escaped(&name));
    statements.push(Statement::new(
        "SELECT 1 FROM logins_ended WHERE person IN ($1, $2) AND at > $3",
        values![key, text, Moment::not_after(login.authenticated_at)],
        Expect::NotEnded,
    ));
    statements
}

/// Whoever counts waits for whoever is about to open a lease in the same room.
fn need_room(room: &Room) -> [Statement; 2] {
    let Room { principal, cluster, role, most } = room;
    let name = format!("{cluster}\0{role}\0{}", principal.key());
    [
        Statement::new(
            "SELECT pg_advisory_xact_lock($1)",
            values![advisory_key("room", &name)],
            Expect::Anything,
        ),
        Statement::new(
            "SELECT 1 FROM lease WHERE principal_key = $1 AND cluster = $2 AND role = $3 \
             AND state NOT IN ('revoked', 'aborted') \
             HAVING count(*) FILTER (WHERE state IN ('intent', 'active')) >= $4 OR count(*) >= $5",
            values![
                escaped(&principal.key()),
                cluster.to_string(),
                role.to_string(),
                i64::from(most.get()),
                i64::from(most.get()) + i64::from(ENDING_MOST),
            ],
            Expect::Room(*most),
        ),
    ]
}

fn end_logins_of(person: &str, at: Timestamp) -> [Statement; 3] {
    let name = escaped(person);
    [
        Statement::new(
            "SELECT pg_advisory_xact_lock($1)",
            values![advisory_key("person", person)],
            Expect::Anything,
        ),
        Statement::new(
            "DELETE FROM session WHERE principal_key = $1 OR principal_text = $1",
            values![name.clone()],
            Expect::Anything,
        ),
        // Not before: a login in the same microsecond, but earlier, ends too.
        Statement::new(
            "INSERT INTO logins_ended (person, at) VALUES ($1, $2) \
             ON CONFLICT (person) DO UPDATE SET at = greatest(logins_ended.at, excluded.at)",
            values![name, Moment::not_before(at)],
            Expect::Anything,
        ),
    ]
}

/// The key of the advisory lock on `name`. Two names that share one wait for each other at times,
/// which is all.
pub(super) fn advisory_key(kind: &str, name: &str) -> i64 {
    let mut context = digest::Context::new(&digest::SHA256);
    context.update(kind.as_bytes());
    context.update(b"\0");
    context.update(name.as_bytes());
    let hash = context.finish();
    let bytes = hash.as_ref().first_chunk().copied().unwrap_or_default();
    i64::from_be_bytes(bytes)
}

/// What becomes of counters, of several calls taken together.
#[derive(Default)]
pub(super) struct Counters {
    cleared: BTreeSet<String>,
    given_back: BTreeMap<String, i64>,
}

impl Counters {
    pub(super) fn add(&mut self, steps: &[CounterStep]) {
        for step in steps {
            match step {
                CounterStep::Clear(counter) => {
                    self.cleared.insert(counter.clone());
                }
                CounterStep::GiveBack(counter) => {
                    *self.given_back.entry(counter.clone()).or_default() += 1;
                }
            }
        }
    }

    /// First all counters are locked, in the order of their names, as everybody does who locks
    /// more than one. Giving back to a counter that begins anew changes nothing, before or after.
    pub(super) fn statements(self) -> Vec<Statement> {
        let all: BTreeSet<&String> = self.cleared.iter().chain(self.given_back.keys()).collect();
        if all.is_empty() {
            return Vec::new();
        }
        let all: Vec<String> = all.into_iter().cloned().collect();
        let cleared: Vec<String> = self.cleared.into_iter().collect();
        let (given_back, counts): (Vec<String>, Vec<i64>) = self.given_back.into_iter().unzip();
        vec![
            Statement::new(
                "SELECT 1 FROM attempts WHERE counter = ANY ($1) ORDER BY counter FOR UPDATE",
                values![all],
                Expect::Anything,
            ),
            Statement::new(
                "DELETE FROM attempts WHERE counter = ANY ($1)",
                values![cleared],
                Expect::Anything,
            ),
            Statement::new(
                "UPDATE attempts SET count = greatest(attempts.count - given.count, 0), \
                 locked_until = NULL FROM unnest($1::text[], $2::bigint[]) AS given (counter, count) \
                 WHERE attempts.counter = given.counter",
                values![given_back, counts],
                Expect::Anything,
            ),
        ]
    }
}

/// The records of several calls, in their order. They are numbered behind the newest, whose
/// number is locked first.
pub(super) fn append(records: &[&Line]) -> [Statement; 2] {
    let times: Vec<Moment> = records.iter().map(|line| line.at).collect();
    let lines: Vec<String> = records.iter().map(|line| line.json.clone()).collect();
    [
        Statement::new("SELECT 1 FROM head WHERE id = 1 FOR UPDATE", Vec::new(), Expect::Anything),
        Statement::new(
            "INSERT INTO audit (seq, at, record) \
             SELECT (SELECT audit_seq FROM head WHERE id = 1) + added.number, added.at, added.record \
             FROM unnest($1::timestamptz[], $2::text[]) WITH ORDINALITY \
             AS added (at, record, number)",
            values![times, lines],
            Expect::Anything,
        ),
    ]
}

/// One record as it is written.
pub(super) struct Line {
    at: Moment,
    json: String,
}

impl Line {
    pub(super) fn of(record: &Record) -> Result<Self, Problem> {
        Ok(Self { at: Moment::not_after(record.at), json: json(record)? })
    }
}
