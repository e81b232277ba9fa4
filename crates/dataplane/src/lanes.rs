//! One node in several lanes: data planes side by side, each with a thread, a socket and sessions of its own.
//!
//! They share nothing. A packet that this lane cannot carry, because the conversation lives in another or because there
//! is no session with the peer here, is *offered on* to the next, as [`Offer`]; the shell carries it there. The lane
//! that is asked last refuses it, as the only lane of a node would.
//!
//! **Invariant:** an offered packet is judged by whoever takes it, by the rules in force there: an offer says only
//! where a packet came from. One that its own lane has judged, and cannot send (`detour`), is sent by a lane of the same
//! revision alone. At most [`WAITING_MAX`] wait for a session of a lane.

use std::collections::{BTreeMap, VecDeque};
use std::time::{Duration, Instant};

use ringfence_model::{Name, NodeId, Revision, TableSize};
use ringfence_packet::Flow;
use ringfence_packet::offload::{SuperPacket, VNET_HEADER_BYTES, VnetHeader};
use ringfence_path::Path;
use ringfence_policy::Refusal;

use crate::egress::{Outgoing, addressee};
use crate::pending::PeerKey;
use crate::{Dataplane, DropReason, SegmentId};

mod detour;

use detour::Silent;
pub(crate) use detour::Standing;

/// A packet that one lane gives the next to carry.
#[derive(Debug)]
pub struct Offer {
    /// Segments have other numbers in another lane.
    perimeter: Name,
    source: Source,
    /// How many lanes could not carry it.
    asked: u16,
    /// Why the last of them could not.
    reason: DropReason,
    /// A virtio-net header, and the packet.
    buffer: Vec<u8>,
}

/// Whom an offered packet is from.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Source {
    /// An application on this host.
    Local,
    /// The same, for a peer that the lane cannot reach in which its conversation lives, and which let it pass.
    Judged { node: NodeId, revision: Revision },
    /// A peer, which proved that to the lane that opened it; so many packets in one.
    Peer { node: NodeId, segments: usize },
}

/// How a packet came to be asked about here.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Asked {
    /// It came out of this lane's own device or socket.
    First,
    /// So many lanes refused it.
    Refused(u16),
    /// So many lanes have no way to the peer.
    Unreachable(u16),
}

/// What this lane does with a packet for a peer.
enum Readiness {
    /// Judge and send it.
    Ready,
    /// A session begins: wait for it.
    Soon,
    /// Another lane is to send it.
    Elsewhere,
}

/// What waits between the lanes.
#[derive(Default)]
pub(crate) struct Lanes {
    offers: VecDeque<Offer>,
    /// Packets that wait for a session of this lane with their peer; since when.
    waiting: BTreeMap<PeerKey, (Instant, Vec<Offer>)>,
    silent: Silent,
}

impl Asked {
    fn lanes(self) -> u16 {
        match self {
            Self::First => 0,
            Self::Refused(lanes) | Self::Unreachable(lanes) => lanes,
        }
    }
}

impl Lanes {
    fn waiting_total(&self) -> usize {
        self.waiting.values().map(|(_, offers)| offers.len()).sum()
    }

    pub(crate) fn poll_timeout(&self) -> Option<Instant> {
        self.waiting.values().map(|(since, _)| *since + WAIT).min()
    }

    pub(crate) fn tables(&self, peers: usize) -> [TableSize; 2] {
        [
            TableSize::new("packets that wait for a lane", self.waiting_total(), WAITING_MAX),
            TableSize::new("peers silent in a lane", self.silent.len(), peers),
        ]
    }
}

impl Dataplane {
    /// The next packet that another lane is to be asked to carry: for [`Self::handle_offer`] of the lane with the next
    /// number, and of lane 0 after the last.
    pub fn poll_offer(&mut self) -> Option<Offer> {
        self.lanes.offers.pop_front()
    }

    /// A packet that the lane before this one could not carry.
    pub fn handle_offer(&mut self, offer: Offer, now: Instant) {
        self.close_what_has_ended(now);
        self.take_offer(offer, now);
        self.drain_wireguard(now);
    }

    /// Refuses a packet that the next lane has no room to be asked about.
    pub fn refuse_offer(&mut self, offer: Offer) {
        self.drops.count(offer.reason);
        self.outbox.recycle(offer.buffer);
    }

