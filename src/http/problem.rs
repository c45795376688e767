//! What a client sees when something is refused or fails: RFC 9457 problem details.

use std::borrow::Cow;

use axum::body::Body;
use axum::http::header::{CONTENT_TYPE, RETRY_AFTER, WWW_AUTHENTICATE};
use axum::http::{HeaderMap, HeaderValue, StatusCode};
use axum::response::{IntoResponse, Response};
use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use serde::Serialize;
use utoipa::ToSchema;

/// Media type of a problem (RFC 9457 section 3).
pub(super) const PROBLEM_JSON: &str = "application/problem+json";

/// What every problem's `type` begins with; the rest is the word of its kind.
const TYPE_PREFIX: &str = "urn:pgbridge:problem:";

/// Characters of a detail that a client gets at most: parts of it may be what the client said.
const DETAIL_MAX: usize = 600;

/// The kinds of problem. The word is stable: programs may act on it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Kind {
    BadRequest,
    MalformedJson,
    NotLoggedIn,
    TicketNeeded,
    LoginRefused,
    NotOnOffer,
    LoginTooOld,
    DutyNeeded,
    CrossSite,
    NotFound,
    MethodNotAllowed,
    BodyTooSlow,
    InProgress,
    TooManyLeases,
    LeaseOver,
    Overtaken,
    NotGone,
    BodyTooLarge,
    MediaType,
    WrongHost,
    BodyUnfit,
    QueryUnfit,
    KeyUnfit,
    PersonUnfit,
    SelectionUnfit,
    RoleNeeded,
    DatabaseNotLent,
    TtlUnfit,
    TtlTooLong,
    ReasonNeeded,
    ReasonUnfit,
    TooManyAttempts,
    Internal,
    RoleNotCreated,
    NotExtended,
    StoreAway,
    ClusterAway,
    DirectoryAway,
    NotReady,
    DeskBusy,
    TimedOut,
    Other(StatusCode),
}

