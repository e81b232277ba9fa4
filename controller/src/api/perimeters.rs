//! `/perimeters`.

use axum::Json;
use axum::extract::{Path, State};
use ringfence_control::api::{
    ApplyReport, ApplyRequest, ChangeReport, PerimeterDetail, PerimeterList, Problem,
};
use ringfence_controlplane::{Actor, ApplyOptions, Command, PolicyFile};
use ringfence_model::Name;

use super::ApiState;
use super::caller::{Admin, Owner, Reader};
use super::problem::ApiProblem;
use super::request::Body;
use crate::core::{Core, wall_now};

/// Lists perimeters.
#[utoipa::path(get, path = "/api/v1/perimeters", tag = "perimeters", security(("admin" = [])),
    responses((status = 200, body = PerimeterList), (status = "4XX", body = Problem)))]
pub(super) async fn list(
    reader: Reader,
    State(state): State<ApiState>,
) -> Result<Json<PerimeterList>, ApiProblem> {
    let perimeters = state.see(&reader, |seen| seen.perimeter_summaries()).await?;
    Ok(Json(PerimeterList { perimeters }))
}

/// Makes files the policy of the perimeters they name: all of them or none.
#[utoipa::path(post, path = "/api/v1/perimeters", tag = "perimeters", security(("admin" = [])), request_body = ApplyRequest,
    responses((status = 200, body = ApplyReport), (status = "4XX", body = Problem), (status = 507, body = Problem)))]
pub(super) async fn apply(
    Owner(actor): Owner,
    State(state): State<ApiState>,
    Body(request): Body<ApplyRequest>,
) -> Result<Json<ApplyReport>, ApiProblem> {
    let report = state
        .core
        .with(move |core| apply_in(core, &actor, request))
        .await??;
    Ok(Json(report))
}

fn apply_in(core: &mut Core, actor: &Actor, request: ApplyRequest) -> Result<ApplyReport, ApiProblem> {
    let files: Vec<PolicyFile> = request
        .files
        .into_iter()
        .map(|file| PolicyFile {
            file: file.name,
            text: file.text,
        })
        .collect();
    let options = ApplyOptions {
        prune: request.prune,
        base: request.base,
    };
    let mut plan = core.controller().plan_apply(actor, files, options, wall_now())?;
    plan.report.dry_run = request.dry_run;
    if request.dry_run {
        // Nothing was changed: the revision is the one it was computed from.
        plan.report.revision = core.controller().revision();
    } else {
        core.commit_planned(&plan)?;
    }
    Ok(plan.report)
}

/// One perimeter in full, with its policy file as it was applied.
#[utoipa::path(get, path = "/api/v1/perimeters/{name}", tag = "perimeters", security(("admin" = [])), params(("name" = String, Path)),
    responses((status = 200, body = PerimeterDetail), (status = "4XX", body = Problem)))]
pub(super) async fn show(
    reader: Reader,
    State(state): State<ApiState>,
    Path(name): Path<String>,
) -> Result<Json<PerimeterDetail>, ApiProblem> {
    let name = parse_name(&name)?;
    let shown = name.clone();
    let detail = state
        .see(&reader, move |seen| seen.perimeter_detail(&name))
        .await?;
    match detail {
        Some(detail) => Ok(Json(detail)),
        None => Err(ApiProblem::not_found(format!("there is no perimeter {shown}"))),
    }
}

/// Removes a perimeter: its segments close on every node.
#[utoipa::path(delete, path = "/api/v1/perimeters/{name}", tag = "perimeters", security(("admin" = [])), params(("name" = String, Path)),
    responses((status = 200, body = ChangeReport), (status = "4XX", body = Problem)))]
pub(super) async fn remove(
    Admin(actor): Admin,
    State(state): State<ApiState>,
    Path(name): Path<String>,
) -> Result<Json<ChangeReport>, ApiProblem> {
    let command = Command::RemovePerimeter {
        name: parse_name(&name)?,
    };
    state.change(actor, command).await.map(Json)
}

impl ApiState {
    /// Carries a command out and reports the flows it opened and closed.
    pub(super) async fn change(&self, actor: Actor, command: Command) -> Result<ChangeReport, ApiProblem> {
        let report = self
            .core
            .with(move |core| core.commit_reported(&actor, &command))
            .await??;
        Ok(report)
    }
}

/// A name from a path.
pub(super) fn parse_name(text: &str) -> Result<Name, ApiProblem> {
    Name::parse(text).map_err(|error| ApiProblem::bad_request(error.to_string()))
}
