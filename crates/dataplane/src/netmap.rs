//! Puts a netmap in force.
//!
//! **Invariant:** removals come before additions, and rules change and live flows are judged anew before any packet:
//! at no moment does anything pass that neither the old word nor the new one allows. `Enforced` comes last.

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use rand::Rng as _;
use ringfence_control::{Netmap, SegmentMap};
use ringfence_model::sabotage::{Safeguard, is_off};
use ringfence_model::{Name, NodeId, Revision, UnixMillis};
use ringfence_path::Path;
use ringfence_policy::{FlowTable, RuleSet};

use crate::check::{NetmapRefused, check};
use crate::lease::Lease;
use crate::segment::{Peer, Segment};
use crate::{Dataplane, Event, SegmentId};

/// Whose netmap is in force, and which.
#[derive(Clone, Debug)]
pub(crate) struct InForce {
    pub(crate) mesh: Name,
    pub(crate) node: NodeId,
    pub(crate) revision: Revision,
    /// The controller's wall clock at [`Self::since`]; it goes on from there with the monotonic one.
    pub(crate) wall: UnixMillis,
    pub(crate) since: Instant,
}

/// What is known about a netmap that comes from disk and not from the controller.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Restored {
    /// How long ago the controller last spoke, in a netmap or a lease: taken off every lease.
    pub since_word: Duration,
    /// The wall clock, to judge which rules have expired meanwhile.
    pub wall: UnixMillis,
}

impl InForce {
    /// The controller's wall clock.
    pub(crate) fn wall(&self, now: Instant) -> UnixMillis {
        self.wall
            .saturating_add(now.saturating_duration_since(self.since))
    }
}

impl Dataplane {
    /// Takes the controller's word: every segment, peer and rule that it omits is gone.
    ///
    /// Leases start anew. The same revision again is harmless. [`Event::Enforced`] follows.
    ///
    /// # Errors
    /// If it is older than the one in force, contradicts itself, or is for someone else; the one in force stays.
    pub fn handle_netmap(&mut self, netmap: Netmap, now: Instant) -> Result<(), NetmapRefused> {
        let heard = Restored {
            since_word: Duration::ZERO,
            wall: netmap.issued_at,
        };
        let revision = netmap.revision;
        self.put_in_force(netmap, heard, now)?;
        self.outbox.event(Event::Enforced { revision });
        Ok(())
    }

    /// Takes a netmap saved on disk, for what is left of its leases. A segment whose lease has run out is there, but
    /// closed. Nothing is acknowledged.
    ///
    /// # Errors
    /// As [`Self::handle_netmap`].
    pub fn restore(&mut self, netmap: Netmap, restored: Restored, now: Instant) -> Result<(), NetmapRefused> {
        let mut restored = restored;
        if is_off(Safeguard::RestoredLease) {
            restored.since_word = Duration::ZERO;
        }
        self.put_in_force(netmap, restored, now)
    }

    fn put_in_force(&mut self, netmap: Netmap, heard: Restored, now: Instant) -> Result<(), NetmapRefused> {
        check(&netmap, self.in_force.as_ref(), |perimeter, node, key| {
            let peer = self
                .segment_of(perimeter)
                .and_then(|segment| segment.peers.get(&node));
            peer.is_some_and(|peer| peer.map.public_key == key)
        })?;
        self.remove_what_is_gone(&netmap.segments, now);
        self.in_force = Some(InForce {
            mesh: netmap.mesh,
            node: netmap.node,
            revision: netmap.revision,
            wall: heard.wall,
            since: now,
        });
        for (perimeter, map) in &netmap.segments {
            if let Some(id) = self.perimeters.get(perimeter).copied() {
                self.change_rules(id, map, now);
            }
        }
        for (perimeter, map) in netmap.segments {
            self.add_what_is_new(perimeter, map, heard.since_word, now);
        }
        self.prune_candidates();
        self.prune_keys();
        self.schedule(now);
        self.drain_wireguard(now);
        Ok(())
    }

    fn remove_what_is_gone(&mut self, wanted: &BTreeMap<Name, SegmentMap>, now: Instant) {
        let ids: Vec<SegmentId> = self.segments.keys().copied().collect();
        for id in ids {
            let Some(segment) = self.segments.get(&id) else {
                continue;
            };
            // Addresses are for a node's life; one that changes all the same makes a new segment, with no old flows.
            let map = wanted.get(&segment.perimeter);
            let Some(map) = map.filter(|map| map.addresses == segment.addresses) else {
                self.remove_segment(id, now);
                continue;
            };
            let gone = segment.peers.iter().filter(|(node, peer)| {
                let stays = map.peers.get(node).is_some_and(|new| {
                    new.public_key == peer.map.public_key && new.addresses == peer.map.addresses
                });
                !stays
            });
            let gone: Vec<NodeId> = gone.map(|(node, _)| *node).collect();
            for node in gone {
                self.remove_peer(id, node, now);
            }
        }
    }

