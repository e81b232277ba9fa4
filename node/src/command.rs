//! What the control side asks of the packet loop, and what it hears back.

use std::collections::BTreeMap;
use std::time::Instant;

use tokio::sync::oneshot;

use ringfence_control::local::{PeerStatus, SegmentStatus};
use ringfence_control::{Netmap, PeerCandidates, SeenFlow};
use ringfence_dataplane::{
    Dataplane, Event, Flow, NetmapRefused, PingError, Protocol, Restored, SegmentFacts,
};
use ringfence_model::{Name, NodeId, PrivateKey};

mod fan_out;

/// One thing to do between packets.
pub(crate) enum Command {
    /// The controller's word.
    Netmap {
        /// What it said.
        netmap: Box<Netmap>,
        /// Whether it was taken.
        answer: oneshot::Sender<Result<(), NetmapRefused>>,
    },
    /// A netmap from disk.
    Restore {
        /// What was saved.
        netmap: Box<Netmap>,
        /// How old it is.
        restored: Restored,
        /// Whether it was taken.
        answer: oneshot::Sender<Result<(), NetmapRefused>>,
    },
    /// The controller spoke: leases start anew.
    Lease,
    /// The controller disowned this node: leases end.
    EndLeases,
    /// Where a peer may be reached.
    PeerCandidates(PeerCandidates),
    /// The key pair of a segment.
    Key {
        /// The perimeter it is for.
        perimeter: Name,
        /// The key.
        key: PrivateKey,
    },
    /// Measure a round trip; the answer comes as an event with the same number.
    Ping {
        /// To whom.
        peer: NodeId,
        /// In which perimeter.
        perimeter: Option<Name>,
        /// The number.
        id: u64,
        /// Whether it was sent.
        answer: oneshot::Sender<Result<(), PingError>>,
    },
    /// What is going on, but for the peers.
    Status(oneshot::Sender<DataplaneStatus>),
    /// What is going on with some peers: up to [`PEERS_AT_ONCE`], in order of id.
    Peers {
        /// Of which perimeter.
        perimeter: Name,
        /// Behind which.
        after: Option<NodeId>,
        /// Those peers.
        answer: oneshot::Sender<PeersStatus>,
    },
    /// Which of these conversations are live.
    Seen {
        /// The perimeter asked.
        perimeter: Name,
        /// The conversations.
        flows: Vec<SeenFlow>,
        /// One answer each.
        answer: oneshot::Sender<Vec<bool>>,
    },
    /// End the loop.
    Shutdown,
}

/// What the packet loop tells.
#[derive(Debug)]
pub(crate) enum LoopEvent {
    /// A device was made: bring it up with addresses and routes.
    DeviceMade(SegmentFacts),
    /// Its prefixes changed: mend the routes.
    DeviceChanged(SegmentFacts),
    /// The segment is gone, and its device with it.
    DeviceRemoved(SegmentFacts),
    /// A device could not be made.
    DeviceFailed {
        /// Of which segment.
        facts: SegmentFacts,
        /// What the kernel said.
        error: String,
    },
    /// What the data plane says otherwise.
    Dataplane(Event),
}

/// What the packet loop says of itself.
#[derive(Debug, Default)]
pub(crate) struct DataplaneStatus {
    /// By perimeter, without peers.
    pub(crate) segments: Vec<SegmentStatus>,
    /// Packets and datagrams refused, by reason.
    pub(crate) drops: BTreeMap<String, u64>,
}

/// What the packet loop says of some peers.
#[derive(Debug, Default)]
pub(crate) struct PeersStatus {
    /// In order of id; fewer than [`PEERS_AT_ONCE`] if these are the last.
    pub(crate) peers: Vec<PeerStatus>,
    /// What each lane carried for them.
    pub(crate) lanes: Vec<LaneTraffic>,
}

/// What one lane carried, since its sessions began.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct LaneTraffic {
    /// Bytes of datagrams received.
    pub(crate) rx_bytes: u64,
    /// Bytes of datagrams sent.
    pub(crate) tx_bytes: u64,
}

impl Command {
    /// Does it. Whoever stopped waiting for an answer misses nothing but the answer.
    pub(crate) fn carry_out(self, dataplane: &mut Dataplane, now: Instant) {
        match self {
            Self::Netmap { netmap, answer } => {
                let _ = answer.send(dataplane.handle_netmap(*netmap, now));
            }
            Self::Restore {
                netmap,
                restored,
                answer,
            } => {
                let _ = answer.send(dataplane.restore(*netmap, restored, now));
            }
            Self::EndLeases => dataplane.end_leases(now),
            Self::Lease => dataplane.handle_lease(now),
            Self::PeerCandidates(told) => {
                dataplane.handle_peer_candidates(told.peer, &told.candidates, now);
                dataplane.handle_peer_epoch(told.peer, told.epoch, now);
            }
            Self::Key { perimeter, key } => dataplane.set_key(&perimeter, key, now),
            Self::Ping {
                peer,
                perimeter,
                id,
                answer,
            } => {
                let _ = answer.send(dataplane.ping(peer, perimeter.as_ref(), id, now).map(drop));
            }
            Self::Status(answer) => {
                let drops = dataplane
                    .drops()
                    .iter()
                    .map(|(reason, count)| (reason.to_owned(), count));
                let status = DataplaneStatus {
                    segments: dataplane.status_of_segments(now),
                    drops: drops.collect(),
                };
                let _ = answer.send(status);
            }
            Self::Peers {
                perimeter,
                after,
                answer,
            } => {
                let peers = dataplane.status_of_peers(&perimeter, after, PEERS_AT_ONCE, now);
                let traffic = LaneTraffic {
                    rx_bytes: peers.iter().map(|peer| peer.rx_bytes).sum(),
                    tx_bytes: peers.iter().map(|peer| peer.tx_bytes).sum(),
                };
                let _ = answer.send(PeersStatus {
                    peers,
                    lanes: vec![traffic],
                });
            }
            Self::Seen {
                perimeter,
                flows,
                answer,
            } => {
                let seen = flows
                    .into_iter()
                    .map(|flow| dataplane.has_flow(&perimeter, flow_of(flow)));
                let _ = answer.send(seen.collect());
            }
            // The loop itself stops.
            Self::Shutdown => {}
        }
    }
}

/// Peers that one answer holds: packets wait while it is made.
pub(crate) const PEERS_AT_ONCE: usize = 128;

/// Echo has its identifier in both ports (see [`Flow`]), and only the initiator's travels.
fn flow_of(seen: SeenFlow) -> Flow {
    let protocol = Protocol(seen.protocol);
    let dst_port = match protocol {
        Protocol::ICMP | Protocol::ICMPV6 => seen.src.port(),
        _ => seen.dst.port(),
    };
    Flow {
        src: seen.src.ip(),
        dst: seen.dst.ip(),
        protocol,
        src_port: seen.src.port(),
        dst_port,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_echo_is_looked_up_by_its_identifier() {
        let seen = |protocol| SeenFlow {
            protocol,
            src: "100.64.0.1:77".parse().unwrap(),
            dst: "100.64.0.2:0".parse().unwrap(),
        };

        assert_eq!(flow_of(seen(1)).dst_port, 77);
        assert_eq!(flow_of(seen(6)).dst_port, 0);
    }
}
