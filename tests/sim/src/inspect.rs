//! Reads an IP packet as a person with a hex dump would: the oracle's own eyes, apart from the product's parser.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

/// What can be seen of a packet.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Seen {
    /// Source address.
    pub src: IpAddr,
    /// Destination address.
    pub dst: IpAddr,
    /// IANA number of what the packet carries.
    pub protocol: u8,
    /// Source port, or the identifier of an echo; zero in a later fragment.
    pub src_port: u16,
    /// Destination port, or the identifier of an echo.
    pub dst_port: u16,
    /// Flags of TCP.
    pub tcp_flags: u8,
    /// Type of an ICMP message.
    pub icmp_type: Option<u8>,
    /// Which packet it is a fragment of, and at which offset.
    pub fragment: Option<(u32, u16)>,
    /// Of an ICMP error: source, destination, protocol and ports of the packet it quotes.
    pub quoted: Option<Tuple>,
}

/// Who talks to whom.
pub(crate) type Tuple = (IpAddr, IpAddr, u8, u16, u16);

impl Seen {
    /// The five-tuple.
    pub(crate) fn tuple(&self) -> Tuple {
        (self.src, self.dst, self.protocol, self.src_port, self.dst_port)
    }

    /// Whether it is TCP's first word.
    pub(crate) fn is_syn(&self) -> bool {
        self.protocol == 6 && self.tcp_flags & 0x12 == 0x02
    }

    /// Whether it is a TCP reset.
    pub(crate) fn is_reset(&self) -> bool {
        self.protocol == 6 && self.tcp_flags & 0x04 != 0
    }

    /// Whether it is a fragment without ports.
    pub(crate) fn is_later_fragment(&self) -> bool {
        self.fragment.is_some_and(|(_, offset)| offset > 0)
    }

    /// Whether it asks for an echo.
    pub(crate) fn is_echo_request(&self) -> bool {
        matches!(self.icmp_type, Some(8) if self.protocol == 1)
            || matches!(self.icmp_type, Some(128) if self.protocol == 58)
    }
}

/// The same conversation from the other end.
pub(crate) fn reversed(tuple: Tuple) -> Tuple {
    (tuple.1, tuple.0, tuple.2, tuple.4, tuple.3)
}

/// Reads a packet; `None` if it is none.
pub(crate) fn inspect(bytes: &[u8]) -> Option<Seen> {
    match bytes.first()? >> 4 {
        4 => inspect_v4(bytes),
        6 => inspect_v6(bytes),
        _ => None,
    }
}

fn inspect_v4(bytes: &[u8]) -> Option<Seen> {
    let header = usize::from(bytes[0] & 15) * 4;
    let fixed = bytes.get(..20)?;
    let address = |at: usize| Ipv4Addr::new(fixed[at], fixed[at + 1], fixed[at + 2], fixed[at + 3]);
    let field = u16::from_be_bytes([fixed[6], fixed[7]]);
    let (offset, more) = ((field & 0x1fff) * 8, field & 0x2000 != 0);
    let id = u32::from(u16::from_be_bytes([fixed[4], fixed[5]]));
    let fragment = (offset > 0 || more).then_some((id, offset));
    read_payload(
        address(12).into(),
        address(16).into(),
        fixed[9],
        bytes.get(header..)?,
        fragment,
    )
}

fn inspect_v6(bytes: &[u8]) -> Option<Seen> {
    let fixed = bytes.get(..40)?;
    let address = |at: usize| {
        let octets: [u8; 16] = fixed[at..at + 16].try_into().unwrap_or([0; 16]);
        Ipv6Addr::from(octets)
    };
    let (src, dst) = (address(8).into(), address(24).into());
    if fixed[6] != 44 {
        return read_payload(src, dst, fixed[6], &bytes[40..], None);
    }
    let header = bytes.get(40..48)?;
    let field = u16::from_be_bytes([header[2], header[3]]);
    let id = u32::from_be_bytes([header[4], header[5], header[6], header[7]]);
    read_payload(src, dst, header[0], &bytes[48..], Some((id, field & 0xfff8)))
}

fn read_payload(
    src: IpAddr,
    dst: IpAddr,
    protocol: u8,
    payload: &[u8],
    fragment: Option<(u32, u16)>,
) -> Option<Seen> {
    let mut seen = Seen {
        src,
        dst,
        protocol,
        src_port: 0,
        dst_port: 0,
        tcp_flags: 0,
        icmp_type: None,
        fragment,
        quoted: None,
    };
    if fragment.is_some_and(|(_, offset)| offset > 0) {
        return Some(seen);
    }
    let word = |at: usize| {
        payload
            .get(at..at + 2)
            .map_or(0, |two| u16::from_be_bytes([two[0], two[1]]))
    };
    match protocol {
        6 | 17 => {
            (seen.src_port, seen.dst_port) = (word(0), word(2));
            seen.tcp_flags = if protocol == 6 {
                payload.get(13).copied().unwrap_or(0)
            } else {
                0
            };
        }
        1 | 58 => {
            let kind = *payload.first()?;
            seen.icmp_type = Some(kind);
            let is_echo = if protocol == 1 {
                matches!(kind, 0 | 8)
            } else {
                matches!(kind, 128 | 129)
            };
            if is_echo {
                (seen.src_port, seen.dst_port) = (word(4), word(4));
            } else {
                seen.quoted = payload.get(8..).and_then(inspect).map(|quoted| quoted.tuple());
            }
        }
        _ => {}
    }
    Some(seen)
}
