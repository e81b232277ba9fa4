//! ICMP and ICMPv6 errors: what a sender is told about a packet we did not pass.
//!
//! **Invariant:** no error answers an error, a group, a nameless sender or a later fragment (RFC 1122 section 3.2.2,
//! RFC 4443 section 2.4), so two nodes can never keep each other busy with them.

use std::net::IpAddr;

use crate::build::{echo_request, icmp_packet, may_answer, udp_datagram};
use crate::{Flow, IcmpKind, Packet, Position, Protocol, TcpFlags, TcpSegment, tcp_segment};

/// Communication administratively prohibited: ICMP 3/13, ICMPv6 1/1. `None` where no error may be sent.
pub fn administratively_prohibited(original: &[u8], from: IpAddr) -> Option<Vec<u8>> {
    error(
        original,
        from,
        &Message {
            v4: [3, 13],
            v6: [1, 1],
            field: 0,
        },
    )
}

/// The same for a flow whose packets are gone: quotes the start of one as its sender wrote it.
pub fn administratively_prohibited_flow(flow: Flow, from: IpAddr) -> Option<Vec<u8>> {
    let original = match flow.protocol {
        Protocol::TCP => {
            let flags = TcpFlags::ACK;
            tcp_segment(&TcpSegment {
                flow,
                seq: 0,
                ack: 0,
                flags,
                window: 0,
                payload: &[],
            })
        }
        Protocol::UDP => udp_datagram(flow, &[]),
        Protocol::ICMP | Protocol::ICMPV6 => echo_request(flow.src, flow.dst, flow.src_port, 0, &[]),
        _ => return None,
    };
    administratively_prohibited(&original, from)
}

/// Too big for the tunnel: ICMP 3/4 with the next hop's MTU (RFC 1191), ICMPv6 2 (RFC 4443 section 3.2).
pub fn packet_too_big(original: &[u8], from: IpAddr, mtu: u32) -> Option<Vec<u8>> {
    error(
        original,
        from,
        &Message {
            v4: [3, 4],
            v6: [2, 0],
            field: mtu,
        },
    )
}

/// Type and code in each family, and the 32 bits after the checksum.
struct Message {
    v4: [u8; 2],
    v6: [u8; 2],
    field: u32,
}

fn error(original: &[u8], from: IpAddr, message: &Message) -> Option<Vec<u8>> {
    let packet = Packet::parse(original).ok()?;
    let about_error = matches!(packet.icmp, Some(IcmpKind::Error { .. } | IcmpKind::Other));
    let about_later = matches!(packet.position, Position::Later(_));
    if about_error || about_later || from.is_ipv4() != packet.flow.src.is_ipv4() || !may_answer(&packet) {
        return None;
    }
    let (kind, quote_bytes_max, field) = match from {
        IpAddr::V4(_) => (
            message.v4,
            V4_QUOTE_BYTES_MAX,
            message.field.min(u32::from(u16::MAX)),
        ),
        IpAddr::V6(_) => (message.v6, V6_QUOTE_BYTES_MAX, message.field),
    };
    let quote = &packet.bytes[..packet.bytes.len().min(quote_bytes_max)];
    let mut bytes = Vec::with_capacity(8 + quote.len());
    bytes.extend([kind[0], kind[1], 0, 0]);
    bytes.extend(field.to_be_bytes());
    bytes.extend(quote);
    Some(icmp_packet(from, packet.flow.src, bytes))
}

/// The whole error stays within 576 bytes (RFC 1812 section 4.3.2.3).
const V4_QUOTE_BYTES_MAX: usize = 576 - 28;
/// The whole error stays within the least MTU of IPv6, 1280 bytes (RFC 4443 section 2.4).
const V6_QUOTE_BYTES_MAX: usize = 1280 - 48;
