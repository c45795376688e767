//! Who gains and who loses what by another map: found out once it is in force, so that whoever
//! loses something does not keep it until then, and written down after the record that it came.
//!
//! Maps can be much to compare, and whoever writes one can make it so on purpose. So it is done
//! beside the requests, one comparison at a time, and called off when it takes too long, when
//! another map has come, or when the broker stops. Something is written down in each case: what was
//! found by then, and what was not compared. What a broker that is killed meanwhile leaves out is made
//! up for at the next start of one, of this host or another that has the same store. Whoever starts
//! beside a broker that is just comparing waits until that must be done, by the time of both; only
//! when their clocks are apart, the store was away, or two start at the same moment, the same may
//! stand there twice.

use std::collections::VecDeque;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use jiff::Timestamp;
use tokio::sync::Notify;
use tokio::task::JoinError;
use tokio::time::sleep;
use tokio_util::sync::CancellationToken;
use tracing::{info, warn};

use super::Broker;
use super::start::{LOOKED_THROUGH, uncompared};
use crate::audit::{Action, Outcome, Record, Subject};
use crate::causes::with_causes;
use crate::mapping::{DiffContext, Effort, IdentMap, MapRevision, MapUses, Policy, diff};
use crate::store::StoredMap;

/// Lines that say who gains and loses what in one audit record, and in the log.
const CHANGES: usize = 100;

/// How long a comparison may take.
const WITHIN: Duration = Duration::from_secs(10);

/// For how long after a map came another broker, which took it, may still be comparing it.
const LEFT_TO_OTHERS: Duration = Duration::from_secs(15);

/// How often it is looked meanwhile what time it is.
const LOOK_EVERY: Duration = Duration::from_secs(1);

/// How soon it is tried again to write down what was found.
const AGAIN_AFTER: Duration = Duration::from_secs(1);

/// Another map that has come into force.
#[derive(Clone)]
pub(super) struct Taken {
    /// Which one came.
    pub(super) revision: MapRevision,
    /// The policy with it, or by now with another.
    pub(super) next: Arc<Policy>,
    /// The map before.
    pub(super) former: Former,
    /// Whether the configuration changed with it.
    pub(super) configuration: Configuration,
    /// When it came, if that was before this broker started: another one may have compared it.
    pub(super) owed_since: Option<Timestamp>,
}

/// What the configuration says of maps when another one has come.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Configuration {
    /// The same as before.
    Same,
    /// Something else; the record that the map came says what.
    Changed,
}

impl Configuration {
    /// What these lines of changes tell of it.
    pub(super) fn told_by(changes: &[String]) -> Self {
        if changes.is_empty() { Self::Same } else { Self::Changed }
    }
}

/// The map that was in force before.
#[derive(Clone)]
pub(super) enum Former {
    /// Until now, in this process.
    Held(Arc<Policy>),
    /// When a broker ran last. The store has it.
    Kept(MapRevision),
}

/// Maps that are to be compared with the ones before them, oldest first.
#[derive(Default)]
pub(super) struct Differences {
    queue: Mutex<VecDeque<Taken>>,
    /// Wakes whoever compares.
    more: Notify,
}

/// Why not everything was compared.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum CalledOff {
    TooLong,
    Stopped,
    Superseded,
    /// The store does not have the map before, or this version does not read it as it was.
    NotKept,
    /// Maps are compared as the configuration of today goes by them.
    Reconfigured,
    /// A defect.
    Died,
}

/// The map before, as it is at hand.
enum Before {
    Held(Arc<Policy>),
    Stored(StoredMap),
}

/// What a comparison gave.
struct Found {
    lines: Vec<String>,
    is_whole: bool,
}

impl Former {
    pub(super) fn revision(&self) -> &MapRevision {
        match self {
            Self::Held(policy) => policy.map.revision(),
            Self::Kept(revision) => revision,
        }
    }
}

impl CalledOff {
    /// A stable word, and what it means.
    fn told(self) -> (&'static str, &'static str) {
        match self {
            Self::TooLong => ("took_too_long", "it takes too long"),
            Self::Stopped => ("broker_stopped", "the broker stops"),
            Self::Superseded => ("newer_map", "another map has come"),
            Self::NotKept => ("not_kept", "the map before cannot be read again"),
            Self::Reconfigured => (
                "configuration_changed",
                "the configuration changed too, as the records of maps say, or was not written down",
            ),
            Self::Died => ("defect", "the comparison has died"),
        }
    }
}

