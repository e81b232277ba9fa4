//! What may be asked about locks.

use std::collections::BTreeSet;
use std::time::Duration;

use ringfence_model::{LockId, NodeId};

use super::LockTarget;

/// What may be asked about locks: in [`crate::Command::Locks`].
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum LockCommand {
    /// Locks something.
    Set {
        /// What.
        target: LockTarget,
        /// With whom it may still talk, as policy allows.
        keep: BTreeSet<NodeId>,
        /// Why, for people.
        reason: String,
        /// How long; until it is lifted if not given.
        ttl: Option<Duration>,
    },
    /// Lifts a lock.
    Lift {
        /// Which.
        lock: LockId,
    },
}

impl LockCommand {
    /// Whether it takes access away, whatever the state.
    pub(crate) fn is_removal(&self) -> bool {
        match self {
            Self::Set { .. } => true,
            Self::Lift { .. } => false,
        }
    }

    /// The word for it in the log and in refusals.
    pub(crate) fn method(&self) -> &'static str {
        match self {
            Self::Set { .. } => "lock.set",
            Self::Lift { .. } => "lock.lift",
        }
    }
}
