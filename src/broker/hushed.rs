//! Refusals of a counter that is closed: the first is written down, the rest are counted.
//!
//! Whoever is locked out could otherwise fill the disk with records of their refusals, and a
//! store without room can record no lease.

use std::collections::HashMap;
use std::sync::{Mutex, PoisonError};

use jiff::{SignedDuration, Timestamp};

/// How often one closed counter is written about.
const EVERY: SignedDuration = SignedDuration::from_secs(60);

/// Counters that are remembered at most; beyond them the old ones are forgotten.
const REMEMBERED: usize = 10_000;

/// What was written last about each closed counter, and how often it was asked since.
#[derive(Default)]
pub(super) struct Hushed(Mutex<HashMap<String, (Timestamp, u64)>>);

impl Hushed {
    /// Whether a refusal by `counter` at `now` is to be written down; gives how many were not,
    /// since the last one that was.
    pub(super) fn speak(&self, counter: &str, now: Timestamp) -> Option<u64> {
        let mut hushed = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        // A time that is yet to come was noted by a clock that has been set back.
        let lately = |written: Timestamp| written <= now && now.duration_since(written) < EVERY;
        if let Some((written, since)) = hushed.get_mut(counter)
            && lately(*written)
        {
            *since = since.saturating_add(1);
            return None;
        }
        if hushed.len() >= REMEMBERED {
            hushed.retain(|_, (written, _)| lately(*written));
        }
        let former = hushed.insert(counter.to_owned(), (now, 0));
        Some(former.map_or(0, |(_, since)| since))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(seconds: i64) -> Timestamp {
        Timestamp::from_second(seconds).unwrap()
    }

    #[test]
    fn the_first_refusal_is_written_and_the_next_minute_is_counted() {
        let hushed = Hushed::default();
        assert_eq!(hushed.speak("a", at(0)), Some(0));
        assert_eq!(hushed.speak("a", at(1)), None);
        assert_eq!(hushed.speak("a", at(59)), None);
        assert_eq!(hushed.speak("b", at(59)), Some(0));
        assert_eq!(hushed.speak("a", at(60)), Some(2));
        assert_eq!(hushed.speak("a", at(61)), None);
    }
}