    fn remove_segment(&mut self, id: SegmentId, now: Instant) {
        self.close_segment(id, now);
        let Some(segment) = self.segments.remove(&id) else {
            return;
        };
        if let Some(handle) = segment.handle {
            self.wireguard.remove_segment(handle, now);
        }
        self.perimeters.remove(&segment.perimeter);
        self.keys.remove(&segment.perimeter);
        let facts = segment.facts(self.config.mtu_bytes);
        self.outbox.event(Event::SegmentRemoved(facts));
    }

    fn remove_peer(&mut self, id: SegmentId, node: NodeId, now: Instant) {
        let Some(segment) = self.segments.get_mut(&id) else {
            return;
        };
        // The resets leave through the session, so they are sealed before its keys go.
        let closed = segment.flows.close_peer(node);
        self.end_flows(id, closed, now);
        self.tell_all_endings(now);
        self.detach(id, node, now);
        if let Some(segment) = self.segments.get_mut(&id)
            && let Some(peer) = segment.peers.remove(&node)
        {
            segment.owners.remove(peer.map.addresses);
        }
    }

    fn change_rules(&mut self, id: SegmentId, map: &SegmentMap, now: Instant) {
        let (revision, wall) = self.revision_and_wall(now);
        let Some(segment) = self.segments.get_mut(&id) else {
            return;
        };
        let mut closed = Vec::new();
        if segment.rules.revision() == revision {
            // The same number with other rules (one expired before it was sent): flows that bear it would not be
            // judged, so they are marked as older first.
            let unmarked = RuleSet::new(&map.rules, Revision::ZERO);
            closed = segment.flows.rejudge(&unmarked, wall);
        }
        segment.rules = RuleSet::new(&map.rules, revision);
        closed.extend(segment.flows.rejudge(&segment.rules, wall));
        self.end_flows(id, closed, now);
        self.drop_orphans(id);
    }

    fn add_what_is_new(&mut self, perimeter: Name, map: SegmentMap, spent: Duration, now: Instant) {
        let lease = Lease::new(Duration::from_millis(map.lease_ms), spent, now);
        let id = self.perimeters.get(&perimeter).copied().unwrap_or_else(|| {
            let id = self.add_segment(perimeter, &map, lease);
            self.change_rules(id, &map, now);
            id
        });
        let mut paths = self.new_paths(&map);
        let mtu_bytes = self.config.mtu_bytes;
        let Some(segment) = self.segments.get_mut(&id) else {
            return;
        };
        let routes_moved = segment.prefixes != map.prefixes;
        segment.prefixes = map.prefixes;
        segment.lease = lease;
        segment.registered_key = map.public_key;
        for (node, new) in map.peers {
            let known = segment.peers.entry(node).or_insert_with(|| {
                segment.owners.insert(new.addresses, node);
                Peer {
                    map: new.clone(),
                    slot: None,
                    path: paths.remove(&node).unwrap_or_default(),
                }
            });
            known.map = new;
        }
        if routes_moved {
            self.outbox.event(Event::SegmentChanged(segment.facts(mtu_bytes)));
        }
        self.ask_for_key(id);
        self.open_or_close(id, now);
    }

    fn add_segment(&mut self, perimeter: Name, map: &SegmentMap, lease: Lease) -> SegmentId {
        let id = self.next_segment_id();
        let flows = FlowTable::new(self.rng.random(), self.config.flows_per_peer_max);
        let segment = Segment::new(id, perimeter.clone(), map, lease, flows);
        let facts = segment.facts(self.config.mtu_bytes);
        self.segments.insert(id, segment);
        self.perimeters.insert(perimeter, id);
        self.outbox.event(Event::SegmentAdded(facts));
        id
    }

    fn new_paths(&self, map: &SegmentMap) -> BTreeMap<NodeId, Path> {
        let known = map
            .peers
            .keys()
            .filter_map(|node| Some((*node, self.candidates.get(node)?)));
        known
            .map(|(node, candidates)| (node, Path::new(&self.underlay(candidates))))
            .collect()
    }

    /// Forgets candidates and epochs of strangers: only members of some segment are worth the memory.
    fn prune_candidates(&mut self) {
        let segments = &self.segments;
        self.candidates
            .retain(|node, _| segments.values().any(|segment| segment.peers.contains_key(node)));
        self.epochs
            .retain(|node, _| segments.values().any(|segment| segment.peers.contains_key(node)));
    }

    /// Forgets private keys of perimeters that this node is not in: they came early, or before it left.
    fn prune_keys(&mut self) {
        let perimeters = &self.perimeters;
        self.keys
            .retain(|perimeter, _| perimeters.contains_key(perimeter));
    }
}
