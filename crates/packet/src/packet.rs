//! One IP packet, read once and trusted from then on.
//!
//! **Invariant:** a [`Packet`]'s bytes end where its IP header says; a fragment that is not the first has no ports,
//! so it can never match a rule by itself (red line 4).

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use crate::transport::{self, Transport};
use crate::{Flow, IcmpKind, Protocol, TcpView, ipv4, ipv6};

/// A view of one IPv4 or IPv6 packet.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Packet<'a> {
    /// The packet, trimmed to the length its IP header gives (WireGuard pads to 16 bytes).
    pub bytes: &'a [u8],
    /// Who talks to whom. Ports are zero in a later fragment.
    pub flow: Flow,
    /// Whole, or which part of a fragmented packet.
    pub position: Position,
    /// The TCP header, unless this is a later fragment.
    pub tcp: Option<TcpView>,
    /// What kind of ICMP or ICMPv6 message, unless this is a later fragment.
    pub icmp: Option<IcmpKind>,
    /// Where the transport header starts.
    pub header_bytes: usize,
    /// How many packets this one stands for: more than one where the kernel's segmentation offload, or ours, holds
    /// them together ([`crate::offload`]).
    pub segments: usize,
}

/// Where in its original packet this one stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Position {
    /// Not fragmented (an IPv6 atomic fragment, RFC 6946, counts as whole).
    Whole,
    /// The fragment at offset zero, with the complete transport header in it.
    First(Fragment),
    /// Any other fragment.
    Later(Fragment),
}

/// Which bytes of which fragmented packet.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Fragment {
    /// The packet it is part of.
    pub key: FragmentKey,
    /// Offset of its first byte.
    pub start: u32,
    /// Offset past its last byte; always greater than `start`.
    pub end: u32,
    /// What follows it.
    pub tail: Tail,
}

/// What follows a fragment.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Tail {
    /// More fragments.
    More,
    /// Nothing: the original packet ends with it.
    Last,
}

/// What the fragments of one packet have in common (RFC 791 section 3.2, RFC 8200 section 4.5).
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct FragmentKey {
    /// Address of the sender.
    pub src: IpAddr,
    /// Address of the receiver.
    pub dst: IpAddr,
    /// The IPv4 protocol; for IPv6 always 44, for there the field may differ between fragments of one packet.
    pub protocol: Protocol,
    /// The identification.
    pub id: u32,
}

/// Why bytes are not a packet we pass.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, thiserror::Error)]
pub enum Malformed {
    /// Neither IPv4 nor IPv6.
    #[error("neither IPv4 nor IPv6")]
    Version,
    /// Fewer bytes than the headers need or announce.
    #[error("shorter than its headers say")]
    Truncated,
    /// A length field contradicts another.
    #[error("length fields contradict each other")]
    Length,
    /// An IPv4 option other than padding: source routes would pass addresses by the filter (RFC 7126).
    #[error("IPv4 option")]
    Ipv4Option,
    /// An IPv6 extension header or option that is not on the allow-list, or too many of them.
    #[error("IPv6 extension header not allowed")]
    ExtensionHeader,
    /// TCP flags that no honest sender combines.
    #[error("impossible TCP flags")]
    TcpFlags,
    /// A first fragment without the complete transport header (RFC 1858, RFC 7112).
    #[error("first fragment too small for its transport header")]
    TinyFragment,
    /// A fragment that ends past 64 KiB, is empty, or is not a multiple of 8 bytes though more follow.
    #[error("fragment out of bounds")]
    FragmentBounds,
    /// An ICMP error in fragments: there is no honest reason for one.
    #[error("fragmented ICMP error")]
    FragmentedIcmpError,
    /// An ICMP error that does not quote enough of a packet to name its flow.
    #[error("ICMP error without a readable quote")]
    Quote,
}

impl<'a> Packet<'a> {
    /// Reads a packet as it comes from a TUN device or out of a tunnel.
    ///
    /// # Errors
    /// [`Malformed`] says why it must be dropped.
    pub fn parse(bytes: &'a [u8]) -> Result<Self, Malformed> {
        let header = IpHeader::parse(bytes)?;
        let bytes = &bytes[..header.total_bytes];
        let payload = &bytes[header.header_bytes..];
        let position = header.position(payload.len())?;
        let transport = match position {
            Position::Whole | Position::First(_) => transport::parse(&header, position, payload)?,
            Position::Later(_) => Transport::PORTLESS,
        };
        Ok(Self {
            bytes,
            flow: Flow {
                src: header.src,
                dst: header.dst,
                protocol: header.protocol,
                src_port: transport.src_port,
                dst_port: transport.dst_port,
            },
            position,
            tcp: transport.tcp,
            icmp: transport.icmp,
            header_bytes: header.header_bytes,
            segments: 1,
        })
    }

    /// This packet as one that stands for so many.
    #[must_use]
    pub fn standing_for(self, segments: usize) -> Self {
        Self { segments, ..self }
    }

