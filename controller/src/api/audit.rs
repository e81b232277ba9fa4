//! `/audit`: the log of changes, and the proof that nobody has rewritten it.

use std::collections::VecDeque;

use axum::Json;
use axum::extract::{Query, State};
use ringfence_control::api::{AuditList, AuditVerification, BrokenEntry, Problem};
use ringfence_controlplane::{Actor, ChainHead, Change, Replay, Role, Snapshot};
use ringfence_model::UnixMillis;
use serde::Deserialize;

use super::ApiState;
use super::caller::{Auditor, Reader, invalid_token};
use super::problem::ApiProblem;
use crate::core::{Core, parse_entry, wall_now};
use crate::store::{Entry, Log, StoreError};

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
    Reader(actor): Reader,
    State(state): State<ApiState>,
    query: Result<Query<AuditQuery>, axum::extract::rejection::QueryRejection>,
) -> Result<Json<AuditList>, ApiProblem> {
    let Query(query) = query.map_err(|error| ApiProblem::bad_request(error.to_string()))?;
    let limit = usize::try_from(query.limit.clamp(1, ENTRIES_MAX)).unwrap_or(1);
    let since = UnixMillis(query.since_ms);
    let list = state
        .core
        .with(move |core| read(core, &actor, since, limit))
        .await??;
    Ok(Json(list))
}

fn read(core: &mut Core, actor: &Actor, since: UnixMillis, limit: usize) -> Result<AuditList, ApiProblem> {
    // One more than asked for tells whether there are older ones. Of an owner's it is not known how far back they lie.
    let sees_all = core
        .controller()
        .role_of(actor, wall_now())
        .is_some_and(Role::sees_all);
    let looked_at = if sees_all {
        limit + 1
    } else {
        ENTRIES_MAX as usize + 1
    };
    let stored = core.log().entries_since(since, looked_at)?;
    let Some(seen) = core.controller().seen_by(actor, wall_now()) else {
        return Err(invalid_token());
    };
    let mut entries = VecDeque::new();
    let mut truncated = stored.len() == looked_at;
    for entry in &stored {
        entries.extend(seen.audit_entry(&change_in(entry)?));
        if entries.len() > limit {
            entries.pop_front();
            truncated = true;
        }
    }
    Ok(AuditList {
        entries: entries.into(),
        truncated,
    })
}

fn change_in(entry: &Entry) -> Result<Change, ApiProblem> {
    parse_entry(entry).map_err(|error| {
        ApiProblem::new(
            axum::http::StatusCode::INTERNAL_SERVER_ERROR,
            "damaged-entry",
            "The log is damaged",
            format!("{error:#}: run `ringfence audit verify`"),
        )
    })
}

/// Walks the whole chain of hashes.
#[utoipa::path(get, path = "/api/v1/audit/verify", tag = "audit", security(("admin" = [])),
    responses((status = 200, body = AuditVerification), (status = "4XX", body = Problem)))]
pub(super) async fn verify(
    _: Auditor,
    State(state): State<ApiState>,
) -> Result<Json<AuditVerification>, ApiProblem> {
    let (reader, expected) = state
        .core
        .with(|core| Ok::<_, StoreError>((core.log().reader()?, core.controller().snapshot())))
        .await??;
    // A long log takes its time: the core goes on, and what is appended meanwhile is not looked at.
    let walked = tokio::task::spawn_blocking(move || walk(reader, &expected)).await;
    let verification = walked.map_err(|error| ApiProblem::internal(error.to_string()))??;
    Ok(Json(verification))
}

/// Walks the chain, and plays the log again: the state in force must be what the log alone gives.
fn walk(mut log: Box<dyn Log>, expected: &Snapshot) -> Result<AuditVerification, ApiProblem> {
    let newest = expected.chain_head().revision;
    let mut walk = Walk::default();
    log.visit_all(&mut |entry| entry.revision <= newest && walk.step(entry))?;
    let Walk {
        replay,
        head,
        entries,
        mut broken,
    } = walk;
    let wrong = if head != expected.chain_head() {
        Some(format!(
            "the log ends here, and the controller is at {newest}: its end was cut off or replaced"
        ))
    } else if replay.into_snapshot().as_ref() != Some(expected) {
        Some("the log gives another state than the one in force: a snapshot was forged. Stop the controller, delete the rows of table `snapshot` in its store, and start it".to_owned())
    } else {
        None
    };
    if broken.is_none() {
        let revision = head.revision;
        broken = wrong.map(|why| BrokenEntry { revision, why });
    }
    Ok(AuditVerification {
        ok: broken.is_none(),
        entries,
        head: (entries > 0).then(|| head.hash.to_string()),
        revision: newest,
        broken,
    })
}

/// How far the log was walked.
struct Walk {
    replay: Replay,
    head: ChainHead,
    entries: u64,
    broken: Option<BrokenEntry>,
}

impl Default for Walk {
    fn default() -> Self {
        Self {
            replay: Replay::default(),
            head: ChainHead::GENESIS,
            entries: 0,
            broken: None,
        }
    }
}

impl Walk {
    /// Takes the next entry; `false` if it is not as it was written.
    fn step(&mut self, entry: &Entry) -> bool {
        match self.follow(entry) {
            Ok(head) => {
                self.head = head;
                self.entries += 1;
                true
            }
            Err(why) => {
                let revision = entry.revision;
                self.broken = Some(BrokenEntry { revision, why });
                false
            }
        }
    }

    fn follow(&mut self, entry: &Entry) -> Result<ChainHead, String> {
        let change = parse_entry(entry).map_err(|error| format!("{error:#}"))?;
        // What the row says beside the change has to be what the change says.
        if change.revision != entry.revision || change.hash.0 != entry.hash || change.at != entry.at {
            return Err("the row does not belong to the change in it".to_owned());
        }
        let head = change
            .verify_after(self.head)
            .map_err(|error| error.to_string())?;
        self.replay.push(&change).map_err(|error| error.to_string())?;
        Ok(head)
    }
}

fn default_limit() -> u32 {
    1000
}

const ENTRIES_MAX: u32 = 10_000;
