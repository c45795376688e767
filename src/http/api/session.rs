//! `/v1/login`, `/v1/logout`, `/v1/whoami`.

use axum::Json as Answer;
use axum::extract::State;
use axum::http::{HeaderMap, StatusCode};
use axum::response::Response;
use serde::{Deserialize, Deserializer};
use utoipa::ToSchema;

use super::answers::{LoginAnswer, WhoAmI, logged_in};
use crate::broker::{Broker, LoggedIn};
use crate::http::body::{MaybeJson, no_json};
use crate::http::caller::{ByToken, MaybeTicket, offering, way};
use crate::http::context::Context;
use crate::http::error::{not_logged_in, ticket_needed};
use crate::http::finish::to_the_end;
use crate::http::problem::{Kind, Problem};
use crate::names::LoginPassword;

/// A name and a password.
#[derive(Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub(in crate::http) struct Login {
    /// The way in; may be left out when there is only one.
    #[schema(example = "corp")]
    way: Option<String>,
    /// The name as the directory knows it.
    #[schema(example = "alice")]
    username: String,
    /// The password, byte for byte.
    #[schema(value_type = String, format = Password, example = "correct horse battery staple")]
    password: TypedPassword,
}

/// A password in a body.
struct TypedPassword(LoginPassword);

impl<'de> Deserialize<'de> for TypedPassword {
    fn deserialize<From: Deserializer<'de>>(from: From) -> Result<Self, From::Error> {
        String::deserialize(from).map(|typed| Self(LoginPassword::new(typed)))
    }
}

/// Log in
///
/// Proves a name by its password, or somebody by their ticket (`Authorization: Negotiate`, with the
/// way in as `X-Pgbridge-Way` when several take tickets, and without a body), and begins a session.
/// Every refusal is the same answer. Where tickets are taken (at the way in that is named, if any),
/// a call with neither is told so.
#[utoipa::path(
    post,
    path = "/v1/login",
    operation_id = "login",
    tag = "session",
    security((), ("ticket" = [])),
    params(
        ("X-Pgbridge-Way" = Option<String>, Header, description = "With a ticket: the way in, when there is more than one"),
    ),
    request_body = Login,
    responses(
        (status = 200, description = "A session has begun", body = LoginAnswer),
        (status = 401, description = "The login was refused: `login-refused`; or a negotiation can begin, or goes on: `not-logged-in`, or `ticket-needed` where passwords are taken of nobody"),
        (status = 429, description = "Too many attempts from this address: `too-many-attempts`; the header `retry-after` says when"),
    ),
)]
pub(in crate::http) async fn login(
    State(broker): State<Broker>,
    context: Context,
    headers: HeaderMap,
    MaybeTicket(ticket): MaybeTicket,
    MaybeJson(login): MaybeJson<Option<Login>>,
) -> Result<Response, Problem> {
    let (times, takes_tickets) = (broker.session_times(), broker.takes_tickets());
    let begun = match (ticket, login) {
        (Some(ticket), None) => ticket.log_in(broker, &context).await,
        (None, Some(login)) => login.log_in(broker, &context).await,
        (Some(_), Some(_)) => {
            let detail = "send a ticket, or a name and a password, and not both";
            return Err(Problem::new(Kind::BadRequest, detail));
        }
        (None, None) if broker.takes_tickets_at(way(&headers)?.as_deref()) => {
            Err(if broker.takes_passwords() { not_logged_in() } else { ticket_needed() })
        }
        (None, None) => return Err(no_json()),
    };
    let offered = |problem: Problem| match problem.kind() {
        Kind::NotLoggedIn | Kind::TicketNeeded | Kind::LoginRefused => {
            offering(takes_tickets, problem)
        }
        _ => problem,
    };
    Ok(logged_in(&begun.map_err(offered)?, times))
}

impl Login {
    async fn log_in(self, broker: Broker, context: &Context) -> Result<LoggedIn, Problem> {
        let Self { way, username, password: TypedPassword(password) } = self;
        let request = context.request.clone();
        let begun =
            to_the_end(
                async move { broker.login(&request, way.as_deref(), &username, password).await },
            );
        Ok(begun.await?)
    }
}

/// Log out
///
/// Ends the session. Leases live on until their own end, or the end of the login, whichever the
/// broker is configured for.
#[utoipa::path(
    post,
    path = "/v1/logout",
    operation_id = "logout",
    tag = "session",
    responses((status = 204, description = "The session has ended")),
)]
pub(in crate::http) async fn logout(
    State(broker): State<Broker>,
    ByToken(caller): ByToken,
    context: Context,
) -> Result<StatusCode, Problem> {
    let request = context.request;
    to_the_end(async move { broker.logout(&request, &caller).await }).await?;
    Ok(StatusCode::NO_CONTENT)
}

/// Who am I
///
/// Who the session belongs to, and what they may do with the broker itself.
#[utoipa::path(
    get,
    path = "/v1/whoami",
    operation_id = "whoami",
    tag = "session",
    responses((status = 200, description = "Who calls", body = WhoAmI)),
)]
pub(in crate::http) async fn whoami(
    State(broker): State<Broker>,
    ByToken(caller): ByToken,
) -> Answer<WhoAmI> {
    Answer(WhoAmI::of(&caller, broker.session_times()))
}
