//! The stateful filter as the mission states it. One node, `US`, with peers `PEER` and `OTHER`; the node's own packets
//! go out by [`Node::send`], a peer's come in by [`Node::receive`].

use std::net::IpAddr;

use ringfence_model::Revision;
use ringfence_packet::{
    Protocol, TcpFlags, TcpSegment, administratively_prohibited, echo_reply, echo_request, packet_too_big,
    tcp_reset, tcp_segment, udp_datagram,
};

use super::*;
use crate::Rule;

mod bounds;
mod fragment;
mod tcp;

const US: u8 = 1;
const PEER: u8 = 2;
const OTHER: u8 = 3;

struct Node {
    table: FlowTable,
    rules: RuleSet,
    now: Instant,
    wall: UnixMillis,
}

impl Node {
    fn with(rules: &[Rule]) -> Self {
        Self {
            table: FlowTable::new([7; 16], crate::FLOWS_PER_PEER_MAX),
            rules: RuleSet::new(rules, Revision { term: 1, n: 1 }),
            now: start(),
            wall: UnixMillis(1_000_000),
        }
    }

    fn send(&mut self, bytes: &[u8]) -> Result<RuleId, Refusal> {
        let packet = Packet::parse(bytes).unwrap();
        let peer = peer_at(packet.flow.dst);
        self.table
            .judge(&packet, Direction::Egress, peer, &self.rules, self.now, self.wall)
    }

    fn receive(&mut self, bytes: &[u8]) -> Result<RuleId, Refusal> {
        let packet = Packet::parse(bytes).unwrap();
        let peer = peer_at(packet.flow.src);
        self.table.judge(
            &packet,
            Direction::Ingress,
            peer,
            &self.rules,
            self.now,
            self.wall,
        )
    }

    /// The rules of a newer revision, as the next packet finds them.
    fn set_rules(&mut self, rules: &[Rule]) {
        self.rules = RuleSet::new(rules, self.rules.revision().next());
    }

    /// The same, with the judgement of live flows that the data plane asks for at once.
    fn enforce(&mut self, rules: &[Rule]) -> Vec<ClosedFlow> {
        self.set_rules(rules);
        self.table.rejudge(&self.rules, self.wall)
    }

    fn wait(&mut self, duration: Duration) -> Vec<ClosedFlow> {
        self.now += duration;
        self.wall = self.wall.saturating_add(duration);
        self.table.handle_timeout(self.now)
    }

    fn rule_of(&self, flow: Flow) -> Option<u32> {
        self.table
            .iter()
            .find(|record| record.flow == flow)
            .map(|record| record.rule.0)
    }
}

#[expect(
    clippy::disallowed_methods,
    reason = "a test needs some instant to start from"
)]
fn start() -> Instant {
    Instant::now()
}

fn address(host: u8) -> IpAddr {
    IpAddr::from([100, 64, 0, host])
}

fn address_v6(host: u8) -> IpAddr {
    IpAddr::from([0xfd00, 0, 0, 0, 0, 0, 0, u16::from(host)])
}

fn peer_at(address: IpAddr) -> NodeId {
    match address {
        IpAddr::V4(v4) => NodeId(u64::from(v4.octets()[3])),
        IpAddr::V6(v6) => NodeId(u64::from(v6.octets()[15])),
    }
}

fn allow(id: u32, direction: Direction, service: &str) -> Rule {
    Rule {
        id: RuleId(id),
        direction,
        peers: vec![NodeId(u64::from(PEER)), NodeId(u64::from(OTHER))].into(),
        services: vec![service.parse().unwrap()],
        expires: None,
    }
}

fn flow(protocol: Protocol, src: u8, dst: u8, dst_port: u16) -> Flow {
    Flow {
        src: address(src),
        dst: address(dst),
        protocol,
        src_port: 40_000,
        dst_port,
    }
}

fn udp(src: u8, dst: u8, port: u16) -> Flow {
    flow(Protocol::UDP, src, dst, port)
}

fn datagram(flow: Flow) -> Vec<u8> {
    udp_datagram(flow, b"datagram")
}

fn ping(src: u8, dst: u8, id: u16) -> Vec<u8> {
    echo_request(address(src), address(dst), id, 1, b"ping")
}

