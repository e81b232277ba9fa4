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
use ringfence_packet::{Flow, Packet, administratively_prohibited, packet_too_big, tcp_reset_answering};
use ringfence_policy::Direction;
use ringfence_wg::{PeerSlot, SealError};

use crate::segment::{Gate, Segment};
use crate::{Dataplane, DropReason, SegmentId};

impl Dataplane {
    /// One packet that the kernel routed to a segment's TUN device.
    ///
    /// # Errors
    /// Why it was refused. It is counted already, and the sender was told where that is right.
    pub fn handle_tun(&mut self, segment: SegmentId, packet: &[u8], now: Instant) -> Result<(), DropReason> {
        self.close_what_has_ended(now);
        let result = self.egress(segment, packet, now);
        if let Err(reason) = result {
            self.drops.count(reason);
        }
        self.drain_wireguard(now);
        result
    }

    fn egress(&mut self, id: SegmentId, bytes: &[u8], now: Instant) -> Result<(), DropReason> {
        let packet = Packet::parse(bytes).map_err(DropReason::Malformed)?;
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
            Err(reason) => {
                self.tell_sender(id, &packet, reason);
                return Err(reason);
            }
        };
        if packet.bytes.len() > usize::from(self.config.mtu_bytes) {
            let answer = packet_too_big(packet.bytes, packet.flow.dst, self.config.mtu_bytes.into());
            self.answer(id, answer);
            return Err(DropReason::TooBig);
        }
        self.send(id, node, &packet, now)
    }

    /// Seals a packet that passed, or holds it until there is a session.
    fn send(
        &mut self,
        id: SegmentId,
        node: NodeId,
        packet: &Packet<'_>,
        now: Instant,
    ) -> Result<(), DropReason> {
        let peer = self
            .segments
            .get(&id)
            .and_then(|segment| segment.peers.get(&node));
        let slot = peer.and_then(|peer| peer.slot).ok_or(DropReason::NoKey)?;
        match self.seal(slot, packet.bytes, now) {
            Ok(()) => Ok(()),
            Err(SealError::NoSession) => {
                let mut held = self.outbox.buffer();
                held.extend_from_slice(packet.bytes);
                self.hold(id, node, packet.flow, held, now);
                Ok(())
            }
            Err(SealError::CounterExhausted | SealError::NoPeer | SealError::TooLong) => {
                Err(DropReason::NotSealed)
            }
        }
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
        let mut datagram = self.outbox.buffer();
        if let Err(error) = self.wireguard.seal(slot, packet, &mut datagram, now) {
            self.outbox.recycle(datagram);
            return Err(error);
        }
        let endpoint = self.peer_at(slot).and_then(|peer| peer.path.data_endpoint());
        if let Some(endpoint) = endpoint {
            self.outbox.transmit(endpoint, datagram);
        } else {
            self.drops.count(DropReason::NoEndpoint);
            self.outbox.recycle(datagram);
        }
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
            self.outbox.tun(id, packet);
        }
    }
}

/// The peer that a packet may go to, by its addresses alone.
fn addressee(segment: &Segment, flow: Flow) -> Result<NodeId, DropReason> {
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
