//! What may be asked about people.

use std::time::Duration;

use ringfence_model::{Name, NodeId, SessionId};

use super::{SessionEnd, UserId, VerifiedLogin};

/// What may be asked about people: in [`crate::Command::People`].
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum PeopleCommand {
    /// Starts the session of a person at a node, or renews it: after a step-up, or another login.
    StartSession {
        /// At which node.
        node: NodeId,
        /// What was verified.
        login: VerifiedLogin,
        /// How long it lasts, as the provider is set up.
        length: Duration,
    },
    /// Ends one session.
    EndSession {
        /// Which.
        session: SessionId,
    },
    /// Ends every session of someone.
    EndSessions {
        /// Whose.
        of: SessionsOf,
        /// Why.
        cause: SessionEnd,
    },
    /// A person logs out at their node.
    LogOut {
        /// Which.
        node: NodeId,
    },
    /// Ends every session of a person and lets them start none.
    DeactivateUser {
        /// Whom.
        user: UserId,
    },
    /// Lets a person log in again.
    ReactivateUser {
        /// Whom.
        user: UserId,
    },
}

/// Whose sessions are meant.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum SessionsOf {
    /// One person's, at every node.
    User(UserId),
    /// Those that began in one session at a provider.
    ProviderSession {
        /// The provider.
        provider: Name,
        /// Its name for the session (`sid`).
        session: String,
    },
}

impl PeopleCommand {
    /// Whether it takes access away, whatever the state.
    pub(crate) fn is_removal(&self) -> bool {
        match self {
            Self::EndSession { .. }
            | Self::EndSessions { .. }
            | Self::LogOut { .. }
            | Self::DeactivateUser { .. } => true,
            Self::StartSession { .. } | Self::ReactivateUser { .. } => false,
        }
    }

    /// The word for it in the log and in refusals.
    pub(crate) fn method(&self) -> &'static str {
        match self {
            Self::StartSession { .. } => "session.start",
            Self::EndSession { .. } | Self::EndSessions { .. } => "session.end",
            Self::LogOut { .. } => "session.log-out",
            Self::DeactivateUser { .. } => "user.deactivate",
            Self::ReactivateUser { .. } => "user.reactivate",
        }
    }
}
