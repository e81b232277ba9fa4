//! What the data plane tells its shell.

use std::net::SocketAddr;
use std::time::Duration;

use ringfence_control::{FlowReport, FlowTraffic};
use ringfence_model::{
    Name, NodeId, OverlayAddresses, PerimeterPrefixes, PublicKey, Revision, RuleId, UnixMillis,
};
use ringfence_packet::Flow;
use ringfence_policy::{CloseReason, Direction, FlowCounters, Traffic};

/// Names one segment for as long as this process runs. Never used twice, so a packet from a TUN device that is about
/// to go cannot be taken for one of its successor.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct SegmentId(pub(crate) u32);

/// What the shell needs to know to make a segment's TUN device.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SegmentFacts {
    /// Its id here.
    pub id: SegmentId,
    /// The perimeter it is a part of.
    pub perimeter: Name,
    /// The TUN device's name.
    pub interface: String,
    /// The device's addresses.
    pub addresses: OverlayAddresses,
    /// What is routed to the device, open or closed: a closed segment swallows, it does not leak (red line 12).
    pub prefixes: PerimeterPrefixes,
    /// The device's MTU.
    pub mtu_bytes: u16,
}

/// Something the shell must do or may tell.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Event {
    /// This node became a member of a perimeter: make the TUN device, with addresses and routes.
    SegmentAdded(SegmentFacts),
    /// The prefixes of a segment changed: mend the routes.
    SegmentChanged(SegmentFacts),
    /// A segment passes traffic from now on. No work for the shell.
    SegmentOpened {
        /// Which.
        segment: SegmentId,
        /// Of which perimeter.
        perimeter: Name,
    },
    /// A segment's lease ended. Its device and routes stay: what is sent there is dropped. It opens again by itself.
    SegmentClosed {
        /// Which.
        segment: SegmentId,
        /// Of which perimeter.
        perimeter: Name,
    },
    /// This node is a member no more: remove the TUN device and the key.
    SegmentRemoved(SegmentFacts),
    /// A segment has no key pair: load or make one and give it to [`crate::Dataplane::set_key`].
    KeyNeeded {
        /// The perimeter it is for.
        perimeter: Name,
    },
    /// The controller does not hold this segment's public key yet: register it.
    RegisterKey {
        /// The perimeter it is for.
        perimeter: Name,
        /// The key to register.
        public_key: PublicKey,
    },
    /// Every rule of this revision is in force, and every flow that it does not allow is closed.
    Enforced {
        /// The revision.
        revision: Revision,
    },
    /// A conversation ended.
    FlowClosed(FlowClosed),
    /// A session with a peer began, first or anew.
    SessionEstablished {
        /// Of which perimeter.
        perimeter: Name,
        /// With whom.
        peer: NodeId,
    },
    /// A ping came back.
    Pong(Pong),
    /// A ping did not come back in time.
    PingTimedOut {
        /// The number that [`crate::Dataplane::ping`] was called with.
        id: u64,
    },
}

/// The record of a conversation that ended.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct FlowClosed {
    /// The perimeter it ran in.
    pub perimeter: Name,
    /// The peer at the other end.
    pub peer: NodeId,
    /// From the one who opened it.
    pub flow: Flow,
    /// Which way its opener's packets went.
    pub opened_by: Direction,
    /// The rule that last allowed it.
    pub rule: RuleId,
    /// The revision whose rules last allowed it.
    pub revision: Revision,
    /// When its first packet passed, by the controller's clock.
    pub opened_at: UnixMillis,
    /// When it was found to have ended, by the controller's clock.
    pub closed_at: UnixMillis,
    /// Why it ended.
    pub why: CloseReason,
    /// What passed.
    pub counters: FlowCounters,
}

impl From<FlowClosed> for FlowReport {
    fn from(closed: FlowClosed) -> Self {
        let traffic = |traffic: Traffic| FlowTraffic {
            packets: traffic.packets,
            bytes: traffic.bytes,
        };
        Self {
            perimeter: closed.perimeter,
            peer: closed.peer,
            direction: closed.opened_by,
            protocol: closed.flow.protocol.0,
            src: closed.flow.src,
            dst: closed.flow.dst,
            src_port: closed.flow.src_port,
            dst_port: closed.flow.dst_port,
            rule: closed.rule,
            revision: closed.revision,
            opened_at: closed.opened_at,
            closed_at: closed.closed_at,
            end: closed.why.into(),
            to_responder: traffic(closed.counters.to_responder),
            to_initiator: traffic(closed.counters.to_initiator),
        }
    }
}

/// The answer to a ping.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Pong {
    /// The number that [`crate::Dataplane::ping`] was called with.
    pub id: u64,
    /// Who answered.
    pub peer: NodeId,
    /// How long it took.
    pub round_trip: Duration,
    /// Where the peer is.
    pub endpoint: Option<SocketAddr>,
}
