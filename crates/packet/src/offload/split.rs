//! Cuts what the kernel's segmentation offload put together (TSO and USO).
//!
//! **Invariant:** header lengths are read from the packet itself; a virtio-net header that contradicts it is refused.

use super::{
    IPV4_CHECKSUM_AT, IPV4_LENGTH_AT, IPV6_LENGTH_AT, TCP_FLAGS_AT, TCP_PSH, Transport, UDP_LENGTH_AT,
    VnetHeader, pseudo_sum, read_u16, read_u32, write_u16,
};
use crate::checksum::fold;
use crate::transport::UDP_HEADER_BYTES;
use crate::{Malformed, Packet, Position, Protocol, TcpFlags, checksum, ipv4, ipv6, ones_sum};

/// What a read from a TUN device gave: one packet, or one super-packet that stands for many.
#[derive(Clone, Copy, Debug)]
pub struct SuperPacket<'a> {
    bytes: &'a [u8],
    header: VnetHeader,
    cut: Option<Cut>,
}

/// How a super-packet is cut.
#[derive(Clone, Copy, Debug)]
struct Cut {
    transport: Transport,
    ip_header_bytes: usize,
    /// IP and transport header.
    header_bytes: usize,
    /// Payload of every segment but the last.
    gso_bytes: usize,
    segments: usize,
    /// Of the IPv4 header without what differs between segments: length, identification, checksum.
    ip_sum: u32,
    /// Of pseudo and transport header without what differs: lengths, sequence number, flags, checksum.
    transport_sum: u32,
}

/// Why a virtio-net header and its packet do not belong together.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum BadOffload {
    /// A kind of offload that was not asked for.
    #[error("offload kind not supported")]
    Kind,
    /// Flags nobody negotiated.
    #[error("unknown virtio-net flags")]
    Flags,
    /// The place of the checksum lies outside the packet, or not where the packet's protocol has it.
    #[error("checksum in an impossible place")]
    ChecksumPlace,
    /// A length does not fit the packet's own.
    #[error("length contradicts the packet")]
    Length,
    /// More segments than the kernel ever makes of one packet.
    #[error("too many segments")]
    Segments,
    /// A packet that cannot be cut: a fragment, a SYN, another protocol than announced.
    #[error("packet of a kind that is never cut")]
    NotDivisible,
    /// The packet itself is unreadable.
    #[error(transparent)]
    Packet(#[from] Malformed),
}

impl<'a> SuperPacket<'a> {
    /// Checks the header against the packet that follows it, and completes the checksum of a plain packet in place.
    ///
    /// A plain packet is not looked at beyond that: [`Packet::parse`] is for the caller.
    ///
    /// # Errors
    /// [`BadOffload`] says why the packet must be dropped.
    pub fn parse(header: VnetHeader, bytes: &'a mut [u8]) -> Result<Self, BadOffload> {
        let known = VnetHeader::NEEDS_CHECKSUM | VnetHeader::CHECKSUM_VALID;
        if header.flags & !known != 0 {
            return Err(BadOffload::Flags);
        }
        if header.gso_type != VnetHeader::GSO_NONE {
            let cut = Cut::plan(header, bytes)?;
            return Ok(Self {
                bytes,
                header,
                cut: Some(cut),
            });
        }
        if header.flags & VnetHeader::NEEDS_CHECKSUM != 0 {
            complete_checksum(header, bytes)?;
        }
        Ok(Self {
            bytes,
            header: VnetHeader::NONE,
            cut: None,
        })
    }

    /// The whole super-packet, as [`Packet::parse`] reads it.
    ///
    /// The transport checksum of one that is to be cut holds the pseudo header's sum only.
    pub fn bytes(&self) -> &'a [u8] {
        self.bytes
    }

    /// What makes the same of [`Self::bytes`] again: the checksum of a plain packet is complete by now.
    pub fn header(&self) -> VnetHeader {
        self.header
    }

    /// How many packets it stands for: 1 for a plain packet.
    pub fn segments(&self) -> usize {
        self.cut.map_or(1, |cut| cut.segments)
    }

    /// Length of the longest segment as an IP packet.
    pub fn segment_bytes_max(&self) -> usize {
        self.cut.map_or(self.bytes.len(), |cut| {
            (cut.header_bytes + cut.gso_bytes).min(self.bytes.len())
        })
    }

    /// Writes segment `index` as a complete IP packet to the start of `out` and returns its length.
    ///
    /// 0, and nothing written, if there is no such segment or `out` is shorter than it; room for
    /// [`Self::segment_bytes_max`] is always enough.
    pub fn write_segment(&self, index: usize, out: &mut [u8]) -> usize {
        match &self.cut {
            None if index == 0 && self.bytes.len() <= out.len() => {
                out[..self.bytes.len()].copy_from_slice(self.bytes);
                self.bytes.len()
            }
            None => 0,
            Some(cut) => cut.write(self.bytes, index, out),
        }
    }
}

