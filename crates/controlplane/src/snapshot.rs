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
///
/// Two are equal if they stand at the same entry with the same state. One replayed from the log alone tells whether
/// another was forged: the chain of hashes does not cover snapshots.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
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

    /// Brings a controller back from a snapshot, if there is one, and every entry after it; each is verified.
    ///
    /// # Errors
    /// [`LoadError`] if an entry is missing, altered or does not fit.
    pub fn load<'a>(
        snapshot: Option<Snapshot>,
        changes: impl IntoIterator<Item = &'a Change>,
    ) -> Result<Self, LoadError> {
        let mut replay = Replay::from(snapshot);
        for change in changes {
            replay.push(change)?;
        }
        replay.finish()
    }
}

/// Brings a controller back entry by entry, so that a long log need not be held at once.
#[derive(Debug, Default)]
pub struct Replay {
    state: Option<State>,
}

impl Replay {
    /// Takes the next entry, and verifies it.
    ///
    /// # Errors
    /// [`LoadError`] if it does not follow the last; the replay is of no use then.
    pub fn push(&mut self, change: &Change) -> Result<(), LoadError> {
        match &mut self.state {
            Some(state) => advance(state, change)?,
            None => self.state = Some(founded(change)?),
        }
        Ok(())
    }

    /// The state as it would be stored, if there was an entry.
    pub fn into_snapshot(self) -> Option<Snapshot> {
        let format = SNAPSHOT_FORMAT;
        self.state.map(|state| Snapshot { format, state })
    }

    /// The controller.
    ///
    /// # Errors
    /// [`LoadError::Empty`] if there was neither a snapshot nor an entry.
    pub fn finish(self) -> Result<Controller, LoadError> {
        self.state.map(Controller::of).ok_or(LoadError::Empty)
    }
}

impl From<Option<Snapshot>> for Replay {
    fn from(snapshot: Option<Snapshot>) -> Self {
        Self {
            state: snapshot.map(|snapshot| snapshot.state),
        }
    }
}

/// How snapshots are written. One of another format is not read: the log is, from its start.
pub const SNAPSHOT_FORMAT: u32 = 5;
