//! What happens by chance, all of it from one seed.

use std::sync::{Arc, Mutex};

use rand::rngs::StdRng;
use rand::{Rng, SeedableRng};

/// What becomes of one call.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Fate {
    /// It is done and answered.
    Done,
    /// It fails, and nothing has happened.
    FailedBefore,
    /// It has happened, and the answer is lost.
    AnswerLost,
}

/// The dice. Cloning gives the same dice.
#[derive(Clone)]
pub(super) struct Chance(Arc<Mutex<Dice>>);

struct Dice {
    rng: StdRng,
    /// Of so many calls one fails; none when there are no faults.
    faults: Option<u32>,
}

impl Chance {
    pub(super) fn new(seed: u64) -> Self {
        Self(Arc::new(Mutex::new(Dice { rng: StdRng::seed_from_u64(seed), faults: None })))
    }

    /// From now on one of `faults` calls fails.
    pub(super) fn set_faults(&self, faults: Option<u32>) {
        self.0.lock().unwrap().faults = faults;
    }

    /// A number below `bound`.
    pub(super) fn below(&self, bound: u32) -> u32 {
        self.0.lock().unwrap().rng.random_range(0..bound)
    }

    /// Whether it happens, once in `n`.
    pub(super) fn once_in(&self, n: u32) -> bool {
        self.below(n) == 0
    }

    /// One of `these`.
    pub(super) fn pick<T: Clone>(&self, these: &[T]) -> Option<T> {
        let count = u32::try_from(these.len()).unwrap();
        (count > 0).then(|| these[self.below(count) as usize].clone())
    }

    /// Lets others go first for a while, and says what becomes of the call.
    pub(super) async fn fate(&self) -> Fate {
        for _ in 0..self.below(4) {
            tokio::task::yield_now().await;
        }
        let faults = self.0.lock().unwrap().faults;
        match faults {
            Some(n) if self.once_in(n) && self.once_in(2) => Fate::AnswerLost,
            Some(n) if self.once_in(n) => Fate::FailedBefore,
            _ => Fate::Done,
        }
    }
}
