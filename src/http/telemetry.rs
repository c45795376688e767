//! Metrics: what there is, what each means, and how Prometheus reads it.

use std::sync::{Mutex, OnceLock, PoisonError};
use std::time::Duration;

use axum::http::StatusCode;
use metrics::{Unit, counter, gauge, histogram};
use metrics_exporter_prometheus::{PrometheusBuilder, PrometheusHandle};
use tracing::warn;

use crate::broker::{Health, PartHealth};
use crate::mapping::MapRevision;

/// Upper bounds of the buckets of every length of time, in seconds.
const SECONDS: [f64; 13] =
    [0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 15.0];

/// The process's metrics, installed by the first call. Call it before a broker is made, so that
/// nothing that is counted is lost.
pub fn metrics() -> &'static PrometheusHandle {
    static HANDLE: OnceLock<PrometheusHandle> = OnceLock::new();
    HANDLE.get_or_init(|| {
        // Refused only for an empty list of buckets, which this is not.
        let builder = PrometheusBuilder::new();
        let builder = builder.set_buckets(&SECONDS).unwrap_or_default();
        let recorder = builder.build_recorder();
        let handle = recorder.handle();
        if metrics::set_global_recorder(recorder).is_err() {
            warn!("metrics go elsewhere: this process had a recorder before ours");
        }
        describe();
        handle
    })
}

/// What sort of metric one is.
#[derive(Clone, Copy)]
enum Kind {
    Counter,
    Gauge,
    Histogram,
}

/// Every metric, and what it means. What counts seconds says so in its name.
const METRICS: &[(Kind, &str, &str)] = &[
    (
        Kind::Counter,
        "http_requests_total",
        "Requests answered, by route (the pattern of the path), method and status",
    ),
    (Kind::Histogram, "http_request_seconds", "How long answers took, by route and method"),
    (Kind::Gauge, "pgbridge_connections", "Connections of clients that are open now"),
    (
        Kind::Counter,
        "pgbridge_connections_refused_total",
        "Connections closed at once because too many were open, in all or from one address",
    ),
    (
        Kind::Gauge,
        "pgbridge_certificate_expires_seconds",
        "When the certificate of the listener ends, in seconds since 1970",
    ),
    (
        Kind::Counter,
        "pgbridge_certificate_reload_failed_total",
        "Renewed certificate files that could not be used; the old certificate is still in use",
    ),
    (
        Kind::Gauge,
        "pgbridge_info",
        "1 by the version of pgbridge and the revision of the map in force (SHA-256), 0 by those before",
    ),
    (
        Kind::Gauge,
        "pgbridge_map_stale",
        "1 when the files of the map have changed and cannot be used, or do not answer, else 0",
    ),
    (
        Kind::Counter,
        "pgbridge_map_refused_total",
        "Changes of the map's files that could not be used; the map before stayed in force",
    ),
    (
        Kind::Counter,
        "pgbridge_panics_total",
        "Defects that ended a piece of the broker's own work, which then began anew",
    ),
    (Kind::Gauge, "pgbridge_ready", "1 when somebody can be served, else 0"),
    (
        Kind::Gauge,
        "pgbridge_up",
        "1 when a party the broker needs can be used, else 0, by kind (store, way, cluster) and name",
    ),
    (
        Kind::Counter,
        "pgbridge_logins_refused_total",
        "Logins that were refused or could not be judged, by cause",
    ),
    (
        Kind::Counter,
        "pgbridge_tokens_refused_total",
        "Calls with a token of no session that is alive",
    ),
    (
        Kind::Counter,
        "pgbridge_leases_refused_total",
        "Wishes for a lease that were not allowed, by cause",
    ),
    (Kind::Counter, "pgbridge_leases_issued_total", "Leases handed out, by cluster"),
    (
        Kind::Counter,
        "pgbridge_issue_failed_total",
        "Leases that were allowed but whose role could not be made, by cluster",
    ),
    (
        Kind::Histogram,
        "pgbridge_issue_seconds",
        "How long issuing took, from the decision to the recorded role",
    ),
    (Kind::Gauge, "pgbridge_leases", "Leases that are not over, by cluster and state"),
    (
        Kind::Gauge,
        "pgbridge_unmarked_roles",
        "Roles with a name like ours but without our mark, by cluster",
    ),
    (
        Kind::Gauge,
        "pgbridge_leases_blocked",
        "Ended leases whose role is kept, by cluster and kind of what keeps it",
    ),
    (
        Kind::Gauge,
        "pgbridge_oldest_quarantine_seconds",
        "How long the oldest quarantined lease has had no access, by cluster",
    ),
    (
        Kind::Gauge,
        "pgbridge_orphan_roles",
        "Roles with our mark and without a lease that could not be taken away, by cluster",
    ),
    (
        Kind::Gauge,
        "pgbridge_clock_ahead_seconds",
        "How far a clock is ahead of the broker's time: wall, store, or a cluster by its name",
    ),
    (
        Kind::Gauge,
        "pgbridge_oldest_look_seconds",
        "How long ago the person was looked up who waits longest for it, by way in",
    ),
    (
        Kind::Gauge,
        "pgbridge_people_held_back",
        "People who are missing from their way in, too many at once for what they have to be ended",
    ),
    (
        Kind::Counter,
        "pgbridge_rechecks_total",
        "Looks at people who have a lease or a session, by way in and result",
    ),
];

