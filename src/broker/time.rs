//! The time that leases are judged by. It goes on evenly while the broker runs; the clock on the
//! machine's wall moves it only when another clock, of a cluster or of the store, agrees. So a
//! clock that jumps, here or there, neither prolongs a lease nor ends all of them.
//!
//! At the start all clocks are asked, for a few seconds, and what most of them show counts. As long
//! as no two agree they are asked on: one clock alone, whoever has it in hand, decides only until
//! another one can be read.
//!
//! While clocks are too far apart nothing is issued: on one cluster when its clock is off, on all
//! when the machine's is, or that of the store, which every broker on it hears. What must end, ends.

mod verdict;

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Mutex, OnceLock, PoisonError};
use std::time::Duration;

use jiff::{SignedDuration, Timestamp};
use metrics::gauge;
use tokio::sync::Notify;
use tokio::time::sleep;
use tokio_util::sync::CancellationToken;
use tracing::{info, warn};

use self::verdict::{Choice, SAME, Verdict, choose, judge};
use super::{Broker, Site};
use crate::audit::{Action, Record, Subject};
use crate::causes::with_causes;
use crate::clock::Stopwatch;
use crate::names::ClusterName;

/// How often the clocks are compared.
const COMPARE_EVERY: Duration = Duration::from_secs(1);

/// How often the clock of a cluster is read.
const READ_EVERY: Duration = Duration::from_secs(10);

/// For how long a reading of another clock is good, counted on from when it was read.
const GOOD_FOR: Duration = Duration::from_secs(30);

/// For how long the start waits for clocks that do not answer, once one other has.
const ASKED_FOR: Duration = Duration::from_secs(5);

/// What is known of the time.
#[derive(Default)]
pub(super) struct Time {
    /// Whether another clock was asked since the start. Nothing is due before.
    settled: AtomicBool,
    /// Wakes whoever waits for that.
    said: Notify,
    /// Whether two clocks or more have agreed on the time since the start. Until then the broker
    /// goes by one, and looks for others.
    agreed: AtomicBool,
    /// When clocks were compared first.
    began: OnceLock<Stopwatch>,
    /// What had passed for certain at the start.
    passed: OnceLock<Option<Reading>>,
    /// Wakes whoever compares the clocks: one was read.
    read: Notify,
    /// Whether the wall tells another time than the broker, and was said to.
    doubtful: AtomicBool,
}

impl Time {
    /// Whether the broker's time was held against another clock.
    pub(super) fn is_settled(&self) -> bool {
        self.settled.load(Ordering::Acquire)
    }

    /// Returns once it was. A cluster whose leases could be taken away has a clock to be asked, so
    /// this keeps nothing from being revoked.
    pub(super) async fn settled(&self) {
        // Begun before the look: what is said meanwhile is not missed.
        let said = self.said.notified();
        if !self.is_settled() {
            said.await;
        }
    }
}

/// What a clock showed when it was read.
#[derive(Clone, Copy)]
struct Reading {
    at: Timestamp,
    read: Stopwatch,
}

impl Reading {
    fn new(at: Timestamp) -> Self {
        Self { at, read: Stopwatch::start() }
    }

    /// What the clock shows now.
    fn now(self) -> Timestamp {
        self.at.saturating_add(self.read.elapsed()).unwrap_or(Timestamp::MAX)
    }
}

/// The clock of a cluster or of the store.
#[derive(Default)]
pub(super) struct OtherClock {
    /// What it showed when it was last read.
    read: Mutex<Option<Reading>>,
    /// Whether there is no such clock, so that nobody waits for it.
    is_missing: AtomicBool,
    /// Whether it tells another time than the broker, and was said to.
    is_apart: AtomicBool,
}

impl OtherClock {
    /// Notes that it shows `at` now.
    pub(super) fn note(&self, at: Timestamp) {
        *self.read.lock().unwrap_or_else(PoisonError::into_inner) = Some(Reading::new(at));
    }

    /// What it shows now, if it was read lately.
    fn now(&self) -> Option<Timestamp> {
        let reading = (*self.read.lock().unwrap_or_else(PoisonError::into_inner))?;
        (reading.read.elapsed() < GOOD_FOR).then(|| reading.now())
    }

