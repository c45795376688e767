//! What the store did not take: ends, and that files of the map were refused. Of ends the access has
//! ended all the same; they are written down once the store takes them, in the order in which they
//! were asked for. One that it does not take for a reason of its own, such as a lease that cannot be
//! read, lets the others go before it. A lease ends once; a note stands there twice when the store had
//! taken it and only its answer was lost.
//!
//! They are kept in memory: after the process the leases are live in the store, without access on
//! their clusters, and end when they are asked for again or their time is over.

use std::collections::{BTreeSet, VecDeque};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use jiff::Timestamp;
use tokio::time::sleep;
use tokio_util::sync::CancellationToken;
use tracing::{debug, info, warn};

use super::{Broker, LeaseError};
use crate::audit::Record;
use crate::causes::with_causes;
use crate::lease::EndReason;
use crate::names::LeaseId;
use crate::store::{Change, StoreError};

/// How often the store is asked to take them.
const LOOK_EVERY: Duration = Duration::from_secs(1);

/// Notes and people that are kept at most. There are no more leases than the store has; but of these
/// an operator's program that asks on and on, while the store is away, makes as many as it likes.
const KEPT: usize = 10_000;

/// One end that is to be written down.
#[derive(Clone)]
pub(super) enum Debt {
    /// What was asked for, with what it changes by itself.
    Noted { changes: Vec<Change>, record: Record },
    /// Every lease that a person asked for until a moment; `record` is for each of these.
    LeasesOf { person: String, until: Timestamp, record: Record },
    /// One lease.
    Lease { lease: LeaseId, reason: EndReason, record: Record },
}

/// All that is to be written down.
#[derive(Default)]
pub(super) struct Owed(Mutex<Debts>);

#[derive(Default)]
struct Debts {
    /// What is tried next comes first.
    queue: VecDeque<Debt>,
    /// The leases among them.
    leases: BTreeSet<LeaseId>,
}

impl Owed {
    fn all(&self) -> MutexGuard<'_, Debts> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Notes `debt`, but of one lease no more than the first. Whoever asked is told that the store
    /// did not take it, and so asks again for what is too much to be kept.
    pub(super) fn note(&self, debt: Debt) {
        let all = &mut *self.all();
        let is_kept = match &debt {
            Debt::Lease { lease, .. } => all.leases.insert(*lease),
            Debt::Noted { .. } | Debt::LeasesOf { .. } => {
                let has_room = all.queue.len() - all.leases.len() < KEPT;
                if !has_room {
                    warn!(
                        "more ends than are kept wait for the store to take them; ask again for what does not end once it does"
                    );
                }
                has_room
            }
        };
        if is_kept {
            all.queue.push_back(debt);
        }
    }

    fn count(&self) -> usize {
        self.all().queue.len()
    }

    fn first(&self) -> Option<Debt> {
        self.all().queue.front().cloned()
    }

    fn first_is_paid(&self) {
        let all = &mut *self.all();
        if let Some(Debt::Lease { lease, .. }) = all.queue.pop_front() {
            all.leases.remove(&lease);
        }
    }

    fn first_waits(&self) {
        let queue = &mut self.all().queue;
        let first = queue.pop_front();
        queue.extend(first);
    }
}

impl Broker {
    /// Writes down what is owed, as soon as the store takes it.
    pub(super) async fn pay_for_ever(&self, stop: CancellationToken) {
        while !stop.is_cancelled() {
            if let Err(away) = self.pay().await {
                debug!(cause = with_causes(&away), "the store still does not take an end");
            }
            stop.run_until_cancelled(sleep(LOOK_EVERY)).await;
        }
        // What is owed ends with the process.
        if let Err(away) = self.pay().await {
            debug!(cause = with_causes(&away), "the store does not take an end to the last");
        }
        let left = self.0.owed.count();
        if left > 0 {
            warn!(
                left,
                "the broker stops before the store has taken every end; ask for them again"
            );
        }
    }

    /// Tries each debt once.
    ///
    /// # Errors
    /// When the store is away: then it takes no other either.
    async fn pay(&self) -> Result<(), LeaseError> {
        for _ in 0..self.0.owed.count() {
            let Some(debt) = self.0.owed.first() else { return Ok(()) };
            match self.pay_one(debt).await {
                Ok(()) => self.0.owed.first_is_paid(),
                // The order stays: a person's logins end before their leases, or one that was not
                // ended yet could begin another lease in between.
                Err(away @ LeaseError::Store(StoreError::Failed { .. })) => return Err(away),
                Err(failed) => {
                    self.0.owed.first_waits();
                    if self.0.hushed.speak("owed", self.now()).is_some() {
                        warn!(
                            cause = with_causes(&failed),
                            "an end that was asked for is not written down yet; it is tried again"
                        );
                    }
                }
            }
        }
        Ok(())
    }

    async fn pay_one(&self, debt: Debt) -> Result<(), LeaseError> {
        match debt {
            Debt::Noted { changes, record } => {
                self.store().commit(changes, vec![record]).await.map_err(LeaseError::Store)
            }
            Debt::LeasesOf { person, until, record } => {
                let ended = self.end_leases_of(&person, until, || record.clone()).await;
                ended.map(drop)
            }
            Debt::Lease { lease: id, reason, record } => {
                let lease = self.store().lease(id).await.map_err(LeaseError::Store)?;
                let Some(lease) = lease else { return Ok(()) };
                let ended = self.begin_end(lease, reason, Some(record)).await;
                ended.map_err(LeaseError::Store)?;
                info!(lease = %id, "the end of a lease that the store did not take before is written down");
                Ok(())
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::audit::{Action, Subject};

    fn record() -> Record {
        Record::new(Timestamp::UNIX_EPOCH, Action::RevokeRequested, Subject::Broker)
    }

    fn of_lease(letter: char) -> Debt {
        let lease = letter.to_string().repeat(16).parse().unwrap();
        Debt::Lease { lease, reason: EndReason::Operator, record: record() }
    }

    fn leases(owed: &Owed) -> String {
        let all = owed.all();
        let letters = all.queue.iter().filter_map(|debt| match debt {
            Debt::Lease { lease, .. } => lease.to_string().chars().next(),
            _ => None,
        });
        letters.collect()
    }

    #[test]
    fn a_lease_is_owed_once_and_again_after_it_was_paid() {
        let owed = Owed::default();
        for letter in ['a', 'b', 'a'] {
            owed.note(of_lease(letter));
        }
        assert_eq!(leases(&owed), "ab");
        owed.first_waits();
        assert_eq!(leases(&owed), "ba");
        owed.first_is_paid();
        owed.note(of_lease('a'));
        owed.note(of_lease('b'));
        assert_eq!(leases(&owed), "ab");
    }

    #[test]
    fn asking_on_and_on_fills_no_memory_and_keeps_no_lease_out() {
        let owed = Owed::default();
        for _ in 0..=KEPT {
            owed.note(Debt::Noted { changes: Vec::new(), record: record() });
        }
        assert_eq!(owed.count(), KEPT);
        owed.note(of_lease('a'));
        assert_eq!(owed.count(), KEPT + 1);
        owed.first_is_paid();
        owed.note(Debt::Noted { changes: Vec::new(), record: record() });
        assert_eq!(owed.count(), KEPT + 1);
    }
}
