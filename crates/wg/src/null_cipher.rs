//! A data path **without encryption**, to measure what everything but the cipher costs. Only in builds with the feature
//! `null-cipher`, which no shipped program has (tests/tidy looks), and between two such builds.
//!
//! Handshakes, keepalives and small packets are WireGuard as ever, so that sessions live; packets of
//! [`PLAIN_BYTES_MIN`] and more travel in its framing, in clear.

use boringtun::noise::{Tunn, TunnResult};

use crate::clock::DATA_OVERHEAD_BYTES;

/// Frames packets for one peer.
#[derive(Default)]
pub(crate) struct Framing {
    header: [u8; HEADER_BYTES],
    /// Packets until the header is looked up anew: the session may have changed.
    left: u32,
}

impl Framing {
    /// Frames a packet into `out`. `None` if it is one to encrypt.
    pub(crate) fn seal(&mut self, tunn: &mut Tunn, plaintext: &[u8], out: &mut [u8]) -> Option<usize> {
        if plaintext.len() < PLAIN_BYTES_MIN {
            return None;
        }
        if self.left == 0 {
            let mut keepalive = [0; DATA_OVERHEAD_BYTES];
            let TunnResult::WriteToNetwork(sealed) = tunn.encapsulate(&[], &mut keepalive) else {
                return None;
            };
            self.header.copy_from_slice(&sealed[..HEADER_BYTES]);
            self.left = PACKETS_PER_HEADER;
        }
        self.left -= 1;
        out[..HEADER_BYTES].copy_from_slice(&self.header);
        out[HEADER_BYTES..HEADER_BYTES + plaintext.len()].copy_from_slice(plaintext);
        Some(plaintext.len() + DATA_OVERHEAD_BYTES)
    }
}

/// Whether a datagram is a framed packet, and not an encrypted one.
pub(crate) fn is_plain(datagram: &[u8]) -> bool {
    datagram.len() >= PLAIN_BYTES_MIN + DATA_OVERHEAD_BYTES
}

/// Takes a framed packet out.
pub(crate) fn open<'b>(datagram: &[u8], buf: &'b mut [u8]) -> &'b [u8] {
    let length = datagram.len() - DATA_OVERHEAD_BYTES;
    buf[..length].copy_from_slice(&datagram[HEADER_BYTES..HEADER_BYTES + length]);
    &buf[..packet_bytes(&buf[..length]).min(length)]
}

/// How long the packet is, without its padding.
fn packet_bytes(packet: &[u8]) -> usize {
    match packet[0] >> 4 {
        4 => u16::from_be_bytes([packet[2], packet[3]]).into(),
        _ => 40 + usize::from(u16::from_be_bytes([packet[4], packet[5]])),
    }
}

const HEADER_BYTES: usize = 16;
const PLAIN_BYTES_MIN: usize = 256;
const PACKETS_PER_HEADER: u32 = 4_096;
