//! Whether a peer can be reached through the tunnel, and how fast, whatever policy opens.
//!
//! A node is asked inside the session, with an IPv6 packet of protocol 253 (RFC 3692, for experiments), which no rule
//! can allow and no kernel sees: it says that the peer's session works, which a completed handshake says already,
//! and opens nothing. A stock WireGuard client does not know it; there a fresh handshake is timed instead, which
//! WireGuard allows once in 5 s.
//!
//! ```text
//! IPv6 header (40): next header 253, hop limit 1, our overlay address → the peer's
//! payload (16):     "rfp1" | kind: 1 ask, 2 answer | 3 zero bytes | token (8)
//! ```
//!
//! **Invariant:** the token is random, so only who holds the session can answer; at most [`PINGS_MAX`] are under way.

use std::net::{IpAddr, Ipv6Addr};
use std::time::{Duration, Instant};

use rand::Rng as _;
use ringfence_control::PeerKind;
use ringfence_model::{Name, NodeId, TableSize};
use ringfence_packet::{Flow, Protocol};
use ringfence_wg::SealError;

use crate::pending::PeerKey;
use crate::segment::Gate;
use crate::{Dataplane, Event, Pong};

/// Why a ping could not be sent.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum PingError {
    /// The peer is on no allowlist of this node, or not on that perimeter's.
    #[error("this node has no such peer there")]
    NoPeer,
    /// The peer's segment is closed, or has no key yet.
    #[error("the segment is closed: its lease ended, or its key is not registered yet")]
    Closed,
    /// [`PINGS_MAX`] are under way.
    #[error("too many pings are under way: at most {PINGS_MAX}")]
    TooMany,
}

/// What a ping went to.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PingTarget {
    /// In which perimeter.
    pub perimeter: Name,
    /// The peer's overlay address there.
    pub address: Ipv6Addr,
    /// A device answers by a handshake, once in 5 s: space pings to it accordingly.
    pub kind: PeerKind,
}

/// The pings under way.
#[derive(Default)]
pub(crate) struct Pings(Vec<Ping>);

struct Ping {
    id: u64,
    peer: PeerKey,
    sent: Instant,
    awaits: Answer,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Answer {
    Token(u64),
    Session,
}

impl Pings {
    /// When the next is given up.
    pub(crate) fn poll_timeout(&self) -> Option<Instant> {
        self.0.iter().map(|ping| ping.sent + PING_WAIT_MAX).min()
    }

    pub(crate) fn tables(&self) -> [TableSize; 1] {
        [TableSize::new("pings under way", self.0.len(), PINGS_MAX)]
    }

    fn take(&mut self, peer: PeerKey, answer: Answer) -> Option<Ping> {
        let place = self
            .0
            .iter()
            .position(|ping| ping.peer == peer && ping.awaits == answer)?;
        Some(self.0.swap_remove(place))
    }
}

impl Dataplane {
    /// Measures one round trip to a peer, in the perimeter given or the first by name that has it.
    ///
    /// [`Event::Pong`] or [`Event::PingTimedOut`] follows, with the caller's `id`.
    ///
    /// # Errors
    /// [`PingError`], and nothing was sent.
    pub fn ping(
        &mut self,
        peer: NodeId,
        perimeter: Option<&Name>,
        id: u64,
        now: Instant,
    ) -> Result<PingTarget, PingError> {
        self.close_what_has_ended(now);
        let mut segments = self.perimeters.iter().filter_map(|(name, id)| {
            let wanted = perimeter.is_none_or(|perimeter| perimeter == name);
            self.segments
                .get(id)
                .filter(|segment| wanted && segment.peers.contains_key(&peer))
        });
        let segment = segments.next().ok_or(PingError::NoPeer)?;
        let known = segment.peers.get(&peer).ok_or(PingError::NoPeer)?;
        let (Gate::Open, Some(slot)) = (segment.gate, known.slot) else {
            return Err(PingError::Closed);
        };
        if self.pings.0.len() >= PINGS_MAX {
            return Err(PingError::TooMany);
        }
        let target = PingTarget {
            perimeter: segment.perimeter.clone(),
            address: known.map.addresses.v6,
            kind: known.map.kind,
        };
        let key = (segment.id, peer);
        let (src, dst, kind) = (segment.addresses.v6, known.map.addresses.v6, known.map.kind);
        let awaits = match kind {
            PeerKind::Node => {
                let token = self.rng.random();
                self.send_ping(key, &message(src, dst, ASK, token), now);
                Answer::Token(token)
            }
            PeerKind::Device => {
                self.wireguard.start_handshake(slot, now);
                Answer::Session
            }
        };
        self.pings.0.push(Ping {
            id,
            peer: key,
            sent: now,
            awaits,
        });
        self.drain_wireguard(now);
        Ok(target)
    }

