//! Many packets at once, as segmentation offload moves them: in some seeds datagrams are read together, applications
//! write several packets in the shape of one, and what is delivered so is cut again before the oracle judges it.

use std::net::SocketAddr;

use ringfence_dataplane::Arrival;
use ringfence_dataplane::offload::{Run, SuperPacket, VNET_HEADER_BYTES, VnetHeader};

use crate::inspect::Seen;
use crate::violation::Violation;
use crate::world::World;

impl World {
    /// A datagram reaches a machine, which reads what else has arrived by then in one go.
    pub(crate) fn datagrams(
        &mut self,
        machine: usize,
        src: SocketAddr,
        bytes: Vec<u8>,
    ) -> Result<(), Violation> {
        let mut read = vec![(src, bytes)];
        while self.swarm.runs
            && read.len() < READ_MAX
            && let Some(next) = self.queue.next_datagram(machine, self.now)
        {
            read.push(next);
        }
        let place = &self.machines[machine];
        if read.len() == 1 || place.rogue.is_some() || place.agent.is_none() {
            for (src, bytes) in read {
                self.datagram(machine, src, &bytes)?;
            }
            return Ok(());
        }
        let now = self.instant();
        let mut rest = &read[..];
        while let Some((src, first)) = rest.first() {
            let (run, later) = rest.split_at(run_length(rest));
            let joined: Vec<u8> = run.iter().flat_map(|(_, bytes)| bytes).copied().collect();
            let Some(agent) = self.machines[machine].agent.as_mut() else {
                return Ok(());
            };
            let arrival = Arrival {
                src: *src,
                ours: None,
            };
            agent
                .dataplane
                .handle_datagrams(arrival, &joined, first.len(), now);
            self.drain(machine)?;
            rest = later;
        }
        if let Some(agent) = self.machines[machine].agent.as_mut() {
            agent.dataplane.handle_batch_end(now);
            self.drain(machine)?;
        }
        Ok(())
    }

    /// What an application writes in one go: this packet, or several like it in the shape of one. TCP comes as long as
    /// the application wrote it, with a header that says where to cut.
    pub(crate) fn written(&mut self, packet: &[u8], seen: &Seen) -> Vec<u8> {
        if self.swarm.runs && seen.protocol == 6 && seen.fragment.is_none() {
            let segment_bytes = self.dice.pick(&[1_200, 536, 90]);
            if let Some(written) = tcp_in_one(packet, seen, segment_bytes) {
                return written;
            }
        }
        let mut buffer = vec![0; VNET_HEADER_BYTES];
        buffer.extend_from_slice(packet);
        if !self.swarm.runs || seen.protocol != 17 || seen.fragment.is_some() || self.dice.chance(0.5) {
            return buffer;
        }
        let mut run = Run::start(buffer);
        for _ in 0..self.dice.number(1..20) {
            run.join(packet);
        }
        run.finish();
        run.into_buffer()
    }
}

/// A long TCP packet as the kernel hands it over to be cut: with the pseudo header's sum for a checksum. `None` if it is
/// short enough.
fn tcp_in_one(packet: &[u8], seen: &Seen, segment_bytes: u16) -> Option<Vec<u8>> {
    let v4 = seen.src.is_ipv4();
    let (ip_bytes, addresses) = if v4 { (20, 12..20) } else { (40, 8..40) };
    let data_bytes = packet.len().checked_sub(ip_bytes + TCP_BYTES)?;
    // More than the kernel ever cuts one packet into.
    let segment_bytes = segment_bytes.max((data_bytes / SEGMENTS_MAX + 1) as u16);
    if data_bytes <= segment_bytes.into() {
        return None;
    }
    let header = VnetHeader {
        flags: VnetHeader::NEEDS_CHECKSUM,
        gso_type: if v4 {
            VnetHeader::GSO_TCP_V4
        } else {
            VnetHeader::GSO_TCP_V6
        },
        header_bytes: (ip_bytes + TCP_BYTES) as u16,
        gso_bytes: segment_bytes,
        checksum_start: ip_bytes as u16,
        checksum_offset: TCP_CHECKSUM_AT as u16,
    };
    let mut pseudo = packet[addresses].to_vec();
    pseudo.extend(((TCP_BYTES + data_bytes) as u32).to_be_bytes());
    pseudo.extend([0, 0, 0, 6]);
    let sum = !ringfence_packet::checksum(0, &pseudo);
    let mut written = header.encode().to_vec();
    written.extend_from_slice(packet);
    let at = VNET_HEADER_BYTES + ip_bytes + TCP_CHECKSUM_AT;
    written[at..at + 2].copy_from_slice(&sum.to_be_bytes());
    Some(written)
}

/// What lies behind a virtio-net header, packet by packet.
///
/// # Errors
/// If the header does not fit what follows it.
pub(crate) fn cut(buffer: &mut [u8]) -> Result<Vec<Vec<u8>>, Violation> {
    let packet = super_packet(buffer)?;
    let segments = (0..packet.segments()).map(|index| {
        let mut segment = vec![0; packet.segment_bytes_max()];
        let length = packet.write_segment(index, &mut segment);
        segment.truncate(length);
        segment
    });
    Ok(segments.collect())
}

/// What lies behind a virtio-net header, in one piece.
pub(crate) fn super_packet(buffer: &mut [u8]) -> Result<SuperPacket<'_>, Violation> {
    let Some((header, bytes)) = buffer.split_first_chunk_mut::<VNET_HEADER_BYTES>() else {
        return Err(Violation::new("offload", "there is no virtio-net header"));
    };
    SuperPacket::parse(VnetHeader::decode(header), bytes)
        .map_err(|error| Violation::new("offload", format!("{error:?}")))
}

/// How many datagrams from the start on come from one address and are of one length, the last perhaps shorter.
fn run_length(datagrams: &[(SocketAddr, Vec<u8>)]) -> usize {
    let Some((src, first)) = datagrams.first() else {
        return 0;
    };
    let mut length = 1;
    for (next, bytes) in &datagrams[1..] {
        let is_whole = datagrams[length - 1].1.len() == first.len();
        if next != src || bytes.len() > first.len() || bytes.is_empty() || !is_whole {
            break;
        }
        length += 1;
    }
    length
}

const TCP_BYTES: usize = 20;
const TCP_CHECKSUM_AT: usize = 16;
const SEGMENTS_MAX: usize = 60;
/// Datagrams read at once.
const READ_MAX: usize = 64;
