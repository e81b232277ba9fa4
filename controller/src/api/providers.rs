//! `/providers`: whose word about people counts.

use std::collections::BTreeSet;

use axum::Json;
use axum::extract::{Path, State};
use ringfence_control::api::{
    AddProviderRequest, BACKCHANNEL_LOGOUT_ROUTE, ChangeReport, Problem, ProviderList, ProviderView,
};
use ringfence_controlplane::{Command, Provider, ProviderCommand, SecondFactor};

use super::ApiState;
use super::caller::{Admin, Auditor};
use super::perimeters::parse_name;
use super::problem::ApiProblem;
use super::request::Body;

/// Lists identity providers, without their client secrets.
#[utoipa::path(get, path = "/api/v1/providers", tag = "providers", security(("admin" = [])),
    responses((status = 200, body = ProviderList), (status = "4XX", body = Problem)))]
pub(super) async fn list(
    _: Auditor,
    State(state): State<ApiState>,
) -> Result<Json<ProviderList>, ApiProblem> {
    let providers = state
        .core
        .with(|core| {
            let controller = core.controller();
            let views = controller.providers().map(|provider| ProviderView {
                scim: controller.scim_view(provider),
                ..view_of(provider)
            });
            views.collect()
        })
        .await?;
    Ok(Json(ProviderList { providers }))
}

/// Adds an identity provider.
#[utoipa::path(post, path = "/api/v1/providers", tag = "providers", security(("admin" = [])),
    request_body = AddProviderRequest,
    responses((status = 200, body = ChangeReport), (status = "4XX", body = Problem)))]
pub(super) async fn add(
    Admin(actor): Admin,
    State(state): State<ApiState>,
    Body(request): Body<AddProviderRequest>,
) -> Result<Json<ChangeReport>, ApiProblem> {
    let secret = request.client_secret.clone();
    let provider = provider_of(request);
    // Before anything is written: a file must not be overwritten that a provider of this name uses.
    provider.check()?;
    let name = provider.name.clone();
    let asked = name.clone();
    let taken = state
        .core
        .with(move |core| core.controller().provider(&asked).is_some())
        .await?;
    if let (Some(secret), false) = (&secret, taken) {
        store(&state, &name, secret)?;
    }
    state
        .change(actor, Command::Provider(ProviderCommand::Add { provider }))
        .await
        .map(Json)
}

/// Removes an identity provider, and ends the sessions of those it vouched for.
#[utoipa::path(delete, path = "/api/v1/providers/{name}", tag = "providers", security(("admin" = [])),
    params(("name" = String, Path)),
    responses((status = 200, body = ChangeReport), (status = "4XX", body = Problem)))]
pub(super) async fn remove(
    Admin(actor): Admin,
    State(state): State<ApiState>,
    Path(name): Path<String>,
) -> Result<Json<ChangeReport>, ApiProblem> {
    let name = parse_name(&name)?;
    let report = state
        .change(
            actor,
            Command::Provider(ProviderCommand::Remove { name: name.clone() }),
        )
        .await?;
    if let Err(error) = state.logins.secrets().remove(&name) {
        tracing::warn!(provider = %name, %error, "the client secret of a provider that was removed stays on disk");
    }
    Ok(Json(report))
}

fn store(state: &ApiState, name: &ringfence_model::Name, secret: &str) -> Result<(), ApiProblem> {
    if !(1..=SECRET_BYTES_MAX).contains(&secret.len()) {
        return Err(ApiProblem::bad_request("a client secret has 1 to 4096 bytes"));
    }
    state.logins.secrets().store(name, secret).map_err(|error| {
        tracing::error!(provider = %name, %error, "a client secret cannot be stored");
        ApiProblem::internal("the client secret cannot be stored: see the controller's log")
    })
}

fn provider_of(request: AddProviderRequest) -> Provider {
    Provider {
        name: request.name,
        issuer: request.issuer,
        client_id: request.client_id,
        confidential: request.client_secret.is_some(),
        scopes: request.scopes,
        groups_claim: request.groups_claim,
        directory_claim: request.directory_claim.map(String::into_boxed_str),
        session_ms: request.session_seconds.saturating_mul(1000),
        second_factor: SecondFactor {
            acr: BTreeSet::from_iter(request.mfa_acr),
            amr: BTreeSet::from_iter(request.mfa_amr),
        },
        allow_private_address: request.allow_private_address,
        ca_pem: request.ca_pem,
    }
}

fn view_of(provider: &Provider) -> ProviderView {
    let texts = |set: &BTreeSet<String>| set.iter().cloned().collect();
    ProviderView {
        name: provider.name.clone(),
        issuer: provider.issuer.clone(),
        client_id: provider.client_id.clone(),
        confidential: provider.confidential,
        scopes: provider.scopes.clone(),
        groups_claim: provider.groups_claim.clone(),
        directory_claim: provider.directory_claim.as_deref().map(ToOwned::to_owned),
        session_seconds: provider.session_ms / 1000,
        mfa_acr: texts(&provider.second_factor.acr),
        mfa_amr: texts(&provider.second_factor.amr),
        allow_private_address: provider.allow_private_address,
        backchannel_logout_path: BACKCHANNEL_LOGOUT_ROUTE.replace("{provider}", provider.name.as_str()),
        scim: None,
    }
}

const SECRET_BYTES_MAX: usize = 4096;