    fn send_ping(&mut self, peer: PeerKey, packet: &[u8; MESSAGE_BYTES], now: Instant) {
        let (id, node) = peer;
        let Some(segment) = self.segments.get(&id) else {
            return;
        };
        let Some(known) = segment.peers.get(&node) else {
            return;
        };
        let (Some(slot), addresses) = (known.slot, known.map.addresses) else {
            return;
        };
        let flow = Flow {
            src: IpAddr::V6(segment.addresses.v6),
            dst: IpAddr::V6(addresses.v6),
            protocol: PING_PROTOCOL,
            src_port: 0,
            dst_port: 0,
        };
        if self.seal(slot, packet, now) == Err(SealError::NoSession) {
            self.hold(id, node, flow, packet.to_vec(), now);
        }
    }

    /// A ping or the answer to one, from `peer`, whose addresses were checked.
    pub(crate) fn handle_ping(&mut self, peer: PeerKey, bytes: &[u8], now: Instant) {
        let Some((kind, token)) = read(bytes) else {
            return;
        };
        match kind {
            ASK => {
                let addresses = self.segments.get(&peer.0).and_then(|segment| {
                    let known = segment.peers.get(&peer.1)?;
                    Some((segment.addresses.v6, known.map.addresses.v6))
                });
                if let Some((src, dst)) = addresses {
                    self.send_ping(peer, &message(src, dst, ANSWER, token), now);
                }
            }
            ANSWER => self.pong(peer, Answer::Token(token), now),
            _ => {}
        }
    }

    /// A handshake with `peer` completed.
    pub(crate) fn ping_reached(&mut self, peer: PeerKey, now: Instant) {
        self.pong(peer, Answer::Session, now);
    }

    fn pong(&mut self, peer: PeerKey, answer: Answer, now: Instant) {
        let Some(ping) = self.pings.take(peer, answer) else {
            return;
        };
        let known = self
            .segments
            .get(&peer.0)
            .and_then(|segment| segment.peers.get(&peer.1));
        self.outbox.event(Event::Pong(Pong {
            id: ping.id,
            peer: peer.1,
            round_trip: now.saturating_duration_since(ping.sent),
            endpoint: known.and_then(|known| known.path.data_endpoint()),
        }));
    }

    pub(crate) fn time_out_pings(&mut self, now: Instant) {
        for ping in self
            .pings
            .0
            .extract_if(.., |ping| now >= ping.sent + PING_WAIT_MAX)
        {
            self.outbox.event(Event::PingTimedOut { id: ping.id });
        }
    }
}

/// Source and destination of a packet that is for the peer's data plane and not for its kernel.
pub(crate) fn addresses(bytes: &[u8]) -> Option<(IpAddr, IpAddr)> {
    read(bytes)?;
    let src: [u8; 16] = *bytes[8..].first_chunk()?;
    let dst: [u8; 16] = *bytes[24..].first_chunk()?;
    Some((src.into(), dst.into()))
}

fn message(src: Ipv6Addr, dst: Ipv6Addr, kind: u8, token: u64) -> [u8; MESSAGE_BYTES] {
    let mut bytes = [0; MESSAGE_BYTES];
    bytes[0] = 0x60;
    bytes[5] = PAYLOAD_BYTES;
    bytes[6] = PING_PROTOCOL.0;
    bytes[7] = 1;
    bytes[8..24].copy_from_slice(&src.octets());
    bytes[24..40].copy_from_slice(&dst.octets());
    bytes[40..44].copy_from_slice(MAGIC);
    bytes[44] = kind;
    bytes[48..56].copy_from_slice(&token.to_be_bytes());
    bytes
}

fn read(bytes: &[u8]) -> Option<(u8, u64)> {
    let bytes: &[u8; MESSAGE_BYTES] = bytes.try_into().ok()?;
    let token = u64::from_be_bytes(*bytes.last_chunk()?);
    let is_ping = bytes[0] >> 4 == 6 && bytes[6] == PING_PROTOCOL.0 && bytes[40..44] == *MAGIC;
    is_ping.then_some((bytes[44], token))
}

/// The most pings under way at once.
pub const PINGS_MAX: usize = 64;

/// How long an answer may take: two handshake attempts and a round trip around the world.
pub const PING_WAIT_MAX: Duration = Duration::from_secs(12);

const PING_PROTOCOL: Protocol = Protocol(253);
const MAGIC: &[u8; 4] = b"rfp1";
const ASK: u8 = 1;
const ANSWER: u8 = 2;
const PAYLOAD_BYTES: u8 = 16;
const MESSAGE_BYTES: usize = 56;
