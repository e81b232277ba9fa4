//! What a packet carries: the parts of TCP, UDP and ICMP headers that a filter needs.

use crate::packet::IpHeader;
use crate::{Flow, Malformed, Position, Protocol};

/// A TCP header (RFC 9293).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct TcpView {
    /// Sequence number.
    pub seq: u32,
    /// Acknowledgement number; counts only with the ACK flag.
    pub ack: u32,
    /// Flags.
    pub flags: TcpFlags,
    /// Window as in the header, not scaled.
    pub window: u16,
    /// The window scale option (RFC 7323) of a SYN.
    pub window_scale: Option<u8>,
    /// Bytes after the header in this packet.
    pub payload_bytes: u32,
}

/// TCP flags.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct TcpFlags(pub u8);

/// What an ICMP or ICMPv6 message is to a filter.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum IcmpKind {
    /// Asks for an echo.
    EchoRequest,
    /// Answers one.
    EchoReply,
    /// Destination unreachable, packet too big, time exceeded or parameter problem.
    Error {
        /// The flow of the packet it complains about, in the direction that packet travelled.
        quoted: Flow,
    },
    /// Anything else: redirects, router and neighbour discovery, timestamps. No rule allows these.
    Other,
}

impl TcpView {
    /// How far this segment moves the sequence number: payload, SYN and FIN (RFC 9293, SEG.LEN).
    pub fn sequence_bytes(&self) -> u32 {
        let flags = u32::from(self.flags.has(TcpFlags::SYN)) + u32::from(self.flags.has(TcpFlags::FIN));
        self.payload_bytes.wrapping_add(flags)
    }

    /// Opens a connection: SYN and no ACK.
    pub fn opens(&self) -> bool {
        self.flags.has(TcpFlags::SYN) && !self.flags.has(TcpFlags::ACK)
    }
}

impl TcpFlags {
    /// No more data from the sender.
    pub const FIN: Self = Self(0x01);
    /// Synchronise sequence numbers.
    pub const SYN: Self = Self(0x02);
    /// Reset the connection.
    pub const RST: Self = Self(0x04);
    /// Push.
    pub const PSH: Self = Self(0x08);
    /// The acknowledgement number counts.
    pub const ACK: Self = Self(0x10);

    /// Whether all of `flags` are set.
    pub const fn has(self, flags: Self) -> bool {
        self.0 & flags.0 == flags.0
    }

    /// These and `other`.
    pub const fn with(self, other: Self) -> Self {
        Self(self.0 | other.0)
    }
}

pub(crate) struct Transport {
    pub(crate) src_port: u16,
    pub(crate) dst_port: u16,
    pub(crate) tcp: Option<TcpView>,
    pub(crate) icmp: Option<IcmpKind>,
}

impl Transport {
    pub(crate) const PORTLESS: Self = Self {
        src_port: 0,
        dst_port: 0,
        tcp: None,
        icmp: None,
    };
}

pub(crate) fn parse(header: &IpHeader, position: Position, payload: &[u8]) -> Result<Transport, Malformed> {
    let cut_off = match position {
        Position::Whole => Malformed::Truncated,
        Position::First(_) | Position::Later(_) => Malformed::TinyFragment,
    };
    match (header.protocol, header.src.is_ipv4()) {
        (Protocol::TCP, _) => tcp(payload, cut_off),
        (Protocol::UDP, _) => udp(payload, position, cut_off),
        (Protocol::ICMP, true) | (Protocol::ICMPV6, false) => icmp(header, payload, position, cut_off),
        // ICMP over IPv6 and the reverse, and protocols without ports: no rule can name them.
        _ => Ok(Transport::PORTLESS),
    }
}

fn tcp(payload: &[u8], cut_off: Malformed) -> Result<Transport, Malformed> {
    let Some(fixed) = payload.first_chunk::<TCP_HEADER_BYTES>() else {
        return Err(cut_off);
    };
    let header_bytes = usize::from(fixed[12] >> 4) * 4;
    if header_bytes < TCP_HEADER_BYTES {
        return Err(Malformed::Length);
    }
    let Some(options) = payload.get(TCP_HEADER_BYTES..header_bytes) else {
        return Err(cut_off);
    };
    let flags = TcpFlags(fixed[13]);
    let syn = flags.has(TcpFlags::SYN);
    if syn && (flags.has(TcpFlags::FIN) || flags.has(TcpFlags::RST)) {
        return Err(Malformed::TcpFlags);
    }
    let view = TcpView {
        seq: u32::from_be_bytes([fixed[4], fixed[5], fixed[6], fixed[7]]),
        ack: u32::from_be_bytes([fixed[8], fixed[9], fixed[10], fixed[11]]),
        flags,
        window: u16::from_be_bytes([fixed[14], fixed[15]]),
        window_scale: if syn { window_scale(options) } else { None },
        payload_bytes: u32::try_from(payload.len() - header_bytes).map_err(|_| Malformed::Length)?,
    };
    Ok(Transport {
        src_port: u16::from_be_bytes([fixed[0], fixed[1]]),
        dst_port: u16::from_be_bytes([fixed[2], fixed[3]]),
        tcp: Some(view),
        icmp: None,
    })
}

