//! The state of the node as its local sockets tell it.

use tokio::sync::{oneshot, watch};

use ringfence_control::local::{ControllerStatus, LaneStatus, SegmentStatus, StatusReport};
use ringfence_model::{Name, NodeId};

use crate::command::{Command, DataplaneStatus, LaneTraffic};
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
        let dataplane = self.dataplane().await?;
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
            lanes: self.lanes(&dataplane.lanes),
        })
    }

    /// The segment behind `interface`.
    pub(crate) async fn segment(&self, interface: &str) -> Option<SegmentStatus> {
        let segments = self.dataplane().await?.segments;
        segments
            .into_iter()
            .find(|segment| segment.interface == interface)
    }

    /// The UDP port of the tunnels.
    pub(crate) fn listen_port(&self) -> u16 {
        self.facts.listen_port
    }

    /// Each lane, if there are several.
    fn lanes(&self, traffic: &[LaneTraffic]) -> Vec<LaneStatus> {
        if traffic.len() < 2 {
            return Vec::new();
        }
        let ports = std::iter::once(&self.facts.listen_port).chain(&self.facts.lane_ports);
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
}
