//! What became of people and their sessions.

use ringfence_model::NodeId;
use serde::{Deserialize, Serialize};

use super::{Session, SessionEnd, User, UserId};

/// One fact about people: in [`crate::Event::People`].
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "event", rename_all = "kebab-case")]
pub enum PeopleEvent {
    /// A person was vouched for the first time.
    UserAdded {
        /// They.
        user: User,
    },
    /// A person may not log in any more.
    UserDeactivated {
        /// Who.
        user: UserId,
        /// What people call them.
        name: String,
    },
    /// A person may log in again.
    UserReactivated {
        /// Who.
        user: UserId,
        /// What people call them.
        name: String,
    },
    /// The record of someone who has not logged in for long made room for others.
    UserForgotten {
        /// What it was.
        before: User,
    },
    /// A person logged in at a node.
    SessionStarted {
        /// It.
        session: Session,
    },
    /// They did so again.
    SessionRenewed {
        /// The session before.
        before: Box<Session>,
        /// The session now.
        after: Box<Session>,
    },
    /// The provider's directory lists its person in other groups.
    SessionRegrouped {
        /// The session before.
        before: Box<Session>,
        /// The session now.
        after: Box<Session>,
    },
    /// A session is over.
    SessionEnded {
        /// What it was.
        before: Session,
        /// Why it ended.
        cause: SessionEnd,
    },
}

impl PeopleEvent {
    /// The word for it, as in the log.
    pub fn kind(&self) -> &'static str {
        match self {
            Self::UserAdded { .. } => "user-added",
            Self::UserDeactivated { .. } => "user-deactivated",
            Self::UserReactivated { .. } => "user-reactivated",
            Self::UserForgotten { .. } => "user-forgotten",
            Self::SessionStarted { .. } => "session-started",
            Self::SessionRenewed { .. } => "session-renewed",
            Self::SessionRegrouped { .. } => "session-regrouped",
            Self::SessionEnded { .. } => "session-ended",
        }
    }

    /// The node at which what is verified about its person has changed.
    pub(crate) fn node(&self) -> Option<NodeId> {
        match self {
            Self::SessionStarted { session } => Some(session.node),
            Self::SessionRenewed { after, .. } | Self::SessionRegrouped { after, .. } => Some(after.node),
            Self::SessionEnded { before, .. } => Some(before.node),
            Self::UserAdded { .. }
            | Self::UserDeactivated { .. }
            | Self::UserReactivated { .. }
            | Self::UserForgotten { .. } => None,
        }
    }

    /// What happened, in words.
    pub(crate) fn sentence(&self) -> String {
        match self {
            Self::UserAdded { user } => format!("{} was vouched for as {}", user.name, user.id),
            Self::UserDeactivated { user, name } => format!("deactivated {name} ({user})"),
            Self::UserReactivated { user, name } => format!("let {name} ({user}) log in again"),
            Self::UserForgotten { before } => format!("forgot {} ({})", before.name, before.id),
            Self::SessionStarted { session } => {
                format!("{} logged in at node {}", session.login.name, session.node)
            }
            Self::SessionRenewed { after, .. } => {
                format!("{} logged in again at node {}", after.login.name, after.node)
            }
            Self::SessionRegrouped { after, .. } => {
                let groups: Vec<&str> = after.login.groups.iter().map(String::as_str).collect();
                let (name, node) = (&after.login.name, after.node);
                format!("{name} at node {node} is in [{}] now", groups.join(", "))
            }
            Self::SessionEnded { before, cause } => {
                let (name, node) = (&before.login.name, before.node);
                format!("the session of {name} at node {node} {}", cause.as_str())
            }
        }
    }
}
