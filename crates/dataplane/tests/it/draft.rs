//! Packets written field by field, and cut the slow way: what the data plane's own cutting and joining is judged by.

use std::net::IpAddr;

use ringfence_packet::offload::{VNET_HEADER_BYTES, VnetHeader};
use ringfence_packet::{Flow, Protocol};

/// A packet to be, with right lengths and checksums. TCP fields mean nothing in a datagram.
#[derive(Clone, Debug)]
pub(crate) struct Draft {
    pub(crate) flow: Flow,
    /// DSCP and ECN.
    pub(crate) traffic_class: u8,
    pub(crate) hops: u8,
    /// IPv4 identification.
    pub(crate) id: u16,
    pub(crate) seq: u32,
    pub(crate) ack: u32,
    pub(crate) flags: u8,
    pub(crate) urgent: u16,
    /// TCP options, in whole words.
    pub(crate) options: Vec<u8>,
    /// What stands between the IP header and the rest: IPv4 options, or IPv6 destination options, all of them padding.
    pub(crate) ip_padding: bool,
    pub(crate) payload: Vec<u8>,
}

pub(crate) const FIN: u8 = 0x01;
pub(crate) const SYN: u8 = 0x02;
pub(crate) const PSH: u8 = 0x08;
pub(crate) const ACK: u8 = 0x10;
pub(crate) const URG: u8 = 0x20;
pub(crate) const ECE: u8 = 0x40;
pub(crate) const CWR: u8 = 0x80;

impl Draft {
    /// The whole packet.
    pub(crate) fn bytes(&self) -> Vec<u8> {
        let mut bytes = self.ip_header();
        let at = bytes.len();
        bytes.extend(self.transport_header());
        bytes.extend(&self.payload);
        let sum = match !ones_complement(&[self.pseudo_header(), bytes[at..].to_vec()].concat()) {
            0 if !self.is_tcp() => 0xffff,
            sum => sum,
        };
        self.put_checksum(&mut bytes, sum);
        bytes
    }

    /// What a TUN device gives for all the payload at once, to be cut after every `gso_bytes`; 0 is not to be cut, with
    /// the checksum still to complete.
    pub(crate) fn read_from_tun(&self, gso_bytes: u16) -> Vec<u8> {
        let mut bytes = self.bytes();
        self.put_checksum(&mut bytes, ones_complement(&self.pseudo_header()));
        let gso_type = match (gso_bytes, self.is_tcp(), self.flow.src) {
            (0, ..) => VnetHeader::GSO_NONE,
            (_, false, _) => VnetHeader::GSO_UDP_DATAGRAMS,
            (_, true, IpAddr::V4(_)) => VnetHeader::GSO_TCP_V4,
            (_, true, IpAddr::V6(_)) => VnetHeader::GSO_TCP_V6,
        };
        let start = self.ip_header().len();
        let header = VnetHeader {
            flags: VnetHeader::NEEDS_CHECKSUM,
            gso_type,
            header_bytes: (start + self.transport_header().len()) as u16,
            gso_bytes,
            checksum_start: start as u16,
            checksum_offset: if self.is_tcp() { 16 } else { 6 },
        };
        [header.encode().to_vec(), bytes].concat()
    }

    /// The packet with nothing left to do, as a TUN device gives it.
    pub(crate) fn read_whole(&self) -> Vec<u8> {
        [vec![0; VNET_HEADER_BYTES], self.bytes()].concat()
    }

    /// The packets that a kernel makes of [`Self::read_from_tun`].
    pub(crate) fn cut(&self, gso_bytes: u16) -> Vec<Self> {
        if gso_bytes == 0 {
            return vec![self.clone()];
        }
        let last = self.payload.len().div_ceil(gso_bytes.into()) - 1;
        let parts = self.payload.chunks(gso_bytes.into()).enumerate();
        let cut = parts.map(|(index, payload)| {
            let before = index * usize::from(gso_bytes);
            let not_here = if index == last { 0 } else { FIN | PSH };
            Self {
                id: self.id.wrapping_add(index as u16),
                seq: self.seq.wrapping_add(before as u32),
                flags: self.flags & !not_here,
                payload: payload.to_vec(),
                ..self.clone()
            }
        });
        cut.collect()
    }

