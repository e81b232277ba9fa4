//! Device posture: what must be true of a machine, judged on what is known about it.
//!
//! **Invariant:** what is missing or stale holds for nothing. With the same facts a check that does not hold at one
//! moment holds at none after it: only news opens.

mod fact;
mod judge;
mod makers;
mod needs;
mod text;
mod uses;
mod version;

use std::sync::Arc;
use std::time::Duration;

use ringfence_model::Name;

pub use self::fact::{
    FILE_BYTES_MAX, Fact, FactKind, FactName, FactSource, FactValue, FactWordError, KnownFacts, NativeFact,
    PROCESS_BYTES_MAX, VALUE_BYTES_MAX, is_fingerprint,
};
pub use self::judge::{Finding, Judgement, Saying};
pub use self::makers::TpmNeeds;
pub use self::needs::FactNeeds;
pub use self::text::{CHECKS_MAX, COMPARISONS_MAX, POSTURE_BYTES_MAX};
pub use self::uses::CheckUse;
pub use self::version::{NoVersion, Version};
use crate::diagnostic::Place;

/// What `posture.toml` says: the checks of a mesh, in file order, and whose TPMs are trusted. Names are unique.
#[derive(Clone, Debug, Default, PartialEq)]
#[non_exhaustive]
pub struct PostureFile {
    /// The checks.
    pub checks: Vec<Check>,
    /// The certificates of makers of TPMs that are trusted, in DER.
    pub tpm_makers: Arc<[Vec<u8>]>,
}

/// One `[[check]]`. Made by [`PostureFile::parse`] alone.
#[derive(Clone, Debug, PartialEq)]
#[non_exhaustive]
pub struct Check {
    /// What rules call it.
    pub name: Name,
    /// Where it starts.
    pub place: Place,
    /// Why it is asked, for people.
    pub description: String,
    /// Whether it keeps anyone out.
    pub mode: CheckMode,
    /// How old what a node measured may be.
    pub max_age: Duration,
    /// All of these must hold. Never empty.
    pub comparisons: Vec<Comparison>,
}

/// Whether a check keeps anyone out.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum CheckMode {
    /// Who does not pass is refused.
    #[default]
    Enforce,
    /// Every node passes; what it would have been is shown.
    Report,
}

/// One thing that must hold.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Comparison {
    /// What it is about.
    pub fact: FactName,
    /// What it must be.
    pub wanted: Wanted,
}

/// What a fact must be.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Wanted {
    /// This.
    Bool(bool),
    /// One of these. Never empty.
    OneOf(Vec<String>),
    /// A number within these, both included.
    Numbers {
        /// At least.
        min: Option<i64>,
        /// At most.
        max: Option<i64>,
    },
    /// A version within these, both included.
    Versions {
        /// At least.
        min: Option<Version>,
        /// At most.
        max: Option<Version>,
    },
    /// A moment that is at most so long ago.
    MaxAge(Duration),
}

impl PostureFile {
    /// The check of this name.
    pub fn check(&self, name: &Name) -> Option<&Check> {
        self.checks.iter().find(|check| check.name == *name)
    }
}

impl Check {
    /// Whether who passes the one passes the other: whatever they are called, and why.
    pub fn asks_the_same(&self, other: &Self) -> bool {
        (self.mode, self.max_age, &self.comparisons) == (other.mode, other.max_age, &other.comparisons)
    }
}

impl CheckMode {
    /// As the file writes it.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Enforce => "enforce",
            Self::Report => "report",
        }
    }
}
