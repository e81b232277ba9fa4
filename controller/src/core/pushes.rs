//! Who is woken by a change: the connections of the nodes it concerns, and nobody else.
//!
//! **Invariant:** a push is never lost. A connection holds one place for the newest; what came before it is known from
//! the netmap that it has its session take. Nothing comes after a removal, so nothing takes the place of one.

use std::collections::BTreeMap;

use ringfence_controlplane::{Push, PushKind};
use ringfence_model::NodeId;
use tokio::sync::watch;

/// The connections to wake. Owned by the core: when it ends, so do they.
#[derive(Default)]
pub(super) struct Listeners {
    by_node: BTreeMap<NodeId, Connections>,
}

/// By their number. An older one is told as well until it has ended.
type Connections = BTreeMap<u64, watch::Sender<PushKind>>;

/// What becomes of one node, for one connection of it.
pub struct Pushes(watch::Receiver<PushKind>);

impl Listeners {
    /// Tells a connection of `node` from now on, until [`Self::leave`] or the node's removal.
    pub(super) fn join(&mut self, node: NodeId, connection_id: u64) -> Pushes {
        // The first value is nobody's to see: only what is sent from now on is news.
        let (sender, receiver) = watch::channel(PushKind::Netmap);
        let connections = self.by_node.entry(node).or_default();
        // One that ended without a word must not be kept for ever.
        connections.retain(|_, sender| !sender.is_closed());
        connections.insert(connection_id, sender);
        Pushes(receiver)
    }

    /// A connection is gone.
    pub(super) fn leave(&mut self, node: NodeId, connection_id: u64) {
        if let Some(connections) = self.by_node.get_mut(&node) {
            connections.remove(&connection_id);
            if connections.is_empty() {
                self.by_node.remove(&node);
            }
        }
    }

    /// Wakes the connections of the node. Never waits for one.
    pub(super) fn tell(&mut self, push: Push) {
        let connections = self.by_node.get(&push.node);
        for sender in connections.into_iter().flat_map(BTreeMap::values) {
            sender.send_replace(push.kind);
        }
        if push.kind == PushKind::Removed {
            // Whatever becomes of the word, the end of its channel ends the session.
            self.by_node.remove(&push.node);
        }
    }
}

impl Pushes {
    /// The newest that has not been given yet; `None` if nothing more will come: the session is to end. Cancel-safe.
    pub async fn next(&mut self) -> Option<PushKind> {
        self.0.changed().await.ok()?;
        Some(*self.0.borrow_and_update())
    }
}

#[cfg(test)]
mod tests {
    use std::future::Future as _;
    use std::pin::pin;
    use std::task::{Context, Poll, Waker};

    use super::*;

    fn netmap_of(node: u64) -> Push {
        Push {
            node: NodeId(node),
            kind: PushKind::Netmap,
        }
    }

    fn removal_of(node: u64) -> Push {
        Push {
            node: NodeId(node),
            kind: PushKind::Removed,
        }
    }

    /// What a connection is woken with, at once.
    fn woken(pushes: &mut Pushes) -> Poll<Option<PushKind>> {
        let mut context = Context::from_waker(Waker::noop());
        pin!(pushes.next()).poll(&mut context)
    }

    #[test]
    fn a_change_of_one_node_wakes_that_node_alone() {
        let mut listeners = Listeners::default();
        let mut pushes: Vec<_> = (0..1_000)
            .map(|node| listeners.join(NodeId(node), node))
            .collect();

        listeners.tell(netmap_of(7));

        let woken: Vec<_> = pushes.iter_mut().map(woken).collect();
        let ready = woken.iter().filter(|poll| poll.is_ready()).count();
        assert_eq!((ready, woken[7]), (1, Poll::Ready(Some(PushKind::Netmap))));
    }

    #[test]
    fn a_session_that_was_busy_for_a_thousand_changes_looks_once() {
        let mut listeners = Listeners::default();
        let mut busy = listeners.join(NodeId(1), 1);

        for _ in 0..1_000 {
            listeners.tell(netmap_of(1));
        }

        assert_eq!(woken(&mut busy), Poll::Ready(Some(PushKind::Netmap)));
        assert_eq!(woken(&mut busy), Poll::Pending);
    }

    #[test]
    fn a_removal_reaches_every_connection_of_the_node_however_far_behind_and_then_nothing_does() {
        let mut listeners = Listeners::default();
        let (mut old, mut new) = (listeners.join(NodeId(1), 1), listeners.join(NodeId(1), 2));

        listeners.tell(netmap_of(1));
        listeners.tell(removal_of(1));
        listeners.tell(netmap_of(1));

        for connection in [&mut old, &mut new] {
            assert_eq!(woken(connection), Poll::Ready(Some(PushKind::Removed)));
            assert_eq!(woken(connection), Poll::Ready(None), "the session ends");
        }
        assert!(listeners.by_node.is_empty());
    }

    #[test]
    fn who_has_left_is_forgotten_and_a_newer_connection_of_the_node_is_not() {
        let mut listeners = Listeners::default();
        let old = listeners.join(NodeId(1), 1);
        let mut new = listeners.join(NodeId(1), 2);

        drop(old);
        listeners.leave(NodeId(1), 1);
        listeners.tell(netmap_of(1));

        assert_eq!(woken(&mut new), Poll::Ready(Some(PushKind::Netmap)));
        listeners.leave(NodeId(1), 2);
        assert!(listeners.by_node.is_empty());
    }

    #[test]
    fn the_end_of_the_core_ends_the_sessions() {
        let mut listeners = Listeners::default();
        let mut pushes = listeners.join(NodeId(1), 1);

        drop(listeners);

        assert_eq!(woken(&mut pushes), Poll::Ready(None));
    }
}
