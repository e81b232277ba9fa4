//! One node in several lanes: data planes side by side, each with a thread, a socket and sessions of its own.
//!
//! They share nothing. A packet that this lane cannot carry, because the conversation lives in another or because there
//! is no session with the peer here, is *offered on* to the next, as [`Offer`]; the shell carries it there. The lane
//! that is asked last refuses it, as the only lane of a node would.
//!
//! **Invariant:** an offered packet is judged by whoever takes it, by the rules in force there: an offer says only
//! where a packet came from. At most [`WAITING_MAX`] wait for the first session of a lane.

use std::collections::{BTreeMap, VecDeque};
use std::time::{Duration, Instant};

use ringfence_model::{Name, NodeId, TableSize};
use ringfence_packet::Flow;
use ringfence_packet::offload::{SuperPacket, VNET_HEADER_BYTES, VnetHeader};
use ringfence_path::Path;
use ringfence_policy::Refusal;

use crate::egress::{Outgoing, addressee};
use crate::pending::PeerKey;
use crate::{Dataplane, DropReason, SegmentId};

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
    /// Packets of new conversations, which wait for this lane's first session with their peer; since when.
    waiting: BTreeMap<PeerKey, (Instant, Vec<Offer>)>,
    /// Peers that did not answer in this lane, and until when the others carry what is for them.
    silent: BTreeMap<PeerKey, Instant>,
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
            Source::Peer { node, segments } => {
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

    /// A lane sends where the conversation lives in it, or where it has a session; a new conversation waits for one,
    /// briefly.
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
        if self.wireguard.sealer(slot, now).is_ok() || segment.flows.contains(flow) {
            return Readiness::Ready;
        }
        let is_silent = self.lanes.silent.get(&peer).is_some_and(|until| now < *until);
        if is_silent || known.path.handshake_endpoints(now).is_empty() || asked != Asked::First {
            return Readiness::Elsewhere;
        }
        self.wireguard.start_handshake(slot, now);
        Readiness::Soon
    }

    /// Keeps a packet of a new conversation until this lane has a session with the peer, or has none in time.
    fn wait_for_lane(&mut self, peer: PeerKey, outgoing: Outgoing<'_>, now: Instant) {
        if self.lanes.waiting_total() >= WAITING_MAX {
            return self.offer_outgoing(peer.0, outgoing, Asked::First, DropReason::NoLane);
        }
        if let Some(offer) = self.outgoing_offer(peer.0, outgoing, DropReason::NoLane) {
            let waiting = self.lanes.waiting.entry(peer);
            waiting.or_insert_with(|| (now, Vec::new())).1.push(offer);
        }
    }

    /// This lane has a session with a peer: what waited for it goes.
    pub(crate) fn lane_opened(&mut self, peer: PeerKey, now: Instant) {
        if self.config.lane == 0 {
            return;
        }
        self.lanes.silent.remove(&peer);
        let waited = self.lanes.waiting.remove(&peer);
        for offer in waited.into_iter().flat_map(|(_, offers)| offers) {
            self.take_offer(offer, now);
        }
    }

    /// Gives up on sessions that did not come: another lane carries what waited for them, and what is to come.
    pub(crate) fn time_out_lanes(&mut self, now: Instant) {
        if self.config.lane == 0 {
            return;
        }
        self.lanes.silent.retain(|_, until| now < *until);
        let overdue = self.lanes.waiting.iter();
        let overdue = overdue.filter(|(_, (since, _))| now >= *since + WAIT);
        for peer in overdue.map(|(peer, _)| *peer).collect::<Vec<_>>() {
            self.lanes.silent.insert(peer, now + SILENCE);
            let waited = self.lanes.waiting.remove(&peer);
            for mut offer in waited.into_iter().flat_map(|(_, offers)| offers) {
                offer.asked += 1;
                self.lanes.offers.push_back(offer);
            }
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
        self.lanes.silent.remove(&peer);
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

/// How long a new conversation waits for its lane's first session: longer than a handshake takes across a continent,
/// shorter than the second that TCP waits before it says its first word again.
const WAIT: Duration = Duration::from_millis(400);

/// How long other lanes carry what is for a peer that did not answer in this one. A session that comes all the same
/// ends it.
const SILENCE: Duration = Duration::from_mins(1);

/// Packets that wait for the first session of a lane; past it they are another lane's at once.
const WAITING_MAX: usize = 512;
