//! What became of workloads.

use std::collections::BTreeMap;

use ringfence_model::{Name, NodeId, UnixMillis};
use serde::{Deserialize, Serialize};

use super::JwtHash;
use crate::{Event, PolicyFile};

/// One fact about workloads: in [`crate::Event::Workloads`].
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "event", rename_all = "kebab-case")]
pub enum WorkloadEvent {
    /// An issuer's word lets workloads in as this file says.
    WorkloadIssuerSet {
        /// Which.
        issuer: Name,
        /// Its file before.
        before: Option<PolicyFile>,
        /// Its file now.
        after: PolicyFile,
    },
    /// It does no longer.
    WorkloadIssuerRemoved {
        /// Which.
        issuer: Name,
        /// The file it had.
        before: PolicyFile,
    },
    /// A token let a node in. It does not a second time.
    WorkloadAdmitted {
        /// Which node.
        node: NodeId,
        /// Whose token.
        issuer: Name,
        /// Its subject.
        subject: String,
        /// By which rule of the issuer's file.
        rule: u32,
        /// The claims that the rule looked at, as far as they fit.
        claims: BTreeMap<String, String>,
        /// Which token.
        jwt: JwtHash,
        /// How long that is remembered.
        until: UnixMillis,
    },
}

impl WorkloadEvent {
    /// The word for it, as in the log.
    pub fn kind(&self) -> &'static str {
        match self {
            Self::WorkloadIssuerSet { .. } => "workload-issuer-set",
            Self::WorkloadIssuerRemoved { .. } => "workload-issuer-removed",
            Self::WorkloadAdmitted { .. } => "workload-admitted",
        }
    }

    /// What happened, in words.
    pub(crate) fn sentence(&self) -> String {
        match self {
            Self::WorkloadIssuerSet {
                issuer,
                before,
                after,
            } => {
                let verb = if before.is_some() { "changed" } else { "added" };
                format!("{verb} workload issuer {issuer} by {}", after.file)
            }
            Self::WorkloadIssuerRemoved { issuer, .. } => format!("removed workload issuer {issuer}"),
            Self::WorkloadAdmitted {
                node,
                issuer,
                subject,
                rule,
                ..
            } => format!("let {subject} in as node {node} by rule {rule} of workload issuer {issuer}"),
        }
    }
}

impl From<WorkloadEvent> for Event {
    fn from(event: WorkloadEvent) -> Self {
        Self::Workloads(Box::new(event))
    }
}
