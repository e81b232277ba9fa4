//! Fragments follow their first one.

use ringfence_packet::checksum;

use super::*;
use crate::fragments::{FRAGMENTED_PACKETS_PER_PEER_MAX, REASSEMBLY_TIME};

/// The payload bytes `range` of `packet` as an IPv4 fragment.
fn fragment(packet: &[u8], id: u16, range: std::ops::Range<usize>) -> Vec<u8> {
    let payload = &packet[20..];
    let more = u16::from(range.end < payload.len()) << 13;
    let field = (range.start / 8) as u16 | more;
    let mut bytes = packet[..20].to_vec();
    bytes[2..4].copy_from_slice(&(20 + range.len() as u16).to_be_bytes());
    bytes[4..6].copy_from_slice(&id.to_be_bytes());
    bytes[6..8].copy_from_slice(&field.to_be_bytes());
    bytes[10..12].fill(0);
    let sum = checksum(0, &bytes);
    bytes[10..12].copy_from_slice(&sum.to_be_bytes());
    bytes.extend(&payload[range]);
    bytes
}

fn big(flow: Flow) -> Vec<u8> {
    udp_datagram(flow, &[0; 100])
}

fn node() -> Node {
    Node::with(&[allow(1, Direction::Ingress, "udp/53")])
}

#[test]
fn later_fragments_pass_with_their_first_in_any_order() {
    let mut node = node();
    let packet = big(udp(PEER, US, 53));

    assert_eq!(node.receive(&fragment(&packet, 1, 0..32)), Ok(RuleId(1)));
    assert_eq!(node.receive(&fragment(&packet, 1, 64..108)), Ok(RuleId(1)));
    assert_eq!(node.receive(&fragment(&packet, 1, 32..64)), Ok(RuleId(1)));
    assert_eq!(
        node.receive(&fragment(&packet, 1, 32..64)),
        Err(Refusal::FragmentWithoutFirst),
        "the packet is complete"
    );
}

#[test]
fn a_fragment_without_its_first_drops() {
    let mut node = node();
    let packet = big(udp(PEER, US, 53));
    node.receive(&fragment(&packet, 1, 0..32)).unwrap();

    assert_eq!(
        node.receive(&fragment(&packet, 2, 32..64)),
        Err(Refusal::FragmentWithoutFirst),
        "another id"
    );
    let from_other = big(udp(OTHER, US, 53));
    assert_eq!(
        node.receive(&fragment(&from_other, 1, 32..64)),
        Err(Refusal::FragmentWithoutFirst)
    );
}

#[test]
fn the_fragments_of_a_refused_packet_drop() {
    let mut node = node();
    let packet = big(udp(PEER, US, 54));

    assert_eq!(
        node.receive(&fragment(&packet, 1, 0..32)),
        Err(Refusal::NotAllowed)
    );
    assert_eq!(
        node.receive(&fragment(&packet, 1, 32..64)),
        Err(Refusal::FragmentWithoutFirst)
    );
}

#[test]
fn one_overlap_condemns_the_packet() {
    for overlap in [24..64, 0..40, 32..64, 56..108, 8..16] {
        let mut node = node();
        let packet = big(udp(PEER, US, 53));
        node.receive(&fragment(&packet, 1, 0..32)).unwrap();
        node.receive(&fragment(&packet, 1, 32..64)).unwrap();

        assert_eq!(
            node.receive(&fragment(&packet, 1, overlap.clone())),
            Err(Refusal::FragmentOverlap),
            "{overlap:?}"
        );
        assert_eq!(
            node.receive(&fragment(&packet, 1, 64..108)),
            Err(Refusal::FragmentOverlap),
            "{overlap:?}"
        );
    }
}

#[test]
fn a_second_first_fragment_cannot_rewrite_the_header() {
    let mut node = node();
    let packet = big(udp(PEER, US, 53));
    node.receive(&fragment(&packet, 1, 0..32)).unwrap();

    assert_eq!(
        node.receive(&fragment(&packet, 1, 0..32)),
        Err(Refusal::FragmentOverlap)
    );
    assert_eq!(
        node.receive(&fragment(&packet, 1, 32..64)),
        Err(Refusal::FragmentOverlap)
    );
}

#[test]
fn fragments_past_the_packets_end_condemn_it() {
    let mut node = node();
    let (packet, longer) = (big(udp(PEER, US, 53)), udp_datagram(udp(PEER, US, 53), &[0; 400]));
    node.receive(&fragment(&packet, 1, 0..32)).unwrap();
    node.receive(&fragment(&packet, 1, 64..108)).unwrap();

    assert_eq!(
        node.receive(&fragment(&longer, 1, 112..120)),
        Err(Refusal::FragmentOverlap)
    );
    assert_eq!(
        node.receive(&fragment(&packet, 1, 32..64)),
        Err(Refusal::FragmentOverlap)
    );
}

#[test]
fn a_late_fragment_drops() {
    let mut node = node();
    let packet = big(udp(PEER, US, 53));
    node.receive(&fragment(&packet, 1, 0..32)).unwrap();
    for _ in 0..3 {
        node.now += REASSEMBLY_TIME / 3;
        node.receive(&datagram(udp(PEER, US, 53))).unwrap();
    }

    assert_eq!(
        node.receive(&fragment(&packet, 1, 32..64)),
        Err(Refusal::FragmentWithoutFirst)
    );
}

#[test]
fn revocation_stops_a_packet_between_two_of_its_fragments() {
    let mut node = node();
    let packet = big(udp(PEER, US, 53));
    node.receive(&fragment(&packet, 1, 0..32)).unwrap();

    node.set_rules(&[]);

    assert_eq!(
        node.receive(&fragment(&packet, 1, 32..64)),
        Err(Refusal::FragmentWithoutFirst)
    );
}

#[test]
fn a_flood_of_first_fragments_evicts_only_its_own() {
    let mut node = node();
    let innocent = big(udp(OTHER, US, 53));
    node.receive(&fragment(&innocent, 1, 0..32)).unwrap();
    let flood = big(udp(PEER, US, 53));

    for id in 0..FRAGMENTED_PACKETS_PER_PEER_MAX as u16 * 3 {
        node.now += Duration::from_millis(1);
        node.receive(&fragment(&flood, id, 0..32)).unwrap();
    }

    assert_eq!(node.receive(&fragment(&innocent, 1, 32..64)), Ok(RuleId(1)));
    assert_eq!(
        node.receive(&fragment(&flood, 0, 32..64)),
        Err(Refusal::FragmentWithoutFirst)
    );
    let newest = FRAGMENTED_PACKETS_PER_PEER_MAX as u16 * 3 - 1;
    assert_eq!(node.receive(&fragment(&flood, newest, 32..64)), Ok(RuleId(1)));
}

#[test]
fn a_fragmented_echo_reply_follows_the_request_it_answers() {
    let mut node = Node::with(&[
        allow(1, Direction::Egress, "icmp"),
        allow(2, Direction::Ingress, "icmp"),
    ]);
    let request = echo_request(address(US), address(PEER), 9, 1, &[0; 100]);
    let reply = echo_reply(&request).unwrap();
    node.send(&request).unwrap();

    assert_eq!(node.receive(&fragment(&reply, 1, 0..32)), Ok(RuleId(1)));
    assert_eq!(node.receive(&fragment(&reply, 1, 32..108)), Ok(RuleId(1)));
}