impl Cut {
    fn plan(header: VnetHeader, bytes: &[u8]) -> Result<Self, BadOffload> {
        let (transport, is_v4) = match header.gso_type & !VnetHeader::GSO_ECN {
            VnetHeader::GSO_TCP_V4 => (Transport::Tcp, Some(true)),
            VnetHeader::GSO_TCP_V6 => (Transport::Tcp, Some(false)),
            VnetHeader::GSO_UDP_DATAGRAMS if header.gso_type & VnetHeader::GSO_ECN == 0 => {
                (Transport::Udp, None)
            }
            _ => return Err(BadOffload::Kind),
        };
        let packet = Packet::parse(bytes)?;
        if packet.position != Position::Whole
            || packet.flow.protocol != Protocol(transport.protocol())
            || is_v4.is_some_and(|is_v4| is_v4 != packet.flow.src.is_ipv4())
        {
            return Err(BadOffload::NotDivisible);
        }
        // The hint may cover data too (Linux gives what lies in one piece of memory), but never more than there is.
        if packet.bytes.len() != bytes.len() || usize::from(header.header_bytes) > bytes.len() {
            return Err(BadOffload::Length);
        }
        let ip_header_bytes = packet.header_bytes;
        if header.flags & VnetHeader::NEEDS_CHECKSUM == 0
            || usize::from(header.checksum_start) != ip_header_bytes
            || usize::from(header.checksum_offset) != transport.checksum_at()
        {
            return Err(BadOffload::ChecksumPlace);
        }
        let header_bytes = ip_header_bytes + transport_header_bytes(transport, &packet)?;
        let payload_bytes = bytes.len() - header_bytes;
        let gso_bytes = usize::from(header.gso_bytes);
        if gso_bytes == 0 || payload_bytes == 0 {
            return Err(BadOffload::Length);
        }
        let segments = payload_bytes.div_ceil(gso_bytes);
        if segments > SPLIT_SEGMENTS_MAX {
            return Err(BadOffload::Segments);
        }
        let (ip_header, transport_header) = bytes[..header_bytes].split_at(ip_header_bytes);
        let changing: &[usize] = match transport {
            Transport::Tcp => &[
                TCP_SEQ_AT,
                TCP_SEQ_AT + 2,
                TCP_FLAGS_AT - 1,
                transport.checksum_at(),
            ],
            Transport::Udp => &[UDP_LENGTH_AT, transport.checksum_at()],
        };
        Ok(Self {
            transport,
            ip_header_bytes,
            header_bytes,
            gso_bytes,
            segments,
            ip_sum: sum_without(ip_header, &[IPV4_LENGTH_AT, IPV4_ID_AT, IPV4_CHECKSUM_AT]),
            transport_sum: pseudo_sum(ip_header, transport) + sum_without(transport_header, changing),
        })
    }

    fn write(&self, bytes: &[u8], index: usize, out: &mut [u8]) -> usize {
        if index >= self.segments {
            return 0;
        }
        let (header, payload) = bytes.split_at(self.header_bytes);
        let start = index * self.gso_bytes;
        let payload = &payload[start..payload.len().min(start + self.gso_bytes)];
        let total_bytes = header.len() + payload.len();
        let Some(out) = out.get_mut(..total_bytes) else {
            return 0;
        };
        out[..header.len()].copy_from_slice(header);
        out[header.len()..].copy_from_slice(payload);
        // From here on `out` is only written: a load from bytes stored a moment ago would have to wait for them.
        let (old_ip_header, old_header) = header.split_at(self.ip_header_bytes);
        let (ip_header, segment) = out.split_at_mut(self.ip_header_bytes);
        self.set_ip_fields(old_ip_header, ip_header, index, total_bytes);
        let set = match self.transport {
            Transport::Tcp => self.set_tcp_fields(old_header, segment, index),
            Transport::Udp => {
                write_u16(segment, UDP_LENGTH_AT, segment.len() as u16);
                segment.len() as u32
            }
        };
        let sum = self.transport_sum + set + segment.len() as u32 + u32::from(ones_sum(payload));
        let sum = match (self.transport, !fold(u64::from(sum))) {
            // Zero would say that a datagram has no checksum (RFC 768).
            (Transport::Udp, 0) => 0xffff,
            (Transport::Udp | Transport::Tcp, sum) => sum,
        };
        write_u16(segment, self.transport.checksum_at(), sum);
        total_bytes
    }

