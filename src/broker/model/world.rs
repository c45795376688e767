//! One world: brokers, their store, a server, people, and the true time.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use jiff::{SignedDuration, Timestamp};
use tokio::runtime::{Builder, Runtime};

use super::chance::Chance;
use super::directory::Directory;
use super::server::{Role, Server, State};
use super::store::ModelStore;
use crate::audit::{Action, Outcome, Record};
use crate::auth::{Lockout, LockoutRule, SessionTimes};
use crate::broker::{Broker, Parts, Rehearsal, Request, Selection, Wish};
use crate::clock::Clock;
use crate::cluster::{ClientConnection, ClientSslMode, LeaseRoles};
use crate::lease::{Lease, LeaseState, MarkerReading, Terms};
use crate::mapping::{IdentMap, Maps, ObjectPolicy, Policy, Profile, ReasonRule, Target};
use crate::names::{
    ConnectionLimit, LeaseId, LeaseLimit, LoginPassword, RoleOid, RolePrefix, ScramIterations,
    SessionToken, Ttl,
};

/// How long after everything works again nothing is left that must not be (T-rec).
const RECOVERY: Duration = Duration::from_mins(2);

/// How far a role's own end may be from its lease's.
const MARGIN: SignedDuration = SignedDuration::from_secs(5);

const PEOPLE: [&str; 3] = ["alice", "bob", "carol"];
const ROLES: [(&str, &str); 2] = [("orders_read", "8h"), ("orders_write", "1h")];
/// The group that lets its members act as a role has the same name; one more makes operators.
const GROUPS: [&str; 3] = ["orders_read", "orders_write", "operators"];

/// For how long the last look counts while nobody can look.
const GRACE: &str = "10m";

/// A broker's process.
struct Process {
    clock: Clock,
    /// How far its machine's clock is ahead of the true time.
    wall_ahead: SignedDuration,
    running: Option<Running>,
    /// Stopped by SIGSTOP: time passes, and nothing is done.
    is_frozen: bool,
    missed: Duration,
}

struct Running {
    // The broker goes before the runtime that its work is on.
    broker: Broker,
    runtime: Runtime,
}

/// What a request came to.
enum Answered {
    LoggedIn { person: &'static str, token: String },
    Issued(LeaseId),
    Renewed(LeaseId),
}

/// What was seen of a lease so far.
struct Seen {
    version: u32,
    state: LeaseState,
    latest_end: Timestamp,
}

pub(super) struct World {
    seed: u64,
    chance: Chance,
    /// The true time.
    time: Clock,
    server: Server,
    store: ModelStore,
    directory: Directory,
    brokers: Vec<Process>,
    answers: Arc<Mutex<Vec<Answered>>>,
    tokens: BTreeMap<&'static str, String>,
    handed_out: BTreeSet<LeaseId>,
    seen: BTreeMap<LeaseId, Seen>,
    foreign: BTreeMap<RoleOid, Role>,
    backup: Option<State>,
    /// Until when the server may hold what a backup brought back.
    restored_until: Timestamp,
    /// Since when somebody may not have a role.
    denied: BTreeMap<(&'static str, &'static str), Timestamp>,
    audited: usize,
    counted: BTreeMap<(LeaseId, String), u32>,
    history: VecDeque<String>,
}

impl World {
    /// One run: random commands, and then rest. Panics where a promise is broken.
    pub(super) fn run(seed: u64, brokers: usize, steps: u64) {
        let mut world = Self::new(seed, brokers);
        for step in 0..steps {
            let command = Command::random(&world.chance, brokers);
            world.remember(format!("{step}: {command:?}"));
            world.execute(&command);
            world.note_denied();
            world.drive();
            world.check();
        }
        world.rest();
    }

