//! Log-ins that were on their way when their role went. The server shows a session only once its
//! log-in is complete, and the client may hold that up (manual, "Developer Options",
//! `post_auth_delay`); so whoever begins a session after its role is gone is ended when seen.

use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use tokio_util::sync::CancellationToken;
use tracing::{debug, warn};

use super::reconcile::ReconcileError;
use super::{Broker, Site};
use crate::causes::with_causes;
use crate::clock::Stopwatch;
use crate::cluster::HIDDEN_FOR;
use crate::crash::{self, Place};
use crate::names::ClusterName;

/// How often it is looked for them.
const LOOK_EVERY: Duration = Duration::from_secs(1);

/// When a role was last gone on a cluster. At the start nobody knows, so it counts as just now.
pub(super) struct LastGone(Mutex<Stopwatch>);

impl LastGone {
    pub(super) fn start() -> Self {
        Self(Mutex::new(Stopwatch::start()))
    }

    /// Notes that a role is gone.
    pub(super) fn note(&self) {
        *self.0.lock().unwrap_or_else(PoisonError::into_inner) = Stopwatch::start();
    }

    fn is_recent(&self) -> bool {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).elapsed() < HIDDEN_FOR
    }
}

impl Broker {
    pub(super) async fn watch_for_ever(&self, name: &ClusterName, stop: CancellationToken) {
        let Some(site) = self.site(name) else { return };
        while !stop.is_cancelled() {
            // A cluster that cannot be asked is in the log already; it is asked again.
            if site.last_gone.is_recent()
                && let Err(failed) = self.end_hidden(site).await
            {
                debug!(cluster = %name, cause = with_causes(&failed), "sessions without a role could not be looked for");
            }
            tokio::select! {
                () = stop.cancelled() => {}
                () = tokio::time::sleep(LOOK_EVERY) => {}
            }
        }
    }

    /// Ends the sessions of our roles that are gone; those of others are not ours to touch.
    pub(super) async fn end_hidden(&self, site: &Site) -> Result<(), ReconcileError> {
        let name = site.cluster.name();
        for oid in site.cluster.without_role().await? {
            if !site.orphans_left.had(oid) && !self.store().had_role(name, oid).await? {
                continue;
            }
            crash::at(Place::WatchSessions);
            let sessions = site.cluster.end_without_role(oid).await?;
            warn!(cluster = %name, role_oid = %oid, sessions, "a log-in was held back until its role was gone; its session was ended");
        }
        Ok(())
    }
}
