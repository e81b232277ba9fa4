//! The node as a value: what the shell calls, and the queues it drains.
//!
//! **Invariant:** no packet is judged by a lease or rule that has ended, however late the shell's timer is: every
//! entry point looks at the next deadline first.

use std::collections::BTreeMap;
use std::time::Instant;

use rand::SeedableRng as _;
use rand_chacha::ChaCha20Rng;
use ringfence_model::{Candidate, Name, NodeId, PrivateKey, PublicKey, Revision, UnixMillis};
use ringfence_packet::Flow;
use ringfence_policy::FlowTable;
use ringfence_wg::{SlotMap, WireGuard};

use crate::gathering::Gathering;
use crate::lanes::Lanes;
use crate::netmap::InForce;
use crate::outbox::Outbox;
use crate::pending::{PeerKey, Pending};
use crate::ping::Pings;
use crate::reset::Endings;
use crate::segment::{Gate, Segment};
use crate::{DataplaneConfig, DropCounters, DropReason, Event, SegmentId, Transmit, TunPacket};

/// One node: all its segments behind one UDP socket, without the socket.
///
/// Call one `handle_*`, then drain [`Self::poll_transmit`], [`Self::poll_tun`], with several lanes
/// [`Self::poll_offer`], and, last, [`Self::poll_event`]: an event
/// may remove the TUN device that a reset was written for. Then wait for the socket, the TUN devices, the controller,
/// or [`Self::poll_timeout`].
pub struct Dataplane {
    pub(crate) config: DataplaneConfig,
    pub(crate) in_force: Option<InForce>,
    pub(crate) wireguard: WireGuard,
    pub(crate) segments: BTreeMap<SegmentId, Segment>,
    pub(crate) perimeters: BTreeMap<Name, SegmentId>,
    /// Whose slot in WireGuard is whose. A peer in two perimeters has two.
    pub(crate) slots: SlotMap<PeerKey>,
    pub(crate) keys: BTreeMap<Name, PrivateKey>,
    pub(crate) candidates: BTreeMap<NodeId, Vec<Candidate>>,
    /// Of each peer, a number that changes when it loses its sessions.
    pub(crate) epochs: BTreeMap<NodeId, u64>,
    pub(crate) pending: Pending,
    pub(crate) pings: Pings,
    pub(crate) outbox: Outbox,
    /// What was opened and may still grow before it goes to a TUN device.
    pub(crate) gathering: Gathering,
    /// Where a packet is made ready to be sealed.
    pub(crate) scratch: Vec<u8>,
    /// What goes to other lanes of this node, or waits for this one.
    pub(crate) lanes: Lanes,
    /// Flows that have ended and nobody was told of yet.
    pub(crate) endings: Endings,
    pub(crate) drops: DropCounters,
    pub(crate) rng: ChaCha20Rng,
    pub(crate) segments_made: u32,
    /// When the next lease or rule ends.
    pub(crate) deadline: Option<Instant>,
    /// No later than any flow table's next deadline: asking all of them at every turn would cost more for each segment.
    pub(crate) flow_deadline: Option<Instant>,
}

impl Dataplane {
    /// A node without a netmap: it passes nothing. `seed` is fresh randomness.
    pub fn new(config: DataplaneConfig, seed: [u8; 32]) -> Self {
        let mut rng = ChaCha20Rng::from_seed(seed);
        let wireguard_seed = rand::Rng::random(&mut rng);
        Self {
            config: config.bounded(),
            in_force: None,
            wireguard: WireGuard::new(wireguard_seed),
            segments: BTreeMap::new(),
            perimeters: BTreeMap::new(),
            slots: SlotMap::default(),
            keys: BTreeMap::new(),
            candidates: BTreeMap::new(),
            epochs: BTreeMap::new(),
            pending: Pending::default(),
            pings: Pings::default(),
            outbox: Outbox::default(),
            gathering: Gathering::default(),
            scratch: Vec::new(),
            lanes: Lanes::default(),
            endings: Endings::default(),
            drops: DropCounters::default(),
            rng,
            segments_made: 0,
            deadline: None,
            flow_deadline: None,
        }
    }

