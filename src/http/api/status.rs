//! `/healthz`, `/readyz`, `/metrics`, `/openapi.json`: for machines that watch, without a name.

use std::time::Duration;

use axum::Json as Answer;
use axum::body::Bytes;
use axum::extract::State;
use axum::http::StatusCode;
use axum::http::header::CONTENT_TYPE;
use axum::response::{IntoResponse, Response};
use ipnet::IpNet;
use serde::Serialize;
use tokio::time::timeout;
use utoipa::ToSchema;

use crate::broker::{Broker, Health, MapHealth, PartHealth};
use crate::http::context::Context;
use crate::http::problem::Problem;
use crate::http::telemetry::{metrics, show_health, show_info};

/// Longest wait for the parties of the broker to answer a question about their health.
const HEALTH_WITHIN: Duration = Duration::from_secs(5);

/// The OpenAPI document as it is sent.
#[derive(Clone)]
pub(in crate::http) struct Document(pub(in crate::http) Bytes);

/// Networks that may read the metrics.
#[derive(Clone)]
pub(in crate::http) struct MetricsNetworks(pub(in crate::http) std::sync::Arc<[IpNet]>);

/// The process is alive.
#[derive(Serialize, ToSchema)]
pub(in crate::http) struct Alive {
    /// Always `alive`.
    #[schema(example = "alive")]
    status: &'static str,
}

/// Whether somebody can be served. Parties are not named: anybody may ask.
#[derive(Serialize, ToSchema)]
pub(in crate::http) struct Readiness {
    /// `ready`, `starting` while no cluster was looked at yet, or `not ready`.
    #[schema(example = "ready")]
    status: &'static str,
    /// The broker's own database: `up` or `down`.
    #[schema(example = "up")]
    store: &'static str,
    /// The ways in: `up`, `down`, or `partly` when some are down.
    #[schema(example = "up")]
    ways: &'static str,
    /// The clusters: `up`, `starting`, `down`, or `partly` when only some are up.
    #[schema(example = "up")]
    clusters: &'static str,
    /// The map: `current`, or `stale` when its files have changed and cannot be used, so that the
    /// one before is in force. Somebody can be served all the same.
    #[schema(example = "current")]
    map: &'static str,
}

impl Readiness {
    fn of(health: &Health) -> Self {
        let ways = health.ways.iter().map(|(_, part)| *part);
        let clusters = health.clusters.iter().map(|(_, part)| *part);
        Self {
            status: match (health.is_ready(), health.is_starting()) {
                (true, _) => "ready",
                (false, true) => "starting",
                (false, false) => "not ready",
            },
            store: word([health.store]),
            ways: word(ways),
            clusters: word(clusters),
            map: match health.map {
                MapHealth::Current => "current",
                MapHealth::Stale => "stale",
            },
        }
    }

    const UNKNOWN: Self = Self {
        status: "not ready",
        store: "unknown",
        ways: "unknown",
        clusters: "unknown",
        map: "unknown",
    };
}

fn word(parts: impl IntoIterator<Item = PartHealth>) -> &'static str {
    let (up, others): (Vec<_>, Vec<_>) =
        parts.into_iter().partition(|part| *part == PartHealth::Up);
    match (up.is_empty(), others.is_empty()) {
        (false, true) => "up",
        (false, false) => "partly",
        (true, _) if others.contains(&PartHealth::Starting) => "starting",
        (true, _) => "down",
    }
}

/// Is it alive
///
/// The process answers. Nothing else is asked.
#[utoipa::path(
    get,
    path = "/healthz",
    operation_id = "healthz",
    tag = "status",
    security(()),
    responses((status = 200, description = "Alive", body = Alive)),
)]
pub(in crate::http) async fn healthz() -> Answer<Alive> {
    Answer(Alive { status: "alive" })
}

/// Is it ready
///
/// The store, a way in and a cluster can be used. The answer is at most five seconds old.
#[utoipa::path(
    get,
    path = "/readyz",
    operation_id = "readyz",
    tag = "status",
    security(()),
    responses(
        (status = 200, description = "Somebody can be served", body = Readiness),
        (status = 503, description = "Nobody can be served now, or not yet", body = Readiness),
    ),
)]
pub(in crate::http) async fn readyz(State(broker): State<Broker>) -> Response {
    let asked = timeout(HEALTH_WITHIN, broker.health()).await;
    let Ok(health) = asked else { return NotAProblem(Readiness::UNKNOWN).into_response() };
    show_health(&health);
    let readiness = Readiness::of(&health);
    if health.is_ready() {
        Answer(readiness).into_response()
    } else {
        NotAProblem(readiness).into_response()
    }
}

/// A 503 whose body is an answer.
struct NotAProblem(Readiness);

impl IntoResponse for NotAProblem {
    fn into_response(self) -> Response {
        let mut response = (StatusCode::SERVICE_UNAVAILABLE, Answer(self.0)).into_response();
        response.extensions_mut().insert(Whole);
        response
    }
}

/// Marks an error status whose body is complete, so that no problem takes its place.
#[derive(Clone, Copy)]
pub(in crate::http) struct Whole;

/// Metrics
///
/// For Prometheus. Only for the networks that the configuration names; to others there is nothing
/// at this path.
#[utoipa::path(
    get,
    path = "/metrics",
    operation_id = "metrics",
    tag = "status",
    security(()),
    responses(
        (status = 200, description = "Every metric, in the text format of Prometheus", body = String, content_type = "text/plain"),
        (status = 404, description = "`not-found`"),
    ),
)]
pub(in crate::http) async fn show_metrics(
    State(networks): State<MetricsNetworks>,
    State(broker): State<Broker>,
    context: Context,
) -> Result<Response, Problem> {
    let client = context.client();
    if !networks.0.iter().any(|network| network.contains(&client)) {
        return Err(Problem::no_such_path());
    }
    show_info(&broker.map_revision());
    let kind = "text/plain; version=0.0.4; charset=utf-8";
    Ok(([(CONTENT_TYPE, kind)], metrics().render()).into_response())
}

/// This document
#[utoipa::path(
    get,
    path = "/openapi.json",
    operation_id = "openapi",
    tag = "status",
    security(()),
    responses((status = 200, description = "The API in OpenAPI 3.1", body = Object, content_type = "application/json")),
)]
pub(in crate::http) async fn openapi(State(Document(document)): State<Document>) -> Response {
    ([(CONTENT_TYPE, "application/json")], document).into_response()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[track_caller]
    fn check(clusters: &[PartHealth], status: &str, word: &str) {
        let named = |part: &PartHealth| (String::new(), *part);
        let health = Health {
            at: jiff::Timestamp::UNIX_EPOCH,
            store: PartHealth::Up,
            ways: vec![named(&PartHealth::Up)],
            clusters: clusters.iter().map(named).collect(),
            map: MapHealth::Current,
        };
        let readiness = Readiness::of(&health);
        assert_eq!((readiness.status, readiness.clusters), (status, word), "{clusters:?}");
        let away = Readiness::of(&Health { store: PartHealth::Down, ..health });
        assert_eq!((away.status, away.store), ("not ready", "down"), "{clusters:?}");
    }

    #[test]
    fn what_was_not_looked_at_yet_is_starting_and_not_down() {
        use PartHealth::{Down, Starting, Up};

        check(&[Up, Up], "ready", "up");
        check(&[Up, Starting], "ready", "partly");
        check(&[Up, Down], "ready", "partly");
        check(&[Starting, Starting], "starting", "starting");
        check(&[Starting, Down], "starting", "starting");
        check(&[Down], "not ready", "down");
        check(&[], "not ready", "down");
    }
}
