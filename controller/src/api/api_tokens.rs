//! `/api-tokens`: who else may ask, and for what.

use std::time::Duration;

use axum::Json;
use axum::extract::{Path, State};
use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use ringfence_control::api::{
    self, ApiTokenList, ChangeReport, CreateApiTokenRequest, CreatedApiToken, Problem,
};
use ringfence_controlplane::{ApiTokenCommand, ApiTokenEvent, Command, Event, Role, TokenHash};
use zeroize::Zeroizing;

use super::ApiState;
use super::caller::{self, Admin, Auditor};
use super::problem::ApiProblem;
use super::request::Body;
use crate::core::{entropy, wall_now};

/// Lists API tokens, without their secrets.
#[utoipa::path(get, path = "/api/v1/api-tokens", tag = "api-tokens", security(("admin" = [])),
    responses((status = 200, body = ApiTokenList), (status = "4XX", body = Problem)))]
pub(super) async fn list(
    _: Auditor,
    State(state): State<ApiState>,
) -> Result<Json<ApiTokenList>, ApiProblem> {
    let api_tokens = state
        .core
        .with(|core| core.controller().api_token_views(wall_now()))
        .await?;
    Ok(Json(ApiTokenList { api_tokens }))
}

/// Makes an API token. The answer is the one place where it ever stands.
#[utoipa::path(post, path = "/api/v1/api-tokens", tag = "api-tokens", security(("admin" = [])), request_body = CreateApiTokenRequest,
    responses((status = 200, body = CreatedApiToken), (status = "4XX", body = Problem)))]
pub(super) async fn create(
    Admin(actor): Admin,
    State(state): State<ApiState>,
    Body(request): Body<CreateApiTokenRequest>,
) -> Result<Json<CreatedApiToken>, ApiProblem> {
    let random = Zeroizing::new(entropy()?);
    let secret = Zeroizing::new(URL_SAFE_NO_PAD.encode(*random));
    let command = Command::ApiTokens(ApiTokenCommand::Create {
        role: role_of(&request)?,
        name: request.name,
        stands_for: request.stands_for,
        ttl: Duration::from_secs(request.ttl_seconds),
        secret_hash: TokenHash::of_secret(secret.as_bytes()),
    });
    let change = state
        .core
        .with(move |core| core.commit(&actor, &command))
        .await??;
    let created = change.events.iter().find_map(|event| match event {
        Event::ApiTokens(event) => match event.as_ref() {
            ApiTokenEvent::ApiTokenCreated { token } => Some(token),
            ApiTokenEvent::ApiTokenRevoked { .. } | ApiTokenEvent::ApiTokenExpired { .. } => None,
        },
        _ => None,
    });
    let Some(created) = created else {
        return Err(ApiProblem::internal("no API token was made"));
    };
    Ok(Json(CreatedApiToken {
        id: created.id,
        token: caller::write(created.id, &secret).to_string(),
        expires_ms: created.expires,
        revision: change.revision,
    }))
}

fn role_of(request: &CreateApiTokenRequest) -> Result<Role, ApiProblem> {
    let perimeters = request.perimeters.iter().cloned().collect();
    match request.role {
        api::Role::Owner => Ok(Role::Owner { perimeters }),
        api::Role::Admin | api::Role::Auditor if !request.perimeters.is_empty() => Err(
            ApiProblem::bad_request("perimeters are an owner's alone: admins and auditors see all of them"),
        ),
        api::Role::Admin => Ok(Role::Admin),
        api::Role::Auditor => Ok(Role::Auditor),
    }
}

/// Revokes an API token, by name or id: from the next request on it opens nothing.
#[utoipa::path(delete, path = "/api/v1/api-tokens/{token}", tag = "api-tokens", security(("admin" = [])), params(("token" = String, Path)),
    responses((status = 200, body = ChangeReport), (status = "4XX", body = Problem)))]
pub(super) async fn revoke(
    Admin(actor): Admin,
    State(state): State<ApiState>,
    Path(text): Path<String>,
) -> Result<Json<ChangeReport>, ApiProblem> {
    let asked = text.clone();
    let found = state
        .core
        .with(move |core| core.controller().find_api_token(&asked))
        .await?;
    let Some(token) = found else {
        let shown: String = text.chars().filter(|c| !c.is_control()).take(80).collect();
        return Err(ApiProblem::not_found(format!(
            "there is no API token {shown:?}: `ringfence api-token ls` lists them"
        )));
    };
    let command = Command::ApiTokens(ApiTokenCommand::Revoke { token });
    state.change(actor, command).await.map(Json)
}
