//! What [`crate::WireGuard`] gives back: opened datagrams, datagrams to send, events.
//!
//! **Invariant:** both queues are bounded; a caller that does not drain them loses the oldest entries.

use std::collections::VecDeque;
use std::net::SocketAddr;

use ringfence_model::TableSize;

use crate::segment::SegmentHandle;
use crate::slots::PeerSlot;

/// A datagram that authenticated.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Opened<'b> {
    /// The segment it belongs to.
    pub segment: SegmentHandle,
    /// The peer that made it.
    pub slot: PeerSlot,
    /// What it was.
    pub kind: OpenedKind<'b>,
}

/// What an authentic datagram was.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum OpenedKind<'b> {
    /// An IP packet, trimmed to the length in its header. Its source address is **not** checked yet.
    Data(&'b [u8]),
    /// An empty data message.
    Keepalive,
    /// A handshake initiation of a known peer, which is being answered.
    HandshakeInitiation,
    /// A response to our initiation: the session is up.
    HandshakeResponse,
    /// The peer is loaded and wants its cookie with our next try.
    CookieReply,
}

impl OpenedKind<'_> {
    /// Whether the peer itself sent this datagram lately, so that its source address is the peer's (roaming).
    ///
    /// A cookie reply is no such proof: it can be replayed from elsewhere for as long as the handshake lasts.
    pub fn proves_source(&self) -> bool {
        match self {
            Self::Data(_) | Self::Keepalive | Self::HandshakeInitiation | Self::HandshakeResponse => true,
            Self::CookieReply => false,
        }
    }
}

/// One datagram to send.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct WgTransmit {
    /// The peer it is for; `None` for a cookie reply, whose receiver is not known.
    pub slot: Option<PeerSlot>,
    /// Where to.
    pub to: Destination,
    /// What it is.
    pub kind: MessageKind,
    /// The bytes.
    pub datagram: Vec<u8>,
}

/// Where a datagram goes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Destination {
    /// To the peer, by the path the caller chooses.
    Peer,
    /// Back to where the datagram came from that this one answers.
    Address(SocketAddr),
}

/// The four messages of the protocol (whitepaper section 5.4).
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum MessageKind {
    /// The first message of a handshake.
    HandshakeInitiation,
    /// The second.
    HandshakeResponse,
    /// "Prove that you receive at your address."
    CookieReply,
    /// Transport data; in [`WgTransmit`] always empty, a keepalive.
    Data,
}

/// What happened to a peer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum WgEvent {
    /// Packets can be sealed; also after each re-key.
    SessionEstablished {
        /// The peer.
        slot: PeerSlot,
    },
    /// Nobody answered for 90 s. The next [`crate::WireGuard::start_handshake`] tries again.
    HandshakeFailed {
        /// The peer.
        slot: PeerSlot,
    },
    /// The last session ended and its keys are gone.
    SessionExpired {
        /// The peer.
        slot: PeerSlot,
    },
}

impl WgEvent {
    /// The peer it is about.
    pub fn slot(&self) -> PeerSlot {
        match *self {
            Self::SessionEstablished { slot }
            | Self::HandshakeFailed { slot }
            | Self::SessionExpired { slot } => slot,
        }
    }
}

/// The two queues that callers drain.
#[derive(Default)]
pub(crate) struct Outbox {
    transmits: VecDeque<WgTransmit>,
    events: VecDeque<WgEvent>,
}

impl Outbox {
    pub(crate) fn send(&mut self, transmit: WgTransmit) {
        push(&mut self.transmits, transmit);
    }

    pub(crate) fn tell(&mut self, event: WgEvent) {
        push(&mut self.events, event);
    }

    pub(crate) fn poll_transmit(&mut self) -> Option<WgTransmit> {
        self.transmits.pop_front()
    }

    pub(crate) fn poll_event(&mut self) -> Option<WgEvent> {
        self.events.pop_front()
    }

    pub(crate) fn tables(&self) -> [TableSize; 2] {
        [
            TableSize::new("handshake messages to send", self.transmits.len(), OUTBOX_MAX),
            TableSize::new("events of sessions", self.events.len(), OUTBOX_MAX),
        ]
    }

    /// Forgets everything about a peer that is gone: what it would still send was sealed with its keys.
    pub(crate) fn forget(&mut self, slot: PeerSlot) {
        self.transmits.retain(|transmit| transmit.slot != Some(slot));
        self.events.retain(|event| event.slot() != slot);
    }
}

fn push<T>(queue: &mut VecDeque<T>, item: T) {
    if queue.len() == OUTBOX_MAX {
        queue.pop_front();
    }
    queue.push_back(item);
}

/// Transmits and events held for the caller: room for one of each for every peer of a large node.
/// When full, the oldest goes.
const OUTBOX_MAX: usize = 16_384;
