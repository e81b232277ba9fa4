//! Who is connected, and where peers may reach them: facts that change too often for the log and die with the process.

use std::collections::{BTreeMap, BTreeSet};
use std::net::SocketAddr;

use ringfence_control::{LANES_MAX, Netmap, PeerCandidates};
use ringfence_model::{Candidate, NodeId, Revision, UnixMillis};

use crate::Controller;

/// What is known about every node that was seen since the controller started.
#[derive(Clone, Debug, Default)]
pub(crate) struct Presence {
    by_node: BTreeMap<NodeId, NodePresence>,
}

/// What is known about one node.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct NodePresence {
    /// Its control connection, while there is one.
    pub connection: Option<Connection>,
    /// When the controller last heard from it.
    pub last_seen: Option<UnixMillis>,
    /// Its agent's version.
    pub version: Option<String>,
    /// Where its peers may reach it, best first.
    pub candidates: Vec<Candidate>,
    /// Another number than before: it has lost its sessions with its peers. Zero says nothing.
    pub epoch: u64,
    /// The UDP ports of its further lanes.
    pub lane_ports: Vec<u16>,
    /// The newest revision it enforces.
    pub enforced: Option<Enforcement>,
    /// The newest revision that may have changed its netmap.
    pub(crate) touched: Option<Revision>,
}

/// A node's control connection.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Connection {
    /// Counted by the shell: a connection that closes late does not end a newer one.
    pub id: u64,
    /// Where it comes from.
    pub remote: SocketAddr,
    /// Since when.
    pub since: UnixMillis,
}

/// A node's word that it enforces a revision.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Enforcement {
    /// The revision.
    pub revision: Revision,
    /// When the controller heard it.
    pub at: UnixMillis,
    /// What the node itself needed, in microseconds.
    pub took_us: u64,
}

impl Controller {
    /// A node's control connection is up. Call once it is authorized. Replaces an older connection; word of one that
    /// is older than the one held comes late and changes nothing.
    pub fn connected(&mut self, node: NodeId, connection: Connection, version: &str) {
        if !self.state().nodes.contains_key(&node) {
            return;
        }
        let revision = self.revision();
        let presence = self.presence.by_node.entry(node).or_default();
        if presence.connection.is_some_and(|held| held.id > connection.id) {
            return;
        }
        // It is sent what holds now, and acknowledges that; what changes later without concerning it asks nothing of it.
        presence.touched = Some(revision);
        let end = version.floor_char_boundary(VERSION_BYTES_MAX);
        presence.last_seen = Some(connection.since);
        presence.connection = Some(connection);
        presence.version = Some(version[..end].to_owned());
        // What it says of itself is what counts: it may come back without what it once enforced.
        presence.enforced = None;
        self.plan_lapse(node);
    }

    /// What a connected node says of its sessions with its peers. If it has lost them, whoever is told of its next
    /// candidates is told of that: it may be unable to reach them by itself, and they would not know to reach it.
    pub fn begin_epoch(&mut self, node: NodeId, connection_id: u64, epoch: u64) {
        if let Some(presence) = self.connected_as(node, connection_id)
            && presence.epoch != epoch
        {
            presence.epoch = epoch;
            presence.candidates.clear();
        }
    }

    /// On which further ports a connected node's lanes are. Call with [`Self::begin_epoch`], before its candidates: who is
    /// told of those is told of these.
    pub fn set_lane_ports(&mut self, node: NodeId, connection_id: u64, lane_ports: &[u16]) {
        let usable = lane_ports.iter().take_while(|port| **port != 0);
        let lane_ports: Vec<u16> = usable.take(LANES_MAX - 1).copied().collect();
        if let Some(presence) = self.connected_as(node, connection_id)
            && presence.lane_ports != lane_ports
        {
            presence.lane_ports = lane_ports;
            presence.candidates.clear();
        }
    }

    /// A node's control connection comes from elsewhere now. Whether it is the one the node has.
    pub fn moved(&mut self, node: NodeId, connection_id: u64, remote: SocketAddr) -> bool {
        let presence = self.connected_as(node, connection_id);
        let connection = presence.and_then(|presence| presence.connection.as_mut());
        connection.map(|connection| connection.remote = remote).is_some()
    }

    /// A node's control connection is gone. One that was replaced already is nobody's loss.
    pub fn disconnected(&mut self, node: NodeId, connection_id: u64, wall: UnixMillis) {
        if let Some(presence) = self.connected_as(node, connection_id) {
            presence.connection = None;
            presence.last_seen = Some(wall);
            self.plan_lapse(node);
        }
    }

    /// A node's presence, if this connection is still the one it has.
    pub(crate) fn connected_as(&mut self, node: NodeId, connection_id: u64) -> Option<&mut NodePresence> {
        let presence = self.presence.by_node.get_mut(&node)?;
        let connection = presence.connection?;
        (connection.id == connection_id).then_some(presence)
    }

    /// A node was heard from.
    pub fn seen(&mut self, node: NodeId, wall: UnixMillis) {
        if let Some(presence) = self.presence.by_node.get_mut(&node) {
            presence.last_seen = Some(wall);
            if presence.connection.is_none() {
                self.plan_lapse(node);
            }
        }
    }