    fn take_offer(&mut self, mut offer: Offer, now: Instant) {
        let Some(id) = self.perimeters.get(&offer.perimeter).copied() else {
            offer.reason = DropReason::NoSegment;
            return self.refuse_offer(offer);
        };
        let asked = match offer.reason {
            DropReason::NoLane if offer.asked == 0 => Asked::First,
            DropReason::NoLane => Asked::Unreachable(offer.asked),
            _ => Asked::Refused(offer.asked),
        };
        match offer.source {
            Source::Local => {
                // What was refused is counted. A header that was read before is read the same again.
                if let Some((header, packet)) = offer.buffer.split_first_chunk_mut()
                    && let Ok(packet) = SuperPacket::parse(VnetHeader::decode(header), packet)
                {
                    let result = self.egress(id, Outgoing::Super(&packet), asked, now);
                    self.count_refused(result);
                }
                self.outbox.recycle(offer.buffer);
            }
            Source::Judged { node, revision } => self.send_for_another((id, node), offer, revision, now),
            Source::Peer { node, segments } => {
                self.note_detour((id, node), &offer.buffer, now);
                // What was refused is counted.
                let _ = self.pass_inwards((id, node), offer.buffer, segments, asked, now);
            }
        }
    }

    /// Whether a packet that this lane refuses may still be carried by another.
    pub(crate) fn may_be_elsewhere(&self, asked: Asked, reason: DropReason) -> bool {
        if self.config.lanes <= 1 || asked.lanes() + 1 >= self.config.lanes {
            return false;
        }
        match reason {
            DropReason::NoLane => true,
            DropReason::Refused(refusal) => match refusal {
                Refusal::NotAllowed
                | Refusal::UnsolicitedReply
                | Refusal::IcmpErrorWithoutFlow
                | Refusal::FragmentWithoutFirst => true,
                Refusal::FragmentOverlap | Refusal::TableFull => false,
            },
            _ => false,
        }
    }

    /// Gives the next lane a packet from this host.
    pub(crate) fn offer_outgoing(
        &mut self,
        id: SegmentId,
        outgoing: Outgoing<'_>,
        asked: Asked,
        reason: DropReason,
    ) {
        if let Some(mut offer) = self.outgoing_offer(id, outgoing, reason) {
            offer.asked = asked.lanes() + 1;
            self.lanes.offers.push_back(offer);
        }
    }

    fn outgoing_offer(&mut self, id: SegmentId, outgoing: Outgoing<'_>, reason: DropReason) -> Option<Offer> {
        let perimeter = self.segments.get(&id)?.perimeter.clone();
        let mut buffer = self.outbox.buffer();
        buffer.extend_from_slice(&outgoing.header().encode());
        buffer.extend_from_slice(outgoing.bytes());
        Some(Offer {
            perimeter,
            source: Source::Local,
            asked: 0,
            reason,
            buffer,
        })
    }

    /// Gives the next lane what a peer sent. `buffer` is what would be written to the TUN device.
    pub(crate) fn offer_incoming(
        &mut self,
        peer: PeerKey,
        buffer: Vec<u8>,
        segments: usize,
        asked: Asked,
        reason: DropReason,
    ) {
        let (id, node) = peer;
        debug_assert!(buffer.len() >= VNET_HEADER_BYTES, "a packet behind its header");
        if let Some(segment) = self.segments.get(&id) {
            self.lanes.offers.push_back(Offer {
                perimeter: segment.perimeter.clone(),
                source: Source::Peer { node, segments },
                asked: asked.lanes() + 1,
                reason,
                buffer,
            });
        }
    }

    /// Whether a packet was offered on, or waits, for want of a session in this lane, which is not lane 0. Before it is
    /// judged: what another lane carries leaves no flow here.
    pub(crate) fn is_for_another_lane(
        &mut self,
        id: SegmentId,
        outgoing: Outgoing<'_>,
        flow: Flow,
        asked: Asked,
        now: Instant,
    ) -> bool {
        // A lane that could send it refused it: what matters is where the conversation lives.
        if matches!(asked, Asked::Refused(_)) {
            return false;
        }
        let owner = self.segments.get(&id).map(|segment| addressee(segment, flow));
        let Some(Ok(peer)) = owner else {
            return false;
        };
        match self.readiness((id, peer), flow, asked, now) {
            Readiness::Ready => return false,
            Readiness::Soon => self.wait_for_lane((id, peer), outgoing, now),
            Readiness::Elsewhere => self.offer_outgoing(id, outgoing, asked, DropReason::NoLane),
        }
        true
    }

