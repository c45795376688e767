//! The work that nobody asks for: ending what is due, cluster by cluster, for ever.

use std::collections::BTreeSet;
use std::sync::atomic::Ordering;
use std::time::Duration;

use futures::StreamExt;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;
use tracing::{info, warn};

use super::access::with_causes;
use super::{Broker, Site};
use crate::audit::{Action, Outcome, Record, Subject};
use crate::cluster::{AccessEnd, Removal, RoleTarget};
use crate::lease::{EndReason, Lease, LeaseState, MoveError};
use crate::names::ClusterName;
use crate::store::{Change, StoreError};

/// How often due leases are looked for when nobody wakes the worker.
const LOOK_EVERY: Duration = Duration::from_secs(1);

/// Leases that are taken away side by side on one cluster.
const SIDE_BY_SIDE: usize = 4;

/// Leases that one look takes on.
const BATCH: u32 = 200;

/// Longest pause between two attempts at one lease.
const PAUSE_MAX: Duration = Duration::from_hours(1);

/// The broker's running work. It stops when told, after what is in hand.
pub struct Workers {
    stop: CancellationToken,
    tasks: TaskTracker,
}

impl Workers {
    /// Stops the work and waits for what is in hand.
    pub async fn stop(self) {
        self.stop.cancel();
        self.tasks.close();
        self.tasks.wait().await;
    }
}

impl Broker {
    /// Begins the broker's own work: for each cluster one worker that takes leases away and one
    /// that compares, and one sweeper of the store.
    #[must_use]
    pub fn start(&self) -> Workers {
        let workers = Workers { stop: CancellationToken::new(), tasks: TaskTracker::new() };
        for name in self.0.clusters.keys() {
            let (broker, name_, stop) = (self.clone(), name.clone(), workers.stop.clone());
            workers.tasks.spawn(async move { broker.take_away_for_ever(&name_, stop).await });
            let (broker, name_, stop) = (self.clone(), name.clone(), workers.stop.clone());
            workers.tasks.spawn(async move { broker.compare_for_ever(&name_, stop).await });
        }
        let (broker, stop) = (self.clone(), workers.stop.clone());
        workers.tasks.spawn(async move { broker.sweep_for_ever(stop).await });
        workers
    }

    /// Wakes the worker of `cluster`: something there must end.
    pub(super) fn nudge(&self, cluster: &ClusterName) {
        if let Some(site) = self.site(cluster) {
            site.work.notify_one();
        }
    }

    /// Lets store and `cluster` be compared soon.
    pub(super) fn compare_soon(&self, cluster: &ClusterName) {
        if let Some(site) = self.site(cluster) {
            site.compare.notify_one();
        }
    }

    async fn take_away_for_ever(&self, name: &ClusterName, stop: CancellationToken) {
        let Some(site) = self.site(name) else { return };
        while !stop.is_cancelled() {
            if let Err(failed) = self.take_away_due(site, &stop).await {
                warn!(cluster = %name, cause = with_causes(&failed), "the store cannot say which leases are due");
            }
            tokio::select! {
                () = stop.cancelled() => {}
                () = site.work.notified() => {}
                () = tokio::time::sleep(LOOK_EVERY) => {}
            }
        }
    }

    /// Takes away what is due on one cluster, oldest first.
    async fn take_away_due(&self, site: &Site, stop: &CancellationToken) -> Result<(), StoreError> {
        let mut tried = BTreeSet::new();
        loop {
            let due = self.store().due(site.cluster.name(), self.now(), BATCH).await?;
            let fresh: Vec<Lease> =
                due.into_iter().filter(|lease| tried.insert(lease.id)).collect();
            if fresh.is_empty() || stop.is_cancelled() {
                return Ok(());
            }
            let work = fresh.into_iter().map(|lease| self.take_away(site, lease));
            let work = futures::stream::iter(work).take_until(stop.cancelled());
            work.buffer_unordered(SIDE_BY_SIDE).collect::<Vec<()>>().await;
        }
    }

    /// One attempt at one lease. Whatever fails is written down and tried again.
    async fn take_away(&self, site: &Site, lease: Lease) {
        let id = lease.id;
        match self.attempt(site, lease).await {
            Ok(()) | Err(Setback::Overtaken) => {}
            Err(Setback::Store(failed)) => {
                warn!(lease = %id, cause = with_causes(&failed), "the store did not take a move; tried again soon");
            }
        }
        self.0.moves.send_modify(|count| *count = count.wrapping_add(1));
    }

