//! Time and room.

use super::*;
use crate::{FLOWS_MAX, FLOWS_PER_PEER_MAX, TCP_OPENING_TIMEOUT, UDP_ANSWERED_TIMEOUT, UDP_OPENING_TIMEOUT};

fn numbered(src: u8, dst: u8, number: usize) -> Flow {
    Flow {
        src_port: (number % 60_000) as u16 + 1,
        dst_port: (number / 60_000) as u16 + 1,
        ..udp(src, dst, 1)
    }
}

#[test]
fn a_flood_evicts_only_the_flooding_peers_own_flows() {
    let mut node = Node::with(&[allow(1, Direction::Ingress, "udp/1-65535")]);
    let innocent = udp(OTHER, US, 7_000);
    node.receive(&datagram(innocent)).unwrap();

    for number in 0..FLOWS_PER_PEER_MAX + 500 {
        assert_eq!(node.receive(&datagram(numbered(PEER, US, number))), Ok(RuleId(1)));
    }

    assert!(node.table.contains(innocent));
    assert_eq!(node.table.len(), FLOWS_PER_PEER_MAX + 1);
    assert!(!node.table.contains(numbered(PEER, US, 499)), "the oldest went");
    assert!(node.table.contains(numbered(PEER, US, 500)));
    let first = node.table.poll_closed().unwrap();
    assert_eq!(
        (first.flow, first.why),
        (numbered(PEER, US, 0), CloseReason::Evicted)
    );
    assert_eq!(
        first.notices_to_peer(),
        Vec::<Vec<u8>>::new(),
        "a flood is not answered with a flood"
    );
}

#[test]
fn a_flood_of_syns_does_not_evict_an_established_session() {
    let mut node = Node::with(&[allow(1, Direction::Ingress, "any")]);
    let session = flow(Protocol::TCP, PEER, US, 5_432);
    node.receive(&segment(session, TcpFlags::SYN, 10, 0, &[]))
        .unwrap();
    node.send(&segment(
        session.reversed(),
        TcpFlags::SYN.with(TcpFlags::ACK),
        20,
        11,
        &[],
    ))
    .unwrap();
    node.receive(&segment(session, TcpFlags::ACK, 11, 21, &[]))
        .unwrap();

    for number in 0..FLOWS_PER_PEER_MAX * 2 {
        let flood = Flow {
            protocol: Protocol::TCP,
            ..numbered(PEER, US, number)
        };
        node.receive(&segment(flood, TcpFlags::SYN, 1, 0, &[])).unwrap();
    }

    assert!(node.table.contains(session));
    assert_eq!(node.table.len(), FLOWS_PER_PEER_MAX);
}

#[test]
fn a_full_table_takes_from_the_peers_that_filled_it() {
    let peers = FLOWS_MAX.div_ceil(FLOWS_PER_PEER_MAX);
    let mut rule = allow(1, Direction::Ingress, "udp/1-65535");
    rule.peers = (2..=40).map(NodeId).collect();
    let mut node = Node::with(&[rule]);
    let quiet = udp(30, US, 7_000);
    node.receive(&datagram(quiet)).unwrap();
    for peer in 0..peers {
        for number in 0..FLOWS_PER_PEER_MAX {
            node.receive(&datagram(numbered(peer as u8 + 2, US, number)))
                .unwrap();
        }
    }
    assert_eq!(node.table.len(), FLOWS_MAX);

    let newcomer = udp(31, US, 7_000);
    assert_eq!(node.receive(&datagram(newcomer)), Ok(RuleId(1)));

    let second = udp(30, US, 7_001);
    assert_eq!(node.receive(&datagram(second)), Ok(RuleId(1)));
    for flow in [newcomer, quiet, second] {
        assert!(node.table.contains(flow), "{flow}");
    }
    assert_eq!(node.table.len(), FLOWS_MAX);
}