    /// A node said where it may be reached: at most [`CANDIDATES_MAX`] count, the first ones. Who is to be told, if
    /// anything is new.
    pub fn set_candidates(&mut self, node: NodeId, candidates: &[Candidate]) -> BTreeSet<NodeId> {
        if !self.state().nodes.contains_key(&node) {
            return BTreeSet::new();
        }
        let mut kept: Vec<Candidate> = Vec::new();
        for candidate in candidates {
            // One address is one candidate, whatever it was called the second time.
            let known = kept.iter().any(|other| other.address == candidate.address);
            if kept.len() < CANDIDATES_MAX && !known && is_usable(candidate) {
                kept.push(*candidate);
            }
        }
        let presence = self.presence.by_node.entry(node).or_default();
        if presence.candidates == kept {
            return BTreeSet::new();
        }
        presence.candidates = kept;
        self.listing(node)
    }

    /// Where everyone on `node`'s allowlist may be reached, as far as it is known.
    pub fn candidates_for(&self, node: NodeId) -> BTreeMap<NodeId, PeerCandidates> {
        let netmap = self.netmap(node, UnixMillis(0));
        let news = netmap.map(|netmap| self.news_beyond(&netmap, &mut BTreeMap::new()));
        let news = news.into_iter().flatten();
        news.map(|news| (news.peer, news)).collect()
    }

    /// Where the peers of a node's `netmap` may be reached, as far as it is known and is not what the node was `told`.
    /// Who is no peer any more is forgotten there: the node forgets it too.
    pub fn news_beyond(
        &self,
        netmap: &Netmap,
        told: &mut BTreeMap<NodeId, PeerCandidates>,
    ) -> Vec<PeerCandidates> {
        let peers = self.peers_in(netmap);
        let reachable = |peer: &NodeId| {
            let presence = self.presence.by_node.get(peer)?;
            (peers.contains(peer) && !presence.candidates.is_empty()).then_some(presence)
        };
        told.retain(|peer, _| reachable(peer).is_some());
        let news = peers.iter().filter_map(|peer| {
            let presence = reachable(peer)?;
            let known = told.get(peer).is_some_and(|told| presence.is_as_told(told));
            (!known).then(|| presence.news_of(*peer))
        });
        news.collect()
    }

    /// Where a node may be reached, as its peers are told.
    pub fn news_of(&self, node: NodeId) -> PeerCandidates {
        let presence = self.presence.by_node.get(&node).cloned().unwrap_or_default();
        presence.news_of(node)
    }

    /// The nodes that `node` knows as peers, in any perimeter. Devices are none.
    ///
    /// By its netmap, not by policy alone: a node forgets what it hears about one who is not its peer, as nobody is
    /// before both have a key, and would not be told again.
    fn listing(&self, node: NodeId) -> BTreeSet<NodeId> {
        let netmap = self.netmap(node, UnixMillis(0));
        netmap.map(|netmap| self.peers_in(&netmap)).unwrap_or_default()
    }

    /// The nodes that a netmap lists as peers.
    fn peers_in(&self, netmap: &Netmap) -> BTreeSet<NodeId> {
        let peers = netmap.segments.values().flat_map(|segment| segment.peers.keys());
        peers
            .copied()
            .filter(|peer| self.state().nodes.contains_key(peer))
            .collect()
    }

    /// What is known about a node besides the log.
    pub fn presence(&self, node: NodeId) -> Option<&NodePresence> {
        self.presence.by_node.get(&node)
    }

    /// Whether a node is connected.
    pub(crate) fn is_connected(&self, node: NodeId) -> bool {
        let presence = self.presence(node);
        presence.is_some_and(|presence| presence.connection.is_some())
    }

    /// The nodes that are connected.
    pub fn connected_nodes(&self) -> impl Iterator<Item = NodeId> + '_ {
        let all = self.presence.by_node.iter();
        all.filter(|(_, presence)| presence.connection.is_some())
            .map(|(id, _)| *id)
    }
}

impl NodePresence {
    fn news_of(&self, node: NodeId) -> PeerCandidates {
        PeerCandidates {
            peer: node,
            candidates: self.candidates.clone(),
            epoch: self.epoch,
            lane_ports: self.lane_ports.clone(),
        }
    }

    /// Whether that is what its peers are to be told now.
    fn is_as_told(&self, told: &PeerCandidates) -> bool {
        let PeerCandidates {
            peer: _,
            candidates,
            epoch,
            lane_ports,
        } = told;
        (candidates, *epoch, lane_ports) == (&self.candidates, self.epoch, &self.lane_ports)
    }
}

impl Presence {
    pub(crate) fn touch(&mut self, node: NodeId, revision: Revision) {
        self.by_node.entry(node).or_default().touched = Some(revision);
    }

    pub(crate) fn forget(&mut self, node: NodeId) {
        self.by_node.remove(&node);
    }

    /// Of how many nodes something is known.
    pub(crate) fn len(&self) -> usize {
        self.by_node.len()
    }

    pub(crate) fn node_mut(&mut self, node: NodeId) -> Option<&mut NodePresence> {
        self.by_node.get_mut(&node)
    }
}

/// Whether peers could send there: a candidate of nowhere or everywhere would aim every peer at something else.
fn is_usable(candidate: &Candidate) -> bool {
    let ip = candidate.address.ip();
    let broadcast = match ip {
        std::net::IpAddr::V4(v4) => v4.is_broadcast(),
        std::net::IpAddr::V6(_) => false,
    };
    candidate.address.port() != 0
        && !ip.is_unspecified()
        && !ip.is_multicast()
        && !ip.is_loopback()
        && !broadcast
}

/// Candidates kept of one node.
pub const CANDIDATES_MAX: usize = 16;

const VERSION_BYTES_MAX: usize = 64;