    /// What it shows now by its last reading, however long ago that was. One that was too far
    /// apart is so until it is read again: not to have looked is no reason to issue.
    fn as_last_read(&self) -> Option<Timestamp> {
        let reading = *self.read.lock().unwrap_or_else(PoisonError::into_inner);
        reading.map(Reading::now)
    }
}

impl Broker {
    /// Reads the clock of the cluster `name` for ever.
    pub(super) async fn read_clock_for_ever(&self, name: &ClusterName, stop: CancellationToken) {
        let Some(site) = self.site(name) else { return };
        while !stop.is_cancelled() {
            self.read_clock(site).await;
            // Nothing is taken away before the first reading, so a cluster that is back after the
            // start is asked soon.
            let settled = self.0.time.is_settled();
            stop.run_until_cancelled(sleep(if settled { READ_EVERY } else { COMPARE_EVERY })).await;
        }
    }

    /// Reads the clock of one cluster. One that cannot be asked is in the log already.
    pub(super) async fn read_clock(&self, site: &Site) {
        if let Ok(shown) = site.cluster.clock().await {
            site.clock.note(shown);
            self.was_read();
            // It answers again, so nobody needs to wait for the next comparison.
            if !site.is_reconciled() {
                site.compare.notify_one();
            }
            let name = site.cluster.name();
            let ahead = shown.duration_since(self.now());
            show_ahead(name.as_str(), ahead);
            if ahead.abs() > SAME && !site.clock.is_apart.swap(true, Ordering::AcqRel) {
                warn!(cluster = %name, seconds_ahead = ahead.as_secs(), "the cluster's clock does not tell the broker's time");
            } else if ahead.abs() <= SAME && site.clock.is_apart.swap(false, Ordering::AcqRel) {
                info!(cluster = %name, "the cluster's clock tells the broker's time again");
            }
        }
    }

    /// Reads the clock of the store for ever, if it has one.
    pub(super) async fn read_store_clock(&self, stop: CancellationToken) {
        while !stop.is_cancelled() {
            match self.store().clock().await {
                Ok(Some(shown)) => {
                    self.0.store_clock.note(shown);
                    self.was_read();
                    show_ahead("store", shown.duration_since(self.now()));
                }
                Ok(None) => self.0.store_clock.is_missing.store(true, Ordering::Release),
                // Whoever needs the store says so.
                Err(_) => {}
            }
            stop.run_until_cancelled(sleep(READ_EVERY)).await;
        }
    }

    /// Lets the start go on. Later nothing waits for a reading, and more comparisons than one a
    /// second would follow the wall faster than step by step.
    fn was_read(&self) {
        if !self.0.time.is_settled() {
            self.0.time.read.notify_one();
        }
    }

    /// Compares the clocks for ever.
    pub(super) async fn keep_time(&self, stop: CancellationToken) {
        while !stop.is_cancelled() {
            self.compare_clocks().await;
            tokio::select! {
                biased;
                () = stop.cancelled() => {}
                () = self.0.time.read.notified() => {}
                () = sleep(COMPARE_EVERY) => {}
            }
        }
    }

    /// Compares the clocks once, and sets the broker's time if it must be.
    pub(super) async fn compare_clocks(&self) {
        let (clock, time) = (&self.0.clock, &self.0.time);
        let clusters = self.0.clusters.values().map(|site| &site.clock);
        let others = clusters.chain([&self.0.store_clock]);
        let others: Vec<Timestamp> = others.filter_map(OtherClock::now).collect();
        let (now, wall) = (clock.now(), clock.wall());
        if !time.is_settled() {
            return self.begin_time(wall, &others).await;
        }
        if !time.agreed.load(Ordering::Acquire) && self.agree_on_time(wall, &others).await {
            return;
        }
        show_ahead("wall", wall.duration_since(now));
        match judge(now, wall, &others) {
            Verdict::Follow(by) => {
                clock.set_by(by);
                if time.doubtful.swap(false, Ordering::AcqRel) {
                    info!("the machine's clock tells the broker's time again");
                }
            }
            Verdict::Set(by) => {
                time.doubtful.store(false, Ordering::Release);
                clock.set_by(by);
                self.note_set(by, "the machine's clock was set, and another clock agrees").await;
            }
            Verdict::Doubt => {
                if !time.doubtful.swap(true, Ordering::AcqRel) {
                    let ahead = wall.duration_since(now);
                    warn!(
                        seconds_ahead = ahead.as_secs(),
                        "the machine's clock was moved, and no other clock agrees; the broker goes on by its own time"
                    );
                }
            }
        }
    }

