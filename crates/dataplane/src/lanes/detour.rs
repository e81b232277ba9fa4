//! Conversations of a lane that cannot reach their peer: they stay in it, and another lane sends for them.
//!
//! Where a peer's port of this lane is blocked, nobody says so: its session looks well, and what is sent in it is lost. A
//! peer that gets packets shows that within ten seconds, by a keepalive at least; so one that shows nothing for as long
//! as WireGuard itself waits (whitepaper section 6.5) is held for silent here. It is again what it was when it completes
//! a handshake, which needs the way there and the way back: hearing from it is not enough, for it is not it that is
//! blocked.
//!
//! The flow stays where it is. What the peer sends of it by another lane finds it there (`may_be_elsewhere`).

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use ringfence_model::Revision;
use ringfence_packet::Packet;
use ringfence_packet::offload::{SuperPacket, VNET_HEADER_BYTES, VnetHeader};
use ringfence_wg::PeerSlot;

use super::{Offer, Source};
use crate::egress::Outgoing;
use crate::pending::PeerKey;
use crate::{Dataplane, DropReason};

/// How this lane, which is not lane 0, stands with a peer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Standing {
    /// It has a session, and nothing says that packets get lost in it.
    Open,
    /// It has none, and may get one.
    Opening,
    /// The peer has no such lane, or does not answer in it.
    Shut,
}

/// Peers that do not answer in this lane, and when each is tried again.
#[derive(Default)]
pub(super) struct Silent(BTreeMap<PeerKey, Instant>);

impl Silent {
    pub(super) fn fall(&mut self, peer: PeerKey, now: Instant) {
        self.0.insert(peer, now + TRY_EVERY);
    }

    pub(super) fn forget(&mut self, peer: PeerKey) {
        self.0.remove(&peer);
    }

    pub(super) fn len(&self) -> usize {
        self.0.len()
    }
}

impl Dataplane {
    pub(crate) fn standing(&mut self, peer: PeerKey, slot: PeerSlot, now: Instant) -> Standing {
        if let Some(due) = self.lanes.silent.0.get_mut(&peer) {
            if *due <= now {
                *due = now + TRY_EVERY;
                self.wireguard.start_handshake(slot, now);
            }
            return Standing::Shut;
        }
        if self.wireguard.sealer(slot, now).is_ok() {
            if !self.wireguard.seems_unreached(slot, now) {
                return Standing::Open;
            }
            self.lanes.silent.fall(peer, now);
            self.wireguard.start_handshake(slot, now);
            return Standing::Shut;
        }
        let segment = self.segments.get(&peer.0);
        let known = segment.and_then(|segment| segment.peers.get(&peer.1));
        if known.is_some_and(|known| !known.path.handshake_endpoints(now).is_empty()) {
            Standing::Opening
        } else {
            Standing::Shut
        }
    }

    /// What a peer says of a conversation of this lane comes by this lane, unless the peer holds us for silent: then the
    /// way to it may be open, and is still of no use. Otherwise its packets, which are said again and again because none
    /// is acknowledged, would keep this end from finding that out until the other has given up.
    pub(super) fn note_detour(&mut self, peer: PeerKey, buffer: &[u8], now: Instant) {
        let segment = self.segments.get(&peer.0).filter(|_| self.config.lane > 0);
        let known = segment.and_then(|segment| Some((segment, segment.peers.get(&peer.1)?.slot?)));
        let Some((segment, slot)) = known else { return };
        let packet = buffer.get(VNET_HEADER_BYTES..).map(Packet::parse);
        let lives_here = matches!(packet, Some(Ok(packet)) if segment.flows.contains(packet.flow));
        let handshake = self
            .wireguard
            .stats(slot, now)
            .and_then(|stats| stats.latest_handshake);
        let is_late = handshake.is_some_and(|ago| ago < DETOURS_END_AFTER);
        if lives_here && !is_late && !self.lanes.silent.0.contains_key(&peer) {
            self.lanes.silent.fall(peer, now);
            self.wireguard.start_handshake(slot, now);
        }
    }

    /// Has the next lane send what this one let pass.
    pub(crate) fn detour(&mut self, peer: PeerKey, outgoing: Outgoing<'_>, now: Instant) {
        let (revision, _) = self.revision_and_wall(now);
        if let Some(mut offer) = self.outgoing_offer(peer.0, outgoing, DropReason::NoLane) {
            offer.source = Source::Judged {
                node: peer.1,
                revision,
            };
            self.lanes.offers.push_back(offer);
        }
    }

    /// Sends what another lane let pass, or has the next one do it; lane 0 sends in any case. Not if the two know
    /// different words of the controller: what one of them has revoked must not leave by the other.
    pub(super) fn send_for_another(
        &mut self,
        peer: PeerKey,
        mut offer: Offer,
        revision: Revision,
        now: Instant,
    ) {
        let (own_revision, _) = self.revision_and_wall(now);
        let segment = self.segments.get(&peer.0);
        let known = segment.and_then(|segment| segment.peers.get(&peer.1));
        let slot = known.and_then(|known| known.slot);
        let Some(slot) = slot.filter(|_| revision == own_revision) else {
            return self.refuse_offer(offer);
        };
        if self.config.lane > 0 && self.standing(peer, slot, now) != Standing::Open {
            self.lanes.offers.push_back(offer);
            return;
        }
        if let Some((header, bytes)) = offer.buffer.split_first_chunk_mut()
            && let Ok(packets) = SuperPacket::parse(VnetHeader::decode(header), bytes)
            && let Ok(packet) = Packet::parse(packets.bytes())
        {
            let sent = self.send(peer.0, peer.1, Outgoing::Super(&packets), &packet, now);
            self.count_refused(sent);
        }
        self.outbox.recycle(offer.buffer);
    }
}

/// How often a handshake with a silent peer is started anew, while there is something to send: so long at most a lane
/// that can carry again stays unused.
const TRY_EVERY: Duration = Duration::from_secs(10);

/// For so long after a handshake, packets may come that went another way before it.
const DETOURS_END_AFTER: Duration = Duration::from_secs(5);
