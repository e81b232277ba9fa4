//! Workload issuers in force, and which of their tokens have let a machine in.
//!
//! **Invariant:** a token lets in once. It is remembered for longer than it could count, and where there is no room to
//! remember one more, nobody is let in.

mod command;
mod event;
mod refusal;

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use ringfence_model::{Name, UnixMillis};
use ringfence_policy::{Claims, PolicyErrors, WorkloadIssuer};
use serde::{Deserialize, Serialize};
use sha2::{Digest as _, Sha256};

pub use self::command::WorkloadCommand;
pub use self::event::WorkloadEvent;
pub use self::refusal::WorkloadRefusal;
use crate::{CLOCK_SKEW_MAX, PolicyFile};

/// What the log says about workloads.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub(crate) struct WorkloadState {
    pub(crate) issuers: BTreeMap<Name, WorkloadSource>,
    /// Tokens that let a machine in, each until it is of no use even to a clock that was set back. Shared: a draft of
    /// anything else costs a reference.
    pub(crate) used: Arc<BTreeMap<JwtHash, UnixMillis>>,
}

/// An issuer's file and what it says. Written as the text alone, and read by checking that again.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(try_from = "PolicyFile", into = "PolicyFile")]
pub(crate) struct WorkloadSource {
    pub(crate) file: Arc<PolicyFile>,
    pub(crate) issuer: Arc<WorkloadIssuer>,
}

/// A token whose signature, issuer, audience and times the shell has verified.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct VerifiedWorkload {
    /// The issuer as it was verified against: where it is another by now, nothing was.
    pub issuer: Arc<WorkloadIssuer>,
    /// Its `sub`.
    pub subject: String,
    /// All that it says.
    pub claims: Claims,
    /// Its `exp`.
    pub expires: UnixMillis,
    /// Which token it is.
    pub jwt: JwtHash,
}

/// SHA-256 of what a token's signature is over, in hex. Not of the signature: of that there are several for one token
/// (of ECDSA, two at the least).
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct JwtHash([u8; 32]);

impl VerifiedWorkload {
    /// The first moment at which the token does not count any more.
    pub fn ends(&self) -> UnixMillis {
        self.expires.saturating_add(CLOCK_SKEW_MAX)
    }

    /// How long it has to be remembered.
    pub(crate) fn remember_until(&self) -> UnixMillis {
        self.ends().saturating_add(SET_BACK_MAX)
    }
}

impl WorkloadState {
    /// Whether a token let a machine in before.
    pub(crate) fn is_used(&self, jwt: &JwtHash) -> bool {
        self.used.contains_key(jwt)
    }

    /// How many tokens have to be remembered at `wall`.
    pub(crate) fn remembered(&self, wall: UnixMillis) -> usize {
        self.used.values().filter(|until| **until > wall).count()
    }
}

impl TryFrom<PolicyFile> for WorkloadSource {
    type Error = PolicyErrors;

    fn try_from(file: PolicyFile) -> Result<Self, PolicyErrors> {
        let issuer = WorkloadIssuer::parse(&file.file, &file.text)?;
        Ok(Self {
            file: Arc::new(file),
            issuer: Arc::new(issuer),
        })
    }
}

impl From<WorkloadSource> for PolicyFile {
    fn from(source: WorkloadSource) -> Self {
        Arc::unwrap_or_clone(source.file)
    }
}

impl JwtHash {
    /// Hashes header and claims as they were signed, with the dot between.
    pub fn of_signed(text: &[u8]) -> Self {
        Self(Sha256::digest(text).into())
    }
}

impl TryFrom<String> for JwtHash {
    type Error = hex::FromHexError;

    fn try_from(text: String) -> Result<Self, Self::Error> {
        let mut bytes = [0; 32];
        hex::decode_to_slice(text, &mut bytes)?;
        Ok(Self(bytes))
    }
}

impl From<JwtHash> for String {
    fn from(hash: JwtHash) -> Self {
        hex::encode(hash.0)
    }
}

/// How far the clock may be set back without a token that has ended counting a second time.
const SET_BACK_MAX: Duration = Duration::from_hours(1);
