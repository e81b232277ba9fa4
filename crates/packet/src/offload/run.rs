//! Puts packets of one conversation into one write to a TUN device (generic receive offload).
//!
//! **Invariant:** a single packet leaves bit for bit as it came, so that the kernel judges its checksum; only packets
//! whose checksums are right are joined, for of a joined one the kernel does not ask again.

use super::conversation::Conversation;
use super::segment::Segment;
use super::{
    TCP_FLAGS_AT, TCP_PSH, Transport, UDP_LENGTH_AT, VNET_HEADER_BYTES, VnetHeader, pseudo_sum,
    set_ip_length, write_u16,
};
use crate::checksum::fold;
use crate::packet::IpHeader;
use crate::{ipv4, transport};

/// A packet that grows by those that follow it, in the buffer that will be written: virtio-net header, then packet.
#[derive(Debug)]
pub struct Run {
    buffer: Vec<u8>,
    /// How much of the buffer is virtio-net header and packet; what lies behind is a window or a rest of one.
    used: usize,
    segments: usize,
    conversation: Option<Conversation>,
    /// `None` for a packet that stands alone.
    growth: Option<Growth>,
    window: Option<Window>,
}

/// What a packet must have to continue the run.
#[derive(Debug)]
struct Growth {
    first: Segment,
    /// The first packet's headers: in the buffer a window may lie over them.
    header: [u8; HEADER_BYTES_MAX],
    sequence_next: u32,
    identification: Identification,
    pushed: bool,
    open: bool,
}

/// How the IPv4 identification goes on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Identification {
    /// One packet so far, or IPv6.
    Undecided,
    /// One more in each packet.
    Rising,
    /// The same in all: only where it has no meaning.
    Fixed,
}

/// A place at the end of the run that a candidate is written to.
#[derive(Debug)]
struct Window {
    bytes: usize,
    /// What the candidate's headers lie over.
    tail: [u8; HEADER_BYTES_MAX],
    tail_bytes: usize,
}

impl Run {
    /// Starts with the packet that lies behind the first [`VNET_HEADER_BYTES`] of `buffer`; padding after it is cut off.
    pub fn start(mut buffer: Vec<u8>) -> Self {
        if buffer.len() < VNET_HEADER_BYTES {
            buffer.resize(VNET_HEADER_BYTES, 0);
        }
        buffer[..VNET_HEADER_BYTES].copy_from_slice(&VnetHeader::NONE.encode());
        let packet = &buffer[VNET_HEADER_BYTES..];
        let packet_bytes = IpHeader::parse(packet).map_or(packet.len(), |header| header.total_bytes);
        let conversation = Conversation::of(packet);
        let growth = Growth::from(packet);
        let used = VNET_HEADER_BYTES + packet_bytes;
        Self {
            buffer,
            used,
            segments: 1,
            conversation,
            growth,
            window: None,
        }
    }

    /// The same run, but datagrams stand alone: for kernels that take no joined ones (before Linux 6.2).
    #[must_use]
    pub fn without_udp(mut self) -> Self {
        self.growth = self
            .growth
            .filter(|growth| growth.first.transport == Transport::Tcp);
        self
    }

    /// Whether a packet could still join.
    pub fn can_grow(&self) -> bool {
        self.growth.as_ref().is_some_and(|growth| growth.open)
    }

    /// How many packets it holds.
    pub fn segments(&self) -> usize {
        self.segments
    }

    /// Length of the packet as it stands.
    pub fn packet_bytes(&self) -> usize {
        self.used - VNET_HEADER_BYTES
    }

    /// Whether `packet` must not overtake this run: same addresses, protocol and ports, or no telling.
    pub fn is_same_flow(&self, packet: &[u8]) -> bool {
        match (&self.conversation, Conversation::of(packet)) {
            (Some(ours), Some(theirs)) => ours.overlaps(&theirs),
            (None, _) | (_, None) => true,
        }
    }

