//! `/revisions` and `/health`.

use std::time::Duration;

use axum::Json;
use axum::extract::{Path, Query, State};
use ringfence_control::api::{Health, LatestRevision, Problem, Receipt, RevisionReceipt};
use ringfence_controlplane::Seen;
use ringfence_model::Revision;
use serde::Deserialize;
use tokio::time::Instant;

use super::ApiState;
use super::caller::Reader;
use super::problem::ApiProblem;

/// The query of `GET /revisions/{revision}/wait`.
#[derive(Deserialize, utoipa::IntoParams)]
#[serde(deny_unknown_fields)]
pub(super) struct WaitQuery {
    /// How long to wait; 0 asks how it is now.
    #[serde(default)]
    timeout_ms: u64,
}

/// The query of `GET /revisions/{revision}/receipt`.
#[derive(Deserialize, utoipa::IntoParams)]
#[serde(deny_unknown_fields)]
pub(super) struct ReceiptQuery {
    /// How long to wait until it is complete; 0 asks how it is now.
    #[serde(default)]
    wait_ms: u64,
}

/// Whether the controller works.
#[utoipa::path(get, path = "/api/v1/health", tag = "health", responses((status = 200, body = Health), (status = 503, body = Problem)))]
pub(super) async fn health(State(state): State<ApiState>) -> Result<Json<Health>, ApiProblem> {
    // Through the core: a health check that the core does not answer is a lie.
    state.core.revision().await?;
    Ok(Json(Health {
        status: "ok".to_owned(),
        version: env!("CARGO_PKG_VERSION").to_owned(),
    }))
}

/// The newest revision.
#[utoipa::path(get, path = "/api/v1/revisions/latest", tag = "revisions", security(("admin" = [])),
    responses((status = 200, body = LatestRevision), (status = "4XX", body = Problem)))]
pub(super) async fn latest(
    _: Reader,
    State(state): State<ApiState>,
) -> Result<Json<LatestRevision>, ApiProblem> {
    let revision = state.core.revision().await?;
    Ok(Json(LatestRevision { revision }))
}

/// Answers once every connected node enforces the revision (`latest`, or as a change reported it), or when time is up.
#[utoipa::path(get, path = "/api/v1/revisions/{revision}/wait", tag = "revisions", security(("admin" = [])), params(("revision" = String, Path), WaitQuery),
    responses((status = 200, body = Receipt), (status = "4XX", body = Problem)))]
pub(super) async fn wait(
    reader: Reader,
    State(state): State<ApiState>,
    Path(text): Path<String>,
    query: Result<Query<WaitQuery>, axum::extract::rejection::QueryRejection>,
) -> Result<Json<Receipt>, ApiProblem> {
    let Query(query) = query.map_err(|error| ApiProblem::bad_request(error.to_string()))?;
    // A new perimeter is in force once its members' keys are, and each key is a revision of its own: `latest` moves.
    let asked = asked_for(&text)?;
    let look = move |seen: Seen<'_>| {
        let revision = asked.unwrap_or_else(|| seen.revision());
        let receipt = seen.receipt_view(revision).ok_or(revision)?;
        Ok((receipt.complete, receipt))
    };
    look_until((&state, &reader), query.timeout_ms, look)
        .await
        .map(Json)
}

/// Who enforces a revision (`latest`, or as a change reported it) and after how long, and when those that are away have
/// closed. Answers once every connected node that it was for enforces it, or when time is up.
#[utoipa::path(get, path = "/api/v1/revisions/{revision}/receipt", tag = "revisions", security(("admin" = [])), params(("revision" = String, Path), ReceiptQuery),
    responses((status = 200, body = RevisionReceipt), (status = "4XX", body = Problem)))]
pub(super) async fn receipt(
    reader: Reader,
    State(state): State<ApiState>,
    Path(text): Path<String>,
    query: Result<Query<ReceiptQuery>, axum::extract::rejection::QueryRejection>,
) -> Result<Json<RevisionReceipt>, ApiProblem> {
    let Query(query) = query.map_err(|error| ApiProblem::bad_request(error.to_string()))?;
    let revision = match asked_for(&text)? {
        Some(revision) => revision,
        None => state.core.revision().await?,
    };
    let look = move |seen: Seen<'_>| {
        let receipt = seen.revision_receipt(revision).ok_or(revision)?;
        Ok((receipt.complete, receipt))
    };
    look_until((&state, &reader), query.wait_ms, look).await.map(Json)
}

/// A revision, or `None` for the latest.
fn asked_for(text: &str) -> Result<Option<Revision>, ApiProblem> {
    match text {
        "latest" => Ok(None),
        text => text.parse().map(Some).map_err(|_| {
            ApiProblem::bad_request("a revision is written TERM.NUMBER, as in 1.42, or `latest`")
        }),
    }
}

/// Looks again with everything that happens, until what is seen is complete or time is up. A look that finds nothing
/// names the revision that has not been yet.
async fn look_until<T: Send + 'static>(
    (state, reader): (&ApiState, &Reader),
    wait_ms: u64,
    look: impl Fn(Seen<'_>) -> Result<(bool, T), Revision> + Clone + Send + 'static,
) -> Result<T, ApiProblem> {
    let until = Instant::now() + Duration::from_millis(wait_ms.min(WAIT_MS_MAX));
    let mut progress = state.core.progress();
    loop {
        progress.mark_unchanged();
        let look = look.clone();
        let seen = state.see(reader, look).await?;
        let (complete, seen) =
            seen.map_err(|revision| ApiProblem::not_found(format!("revision {revision} has not been yet")))?;
        if complete || Instant::now() >= until {
            return Ok(seen);
        }
        // Either way it is looked at again: an ended wait answers with how far it got.
        let _ = tokio::time::timeout_at(until, progress.changed()).await;
    }
}

const WAIT_MS_MAX: u64 = 240_000;
