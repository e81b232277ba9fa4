//! `/workload-issuers`: whose tokens let machines in without a join token.

use axum::Json;
use axum::extract::{Path, State};
use ringfence_control::api::{
    ChangeReport, Problem, SetWorkloadIssuerRequest, TestWorkloadRequest, WorkloadIssuerDetail,
    WorkloadIssuerList, WorkloadTest,
};
use ringfence_controlplane::{Command, PolicyFile, WorkloadCommand, WorkloadRefusal};
use ringfence_model::Name;
use ringfence_transport::{PlatformToken, WorkloadLocator};
use zeroize::Zeroizing;

use super::ApiState;
use super::caller::{Admin, Auditor};
use super::perimeters::parse_name;
use super::problem::ApiProblem;
use super::request::Body;
use crate::core::wall_now;
use crate::identity::WorkloadError;

/// Lists the issuers.
#[utoipa::path(get, path = "/api/v1/workload-issuers", tag = "workloads", security(("admin" = [])),
    responses((status = 200, body = WorkloadIssuerList), (status = "4XX", body = Problem)))]
pub(super) async fn list(
    _: Auditor,
    State(state): State<ApiState>,
) -> Result<Json<WorkloadIssuerList>, ApiProblem> {
    let issuers = state.core.with(|core| core.controller().workload_issuer_views());
    Ok(Json(WorkloadIssuerList {
        issuers: issuers.await?,
    }))
}

/// Adds an issuer by its file, or replaces it.
#[utoipa::path(put, path = "/api/v1/workload-issuers", tag = "workloads", security(("admin" = [])), request_body = SetWorkloadIssuerRequest,
    responses((status = 200, body = ChangeReport), (status = "4XX", body = Problem), (status = 507, body = Problem)))]
pub(super) async fn set(
    Admin(actor): Admin,
    State(state): State<ApiState>,
    Body(request): Body<SetWorkloadIssuerRequest>,
) -> Result<Json<ChangeReport>, ApiProblem> {
    let file = PolicyFile {
        file: request.file.name,
        text: request.file.text,
    };
    let command = Command::Workloads(WorkloadCommand::Set { file });
    state.change(actor, command).await.map(Json)
}

/// One issuer, with its file and the locator for its workloads.
#[utoipa::path(get, path = "/api/v1/workload-issuers/{name}", tag = "workloads", security(("admin" = [])), params(("name" = String, Path)),
    responses((status = 200, body = WorkloadIssuerDetail), (status = "4XX", body = Problem)))]
pub(super) async fn show(
    _: Auditor,
    State(state): State<ApiState>,
    Path(name): Path<String>,
) -> Result<Json<WorkloadIssuerDetail>, ApiProblem> {
    let name = parse_name(&name)?;
    let (asked, join) = (name.clone(), state.join.clone());
    let detail = state.core.with(move |core| {
        let controller = core.controller();
        let locator = WorkloadLocator {
            controllers: join.controllers.clone(),
            ca_fingerprint: join.ca_fingerprint,
            mesh: controller.mesh().name.clone(),
            issuer: asked.clone(),
        };
        controller.workload_issuer_detail(&asked, locator.to_text())
    });
    detail.await?.map(Json).ok_or_else(|| no_issuer(name))
}

/// Removes an issuer: its word lets nobody in any more. Who came in by it stays.
#[utoipa::path(delete, path = "/api/v1/workload-issuers/{name}", tag = "workloads", security(("admin" = [])), params(("name" = String, Path)),
    responses((status = 200, body = ChangeReport), (status = "4XX", body = Problem)))]
pub(super) async fn remove(
    Admin(actor): Admin,
    State(state): State<ApiState>,
    Path(name): Path<String>,
) -> Result<Json<ChangeReport>, ApiProblem> {
    let name = parse_name(&name)?;
    let command = Command::Workloads(WorkloadCommand::Remove { name });
    state.change(actor, command).await.map(Json)
}

/// Says what a token would come to, and why. It is verified, and not used.
#[utoipa::path(post, path = "/api/v1/workload-issuers/{name}/test", tag = "workloads", security(("admin" = [])), params(("name" = String, Path)), request_body = TestWorkloadRequest,
    responses((status = 200, body = WorkloadTest), (status = "4XX", body = Problem)))]
pub(super) async fn test(
    _: Auditor,
    State(state): State<ApiState>,
    Path(name): Path<String>,
    Body(request): Body<TestWorkloadRequest>,
) -> Result<Json<WorkloadTest>, ApiProblem> {
    let name = parse_name(&name)?;
    let jwt = Zeroizing::new(request.jwt);
    let jwt = PlatformToken::parse(&jwt).map_err(|error| ApiProblem::bad_request(error.to_string()))?;
    let verified = match state.workloads.verify(&name, jwt.expose()).await {
        Ok(verified) => verified,
        Err(WorkloadError::NoIssuer(name)) => return Err(no_issuer(name)),
        Err(WorkloadError::Core(gone)) => return Err(gone.into()),
        Err(error @ (WorkloadError::Issuer(_) | WorkloadError::UnknownKey | WorkloadError::Token(_))) => {
            return Ok(Json(WorkloadTest {
                subject: None,
                admitted: false,
                rule: None,
                labels: None,
                name: None,
                why: vec![error.to_string()],
            }));
        }
    };
    let test = state
        .core
        .with(move |core| core.controller().test_workload(&verified, wall_now()));
    Ok(Json(test.await?))
}

fn no_issuer(name: Name) -> ApiProblem {
    ApiProblem::from(ringfence_controlplane::Refusal::from(WorkloadRefusal::NoIssuer(
        name,
    )))
}
