//! The broker's own code against models of its store and its cluster: a hundred thousand random
//! commands, each call failing now and then before or after its effect, brokers that are stopped,
//! killed and started in between, clocks that are moved. What must hold, holds after every step.
//!
//! The models are small enough to be believed: the store passes the conformance suite of the real
//! ones, and the server does what the reference says PostgreSQL does with roles.
//!
//! ```text
//! world       one run: brokers, store, server, people, and the true time
//! commands    what happens, drawn by chance
//! people      what is asked of brokers, and what is done with passwords
//! dba         what is done on the server beside the brokers
//! clocks      the brokers' processes and their clocks
//! store, tables, server, roles, directory    the parties, with their faults
//! promises    what must hold after every step; told: of the audit; rest: at the end;
//!             missing: of people whom the directory does not show any more
//! two_clusters    not by chance: one broker, two clusters, and clocks that do not agree
//! ```
//!
//! A run is one seed: nothing in it depends on anything else, so that the same seed is the same run
//! to the letter. Some seeds are always the same, and some are drawn and printed. `MODEL_SEED`
//! repeats one run, `MODEL_STEPS` sets how many commands all runs with fixed seeds make together.

mod chance;
mod clocks;
mod commands;
mod dba;
mod directory;
mod missing;
mod people;
mod promises;
mod rest;
mod roles;
mod server;
mod stand;
mod store;
mod tables;
mod told;
mod two_clusters;
mod world;

use std::collections::BTreeMap;

pub(super) use self::chance::rng;
use self::world::{Feat, World};

/// Commands of one run; then the world is left in peace, and must come to rest.
const STEPS_OF_A_RUN: u64 = 1000;

/// Commands of all runs with fixed seeds, unless `MODEL_STEPS` says otherwise.
const STEPS: u64 = 100_000;

/// For so many runs with a fixed seed there is one whose seed is drawn.
const FIXED_TO_A_DRAWN: u64 = 8;

fn from_environment(name: &str) -> Option<u64> {
    let text = std::env::var(name).ok()?;
    Some(text.parse().unwrap_or_else(|error| panic!("{name}={text}: {error}")))
}

/// How many commands all runs make together.
fn steps() -> u64 {
    from_environment("MODEL_STEPS").unwrap_or(STEPS)
}

/// The command that repeats a run.
fn again(seed: u64, brokers: usize) -> String {
    let count = ["", "one_broker", "two_brokers", "three_brokers"][brokers];
    format!("to repeat it: MODEL_SEED={seed} cargo test --lib whatever_happens_{count}")
}

/// Says how to repeat the run, whatever part of it panics.
struct Repeatable(u64, usize);

impl Drop for Repeatable {
    fn drop(&mut self) {
        if std::thread::panicking() {
            eprintln!("{}", again(self.0, self.1));
        }
    }
}

/// Runs with seeds from `first` and with drawn ones, each with as many brokers as said.
fn run(first: u64, brokers: usize, steps: u64) {
    let mut feats: BTreeMap<Feat, u32> = BTreeMap::new();
    let mut one = |seed| {
        let _repeatable = Repeatable(seed, brokers);
        for (feat, count) in World::run(seed, brokers, STEPS_OF_A_RUN).feats {
            *feats.entry(feat).or_default() += count;
        }
    };
    if let Some(seed) = from_environment("MODEL_SEED") {
        return one(seed);
    }
    let runs = steps.div_ceil(STEPS_OF_A_RUN);
    for _ in 0..runs.div_ceil(FIXED_TO_A_DRAWN) {
        let drawn = rand::random();
        println!("drawn, {}", again(drawn, brokers));
        one(drawn);
    }
    (first..first + runs).for_each(one);
    println!("{feats:?}");
    // A promise that nothing puts to the test holds by itself.
    let missing: Vec<Feat> = Feat::ALL.into_iter().filter(|f| !feats.contains_key(f)).collect();
    assert!(missing.is_empty() || runs < 10, "never done: {missing:?}");
}

#[test]
fn whatever_happens_one_broker_keeps_every_promise_about_leases() {
    run(0, 1, steps() / 2);
}

#[test]
fn whatever_happens_two_brokers_keep_every_promise_about_leases() {
    run(1_000_000, 2, steps() / 4);
}

#[test]
fn whatever_happens_three_brokers_keep_every_promise_about_leases() {
    run(2_000_000, 3, steps() / 4);
}

#[test]
fn the_same_seed_is_the_same_run_to_the_letter() {
    for brokers in 1..=3 {
        let seed = rand::random();
        let _repeatable = Repeatable(seed, brokers);
        let [one, two] = [(); 2].map(|()| World::run(seed, brokers, 400).digest);
        assert_eq!(one, two);
        assert_ne!(one, World::run(seed.wrapping_add(1), brokers, 400).digest);
    }
}
