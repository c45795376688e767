//! What the metrics say about leases: how many there are, and what keeps those that do not end.

use jiff::Timestamp;
use metrics::gauge;

use super::Site;
use crate::lease::{BlockerKind, Lease, LeaseState, LiveLease};

/// Leases that are looked at for what keeps them, at most.
pub(super) const LOOKED_AT: u32 = 1000;

/// How many leases are in each state that is not final.
pub(super) fn states(site: &Site, leases: &[LiveLease]) {
    for state in LeaseState::ALL.into_iter().filter(|state| !state.is_final()) {
        let count = leases.iter().filter(|lease| lease.state == state).count();
        let cluster = site.cluster.name().to_string();
        gauge!("pgbridge_leases", "cluster" => cluster, "state" => state.as_str())
            .set(figure(count));
    }
}

/// What keeps the leases that are `held`, by kind, and since when the oldest has no access.
pub(super) fn blockers(site: &Site, held: &[Lease], now: Timestamp) {
    let cluster = site.cluster.name().to_string();
    for kind in BlockerKind::ALL {
        let is_kept = |lease: &&Lease| lease.blockers.iter().any(|blocker| blocker.kind == kind);
        let count = held.iter().filter(is_kept).count();
        gauge!("pgbridge_leases_blocked", "cluster" => cluster.clone(), "kind" => kind.as_str())
            .set(figure(count));
    }
    let quarantined = held.iter().filter(|lease| lease.state == LeaseState::Quarantined);
    let oldest = quarantined.filter_map(|lease| lease.access_ended_at).min();
    let seconds = oldest.map_or(0.0, |oldest| now.duration_since(oldest).as_secs_f64());
    gauge!("pgbridge_oldest_quarantine_seconds", "cluster" => cluster).set(seconds);
}

/// What was found on the cluster that no lease explains.
pub(super) fn unexplained(site: &Site, strangers: usize, orphans_left: usize) {
    let cluster = site.cluster.name().to_string();
    gauge!("pgbridge_unmarked_roles", "cluster" => cluster.clone()).set(figure(strangers));
    gauge!("pgbridge_orphan_roles", "cluster" => cluster).set(figure(orphans_left));
}

#[expect(clippy::cast_precision_loss, reason = "a count of leases or roles is far below 2^52")]
fn figure(count: usize) -> f64 {
    count as f64
}
