//! Packets that wait for a session.
//!
//! **Invariant:** at most [`PENDING_PACKETS_PER_PEER_MAX`] for one peer and [`PENDING_PACKETS_MAX`] for the node; the
//! oldest goes first, because what an application sent last is what it still waits for. boringtun's own queue of 256
//! per peer would let a thousand silent peers hold 330 MB.

use std::collections::{BTreeMap, VecDeque};
use std::time::{Duration, Instant};

use ringfence_model::{NodeId, TableSize};
use ringfence_packet::Flow;

use crate::SegmentId;

/// The packets of a whole node that wait, by peer.
#[derive(Default)]
pub(crate) struct Pending {
    queues: BTreeMap<PeerKey, VecDeque<Held>>,
    total: usize,
    /// When to look next for a packet that has waited too long: no later than there is one. Looking at every queue at
    /// every turn would cost more for each silent peer.
    look_at: Option<Instant>,
}

/// A peer of one segment: a peer in two perimeters has two sessions, so two queues.
pub(crate) type PeerKey = (SegmentId, NodeId);

/// One packet that waits: judged already, and dropped if its flow is closed meanwhile.
pub(crate) struct Held {
    pub(crate) flow: Flow,
    pub(crate) packet: Vec<u8>,
    since: Instant,
}

impl Pending {
    /// Holds a packet. What had to go for it comes back, for its buffer and to be counted.
    pub(crate) fn hold(&mut self, peer: PeerKey, flow: Flow, packet: Vec<u8>, now: Instant) -> Option<Held> {
        let queue = self.queues.entry(peer).or_default();
        queue.push_back(Held {
            flow,
            packet,
            since: now,
        });
        self.total += 1;
        self.look_at.get_or_insert(now + PENDING_AGE_MAX);
        if queue.len() > PENDING_PACKETS_PER_PEER_MAX {
            return self.pop(peer);
        }
        if self.total > PENDING_PACKETS_MAX {
            // The longest queue pays: a flood towards one silent peer does not cost another peer its first packet.
            let longest = self.queues.iter().max_by_key(|(_, queue)| queue.len());
            let longest = longest.map(|(peer, _)| *peer)?;
            return self.pop(longest);
        }
        None
    }

    /// The oldest packet for `peer`.
    pub(crate) fn pop(&mut self, peer: PeerKey) -> Option<Held> {
        let queue = self.queues.get_mut(&peer)?;
        let held = queue.pop_front();
        if queue.is_empty() {
            self.queues.remove(&peer);
        }
        if self.queues.is_empty() {
            self.look_at = None;
        }
        self.total -= usize::from(held.is_some());
        held
    }

    pub(crate) fn tables(&self) -> [TableSize; 2] {
        let longest = self.queues.values().map(VecDeque::len).max().unwrap_or(0);
        [
            TableSize::new("packets that wait for a session", self.total, PENDING_PACKETS_MAX),
            TableSize::new(
                "packets that wait for one session",
                longest,
                PENDING_PACKETS_PER_PEER_MAX,
            ),
        ]
    }

    /// Whether anything waits for `peer`.
    pub(crate) fn is_waiting(&self, peer: PeerKey) -> bool {
        self.queues.contains_key(&peer)
    }

    /// The oldest packet that has waited for [`PENDING_AGE_MAX`].
    pub(crate) fn pop_aged(&mut self, now: Instant) -> Option<Held> {
        if self.look_at.is_none_or(|at| now < at) {
            return None;
        }
        let aged = self.queues.iter().find_map(|(peer, queue)| {
            let front = queue.front()?;
            (now >= front.since + PENDING_AGE_MAX).then_some(*peer)
        });
        let Some(aged) = aged else {
            let fronts = self.queues.values().filter_map(|queue| queue.front());
            self.look_at = fronts.map(|held| held.since + PENDING_AGE_MAX).min();
            return None;
        };
        self.pop(aged)
    }

    /// When the next packet may have waited too long.
    pub(crate) fn poll_timeout(&self) -> Option<Instant> {
        self.look_at
    }