fn window_scale(mut options: &[u8]) -> Option<u8> {
    loop {
        options = match options {
            [] | [OPTION_END, ..] => return None,
            [OPTION_NOP, rest @ ..] => rest,
            [OPTION_WINDOW_SCALE, 3, shift, ..] => return Some((*shift).min(WINDOW_SCALE_MAX)),
            [_, bytes, ..] => options.get(usize::from(*bytes).max(2)..)?,
            [_] => return None,
        };
    }
}

fn udp(payload: &[u8], position: Position, cut_off: Malformed) -> Result<Transport, Malformed> {
    let Some(fixed) = payload.first_chunk::<UDP_HEADER_BYTES>() else {
        return Err(cut_off);
    };
    let bytes = usize::from(u16::from_be_bytes([fixed[4], fixed[5]]));
    if bytes < UDP_HEADER_BYTES || (position == Position::Whole && bytes > payload.len()) {
        return Err(Malformed::Length);
    }
    Ok(Transport {
        src_port: u16::from_be_bytes([fixed[0], fixed[1]]),
        dst_port: u16::from_be_bytes([fixed[2], fixed[3]]),
        tcp: None,
        icmp: None,
    })
}

fn icmp(
    header: &IpHeader,
    payload: &[u8],
    position: Position,
    cut_off: Malformed,
) -> Result<Transport, Malformed> {
    let Some(fixed) = payload.first_chunk::<ICMP_HEADER_BYTES>() else {
        return Err(cut_off);
    };
    let kind = match (header.protocol, fixed[0]) {
        (Protocol::ICMP, 8) | (Protocol::ICMPV6, 128) => IcmpKind::EchoRequest,
        (Protocol::ICMP, 0) | (Protocol::ICMPV6, 129) => IcmpKind::EchoReply,
        (Protocol::ICMP, 3 | 11 | 12) | (Protocol::ICMPV6, 1..=4) => {
            if position != Position::Whole {
                return Err(Malformed::FragmentedIcmpError);
            }
            IcmpKind::Error {
                quoted: quoted_flow(&payload[ICMP_HEADER_BYTES..])?,
            }
        }
        _ => IcmpKind::Other,
    };
    let id = match kind {
        IcmpKind::EchoRequest | IcmpKind::EchoReply => u16::from_be_bytes([fixed[4], fixed[5]]),
        IcmpKind::Error { .. } | IcmpKind::Other => 0,
    };
    Ok(Transport {
        src_port: id,
        dst_port: id,
        tcp: None,
        icmp: Some(kind),
    })
}

/// The flow of a quoted packet. At least 8 bytes of its transport header must be there (RFC 792); a quoted later
/// fragment names no ports and so no flow.
fn quoted_flow(quote: &[u8]) -> Result<Flow, Malformed> {
    let header = IpHeader::parse_quoted(quote).map_err(|_| Malformed::Quote)?;
    if header.fragment.is_some_and(|field| field.offset_bytes > 0) {
        return Err(Malformed::Quote);
    }
    let Some(start) = quote
        .get(header.header_bytes..)
        .and_then(|rest| rest.first_chunk::<QUOTED_BYTES>())
    else {
        return Err(Malformed::Quote);
    };
    let (src_port, dst_port) = match (header.protocol, start[0]) {
        (Protocol::TCP | Protocol::UDP, _) => (
            u16::from_be_bytes([start[0], start[1]]),
            u16::from_be_bytes([start[2], start[3]]),
        ),
        // Only echo: an error about an error must never be sent (RFC 1122 section 3.2.2).
        (Protocol::ICMP, 0 | 8) | (Protocol::ICMPV6, 128 | 129) => {
            let id = u16::from_be_bytes([start[4], start[5]]);
            (id, id)
        }
        _ => return Err(Malformed::Quote),
    };
    Ok(Flow {
        src: header.src,
        dst: header.dst,
        protocol: header.protocol,
        src_port,
        dst_port,
    })
}

pub(crate) const TCP_HEADER_BYTES: usize = 20;
/// Its length field has four bits, for words of 32 bits.
pub(crate) const TCP_HEADER_BYTES_MAX: usize = 60;
pub(crate) const UDP_HEADER_BYTES: usize = 8;
pub(crate) const ICMP_HEADER_BYTES: usize = 8;
const QUOTED_BYTES: usize = 8;
const OPTION_END: u8 = 0;
const OPTION_NOP: u8 = 1;
const OPTION_WINDOW_SCALE: u8 = 3;
/// RFC 7323 section 2.3.
const WINDOW_SCALE_MAX: u8 = 14;
