//! Pings on their way: who waits for which number.
//!
//! **Invariant:** at most [`WAITING_MAX`] wait at once, and nobody waits for longer than they said.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use tokio::sync::oneshot;

use ringfence_dataplane::{PingError, Pong};
use ringfence_model::{Name, NodeId};

use crate::command::Command;
use crate::packet_loop::LoopHandle;

/// Sends pings through the tunnel and hands each answer to the one who asked.
#[derive(Clone)]
pub(crate) struct Pings {
    packets: LoopHandle,
    waiting: Arc<Mutex<Waiting>>,
}

#[derive(Default)]
struct Waiting {
    next: u64,
    by_id: BTreeMap<u64, oneshot::Sender<Pong>>,
}

/// What became of one ping.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum PingEnd {
    /// It came back.
    Answered(Pong),
    /// It did not, in time.
    Lost,
    /// It was not sent.
    Refused(PingError),
    /// The node is busy with other pings, or stopping.
    Busy,
}

impl Pings {
    /// None on their way.
    pub(crate) fn new(packets: LoopHandle) -> Self {
        Self {
            packets,
            waiting: Arc::default(),
        }
    }

    /// Pings `peer` and waits for the answer.
    pub(crate) async fn ping(&self, peer: NodeId, perimeter: Option<Name>, wait: Duration) -> PingEnd {
        let Some((id, pong)) = self.register() else {
            return PingEnd::Busy;
        };
        let (answer, sent) = oneshot::channel();
        let command = Command::Ping {
            peer,
            perimeter,
            id,
            answer,
        };
        let end = match self.packets.send(command).await {
            Err(_) => PingEnd::Busy,
            Ok(()) => match sent.await {
                Err(_) => PingEnd::Busy,
                Ok(Err(error)) => PingEnd::Refused(error),
                Ok(Ok(())) => match tokio::time::timeout(wait, pong).await {
                    Ok(Ok(pong)) => PingEnd::Answered(pong),
                    Ok(Err(_)) | Err(_) => PingEnd::Lost,
                },
            },
        };
        self.lock().by_id.remove(&id);
        end
    }

    /// An answer came.
    pub(crate) fn answered(&self, pong: Pong) {
        if let Some(waiting) = self.lock().by_id.remove(&pong.id) {
            let _ = waiting.send(pong);
        }
    }

    /// The data plane gave up on `id`.
    pub(crate) fn lost(&self, id: u64) {
        self.lock().by_id.remove(&id);
    }

    fn register(&self) -> Option<(u64, oneshot::Receiver<Pong>)> {
        let mut waiting = self.lock();
        if waiting.by_id.len() >= WAITING_MAX {
            return None;
        }
        let id = waiting.next;
        waiting.next += 1;
        let (sender, receiver) = oneshot::channel();
        waiting.by_id.insert(id, sender);
        Some((id, receiver))
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, Waiting> {
        // A panic while holding it cannot leave the map half-changed.
        self.waiting.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Pings on their way at once; the next asker is told that the node is busy.
const WAITING_MAX: usize = 1024;
