//! `/v1/explain`, `/v1/who-can`, `/v1/what-can` and why a lease was issued: what the map says, for
//! auditors.

mod query;

use axum::Json as Answer;
use axum::extract::{Path, State};
use serde::Serialize;
use utoipa::ToSchema;

use super::leases::LeasePath;
use crate::broker::Broker;
use crate::http::body::Query;
use crate::http::caller::ByToken;
use crate::http::context::Context;
use crate::http::problem::Problem;
use crate::lease::LeaseExplanation;
use crate::mapping::{Explanation, WhatCan, WhoCan};
use query::{ExplainQuery, WhatCanQuery, WhoCanQuery};

/// A query as it is read before it is known which parameters there are.
type Pairs = Query<Vec<(String, String)>>;

/// Explanations.
#[derive(Serialize, ToSchema)]
#[schema(as = Explanations)]
pub(in crate::http) struct ExplanationsAnswer {
    /// One for each way in and role that were meant, in the order of the configuration; one alone for
    /// a duty.
    explanations: Vec<Explanation>,
}

/// What somebody may act as.
#[derive(Serialize, ToSchema)]
#[schema(as = WhatCanAnswer)]
pub(in crate::http) struct WhatAnswer {
    /// One for each way in that was meant, in the order of the configuration.
    people: Vec<WhatCan>,
}

/// Explain a decision of the map
///
/// Whether somebody may act as a role, with every line that is asked and what it says. Name a
/// cluster, and a role of it to be told which lines nearly let them in; or, in place of both, a duty
/// of the broker's own. The name and the groups are taken as given, proven by nothing: it answers
/// what would be if they were somebody's. The map is the one in force now. Needs the duty of
/// auditor; that it was asked is recorded.
#[utoipa::path(
    get,
    path = "/v1/explain",
    operation_id = "explain",
    tag = "map",
    params(ExplainQuery),
    responses(
        (status = 200, description = "The explanations", body = ExplanationsAnswer),
        (status = 403, description = "The caller is no auditor: `duty-needed`"),
        (
            status = 422,
            description = "A parameter is missing, unknown or too long, or names what is not \
                configured, and then `detail` says what is: `query-unfit`"
        ),
        (
            status = 503,
            description = "Nobody can say whether the caller still is an auditor: \
                `directory-away`; or others are being answered: `desk-busy`, with `retry-after`"
        ),
    ),
)]
pub(in crate::http) async fn explain(
    State(broker): State<Broker>,
    ByToken(caller): ByToken,
    context: Context,
    Query(pairs): Pairs,
) -> Result<Answer<ExplanationsAnswer>, Problem> {
    let (person, asked) = ExplainQuery::read(pairs)?.asked()?;
    let explanations = broker.explain(&context.request, &caller, person, asked).await?;
    Ok(Answer(ExplanationsAnswer { explanations }))
}

/// Who may act as a role
///
/// The lines of the map that let somebody act as the role, those that end the scan and so keep
/// somebody from it, and those that give the role and by which nobody comes to it. Where it takes too
/// long to find that out a line is among the first, and says so. Name a cluster and a role of it, or,
/// in place of both, a duty of the broker's own. No directory is asked: `pgbridge who-can
/// --resolve` names the people. Needs the duty of auditor; that it was asked is recorded.
#[utoipa::path(
    get,
    path = "/v1/who-can",
    operation_id = "who_can",
    tag = "map",
    params(WhoCanQuery),
    responses(
        (status = 200, description = "Who may", body = WhoCan),
        (status = 403, description = "The caller is no auditor: `duty-needed`"),
        (
            status = 422,
            description = "A parameter is missing or unknown, or names what is not configured, and \
                then `detail` says what is: `query-unfit`"
        ),
        (
            status = 503,
            description = "Nobody can say whether the caller still is an auditor: \
                `directory-away`; or others are being answered: `desk-busy`, with `retry-after`"
        ),
    ),
)]
pub(in crate::http) async fn who_can(
    State(broker): State<Broker>,
    ByToken(caller): ByToken,
    context: Context,
    Query(pairs): Pairs,
) -> Result<Answer<WhoCan>, Problem> {
    let asked = WhoCanQuery::read(pairs)?.asked()?;
    Ok(Answer(broker.who_can(&context.request, &caller, asked).await?))
}

/// As what somebody may act
///
/// Every role that somebody of this name and in these groups may act as, and every duty of the
/// broker's own that they have, each with the line that gives it. Name all their groups: the map may
/// give more to a group that is not named. Needs the duty of auditor; that it was asked is recorded.
#[utoipa::path(
    get,
    path = "/v1/what-can",
    operation_id = "what_can",
    tag = "map",
    params(WhatCanQuery),
    responses(
        (status = 200, description = "The roles and duties", body = WhatAnswer),
        (status = 403, description = "The caller is no auditor: `duty-needed`"),
        (
            status = 422,
            description = "A parameter is missing, unknown or too long, or names what is not \
                configured, and then `detail` says what is: `query-unfit`"
        ),
        (
            status = 503,
            description = "Nobody can say whether the caller still is an auditor: \
                `directory-away`; or others are being answered: `desk-busy`, with `retry-after`"
        ),
    ),
)]
pub(in crate::http) async fn what_can(
    State(broker): State<Broker>,
    ByToken(caller): ByToken,
    context: Context,
    Query(pairs): Pairs,
) -> Result<Answer<WhatAnswer>, Problem> {
    let person = WhatCanQuery::read(pairs)?.asked()?;
    let people = broker.what_can(&context.request, &caller, person).await?;
    Ok(Answer(WhatAnswer { people }))
}

/// Explain why a lease was issued
///
/// The decision by which a lease was issued, made again from the map of that time, and beside it
/// what the map in force says of the same person now. Needs the duty of auditor; that it was asked is
/// recorded.
#[utoipa::path(
    get,
    path = "/v1/operator/leases/{id}/explanation",
    operation_id = "explain_lease",
    tag = "map",
    params(LeasePath),
    responses(
        (status = 200, description = "The explanation", body = LeaseExplanation),
        (status = 403, description = "The caller is no auditor: `duty-needed`"),
        (status = 404, description = "There is no such lease: `not-found`"),
        (
            status = 503,
            description = "Nobody can say whether the caller still is an auditor: \
                `directory-away`; or others are being answered: `desk-busy`, with `retry-after`"
        ),
    ),
)]
pub(in crate::http) async fn explain_lease(
    State(broker): State<Broker>,
    ByToken(caller): ByToken,
    context: Context,
    Path(lease): Path<LeasePath>,
) -> Result<Answer<LeaseExplanation>, Problem> {
    let id = lease.id()?;
    Ok(Answer(broker.explain_lease(&context.request, &caller, id).await?))
}
