//! What Ringfence writes must be believed: right checksums, by a sum that shares no code with the builders.

use proptest::prelude::*;

use super::*;
use crate::{administratively_prohibited, administratively_prohibited_flow, packet_too_big};

fn any_address_pair() -> impl Strategy<Value = (IpAddr, IpAddr)> {
    let v4 = || any::<[u8; 3]>().prop_map(|rest| IpAddr::from([100, rest[0], rest[1], rest[2]]));
    let v6 = || {
        any::<[u8; 14]>().prop_map(|rest| {
            let mut octets = [0xfd; 16];
            octets[2..].copy_from_slice(&rest);
            IpAddr::from(octets)
        })
    };
    prop_oneof![(v4(), v4()), (v6(), v6())]
}

fn any_flow(protocol: Protocol) -> impl Strategy<Value = Flow> {
    (any_address_pair(), any::<u16>(), any::<u16>()).prop_map(move |((src, dst), src_port, dst_port)| Flow {
        src,
        dst,
        protocol,
        src_port,
        dst_port,
    })
}

fn data() -> impl Strategy<Value = Vec<u8>> {
    proptest::collection::vec(any::<u8>(), 0..1_500)
}

/// Ones' complement sum of 16-bit words, one word at a time (RFC 1071 section 1).
fn ones_complement(words: &[u8]) -> u16 {
    let mut sum: u16 = 0;
    for at in (0..words.len()).step_by(2) {
        let low = words.get(at + 1).copied().unwrap_or(0);
        let (next, carry) = sum.overflowing_add(u16::from(words[at]) * 256 + u16::from(low));
        sum = next + u16::from(carry);
    }
    sum
}

/// Whether the IP header and the transport checksum hold: both sums come to all ones.
fn checksums_hold(bytes: &[u8]) -> bool {
    let is_v4 = bytes[0] >> 4 == 4;
    let (header, protocol, addresses) = if is_v4 {
        (20, bytes[9], &bytes[12..20])
    } else {
        (40, bytes[6], &bytes[8..40])
    };
    let payload = &bytes[header..];
    let mut covered = Vec::new();
    if !(is_v4 && protocol == 1) {
        covered.extend(addresses);
        covered.extend((payload.len() as u32).to_be_bytes());
        covered.extend([0, 0, 0, protocol]);
    }
    covered.extend(payload);
    let header_holds = !is_v4 || ones_complement(&bytes[..20]) == 0xffff;
    header_holds && ones_complement(&covered) == 0xffff
}

#[test]
fn the_sum_in_these_tests_finds_a_flipped_bit() {
    let flow = Flow {
        src: IpAddr::from([100, 64, 0, 1]),
        dst: IpAddr::from([100, 64, 0, 2]),
        protocol: Protocol::TCP,
        src_port: 1,
        dst_port: 2,
    };
    let mut bytes = tcp_reset(flow, 3, 4);
    assert!(checksums_hold(&bytes));

    bytes[25] ^= 1;

    assert!(!checksums_hold(&bytes));
}

#[test]
fn the_checksum_matches_the_example_of_rfc_1071() {
    // Section 3: the sum of these words is ddf2.
    assert_eq!(
        checksum(0, &[0x00, 0x01, 0xf2, 0x03, 0xf4, 0xf5, 0xf6, 0xf7]),
        !0xddf2
    );
}

#[test]
fn nothing_answers_a_group_an_error_or_a_reset() {
    let to_group = Flow {
        src: IpAddr::from([100, 64, 0, 1]),
        dst: IpAddr::from([224, 0, 0, 251]),
        protocol: Protocol::UDP,
        src_port: 5353,
        dst_port: 5353,
    };
    let to_host = Flow {
        dst: IpAddr::from([100, 64, 0, 2]),
        ..to_group
    };
    let from = to_host.dst;
    let error = administratively_prohibited(&udp_datagram(to_host, &[]), from).unwrap();
    let mut later = udp_datagram(to_host, &[0; 8]);
    later[7] = 2;

    assert_eq!(
        administratively_prohibited(&udp_datagram(to_group, &[]), from),
        None
    );
    assert_eq!(administratively_prohibited(&error, from), None);
    assert_eq!(administratively_prohibited(&later, from), None);
    assert_eq!(packet_too_big(&error, from, 1_280), None);
    assert_eq!(tcp_reset_answering(&tcp_reset(to_host, 1, 2)), None);
    assert_eq!(tcp_reset_answering(&udp_datagram(to_host, &[])), None);
    assert_eq!(echo_reply(&error), None);
}

