//! The plain rules a node gets for one segment: what is left of a policy once it is compiled for that node.

use ringfence_model::{RuleId, UnixMillis};
use serde::{Deserialize, Serialize};

use crate::{PeerSet, Service};

/// Which way a conversation is opened, seen from this node. Replies follow the flow, not a rule.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Direction {
    /// A peer opens it towards this node.
    Ingress,
    /// This node opens it towards a peer.
    Egress,
}

/// One allow rule as one node sees it.
///
/// It is not written by itself but in lists, where each set of peers is written once: see `ringfence_control`.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Rule {
    /// Its place in the perimeter's policy.
    pub id: RuleId,
    /// Who opens the conversation.
    pub direction: Direction,
    /// The peers at the other end.
    pub peers: PeerSet,
    /// What is opened.
    pub services: Vec<Service>,
    /// When it stops counting.
    pub expires: Option<UnixMillis>,
}
