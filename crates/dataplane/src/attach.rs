//! Which peers have a place in WireGuard: those of open segments that have a key, and no others.
//!
//! **Invariant:** a slot is in `slots` exactly while its peer is in WireGuard, so a datagram that opens always has an
//! owner, and a peer that is gone cannot be reached by an index it once had.

use std::time::Instant;

use ringfence_model::sabotage::{Safeguard, is_off};
use ringfence_model::{Candidate, Name, NodeId, PrivateKey, SEGMENTS_PER_NODE_MAX};
use ringfence_path::{CANDIDATES_MAX, Standing};
use ringfence_wg::{Destination, MessageKind, PeerSlot, WgEvent, WgTransmit};

use crate::pending::PeerKey;
use crate::segment::{Gate, Peer};
use crate::transmit::Way;
use crate::{Dataplane, DropReason, Event, PEERS_PER_SEGMENT_MAX, SegmentId};

impl Dataplane {
    /// Gives a perimeter's segment its key pair; before the first netmap, for when it comes. A new key ends every
    /// session of the old one. A key for a perimeter that this node has left meanwhile is forgotten at once.
    ///
    /// Answers [`Event::KeyNeeded`]; [`Event::RegisterKey`] follows unless the controller holds its public key.
    pub fn set_key(&mut self, perimeter: &Name, key: PrivateKey, now: Instant) {
        let has_place = match self.in_force {
            Some(_) => self.perimeters.contains_key(perimeter),
            None => self.keys.len() < SEGMENTS_PER_NODE_MAX || self.keys.contains_key(perimeter),
        };
        if !has_place || self.keys.get(perimeter) == Some(&key) {
            return;
        }
        self.keys.insert(perimeter.clone(), key);
        let Some(id) = self.perimeters.get(perimeter).copied() else {
            return;
        };
        self.detach_all(id, now);
        if let Some(handle) = self
            .segments
            .get_mut(&id)
            .and_then(|segment| segment.handle.take())
        {
            self.wireguard.remove_segment(handle, now);
        }
        self.ask_for_key(id);
        self.attach_all(id, now);
        self.drain_wireguard(now);
    }

    /// Where a peer may be reached, as the controller heard it. Strangers' candidates wait for the netmap that makes
    /// them peers.
    ///
    /// A session with a peer that may have moved is made anew at once, wherever it may be: if we are behind a NAT, it
    /// cannot reach us from its new address before we send there, and may have nothing to say that would show it to us.
    pub fn handle_peer_candidates(&mut self, peer: NodeId, candidates: &[Candidate], now: Instant) {
        let room = self.candidates.len() < CANDIDATE_LISTS_MAX || self.candidates.contains_key(&peer);
        if !room {
            return;
        }
        let candidates = &candidates[..candidates.len().min(CANDIDATES_PER_PEER_MAX)];
        self.candidates.insert(peer, candidates.to_vec());
        let candidates = self.underlay(candidates);
        for segment in self.segments.values_mut() {
            let Some(known) = segment.peers.get_mut(&peer) else {
                continue;
            };
            let standing = known.path.set_candidates(&candidates);
            let Some(slot) = known.slot else {
                continue;
            };
            if self.pending.is_waiting((segment.id, peer)) {
                self.wireguard.start_handshake(slot, now);
            } else if standing == Standing::Doubtful {
                self.wireguard.renew_session(slot, now);
            }
        }
        self.drain_wireguard(now);
    }

    /// A peer's word, by way of the controller, on whether it still has its sessions with us: not if `epoch` is another
    /// than before (zero says nothing). Then each session is made anew at once. We would find out by ourselves only
    /// after sending into it for fifteen seconds, and until then, if we are behind a NAT, nobody may be able to reach us.
    pub fn handle_peer_epoch(&mut self, peer: NodeId, epoch: u64, now: Instant) {
        let room = self.epochs.len() < CANDIDATE_LISTS_MAX || self.epochs.contains_key(&peer);
        if epoch == 0 || !room {
            return;
        }
        let before = self.epochs.insert(peer, epoch);
        if before.is_none_or(|before| before == epoch) {
            return;
        }
        if self.config.lane > 0 {
            return self.begin_lane_anew(peer, now);
        }
        let known = self
            .segments
            .values()
            .filter_map(|segment| segment.peers.get(&peer));
        for slot in known.filter_map(|known| known.slot) {
            self.wireguard.renew_session(slot, now);
        }
        self.drain_wireguard(now);
    }

    /// Those candidates that are not overlay addresses: a peer that lists those of its TUN devices would have us send
    /// the tunnel through itself.
    pub(crate) fn underlay(&self, candidates: &[Candidate]) -> Vec<Candidate> {
        let mut underlay = candidates.to_vec();
        underlay.retain(|candidate| {
            let address = candidate.address.ip().to_canonical();
            let mut prefixes = self.segments.values().flat_map(|segment| segment.prefixes.iter());
            !prefixes.any(|prefix| prefix.contains(address))
        });
        underlay
    }

    /// Tells the shell what is missing for this segment's key.
    pub(crate) fn ask_for_key(&mut self, id: SegmentId) {
        let Some(segment) = self.segments.get(&id) else {
            return;
        };
        let perimeter = segment.perimeter.clone();
        let Some(key) = self.keys.get(&perimeter) else {
            self.outbox.event(Event::KeyNeeded { perimeter });
            return;
        };
        let public_key = key.public_key();
        if segment.registered_key != Some(public_key) {
            self.outbox.event(Event::RegisterKey {
                perimeter,
                public_key,
            });
        }
    }