proptest! {
    #[test]
    fn a_reset_is_well_formed(flow in any_flow(Protocol::TCP), seq: u32, ack: u32) {
        let bytes = tcp_reset(flow, seq, ack);

        let packet = Packet::parse(&bytes).unwrap();
        let tcp = packet.tcp.unwrap();
        prop_assert!(checksums_hold(&bytes));
        prop_assert_eq!((packet.flow, tcp.seq, tcp.ack), (flow, seq, ack));
        prop_assert!(tcp.flags.has(TcpFlags::RST.with(TcpFlags::ACK)));
    }

    #[test]
    fn a_segment_parses_back(flow in any_flow(Protocol::TCP), seq: u32, ack: u32, window: u16, payload in data()) {
        let flags = TcpFlags::PSH.with(TcpFlags::ACK);
        let bytes = tcp_segment(&TcpSegment { flow, seq, ack, flags, window, payload: &payload });

        let packet = Packet::parse(&bytes).unwrap();
        let tcp = packet.tcp.unwrap();
        prop_assert!(checksums_hold(&bytes));
        prop_assert_eq!((packet.flow, tcp.seq, tcp.ack, tcp.window), (flow, seq, ack, window));
        prop_assert_eq!(tcp.payload_bytes as usize, payload.len());
    }

    #[test]
    fn the_answer_to_a_refused_segment_lands_on_what_it_acknowledged(
        flow in any_flow(Protocol::TCP), seq: u32, ack: u32, payload in data(),
    ) {
        let segment = |flags| tcp_segment(&TcpSegment { flow, seq, ack, flags, window: 1, payload: &payload });

        let to_data = tcp_reset_answering(&segment(TcpFlags::ACK)).unwrap();
        let to_syn = tcp_reset_answering(&segment(TcpFlags::SYN)).unwrap();

        let data_answer = Packet::parse(&to_data).unwrap();
        let syn_answer = Packet::parse(&to_syn).unwrap();
        prop_assert!(checksums_hold(&to_data) && checksums_hold(&to_syn));
        prop_assert_eq!((data_answer.flow, data_answer.tcp.unwrap().seq), (flow.reversed(), ack));
        let acknowledged = seq.wrapping_add(payload.len() as u32).wrapping_add(1);
        prop_assert_eq!(syn_answer.tcp.unwrap().ack, acknowledged);
        prop_assert!(syn_answer.tcp.unwrap().flags.has(TcpFlags::ACK));
    }

    #[test]
    fn a_datagram_parses_back(flow in any_flow(Protocol::UDP), payload in data()) {
        let bytes = udp_datagram(flow, &payload);

        let packet = Packet::parse(&bytes).unwrap();
        prop_assert!(checksums_hold(&bytes));
        prop_assert_eq!(packet.flow, flow);
        prop_assert_eq!(&packet.payload()[8..], &payload[..]);
    }

    #[test]
    fn an_echo_and_its_reply_are_one_conversation((src, dst) in any_address_pair(), id: u16, seq: u16, payload in data()) {
        let request = echo_request(src, dst, id, seq, &payload);
        let reply = echo_reply(&request).unwrap();

        let (request, reply) = (Packet::parse(&request).unwrap(), Packet::parse(&reply).unwrap());
        prop_assert!(checksums_hold(request.bytes) && checksums_hold(reply.bytes));
        prop_assert_eq!((request.icmp, reply.icmp), (Some(IcmpKind::EchoRequest), Some(IcmpKind::EchoReply)));
        prop_assert_eq!(reply.flow, request.flow.reversed());
        prop_assert_eq!(&reply.payload()[4..], &request.payload()[4..]);
    }

    #[test]
    fn an_error_goes_to_the_sender_and_quotes_its_packet(
        flow in prop_oneof![any_flow(Protocol::TCP), any_flow(Protocol::UDP)], payload in data(), mtu in 1_280..9_000_u32,
    ) {
        let original = match flow.protocol {
            Protocol::TCP => {
                let flags = TcpFlags::ACK;
                tcp_segment(&TcpSegment { flow, seq: 1, ack: 2, flags, window: 3, payload: &payload })
            }
            _ => udp_datagram(flow, &payload),
        };
        let prohibited = administratively_prohibited(&original, flow.dst).unwrap();
        let too_big = packet_too_big(&original, flow.dst, mtu).unwrap();
        let from_flow = administratively_prohibited_flow(flow, flow.dst).unwrap();

        let bytes_max = if flow.src.is_ipv4() { 576 } else { 1_280 };
        for bytes in [&prohibited, &too_big, &from_flow] {
            let packet = Packet::parse(bytes).unwrap();
            prop_assert!(checksums_hold(bytes));
            prop_assert_eq!((packet.flow.src, packet.flow.dst), (flow.dst, flow.src));
            prop_assert_eq!(packet.icmp, Some(IcmpKind::Error { quoted: flow }));
            prop_assert!(bytes.len() <= bytes_max);
        }
        let (kind, field) = if flow.src.is_ipv4() {
            ([[3, 13], [3, 4]], &too_big[24..28])
        } else {
            ([[1, 1], [2, 0]], &too_big[44..48])
        };
        let start = if flow.src.is_ipv4() { 20 } else { 40 };
        prop_assert_eq!(&prohibited[start..start + 2], &kind[0]);
        prop_assert_eq!(&too_big[start..start + 2], &kind[1]);
        prop_assert_eq!(field, &mtu.to_be_bytes());
    }

    #[test]
    fn no_bytes_make_a_builder_panic(bytes in proptest::collection::vec(any::<u8>(), 0..200), mtu: u32) {
        let from = IpAddr::from([100, 64, 0, 9]);
        let _ = (tcp_reset_answering(&bytes), echo_reply(&bytes));
        let _ = (administratively_prohibited(&bytes, from), packet_too_big(&bytes, from, mtu));
    }
}
