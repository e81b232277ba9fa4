//! From a local application to a peer: the third wall, which refuses early and says so.
//!
//! An application must learn at once, and be able to tell our refusal from a closed port:
//!
//! | refused | answer | what `connect` or `send` reports on Linux |
//! | --- | --- | --- |
//! | a connection is opened (SYN), a datagram, an echo | ICMP 3/13, ICMPv6 1/1 | `EHOSTUNREACH`, `EACCES` |
//! | a segment in the middle of a connection we do not know | RST | `ECONNRESET` |
//! | the port is closed at the peer | the peer's RST comes through | `ECONNREFUSED` |
//!
//! An RST to a SYN would read as the third; an ICMP error in mid-connection is only advice to TCP (RFC 5461).

use std::net::IpAddr;
use std::time::Instant;

use ringfence_model::NodeId;
use ringfence_model::sabotage::{Safeguard, is_off};
use ringfence_packet::offload::{SuperPacket, VnetHeader};
use ringfence_packet::{Flow, Packet, administratively_prohibited, packet_too_big, tcp_reset_answering};
use ringfence_policy::Direction;
use ringfence_wg::{PADDING_BYTES, PeerSlot, SealError, sealed_bytes};

use crate::lanes::{Asked, Standing};
use crate::segment::{Gate, Segment};
use crate::transmit::Way;
use crate::{Dataplane, DropReason, SegmentId};

impl Dataplane {
    /// One packet that the kernel routed to a segment's TUN device.
    ///
    /// # Errors
    /// Why it was refused. It is counted already, and the sender was told where that is right.
    pub fn handle_tun(&mut self, segment: SegmentId, packet: &[u8], now: Instant) -> Result<(), DropReason> {
        self.handle_egress(segment, Outgoing::Packet(packet), now)
    }

    /// What the kernel's segmentation offload wrote to a segment's TUN device: many packets of one conversation in
    /// the shape of one. It is judged once, and goes out as one run of datagrams.
    ///
    /// # Errors
    /// As [`Self::handle_tun`].
    pub fn handle_super_packet(
        &mut self,
        segment: SegmentId,
        packet: &SuperPacket<'_>,
        now: Instant,
    ) -> Result<(), DropReason> {
        self.handle_egress(segment, Outgoing::Super(packet), now)
    }

    fn handle_egress(
        &mut self,
        segment: SegmentId,
        outgoing: Outgoing<'_>,
        now: Instant,
    ) -> Result<(), DropReason> {
        self.close_what_has_ended(now);
        let result = self.egress(segment, outgoing, Asked::First, now);
        self.count_refused(result);
        self.drain_wireguard(now);
        result
    }

    pub(crate) fn count_refused(&mut self, result: Result<(), DropReason>) {
        if let Err(reason) = result {
            self.drops.count(reason);
        }
    }

    pub(crate) fn egress(
        &mut self,
        id: SegmentId,
        outgoing: Outgoing<'_>,
        asked: Asked,
        now: Instant,
    ) -> Result<(), DropReason> {
        let packet = Packet::parse(outgoing.bytes()).map_err(DropReason::Malformed)?;
        let packet = packet.standing_for(outgoing.segments());
        if self.config.lane > 0 && self.is_for_another_lane(id, outgoing, packet.flow, asked, now) {
            return Ok(());
        }
        let (_, wall) = self.revision_and_wall(now);
        let segment = self.segments.get_mut(&id).ok_or(DropReason::NoSegment)?;
        let owner = addressee(segment, packet.flow);
        let judged = owner.and_then(|peer| {
            let (flows, rules) = (&mut segment.flows, &segment.rules);
            let verdict = flows.judge(&packet, Direction::Egress, peer, rules, now, wall);
            if !is_off(Safeguard::EgressRules) {
                verdict.map_err(DropReason::Refused)?;
            }
            Ok(peer)
        });
        self.end_flows_found(id, now);
        let node = match judged {
            Ok(node) => node,
            Err(reason) if self.may_be_elsewhere(asked, reason) => {
                self.offer_outgoing(id, outgoing, asked, reason);
                return Ok(());
            }
            Err(reason) => {
                self.tell_sender(id, &packet, reason);
                return Err(reason);
            }
        };
        if outgoing.segment_bytes_max(&packet) > usize::from(self.config.mtu_bytes) {
            let answer = packet_too_big(packet.bytes, packet.flow.dst, self.config.mtu_bytes.into());
            self.answer(id, answer);
            return Err(DropReason::TooBig);
        }
        self.send(id, node, outgoing, &packet, now)
    }

