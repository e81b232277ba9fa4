//! What became of what is asked and known of machines.

use std::collections::BTreeSet;

use ringfence_model::{Name, NodeId};
use serde::{Deserialize, Serialize};

use super::{GivenFact, TpmRecord};
use crate::PolicyFile;

/// One fact about posture: in [`crate::Event::Posture`].
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "event", rename_all = "kebab-case")]
pub enum PostureEvent {
    /// What machines are asked changed.
    PostureApplied {
        /// The file before.
        before: Option<PolicyFile>,
        /// The file now.
        after: PolicyFile,
    },
    /// A node passes other checks than before.
    PostureJudged {
        /// Which node.
        node: NodeId,
        /// What it passed.
        before: BTreeSet<Name>,
        /// What it passes now.
        after: BTreeSet<Name>,
    },
    /// A node's TPM proved itself for the first time, or another in its place.
    TpmRecorded {
        /// Whose.
        node: NodeId,
        /// What was known of it.
        before: Option<TpmRecord>,
        /// What is known now.
        after: TpmRecord,
    },
    /// Something was said of a node through the API, or what was said is over.
    FactGiven {
        /// Of which node.
        node: NodeId,
        /// The fact's name.
        fact: Name,
        /// What was said before.
        before: Option<GivenFact>,
        /// What is said now; `None` if nothing.
        after: Option<GivenFact>,
    },
}

impl PostureEvent {
    /// The word for it, as in the log.
    pub fn kind(&self) -> &'static str {
        match self {
            Self::PostureApplied { .. } => "posture-applied",
            Self::PostureJudged { .. } => "posture-judged",
            Self::TpmRecorded { .. } => "tpm-recorded",
            Self::FactGiven { .. } => "fact-given",
        }
    }

    /// The node that passes something that it did not pass.
    pub(crate) fn gains(&self) -> Option<NodeId> {
        match self {
            Self::PostureJudged { node, before, after } => (!after.is_subset(before)).then_some(*node),
            Self::PostureApplied { .. } | Self::FactGiven { .. } | Self::TpmRecorded { .. } => None,
        }
    }

    /// What happened, in words.
    pub(crate) fn sentence(&self) -> String {
        match self {
            Self::PostureApplied { after, .. } => {
                format!("changed what machines are asked to {}", after.file)
            }
            Self::PostureJudged { node, before, after } => {
                let (gained, lost) = (listed(after, before), listed(before, after));
                match (gained, lost) {
                    (Some(gained), Some(lost)) => {
                        format!("node {node} passes {gained} now, and {lost} no more")
                    }
                    (Some(gained), None) => format!("node {node} passes {gained} now"),
                    (None, Some(lost)) => format!("node {node} passes {lost} no more"),
                    (None, None) => format!("node {node} passes what it passed"),
                }
            }
            Self::TpmRecorded { node, after, .. } => match &after.stranger {
                None => format!("pinned the TPM of node {node}: {}", after.pinned),
                Some(stranger) => format!(
                    "node {node} showed another TPM than the one it has: {stranger}, not {}",
                    after.pinned
                ),
            },
            Self::FactGiven {
                node, fact, after, ..
            } => match after {
                Some(after) => format!("said custom.{fact} of node {node} is {}", after.value),
                None => format!("forgot custom.{fact} of node {node}, which had expired"),
            },
        }
    }
}

/// What is in `some` and not in `other`.
fn listed(some: &BTreeSet<Name>, other: &BTreeSet<Name>) -> Option<String> {
    let names: Vec<&str> = some.difference(other).map(Name::as_str).collect();
    (!names.is_empty()).then(|| names.join(", "))
}