    fn new(seed: u64, brokers: usize) -> Self {
        let (chance, start) = (Chance::new(seed), "2026-01-01T00:00:00Z".parse().unwrap());
        let time = Clock::manual(start);
        let mut world = Self {
            seed,
            server: Server::new("orders", time.clone(), chance.clone()),
            store: ModelStore::new(time.clone(), chance.clone()),
            directory: Directory::new(&PEOPLE, &GROUPS, chance.clone()),
            brokers: Vec::new(),
            answers: Arc::default(),
            tokens: BTreeMap::new(),
            handed_out: BTreeSet::new(),
            seen: BTreeMap::new(),
            foreign: BTreeMap::new(),
            backup: None,
            restored_until: start,
            denied: BTreeMap::new(),
            audited: 0,
            counted: BTreeMap::new(),
            history: VecDeque::new(),
            chance,
            time,
        };
        for at in 0..brokers {
            world.brokers.push(Process {
                clock: Clock::manual(start),
                wall_ahead: SignedDuration::ZERO,
                running: None,
                is_frozen: false,
                missed: Duration::ZERO,
            });
            world.start(at);
        }
        for (name, mark) in
            [("pgb_stranger", MarkerReading::Invalid), ("other", MarkerReading::Foreign)]
        {
            world.make_foreign(name.to_owned(), mark);
        }
        for _ in 0..5 {
            world.advance(Duration::from_secs(1));
        }
        world
    }

    fn start(&mut self, at: usize) {
        if self.brokers[at].running.is_some() {
            return;
        }
        let clock = Clock::manual(self.time.now() + self.brokers[at].wall_ahead);
        let runtime =
            Builder::new_current_thread().enable_time().start_paused(true).build().unwrap();
        let broker = Broker::new(Parts {
            store: Arc::new(self.store.clone()),
            clock: clock.clone(),
            ways: vec![Arc::new(self.directory.clone())],
            policy: policy(),
            clusters: vec![(Box::new(self.server.clone()) as Box<dyn LeaseRoles>, client())],
            terms: Terms {
                role_prefix: RolePrefix::default(),
                create_within: ttl("30s"),
                outlive_login: false,
            },
            session: SessionTimes { idle: ttl("30m"), absolute: ttl("8h") },
            lockout: lockout(),
            reconcile_every: ttl("1m"),
            recheck_every: ttl("1m"),
            recheck_grace: GRACE.parse().unwrap(),
            max_missing: 5,
            max_clock_skew: ttl("2m"),
        });
        // The work goes on until the runtime is dropped, as a process's does until it is killed.
        runtime.block_on(async { drop(broker.start()) });
        let process = &mut self.brokers[at];
        process.clock = clock;
        process.running = Some(Running { broker, runtime });
        (process.is_frozen, process.missed) = (false, Duration::ZERO);
    }

    fn remember(&mut self, event: String) {
        if self.history.len() == 60 {
            self.history.pop_front();
        }
        self.history.push_back(event);
    }

    #[track_caller]
    fn broken(&self, promise: &str, lease: Option<&Lease>) -> ! {
        let history: Vec<&str> = self.history.iter().map(String::as_str).collect();
        let roles = &self.server.state().roles;
        panic!(
            "{promise}\nMODEL_SEED={} with {} brokers\nlease: {lease:#?}\nroles: {roles:#?}\nlast commands:\n{}",
            self.seed,
            self.brokers.len(),
            history.join("\n")
        );
    }

    /// Lets the brokers do some of what they have to do.
    fn drive(&mut self) {
        for process in &self.brokers {
            let turns = 5 + self.chance.below(60);
            if let Some(running) = process.running.as_ref().filter(|_| !process.is_frozen) {
                running.runtime.block_on(async {
                    for _ in 0..turns {
                        tokio::task::yield_now().await;
                    }
                });
            }
        }
        let answers = std::mem::take(&mut *self.answers.lock().unwrap());
        for answer in answers {
            match answer {
                Answered::LoggedIn { person, token } => {
                    self.tokens.insert(person, token);
                }
                Answered::Issued(id) => {
                    self.check_issued(id);
                    self.check_allowed(id);
                }
                Answered::Renewed(id) => self.check_allowed(id),
            }
        }
    }

    fn advance(&mut self, by: Duration) {
        self.time.advance(by);
        for process in &mut self.brokers {
            process.clock.advance(by);
            if process.is_frozen {
                process.missed += by;
            } else if let Some(running) = &process.running {
                running.runtime.block_on(tokio::time::advance(by));
            }
        }
        self.drive();
    }