/// Counters that are shown as zero before the first event, so that a rule on their rate sees it.
/// Those with labels begin with the event.
const ZERO_AT_FIRST: [&str; 5] = [
    "pgbridge_connections_refused_total",
    "pgbridge_certificate_reload_failed_total",
    "pgbridge_map_refused_total",
    "pgbridge_panics_total",
    "pgbridge_tokens_refused_total",
];

fn describe() {
    metrics::with_recorder(|recorder| {
        for (kind, name, meaning) in METRICS.iter().copied() {
            let unit = name.ends_with("_seconds").then_some(Unit::Seconds);
            let (name, meaning) = (name.into(), meaning.into());
            match kind {
                Kind::Counter => recorder.describe_counter(name, unit, meaning),
                Kind::Gauge => recorder.describe_gauge(name, unit, meaning),
                Kind::Histogram => recorder.describe_histogram(name, unit, meaning),
            }
        }
    });
    for counter in ZERO_AT_FIRST {
        counter!(counter).absolute(0);
    }
}

/// Shows what runs here, so that brokers of one store with two maps can be told apart. What was
/// shown before is 0 from then on.
pub(super) fn show_info(map: &MapRevision) {
    static SHOWN: Mutex<Option<MapRevision>> = Mutex::new(None);
    let set = |map: &MapRevision, value: f64| {
        let (version, map) = (env!("CARGO_PKG_VERSION"), map.to_string());
        gauge!("pgbridge_info", "version" => version, "map_revision" => map).set(value);
    };
    let mut shown = SHOWN.lock().unwrap_or_else(PoisonError::into_inner);
    if let Some(before) = shown.as_ref().filter(|before| *before != map) {
        set(before, 0.0);
    }
    set(map, 1.0);
    *shown = Some(map.clone());
}

/// Counts one answer.
pub(super) fn count_request(route: &str, method: &'static str, status: StatusCode, took: Duration) {
    let (route, status) = (route.to_owned(), status.as_u16().to_string());
    histogram!("http_request_seconds", "route" => route.clone(), "method" => method)
        .record(took.as_secs_f64());
    counter!("http_requests_total", "route" => route, "method" => method, "status" => status)
        .increment(1);
}

/// Shows the health of the broker and its parties.
pub(super) fn show_health(health: &Health) {
    let number = |up: bool| if up { 1.0 } else { 0.0 };
    gauge!("pgbridge_ready").set(number(health.is_ready()));
    let show = |kind: &'static str, name: &str, part: PartHealth| {
        gauge!("pgbridge_up", "kind" => kind, "name" => name.to_owned())
            .set(number(part == PartHealth::Up));
    };
    show("store", "", health.store);
    health.ways.iter().for_each(|(name, part)| show("way", name, *part));
    health.clusters.iter().for_each(|(name, part)| show("cluster", name, *part));
}
