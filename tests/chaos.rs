//! Brokers on one store that are stopped, thawed and killed at random while people ask, renew and
//! give back. Afterwards the history that they wrote is held against the invariants.
//!
//! `CHAOS_SEED` replays the choices of one run, `CHAOS_STEPS` sets how many there are.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use rand::rngs::StdRng;
use rand::{Rng, SeedableRng};
use reqwest::Method;
use serde_json::{Value, json};
use tokio::task::JoinHandle;

use crate::support::{Answer, Fellow, Signal, StoreServer, TestBed, wait_for};

/// How long everything may take to be over once all brokers run: T-rec.
const RECOVERY: Duration = Duration::from_mins(2);

/// Between two choices: people are not faster.
const PACE: Duration = Duration::from_millis(25);

const STEPS: u64 = 300;

/// What somebody was given.
struct Held {
    id: String,
    role: String,
    password: String,
}

struct Chaos {
    rng: StdRng,
    brokers: Vec<(Fellow, Condition)>,
    token: String,
    asked: Vec<JoinHandle<Option<Answer>>>,
    held: Vec<Held>,
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Condition {
    Runs,
    Frozen,
    Dead,
}

fn from_environment(name: &str) -> Option<u64> {
    std::env::var(name).ok().and_then(|text| text.parse().ok())
}

impl Chaos {
    async fn step(&mut self) {
        let at = self.rng.random_range(0..self.brokers.len());
        match self.rng.random_range(0..100) {
            0..45 => self.issue(at),
            45..60 => self.renew(at),
            60..75 => self.revoke(at),
            75..82 => self.freeze(at),
            82..92 => self.thaw(at),
            92..95 => self.kill(at),
            _ => self.start(at),
        }
        tokio::time::sleep(PACE).await;
        self.collect().await;
    }

    fn ask(&mut self, at: usize, method: Method, path: &str, body: Value) {
        let asked = self.brokers[at].0.calling(method, path, &self.token, body);
        self.asked.push(asked);
    }

    fn issue(&mut self, at: usize) {
        let ttl = ["1s", "2s", "4s", "10s"][self.rng.random_range(0..4)];
        let wish = json!({ "cluster": "orders", "role": "orders_read", "ttl": ttl });
        self.ask(at, Method::POST, "/v1/leases", wish);
    }

    fn renew(&mut self, at: usize) {
        let Some(held) = self.one_of_the_last() else { return };
        let path = format!("/v1/leases/{}/renew", held.id);
        self.ask(at, Method::POST, &path, json!({ "ttl": "5s" }));
    }

    fn revoke(&mut self, at: usize) {
        let Some(held) = self.one_of_the_last() else { return };
        let path = format!("/v1/leases/{}", held.id);
        self.ask(at, Method::DELETE, &path, Value::Null);
    }

    fn one_of_the_last(&mut self) -> Option<&Held> {
        let among = self.held.len().min(6);
        let chosen = (among > 0).then(|| self.rng.random_range(0..among))?;
        self.held.iter().rev().nth(chosen)
    }

    /// One at least goes on, or nobody would do anything.
    fn others_run(&self, at: usize) -> bool {
        let mut others = self.brokers.iter().enumerate().filter(|(other, _)| *other != at);
        others.any(|(_, (_, condition))| *condition == Condition::Runs)
    }

    fn freeze(&mut self, at: usize) {
        if self.brokers[at].1 == Condition::Runs && self.others_run(at) {
            self.brokers[at].0.signal(Signal::Freeze);
            self.brokers[at].1 = Condition::Frozen;
        }
    }

    fn thaw(&mut self, at: usize) {
        if self.brokers[at].1 == Condition::Frozen {
            self.brokers[at].0.signal(Signal::Thaw);
            self.brokers[at].1 = Condition::Runs;
        }
    }

    fn kill(&mut self, at: usize) {
        if self.brokers[at].1 != Condition::Dead && self.others_run(at) {
            self.brokers[at].0.kill();
            self.brokers[at].1 = Condition::Dead;
        }
    }

    fn start(&mut self, at: usize) {
        if self.brokers[at].1 == Condition::Dead {
            assert!(self.brokers[at].0.start(), "{}", self.brokers[at].0.log());
            self.brokers[at].1 = Condition::Runs;
        }
    }

