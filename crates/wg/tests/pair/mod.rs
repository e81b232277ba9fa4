//! The driver of the tests: two nodes and the wire between them, or one node and a stock peer.
#![allow(dead_code, reason = "each test file uses its part of it")]

use std::net::SocketAddr;
use std::time::{Duration, Instant};

use boringtun::noise::{Tunn, TunnResult};
use boringtun::x25519;
use ringfence_model::{PrivateKey, PublicKey};
use ringfence_wg::{
    Destination, OpenedKind, PeerSlot, SegmentHandle, WgDrop, WgEvent, WgTransmit, WireGuard,
};

/// One end: a segment with one peer.
pub(crate) struct Node {
    pub(crate) wg: WireGuard,
    pub(crate) address: SocketAddr,
    pub(crate) segment: SegmentHandle,
    pub(crate) slot: PeerSlot,
}

/// Two nodes that know each other.
pub(crate) struct Pair {
    pub(crate) a: Node,
    pub(crate) b: Node,
    pub(crate) now: Instant,
}

/// Which end of a pair.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum End {
    A,
    B,
}

/// What arrived at a node.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Arrival {
    Packet(Vec<u8>),
    Keepalive,
    Handshake,
}

impl Node {
    /// Hands over a datagram; the buffer is exactly as long as allowed.
    pub(crate) fn receive(
        &mut self,
        src: SocketAddr,
        datagram: &[u8],
        now: Instant,
    ) -> Result<Arrival, WgDrop> {
        let mut buf = vec![0; datagram.len()];
        let opened = self.wg.open(src, datagram, &mut buf, now)?;
        assert_eq!((opened.segment, opened.slot), (self.segment, self.slot));
        Ok(match opened.kind {
            OpenedKind::Data(packet) => Arrival::Packet(packet.to_vec()),
            OpenedKind::Keepalive => Arrival::Keepalive,
            OpenedKind::HandshakeInitiation | OpenedKind::HandshakeResponse | OpenedKind::CookieReply => {
                Arrival::Handshake
            }
        })
    }

    pub(crate) fn transmits(&mut self) -> Vec<WgTransmit> {
        std::iter::from_fn(|| self.wg.poll_transmit()).collect()
    }

    pub(crate) fn events(&mut self) -> Vec<WgEvent> {
        std::iter::from_fn(|| self.wg.poll_event()).collect()
    }

    pub(crate) fn seal(&mut self, packet: &[u8], now: Instant) -> Vec<u8> {
        let mut out = Vec::new();
        self.wg.seal(self.slot, packet, &mut out, now).expect("a session");
        out
    }

    /// Starts a handshake and gives the initiation.
    pub(crate) fn initiation(&mut self, now: Instant) -> Vec<u8> {
        self.wg.start_handshake(self.slot, now);
        let [initiation] = <[WgTransmit; 1]>::try_from(self.transmits()).expect("one initiation");
        initiation.datagram
    }
}

impl Pair {
    pub(crate) fn new() -> Self {
        let now = start();
        let [a, b] = [key(1), key(2)];
        let [a_public, b_public] = [a.public_key(), b.public_key()];
        Self {
            a: node(1, &a, b_public, now),
            b: node(2, &b, a_public, now),
            now,
        }
    }

    /// With a session, and all events taken.
    pub(crate) fn connected() -> Self {
        let mut pair = Self::new();
        pair.a.wg.start_handshake(pair.a.slot, pair.now);
        pair.drive();
        pair.a.events();
        pair.b.events();
        pair
    }

    /// Carries datagrams to and fro until both ends are silent. Gives what arrived, in order.
    pub(crate) fn drive(&mut self) -> Vec<(End, Arrival)> {
        let mut arrivals = Vec::new();
        for _ in 0..ROUNDS_MAX {
            let (from_a, from_b) = (self.a.transmits(), self.b.transmits());
            if from_a.is_empty() && from_b.is_empty() {
                return arrivals;
            }
            for transmit in from_a {
                assert!(
                    matches!(transmit.to, Destination::Peer)
                        || transmit.to == Destination::Address(self.b.address)
                );
                let arrival = self.b.receive(self.a.address, &transmit.datagram, self.now);
                arrivals.extend(arrival.map(|arrival| (End::B, arrival)));
            }
            for transmit in from_b {
                assert!(
                    matches!(transmit.to, Destination::Peer)
                        || transmit.to == Destination::Address(self.a.address)
                );
                let arrival = self.a.receive(self.b.address, &transmit.datagram, self.now);
                arrivals.extend(arrival.map(|arrival| (End::A, arrival)));
            }
        }
        panic!("the two never fall silent");
    }

