//! The policy in force, and how another map takes the place of its own while the broker runs.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, PoisonError, RwLock};

use metrics::gauge;
use tokio::sync::Notify;

use super::Broker;
use crate::mapping::Policy;
use crate::names::WayName;

/// Who may become what, now. It is replaced as a whole: whoever decides takes it once, and decides
/// by nothing else.
pub(super) struct InForce {
    now: RwLock<Numbered>,
    health: Mutex<MapHealth>,
    /// Wakes whoever looks at the files.
    told: Notify,
    /// Wakes whoever holds the people of a way in against a new map.
    replaced: BTreeMap<WayName, Notify>,
}

/// A policy, and how many were in force before.
#[derive(Clone)]
struct Numbered {
    policy: Arc<Policy>,
    number: u64,
}

/// Whether the map in force is what its files say.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum MapHealth {
    /// It is, or they were not looked at since they last changed.
    Current,
    /// Its files have changed and cannot be used, or not yet, or they do not answer: the one before
    /// stays in force.
    Stale,
}

impl InForce {
    pub(super) fn new<'a>(policy: Policy, ways: impl Iterator<Item = &'a WayName>) -> Self {
        Self {
            now: RwLock::new(Numbered { policy: Arc::new(policy), number: 0 }),
            health: Mutex::new(MapHealth::Current),
            told: Notify::new(),
            replaced: ways.map(|way| (way.clone(), Notify::new())).collect(),
        }
    }

    fn now(&self) -> Numbered {
        self.now.read().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// How many policies were in force before the one that is now.
    pub(super) fn number(&self) -> u64 {
        self.now().number
    }

    /// Puts `policy` in the place of the one in force, and wakes whoever must follow it.
    pub(super) fn replace(&self, policy: Arc<Policy>) {
        {
            let mut now = self.now.write().unwrap_or_else(PoisonError::into_inner);
            *now = Numbered { policy, number: now.number + 1 };
        }
        self.replaced.values().for_each(Notify::notify_one);
    }

    /// Returns when another map is in force, for who follows it for the people of `way`.
    pub(super) async fn replaced(&self, way: &WayName) {
        match self.replaced.get(way) {
            Some(replaced) => replaced.notified().await,
            None => std::future::pending().await,
        }
    }

    /// Returns when somebody wants the files to be looked at.
    pub(super) async fn told(&self) {
        self.told.notified().await;
    }

    pub(super) fn health(&self) -> MapHealth {
        *self.health.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(super) fn note_health(&self, health: MapHealth) {
        *self.health.lock().unwrap_or_else(PoisonError::into_inner) = health;
        gauge!("pgbridge_map_stale").set(if health == MapHealth::Stale { 1.0 } else { 0.0 });
    }
}

impl Broker {
    /// Who may become what, as it is now.
    pub(super) fn policy(&self) -> Arc<Policy> {
        self.0.in_force.now().policy
    }

    /// Lets the files of the map be looked at now, as SIGHUP does.
    pub fn reload_map(&self) {
        self.0.in_force.told.notify_one();
    }
}
