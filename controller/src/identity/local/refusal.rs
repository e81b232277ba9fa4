//! Why a local account lets nobody in: in words for the person, and no more of them than anybody may be told.

use std::time::Duration;

use super::password;
use crate::core::{CommitError, CoreGone};

/// Why there is no login: in words for the person, and no more of them than anybody may be told.
#[derive(Debug, thiserror::Error)]
pub enum LocalRefusal {
    /// Any of them.
    #[error("the account, the password or the code is wrong")]
    Wrong,
    /// Any of them.
    #[error("the account, the set-up secret or the code is wrong, or the secret was used or has expired")]
    WrongSecret,
    /// A code alone, where nobody is logged in.
    #[error(
        "a code alone renews what this account proved where it is logged in: log in with the password too"
    )]
    NoSession,
    /// A password that is guessed too soon, or takes too long to read.
    #[error(
        "a password has {} characters at least, and {} bytes at most",
        password::CHARS_MIN,
        password::BYTES_MAX
    )]
    Password,
    /// Something that no person says.
    #[error("a login by a local account has a password and a code, a code alone, or a set-up secret")]
    Malformed,
    /// Too many attempts at this name, or from this node.
    #[error("too many attempts: try again in {}", humantime::format_duration(Duration::from_secs(wait.as_secs() + 1)))]
    TooMany {
        /// When.
        wait: Duration,
    },
    /// What was proved gives no session.
    #[error("{0}")]
    Refused(String),
    /// The vault does not answer, or there is no randomness.
    #[error("the controller cannot look it up: its log says why")]
    Broken(String),
}

impl From<rusqlite::Error> for LocalRefusal {
    fn from(error: rusqlite::Error) -> Self {
        Self::Broken(error.to_string())
    }
}

impl From<CoreGone> for LocalRefusal {
    fn from(gone: CoreGone) -> Self {
        Self::Refused(gone.to_string())
    }
}

impl From<CommitError> for LocalRefusal {
    fn from(error: CommitError) -> Self {
        Self::Refused(error.to_string())
    }
}
