//! The words of Ringfence as types: ids, names, keys, labels, addresses, revisions and times.
//!
//! Every other crate speaks in these. They are parsed once, at the edge, and trusted from then on: a [`Name`]
//! cannot hold an odd character, a [`PrivateKey`] cannot be printed, a [`Revision`] can only be compared.
//!
//! **Invariant:** nothing here does I/O, reads a clock or draws randomness.
#![deny(missing_docs)]

mod address;
mod candidate;
mod id;
mod key;
mod label;
mod name;
mod rank;
mod revision;
pub mod sabotage;
mod table;
mod time;

pub use address::{INTERFACE_NAME_BYTES_MAX, OverlayAddresses, PerimeterPrefixes, interface_name};
pub use candidate::{Candidate, CandidateKind};
pub use id::{AccessId, AccessIdError, ApiTokenId, DirectoryId, LockId, NodeId, RuleId, SessionId, TokenId};
pub use key::{KEY_BYTES, PrivateKey, PublicKey};
pub use label::{LABELS_MAX, LabelError, Labels, Selector};
pub use name::{NAME_BYTES_MAX, Name, NameError};
pub use rank::nearest_rank;
pub use revision::Revision;
pub use table::TableSize;
pub use time::UnixMillis;

/// How many perimeters one node may be a member of: the `mac1` scan of an initiation tries each (DESIGN.md 4).
pub const SEGMENTS_PER_NODE_MAX: usize = 64;