    pub(crate) fn is_tcp(&self) -> bool {
        self.flow.protocol == Protocol::TCP
    }

    fn ip_header(&self) -> Vec<u8> {
        let transport_bytes = (self.transport_header().len() + self.payload.len()) as u16;
        let padding_bytes = if self.ip_padding { 8 } else { 0 };
        let protocol = self.flow.protocol.0;
        match (self.flow.src, self.flow.dst) {
            (IpAddr::V4(src), IpAddr::V4(dst)) => {
                let header_bytes = 20 + padding_bytes;
                let mut bytes = vec![0x40 | (header_bytes / 4) as u8, self.traffic_class];
                bytes.extend((header_bytes + transport_bytes).to_be_bytes());
                bytes.extend(self.id.to_be_bytes());
                bytes.extend([0x40, 0, self.hops, protocol, 0, 0]);
                bytes.extend([src.octets(), dst.octets()].concat());
                // No operation, seven times, and the end of options.
                bytes.extend([1, 1, 1, 1, 1, 1, 1, 0].iter().take(padding_bytes.into()));
                let sum = !ones_complement(&bytes);
                bytes[10..12].copy_from_slice(&sum.to_be_bytes());
                bytes
            }
            (IpAddr::V6(src), IpAddr::V6(dst)) => {
                let mut bytes = vec![
                    0x60 | self.traffic_class >> 4,
                    self.traffic_class << 4,
                    0x12,
                    0x34,
                ];
                bytes.extend((padding_bytes + transport_bytes).to_be_bytes());
                bytes.extend([if self.ip_padding { 60 } else { protocol }, self.hops]);
                bytes.extend([src.octets(), dst.octets()].concat());
                // Destination options: one PadN of four bytes.
                bytes.extend([protocol, 0, 1, 4, 0, 0, 0, 0].iter().take(padding_bytes.into()));
                bytes
            }
            _ => unreachable!("both ends of a flow are of one family"),
        }
    }

    fn transport_header(&self) -> Vec<u8> {
        let ports = [self.flow.src_port.to_be_bytes(), self.flow.dst_port.to_be_bytes()];
        let mut bytes = ports.concat();
        if !self.is_tcp() {
            bytes.extend((8 + self.payload.len() as u16).to_be_bytes());
            bytes.extend([0, 0]);
            return bytes;
        }
        bytes.extend(self.seq.to_be_bytes());
        bytes.extend(self.ack.to_be_bytes());
        bytes.extend([((20 + self.options.len()) as u8) << 2, self.flags, 2, 0, 0, 0]);
        bytes.extend(self.urgent.to_be_bytes());
        bytes.extend(&self.options);
        bytes
    }

    fn pseudo_header(&self) -> Vec<u8> {
        let mut bytes = match (self.flow.src, self.flow.dst) {
            (IpAddr::V4(src), IpAddr::V4(dst)) => [src.octets(), dst.octets()].concat(),
            (IpAddr::V6(src), IpAddr::V6(dst)) => [src.octets(), dst.octets()].concat(),
            _ => unreachable!("both ends of a flow are of one family"),
        };
        let length = self.transport_header().len() + self.payload.len();
        bytes.extend((length as u32).to_be_bytes());
        bytes.extend([0, 0, 0, self.flow.protocol.0]);
        bytes
    }

    fn put_checksum(&self, bytes: &mut [u8], sum: u16) {
        let at = self.ip_header().len() + if self.is_tcp() { 16 } else { 6 };
        bytes[at..at + 2].copy_from_slice(&sum.to_be_bytes());
    }
}

/// Ones' complement sum of 16-bit words, one at a time (RFC 1071 section 1).
fn ones_complement(bytes: &[u8]) -> u16 {
    let mut sum: u16 = 0;
    for word in bytes.chunks(2) {
        let word = u16::from(word[0]) << 8 | u16::from(word.get(1).copied().unwrap_or(0));
        let (next, carry) = sum.overflowing_add(word);
        sum = next + u16::from(carry);
    }
    sum
}
