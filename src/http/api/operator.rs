//! `/v1/operator`: everybody's leases, for auditors and operators.

use axum::Json as Answer;
use axum::extract::State;
use axum::response::{IntoResponse, Response};
use serde::Deserialize;
use utoipa::{IntoParams, ToSchema};

use super::answers::LeasesAnswer;
use super::leases::{end_status, states};
use crate::broker::{Broker, Listing};
use crate::http::body::{Json, Query};
use crate::http::caller::ByToken;
use crate::http::context::Context;
use crate::http::finish::to_the_end;
use crate::http::problem::{Kind, Problem};

/// Which leases to list.
#[derive(Default, Deserialize, IntoParams)]
#[serde(deny_unknown_fields)]
#[into_params(parameter_in = Query)]
pub(in crate::http) struct ListingQuery {
    /// Only of this person: `method:issuer:name`, or `method:name` for everybody of that name.
    #[param(example = "ldap:corp:alice")]
    person: Option<String>,
    /// Only on this cluster.
    #[param(example = "orders")]
    cluster: Option<String>,
    /// Only leases in this state, or in one of these: `active` or `active,revoking`.
    #[param(example = "active")]
    state: Option<String>,
}

/// Whose leases to end.
#[derive(Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub(in crate::http) struct RevokePerson {
    /// The person: `method:issuer:name`, or `method:name` for everybody of that name.
    #[schema(example = "ldap:corp:alice")]
    person: String,
}

/// Everybody's leases
///
/// Newest first, at most 1,000. Needs the duty of auditor or operator; reading is recorded.
#[utoipa::path(
    get,
    path = "/v1/operator/leases",
    operation_id = "all_leases",
    tag = "operator",
    params(ListingQuery),
    responses(
        (status = 200, description = "The leases", body = LeasesAnswer),
        (status = 403, description = "`duty-needed`"),
        (status = 422, description = "`query-unfit`, `person-unfit`"),
    ),
)]
pub(in crate::http) async fn list(
    State(broker): State<Broker>,
    ByToken(caller): ByToken,
    context: Context,
    Query(query): Query<ListingQuery>,
) -> Result<Answer<LeasesAnswer>, Problem> {
    let unfit = |error: crate::names::LabelError| Problem::new(Kind::QueryUnfit, error.to_string());
    let listing = Listing {
        person: query.person,
        cluster: query.cluster.map(|name| name.parse().map_err(unfit)).transpose()?,
        states: states(query.state.as_deref())?,
    };
    let leases = broker.all_leases(&context.request, &caller, listing).await?;
    Ok(Answer(LeasesAnswer::of(&leases)))
}

/// Revoke by person
///
/// Ends every lease of a person. Needs the duty of operator. The answer waits a while; when a
/// role is not gone by then the status is 202, and the work goes on.
#[utoipa::path(
    post,
    path = "/v1/operator/revoke",
    operation_id = "revoke_person",
    tag = "operator",
    request_body = RevokePerson,
    responses(
        (status = 200, description = "The leases that were ended; nothing of them is left", body = LeasesAnswer),
        (status = 202, description = "The leases that were ended; some are still being taken away", body = LeasesAnswer),
        (status = 403, description = "`duty-needed`"),
        (status = 422, description = "`person-unfit`"),
    ),
)]
pub(in crate::http) async fn revoke(
    State(broker): State<Broker>,
    ByToken(caller): ByToken,
    context: Context,
    Json(body): Json<RevokePerson>,
) -> Result<Response, Problem> {
    let request = context.request;
    let ended =
        to_the_end(async move { broker.revoke_person(&request, &caller, body.person).await });
    let leases = ended.await?;
    Ok((end_status(&leases), Answer(LeasesAnswer::of(&leases))).into_response())
}