    fn make_foreign(&mut self, name: String, mark: MarkerReading) {
        let oid = self.server.make_foreign(name, mark);
        let role = self.server.state().roles[&oid].clone();
        self.foreign.insert(oid, role);
    }

    /// The person's request runs on a broker of their choice, which may be away.
    fn ask<Work>(&self, at: usize, work: impl FnOnce(Broker) -> Work)
    where
        Work: Future<Output = Option<Answered>> + Send + 'static,
    {
        let Some(running) = &self.brokers[at].running else { return };
        let (work, answers) = (work(running.broker.clone()), Arc::clone(&self.answers));
        running.runtime.spawn(async move {
            if let Some(answer) = work.await {
                answers.lock().unwrap().push(answer);
            }
        });
    }
}

// -------------------------------------------------------------------------------- what happens

#[derive(Clone, Debug)]
enum Command {
    Login {
        at: usize,
        person: &'static str,
    },
    Issue {
        at: usize,
        person: &'static str,
        role: &'static str,
        ttl: &'static str,
        key: Option<&'static str>,
    },
    Renew {
        at: usize,
        lease: u32,
        ttl: &'static str,
    },
    Revoke {
        at: usize,
        lease: u32,
    },
    RevokePerson {
        at: usize,
        person: &'static str,
    },
    Logout {
        at: usize,
        person: &'static str,
    },
    Use {
        lease: u32,
        is_hidden: bool,
    },
    Reveal,
    Deliver,
    Pass(Duration),
    Kill(usize),
    Start(usize),
    Freeze(usize),
    Thaw(usize),
    Faults(Option<u32>),
    ServerUp(bool),
    StoreUp(bool),
    MoveServerClock(SignedDuration),
    MoveWall(usize, SignedDuration),
    Hold {
        lease: u32,
        is_in_use: bool,
    },
    DropRole(u32),
    RenameRole(u32),
    CopyMark(u32),
    BackUp,
    Restore,
    DirectoryUp(bool),
    There {
        person: &'static str,
        is_there: bool,
    },
    Member {
        person: &'static str,
        group: &'static str,
        is_member: bool,
    },
}

impl Command {
    fn random(chance: &Chance, brokers: usize) -> Self {
        let at = chance.below(u32::try_from(brokers).unwrap()) as usize;
        let lease = chance.below(1000);
        let person = chance.pick(&PEOPLE).unwrap();
        let ttl = chance.pick(&["1s", "30s", "15m", "1h"]).unwrap();
        match chance.below(104) {
            0..6 => Self::Login { at, person },
            6..26 => {
                let (role, _) = chance.pick(&ROLES).unwrap();
                let key = chance.pick(&[None, None, Some("k1"), Some("k2")]).unwrap();
                Self::Issue { at, person, role, ttl, key }
            }
            26..34 => Self::Renew { at, lease, ttl },
            34..40 => Self::Revoke { at, lease },
            40 => Self::RevokePerson { at, person },
            41 => Self::Logout { at, person },
            42..48 => Self::Use { lease, is_hidden: chance.once_in(3) },
            48..50 => Self::Reveal,
            50..52 => Self::Deliver,
            52..72 => {
                let seconds = chance.pick(&[1, 1, 1, 2, 5, 10, 30, 60, 600, 3600]).unwrap();
                Self::Pass(Duration::from_secs(seconds))
            }
            72..74 => Self::Kill(at),
            74..79 => Self::Start(at),
            79 => Self::Freeze(at),
            80..83 => Self::Thaw(at),
            83..86 => Self::Faults(chance.pick(&[None, None, Some(20), Some(5)]).unwrap()),
            86 => Self::ServerUp(false),
            87..89 => Self::ServerUp(true),
            89 => Self::StoreUp(false),
            90..92 => Self::StoreUp(true),
            92 => {
                // Never as far as a wall is moved, or a reading of before would agree with it.
                let hours = chance.pick(&[0, 0, 1, -1, 24 * 3000]).unwrap();
                Self::MoveServerClock(SignedDuration::from_hours(hours))
            }
            93 => {
                let hours = chance.pick(&[0, 0, 2, -2, 24 * 3650]).unwrap();
                Self::MoveWall(at, SignedDuration::from_hours(hours))
            }
            94..96 => Self::Hold { lease, is_in_use: chance.once_in(2) },
            96 => Self::DropRole(lease),
            97 => chance.pick(&[Self::RenameRole(lease), Self::CopyMark(lease)]).unwrap(),
            98 => chance.pick(&[Self::BackUp, Self::Restore]).unwrap(),
            99 => Self::DirectoryUp(!chance.once_in(3)),
            100 => Self::There { person, is_there: !chance.once_in(3) },
            _ => {
                let group = chance.pick(&GROUPS).unwrap();
                Self::Member { person, group, is_member: !chance.once_in(3) }
            }
        }
    }
}

impl World {
    #[expect(clippy::too_many_lines, reason = "one short arm for each command")]
    fn execute(&mut self, command: &Command) {
        match *command {
            Command::Login { at, person } => self.ask(at, |broker| async move {
                let password = LoginPassword::new("good".to_owned());
                let logged_in = broker.login(&request(), None, person, password).await.ok()?;
                let token = logged_in.token.expose().to_owned();
                Some(Answered::LoggedIn { person, token })
            }),
            Command::Issue { at, person, role, ttl: length, key } => {
                let Some(token) = self.token(person) else { return };
                self.ask(at, |broker| async move {
                    let caller = broker.authenticate(&request(), &token).await.ok()?;
                    let wish = Wish {
                        cluster: "orders".to_owned(),
                        role: Some(role.to_owned()),
                        ttl: Some(ttl(length)),
                        request_key: key.map(|key| key.parse().unwrap()),
                        ..Wish::default()
                    };
                    let issued = broker.issue(&request(), &caller, wish).await.ok()?;
                    Some(Answered::Issued(issued.lease.id))
                });
            }
            Command::Renew { at, lease, ttl: length } => {
                let Some((lease, token)) = self.own(lease) else { return };
                self.ask(at, |broker| async move {
                    let caller = broker.authenticate(&request(), &token).await.ok()?;
                    let renewed = broker.renew(&request(), &caller, lease, Some(ttl(length))).await;
                    renewed.ok().map(|lease| Answered::Renewed(lease.id))
                });
            }
            Command::Revoke { at, lease } => {
                let Some((lease, token)) = self.own(lease) else { return };
                self.ask(at, |broker| async move {
                    let caller = broker.authenticate(&request(), &token).await.ok()?;
                    let _ = broker.revoke(&request(), &caller, lease).await;
                    None
                });
            }
            Command::RevokePerson { at, person } => {
                let Some(token) = self.token("carol") else { return };
                self.ask(at, |broker| async move {
                    let caller = broker.authenticate(&request(), &token).await.ok()?;
                    let selection = Selection {
                        person: Some(format!("ldap:{person}")),
                        ..Selection::default()
                    };
                    let rehearsal = Rehearsal::No;
                    let _ = broker.revoke_selected(&request(), &caller, selection, rehearsal).await;
                    None
                });
            }
            Command::Logout { at, person } => {
                let Some(token) = self.token(person) else { return };
                self.ask(at, |broker| async move {
                    let caller = broker.authenticate(&request(), &token).await.ok()?;
                    let _ = broker.logout(&request(), &caller).await;
                    None
                });
            }
            Command::Use { lease, is_hidden } => self.use_lease(lease, is_hidden),
            Command::Reveal => self.server.reveal(),
            Command::Deliver => self.server.deliver(),
            Command::Pass(time) => self.advance(time),
            Command::Kill(at) => self.brokers[at].running = None,
            Command::Start(at) => self.start(at),
            Command::Freeze(at) => self.brokers[at].is_frozen = true,
            Command::Thaw(at) => self.thaw(at),
            Command::Faults(faults) => self.chance.set_faults(faults),
            Command::ServerUp(is_up) => self.server.set_up(is_up),
            Command::StoreUp(is_up) => self.store.set_up(is_up),
            Command::MoveServerClock(ahead) => {
                for at in 0..self.brokers.len() {
                    self.move_wall(at, SignedDuration::ZERO);
                }
                self.server.set_clock_ahead(ahead);
            }
            Command::MoveWall(at, ahead) => self.move_wall(at, ahead),
            Command::Hold { lease, is_in_use } => {
                self.with_role(lease, |role| role.is_in_use = is_in_use);
            }
            Command::DropRole(lease) => {
                let oid = self.role_of(lease);
                oid.and_then(|oid| self.server.state().roles.remove(&oid));
            }
            Command::RenameRole(lease) => {
                self.with_role(lease, |role| role.name = format!("renamed_{}", role.name));
            }
            Command::CopyMark(lease) => {
                if let Some(MarkerReading::Ours(lease)) =
                    self.with_role(lease, |role| role.mark.clone())
                {
                    let name = format!("dba_{}", self.foreign.len());
                    self.make_foreign(name, MarkerReading::Ours(lease));
                }
            }
            Command::BackUp => {
                let state = self.server.state().clone();
                self.backup = Some(state);
            }
            Command::Restore => self.restore(),
            Command::DirectoryUp(is_up) => self.directory.set_up(is_up),
            Command::There { person, is_there } => self.directory.set_there(person, is_there),
            Command::Member { person, group, is_member } => {
                self.directory.set_member(person, group, is_member);
            }
        }
    }

