//! Packets written field by field, and a slow and simple check of what comes back.

use std::ops::Range;

use crate::offload::{SuperPacket, VnetHeader};

/// A packet to be; the fields a protocol has no use for are ignored.
#[derive(Clone, Debug)]
pub(super) struct Draft {
    pub(super) v6: bool,
    pub(super) udp: bool,
    pub(super) host: u8,
    pub(super) src_port: u16,
    pub(super) traffic_class: u8,
    pub(super) hops: u8,
    pub(super) flow_label: u16,
    pub(super) id: u16,
    pub(super) fragment_field: u16,
    pub(super) seq: u32,
    pub(super) ack: u32,
    pub(super) flags: u8,
    pub(super) window: u16,
    pub(super) urgent: u16,
    /// Whole words.
    pub(super) options: Vec<u8>,
    pub(super) payload: Vec<u8>,
}

pub(super) const ACK: u8 = 0x10;
pub(super) const PSH: u8 = 0x08;
pub(super) const FIN: u8 = 0x01;
pub(super) const CWR: u8 = 0x80;
pub(super) const ECE: u8 = 0x40;
pub(super) const DONT_FRAGMENT: u16 = 0x4000;

impl Draft {
    pub(super) fn tcp(v6: bool, payload_bytes: usize) -> Self {
        Self {
            v6,
            udp: false,
            host: 1,
            src_port: 50_000,
            traffic_class: 0,
            hops: 64,
            flow_label: 0x1234,
            id: 700,
            fragment_field: DONT_FRAGMENT,
            seq: 1_000,
            ack: 77,
            flags: ACK,
            window: 512,
            urgent: 0,
            options: vec![1, 1, 8, 10, 0, 0, 0, 1, 0, 0, 0, 2],
            payload: (0..payload_bytes).map(|at| (at % 251) as u8).collect(),
        }
    }

    pub(super) fn udp(v6: bool, payload_bytes: usize) -> Self {
        Self {
            udp: true,
            ..Self::tcp(v6, payload_bytes)
        }
    }

    /// The packet that a sender of this one would send next.
    pub(super) fn next(&self) -> Self {
        Self {
            id: self.id.wrapping_add(1),
            seq: self.seq.wrapping_add(self.payload.len() as u32),
            ..self.clone()
        }
    }

    pub(super) fn with(mut self, change: impl FnOnce(&mut Self)) -> Self {
        change(&mut self);
        self
    }

    pub(super) fn ip_header_bytes(&self) -> usize {
        if self.v6 { 40 } else { 20 }
    }

    pub(super) fn header_bytes(&self) -> usize {
        let transport = if self.udp { 8 } else { 20 + self.options.len() };
        self.ip_header_bytes() + transport
    }

    /// The packet with right lengths and checksums.
    pub(super) fn bytes(&self) -> Vec<u8> {
        let mut bytes = self.ip_header();
        bytes.extend(self.transport());
        bytes.extend(&self.payload);
        let total = bytes.len();
        if self.v6 {
            put(&mut bytes, 4, (total - 40) as u16);
        } else {
            put(&mut bytes, 2, total as u16);
            let sum = !ones_complement(&bytes[..20]);
            put(&mut bytes, 10, sum);
        }
        let at = self.ip_header_bytes();
        if self.udp {
            put(&mut bytes, at + 4, (total - at) as u16);
        }
        let sum = !ones_complement(&covered(&bytes));
        let sum = if self.udp && sum == 0 { 0xffff } else { sum };
        put(&mut bytes, self.checksum_at(), sum);
        bytes
    }

    /// The packet as the kernel hands it over to be cut: with the pseudo header's sum for a checksum.
    pub(super) fn partial(&self) -> Vec<u8> {
        let mut bytes = self.bytes();
        put(&mut bytes, self.checksum_at(), 0);
        let covered = covered(&bytes);
        let pseudo = covered.len() - (bytes.len() - self.ip_header_bytes());
        let sum = ones_complement(&covered[..pseudo]);
        put(&mut bytes, self.checksum_at(), sum);
        bytes
    }

    /// What the kernel writes before it.
    pub(super) fn vnet_header(&self, gso_bytes: u16) -> VnetHeader {
        VnetHeader {
            flags: 1,
            gso_type: match (self.udp, self.v6) {
                (true, _) => 5,
                (false, true) => 4,
                (false, false) => 1,
            },
            header_bytes: self.header_bytes() as u16,
            gso_bytes,
            checksum_start: self.ip_header_bytes() as u16,
            checksum_offset: (self.checksum_at() - self.ip_header_bytes()) as u16,
        }
    }

