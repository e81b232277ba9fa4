//! `/providers/{name}/scim-token`: by what an identity provider says who its people are.

use axum::Json;
use axum::extract::{Path, State};
use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use ringfence_control::api::{ChangeReport, CreatedScimToken, Problem, SCIM_ROUTE};
use ringfence_controlplane::{Command, DirectoryCommand, TokenHash};
use zeroize::Zeroizing;

use super::ApiState;
use super::caller::Admin;
use super::perimeters::parse_name;
use super::problem::ApiProblem;
use crate::core::entropy;

/// Makes the SCIM token of a provider, in the place of the one before. The answer is the one place where it ever stands.
#[utoipa::path(post, path = "/api/v1/providers/{name}/scim-token", tag = "providers", security(("admin" = [])),
    params(("name" = String, Path)),
    responses((status = 200, body = CreatedScimToken), (status = "4XX", body = Problem)))]
pub(super) async fn create(
    Admin(actor): Admin,
    State(state): State<ApiState>,
    Path(name): Path<String>,
) -> Result<Json<CreatedScimToken>, ApiProblem> {
    let provider = parse_name(&name)?;
    let token = new_token()?;
    let command = Command::Directory(DirectoryCommand::CreateToken {
        provider: provider.clone(),
        secret_hash: TokenHash::of_secret(token.as_bytes()),
    });
    let report = state.change(actor, command).await?;
    Ok(Json(CreatedScimToken {
        provider,
        token: token.to_string(),
        path: SCIM_ROUTE.to_owned(),
        revision: report.revision,
    }))
}

/// Revokes the SCIM token of a provider. What the provider said with it stays.
#[utoipa::path(delete, path = "/api/v1/providers/{name}/scim-token", tag = "providers", security(("admin" = [])),
    params(("name" = String, Path)),
    responses((status = 200, body = ChangeReport), (status = "4XX", body = Problem)))]
pub(super) async fn revoke(
    Admin(actor): Admin,
    State(state): State<ApiState>,
    Path(name): Path<String>,
) -> Result<Json<ChangeReport>, ApiProblem> {
    let provider = parse_name(&name)?;
    let command = Command::Directory(DirectoryCommand::RevokeToken { provider });
    state.change(actor, command).await.map(Json)
}

/// `rfs_` and 256 random bits: long enough that its plain SHA-256 may be kept.
fn new_token() -> Result<Zeroizing<String>, ApiProblem> {
    let random = Zeroizing::new(entropy()?);
    let text = Zeroizing::new(URL_SAFE_NO_PAD.encode(*random));
    Ok(Zeroizing::new(format!("rfs_{}", *text)))
}
