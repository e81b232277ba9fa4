//! From the socket to a TUN device: the second wall, which decides.
//!
//! **Invariant:** a packet reaches a TUN device only if it opened under a peer's session key of *that* segment, its
//! source address is *that* peer's, its destination is ours in *that* segment, and a live flow or a rule allows it.
//! What is refused is refused in silence: an answer would tell a peer what it may not know.

use std::net::{IpAddr, SocketAddr};
use std::time::Instant;

use ringfence_model::NodeId;
use ringfence_model::sabotage::{Safeguard, is_off};
use ringfence_packet::Packet;
use ringfence_policy::Direction;
use ringfence_wg::{OpenedKind, PeerSlot};

use crate::pending::PeerKey;
use crate::ping;
use crate::segment::{Gate, Segment};
use crate::{Dataplane, DropReason};

impl Dataplane {
    /// One datagram from the socket.
    ///
    /// # Errors
    /// Why it was refused. It is counted already.
    pub fn handle_datagram(
        &mut self,
        src: SocketAddr,
        datagram: &[u8],
        now: Instant,
    ) -> Result<(), DropReason> {
        self.close_what_has_ended(now);
        let mut buffer = self.outbox.buffer();
        buffer.resize(datagram.len(), 0);
        let result = match self.open(src, datagram, &mut buffer, now) {
            Ok(Some(inner)) => {
                buffer.copy_within(inner.start..inner.end, 0);
                buffer.truncate(inner.end - inner.start);
                self.deliver(inner.peer, buffer, now)
            }
            Ok(None) => {
                self.outbox.recycle(buffer);
                Ok(())
            }
            Err(reason) => {
                self.outbox.recycle(buffer);
                Err(reason)
            }
        };
        if let Err(reason) = result {
            self.drops.count(reason);
        }
        self.drain_wireguard(now);
        result
    }

    /// Opens a datagram into `buffer`. `None` if it holds no packet.
    fn open(
        &mut self,
        src: SocketAddr,
        datagram: &[u8],
        buffer: &mut [u8],
        now: Instant,
    ) -> Result<Option<Inner>, DropReason> {
        let base = buffer.as_ptr() as usize;
        let opened = self
            .wireguard
            .open(src, datagram, buffer, now)
            .map_err(DropReason::WireGuard)?;
        let inner = match opened.kind {
            OpenedKind::Data(packet) => {
                let start = packet.as_ptr() as usize - base;
                Some((start, start + packet.len()))
            }
            OpenedKind::Keepalive
            | OpenedKind::HandshakeInitiation
            | OpenedKind::HandshakeResponse
            | OpenedKind::CookieReply => None,
        };
        let (slot, proves_source) = (opened.slot, opened.kind.proves_source());
        let peer = self.slots.get(&slot).copied().ok_or(DropReason::NoSegment)?;
        if proves_source {
            self.learn(slot, src, now);
        }
        Ok(inner.map(|(start, end)| Inner { peer, start, end }))
    }

    fn learn(&mut self, slot: PeerSlot, src: SocketAddr, now: Instant) {
        if let Some(peer) = self.peer_at(slot) {
            peer.path.learned(src, now);
        }
    }

    /// Judges a packet that `peer` sent, and passes it to the segment's TUN device.
    fn deliver(&mut self, peer: PeerKey, buffer: Vec<u8>, now: Instant) -> Result<(), DropReason> {
        match self.judge_ingress(peer, &buffer, now) {
            Ok(Fate::Pass { bytes }) => {
                let mut packet = buffer;
                packet.truncate(bytes);
                self.outbox.tun(peer.0, packet);
                Ok(())
            }
            Ok(Fate::Ping) => {
                self.handle_ping(peer, &buffer, now);
                self.outbox.recycle(buffer);
                Ok(())
            }
            Err(reason) => {
                self.outbox.recycle(buffer);
                Err(reason)
            }
        }
    }

    fn judge_ingress(&mut self, peer: PeerKey, bytes: &[u8], now: Instant) -> Result<Fate, DropReason> {
        let (id, node) = peer;
        let (_, wall) = self.revision_and_wall(now);
        let segment = self.segments.get_mut(&id).ok_or(DropReason::NoSegment)?;
        if let Some((src, dst)) = ping::addresses(bytes) {
            check_addresses(segment, node, src, dst)?;
            return Ok(Fate::Ping);
        }
        let packet = Packet::parse(bytes).map_err(DropReason::Malformed)?;
        check_addresses(segment, node, packet.flow.src, packet.flow.dst)?;
        let (flows, rules) = (&mut segment.flows, &segment.rules);
        let verdict = flows.judge(&packet, Direction::Ingress, node, rules, now, wall);
        self.end_flows_found(id, now);
        if !is_off(Safeguard::IngressRules) {
            verdict.map_err(DropReason::Refused)?;
        }
        Ok(Fate::Pass {
            bytes: packet.bytes.len(),
        })
    }
}

/// Whether a packet that `peer` sent is from and to where it may be.
fn check_addresses(segment: &Segment, peer: NodeId, src: IpAddr, dst: IpAddr) -> Result<(), DropReason> {
    if segment.gate == Gate::Closed {
        return Err(DropReason::SegmentClosed);
    }
    if segment.owners.owner(src) != Some(peer) && !is_off(Safeguard::SourceCheck) {
        return Err(DropReason::SourceNotPeers);
    }
    if !segment.addresses.contains(dst) && !is_off(Safeguard::DestinationCheck) {
        return Err(DropReason::DestinationNotOurs);
    }
    Ok(())
}

/// Where in the buffer the opened packet is, and whose.
struct Inner {
    peer: PeerKey,
    start: usize,
    end: usize,
}

/// What becomes of a packet that is not refused.
enum Fate {
    /// These first bytes of the buffer go to the TUN device.
    Pass { bytes: usize },
    /// It is for the data plane itself.
    Ping,
}
