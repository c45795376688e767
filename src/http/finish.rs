//! The outermost layer: gives each request its id, and every answer its headers, its problem
//! body, its line in the log and its place in the metrics.

use std::future::Future;
use std::panic::{AssertUnwindSafe, resume_unwind};
use std::time::Duration;

use axum::extract::{MatchedPath, Request, State};
use axum::http::header::{
    CACHE_CONTROL, CONTENT_LENGTH, CONTENT_SECURITY_POLICY, REFERRER_POLICY,
    STRICT_TRANSPORT_SECURITY, WWW_AUTHENTICATE, X_CONTENT_TYPE_OPTIONS,
};
use axum::http::{HeaderMap, HeaderName, HeaderValue, Method, StatusCode};
use axum::middleware::Next;
use axum::response::{IntoResponse, Response};
use futures::FutureExt;
use tracing::{error, info, warn};

use super::api::status::Whole;
use super::context::Context;
use super::problem::{Kind, Problem, negotiate};
use super::telemetry;
use crate::clock::Stopwatch;

/// The request's id, on every answer.
pub(super) const REQUEST_ID: HeaderName = HeaderName::from_static("x-request-id");

/// On every answer: nothing of it is kept, guessed at, framed or read by another site (OWASP
/// ASVS 5.0, 3.4 and 14.3.2).
const ALWAYS: [(HeaderName, HeaderValue); 6] = [
    (CACHE_CONTROL, HeaderValue::from_static("no-store")),
    (
        CONTENT_SECURITY_POLICY,
        HeaderValue::from_static("default-src 'none'; frame-ancestors 'none'"),
    ),
    (X_CONTENT_TYPE_OPTIONS, HeaderValue::from_static("nosniff")),
    (REFERRER_POLICY, HeaderValue::from_static("no-referrer")),
    (
        HeaderName::from_static("cross-origin-resource-policy"),
        HeaderValue::from_static("same-origin"),
    ),
    (
        HeaderName::from_static("cross-origin-opener-policy"),
        HeaderValue::from_static("same-origin"),
    ),
];

/// One year (RFC 6797 section 6.1); a browser obeys it only over TLS.
const HSTS: HeaderValue = HeaderValue::from_static("max-age=31536000");

/// What the layer must know.
#[derive(Clone, Copy, Debug)]
pub(super) struct Finish {
    /// Whether answers go out over TLS.
    pub(super) tls: bool,
}

/// The layer.
pub(super) async fn finish(
    State(settings): State<Finish>,
    request: Request,
    next: Next,
) -> Response {
    let started = Stopwatch::start();
    let (mut parts, body) = request.into_parts();
    let Some(context) = Context::new(&parts) else {
        error!("the peer's address was not noted; no request can be answered");
        return StatusCode::INTERNAL_SERVER_ERROR.into_response();
    };
    let route = parts.extensions.get::<MatchedPath>().cloned();
    let method = parts.method.clone();
    parts.extensions.insert(context.clone());
    let answer = next.run(Request::from_parts(parts, body));
    // A panic must cost no more than its own request.
    let answered = AssertUnwindSafe(answer).catch_unwind().await;
    let response = answered.unwrap_or_else(|_| panicked().into_response());
    let response = with_headers(with_problem(response, &context), &context, settings);
    let route = route.as_ref().map_or("unmatched", MatchedPath::as_str);
    note(&context, &method, route, response.status(), started.elapsed());
    response
}

fn panicked() -> Problem {
    let detail = "the administrators can find it by the request's id";
    Problem::new(Kind::Internal, detail).because("the request panicked")
}

/// Writes the problem's body; an error status without a problem gets one.
fn with_problem(mut response: Response, context: &Context) -> Response {
    let status = response.status();
    let problem = response.extensions_mut().remove::<Problem>();
    let is_whole = response.extensions().get::<Whole>().is_some();
    let is_error = !is_whole && (status.is_client_error() || status.is_server_error());
    let problem = problem.or_else(|| is_error.then(|| Problem::of_status(status)));
    let Some(problem) = problem else { return response };
    let id = &context.request.id;
    if let Some(cause) = problem.cause() {
        warn!(request.id = id, status = status.as_u16(), cause, "a request failed");
    }
    let mut former: HeaderMap = std::mem::take(response.headers_mut());
    former.remove(CONTENT_LENGTH);
    problem.render(id, former)
}

fn with_headers(mut response: Response, context: &Context, settings: Finish) -> Response {
    // With a 401 it would read as one more question.
    let ended = response.status() != StatusCode::UNAUTHORIZED;
    let headers = response.headers_mut();
    if let Some(reply) = context.reply().filter(|_| ended).and_then(negotiate) {
        headers.append(WWW_AUTHENTICATE, reply);
    }
    for (name, value) in ALWAYS {
        headers.insert(name, value);
    }
    if settings.tls {
        headers.insert(STRICT_TRANSPORT_SECURITY, HSTS);
    }
    if let Ok(id) = HeaderValue::from_str(&context.request.id) {
        headers.insert(REQUEST_ID, id);
    }
    response
}

/// One line in the log and one count in the metrics. The route is the pattern of the path, not
/// the path: nothing that a client wrote stands in either, but who they proved to be. What machines
/// ask for all the time is logged only when it is no success.
fn note(context: &Context, method: &Method, route: &str, status: StatusCode, took: Duration) {
    let method = method_word(method);
    telemetry::count_request(route, method, status, took);
    let duration_ms = u64::try_from(took.as_millis()).unwrap_or(u64::MAX);
    if status.is_success() && FOR_MACHINES.contains(&route) {
        return;
    }
    info!(
        request.id = context.request.id,
        method,
        route,
        status = status.as_u16(),
        duration_ms,
        client = %context.client(),
        principal = context.principal(),
        "answered"
    );
}

/// Routes that load balancers and Prometheus ask for every few seconds.
const FOR_MACHINES: [&str; 3] = ["/healthz", "/readyz", "/metrics"];

/// The method as one of few words, so that a client cannot make up new metrics.
fn method_word(method: &Method) -> &'static str {
    const WORDS: [&str; 7] = ["GET", "HEAD", "POST", "PUT", "DELETE", "PATCH", "OPTIONS"];
    WORDS.into_iter().find(|word| *word == method.as_str()).unwrap_or("OTHER")
}

/// Answers in time, or says that it cannot.
pub(super) async fn in_time(
    State(within): State<Duration>,
    request: Request,
    next: Next,
) -> Response {
    let answered = tokio::time::timeout(within, next.run(request)).await;
    answered.unwrap_or_else(|_| {
        let detail =
            "what was begun is finished or taken back; look how it ended before you try again";
        Problem::new(Kind::TimedOut, detail).retry_after(5).into_response()
    })
}

/// Does `work` to its end, even when the client goes away or the time for the answer is over:
/// half of it must not stay undone because somebody hung up.
pub(super) async fn to_the_end<Done: Send + 'static>(
    work: impl Future<Output = Done> + Send + 'static,
) -> Done {
    match tokio::spawn(work).await {
        Ok(done) => done,
        Err(failed) => match failed.try_into_panic() {
            Ok(panic) => resume_unwind(panic),
            // The runtime is going down, and this request with it.
            Err(_) => std::future::pending().await,
        },
    }
}
