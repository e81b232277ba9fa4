//! Holds the flow records: found by key, by peer and by age, each in constant time.
//!
//! A packet costs one hash lookup. Records of one peer in one phase hang on a list in the order of their last packet,
//! so the head of a list is both the next to time out and the first to evict.
//!
//! **Invariant:** at most [`FLOWS_PER_PEER_MAX`] records a peer and [`FLOWS_MAX`] in all. A full table evicts from the
//! peer that holds most, so a flood costs only those who flood.

use std::collections::BTreeMap;
use std::hash::Hasher;
use std::net::IpAddr;
use std::time::{Duration, Instant};

use hashbrown::HashTable;
use ringfence_model::sabotage::{Safeguard, is_off};
use ringfence_model::{NodeId, TableSize};
use ringfence_packet::{Flow, Protocol};
use siphasher::sip::SipHasher13;

use crate::flow_record::FlowRecord;

/// The records of one segment.
#[derive(Debug)]
pub(crate) struct FlowStore {
    hasher: SipHasher13,
    index: HashTable<u32>,
    slots: Vec<Slot>,
    /// Head of the list of empty slots, linked by `after`.
    free: Option<u32>,
    peers: BTreeMap<NodeId, PeerFlows>,
}

/// What a flow is waiting for, which decides how long it may stay silent.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Phase {
    TcpClosed,
    TcpOpening,
    UdpOpening,
    Echo,
    UdpAnswered,
    TcpHalfClosed,
    TcpEstablished,
}

/// Names one conversation, whichever end a packet of it comes from.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct FlowKey(Flow);

#[derive(Debug)]
struct Slot {
    record: Option<FlowRecord>,
    phase: Phase,
    /// Last packet, to within [`TOUCH_STEP`].
    touched: Instant,
    before: Option<u32>,
    after: Option<u32>,
}

#[derive(Debug, Default)]
struct PeerFlows {
    lists: [List; Phase::ALL.len()],
    count: usize,
}

#[derive(Clone, Copy, Debug, Default)]
struct List {
    oldest: Option<u32>,
    newest: Option<u32>,
}

impl Phase {
    /// In the order of eviction: what was never answered goes before what was.
    const ALL: [Self; 7] = [
        Self::TcpClosed,
        Self::TcpOpening,
        Self::UdpOpening,
        Self::Echo,
        Self::UdpAnswered,
        Self::TcpHalfClosed,
        Self::TcpEstablished,
    ];

    /// How long a flow may be silent.
    pub(crate) const fn timeout(self) -> Duration {
        match self {
            Self::TcpClosed => TCP_CLOSED_TIMEOUT,
            Self::TcpOpening => TCP_OPENING_TIMEOUT,
            Self::UdpOpening => UDP_OPENING_TIMEOUT,
            Self::Echo => ECHO_TIMEOUT,
            Self::UdpAnswered => UDP_ANSWERED_TIMEOUT,
            Self::TcpHalfClosed => TCP_HALF_CLOSED_TIMEOUT,
            Self::TcpEstablished => TCP_ESTABLISHED_TIMEOUT,
        }
    }
}

impl FlowKey {
    /// The key of `flow`'s conversation.
    ///
    /// An echo's key keeps its direction, for both ends may choose one identifier: a request must never ride on the
    /// flow of a request that came the other way.
    pub(crate) fn of(flow: Flow) -> Self {
        let reversed = flow.reversed();
        let directed = matches!(flow.protocol, Protocol::ICMP | Protocol::ICMPV6);
        if directed || flow <= reversed {
            Self(flow)
        } else {
            Self(reversed)
        }
    }
}

impl FlowStore {
    pub(crate) fn new(seed: [u8; 16]) -> Self {
        Self {
            hasher: SipHasher13::new_with_key(&seed),
            index: HashTable::new(),
            slots: Vec::new(),
            free: None,
            peers: BTreeMap::new(),
        }
    }

    pub(crate) fn len(&self) -> usize {
        self.index.len()
    }

    pub(crate) fn tables(&self) -> [TableSize; 3] {
        let counts = self.peers.values().map(|flows| flows.count);
        [
            TableSize::new("flows of a segment", self.index.len(), FLOWS_MAX),
            TableSize::new("places for flows", self.slots.len(), FLOWS_MAX),
            TableSize::new("flows of a peer", counts.max().unwrap_or(0), FLOWS_PER_PEER_MAX),
        ]
    }

