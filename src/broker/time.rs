//! The time that leases are judged by. It goes on evenly while the broker runs; the clock on the
//! machine's wall moves it only when another clock, of a cluster or of the store, agrees. So a
//! clock that jumps, here or there, neither prolongs a lease nor ends all of them.
//!
//! While clocks are too far apart nothing is issued. What must end, ends.

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use jiff::{SignedDuration, Timestamp};
use metrics::gauge;
use tokio::sync::{Notify, watch};
use tokio_util::sync::CancellationToken;
use tracing::{info, warn};

use super::{Broker, Site};
use crate::audit::{Action, Record, Subject};
use crate::causes::with_causes;
use crate::clock::{Clock, Stopwatch};
use crate::names::ClusterName;

/// How often the clocks are compared.
const COMPARE_EVERY: Duration = Duration::from_secs(1);

/// How often the clock of a cluster is read.
const READ_EVERY: Duration = Duration::from_secs(10);

/// How far the wall may be ahead or behind to be followed, step by step.
const FOLLOWED: SignedDuration = SignedDuration::from_secs(2);

/// The longest such step: of a second's time one hundredth, more than any clock drifts.
const STEP: SignedDuration = SignedDuration::from_millis(10);

/// How far clocks may be apart and still tell the same time.
const SAME: SignedDuration = SignedDuration::from_secs(30);

/// For how long a reading of another clock is good, counted on from when it was read.
const GOOD_FOR: Duration = Duration::from_secs(30);

/// What is known of the time.
#[derive(Default)]
pub(super) struct Time {
    /// Whether another clock was asked since the start. Nothing is due before.
    settled: watch::Sender<bool>,
    /// Wakes whoever compares the clocks: one was read.
    read: Notify,
    /// Whether the wall tells another time than the broker, and was said to.
    doubtful: AtomicBool,
}

impl Time {
    /// Whether the broker's time was held against another clock.
    pub(super) fn is_settled(&self) -> bool {
        *self.settled.borrow()
    }

    /// Returns once it was. A cluster whose leases could be taken away has a clock to be asked, so
    /// this keeps nothing from being revoked.
    pub(super) async fn settled(&self) {
        // It fails only when the sender is gone, which is ours.
        let _ = self.settled.subscribe().wait_for(|settled| *settled).await;
    }
}

/// The clock of a cluster or of the store.
#[derive(Default)]
pub(super) struct OtherClock {
    /// What it showed when it was last read.
    read: Mutex<Option<(Timestamp, Stopwatch)>>,
    /// Whether it tells another time than the broker, and was said to.
    is_apart: AtomicBool,
}

impl OtherClock {
    /// Notes that it shows `at` now.
    pub(super) fn note(&self, at: Timestamp) {
        *self.read.lock().unwrap_or_else(PoisonError::into_inner) = Some((at, Stopwatch::start()));
    }

    /// What it shows now, if it was read lately.
    fn now(&self) -> Option<Timestamp> {
        let (at, read) = (*self.read.lock().unwrap_or_else(PoisonError::into_inner))?;
        let fresh = read.elapsed() < GOOD_FOR;
        fresh.then(|| at.saturating_add(read.elapsed()).unwrap_or(Timestamp::MAX))
    }
}

/// What to do about the broker's time.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Verdict {
    /// It is moved a little, to where the wall is or towards it.
    Follow(SignedDuration),
    /// It is set to the wall: the wall was moved, and another clock agrees with it.
    Set(SignedDuration),
    /// It stays: the wall says something else and no other clock agrees with it.
    Doubt,
}

/// Holds the broker's time `now` against the `wall` and what `others` show.
fn judge(now: Timestamp, wall: Timestamp, others: &[Timestamp]) -> Verdict {
    let ahead = wall.duration_since(now);
    if ahead.abs() <= FOLLOWED {
        return Verdict::Follow(ahead.clamp(-STEP, STEP));
    }
    let apart = |other: &Timestamp, from: Timestamp| other.duration_since(from).abs();
    let for_wall =
        |other: &&Timestamp| apart(other, wall) <= SAME && apart(other, wall) < apart(other, now);
    let for_now =
        |other: &&Timestamp| apart(other, now) <= SAME && apart(other, now) <= apart(other, wall);
    let (for_wall, for_now) =
        (others.iter().filter(for_wall).count(), others.iter().filter(for_now).count());
    if for_wall > for_now { Verdict::Set(ahead) } else { Verdict::Doubt }
}

