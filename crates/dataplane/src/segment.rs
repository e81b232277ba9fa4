//! A perimeter as it exists on this node: its rules, flows, peers, keys and lease.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::time::Instant;

use ringfence_control::{PeerMap, SegmentMap};
use ringfence_model::{
    Name, NodeId, OverlayAddresses, PerimeterPrefixes, PublicKey, Revision, UnixMillis, interface_name,
};
use ringfence_path::Path;
use ringfence_policy::{FlowTable, RuleSet};
use ringfence_wg::{PeerSlot, SegmentHandle};

use crate::address::AddressTable;
use crate::lease::Lease;
use crate::transmit::Way;
use crate::{SegmentFacts, SegmentId};

/// One segment.
pub(crate) struct Segment {
    pub(crate) id: SegmentId,
    pub(crate) perimeter: Name,
    /// This node's addresses in it.
    pub(crate) addresses: OverlayAddresses,
    pub(crate) prefixes: PerimeterPrefixes,
    /// The public key that the controller gives to the peers.
    pub(crate) registered_key: Option<PublicKey>,
    pub(crate) lease: Lease,
    pub(crate) gate: Gate,
    /// Its place in WireGuard, once it has a key.
    pub(crate) handle: Option<SegmentHandle>,
    pub(crate) peers: BTreeMap<NodeId, Peer>,
    pub(crate) owners: AddressTable,
    pub(crate) rules: RuleSet,
    pub(crate) flows: FlowTable,
}

/// Whether a segment passes traffic.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Gate {
    /// The lease runs.
    Open,
    /// The lease ended, or never ran: no peer has a session, every packet drops.
    Closed,
}

/// One peer on a segment's allowlist.
pub(crate) struct Peer {
    pub(crate) map: PeerMap,
    /// Its place in WireGuard, while the segment is open and has a key.
    pub(crate) slot: Option<PeerSlot>,
    pub(crate) path: Path,
}

impl Peer {
    /// Where data for it goes, and from which address of ours.
    pub(crate) fn way(&self, now: Instant) -> Option<Way> {
        let dst = self.path.data_endpoint()?;
        Some(self.way_to(dst, now))
    }

    /// The way to one of its addresses.
    pub(crate) fn way_to(&self, dst: SocketAddr, now: Instant) -> Way {
        Way {
            dst,
            src_ip: self.path.source_towards(dst, now),
        }
    }
}

impl Segment {
    /// A closed segment without peers. `flows` is empty.
    pub(crate) fn new(
        id: SegmentId,
        perimeter: Name,
        map: &SegmentMap,
        lease: Lease,
        flows: FlowTable,
    ) -> Self {
        Self {
            id,
            perimeter,
            addresses: map.addresses,
            prefixes: map.prefixes.clone(),
            registered_key: map.public_key,
            lease,
            gate: Gate::Closed,
            handle: None,
            peers: BTreeMap::new(),
            owners: AddressTable::default(),
            // The first netmap sets them, with their revision, before anything can pass.
            rules: RuleSet::empty(Revision::ZERO),
            flows,
        }
    }

    /// What the shell needs to know.
    pub(crate) fn facts(&self, mtu_bytes: u16) -> SegmentFacts {
        SegmentFacts {
            id: self.id,
            perimeter: self.perimeter.clone(),
            interface: interface_name(&self.perimeter),
            addresses: self.addresses,
            prefixes: self.prefixes.clone(),
            mtu_bytes,
        }
    }

    /// When its lease or the next of its rules ends.
    pub(crate) fn next_deadline(&self, now: Instant, wall: UnixMillis) -> Option<Instant> {
        match self.gate {
            Gate::Closed => None,
            Gate::Open => {
                let expiry = self.rules.next_expiry(wall);
                let expiry = expiry.and_then(|at| now.checked_add(at.saturating_since(wall)));
                Some(expiry.map_or(self.lease.ends(), |at| at.min(self.lease.ends())))
            }
        }
    }
}
