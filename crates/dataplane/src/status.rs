//! The state of the segments, as `ringfence status` prints it.

use std::time::Instant;

use ringfence_control::local::{PeerStatus, SegmentStatus};
use ringfence_model::{NodeId, UnixMillis};

use crate::Dataplane;
use crate::segment::{Gate, Peer, Segment};

impl Dataplane {
    /// Every segment, in order of perimeter.
    pub fn status(&self, now: Instant) -> Vec<SegmentStatus> {
        let segments = self.perimeters.values().filter_map(|id| self.segments.get(id));
        segments
            .map(|segment| self.segment_status(segment, now))
            .collect()
    }

    fn segment_status(&self, segment: &Segment, now: Instant) -> SegmentStatus {
        let (revision, wall) = self.revision_and_wall(now);
        let open = match segment.gate {
            Gate::Open => Some(&segment.peers),
            Gate::Closed => None,
        };
        let peers = open.into_iter().flatten();
        let mut peers: Vec<PeerStatus> = peers
            .map(|(node, peer)| self.peer_status(*node, peer, now, wall))
            .collect();
        peers.sort_by(|a, b| a.node.cmp(&b.node));
        SegmentStatus {
            perimeter: segment.perimeter.clone(),
            interface: segment.facts(self.config.mtu_bytes).interface,
            public_key: self.public_key(&segment.perimeter),
            addresses: segment.addresses.both().to_vec(),
            revision,
            // Rounded up: 0 says that it is closed.
            lease_seconds: segment.lease.left(now).as_millis().div_ceil(1000) as u64,
            peers,
        }
    }

    fn peer_status(&self, node: NodeId, peer: &Peer, now: Instant, wall: UnixMillis) -> PeerStatus {
        let stats = peer.slot.and_then(|slot| self.wireguard.stats(slot, now));
        let since = stats.and_then(|stats| stats.latest_handshake);
        let latest_handshake = since.map(|since| UnixMillis(wall.0.saturating_sub(since.as_millis() as u64)));
        PeerStatus {
            node: peer.map.name.clone(),
            id: node,
            kind: peer.map.kind,
            public_key: peer.map.public_key,
            addresses: peer.map.addresses.both().to_vec(),
            endpoint: peer.path.data_endpoint(),
            latest_handshake: latest_handshake.map(|at| at.0 / 1000),
            rx_bytes: stats.map_or(0, |stats| stats.rx_bytes),
            tx_bytes: stats.map_or(0, |stats| stats.tx_bytes),
        }
    }
}
