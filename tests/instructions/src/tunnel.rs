//! Two ends of a WireGuard session, and one end with many peers.

use std::net::SocketAddr;
use std::time::Instant;

use ringfence_model::{PrivateKey, PublicKey};
use ringfence_wg::{PeerSlot, SegmentHandle, WireGuard};

/// Two ends with a session.
pub(crate) struct Tunnel {
    pub(crate) left: End,
    pub(crate) right: End,
    pub(crate) now: Instant,
}

pub(crate) struct End {
    pub(crate) wireguard: WireGuard,
    segment: SegmentHandle,
    pub(crate) slot: PeerSlot,
    pub(crate) address: SocketAddr,
}

impl Tunnel {
    pub(crate) fn new() -> Self {
        let now = Instant::now();
        let keys = [key(1), key(2)];
        let publics = [keys[0].public_key(), keys[1].public_key()];
        let mut left = End::new(1, &keys[0], publics[1], now);
        let mut right = End::new(2, &keys[1], publics[0], now);
        left.wireguard.start_handshake(left.slot, now);
        // Initiation, response, and the keepalive that confirms it.
        for _ in 0..2 {
            right.take_from(&mut left, now);
            left.take_from(&mut right, now);
        }
        assert!(left.wireguard.has_session(left.slot) && right.wireguard.has_session(right.slot));
        Self { left, right, now }
    }

    /// The same where the right end has so many peers more.
    pub(crate) fn in_crowd(peers: u32) -> Self {
        let mut tunnel = Self::new();
        tunnel.right.add_strangers(peers, tunnel.now);
        tunnel
    }

    pub(crate) fn seal(&mut self, packet: &[u8], out: &mut Vec<u8>) {
        let sealed = self.left.wireguard.seal(self.left.slot, packet, out, self.now);
        sealed.expect("there is a session");
    }

    pub(crate) fn open(&mut self, datagram: &[u8], buffer: &mut [u8]) {
        let opened = self
            .right
            .wireguard
            .open(self.left.address, datagram, buffer, self.now);
        opened.expect("it was just sealed");
    }
}

impl End {
    fn new(number: u8, key: &PrivateKey, peer: PublicKey, now: Instant) -> Self {
        let mut wireguard = WireGuard::new([number; 32]);
        let segment = wireguard.add_segment(key).expect("the first");
        let slot = wireguard.add_peer(segment, peer, None, now).expect("the first");
        Self {
            wireguard,
            segment,
            slot,
            address: SocketAddr::from(([192, 0, 2, number], 51_820)),
        }
    }

    fn add_strangers(&mut self, peers: u32, now: Instant) {
        for number in 0..peers {
            let added = self.wireguard.add_peer(self.segment, stranger(number), None, now);
            added.expect("there is room for this many");
        }
    }

    fn take_from(&mut self, other: &mut Self, now: Instant) {
        let mut buffer = [0; 2048];
        while let Some(transmit) = other.wireguard.poll_transmit() {
            let opened = self
                .wireguard
                .open(other.address, &transmit.datagram, &mut buffer, now);
            opened.expect("an honest peer's handshake");
        }
    }
}

/// One end with `peers` peers, and a datagram that claims to be data of one of them, without a session.
pub(crate) fn crowd(peers: u32, now: Instant) -> (WireGuard, Vec<u8>) {
    let mut wireguard = WireGuard::new([3; 32]);
    let segment = wireguard.add_segment(&key(1)).expect("the first");
    let mut last = None;
    for number in 0..peers {
        last = wireguard.add_peer(segment, stranger(number), None, now).ok();
    }
    let slot = last.expect("there is room for this many");
    wireguard.start_handshake(slot, now);
    let initiation = wireguard.poll_transmit().expect("an initiation").datagram;
    // Type 4, and as its receiver the sender's index of the initiation.
    let mut datagram = vec![0; 96];
    datagram[0] = 4;
    datagram[4..8].copy_from_slice(&initiation[4..8]);
    (wireguard, datagram)
}

/// The key of somebody who never says anything.
fn stranger(number: u32) -> PublicKey {
    let mut public = [0x5a; 32];
    public[..4].copy_from_slice(&number.to_le_bytes());
    PublicKey::from_bytes(public)
}

fn key(number: u8) -> PrivateKey {
    PrivateKey::from_random([number; 32])
}