    fn token(&self, person: &str) -> Option<SessionToken> {
        self.tokens.get(person).map(|token| SessionToken::unverified(token))
    }

    /// A lease that was handed out, and the token of whoever has it.
    fn own(&self, number: u32) -> Option<(LeaseId, SessionToken)> {
        let id = self.handed(number)?;
        let rows = self.store.rows();
        let holder = rows.tables.leases.get(&id)?.principal.to_string();
        self.token(holder.strip_prefix("ldap:")?).map(|token| (id, token))
    }

    /// Mostly one of the last that were handed out.
    fn handed(&self, number: u32) -> Option<LeaseId> {
        let rows = self.store.rows();
        let mut leases: Vec<&Lease> =
            self.handed_out.iter().filter_map(|id| rows.tables.leases.get(id)).collect();
        leases.sort_by_key(|lease| std::cmp::Reverse(lease.requested_at));
        let among = if number.is_multiple_of(5) { leases.len() } else { leases.len().min(5) };
        (among > 0).then(|| leases[number as usize % among].id)
    }

    fn role_of(&self, number: u32) -> Option<RoleOid> {
        let id = self.handed(number)?;
        let oid = self.store.rows().tables.leases.get(&id)?.role_oid?;
        let state = self.server.state();
        let is_its = state.roles.get(&oid).is_some_and(|role| role.mark == MarkerReading::Ours(id));
        (is_its && !self.foreign.contains_key(&oid)).then_some(oid)
    }

