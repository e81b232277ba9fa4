//! What may be asked about posture.

use std::time::Duration;

use ringfence_model::{Name, NodeId};
use ringfence_policy::FactValue;

use super::TpmName;
use crate::PolicyFile;

/// What may be asked about posture: in [`crate::Command::Posture`].
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum PostureCommand {
    /// Replaces what machines are asked.
    Apply {
        /// The posture file.
        file: PolicyFile,
        /// Whether it may lack checks that are there now and that rules ask for: those rules close.
        may_close: bool,
    },
    /// Records which checks a node passes, if they are others than before: see
    /// [`crate::Controller::posture_reported`].
    Judge {
        /// Which.
        node: NodeId,
    },
    /// Records which TPM a node has, or that another than that proved itself: see
    /// [`crate::Controller::tpm_is_news`].
    RecordTpm {
        /// Whose it is.
        node: NodeId,
        /// The one that proved itself.
        tpm: TpmName,
    },
    /// Says something about a node that it cannot know itself.
    Give {
        /// About which.
        node: NodeId,
        /// The fact's name: `custom.` and this, in checks.
        fact: Name,
        /// What it is.
        value: FactValue,
        /// How long that counts.
        ttl: Duration,
    },
}

impl PostureCommand {
    /// See [`crate::Command::is_removal`].
    pub fn is_removal(&self) -> bool {
        match self {
            // What a node gains by it is bounded by its pace.
            Self::Judge { .. } => true,
            // Of `RecordTpm` a node makes two entries in its life at most.
            Self::Apply { .. } | Self::Give { .. } | Self::RecordTpm { .. } => false,
        }
    }

    /// The word for it in the log and in refusals.
    pub fn method(&self) -> &'static str {
        match self {
            Self::Apply { .. } => "posture.apply",
            Self::Judge { .. } => "posture.judge",
            Self::RecordTpm { .. } => "tpm.record",
            Self::Give { .. } => "fact.give",
        }
    }
}