    pub(crate) fn iter(&self) -> impl Iterator<Item = &FlowRecord> {
        self.slots.iter().filter_map(|slot| slot.record.as_ref())
    }

    pub(crate) fn find(&self, key: FlowKey) -> Option<u32> {
        let found = self
            .index
            .find(hash(self.hasher, key), |place| self.key_at(*place) == Some(key));
        found.copied()
    }

    pub(crate) fn record(&self, place: u32) -> Option<&FlowRecord> {
        self.slots[place as usize].record.as_ref()
    }

    pub(crate) fn record_mut(&mut self, place: u32) -> Option<&mut FlowRecord> {
        self.slots[place as usize].record.as_mut()
    }

    /// When the flow times out if it stays silent.
    pub(crate) fn deadline(&self, place: u32) -> Instant {
        let slot = &self.slots[place as usize];
        slot.touched + slot.phase.timeout()
    }

    /// Who must give way before `peer` can have one more flow.
    pub(crate) fn victim_for(&self, peer: NodeId) -> Option<u32> {
        let own = self.peers.get(&peer);
        if own.is_some_and(|flows| flows.count >= FLOWS_PER_PEER_MAX) && !is_off(Safeguard::FlowBound) {
            return own.and_then(PeerFlows::first_to_go);
        }
        if self.len() < FLOWS_MAX {
            return None;
        }
        let largest = self
            .peers
            .iter()
            .max_by_key(|(id, flows)| (flows.count, **id == peer));
        largest.and_then(|(_, flows)| flows.first_to_go())
    }

    /// Adds a record whose key is not there yet. The caller has made room with [`Self::victim_for`].
    pub(crate) fn insert(&mut self, record: FlowRecord, phase: Phase, now: Instant) {
        let key = FlowKey::of(record.flow);
        let peer = record.peer;
        debug_assert!(self.find(key).is_none() && self.len() < FLOWS_MAX);
        let slot = Slot {
            record: Some(record),
            phase,
            touched: now,
            before: None,
            after: None,
        };
        let place = self.place(slot);
        self.peers.entry(peer).or_default().count += 1;
        self.link(place);
        let (hasher, slots) = (self.hasher, &self.slots);
        self.index.insert_unique(hash(hasher, key), place, |place| {
            let record = slots[*place as usize].record.as_ref();
            record.map_or(0, |record| hash(hasher, FlowKey::of(record.flow)))
        });
    }

    /// Notes a packet of the flow. Most packets change neither phase nor second and cost nothing more.
    pub(crate) fn touch(&mut self, place: u32, phase: Phase, now: Instant) {
        let slot = &self.slots[place as usize];
        if slot.phase == phase && now.saturating_duration_since(slot.touched) < TOUCH_STEP {
            return;
        }
        self.unlink(place);
        let slot = &mut self.slots[place as usize];
        slot.phase = phase;
        slot.touched = slot.touched.max(now);
        self.link(place);
    }

    pub(crate) fn remove(&mut self, place: u32) -> Option<FlowRecord> {
        let key = self.key_at(place)?;
        self.unlink(place);
        let found = self
            .index
            .find_entry(hash(self.hasher, key), |other| *other == place);
        if let Ok(entry) = found {
            entry.remove();
        }
        let record = self.slots[place as usize].record.take()?;
        if let Some(flows) = self.peers.get_mut(&record.peer) {
            flows.count -= 1;
            if flows.count == 0 {
                self.peers.remove(&record.peer);
            }
        }
        let slot = &mut self.slots[place as usize];
        slot.before = None;
        slot.after = self.free;
        self.free = Some(place);
        Some(record)
    }

    /// The places of all records, or of one peer's.
    pub(crate) fn places(&self, peer: Option<NodeId>) -> Vec<u32> {
        let slots = (0_u32..).zip(&self.slots);
        let wanted = slots.filter(|(_, slot)| {
            let record = slot.record.as_ref();
            record.is_some_and(|record| peer.is_none_or(|peer| record.peer == peer))
        });
        wanted.map(|(place, _)| place).collect()
    }

    /// The flows that have been silent too long.
    pub(crate) fn overdue(&self, now: Instant) -> Vec<u32> {
        let walk =
            |oldest| std::iter::successors(Some(oldest), |place: &u32| self.slots[*place as usize].after);
        let lists = self.oldest_of_each_list();
        lists
            .flat_map(|oldest| walk(oldest).take_while(|place| self.deadline(*place) <= now))
            .collect()
    }

