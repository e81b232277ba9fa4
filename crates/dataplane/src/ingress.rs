//! From the socket to a TUN device: the second wall, which decides.
//!
//! **Invariant:** a packet reaches a TUN device only if it opened under a peer's session key of *that* segment, its
//! source address is *that* peer's, its destination is ours in *that* segment, and a live flow or a rule allows it.
//! What is refused is refused in silence: an answer would tell a peer what it may not know.

use std::net::{IpAddr, SocketAddr};
use std::time::Instant;

use ringfence_model::NodeId;
use ringfence_model::sabotage::{Safeguard, is_off};
use ringfence_packet::offload::VNET_HEADER_BYTES;
use ringfence_packet::{Packet, Protocol};
use ringfence_policy::Direction;
use ringfence_wg::{OpenedKind, PADDING_BYTES, PeerSlot, WireGuard, data_slot};

use crate::gathering::{Arrival, Gathered, Joined};
use crate::lanes::Asked;
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
        let arrival = Arrival { src, ours: None };
        self.gathering.arrives(arrival);
        let taken = self.take_in(arrival, datagram, now);
        if let Err(reason) = taken {
            self.drops.count(reason);
        }
        let delivered = self.deliver_gathered(now);
        self.drain_wireguard(now);
        taken.and(delivered)
    }

    /// Datagrams from one address, back to back, each `stride` long but for the last, which may be shorter: what
    /// `UDP_GRO` gives. What they hold is gathered, to go to the TUN devices in as few packets as it fits in: call
    /// [`Self::handle_batch_end`] before waiting for more. What is refused is counted.
    pub fn handle_datagrams(&mut self, arrival: Arrival, datagrams: &[u8], stride: usize, now: Instant) {
        self.close_what_has_ended(now);
        self.gathering.arrives(arrival);
        for datagram in datagrams.chunks(stride.max(1)) {
            if let Err(reason) = self.take_in(arrival, datagram, now) {
                self.drops.count(reason);
            }
        }
        self.drain_wireguard(now);
    }

    /// Judges what was gathered, by the rules in force now, and passes it on.
    pub fn handle_batch_end(&mut self, now: Instant) {
        // What was refused is counted.
        let _ = self.deliver_gathered(now);
    }

    /// Opens a datagram, into the packet that grows if it continues that.
    fn take_in(&mut self, arrival: Arrival, datagram: &[u8], now: Instant) -> Result<(), DropReason> {
        let mut stray = std::mem::take(&mut self.gathering.stray);
        let taken = self.open(arrival, datagram, &mut stray, now);
        let result = match taken {
            Ok(Some(slot)) => self.gather(slot, &stray, now),
            Ok(None) => Ok(()),
            Err(reason) => Err(reason),
        };
        self.gathering.stray = stray;
        result
    }

    /// Opens a datagram. A packet that joined another is done with; of one that did not, `stray` holds the bytes and
    /// the slot is returned.
    fn open(
        &mut self,
        arrival: Arrival,
        datagram: &[u8],
        stray: &mut Vec<u8>,
        now: Instant,
    ) -> Result<Option<PeerSlot>, DropReason> {
        // Whose it claims to be. If it opens, it is.
        let growing = data_slot(datagram).and_then(|slot| self.gathering.growing(slot));
        let (opened, joined) = if let Some(run) = growing {
            let opened = open_into(
                &mut self.wireguard,
                arrival.src,
                datagram,
                run.window(datagram.len()),
                now,
            );
            let packet_bytes = opened.as_ref().map_or(0, |opened| opened.packet_bytes);
            let joined = run.settle(packet_bytes, stray);
            (opened?, joined)
        } else {
            stray.resize(datagram.len().max(stray.len()), 0);
            let opened = open_into(&mut self.wireguard, arrival.src, datagram, stray, now)?;
            stray.truncate(opened.packet_bytes);
            (opened, false)
        };
        if opened.proves_source && !self.gathering.has_heard(opened.slot, arrival, now) {
            self.learn(opened.slot, arrival, now);
        }
        Ok((!joined && opened.packet_bytes > 0).then_some(opened.slot))
    }

    fn learn(&mut self, slot: PeerSlot, arrival: Arrival, now: Instant) {
        if let Some(peer) = self.peer_at(slot) {
            peer.path.learned_at(arrival.src, arrival.ours, now);
        }
    }

    /// Puts a packet that `slot`'s peer sent with the rest of its conversation, or starts a run with it.
    fn gather(&mut self, slot: PeerSlot, packet: &[u8], now: Instant) -> Result<(), DropReason> {
        let peer = self.slots.get(slot).copied().ok_or(DropReason::NoSegment)?;
        if let Some((src, dst)) = ping::addresses(packet) {
            let segment = self.segments.get(&peer.0).ok_or(DropReason::NoSegment)?;
            check_addresses(segment, peer.1, src, dst)?;
            self.handle_ping(peer, packet, now);
            return Ok(());
        }
        match self.gathering.join(slot, packet) {
            Joined::Yes => return Ok(()),
            // Order within a conversation is kept: what came first goes first. What is refused is counted.
            Joined::After(earlier) => {
                for _ in 0..earlier {
                    if let Some(gathered) = self.gathering.take_oldest() {
                        let _ = self.deliver(gathered, now);
                    }
                }
            }
            Joined::No => {}
        }
        if self.gathering.is_full() {
            let _ = self.deliver_gathered(now);
        }
        let mut buffer = if may_grow(packet) {
            self.outbox.growing_buffer()
        } else {
            self.outbox.buffer()
        };
        buffer.clear();
        buffer.resize(VNET_HEADER_BYTES, 0);
        buffer.extend_from_slice(packet);
        self.gathering.start(peer, slot, buffer);
        Ok(())
    }

    /// Delivers every run. What is refused is counted; the last reason is returned.
    fn deliver_gathered(&mut self, now: Instant) -> Result<(), DropReason> {
        let mut result = Ok(());
        let mut runs = self.gathering.take();
        for gathered in runs.drain(..) {
            result = result.and(self.deliver(gathered, now));
        }
        self.gathering.give_back(runs);
        result
    }

    /// Judges what a peer sent, and passes it to the segment's TUN device.
    fn deliver(&mut self, gathered: Gathered, now: Instant) -> Result<(), DropReason> {
        let segments = gathered.run.segments();
        self.pass_inwards(
            gathered.peer,
            gathered.run.into_buffer(),
            segments,
            Asked::First,
            now,
        )
    }

    /// Judges a packet of a peer, which stands behind a virtio-net header and for `segments` packets, and passes it on.
    pub(crate) fn pass_inwards(
        &mut self,
        peer: PeerKey,
        mut buffer: Vec<u8>,
        segments: usize,
        asked: Asked,
        now: Instant,
    ) -> Result<(), DropReason> {
        match self.judge_ingress(peer, &buffer[VNET_HEADER_BYTES..], segments, now) {
            Ok(packet_bytes) => {
                buffer.truncate(VNET_HEADER_BYTES + packet_bytes);
                self.outbox.tun_buffer(peer.0, buffer);
                Ok(())
            }
            Err(reason) if self.may_be_elsewhere(asked, reason) => {
                self.offer_incoming(peer, buffer, segments, asked, reason);
                Ok(())
            }
            Err(reason) => {
                for _ in 0..segments {
                    self.drops.count(reason);
                }
                self.outbox.recycle(buffer);
                Err(reason)
            }
        }
    }

    /// Whether a packet, which stands for `segments` of them, may pass; how long it is.
    fn judge_ingress(
        &mut self,
        peer: PeerKey,
        bytes: &[u8],
        segments: usize,
        now: Instant,
    ) -> Result<usize, DropReason> {
        let (id, node) = peer;
        let (_, wall) = self.revision_and_wall(now);
        let segment = self.segments.get_mut(&id).ok_or(DropReason::NoSegment)?;
        let packet = Packet::parse(bytes).map_err(DropReason::Malformed)?;
        let packet = packet.standing_for(segments);
        check_addresses(segment, node, packet.flow.src, packet.flow.dst)?;
        let (flows, rules) = (&mut segment.flows, &segment.rules);
        let verdict = flows.judge(&packet, Direction::Ingress, node, rules, now, wall);
        self.end_flows_found(id, now);
        if !is_off(Safeguard::IngressRules) {
            verdict.map_err(DropReason::Refused)?;
        }
        Ok(packet.bytes.len())
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

/// What an authentic datagram was.
struct OpenedDatagram {
    slot: PeerSlot,
    proves_source: bool,
    /// How long the packet in it is, at the start of the buffer; 0 if it holds none.
    packet_bytes: usize,
}

fn open_into(
    wireguard: &mut WireGuard,
    src: SocketAddr,
    datagram: &[u8],
    buffer: &mut [u8],
    now: Instant,
) -> Result<OpenedDatagram, DropReason> {
    let base = buffer.as_ptr();
    let opened = wireguard
        .open(src, datagram, buffer, now)
        .map_err(DropReason::WireGuard)?;
    let packet_bytes = match opened.kind {
        OpenedKind::Data(packet) => {
            debug_assert_eq!(packet.as_ptr(), base, "boringtun opens in place");
            packet.len()
        }
        OpenedKind::Keepalive
        | OpenedKind::HandshakeInitiation
        | OpenedKind::HandshakeResponse
        | OpenedKind::CookieReply => 0,
    };
    Ok(OpenedDatagram {
        slot: opened.slot,
        proves_source: opened.kind.proves_source(),
        packet_bytes,
    })
}

/// Whether more of its conversation can be joined to this packet: whether it is worth a buffer of 64 KiB.
fn may_grow(packet: &[u8]) -> bool {
    let (protocol, header_bytes) = match packet.first().map(|first| first >> 4) {
        Some(4) => (packet.get(9), IPV4_HEADER_BYTES),
        Some(6) => (packet.get(6), IPV6_HEADER_BYTES),
        Some(_) | None => return false,
    };
    match protocol.copied().map(Protocol) {
        Some(Protocol::UDP) => true,
        Some(Protocol::TCP) => {
            let words = packet.get(header_bytes + 12).map_or(0, |byte| byte >> 4);
            packet.len() > header_bytes + 4 * usize::from(words) + PADDING_BYTES
        }
        Some(_) | None => false,
    }
}

const IPV4_HEADER_BYTES: usize = 20;
const IPV6_HEADER_BYTES: usize = 40;
