//! `/tokens`.

use std::time::Duration;

use axum::Json;
use axum::extract::{Path, State};
use ringfence_control::api::{ChangeReport, CreateTokenRequest, CreatedToken, Problem, TokenList};
use ringfence_controlplane::{Command, Event, TokenHash};
use ringfence_model::TokenId;
use ringfence_transport::{JoinToken, TokenSecret};

use super::ApiState;
use super::caller::{Admin, Auditor};
use super::problem::ApiProblem;
use super::request::Body;
use crate::core::{entropy, wall_now};

/// Lists join tokens, without their secrets.
#[utoipa::path(get, path = "/api/v1/tokens", tag = "tokens", security(("admin" = [])),
    responses((status = 200, body = TokenList), (status = "4XX", body = Problem)))]
pub(super) async fn list(_: Auditor, State(state): State<ApiState>) -> Result<Json<TokenList>, ApiProblem> {
    let tokens = state
        .core
        .with(|core| core.controller().token_views(wall_now()))
        .await?;
    Ok(Json(TokenList { tokens }))
}

/// Makes a join token. The answer is the one place where it ever stands.
#[utoipa::path(post, path = "/api/v1/tokens", tag = "tokens", security(("admin" = [])), request_body = CreateTokenRequest,
    responses((status = 200, body = CreatedToken), (status = "4XX", body = Problem)))]
pub(super) async fn create(
    Admin(actor): Admin,
    State(state): State<ApiState>,
    Body(request): Body<CreateTokenRequest>,
) -> Result<Json<CreatedToken>, ApiProblem> {
    let secret = TokenSecret::from_random(entropy()?);
    let command = Command::CreateToken {
        labels: request.labels,
        ttl: Duration::from_secs(request.ttl_seconds),
        uses: request.uses,
        secret_hash: TokenHash::of_secret(secret.expose()),
    };
    let (change, mesh) = state
        .core
        .with(move |core| {
            let change = core.commit(&actor, &command)?;
            Ok::<_, ApiProblem>((change, core.controller().mesh().name.clone()))
        })
        .await??;
    let created = change.events.iter().find_map(|event| match event {
        Event::TokenCreated { token } => Some(token.clone()),
        _ => None,
    });
    let Some(created) = created else {
        return Err(ApiProblem::bad_request("no token was made"));
    };
    let token = JoinToken {
        controllers: state.join.controllers.clone(),
        ca_fingerprint: state.join.ca_fingerprint,
        mesh,
        id: created.id,
        secret,
    };
    Ok(Json(CreatedToken {
        id: created.id,
        token: token.expose().to_string(),
        expires_ms: created.expires,
        revision: change.revision,
    }))
}

/// Withdraws a join token.
#[utoipa::path(delete, path = "/api/v1/tokens/{id}", tag = "tokens", security(("admin" = [])), params(("id" = String, Path)),
    responses((status = 200, body = ChangeReport), (status = "4XX", body = Problem)))]
pub(super) async fn revoke(
    Admin(actor): Admin,
    State(state): State<ApiState>,
    Path(id): Path<String>,
) -> Result<Json<ChangeReport>, ApiProblem> {
    let Ok(token) = id.parse::<TokenId>() else {
        return Err(ApiProblem::bad_request(
            "a token id is 16 hex digits, as `ringfence token ls` prints it",
        ));
    };
    state
        .change(actor, Command::RevokeToken { token })
        .await
        .map(Json)
}