fn segment(flow: Flow, flags: TcpFlags, seq: u32, ack: u32, payload: &[u8]) -> Vec<u8> {
    tcp_segment(&TcpSegment {
        flow,
        seq,
        ack,
        flags,
        window: 60_000,
        payload,
    })
}

fn reasons(closed: &[ClosedFlow]) -> Vec<CloseReason> {
    closed.iter().map(|closed| closed.why).collect()
}

#[test]
fn without_a_rule_nothing_passes_in_either_direction() {
    let mut node = Node::with(&[]);

    for protocol in [Protocol::TCP, Protocol::UDP] {
        let (out, back) = (flow(protocol, US, PEER, 443), flow(protocol, PEER, US, 443));
        let packet = |flow| match protocol {
            Protocol::TCP => segment(flow, TcpFlags::SYN, 1, 0, &[]),
            _ => datagram(flow),
        };
        assert_eq!(node.send(&packet(out)), Err(Refusal::NotAllowed));
        assert_eq!(node.receive(&packet(back)), Err(Refusal::NotAllowed));
    }
    assert_eq!(node.send(&ping(US, PEER, 1)), Err(Refusal::NotAllowed));
    assert!(node.table.is_empty());
}

#[test]
fn replies_follow_the_flow_and_nothing_else_does() {
    let mut node = Node::with(&[allow(1, Direction::Egress, "udp/53")]);
    let query = udp(US, PEER, 53);

    assert_eq!(
        node.receive(&datagram(query.reversed())),
        Err(Refusal::NotAllowed),
        "before the query"
    );
    assert_eq!(node.send(&datagram(query)), Ok(RuleId(1)));
    assert_eq!(node.receive(&datagram(query.reversed())), Ok(RuleId(1)));

    let other_port = Flow {
        src_port: 40_001,
        ..query
    };
    assert_eq!(
        node.receive(&datagram(other_port.reversed())),
        Err(Refusal::NotAllowed)
    );
    let other_peer = udp(US, OTHER, 53);
    assert_eq!(
        node.receive(&datagram(other_peer.reversed())),
        Err(Refusal::NotAllowed)
    );
    assert!(node.table.contains(query) && node.table.contains(query.reversed()));
    assert!(!node.table.contains(other_port));
}

#[test]
fn ipv6_flows_are_judged_like_ipv4_ones() {
    let mut node = Node::with(&[allow(1, Direction::Ingress, "udp/53")]);
    let query = Flow {
        src: address_v6(PEER),
        dst: address_v6(US),
        ..udp(PEER, US, 53)
    };

    assert_eq!(node.send(&datagram(query.reversed())), Err(Refusal::NotAllowed));
    assert_eq!(node.receive(&datagram(query)), Ok(RuleId(1)));
    assert_eq!(node.send(&datagram(query.reversed())), Ok(RuleId(1)));
}

#[test]
fn protocols_that_no_rule_can_name_are_denied_even_by_any() {
    let mut node = Node::with(&[
        allow(1, Direction::Egress, "any"),
        allow(2, Direction::Ingress, "any"),
    ]);
    let mut gre = datagram(udp(US, PEER, 53));
    gre[9] = 47;
    let mut redirect = ping(PEER, US, 1);
    redirect[20] = 5;

    assert_eq!(node.send(&gre), Err(Refusal::NotAllowed));
    assert_eq!(node.receive(&redirect), Err(Refusal::NotAllowed));
}

#[test]
fn a_newer_revision_judges_a_live_flow_before_its_next_packet() {
    let mut node = Node::with(&[allow(1, Direction::Egress, "udp/53")]);
    let query = udp(US, PEER, 53);
    node.send(&datagram(query)).unwrap();

    node.set_rules(&[]);

    assert_eq!(
        node.receive(&datagram(query.reversed())),
        Err(Refusal::NotAllowed)
    );
    assert!(!node.table.contains(query));
    let closed = node.table.poll_closed().unwrap();
    assert_eq!(
        (closed.flow, closed.why, closed.rule),
        (query, CloseReason::Revoked, RuleId(1))
    );
    assert_eq!(node.table.poll_closed(), None);
}

