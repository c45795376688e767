//! `/v1/operator`: everybody's leases, for auditors and operators.

use std::fmt::Display;

use axum::Json as Answer;
use axum::extract::{Path, State};
use axum::http::StatusCode;
use axum::response::{IntoResponse, Response};
use serde::Deserialize;
use utoipa::{IntoParams, ToSchema};

use super::answers::{LeaseAnswer, LeasesAnswer};
use super::leases::{LeasePath, end_status, states};
use crate::broker::{Broker, Listing, Rehearsal, Selection};
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
    /// Only of this group role.
    #[param(example = "orders_read")]
    role: Option<String>,
    /// Only leases in this state, or in one of these: `active` or `active,revoking`.
    #[param(example = "active")]
    state: Option<String>,
}

/// Which leases to end: those that are all of what is named. At least one thing must be named.
#[derive(Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
#[schema(as = Revocation)]
pub(in crate::http) struct RevocationBody {
    /// Of this person: `method:issuer:name`, or `method:name` for everybody of that name.
    #[schema(example = "ldap:corp:alice")]
    person: Option<String>,
    /// On this cluster.
    #[schema(example = "orders")]
    cluster: Option<String>,
    /// Of this group role.
    #[schema(example = "orders_read")]
    role: Option<String>,
    /// The one whose own role has this name, as `pg_stat_activity` shows it.
    #[schema(example = "pgb_alice_abcdefghijklmnop")]
    role_name: Option<String>,
    /// Of people whom this way in does not show any more, such as a directory that was restored
    /// without them. While many are missing at once, what they have is not ended by itself.
    #[schema(example = "corp")]
    missing_from: Option<String>,
    /// Whether only to answer what would end, and to end nothing.
    #[serde(default)]
    #[schema(example = false)]
    dry_run: bool,
}

/// What makes an operator sure that nothing is left of a lease.
#[derive(Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
#[schema(as = Declaration)]
pub(in crate::http) struct DeclarationBody {
    /// How they know, at most 500 characters; it is recorded.
    #[schema(example = "restored from Monday's backup; OID 16500 is the role reports_new")]
    reason: String,
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
    let listing = Listing {
        person: query.person,
        cluster: named(query.cluster, Kind::QueryUnfit)?,
        role: named(query.role, Kind::QueryUnfit)?,
        states: states(query.state.as_deref())?,
    };
    let leases = broker.all_leases(&context.request, &caller, listing).await?;
    Ok(Answer(LeasesAnswer::of(&leases)))
}

/// Revoke by person, role or cluster
///
/// Ends every live lease that is all of what is named, however many. When a person, or people who
/// are missing, and nothing else is named, their logins end too. Needs the duty of operator. The
/// answer waits a while; when a role is not gone by then the status is 202, and the work goes on.
#[utoipa::path(
    post,
    path = "/v1/operator/revoke",
    operation_id = "revoke_selected",
    tag = "operator",
    request_body = RevocationBody,
    responses(
        (status = 200, description = "The leases that were ended, and nothing of them is left; with `dry_run` those that would be", body = LeasesAnswer),
        (status = 202, description = "The leases that were ended; some are still being taken away", body = LeasesAnswer),
        (status = 403, description = "`duty-needed`"),
        (status = 422, description = "`person-unfit`, `selection-unfit`"),
    ),
)]
pub(in crate::http) async fn revoke(
    State(broker): State<Broker>,
    ByToken(caller): ByToken,
    context: Context,
    Json(body): Json<RevocationBody>,
) -> Result<Response, Problem> {
    let request = context.request;
    let rehearsal = if body.dry_run { Rehearsal::Yes } else { Rehearsal::No };
    let selection = selection(body)?;
    let ended =
        to_the_end(
            async move { broker.revoke_selected(&request, &caller, selection, rehearsal).await },
        );
    let leases = ended.await?;
    let status = match rehearsal {
        Rehearsal::Yes => StatusCode::OK,
        Rehearsal::No => end_status(&leases),
    };
    Ok((status, Answer(LeasesAnswer::of(&leases))).into_response())
}

/// Declare a lease gone
///
/// For a lease that is being taken away and cannot be, because the OID of its role belongs to a role
/// that is not the broker's, as after a restored backup, or because its cluster is not in the
/// configuration any more. That role is not touched. Refused while any role of the cluster carries
/// the mark or the name of the lease. Needs the duty of operator; who said it and the reason are
/// recorded.
#[utoipa::path(
    post,
    path = "/v1/operator/leases/{id}/declare-gone",
    operation_id = "declare_gone",
    tag = "operator",
    params(LeasePath),
    request_body = DeclarationBody,
    responses(
        (status = 200, description = "The lease, which is over", body = LeaseAnswer),
        (status = 403, description = "`duty-needed`"),
        (status = 404, description = "There is no such lease: `not-found`"),
        (status = 409, description = "A role of the lease may be there, or the broker takes it away by itself: `not-gone`"),
        (status = 422, description = "`reason-unfit`"),
        (status = 503, description = "`cluster-away`"),
    ),
)]
pub(in crate::http) async fn declare_gone(
    State(broker): State<Broker>,
    ByToken(caller): ByToken,
    context: Context,
    Path(lease): Path<LeasePath>,
    Json(body): Json<DeclarationBody>,
) -> Result<Answer<LeaseAnswer>, Problem> {
    let (id, request) = (lease.id()?, context.request);
    let declared =
        to_the_end(async move { broker.declare_gone(&request, &caller, id, &body.reason).await });
    Ok(Answer(LeaseAnswer::of(&declared.await?)))
}

fn selection(body: RevocationBody) -> Result<Selection, Problem> {
    let kind = Kind::SelectionUnfit;
    Ok(Selection {
        person: body.person,
        cluster: named(body.cluster, kind)?,
        role: named(body.role, kind)?,
        role_name: named(body.role_name, kind)?,
        missing_from: named(body.missing_from, kind)?,
    })
}

/// A name, when one was given; what is none is a problem of `kind`.
fn named<T>(text: Option<String>, kind: Kind) -> Result<Option<T>, Problem>
where
    T: TryFrom<String, Error: Display>,
{
    let unfit = |error: T::Error| Problem::new(kind, error.to_string());
    text.map(|text| T::try_from(text).map_err(unfit)).transpose()
}
