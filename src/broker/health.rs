//! Whether the broker and the parties it needs are there.

use std::collections::BTreeMap;
use std::future::Future;
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use jiff::{SignedDuration, Timestamp};
use tokio::time::timeout;
use tracing::{info, warn};

use super::in_force::MapHealth;
use super::{Broker, Compared};
use crate::causes::with_causes;

/// How old an answer may be: asking for health must cost the parties nothing. An answer "not
/// ready" is kept for a shorter while: whoever waits for a start wants to know soon.
const GOOD_FOR: SignedDuration = SignedDuration::from_secs(5);
const BAD_FOR: SignedDuration = SignedDuration::from_secs(1);

/// How long a party may take to answer: one that hangs keeps nobody from knowing of the others.
const ANSWER_WITHIN: Duration = Duration::from_secs(2);

/// Whether one party can be used.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum PartHealth {
    /// It answered.
    Up,
    /// It answered, and the broker has not looked at it yet since its own start.
    Starting,
    /// It did not, or not as it must.
    Down,
}

/// The broker and its parties at one time.
#[derive(Clone, Debug)]
pub struct Health {
    /// When they were asked.
    pub at: Timestamp,
    /// The broker's own database.
    pub store: PartHealth,
    /// The ways in by name.
    pub ways: Vec<(String, PartHealth)>,
    /// The clusters by name; up means also compared since the start,
    /// its clock too.
    pub clusters: Vec<(String, PartHealth)>,
    /// The map, which keeps nobody from being served.
    pub map: MapHealth,
}

impl Health {
    /// Whether somebody can be served: the store is there, a way in and a cluster.
    #[must_use]
    pub fn is_ready(&self) -> bool {
        self.has_all(|part| part == PartHealth::Up)
    }

    /// Whether nobody can be served only because no cluster was looked at yet.
    #[must_use]
    pub fn is_starting(&self) -> bool {
        !self.is_ready() && self.has_all(|part| part != PartHealth::Down)
    }

    fn has_all(&self, counts: fn(PartHealth) -> bool) -> bool {
        let any = |parts: &[(String, PartHealth)]| parts.iter().any(|(_, part)| counts(*part));
        counts(self.store) && any(&self.ways) && any(&self.clusters)
    }
}

/// The last answer, and why what is down is down.
#[derive(Default)]
pub(super) struct Cache {
    last: tokio::sync::Mutex<Option<Health>>,
    down: Mutex<BTreeMap<(&'static str, String), String>>,
}

impl Broker {
    /// The health of the broker and its parties: of the parties at most five seconds old, of the
    /// map as it is now.
    pub async fn health(&self) -> Health {
        let now = self.now();
        // Held while asking: whoever asks meanwhile waits for the same answer.
        let mut last = self.0.health.last.lock().await;
        let fresh = |health: &Health| {
            let kept = if health.is_ready() { GOOD_FOR } else { BAD_FOR };
            // A time that is yet to come was noted by a clock that has been set back.
            health.at <= now && now.duration_since(health.at) < kept
        };
        if let Some(health) = last.as_ref().filter(|health| fresh(health)) {
            return Health { map: self.0.in_force.health(), ..health.clone() };
        }
        let health = self.ask(now).await;
        *last = Some(health.clone());
        health
    }

    async fn ask(&self, at: Timestamp) -> Health {
        let changes = &self.0.health;
        let store = async { changes.note("store", "", answered(self.store().probe()).await) };
        let ways = futures::future::join_all(self.0.ways.values().map(|way| async move {
            let name = way.name().to_string();
            let health = changes.note("directory", &name, answered(way.probe()).await);
            (name, health)
        }));
        let clusters = futures::future::join_all(self.0.clusters.values().map(|site| async move {
            let name = site.cluster.name().to_string();
            let answered = changes.note("cluster", &name, answered(site.cluster.probe()).await);
            let health = match (answered, site.compared()) {
                (PartHealth::Up, Compared::Once) if self.0.time.is_settled() => PartHealth::Up,
                (PartHealth::Up, Compared::NotYet) => PartHealth::Starting,
                _ => PartHealth::Down,
            };
            (name, health)
        }));
        let (store, ways, clusters) = futures::join!(store, ways, clusters);
        Health { at, store, ways, clusters, map: self.0.in_force.health() }
    }
}

/// Why a party does not count as up.
#[derive(Debug, thiserror::Error)]
enum ProbeError<Failure> {
    #[error(transparent)]
    Failed(Failure),
    #[error("no answer within {} s", ANSWER_WITHIN.as_secs())]
    NoAnswer,
}

async fn answered<Answer, Failure>(
    probe: impl Future<Output = Result<Answer, Failure>>,
) -> Result<Answer, ProbeError<Failure>> {
    match timeout(ANSWER_WITHIN, probe).await {
        Ok(answer) => answer.map_err(ProbeError::Failed),
        Err(_) => Err(ProbeError::NoAnswer),
    }
}

impl Cache {
    /// Says in the log when a party can no longer be used, when the cause is another one, and
    /// when it can be used again; in between nothing, however often somebody asks.
    fn note<Answer, Failure>(
        &self,
        kind: &'static str,
        name: &str,
        answer: Result<Answer, Failure>,
    ) -> PartHealth
    where
        Failure: std::error::Error,
    {
        let cause = answer.err().map(|failed| with_causes(&failed));
        let mut down = self.down.lock().unwrap_or_else(PoisonError::into_inner);
        let part = (kind, name.to_owned());
        match (&cause, down.get(&part)) {
            (Some(cause), before) if before != Some(cause) => {
                warn!(kind, name, cause, "what the broker needs cannot be used");
            }
            (None, Some(_)) => info!(kind, name, "what the broker needs can be used again"),
            _ => {}
        }
        let health = if cause.is_some() { PartHealth::Down } else { PartHealth::Up };
        match cause {
            Some(cause) => down.insert(part, cause),
            None => down.remove(&part),
        };
        health
    }
}