#[test]
fn a_flow_that_another_rule_still_allows_lives_on_under_that_rule() {
    let mut node = Node::with(&[
        allow(1, Direction::Egress, "udp/53"),
        allow(2, Direction::Egress, "udp/50-60"),
    ]);
    let query = udp(US, PEER, 53);
    node.send(&datagram(query)).unwrap();

    let closed = node.enforce(&[allow(2, Direction::Egress, "udp/50-60")]);

    assert_eq!(closed, []);
    assert_eq!(node.receive(&datagram(query.reversed())), Ok(RuleId(2)));
    assert_eq!(node.rule_of(query), Some(2));
}

#[test]
fn losing_one_peer_or_one_port_closes_only_those_flows() {
    let both = |service: &str| allow(1, Direction::Egress, service);
    let mut node = Node::with(&[both("udp/50-60")]);
    let (kept, other_port, other_peer) = (udp(US, PEER, 53), udp(US, PEER, 54), udp(US, OTHER, 53));
    for flow in [kept, other_port, other_peer] {
        node.send(&datagram(flow)).unwrap();
    }
    let mut narrower = both("udp/53");
    narrower.peers = vec![NodeId(u64::from(PEER))].into();

    let closed = node.enforce(&[narrower]);

    assert_eq!(reasons(&closed), [CloseReason::Revoked; 2]);
    assert!(node.table.contains(kept));
    assert_eq!(node.table.len(), 1);
}

#[test]
fn an_expired_rule_ends_its_flows_without_a_new_revision() {
    let mut expiring = allow(1, Direction::Egress, "udp/53");
    expiring.expires = Some(UnixMillis(1_010_000));
    let mut node = Node::with(&[expiring]);
    let query = udp(US, PEER, 53);
    node.send(&datagram(query)).unwrap();

    node.wait(Duration::from_millis(9_999));
    assert_eq!(node.send(&datagram(query)), Ok(RuleId(1)));
    node.wait(Duration::from_millis(1));

    assert_eq!(node.send(&datagram(query)), Err(Refusal::NotAllowed));
    assert_eq!(
        node.table.poll_closed().map(|closed| closed.why),
        Some(CloseReason::Expired)
    );
}

#[test]
fn rejudging_after_an_expiry_closes_silent_flows_too() {
    let mut expiring = allow(1, Direction::Egress, "udp/53");
    expiring.expires = Some(UnixMillis(1_010_000));
    let mut node = Node::with(&[expiring]);
    node.send(&datagram(udp(US, PEER, 53))).unwrap();
    node.wait(Duration::from_secs(10));

    let closed = node.table.rejudge(&node.rules, node.wall);

    assert_eq!(reasons(&closed), [CloseReason::Expired]);
}

#[test]
fn a_revoked_udp_flow_is_answered_with_an_icmp_error_at_both_ends() {
    let mut node = Node::with(&[allow(1, Direction::Ingress, "udp/53")]);
    let query = udp(PEER, US, 53);
    node.receive(&datagram(query)).unwrap();

    let closed = node.enforce(&[]).pop().unwrap();

    let quoted = |bytes: &[u8]| match Packet::parse(bytes).unwrap().icmp {
        Some(IcmpKind::Error { quoted }) => quoted,
        other => panic!("{other:?}"),
    };
    let [local] = &closed.notices_to_local()[..] else {
        panic!("one notice");
    };
    let [peer] = &closed.notices_to_peer()[..] else {
        panic!("one notice");
    };
    assert_eq!(quoted(local), query.reversed());
    assert_eq!(quoted(peer), query);
    assert_eq!(Packet::parse(local).unwrap().flow.dst, address(US));
    assert_eq!(Packet::parse(peer).unwrap().flow.dst, address(PEER));
}

#[test]
fn an_echo_reply_needs_its_request() {
    let mut node = Node::with(&[
        allow(1, Direction::Egress, "icmp"),
        allow(2, Direction::Ingress, "icmp"),
    ]);
    let request = ping(US, PEER, 9);
    let reply = echo_reply(&request).unwrap();

    assert_eq!(node.receive(&reply), Err(Refusal::UnsolicitedReply));
    assert_eq!(node.send(&request), Ok(RuleId(1)));
    assert_eq!(node.receive(&reply), Ok(RuleId(1)));
    let stranger = echo_reply(&ping(US, PEER, 10)).unwrap();
    assert_eq!(node.receive(&stranger), Err(Refusal::UnsolicitedReply));
}

