//! `/explain` and `/verify`: what policy says, and what the network does.

use axum::Json;
use axum::extract::State;
use ringfence_control::api::{ExplainReport, ExplainRequest, Problem, VerifyReport, VerifyRequest};

use super::ApiState;
use super::caller::Reader;
use super::problem::ApiProblem;
use super::request::Body;
use crate::core::wall_now;
use crate::verify;

/// Says whether one member may reach another, by which rule, or what is missing.
#[utoipa::path(post, path = "/api/v1/explain", tag = "policy", security(("admin" = [])), request_body = ExplainRequest,
    responses((status = 200, body = ExplainReport), (status = "4XX", body = Problem)))]
pub(super) async fn explain(
    reader: Reader,
    State(state): State<ApiState>,
    Body(request): Body<ExplainRequest>,
) -> Result<Json<ExplainReport>, ApiProblem> {
    let answer = state
        .see(&reader, move |seen| seen.explain(&request, wall_now()))
        .await?;
    answer
        .map(Json)
        .map_err(|error| ApiProblem::not_found(error.to_string()))
}

/// Has the nodes try every pair and port of a perimeter over the real network.
#[utoipa::path(post, path = "/api/v1/verify", tag = "policy", security(("admin" = [])), request_body = VerifyRequest,
    responses((status = 200, body = VerifyReport), (status = "4XX", body = Problem)))]
pub(super) async fn verify(
    Reader(actor): Reader,
    State(state): State<ApiState>,
    Body(request): Body<VerifyRequest>,
) -> Result<Json<VerifyReport>, ApiProblem> {
    let shown = request.perimeter.clone();
    match verify::measure(&state.core, &state.sessions, (actor, request)).await? {
        Some(report) => Ok(Json(report)),
        None => Err(ApiProblem::not_found(format!("there is no perimeter {shown}"))),
    }
}