    /// Seals what passed, or holds it until there is a session.
    pub(crate) fn send(
        &mut self,
        id: SegmentId,
        node: NodeId,
        outgoing: Outgoing<'_>,
        packet: &Packet<'_>,
        now: Instant,
    ) -> Result<(), DropReason> {
        let peer = self
            .segments
            .get(&id)
            .and_then(|segment| segment.peers.get(&node));
        let slot = peer.and_then(|peer| peer.slot).ok_or(DropReason::NoKey)?;
        let way = peer.and_then(|peer| peer.way(now));
        if self.config.lane > 0 {
            match self.standing((id, node), slot, now) {
                Standing::Open => {}
                Standing::Opening => {
                    self.wireguard.start_handshake(slot, now);
                    self.wait_for_lane((id, node), outgoing, now);
                    return Ok(());
                }
                Standing::Shut => {
                    self.detour((id, node), outgoing, now);
                    return Ok(());
                }
            }
        }
        let sealed = match outgoing {
            Outgoing::Packet(_) => self.seal(slot, packet.bytes, now),
            Outgoing::Super(super_packet) => self.seal_segments(slot, way, super_packet, now),
        };
        match sealed {
            Ok(()) => Ok(()),
            Err(SealError::NoSession) => {
                for index in 0..outgoing.segments() {
                    let held = self.held(outgoing, packet, index);
                    self.hold(id, node, packet.flow, held, now);
                }
                Ok(())
            }
            Err(SealError::CounterExhausted | SealError::NoPeer | SealError::TooLong) => {
                Err(DropReason::NotSealed)
            }
        }
    }

    /// One of the packets that go out, in a buffer of its own.
    fn held(&mut self, outgoing: Outgoing<'_>, packet: &Packet<'_>, index: usize) -> Vec<u8> {
        let mut held = self.outbox.buffer();
        match outgoing {
            Outgoing::Packet(_) => held.extend_from_slice(packet.bytes),
            Outgoing::Super(super_packet) => {
                held.resize(super_packet.segment_bytes_max(), 0);
                let bytes = super_packet.write_segment(index, &mut held);
                held.truncate(bytes);
            }
        }
        held
    }

    /// Splits a super-packet and seals each part where it will be sent from.
    fn seal_segments(
        &mut self,
        slot: PeerSlot,
        way: Option<Way>,
        super_packet: &SuperPacket<'_>,
        now: Instant,
    ) -> Result<(), SealError> {
        let mut sealer = self.wireguard.sealer(slot, now)?;
        let Some(way) = way else {
            self.drops.count(DropReason::NoEndpoint);
            return Ok(());
        };
        let room = super_packet.segment_bytes_max().next_multiple_of(PADDING_BYTES);
        if self.scratch.len() < room {
            self.scratch.resize(room, 0);
        }
        for index in 0..super_packet.segments() {
            let bytes = super_packet.write_segment(index, &mut self.scratch);
            let padded = bytes.next_multiple_of(PADDING_BYTES);
            self.scratch[bytes..padded].fill(0);
            let run = self.outbox.run(way, sealed_bytes(bytes));
            let sealed = sealer.seal(&self.scratch[..padded], run.room())?;
            run.filled(sealed);
        }
        Ok(())
    }