#[test]
fn an_echo_request_cannot_ride_on_the_flow_of_one_that_came_the_other_way() {
    let mut node = Node::with(&[allow(1, Direction::Egress, "icmp")]);
    node.send(&ping(US, PEER, 9)).unwrap();

    assert_eq!(node.receive(&ping(PEER, US, 9)), Err(Refusal::NotAllowed));
}

#[test]
fn an_icmp_error_passes_only_with_a_live_flow_that_it_answers() {
    let mut node = Node::with(&[allow(1, Direction::Egress, "udp/53")]);
    let query = udp(US, PEER, 53);
    let error = administratively_prohibited(&datagram(query), address(PEER)).unwrap();
    let too_big = packet_too_big(&datagram(query), address(PEER), 1_280).unwrap();

    assert_eq!(node.receive(&error), Err(Refusal::IcmpErrorWithoutFlow));
    node.send(&datagram(query)).unwrap();
    assert_eq!(node.receive(&error), Ok(RuleId(1)));
    assert_eq!(node.receive(&too_big), Ok(RuleId(1)));

    let other_flow = administratively_prohibited(&datagram(udp(US, PEER, 54)), address(PEER)).unwrap();
    assert_eq!(node.receive(&other_flow), Err(Refusal::IcmpErrorWithoutFlow));
    let mut to_another = error.clone();
    to_another[19] = 9;
    assert_eq!(
        node.receive(&to_another),
        Err(Refusal::IcmpErrorWithoutFlow),
        "goes to somebody else than whom it quotes"
    );
    let mut own_packet = administratively_prohibited(&datagram(query.reversed()), address(PEER)).unwrap();
    own_packet[16..20].copy_from_slice(&[100, 64, 0, US]);
    assert_eq!(
        node.receive(&own_packet),
        Err(Refusal::IcmpErrorWithoutFlow),
        "we did not send what it quotes"
    );
    node.set_rules(&[]);
    assert_eq!(
        node.receive(&error),
        Err(Refusal::IcmpErrorWithoutFlow),
        "revoked"
    );
}

#[test]
fn a_peer_cannot_end_another_peers_flow_by_an_icmp_error() {
    let mut node = Node::with(&[allow(1, Direction::Egress, "udp/53")]);
    let query = udp(US, PEER, 53);
    node.send(&datagram(query)).unwrap();
    let forged = administratively_prohibited(&datagram(query), address(OTHER)).unwrap();

    assert_eq!(node.receive(&forged), Err(Refusal::IcmpErrorWithoutFlow));
    assert_eq!(
        node.receive(&datagram(query.reversed())),
        Ok(RuleId(1)),
        "the flow is untouched"
    );
}

#[test]
fn a_peer_that_leaves_takes_its_flows_and_no_others() {
    let mut node = Node::with(&[allow(1, Direction::Egress, "udp/53")]);
    node.send(&datagram(udp(US, PEER, 53))).unwrap();
    node.send(&datagram(udp(US, OTHER, 53))).unwrap();

    let closed = node.table.close_peer(NodeId(u64::from(PEER)));

    assert_eq!(reasons(&closed), [CloseReason::PeerGone]);
    assert_eq!(node.table.len(), 1);
    assert_eq!(reasons(&node.table.close_all()), [CloseReason::PeerGone]);
    assert!(node.table.is_empty());
}

#[test]
fn a_record_counts_what_passed_each_way() {
    let mut node = Node::with(&[allow(1, Direction::Egress, "udp/53")]);
    let query = datagram(udp(US, PEER, 53));
    let answer = udp_datagram(udp(US, PEER, 53).reversed(), &[0; 100]);
    node.send(&query).unwrap();
    node.send(&query).unwrap();
    node.receive(&answer).unwrap();

    let counters = node.table.close_all()[0].counters;

    assert_eq!(
        (counters.to_responder.packets, counters.to_responder.bytes),
        (2, 2 * query.len() as u64)
    );
    assert_eq!(
        (counters.to_initiator.packets, counters.to_initiator.bytes),
        (1, answer.len() as u64)
    );
}
