//! The packets Ringfence writes itself: resets, echo, and small datagrams to quote or to probe with.
//!
//! **Invariant:** whatever is built here parses back to the flow it was built for, with right checksums.

use std::net::{IpAddr, Ipv6Addr};

use crate::transport::{ICMP_HEADER_BYTES, TCP_HEADER_BYTES, UDP_HEADER_BYTES};
use crate::{Flow, IcmpKind, Packet, Position, Protocol, TcpFlags, checksum, ipv4, ipv6, pseudo_header_sum};

/// A TCP segment to write, without options.
#[derive(Clone, Copy, Debug)]
pub struct TcpSegment<'a> {
    /// The way it travels. The protocol is taken to be TCP.
    pub flow: Flow,
    /// Sequence number.
    pub seq: u32,
    /// Acknowledgement number.
    pub ack: u32,
    /// Flags.
    pub flags: TcpFlags,
    /// Window, not scaled.
    pub window: u16,
    /// Data; cut at [`PAYLOAD_BYTES_MAX`].
    pub payload: &'a [u8],
}

/// A RST that travels as `flow` says. It takes effect where `seq` is exactly the receiver's RCV.NXT (RFC 5961).
pub fn tcp_reset(flow: Flow, seq: u32, ack: u32) -> Vec<u8> {
    let flags = TcpFlags::RST.with(TcpFlags::ACK);
    tcp_segment(&TcpSegment {
        flow,
        seq,
        ack,
        flags,
        window: 0,
        payload: &[],
    })
}

/// The RST that answers a refused segment, as if its port were closed (RFC 9293 section 3.10.7.1).
///
/// It lands on the sender's RCV.NXT, since that is what the segment acknowledges. `None` for a RST, for fragments and
/// for anything that is not TCP.
pub fn tcp_reset_answering(original: &[u8]) -> Option<Vec<u8>> {
    let packet = Packet::parse(original).ok()?;
    let tcp = packet.tcp?;
    if packet.position != Position::Whole || tcp.flags.has(TcpFlags::RST) || !may_answer(&packet) {
        return None;
    }
    let flow = packet.flow.reversed();
    if !tcp.flags.has(TcpFlags::ACK) {
        return Some(tcp_reset(flow, 0, tcp.seq.wrapping_add(tcp.sequence_bytes())));
    }
    let flags = TcpFlags::RST;
    Some(tcp_segment(&TcpSegment {
        flow,
        seq: tcp.ack,
        ack: 0,
        flags,
        window: 0,
        payload: &[],
    }))
}

/// One TCP segment.
pub fn tcp_segment(segment: &TcpSegment<'_>) -> Vec<u8> {
    let flow = segment.flow;
    let payload = cut(segment.payload);
    let mut bytes = Vec::with_capacity(TCP_HEADER_BYTES + payload.len());
    bytes.extend(flow.src_port.to_be_bytes());
    bytes.extend(flow.dst_port.to_be_bytes());
    bytes.extend(segment.seq.to_be_bytes());
    bytes.extend(segment.ack.to_be_bytes());
    bytes.extend([TCP_DATA_OFFSET, segment.flags.0]);
    bytes.extend(segment.window.to_be_bytes());
    bytes.extend([0; 4]);
    bytes.extend(payload);
    let initial = pseudo_header_sum(flow.src, flow.dst, Protocol::TCP, bytes.len());
    write_checksum(&mut bytes, TCP_CHECKSUM_AT, initial);
    ip_packet(flow.src, flow.dst, Protocol::TCP, &bytes)
}

/// One UDP datagram. The protocol of `flow` is taken to be UDP.
pub fn udp_datagram(flow: Flow, payload: &[u8]) -> Vec<u8> {
    let payload = cut(payload);
    let length = (UDP_HEADER_BYTES + payload.len()) as u16;
    let mut bytes = Vec::with_capacity(usize::from(length));
    bytes.extend(flow.src_port.to_be_bytes());
    bytes.extend(flow.dst_port.to_be_bytes());
    bytes.extend(length.to_be_bytes());
    bytes.extend([0; 2]);
    bytes.extend(payload);
    let initial = pseudo_header_sum(flow.src, flow.dst, Protocol::UDP, bytes.len());
    write_checksum(&mut bytes, UDP_CHECKSUM_AT, initial);
    // Zero would say "no checksum", which IPv6 forbids (RFC 8200 section 8.1): its other form is sent.
    if bytes[UDP_CHECKSUM_AT..UDP_CHECKSUM_AT + 2] == [0, 0] {
        bytes[UDP_CHECKSUM_AT..UDP_CHECKSUM_AT + 2].copy_from_slice(&[0xff, 0xff]);
    }
    ip_packet(flow.src, flow.dst, Protocol::UDP, &bytes)
}

/// An ICMP or ICMPv6 echo request, by the family of `src`.
pub fn echo_request(src: IpAddr, dst: IpAddr, id: u16, seq: u16, payload: &[u8]) -> Vec<u8> {
    let icmp_type = if src.is_ipv4() { 8 } else { 128 };
    echo(src, dst, icmp_type, [id, seq], payload)
}

