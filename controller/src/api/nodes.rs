//! `/nodes`.

use axum::Json;
use axum::extract::{Path, State};
use ringfence_control::api::{ChangeReport, NodeList, NodeView, PatchNodeRequest, Problem};
use ringfence_controlplane::Command;
use ringfence_model::NodeId;

use super::ApiState;
use super::caller::{Admin, Reader};
use super::problem::ApiProblem;
use super::request::Body;

/// Lists nodes.
#[utoipa::path(get, path = "/api/v1/nodes", tag = "nodes", security(("admin" = [])),
    responses((status = 200, body = NodeList), (status = "4XX", body = Problem)))]
pub(super) async fn list(
    reader: Reader,
    State(state): State<ApiState>,
) -> Result<Json<NodeList>, ApiProblem> {
    let nodes = state.see(&reader, |seen| seen.node_views()).await?;
    Ok(Json(NodeList { nodes }))
}

/// One node, by name or id.
#[utoipa::path(get, path = "/api/v1/nodes/{node}", tag = "nodes", security(("admin" = [])), params(("node" = String, Path)),
    responses((status = 200, body = NodeView), (status = "4XX", body = Problem)))]
pub(super) async fn show(
    reader: Reader,
    State(state): State<ApiState>,
    Path(node): Path<String>,
) -> Result<Json<NodeView>, ApiProblem> {
    let id = state.find_seen_node(&reader, &node).await?;
    let view = state.see(&reader, move |seen| seen.node_view(id)).await?;
    view.map(Json).ok_or_else(|| no_node(&node))
}

/// Changes a node's name and labels in one step.
#[utoipa::path(patch, path = "/api/v1/nodes/{node}", tag = "nodes", security(("admin" = [])), params(("node" = String, Path)), request_body = PatchNodeRequest,
    responses((status = 200, body = ChangeReport), (status = "4XX", body = Problem)))]
pub(super) async fn update(
    Admin(actor): Admin,
    State(state): State<ApiState>,
    Path(node): Path<String>,
    Body(request): Body<PatchNodeRequest>,
) -> Result<Json<ChangeReport>, ApiProblem> {
    let command = Command::UpdateNode {
        node: state.find_node(&node).await?,
        name: request.name,
        set: request.set_labels,
        remove: request.remove_labels,
    };
    state.change(actor, command).await.map(Json)
}

/// Removes a node: its certificate, keys and flows are worthless at once.
#[utoipa::path(delete, path = "/api/v1/nodes/{node}", tag = "nodes", security(("admin" = [])), params(("node" = String, Path)),
    responses((status = 200, body = ChangeReport), (status = "4XX", body = Problem)))]
pub(super) async fn remove(
    Admin(actor): Admin,
    State(state): State<ApiState>,
    Path(node): Path<String>,
) -> Result<Json<ChangeReport>, ApiProblem> {
    let node = state.find_node(&node).await?;
    state.change(actor, Command::RemoveNode { node }).await.map(Json)
}

impl ApiState {
    pub(super) async fn find_node(&self, text: &str) -> Result<NodeId, ApiProblem> {
        let asked = text.to_owned();
        let found = self
            .core
            .with(move |core| {
                let id = core.controller().find(&asked)?;
                core.controller().node(id).map(|node| node.id)
            })
            .await?;
        found.ok_or_else(|| no_node(text))
    }

    /// The same for one who may not know of every node.
    pub(super) async fn find_seen_node(&self, reader: &Reader, text: &str) -> Result<NodeId, ApiProblem> {
        let asked = text.to_owned();
        let found = self.see(reader, move |seen| seen.find_node(&asked)).await?;
        found.ok_or_else(|| no_node(text))
    }
}

pub(super) fn no_node(text: &str) -> ApiProblem {
    let shown: String = text.chars().filter(|c| !c.is_control()).take(80).collect();
    ApiProblem::not_found(format!(
        "there is no node {shown:?}: `ringfence node ls` lists them"
    ))
}
