//! `/revisions` and `/health`: where the controller is, and how far the nodes have followed.

use ringfence_model::{Name, NodeId, Revision};
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
