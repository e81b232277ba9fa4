//! `/posture`, and what is known of a node's machine.

use std::time::Duration;

use axum::Json;
use axum::extract::{Path, State};
use ringfence_control::api::{
    ApplyPostureReport, ApplyPostureRequest, ChangeReport, GiveFactRequest, NodePosture, PostureDetail,
    Problem,
};
use ringfence_controlplane::{Command, PolicyFile, PostureCommand};

use super::ApiState;
use super::caller::{Admin, Auditor, Reader};
use super::perimeters::parse_name;
use super::problem::ApiProblem;
use super::request::Body;
use crate::core::{CommitError, wall_now};

/// The posture file, and how many nodes meet each of its checks.
#[utoipa::path(get, path = "/api/v1/posture", tag = "posture", security(("admin" = [])),
    responses((status = 200, body = PostureDetail), (status = "4XX", body = Problem)))]
pub(super) async fn show(
    _: Auditor,
    State(state): State<ApiState>,
) -> Result<Json<PostureDetail>, ApiProblem> {
    let detail = state
        .core
        .with(|core| core.controller().posture_detail(wall_now()));
    Ok(Json(detail.await?))
}

/// Replaces the posture file. One without a check that a rule asks for is refused, unless `force` is set.
#[utoipa::path(put, path = "/api/v1/posture", tag = "posture", security(("admin" = [])), request_body = ApplyPostureRequest,
    responses((status = 200, body = ApplyPostureReport), (status = "4XX", body = Problem), (status = 507, body = Problem)))]
pub(super) async fn apply(
    Admin(actor): Admin,
    State(state): State<ApiState>,
    Body(request): Body<ApplyPostureRequest>,
) -> Result<Json<ApplyPostureReport>, ApiProblem> {
    let file = PolicyFile {
        file: request.file.name,
        text: request.file.text,
    };
    let command = Command::Posture(PostureCommand::Apply {
        file,
        may_close: request.force,
    });
    let report = state.core.with(move |core| {
        let change = core.commit_reported(&actor, &command)?;
        Ok::<_, CommitError>(ApplyPostureReport {
            revision: change.revision,
            changes: change.changes,
            more_changes: change.more_changes,
            warnings: core.controller().unknown_checks(),
        })
    });
    Ok(Json(report.await??))
}

/// What is known of a node's machine, and what came of each check.
#[utoipa::path(get, path = "/api/v1/nodes/{node}/posture", tag = "posture", security(("admin" = [])), params(("node" = String, Path)),
    responses((status = 200, body = NodePosture), (status = "4XX", body = Problem)))]
pub(super) async fn of_node(
    reader: Reader,
    State(state): State<ApiState>,
    Path(node): Path<String>,
) -> Result<Json<NodePosture>, ApiProblem> {
    let id = state.find_seen_node(&reader, &node).await?;
    let posture = state
        .see(&reader, move |seen| seen.node_posture(id, wall_now()))
        .await?;
    posture
        .map(Json)
        .ok_or_else(|| ApiProblem::not_found("the node was removed just now".to_owned()))
}

/// Says something about a node that it cannot know itself; checks ask for it as `custom.NAME`.
#[utoipa::path(put, path = "/api/v1/nodes/{node}/facts/{name}", tag = "posture", security(("admin" = [])), params(("node" = String, Path), ("name" = String, Path)), request_body = GiveFactRequest,
    responses((status = 200, body = ChangeReport), (status = "4XX", body = Problem), (status = 507, body = Problem)))]
pub(super) async fn give(
    Admin(actor): Admin,
    State(state): State<ApiState>,
    Path((node, name)): Path<(String, String)>,
    Body(request): Body<GiveFactRequest>,
) -> Result<Json<ChangeReport>, ApiProblem> {
    let command = PostureCommand::Give {
        node: state.find_node(&node).await?,
        fact: parse_name(&name)?,
        value: request.value.into(),
        ttl: Duration::from_secs(request.ttl_seconds),
    };
    state.change(actor, Command::Posture(command)).await.map(Json)
}
