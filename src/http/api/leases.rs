//! `/v1/leases`: one's own leases.

use axum::Json as Answer;
use axum::extract::{Path, State};
use axum::http::{HeaderMap, StatusCode};
use axum::response::{IntoResponse, Response};
use serde::Deserialize;
use utoipa::{IntoParams, ToSchema};

use super::answers::{IssuedAnswer, LeaseAnswer, LeasesAnswer, issued};
use crate::broker::{Broker, Wish};
use crate::http::body::{Json, MaybeJson, Query};
use crate::http::caller::{ByCredential, ByToken};
use crate::http::context::Context;
use crate::http::error::no_such_lease;
use crate::http::finish::to_the_end;
use crate::http::problem::{Kind, Problem};
use crate::lease::{Lease, LeaseState};
use crate::names::{LeaseId, RequestKey, Ttl};

/// Header with the client's key for a wish (draft-ietf-httpapi-idempotency-key-header).
const IDEMPOTENCY_KEY: &str = "idempotency-key";

/// A wish for a lease.
#[derive(Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
#[schema(as = Wish)]
pub(in crate::http) struct WishBody {
    /// The cluster.
    #[schema(example = "orders")]
    cluster: String,
    /// The role; may be left out when exactly one is on offer there.
    #[schema(example = "orders_read")]
    role: Option<String>,
    /// The database; the first that the role is lent for when left out.
    #[schema(example = "orders")]
    database: Option<String>,
    /// How long, such as `15m` or `1h30m`; the role's own TTL when left out.
    #[schema(example = "15m")]
    ttl: Option<String>,
    /// Why, at most 500 characters.
    #[schema(example = "look into ticket 4711")]
    reason: Option<String>,
    /// The client's own key for this wish, 1 to 128 visible ASCII characters: asking again with
    /// it ends the lease of the first time and hands out a new one. The header
    /// `Idempotency-Key` does the same.
    #[schema(example = "8e03978e-40d5-43dd-bc93-6894a57f9324")]
    idempotency_key: Option<String>,
}

/// A wish for more time.
#[derive(Default, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub(in crate::http) struct Renewal {
    /// How long from now, such as `15m`; this may also shorten the lease. When left out it is the
    /// role's own TTL, and never shortens.
    #[schema(example = "15m")]
    ttl: Option<String>,
}

/// Which leases to list.
#[derive(Default, Deserialize, IntoParams)]
#[serde(deny_unknown_fields)]
#[into_params(parameter_in = Query)]
pub(in crate::http) struct StateQuery {
    /// Only leases in this state, or in one of these: `active` or `active,revoking`.
    #[param(example = "active")]
    state: Option<String>,
}

/// Which lease.
#[derive(Deserialize, IntoParams)]
#[into_params(parameter_in = Path)]
pub(in crate::http) struct LeasePath {
    /// The lease.
    #[param(example = "abcdefghijklmnop")]
    id: String,
}

impl LeasePath {
    /// Its id. A text that is none is a lease that does not exist.
    pub(super) fn id(&self) -> Result<LeaseId, Problem> {
        self.id.parse().map_err(|_| no_such_lease())
    }
}

/// Issue a lease
///
/// Makes a role on the cluster and hands out its password, once. Takes a session, a name and a
/// password by HTTP Basic, or a ticket (`Authorization: Negotiate`).
#[utoipa::path(
    post,
    path = "/v1/leases",
    operation_id = "issue",
    tag = "leases",
    security(("session" = []), ("password" = []), ("ticket" = [])),
    params(
        ("Idempotency-Key" = Option<String>, Header, description = "The same as the field `idempotency_key`"),
        ("X-Pgbridge-Way" = Option<String>, Header, description = "With a password or a ticket: the way in, when there is more than one"),
    ),
    request_body = WishBody,
    responses(
        (status = 201, description = "The lease with its password", body = IssuedAnswer,
            headers(("location" = String, description = "Path of the lease"))),
        (status = 403, description = "`not-on-offer`, `login-too-old`"),
        (status = 409, description = "`in-progress`, `overtaken`, `too-many-leases`"),
        (status = 422, description = "`role-needed`, `database-not-lent`, `ttl-unfit`, `ttl-too-long`, `reason-needed`, `reason-unfit`, `key-unfit`, `body-unfit`"),
        (status = 429, description = "Too many attempts from this address: `too-many-attempts`"),
        (status = 502, description = "The cluster did not make the role: `role-not-created`"),
        (status = 503, description = "Nothing was issued because a party is away: `cluster-away`"),
    ),
)]
pub(in crate::http) async fn issue(
    State(broker): State<Broker>,
    ByCredential(caller): ByCredential,
    context: Context,
    headers: HeaderMap,
    Json(body): Json<WishBody>,
) -> Result<Response, Problem> {
    let wish = Wish {
        ttl: ttl(body.ttl.as_deref())?,
        request_key: request_key(&headers, body.idempotency_key)?,
        cluster: body.cluster,
        role: body.role,
        database: body.database,
        reason: body.reason,
    };
    // The use case itself goes on when the client goes away, and then ends the lease: it must
    // see that nobody waits any more.
    let credential = broker.issue(&context.request, &caller, wish).await?;
    Ok(issued(&credential))
}

