//! What may be asked about local accounts.

use std::collections::BTreeSet;
use std::time::Duration;

use ringfence_model::{Name, NodeId};

/// What may be asked about local accounts: in [`crate::Command::Accounts`].
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum AccountCommand {
    /// Lets somebody log in by a password and a second factor of their own.
    Add {
        /// What they log in as.
        name: Name,
        /// Their address.
        email: Option<String>,
        /// The groups they are in.
        groups: BTreeSet<String>,
        /// How long a session of theirs lasts.
        session: Duration,
    },
    /// Puts somebody in these groups, and in no others.
    Regroup {
        /// Whom.
        name: Name,
        /// All of them.
        groups: BTreeSet<String>,
    },
    /// Has somebody choose a password and a second factor anew: their sessions end.
    Reset {
        /// Whom.
        name: Name,
    },
    /// Ends an account and its sessions.
    Remove {
        /// Whose.
        name: Name,
    },
    /// Notes that somebody chose a password and proved a second factor. The shell has verified it.
    SetUp {
        /// Who.
        name: Name,
        /// Which credentials these are.
        generation: u64,
        /// At which node.
        node: NodeId,
    },
}

impl AccountCommand {
    /// Whether it takes access away, whatever the state.
    pub(crate) fn is_removal(&self) -> bool {
        match self {
            Self::Reset { .. } | Self::Remove { .. } => true,
            Self::Add { .. } | Self::Regroup { .. } | Self::SetUp { .. } => false,
        }
    }

    /// The word for it in the log and in refusals.
    pub(crate) fn method(&self) -> &'static str {
        match self {
            Self::Add { .. } => "account.add",
            Self::Regroup { .. } => "account.regroup",
            Self::Reset { .. } => "account.reset",
            Self::Remove { .. } => "account.remove",
            Self::SetUp { .. } => "account.set-up",
        }
    }
}
