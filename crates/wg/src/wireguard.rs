//! All segments and peers of one socket.
//!
//! **Invariant:** each slot in a segment's allowlist names a peer of that segment, and each peer is in one allowlist.

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use ringfence_model::{PrivateKey, PublicKey, TableSize};

use crate::alarms::Alarms;
use crate::bucket::Bucket;
use crate::intake::{SECOND_LOOKS, STRANGER_HANDSHAKES};
use crate::output::{Outbox, WgEvent, WgTransmit};
use crate::peer::{Call, PADDING_BYTES, Peer, PeerStats, SEALED_OVERHEAD_BYTES, SealError};
use crate::segment::{SEGMENTS_MAX, Segment, SegmentHandle};
use crate::slot_map::SlotMap;
use crate::slots::{PeerSlot, SLOTS_MAX, Slots};
use crate::source_bucket::SourceBuckets;

/// WireGuard for all segments of a node. See the crate's documentation.
///
/// Call one method that takes `&mut self`, then drain [`Self::poll_transmit`] and [`Self::poll_event`].
pub struct WireGuard {
    pub(crate) segments: BTreeMap<SegmentHandle, Segment>,
    /// In boxes: a table that grows would have to move 400 bytes for each peer.
    pub(crate) peers: SlotMap<Box<Peer>>,
    pub(crate) sources: SourceBuckets,
    /// Handshakes with strangers that this node is ready to compute; `None` before the first.
    pub(crate) strangers: Option<Bucket>,
    /// Looks at initiations from sources that have run dry; `None` before the first.
    second_looks: Option<Bucket>,
    pub(crate) outbox: Outbox,
    slots: Slots,
    segments_made: u32,
    pub(crate) alarms: Alarms,
    padded: Vec<u8>,
}

/// There are [`SEGMENTS_MAX`] segments already.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("a node takes part in at most {SEGMENTS_MAX} perimeters")]
pub struct TooManySegments;

/// Why a peer was not added.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum AddPeerError {
    /// The handle names no segment.
    #[error("no such segment")]
    NoSegment,
    /// The segment has a peer with this key.
    #[error("the segment has a peer with this key")]
    KeyInUse,
    /// The key is the segment's own.
    #[error("a peer cannot have the segment's own key")]
    OwnKey,
    /// Every slot is in use, or resting after a removed peer.
    #[error("no peer slot is free")]
    NoSlot,
}

/// Seals for one peer. See [`WireGuard::sealer`].
pub struct Sealer<'a> {
    peer: &'a mut Peer,
    call: Call<'a>,
}

impl Sealer<'_> {
    /// Seals a packet that is padded to a multiple of [`PADDING_BYTES`] into the start of `out`, which has room for
    /// [`sealed_bytes`]; how long the datagram is.
    ///
    /// # Errors
    /// [`SealError::CounterExhausted`] when this session has sent all it may, [`SealError::TooLong`] when `out` has
    /// no room.
    pub fn seal(&mut self, padded: &[u8], out: &mut [u8]) -> Result<usize, SealError> {
        debug_assert!(padded.len().is_multiple_of(PADDING_BYTES));
        if out.len() < sealed_bytes(padded.len()) {
            return Err(SealError::TooLong);
        }
        self.peer.seal(padded, out, &mut self.call)
    }
}

/// How long the datagram is that a packet of so many bytes becomes.
pub const fn sealed_bytes(packet_bytes: usize) -> usize {
    packet_bytes.next_multiple_of(PADDING_BYTES) + SEALED_OVERHEAD_BYTES
}

impl WireGuard {
    /// Makes one without segments. The seed decides which slots peers get; draw it anew for each process.
    pub fn new(seed: [u8; 32]) -> Self {
        Self {
            segments: BTreeMap::new(),
            peers: SlotMap::default(),
            sources: SourceBuckets::default(),
            strangers: None,
            second_looks: None,
            outbox: Outbox::default(),
            slots: Slots::new(seed),
            segments_made: 0,
            alarms: Alarms::default(),
            padded: Vec::new(),
        }
    }

    /// Adds a key pair, with nobody on its allowlist.
    ///
    /// # Errors
    /// [`TooManySegments`] beyond [`SEGMENTS_MAX`].
    pub fn add_segment(&mut self, key: &PrivateKey) -> Result<SegmentHandle, TooManySegments> {
        if self.segments.len() == SEGMENTS_MAX {
            return Err(TooManySegments);
        }
        self.segments_made += 1;
        let handle = SegmentHandle(self.segments_made);
        self.segments.insert(handle, Segment::new(key));
        Ok(handle)
    }