/// My leases
///
/// Newest first, at most 1,000.
#[utoipa::path(
    get,
    path = "/v1/leases",
    operation_id = "leases",
    tag = "leases",
    params(StateQuery),
    responses(
        (status = 200, description = "The caller's leases", body = LeasesAnswer),
        (status = 422, description = "`query-unfit`"),
    ),
)]
pub(in crate::http) async fn list(
    State(broker): State<Broker>,
    ByToken(caller): ByToken,
    Query(query): Query<StateQuery>,
) -> Result<Answer<LeasesAnswer>, Problem> {
    let states = states(query.state.as_deref())?;
    let leases = broker.leases(&caller, states).await?;
    Ok(Answer(LeasesAnswer::of(&leases)))
}

/// One of my leases
///
/// Another person's lease is answered like one that does not exist.
#[utoipa::path(
    get,
    path = "/v1/leases/{id}",
    operation_id = "lease",
    tag = "leases",
    params(LeasePath),
    responses(
        (status = 200, description = "The lease", body = LeaseAnswer),
        (status = 404, description = "There is no such lease of the caller's: `not-found`"),
    ),
)]
pub(in crate::http) async fn show(
    State(broker): State<Broker>,
    ByToken(caller): ByToken,
    context: Context,
    Path(lease): Path<LeasePath>,
) -> Result<Answer<LeaseAnswer>, Problem> {
    let lease = broker.lease(&context.request, &caller, lease.id()?).await?;
    Ok(Answer(LeaseAnswer::of(&lease)))
}

/// Renew one of my leases
///
/// Moves its end to `ttl` from now, never past its ceiling. The person is looked up in the directory
/// first; if the role is not on offer to them any more, the lease ends.
#[utoipa::path(
    post,
    path = "/v1/leases/{id}/renew",
    operation_id = "renew",
    tag = "leases",
    params(LeasePath),
    request_body = Renewal,
    responses(
        (status = 200, description = "The lease with its new end", body = LeaseAnswer),
        (status = 403, description = "The role is not on offer, and the lease ends if that is so from where it was issued: `not-on-offer`"),
        (status = 404, description = "There is no such lease of the caller's: `not-found`"),
        (status = 409, description = "`lease-over`, `overtaken`"),
        (status = 422, description = "`ttl-unfit`, `ttl-too-long`, `body-unfit`"),
        (status = 502, description = "The cluster did not move the end: `not-extended`"),
        (status = 503, description = "`not-ready`, `directory-away`"),
    ),
)]
pub(in crate::http) async fn renew(
    State(broker): State<Broker>,
    ByToken(caller): ByToken,
    context: Context,
    Path(lease): Path<LeasePath>,
    MaybeJson(renewal): MaybeJson<Renewal>,
) -> Result<Answer<LeaseAnswer>, Problem> {
    let (id, ttl) = (lease.id()?, ttl(renewal.ttl.as_deref())?);
    let request = context.request;
    let renewed = to_the_end(async move { broker.renew(&request, &caller, id, ttl).await });
    Ok(Answer(LeaseAnswer::of(&renewed.await?)))
}

/// Revoke one of my leases
///
/// Ends its access and drops its role. The answer waits a while; when the role is not gone by
/// then the status is 202, and the work goes on. Revoking a lease that is over is no error.
#[utoipa::path(
    delete,
    path = "/v1/leases/{id}",
    operation_id = "revoke",
    tag = "leases",
    params(LeasePath),
    responses(
        (status = 200, description = "Nothing of the lease is left on the cluster", body = LeaseAnswer),
        (status = 202, description = "The lease is being taken away", body = LeaseAnswer),
        (status = 404, description = "There is no such lease of the caller's: `not-found`"),
    ),
)]
pub(in crate::http) async fn revoke(
    State(broker): State<Broker>,
    ByToken(caller): ByToken,
    context: Context,
    Path(lease): Path<LeasePath>,
) -> Result<Response, Problem> {
    let (id, request) = (lease.id()?, context.request);
    let revoked = to_the_end(async move { broker.revoke(&request, &caller, id).await });
    let lease = revoked.await?;
    Ok((end_status([&lease]), Answer(LeaseAnswer::of(&lease))).into_response())
}