/// The reply to an echo request; `None` for anything else.
pub fn echo_reply(request: &[u8]) -> Option<Vec<u8>> {
    let packet = Packet::parse(request).ok()?;
    if packet.icmp != Some(IcmpKind::EchoRequest)
        || packet.position != Position::Whole
        || !may_answer(&packet)
    {
        return None;
    }
    let (header, payload) = packet.payload().split_at_checked(ICMP_HEADER_BYTES)?;
    let seq = u16::from_be_bytes([header[6], header[7]]);
    let icmp_type = if packet.flow.src.is_ipv4() { 0 } else { 129 };
    Some(echo(
        packet.flow.dst,
        packet.flow.src,
        icmp_type,
        [packet.flow.src_port, seq],
        payload,
    ))
}

fn echo(src: IpAddr, dst: IpAddr, icmp_type: u8, id_and_seq: [u16; 2], payload: &[u8]) -> Vec<u8> {
    let payload = cut(payload);
    let mut message = Vec::with_capacity(ICMP_HEADER_BYTES + payload.len());
    message.extend([icmp_type, 0, 0, 0]);
    message.extend(id_and_seq[0].to_be_bytes());
    message.extend(id_and_seq[1].to_be_bytes());
    message.extend(payload);
    icmp_packet(src, dst, message)
}

/// Wraps an ICMP message whose checksum field is still zero.
pub(crate) fn icmp_packet(src: IpAddr, dst: IpAddr, mut message: Vec<u8>) -> Vec<u8> {
    // Only ICMPv6 covers the pseudo header (RFC 4443 section 2.3).
    let (protocol, initial) = match src {
        IpAddr::V4(_) => (Protocol::ICMP, 0),
        IpAddr::V6(_) => (
            Protocol::ICMPV6,
            pseudo_header_sum(src, dst, Protocol::ICMPV6, message.len()),
        ),
    };
    write_checksum(&mut message, ICMP_CHECKSUM_AT, initial);
    ip_packet(src, dst, protocol, &message)
}

/// Whether an answer may be sent at all: never to or about a group or a nameless sender (RFC 1122 section 3.2.2,
/// RFC 4443 section 2.4).
pub(crate) fn may_answer(packet: &Packet<'_>) -> bool {
    let one_host = |address: IpAddr| match address {
        IpAddr::V4(v4) => {
            !v4.is_multicast() && !v4.is_broadcast() && !v4.is_unspecified() && !v4.is_loopback()
        }
        IpAddr::V6(v6) => !v6.is_multicast() && !v6.is_unspecified() && !v6.is_loopback(),
    };
    one_host(packet.flow.src) && one_host(packet.flow.dst)
}

fn ip_packet(src: IpAddr, dst: IpAddr, protocol: Protocol, payload: &[u8]) -> Vec<u8> {
    match (src, dst) {
        (IpAddr::V4(src), IpAddr::V4(dst)) => {
            let total = ipv4::HEADER_BYTES + payload.len();
            let mut packet = Vec::with_capacity(total);
            packet.extend([0x45, 0]);
            packet.extend((total as u16).to_be_bytes());
            packet.extend([0, 0, DONT_FRAGMENT, 0, HOPS_MAX, protocol.0, 0, 0]);
            packet.extend(src.octets());
            packet.extend(dst.octets());
            write_checksum(&mut packet, IPV4_CHECKSUM_AT, 0);
            packet.extend(payload);
            packet
        }
        (src, dst) => {
            let mut packet = Vec::with_capacity(ipv6::HEADER_BYTES + payload.len());
            packet.extend([0x60, 0, 0, 0]);
            packet.extend((payload.len() as u16).to_be_bytes());
            packet.extend([protocol.0, HOPS_MAX]);
            packet.extend(as_ipv6(src).octets());
            packet.extend(as_ipv6(dst).octets());
            packet.extend(payload);
            packet
        }
    }
}

fn as_ipv6(address: IpAddr) -> Ipv6Addr {
    match address {
        IpAddr::V4(v4) => v4.to_ipv6_mapped(),
        IpAddr::V6(v6) => v6,
    }
}

fn write_checksum(bytes: &mut [u8], at: usize, initial: u32) {
    let sum = checksum(initial, bytes);
    bytes[at..at + 2].copy_from_slice(&sum.to_be_bytes());
}

fn cut(payload: &[u8]) -> &[u8] {
    &payload[..payload.len().min(PAYLOAD_BYTES_MAX)]
}

/// The most data a packet built here carries: with every header it stays below 64 KiB.
pub const PAYLOAD_BYTES_MAX: usize = 65_000;

const TCP_DATA_OFFSET: u8 = 5 << 4;
const TCP_CHECKSUM_AT: usize = 16;
const UDP_CHECKSUM_AT: usize = 6;
const ICMP_CHECKSUM_AT: usize = 2;
const IPV4_CHECKSUM_AT: usize = 10;
const DONT_FRAGMENT: u8 = 0x40;
const HOPS_MAX: u8 = 64;

#[cfg(test)]
mod tests;
