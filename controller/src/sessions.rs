//! The nodes that are connected now, and how to ask one of them something.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use ringfence_control::{
    DrillOrder, DrillReport, PeerCandidates, ProbeOrder, ProbeReport, SeenAnswer, SeenQuestion,
};
use ringfence_model::NodeId;
use tokio::sync::{mpsc, oneshot};

/// The nodes that are connected now. Cheap to clone.
#[derive(Clone, Default)]
pub struct Sessions(Arc<Shared>);

#[derive(Default)]
struct Shared {
    by_node: Mutex<BTreeMap<NodeId, Seat>>,
    next_id: AtomicU64,
}

struct Seat {
    id: u64,
    requests: mpsc::Sender<SessionRequest>,
}

/// What a session is asked to do.
pub enum SessionRequest {
    /// Have the node try flows.
    Probe(ProbeOrder, oneshot::Sender<ProbeReport>),
    /// Have the node take part in a drill.
    Drill(DrillOrder, oneshot::Sender<DrillReport>),
    /// Ask the node what it has seen.
    AskSeen(SeenQuestion, oneshot::Sender<SeenAnswer>),
    /// Tell the node where a peer may be reached.
    Candidates(PeerCandidates),
    /// End: a newer connection of the same node has come.
    Replaced,
}

/// A session's place in the registry, given up when dropped.
pub struct SessionSeat {
    sessions: Sessions,
    node: NodeId,
    /// Counts connections, so that an old one that ends late does not end a newer one.
    pub id: u64,
    /// What the session is asked.
    pub requests: mpsc::Receiver<SessionRequest>,
}

/// Why a node did not answer.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum AskError {
    /// It has no connection.
    #[error("not connected")]
    NotConnected,
    /// It has one and did not answer in time.
    #[error("did not answer in time")]
    Timeout,
}

impl Sessions {
    /// Takes a place for a node that has just connected; an older connection of it is told to end.
    pub fn join(&self, node: NodeId) -> SessionSeat {
        let id = self.next_id();
        let (requests, inbox) = mpsc::channel(REQUESTS_MAX);
        if let Some(old) = self.seats().insert(node, Seat { id, requests }) {
            // Full or gone: the transport ends it by its silence.
            let _ = old.requests.try_send(SessionRequest::Replaced);
        }
        SessionSeat {
            sessions: self.clone(),
            node,
            id,
            requests: inbox,
        }
    }

    /// A number no order or connection had before.
    pub fn next_id(&self) -> u64 {
        self.0.next_id.fetch_add(1, Ordering::Relaxed) + 1
    }

    /// Tells a node where a peer may be reached, if it is connected and listens.
    pub fn tell_candidates(&self, node: NodeId, candidates: PeerCandidates) {
        let requests = self.requests_of(node);
        if let Ok(requests) = requests {
            // A full queue loses it; the session tells all candidates again with its next netmap.
            let _ = requests.try_send(SessionRequest::Candidates(candidates));
        }
    }

    /// Has a node try flows.
    ///
    /// # Errors
    /// [`AskError`].
    pub async fn probe(&self, node: NodeId, order: ProbeOrder) -> Result<ProbeReport, AskError> {
        let wait = Duration::from_millis(order.wait_ms) + ANSWER_SLACK;
        let (answer, waiting) = oneshot::channel();
        self.ask(node, SessionRequest::Probe(order, answer), waiting, wait)
            .await
    }

    /// Has a node take part in a drill.
    ///
    /// # Errors
    /// [`AskError`].
    pub async fn drill(&self, node: NodeId, order: DrillOrder) -> Result<DrillReport, AskError> {
        let wait = Duration::from_millis(order.wait_ms) + ANSWER_SLACK;
        let (answer, waiting) = oneshot::channel();
        self.ask(node, SessionRequest::Drill(order, answer), waiting, wait)
            .await
    }

    /// Asks a node which flows it has seen.
    ///
    /// # Errors
    /// [`AskError`].
    pub async fn seen(&self, node: NodeId, question: SeenQuestion) -> Result<SeenAnswer, AskError> {
        let (answer, waiting) = oneshot::channel();
        self.ask(
            node,
            SessionRequest::AskSeen(question, answer),
            waiting,
            ANSWER_SLACK,
        )
        .await
    }

    async fn ask<T>(
        &self,
        node: NodeId,
        request: SessionRequest,
        waiting: oneshot::Receiver<T>,
        wait: Duration,
    ) -> Result<T, AskError> {
        let requests = self.requests_of(node)?;
        let exchange = async {
            requests.send(request).await.map_err(|_| AskError::NotConnected)?;
            waiting.await.map_err(|_| AskError::NotConnected)
        };
        tokio::time::timeout(wait, exchange)
            .await
            .map_err(|_| AskError::Timeout)?
    }

    fn requests_of(&self, node: NodeId) -> Result<mpsc::Sender<SessionRequest>, AskError> {
        let seats = self.seats();
        let seat = seats.get(&node).ok_or(AskError::NotConnected)?;
        Ok(seat.requests.clone())
    }

    fn seats(&self) -> MutexGuard<'_, BTreeMap<NodeId, Seat>> {
        self.0.by_node.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Drop for SessionSeat {
    fn drop(&mut self) {
        let mut seats = self.sessions.seats();
        if seats.get(&self.node).is_some_and(|seat| seat.id == self.id) {
            seats.remove(&self.node);
        }
    }
}

/// Requests that wait for one session.
const REQUESTS_MAX: usize = 256;
/// What an answer may take beyond what was asked for.
const ANSWER_SLACK: Duration = Duration::from_secs(5);

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn a_newer_connection_replaces_the_older_and_outlives_its_end() {
        let sessions = Sessions::default();
        let mut old = sessions.join(NodeId(1));
        let mut new = sessions.join(NodeId(1));

        assert!(matches!(
            old.requests.recv().await,
            Some(SessionRequest::Replaced)
        ));
        drop(old);
        let peer = PeerCandidates {
            peer: NodeId(2),
            candidates: Vec::new(),
            epoch: 0,
            lane_ports: Vec::new(),
        };
        sessions.tell_candidates(NodeId(1), peer);
        assert!(matches!(
            new.requests.recv().await,
            Some(SessionRequest::Candidates(_))
        ));
    }

    #[tokio::test]
    async fn asking_a_node_that_is_not_there_says_so() {
        let question = SeenQuestion {
            id: 1,
            perimeter: ringfence_model::Name::parse("x").unwrap(),
            flows: Vec::new(),
        };

        let answer = Sessions::default().seen(NodeId(9), question).await;

        assert_eq!(answer, Err(AskError::NotConnected));
    }
}
