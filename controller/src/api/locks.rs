//! `/locks`.

use std::time::Duration;

use axum::Json;
use axum::extract::{Path, State};
use ringfence_control::api::{ChangeReport, LockList, LockReport, LockRequest, Problem};
use ringfence_controlplane::{
    Actor, Command, Controller, Event, LockCommand, LockEvent, LockTargetError, Role,
};
use ringfence_model::LockId;

use super::ApiState;
use super::caller::{self, Owner, Reader};
use super::problem::ApiProblem;
use super::request::Body;
use crate::core::wall_now;

/// Lists locks.
#[utoipa::path(get, path = "/api/v1/locks", tag = "locks", security(("admin" = [])),
    responses((status = 200, body = LockList), (status = "4XX", body = Problem)))]
pub(super) async fn list(
    reader: Reader,
    State(state): State<ApiState>,
) -> Result<Json<LockList>, ApiProblem> {
    let locks = state.see(&reader, |seen| seen.lock_views()).await?;
    Ok(Json(LockList { locks }))
}

/// Locks a node, person, perimeter, label or join token: what is there is cut at once, what comes is refused.
#[utoipa::path(post, path = "/api/v1/locks", tag = "locks", security(("admin" = [])), request_body = LockRequest,
    responses((status = 200, body = LockReport), (status = "4XX", body = Problem)))]
pub(super) async fn set(
    Owner(actor): Owner,
    State(state): State<ApiState>,
    Body(request): Body<LockRequest>,
) -> Result<Json<LockReport>, ApiProblem> {
    let done = state.core.with(move |core| {
        let controller = core.controller();
        if let Some(role @ Role::Owner { .. }) = controller.role_of(&actor, wall_now()) {
            may_name(controller, (&actor, role), &request)?;
        }
        let command = Command::Locks(LockCommand::Set {
            target: controller.lock_target(&request.target)?,
            keep: controller.lock_keep(&request.keep)?,
            reason: request.reason,
            ttl: request.ttl_seconds.map(Duration::from_secs),
        });
        let (change, report) = core.commit_described(&actor, &command)?;
        let mut events = change.iter().flat_map(|change| &change.events);
        let set = events.find_map(|event| match event {
            Event::Locks(LockEvent::LockSet { lock }) => Some(lock.id),
            _ => None,
        });
        let lock = set.and_then(|id| core.controller().lock_view_of(id));
        Ok::<_, ApiProblem>((report, lock))
    });
    let (report, lock) = done.await??;
    let Some(lock) = lock else {
        return Err(ApiProblem::internal("no lock was set"));
    };
    Ok(Json(LockReport {
        lock,
        revision: report.revision,
        changes: report.changes,
        more_changes: report.more_changes,
    }))
}

/// Owners lock their perimeters alone, and keep who is in them: before anything is looked up, so that they learn of nothing
/// else whether it is there.
fn may_name(
    controller: &Controller,
    (actor, role): (&Actor, &Role),
    request: &LockRequest,
) -> Result<(), ApiProblem> {
    if !request.target.starts_with("perimeter:") {
        return Err(caller::not_for(actor, role));
    }
    let seen = controller.seen_by(actor, wall_now());
    let is_seen = |text: &String| {
        let name = text.strip_prefix("node:").unwrap_or(text);
        seen.is_some_and(|seen| seen.find_node(name).is_some())
    };
    match request.keep.iter().find(|text| !is_seen(text)) {
        Some(text) => Err(LockTargetError::Nobody(text.clone()).into()),
        None => Ok(()),
    }
}

/// Lifts a lock: what policy allows is open again.
#[utoipa::path(delete, path = "/api/v1/locks/{id}", tag = "locks", security(("admin" = [])), params(("id" = String, Path)),
    responses((status = 200, body = ChangeReport), (status = "4XX", body = Problem)))]
pub(super) async fn lift(
    Owner(actor): Owner,
    State(state): State<ApiState>,
    Path(id): Path<String>,
) -> Result<Json<ChangeReport>, ApiProblem> {
    let Ok(lock) = id.parse::<LockId>() else {
        return Err(ApiProblem::bad_request(
            "a lock's id is 16 hex digits, as `ringfence locks` prints it",
        ));
    };
    let command = Command::Locks(LockCommand::Lift { lock });
    state.change(actor, command).await.map(Json)
}

impl From<LockTargetError> for ApiProblem {
    fn from(error: LockTargetError) -> Self {
        match error {
            LockTargetError::Nobody(_) => Self::not_found(error.to_string()),
            LockTargetError::Shape(_)
            | LockTargetError::Perimeter(..)
            | LockTargetError::Label(_)
            | LockTargetError::Token(_)
            | LockTargetError::Issuer(..) => Self::bad_request(error.to_string()),
        }
    }
}
