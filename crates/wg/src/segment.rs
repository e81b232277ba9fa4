//! One segment: a key pair and the peers that may use it.

use std::collections::BTreeMap;

use ringfence_model::{PrivateKey, PublicKey};

use crate::clock::Noise;
use crate::mac1::Mac1Key;
use crate::slots::PeerSlot;

/// Names a segment. Never used twice.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct SegmentHandle(pub(crate) u32);

/// A key pair and its allowlist.
pub(crate) struct Segment {
    /// In a box: a table that moves its entries would leave copies of the private key behind.
    pub(crate) noise: Box<Noise>,
    pub(crate) mac1: Mac1Key,
    /// Who may have a handshake with this key. Nobody else does.
    pub(crate) peers: BTreeMap<PublicKey, PeerSlot>,
}

impl Segment {
    pub(crate) fn new(key: &PrivateKey) -> Self {
        let noise = Box::new(Noise::new(key));
        Self {
            mac1: Mac1Key::new(&noise.public_key()),
            noise,
            peers: BTreeMap::new(),
        }
    }
}

/// Segments on one socket. Each initiation is tried against all: 64 cost 22 µs, a third of the handshake itself.
pub const SEGMENTS_MAX: usize = 64;