    /// Lets time pass at both ends, in steps of their own timers.
    pub(crate) fn advance(&mut self, by: Duration) -> Vec<(End, Arrival)> {
        let end = self.now + by;
        let mut arrivals = Vec::new();
        loop {
            let due = [self.a.wg.poll_timeout(), self.b.wg.poll_timeout()]
                .into_iter()
                .flatten()
                .min();
            let Some(due) = due.filter(|due| *due <= end) else {
                self.now = end;
                return arrivals;
            };
            self.now = due.max(self.now);
            self.a.wg.handle_timeout(self.now);
            self.b.wg.handle_timeout(self.now);
            arrivals.extend(self.drive());
        }
    }

    pub(crate) fn a_to_b(&mut self, packet: &[u8]) -> Result<Arrival, WgDrop> {
        let datagram = self.a.seal(packet, self.now);
        self.b.receive(self.a.address, &datagram, self.now)
    }

    pub(crate) fn b_to_a(&mut self, packet: &[u8]) -> Result<Arrival, WgDrop> {
        let datagram = self.b.seal(packet, self.now);
        self.a.receive(self.b.address, &datagram, self.now)
    }
}

/// A peer that is not ours: boringtun's tunnel alone, as a stock client drives it.
pub(crate) struct Stock(Tunn);

impl Stock {
    pub(crate) fn new(key: &PrivateKey, peer: PublicKey) -> Self {
        Self(Tunn::new(
            x25519::StaticSecret::from(*key.expose()),
            x25519::PublicKey::from(*peer.as_bytes()),
            None,
            None,
            7,
            None,
        ))
    }

    pub(crate) fn initiation(&mut self) -> Vec<u8> {
        let mut out = [0; 2048];
        sent(self.0.format_handshake_initiation(&mut out, true)).expect("an initiation")
    }

    pub(crate) fn seal(&mut self, packet: &[u8]) -> Vec<u8> {
        let mut out = [0; 2048];
        sent(self.0.encapsulate(packet, &mut out)).expect("a session")
    }

    /// Handles a datagram; gives the packet in it, and the answer to it.
    pub(crate) fn receive(&mut self, datagram: &[u8]) -> (Option<Vec<u8>>, Option<Vec<u8>>) {
        let mut out = [0; 2048];
        match self.0.decapsulate(None, datagram, &mut out) {
            TunnResult::WriteToTunnelV4(packet, _) | TunnResult::WriteToTunnelV6(packet, _) => {
                (Some(packet.to_vec()), None)
            }
            TunnResult::WriteToNetwork(answer) => (None, Some(answer.to_vec())),
            TunnResult::Done => (None, None),
            TunnResult::Err(error) => panic!("the stock peer refuses: {error:?}"),
        }
    }
}

fn sent(result: TunnResult<'_>) -> Option<Vec<u8>> {
    match result {
        TunnResult::WriteToNetwork(datagram) => Some(datagram.to_vec()),
        TunnResult::Done
        | TunnResult::Err(_)
        | TunnResult::WriteToTunnelV4(..)
        | TunnResult::WriteToTunnelV6(..) => None,
    }
}

fn node(n: u8, key: &PrivateKey, peer: PublicKey, now: Instant) -> Node {
    let mut wg = WireGuard::new([n; 32]);
    let segment = wg.add_segment(key).expect("room for a segment");
    let slot = wg.add_peer(segment, peer, None, now).expect("a new peer");
    Node {
        wg,
        address: SocketAddr::from(([192, 0, 2, n], 51820)),
        segment,
        slot,
    }
}

pub(crate) fn key(n: u8) -> PrivateKey {
    PrivateKey::from_random([n; 32])
}

/// The `n`th of many forged sources.
pub(crate) fn forged(n: u32) -> SocketAddr {
    let [_, a, b, c] = n.to_be_bytes();
    SocketAddr::from(([10, a, b, c], 1000))
}

/// An IPv4 packet of this length.
pub(crate) fn packet(len: u16) -> Vec<u8> {
    let mut packet = vec![0xaa; usize::from(len)];
    packet[..20].copy_from_slice(&[
        0x45, 0, 0, 0, 0, 0, 0, 0, 64, 17, 0, 0, 100, 64, 0, 1, 100, 64, 0, 2,
    ]);
    packet[2..4].copy_from_slice(&len.to_be_bytes());
    packet
}

#[expect(
    clippy::disallowed_methods,
    reason = "an instant has no other source; the tests only count from it"
)]
pub(crate) fn start() -> Instant {
    Instant::now()
}

const ROUNDS_MAX: usize = 16;
