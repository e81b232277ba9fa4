//! The state of the segments, as `ringfence status` prints it: whole, or in parts, for a shell that has packets to
//! carry in between.

use std::ops::Bound;
use std::time::Instant;

use ringfence_control::local::{PeerStatus, SegmentStatus};
use ringfence_model::{Name, NodeId, UnixMillis};

use crate::Dataplane;
use crate::segment::{Gate, Peer, Segment};

impl Dataplane {
    /// Every segment with all its peers, in order of perimeter.
    pub fn status(&self, now: Instant) -> Vec<SegmentStatus> {
        let mut segments = self.status_of_segments(now);
        for segment in &mut segments {
            segment.peers = self.status_of_peers(&segment.perimeter, None, usize::MAX, now);
            segment.peers.sort_by(|a, b| a.node.cmp(&b.node));
        }
        segments
    }

    /// Every segment, in order of perimeter, and no peer: of those there may be very many.
    pub fn status_of_segments(&self, now: Instant) -> Vec<SegmentStatus> {
        let segments = self.perimeters.values().filter_map(|id| self.segments.get(id));
        segments
            .map(|segment| self.segment_status(segment, now))
            .collect()
    }

    /// Up to `max` peers of a segment in order of id, beginning behind `after`; none while it is closed.
    pub fn status_of_peers(
        &self,
        perimeter: &Name,
        after: Option<NodeId>,
        max: usize,
        now: Instant,
    ) -> Vec<PeerStatus> {
        let open = |segment: &&Segment| segment.gate == Gate::Open;
        let Some(segment) = self.segment_of(perimeter).filter(open) else {
            return Vec::new();
        };
        let (_, wall) = self.revision_and_wall(now);
        let behind = after.map_or(Bound::Unbounded, Bound::Excluded);
        let peers = segment.peers.range((behind, Bound::Unbounded)).take(max);
        peers
            .map(|(node, peer)| self.peer_status(*node, peer, now, wall))
            .collect()
    }

    fn segment_status(&self, segment: &Segment, now: Instant) -> SegmentStatus {
        let (revision, _) = self.revision_and_wall(now);
        SegmentStatus {
            perimeter: segment.perimeter.clone(),
            interface: segment.facts(self.config.mtu_bytes).interface,
            public_key: self.public_key(&segment.perimeter),
            addresses: segment.addresses.both().to_vec(),
            revision,
            // Rounded up: 0 says that it is closed.
            lease_seconds: segment.lease.left(now).as_millis().div_ceil(1000) as u64,
            peers: Vec::new(),
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
