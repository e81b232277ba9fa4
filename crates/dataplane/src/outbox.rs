//! What waits for the shell, and the buffers that go round between the two.
//!
//! **Invariant:** the queues of packets hold what one `handle_*` call made, because the shell drains them before the
//! next. Events may wait longer, for a shell whose control side is busy: of those that peers decide the number of, at
//! most [`FLOWS_CLOSED_MAX`] ends of flows do, and one new session of each peer. The others come of the control side's
//! own doing, so there are few while it is busy. The pool keeps at most [`POOL_BUFFERS_MAX`] and hands out no bytes of
//! an earlier packet (every taker clears first).

use std::collections::{BTreeSet, VecDeque};

use ringfence_model::{Name, NodeId, SEGMENTS_PER_NODE_MAX, TableSize};
use ringfence_packet::offload::VNET_HEADER_BYTES;

use crate::transmit::{RUN_BUFFER_BYTES, Way};
use crate::{Event, PEERS_PER_SEGMENT_MAX, SegmentId, Transmit, TunPacket};

/// All queues towards the shell.
#[derive(Default)]
pub(crate) struct Outbox {
    transmits: VecDeque<Transmit>,
    tun: VecDeque<TunPacket>,
    events: VecDeque<Event>,
    /// How many of them are ends of flows.
    flows_closed: usize,
    /// Whose new sessions are among them.
    sessions: BTreeSet<(Name, NodeId)>,
    /// How many ends of flows found no room.
    pub(crate) flows_unreported: u64,
    pool: Vec<Vec<u8>>,
    /// Buffers of [`RUN_BUFFER_BYTES`], their length kept: clearing 64 KiB for each run would cost more than it sends.
    runs: Vec<Vec<u8>>,
    /// Buffers of the same size that come back from a TUN device as long as what was in them. Apart, so that nobody
    /// fills them up to the end for a packet that fills a fraction.
    growing: Vec<Vec<u8>>,
}

impl Outbox {
    pub(crate) fn transmit(&mut self, way: Way, datagram: Vec<u8>) {
        self.transmits.push_back(Transmit::single(way, datagram));
    }

    /// The run that a datagram of so many bytes is sealed into: the last one, if it goes that way and takes it.
    pub(crate) fn run(&mut self, way: Way, datagram_bytes: usize) -> &mut Transmit {
        let continues = self
            .transmits
            .back()
            .is_some_and(|run| run.goes(way) && run.takes(datagram_bytes));
        if !continues {
            let buffer = self.run_buffer();
            self.transmits.push_back(Transmit::empty(way, buffer));
        }
        let last = self.transmits.len() - 1;
        &mut self.transmits[last]
    }

    /// Bytes that wait for the socket.
    pub(crate) fn transmit_bytes(&self) -> usize {
        self.transmits.iter().map(|run| run.bytes().len()).sum()
    }

    /// Queues a packet of our own for a device.
    pub(crate) fn tun(&mut self, segment: SegmentId, packet: &[u8]) {
        // Many flows may end at once: past what the pool holds each notice takes no more than it needs.
        let mut buffer = self
            .pool
            .pop()
            .unwrap_or_else(|| Vec::with_capacity(VNET_HEADER_BYTES + packet.len()));
        buffer.resize(VNET_HEADER_BYTES, 0);
        buffer.extend_from_slice(packet);
        self.tun_buffer(segment, buffer);
    }

    /// Queues what lies behind a virtio-net header.
    pub(crate) fn tun_buffer(&mut self, segment: SegmentId, buffer: Vec<u8>) {
        self.tun.push_back(TunPacket { segment, buffer });
    }

