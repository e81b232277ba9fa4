//! What [`Packet::parse`] accepts, and above all what it does not.

use proptest::prelude::*;

use super::*;
use crate::{TcpFlags, TcpSegment, echo_request, tcp_segment, udp_datagram};

fn flow(protocol: Protocol, src: &str, dst: &str) -> Flow {
    Flow {
        src: src.parse().unwrap(),
        dst: dst.parse().unwrap(),
        protocol,
        src_port: 40_000,
        dst_port: 443,
    }
}

fn v4(protocol: Protocol) -> Flow {
    flow(protocol, "100.64.0.1", "100.64.0.2")
}

fn v6(protocol: Protocol) -> Flow {
    flow(protocol, "fd00::1", "fd00::2")
}

fn syn(flow: Flow, payload: &[u8]) -> Vec<u8> {
    tcp_segment(&TcpSegment {
        flow,
        seq: 7,
        ack: 0,
        flags: TcpFlags::SYN,
        window: 1_000,
        payload,
    })
}

/// An IPv4 packet with this fragment field; the payload is not looked at.
fn v4_fragment(offset_bytes: u16, more: u16, protocol: Protocol, payload: &[u8]) -> Vec<u8> {
    let total = (20 + payload.len()) as u16;
    let field = (offset_bytes / 8) | (more << 13);
    let mut bytes = vec![0x45, 0];
    bytes.extend(total.to_be_bytes());
    bytes.extend([0xab, 0xcd]);
    bytes.extend(field.to_be_bytes());
    bytes.extend([64, protocol.0, 0, 0, 100, 64, 0, 1, 100, 64, 0, 2]);
    bytes.extend(payload);
    bytes
}

/// An IPv6 packet whose chain of headers after the fixed one is `payload`.
fn v6_packet(next_header: u8, payload: &[u8]) -> Vec<u8> {
    let mut bytes = vec![0x60, 0, 0, 0];
    bytes.extend((payload.len() as u16).to_be_bytes());
    bytes.extend([next_header, 64]);
    bytes.extend("fd00::1".parse::<Ipv6Addr>().unwrap().octets());
    bytes.extend("fd00::2".parse::<Ipv6Addr>().unwrap().octets());
    bytes.extend(payload);
    bytes
}

fn v6_fragment(next_header: u8, offset_bytes: u16, more: u16, payload: &[u8]) -> Vec<u8> {
    let mut chain = vec![next_header, 0];
    chain.extend((offset_bytes | more).to_be_bytes());
    chain.extend(9_u32.to_be_bytes());
    chain.extend(payload);
    v6_packet(44, &chain)
}

fn refused(bytes: &[u8]) -> Malformed {
    Packet::parse(bytes).unwrap_err()
}

fn udp_bytes() -> Vec<u8> {
    vec![0x9c, 0x40, 0x01, 0xbb, 0, 16, 0, 0, 1, 2, 3, 4, 5, 6, 7, 8]
}

#[test]
fn the_padding_of_a_tunnel_is_trimmed() {
    for flow in [v4(Protocol::UDP), v6(Protocol::UDP)] {
        let bytes = udp_datagram(flow, b"hello");
        let mut padded = bytes.clone();
        padded.extend([0; 11]);

        let packet = Packet::parse(&padded).unwrap();

        assert_eq!(packet.bytes, bytes);
        assert_eq!(packet.flow, flow);
    }
}

#[test]
fn the_tcp_header_is_read_with_its_window_scale() {
    let mut bytes = syn(v4(Protocol::TCP), &[1, 1, 1, 3, 3, 7, 1, 0]);
    bytes[32] = 7 << 4;

    let tcp = Packet::parse(&bytes).unwrap().tcp.unwrap();

    assert_eq!(
        (tcp.seq, tcp.window, tcp.window_scale, tcp.payload_bytes),
        (7, 1_000, Some(7), 0)
    );
    assert!(tcp.opens());
    assert_eq!(tcp.sequence_bytes(), 1);
}

#[test]
fn every_cut_of_a_packet_is_refused() {
    for flow in [v4(Protocol::TCP), v6(Protocol::TCP)] {
        let bytes = syn(flow, b"data");
        for length in 0..bytes.len() {
            assert_eq!(refused(&bytes[..length]), Malformed::Truncated, "cut to {length}");
        }
    }
}

#[test]
fn a_transport_header_must_fit_its_packet() {
    let mut long_header = syn(v4(Protocol::TCP), &[]);
    long_header[32] = 6 << 4;
    let mut short_header = syn(v4(Protocol::TCP), &[]);
    short_header[32] = 4 << 4;
    let mut long_datagram = udp_datagram(v4(Protocol::UDP), b"x");
    long_datagram[25] = 200;

    assert_eq!(refused(&long_header), Malformed::Truncated);
    assert_eq!(refused(&short_header), Malformed::Length);
    assert_eq!(refused(&long_datagram), Malformed::Length);
}