    /// Takes in the answers that have come.
    async fn collect(&mut self) {
        let (come, waited): (Vec<_>, Vec<_>) =
            std::mem::take(&mut self.asked).into_iter().partition(JoinHandle::is_finished);
        self.asked = waited;
        for answer in come {
            if let Ok(Some(answer)) = answer.await
                && answer.status == 201
            {
                self.held.push(Held {
                    id: answer.text("/lease/id"),
                    role: answer.text("/lease/role_name"),
                    password: answer.text("/password"),
                });
            }
        }
    }
}

async fn under_chaos(brokers: usize) {
    let seed = from_environment("CHAOS_SEED").unwrap_or_else(rand::random);
    println!("CHAOS_SEED={seed}");
    let server = StoreServer::start(16);
    server.make("store");
    let lines = server.lines("store");
    let mut bed = TestBed::start_with(15, |config| {
        let config = config.replace("path = \"pgbridge.db\"", &lines);
        let config =
            config.replace("role = \"orders_read\"", "role = \"orders_read\"\nmax_leases = 1000");
        config.replace("[broker]", "[broker]\nreconcile_every = \"1s\"\ncreate_within = \"2s\"")
    });
    let token = bed.login("alice").await;
    let fellows = (0..brokers).map(|_| (bed.fellow(), Condition::Runs)).collect();
    bed.stop();
    let rng = StdRng::seed_from_u64(seed);
    let mut chaos = Chaos { rng, brokers: fellows, token, asked: Vec::new(), held: Vec::new() };
    for _ in 0..from_environment("CHAOS_STEPS").unwrap_or(STEPS) {
        chaos.step().await;
    }
    for at in 0..brokers {
        chaos.thaw(at);
        chaos.start(at);
    }
    while !chaos.asked.is_empty() {
        chaos.collect().await;
        tokio::time::sleep(PACE).await;
    }
    everything_is_over(&bed, &server, seed);
    the_history_holds(&bed, &chaos.held, seed);
    println!("{} leases were handed out", chaos.held.len());
}

fn everything_is_over(bed: &TestBed, server: &StoreServer, seed: u64) {
    wait_for("every role to be gone", RECOVERY, || bed.lease_roles().is_empty().then_some(()));
    let left = "SELECT id, state FROM pgbridge.lease WHERE state NOT IN ('revoked', 'aborted')";
    wait_for("every lease to be over", RECOVERY, || {
        server.postgres.sql("store", left).is_empty().then_some(())
    });
    // I-06: no lease was ever to end later than its profile lets it.
    let long = "SELECT id FROM pgbridge.lease
                WHERE expires_at > ceiling OR ceiling > requested_at + interval '8 hours'";
    assert!(server.postgres.sql("store", long).is_empty(), "CHAOS_SEED={seed}");
}

fn the_history_holds(bed: &TestBed, held: &[Held], seed: u64) {
    let records = bed.records();
    let mut story: BTreeMap<String, Vec<&str>> = BTreeMap::new();
    for record in records.iter().filter(|record| record["outcome"] == "done") {
        if let Some(lease) = record["lease"].as_str() {
            let action = record["action"].as_str().expect("an action");
            story.entry(lease.to_owned()).or_default().push(action);
        }
    }
    // I-05: forward only, and each once; whatever ends, ends by the whole way.
    for (lease, actions) in &story {
        let steps = [
            "lease.requested",
            "lease.issued",
            "lease.revoke_requested",
            "lease.access_ended",
            "lease.revoked",
        ];
        let place = |action: &&str| steps.iter().position(|step| step == action);
        let places: Vec<usize> = actions.iter().filter_map(place).collect();
        let forward = places.windows(2).all(|pair| pair[0] < pair[1]);
        assert!(forward, "CHAOS_SEED={seed} {lease}: {actions:?}");
        let renewed_late = actions
            .iter()
            .skip_while(|action| **action != "lease.revoke_requested")
            .any(|action| *action == "lease.renewed");
        assert!(!renewed_late, "CHAOS_SEED={seed} {lease}: {actions:?}");
    }
    // I-01: whoever has a password has a lease that is written down as issued, and now as revoked.
    let names: BTreeSet<&str> = held.iter().map(|held| held.id.as_str()).collect();
    assert_eq!(names.len(), held.len(), "CHAOS_SEED={seed}");
    for held in held {
        let actions =
            story.get(&held.id).unwrap_or_else(|| panic!("CHAOS_SEED={seed} {}", held.id));
        assert!(actions.contains(&"lease.issued"), "CHAOS_SEED={seed} {actions:?}");
        assert!(actions.contains(&"lease.revoked"), "CHAOS_SEED={seed} {actions:?}");
    }
    for held in held.iter().take(10) {
        let used = bed.postgres.sql_as(&held.role, &held.password, "orders", "SELECT 1");
        assert!(used.is_err(), "CHAOS_SEED={seed} {}", held.role);
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn two_brokers_that_are_stopped_and_killed_at_random_keep_every_promise() {
    under_chaos(2).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn three_brokers_that_are_stopped_and_killed_at_random_keep_every_promise() {
    under_chaos(3).await;
}