    fn with_role<T>(&self, number: u32, change: impl FnOnce(&mut Role) -> T) -> Option<T> {
        let oid = self.role_of(number)?;
        self.server.state().roles.get_mut(&oid).map(change)
    }

    /// Its holder logs in. Who logs in must hold a lease that is not over.
    fn use_lease(&mut self, number: u32, is_hidden: bool) {
        let Some(oid) = self.role_of(number) else { return };
        self.server.log_in(oid, is_hidden);
    }

    fn thaw(&mut self, at: usize) {
        let process = &mut self.brokers[at];
        process.is_frozen = false;
        let missed = std::mem::take(&mut process.missed);
        if let Some(running) = &process.running {
            running.runtime.block_on(tokio::time::advance(missed));
        }
    }

    /// Only one clock is wrong at a time: with two that agree nobody could tell.
    fn move_wall(&mut self, at: usize, ahead: SignedDuration) {
        self.server.set_clock_ahead(SignedDuration::ZERO);
        let process = &mut self.brokers[at];
        process.clock.move_wall(ahead - process.wall_ahead);
        process.wall_ahead = ahead;
    }

    fn restore(&mut self) {
        let Some(backup) = self.backup.clone() else { return };
        *self.server.state() = backup;
        self.server.state().sessions.clear();
        self.foreign.retain(|oid, _| self.server.state().roles.contains_key(oid));
        self.restored_until = Timestamp::MAX;
    }
}

// ------------------------------------------------------------------------------- what must hold

impl World {
    /// I-01: whoever has a password has a lease that is written down as issued.
    fn check_issued(&mut self, id: LeaseId) {
        let (lease, is_recorded) = {
            let rows = self.store.rows();
            let issued =
                |record: &Record| record.lease == Some(id) && record.action == Action::LeaseIssued;
            (rows.tables.leases.get(&id).cloned(), rows.audit.iter().any(issued))
        };
        let is_active = lease
            .as_ref()
            .is_some_and(|lease| !matches!(lease.state, LeaseState::Intent | LeaseState::Aborted));
        if !is_active || !is_recorded {
            self.broken("a password was handed out without a record", lease.as_ref());
        }
        self.handed_out.insert(id);
    }

