//! What became of locks.

use serde::{Deserialize, Serialize};

use super::{Lock, LockTarget};

/// One fact about locks: in [`crate::Event::Locks`].
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "event", rename_all = "kebab-case")]
pub enum LockEvent {
    /// Something was locked.
    LockSet {
        /// How.
        lock: Lock,
    },
    /// An administrator lifted a lock.
    LockLifted {
        /// What it was.
        before: Lock,
    },
    /// A lock's time ran out.
    LockExpired {
        /// What it was.
        before: Lock,
    },
}

impl LockEvent {
    /// The word for it, as in the log.
    pub fn kind(&self) -> &'static str {
        match self {
            Self::LockSet { .. } => "lock-set",
            Self::LockLifted { .. } => "lock-lifted",
            Self::LockExpired { .. } => "lock-expired",
        }
    }

    /// What it locks, or locks no more.
    pub(crate) fn target(&self) -> &LockTarget {
        match self {
            Self::LockSet { lock } => &lock.target,
            Self::LockLifted { before } | Self::LockExpired { before } => &before.target,
        }
    }

    /// What happened, in words.
    pub(crate) fn sentence(&self) -> String {
        let target = self.target();
        match self {
            Self::LockSet { lock } => format!("locked {target}: {}", lock.reason),
            Self::LockLifted { .. } => format!("lifted the lock on {target}"),
            Self::LockExpired { .. } => format!("the lock on {target} ended"),
        }
    }
}
