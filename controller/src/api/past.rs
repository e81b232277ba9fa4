//! The mesh as it was: the log, read again up to a moment.

use ringfence_controlplane::{Controller, Replay};
use ringfence_model::UnixMillis;

use super::ApiState;
use super::problem::ApiProblem;
use crate::core::parse_entry;
use crate::store::Log;

/// The controller after the last entry that was made at or before `at`.
///
/// # Errors
/// If there was none yet, or the log is damaged.
pub(super) async fn controller_at(state: &ApiState, at: UnixMillis) -> Result<Controller, ApiProblem> {
    let reader = state.core.with(|core| core.log().reader()).await??;
    // A long log takes its time: the core goes on.
    let replayed = tokio::task::spawn_blocking(move || replay(reader, at)).await;
    replayed.map_err(|error| ApiProblem::internal(error.to_string()))?
}

fn replay(mut reader: Box<dyn Log>, at: UnixMillis) -> Result<Controller, ApiProblem> {
    let mut replay = Replay::default();
    let mut wrong = None;
    reader.visit_all(&mut |entry| {
        if entry.at > at {
            return false;
        }
        let pushed = parse_entry(entry).and_then(|change| Ok(replay.push(&change)?));
        wrong = pushed.err();
        wrong.is_none()
    })?;
    if let Some(error) = wrong {
        return Err(ApiProblem::internal(format!(
            "the log is damaged: {error:#}: run `ringfence audit verify`"
        )));
    }
    replay
        .finish()
        .map_err(|_| ApiProblem::not_found("the log begins later than that"))
}
