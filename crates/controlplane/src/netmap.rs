//! What each node may know.
//!
//! **Invariant:** a node learns the key of a peer only if a live rule joins the two and both have a key (wall 1 of
//! DESIGN.md 2), so allowlists are symmetric: A lists B exactly if B lists A.

use ringfence_control::{Netmap, PeerKind, PeerMap, SegmentMap};
use ringfence_model::sabotage::{Safeguard, is_off};
use ringfence_model::{NodeId, PublicKey, UnixMillis};
use ringfence_policy::Compiled;

use crate::Controller;
use crate::perimeter::Perimeter;
use crate::state::State;

impl Controller {
    /// Everything `node` may know; `None` if there is no such node.
    pub fn netmap(&self, node: NodeId, wall: UnixMillis) -> Option<Netmap> {
        let state = self.state();
        let known = state.nodes.get(&node)?;
        let mut netmap = Netmap {
            mesh: state.mesh.name.clone(),
            node,
            name: known.name.clone(),
            revision: state.revision,
            issued_at: wall,
            segments: std::collections::BTreeMap::new(),
        };
        for name in &known.perimeters {
            let perimeter = state.perimeters.get(name)?;
            let segment = segment(state, perimeter, self.views().perimeter(name)?, node)?;
            netmap.segments.insert(name.clone(), segment);
        }
        Some(netmap)
    }
}

fn segment(state: &State, perimeter: &Perimeter, compiled: &Compiled, node: NodeId) -> Option<SegmentMap> {
    let seat = perimeter.seat(node)?;
    let allowlist = compiled.allowlist(node);
    let mut segment = SegmentMap {
        addresses: perimeter.addresses(seat),
        prefixes: perimeter.prefixes(),
        lease_ms: u64::try_from(perimeter.policy().lease.as_millis()).unwrap_or(u64::MAX),
        public_key: seat.key,
        peers: std::collections::BTreeMap::new(),
        // Rules name peers without a key too: one that registers its key then costs one entry, not every rule.
        rules: allowlist.rules,
    };
    if seat.key.is_none() {
        return Some(segment);
    }
    let mut listed = allowlist.peers;
    if is_off(Safeguard::Allowlist) {
        listed.extend(
            perimeter
                .members()
                .map(|(member, _)| member)
                .filter(|member| *member != node),
        );
    }
    let peers = listed.iter();
    segment.peers = peers
        .filter_map(|peer| {
            let key = perimeter.seat(*peer)?.key?;
            Some((*peer, peer_map(state, perimeter, *peer, key)?))
        })
        .collect();
    Some(segment)
}

/// A member as its peers are told of it, with this key.
pub(crate) fn peer_map(
    state: &State,
    perimeter: &Perimeter,
    peer: NodeId,
    public_key: PublicKey,
) -> Option<PeerMap> {
    let seat = perimeter.seat(peer)?;
    let kind = if state.nodes.contains_key(&peer) {
        PeerKind::Node
    } else {
        PeerKind::Device
    };
    Some(PeerMap {
        name: state.name_of(peer)?.clone(),
        public_key,
        addresses: perimeter.addresses(seat),
        kind,
    })
}
