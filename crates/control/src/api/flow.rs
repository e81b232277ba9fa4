//! `/flows`: conversations that ended, as nodes told of them.

use ringfence_model::{Name, NodeId, Revision, RuleId, UnixMillis};
use serde::{Deserialize, Serialize};

use crate::{FlowEnd, FlowTraffic};

/// `GET /flows?perimeter=&node=&since_ms=&limit=`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub struct FlowList {
    /// Oldest first.
    pub flows: Vec<FlowView>,
    /// Whether `limit` cut off older ones.
    pub truncated: bool,
    /// Nodes of which records are missing.
    pub missing: Vec<MissingFlows>,
}

/// One conversation that ended, as one of its two ends filtered it. The other end tells of it too.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub struct FlowView {
    /// The perimeter it ran in.
    pub perimeter: Name,
    /// The node that tells: its name now, or its id if it was removed.
    pub node: String,
    /// Its id.
    pub node_id: NodeId,
    /// Who was at the other end, in the same way.
    pub peer: String,
    /// Its id.
    pub peer_id: NodeId,
    /// `egress` if the node opened it, `ingress` if its peer did.
    pub direction: String,
    /// `tcp`, `udp`, `icmp`, or a protocol's number.
    pub protocol: String,
    /// Who opened it, `address:port`.
    pub src: String,
    /// Towards whom.
    pub dst: String,
    /// The rule that last allowed it.
    pub rule: RuleId,
    /// The revision whose rules last allowed it.
    #[serde(with = "crate::text")]
    #[cfg_attr(feature = "openapi", schema(value_type = String))]
    pub revision: Revision,
    /// When its first packet passed.
    pub opened_ms: UnixMillis,
    /// When it was found to have ended.
    pub closed_ms: UnixMillis,
    /// Why it ended.
    pub end: FlowEnd,
    /// From who opened it.
    pub to_responder: FlowTraffic,
    /// The answers.
    pub to_initiator: FlowTraffic,
}

/// Records of a node that are not here, since it was first seen.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub struct MissingFlows {
    /// The node: its name now, or its id if it was removed.
    pub node: String,
    /// Dropped at the node, oldest first, because the controller or the node's disk was out of reach for too long.
    pub lost: u64,
    /// Refused by the controller: of perimeters that the node was never in.
    pub refused: u64,
}