impl Kind {
    /// Status, word and title; the title is the same for every problem of the kind.
    fn parts(self) -> (StatusCode, &'static str, &'static str) {
        use StatusCode as S;
        match self {
            Self::BadRequest => (S::BAD_REQUEST, "bad-request", "The request is malformed"),
            Self::MalformedJson => (S::BAD_REQUEST, "malformed-json", "The body is not JSON"),
            Self::NotLoggedIn => (S::UNAUTHORIZED, "not-logged-in", "Log in first"),
            Self::TicketNeeded => (S::UNAUTHORIZED, "ticket-needed", "A ticket is needed"),
            Self::LoginRefused => (S::UNAUTHORIZED, "login-refused", "The login was refused"),
            Self::NotOnOffer => (S::FORBIDDEN, "not-on-offer", "The role is not on offer to you"),
            Self::LoginTooOld => (S::FORBIDDEN, "login-too-old", "The login ends too soon"),
            Self::DutyNeeded => (S::FORBIDDEN, "duty-needed", "This needs a duty you do not have"),
            Self::CrossSite => (S::FORBIDDEN, "cross-site", "The call comes from another site"),
            Self::NotFound => (S::NOT_FOUND, "not-found", "There is no such thing"),
            Self::MethodNotAllowed => {
                (S::METHOD_NOT_ALLOWED, "method-not-allowed", "The method does not fit the path")
            }
            Self::BodyTooSlow => {
                (S::REQUEST_TIMEOUT, "body-too-slow", "The body took too long to arrive")
            }
            Self::InProgress => (S::CONFLICT, "in-progress", "The same request is being worked on"),
            Self::TooManyLeases => {
                (S::CONFLICT, "too-many-leases", "You have too many leases of this role")
            }
            Self::LeaseOver => (S::CONFLICT, "lease-over", "The lease is not active any more"),
            Self::Overtaken => (S::CONFLICT, "overtaken", "The lease has moved meanwhile"),
            Self::NotGone => (S::CONFLICT, "not-gone", "The lease cannot be declared gone"),
            Self::BodyTooLarge => (S::PAYLOAD_TOO_LARGE, "body-too-large", "The body is too large"),
            Self::MediaType => {
                (S::UNSUPPORTED_MEDIA_TYPE, "media-type", "The body must be application/json")
            }
            Self::WrongHost => (S::MISDIRECTED_REQUEST, "wrong-host", "This is another host"),
            Self::BodyUnfit => (S::UNPROCESSABLE_ENTITY, "body-unfit", "The body does not fit"),
            Self::QueryUnfit => (S::UNPROCESSABLE_ENTITY, "query-unfit", "The query does not fit"),
            Self::KeyUnfit => {
                (S::UNPROCESSABLE_ENTITY, "key-unfit", "The idempotency key does not fit")
            }
            Self::PersonUnfit => {
                (S::UNPROCESSABLE_ENTITY, "person-unfit", "Nobody can be named like this")
            }
            Self::SelectionUnfit => {
                (S::UNPROCESSABLE_ENTITY, "selection-unfit", "Nothing says which leases are meant")
            }
            Self::RoleNeeded => (S::UNPROCESSABLE_ENTITY, "role-needed", "A role must be named"),
            Self::DatabaseNotLent => (
                S::UNPROCESSABLE_ENTITY,
                "database-not-lent",
                "The role is not lent for this database",
            ),
            Self::TtlUnfit => (S::UNPROCESSABLE_ENTITY, "ttl-unfit", "The TTL cannot be read"),
            Self::TtlTooLong => (S::UNPROCESSABLE_ENTITY, "ttl-too-long", "The TTL is too long"),
            Self::ReasonNeeded => (S::UNPROCESSABLE_ENTITY, "reason-needed", "A reason is needed"),
            Self::ReasonUnfit => {
                (S::UNPROCESSABLE_ENTITY, "reason-unfit", "The reason does not fit")
            }
            Self::TooManyAttempts => {
                (S::TOO_MANY_REQUESTS, "too-many-attempts", "Too many attempts from this address")
            }
            Self::Internal => (S::INTERNAL_SERVER_ERROR, "internal", "Something went wrong here"),
            Self::RoleNotCreated => {
                (S::BAD_GATEWAY, "role-not-created", "The cluster did not make the role")
            }
            Self::NotExtended => {
                (S::BAD_GATEWAY, "not-extended", "The cluster did not move the end of the role")
            }
            Self::StoreAway => {
                (S::SERVICE_UNAVAILABLE, "store-away", "The store cannot be used now")
            }
            Self::ClusterAway => {
                (S::SERVICE_UNAVAILABLE, "cluster-away", "The cluster cannot be asked now")
            }
            Self::DirectoryAway => {
                (S::SERVICE_UNAVAILABLE, "directory-away", "The directory cannot be asked now")
            }
            Self::NotReady => (S::SERVICE_UNAVAILABLE, "not-ready", "The cluster is not ready yet"),
            Self::DeskBusy => (S::SERVICE_UNAVAILABLE, "desk-busy", "The auditors' desk is busy"),
            Self::TimedOut => (S::SERVICE_UNAVAILABLE, "timed-out", "The answer took too long"),
            Self::Other(status) => {
                (status, "other", status.canonical_reason().unwrap_or("The request failed"))
            }
        }
    }

    /// The HTTP status.
    pub(super) fn status(self) -> StatusCode {
        self.parts().0
    }
}

/// A problem on its way to the client. As a response it has no body yet: the outermost layer
/// writes it, since only that knows the request's id.
#[derive(Clone, Debug)]
pub(super) struct Problem {
    kind: Kind,
    detail: Cow<'static, str>,
    retry_after: Option<u64>,
    challenge: Option<&'static str>,
    /// The next token of a negotiation, empty to begin one; nothing where there is none.
    negotiate: Option<Vec<u8>>,
    /// What happened inside, for the log and nobody else.
    cause: Option<String>,
}

/// A problem as the client reads it.
#[derive(Serialize, ToSchema)]
#[schema(as = Problem, example = json!({
    "type": "urn:pgbridge:problem:not-on-offer",
    "title": "The role is not on offer to you",
    "status": 403,
    "detail": "role `orders_owner` on cluster `orders` is not on offer to you",
    "request_id": "0b9b8e0e6f0f4a5f9a3c6d1e2f3a4b5c"
}))]
pub(super) struct ProblemBody<'a> {
    /// `urn:pgbridge:problem:` and a stable word: the kind of problem.
    #[serde(rename = "type")]
    kind: String,
    /// The kind in words, the same for every problem of the kind.
    title: &'a str,
    /// The HTTP status once more.
    #[schema(minimum = 400, maximum = 599)]
    status: u16,
    /// What happened and what to do.
    detail: &'a str,
    /// The request's id, also in the header `x-request-id` and in the broker's logs and audit.
    request_id: &'a str,
}

