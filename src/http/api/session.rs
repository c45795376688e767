//! `/v1/login`, `/v1/logout`, `/v1/whoami`.

use axum::Json as Answer;
use axum::extract::State;
use axum::http::StatusCode;
use axum::response::Response;
use serde::{Deserialize, Deserializer};
use utoipa::ToSchema;

use super::answers::{LoginAnswer, WhoAmI, logged_in};
use crate::broker::Broker;
use crate::http::body::Json;
use crate::http::caller::ByToken;
use crate::http::context::Context;
use crate::http::finish::to_the_end;
use crate::http::problem::Problem;
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
/// Proves a name by its password and begins a session. Every refusal of a name with a password
/// is the same answer.
#[utoipa::path(
    post,
    path = "/v1/login",
    operation_id = "login",
    tag = "session",
    security(()),
    request_body = Login,
    responses(
        (status = 200, description = "A session has begun", body = LoginAnswer),
        (status = 401, description = "The login was refused: `login-refused`"),
        (status = 429, description = "Too many attempts from this address: `too-many-attempts`; the header `retry-after` says when"),
    ),
)]
pub(in crate::http) async fn login(
    State(broker): State<Broker>,
    context: Context,
    Json(login): Json<Login>,
) -> Result<Response, Problem> {
    let times = broker.session_times();
    let Login { way, username, password: TypedPassword(password) } = login;
    let request = context.request;
    let begun =
        to_the_end(
            async move { broker.login(&request, way.as_deref(), &username, password).await },
        );
    Ok(logged_in(&begun.await?, times))
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
