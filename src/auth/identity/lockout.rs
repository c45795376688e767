//! How many failures an account or a source may have before it must wait.

use jiff::Timestamp;

use crate::names::Ttl;

/// When a counter closes, and for how long.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct LockoutRule {
    /// Attempts allowed in one window; the next one is refused.
    pub failures: u32,
    /// Length of the window, from the first attempt in it.
    pub window: Ttl,
    /// How long the counter stays closed once it is full.
    pub pause: Ttl,
}

/// The rules of all counters.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Lockout {
    /// For one account, tried from one source address.
    pub account: LockoutRule,
    /// For one account, from wherever it is tried.
    pub everywhere: LockoutRule,
    /// For one source address, whatever account it tries.
    pub source: LockoutRule,
}

/// One counter: of an account, or of a source address.
///
/// An attempt is counted *before* the directory is asked and given back when it succeeds, so
/// that many attempts side by side are not more than the rule allows.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Attempts {
    /// Attempts in this window that have not been given back.
    pub count: u32,
    /// Begin of the window.
    pub since: Timestamp,
    /// Until when nothing is let through, when the counter is closed.
    pub locked_until: Option<Timestamp>,
}

/// What a counter answers to one more attempt.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Admission {
    /// The attempt may go on, and has been counted.
    Admitted(Attempts),
    /// The attempt is refused until the given time.
    Locked {
        /// When the counter opens again.
        until: Timestamp,
    },
}

impl Attempts {
    /// A counter that has seen nothing.
    #[must_use]
    pub fn none(now: Timestamp) -> Self {
        Self { count: 0, since: now, locked_until: None }
    }

    /// Counts one more attempt at `now`, or refuses it. A counter that was kept by a clock that was
    /// ahead, and has been set back since, begins anew: it would stay closed for as long as that.
    #[must_use]
    pub fn admit(self, now: Timestamp, rule: LockoutRule) -> Admission {
        match self.locked_until {
            Some(until) if now < until && until <= now + rule.pause.span() => {
                return Admission::Locked { until };
            }
            Some(_) => return Self::none(now).admit(now, rule),
            None => {}
        }
        let in_window = self.since <= now && now < self.since + rule.window.span();
        let begun = if in_window { self } else { Self::none(now) };
        let count = begun.count.saturating_add(1);
        let full = count >= rule.failures;
        let locked_until = full.then(|| now + rule.pause.span());
        Admission::Admitted(Self { count, locked_until, ..begun })
    }

    /// From when on the counter is as if it had never been.
    #[must_use]
    pub fn over_at(self, rule: LockoutRule) -> Timestamp {
        let window_ends = self.since + rule.window.span();
        self.locked_until.map_or(window_ends, |until| until.max(window_ends))
    }

    /// Takes one attempt back: it succeeded, or nobody could judge it.
    #[must_use]
    pub fn give_back(self) -> Self {
        Self { count: self.count.saturating_sub(1), locked_until: None, ..self }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn rule() -> LockoutRule {
        LockoutRule { failures: 3, window: "10m".parse().unwrap(), pause: "5m".parse().unwrap() }
    }

    fn at(seconds: i64) -> Timestamp {
        Timestamp::from_second(seconds).unwrap()
    }

    /// Tries at each of `times` and says how many were let through.
    fn admitted(times: &[i64]) -> usize {
        let mut attempts = Attempts::none(at(0));
        let mut count = 0;
        for &time in times {
            if let Admission::Admitted(next) = attempts.admit(at(time), rule()) {
                attempts = next;
                count += 1;
            }
        }
        count
    }

    #[test]
    fn a_counter_closes_when_full_and_opens_after_the_pause() {
        assert_eq!(admitted(&[0, 1, 2, 3, 4]), 3);
        assert_eq!(admitted(&[0, 1, 2, 301]), 3);
        assert_eq!(admitted(&[0, 1, 2, 302]), 4);
    }

    #[test]
    fn a_window_that_has_passed_is_forgotten() {
        assert_eq!(admitted(&[0, 1, 600, 601]), 4);
        assert_eq!(admitted(&[0, 1, 599, 600]), 3);
    }

    #[test]
    fn a_counter_that_was_kept_by_a_clock_that_was_ahead_begins_anew() {
        assert_eq!(admitted(&[9000, 9001, 9002, 9003]), 3);
        assert_eq!(admitted(&[9000, 9001, 9002, 3, 4, 5, 6]), 6);
        assert_eq!(admitted(&[9000, 9001, 3, 4, 5, 6]), 5);
    }

    #[test]
    fn an_attempt_that_succeeded_is_given_back() {
        let mut attempts = Attempts::none(at(0));
        for time in 0..100 {
            let Admission::Admitted(counted) = attempts.admit(at(time), rule()) else {
                panic!("attempt {time} was refused")
            };
            attempts = counted.give_back();
        }
    }
}