    /// The controller spoke: every lease starts anew, and what had closed opens again.
    pub fn handle_lease(&mut self, now: Instant) {
        self.close_what_has_ended(now);
        let ids: Vec<SegmentId> = self.segments.keys().copied().collect();
        for id in ids {
            if let Some(segment) = self.segments.get_mut(&id) {
                segment.lease.renew(now);
            }
            self.open_or_close(id, now);
        }
        self.schedule(now);
        self.drain_wireguard(now);
    }

    /// The controller disowned this node: every lease ends now. Its next word opens again what it has a netmap for.
    pub fn end_leases(&mut self, now: Instant) {
        let ids: Vec<SegmentId> = self.segments.keys().copied().collect();
        for id in ids {
            if let Some(segment) = self.segments.get_mut(&id) {
                segment.lease.end(now);
            }
            self.open_or_close(id, now);
        }
        self.schedule(now);
        self.drain_wireguard(now);
    }

    /// Moves time forward: ends leases, rules, flows and waiting; re-keys and retries handshakes.
    ///
    /// Call when [`Self::poll_timeout`] is due. Calling early is harmless.
    pub fn handle_timeout(&mut self, now: Instant) {
        self.close_what_has_ended(now);
        self.tell_endings(now);
        let ids: Vec<SegmentId> = self.segments.keys().copied().collect();
        for id in ids {
            if let Some(segment) = self.segments.get_mut(&id) {
                let closed = segment.flows.handle_timeout(now);
                self.end_flows(id, closed, now);
            }
        }
        self.flow_deadline = self.first_flow_deadline();
        while let Some(held) = self.pending.pop_aged(now) {
            self.drops.count(DropReason::NoSessionInTime);
            self.outbox.recycle(held.packet);
        }
        self.time_out_lanes(now);
        self.time_out_pings(now);
        self.wireguard.handle_timeout(now);
        self.drain_wireguard(now);
    }

    /// When this node next needs [`Self::handle_timeout`], or `None` if nothing is pending.
    pub fn poll_timeout(&self) -> Option<Instant> {
        debug_assert!(
            self.first_flow_deadline()
                .is_none_or(|first| self.flow_deadline.is_some_and(|noted| noted <= first)),
            "a flow table's deadline was not noted"
        );
        let due = [
            self.deadline,
            self.endings.poll_timeout(),
            self.flow_deadline,
            self.wireguard.poll_timeout(),
            self.pending.poll_timeout(),
            self.pings.poll_timeout(),
            self.lanes.poll_timeout(),
        ];
        due.into_iter().flatten().min()
    }

    fn first_flow_deadline(&self) -> Option<Instant> {
        let tables = self.segments.values().map(|segment| &segment.flows);
        tables.filter_map(FlowTable::poll_timeout).min()
    }

    /// The next datagram for the socket.
    pub fn poll_transmit(&mut self) -> Option<Transmit> {
        self.outbox.poll_transmit()
    }

    /// How many bytes wait in [`Self::poll_transmit`]: a shell that reads on may let small ones gather.
    pub fn transmit_bytes_waiting(&self) -> usize {
        self.outbox.transmit_bytes()
    }

    /// The next packet for a TUN device.
    pub fn poll_tun(&mut self) -> Option<TunPacket> {
        self.outbox.poll_tun()
    }

    /// The next event.
    pub fn poll_event(&mut self) -> Option<Event> {
        self.outbox.poll_event()
    }

    /// Takes back the buffer of a [`Transmit`] or [`TunPacket`]: without, every packet costs an allocation.
    pub fn recycle(&mut self, buffer: Vec<u8>) {
        self.outbox.recycle(buffer);
    }

    /// How many packets were refused, by reason.
    pub fn drops(&self) -> &DropCounters {
        &self.drops
    }

    /// How many ends of flows were never told, because too many waited for a shell that did not fetch them.
    pub fn flows_unreported(&self) -> u64 {
        self.outbox.flows_unreported
    }

