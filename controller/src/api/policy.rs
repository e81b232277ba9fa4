//! `/explain` and `/verify`: what policy says, and what the network does.

use axum::Json;
use axum::extract::State;
use ringfence_control::api::{ExplainReport, ExplainRequest, Problem, VerifyReport, VerifyRequest};

use super::caller::{Reader, not_for};
use super::problem::ApiProblem;
use super::request::Body;
use super::{ApiState, past};
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
    if let Some(at) = request.at_ms {
        // Whose a perimeter was then is not whose it is now: what was is for those who see all.
        let role = state.see(&reader, |seen| seen.role().clone()).await?;
        if !role.sees_all() {
            return Err(not_for(&reader.0, &role));
        }
        let then = past::controller_at(&state, at).await?;
        let answer = then.explain(&request, at);
        return answer
            .map(Json)
            .map_err(|error| ApiProblem::not_found(error.to_string()));
    }
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
