//! What a node was asked and has not answered yet.

use std::collections::BTreeMap;

use ringfence_control::{DrillReport, ProbeReport, SeenAnswer};
use tokio::sync::oneshot;

/// Who waits for which answer.
#[derive(Default)]
pub(super) struct Unanswered {
    pub(super) probes: Waiting<ProbeReport>,
    pub(super) questions: Waiting<SeenAnswer>,
    pub(super) drills: Waiting<DrillReport>,
}

/// Those who wait for one kind of answer, by the number of what they asked.
pub(super) struct Waiting<T>(BTreeMap<u64, oneshot::Sender<T>>);

impl<T> Default for Waiting<T> {
    fn default() -> Self {
        Self(BTreeMap::new())
    }
}

impl<T> Waiting<T> {
    /// Someone waits from now on. Those who have given up are forgotten.
    pub(super) fn wait(&mut self, id: u64, answer: oneshot::Sender<T>) {
        self.0.retain(|_, waiting| !waiting.is_closed());
        self.0.insert(id, answer);
    }

    /// The node answered. What nobody waits for is dropped.
    pub(super) fn hear(&mut self, id: u64, answer: T) {
        if let Some(waiting) = self.0.remove(&id) {
            let _ = waiting.send(answer);
        }
    }
}
