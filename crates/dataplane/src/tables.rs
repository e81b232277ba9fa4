//! How full every table of a node is: for whoever watches one, and for tests that flood it.

use ringfence_model::{SEGMENTS_PER_NODE_MAX, TableSize};

use crate::attach::CANDIDATE_LISTS_MAX;
use crate::segment::Segment;
use crate::{Dataplane, PEERS_PER_SEGMENT_MAX};

impl Dataplane {
    /// How full each table is that outlives a call; of those that each segment has, the fullest.
    ///
    /// The queues of packets are left out: they are empty whenever the shell has drained them.
    pub fn tables(&self) -> Vec<TableSize> {
        // A new field must say here whether it is a table.
        let Self {
            config: _,
            in_force: _,
            wireguard,
            segments,
            perimeters,
            slots,
            keys,
            candidates,
            epochs,
            pending,
            pings,
            outbox,
            gathering,
            lanes,
            scratch: _,
            endings,
            drops: _,
            rng: _,
            segments_made: _,
            deadline: _,
            flow_deadline: _,
        } = self;
        let peers = segments.values().map(|segment| segment.peers.len()).sum();
        let mut tables = vec![
            TableSize::new("segments", segments.len(), SEGMENTS_PER_NODE_MAX),
            TableSize::new("perimeters", perimeters.len(), segments.len()),
            TableSize::new("private keys", keys.len(), SEGMENTS_PER_NODE_MAX),
            TableSize::new("peers with a place", slots.len(), peers),
            TableSize::new("peers with keys in memory", wireguard.peers_len(), slots.len()),
            TableSize::new("peers with candidates", candidates.len(), CANDIDATE_LISTS_MAX),
            TableSize::new("peers with epochs", epochs.len(), CANDIDATE_LISTS_MAX),
        ];
        let of_segments = segments.values().flat_map(Segment::tables);
        tables.extend(TableSize::fullest(of_segments));
        tables.extend(pending.tables());
        tables.extend(pings.tables());
        tables.extend(outbox.tables());
        tables.push(gathering.table());
        tables.extend(lanes.tables(peers));
        tables.push(endings.table());
        tables.extend(wireguard.tables());
        tables
    }
}

impl Segment {
    fn tables(&self) -> Vec<TableSize> {
        let mut tables = vec![
            TableSize::new("peers of a segment", self.peers.len(), PEERS_PER_SEGMENT_MAX),
            TableSize::new("owners of addresses", self.owners.len(), 2 * self.peers.len()),
        ];
        tables.extend(self.flows.tables());
        tables
    }
}