    /// Queues an event. The end of a flow that finds no room is left out and counted: it is the oldest that
    /// tell how an attack began. A session that was made anew before the shell heard of it is told once.
    pub(crate) fn event(&mut self, event: Event) {
        match &event {
            Event::FlowClosed(_) if self.flows_closed >= FLOWS_CLOSED_MAX => {
                self.flows_unreported += 1;
                return;
            }
            Event::FlowClosed(_) => self.flows_closed += 1,
            Event::SessionEstablished { perimeter, peer } => {
                if !self.sessions.insert((perimeter.clone(), *peer)) {
                    return;
                }
            }
            Event::SegmentAdded(_)
            | Event::SegmentChanged(_)
            | Event::SegmentRemoved(_)
            | Event::SegmentOpened { .. }
            | Event::SegmentClosed { .. }
            | Event::KeyNeeded { .. }
            | Event::RegisterKey { .. }
            | Event::Enforced { .. }
            | Event::Pong(_)
            | Event::PingTimedOut { .. } => {}
        }
        self.events.push_back(event);
    }

    pub(crate) fn tables(&self) -> [TableSize; 5] {
        [
            TableSize::new("ends of flows to tell", self.flows_closed, FLOWS_CLOSED_MAX),
            TableSize::new("new sessions to tell", self.sessions.len(), SESSIONS_MAX),
            TableSize::new("idle buffers", self.pool.len(), POOL_BUFFERS_MAX),
            TableSize::new("idle buffers of runs", self.runs.len(), POOL_RUNS_MAX),
            TableSize::new(
                "idle buffers that packets grow in",
                self.growing.len(),
                POOL_RUNS_MAX,
            ),
        ]
    }

    pub(crate) fn poll_transmit(&mut self) -> Option<Transmit> {
        // A run into which nothing could be sealed is empty.
        while let Some(run) = self.transmits.pop_front() {
            if !run.bytes().is_empty() {
                return Some(run);
            }
            self.recycle(run.into_buffer());
        }
        None
    }

    pub(crate) fn poll_tun(&mut self) -> Option<TunPacket> {
        self.tun.pop_front()
    }

    pub(crate) fn poll_event(&mut self) -> Option<Event> {
        let event = self.events.pop_front()?;
        if matches!(event, Event::FlowClosed(_)) {
            self.flows_closed -= 1;
        }
        if let Event::SessionEstablished { perimeter, peer } = &event {
            self.sessions.remove(&(perimeter.clone(), *peer));
        }
        Some(event)
    }

    /// An empty buffer with room for a packet.
    pub(crate) fn buffer(&mut self) -> Vec<u8> {
        self.pool
            .pop()
            .unwrap_or_else(|| Vec::with_capacity(BUFFER_BYTES))
    }

    /// A buffer that is [`RUN_BUFFER_BYTES`] long, full of anything.
    pub(crate) fn run_buffer(&mut self) -> Vec<u8> {
        self.runs.pop().unwrap_or_else(|| vec![0; RUN_BUFFER_BYTES])
    }

    /// A buffer with room for [`RUN_BUFFER_BYTES`], with anything in it.
    pub(crate) fn growing_buffer(&mut self) -> Vec<u8> {
        self.growing
            .pop()
            .unwrap_or_else(|| Vec::with_capacity(RUN_BUFFER_BYTES))
    }

    /// Keeps a buffer for the next packet; odd sizes and what is over the bound go back to the allocator.
    pub(crate) fn recycle(&mut self, mut buffer: Vec<u8>) {
        if buffer.capacity() >= RUN_BUFFER_BYTES {
            let pool = if buffer.len() == RUN_BUFFER_BYTES {
                &mut self.runs
            } else {
                &mut self.growing
            };
            if pool.len() < POOL_RUNS_MAX && buffer.capacity() < 2 * RUN_BUFFER_BYTES {
                pool.push(buffer);
            }
            return;
        }
        let fits = (BUFFER_BYTES_MIN..=BUFFER_BYTES_MAX).contains(&buffer.capacity());
        if fits && self.pool.len() < POOL_BUFFERS_MAX {
            buffer.clear();
            self.pool.push(buffer);
        }
    }
}

/// How many idle buffers are kept: two batches of a fast shell.
pub(crate) const POOL_BUFFERS_MAX: usize = 256;

/// Ends of flows that may wait: as many as one change of policy can bring about in a segment.
pub(crate) const FLOWS_CLOSED_MAX: usize = ringfence_policy::FLOWS_MAX;