/// The time to begin with: what most clocks show, of two the earlier, so that a clock that is
/// ahead ends nothing; but none that is before `latest`, a time that has passed for certain, if
/// another is not. Nothing while no other clock was read.
fn begin(wall: Timestamp, others: &[Timestamp], latest: Option<Timestamp>) -> Option<Timestamp> {
    if others.is_empty() {
        return None;
    }
    let mut clocks: Vec<Timestamp> = others.iter().copied().chain([wall]).collect();
    clocks.sort_unstable();
    let is_late = |clock: &&Timestamp| latest.is_none_or(|latest| **clock + SAME >= latest);
    let late: Vec<Timestamp> = clocks.iter().filter(is_late).copied().collect();
    let candidates = if late.is_empty() { &clocks } else { &late };
    let chosen = candidates.get((candidates.len() - 1) / 2).copied()?;
    let wall_agrees = wall.duration_since(chosen).abs() <= SAME;
    Some(if wall_agrees { wall } else { chosen })
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
            tokio::select! {
                () = stop.cancelled() => {}
                () = tokio::time::sleep(if settled { READ_EVERY } else { COMPARE_EVERY }) => {}
            }
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
    pub(super) async fn read_store_clock_for_ever(&self, stop: CancellationToken) {
        while !stop.is_cancelled() {
            if let Ok(Some(shown)) = self.store().clock().await {
                self.0.store_clock.note(shown);
                self.was_read();
                show_ahead("store", shown.duration_since(self.now()));
            }
            tokio::select! {
                () = stop.cancelled() => {}
                () = tokio::time::sleep(READ_EVERY) => {}
            }
        }
    }

    /// Lets the start go on. Later nothing waits for a reading, and more comparisons than one a
    /// second would follow the wall in more steps than [`STEP`] allows.
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
                () = stop.cancelled() => {}
                () = self.0.time.read.notified() => {}
                () = tokio::time::sleep(COMPARE_EVERY) => {}
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
            return self.begin_time(clock, now, wall, &others).await;
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

    async fn begin_time(
        &self,
        clock: &Clock,
        now: Timestamp,
        wall: Timestamp,
        others: &[Timestamp],
    ) {
        let latest = match self.store().latest().await {
            Ok(latest) => latest,
            Err(failed) => {
                warn!(
                    cause = with_causes(&failed),
                    "the store cannot say how late it was at least"
                );
                return;
            }
        };
        let Some(begin) = begin(wall, others, latest) else { return };
        let by = begin.duration_since(now);
        if by.abs() > SAME {
            clock.set_by(by);
            self.note_set(by, "the machine's clock does not tell the time of other clocks").await;
        }
        self.0.time.settled.send_replace(true);
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
    /// that is too far for anything to be issued.
    pub(super) fn clocks_apart(&self, site: &Site) -> Option<SignedDuration> {
        let most = self.0.max_clock_skew.span();
        let now = self.now();
        let wall = Some(self.0.clock.wall()).filter(|_| self.0.time.is_settled());
        let apart = [wall, site.clock.now(), self.0.store_clock.now()].into_iter().flatten();
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

    fn at(seconds: i64) -> Timestamp {
        Timestamp::from_second(1_800_000_000 + seconds).unwrap()
    }

    fn by(seconds: i64) -> SignedDuration {
        SignedDuration::from_secs(seconds)
    }

    #[track_caller]
    fn check(wall: i64, others: &[i64], verdict: Verdict) {
        let others: Vec<Timestamp> = others.iter().copied().map(at).collect();
        assert_eq!(judge(at(0), at(wall), &others), verdict);
    }

    const HOUR: i64 = 3600;
    const DECADE: i64 = 10 * 365 * 86_400;

    #[test]
    fn a_wall_that_drifts_is_followed_in_small_steps_whatever_others_say() {
        check(0, &[], Verdict::Follow(by(0)));
        check(2, &[HOUR], Verdict::Follow(STEP));
        check(-2, &[HOUR], Verdict::Follow(-STEP));
    }

    #[test]
    fn a_wall_that_jumps_moves_nothing_alone() {
        for jump in [3, -3, HOUR, -HOUR, DECADE] {
            check(jump, &[], Verdict::Doubt);
            check(jump, &[0], Verdict::Doubt);
            check(jump, &[0, jump], Verdict::Doubt);
        }
    }

    #[test]
    fn a_wall_that_jumps_is_believed_when_more_clocks_agree_with_it() {
        for jump in [HOUR, -HOUR, DECADE] {
            check(jump, &[jump], Verdict::Set(by(jump)));
            check(jump, &[jump + 20, 0, jump - 20], Verdict::Set(by(jump)));
        }
        // Four seconds ahead: the other is nearer to the wall than to the broker.
        check(4, &[3], Verdict::Set(by(4)));
        check(4, &[1], Verdict::Doubt);
    }

    #[test]
    fn another_clock_that_jumps_moves_nothing() {
        check(0, &[HOUR, DECADE], Verdict::Follow(by(0)));
        check(HOUR, &[DECADE, -HOUR], Verdict::Doubt);
    }

    #[test]
    fn the_time_begins_with_what_most_clocks_show() {
        let begins = |wall: i64, others: &[i64], latest: Option<i64>| {
            let others: Vec<Timestamp> = others.iter().copied().map(at).collect();
            let begun = begin(at(wall), &others, latest.map(at));
            begun.map(|begun| begun.duration_since(at(0)).as_secs())
        };
        for (wall, others, latest, begun) in [
            (0, vec![], None, None),
            (0, vec![5], None, Some(0)),
            (5, vec![0], None, Some(5)),
            // Of two that do not agree the earlier: a clock that is ahead ends nothing.
            (DECADE, vec![0], None, Some(0)),
            (0, vec![DECADE], None, Some(0)),
            // But time does not go back behind what was written down.
            (0, vec![-HOUR], Some(-1), Some(0)),
            (-HOUR, vec![0], Some(-1), Some(0)),
            // Unless all clocks say so: then it was written down with a clock that was ahead.
            (0, vec![0], Some(DECADE), Some(0)),
            (HOUR, vec![0, 1], None, Some(1)),
            (0, vec![HOUR, DECADE, 1], None, Some(0)),
        ] {
            assert_eq!(begins(wall, &others, latest), begun, "{wall} {others:?} {latest:?}");
        }
    }
}