    fn checksum_at(&self) -> usize {
        self.ip_header_bytes() + if self.udp { 6 } else { 16 }
    }

    fn ip_header(&self) -> Vec<u8> {
        let protocol = if self.udp { 17 } else { 6 };
        if self.v6 {
            let class = self.traffic_class;
            let mut bytes = vec![0x60 | class >> 4, class << 4];
            bytes.extend(self.flow_label.to_be_bytes());
            bytes.extend([0, 0, protocol, self.hops]);
            let address = |last: u8| [0xfd, 0, 0, 7, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, last];
            bytes.extend(address(self.host));
            bytes.extend(address(200));
            bytes
        } else {
            let mut bytes = vec![0x45, self.traffic_class, 0, 0];
            bytes.extend(self.id.to_be_bytes());
            bytes.extend(self.fragment_field.to_be_bytes());
            bytes.extend([self.hops, protocol, 0, 0]);
            bytes.extend([100, 64, 3, self.host, 100, 64, 3, 200]);
            bytes
        }
    }

    fn transport(&self) -> Vec<u8> {
        let mut bytes = Vec::new();
        bytes.extend(self.src_port.to_be_bytes());
        bytes.extend(443_u16.to_be_bytes());
        if self.udp {
            bytes.extend([0; 4]);
            return bytes;
        }
        bytes.extend(self.seq.to_be_bytes());
        bytes.extend(self.ack.to_be_bytes());
        bytes.extend([((20 + self.options.len()) as u8) << 2, self.flags]);
        bytes.extend(self.window.to_be_bytes());
        bytes.extend([0; 2]);
        bytes.extend(self.urgent.to_be_bytes());
        bytes.extend(&self.options);
        bytes
    }
}

/// All segments of what a TUN device would have given; each must be a legal packet.
pub(super) fn cut(header: VnetHeader, bytes: &[u8]) -> Vec<Vec<u8>> {
    let mut bytes = bytes.to_vec();
    let packet = SuperPacket::parse(header, &mut bytes).expect("a well-formed super-packet");
    (0..packet.segments())
        .map(|index| {
            let mut out = vec![0xee; packet.segment_bytes_max()];
            let written = packet.write_segment(index, &mut out);
            out.truncate(written);
            assert!(is_legal(&out), "segment {index}: {out:02x?}");
            out
        })
        .collect()
}

/// Right lengths and right checksums, field by field.
pub(super) fn is_legal(bytes: &[u8]) -> bool {
    let v6 = bytes[0] >> 4 == 6;
    let at = if v6 { 40 } else { 20 };
    let length_field = if v6 { 4..6 } else { 2..4 };
    let length = get(bytes, length_field) + if v6 { 40 } else { 0 };
    let udp = bytes[if v6 { 6 } else { 9 }] == 17;
    length == bytes.len()
        && (v6 || ones_complement(&bytes[..20]) == 0xffff)
        && (!udp || get(bytes, at + 4..at + 6) == bytes.len() - at && get(bytes, at + 6..at + 8) != 0)
        && ones_complement(&covered(bytes)) == 0xffff
}

fn get(bytes: &[u8], at: Range<usize>) -> usize {
    bytes[at]
        .iter()
        .fold(0, |value, byte| value * 256 + usize::from(*byte))
}

fn put(bytes: &mut [u8], at: usize, value: u16) {
    bytes[at..at + 2].copy_from_slice(&value.to_be_bytes());
}

/// The pseudo header and all that follows the IP header.
fn covered(bytes: &[u8]) -> Vec<u8> {
    let v6 = bytes[0] >> 4 == 6;
    let (at, addresses, protocol) = if v6 {
        (40, 8..40, bytes[6])
    } else {
        (20, 12..20, bytes[9])
    };
    let mut covered = bytes[addresses].to_vec();
    covered.extend(((bytes.len() - at) as u32).to_be_bytes());
    covered.extend([0, 0, 0, protocol]);
    covered.extend(&bytes[at..]);
    covered
}

/// Ones' complement sum of 16-bit words, one word at a time (RFC 1071 section 1).
pub(super) fn ones_complement(words: &[u8]) -> u16 {
    let mut sum: u16 = 0;
    for at in (0..words.len()).step_by(2) {
        let low = words.get(at + 1).copied().unwrap_or(0);
        let (next, carry) = sum.overflowing_add(u16::from(words[at]) * 256 + u16::from(low));
        sum = next + u16::from(carry);
    }
    sum
}
