//! The broker's own code against models of its store and its cluster: tens of thousands of random
//! commands, each call failing now and then before or after its effect, brokers that are stopped,
//! killed and started in between, clocks that are moved. What must hold, holds after every step.
//!
//! The models are small enough to be believed: the store passes the conformance suite of the real
//! ones, and the server does what the reference says PostgreSQL does with roles.
//!
//! `MODEL_SEED` replays one run, `MODEL_STEPS` sets how many commands all runs make together.

mod chance;
mod clocks;
mod directory;
mod server;
mod store;
mod world;

use self::world::World;

/// Commands of one run; then the world is left in peace, and must come to rest.
const STEPS_OF_A_RUN: u64 = 1000;

/// Commands of all runs, unless `MODEL_STEPS` says otherwise.
const STEPS: u64 = 100_000;

fn from_environment(name: &str) -> Option<u64> {
    std::env::var(name).ok().and_then(|text| text.parse().ok())
}

/// Runs with seeds from `first`, each with as many brokers as said.
fn run(first: u64, brokers: usize, steps: u64) {
    if let Some(seed) = from_environment("MODEL_SEED") {
        return World::run(seed, brokers, STEPS_OF_A_RUN);
    }
    for seed in first..first + steps.div_ceil(STEPS_OF_A_RUN) {
        World::run(seed, brokers, STEPS_OF_A_RUN);
    }
}

fn steps() -> u64 {
    from_environment("MODEL_STEPS").unwrap_or(STEPS)
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
