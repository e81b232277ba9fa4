//! `/revisions` and `/health`: where the controller is, and how far the nodes have followed.

use ringfence_model::{Name, NodeId, Revision, UnixMillis};
use serde::{Deserialize, Serialize};

/// `GET /revisions/latest`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub struct LatestRevision {
    /// The newest.
    #[serde(with = "crate::text")]
    #[cfg_attr(feature = "openapi", schema(value_type = String))]
    pub revision: Revision,
}

/// A change that has nothing else to tell.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub struct ChangeReport {
    /// The revision that holds it: wait for this one.
    #[serde(with = "crate::text")]
    #[cfg_attr(feature = "openapi", schema(value_type = String))]
    pub revision: Revision,
    /// The flows it opened or closed, the first [`super::FLOW_CHANGES_MAX`].
    #[serde(default)]
    pub changes: Vec<super::FlowChangeView>,
    /// How many more there are.
    #[serde(default)]
    pub more_changes: u64,
}

/// `GET /revisions/{rev}/wait`: how far a revision has got.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub struct Receipt {
    /// The revision asked for.
    #[serde(with = "crate::text")]
    #[cfg_attr(feature = "openapi", schema(value_type = String))]
    pub revision: Revision,
    /// Whether every connected node enforces it.
    pub complete: bool,
    /// How many nodes are connected.
    pub connected: u32,
    /// How many of them enforce it.
    pub enforced: u32,
    /// Connected nodes that do not yet.
    pub pending: Vec<Name>,
    /// Nodes that are not connected: their segments close as their leases end.
    pub absent: Vec<Name>,
    /// Who took longest from the change to its acknowledgement.
    pub slowest: Option<NodeAck>,
    /// From the change until the last connected node had enforced it, in milliseconds.
    pub took_ms: Option<u64>,
}

/// One node's acknowledgement.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub struct NodeAck {
    /// Which node.
    pub id: NodeId,
    /// Its name.
    pub node: Name,
    /// From the change to its acknowledgement at the controller, in milliseconds.
    pub after_ms: u64,
    /// What the node itself needed to swap the rules, in microseconds.
    pub took_us: u64,
    /// Whether it was not connected when the revision was made, and enforces it since it came back.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub was_away: bool,
}

/// `GET /revisions/{revision}/receipt`: who enforces a revision, and since when.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub struct RevisionReceipt {
    /// The revision asked for.
    #[serde(with = "crate::text")]
    #[cfg_attr(feature = "openapi", schema(value_type = String))]
    pub revision: Revision,
    /// When it was made; of the latest alone, since the controller began, this is known, and the times below.
    pub made_ms: Option<UnixMillis>,
    /// Whether every node that it was for and that is connected enforces it.
    pub complete: bool,
    /// How many nodes it was for: those for whom it may have changed something.
    pub told: u32,
    /// Those that enforce it, the slowest first, the first [`super::RECEIPT_NODES_MAX`].
    pub enforced: Vec<NodeAck>,
    /// How many more do.
    pub more_enforced: u64,
    /// Half of those that were connected enforced it within this time from the change, as the controller heard it.
    pub p50_ms: Option<u64>,
    /// 99 of 100 did.
    pub p99_ms: Option<u64>,
    /// All did so far.
    pub max_ms: Option<u64>,
    /// Connected nodes that do not yet.
    pub pending: Vec<Name>,
    /// Those that are not connected, and have not said that they do.
    pub offline: Vec<OfflineNode>,
    /// When the last of those offline has closed by itself, at the latest.
    pub closed_by_ms: Option<UnixMillis>,
}

/// A node that is not connected.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub struct OfflineNode {
    /// Which.
    pub id: NodeId,
    /// Its name.
    pub node: Name,
    /// When the controller last heard from it.
    pub last_seen_ms: Option<UnixMillis>,
    /// When its lease ends at the latest, and with it everything it has.
    pub closed_by_ms: Option<UnixMillis>,
}

/// `GET /health`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub struct Health {
    /// `ok`, or what is wrong.
    pub status: String,
    /// The program's version.
    pub version: String,
}
