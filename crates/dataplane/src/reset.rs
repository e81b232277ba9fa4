//! Ends conversations that may not go on, so that both applications learn of it at once.
//!
//! TCP gets an RST that lands exactly on the next expected byte at each end (RFC 5961 section 3.2), everything else an
//! ICMP error. The peer's copy travels in the session, so it is sealed before the session's keys go.

use std::collections::VecDeque;
use std::time::Instant;

use ringfence_model::TableSize;
use ringfence_policy::{ClosedFlow, FLOWS_MAX};

use crate::{Dataplane, DropReason, Event, FlowClosed, SegmentId};

/// Conversations that have ended, and whose ends have yet to hear of it.
///
/// **Invariant:** they are out of the flow table, so nothing of them passes, told or not.
#[derive(Default)]
pub(crate) struct Endings {
    waiting: VecDeque<(SegmentId, ClosedFlow)>,
    /// When the last were told of: the others follow at once, but behind the packets that have come meanwhile.
    last_told: Option<Instant>,
}

impl Endings {
    pub(crate) fn poll_timeout(&self) -> Option<Instant> {
        self.last_told.filter(|_| !self.waiting.is_empty())
    }

    pub(crate) fn table(&self) -> TableSize {
        TableSize::new("ends of flows to reset", self.waiting.len(), FLOWS_MAX)
    }
}

impl Dataplane {
    /// Records flows that ended, and tells both ends of those that policy cut. Of many at once it tells the first
    /// [`ENDINGS_PER_STEP`]; [`Self::tell_endings`] goes on.
    pub(crate) fn end_flows(&mut self, id: SegmentId, closed: Vec<ClosedFlow>, now: Instant) {
        if let Some(segment) = self.segments.get(&id) {
            self.flow_deadline = earlier(self.flow_deadline, segment.flows.poll_timeout());
        }
        if closed.is_empty() {
            return;
        }
        let endings = closed.into_iter().map(|flow| (id, flow));
        self.endings.waiting.extend(endings);
        let excess = self.endings.waiting.len().saturating_sub(FLOWS_MAX);
        self.tell_first_endings(ENDINGS_PER_STEP.max(excess), now);
    }

    /// Tells of some more flows that have ended.
    pub(crate) fn tell_endings(&mut self, now: Instant) {
        self.tell_first_endings(ENDINGS_PER_STEP, now);
    }

    /// Tells of all of them: before a segment or a session goes that they are told through.
    pub(crate) fn tell_all_endings(&mut self, now: Instant) {
        self.tell_first_endings(usize::MAX, now);
    }

    fn tell_first_endings(&mut self, most: usize, now: Instant) {
        for _ in 0..most {
            let Some((id, flow)) = self.endings.waiting.pop_front() else {
                return;
            };
            self.end_flow(id, &flow, now);
        }
        self.endings.last_told = Some(now);
    }

    /// The same for flows that the flow table found to have ended while it judged a packet.
    pub(crate) fn end_flows_found(&mut self, id: SegmentId, now: Instant) {
        while let Some(segment) = self.segments.get_mut(&id) {
            self.flow_deadline = earlier(self.flow_deadline, segment.flows.poll_timeout());
            let Some(flow) = segment.flows.poll_closed() else {
                return;
            };
            self.end_flow(id, &flow, now);
        }
    }

    fn end_flow(&mut self, id: SegmentId, closed: &ClosedFlow, now: Instant) {
        let Some(segment) = self.segments.get(&id) else {
            return;
        };
        let (_, wall) = self.revision_and_wall(now);
        let peer = segment.peers.get(&closed.peer);
        let slot = peer.and_then(|peer| peer.slot);
        self.outbox.event(Event::FlowClosed(FlowClosed {
            perimeter: segment.perimeter.clone(),
            peer: closed.peer,
            flow: closed.flow,
            opened_by: closed.opened_by,
            rule: closed.rule,
            revision: closed.revision,
            opened_at: closed.opened_at,
            closed_at: wall,
            why: closed.why,
            counters: closed.counters,
        }));
        for notice in closed.notices_to_local() {
            self.outbox.tun(id, &notice);
        }
        let Some(slot) = slot else {
            return;
        };
        for notice in closed.notices_to_peer() {
            if self.seal(slot, &notice, now).is_err() {
                // No session, so nobody to tell: the peer's own data plane does.
                return;
            }
        }
    }

    /// Drops what waits for a session though its flow is gone.
    pub(crate) fn drop_orphans(&mut self, id: SegmentId) {
        let Some(segment) = self.segments.get(&id) else {
            return;
        };
        for held in self.pending.retain(id, |flow| segment.flows.contains(flow)) {
            self.drops.count(DropReason::Revoked);
            self.outbox.recycle(held.packet);
        }
    }
}

/// The earlier of two deadlines that there may be.
fn earlier(one: Option<Instant>, other: Option<Instant>) -> Option<Instant> {
    [one, other].into_iter().flatten().min()
}

/// Of so many flows both ends are told at once: a few milliseconds' work, and as many small packets to hold.
const ENDINGS_PER_STEP: usize = 1_024;