    fn set_ip_fields(&self, old: &[u8], ip_header: &mut [u8], index: usize, total_bytes: usize) {
        if old[0] >> 4 != 4 {
            write_u16(
                ip_header,
                IPV6_LENGTH_AT,
                (total_bytes - ipv6::HEADER_BYTES) as u16,
            );
            return;
        }
        let id = read_u16(old, IPV4_ID_AT).wrapping_add(index as u16);
        write_u16(ip_header, IPV4_ID_AT, id);
        write_u16(ip_header, IPV4_LENGTH_AT, total_bytes as u16);
        let sum = self.ip_sum + u32::from(id) + total_bytes as u32;
        write_u16(ip_header, IPV4_CHECKSUM_AT, !fold(u64::from(sum)));
    }

    /// Returns the sum of what it set.
    fn set_tcp_fields(&self, old: &[u8], segment: &mut [u8], index: usize) -> u32 {
        let seq = read_u32(old, TCP_SEQ_AT).wrapping_add((index * self.gso_bytes) as u32);
        let mut flags = old[TCP_FLAGS_AT];
        if index + 1 < self.segments {
            flags &= !(TCP_PSH | TcpFlags::FIN.0);
        }
        // One reduction of the congestion window is told once (RFC 3168 section 6.1.2).
        if index > 0 {
            flags &= !TCP_CWR;
        }
        segment[TCP_SEQ_AT..TCP_SEQ_AT + 4].copy_from_slice(&seq.to_be_bytes());
        segment[TCP_FLAGS_AT] = flags;
        let flags_word = u16::from_be_bytes([old[TCP_FLAGS_AT - 1], flags]);
        (seq >> 16) + (seq & 0xffff) + u32::from(flags_word)
    }
}

/// The ones' complement sum of a header without its words at `changing`, each taken off by adding its complement.
fn sum_without(header: &[u8], changing: &[usize]) -> u32 {
    let taken_off = changing.iter().map(|at| u32::from(!read_u16(header, *at)));
    u32::from(ones_sum(header)) + taken_off.sum::<u32>()
}

fn transport_header_bytes(transport: Transport, packet: &Packet<'_>) -> Result<usize, BadOffload> {
    let payload = packet.payload();
    match (transport, packet.tcp) {
        (Transport::Tcp, Some(tcp)) => {
            // A SYN takes a sequence number of its own, a RST carries no stream: neither can be many segments.
            if tcp.flags.has(TcpFlags::SYN) || tcp.flags.has(TcpFlags::RST) {
                return Err(BadOffload::NotDivisible);
            }
            Ok(payload.len() - tcp.payload_bytes as usize)
        }
        (Transport::Udp, _) if usize::from(read_u16(payload, UDP_LENGTH_AT)) == payload.len() => {
            Ok(UDP_HEADER_BYTES)
        }
        (Transport::Udp, _) => Err(BadOffload::Length),
        (Transport::Tcp, None) => Err(BadOffload::NotDivisible),
    }
}

/// Adds the sum of what the checksum covers to the pseudo header's, which the kernel left in its field.
///
/// Works for every protocol with an Internet checksum, so the packet need not be understood; it only must not reach
/// into the IP header, which has a checksum of its own.
fn complete_checksum(header: VnetHeader, bytes: &mut [u8]) -> Result<(), BadOffload> {
    let (start, offset) = (
        usize::from(header.checksum_start),
        usize::from(header.checksum_offset),
    );
    let ip_header_bytes = match bytes.first().map(|first| (first >> 4, first & 0x0f)) {
        Some((4, words)) => usize::from(words) * 4,
        Some((6, _)) => ipv6::HEADER_BYTES,
        _ => return Err(Malformed::Version.into()),
    };
    if start < ip_header_bytes.max(ipv4::HEADER_BYTES) || start + offset + 2 > bytes.len() {
        return Err(BadOffload::ChecksumPlace);
    }
    let sum = match checksum(0, &bytes[start..]) {
        0 => 0xffff,
        sum => sum,
    };
    write_u16(bytes, start + offset, sum);
    Ok(())
}

/// The most segments of one super-packet: 64 KiB cut at the least MSS that Linux uses (48 bytes, options included).
pub const SPLIT_SEGMENTS_MAX: usize = 2_048;

const IPV4_ID_AT: usize = 4;
const TCP_SEQ_AT: usize = 4;
const TCP_CWR: u8 = 0x80;