impl Differences {
    fn all(&self) -> MutexGuard<'_, VecDeque<Taken>> {
        self.queue.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Lets a map that is in force now be compared with the one before.
    pub(super) fn find(&self, taken: Taken) {
        self.all().push_back(taken);
        self.more.notify_one();
    }

    fn first(&self) -> Option<Taken> {
        self.all().front().cloned()
    }

    fn first_is_told(&self) {
        self.all().pop_front();
    }

    /// Returns when another map waits behind the first.
    async fn is_superseded(&self) {
        while self.all().len() < 2 {
            self.more.notified().await;
        }
    }
}

impl Broker {
    /// Compares each map that comes into force with the one before, for ever.
    pub(super) async fn compare_maps_for_ever(&self, stop: CancellationToken) {
        let differences = &self.0.differences;
        loop {
            while let Some(taken) = differences.first() {
                if self.tell_comparison(&taken, &stop).await.is_none() {
                    return;
                }
                differences.first_is_told();
            }
            tokio::select! {
                biased;
                () = stop.cancelled() => return,
                () = differences.more.notified() => {}
            }
        }
    }

    /// Compares one map with the one before, and writes down what was found. Nothing when the broker
    /// stops before that is written.
    async fn tell_comparison(&self, taken: &Taken, stop: &CancellationToken) -> Option<()> {
        if let Some(since) = taken.owed_since
            && !self.is_still_owed(taken, since, stop).await?
        {
            return Some(());
        }
        let record = self.compared(taken, stop).await;
        self.tell_difference(&record, stop).await
    }

    /// Whether nobody has compared a map that came before this broker started, once whoever took it
    /// must have done so. Nothing when the broker stops before that is known.
    async fn is_still_owed(
        &self,
        taken: &Taken,
        since: Timestamp,
        stop: &CancellationToken,
    ) -> Option<bool> {
        // No longer than that either: it may have come by a clock that was ahead.
        for _ in 0..LEFT_TO_OTHERS.as_secs() {
            if self.now() >= since + LEFT_TO_OTHERS {
                break;
            }
            stop.run_until_cancelled(sleep(LOOK_EVERY)).await?;
        }
        loop {
            match self.store().map_records(LOOKED_THROUGH).await {
                Ok(records) => {
                    return Some(uncompared(&records).iter().any(|one| one.is_of(taken)));
                }
                Err(failed) => {
                    warn!(
                        cause = with_causes(&failed),
                        "the store cannot say which maps were compared; it is asked again"
                    );
                }
            }
            stop.run_until_cancelled(sleep(AGAIN_AFTER)).await?;
        }
    }

    /// Compares one map with the one before, and gives what is to be written down.
    async fn compared(&self, taken: &Taken, stop: &CancellationToken) -> Record {
        let is_in_force = taken.next.map.is_revision(&taken.revision);
        let (found, called_off) = match self.before(&taken.former, stop).await {
            _ if !is_in_force => (None, Some(CalledOff::Superseded)),
            Ok(before) => self.find_difference(before, &taken.next, stop).await,
            Err(called_off) => (None, Some(called_off)),
        };
        let is_reconfigured = taken.configuration == Configuration::Changed;
        let called_off = called_off.or(is_reconfigured.then_some(CalledOff::Reconfigured));
        let (now, before) = (&taken.revision, taken.former.revision());
        let mut lines = found.map(|found| found.lines).unwrap_or_default();
        let record = Record {
            map_revision: Some(now.clone()),
            former_map_revision: Some(before.clone()),
            ..Record::new(self.now(), Action::MapCompared, Subject::Broker)
        };
        let Some(called_off) = called_off else {
            if lines.is_empty() {
                lines.push("nobody gains or loses anything".to_owned());
            }
            tell(now, &lines);
            return Record { detail: Some(lines.join("\n")), ..record };
        };
        let (word, why) = called_off.told();
        lines.push(format!(
            "not everything was compared: {why}; `pgbridge map diff {before} {now} --config FILE` compares them"
        ));
        tell(now, &lines);
        warn!(map.revision = %now, map.former_revision = %before, cause = word, "not all of who gains and loses what by the map in force was found out");
        record.ended(Outcome::Failed, word, &lines.join("\n"))
    }