    /// Removes a key pair with all its peers, as [`Self::remove_peer`] does.
    pub fn remove_segment(&mut self, segment: SegmentHandle, now: Instant) {
        let Some(removed) = self.segments.remove(&segment) else {
            return;
        };
        for slot in removed.peers.into_values() {
            self.forget(slot, now);
        }
    }

    /// Puts a key on a segment's allowlist. With `keepalive`, also reaches out to it, and never lets a silence grow
    /// longer than that, so that a NAT on the way keeps its mapping.
    ///
    /// # Errors
    /// [`AddPeerError`] says what is wrong; nothing is changed.
    pub fn add_peer(
        &mut self,
        segment: SegmentHandle,
        public_key: PublicKey,
        keepalive: Option<Duration>,
        now: Instant,
    ) -> Result<PeerSlot, AddPeerError> {
        let allowlist = self.segments.get_mut(&segment).ok_or(AddPeerError::NoSegment)?;
        if allowlist.peers.contains_key(&public_key) {
            return Err(AddPeerError::KeyInUse);
        }
        if allowlist.noise.public_key() == public_key {
            return Err(AddPeerError::OwnKey);
        }
        let slot = self.slots.take(now).ok_or(AddPeerError::NoSlot)?;
        allowlist.peers.insert(public_key, slot);
        self.peers
            .insert(slot, Box::new(Peer::new(slot, segment, public_key, keepalive)));
        self.with_peer(slot, now, Peer::set_alarm);
        Ok(slot)
    }

    /// Takes a key off the allowlist. Its session is gone at once, and so is what was still to be sent to it; what
    /// it sends from now on gets silence. The slot rests for [`crate::SLOT_REST`].
    pub fn remove_peer(&mut self, slot: PeerSlot, now: Instant) {
        let Some(peer) = self.peers.get(slot) else {
            return;
        };
        if let Some(segment) = self.segments.get_mut(&peer.segment) {
            segment.peers.remove(&peer.public_key);
        }
        self.forget(slot, now);
    }

    /// Seals one IP packet, padded, into `out` (cleared first): a datagram ready to send. For many use
    /// [`Self::sealer`].
    ///
    /// An empty packet makes a keepalive.
    ///
    /// # Errors
    /// [`SealError::NoSession`] if there is none yet: hold the packet and call [`Self::start_handshake`].
    pub fn seal(
        &mut self,
        slot: PeerSlot,
        packet: &[u8],
        out: &mut Vec<u8>,
        now: Instant,
    ) -> Result<(), SealError> {
        out.clear();
        if packet.len() > PACKET_BYTES_MAX {
            return Err(SealError::TooLong);
        }
        let mut padded = std::mem::take(&mut self.padded);
        padded.clear();
        padded.extend_from_slice(packet);
        padded.resize(packet.len().next_multiple_of(PADDING_BYTES), 0);
        out.resize(sealed_bytes(packet.len()), 0);
        let sealed = self
            .sealer(slot, now)
            .and_then(|mut sealer| sealer.seal(&padded, out));
        self.padded = padded;
        out.truncate(*sealed.as_ref().unwrap_or(&0));
        sealed.map(|_| ())
    }