    /// Appends the payload of `packet` if it continues the run; padding after it is ignored. `false`: nothing changed.
    pub fn join(&mut self, packet: &[u8]) -> bool {
        self.close_window();
        let Some(growth) = &mut self.growth else {
            return false;
        };
        let Some(segment) = growth.accept(packet, self.segments) else {
            return false;
        };
        self.buffer.truncate(self.used);
        self.buffer
            .extend_from_slice(&packet[segment.header_bytes..segment.total_bytes]);
        self.grow(&segment);
        true
    }

    /// A place for `bytes` bytes to write a candidate to, so placed that its payload would continue the run's.
    ///
    /// [`Self::settle`] must follow; without it the run is as it was before.
    pub fn window(&mut self, bytes: usize) -> &mut [u8] {
        self.close_window();
        let tail_bytes = self.growth.as_ref().map_or(0, |growth| growth.first.header_bytes);
        let start = self.used - tail_bytes;
        let mut tail = [0; HEADER_BYTES_MAX];
        tail[..tail_bytes].copy_from_slice(&self.buffer[start..self.used]);
        let end = start + bytes;
        if self.buffer.len() < end {
            self.buffer.resize(end, 0);
        }
        self.window = Some(Window {
            bytes,
            tail,
            tail_bytes,
        });
        &mut self.buffer[start..end]
    }

    /// Takes in the packet of `packet_bytes` bytes, padding included, that was written to the start of the window.
    ///
    /// `true`: it joined. `false`: the run is as before, and the packet, if there was one, has been moved to `stray`,
    /// which is empty otherwise.
    pub fn settle(&mut self, packet_bytes: usize, stray: &mut Vec<u8>) -> bool {
        stray.clear();
        let Some(window) = &self.window else {
            return false;
        };
        let start = self.used - window.tail_bytes;
        let packet = &self.buffer[start..start + packet_bytes.min(window.bytes)];
        let accepted = match &mut self.growth {
            Some(growth) => growth.accept(packet, self.segments),
            None => None,
        };
        if accepted.is_none() {
            stray.extend_from_slice(packet);
        }
        self.close_window();
        let Some(segment) = accepted else {
            return false;
        };
        self.grow(&segment);
        true
    }

    /// Brings the headers up to date and gives the whole packet, for judging. Nothing joins after it.
    pub fn finish(&mut self) -> &[u8] {
        self.close_window();
        self.buffer.truncate(self.used);
        if let Some(growth) = &mut self.growth {
            growth.open = false;
            if self.segments > 1 {
                growth.write_headers(&mut self.buffer);
            }
        }
        &self.buffer[VNET_HEADER_BYTES..]
    }

    /// What is written to the TUN device.
    pub fn into_buffer(mut self) -> Vec<u8> {
        self.finish();
        self.buffer
    }

    fn close_window(&mut self) {
        if let Some(window) = self.window.take() {
            let tail = &window.tail[..window.tail_bytes];
            self.buffer[self.used - tail.len()..self.used].copy_from_slice(tail);
        }
    }

    /// Counts in a segment whose payload has been put behind the run.
    fn grow(&mut self, segment: &Segment) {
        self.used += segment.payload_bytes();
        self.segments += 1;
        let full = self.segments >= RUN_SEGMENTS_MAX;
        let packet_bytes = self.packet_bytes();
        if let Some(growth) = &mut self.growth {
            let no_room = packet_bytes + growth.first.payload_bytes() > PACKET_BYTES_MAX;
            growth.open &= !full && !no_room;
        }
    }
}

impl Growth {
    fn from(packet: &[u8]) -> Option<Self> {
        let first = Segment::read(packet)?;
        if !first.checksums_hold(packet) {
            return None;
        }
        let mut header = [0; HEADER_BYTES_MAX];
        header[..first.header_bytes].copy_from_slice(&packet[..first.header_bytes]);
        let pushed = first.pushes(packet);
        let room = first.total_bytes + first.payload_bytes() <= PACKET_BYTES_MAX;
        Some(Self {
            first,
            header,
            sequence_next: first.sequence_after(packet),
            identification: Identification::Undecided,
            pushed,
            open: !pushed && room,
        })
    }

