//! One entry of the log: what changed, who asked, and the hash that chains it to the entry before.
//!
//! **Invariant:** the hash covers every field and the previous hash, so no entry can be altered, dropped or moved
//! without [`verify_chain`] saying so. A field added later is optional and skipped when absent, so that old entries
//! keep their hash.

use std::fmt;

use ringfence_model::{Revision, UnixMillis};
use serde::{Deserialize, Serialize};
use sha2::{Digest as _, Sha256};

use crate::{Actor, Event};

/// One entry of the append-only log, all of it or nothing.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Change {
    /// How this entry is written: [`CHANGE_FORMAT`].
    pub format: u32,
    /// The state after it.
    pub revision: Revision,
    /// The controller's wall clock.
    pub at: UnixMillis,
    /// Who asked.
    pub actor: Actor,
    /// What was asked, as in `node.label`.
    pub method: String,
    /// What became of it, in order.
    pub events: Vec<Event>,
    /// The hash of the entry before; [`ChainHash::GENESIS`] for the first.
    pub previous_hash: ChainHash,
    /// The hash of this entry.
    pub hash: ChainHash,
}

/// SHA-256 over an entry and the hash before it, written in hex.
#[derive(Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct ChainHash(pub [u8; 32]);

/// Why a log is not what the controller wrote.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ChainError {
    /// An entry's content does not give its hash.
    #[error("entry {revision} was altered: its content does not match its hash")]
    Altered {
        /// Which entry.
        revision: Revision,
    },
    /// An entry does not follow the one before.
    #[error("entry {revision} does not follow {previous}: an entry is missing, moved or replaced")]
    Broken {
        /// Which entry.
        revision: Revision,
        /// The one before it in the log.
        previous: Revision,
    },
    /// An entry of a format this version does not know.
    #[error(
        "entry {revision} has format {format}, this version reads up to {CHANGE_FORMAT}: use a newer version"
    )]
    Format {
        /// Which entry.
        revision: Revision,
        /// Its format.
        format: u32,
    },
}

/// The end of a verified piece of log.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ChainHead {
    /// The last entry's revision.
    pub revision: Revision,
    /// The last entry's hash.
    pub hash: ChainHash,
}

/// What an entry's hash covers. The order of the fields is part of the format.
#[derive(Serialize)]
struct Hashed<'a> {
    format: u32,
    revision: Revision,
    at: UnixMillis,
    actor: &'a Actor,
    method: &'a str,
    events: &'a [Event],
    previous_hash: ChainHash,
}

impl Change {
    /// Closes an entry with its hash.
    pub(crate) fn seal(head: ChainHead, revision: Revision, at: UnixMillis, body: Body) -> Self {
        let mut change = Self {
            format: CHANGE_FORMAT,
            revision,
            at,
            actor: body.actor,
            method: body.method.to_owned(),
            events: body.events,
            previous_hash: head.hash,
            hash: ChainHash::GENESIS,
        };
        change.hash = change.content_hash();
        change
    }

    /// The hash that this entry's content gives.
    pub fn content_hash(&self) -> ChainHash {
        let content = serde_json::to_vec(&Hashed {
            format: self.format,
            revision: self.revision,
            at: self.at,
            actor: &self.actor,
            method: &self.method,
            events: &self.events,
            previous_hash: self.previous_hash,
        });
        let content = content.expect("an entry has string keys only, so JSON can hold it");
        let mut hash = Sha256::new();
        hash.update(HASH_DOMAIN);
        hash.update(content);
        ChainHash(hash.finalize().into())
    }

    /// Whether this entry is whole and follows `head`.
    ///
    /// # Errors
    /// [`ChainError`] says what is wrong with it.
    pub fn verify_after(&self, head: ChainHead) -> Result<ChainHead, ChainError> {
        let revision = self.revision;
        if self.format > CHANGE_FORMAT {
            return Err(ChainError::Format {
                revision,
                format: self.format,
            });
        }
        if self.content_hash() != self.hash {
            return Err(ChainError::Altered { revision });
        }
        // How far a term may go up is for the events to say (State::apply_event).
        if revision.term < head.revision.term
            || revision.n != head.revision.n + 1
            || self.previous_hash != head.hash
        {
            return Err(ChainError::Broken {
                revision,
                previous: head.revision,
            });
        }
        Ok(ChainHead {
            revision,
            hash: self.hash,
        })
    }
}

/// What goes into an entry besides its place.
pub(crate) struct Body {
    pub(crate) actor: Actor,
    pub(crate) method: &'static str,
    pub(crate) events: Vec<Event>,
}

/// Verifies a log from its first entry.
///
/// # Errors
/// [`ChainError`] names the first entry that is not as it was written.
pub fn verify_chain<'a>(changes: impl IntoIterator<Item = &'a Change>) -> Result<ChainHead, ChainError> {
    let mut head = ChainHead::GENESIS;
    for change in changes {
        head = change.verify_after(head)?;
    }
    Ok(head)
}

impl ChainHead {
    /// Before the first entry.
    pub const GENESIS: Self = Self {
        revision: Revision::ZERO,
        hash: ChainHash::GENESIS,
    };
}

impl ChainHash {
    /// What the first entry follows.
    pub const GENESIS: Self = Self([0; 32]);
}

impl fmt::Display for ChainHash {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(&hex::encode(self.0))
    }
}

impl fmt::Debug for ChainHash {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "ChainHash({self})")
    }
}

impl TryFrom<String> for ChainHash {
    type Error = hex::FromHexError;

    fn try_from(text: String) -> Result<Self, Self::Error> {
        let mut bytes = [0; 32];
        hex::decode_to_slice(text, &mut bytes)?;
        Ok(Self(bytes))
    }
}

impl From<ChainHash> for String {
    fn from(hash: ChainHash) -> Self {
        hash.to_string()
    }
}

/// The newest way of writing an entry that this version knows, and the one it writes.
pub const CHANGE_FORMAT: u32 = 1;

/// Keeps these hashes apart from every other use of SHA-256.
const HASH_DOMAIN: &[u8] = b"ringfence log entry 1\0";
