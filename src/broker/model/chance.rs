//! What happens by chance, all of it from one seed.

use std::cell::RefCell;
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

    /// From now on one of `faults` calls fails, as often before its effect as after it.
    pub(super) fn set_faults(&self, faults: Option<u32>) {
        self.0.lock().unwrap().faults = faults;
    }

    pub(super) fn has_faults(&self) -> bool {
        self.0.lock().unwrap().faults.is_some()
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
        if !faults.is_some_and(|n| self.once_in(n)) {
            Fate::Done
        } else if self.once_in(2) {
            Fate::FailedBefore
        } else {
            Fate::AnswerLost
        }
    }
}

thread_local! {
    /// What the brokers of this thread draw from, while a run lasts.
    static DRAWN_FROM: RefCell<Option<StdRng>> = const { RefCell::new(None) };
}

/// While it lives, the brokers of this thread draw ids, tokens and passwords from one seed.
pub(super) struct Drawn(());

impl Drawn {
    pub(super) fn from(seed: u64) -> Self {
        DRAWN_FROM.set(Some(StdRng::seed_from_u64(seed)));
        Self(())
    }
}

impl Drop for Drawn {
    fn drop(&mut self) {
        DRAWN_FROM.set(None);
    }
}

/// What a broker draws from in a test: the run's seed, or else the operating system.
pub(in crate::broker) fn rng() -> StdRng {
    DRAWN_FROM
        .with_borrow_mut(|from| from.as_mut().map_or_else(StdRng::from_os_rng, StdRng::from_rng))
}