#[test]
fn closed_flows_that_nobody_fetches_are_bounded_and_counted() {
    let mut node = Node::with(&[allow(1, Direction::Ingress, "udp/1-65535")]);
    for number in 0..FLOWS_PER_PEER_MAX + CLOSED_FLOWS_MAX + 5 {
        node.receive(&datagram(numbered(PEER, US, number))).unwrap();
    }

    assert_eq!(node.table.closed_unreported(), 5);
    let waiting = std::iter::from_fn(|| node.table.poll_closed()).count();
    assert_eq!(waiting, CLOSED_FLOWS_MAX);
}

#[test]
fn a_silent_flow_ends_when_its_timeout_is_due_and_not_before() {
    let mut node = Node::with(&[allow(1, Direction::Egress, "any")]);
    let query = udp(US, PEER, 53);
    node.send(&datagram(query)).unwrap();
    assert_eq!(node.table.poll_timeout(), Some(node.now + UDP_OPENING_TIMEOUT));

    assert_eq!(
        node.wait(UDP_OPENING_TIMEOUT.checked_sub(Duration::from_millis(1)).unwrap()),
        []
    );
    assert!(node.table.contains(query));
    assert_eq!(reasons(&node.wait(Duration::from_millis(1))), [CloseReason::Idle]);

    assert!(node.table.is_empty());
    assert_eq!(node.table.poll_timeout(), None);
}

#[test]
fn an_answered_flow_may_be_silent_for_longer() {
    let mut node = Node::with(&[allow(1, Direction::Egress, "any")]);
    let query = udp(US, PEER, 53);
    node.send(&datagram(query)).unwrap();
    node.receive(&datagram(query.reversed())).unwrap();

    node.wait(UDP_OPENING_TIMEOUT * 2);
    assert!(node.table.contains(query));
    node.wait(UDP_ANSWERED_TIMEOUT);
    assert!(!node.table.contains(query));
}

#[test]
fn packets_keep_a_flow_alive_across_many_timeouts() {
    let mut node = Node::with(&[allow(1, Direction::Egress, "any")]);
    let query = udp(US, PEER, 53);
    node.send(&datagram(query)).unwrap();

    for _ in 0..20 {
        assert_eq!(node.wait(UDP_OPENING_TIMEOUT / 2), []);
        assert_eq!(node.send(&datagram(query)), Ok(RuleId(1)));
    }
    assert_eq!(node.table.len(), 1);
}

#[test]
fn a_late_reply_finds_no_flow_even_if_no_timer_has_run() {
    let mut node = Node::with(&[allow(1, Direction::Egress, "udp/53")]);
    let query = udp(US, PEER, 53);
    node.send(&datagram(query)).unwrap();

    node.now += UDP_OPENING_TIMEOUT;

    assert_eq!(
        node.receive(&datagram(query.reversed())),
        Err(Refusal::NotAllowed)
    );
    assert_eq!(
        node.table.poll_closed().map(|closed| closed.why),
        Some(CloseReason::Idle)
    );
}

#[test]
fn a_handshake_that_never_completes_is_forgotten_within_a_minute() {
    let mut node = Node::with(&[allow(1, Direction::Egress, "any")]);
    let session = flow(Protocol::TCP, US, PEER, 5_432);
    node.send(&segment(session, TcpFlags::SYN, 10, 0, &[])).unwrap();

    assert_eq!(reasons(&node.wait(TCP_OPENING_TIMEOUT)), [CloseReason::Idle]);
}

#[test]
fn every_flow_that_is_opened_is_closed_exactly_once() {
    let mut node = Node::with(&[allow(1, Direction::Ingress, "udp/1-65535")]);
    let mut closed = 0;
    for round in 0..4 {
        for number in 0..300 {
            node.receive(&datagram(numbered(PEER, US, round * 200 + number)))
                .unwrap();
        }
        closed += node.wait(UDP_OPENING_TIMEOUT / 3).len();
    }
    closed += node.table.close_all().len();

    assert_eq!(closed, 900, "numbers 0 to 899, each opened once");
    assert!(node.table.is_empty());
}