#[test]
fn a_syn_that_also_ends_the_connection_is_refused() {
    for odd in [TcpFlags::FIN, TcpFlags::RST] {
        let mut bytes = syn(v4(Protocol::TCP), &[]);
        bytes[33] |= odd.0;

        assert_eq!(refused(&bytes), Malformed::TcpFlags);
    }
}

#[test]
fn a_source_route_is_refused_and_padding_is_not() {
    let with_options = |options: [u8; 4]| {
        let mut bytes = udp_datagram(v4(Protocol::UDP), &[]);
        bytes[0] = 0x46;
        bytes[3] += 4;
        bytes.splice(20..20, options);
        bytes
    };

    assert_eq!(refused(&with_options([131, 3, 4, 0])), Malformed::Ipv4Option);
    assert!(Packet::parse(&with_options([1, 1, 1, 0])).is_ok());
}

#[test]
fn later_fragments_have_no_ports() {
    let first = v4_fragment(0, 1, Protocol::UDP, &udp_bytes());
    let later = v4_fragment(16, 0, Protocol::UDP, &udp_bytes());

    let first = Packet::parse(&first).unwrap();
    let later = Packet::parse(&later).unwrap();

    let (Position::First(a), Position::Later(b)) = (first.position, later.position) else {
        panic!("{first:?} {later:?}");
    };
    assert_eq!(a.key, b.key);
    assert_eq!(
        ((a.start, a.end, a.tail), (b.start, b.end, b.tail)),
        ((0, 16, Tail::More), (16, 32, Tail::Last))
    );
    assert_eq!((first.flow.src_port, first.flow.dst_port), (40_000, 443));
    assert_eq!((later.flow.src_port, later.flow.dst_port), (0, 0));
}

#[test]
fn a_first_fragment_must_hold_the_whole_transport_header() {
    let tcp = &syn(v4(Protocol::TCP), &[])[20..];

    assert_eq!(
        refused(&v4_fragment(0, 1, Protocol::TCP, &tcp[..16])),
        Malformed::TinyFragment
    );
    assert_eq!(
        refused(&v6_fragment(6, 0, 1, &tcp[..16])),
        Malformed::TinyFragment
    );
    assert_eq!(
        refused(&v6_fragment(60, 0, 1, &[6, 1, 1, 4, 0, 0, 0, 0])),
        Malformed::TinyFragment,
        "extension headers belong in the first fragment too (RFC 7112)"
    );
}

#[test]
fn fragments_out_of_bounds_are_refused() {
    assert_eq!(
        refused(&v4_fragment(65_528, 0, Protocol::UDP, &[0; 8])),
        Malformed::FragmentBounds
    );
    assert_eq!(
        refused(&v4_fragment(8, 1, Protocol::UDP, &[0; 7])),
        Malformed::FragmentBounds
    );
    assert_eq!(
        refused(&v4_fragment(8, 0, Protocol::UDP, &[])),
        Malformed::FragmentBounds
    );
    assert_eq!(
        refused(&v6_fragment(17, 65_528, 0, &[0; 16])),
        Malformed::FragmentBounds
    );
}

#[test]
fn ipv6_fragments_belong_together_whatever_protocol_the_later_ones_claim() {
    let first = v6_fragment(17, 0, 1, &udp_bytes());
    let later = v6_fragment(6, 16, 0, &[0; 8]);

    let (Position::First(a), Position::Later(b)) = (
        Packet::parse(&first).unwrap().position,
        Packet::parse(&later).unwrap().position,
    ) else {
        panic!("not fragments");
    };
    assert_eq!(a.key, b.key);
}

#[test]
fn an_atomic_fragment_is_whole() {
    let bytes = v6_fragment(17, 0, 0, &udp_bytes());

    let packet = Packet::parse(&bytes).unwrap();

    assert_eq!(
        (packet.position, packet.flow),
        (Position::Whole, v6(Protocol::UDP))
    );
}

#[test]
fn extension_headers_are_an_allow_list() {
    let padding = [17, 0, 1, 4, 0, 0, 0, 0];
    let home_address = [17, 0, 201, 4, 0, 0, 0, 0];
    let with = |header: &[u8], next: u8| v6_packet(next, &[header, &udp_bytes()].concat());

    assert_eq!(
        Packet::parse(&with(&padding, 60)).unwrap().flow,
        v6(Protocol::UDP)
    );
    assert_eq!(refused(&with(&home_address, 60)), Malformed::ExtensionHeader);
    // What is told as padding and is none carries data past the rules.
    for smuggled in [[17, 0, 1, 4, 0, 0, 0, 7], [17, 0, 1, 5, 0, 0, 0, 0]] {
        assert_eq!(refused(&with(&smuggled, 60)), Malformed::ExtensionHeader);
    }
    for header in [0, 43, 50, 51, 59, 135, 139, 140, 253, 254] {
        assert_eq!(
            refused(&with(&padding, header)),
            Malformed::ExtensionHeader,
            "header {header}"
        );
    }
}

