//! `/v1/explain`, `/v1/who-can`, `/v1/what-can` and why a lease was issued: what the map says, for
//! auditors.

use std::fmt::Display;
use std::net::IpAddr;
use std::str::FromStr;

use axum::Json as Answer;
use axum::extract::{Path, State};
use serde::{Deserialize, Serialize};
use utoipa::{IntoParams, ToSchema};

use super::leases::LeasePath;
use crate::broker::{AskedDecision, AskedPerson, Broker};
use crate::http::body::Query;
use crate::http::caller::ByToken;
use crate::http::context::Context;
use crate::http::problem::{Kind, Problem};
use crate::lease::LeaseExplanation;
use crate::mapping::{Explanation, WhatCan, WhoCan};

/// Most groups that somebody is asked about with.
const GROUPS_MAX: usize = 1000;

/// May somebody act as a role there?
#[derive(Deserialize, IntoParams)]
#[serde(try_from = "Vec<(String, String)>")]
#[into_params(parameter_in = Query)]
pub(in crate::http) struct ExplainQuery {
    /// The name that the map is asked about, as the directory writes it.
    #[param(example = "alice")]
    user: String,
    /// The cluster.
    #[param(example = "orders")]
    cluster: String,
    /// The role; each that the cluster lends when left out.
    #[param(example = "orders_read")]
    role: Option<String>,
    /// The way in by which they would come; each when left out.
    #[param(example = "corp")]
    way: Option<String>,
    /// A group that they are in, as the directory names it in full; once for each.
    #[param(required = false, example = json!(["cn=readers,ou=groups,dc=example,dc=test"]))]
    group: Vec<String>,
    /// The address that they would ask from, for roles that are issued to some networks only.
    #[param(example = "10.1.2.3")]
    address: Option<String>,
}

/// Who may act as a role?
#[derive(Deserialize, IntoParams)]
#[serde(deny_unknown_fields)]
#[into_params(parameter_in = Query)]
pub(in crate::http) struct WhoCanQuery {
    /// The cluster.
    #[param(example = "orders")]
    cluster: String,
    /// The role.
    #[param(example = "orders_read")]
    role: String,
}

/// As what may somebody act?
#[derive(Deserialize, IntoParams)]
#[serde(try_from = "Vec<(String, String)>")]
#[into_params(parameter_in = Query)]
pub(in crate::http) struct WhatCanQuery {
    /// The name that the map is asked about, as the directory writes it.
    #[param(example = "alice")]
    user: String,
    /// The way in by which they would come; each when left out.
    #[param(example = "corp")]
    way: Option<String>,
    /// A group that they are in, as the directory names it in full; once for each.
    #[param(required = false, example = json!(["cn=readers,ou=groups,dc=example,dc=test"]))]
    group: Vec<String>,
}

/// Explanations.
#[derive(Serialize, ToSchema)]
#[schema(as = Explanations)]
pub(in crate::http) struct ExplanationsAnswer {
    /// One for each way in and role that were meant, in the order of the configuration.
    explanations: Vec<Explanation>,
}

/// What somebody may act as.
#[derive(Serialize, ToSchema)]
#[schema(as = WhatCanAnswer)]
pub(in crate::http) struct WhatAnswer {
    /// One for each way in that was meant.
    people: Vec<WhatCan>,
}

/// Explain a decision of the map
///
/// Whether somebody may act as a role, with every line that is asked and what it says. Nobody is
/// proven by this: it answers what would be if the name and the groups were theirs. Needs the duty
/// of auditor; reading is recorded.
#[utoipa::path(
    get,
    path = "/v1/explain",
    operation_id = "explain",
    tag = "map",
    params(ExplainQuery),
    responses(
        (status = 200, description = "The explanations", body = ExplanationsAnswer),
        (status = 403, description = "`duty-needed`"),
        (status = 422, description = "`query-unfit`"),
        (status = 503, description = "`directory-away`"),
    ),
)]
pub(in crate::http) async fn explain(
    State(broker): State<Broker>,
    ByToken(caller): ByToken,
    context: Context,
    Query(query): Query<ExplainQuery>,
) -> Result<Answer<ExplanationsAnswer>, Problem> {
    let asked = AskedDecision {
        person: person(query.user, query.way.as_deref(), query.group)?,
        cluster: parsed(&query.cluster)?,
        role: query.role.as_deref().map(parsed).transpose()?,
        address: query.address.as_deref().map(parsed::<IpAddr>).transpose()?,
    };
    let explanations = broker.explain(&context.request, &caller, asked).await?;
    Ok(Answer(ExplanationsAnswer { explanations }))
}