    fn note_denied(&mut self) {
        let now = self.time.now();
        for person in PEOPLE {
            for (role, _) in ROLES {
                if self.directory.is_member(person, role) {
                    self.denied.remove(&(person, role));
                } else {
                    self.denied.entry((person, role)).or_insert(now);
                }
            }
        }
    }

    /// Since when whoever has the lease may not have it.
    fn denied_since(&self, lease: &Lease) -> Option<Timestamp> {
        let is_its = |(person, role): &(&str, &str)| {
            lease.principal.subject() == *person && lease.role.as_str() == *role
        };
        self.denied.iter().find(|(key, _)| is_its(key)).map(|(_, since)| *since)
    }

    /// I-11: what could not be had now is not renewed now, but for the grace while nobody can look.
    fn check_allowed(&self, id: LeaseId) {
        let Some(lease) = self.store.rows().tables.leases.get(&id).cloned() else { return };
        let grace = ttl(GRACE).span() + MARGIN;
        if self.denied_since(&lease).is_some_and(|since| since + grace < self.time.now()) {
            self.broken("somebody got what they may not have", Some(&lease));
        }
    }

    /// Offboarding: within the re-check period nobody has what they may not have.
    fn check_nobody_has_too_much(&self) {
        let leases: Vec<Lease> = self.store.rows().tables.leases.values().cloned().collect();
        for lease in leases.iter().filter(|lease| lease.state == LeaseState::Active) {
            if self.denied_since(lease).is_some() {
                self.broken("somebody has what they may not have any more", Some(lease));
            }
        }
    }

    fn check(&mut self) {
        let leases: Vec<Lease> = self.store.rows().tables.leases.values().cloned().collect();
        for lease in &leases {
            self.check_moves(lease);
            self.check_role(lease);
        }
        self.check_keys(&leases);
        self.check_audit();
        self.check_foreign();
    }

    /// I-05, I-06: states move forward, and no end is past the longest.
    fn check_moves(&mut self, lease: &Lease) {
        let longest = ROLES.iter().find(|(role, _)| *role == lease.role.as_str()).unwrap().1;
        if lease.expires_at > lease.ceiling
            || lease.ceiling > lease.requested_at + ttl(longest).span()
        {
            self.broken("a lease ends after its ceiling", Some(lease));
        }
        let seen = self.seen.entry(lease.id).or_insert(Seen {
            version: 0,
            state: LeaseState::Intent,
            latest_end: lease.expires_at,
        });
        seen.latest_end = seen.latest_end.max(lease.expires_at);
        let rank = |state| LeaseState::ALL.iter().position(|one| *one == state);
        let is_back = lease.version < seen.version
            || rank(lease.state) < rank(seen.state)
            || (seen.state.is_final() && lease.version != seen.version);
        (seen.version, seen.state) = (lease.version, lease.state);
        if is_back {
            self.broken("a lease went back", Some(lease));
        }
    }

    /// I-03, I-04, I-07: what the role of a lease can do.
    fn check_role(&mut self, lease: &Lease) {
        if self.time.now() < self.restored_until {
            return;
        }
        let latest_end = self.seen[&lease.id].latest_end;
        let role = {
            let state = self.server.state();
            let oid = lease.role_oid.filter(|oid| !self.foreign.contains_key(oid));
            let role = oid.and_then(|oid| state.roles.get(&oid)).cloned();
            role.filter(|role| role.mark == MarkerReading::Ours(lease.id))
        };
        let Some(role) = role else { return };
        if lease.access_ended_at.is_some() && (role.can_login || !role.groups.is_empty()) {
            self.broken("access had ended, and the role has it", Some(lease));
        }
        if role.can_login && role.valid_until - role.clock_ahead > latest_end + MARGIN {
            self.broken("a role lets in longer than its lease ever lived", Some(lease));
        }
        if role.groups.len() > 1 || role.groups.iter().any(|group| *group != lease.role) {
            self.broken("a role has other rights than its lease", Some(lease));
        }
    }