    /// When the first flow times out if all stay silent.
    pub(crate) fn next_deadline(&self) -> Option<Instant> {
        self.oldest_of_each_list().map(|place| self.deadline(place)).min()
    }

    fn oldest_of_each_list(&self) -> impl Iterator<Item = u32> {
        self.peers
            .values()
            .flat_map(|flows| flows.lists.iter().filter_map(|list| list.oldest))
    }

    fn key_at(&self, place: u32) -> Option<FlowKey> {
        self.record(place).map(|record| FlowKey::of(record.flow))
    }

    fn place(&mut self, slot: Slot) -> u32 {
        let Some(place) = self.free else {
            self.slots.push(slot);
            return (self.slots.len() - 1) as u32;
        };
        self.free = self.slots[place as usize].after;
        self.slots[place as usize] = slot;
        place
    }

    fn list_of(&mut self, place: u32) -> Option<&mut List> {
        let slot = &self.slots[place as usize];
        let peer = slot.record.as_ref()?.peer;
        let phase = slot.phase;
        let flows = self.peers.get_mut(&peer)?;
        Some(&mut flows.lists[phase as usize])
    }

    fn link(&mut self, place: u32) {
        let Some(list) = self.list_of(place) else {
            return;
        };
        let before = list.newest.replace(place);
        if before.is_none() {
            list.oldest = Some(place);
        }
        if let Some(before) = before {
            self.slots[before as usize].after = Some(place);
        }
        let slot = &mut self.slots[place as usize];
        slot.before = before;
        slot.after = None;
    }

    fn unlink(&mut self, place: u32) {
        let (before, after) = {
            let slot = &self.slots[place as usize];
            (slot.before, slot.after)
        };
        if let Some(list) = self.list_of(place) {
            if before.is_none() {
                list.oldest = after;
            }
            if after.is_none() {
                list.newest = before;
            }
        }
        if let Some(before) = before {
            self.slots[before as usize].after = after;
        }
        if let Some(after) = after {
            self.slots[after as usize].before = before;
        }
    }
}

impl PeerFlows {
    fn first_to_go(&self) -> Option<u32> {
        self.lists.iter().find_map(|list| list.oldest)
    }
}

fn hash(mut hasher: SipHasher13, key: FlowKey) -> u64 {
    let flow = key.0;
    let mut bytes = [0_u8; KEY_BYTES];
    bytes[..16].copy_from_slice(&address_bytes(flow.src));
    bytes[16..32].copy_from_slice(&address_bytes(flow.dst));
    bytes[32..34].copy_from_slice(&flow.src_port.to_be_bytes());
    bytes[34..36].copy_from_slice(&flow.dst_port.to_be_bytes());
    bytes[36] = flow.protocol.0;
    hasher.write(&bytes);
    hasher.finish()
}

fn address_bytes(address: IpAddr) -> [u8; 16] {
    match address {
        IpAddr::V4(v4) => v4.to_ipv6_mapped().octets(),
        IpAddr::V6(v6) => v6.octets(),
    }
}

/// Flows with one peer. When full, the peer's own least valuable flow goes: see [`Phase::ALL`].
pub const FLOWS_PER_PEER_MAX: usize = 4_096;
/// Flows in one segment. When full, the same goes of the peer that has most.
pub const FLOWS_MAX: usize = 65_536;

/// 2 hours and 4 minutes: a TCP keepalive every 2 hours holds the flow (RFC 5382 section 5).
pub const TCP_ESTABLISHED_TIMEOUT: Duration = Duration::from_mins(124);
/// A handshake must be done by then.
pub const TCP_OPENING_TIMEOUT: Duration = Duration::from_mins(1);
/// One end has closed and the other is silent.
pub const TCP_HALF_CLOSED_TIMEOUT: Duration = Duration::from_mins(2);
/// Both ends have closed: last retransmissions.
pub const TCP_CLOSED_TIMEOUT: Duration = Duration::from_secs(30);
/// UDP without an answer.
pub const UDP_OPENING_TIMEOUT: Duration = Duration::from_secs(30);
/// UDP in both directions.
pub const UDP_ANSWERED_TIMEOUT: Duration = Duration::from_mins(3);
/// Echo requests and their replies.
pub const ECHO_TIMEOUT: Duration = Duration::from_secs(30);

/// How often a busy flow moves to the end of its list: timeouts are exact to within this.
const TOUCH_STEP: Duration = Duration::from_secs(1);
/// Two addresses, two ports, the protocol and padding to SipHash's 8-byte words.
const KEY_BYTES: usize = 40;
