//! Log-ins that were on their way when their role went. The server shows a session only once its
//! log-in is complete, and the client may hold that up (manual, "Developer Options",
//! `post_auth_delay`); so whoever begins a session after its role is gone is ended when seen.

use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use tokio::time::sleep;
use tokio_util::sync::CancellationToken;
use tracing::{debug, warn};

use super::reconcile::ReconcileError;
use super::{Broker, Site};
use crate::causes::with_causes;
use crate::clock::Stopwatch;
use crate::cluster::{HIDDEN_FOR, RoleTarget};
use crate::crash::{self, Place};
use crate::lease::LeaseState;
use crate::names::ClusterName;

/// How often it is looked for them.
const LOOK_EVERY: Duration = Duration::from_secs(1);

/// How many looks there are for each at roles that something keeps, which is a question for each.
const KEPT_EVERY: u32 = 30;

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
        let mut looks: u32 = 0;
        while !stop.is_cancelled() {
            looks = looks.wrapping_add(1);
            if looks.is_multiple_of(KEPT_EVERY)
                && let Err(failed) = self.end_hidden_of_kept(site).await
            {
                debug!(cluster = %name, cause = with_causes(&failed), "sessions of roles that are kept could not be looked for");
            }
            // A cluster that cannot be asked is in the log already; it is asked again.
            if site.last_gone.is_recent()
                && let Err(failed) = self.end_hidden(site).await
            {
                debug!(cluster = %name, cause = with_causes(&failed), "sessions without a role could not be looked for");
            }
            stop.run_until_cancelled(sleep(LOOK_EVERY)).await;
        }
    }

    /// Ends the sessions of roles without access that something keeps. The next attempt to take
    /// such a role away may be an hour off; a log-in that was held back shows before.
    async fn end_hidden_of_kept(&self, site: &Site) -> Result<(), ReconcileError> {
        for lease in self.held(site).await? {
            let closed_for = lease.access_ended_at.map(|at| self.now().duration_since(at));
            let may_show = closed_for.is_some_and(|length| length.unsigned_abs() < HIDDEN_FOR);
            if lease.state == LeaseState::Quarantined && may_show {
                site.cluster.end_access(&RoleTarget::of(&lease)).await?;
            }
        }
        Ok(())
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