    /// I-10: one live lease for one wish.
    fn check_keys(&self, leases: &[Lease]) {
        let mut wishes = BTreeSet::new();
        for lease in leases.iter().filter(|lease| lease.state == LeaseState::Active) {
            if let Some(key) = &lease.request_key
                && !wishes.insert((lease.principal.key(), key.as_str().to_owned()))
            {
                self.broken("two live leases for one wish", Some(lease));
            }
        }
    }

    /// I-05: one record of issuing and one of the end for each lease.
    fn check_audit(&mut self) {
        let rows = self.store.rows();
        let mut twice = None;
        for record in &rows.audit[self.audited..] {
            let once = [Action::LeaseIssued, Action::LeaseRevoked, Action::LeaseAborted];
            let Some(lease) = record.lease.filter(|_| once.contains(&record.action)) else {
                continue;
            };
            if record.outcome == Outcome::Done || record.action == Action::LeaseAborted {
                let count =
                    self.counted.entry((lease, format!("{:?}", record.action))).or_default();
                *count += 1;
                twice = twice.or((*count > 1).then_some(lease));
            }
        }
        self.audited = rows.audit.len();
        let lease = twice.and_then(|lease| rows.tables.leases.get(&lease).cloned());
        drop(rows);
        if twice.is_some() {
            self.broken("the same thing is recorded twice of a lease", lease.as_ref());
        }
    }

    /// I-09: what is not ours is as it was.
    fn check_foreign(&self) {
        let state = self.server.state();
        let touched = self.foreign.iter().find(|(oid, before)| {
            state
                .roles
                .get(oid)
                .is_none_or(|now| now.can_login != before.can_login || now.groups != before.groups)
        });
        let touched = touched.map(|(oid, before)| format!("{oid} {before:?}"));
        drop(state);
        if let Some(touched) = touched {
            self.broken(&format!("a role of others was touched: {touched}"), None);
        }
    }

    /// Everything works again, and nobody asks for anything.
    fn rest(mut self) {
        self.remember("rest".to_owned());
        self.chance.set_faults(None);
        self.server.set_up(true);
        self.store.set_up(true);
        self.directory.set_up(true);
        self.server.set_clock_ahead(SignedDuration::ZERO);
        for at in 0..self.brokers.len() {
            self.move_wall(at, SignedDuration::ZERO);
            self.thaw(at);
            self.start(at);
        }
        self.server.deliver();
        for role in self.server.state().roles.values_mut() {
            role.is_in_use = false;
        }
        self.pass_in_steps(RECOVERY);
        self.restored_until = Timestamp::MIN;
        self.check();
        self.check_roles_have_leases();
        self.check_nobody_has_too_much();
        self.check_time();
        // What was held back shows itself; then every lease is over, and every pause too.
        self.server.reveal();
        for _ in 0..11 {
            self.advance(Duration::from_hours(1));
            self.pass_in_steps(Duration::from_secs(20));
        }
        self.pass_in_steps(RECOVERY);
        self.check();
        self.check_nothing_is_left();
    }

    fn pass_in_steps(&mut self, time: Duration) {
        for _ in 0..time.as_secs() {
            self.advance(Duration::from_secs(1));
            for _ in 0..3 {
                self.drive();
            }
        }
    }

    fn our_roles(&self) -> Vec<(RoleOid, Role)> {
        let state = self.server.state();
        let ours = state.roles.iter().filter(|(oid, role)| {
            matches!(role.mark, MarkerReading::Ours(_)) && !self.foreign.contains_key(oid)
        });
        // One that was renamed before its OID was known has neither name nor OID to know it by.
        let known = |oid: &RoleOid, role: &Role| {
            let rows = self.store.rows();
            !role.name.starts_with("renamed_")
                || rows.tables.leases.values().any(|lease| lease.role_oid == Some(*oid))
        };
        let ours = ours.filter(|(oid, role)| known(oid, role));
        ours.map(|(oid, role)| (*oid, role.clone())).collect()
    }

