//! A state as it is stored, and how a controller comes back from it and the log after it.
//!
//! **Invariant:** a snapshot only saves time. The log alone gives the same controller, and a snapshot that does not
//! belong to the log is refused.

use serde::{Deserialize, Serialize};

use crate::Change;
use crate::apply::ApplyError;
use crate::change::ChainHead;
use crate::controller::{Controller, advance, founded};
use crate::state::State;

/// A state as it is stored, with the format it is written in.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Snapshot {
    format: u32,
    state: State,
}

/// Why a controller cannot be loaded. It must not run then: a netmap computed from a failed read is never sent
/// (red line 1).
#[derive(Debug, thiserror::Error)]
pub enum LoadError {
    /// Neither a snapshot nor an entry.
    #[error("the log is empty: there is no mesh in it")]
    Empty,
    /// Bytes that are no snapshot.
    #[error("the snapshot cannot be read: {0}")]
    Unreadable(#[from] serde_json::Error),
    /// A snapshot of a format this version does not know.
    #[error("the snapshot has format {0}, this version reads {SNAPSHOT_FORMAT}: use a newer version")]
    Format(u32),
    /// An entry that does not fit.
    #[error(transparent)]
    Apply(#[from] ApplyError),
}

impl Snapshot {
    /// The entry it holds the state after: load the log from the one behind it.
    pub fn chain_head(&self) -> ChainHead {
        self.state.chain_head()
    }

    /// As bytes for a store.
    pub fn to_bytes(&self) -> Vec<u8> {
        serde_json::to_vec(self).expect("a state has string and number keys only, so JSON can hold it")
    }

    /// Reads what [`Self::to_bytes`] wrote.
    ///
    /// # Errors
    /// [`LoadError::Format`] for one of another version, [`LoadError::Unreadable`] for anything else.
    pub fn from_bytes(bytes: &[u8]) -> Result<Self, LoadError> {
        /// The format alone, which every version can read.
        #[derive(Deserialize)]
        struct Head {
            format: u32,
        }
        let head: Head = serde_json::from_slice(bytes)?;
        if head.format != SNAPSHOT_FORMAT {
            return Err(LoadError::Format(head.format));
        }
        Ok(serde_json::from_slice(bytes)?)
    }
}

impl Controller {
    /// The state, for the store.
    pub fn snapshot(&self) -> Snapshot {
        Snapshot {
            format: SNAPSHOT_FORMAT,
            state: self.state().clone(),
        }
    }

    /// Whether both stand at the same entry with the same state. One loaded from the log alone tells whether the
    /// snapshot that this one came from was forged: the chain of hashes does not cover snapshots.
    pub fn agrees_with(&self, other: &Self) -> bool {
        self.state() == other.state()
    }

    /// Brings a controller back from a snapshot, if there is one, and every entry after it; each is verified.
    ///
    /// # Errors
    /// [`LoadError`] if an entry is missing, altered or does not fit.
    pub fn load<'a>(
        snapshot: Option<Snapshot>,
        changes: impl IntoIterator<Item = &'a Change>,
    ) -> Result<Self, LoadError> {
        let mut changes = changes.into_iter();
        let mut state = match snapshot {
            Some(snapshot) => snapshot.state,
            None => founded(changes.next().ok_or(LoadError::Empty)?)?,
        };
        for change in changes {
            advance(&mut state, change)?;
        }
        Ok(Self::of(state))
    }
}

/// How snapshots are written. One of another format is not read: the log is, from its start.
pub const SNAPSHOT_FORMAT: u32 = 1;
