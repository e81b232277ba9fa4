//! Whether a netmap may be put in force: it is refused whole, before anything is touched (DESIGN.md 8).

use ipnetwork::IpNetwork;
use ringfence_control::{Netmap, NetmapFault, SegmentMap};
use ringfence_model::sabotage::{Safeguard, is_off};
use ringfence_model::{Name, NodeId, PublicKey, Revision};

use crate::netmap::InForce;

/// Why a netmap was refused. The one in force stays.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum NetmapRefused {
    /// Numbers only go up (DESIGN.md, decision 4).
    #[error("revision {got} is older than {in_force}, which is in force")]
    Older {
        /// The one refused.
        got: Revision,
        /// The one that stays.
        in_force: Revision,
    },
    /// It was made for someone else.
    #[error("the netmap is for node {got}, and this is node {this}")]
    OtherNode {
        /// Whom it is for.
        got: NodeId,
        /// Who this is.
        this: NodeId,
    },
    /// It comes from another mesh.
    #[error("the netmap is of mesh {0}, to which this node does not belong")]
    OtherMesh(Name),
    /// It contradicts itself.
    #[error("the netmap is malformed: {0}")]
    Malformed(#[from] NetmapFault),
    /// More than [`PEERS_PER_SEGMENT_MAX`].
    #[error("{perimeter} has {peers} peers: at most {PEERS_PER_SEGMENT_MAX}")]
    TooManyPeers {
        /// In which perimeter.
        perimeter: Name,
        /// How many.
        peers: usize,
    },
    /// Every secret agreed on with such a key is known to all (RFC 7748 section 6.1).
    #[error("{perimeter}: the key of node {node} is a point of low order")]
    LowOrderKey {
        /// In which perimeter.
        perimeter: Name,
        /// Whose key.
        node: NodeId,
    },
    /// Two perimeters overlap: a packet would have two devices to leave by.
    #[error("the prefixes of {one} and {other} overlap")]
    OverlappingPrefixes {
        /// One of them.
        one: Name,
        /// The other.
        other: Name,
    },
}

/// Checks a netmap against itself and against the one in force.
///
/// `is_trusted` tells whose keys passed before: finding out whether one is of low order costs a key exchange.
pub(crate) fn check(
    netmap: &Netmap,
    in_force: Option<&InForce>,
    is_trusted: impl Fn(&Name, NodeId, PublicKey) -> bool,
) -> Result<(), NetmapRefused> {
    if let Some(in_force) = in_force {
        check_succession(netmap, in_force)?;
    }
    netmap.check()?;
    for (perimeter, segment) in &netmap.segments {
        check_peers(perimeter, segment, &is_trusted)?;
    }
    check_prefixes(netmap)
}

fn check_succession(netmap: &Netmap, in_force: &InForce) -> Result<(), NetmapRefused> {
    if netmap.mesh != in_force.mesh {
        return Err(NetmapRefused::OtherMesh(netmap.mesh.clone()));
    }
    if netmap.node != in_force.node && !is_off(Safeguard::NetmapOwner) {
        return Err(NetmapRefused::OtherNode {
            got: netmap.node,
            this: in_force.node,
        });
    }
    if netmap.revision < in_force.revision && !is_off(Safeguard::Monotony) {
        return Err(NetmapRefused::Older {
            got: netmap.revision,
            in_force: in_force.revision,
        });
    }
    Ok(())
}

fn check_peers(
    perimeter: &Name,
    segment: &SegmentMap,
    is_trusted: impl Fn(&Name, NodeId, PublicKey) -> bool,
) -> Result<(), NetmapRefused> {
    if segment.peers.len() > PEERS_PER_SEGMENT_MAX {
        return Err(NetmapRefused::TooManyPeers {
            perimeter: perimeter.clone(),
            peers: segment.peers.len(),
        });
    }
    let new = segment
        .peers
        .iter()
        .filter(|(node, peer)| !is_trusted(perimeter, **node, peer.public_key));
    for (node, peer) in new {
        if peer.public_key.is_low_order() {
            return Err(NetmapRefused::LowOrderKey {
                perimeter: perimeter.clone(),
                node: *node,
            });
        }
    }
    Ok(())
}

fn check_prefixes(netmap: &Netmap) -> Result<(), NetmapRefused> {
    let mut seen: Vec<(&Name, IpNetwork)> = Vec::new();
    for (perimeter, segment) in &netmap.segments {
        let own: Vec<IpNetwork> = segment.prefixes.iter().collect();
        let clash = seen
            .iter()
            .find(|(_, other)| own.iter().any(|prefix| overlap(*prefix, *other)));
        if let Some((one, _)) = clash {
            return Err(NetmapRefused::OverlappingPrefixes {
                one: (*one).clone(),
                other: perimeter.clone(),
            });
        }
        seen.extend(own.into_iter().map(|prefix| (perimeter, prefix)));
    }
    Ok(())
}

/// Two prefixes are either apart, or one holds the other's first address.
fn overlap(a: IpNetwork, b: IpNetwork) -> bool {
    a.contains(b.network()) || b.contains(a.network())
}

/// The most peers one segment takes: 11 kB of WireGuard state for each that has been spoken with.
pub const PEERS_PER_SEGMENT_MAX: usize = 16_384;