    /// Whether `packet` is the next after `segments` packets; if so it is counted in.
    fn accept(&mut self, packet: &[u8], segments: usize) -> Option<Segment> {
        let first = self.first;
        if !self.open {
            return None;
        }
        let segment = Segment::read(packet)?;
        let header = &self.header[..first.header_bytes];
        let in_order = first.transport == Transport::Udp || segment.sequence(packet) == self.sequence_next;
        if !in_order
            || segment.payload_bytes() > first.payload_bytes()
            || !first.headers_agree(header, &segment, packet)
        {
            return None;
        }
        let identification = self.identification_with(&segment, packet, segments)?;
        // Last, for it reads the whole packet.
        if !segment.checksums_hold(packet) {
            return None;
        }
        self.identification = identification;
        self.sequence_next = segment.sequence_after(packet);
        self.pushed = segment.pushes(packet);
        self.open = !self.pushed && segment.payload_bytes() == first.payload_bytes();
        Some(segment)
    }

    fn identification_with(
        &self,
        segment: &Segment,
        packet: &[u8],
        segments: usize,
    ) -> Option<Identification> {
        let (Some((start, meaningless)), Some((id, _))) = (
            self.first.identification(&self.header),
            segment.identification(packet),
        ) else {
            return Some(Identification::Undecided);
        };
        let rises = id == start.wrapping_add(segments as u16);
        let stays = id == start && meaningless;
        match self.identification {
            Identification::Undecided | Identification::Rising if rises => Some(Identification::Rising),
            Identification::Undecided | Identification::Fixed if stays => Some(Identification::Fixed),
            Identification::Undecided | Identification::Rising | Identification::Fixed => None,
        }
    }

    fn write_headers(&self, buffer: &mut [u8]) {
        let first = &self.first;
        let is_v4 = first.ip_header_bytes == ipv4::HEADER_BYTES;
        let gso_type = match (first.transport, is_v4) {
            (Transport::Tcp, true) => VnetHeader::GSO_TCP_V4,
            (Transport::Tcp, false) => VnetHeader::GSO_TCP_V6,
            (Transport::Udp, _) => VnetHeader::GSO_UDP_DATAGRAMS,
        };
        let vnet_header = VnetHeader {
            flags: VnetHeader::NEEDS_CHECKSUM,
            gso_type,
            header_bytes: first.header_bytes as u16,
            gso_bytes: first.payload_bytes() as u16,
            checksum_start: first.ip_header_bytes as u16,
            checksum_offset: first.transport.checksum_at() as u16,
        };
        let (vnet, packet) = buffer.split_at_mut(VNET_HEADER_BYTES);
        vnet.copy_from_slice(&vnet_header.encode());
        let total_bytes = packet.len();
        let (ip_header, segment) = packet.split_at_mut(first.ip_header_bytes);
        set_ip_length(ip_header, total_bytes);
        match first.transport {
            Transport::Udp => write_u16(segment, UDP_LENGTH_AT, segment.len() as u16),
            Transport::Tcp if self.pushed => segment[TCP_FLAGS_AT] |= TCP_PSH,
            Transport::Tcp => {}
        }
        // Not complemented: the kernel adds the rest of the segment to it, if it ever must (`CHECKSUM_PARTIAL`).
        let sum = pseudo_sum(ip_header, first.transport) + segment.len() as u32;
        write_u16(segment, first.transport.checksum_at(), fold(u64::from(sum)));
    }
}

/// The most packets of one run: more UDP datagrams no kernel takes in one (`UDP_MAX_SEGMENTS` before Linux 6.9).
pub const RUN_SEGMENTS_MAX: usize = 64;

/// What the length field of IPv4 can say; the same for IPv6, whose field leaves its header out.
const PACKET_BYTES_MAX: usize = 65_535;
/// IPv6 and TCP with all the options it can have.
const HEADER_BYTES_MAX: usize = crate::ipv6::HEADER_BYTES + transport::TCP_HEADER_BYTES_MAX;
