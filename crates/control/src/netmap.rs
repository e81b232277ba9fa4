//! What one node may know: the controller's whole word to it (DESIGN.md 1).

use std::collections::{BTreeMap, BTreeSet};
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use ringfence_model::{
    Name, NodeId, OverlayAddresses, PerimeterPrefixes, PublicKey, Revision, SEGMENTS_PER_NODE_MAX, UnixMillis,
};
use ringfence_policy::{OPENINGS_MAX, Rule, openings_of};
use serde::{Deserialize, Serialize};
use sha2::{Digest as _, Sha256};

/// Everything one node may know. Authoritative: what it omits is gone (red line 1).
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Netmap {
    /// The mesh it belongs to.
    pub mesh: Name,
    /// The node it is for.
    pub node: NodeId,
    /// That node's name.
    pub name: Name,
    /// The state of the controller it was compiled from.
    pub revision: Revision,
    /// The controller's wall clock when it was sent; rule expiry counts from here on the node's monotonic clock.
    pub issued_at: UnixMillis,
    /// By perimeter.
    pub segments: BTreeMap<Name, SegmentMap>,
}

/// A perimeter as it exists on this node.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct SegmentMap {
    /// This node's addresses in it.
    pub addresses: OverlayAddresses,
    /// What its members live in.
    pub prefixes: PerimeterPrefixes,
    /// How long it stays open without word from the controller, in milliseconds.
    pub lease_ms: u64,
    /// The public key the controller holds for this node here; `None` asks the node to register one.
    pub public_key: Option<PublicKey>,
    /// The allowlist: exactly the peers this node may talk to.
    pub peers: BTreeMap<NodeId, PeerMap>,
    /// The flows allowed, in both directions.
    #[serde(with = "crate::rule_list")]
    pub rules: Vec<Rule>,
}

/// One peer on the allowlist.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct PeerMap {
    /// What people call it.
    pub name: Name,
    /// The key it has in this perimeter.
    pub public_key: PublicKey,
    /// The overlay addresses it owns here: nothing else may come from it.
    pub addresses: OverlayAddresses,
    /// Whether it runs our agent or a stock WireGuard client.
    pub kind: PeerKind,
}

/// What runs at the other end.
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum PeerKind {
    /// `ringfence-node`.
    Node,
    /// A stock WireGuard client.
    Device,
}

/// Why a netmap cannot be what a sound controller sends. It is refused whole.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum NetmapFault {
    /// More perimeters than a node can be in.
    #[error("{0} segments are more than the {SEGMENTS_PER_NODE_MAX} a node can have")]
    Segments(usize),
    /// A prefix that is not overlay space: it would take over the machine's other traffic.
    #[error("{perimeter}: a prefix is outside 100.64.0.0/10 and fd00::/8")]
    Prefix {
        /// Where.
        perimeter: Name,
    },
    /// An address outside the perimeter's prefixes.
    #[error("{perimeter}: the address {address} is outside its prefixes")]
    AddressOutside {
        /// Where.
        perimeter: Name,
        /// Which.
        address: IpAddr,
    },
    /// Two members with one address.
    #[error("{perimeter}: the address {address} has two owners")]
    AddressTwice {
        /// Where.
        perimeter: Name,
        /// Which.
        address: IpAddr,
    },
    /// Two members with one key.
    #[error("{perimeter}: the key {key} has two owners")]
    KeyTwice {
        /// Where.
        perimeter: Name,
        /// Which.
        key: PublicKey,
    },
    /// The node is its own peer.
    #[error("{perimeter}: this node is on its own allowlist")]
    Itself {
        /// Where.
        perimeter: Name,
    },
    /// Rules that take more room than a node gives them.
    #[error("{perimeter}: its rules ask for {openings} openings, more than {OPENINGS_MAX}")]
    Openings {
        /// Where.
        perimeter: Name,
        /// How many.
        openings: u64,
    },
    /// No lease at all.
    #[error("{perimeter}: the lease is zero")]
    Lease {
        /// Where.
        perimeter: Name,
    },
}

