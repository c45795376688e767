//! One world: brokers, their store, a server, people, and the true time.

use std::collections::{BTreeMap, VecDeque};
use std::hash::{DefaultHasher, Hash, Hasher};
use std::time::Duration;

use jiff::{SignedDuration, Timestamp};
use tokio::runtime::{Builder, Runtime};

use super::chance::{Chance, Drawn};
use super::clocks::Process;
use super::commands::Command;
use super::dba::Foreign;
use super::directory::Directory;
use super::people::People;
use super::server::{Server, State};
use super::stand::{self, GROUPS, PEOPLE};
use super::store::ModelStore;
use super::told::Told;
use crate::broker::Broker;
use crate::clock::Clock;
use crate::lease::{Lease, LeaseState, MarkerReading};
use crate::names::LeaseId;

/// How far a role's own end may be from its lease's.
pub(super) const MARGIN: SignedDuration = SignedDuration::from_secs(5);

pub(super) struct Running {
    // The broker goes before the runtime that its work is on.
    pub(super) broker: Broker,
    pub(super) runtime: Runtime,
}

/// What was seen of a lease so far.
pub(super) struct Seen {
    pub(super) version: u32,
    pub(super) state: LeaseState,
    /// By the true time, as far as the brokers know it.
    pub(super) latest_end: Timestamp,
    /// By the true time.
    pub(super) first_at: Timestamp,
    pub(super) has_access_ended: bool,
    /// Since when it has been told to end, by the true time.
    pub(super) ending_since: Option<Timestamp>,
}

/// How often something happened that a promise is about: a promise that nothing puts to the test
/// holds by itself.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub(super) enum Feat {
    Issued,
    LoggedInToCluster,
    RefusedAtCluster,
    TriedAfterAllDied,
    SessionOutlivedAccess,
    Replaced,
    Renewed,
    Denied,
    Quarantined,
    Restored,
    ForeignSessionKept,
    OwnedObjectGone,
    EndedAsMissing,
    HeldBack,
    HeldBackEndedByOperator,
}

impl Feat {
    pub(super) const ALL: [Self; 15] = [
        Self::Issued,
        Self::LoggedInToCluster,
        Self::RefusedAtCluster,
        Self::TriedAfterAllDied,
        Self::SessionOutlivedAccess,
        Self::Replaced,
        Self::Renewed,
        Self::Denied,
        Self::Quarantined,
        Self::Restored,
        Self::ForeignSessionKept,
        Self::OwnedObjectGone,
        Self::EndedAsMissing,
        Self::HeldBack,
        Self::HeldBackEndedByOperator,
    ];
}

/// What came of a run.
pub(super) struct Story {
    /// Of everything that was written down, and of what the server holds in the end.
    pub(super) digest: u64,
    pub(super) feats: BTreeMap<Feat, u32>,
}

pub(super) struct World {
    pub(super) chance: Chance,
    /// The true time.
    pub(super) time: Clock,
    pub(super) server: Server,
    pub(super) store: ModelStore,
    pub(super) directory: Directory,
    pub(super) brokers: Vec<Process>,
    pub(super) people: People,
    pub(super) seen: BTreeMap<LeaseId, Seen>,
    pub(super) foreign: Foreign,
    /// What was made by sessions of leases: objects, and whose.
    pub(super) made: BTreeMap<u32, LeaseId>,
    pub(super) backup: Option<(State, Foreign)>,
    /// Whether the server is restored now and then in this run. Then much of what a role may not
    /// be can be, until the brokers have looked.
    pub(super) has_restores: bool,
    /// Until when the server may hold what a backup brought back.
    pub(super) restored_until: Timestamp,
    pub(super) told: Told,
    pub(super) feats: BTreeMap<Feat, u32>,
    history: VecDeque<String>,
    _drawn: Drawn,
}

impl World {
    /// One run: random commands, and then rest. Panics where a promise is broken.
    pub(super) fn run(seed: u64, brokers: usize, steps: u64) -> Story {
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
        Story { digest: world.digest(), feats: std::mem::take(&mut world.feats) }
    }

    fn new(seed: u64, brokers: usize) -> Self {
        let drawn = Drawn::from(seed);
        let (chance, start) = (Chance::new(seed), "2026-01-01T00:00:00Z".parse().unwrap());
        let time = Clock::manual(start);
        let server = Server::new("orders", time.clone(), chance.clone());
        let store = ModelStore::new(time.clone(), chance.clone());
        let mut world = Self {
            store: store.seen_by(server.clone()),
            server,
            directory: Directory::new(&PEOPLE, &GROUPS, chance.clone()),
            brokers: Vec::new(),
            people: People::new(start),
            seen: BTreeMap::new(),
            foreign: Foreign::default(),
            made: BTreeMap::new(),
            backup: None,
            has_restores: chance.once_in(4),
            restored_until: start,
            told: Told::default(),
            feats: BTreeMap::new(),
            history: VecDeque::new(),
            chance,
            time,
            _drawn: drawn,
        };
        for at in 0..brokers {
            world.brokers.push(Process::new(start));
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

    pub(super) fn start(&mut self, at: usize) {
        if self.brokers[at].running.is_some() {
            return;
        }
        let clock = Clock::manual(self.time.now() + self.brokers[at].wall_ahead);
        let runtime =
            Builder::new_current_thread().enable_time().start_paused(true).build().unwrap();
        let broker = stand::broker(clock.clone(), &self.store, &[&self.server], &self.directory);
        // The work goes on until the runtime is dropped, as a process's does until it is killed.
        runtime.block_on(async { drop(broker.start()) });
        self.brokers[at].started(clock, Running { broker, runtime });
    }

    /// Lets the brokers do some of what they have to do, and takes in their answers.
    pub(super) fn drive(&mut self) {
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
        self.take_answers();
    }

    pub(super) fn advance(&mut self, by: Duration) {
        self.time.advance(by);
        for process in &mut self.brokers {
            process.advance(by);
        }
        self.drive();
    }

    /// Lets time pass evenly, and the brokers keep up with it.
    pub(super) fn pass_in_steps(&mut self, time: Duration) {
        for _ in 0..time.as_secs() {
            self.advance(Duration::from_secs(1));
            for _ in 0..3 {
                self.drive();
            }
        }
    }

    pub(super) fn leases(&self) -> Vec<Lease> {
        self.store.rows().tables.leases.values().cloned().collect()
    }

    pub(super) fn lease(&self, id: LeaseId) -> Option<Lease> {
        self.store.rows().tables.leases.get(&id).cloned()
    }

    pub(super) fn note(&mut self, feat: Feat) {
        *self.feats.entry(feat).or_default() += 1;
    }

    fn remember(&mut self, event: String) {
        if self.history.len() == 60 {
            self.history.pop_front();
        }
        self.history.push_back(event);
    }

    pub(super) fn remember_rest(&mut self, event: &str) {
        self.remember(format!("rest: {event}"));
    }

    fn digest(&self) -> u64 {
        let mut hasher = DefaultHasher::new();
        for record in &self.store.rows().audit {
            serde_json::to_string(record).unwrap().hash(&mut hasher);
        }
        format!("{:?}", self.server.state().roles).hash(&mut hasher);
        hasher.finish()
    }

    #[track_caller]
    pub(super) fn broken(&self, promise: &str, lease: Option<&Lease>) -> ! {
        let history: Vec<&str> = self.history.iter().map(String::as_str).collect();
        let roles = &self.server.state().roles;
        panic!(
            "{promise}\nlease: {lease:#?}\nroles: {roles:#?}\nlast commands:\n{}",
            history.join("\n"),
        );
    }
}
