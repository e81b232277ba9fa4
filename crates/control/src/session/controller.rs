//! The controller's end of one node's connection: what the node was last sent, and what it is sent next.
//!
//! **Invariant:** revisions sent to a node only go up, and one netmap that a node refuses is not sent again: a node
//! and a controller that disagree cannot make each other spin.

use std::time::{Duration, Instant};

use ringfence_model::{Name, NodeId, Revision, UnixMillis};

use crate::{CAPABILITY, Delta, Enforced, Hello, Lease, Netmap, NetmapRefused, ToNode, Welcome};

/// The controller's end of one connection. Ends with it.
#[derive(Debug)]
pub struct ControllerSession {
    node: NodeId,
    sent: Option<Sent>,
    enforced: Option<Revision>,
    next_lease: Option<Instant>,
}

#[derive(Debug)]
struct Sent {
    netmap: Netmap,
    how: How,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum How {
    Full,
    Delta,
}

/// Why a node cannot be served. Send [`ToNode::Refused`] with the text and close.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum GreetError {
    /// The controller knows less than the node: it was restored from a backup without a new term.
    #[error(
        "the node enforces revision {node}, the controller is at {controller}: it was set back without a new term"
    )]
    Behind {
        /// The node's.
        node: Revision,
        /// Ours.
        controller: Revision,
    },
}

impl ControllerSession {
    /// A session with `node`, before its hello.
    pub fn new(node: NodeId) -> Self {
        Self {
            node,
            sent: None,
            enforced: None,
            next_lease: None,
        }
    }

    /// Which node this is.
    pub fn node(&self) -> NodeId {
        self.node
    }

    /// The newest revision the node has said it enforces, on this connection.
    pub fn enforced(&self) -> Option<Revision> {
        self.enforced
    }

    /// The newest revision sent.
    pub fn sent(&self) -> Option<Revision> {
        self.sent.as_ref().map(|sent| sent.netmap.revision)
    }

    /// Whether the netmap that was sent last lists `peer`. The node forgets what it hears of anybody else.
    pub fn lists(&self, peer: NodeId) -> bool {
        let mut segments = self.sent.iter().flat_map(|sent| sent.netmap.segments.values());
        segments.any(|segment| segment.peers.contains_key(&peer))
    }

    /// Answers a hello: welcome, then `current` in full, or as a delta if the node's own is the same but for its number.
    ///
    /// # Errors
    /// [`GreetError`] if the node cannot be served.
    pub fn handle_hello(
        &mut self,
        hello: &Hello,
        mesh: &Name,
        current: &Netmap,
        wall: UnixMillis,
        now: Instant,
    ) -> Result<Vec<ToNode>, GreetError> {
        let theirs = hello.revision.unwrap_or(Revision::ZERO);
        if theirs > current.revision {
            return Err(GreetError::Behind {
                node: theirs,
                controller: current.revision,
            });
        }
        let welcome = ToNode::Welcome(Welcome {
            capability: hello.capability.min(CAPABILITY),
            mesh: mesh.clone(),
            wall,
        });
        let same = hello.revision.is_some() && hello.netmap_hash == Some(current.content_hash_at(theirs));
        let netmap = if same {
            let mut before = current.clone();
            before.revision = theirs;
            self.send_delta(&before, current, now)
        } else {
            self.send_full(current, now)
        };
        Ok(vec![welcome, netmap])
    }

    /// What to send now that `current` is the node's netmap, or `None` if it has been sent or the node has not said
    /// hello. A revision that changes nothing for this node is sent as well, empty: every node acknowledges every one.
    pub fn push(&mut self, current: &Netmap, now: Instant) -> Option<ToNode> {
        let sent = self
            .sent
            .take_if(|sent| sent.netmap.revision < current.revision)?;
        Some(self.send_delta(&sent.netmap, current, now))
    }

    /// The node refused a netmap: the full one, unless that is what it refused.
    pub fn handle_refused(
        &mut self,
        refused: &NetmapRefused,
        current: &Netmap,
        now: Instant,
    ) -> Option<ToNode> {
        let sent = self.sent.as_ref()?;
        let stuck = sent.how == How::Full
            && sent.netmap.revision == current.revision
            && refused.revision == current.revision;
        if stuck {
            return None;
        }
        Some(self.send_full(current, now))
    }

    /// The node acknowledged a revision. Gives whether that is news: one beyond what was sent never is.
    pub fn handle_enforced(&mut self, enforced: &Enforced) -> bool {
        let news = Some(enforced.revision) <= self.sent() && Some(enforced.revision) > self.enforced;
        if news {
            self.enforced = Some(enforced.revision);
        }
        news
    }

    /// When the node next needs word from the controller.
    pub fn poll_timeout(&self) -> Option<Instant> {
        self.next_lease
    }

    /// The word, if it is due.
    pub fn handle_timeout(&mut self, now: Instant) -> Option<ToNode> {
        let due = self.next_lease.is_some_and(|at| at <= now);
        let sent = self.sent.as_ref().filter(|_| due)?;
        let lease = Lease {
            revision: sent.netmap.revision,
        };
        self.next_lease = Some(now + lease_interval(&sent.netmap));
        Some(ToNode::Lease(lease))
    }

    fn send_delta(&mut self, before: &Netmap, current: &Netmap, now: Instant) -> ToNode {
        let delta = Delta::between(before, current);
        self.note_sent(current, How::Delta, now);
        ToNode::Delta(delta)
    }

    fn send_full(&mut self, current: &Netmap, now: Instant) -> ToNode {
        self.note_sent(current, How::Full, now);
        ToNode::Full(current.clone())
    }

    fn note_sent(&mut self, current: &Netmap, how: How, now: Instant) {
        self.next_lease = Some(now + lease_interval(current));
        self.sent = Some(Sent {
            netmap: current.clone(),
            how,
        });
    }
}

/// A quarter of the shortest lease, so that three words may get lost; at most [`LEASE_INTERVAL_MAX`].
fn lease_interval(netmap: &Netmap) -> Duration {
    let shortest = netmap.segments.values().map(|segment| segment.lease_ms).min();
    let quarter = shortest.map_or(LEASE_INTERVAL_MAX, |ms| Duration::from_millis(ms / 4));
    quarter.clamp(LEASE_INTERVAL_MIN, LEASE_INTERVAL_MAX)
}

/// Often enough that a node on a long lease notices a controller that is gone.
const LEASE_INTERVAL_MAX: Duration = Duration::from_secs(15);
const LEASE_INTERVAL_MIN: Duration = Duration::from_millis(250);
