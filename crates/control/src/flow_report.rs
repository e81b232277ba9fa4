//! Flow records as a node tells them: who talked to whom, by which rule, how much, and why it ended.
//!
//! **Invariant:** stream and number name a record for ever. A number is never given twice, so whoever stores records
//! by that name stores each once; a number that never comes is a record that was lost.

use std::net::IpAddr;

use ringfence_model::{Name, NodeId, Revision, RuleId, UnixMillis};
use ringfence_policy::{CloseReason, Direction};
use serde::{Deserialize, Serialize};

/// One conversation that ended, as the node that filtered it saw it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct FlowReport {
    /// The perimeter it ran in.
    pub perimeter: Name,
    /// Who was at the other end.
    pub peer: NodeId,
    /// Which way it was opened, seen from the node.
    pub direction: Direction,
    /// IANA protocol number.
    pub protocol: u8,
    /// Who opened it.
    pub src: IpAddr,
    /// Towards whom.
    pub dst: IpAddr,
    /// The opener's port; of an echo its identifier, 0 where there is none.
    pub src_port: u16,
    /// The port it was opened to.
    pub dst_port: u16,
    /// The rule that last allowed it.
    pub rule: RuleId,
    /// The revision whose rules last allowed it.
    pub revision: Revision,
    /// When its first packet passed, by the controller's clock as the node knows it.
    pub opened_at: UnixMillis,
    /// When it was found to have ended, by the same clock.
    pub closed_at: UnixMillis,
    /// Why it ended.
    pub end: FlowEnd,
    /// From who opened it.
    pub to_responder: FlowTraffic,
    /// The answers.
    pub to_initiator: FlowTraffic,
}

/// Packets and their bytes, IP headers included.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub struct FlowTraffic {
    /// Packets.
    pub packets: u64,
    /// Bytes.
    pub bytes: u64,
}

/// Why a flow ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
#[serde(rename_all = "snake_case")]
pub enum FlowEnd {
    /// Its ends closed it.
    Finished,
    /// Silent for too long.
    Idle,
    /// No rule of the revision in force allows it any more.
    Revoked,
    /// The rule that allowed it has expired.
    Expired,
    /// The peer left, or the segment closed.
    PeerGone,
    /// It made room for a newer one of the same peer.
    Evicted,
}

/// A run of records with consecutive numbers.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct FlowRecords {
    /// Which run of the node's process numbered them: drawn at random at its start.
    pub stream: u64,
    /// The number of the first. Those between the last batch of the stream and this one are lost.
    pub first: u64,
    /// At most [`Self::RECORDS_MAX`].
    pub records: Vec<FlowReport>,
}

/// Acknowledges records: they are on the controller's disk, and the node may forget them.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct FlowRecordsTaken {
    /// Of which stream.
    pub stream: u64,
    /// Every number below this one.
    pub through: u64,
}

impl FlowReport {
    /// The longest a record gets in CBOR: names are bounded, everything else is a number.
    pub const BYTES_MAX: usize = 1024;
}

impl FlowRecords {
    /// The most records in one message: a quarter of the longest frame.
    pub const RECORDS_MAX: usize = 256;

    /// The number after the last, or `None` if there is no such number.
    pub fn through(&self) -> Option<u64> {
        self.first.checked_add(self.records.len() as u64)
    }
}

impl FlowEnd {
    /// The reason as a label.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Finished => "finished",
            Self::Idle => "idle",
            Self::Revoked => "revoked",
            Self::Expired => "expired",
            Self::PeerGone => "peer_gone",
            Self::Evicted => "evicted",
        }
    }
}

impl From<CloseReason> for FlowEnd {
    fn from(why: CloseReason) -> Self {
        match why {
            CloseReason::Finished => Self::Finished,
            CloseReason::Idle => Self::Idle,
            CloseReason::Revoked => Self::Revoked,
            CloseReason::Expired => Self::Expired,
            CloseReason::PeerGone => Self::PeerGone,
            CloseReason::Evicted => Self::Evicted,
        }
    }
}

/// From this capability on a controller takes [`FlowRecords`].
pub const FLOW_RECORDS_SINCE: u32 = 2;
