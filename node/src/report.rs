//! The state of the node as its local sockets tell it.

use tokio::sync::{oneshot, watch};

use ringfence_control::local::{ControllerStatus, LaneStatus, PeerStatus, SegmentStatus, StatusReport};
use ringfence_model::{Name, NodeId};

use crate::command::{Command, DataplaneStatus, LaneTraffic, PEERS_AT_ONCE};
use crate::packet_loop::LoopHandle;

/// Asks the packet loop and the control side how things are.
#[derive(Clone)]
pub(crate) struct Reporter {
    packets: LoopHandle,
    facts: NodeFacts,
    changing: watch::Receiver<ChangingFacts>,
}

/// What stays as it is while the process runs.
#[derive(Clone, Debug)]
pub(crate) struct NodeFacts {
    /// The mesh.
    pub(crate) mesh: Name,
    /// The node's id.
    pub(crate) id: NodeId,
    /// The UDP port of its tunnels.
    pub(crate) listen_port: u16,
    /// Those of the lanes after the first.
    pub(crate) lane_ports: Vec<u16>,
}

/// What the control side changes.
#[derive(Clone, Debug)]
pub(crate) struct ChangingFacts {
    /// The node's name, which an administrator may change.
    pub(crate) name: Name,
    /// The control channel.
    pub(crate) controller: ControllerStatus,
}

impl Reporter {
    /// A reporter on `packets`.
    pub(crate) fn new(
        packets: LoopHandle,
        facts: NodeFacts,
        changing: watch::Receiver<ChangingFacts>,
    ) -> Self {
        Self {
            packets,
            facts,
            changing,
        }
    }

    /// Everything; `None` if the node is stopping.
    pub(crate) async fn status(&self) -> Option<StatusReport> {
        let mut dataplane = self.dataplane().await?;
        let mut lanes = Vec::new();
        for segment in &mut dataplane.segments {
            segment.peers = self.peers(&segment.perimeter, &mut lanes).await?;
        }
        let changing = self.changing.borrow().clone();
        Some(StatusReport {
            node: changing.name,
            id: self.facts.id,
            mesh: self.facts.mesh.clone(),
            version: env!("CARGO_PKG_VERSION").to_owned(),
            listen_port: self.facts.listen_port,
            controller: changing.controller,
            segments: dataplane.segments,
            drops: dataplane.drops,
            lanes: self.lanes(&lanes),
        })
    }

    /// The segment behind `interface`.
    pub(crate) async fn segment(&self, interface: &str) -> Option<SegmentStatus> {
        let segments = self.dataplane().await?.segments;
        let mut segment = segments
            .into_iter()
            .find(|segment| segment.interface == interface)?;
        segment.peers = self.peers(&segment.perimeter, &mut Vec::new()).await?;
        Some(segment)
    }

    /// The UDP port of the tunnels.
    pub(crate) fn listen_port(&self) -> u16 {
        self.facts.listen_port
    }

    /// Each lane, if there are several. One that has nobody to carry for has carried nothing.
    fn lanes(&self, traffic: &[LaneTraffic]) -> Vec<LaneStatus> {
        if self.facts.lane_ports.is_empty() {
            return Vec::new();
        }
        let ports = std::iter::once(&self.facts.listen_port).chain(&self.facts.lane_ports);
        let traffic = traffic
            .iter()
            .copied()
            .chain(std::iter::repeat(LaneTraffic::default()));
        let lanes = ports.zip(traffic).map(|(port, traffic)| LaneStatus {
            port: *port,
            rx_bytes: traffic.rx_bytes,
            tx_bytes: traffic.tx_bytes,
        });
        lanes.collect()
    }

    async fn dataplane(&self) -> Option<DataplaneStatus> {
        let (answer, status) = oneshot::channel();
        self.packets.send(Command::Status(answer)).await.ok()?;
        status.await.ok()
    }

    /// All peers of a perimeter in order of name, asked for in parts: there may be very many, and the packet loop
    /// carries packets between two of them. What each lane carried for them is added to `lanes`.
    async fn peers(&self, perimeter: &Name, lanes: &mut Vec<LaneTraffic>) -> Option<Vec<PeerStatus>> {
        let mut peers: Vec<PeerStatus> = Vec::new();
        loop {
            let (answer, part) = oneshot::channel();
            let command = Command::Peers {
                perimeter: perimeter.clone(),
                after: peers.last().map(|peer| peer.id),
                answer,
            };
            self.packets.send(command).await.ok()?;
            let part = part.await.ok()?;
            lanes.resize(lanes.len().max(part.lanes.len()), LaneTraffic::default());
            for (lane, carried) in lanes.iter_mut().zip(&part.lanes) {
                lane.rx_bytes += carried.rx_bytes;
                lane.tx_bytes += carried.tx_bytes;
            }
            let is_last = part.peers.len() < PEERS_AT_ONCE;
            peers.extend(part.peers);
            if is_last {
                break;
            }
        }
        peers.sort_by(|a, b| a.node.cmp(&b.node));
        Some(peers)
    }
}
