//! Both ends against each other, as values.

use std::time::{Duration, Instant};

use ringfence_model::{Name, NodeId, Revision, UnixMillis};

use super::*;
use crate::netmap::tests::{name, netmap, revision, segment};
use crate::{Enforced, Hello, Lease, Netmap, NetmapRefused, Ping, SegmentMap, ToController, ToNode, Welcome};

/// A node and the controller's end of its connection.
struct Pair {
    node: NodeSession,
    controller: ControllerSession,
    current: Netmap,
    now: Instant,
}

impl Pair {
    fn new(restored: Option<Netmap>, current: Netmap) -> Self {
        Self {
            node: NodeSession::new(name("acme"), NodeId(1), restored),
            controller: ControllerSession::new(NodeId(1)),
            current,
            now: start(),
        }
    }

    fn connected(current: Netmap) -> Self {
        let mut pair = Self::new(None, current);
        pair.connect().unwrap();
        pair
    }

    /// Hello and all that follows. Gives what the controller sent.
    fn connect(&mut self) -> Result<Vec<&'static str>, GreetError> {
        self.controller = ControllerSession::new(NodeId(1));
        let hello = hello(&mut self.node);
        let answers =
            self.controller
                .handle_hello(&hello, &name("acme"), &self.current, UnixMillis(5), self.now)?;
        let kinds = answers.iter().map(ToNode::kind).collect();
        for answer in answers {
            self.tell_node(answer);
        }
        Ok(kinds)
    }

    /// The controller moves on. Gives what it sent.
    fn push(&mut self, current: Netmap) -> Option<ToNode> {
        self.current = current;
        let message = self.controller.push(&self.current, self.now)?;
        self.tell_node(message.clone());
        Some(message)
    }

    /// Delivers, does what the node asks of its shell, and delivers what the node says back.
    fn tell_node(&mut self, message: ToNode) {
        self.node.handle_message(message).unwrap();
        while let Some(action) = self.node.poll_action() {
            match action {
                NodeAction::Enforce(netmap) => self.node.handle_enforced(netmap.revision, 1),
                NodeAction::Send(message) => self.tell_controller(&message),
                _ => {}
            }
        }
    }

    fn tell_controller(&mut self, message: &ToController) {
        let answer = match message {
            ToController::Enforced(enforced) => {
                self.controller.handle_enforced(enforced);
                None
            }
            ToController::NetmapRefused(refused) => {
                self.controller.handle_refused(refused, &self.current, self.now)
            }
            _ => None,
        };
        if let Some(answer) = answer {
            self.tell_node(answer);
        }
    }
}

#[expect(
    clippy::disallowed_methods,
    reason = "a test needs some instant to count from"
)]
fn start() -> Instant {
    Instant::now()
}

fn hello(node: &mut NodeSession) -> Hello {
    let facts = HelloFacts {
        version: "0.1.0".into(),
        listen_port: 51820,
        epoch: 5,
        lane_ports: Vec::new(),
    };
    let ToController::Hello(hello) = node.hello(facts) else {
        panic!("a hello is a hello");
    };
    hello
}

fn actions(node: &mut NodeSession) -> Vec<NodeAction> {
    std::iter::from_fn(|| node.poll_action()).collect()
}

fn refusal(actions: &[NodeAction]) -> Option<&NetmapRefused> {
    actions.iter().find_map(|action| match action {
        NodeAction::Send(ToController::NetmapRefused(refused)) => Some(refused),
        _ => None,
    })
}

fn with_peers(n: u64, peers: &[u8]) -> Netmap {
    netmap(n, [("a", segment(1, peers.iter().copied()))])
}

#[test]
fn a_new_node_gets_the_full_netmap_and_acknowledges_it() {
    let mut pair = Pair::new(None, with_peers(4, &[2]));

    assert_eq!(pair.connect(), Ok(vec!["Welcome", "Full"]));

    assert_eq!(pair.node.netmap(), Some(&pair.current));
    assert_eq!(pair.controller.enforced(), Some(revision(4)));
}

#[test]
fn a_node_that_returns_with_the_same_netmap_gets_only_the_number() {
    let mut pair = Pair::new(Some(with_peers(4, &[2])), with_peers(9, &[2]));

    assert_eq!(pair.connect(), Ok(vec!["Welcome", "Delta"]));

    assert_eq!(pair.node.revision(), Some(revision(9)));
    assert_eq!(pair.controller.enforced(), Some(revision(9)));
}

#[test]
fn a_node_that_returns_with_another_netmap_gets_the_full_one() {
    let mut pair = Pair::new(Some(with_peers(4, &[2, 3])), with_peers(9, &[2]));

    assert_eq!(pair.connect(), Ok(vec!["Welcome", "Full"]));

    assert_eq!(pair.node.netmap(), Some(&pair.current));
}