    /// Sets the time to begin with, as soon as enough clocks have answered.
    async fn begin_time(&self, wall: Timestamp, others: &[Timestamp]) {
        let time = &self.0.time;
        let began = *time.began.get_or_init(Stopwatch::start);
        let passed = match self.store().latest().await {
            Ok(passed) => passed,
            Err(failed) => {
                warn!(
                    cause = with_causes(&failed),
                    "the store cannot say how late it was at least"
                );
                return;
            }
        };
        let Some(choice) = choose(wall, others, passed) else { return };
        let asked = self.others_asked();
        let agreed = choice.is_agreed_among(asked + 1);
        if !agreed && others.len() < asked && began.elapsed() < ASKED_FOR {
            return;
        }
        let _ = time.passed.set(passed.map(Reading::new));
        self.take(choice, "the machine's clock does not tell the time of other clocks").await;
        time.settled.store(true, Ordering::Release);
        time.said.notify_waiters();
    }

    /// How many clocks there are beside the machine's own.
    fn others_asked(&self) -> usize {
        let store = !self.0.store_clock.is_missing.load(Ordering::Acquire);
        self.0.clusters.len() + usize::from(store)
    }

    /// Sets the time to what clocks agree on by now, if they do; gives whether it was moved. For as
    /// long as no two did, the time is that of one clock, which nothing speaks for but itself.
    async fn agree_on_time(&self, wall: Timestamp, others: &[Timestamp]) -> bool {
        let passed = self.0.time.passed.get().copied().flatten().map(Reading::now);
        match choose(wall, others, passed).filter(|choice| choice.is_agreed()) {
            Some(choice) => self.take(choice, "more clocks were read, and agree").await,
            None => false,
        }
    }

    /// Lets the time be what was chosen; gives whether that moves it.
    async fn take(&self, choice: Choice, why: &str) -> bool {
        let agreed = choice.is_agreed();
        self.0.time.agreed.store(agreed, Ordering::Release);
        if !agreed {
            warn!(
                "no two clocks that are to be believed agree; the broker goes by one and asks on"
            );
        }
        let by = choice.time.duration_since(self.now());
        let moves = by.abs() > SAME;
        if moves {
            self.0.clock.set_by(by);
            self.note_set(by, why).await;
        }
        moves
    }

    async fn note_set(&self, by: SignedDuration, why: &str) {
        warn!(seconds = by.as_secs(), why, "the broker's time was set");
        let mut record = Record::new(self.now(), Action::ClockSet, Subject::Broker);
        record.detail = Some(format!("by {} s: {why}", by.as_secs()));
        if let Err(failed) = self.store().commit(Vec::new(), vec![record]).await {
            warn!(cause = with_causes(&failed), "that the broker's time was set is not recorded");
        }
    }

    /// How far the clock of `site`, of the store or of the machine is from the broker's time, when
    /// that is too far for anything to be issued there. The clock of another cluster has no say.
    pub(super) fn clocks_apart(&self, site: &Site) -> Option<SignedDuration> {
        let most = self.0.max_clock_skew.span();
        let now = self.now();
        let wall = Some(self.0.clock.wall()).filter(|_| self.0.time.is_settled());
        let others = [site.clock.as_last_read(), self.0.store_clock.as_last_read()];
        let apart = others.into_iter().chain([wall]).flatten();
        apart.map(|clock| clock.duration_since(now)).find(|apart| apart.abs() > most)
    }
}

/// Shows how far a clock is ahead of the broker's time.
fn show_ahead(clock: &str, ahead: SignedDuration) {
    gauge!("pgbridge_clock_ahead_seconds", "clock" => clock.to_owned()).set(ahead.as_secs_f64());
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test(start_paused = true)]
    async fn a_clock_that_was_not_read_lately_judges_nothing_and_still_stands_apart() {
        let (clock, shown) =
            (OtherClock::default(), Timestamp::from_second(1_800_000_000).unwrap());
        assert_eq!((clock.now(), clock.as_last_read()), (None, None));
        clock.note(shown);
        assert_eq!(clock.now(), Some(shown));
        tokio::time::advance(GOOD_FOR).await;
        assert_eq!((clock.now(), clock.as_last_read()), (None, Some(shown + GOOD_FOR)));
    }
}
