//! Taking turns: attempts that count against one counter do not run into it side by side.
//!
//! An attempt is counted before the directory is asked. Without turns, a person's own program
//! that logs in eight times at once with the right password would be locked out by attempts that
//! are about to succeed.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};

use tokio::sync::{OwnedSemaphorePermit, Semaphore};

/// Who may try now, by counter. Counters that nobody waits for take no memory.
#[derive(Default)]
pub(super) struct Turns(Arc<Mutex<Waiting>>);

type Waiting = HashMap<String, Arc<Semaphore>>;

/// One's turn; it ends on drop.
pub(super) struct Turn {
    counter: String,
    permit: Option<OwnedSemaphorePermit>,
    waiting: Arc<Mutex<Waiting>>,
}

impl Turns {
    /// A turn at once, if fewer than `side_by_side` others try at `counter`.
    pub(super) fn take_now(&self, counter: &str, side_by_side: usize) -> Option<Turn> {
        let turns = self.at(counter, side_by_side);
        let permit = turns.try_acquire_owned().ok()?;
        let waiting = Arc::clone(&self.0);
        Some(Turn { counter: counter.to_owned(), permit: Some(permit), waiting })
    }

    /// Waits until fewer than `side_by_side` others try at `counter`. First come, first served.
    pub(super) async fn take(&self, counter: &str, side_by_side: usize) -> Turn {
        let turns = self.at(counter, side_by_side);
        // Made before the wait, so that whoever gives up waiting tidies up as well.
        let waiting = Arc::clone(&self.0);
        let mut turn = Turn { counter: counter.to_owned(), permit: None, waiting };
        turn.permit = turns.acquire_owned().await.ok();
        turn
    }

    fn at(&self, counter: &str, side_by_side: usize) -> Arc<Semaphore> {
        let mut waiting = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let begun = || Arc::new(Semaphore::new(side_by_side.max(1)));
        Arc::clone(waiting.entry(counter.to_owned()).or_insert_with(begun))
    }
}

impl Drop for Turn {
    fn drop(&mut self) {
        self.permit = None;
        let mut waiting = self.waiting.lock().unwrap_or_else(PoisonError::into_inner);
        // The map holds one; whoever waits or tries holds another.
        if waiting.get(&self.counter).is_some_and(|turns| Arc::strong_count(turns) == 1) {
            waiting.remove(&self.counter);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn one_waits_for_the_other_and_for_nobody_else() {
        let turns = Turns::default();
        let first = turns.take("alice", 1).await;
        let other = turns.take("bob", 1).await;
        let mut second = Box::pin(turns.take("alice", 1));
        assert!(futures::poll!(&mut second).is_pending());
        drop(first);
        assert!(futures::poll!(&mut second).is_ready());
        drop(other);
    }

    #[tokio::test]
    async fn whoever_will_not_wait_is_told_at_once() {
        let turns = Turns::default();
        let here = turns.take_now("source", 2);
        let there = turns.take_now("source", 2);
        assert!(here.is_some() && there.is_some());
        assert!(turns.take_now("source", 2).is_none());
        drop(here);
        assert!(turns.take_now("source", 2).is_some());
    }

    #[tokio::test]
    async fn nothing_is_kept_of_turns_that_are_over_or_were_given_up() {
        let turns = Turns::default();
        let first = turns.take("alice", 2).await;
        let second = turns.take("alice", 2).await;
        let mut given_up = Box::pin(turns.take("alice", 2));
        assert!(futures::poll!(&mut given_up).is_pending());
        drop(given_up);
        drop((first, second));
        assert!(turns.0.lock().unwrap().is_empty());
    }
}