    /// I-02: every role with our mark has a lease.
    fn check_roles_have_leases(&self) {
        for (oid, role) in self.our_roles() {
            let MarkerReading::Ours(id) = role.mark else { continue };
            let lease = self.store.rows().tables.leases.get(&id).cloned();
            if !lease.as_ref().is_some_and(|lease| {
                !lease.state.is_final() && lease.role_oid.is_none_or(|own| own == oid)
            }) {
                self.broken(&format!("role {oid} has no lease that lives"), lease.as_ref());
            }
        }
    }

    /// No clock that was moved has moved a broker's time.
    fn check_time(&self) {
        for process in &self.brokers {
            let apart = process.clock.now().duration_since(self.time.now());
            if apart.abs() > SignedDuration::from_secs(60) {
                self.broken(&format!("a broker's time is {apart} off"), None);
            }
        }
    }

    /// I-08, I-14: with every lease over, nothing is left of any.
    fn check_nothing_is_left(&self) {
        let leases: Vec<Lease> = self.store.rows().tables.leases.values().cloned().collect();
        for lease in &leases {
            // After a restore somebody else's role may have its OID: it is not touched, and whether
            // the lease's role is gone nobody can know.
            let is_taken = lease.role_oid.is_some_and(|oid| self.foreign.contains_key(&oid));
            if !lease.state.is_final() && !is_taken {
                self.broken("a lease is not over", Some(lease));
            }
        }
        if let Some((oid, _)) = self.our_roles().first() {
            self.broken(&format!("role {oid} is left"), None);
        }
        let foreign = |oid: &RoleOid| self.foreign.contains_key(oid);
        let state = self.server.state();
        let left = state.sessions.iter().find(|session| !foreign(&session.oid)).cloned();
        drop(state);
        if let Some(left) = left {
            self.broken(&format!("a session is left: {left:?}"), None);
        }
    }
}

// --------------------------------------------------------------------------------- what it is of

pub(super) fn ttl(text: &str) -> Ttl {
    text.parse().unwrap()
}

fn request() -> Request {
    Request { id: "r".to_owned(), client: [127, 0, 0, 1].into(), agent: None }
}

pub(super) fn client() -> ClientConnection {
    ClientConnection {
        host: "orders".to_owned(),
        port: 5432,
        sslmode: ClientSslMode::VerifyFull,
        sslrootcert: None,
        root_certificate: None,
    }
}

pub(super) fn lockout() -> Lockout {
    let rule = LockoutRule { failures: 1_000_000, window: ttl("15m"), pause: ttl("15m") };
    Lockout { account: rule, everywhere: rule, source: rule }
}

pub(super) fn policy() -> Policy {
    let profiles = ROLES.map(|(role, max_ttl)| {
        Arc::new(Profile {
            role: role.parse().unwrap(),
            databases: vec!["orders".parse().unwrap()],
            ttl: ttl("15m"),
            max_ttl: ttl(max_ttl),
            max_leases: LeaseLimit::try_from(4).unwrap(),
            connection_limit: ConnectionLimit::DEFAULT,
            // So few are computed at once, in order.
            scram_iterations: ScramIterations::try_from(1).unwrap(),
            settings: Vec::new(),
            networks: None,
            reason: ReasonRule::Optional,
            owned_objects: ObjectPolicy::Drop,
        })
    });
    let map = b"corp orders_read orders_read\ncorp orders_write orders_write\nduties operators operator\n";
    let maps = |name: &str| Maps { map: None, group_map: Some(name.parse().unwrap()) };
    Policy {
        map: IdentMap::parse("pg_ident.conf", map).unwrap(),
        ways: [("corp".parse().unwrap(), maps("corp"))].into(),
        access: maps("duties"),
        targets: vec![Target { cluster: "orders".parse().unwrap(), profiles: profiles.to_vec() }],
    }
}