    /// The map before; a store that is away is asked until it answers.
    async fn before(&self, former: &Former, stop: &CancellationToken) -> Result<Before, CalledOff> {
        let revision = match former {
            Former::Held(policy) => return Ok(Before::Held(Arc::clone(policy))),
            Former::Kept(revision) => revision,
        };
        loop {
            match self.store().map_revision(revision).await {
                Ok(stored) => return stored.map(Before::Stored).ok_or(CalledOff::NotKept),
                Err(failed) => {
                    warn!(
                        cause = with_causes(&failed),
                        "the store cannot say what the map before was; it is asked again"
                    );
                }
            }
            if stop.run_until_cancelled(sleep(AGAIN_AFTER)).await.is_none() {
                return Err(CalledOff::Stopped);
            }
        }
    }

    /// Finds out who gains and who loses what, until that is called off; then what was found by
    /// then, and why it was.
    async fn find_difference(
        &self,
        before: Before,
        next: &Arc<Policy>,
        stop: &CancellationToken,
    ) -> (Option<Found>, Option<CalledOff>) {
        let (next, is_off) = (Arc::clone(next), Arc::new(AtomicBool::new(false)));
        let switch = Arc::clone(&is_off);
        let mut find = tokio::task::spawn_blocking(move || {
            let is_called_off = || is_off.load(Ordering::Relaxed);
            before.with_map(|former| difference(former, &next, &is_called_off))
        });
        let called_off = tokio::select! {
            biased;
            found = &mut find => return judged(found, CalledOff::TooLong),
            () = stop.cancelled() => CalledOff::Stopped,
            () = self.0.differences.is_superseded() => CalledOff::Superseded,
            () = sleep(WITHIN) => CalledOff::TooLong,
        };
        switch.store(true, Ordering::Relaxed);
        judged(find.await, called_off)
    }

    /// Writes down what was found. Nothing when the broker stops before the store takes it.
    async fn tell_difference(&self, record: &Record, stop: &CancellationToken) -> Option<()> {
        while let Err(failed) = self.store().commit(Vec::new(), vec![record.clone()]).await {
            warn!(
                cause = with_causes(&failed),
                "who gains and loses what by the map in force cannot be written down; it is tried again"
            );
            stop.run_until_cancelled(sleep(AGAIN_AFTER)).await?;
        }
        Some(())
    }
}

impl Before {
    /// Does `work` with the map; nothing when this version does not read it as it was.
    fn with_map<T>(self, work: impl FnOnce(&IdentMap) -> T) -> Option<T> {
        match self {
            Self::Held(policy) => Some(work(&policy.map)),
            Self::Stored(stored) => stored.as_kept().map(|map| work(&map)),
        }
    }
}

/// What came of a comparison: nothing when it died. One that is not whole was `called_off`; it may
/// have ended by itself just then.
fn judged(
    found: Result<Option<Found>, JoinError>,
    called_off: CalledOff,
) -> (Option<Found>, Option<CalledOff>) {
    match found {
        Err(_) => (None, Some(CalledOff::Died)),
        Ok(None) => (None, Some(CalledOff::NotKept)),
        Ok(Some(found)) => {
            let called_off = (!found.is_whole).then_some(called_off);
            (Some(found), called_off)
        }
    }
}

/// Who gains and who loses what when `next` takes the place of `former`, one a line.
fn difference(former: &IdentMap, next: &Policy, is_called_off: &dyn Fn() -> bool) -> Found {
    let uses = MapUses::of(next);
    let context = DiffContext { uses: Some(&uses), identities: &[] };
    let found = diff(former, &next.map, &context, &Effort::until(is_called_off));
    Found { lines: found.lines(CHANGES), is_whole: found.is_whole() }
}

fn tell(revision: &MapRevision, lines: &[String]) {
    for line in lines {
        info!(map.revision = %revision, "{line}");
    }
}
