//! `/access`.

use std::time::Duration;

use axum::Json;
use axum::extract::rejection::QueryRejection;
use axum::extract::{Path, Query, State};
use axum::http::StatusCode;
use ringfence_control::api::{
    AccessList, AccessReport, AccessState, AccessView, AnswerAccessRequest, AskAccessRequest, ChangeReport,
    Problem,
};
use ringfence_controlplane::{AccessCommand, AccessFilter, Actor, Change, Command, Controller, Urgency};
use ringfence_model::{AccessId, Name, NodeId};
use serde::Deserialize;

use super::ApiState;
use super::caller::{Admin, Owner, Reader};
use super::nodes::no_node;
use super::problem::ApiProblem;
use super::request::Body;
use crate::core::Core;

/// The query of `GET /access`.
#[derive(Deserialize, utoipa::IntoParams)]
#[serde(deny_unknown_fields)]
pub(super) struct AccessQuery {
    /// Only in this perimeter.
    #[param(value_type = Option<String>)]
    perimeter: Option<Name>,
    /// Only from this node, by name or id.
    node: Option<String>,
    /// Only what stands so.
    #[param(inline)]
    standing: Option<AccessState>,
}

/// What was asked for and waits, is granted, or owes a review, oldest first.
#[utoipa::path(get, path = "/api/v1/access", tag = "access", security(("admin" = [])), params(AccessQuery),
    responses((status = 200, body = AccessList), (status = "4XX", body = Problem)))]
pub(super) async fn list(
    reader: Reader,
    State(state): State<ApiState>,
    query: Result<Query<AccessQuery>, QueryRejection>,
) -> Result<Json<AccessList>, ApiProblem> {
    let Query(query) = query.map_err(|error| ApiProblem::bad_request(error.to_string()))?;
    let node = match query.node {
        Some(text) => Some(state.find_seen_node(&reader, &text).await?),
        None => None,
    };
    let filter = AccessFilter {
        perimeter: query.perimeter,
        node,
        standing: query.standing,
    };
    let access = state.see(&reader, move |seen| seen.access_views(&filter)).await?;
    Ok(Json(AccessList { access }))
}

/// One of them.
#[utoipa::path(get, path = "/api/v1/access/{id}", tag = "access", security(("admin" = [])), params(("id" = u32, Path)),
    responses((status = 200, body = AccessView), (status = "4XX", body = Problem)))]
pub(super) async fn show(
    reader: Reader,
    State(state): State<ApiState>,
    Path(id): Path<String>,
) -> Result<Json<AccessView>, ApiProblem> {
    let access = parse_id(&id)?;
    let found = state
        .see(&reader, move |seen| seen.access_view_of(access))
        .await?;
    found
        .map(Json)
        .ok_or_else(|| ApiProblem::not_found(format!("there is no request for access {access}")))
}

/// Asks for access for a node, or for a person where they are logged in.
#[utoipa::path(post, path = "/api/v1/access", tag = "access", security(("admin" = [])), request_body = AskAccessRequest,
    responses((status = 200, body = AccessReport), (status = "4XX", body = Problem)))]
pub(super) async fn ask(
    Admin(actor): Admin,
    State(state): State<ApiState>,
    Body(request): Body<AskAccessRequest>,
) -> Result<Json<AccessReport>, ApiProblem> {
    let done = state.core.with(move |core| ask_in(core, &actor, request));
    done.await?.map(Json)
}

/// Approves a request. With the last approval that it needs it is granted.
#[utoipa::path(post, path = "/api/v1/access/{id}/approve", tag = "access", security(("admin" = [])), params(("id" = u32, Path)),
    request_body = AnswerAccessRequest, responses((status = 200, body = AccessReport), (status = "4XX", body = Problem)))]
pub(super) async fn approve(
    Owner(actor): Owner,
    State(state): State<ApiState>,
    Path(id): Path<String>,
    Body(AnswerAccessRequest { reason }): Body<AnswerAccessRequest>,
) -> Result<Json<AccessReport>, ApiProblem> {
    let access = parse_id(&id)?;
    state
        .answer(actor, access, AccessCommand::Approve { access, reason })
        .await
}

/// Denies a request.
#[utoipa::path(post, path = "/api/v1/access/{id}/deny", tag = "access", security(("admin" = [])), params(("id" = u32, Path)),
    request_body = AnswerAccessRequest, responses((status = 200, body = AccessReport), (status = "4XX", body = Problem)))]
