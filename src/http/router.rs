//! Every path, on one page, and the layers around them.

use std::sync::Arc;
use std::time::Duration;

use axum::Router;
use axum::body::Bytes;
use axum::extract::FromRef;
use axum::http::header::{AUTHORIZATION, CONTENT_TYPE, LOCATION, RETRY_AFTER};
use axum::http::{HeaderName, HeaderValue, Method};
use axum::middleware::from_fn_with_state;
use axum::response::{IntoResponse, Response};
use tower_http::cors::{AllowOrigin, CorsLayer};
use utoipa::openapi::OpenApi;
use utoipa_axum::router::OpenApiRouter;
use utoipa_axum::routes;

use super::api::{leases, map, operator, roles, session, status};
use super::body::BodyLimits;
use super::caller::WAY_HEADER;
use super::drain::drain;
use super::finish::{Finish, REQUEST_ID, finish, in_time};
use super::guard::{Place, guard};
use super::openapi;
use super::problem::Problem;
use super::telemetry::metrics;
use crate::broker::Broker;
use crate::config::{ServerSettings, Transport};

/// Every path there is. What is not here does not exist, and what is here is documented: both
/// are made from this list.
fn paths() -> OpenApiRouter<App> {
    OpenApiRouter::with_openapi(openapi::base())
        .routes(routes!(session::login))
        .routes(routes!(session::logout))
        .routes(routes!(session::whoami))
        .routes(routes!(roles::roles))
        .routes(routes!(leases::issue, leases::list))
        .routes(routes!(leases::show, leases::revoke))
        .routes(routes!(leases::renew))
        .routes(routes!(operator::list))
        .routes(routes!(operator::revoke))
        .routes(routes!(operator::declare_gone))
        .routes(routes!(map::explain))
        .routes(routes!(map::who_can))
        .routes(routes!(map::what_can))
        .routes(routes!(map::explain_lease))
        .routes(routes!(status::healthz))
        .routes(routes!(status::readyz))
        .routes(routes!(status::show_metrics))
        .routes(routes!(status::openapi))
}

/// What handlers may ask for.
#[derive(Clone, FromRef)]
struct App {
    broker: Broker,
    limits: BodyLimits,
    metrics_networks: status::MetricsNetworks,
    document: status::Document,
}

/// The document of all paths, and the paths.
pub(super) fn documented() -> (OpenApi, impl FnOnce(AppParts) -> Router) {
    let (router, mut document) = paths().split_for_parts();
    openapi::complete(&mut document);
    (document, move |parts: AppParts| router.with_state(parts.0))
}

/// What the paths need to become a service.
pub(super) struct AppParts(App);

/// The whole API in front of `broker`. Each request must carry the peer's address as
/// [`axum::extract::ConnectInfo`].
pub fn router(broker: Broker, settings: &ServerSettings) -> Router {
    // From now on whatever is counted is shown.
    metrics();
    let (document, with_app) = documented();
    // A document that cannot be written would be seen by the tests; then it is empty.
    let document = Bytes::from(document.to_pretty_json().unwrap_or_default());
    let app = App {
        broker,
        limits: limits(settings),
        metrics_networks: status::MetricsNetworks(settings.metrics_networks.as_slice().into()),
        document: status::Document(document),
    };
    let router = with_app(AppParts(app)).fallback(no_such_path);
    layered(router, settings)
}

fn limits(settings: &ServerSettings) -> BodyLimits {
    BodyLimits { size: settings.max_body, within: settings.header_timeout }
}

async fn no_such_path() -> Response {
    Problem::no_such_path().into_response()
}

/// The layers, the outermost last.
fn layered(router: Router, settings: &ServerSettings) -> Router {
    let place = Arc::new(Place::new(&settings.public_url, &settings.allowed_origins));
    let tls = matches!(settings.transport, Transport::Tls { .. });
    let router = router
        .layer(from_fn_with_state(settings.request_timeout, in_time))
        .layer(from_fn_with_state(place, guard));
    let router = match cors(&settings.allowed_origins) {
        Some(cors) => router.layer(cors),
        None => router,
    };
    router
        .layer(from_fn_with_state(Finish { tls }, finish))
        .layer(from_fn_with_state(limits(settings), drain))
}

/// Cross-origin calls for exactly these origins, or none at all. Never with credentials that a
/// browser adds by itself (Fetch Standard, 3.3.2).
fn cors(origins: &[String]) -> Option<CorsLayer> {
    if origins.is_empty() {
        return None;
    }
    let origins = origins.iter().filter_map(|origin| HeaderValue::from_str(origin).ok());
    let sent = [
        AUTHORIZATION,
        CONTENT_TYPE,
        HeaderName::from_static("idempotency-key"),
        HeaderName::from_static(WAY_HEADER),
    ];
    let layer = CorsLayer::new()
        .allow_origin(AllowOrigin::list(origins))
        .allow_methods([Method::GET, Method::POST, Method::DELETE])
        .allow_headers(sent)
        .expose_headers([REQUEST_ID, RETRY_AFTER, LOCATION])
        .max_age(Duration::from_mins(10));
    Some(layer)
}

#[cfg(test)]
mod tests;