    /// Whether a conversation is live; either end's view of it will do.
    pub fn has_flow(&self, perimeter: &Name, flow: Flow) -> bool {
        self.segment_of(perimeter)
            .is_some_and(|segment| segment.flows.contains(flow))
    }

    /// The revision in force.
    pub fn revision(&self) -> Option<Revision> {
        self.in_force.as_ref().map(|in_force| in_force.revision)
    }

    /// This node's public key in a perimeter.
    pub fn public_key(&self, perimeter: &Name) -> Option<PublicKey> {
        self.keys.get(perimeter).map(PrivateKey::public_key)
    }

    pub(crate) fn segment_of(&self, perimeter: &Name) -> Option<&Segment> {
        self.segments.get(self.perimeters.get(perimeter)?)
    }

    pub(crate) fn next_segment_id(&mut self) -> SegmentId {
        let id = SegmentId(self.segments_made);
        self.segments_made += 1;
        id
    }

    /// The revision in force and the controller's wall clock. Before any netmap there are no segments that ask.
    pub(crate) fn revision_and_wall(&self, now: Instant) -> (Revision, UnixMillis) {
        let in_force = self.in_force.as_ref();
        in_force.map_or((Revision::ZERO, UnixMillis(u64::MAX)), |in_force| {
            (in_force.revision, in_force.wall(now))
        })
    }

    /// Works out the next deadline. Call after anything that moves a lease or a rule.
    pub(crate) fn schedule(&mut self, now: Instant) {
        let (_, wall) = self.revision_and_wall(now);
        let deadlines = self
            .segments
            .values()
            .filter_map(|segment| segment.next_deadline(now, wall));
        self.deadline = deadlines.min();
    }

    /// Ends what has had its time. One comparison while nothing has.
    pub(crate) fn close_what_has_ended(&mut self, now: Instant) {
        if self.deadline.is_none_or(|deadline| now < deadline) {
            return;
        }
        let (_, wall) = self.revision_and_wall(now);
        let ids: Vec<SegmentId> = self.segments.keys().copied().collect();
        for id in ids {
            self.open_or_close(id, now);
            if let Some(segment) = self.segments.get_mut(&id) {
                segment.rules.forget_expired(wall);
                let closed = segment.flows.rejudge(&segment.rules, wall);
                self.end_flows(id, closed, now);
            }
            self.drop_orphans(id);
        }
        self.schedule(now);
    }

    /// Brings a segment's gate in line with its lease.
    pub(crate) fn open_or_close(&mut self, id: SegmentId, now: Instant) {
        let Some(segment) = self.segments.get(&id) else {
            return;
        };
        match (segment.gate, segment.lease.has_ended(now)) {
            (Gate::Open, true) => self.close_segment(id, now),
            (Gate::Closed, false) => self.open_segment(id, now),
            (Gate::Open, false) => self.attach_all(id, now),
            (Gate::Closed, true) => {}
        }
    }

    fn open_segment(&mut self, id: SegmentId, now: Instant) {
        if let Some(segment) = self.segments.get_mut(&id) {
            segment.gate = Gate::Open;
            let perimeter = segment.perimeter.clone();
            self.outbox.event(Event::SegmentOpened {
                segment: id,
                perimeter,
            });
        }
        self.attach_all(id, now);
    }

    /// Ends every flow with resets, then takes every key away: from now on each packet drops.
    pub(crate) fn close_segment(&mut self, id: SegmentId, now: Instant) {
        let Some(segment) = self.segments.get_mut(&id) else {
            return;
        };
        if segment.gate == Gate::Closed {
            return;
        }
        let closed = segment.flows.close_all();
        let perimeter = segment.perimeter.clone();
        self.end_flows(id, closed, now);
        self.tell_all_endings(now);
        self.detach_all(id, now);
        if let Some(segment) = self.segments.get_mut(&id) {
            segment.gate = Gate::Closed;
        }
        self.drop_orphans(id);
        self.outbox.event(Event::SegmentClosed {
            segment: id,
            perimeter,
        });
    }
}