pub(super) async fn deny(
    Owner(actor): Owner,
    State(state): State<ApiState>,
    Path(id): Path<String>,
    Body(AnswerAccessRequest { reason }): Body<AnswerAccessRequest>,
) -> Result<Json<AccessReport>, ApiProblem> {
    let access = parse_id(&id)?;
    state
        .answer(actor, access, AccessCommand::Deny { access, reason })
        .await
}

/// Ends what is granted, at once, or takes a request back.
#[utoipa::path(post, path = "/api/v1/access/{id}/end", tag = "access", security(("admin" = [])), params(("id" = u32, Path)),
    responses((status = 200, body = AccessReport), (status = "4XX", body = Problem)))]
pub(super) async fn end(
    Owner(actor): Owner,
    State(state): State<ApiState>,
    Path(id): Path<String>,
) -> Result<Json<AccessReport>, ApiProblem> {
    let access = parse_id(&id)?;
    state.answer(actor, access, AccessCommand::End { access }).await
}

/// Reviews what was opened before anybody approved.
#[utoipa::path(post, path = "/api/v1/access/{id}/review", tag = "access", security(("admin" = [])), params(("id" = u32, Path)),
    request_body = AnswerAccessRequest, responses((status = 200, body = AccessReport), (status = "4XX", body = Problem)))]
pub(super) async fn review(
    Owner(actor): Owner,
    State(state): State<ApiState>,
    Path(id): Path<String>,
    Body(AnswerAccessRequest { reason }): Body<AnswerAccessRequest>,
) -> Result<Json<AccessReport>, ApiProblem> {
    let access = parse_id(&id)?;
    state
        .answer(actor, access, AccessCommand::Review { access, reason })
        .await
}

impl ApiState {
    async fn answer(
        &self,
        actor: Actor,
        access: AccessId,
        command: AccessCommand,
    ) -> Result<Json<AccessReport>, ApiProblem> {
        let done = self.core.with(move |core| {
            let (_, change) = core.commit_described(&actor, &Command::Access(command))?;
            Ok(report(core, Some(access), change))
        });
        done.await?.map(Json)
    }
}

fn ask_in(core: &mut Core, actor: &Actor, request: AskAccessRequest) -> Result<AccessReport, ApiProblem> {
    let command = Command::Access(AccessCommand::Request {
        node: node_of(core.controller(), &request)?,
        perimeter: request.perimeter,
        to: request.to,
        services: request.ports,
        length: Duration::from_secs(request.for_seconds),
        reason: request.reason,
        urgency: if request.break_glass {
            Urgency::BreakGlass
        } else {
            Urgency::Ordinary
        },
    });
    let (change, described) = core.commit_described(actor, &command)?;
    let asked = change.as_ref().and_then(Change::access_requested);
    Ok(report(core, asked, described))
}

/// What became of a request, beside what that changed.
fn report(core: &Core, access: Option<AccessId>, change: ChangeReport) -> AccessReport {
    AccessReport {
        access: access.and_then(|id| core.controller().access_view_of(id)),
        revision: change.revision,
        changes: change.changes,
        more_changes: change.more_changes,
    }
}

/// From where access is asked for.
fn node_of(controller: &Controller, request: &AskAccessRequest) -> Result<NodeId, ApiProblem> {
    match (&request.node, &request.user) {
        (Some(node), None) => {
            let found = controller.find(node).and_then(|id| controller.node(id));
            found.map(|node| node.id).ok_or_else(|| no_node(node))
        }
        (None, Some(user)) => {
            let user = controller.find_user(user)?;
            let mut at = controller.sessions().filter(|session| session.login.user == user);
            match (at.next(), at.next()) {
                (Some(only), None) => Ok(only.node),
                (None, _) => Err(conflict(
                    "nobody-there",
                    "they are logged in nowhere: access is for a node, or for who is there",
                )),
                (Some(_), Some(_)) => Err(conflict(
                    "several-nodes",
                    "they are logged in at several nodes: name one of them",
                )),
            }
        }
        (Some(_), Some(_)) | (None, None) => Err(ApiProblem::bad_request(
            "access is for a node or for a user: name one of them",
        )),
    }
}

fn conflict(code: &str, detail: &str) -> ApiProblem {
    ApiProblem::new(StatusCode::CONFLICT, code, "It does not say from where", detail)
}

fn parse_id(text: &str) -> Result<AccessId, ApiProblem> {
    text.parse()
        .map_err(|error: ringfence_model::AccessIdError| ApiProblem::bad_request(error.to_string()))
}
