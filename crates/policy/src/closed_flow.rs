//! What is left of a flow that has ended: its record, and what to tell the ends about it.

use std::fmt;

use ringfence_model::{NodeId, Revision, RuleId, UnixMillis};
use ringfence_packet::{Flow, Protocol, administratively_prohibited_flow, tcp_reset};

use crate::tcp_track::{ResetNumbers, TcpResets};
use crate::{Direction, FlowCounters};

/// A flow that is no longer in the table.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ClosedFlow {
    /// Initiator to responder.
    pub flow: Flow,
    /// Which way its opener's packets went.
    pub opened_by: Direction,
    /// Who was at the other end.
    pub peer: NodeId,
    /// The rule that last allowed it.
    pub rule: RuleId,
    /// The revision whose rules last allowed it.
    pub revision: Revision,
    /// When its first packet passed, by the controller's clock.
    pub opened_at: UnixMillis,
    /// Why it ended.
    pub why: CloseReason,
    /// What resets it, if it was TCP and not closed yet.
    pub resets: Option<TcpResets>,
    /// What passed.
    pub counters: FlowCounters,
}

/// Why a flow ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum CloseReason {
    /// No rule of the revision in force allows it any more.
    Revoked,
    /// The rule that allowed it has expired.
    Expired,
    /// Silent for too long.
    Idle,
    /// Its ends closed it.
    Finished,
    /// The peer left, or the segment closed.
    PeerGone,
    /// It made room for a newer one of the same peer.
    Evicted,
}

impl ClosedFlow {
    /// The packets that tell the program on this node: write them to the TUN device, in order.
    pub fn notices_to_local(&self) -> Vec<Vec<u8>> {
        match self.opened_by {
            Direction::Egress => self.notices_to_initiator(),
            Direction::Ingress => self.notices_to_responder(),
        }
    }

    /// The packets that tell the program at the peer: seal them to it, in order, while its session stands.
    pub fn notices_to_peer(&self) -> Vec<Vec<u8>> {
        match self.opened_by {
            Direction::Egress => self.notices_to_responder(),
            Direction::Ingress => self.notices_to_initiator(),
        }
    }

    fn notices_to_initiator(&self) -> Vec<Vec<u8>> {
        self.notices(self.flow, self.resets.map(|resets| resets.to_initiator))
    }

    fn notices_to_responder(&self) -> Vec<Vec<u8>> {
        // A kernel that answers echo requests waits for nothing.
        if matches!(self.flow.protocol, Protocol::ICMP | Protocol::ICMPV6) {
            return Vec::new();
        }
        self.notices(
            self.flow.reversed(),
            self.resets.map(|resets| resets.to_responder),
        )
    }

    /// `sent`: the flow as the end to be told writes it.
    fn notices(&self, sent: Flow, reset: Option<ResetNumbers>) -> Vec<Vec<u8>> {
        if !self.why.is_cut() {
            return Vec::new();
        }
        let Some(reset) = reset else {
            let icmp = match sent.protocol {
                Protocol::TCP => None,
                _ => administratively_prohibited_flow(sent, sent.dst),
            };
            return icmp.into_iter().collect();
        };
        let seqs = [Some(reset.seq), reset.stated_seq];
        let resets = seqs
            .into_iter()
            .flatten()
            .map(|seq| tcp_reset(sent.reversed(), seq, reset.ack));
        resets.collect()
    }
}

impl CloseReason {
    /// The reason as a label.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Revoked => "revoked",
            Self::Expired => "expired",
            Self::Idle => "idle",
            Self::Finished => "finished",
            Self::PeerGone => "peer_gone",
            Self::Evicted => "evicted",
        }
    }

    /// Whether policy cut a flow that its ends believe alive. An evicted one is not announced: a flood of packets
    /// must not become a flood of notices.
    fn is_cut(self) -> bool {
        match self {
            Self::Revoked | Self::Expired | Self::PeerGone => true,
            Self::Idle | Self::Finished | Self::Evicted => false,
        }
    }
}

impl fmt::Display for CloseReason {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.as_str())
    }
}
