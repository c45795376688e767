//! Ends that the store did not take. Their access has ended all the same; they are written down
//! once the store takes them, in the order in which they were asked for. A lease ends once; a note
//! stands there twice when the store had taken it and only its answer was lost.
//!
//! They are kept in memory: after a crash the leases are live in the store, without access on their
//! clusters, and end when they are asked for again or their time is over.

use std::collections::VecDeque;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use jiff::Timestamp;
use tokio::time::sleep;
use tokio_util::sync::CancellationToken;
use tracing::{debug, info};

use super::{Broker, LeaseError};
use crate::audit::Record;
use crate::causes::with_causes;
use crate::lease::EndReason;
use crate::names::LeaseId;
use crate::store::{Change, StoreError};

/// How often the store is asked to take them.
const LOOK_EVERY: Duration = Duration::from_secs(1);

/// One end that is to be written down.
#[derive(Clone)]
pub(super) enum Debt {
    /// What was asked for, when it moves nothing by itself.
    Noted(Record),
    /// Every login of a person until a moment, and then every lease: `record` is for each of these.
    Person { person: String, until: Timestamp, noted: Box<Record>, record: Box<Record> },
    /// One lease.
    Lease { lease: LeaseId, reason: EndReason, record: Record },
}

/// All that is to be written down, oldest first.
#[derive(Default)]
pub(super) struct Owed(Mutex<VecDeque<Debt>>);

impl Owed {
    fn all(&self) -> MutexGuard<'_, VecDeque<Debt>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Notes `debt`, but of one lease no more than the first.
    pub(super) fn note(&self, debt: Debt) {
        let mut all = self.all();
        let is_known = |id: LeaseId| {
            all.iter().any(|known| matches!(known, Debt::Lease { lease, .. } if *lease == id))
        };
        if !matches!(&debt, Debt::Lease { lease, .. } if is_known(*lease)) {
            all.push_back(debt);
        }
    }

    fn first(&self) -> Option<Debt> {
        self.all().front().cloned()
    }

    fn first_is_paid(&self) {
        self.all().pop_front();
    }
}

impl Broker {
    /// Writes down what is owed, as soon as the store takes it.
    pub(super) async fn pay_for_ever(&self, stop: CancellationToken) {
        while !stop.is_cancelled() {
            if let Err(failed) = self.pay().await {
                debug!(cause = with_causes(&failed), "the store still does not take an end");
            }
            stop.run_until_cancelled(sleep(LOOK_EVERY)).await;
        }
    }

    async fn pay(&self) -> Result<(), LeaseError> {
        while let Some(debt) = self.0.owed.first() {
            match debt {
                Debt::Noted(record) => self.note_end(Vec::new(), record).await?,
                Debt::Person { person, until, noted, record } => {
                    let logins = Change::EndLoginsOf { person: person.clone(), at: until };
                    self.note_end(vec![logins], *noted).await?;
                    self.end_leases_of(&person, until, || Record::clone(&record)).await?;
                }
                Debt::Lease { lease: id, reason, record } => {
                    let lease = self.store().lease(id).await.map_err(LeaseError::Store)?;
                    let Some(lease) = lease else {
                        self.0.owed.first_is_paid();
                        continue;
                    };
                    match self.begin_end(lease, reason, Some(record)).await {
                        Ok(()) => {
                            info!(lease = %id, "the end of a lease that the store did not take before is written down");
                        }
                        // Somebody was quicker: it is looked at anew.
                        Err(StoreError::Moved { .. }) => continue,
                        Err(failed) => return Err(LeaseError::Store(failed)),
                    }
                }
            }
            self.0.owed.first_is_paid();
        }
        Ok(())
    }

    async fn note_end(&self, changes: Vec<Change>, record: Record) -> Result<(), LeaseError> {
        self.store().commit(changes, vec![record]).await.map_err(LeaseError::Store)
    }
}
