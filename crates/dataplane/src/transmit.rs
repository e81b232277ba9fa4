//! What goes out: runs of datagrams for the socket, and packets for a TUN device.

use std::net::{IpAddr, SocketAddr};

use ringfence_packet::offload::VNET_HEADER_BYTES;

use crate::SegmentId;

/// Where a datagram goes, and from which address of ours.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Way {
    /// The peer's endpoint.
    pub(crate) dst: SocketAddr,
    /// `None`: as the kernel routes.
    pub(crate) src_ip: Option<IpAddr>,
}

/// Datagrams to send to one address, back to back and of one length, the last perhaps shorter: what `UDP_SEGMENT`
/// takes in one call. Hand the buffer back through [`crate::Dataplane::recycle`] when it is sent.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Transmit {
    /// Where to.
    pub dst: SocketAddr,
    /// Which address of ours to send from: the one the peer writes to. `None`: as the kernel routes.
    pub src_ip: Option<IpAddr>,
    /// Longer than what is filled, so that a datagram can be sealed where it stays without clearing the place first.
    buffer: Vec<u8>,
    filled: usize,
    stride: usize,
    count: usize,
}

impl Transmit {
    /// A run that is one datagram.
    pub(crate) fn single(way: Way, datagram: Vec<u8>) -> Self {
        Self {
            dst: way.dst,
            src_ip: way.src_ip,
            filled: datagram.len(),
            stride: datagram.len(),
            count: 1,
            buffer: datagram,
        }
    }

    /// A run without datagrams yet, in a buffer that is [`RUN_BUFFER_BYTES`] long.
    pub(crate) fn empty(way: Way, buffer: Vec<u8>) -> Self {
        Self {
            dst: way.dst,
            src_ip: way.src_ip,
            buffer,
            filled: 0,
            stride: 0,
            count: 0,
        }
    }

    /// The payloads of all datagrams, back to back.
    pub fn bytes(&self) -> &[u8] {
        &self.buffer[..self.filled]
    }

    /// How long each datagram is, but for the last, which may be shorter.
    pub fn stride(&self) -> usize {
        self.stride
    }

    /// The datagrams one by one.
    pub fn datagrams(&self) -> impl Iterator<Item = &[u8]> {
        self.bytes().chunks(self.stride.max(1))
    }

    /// The buffer, to be recycled.
    pub fn into_buffer(self) -> Vec<u8> {
        self.buffer
    }

    /// Whether it goes this way.
    pub(crate) fn goes(&self, way: Way) -> bool {
        self.dst == way.dst && self.src_ip == way.src_ip
    }

    /// Whether a datagram of this length can be the next one.
    pub(crate) fn takes(&self, datagram_bytes: usize) -> bool {
        let whole = self.filled == self.stride * self.count;
        let fits = self.filled + datagram_bytes <= RUN_BYTES_MAX.min(self.buffer.len());
        let open = self.count == 0 || (whole && datagram_bytes <= self.stride);
        open && fits && self.count < RUN_DATAGRAMS_MAX
    }

    /// Where the next datagram goes.
    pub(crate) fn room(&mut self) -> &mut [u8] {
        &mut self.buffer[self.filled..]
    }

    /// A datagram was written to [`Self::room`].
    pub(crate) fn filled(&mut self, datagram_bytes: usize) {
        if self.count == 0 {
            self.stride = datagram_bytes;
        }
        self.filled += datagram_bytes;
        self.count += 1;
    }
}

/// One IP packet for a segment's TUN device, or many of one conversation in the shape of one, which the kernel tells
/// apart by the virtio-net header in front of it. Hand the buffer back through [`crate::Dataplane::recycle`].
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TunPacket {
    /// Which device.
    pub segment: SegmentId,
    /// The virtio-net header, then the packet.
    pub buffer: Vec<u8>,
}

impl TunPacket {
    /// The packet, from the first byte of the IP header.
    pub fn packet(&self) -> &[u8] {
        self.buffer.get(VNET_HEADER_BYTES..).unwrap_or_default()
    }
}

/// `UDP_MAX_SEGMENTS` of the oldest kernels that have `UDP_SEGMENT`.
const RUN_DATAGRAMS_MAX: usize = 64;

/// The longest UDP payload over IPv4; the kernel measures a run by the same rule.
const RUN_BYTES_MAX: usize = 65_507;

/// How long the buffer of a run is.
pub(crate) const RUN_BUFFER_BYTES: usize = 65_536;

#[cfg(test)]
mod tests {
    use super::*;

    fn way() -> Way {
        Way {
            dst: "192.0.2.1:1".parse().unwrap(),
            src_ip: None,
        }
    }

    fn run(lengths: &[usize]) -> (Transmit, usize) {
        let mut run = Transmit::empty(way(), vec![0; RUN_BUFFER_BYTES]);
        let taken = lengths.iter().take_while(|length| {
            let takes = run.takes(**length);
            if takes {
                run.filled(**length);
            }
            takes
        });
        let taken = taken.count();
        (run, taken)
    }

    #[test]
    fn datagrams_of_one_length_share_a_run_and_a_shorter_one_ends_it() {
        assert_eq!(run(&[100, 100, 60, 60]).1, 3);
        assert_eq!(run(&[100, 101]).1, 1);
        let (run, _) = run(&[100, 100, 60]);
        let lengths: Vec<usize> = run.datagrams().map(<[u8]>::len).collect();
        assert_eq!(lengths, [100, 100, 60]);
    }

    #[test]
    fn a_run_ends_where_the_kernel_takes_no_more() {
        assert_eq!(run(&[32; 100]).1, RUN_DATAGRAMS_MAX);
        assert_eq!(run(&[1452; 100]).1, RUN_BYTES_MAX / 1452);
    }
}