    /// Drops the packets of `segment` whose flow `keep` refuses: they were judged by rules that are no more.
    pub(crate) fn retain(&mut self, segment: SegmentId, keep: impl Fn(Flow) -> bool) -> Vec<Held> {
        let mut gone = Vec::new();
        for queue in self
            .queues
            .range_mut((segment, NodeId(0))..=(segment, NodeId(u64::MAX)))
        {
            let (kept, dropped) = queue.1.drain(..).partition(|held| keep(held.flow));
            *queue.1 = kept;
            let dropped: VecDeque<Held> = dropped;
            gone.extend(dropped);
        }
        self.queues.retain(|_, queue| !queue.is_empty());
        self.total -= gone.len();
        if self.queues.is_empty() {
            self.look_at = None;
        }
        gone
    }
}

/// The most packets one silent peer holds: the first flight of a few connections.
pub(crate) const PENDING_PACKETS_PER_PEER_MAX: usize = 32;

/// The most packets all silent peers hold together: 3 MB of full-size packets.
pub(crate) const PENDING_PACKETS_MAX: usize = 2048;

/// A packet older than this answers a question nobody asks any more: two handshake attempts (whitepaper 6.1) have failed.
pub(crate) const PENDING_AGE_MAX: Duration = Duration::from_secs(12);

#[cfg(test)]
mod tests {
    use super::*;

    fn flow() -> Flow {
        Flow {
            src: "100.64.0.1".parse().unwrap(),
            dst: "100.64.0.2".parse().unwrap(),
            protocol: ringfence_packet::Protocol::UDP,
            src_port: 1,
            dst_port: 2,
        }
    }

    #[expect(clippy::disallowed_methods, reason = "tests need some instant to start from")]
    fn start() -> Instant {
        Instant::now()
    }

    fn hold(pending: &mut Pending, peer: u64, byte: u8, now: Instant) -> Option<u8> {
        let gone = pending.hold((SegmentId(0), NodeId(peer)), flow(), vec![byte], now);
        gone.map(|held| held.packet[0])
    }

    #[test]
    fn a_silent_peer_drops_its_oldest_packet() {
        let (mut pending, now) = (Pending::default(), start());

        for byte in 0..PENDING_PACKETS_PER_PEER_MAX as u8 {
            assert_eq!(hold(&mut pending, 1, byte, now), None);
        }

        assert_eq!(hold(&mut pending, 1, 99, now), Some(0));
        assert_eq!(pending.total, PENDING_PACKETS_PER_PEER_MAX);
    }

    #[test]
    fn the_node_is_bounded_and_the_longest_queue_pays() {
        let (mut pending, now) = (Pending::default(), start());
        let peers = (PENDING_PACKETS_MAX / PENDING_PACKETS_PER_PEER_MAX) as u64;
        for peer in 0..peers {
            for byte in 0..PENDING_PACKETS_PER_PEER_MAX as u8 {
                hold(&mut pending, peer, byte, now);
            }
        }

        assert!(hold(&mut pending, 500, 7, now).is_some());
        assert_eq!(pending.total, PENDING_PACKETS_MAX);
        let first = pending.pop((SegmentId(0), NodeId(500))).unwrap();
        assert_eq!(first.packet, [7]);
    }

    #[test]
    fn packets_age_out() {
        let (mut pending, now) = (Pending::default(), start());
        hold(&mut pending, 1, 1, now);

        assert!(pending.pop_aged(now).is_none());
        assert_eq!(pending.poll_timeout(), Some(now + PENDING_AGE_MAX));
        assert!(pending.pop_aged(now + PENDING_AGE_MAX).is_some());
        assert_eq!((pending.total, pending.poll_timeout()), (0, None));
    }

    #[test]
    fn a_segment_drops_only_its_own() {
        let (mut pending, now) = (Pending::default(), start());
        pending.hold((SegmentId(1), NodeId(1)), flow(), vec![1], now);
        pending.hold((SegmentId(2), NodeId(1)), flow(), vec![2], now);

        let gone = pending.retain(SegmentId(1), |_| false);

        assert_eq!((gone.len(), pending.total), (1, 1));
        assert!(pending.pop((SegmentId(2), NodeId(1))).is_some());
    }
}
