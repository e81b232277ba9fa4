//! The append-only log of changes, and snapshots of what they add up to (DESIGN.md 5, store).
//!
//! **Invariant:** an entry is on the disk before [`Log::append`] returns, and an entry once written is never altered.

mod reserve;
mod sqlite;

use ringfence_model::{Revision, UnixMillis};

pub use sqlite::SqliteLog;

/// One change as it is stored: its place, when it was made, its hash, and the change itself as JSON.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Entry {
    /// The revision the change leads to.
    pub revision: Revision,
    /// When it was made.
    pub at: UnixMillis,
    /// Hash of this entry, which covers the hash of the one before.
    pub hash: [u8; 32],
    /// The change.
    pub body: String,
}

/// A state as it was at a revision, so that a start need not read the whole log.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct StoredSnapshot {
    /// The revision it stands for.
    pub revision: Revision,
    /// The state, in the core's own format and version.
    pub body: Vec<u8>,
}

/// What a start reads.
#[derive(Debug, Default)]
pub struct Loaded {
    /// The newest snapshot.
    pub snapshot: Option<StoredSnapshot>,
    /// The entries after it, in order; all of them if there is none.
    pub entries: Vec<Entry>,
    /// Revision and hash of the newest entry: what all of the above must lead to.
    pub newest: Option<(Revision, [u8; 32])>,
}

/// Where changes are kept. One implementation per database.
pub trait Log: Send {
    /// Reads the newest snapshot and what came after it.
    ///
    /// # Errors
    /// [`StoreError`] if anything cannot be read: half a log is never handed out (red line 1).
    fn load(&mut self) -> Result<Loaded, StoreError>;

    /// Appends `entry` if the newest revision is `expected`; durable when this returns.
    ///
    /// # Errors
    /// [`StoreError::Stale`] if it is not, [`StoreError::Full`] if the disk is; nothing is written then.
    fn append(&mut self, expected: Revision, entry: &Entry) -> Result<(), StoreError>;

    /// Keeps a snapshot. The log stays whole: it is the audit trail.
    ///
    /// # Errors
    /// As [`Self::append`].
    fn save_snapshot(&mut self, snapshot: &StoredSnapshot) -> Result<(), StoreError>;

    /// Entries made at or after `since`, newest `limit` of them, in order.
    ///
    /// # Errors
    /// [`StoreError`] if the database cannot be read.
    fn entries_since(&mut self, since: UnixMillis, limit: usize) -> Result<Vec<Entry>, StoreError>;

    /// Calls `visit` with every entry from the first on, in order, until it returns `false`.
    ///
    /// # Errors
    /// [`StoreError`] if the database cannot be read.
    fn visit_all(&mut self, visit: &mut dyn FnMut(&Entry) -> bool) -> Result<(), StoreError>;

    /// Another way to the same log, to read it at length while this one goes on being written.
    ///
    /// # Errors
    /// [`StoreError`] if the database cannot be opened again.
    fn reader(&self) -> Result<Box<dyn Log>, StoreError>;

    /// Gives up a piece of the room kept back for removals; `false` if none is left. Appends that succeed later keep
    /// room back again.
    fn release_reserve(&mut self) -> bool;

    /// The hash under which the admin token is kept, if `init` has come that far.
    ///
    /// # Errors
    /// [`StoreError`] if the database cannot be read.
    fn admin_token_hash(&mut self) -> Result<Option<[u8; 32]>, StoreError>;

    /// Sets that hash.
    ///
    /// # Errors
    /// As [`Self::append`].
    fn set_admin_token_hash(&mut self, hash: &[u8; 32]) -> Result<(), StoreError>;
}

/// Why the log cannot be read or written.
#[derive(Debug, thiserror::Error)]
pub enum StoreError {
    /// Not a database of ours, or a damaged one.
    #[error("{path} is not a sound Ringfence store: {why}. Restore it from a backup; nothing was changed")]
    Damaged {
        /// The database.
        path: String,
        /// What is wrong with it.
        why: String,
    },
    /// Written by a later version.
    #[error(
        "{path} has format {found}, this version reads up to {supported}: use the newer ringfence-controller"
    )]
    Format {
        /// The database.
        path: String,
        /// The format it has.
        found: i64,
        /// The newest we read.
        supported: i64,
    },
    /// Somebody else appended.
    #[error("the log is at revision {found}, not {expected}: another controller wrote to it")]
    Stale {
        /// What the caller went by.
        expected: Revision,
        /// What is there.
        found: Revision,
    },
    /// No room.
    #[error(
        "the disk is full: the change was not recorded and is not in force. Free some space and try again"
    )]
    Full,
    /// The database said no.
    #[error("the store cannot be used: {0}")]
    Database(String),
}
