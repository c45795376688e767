//! Metrics: what there is, what each means, and how Prometheus reads it.

use std::sync::OnceLock;
use std::time::Duration;

use axum::http::StatusCode;
use metrics::{
    Unit, counter, describe_counter, describe_gauge, describe_histogram, gauge, histogram,
};
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

/// Says what every metric means. A counter that was never counted is shown as zero where its
/// labels are known, so that a rule on its rate sees the first event.
fn describe() {
    describe_counter!(
        "http_requests_total",
        "Requests answered, by route (the pattern of the path), method and status"
    );
    describe_histogram!(
        "http_request_seconds",
        Unit::Seconds,
        "How long answers took, by route and method"
    );
    describe_gauge!("pgbridge_connections", "Connections of clients that are open now");
    describe_counter!(
        "pgbridge_connections_refused_total",
        "Connections closed at once because too many were open, in all or from one address"
    );
    describe_gauge!(
        "pgbridge_certificate_expires_seconds",
        Unit::Seconds,
        "When the certificate of the listener ends, in seconds since 1970"
    );
    describe_counter!(
        "pgbridge_certificate_reload_failed_total",
        "Renewed certificate files that could not be used; the old certificate is still in use"
    );
    describe_gauge!(
        "pgbridge_info",
        "Always 1, by the version of pgbridge and the revision of its map (SHA-256 of the file)"
    );
    describe_gauge!("pgbridge_ready", "1 when somebody can be served, else 0");
    describe_gauge!(
        "pgbridge_up",
        "1 when a party the broker needs can be used, else 0, by kind (store, way, cluster) and name"
    );
    describe_counter!(
        "pgbridge_logins_refused_total",
        "Logins that were refused or could not be judged, by cause"
    );
    describe_counter!(
        "pgbridge_tokens_refused_total",
        "Calls with a token of no session that is alive"
    );
    describe_counter!(
        "pgbridge_leases_refused_total",
        "Wishes for a lease that were not allowed, by cause"
    );
    describe_counter!("pgbridge_leases_issued_total", "Leases handed out, by cluster");
    describe_counter!(
        "pgbridge_issue_failed_total",
        "Leases that were allowed but whose role could not be made, by cluster"
    );
    describe_histogram!(
        "pgbridge_issue_seconds",
        Unit::Seconds,
        "How long issuing took, from the decision to the recorded role"
    );
    describe_gauge!("pgbridge_leases", "Leases that are not over, by cluster and state");
    describe_gauge!(
        "pgbridge_unmarked_roles",
        "Roles with a name like ours but without our mark, by cluster"
    );
    describe_gauge!(
        "pgbridge_leases_blocked",
        "Ended leases whose role is kept, by cluster and kind of what keeps it"
    );
    describe_gauge!(
        "pgbridge_oldest_quarantine_seconds",
        Unit::Seconds,
        "How long the oldest quarantined lease has had no access, by cluster"
    );
    describe_gauge!(
        "pgbridge_orphan_roles",
        "Roles with our mark and without a lease that could not be taken away, by cluster"
    );
    describe_gauge!(
        "pgbridge_clock_ahead_seconds",
        Unit::Seconds,
        "How far a clock is ahead of the broker's time: wall, store, or a cluster by its name"
    );
    describe_gauge!(
        "pgbridge_oldest_look_seconds",
        Unit::Seconds,
        "How long ago the person was looked up who waits longest for it, by way in"
    );
    describe_gauge!(
        "pgbridge_people_held_back",
        "People who are missing from their way in, too many at once for what they have to be ended"
    );
    describe_counter!(
        "pgbridge_rechecks_total",
        "Looks at people who have a lease or a session, by way in and result"
    );
    counter!("pgbridge_connections_refused_total").absolute(0);
    counter!("pgbridge_certificate_reload_failed_total").absolute(0);
    counter!("pgbridge_tokens_refused_total").absolute(0);
}

/// Shows what runs here, so that brokers of one store with two maps can be told apart.
pub(super) fn show_info(map: &MapRevision) {
    let version = env!("CARGO_PKG_VERSION");
    gauge!("pgbridge_info", "version" => version, "map_revision" => map.to_string()).set(1.0);
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
