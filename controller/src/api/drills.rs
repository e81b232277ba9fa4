//! `/drills`: what taking access away takes.

use axum::Json;
use axum::extract::State;
use axum::http::StatusCode;
use ringfence_control::api::{Problem, RevokeDrillReport, RevokeDrillRequest};

use super::ApiState;
use super::caller::Owner;
use super::problem::ApiProblem;
use super::request::Body;
use crate::drill::{self, DrillError};

/// Opens a port between two nodes of a perimeter, has them keep a flow going, and measures how long after taking it away
/// it lives. Nothing of it is left.
#[utoipa::path(post, path = "/api/v1/drills/revoke", tag = "policy", security(("admin" = [])), request_body = RevokeDrillRequest,
    responses((status = 200, body = RevokeDrillReport), (status = "4XX", body = Problem)))]
pub(super) async fn revoke(
    Owner(actor): Owner,
    State(state): State<ApiState>,
    Body(request): Body<RevokeDrillRequest>,
) -> Result<Json<RevokeDrillReport>, ApiProblem> {
    let (core, sessions) = (state.core.clone(), state.sessions.clone());
    // Of its own: who hangs up must not leave the port open.
    let drill = tokio::spawn(async move { drill::revoke(&core, &sessions, (actor, request)).await });
    let report = drill
        .await
        .map_err(|error| ApiProblem::internal(error.to_string()))?;
    Ok(Json(report?))
}

impl From<DrillError> for ApiProblem {
    fn from(error: DrillError) -> Self {
        let conflict = |code: &str| {
            Self::new(
                StatusCode::CONFLICT,
                code,
                "It does not fit what is there",
                error.to_string(),
            )
        };
        match error {
            DrillError::NoPerimeter(_) => Self::not_found(error.to_string()),
            DrillError::Nodes(_) => conflict("drill-nodes"),
            DrillError::Part { .. } => conflict("drill-part"),
            DrillError::Alive { .. } => Self::new(
                StatusCode::INTERNAL_SERVER_ERROR,
                "drill-alive",
                "Access that was taken away is still there",
                error.to_string(),
            ),
            DrillError::Commit(error) => error.into(),
            DrillError::Gone(error) => error.into(),
        }
    }
}
