//! The one place that reads the time.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use jiff::{SignedDuration, Timestamp};
// As std's, but a test can let its time pass.
use tokio::time::Instant;

/// A source of the time, given to whoever must know it. Cloning gives the same clock.
///
/// It goes on evenly from where it was set, whatever becomes of the machine's own clock meanwhile:
/// a clock on the wall that somebody moves neither prolongs a lease nor ends all of them. Whoever
/// has looked at other clocks too sets it anew ([`Self::set_by`]).
#[derive(Clone)]
pub struct Clock(Source);

#[derive(Clone)]
enum Source {
    Steady(Arc<Steady>),
    Manual(Arc<Mutex<Hands>>),
}

/// Where it was set, and how long ago by a count that nobody can move.
struct Steady {
    started: Stopwatch,
    at_start: Mutex<Timestamp>,
}

/// A clock of the tests.
struct Hands {
    now: Timestamp,
    wall: Timestamp,
}

impl Clock {
    /// A clock that begins with what the machine's own shows.
    #[must_use]
    pub fn system() -> Self {
        let at_start = Mutex::new(system_now());
        Self(Source::Steady(Arc::new(Steady { started: Stopwatch::start(), at_start })))
    }

    /// A clock that stands at `start` until it is moved by [`Self::advance`].
    #[must_use]
    pub fn manual(start: Timestamp) -> Self {
        Self(Source::Manual(Arc::new(Mutex::new(Hands { now: start, wall: start }))))
    }

    /// The time now, UTC.
    #[must_use]
    pub fn now(&self) -> Timestamp {
        match &self.0 {
            Source::Steady(steady) => {
                let at_start = *locked(&steady.at_start);
                at_start.saturating_add(steady.started.elapsed()).unwrap_or(Timestamp::MAX)
            }
            Source::Manual(hands) => locked(hands).now,
        }
    }

    /// What the machine's own clock shows, which anybody with the right may have moved.
    #[must_use]
    pub fn wall(&self) -> Timestamp {
        match &self.0 {
            Source::Steady(_) => system_now(),
            Source::Manual(hands) => locked(hands).wall,
        }
    }

    /// Moves what [`Self::now`] says by `by`, and goes on evenly from there.
    pub fn set_by(&self, by: SignedDuration) {
        let moved = |at: Timestamp| at.saturating_add(by).unwrap_or(at);
        match &self.0 {
            Source::Steady(steady) => {
                let mut at_start = locked(&steady.at_start);
                *at_start = moved(*at_start);
            }
            Source::Manual(hands) => {
                let mut hands = locked(hands);
                hands.now = moved(hands.now);
            }
        }
    }

    /// Lets `by` pass on a manual clock; the time passes by itself on every other.
    pub fn advance(&self, by: Duration) {
        if let Source::Manual(hands) = &self.0 {
            let mut hands = locked(hands);
            hands.now = hands.now.saturating_add(by).unwrap_or(Timestamp::MAX);
            hands.wall = hands.wall.saturating_add(by).unwrap_or(Timestamp::MAX);
        }
    }

    /// Moves the wall of a manual clock, as an operator may do with a machine's clock; no other.
    pub fn move_wall(&self, by: SignedDuration) {
        if let Source::Manual(hands) = &self.0 {
            let mut hands = locked(hands);
            hands.wall = hands.wall.saturating_add(by).unwrap_or(Timestamp::MAX);
        }
    }
}

fn locked<T>(value: &Mutex<T>) -> MutexGuard<'_, T> {
    value.lock().unwrap_or_else(PoisonError::into_inner)
}

#[expect(clippy::disallowed_methods, reason = "this is the one place that reads the time")]
fn system_now() -> Timestamp {
    Timestamp::now()
}

/// Measures how long something takes, for metrics and deadlines inside one process.
#[derive(Clone, Copy, Debug)]
pub struct Stopwatch(Instant);

impl Stopwatch {
    /// Begins to measure.
    #[must_use]
    pub fn start() -> Self {
        Self(Instant::now())
    }

    /// How long ago it began.
    #[must_use]
    pub fn elapsed(self) -> Duration {
        self.0.elapsed()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_manual_clock_moves_only_when_told() {
        let clock = Clock::manual(Timestamp::UNIX_EPOCH);
        assert_eq!(clock.now(), Timestamp::UNIX_EPOCH);
        clock.clone().advance(Duration::from_mins(1));
        assert_eq!((clock.now().as_second(), clock.wall().as_second()), (60, 60));
    }

    #[test]
    fn a_wall_that_is_moved_leaves_the_time_alone_until_it_is_set() {
        let clock = Clock::manual(Timestamp::UNIX_EPOCH);
        clock.move_wall(SignedDuration::from_hours(1));
        assert_eq!((clock.now().as_second(), clock.wall().as_second()), (0, 3600));
        clock.set_by(SignedDuration::from_hours(1));
        assert_eq!((clock.now().as_second(), clock.wall().as_second()), (3600, 3600));
    }

    #[test]
    fn a_clock_goes_on_from_where_it_is_set() {
        let (clock, hour) = (Clock::system(), SignedDuration::from_hours(1));
        let before = clock.now();
        clock.set_by(hour);
        assert!(clock.now() >= before + hour);
        clock.set_by(-hour - hour);
        assert!(clock.now() < before);
        assert!(clock.now() <= clock.now());
    }
}