#[test]
fn changes_travel_as_deltas_and_every_revision_is_acknowledged() {
    let mut pair = Pair::connected(with_peers(4, &[2]));

    let changed = pair.push(with_peers(5, &[3])).unwrap();
    let unchanged = pair.push(with_peers(6, &[3])).unwrap();
    let again = pair.push(with_peers(6, &[3]));

    assert!(matches!(&changed, ToNode::Delta(delta) if !delta.is_empty()));
    assert!(matches!(&unchanged, ToNode::Delta(delta) if delta.is_empty()));
    assert_eq!(again, None);
    assert_eq!(pair.controller.enforced(), Some(revision(6)));
    assert_eq!(pair.node.netmap(), Some(&pair.current));
}

#[test]
fn a_lost_delta_is_made_good_by_the_full_netmap() {
    let mut pair = Pair::connected(with_peers(4, &[2]));
    pair.controller.push(&with_peers(5, &[2, 3]), pair.now).unwrap();

    pair.push(with_peers(6, &[3]));

    assert_eq!(pair.node.netmap(), Some(&pair.current));
    assert_eq!(pair.controller.enforced(), Some(revision(6)));
}

#[test]
fn who_is_a_peer_is_judged_by_what_was_sent() {
    let mut pair = Pair::new(None, with_peers(4, &[2]));
    let before = pair.controller.lists(NodeId(2));
    pair.connect().unwrap();
    let first = [2, 3].map(|peer| pair.controller.lists(NodeId(peer)));
    pair.push(with_peers(5, &[3]));
    let second = [2, 3].map(|peer| pair.controller.lists(NodeId(peer)));

    assert_eq!((before, first, second), (false, [true, false], [false, true]));
}

#[test]
fn nothing_is_pushed_before_the_hello() {
    let mut session = ControllerSession::new(NodeId(1));

    assert_eq!(session.push(&with_peers(5, &[2]), start()), None);
}

#[test]
fn a_node_refuses_an_older_netmap_and_keeps_its_own() {
    let mut node = NodeSession::new(name("acme"), NodeId(1), Some(with_peers(5, &[2])));

    node.handle_message(ToNode::Full(with_peers(4, &[2, 3]))).unwrap();

    let actions = actions(&mut node);
    assert_eq!(refusal(&actions).unwrap().revision, revision(4));
    assert_eq!(actions.len(), 1);
    assert_eq!(node.netmap(), Some(&with_peers(5, &[2])));
}

#[test]
fn a_new_term_counts_for_newer_whatever_its_number() {
    let mut node = NodeSession::new(name("acme"), NodeId(1), Some(with_peers(900, &[2])));
    let restored = Netmap {
        revision: Revision { term: 2, n: 1 },
        ..with_peers(1, &[3])
    };

    node.handle_message(ToNode::Full(restored)).unwrap();

    assert!(matches!(node.poll_action(), Some(NodeAction::Enforce(_))));
}

#[test]
fn redelivery_is_harmless() {
    let mut pair = Pair::connected(with_peers(4, &[2]));
    let full = ToNode::Full(pair.current.clone());

    pair.tell_node(full);

    assert_eq!(pair.node.netmap(), Some(&pair.current));
}

#[test]
fn a_netmap_for_somebody_else_is_refused() {
    let mut node = NodeSession::new(name("acme"), NodeId(1), None);
    let other_node = Netmap {
        node: NodeId(9),
        ..with_peers(4, &[2])
    };
    let other_mesh = Netmap {
        mesh: name("emca"),
        ..with_peers(4, &[2])
    };

    for map in [other_node, other_mesh] {
        node.handle_message(ToNode::Full(map)).unwrap();
        assert!(refusal(&actions(&mut node)).is_some());
        assert_eq!(node.netmap(), None);
    }
}

#[test]
fn an_unsound_netmap_is_refused_whole() {
    let mut pair = Pair::connected(with_peers(4, &[2]));
    let before = pair.current.clone();
    let mut wide = segment(2, []);
    wide.prefixes.v4 = vec!["0.0.0.0/0".parse().unwrap()];

    pair.push(netmap(5, [("a", segment(1, [])), ("b", wide)]));

    assert_eq!(pair.node.netmap(), Some(&before));
    assert_eq!(pair.controller.enforced(), Some(revision(4)));
}

#[test]
fn a_netmap_that_a_node_refuses_is_not_sent_for_ever() {
    let mut session = ControllerSession::new(NodeId(1));
    let mut node = NodeSession::new(name("acme"), NodeId(1), None);
    let current = with_peers(4, &[2]);
    session
        .handle_hello(&hello(&mut node), &name("acme"), &current, UnixMillis(5), start())
        .unwrap();
    let refused = NetmapRefused {
        revision: revision(4),
        why: "no".into(),
    };

    assert_eq!(session.handle_refused(&refused, &current, start()), None);
    // The next revision is another chance.
    assert!(session.push(&with_peers(5, &[2]), start()).is_some());
}