    /// Gives every peer of an open segment its place.
    pub(crate) fn attach_all(&mut self, id: SegmentId, now: Instant) {
        let Some(segment) = self.segments.get_mut(&id) else {
            return;
        };
        let (Gate::Open, Some(key)) = (segment.gate, self.keys.get(&segment.perimeter)) else {
            return;
        };
        let handle = match segment.handle {
            Some(handle) => handle,
            None => match self.wireguard.add_segment(key) {
                Ok(handle) => *segment.handle.insert(handle),
                // A netmap holds at most as many segments as WireGuard takes.
                Err(_) => return,
            },
        };
        for (node, peer) in &mut segment.peers {
            if peer.slot.is_some() {
                continue;
            }
            let added = self
                .wireguard
                .add_peer(handle, peer.map.public_key, self.config.keepalive, now);
            match added {
                Ok(slot) => {
                    peer.slot = Some(slot);
                    self.slots.insert(slot, (id, *node));
                }
                // Without a place it has no key: closed, and the count says so.
                Err(_) => self.drops.count(DropReason::NoSlot),
            }
        }
    }

    /// Takes a peer's keys away at once. What waits for a session with it is dropped.
    pub(crate) fn detach(&mut self, id: SegmentId, node: NodeId, now: Instant) {
        let peer = self
            .segments
            .get_mut(&id)
            .and_then(|segment| segment.peers.get_mut(&node));
        if let Some(slot) = peer.and_then(|peer| peer.slot.take())
            && !is_off(Safeguard::Removal)
        {
            self.wireguard.remove_peer(slot, now);
            self.slots.remove(slot);
        }
        self.leave_lane((id, node));
        while let Some(held) = self.pending.pop((id, node)) {
            self.drops.count(DropReason::Revoked);
            self.outbox.recycle(held.packet);
        }
    }

    pub(crate) fn detach_all(&mut self, id: SegmentId, now: Instant) {
        let Some(segment) = self.segments.get(&id) else {
            return;
        };
        let nodes: Vec<NodeId> = segment.peers.keys().copied().collect();
        for node in nodes {
            self.detach(id, node, now);
        }
    }

    /// Passes on what WireGuard made: handshake messages, keepalives, news of sessions.
    pub(crate) fn drain_wireguard(&mut self, now: Instant) {
        loop {
            // The response that makes a session goes out before the first packet in it.
            while let Some(transmit) = self.wireguard.poll_transmit() {
                self.route(transmit, now);
            }
            let Some(event) = self.wireguard.poll_event() else {
                return;
            };
            let Some(peer) = self.slots.get(event.slot()).copied() else {
                continue;
            };
            match event {
                WgEvent::SessionEstablished { slot } => self.session_established(peer, slot, now),
                WgEvent::HandshakeFailed { .. } => self.handshake_failed(peer),
                // The next packet starts a handshake.
                WgEvent::SessionExpired { .. } => {}
            }
        }
    }

    fn route(&mut self, transmit: WgTransmit, now: Instant) {
        let datagram = transmit.datagram;
        let slot = match (transmit.to, transmit.slot) {
            (Destination::Address(address), _) => {
                let way = self.gathering.way_back_to(address);
                self.outbox.transmit(way, datagram);
                return;
            }
            (Destination::Peer, Some(slot)) => slot,
            (Destination::Peer, None) => return,
        };
        let Some(peer) = self.peer_at(slot) else {
            return;
        };
        let ways: Vec<Way> = match transmit.kind {
            MessageKind::HandshakeInitiation => {
                let endpoints = peer.path.handshake_endpoints(now);
                let ways = endpoints.into_iter().map(|dst| peer.way_to(dst, now)).collect();
                peer.path.handshake_sent();
                ways
            }
            MessageKind::HandshakeResponse | MessageKind::CookieReply | MessageKind::Data => {
                peer.way(now).into_iter().collect()
            }
        };
        let Some((last, others)) = ways.split_last() else {
            self.drops.count(DropReason::NoEndpoint);
            return;
        };
        for way in others {
            self.outbox.transmit(*way, datagram.clone());
        }
        self.outbox.transmit(*last, datagram);
    }

    fn session_established(&mut self, peer: PeerKey, slot: PeerSlot, now: Instant) {
        let (id, node) = peer;
        if let Some(segment) = self.segments.get(&id) {
            let perimeter = segment.perimeter.clone();
            self.outbox.event(Event::SessionEstablished {
                perimeter,
                peer: node,
            });
        }
        self.ping_reached(peer, now);
        self.lane_opened(peer, now);
        while let Some(held) = self.pending.pop(peer) {
            if self.seal(slot, &held.packet, now).is_err() {
                self.drops.count(DropReason::NoSessionInTime);
            }
            self.outbox.recycle(held.packet);
        }
    }

    fn handshake_failed(&mut self, peer: PeerKey) {
        while let Some(held) = self.pending.pop(peer) {
            self.drops.count(DropReason::NoSessionInTime);
            self.outbox.recycle(held.packet);
        }
    }

    pub(crate) fn peer_at(&mut self, slot: PeerSlot) -> Option<&mut Peer> {
        let (id, node) = self.slots.get(slot)?;
        self.segments.get_mut(id)?.peers.get_mut(node)
    }
}

/// The most members whose candidates are remembered.
pub(crate) const CANDIDATE_LISTS_MAX: usize = 2 * PEERS_PER_SEGMENT_MAX;

/// The most candidates remembered of one member; a path uses fewer.
const CANDIDATES_PER_PEER_MAX: usize = 4 * CANDIDATES_MAX;
