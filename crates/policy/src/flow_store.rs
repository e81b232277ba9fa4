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
    /// Where flows were found last, by their ports: a guess that saves the hash for what a batch brings more of.
    /// Nothing clears it, for it is never believed: the record there must be the flow's.
    recent: [u32; RECENT],
    slots: Vec<Slot>,
    /// Head of the list of empty slots, linked by `after`.
    free: Option<u32>,
    peers: BTreeMap<NodeId, PeerFlows>,
    per_peer_max: usize,
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
        if is_directed(flow) || flow <= reversed {
            Self(flow)
        } else {
            Self(reversed)
        }
    }

    /// Whether two flows have one key, without making it.
    fn names(one: Flow, other: Flow) -> bool {
        one == other || (one == other.reversed() && !is_directed(one))
    }
}

impl FlowStore {
    /// No peer has more than `per_peer_max` flows, nor more than [`FLOWS_PER_PEER_MAX`].
    pub(crate) fn new(seed: [u8; 16], per_peer_max: usize) -> Self {
        Self {
            hasher: SipHasher13::new_with_key(&seed),
            index: HashTable::new(),
            recent: [0; RECENT],
            slots: Vec::new(),
            free: None,
            peers: BTreeMap::new(),
            per_peer_max: per_peer_max.clamp(1, FLOWS_PER_PEER_MAX),
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
            TableSize::new("flows of a peer", counts.max().unwrap_or(0), self.per_peer_max),
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

    /// As [`Self::find`] by the key of `flow`, and faster if one of the last packets was of the same conversation.
    pub(crate) fn find_flow(&mut self, flow: Flow) -> Option<u32> {
        let guess = usize::from(flow.src_port.wrapping_add(flow.dst_port)) % RECENT;
        let place = self.recent[guess];
        let record = self
            .slots
            .get(place as usize)
            .and_then(|slot| slot.record.as_ref());
        if record.is_some_and(|record| FlowKey::names(record.flow, flow)) {
            return Some(place);
        }
        let found = self.find(FlowKey::of(flow))?;
        self.recent[guess] = found;
        Some(found)
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
        if own.is_some_and(|flows| flows.count >= self.per_peer_max) && !is_off(Safeguard::FlowBound) {
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

    /// The places of all records.
    pub(crate) fn places(&self) -> Vec<u32> {
        let slots = (0_u32..).zip(&self.slots);
        let taken = slots.filter(|(_, slot)| slot.record.is_some());
        taken.map(|(place, _)| place).collect()
    }

    /// The places of one peer's records, found without a look at the others'.
    pub(crate) fn places_of(&self, peer: NodeId) -> Vec<u32> {
        let lists = self.peers.get(&peer).into_iter().flat_map(|flows| &flows.lists);
        let oldest = lists.filter_map(|list| list.oldest);
        oldest.flat_map(|oldest| self.walk(oldest)).collect()
    }

    /// The flows that have been silent too long, or the first so many of them.
    pub(crate) fn overdue(&self, now: Instant, most: usize) -> Vec<u32> {
        let overdue = self
            .oldest_of_each_list()
            .flat_map(|oldest| self.walk(oldest).take_while(|place| self.deadline(*place) <= now));
        overdue.take(most).collect()
    }

    /// The places of a list from `oldest` on.
    fn walk(&self, oldest: u32) -> impl Iterator<Item = u32> {
        std::iter::successors(Some(oldest), |place| self.slots[*place as usize].after)
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

fn is_directed(flow: Flow) -> bool {
    matches!(flow.protocol, Protocol::ICMP | Protocol::ICMPV6)
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

/// Flows in one segment. When full, the least valuable flow of the peer that has most goes: see [`Phase::ALL`].
pub const FLOWS_MAX: usize = 131_072;
/// Flows with one peer: all but an eighth of the table. When full, the same goes of the peer's own.
///
/// It need not be a fair share, for a full table takes from whoever has most, so that a peer which few flows belong to
/// keeps them whatever others do. But one peer alone never fills it.
pub const FLOWS_PER_PEER_MAX: usize = FLOWS_MAX / 8 * 7;

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
/// As many conversations as take turns in one batch.
const RECENT: usize = 64;
/// Two addresses, two ports, the protocol and padding to SipHash's 8-byte words.
const KEY_BYTES: usize = 40;
