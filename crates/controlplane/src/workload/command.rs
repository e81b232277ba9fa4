//! What may be asked about workloads.

use ringfence_model::Name;

use super::VerifiedWorkload;
use crate::{Identity, PolicyFile};

/// What may be asked about workloads: in [`crate::Command::Workloads`].
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum WorkloadCommand {
    /// Has the word of an issuer let workloads in, in place of what its file said before.
    Set {
        /// The issuer's file.
        file: PolicyFile,
    },
    /// Ends that. Who came in stays.
    Remove {
        /// Which issuer.
        name: Name,
    },
    /// Admits a node by a token of its platform, which counts this once.
    Admit {
        /// What the token says.
        verified: Box<VerifiedWorkload>,
        /// What the node wants to be called, where the issuer's rule does not say.
        name: Name,
        /// The public key of its certificate request, whose signature the shell has checked.
        identity: Identity,
    },
}

impl WorkloadCommand {
    /// Whether it takes access away, whatever the state.
    pub(crate) fn is_removal(&self) -> bool {
        match self {
            Self::Remove { .. } => true,
            Self::Set { .. } | Self::Admit { .. } => false,
        }
    }

    /// The word for it in the log and in refusals.
    pub(crate) fn method(&self) -> &'static str {
        match self {
            Self::Set { .. } => "workload.set",
            Self::Remove { .. } => "workload.remove",
            Self::Admit { .. } => "workload.admit",
        }
    }
}
