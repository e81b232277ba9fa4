//! Inner packets: from a script, and samples of every kind.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use ringfence_model::OverlayAddresses;
use ringfence_packet::{
    Flow, Protocol, TcpFlags, TcpSegment, administratively_prohibited_flow, echo_reply, echo_request,
    tcp_segment, udp_datagram,
};

use crate::script::Script;

/// The node under test.
pub(crate) const OURS: OverlayAddresses = addresses(1);
/// Its peer that turned bad.
pub(crate) const ROGUE: OverlayAddresses = addresses(2);
/// Another peer.
pub(crate) const OTHER: OverlayAddresses = addresses(3);

pub(crate) const fn addresses(n: u8) -> OverlayAddresses {
    OverlayAddresses {
        v4: Ipv4Addr::new(100, 64, 0, n),
        v6: Ipv6Addr::new(0xfd00, 0xacce, 0, 1, 0, 0, 0, n as u16),
    }
}

/// The next packet of a script: raw bytes, or one built from few values, so that packets meet in the same flows.
/// `src` and `dst` are likely, not certain.
pub(crate) fn scripted(script: &mut Script<'_>, src: OverlayAddresses, dst: OverlayAddresses) -> Vec<u8> {
    let how = script.byte();
    if how.trailing_zeros() >= 4 {
        return script.piece().to_vec();
    }
    let pick = |likely: OverlayAddresses, bit: u8| {
        let chosen = if how & bit == 0 { likely } else { OTHER };
        match how & 0x80 {
            0 => IpAddr::V4(chosen.v4),
            _ => IpAddr::V6(chosen.v6),
        }
    };
    let flow = Flow {
        src: pick(src, 0x20),
        dst: pick(dst, 0x40),
        protocol: Protocol::TCP,
        src_port: port(script.byte()),
        dst_port: port(script.byte()),
    };
    let mut packet = match how & 0x07 {
        0..=3 => tcp_segment(&TcpSegment {
            flow,
            flags: TcpFlags(script.byte()),
            seq: script.word(),
            ack: script.word(),
            window: script.short(),
            payload: script.piece(),
        }),
        4 => udp_datagram(
            Flow {
                protocol: Protocol::UDP,
                ..flow
            },
            script.piece(),
        ),
        5 => echo_request(flow.src, flow.dst, flow.src_port, flow.dst_port, script.piece()),
        6 => echo_reply(&echo_request(
            flow.dst,
            flow.src,
            flow.src_port,
            flow.dst_port,
            &[],
        ))
        .unwrap_or_default(),
        _ => administratively_prohibited_flow(flow.reversed(), flow.src).unwrap_or_default(),
    };
    if how & 0x10 != 0 {
        let at = usize::from(script.short()) % packet.len().max(1);
        let flip = script.byte();
        if let Some(byte) = packet.get_mut(at) {
            *byte ^= flip;
        }
    }
    packet
}

/// Few values, most of them the ports of the fixtures' rules.
fn port(byte: u8) -> u16 {
    match byte {
        0..=0x3f => 443,
        0x40..=0x7f => 40_000,
        0x80..=0xbf => 53,
        _ => u16::from(byte) << 8,
    }
}

/// Honest packets of every kind, and fragments.
pub(crate) fn samples() -> Vec<(&'static str, Vec<u8>)> {
    let flow = |protocol| Flow {
        src: ROGUE.v4.into(),
        dst: OURS.v4.into(),
        protocol,
        src_port: 40_000,
        dst_port: 443,
    };
    let six = |flow: Flow| Flow {
        src: ROGUE.v6.into(),
        dst: OURS.v6.into(),
        ..flow
    };
    let segment = |flow, flags| {
        tcp_segment(&TcpSegment {
            flow,
            seq: 7,
            ack: 9,
            flags,
            window: 1000,
            payload: b"",
        })
    };
    let (tcp, udp) = (flow(Protocol::TCP), flow(Protocol::UDP));
    let datagram = udp_datagram(udp, &[0x55; 64]);
    let mut first = datagram.clone();
    first[6] |= 0x20;
    let mut later = datagram.clone();
    later[7] = 8;
    let mut options = segment(tcp, TcpFlags::SYN);
    options.splice(20..20, [0x01, 0x01, 0x01, 0x00]);
    options[0] = 0x46;
    options[3] += 4;
    let mut extended = udp_datagram(six(udp), b"behind a destination option");
    extended.splice(40..40, [17, 0, 1, 4, 0, 0, 0, 0]);
    extended[6] = 60;
    extended[5] += 8;
    let mut fragment6 = udp_datagram(six(udp), b"a fragment of ipv6 with a tail");
    fragment6.splice(40..40, [17, 0, 0, 1, 0, 0, 0, 9]);
    fragment6[6] = 44;
    fragment6[5] += 8;
    vec![
        ("tcp4-syn", segment(tcp, TcpFlags::SYN)),
        ("tcp4-ack", segment(tcp, TcpFlags::ACK)),
        ("tcp4-options", options),
        ("tcp6-syn", segment(six(tcp), TcpFlags::SYN)),
        ("udp4", datagram),
        ("udp4-first-fragment", first),
        ("udp4-later-fragment", later),
        ("udp6-extension", extended),
        ("udp6-fragment", fragment6),
        ("echo4", echo_request(udp.src, udp.dst, 1, 2, b"ping")),
        ("echo6", echo_request(six(udp).src, six(udp).dst, 1, 2, b"ping")),
        (
            "icmp-error4",
            administratively_prohibited_flow(tcp.reversed(), tcp.src).expect("tcp may be refused"),
        ),
        (
            "icmp-error6",
            administratively_prohibited_flow(six(tcp).reversed(), six(tcp).src).expect("tcp may be refused"),
        ),
    ]
}
