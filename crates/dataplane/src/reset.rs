//! Ends conversations that may not go on, so that both applications learn of it at once.
//!
//! TCP gets an RST that lands exactly on the next expected byte at each end (RFC 5961 section 3.2), everything else an
//! ICMP error. The peer's copy travels in the session, so it is sealed before the session's keys go.

use std::time::Instant;

use ringfence_policy::ClosedFlow;

use crate::{Dataplane, DropReason, Event, FlowClosed, SegmentId};

impl Dataplane {
    /// Records flows that ended, and tells both ends of those that policy cut.
    pub(crate) fn end_flows(&mut self, id: SegmentId, closed: Vec<ClosedFlow>, now: Instant) {
        for flow in closed {
            self.end_flow(id, &flow, now);
        }
    }

    /// The same for flows that the flow table found to have ended while it judged a packet.
    pub(crate) fn end_flows_found(&mut self, id: SegmentId, now: Instant) {
        while let Some(flow) = self
            .segments
            .get_mut(&id)
            .and_then(|segment| segment.flows.poll_closed())
        {
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
