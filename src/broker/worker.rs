//! The work that nobody asks for: how it begins, goes on for ever, and stops.

use std::panic::AssertUnwindSafe;
use std::time::Duration;

use futures::FutureExt;
use jiff::Timestamp;
use metrics::counter;
use tokio::time::sleep;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;
use tracing::{error, warn};

use super::{Broker, Compared};
use crate::causes::with_causes;
use crate::names::ClusterName;

/// How often due leases are looked for when nobody wakes the worker.
pub(super) const LOOK_EVERY: Duration = Duration::from_secs(1);

/// The broker's running work. It stops when told, after what is in hand.
pub struct Workers {
    stop: CancellationToken,
    tasks: TaskTracker,
}

impl Workers {
    /// Begins `work` of `broker` about `of`, and again whenever it panics: a panic must not end what
    /// ends leases.
    fn begin<Of, Running>(
        &self,
        broker: &Broker,
        of: Of,
        work: impl Fn(Broker, Of, CancellationToken) -> Running + Send + 'static,
    ) where
        Of: Clone + Send + 'static,
        Running: Future<Output = ()> + Send,
    {
        let (broker, stop) = (broker.clone(), self.stop.clone());
        self.tasks.spawn(async move {
            loop {
                let run = work(broker.clone(), of.clone(), stop.clone());
                if AssertUnwindSafe(run).catch_unwind().await.is_ok() {
                    return;
                }
                error!("the broker's own work panicked; it begins anew");
                counter!("pgbridge_panics_total").increment(1);
                if stop.run_until_cancelled(sleep(LOOK_EVERY)).await.is_none() {
                    return;
                }
            }
        });
    }

    /// Stops the work and waits for what is in hand.
    pub async fn stop(self) {
        self.stop.cancel();
        self.tasks.close();
        self.tasks.wait().await;
    }
}

impl Broker {
    /// Begins the broker's own work: for each cluster one worker that takes leases away, one that
    /// compares, one that watches for log-ins held back and one that reads its clock; for each way
    /// in one that looks its people up again and one that holds them against each new map; one that
    /// follows the files of the map, one that says what another map changes, one that keeps the time,
    /// one that writes down what is owed to the store, and one sweeper of the store.
    #[must_use]
    pub fn start(&self) -> Workers {
        let workers = Workers { stop: CancellationToken::new(), tasks: TaskTracker::new() };
        for name in self.0.clusters.keys() {
            workers.begin(self, name.clone(), async |broker, name, stop| {
                broker.take_away_for_ever(&name, stop).await;
            });
            workers.begin(self, name.clone(), async |broker, name, stop| {
                broker.compare_for_ever(&name, stop).await;
            });
            workers.begin(self, name.clone(), async |broker, name, stop| {
                broker.watch_for_ever(&name, stop).await;
            });
            workers.begin(self, name.clone(), async |broker, name, stop| {
                broker.read_clock_for_ever(&name, stop).await;
            });
        }
        for way in self.0.ways.keys().cloned().map(Some).chain([None]) {
            workers.begin(self, way, async |broker, way, stop| {
                broker.recheck_for_ever(way.as_ref(), stop).await;
            });
        }
        for way in self.0.ways.keys() {
            workers.begin(self, way.clone(), async |broker, way, stop| {
                broker.follow_map_for_ever(&way, stop).await;
            });
        }
        workers.begin(self, (), async |broker, (), stop| broker.watch_map_for_ever(stop).await);
        workers.begin(self, (), async |broker, (), stop| broker.compare_maps_for_ever(stop).await);
        workers.begin(self, (), async |broker, (), stop| broker.read_store_clock(stop).await);
        workers.begin(self, (), async |broker, (), stop| broker.keep_time(stop).await);
        workers.begin(self, (), async |broker, (), stop| broker.pay_for_ever(stop).await);
        workers.begin(self, (), async |broker, (), stop| broker.sweep_for_ever(stop).await);
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

    async fn compare_for_ever(&self, name: &ClusterName, stop: CancellationToken) {
        let Some(site) = self.site(name) else { return };
        // By a clock that is ahead every intent would be overdue.
        if stop.run_until_cancelled(self.0.time.settled()).await.is_none() {
            return;
        }
        let mut pause = LOOK_EVERY;
        while !stop.is_cancelled() {
            match self.reconcile(site).await {
                Ok(next) => {
                    site.note_compared(Compared::Once);
                    self.look_at_release(site).await;
                    pause = pause_until(next, self.now(), self.0.reconcile_every.duration());
                }
                Err(failed) => {
                    site.note_compared(Compared::InVain);
                    warn!(cluster = %name, cause = with_causes(&failed), "store and cluster could not be compared");
                    pause = (pause * 2).min(self.0.reconcile_every.duration()).max(LOOK_EVERY);
                }
            }
            tokio::select! {
                biased;
                () = stop.cancelled() => {}
                () = site.compare.notified() => {}
                () = sleep(pause) => {}
            }
        }
    }

    async fn sweep_for_ever(&self, stop: CancellationToken) {
        let every = Duration::from_mins(10);
        // By a clock that is ahead every session would be over.
        if stop.run_until_cancelled(self.0.time.settled()).await.is_none() {
            return;
        }
        while !stop.is_cancelled() {
            if let Err(failed) = self.store().sweep(self.now(), self.0.session).await {
                warn!(cause = with_causes(&failed), "the store could not be swept");
            }
            stop.run_until_cancelled(sleep(every)).await;
        }
    }
}

/// How long until the next comparison: until something is to be found at `next`, but not much
/// oftener than `every`.
fn pause_until(next: Option<Timestamp>, now: Timestamp, every: Duration) -> Duration {
    let until = next.map(|next| Duration::try_from(next.duration_since(now)).unwrap_or_default());
    until.unwrap_or(every).clamp(every / 4, every)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_next_comparison_comes_when_an_intent_is_over_and_not_much_oftener_than_it_should() {
        let at = |seconds| Timestamp::from_second(seconds).unwrap();
        for (next, seconds) in
            [(None, 60), (Some(1030), 30), (Some(1090), 60), (Some(1001), 15), (Some(900), 15)]
        {
            let pause = pause_until(next.map(at), at(1000), Duration::from_mins(1));
            assert_eq!(pause.as_secs(), seconds, "{next:?}");
        }
    }
}