    /// Bytes of all the packets that this one stands for, with the headers of each.
    pub fn wire_bytes(&self) -> usize {
        let headers = match self.tcp {
            Some(tcp) => self.bytes.len().saturating_sub(tcp.payload_bytes as usize),
            None => self.header_bytes + UDP_HEADER_BYTES,
        };
        self.bytes.len() + self.segments.saturating_sub(1) * headers
    }

    /// What follows the IP headers.
    pub fn payload(&self) -> &'a [u8] {
        &self.bytes[self.header_bytes..]
    }
}

impl FragmentKey {
    /// Before every other key.
    pub const MIN: Self = Self {
        src: IpAddr::V4(Ipv4Addr::UNSPECIFIED),
        dst: IpAddr::V4(Ipv4Addr::UNSPECIFIED),
        protocol: Protocol(0),
        id: 0,
    };
    /// After every other key.
    pub const MAX: Self = Self {
        src: IpAddr::V6(Ipv6Addr::from_bits(u128::MAX)),
        dst: IpAddr::V6(Ipv6Addr::from_bits(u128::MAX)),
        protocol: Protocol(u8::MAX),
        id: u32::MAX,
    };
}

/// What both IP versions' headers say, in one form.
#[derive(Clone, Copy, Debug)]
pub(crate) struct IpHeader {
    pub(crate) src: IpAddr,
    pub(crate) dst: IpAddr,
    pub(crate) protocol: Protocol,
    /// All IP headers, extension headers included.
    pub(crate) header_bytes: usize,
    pub(crate) total_bytes: usize,
    pub(crate) fragment: Option<FragmentField>,
}

/// A fragment's place as its header gives it.
#[derive(Clone, Copy, Debug)]
pub(crate) struct FragmentField {
    pub(crate) id: u32,
    pub(crate) offset_bytes: u32,
    pub(crate) tail: Tail,
    /// Bytes between the fragment field's header and `header_bytes`: extension headers that were fragmented too.
    pub(crate) inner_header_bytes: usize,
    pub(crate) key_protocol: Protocol,
}

impl IpHeader {
    pub(crate) fn parse(bytes: &[u8]) -> Result<Self, Malformed> {
        let Some(first) = bytes.first() else {
            return Err(Malformed::Truncated);
        };
        match first >> 4 {
            4 => ipv4::parse(bytes, Extent::Complete),
            6 => ipv6::parse(bytes, Extent::Complete),
            _ => Err(Malformed::Version),
        }
    }

    /// Reads the start of a packet that an ICMP error quotes; it may be cut off anywhere after its IP header.
    pub(crate) fn parse_quoted(bytes: &[u8]) -> Result<Self, Malformed> {
        let Some(first) = bytes.first() else {
            return Err(Malformed::Quote);
        };
        match first >> 4 {
            4 => ipv4::parse(bytes, Extent::Quoted),
            6 => ipv6::parse(bytes, Extent::Quoted),
            _ => Err(Malformed::Quote),
        }
    }

    fn position(&self, payload_bytes: usize) -> Result<Position, Malformed> {
        let Some(field) = self.fragment else {
            return Ok(Position::Whole);
        };
        let bytes = payload_bytes + field.inner_header_bytes;
        let start = field.offset_bytes;
        let end = start + u32::try_from(bytes).map_err(|_| Malformed::FragmentBounds)?;
        let ragged = field.tail == Tail::More && !bytes.is_multiple_of(FRAGMENT_UNIT_BYTES);
        if bytes == 0 || ragged || end > FRAGMENT_END_MAX {
            return Err(Malformed::FragmentBounds);
        }
        let fragment = Fragment {
            key: FragmentKey {
                src: self.src,
                dst: self.dst,
                protocol: field.key_protocol,
                id: field.id,
            },
            start,
            end,
            tail: field.tail,
        };
        Ok(match start {
            0 => Position::First(fragment),
            _ => Position::Later(fragment),
        })
    }
}

/// Whether the bytes are meant to be all of the packet.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Extent {
    Complete,
    Quoted,
}

impl Malformed {
    /// Every reason, for counters.
    pub const ALL: [Self; 10] = [
        Self::Version,
        Self::Truncated,
        Self::Length,
        Self::Ipv4Option,
        Self::ExtensionHeader,
        Self::TcpFlags,
        Self::TinyFragment,
        Self::FragmentBounds,
        Self::FragmentedIcmpError,
        Self::Quote,
    ];

    /// The reason as a metric label.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Version => "malformed_version",
            Self::Truncated => "malformed_truncated",
            Self::Length => "malformed_length",
            Self::Ipv4Option => "malformed_ipv4_option",
            Self::ExtensionHeader => "malformed_extension_header",
            Self::TcpFlags => "malformed_tcp_flags",
            Self::TinyFragment => "malformed_tiny_fragment",
            Self::FragmentBounds => "malformed_fragment_bounds",
            Self::FragmentedIcmpError => "malformed_fragmented_icmp_error",
            Self::Quote => "malformed_icmp_quote",
        }
    }
}

/// Reassembled packets end at 64 KiB: one that ends later is the "ping of death".
const FRAGMENT_END_MAX: u32 = 65_535;
const FRAGMENT_UNIT_BYTES: usize = 8;
const UDP_HEADER_BYTES: usize = 8;

#[cfg(test)]
mod tests;
