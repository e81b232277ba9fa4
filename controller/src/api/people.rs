//! `/sessions` and `/users`.

use axum::Json;
use axum::extract::{Path, State};
use ringfence_control::api::{ChangeReport, PatchUserRequest, Problem, SessionList, UserList};
use ringfence_controlplane::{Command, FindUserError, PeopleCommand};
use ringfence_model::SessionId;

use super::ApiState;
use super::caller::{Admin, Auditor, Reader};
use super::problem::ApiProblem;
use super::request::Body;
use axum::http::StatusCode;

/// Lists who is logged in where.
#[utoipa::path(get, path = "/api/v1/sessions", tag = "people", security(("admin" = [])),
    responses((status = 200, body = SessionList), (status = "4XX", body = Problem)))]
pub(super) async fn sessions(
    reader: Reader,
    State(state): State<ApiState>,
) -> Result<Json<SessionList>, ApiProblem> {
    let sessions = state.see(&reader, |seen| seen.session_views()).await?;
    Ok(Json(SessionList { sessions }))
}

/// Ends a session: what it opened is cut at once.
#[utoipa::path(delete, path = "/api/v1/sessions/{id}", tag = "people", security(("admin" = [])), params(("id" = String, Path)),
    responses((status = 200, body = ChangeReport), (status = "4XX", body = Problem)))]
pub(super) async fn end(
    Admin(actor): Admin,
    State(state): State<ApiState>,
    Path(id): Path<String>,
) -> Result<Json<ChangeReport>, ApiProblem> {
    let Ok(session) = id.parse::<SessionId>() else {
        return Err(ApiProblem::bad_request(
            "a session's id is 16 hex digits, as `ringfence session ls` prints it",
        ));
    };
    let command = Command::People(PeopleCommand::EndSession { session });
    state.change(actor, command).await.map(Json)
}

/// Lists everyone who was vouched for.
#[utoipa::path(get, path = "/api/v1/users", tag = "people", security(("admin" = [])),
    responses((status = 200, body = UserList), (status = "4XX", body = Problem)))]
pub(super) async fn users(_: Auditor, State(state): State<ApiState>) -> Result<Json<UserList>, ApiProblem> {
    let users = state.core.with(|core| core.controller().user_views()).await?;
    Ok(Json(UserList { users }))
}

/// Says whether a person may log in. If not, their sessions end at once.
#[utoipa::path(patch, path = "/api/v1/users", tag = "people", security(("admin" = [])), request_body = PatchUserRequest,
    responses((status = 200, body = ChangeReport), (status = "4XX", body = Problem)))]
pub(super) async fn update(
    Admin(actor): Admin,
    State(state): State<ApiState>,
    Body(request): Body<PatchUserRequest>,
) -> Result<Json<ChangeReport>, ApiProblem> {
    let asked = request.user;
    let found = state
        .core
        .with(move |core| core.controller().find_user(&asked))
        .await?;
    let user = found?;
    let command = if request.active {
        PeopleCommand::ReactivateUser { user }
    } else {
        PeopleCommand::DeactivateUser { user }
    };
    state.change(actor, Command::People(command)).await.map(Json)
}

impl From<FindUserError> for ApiProblem {
    fn from(error: FindUserError) -> Self {
        match &error {
            FindUserError::Nobody(_) => Self::not_found(error.to_string()),
            FindUserError::Several(_) => Self::new(
                StatusCode::CONFLICT,
                "several-users",
                "It does not say whom",
                error.to_string(),
            ),
        }
    }
}