impl Netmap {
    /// A hash of everything but `issued_at`: equal exactly when a node would enforce the same.
    pub fn content_hash(&self) -> [u8; 32] {
        self.content_hash_at(self.revision)
    }

    /// The hash this netmap would have at another revision: whether only the number has moved.
    pub fn content_hash_at(&self, revision: Revision) -> [u8; 32] {
        #[derive(Serialize)]
        struct Content<'a> {
            mesh: &'a Name,
            node: NodeId,
            name: &'a Name,
            revision: Revision,
            segments: &'a BTreeMap<Name, SegmentMap>,
        }
        let content = Content {
            mesh: &self.mesh,
            node: self.node,
            name: &self.name,
            revision,
            segments: &self.segments,
        };
        let mut bytes = Vec::new();
        ciborium::into_writer(&content, &mut bytes)
            .expect("plain data always encodes, and a Vec takes every byte");
        Sha256::digest(&bytes).into()
    }

    /// Whether a sound controller could have sent this.
    ///
    /// # Errors
    /// [`NetmapFault`]: the first thing that is wrong.
    pub fn check(&self) -> Result<(), NetmapFault> {
        if self.segments.len() > SEGMENTS_PER_NODE_MAX {
            return Err(NetmapFault::Segments(self.segments.len()));
        }
        for (perimeter, segment) in &self.segments {
            segment.check(perimeter, self.node)?;
        }
        Ok(())
    }
}

impl SegmentMap {
    fn check(&self, perimeter: &Name, node: NodeId) -> Result<(), NetmapFault> {
        let perimeter = || perimeter.clone();
        if !self
            .prefixes
            .v4
            .iter()
            .all(|p| is_overlay_v4(p.network(), p.prefix()))
            || !is_overlay_v6(self.prefixes.v6.network(), self.prefixes.v6.prefix())
        {
            return Err(NetmapFault::Prefix {
                perimeter: perimeter(),
            });
        }
        if self.lease_ms == 0 {
            return Err(NetmapFault::Lease {
                perimeter: perimeter(),
            });
        }
        if self.peers.contains_key(&node) {
            return Err(NetmapFault::Itself {
                perimeter: perimeter(),
            });
        }
        let openings = openings_of(&self.rules);
        if openings > OPENINGS_MAX {
            return Err(NetmapFault::Openings {
                perimeter: perimeter(),
                openings,
            });
        }
        let mut addresses = BTreeSet::new();
        let peers = self.peers.values().map(|peer| peer.addresses);
        for address in peers.chain([self.addresses]).flat_map(OverlayAddresses::both) {
            if !self.prefixes.iter().any(|prefix| prefix.contains(address)) {
                return Err(NetmapFault::AddressOutside {
                    perimeter: perimeter(),
                    address,
                });
            }
            if !addresses.insert(address) {
                return Err(NetmapFault::AddressTwice {
                    perimeter: perimeter(),
                    address,
                });
            }
        }
        let mut keys = BTreeSet::new();
        for key in self
            .peers
            .values()
            .map(|peer| peer.public_key)
            .chain(self.public_key)
        {
            if !keys.insert(key) {
                return Err(NetmapFault::KeyTwice {
                    perimeter: perimeter(),
                    key,
                });
            }
        }
        Ok(())
    }
}

/// Within 100.64.0.0/10 (RFC 6598).
fn is_overlay_v4(network: Ipv4Addr, prefix: u8) -> bool {
    let [a, b, ..] = network.octets();
    prefix >= 10 && a == 100 && b & 0xc0 == 64
}

/// Within fd00::/8 (RFC 4193), and no wider than a mesh's /48.
fn is_overlay_v6(network: Ipv6Addr, prefix: u8) -> bool {
    prefix >= 48 && network.octets()[0] == 0xfd
}

mod weight;

pub use weight::{NETMAP_HEAD_BYTES_MAX, NETMAP_WEIGHT_MAX, SegmentCount, TooLarge, written_bytes};

#[cfg(test)]
pub(crate) mod tests;