#[test]
fn what_the_dataplane_refuses_does_not_become_the_base_of_the_next() {
    let mut node = NodeSession::new(name("acme"), NodeId(1), Some(with_peers(4, &[2])));
    node.handle_message(ToNode::Full(with_peers(5, &[3]))).unwrap();
    assert!(matches!(node.poll_action(), Some(NodeAction::Enforce(_))));

    node.handle_not_enforced(revision(5), "no TUN device".into());

    assert_eq!(refusal(&actions(&mut node)).unwrap().why, "no TUN device");
    assert_eq!(node.netmap(), Some(&with_peers(4, &[2])));
    node.handle_message(ToNode::Delta(crate::Delta::between(
        &with_peers(5, &[3]),
        &with_peers(6, &[3]),
    )))
    .unwrap();
    assert!(refusal(&actions(&mut node)).is_some());
}

#[test]
fn a_lease_counts_only_for_the_revision_in_force() {
    let mut node = NodeSession::new(name("acme"), NodeId(1), Some(with_peers(4, &[2])));
    let lease = |n| {
        ToNode::Lease(Lease {
            revision: revision(n),
        })
    };

    node.handle_message(lease(4)).unwrap();
    assert_eq!(actions(&mut node), [NodeAction::ExtendLeases]);

    for other in [3, 5] {
        node.handle_message(lease(other)).unwrap();
        let actions = actions(&mut node);
        assert!(refusal(&actions).is_some() && !actions.contains(&NodeAction::ExtendLeases));
    }
}

#[test]
fn leases_are_sent_often_enough_for_the_shortest() {
    let short = SegmentMap {
        lease_ms: 10_000,
        ..segment(2, [])
    };
    let mut pair = Pair::connected(netmap(4, [("a", segment(1, [2])), ("b", short)]));

    let due = pair.controller.poll_timeout().unwrap();
    assert_eq!(due - pair.now, Duration::from_millis(2_500));
    assert_eq!(pair.controller.handle_timeout(pair.now), None);
    let lease = ToNode::Lease(Lease {
        revision: revision(4),
    });
    assert_eq!(pair.controller.handle_timeout(due), Some(lease));
    assert!(pair.controller.poll_timeout().unwrap() > due);
}

#[test]
fn a_node_without_segments_still_hears_from_the_controller() {
    let pair = Pair::connected(netmap(4, []));

    assert_eq!(
        pair.controller.poll_timeout().unwrap() - pair.now,
        Duration::from_secs(15)
    );
}

#[test]
fn a_controller_that_was_set_back_does_not_serve_a_node_that_knows_more() {
    let mut pair = Pair::new(Some(with_peers(9, &[2])), with_peers(4, &[2]));

    let refused = GreetError::Behind {
        node: revision(9),
        controller: revision(4),
    };
    assert_eq!(pair.connect(), Err(refused));
}

#[test]
fn an_acknowledgement_of_what_was_never_sent_does_not_count() {
    let mut pair = Pair::connected(with_peers(4, &[2]));
    let enforced = |n| Enforced {
        revision: revision(n),
        took_us: 1,
    };

    assert!(!pair.controller.handle_enforced(&enforced(5)));
    assert!(!pair.controller.handle_enforced(&enforced(3)));
    assert_eq!(pair.controller.enforced(), Some(revision(4)));
}

#[test]
fn another_meshs_controller_ends_the_conversation() {
    let mut node = NodeSession::new(name("acme"), NodeId(1), None);
    let theirs: Name = name("emca");

    let welcome = ToNode::Welcome(Welcome {
        capability: 1,
        mesh: theirs.clone(),
        wall: UnixMillis(1),
    });

    let refused = SessionError::Mesh {
        ours: name("acme"),
        theirs,
    };
    assert_eq!(node.handle_message(welcome), Err(refused));
}

#[test]
fn a_ping_is_answered_and_a_goodbye_obeyed() {
    let mut node = NodeSession::new(name("acme"), NodeId(1), None);

    node.handle_message(ToNode::Ping(Ping { id: 7 })).unwrap();
    node.handle_message(ToNode::Goodbye(crate::Goodbye {
        reason: "removed".into(),
    }))
    .unwrap();

    let pong = NodeAction::Send(ToController::Pong(Ping { id: 7 }));
    let leave = NodeAction::Leave {
        reason: "removed".into(),
    };
    assert_eq!(actions(&mut node), [pong, leave]);
}
