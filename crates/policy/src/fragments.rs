//! Which fragmented packets are under way, so that later fragments follow their first one's verdict.
//!
//! **Invariant:** a later fragment passes only while its packet's first fragment has passed, its flow still lives,
//! and no byte of the packet has passed before. One overlap condemns the whole packet (RFC 5722). A peer's flood evicts
//! only its own packets.

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use ringfence_model::{NodeId, TableSize};
use ringfence_packet::{Flow, Fragment, FragmentKey, Tail};

use crate::Refusal;
use crate::flow_store::FlowKey;

/// The fragmented packets of one segment.
#[derive(Debug, Default)]
pub(crate) struct Fragments {
    packets: BTreeMap<(NodeId, FragmentKey), Reassembly>,
}

/// Whose a fragmented packet is, as its first fragment says.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct First {
    /// The conversation.
    pub(crate) key: FlowKey,
    /// The packet's own flow in it.
    pub(crate) flow: Flow,
}

/// What has passed of one packet.
#[derive(Debug)]
struct Reassembly {
    first: First,
    /// Byte ranges that have passed, disjoint, sorted, none touching the next.
    passed: Vec<Range>,
    /// Where the packet ends, once its last fragment has passed.
    total: Option<u32>,
    condition: Condition,
    deadline: Instant,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Condition {
    Sound,
    /// Two fragments overlapped: nothing more of it passes.
    Condemned,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Range {
    start: u32,
    end: u32,
}

impl Fragments {
    /// Takes note of a first fragment whose flow may pass.
    pub(crate) fn open(
        &mut self,
        peer: NodeId,
        fragment: Fragment,
        first: First,
        now: Instant,
    ) -> Result<(), Refusal> {
        if let Some(packet) = self.packets.get_mut(&(peer, fragment.key))
            && now < packet.deadline
        {
            packet.condition = Condition::Condemned;
            return Err(Refusal::FragmentOverlap);
        }
        self.make_room(peer)?;
        let packet = Reassembly {
            first,
            passed: vec![Range {
                start: 0,
                end: fragment.end,
            }],
            total: None,
            condition: Condition::Sound,
            deadline: now + REASSEMBLY_TIME,
        };
        self.packets.insert((peer, fragment.key), packet);
        Ok(())
    }

    /// Whose packet a later fragment belongs to. Counts it as passed.
    pub(crate) fn follow(&mut self, peer: NodeId, later: Fragment, now: Instant) -> Result<First, Refusal> {
        let key = (peer, later.key);
        let Some(packet) = self.packets.get_mut(&key) else {
            return Err(Refusal::FragmentWithoutFirst);
        };
        if now >= packet.deadline {
            self.packets.remove(&key);
            return Err(Refusal::FragmentWithoutFirst);
        }
        if packet.condition == Condition::Condemned || !packet.accept(later) {
            packet.condition = Condition::Condemned;
            return Err(Refusal::FragmentOverlap);
        }
        let first = packet.first;
        if packet.is_complete() {
            self.packets.remove(&key);
        }
        Ok(first)
    }

    pub(crate) fn close_peer(&mut self, peer: NodeId) {
        self.packets.retain(|(owner, _), _| *owner != peer);
    }

    pub(crate) fn clear(&mut self) {
        self.packets.clear();
    }

    pub(crate) fn expire(&mut self, now: Instant) {
        self.packets.retain(|_, packet| now < packet.deadline);
    }

    pub(crate) fn next_deadline(&self) -> Option<Instant> {
        self.packets.values().map(|packet| packet.deadline).min()
    }

    pub(crate) fn tables(&self) -> [TableSize; 3] {
        let mut most = 0;
        let (mut peer, mut of_peer) = (None, 0);
        for (owner, _) in self.packets.keys() {
            of_peer = if peer == Some(*owner) { of_peer + 1 } else { 1 };
            peer = Some(*owner);
            most = most.max(of_peer);
        }
        let ranges = self.packets.values().map(|packet| packet.passed.len());
        [
            TableSize::new("fragmented packets", self.packets.len(), FRAGMENTED_PACKETS_MAX),
            TableSize::new(
                "fragmented packets of a peer",
                most,
                FRAGMENTED_PACKETS_PER_PEER_MAX,
            ),
            TableSize::new(
                "ranges of a fragmented packet",
                ranges.max().unwrap_or(0),
                HOLES_MAX,
            ),
        ]
    }

    /// Evicts the peer's own oldest packet if it has its share, or the table is full and the peer has any.
    fn make_room(&mut self, peer: NodeId) -> Result<(), Refusal> {
        let own = (peer, FragmentKey::MIN)..=(peer, FragmentKey::MAX);
        let count = self.packets.range(own.clone()).count();
        if count < FRAGMENTED_PACKETS_PER_PEER_MAX && self.packets.len() < FRAGMENTED_PACKETS_MAX {
            return Ok(());
        }
        let oldest = self.packets.range(own).min_by_key(|(_, packet)| packet.deadline);
        let Some(key) = oldest.map(|(key, _)| *key) else {
            return Err(Refusal::TableFull);
        };
        self.packets.remove(&key);
        Ok(())
    }
}

impl Reassembly {
    /// Adds a range; `false` if it meets one that has passed, contradicts the packet's end or leaves too many holes.
    fn accept(&mut self, fragment: Fragment) -> bool {
        let ends_past = self.total.is_some_and(|total| fragment.end > total);
        if ends_past {
            return false;
        }
        if fragment.tail == Tail::Last {
            let passed_beyond = self.passed.last().is_some_and(|range| range.end > fragment.start);
            if self.total.is_some() || passed_beyond {
                return false;
            }
            self.total = Some(fragment.end);
        }
        let range = Range {
            start: fragment.start,
            end: fragment.end,
        };
        self.insert(range)
    }

    fn insert(&mut self, range: Range) -> bool {
        let place = self.passed.partition_point(|known| known.end <= range.start);
        if self.passed.get(place).is_some_and(|next| next.start < range.end) {
            return false;
        }
        let joins_before = place > 0 && self.passed[place - 1].end == range.start;
        let joins_after = self.passed.get(place).is_some_and(|next| next.start == range.end);
        match (joins_before, joins_after) {
            (true, true) => {
                self.passed[place - 1].end = self.passed[place].end;
                self.passed.remove(place);
            }
            (true, false) => self.passed[place - 1].end = range.end,
            (false, true) => self.passed[place].start = range.start,
            (false, false) if self.passed.len() == HOLES_MAX => return false,
            (false, false) => self.passed.insert(place, range),
        }
        true
    }

    fn is_complete(&self) -> bool {
        let [only] = self.passed.as_slice() else {
            return false;
        };
        self.total == Some(only.end)
    }
}

/// How long a packet may take to arrive: the longest any receiver waits (RFC 8200 section 4.5), so that we never
/// forget a first fragment which it still holds.
pub(crate) const REASSEMBLY_TIME: Duration = Duration::from_mins(1);
/// Fragmented packets under way from and to one peer; when full, its oldest goes.
pub(crate) const FRAGMENTED_PACKETS_PER_PEER_MAX: usize = 64;
/// Fragmented packets under way in a segment; when full, the peer's oldest goes, and a peer with none is refused.
pub(crate) const FRAGMENTED_PACKETS_MAX: usize = 8_192;
/// Ranges kept of one packet; a packet with more holes than this is condemned.
const HOLES_MAX: usize = 64;
