//! What may be asked about access on request.

use std::time::Duration;

use ringfence_model::{AccessId, Name, NodeId};
use ringfence_policy::Service;

use super::Urgency;

/// What may be asked about access on request: in [`crate::Command::Access`].
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum AccessCommand {
    /// Asks to reach something for a time: a person at their node, or an administrator for a node.
    Request {
        /// From which node. If somebody is logged in there, it is for them.
        node: NodeId,
        /// In which perimeter.
        perimeter: Name,
        /// Which of its groups is to be reached.
        to: Name,
        /// What is to be opened; what rules of the file open towards that group if empty.
        services: Vec<Service>,
        /// For how long.
        length: Duration,
        /// Why.
        reason: String,
        /// Whether it can wait.
        urgency: Urgency,
    },
    /// Approves a request. With the last approval that it needs it is granted.
    Approve {
        /// Which.
        access: AccessId,
        /// What there is to say to it.
        reason: Option<String>,
    },
    /// Denies a request.
    Deny {
        /// Which.
        access: AccessId,
        /// Why.
        reason: Option<String>,
    },
    /// Ends what is granted, or takes a request back.
    End {
        /// Which.
        access: AccessId,
    },
    /// Reviews what was opened before anybody approved.
    Review {
        /// Which.
        access: AccessId,
        /// What came of it.
        reason: Option<String>,
    },
}

impl AccessCommand {
    /// Whether it takes access away, whatever the state.
    pub(crate) fn is_removal(&self) -> bool {
        match self {
            Self::Deny { .. } | Self::End { .. } => true,
            Self::Request { .. } | Self::Approve { .. } | Self::Review { .. } => false,
        }
    }

    /// The word for it in the log and in refusals.
    pub(crate) fn method(&self) -> &'static str {
        match self {
            Self::Request { .. } => "access.request",
            Self::Approve { .. } => "access.approve",
            Self::Deny { .. } => "access.deny",
            Self::End { .. } => "access.end",
            Self::Review { .. } => "access.review",
        }
    }
}