/// 200 when nothing is left of any lease, 202 while something is.
pub(super) fn end_status<'a>(leases: impl IntoIterator<Item = &'a Lease>) -> StatusCode {
    let all_gone = leases.into_iter().all(|lease| lease.state.is_final());
    if all_gone { StatusCode::OK } else { StatusCode::ACCEPTED }
}

fn ttl(text: Option<&str>) -> Result<Option<Ttl>, Problem> {
    let read = |text: &str| {
        text.parse::<Ttl>().map_err(|error| Problem::new(Kind::TtlUnfit, error.to_string()))
    };
    text.map(read).transpose()
}

/// The states in a query, by their words.
pub(super) fn states(text: Option<&str>) -> Result<Vec<LeaseState>, Problem> {
    let words = text.into_iter().flat_map(|text| text.split(','));
    let state = |word: &str| {
        let known = LeaseState::ALL.into_iter().find(|state| state.as_str() == word);
        known.ok_or_else(|| {
            let words = LeaseState::ALL.map(LeaseState::as_str).join(", ");
            Problem::new(Kind::QueryUnfit, format!("a state is one of: {words}"))
        })
    };
    words.map(state).collect()
}

/// The key from the header or the body; both may be given if they are equal.
fn request_key(headers: &HeaderMap, field: Option<String>) -> Result<Option<RequestKey>, Problem> {
    let unfit = |detail: String| Problem::new(Kind::KeyUnfit, detail);
    let mut values = headers.get_all(IDEMPOTENCY_KEY).iter();
    let header = match (values.next(), values.next()) {
        (None, _) => None,
        (Some(value), None) => Some(bare(value.to_str().unwrap_or_default())),
        (Some(_), Some(_)) => {
            return Err(unfit("there is more than one header `idempotency-key`".to_owned()));
        }
    };
    if let (Some(header), Some(field)) = (&header, &field)
        && header != field
    {
        return Err(unfit("header and body hold different keys".to_owned()));
    }
    let read = |key: String| {
        key.parse().map_err(|error: crate::names::RequestKeyError| unfit(error.to_string()))
    };
    header.or(field).map(read).transpose()
}

/// The draft writes the key as a string in quotes (RFC 8941 section 3.3.3); many clients leave
/// the quotes out.
fn bare(text: &str) -> String {
    let quoted = text.strip_prefix('"').and_then(|text| text.strip_suffix('"'));
    let Some(quoted) = quoted else { return text.to_owned() };
    let mut letters = quoted.chars();
    let mut key = String::with_capacity(quoted.len());
    while let Some(letter) = letters.next() {
        key.push(if letter == '\\' { letters.next().unwrap_or(letter) } else { letter });
    }
    key
}

#[cfg(test)]
mod tests {
    use axum::http::HeaderValue;

    use super::*;

    #[track_caller]
    fn check(header: &[&'static str], field: Option<&str>, key: Result<Option<&str>, Kind>) {
        let mut headers = HeaderMap::new();
        for value in header {
            headers.append(IDEMPOTENCY_KEY, HeaderValue::from_static(value));
        }
        let read = request_key(&headers, field.map(str::to_owned));
        let read = read.map_err(|problem| problem.kind());
        let text = read.as_ref().map(|key| key.as_ref().map(RequestKey::as_str));
        assert_eq!(text, key.as_ref().map(|key| *key));
    }

    #[test]
    fn a_key_comes_from_the_header_or_the_body_and_not_from_both() {
        check(&[], None, Ok(None));
        check(&["k-1"], None, Ok(Some("k-1")));
        check(&["\"k-1\""], None, Ok(Some("k-1")));
        check(&[r#""a\"b\\""#], None, Ok(Some(r#"a"b\"#)));
        check(&[], Some("k-1"), Ok(Some("k-1")));
        check(&["\"k-1\""], Some("k-1"), Ok(Some("k-1")));
        check(&["k-1"], Some("k-2"), Err(Kind::KeyUnfit));
        check(&["k-1", "k-1"], None, Err(Kind::KeyUnfit));
        check(&[""], None, Err(Kind::KeyUnfit));
        check(&[], Some("a b"), Err(Kind::KeyUnfit));
    }

    #[test]
    fn states_are_known_words() {
        assert_eq!(states(None).unwrap(), []);
        assert_eq!(states(Some("active")).unwrap(), [LeaseState::Active]);
        let two = [LeaseState::Active, LeaseState::Revoking];
        assert_eq!(states(Some("active,revoking")).unwrap(), two);
        for bad in ["", "Active", "active,", "gone"] {
            assert_eq!(states(Some(bad)).unwrap_err().kind(), Kind::QueryUnfit, "{bad}");
        }
    }
}
