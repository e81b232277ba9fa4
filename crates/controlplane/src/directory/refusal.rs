//! Why a command about a directory is refused, or a login because of one.

use ringfence_model::{DirectoryId, Name};

use crate::RefusalKind;

/// Why: in [`crate::Refusal::Directory`].
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum DirectoryRefusal {
    /// A person whom the directory of their provider does not have, or does not tell from others.
    #[error(
        "{0} is nobody in the directory that the identity provider keeps here, or not one alone: ask an administrator"
    )]
    NotProvisioned(String),
    /// A provider that has no SCIM token.
    #[error("identity provider {0} has no SCIM token: `ringfence scim token {0}` makes one")]
    NoToken(Name),
    /// No such person or group.
    #[error("there is no {0} in this directory")]
    NotThere(DirectoryId),
    /// A group with somebody in it whom the directory does not have.
    #[error("there is no user {0} in this directory")]
    NoSuchMember(DirectoryId),
    /// A name that somebody or some group has.
    #[error("{0} is in this directory already")]
    NameTaken(String),
    /// A text that no directory should send.
    #[error("{what} is 1 to {max} bytes long, without control characters")]
    Text {
        /// Which.
        what: &'static str,
        /// How long it may be.
        max: usize,
    },
}

impl DirectoryRefusal {
    /// What it means to the one who asked.
    pub(crate) fn kind(&self) -> RefusalKind {
        match self {
            Self::NotProvisioned(_) => RefusalKind::Denied,
            Self::NoToken(_) | Self::NotThere(_) => RefusalKind::NotFound,
            Self::NameTaken(_) => RefusalKind::Conflict,
            Self::NoSuchMember(_) | Self::Text { .. } => RefusalKind::Invalid,
        }
    }

    /// A stable word for it, for machines.
    pub(crate) fn code(&self) -> &'static str {
        match self {
            Self::NotProvisioned(_) => "not-provisioned",
            Self::NoToken(_) => "no-scim-token",
            Self::NotThere(_) => "not-in-directory",
            Self::NoSuchMember(_) => "no-such-member",
            Self::NameTaken(_) => "directory-name-taken",
            Self::Text { .. } => "directory-text",
        }
    }
}