    async fn attempt(&self, site: &Site, lease: Lease) -> Result<(), Setback> {
        let lease = match lease.state {
            LeaseState::Intent | LeaseState::Active => {
                self.step(lease.revoke(EndReason::Expired, self.now())?, Action::RevokeRequested)
                    .await?
            }
            _ => lease,
        };
        let target = RoleTarget::of(&lease);
        let ended = match site.cluster.end_access(&target).await {
            Ok(ended) => ended,
            Err(failed) => return self.hold(lease, vec![with_causes(&failed)]).await,
        };
        if let AccessEnd::Blocked(blockers) = ended {
            return self.hold(lease, blockers).await;
        }
        let lease = if lease.access_ended_at.is_none() {
            self.step(lease.end_access(self.now())?, Action::AccessEnded).await?
        } else {
            lease
        };
        match site.cluster.remove(&target, lease.owned_objects).await {
            Ok(Removal::Gone) => {
                let closed = self.step(lease.close(self.now())?, Action::LeaseRevoked).await?;
                let cause = closed.end.map(EndReason::as_str);
                info!(lease = %closed.id, role = %closed.role_name, cluster = %closed.cluster, cause, "revoked");
                Ok(())
            }
            Ok(Removal::Blocked(blockers)) => self.hold(lease, blockers).await,
            Err(failed) => self.hold(lease, vec![with_causes(&failed)]).await,
        }
    }

    /// Writes down one move of the broker's own.
    pub(super) async fn step(&self, lease: Lease, action: Action) -> Result<Lease, Setback> {
        let record = Record::new(self.now(), action, Subject::Broker).about(&lease);
        self.store().commit(vec![Change::MoveLease(Box::new(lease.clone()))], vec![record]).await?;
        Ok(lease)
    }

    /// Writes down what kept the attempt from completing, and when the next one is due.
    async fn hold(&self, lease: Lease, blockers: Vec<String>) -> Result<(), Setback> {
        let now = self.now();
        let pause = PAUSE_MAX.min(Duration::from_secs(1_u64 << lease.attempts.min(12)));
        let blockers = blockers.join("; ");
        warn!(lease = %lease.id, role = %lease.role_name, cluster = %lease.cluster, attempts = lease.attempts, blockers, "a lease could not be taken away completely; tried again");
        let held = lease.hold(blockers.clone(), now + pause)?;
        let action = match held.state {
            LeaseState::Quarantined => Action::LeaseQuarantined,
            _ => Action::AccessEnded,
        };
        let record = Record::new(now, action, Subject::Broker).about(&held);
        let record = record.ended(Outcome::Failed, held.state.as_str(), &blockers);
        self.store().commit(vec![Change::MoveLease(Box::new(held))], vec![record]).await?;
        Ok(())
    }

    async fn compare_for_ever(&self, name: &ClusterName, stop: CancellationToken) {
        let Some(site) = self.site(name) else { return };
        let mut pause = LOOK_EVERY;
        while !stop.is_cancelled() {
            match self.reconcile(site).await {
                Ok(()) => {
                    site.reconciled.store(true, Ordering::Release);
                    pause = self.0.reconcile_every.duration();
                }
                Err(failed) => {
                    warn!(cluster = %name, cause = with_causes(&failed), "store and cluster could not be compared");
                    pause = (pause * 2).min(self.0.reconcile_every.duration()).max(LOOK_EVERY);
                }
            }
            tokio::select! {
                () = stop.cancelled() => {}
                () = site.compare.notified() => {}
                () = tokio::time::sleep(pause) => {}
            }
        }
    }

    async fn sweep_for_ever(&self, stop: CancellationToken) {
        let every = Duration::from_mins(10);
        while !stop.is_cancelled() {
            if let Err(failed) = self.store().sweep(self.now(), self.0.session).await {
                warn!(cause = with_causes(&failed), "the store could not be swept");
            }
            tokio::select! {
                () = stop.cancelled() => {}
                () = tokio::time::sleep(every) => {}
            }
        }
    }
}

/// Why an attempt did not go on.
pub(super) enum Setback {
    /// Somebody else moved the lease; it is theirs.
    Overtaken,
    /// The store did not take the move.
    Store(StoreError),
}

impl From<MoveError> for Setback {
    fn from(_: MoveError) -> Self {
        Self::Overtaken
    }
}

impl From<StoreError> for Setback {
    fn from(error: StoreError) -> Self {
        match error {
            StoreError::Moved { .. } => Self::Overtaken,
            error => Self::Store(error),
        }
    }
}
