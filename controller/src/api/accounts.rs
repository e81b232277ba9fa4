//! `/accounts`: people who log in by a password and a second factor of their own, whom no identity provider knows.

use std::collections::BTreeSet;
use std::time::Duration;

use axum::Json;
use axum::extract::{Path, State};
use ringfence_control::api::{
    AccountList, AddAccountRequest, ChangeReport, InvitedAccount, PatchAccountRequest, Problem,
};
use ringfence_controlplane::{AccountCommand, Actor, Command};
use ringfence_model::Name;

use super::ApiState;
use super::caller::{Admin, Auditor};
use super::perimeters::parse_name;
use super::problem::ApiProblem;
use super::request::Body;
use crate::core::wall_now;

/// Lists local accounts.
#[utoipa::path(get, path = "/api/v1/accounts", tag = "people", security(("admin" = [])),
    responses((status = 200, body = AccountList), (status = "4XX", body = Problem)))]
pub(super) async fn list(_: Auditor, State(state): State<ApiState>) -> Result<Json<AccountList>, ApiProblem> {
    let accounts = state.core.with(|core| core.controller().account_views()).await?;
    Ok(Json(AccountList { accounts }))
}

/// Adds a local account. The answer is the one place where its set-up secret ever stands.
#[utoipa::path(post, path = "/api/v1/accounts", tag = "people", security(("admin" = [])), request_body = AddAccountRequest,
    responses((status = 200, body = InvitedAccount), (status = "4XX", body = Problem)))]
pub(super) async fn add(
    Admin(actor): Admin,
    State(state): State<ApiState>,
    Body(request): Body<AddAccountRequest>,
) -> Result<Json<InvitedAccount>, ApiProblem> {
    let name = request.name.clone();
    let command = AccountCommand::Add {
        name: request.name,
        email: request.email,
        groups: BTreeSet::from_iter(request.groups),
        session: Duration::from_secs(request.session_seconds),
    };
    invite(&state, actor, name, command).await
}

/// Puts the person of a local account in these groups, and in no others, whether they are logged in or not.
#[utoipa::path(patch, path = "/api/v1/accounts/{name}", tag = "people", security(("admin" = [])),
    params(("name" = String, Path)), request_body = PatchAccountRequest,
    responses((status = 200, body = ChangeReport), (status = "4XX", body = Problem)))]
pub(super) async fn update(
    Admin(actor): Admin,
    State(state): State<ApiState>,
    Path(name): Path<String>,
    Body(request): Body<PatchAccountRequest>,
) -> Result<Json<ChangeReport>, ApiProblem> {
    let command = AccountCommand::Regroup {
        name: parse_name(&name)?,
        groups: BTreeSet::from_iter(request.groups),
    };
    state.change(actor, Command::Accounts(command)).await.map(Json)
}

/// Ends the sessions of a local account, and has its person choose a password and a second factor anew.
#[utoipa::path(post, path = "/api/v1/accounts/{name}/reset", tag = "people", security(("admin" = [])),
    params(("name" = String, Path)),
    responses((status = 200, body = InvitedAccount), (status = "4XX", body = Problem)))]
pub(super) async fn reset(
    Admin(actor): Admin,
    State(state): State<ApiState>,
    Path(name): Path<String>,
) -> Result<Json<InvitedAccount>, ApiProblem> {
    let name = parse_name(&name)?;
    let command = AccountCommand::Reset { name: name.clone() };
    invite(&state, actor, name, command).await
}

/// Removes a local account: its sessions end at once.
#[utoipa::path(delete, path = "/api/v1/accounts/{name}", tag = "people", security(("admin" = [])),
    params(("name" = String, Path)),
    responses((status = 200, body = ChangeReport), (status = "4XX", body = Problem)))]
pub(super) async fn remove(
    Admin(actor): Admin,
    State(state): State<ApiState>,
    Path(name): Path<String>,
) -> Result<Json<ChangeReport>, ApiProblem> {
    let name = parse_name(&name)?;
    let command = AccountCommand::Remove { name: name.clone() };
    let report = state.change(actor, Command::Accounts(command)).await?;
    if let Err(error) = state.accounts.forget(&name).await {
        // Without an account they open nothing.
        tracing::warn!(account = %name, %error, "the secrets of a local account that was removed stay on disk");
    }
    Ok(Json(report))
}

/// Has the core carry `command` out, which begins new credentials, and gives the secret that they are set up by.
async fn invite(
    state: &ApiState,
    actor: Actor,
    name: Name,
    command: AccountCommand,
) -> Result<Json<InvitedAccount>, ApiProblem> {
    let report = state.change(actor, Command::Accounts(command)).await?;
    let asked = name.clone();
    let account = state
        .core
        .with(move |core| core.controller().account(&asked).cloned());
    let account = account.await?;
    let account =
        account.ok_or_else(|| ApiProblem::internal("the account was removed at the same moment"))?;
    let expires_ms = wall_now().saturating_add(INVITATION_LIFE);
    let invited = state.accounts.invite(account, expires_ms).await;
    // What was there before counts no more in any case: the log names other credentials.
    let secret = invited.map_err(|error| {
        tracing::error!(account = %name, ?error, "a set-up secret cannot be stored");
        ApiProblem::internal(
            "the set-up secret cannot be stored: once the controller's log says no more why, run `ringfence account reset`",
        )
    })?;
    Ok(Json(InvitedAccount {
        name,
        secret: secret.expose().to_owned(),
        expires_ms,
        revision: report.revision,
    }))
}

/// How long a set-up secret counts.
const INVITATION_LIFE: Duration = Duration::from_hours(24);