#[test]
fn extension_headers_are_bounded() {
    let padding = [60, 0, 1, 4, 0, 0, 0, 0];
    let chain = |count: usize| {
        let mut bytes = padding.repeat(count);
        bytes[(count - 1) * 8] = 17;
        bytes.extend(udp_bytes());
        v6_packet(60, &bytes)
    };

    assert!(Packet::parse(&chain(3)).is_ok());
    assert_eq!(refused(&chain(4)), Malformed::ExtensionHeader);
}

#[test]
fn a_fragment_of_a_fragment_is_refused() {
    let inner = [17, 0, 0, 1, 0, 0, 0, 9];
    let bytes = v6_fragment(44, 0, 1, &[&inner[..], &udp_bytes()].concat());

    assert_eq!(refused(&bytes), Malformed::ExtensionHeader);
}

#[test]
fn an_icmp_error_names_the_flow_it_quotes() {
    for quoted in [v4(Protocol::TCP), v6(Protocol::TCP)] {
        let original = syn(quoted, &[]);
        let error = crate::administratively_prohibited(&original, quoted.dst).unwrap();

        let packet = Packet::parse(&error).unwrap();

        assert_eq!(packet.icmp, Some(IcmpKind::Error { quoted }));
    }
}

#[test]
fn an_icmp_error_without_a_readable_quote_is_refused() {
    let original = udp_datagram(v4(Protocol::UDP), &[]);
    let error = crate::administratively_prohibited(&original, v4(Protocol::UDP).dst).unwrap();
    let mut cut = error[..error.len() - 1].to_vec();
    cut[3] -= 1;

    assert_eq!(refused(&cut), Malformed::Quote);
}

#[test]
fn redirects_and_neighbour_discovery_are_neither_echo_nor_error() {
    let mut redirect = echo_request(
        "100.64.0.1".parse().unwrap(),
        "100.64.0.2".parse().unwrap(),
        1,
        1,
        &[],
    );
    redirect[20] = 5;
    let mut advertisement = echo_request("fd00::1".parse().unwrap(), "fd00::2".parse().unwrap(), 1, 1, &[]);
    advertisement[40] = 136;

    assert_eq!(Packet::parse(&redirect).unwrap().icmp, Some(IcmpKind::Other));
    assert_eq!(Packet::parse(&advertisement).unwrap().icmp, Some(IcmpKind::Other));
}

#[test]
fn icmp_of_the_other_family_is_not_icmp() {
    let mut bytes = echo_request("fd00::1".parse().unwrap(), "fd00::2".parse().unwrap(), 1, 1, &[]);
    bytes[6] = Protocol::ICMP.0;
    bytes[40] = 8;

    assert_eq!(Packet::parse(&bytes).unwrap().icmp, None);
}

fn one_of_ours() -> impl Strategy<Value = Vec<u8>> {
    let payload = proptest::collection::vec(any::<u8>(), 0..200);
    (0..5_u8, payload).prop_map(|(kind, payload)| match kind {
        0 => syn(v4(Protocol::TCP), &payload),
        1 => udp_datagram(v6(Protocol::UDP), &payload),
        2 => v4_fragment(0, 1, Protocol::TCP, &payload),
        3 => v6_fragment(60, 0, 1, &payload),
        _ => crate::administratively_prohibited(&syn(v6(Protocol::TCP), &payload), v6(Protocol::TCP).dst)
            .unwrap(),
    })
}

proptest! {
    #[test]
    fn no_bytes_panic(bytes in proptest::collection::vec(any::<u8>(), 0..300)) {
        let _ = Packet::parse(&bytes);
    }

    #[test]
    fn no_damaged_packet_panics_or_outgrows_its_bytes(
        mut bytes in one_of_ours(),
        damage in proptest::collection::vec((any::<prop::sample::Index>(), any::<u8>()), 0..6),
        cut in any::<prop::sample::Index>(),
    ) {
        for (place, value) in damage {
            let place = place.index(bytes.len());
            bytes[place] = value;
        }
        for candidate in [&bytes[..], &bytes[..cut.index(bytes.len() + 1)]] {
            if let Ok(packet) = Packet::parse(candidate) {
                prop_assert!(packet.bytes.len() <= candidate.len());
                prop_assert!(packet.header_bytes <= packet.bytes.len());
                if let Position::Later(_) = packet.position {
                    prop_assert_eq!((packet.flow.src_port, packet.flow.dst_port), (0, 0));
                    prop_assert!(packet.tcp.is_none() && packet.icmp.is_none());
                }
            }
        }
    }
}
