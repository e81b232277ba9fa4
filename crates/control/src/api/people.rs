//! `/sessions` and `/users`: who is logged in where, and who was ever vouched for.

use std::collections::BTreeSet;

use ringfence_model::{Name, NodeId, SessionId, UnixMillis};
use serde::{Deserialize, Serialize};

/// `GET /sessions`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub struct SessionList {
    /// In order of the node's name.
    pub sessions: Vec<SessionView>,
}

/// A person at a node.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub struct SessionView {
    /// Its id.
    pub id: SessionId,
    /// At which node.
    pub node: Name,
    /// The node's id.
    pub node_id: NodeId,
    /// Who: the provider's name, a slash and the subject.
    pub user: String,
    /// What people call them.
    pub name: String,
    /// Their verified address.
    pub email: Option<String>,
    /// The groups they are in.
    pub groups: BTreeSet<String>,
    /// The context class that the provider vouched for (`acr`).
    pub acr: Option<String>,
    /// The methods by which they proved who they are (`amr`).
    pub amr: BTreeSet<String>,
    /// When they last proved it.
    pub authenticated_ms: UnixMillis,
    /// When they last proved a second factor.
    pub mfa_ms: Option<UnixMillis>,
    /// When they logged in.
    pub started_ms: UnixMillis,
    /// When it ends by itself.
    pub expires_ms: UnixMillis,
}

/// `GET /users`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub struct UserList {
    /// In order of name.
    pub users: Vec<UserView>,
}

/// A person who was vouched for.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub struct UserView {
    /// Who: the provider's name, a slash and the subject.
    pub id: String,
    /// What people called them at the last login.
    pub name: String,
    /// Their verified address then.
    pub email: Option<String>,
    /// Their groups then.
    pub groups: BTreeSet<String>,
    /// When they first logged in.
    pub added_ms: UnixMillis,
    /// When they last did.
    pub seen_ms: UnixMillis,
    /// Whether they may log in, as far as their account goes.
    pub active: bool,
    /// Whether a lock keeps them out.
    pub locked: bool,
    /// The nodes they are logged in at.
    pub nodes: Vec<Name>,
}

/// `PATCH /users`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
#[serde(deny_unknown_fields)]
pub struct PatchUserRequest {
    /// Whom: their id, address or name.
    pub user: String,
    /// Whether they may log in. If not, their sessions end at once.
    pub active: bool,
}