impl Problem {
    /// A problem of this kind, with what to say about this one.
    pub(super) fn new(kind: Kind, detail: impl Into<Cow<'static, str>>) -> Self {
        Self {
            kind,
            detail: detail.into(),
            retry_after: None,
            challenge: None,
            negotiate: None,
            cause: None,
        }
    }

    /// The same for every path that does not exist, and everything that must look like that.
    pub(super) fn no_such_path() -> Self {
        Self::new(Kind::NotFound, "there is nothing at this path; see /openapi.json")
    }

    /// What a response of another's making, with an error status and no problem, becomes.
    pub(super) fn of_status(status: StatusCode) -> Self {
        match status {
            StatusCode::NOT_FOUND => Self::no_such_path(),
            StatusCode::METHOD_NOT_ALLOWED => {
                Self::new(Kind::MethodNotAllowed, "the methods that fit are in the header `allow`")
            }
            status => Self::new(Kind::Other(status), "the request could not be answered"),
        }
    }

    /// The same, with seconds after which trying again makes sense.
    pub(super) fn retry_after(mut self, seconds: u64) -> Self {
        self.retry_after = Some(seconds);
        self
    }

    /// The same, with the ways to authenticate that the path takes (RFC 9110 section 11.6.1).
    pub(super) fn challenge(mut self, challenge: &'static str) -> Self {
        self.challenge = Some(challenge);
        self
    }

    /// The same, and a negotiation can begin, unless one is under way (RFC 4559 section 4.1).
    pub(super) fn offering_negotiation(mut self) -> Self {
        self.negotiate.get_or_insert_default();
        self
    }

    /// The same, and the negotiation goes on with `token`.
    pub(super) fn going_on_with(mut self, token: Vec<u8>) -> Self {
        self.negotiate = Some(token);
        self
    }

    /// The same, with what happened inside, for the log.
    pub(super) fn because(mut self, cause: impl Into<String>) -> Self {
        self.cause = Some(cause.into());
        self
    }

    /// The kind.
    pub(super) fn kind(&self) -> Kind {
        self.kind
    }

    /// What happened and what to do, as the client reads it.
    #[cfg(test)]
    pub(super) fn detail(&self) -> &str {
        &self.detail
    }

    /// What happened inside, for the log.
    pub(super) fn cause(&self) -> Option<&str> {
        self.cause.as_deref()
    }

    /// The whole answer. `former` gives headers of the response that this one replaces, such as
    /// `allow`.
    pub(super) fn render(&self, request_id: &str, former: HeaderMap) -> Response {
        let (status, word, title) = self.kind.parts();
        let detail = match self.detail.char_indices().nth(DETAIL_MAX) {
            Some((end, _)) => self.detail.get(..end).unwrap_or_default(),
            None => &self.detail,
        };
        let kind = format!("{TYPE_PREFIX}{word}");
        let body = ProblemBody { kind, title, status: status.as_u16(), detail, request_id };
        let body = serde_json::to_vec(&body).unwrap_or_default();
        let mut response = Response::new(Body::from(body));
        *response.status_mut() = status;
        *response.headers_mut() = former;
        let headers = response.headers_mut();
        headers.insert(CONTENT_TYPE, HeaderValue::from_static(PROBLEM_JSON));
        if let Some(seconds) = self.retry_after {
            headers.insert(RETRY_AFTER, seconds.into());
        }
        // In a header of its own, and first: not every client reads a list.
        if let Some(negotiate) = self.negotiate.as_deref().and_then(negotiate) {
            headers.append(WWW_AUTHENTICATE, negotiate);
        }
        if let Some(challenge) = self.challenge {
            headers.append(WWW_AUTHENTICATE, HeaderValue::from_static(challenge));
        }
        response
    }
}

/// The challenge of a negotiation with its next token, or to begin one when that is empty.
pub(super) fn negotiate(token: &[u8]) -> Option<HeaderValue> {
    let text = format!("Negotiate {}", STANDARD.encode(token));
    HeaderValue::from_str(text.trim_end()).ok()
}

impl IntoResponse for Problem {
    fn into_response(self) -> Response {
        let mut response = self.kind.status().into_response();
        response.extensions_mut().insert(self);
        response
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_long_detail_is_cut_between_characters() {
        let problem = Problem::new(Kind::BadRequest, "é".repeat(DETAIL_MAX + 1));
        let response = problem.render("id", HeaderMap::new());
        assert_eq!(response.status(), StatusCode::BAD_REQUEST);
        assert_eq!(response.headers()[CONTENT_TYPE], PROBLEM_JSON);
    }
}