/// New sessions that may wait: one of each peer.
const SESSIONS_MAX: usize = SEGMENTS_PER_NODE_MAX * PEERS_PER_SEGMENT_MAX;

/// How many idle buffers of 64 KiB are kept for each way: 4 MiB in all.
pub(crate) const POOL_RUNS_MAX: usize = 32;

const BUFFER_BYTES: usize = 2048;
const BUFFER_BYTES_MIN: usize = 1536;
const BUFFER_BYTES_MAX: usize = 4096;

#[cfg(test)]
mod tests {
    use ringfence_model::{Name, NodeId, Revision, RuleId, UnixMillis};
    use ringfence_packet::{Flow, Protocol};
    use ringfence_policy::{CloseReason, Direction, FlowCounters};

    use super::*;
    use crate::FlowClosed;

    #[test]
    fn ends_of_flows_that_nobody_fetches_are_bounded_and_crowd_out_nothing_else() {
        let mut outbox = Outbox::default();
        let closed = FlowClosed {
            perimeter: Name::parse("db").unwrap(),
            peer: NodeId(1),
            flow: Flow {
                src: "100.64.0.1".parse().unwrap(),
                dst: "100.64.0.2".parse().unwrap(),
                protocol: Protocol::UDP,
                src_port: 1,
                dst_port: 2,
            },
            opened_by: Direction::Egress,
            rule: RuleId(1),
            revision: Revision::ZERO,
            opened_at: UnixMillis(1),
            closed_at: UnixMillis(2),
            why: CloseReason::Idle,
            counters: FlowCounters::default(),
        };

        for _ in 0..2 * FLOWS_CLOSED_MAX {
            outbox.event(Event::FlowClosed(closed.clone()));
        }
        outbox.event(Event::PingTimedOut { id: 7 });

        let events: Vec<Event> = std::iter::from_fn(|| outbox.poll_event()).collect();
        assert_eq!(events.len(), FLOWS_CLOSED_MAX + 1);
        assert_eq!(outbox.flows_unreported, FLOWS_CLOSED_MAX as u64);
        assert_eq!(events.last(), Some(&Event::PingTimedOut { id: 7 }));
        outbox.event(Event::FlowClosed(closed));
        assert!(outbox.poll_event().is_some());
    }

    #[test]
    fn a_peer_that_shakes_hands_without_end_is_told_of_once_until_someone_listens() {
        let mut outbox = Outbox::default();
        let session = |peer| Event::SessionEstablished {
            perimeter: Name::parse("db").unwrap(),
            peer: NodeId(peer),
        };

        for _ in 0..1_000 {
            outbox.event(session(1));
            outbox.event(session(2));
        }

        let events: Vec<Event> = std::iter::from_fn(|| outbox.poll_event()).collect();
        assert_eq!(events, [session(1), session(2)]);
        outbox.event(session(1));
        assert_eq!(outbox.poll_event(), Some(session(1)));
    }

    #[test]
    fn a_long_buffer_comes_back_as_it_was_and_is_not_filled_up() {
        let mut outbox = Outbox::default();
        let mut grown = outbox.growing_buffer();
        grown.resize(100, 7);
        let place = grown.as_ptr();
        let run = outbox.run_buffer();

        outbox.recycle(grown);
        outbox.recycle(run);

        let grown = outbox.growing_buffer();
        assert_eq!((grown.as_ptr(), grown.len()), (place, 100));
        assert_eq!(outbox.run_buffer().len(), RUN_BUFFER_BYTES);
    }

    #[test]
    fn the_pool_is_bounded_and_hands_out_empty_buffers() {
        let mut outbox = Outbox::default();

        for _ in 0..2 * POOL_BUFFERS_MAX {
            outbox.recycle(vec![7; BUFFER_BYTES]);
        }
        outbox.recycle(Vec::new());

        assert_eq!(outbox.pool.len(), POOL_BUFFERS_MAX);
        assert!(outbox.buffer().is_empty());
    }
}
