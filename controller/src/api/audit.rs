//! `/audit`: the log of changes, and the proof that nobody has rewritten it.

use axum::Json;
use axum::extract::{Query, State};
use ringfence_control::api::{AuditEntry, AuditList, AuditVerification, BrokenEntry, Problem};
use ringfence_controlplane::{ChainHead, audit_entry};
use ringfence_model::UnixMillis;
use serde::Deserialize;

use super::ApiState;
use super::problem::ApiProblem;
use super::request::Admin;
use crate::core::{Core, parse_entry};

/// The query of `GET /audit`.
#[derive(Deserialize, utoipa::IntoParams)]
#[serde(deny_unknown_fields)]
pub(super) struct AuditQuery {
    /// Only entries made at or after this time.
    #[serde(default)]
    since_ms: u64,
    /// How many at the most, the newest.
    #[serde(default = "default_limit")]
    limit: u32,
}

/// The log of changes, oldest first.
#[utoipa::path(get, path = "/api/v1/audit", tag = "audit", security(("admin" = [])), params(AuditQuery),
    responses((status = 200, body = AuditList), (status = "4XX", body = Problem)))]
pub(super) async fn list(
    _: Admin,
    State(state): State<ApiState>,
    query: Result<Query<AuditQuery>, axum::extract::rejection::QueryRejection>,
) -> Result<Json<AuditList>, ApiProblem> {
    let Query(query) = query.map_err(|error| ApiProblem::bad_request(error.to_string()))?;
    let limit = usize::try_from(query.limit.clamp(1, ENTRIES_MAX)).unwrap_or(1);
    let since = UnixMillis(query.since_ms);
    let list = state.core.with(move |core| read(core, since, limit)).await??;
    Ok(Json(list))
}

fn read(core: &mut Core, since: UnixMillis, limit: usize) -> Result<AuditList, ApiProblem> {
    // One more than asked for tells whether there are older ones.
    let mut stored = core.log().entries_since(since, limit + 1)?;
    let truncated = stored.len() > limit;
    if truncated {
        stored.remove(0);
    }
    let entries: Result<Vec<AuditEntry>, ApiProblem> = stored
        .iter()
        .map(|entry| match parse_entry(entry) {
            Ok(change) => Ok(audit_entry(&change)),
            Err(error) => Err(ApiProblem::new(
                axum::http::StatusCode::INTERNAL_SERVER_ERROR,
                "damaged-entry",
                "The log is damaged",
                format!("{error:#}: run `ringfence audit verify`"),
            )),
        })
        .collect();
    Ok(AuditList {
        entries: entries?,
        truncated,
    })
}

/// Walks the whole chain of hashes.
#[utoipa::path(get, path = "/api/v1/audit/verify", tag = "audit", security(("admin" = [])),
    responses((status = 200, body = AuditVerification), (status = "4XX", body = Problem)))]
pub(super) async fn verify(
    _: Admin,
    State(state): State<ApiState>,
) -> Result<Json<AuditVerification>, ApiProblem> {
    let verification = state.core.with(walk).await??;
    Ok(Json(verification))
}

fn walk(core: &mut Core) -> Result<AuditVerification, ApiProblem> {
    let (newest, expected) = (core.controller().revision(), core.controller().chain_head());
    let mut head = ChainHead::GENESIS;
    let mut entries = 0;
    let mut broken = None;
    core.log().visit_all(&mut |entry| {
        let step = parse_entry(entry)
            .map_err(|error| format!("{error:#}"))
            .and_then(|change| {
                // What the row says beside the change has to be what the change says.
                if change.revision != entry.revision || change.hash.0 != entry.hash || change.at != entry.at {
                    return Err("the row does not belong to the change in it".to_owned());
                }
                change.verify_after(head).map_err(|error| error.to_string())
            });
        match step {
            Ok(next) => {
                head = next;
                entries += 1;
                true
            }
            Err(why) => {
                broken = Some(BrokenEntry {
                    revision: entry.revision,
                    why,
                });
                false
            }
        }
    })?;
    if broken.is_none() && head != expected {
        broken = Some(BrokenEntry {
            revision: head.revision,
            why: format!(
                "the log ends here, and the controller is at {newest}: its end was cut off or replaced"
            ),
        });
    }
    Ok(AuditVerification {
        ok: broken.is_none(),
        entries,
        head: (entries > 0).then(|| head.hash.to_string()),
        revision: newest,
        broken,
    })
}

fn default_limit() -> u32 {
    1000
}

const ENTRIES_MAX: u32 = 10_000;
