//! `/peers`: devices that run a stock WireGuard client.

use std::time::Duration;

use axum::Json;
use axum::extract::{Path, State};
use ringfence_control::api::{AddPeerRequest, ChangeReport, PeerConfig, PeerList, Problem};
use ringfence_controlplane::Command;

use super::ApiState;
use super::caller::{Admin, Reader};
use super::perimeters::parse_name;
use super::problem::ApiProblem;
use super::request::Body;
use crate::core::wall_now;

/// Lists devices.
#[utoipa::path(get, path = "/api/v1/peers", tag = "peers", security(("admin" = [])),
    responses((status = 200, body = PeerList), (status = "4XX", body = Problem)))]
pub(super) async fn list(
    reader: Reader,
    State(state): State<ApiState>,
) -> Result<Json<PeerList>, ApiProblem> {
    let peers = state.see(&reader, |seen| seen.device_views()).await?;
    Ok(Json(PeerList { peers }))
}

/// Adds a device and gives its wg-quick file, without its private key.
#[utoipa::path(post, path = "/api/v1/peers", tag = "peers", security(("admin" = [])), request_body = AddPeerRequest,
    responses((status = 200, body = PeerConfig), (status = "4XX", body = Problem)))]
pub(super) async fn add(
    Admin(actor): Admin,
    State(state): State<ApiState>,
    Body(request): Body<AddPeerRequest>,
) -> Result<Json<PeerConfig>, ApiProblem> {
    let expires = request
        .expires_seconds
        .map(|seconds| wall_now().saturating_add(Duration::from_secs(seconds)));
    let name = request.name.clone();
    let command = Command::AddDevice {
        name: request.name,
        perimeter: request.perimeter,
        public_key: request.public_key,
        labels: request.labels,
        expires,
    };
    let config = state
        .core
        .with(move |core| {
            core.commit(&actor, &command)?;
            let seen = core.controller().seen_by(&actor, wall_now());
            Ok::<_, ApiProblem>(seen.and_then(|seen| seen.device(&name)))
        })
        .await??;
    config
        .map(Json)
        .ok_or_else(|| ApiProblem::not_found("the device is gone already"))
}

/// A device and its wg-quick file as things stand.
#[utoipa::path(get, path = "/api/v1/peers/{name}", tag = "peers", security(("admin" = [])), params(("name" = String, Path)),
    responses((status = 200, body = PeerConfig), (status = "4XX", body = Problem)))]
pub(super) async fn show(
    reader: Reader,
    State(state): State<ApiState>,
    Path(name): Path<String>,
) -> Result<Json<PeerConfig>, ApiProblem> {
    let name = parse_name(&name)?;
    let shown = name.clone();
    let config = state.see(&reader, move |seen| seen.device(&name)).await?;
    config
        .map(Json)
        .ok_or_else(|| ApiProblem::not_found(format!("there is no device {shown}")))
}

/// Removes a device: no node answers its key any more.
#[utoipa::path(delete, path = "/api/v1/peers/{name}", tag = "peers", security(("admin" = [])), params(("name" = String, Path)),
    responses((status = 200, body = ChangeReport), (status = "4XX", body = Problem)))]
pub(super) async fn remove(
    Admin(actor): Admin,
    State(state): State<ApiState>,
    Path(name): Path<String>,
) -> Result<Json<ChangeReport>, ApiProblem> {
    let command = Command::RemoveDevice {
        name: parse_name(&name)?,
    };
    state.change(actor, command).await.map(Json)
}