    /// A lane carries what lives in it, and what is new if it has a session; a new conversation waits for one, briefly.
    fn readiness(&mut self, peer: PeerKey, flow: Flow, asked: Asked, now: Instant) -> Readiness {
        let Some(segment) = self.segments.get(&peer.0) else {
            return Readiness::Ready;
        };
        let Some(known) = segment.peers.get(&peer.1) else {
            return Readiness::Ready;
        };
        let Some(slot) = known.slot else {
            return Readiness::Elsewhere;
        };
        let standing = self.standing(peer, slot, now);
        let segment = self.segments.get(&peer.0);
        let lives_here = || segment.is_some_and(|segment| segment.flows.contains(flow));
        match standing {
            Standing::Open => Readiness::Ready,
            // Judged here, and sent by another.
            Standing::Shut if lives_here() => Readiness::Ready,
            Standing::Opening if asked == Asked::First || lives_here() => {
                self.wireguard.start_handshake(slot, now);
                Readiness::Soon
            }
            Standing::Shut | Standing::Opening => Readiness::Elsewhere,
        }
    }

    /// Keeps a packet until this lane has a session with the peer, or has none in time.
    pub(crate) fn wait_for_lane(&mut self, peer: PeerKey, outgoing: Outgoing<'_>, now: Instant) {
        let Some(offer) = self.outgoing_offer(peer.0, outgoing, DropReason::NoLane) else {
            return;
        };
        if self.lanes.waiting_total() >= WAITING_MAX {
            self.lanes.silent.fall(peer, now);
            return self.take_offer(offer, now);
        }
        let waiting = self.lanes.waiting.entry(peer);
        waiting.or_insert_with(|| (now, Vec::new())).1.push(offer);
    }

    /// This lane has a session with a peer: what waited for it goes.
    pub(crate) fn lane_opened(&mut self, peer: PeerKey, now: Instant) {
        if self.config.lane == 0 {
            return;
        }
        self.lanes.silent.forget(peer);
        self.take_waiting(peer, now);
    }

    /// Gives up on sessions that did not come: another lane carries what waited for them, and what is to come.
    pub(crate) fn time_out_lanes(&mut self, now: Instant) {
        let overdue = self.lanes.waiting.iter();
        let overdue = overdue.filter(|(_, (since, _))| now >= *since + WAIT);
        for peer in overdue.map(|(peer, _)| *peer).collect::<Vec<_>>() {
            self.lanes.silent.fall(peer, now);
            self.take_waiting(peer, now);
        }
    }

    fn take_waiting(&mut self, peer: PeerKey, now: Instant) {
        let waited = self.lanes.waiting.remove(&peer);
        for offer in waited.into_iter().flat_map(|(_, offers)| offers) {
            self.take_offer(offer, now);
        }
    }

    /// A peer started anew, and may have fewer lanes than before: what this one knew of it is forgotten, so that nothing
    /// is sent into a session that nobody else has.
    pub(crate) fn begin_lane_anew(&mut self, peer: NodeId, now: Instant) {
        let candidates = self.candidates.get(&peer).cloned().unwrap_or_default();
        let candidates = self.underlay(&candidates);
        for id in self.segments.keys().copied().collect::<Vec<_>>() {
            self.detach(id, peer, now);
            let known = self
                .segments
                .get_mut(&id)
                .and_then(|segment| segment.peers.get_mut(&peer));
            if let Some(known) = known {
                known.path = Path::new(&candidates);
                self.open_or_close(id, now);
            }
        }
        self.drain_wireguard(now);
    }

    /// A peer that is gone waits for nothing.
    pub(crate) fn leave_lane(&mut self, peer: PeerKey) {
        self.lanes.silent.forget(peer);
        for offer in self
            .lanes
            .waiting
            .remove(&peer)
            .into_iter()
            .flat_map(|(_, offers)| offers)
        {
            self.drops.count(DropReason::Revoked);
            self.outbox.recycle(offer.buffer);
        }
    }
}

/// How long a packet waits for a session of its lane: longer than a handshake takes across a continent,
/// shorter than the second that TCP waits before it says its first word again.
const WAIT: Duration = Duration::from_millis(400);

/// Packets that wait for a session of a lane; past it they are another lane's at once.
const WAITING_MAX: usize = 512;