    /// Holds a packet for a session that is being made.
    pub(crate) fn hold(&mut self, id: SegmentId, node: NodeId, flow: Flow, packet: Vec<u8>, now: Instant) {
        if let Some(gone) = self.pending.hold((id, node), flow, packet, now) {
            self.drops.count(DropReason::PendingFull);
            self.outbox.recycle(gone.packet);
        }
        let peer = self
            .segments
            .get_mut(&id)
            .and_then(|segment| segment.peers.get_mut(&node));
        let Some(peer) = peer else {
            return;
        };
        // Without an endpoint the attempt would be spent on nothing: candidates start it when they come.
        if let Some(slot) = peer.slot
            && !peer.path.handshake_endpoints(now).is_empty()
        {
            self.wireguard.start_handshake(slot, now);
        }
    }

    /// Seals one packet and queues it for the socket.
    pub(crate) fn seal(&mut self, slot: PeerSlot, packet: &[u8], now: Instant) -> Result<(), SealError> {
        let way = self.peer_at(slot).and_then(|peer| peer.way(now));
        let mut sealer = self.wireguard.sealer(slot, now)?;
        let Some(way) = way else {
            self.drops.count(DropReason::NoEndpoint);
            return Ok(());
        };
        self.scratch.clear();
        self.scratch.extend_from_slice(packet);
        self.scratch
            .resize(packet.len().next_multiple_of(PADDING_BYTES), 0);
        let run = self.outbox.run(way, sealed_bytes(packet.len()));
        let sealed = sealer.seal(&self.scratch, run.room())?;
        run.filled(sealed);
        Ok(())
    }

    fn tell_sender(&mut self, id: SegmentId, packet: &Packet<'_>, reason: DropReason) {
        // Not our own address: answering would put packets for a stranger on the TUN device.
        if reason == DropReason::SourceNotOurs {
            return;
        }
        let answer = match packet.tcp {
            Some(tcp) if !tcp.opens() => tcp_reset_answering(packet.bytes),
            // From the peer's address: Linux takes a packet from an address of its own for a martian.
            _ => administratively_prohibited(packet.bytes, packet.flow.dst),
        };
        self.answer(id, answer);
    }

    fn answer(&mut self, id: SegmentId, packet: Option<Vec<u8>>) {
        if let Some(packet) = packet {
            self.outbox.tun(id, &packet);
        }
    }
}

/// What a TUN device gave.
#[derive(Clone, Copy)]
pub(crate) enum Outgoing<'a> {
    Packet(&'a [u8]),
    Super(&'a SuperPacket<'a>),
}

impl<'a> Outgoing<'a> {
    pub(crate) fn bytes(self) -> &'a [u8] {
        match self {
            Self::Packet(bytes) => bytes,
            Self::Super(packet) => packet.bytes(),
        }
    }

    /// What a TUN device would write before it.
    pub(crate) fn header(self) -> VnetHeader {
        match self {
            Self::Packet(_) => VnetHeader::NONE,
            Self::Super(packet) => packet.header(),
        }
    }

    fn segments(self) -> usize {
        match self {
            Self::Packet(_) => 1,
            Self::Super(packet) => packet.segments(),
        }
    }

    /// The longest packet that goes out.
    fn segment_bytes_max(self, packet: &Packet<'_>) -> usize {
        match self {
            Self::Packet(_) => packet.bytes.len(),
            Self::Super(packet) => packet.segment_bytes_max(),
        }
    }
}

/// The peer that a packet may go to, by its addresses alone.
pub(crate) fn addressee(segment: &Segment, flow: Flow) -> Result<NodeId, DropReason> {
    if is_multicast(flow.dst) {
        return Err(DropReason::Multicast);
    }
    if !segment.addresses.contains(flow.src) {
        return Err(DropReason::SourceNotOurs);
    }
    if segment.gate == Gate::Closed {
        return Err(DropReason::SegmentClosed);
    }
    segment.owners.owner(flow.dst).ok_or(DropReason::NoRoute)
}

/// Multicast and broadcast: kernels send some on every interface, and an overlay of known peers carries none.
fn is_multicast(address: IpAddr) -> bool {
    match address {
        IpAddr::V4(v4) => v4.is_multicast() || v4.is_broadcast(),
        IpAddr::V6(v6) => v6.is_multicast(),
    }
}