/// Who may act as a role
///
/// The lines of the map that let somebody act as the role, and those that keep somebody from it.
/// Needs the duty of auditor; reading is recorded.
#[utoipa::path(
    get,
    path = "/v1/who-can",
    operation_id = "who_can",
    tag = "map",
    params(WhoCanQuery),
    responses(
        (status = 200, description = "Who may", body = WhoCan),
        (status = 403, description = "`duty-needed`"),
        (status = 422, description = "`query-unfit`"),
        (status = 503, description = "`directory-away`"),
    ),
)]
pub(in crate::http) async fn who_can(
    State(broker): State<Broker>,
    ByToken(caller): ByToken,
    context: Context,
    Query(query): Query<WhoCanQuery>,
) -> Result<Answer<WhoCan>, Problem> {
    let (cluster, role) = (parsed(&query.cluster)?, parsed(&query.role)?);
    Ok(Answer(broker.who_can(&context.request, &caller, &cluster, &role).await?))
}

/// As what somebody may act
///
/// Every role that somebody of this name and in these groups may act as, with the line. Needs the
/// duty of auditor; reading is recorded.
#[utoipa::path(
    get,
    path = "/v1/what-can",
    operation_id = "what_can",
    tag = "map",
    params(WhatCanQuery),
    responses(
        (status = 200, description = "The roles", body = WhatAnswer),
        (status = 403, description = "`duty-needed`"),
        (status = 422, description = "`query-unfit`"),
        (status = 503, description = "`directory-away`"),
    ),
)]
pub(in crate::http) async fn what_can(
    State(broker): State<Broker>,
    ByToken(caller): ByToken,
    context: Context,
    Query(query): Query<WhatCanQuery>,
) -> Result<Answer<WhatAnswer>, Problem> {
    let person = person(query.user, query.way.as_deref(), query.group)?;
    let people = broker.what_can(&context.request, &caller, person).await?;
    Ok(Answer(WhatAnswer { people }))
}

/// Explain why a lease was issued
///
/// The decision by which a lease was issued, made again from the map of that time, and beside it
/// what today's map says of the same person. Needs the duty of auditor; reading is recorded.
#[utoipa::path(
    get,
    path = "/v1/operator/leases/{id}/explanation",
    operation_id = "explain_lease",
    tag = "map",
    params(LeasePath),
    responses(
        (status = 200, description = "The explanation", body = LeaseExplanation),
        (status = 403, description = "`duty-needed`"),
        (status = 404, description = "There is no such lease: `not-found`"),
        (status = 503, description = "`directory-away`"),
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

fn person(user: String, way: Option<&str>, groups: Vec<String>) -> Result<AskedPerson, Problem> {
    let way = way.map(parsed).transpose()?;
    Ok(AskedPerson { user, way, groups })
}

fn parsed<T: FromStr<Err: Display>>(text: &str) -> Result<T, Problem> {
    let unfit = |error: T::Err| Problem::new(Kind::QueryUnfit, error.to_string());
    text.parse().map_err(unfit)
}

/// The parameters of a query, of which each may be taken once and `group` as often as it is there.
struct Parameters(Vec<(String, String)>);

/// A query that does not fit; what it is told as says which are known.
#[derive(Debug, thiserror::Error)]
#[error("a parameter is unknown, missing or given twice")]
pub(in crate::http) struct Unfit;

impl Parameters {
    fn take(&mut self, name: &str) -> Result<Option<String>, Unfit> {
        let mut found = self.take_all(name);
        match (found.pop(), found.is_empty()) {
            (value, true) => Ok(value),
            (_, false) => Err(Unfit),
        }
    }

    fn take_all(&mut self, name: &str) -> Vec<String> {
        self.0.extract_if(.., |(key, _)| key == name).map(|(_, value)| value).collect()
    }

    fn groups(&mut self) -> Result<Vec<String>, Unfit> {
        let groups = self.take_all("group");
        if groups.len() <= GROUPS_MAX { Ok(groups) } else { Err(Unfit) }
    }

    fn finish(&self) -> Result<(), Unfit> {
        if self.0.is_empty() { Ok(()) } else { Err(Unfit) }
    }
}

impl TryFrom<Vec<(String, String)>> for ExplainQuery {
    type Error = Unfit;

    fn try_from(pairs: Vec<(String, String)>) -> Result<Self, Unfit> {
        let mut parameters = Parameters(pairs);
        let query = Self {
            user: parameters.take("user")?.ok_or(Unfit)?,
            cluster: parameters.take("cluster")?.ok_or(Unfit)?,
            role: parameters.take("role")?,
            way: parameters.take("way")?,
            group: parameters.groups()?,
            address: parameters.take("address")?,
        };
        parameters.finish().map(|()| query)
    }
}

impl TryFrom<Vec<(String, String)>> for WhatCanQuery {
    type Error = Unfit;

    fn try_from(pairs: Vec<(String, String)>) -> Result<Self, Unfit> {
        let mut parameters = Parameters(pairs);
        let query = Self {
            user: parameters.take("user")?.ok_or(Unfit)?,
            way: parameters.take("way")?,
            group: parameters.groups()?,
        };
        parameters.finish().map(|()| query)
    }
}
