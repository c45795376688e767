//! `/v1/roles`.

use axum::Json as Answer;
use axum::extract::State;

use super::answers::RolesAnswer;
use crate::broker::Broker;
use crate::http::caller::ByToken;
use crate::http::context::Context;

/// Roles on offer
///
/// All that the caller may ask for from where they are, with the terms and the line of the map
/// that allows it.
#[utoipa::path(
    get,
    path = "/v1/roles",
    operation_id = "roles",
    tag = "leases",
    responses((status = 200, description = "What is on offer", body = RolesAnswer)),
)]
pub(in crate::http) async fn roles(
    State(broker): State<Broker>,
    ByToken(caller): ByToken,
    context: Context,
) -> Answer<RolesAnswer> {
    Answer(RolesAnswer::of(&broker.on_offer(&context.request, &caller).await))
}