    /// Seals one packet after another for one peer: what they have in common is looked up once.
    ///
    /// # Errors
    /// [`SealError::NoSession`] if there is none yet, [`SealError::NoPeer`] if the slot names none.
    pub fn sealer(&mut self, slot: PeerSlot, now: Instant) -> Result<Sealer<'_>, SealError> {
        let peer = self.peers.get_mut(slot).ok_or(SealError::NoPeer)?;
        let noise = &self.segments.get(&peer.segment).ok_or(SealError::NoPeer)?.noise;
        let mut call = Call {
            noise,
            outbox: &mut self.outbox,
            alarms: &mut self.alarms,
            now,
        };
        peer.refresh(&mut call);
        if !peer.has_session() {
            return Err(SealError::NoSession);
        }
        Ok(Sealer { peer, call })
    }

    /// Starts a handshake with a peer, unless one was started in the last 5 s. Retries by itself for 90 s.
    pub fn start_handshake(&mut self, slot: PeerSlot, now: Instant) {
        self.with_peer(slot, now, Peer::start_handshake);
    }

    /// Makes a session anew, if there is one: the peer has lost its end of it. As with any cause, a handshake starts at
    /// most once in 5 s; within that time it waits.
    pub fn renew_session(&mut self, slot: PeerSlot, now: Instant) {
        self.with_peer(slot, now, Peer::renew_session);
    }

    /// The next datagram to send.
    pub fn poll_transmit(&mut self) -> Option<WgTransmit> {
        self.outbox.poll_transmit()
    }

    /// The next thing that happened to a peer.
    pub fn poll_event(&mut self) -> Option<WgEvent> {
        self.outbox.poll_event()
    }

    /// Moves time forward: retries handshakes, re-keys, expires sessions, keeps alive.
    ///
    /// Call when [`Self::poll_timeout`] is due. Calling early is harmless.
    pub fn handle_timeout(&mut self, now: Instant) {
        for slot in self.alarms.due(now) {
            self.with_peer(slot, now, |peer, call| {
                peer.alarm = None;
                peer.tick(call);
            });
        }
    }

    /// When [`Self::handle_timeout`] is next needed, or `None` if nothing is pending.
    pub fn poll_timeout(&self) -> Option<Instant> {
        self.alarms.next()
    }

    /// Whether a packet for this peer can be sealed now.
    pub fn has_session(&self, slot: PeerSlot) -> bool {
        self.peers.get(slot).is_some_and(|peer| peer.has_session())
    }

    /// Whether what we send to a peer seems to get lost, though there is a session: for 15 s nothing of its came in it
    /// that shows otherwise, and one that gets packets sends a keepalive within 10 s; or it did not get our response to
    /// its handshake. That it can reach us, as an initiation tells, does not mean that we reach it.
    pub fn seems_unreached(&self, slot: PeerSlot, now: Instant) -> bool {
        self.peers.get(slot).is_some_and(|peer| peer.seems_unreached(now))
    }

    /// What a status report shows of a peer.
    pub fn stats(&self, slot: PeerSlot, now: Instant) -> Option<PeerStats> {
        Some(self.peers.get(slot)?.stats(now))
    }

    /// The segment a peer belongs to.
    pub fn segment_of(&self, slot: PeerSlot) -> Option<SegmentHandle> {
        Some(self.peers.get(slot)?.segment)
    }

    /// A peer's public key.
    pub fn public_key_of(&self, slot: PeerSlot) -> Option<PublicKey> {
        Some(self.peers.get(slot)?.public_key)
    }

    /// A segment's own public key.
    pub fn segment_key(&self, segment: SegmentHandle) -> Option<PublicKey> {
        Some(self.segments.get(&segment)?.noise.public_key())
    }

    /// How many peers have a place, and keys in memory.
    pub fn peers_len(&self) -> usize {
        self.peers.len()
    }

    /// How full each of its tables is.
    pub fn tables(&self) -> Vec<TableSize> {
        let Self {
            segments,
            peers,
            sources,
            strangers: _,
            second_looks: _,
            outbox,
            slots,
            segments_made: _,
            alarms,
            padded,
        } = self;
        let mut tables = vec![
            TableSize::new("wireguard segments", segments.len(), SEGMENTS_MAX),
            TableSize::new("wireguard peers", peers.len(), SLOTS_MAX),
            TableSize::new("wireguard peers with something due", alarms.len(), peers.len()),
            TableSize::new("bytes to pad a packet in", padded.len(), PACKET_BYTES_MAX),
        ];
        tables.extend(outbox.tables());
        tables.extend(slots.tables());
        tables.extend(sources.tables());
        tables
    }

    /// The peer with this key on a segment's allowlist.
    pub fn slot_of(&self, segment: SegmentHandle, public_key: &PublicKey) -> Option<PeerSlot> {
        self.segments.get(&segment)?.peers.get(public_key).copied()
    }

    pub(crate) fn strangers(&mut self, now: Instant) -> &mut Bucket {
        self.strangers
            .get_or_insert_with(|| Bucket::full(STRANGER_HANDSHAKES, now))
    }

    pub(crate) fn second_looks(&mut self, now: Instant) -> &mut Bucket {
        self.second_looks
            .get_or_insert_with(|| Bucket::full(SECOND_LOOKS, now))
    }

    fn with_peer(&mut self, slot: PeerSlot, now: Instant, act: impl FnOnce(&mut Peer, &mut Call<'_>)) {
        let Some(peer) = self.peers.get_mut(slot) else {
            return;
        };
        let Some(segment) = self.segments.get(&peer.segment) else {
            return;
        };
        act(
            peer,
            &mut Call {
                noise: &segment.noise,
                outbox: &mut self.outbox,
                alarms: &mut self.alarms,
                now,
            },
        );
    }

    fn forget(&mut self, slot: PeerSlot, now: Instant) {
        if let Some(alarm) = self.peers.remove(slot).and_then(|peer| peer.alarm) {
            self.alarms.forget(slot, alarm);
        }
        self.outbox.forget(slot);
        self.sources.forget(slot);
        self.slots.release(slot, now);
    }
}

/// The longest UDP payload over IPv4, less what sealing adds.
const PACKET_BYTES_MAX: usize = (65_507 - SEALED_OVERHEAD_BYTES) / PADDING_BYTES * PADDING_BYTES;
