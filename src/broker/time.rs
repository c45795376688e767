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

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Mutex, OnceLock, PoisonError};
use std::time::Duration;

use jiff::{SignedDuration, Timestamp};
use metrics::gauge;
use tokio::sync::Notify;
use tokio_util::sync::CancellationToken;
use tracing::{info, warn};

use super::{Broker, Site};
use crate::audit::{Action, Record, Subject};
use crate::causes::with_causes;
use crate::clock::Stopwatch;
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

/// For how long the start waits for clocks that do not answer, once one other has.
const ASKED_FOR: Duration = Duration::from_secs(5);

/// How far the middle two of an even number of clocks may be apart for the later to be believed:
/// by so much a single clock that is ahead may end leases too early. Were it the earlier, a single
/// clock that is behind could prolong them.
const DISPUTED: SignedDuration = SignedDuration::from_mins(2);

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

/// What the time is, as far as clocks agree.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Choice {
    time: Timestamp,
    /// How many clocks show it.
    voices: usize,
    /// How many were asked whose word counts.
    of: usize,
}

impl Choice {
    /// Whether two clocks show it, and more than half of `asked`.
    fn is_agreed(self, asked: usize) -> bool {
        self.voices >= 2 && self.voices * 2 > asked
    }
}

/// The time that most clocks show, the wall and `others`. Where they do not agree it is what the
/// one in the middle shows; of two in the middle the later, if they are not far apart, so that
/// nobody prolongs leases by setting one clock back, or else the earlier, so that a clock that is
/// far ahead ends nothing. A clock that is before `passed`, a time that has passed for certain, has
/// no word if another is not. Nothing while no other clock was read.
fn choose(wall: Timestamp, others: &[Timestamp], passed: Option<Timestamp>) -> Option<Choice> {
    if others.is_empty() {
        return None;
    }
    let mut clocks: Vec<Timestamp> = others.iter().copied().chain([wall]).collect();
    clocks.sort_unstable();
    let is_late = |clock: &&Timestamp| passed.is_none_or(|passed| **clock + SAME >= passed);
    let late: Vec<Timestamp> = clocks.iter().filter(is_late).copied().collect();
    let heard = if late.is_empty() { &clocks } else { &late };
    let (earlier, later) = (*heard.get((heard.len() - 1) / 2)?, *heard.get(heard.len() / 2)?);
    let middle = if later.duration_since(earlier) <= DISPUTED { later } else { earlier };
    let shows = |clock: &Timestamp, time: Timestamp| clock.duration_since(time).abs() <= SAME;
    let time = if shows(&wall, middle) { wall } else { middle };
    let voices = heard.iter().filter(|clock| shows(clock, time)).count();
    Some(Choice { time, voices, of: heard.len() })
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
                biased;
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
            tokio::select! {
                biased;
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
                biased;
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
        let agreed = choice.is_agreed(asked + 1);
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
        match choose(wall, others, passed).filter(|choice| choice.is_agreed(choice.of)) {
            Some(choice) => self.take(choice, "more clocks were read, and agree").await,
            None => false,
        }
    }

    /// Lets the time be what was chosen; gives whether that moves it.
    async fn take(&self, choice: Choice, why: &str) -> bool {
        let agreed = choice.is_agreed(choice.of);
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

    #[tokio::test(start_paused = true)]
    async fn a_clock_that_was_not_read_lately_judges_nothing_and_still_stands_apart() {
        let clock = OtherClock::default();
        assert_eq!((clock.now(), clock.as_last_read()), (None, None));
        clock.note(at(HOUR));
        assert_eq!(clock.now(), Some(at(HOUR)));
        tokio::time::advance(GOOD_FOR).await;
        assert_eq!((clock.now(), clock.as_last_read()), (None, Some(at(HOUR + 30))));
    }

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

    /// What the time becomes, by how many voices, and whether the start waits for no other clock
    /// then, of those that do not answer.
    #[track_caller]
    fn begins(
        wall: i64,
        others: &[i64],
        silent: usize,
        passed: Option<i64>,
        expected: Option<(i64, Settles)>,
    ) {
        let shown: Vec<Timestamp> = others.iter().copied().map(at).collect();
        let choice = choose(at(wall), &shown, passed.map(at));
        let begun = choice.map(|choice| {
            let agreed = choice.is_agreed(others.len() + silent + 1);
            let settles = match (agreed, choice.is_agreed(choice.of)) {
                (true, _) => Settles::AtOnce,
                (false, _) if silent > 0 => Settles::AfterAWhile,
                (false, true) => Settles::WithAll,
                (false, false) => Settles::WithAllAndAsksOn,
            };
            (choice.time.duration_since(at(0)).as_secs(), settles)
        });
        assert_eq!(begun, expected, "{wall} {others:?} {silent} {passed:?}");
    }

    /// When the time is settled.
    #[derive(Clone, Copy, Debug, PartialEq, Eq)]
    enum Settles {
        /// More than half of all clocks agree.
        AtOnce,
        /// Others are waited for, a few seconds.
        AfterAWhile,
        /// All have answered, and those that are to be believed agree.
        WithAll,
        /// All have answered; no two agree, so they are asked on.
        WithAllAndAsksOn,
    }

    #[test]
    fn the_time_begins_with_what_most_clocks_show() {
        use Settles::{AfterAWhile, AtOnce, WithAll, WithAllAndAsksOn};
        const NIGHT: i64 = 8 * HOUR;
        for (wall, others, silent, passed, begun) in [
            // Nobody else was asked.
            (0, vec![], 0, None, None),
            (0, vec![], 2, Some(-1), None),
            // All agree.
            (0, vec![5], 0, None, Some((0, AtOnce))),
            (5, vec![0], 0, None, Some((5, AtOnce))),
            (0, vec![1, 2, 3], 0, Some(0), Some((0, AtOnce))),
            // Enough agree, and a cluster that is down holds nothing up.
            (0, vec![1], 1, None, Some((0, AtOnce))),
            (0, vec![1], 2, None, Some((0, AfterAWhile))),
            (0, vec![1, 2], 2, None, Some((0, AtOnce))),
            // One cluster is behind: others are waited for, and outvote it.
            (0, vec![-77], 1, None, Some((0, AfterAWhile))),
            (0, vec![-77, 1], 0, None, Some((0, AtOnce))),
            (0, vec![-NIGHT, 1], 0, Some(-NIGHT), Some((0, AtOnce))),
            // No others come. So little it cannot prolong anything; a lot only if nothing was
            // written down since.
            (0, vec![-77], 0, None, Some((0, WithAllAndAsksOn))),
            (0, vec![-NIGHT], 0, None, Some((-NIGHT, WithAllAndAsksOn))),
            (0, vec![-NIGHT], 0, Some(-HOUR), Some((0, WithAllAndAsksOn))),
            (0, vec![-HOUR], 0, Some(-1), Some((0, WithAllAndAsksOn))),
            // One cluster is ahead, or the wall: leases end too early by two minutes at most.
            (0, vec![HOUR, 1], 0, None, Some((0, AtOnce))),
            (0, vec![DECADE], 0, None, Some((0, WithAllAndAsksOn))),
            (0, vec![119], 0, None, Some((119, WithAllAndAsksOn))),
            (0, vec![121], 0, None, Some((0, WithAllAndAsksOn))),
            (DECADE, vec![0], 0, None, Some((0, WithAllAndAsksOn))),
            (DECADE, vec![0], 1, None, Some((0, AfterAWhile))),
            // Two clusters disagree, here and there.
            (0, vec![HOUR, -HOUR], 0, None, Some((0, WithAllAndAsksOn))),
            (0, vec![HOUR, DECADE, 1], 0, None, Some((0, WithAllAndAsksOn))),
            (0, vec![-77, -77, 1], 0, None, Some((0, WithAllAndAsksOn))),
            // All agree against the wall.
            (HOUR, vec![0, 1], 0, None, Some((1, AtOnce))),
            (-HOUR, vec![0, 1], 0, None, Some((0, AtOnce))),
            // The wall is back at boot, in 1970 or by a zone.
            (-5 * DECADE, vec![0, 1], 0, Some(-NIGHT), Some((1, AtOnce))),
            (-5 * DECADE, vec![0, 1, -5 * DECADE], 0, Some(-NIGHT), Some((1, WithAll))),
            (-5 * DECADE, vec![0], 0, Some(-NIGHT), Some((0, WithAllAndAsksOn))),
            (-5 * DECADE, vec![0], 1, Some(-NIGHT), Some((0, AfterAWhile))),
            (-HOUR, vec![0], 0, Some(-1), Some((0, WithAllAndAsksOn))),
            // All say that it is earlier: then it was written down by a clock that was ahead.
            (0, vec![0], 0, Some(DECADE), Some((0, AtOnce))),
        ] {
            begins(wall, &others, silent, passed, begun);
        }
    }
}
