//! A packet that may be one of many in a [`super::Run`], and the rules by which it continues one.
//!
//! The rules are those of Linux (`tcp_gro_receive`, `udp_gro_receive_segment`, `inet_gro_receive`): whatever is not
//! repeated by cutting the joined packet again must be equal to begin with.

use super::{
    IPV4_DONT_FRAGMENT, TCP_ACK, TCP_FLAGS_AT, TCP_PSH, Transport, UDP_LENGTH_AT, pseudo_sum, read_u16,
    read_u32,
};
use crate::transport::{TCP_HEADER_BYTES, UDP_HEADER_BYTES};
use crate::{checksum, ipv4, ipv6};

/// The shape of a whole TCP or UDP packet with data and nothing out of the ordinary.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Segment {
    pub(super) transport: Transport,
    pub(super) ip_header_bytes: usize,
    /// IP and transport header.
    pub(super) header_bytes: usize,
    /// Without padding that may follow.
    pub(super) total_bytes: usize,
}

impl Segment {
    /// `None` for a packet that stands alone: IP options and extension headers, fragments, other protocols, no data,
    /// TCP flags other than ACK and PSH, a datagram without checksum. Checksums are not looked at.
    pub(super) fn read(bytes: &[u8]) -> Option<Self> {
        let (ip_header_bytes, total_bytes, protocol) = ip_lengths(bytes)?;
        let payload = bytes.get(ip_header_bytes..total_bytes)?;
        let (transport, transport_header_bytes) = match protocol {
            6 => (Transport::Tcp, tcp_header_bytes(payload)?),
            17 => (Transport::Udp, udp_header_bytes(payload)?),
            _ => return None,
        };
        (transport_header_bytes < payload.len()).then_some(Self {
            transport,
            ip_header_bytes,
            header_bytes: ip_header_bytes + transport_header_bytes,
            total_bytes,
        })
    }

    pub(super) fn payload_bytes(&self) -> usize {
        self.total_bytes - self.header_bytes
    }

    /// Whether the checksums of IPv4 and of TCP or UDP are right.
    pub(super) fn checksums_hold(&self, bytes: &[u8]) -> bool {
        let (ip_header, rest) = bytes.split_at(self.ip_header_bytes);
        let segment = &rest[..self.total_bytes - self.ip_header_bytes];
        let initial = pseudo_sum(ip_header, self.transport) + segment.len() as u32;
        (ip_header[0] >> 4 != 4 || checksum(0, ip_header) == 0) && checksum(initial, segment) == 0
    }

    /// Whether a packet of shape `other` repeats in its headers what cutting takes from the first one's.
    ///
    /// Lengths, checksums, PSH, the IPv4 identification and the sequence number are left to the caller.
    pub(super) fn headers_agree(&self, ours: &[u8], other: &Self, theirs: &[u8]) -> bool {
        if self.transport != other.transport
            || self.ip_header_bytes != other.ip_header_bytes
            || self.header_bytes != other.header_bytes
        {
            return false;
        }
        let at = self.ip_header_bytes;
        let same_ip = if at == ipv4::HEADER_BYTES {
            // TOS with ECN, flags, TTL and protocol, addresses.
            same::<2>(ours, theirs, 0) && same::<4>(ours, theirs, 6) && same::<8>(ours, theirs, 12)
        } else {
            // Traffic class with ECN, flow label, next header and hop limit, addresses.
            same::<4>(ours, theirs, 0) && same::<34>(ours, theirs, 6)
        };
        let same_ports = same::<4>(ours, theirs, at);
        same_ip
            && same_ports
            && match self.transport {
                Transport::Udp => true,
                // Acknowledgement, window, urgent pointer, options.
                Transport::Tcp => {
                    let options = at + TCP_HEADER_BYTES..self.header_bytes;
                    same::<4>(ours, theirs, at + 8)
                        && same::<2>(ours, theirs, at + 14)
                        && same::<2>(ours, theirs, at + 18)
                        && ours[options.clone()] == theirs[options]
                }
            }
    }

    pub(super) fn sequence(&self, bytes: &[u8]) -> u32 {
        read_u32(bytes, self.ip_header_bytes + 4)
    }

    /// The sequence number that continues this one's data; no matter in UDP.
    pub(super) fn sequence_after(&self, bytes: &[u8]) -> u32 {
        self.sequence(bytes).wrapping_add(self.payload_bytes() as u32)
    }

    pub(super) fn pushes(&self, bytes: &[u8]) -> bool {
        self.transport == Transport::Tcp && bytes[self.ip_header_bytes + TCP_FLAGS_AT] & TCP_PSH != 0
    }

    /// The identification and whether it is of no meaning, as in a packet that must not be fragmented (RFC 6864).
    /// `None` in IPv6.
    pub(super) fn identification(&self, bytes: &[u8]) -> Option<(u16, bool)> {
        (self.ip_header_bytes == ipv4::HEADER_BYTES)
            .then(|| (read_u16(bytes, 4), read_u16(bytes, 6) == IPV4_DONT_FRAGMENT))
    }
}

/// Equality of a number of bytes that is known beforehand, which takes no call.
fn same<const BYTES: usize>(ours: &[u8], theirs: &[u8], at: usize) -> bool {
    ours[at..at + BYTES] == theirs[at..at + BYTES]
}

/// Header and total length of an IP packet without options, fragments and extension headers, and its protocol.
fn ip_lengths(bytes: &[u8]) -> Option<(usize, usize, u8)> {
    match bytes.first()? {
        0x45 => {
            let fixed = bytes.first_chunk::<{ ipv4::HEADER_BYTES }>()?;
            let flags = read_u16(fixed, 6);
            (flags & !IPV4_DONT_FRAGMENT == 0).then(|| {
                let total_bytes = usize::from(read_u16(fixed, 2));
                (ipv4::HEADER_BYTES, total_bytes, fixed[9])
            })
        }
        first if first >> 4 == 6 => {
            let fixed = bytes.first_chunk::<{ ipv6::HEADER_BYTES }>()?;
            let total_bytes = ipv6::HEADER_BYTES + usize::from(read_u16(fixed, 4));
            Some((ipv6::HEADER_BYTES, total_bytes, fixed[6]))
        }
        _ => None,
    }
}

fn tcp_header_bytes(payload: &[u8]) -> Option<usize> {
    let fixed = payload.first_chunk::<TCP_HEADER_BYTES>()?;
    let header_bytes = usize::from(fixed[12] >> 4) * 4;
    let reserved = fixed[12] % 16;
    let plain = fixed[TCP_FLAGS_AT] & !TCP_PSH == TCP_ACK && reserved == 0;
    (plain && (TCP_HEADER_BYTES..=payload.len()).contains(&header_bytes)).then_some(header_bytes)
}

fn udp_header_bytes(payload: &[u8]) -> Option<usize> {
    let fixed = payload.first_chunk::<UDP_HEADER_BYTES>()?;
    let whole = usize::from(read_u16(fixed, UDP_LENGTH_AT)) == payload.len();
    let has_checksum = read_u16(fixed, Transport::Udp.checksum_at()) != 0;
    (whole && has_checksum).then_some(UDP_HEADER_BYTES)
}
