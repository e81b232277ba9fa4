//! Who asks for a change.

use std::fmt;

use ringfence_model::{ApiTokenId, Name, NodeId, TokenId};
use serde::{Deserialize, Serialize};

use crate::ApiToken;

/// Who asks for a change, and in which request: what the audit trail says first.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Actor {
    /// What kind of identity was verified.
    pub kind: ActorKind,
    /// Its name: an administrator's, a node's id, a token's id, or the part of the controller. Of an API token, whom it
    /// stands for, or what it is called.
    pub name: String,
    /// The request, as the API's `X-Request-Id` gives it.
    pub request_id: String,
    /// By which API token, if it was one: what it may do is judged by that.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub api_token: Option<ApiTokenId>,
}

/// What kind of identity the shell verified before it asked.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum ActorKind {
    /// Holds an admin token.
    Admin,
    /// Holds an API token.
    ApiToken,
    /// Holds a node certificate; the name is the node's id.
    Node,
    /// Presents a join token; the name is the token's id. Nothing is verified yet.
    Token,
    /// Presents a token of its platform; the name is the workload issuer's. Where it asks to come in, the token is verified.
    Workload,
    /// Holds the SCIM token of an identity provider; the name is the provider's.
    Directory,
    /// The controller itself, or someone with its data directory.
    System,
}

impl Actor {
    /// An administrator.
    pub fn admin(name: impl Into<String>, request_id: impl Into<String>) -> Self {
        Self::new(ActorKind::Admin, name, request_id)
    }

    /// A node, by the identity of its control connection.
    pub fn node(id: NodeId, request_id: impl Into<String>) -> Self {
        Self::new(ActorKind::Node, id.to_string(), request_id)
    }

    /// Someone who presents a join token.
    pub fn token(id: TokenId, request_id: impl Into<String>) -> Self {
        Self::new(ActorKind::Token, id.to_string(), request_id)
    }

    /// Someone who presents a token of a workload issuer.
    pub fn workload(issuer: &Name, request_id: impl Into<String>) -> Self {
        Self::new(ActorKind::Workload, issuer.to_string(), request_id)
    }

    /// An identity provider that says who its people are, by its SCIM token.
    pub fn directory(provider: &Name, request_id: impl Into<String>) -> Self {
        Self::new(ActorKind::Directory, provider.to_string(), request_id)
    }

    /// The controller itself: `part` says which part of it.
    pub fn system(part: impl Into<String>, request_id: impl Into<String>) -> Self {
        Self::new(ActorKind::System, part, request_id)
    }

    /// Whoever holds an API token.
    pub fn api_token(token: &ApiToken, request_id: impl Into<String>) -> Self {
        Self {
            api_token: Some(token.id),
            ..Self::new(ActorKind::ApiToken, token.speaker(), request_id)
        }
    }

    fn new(kind: ActorKind, name: impl Into<String>, request_id: impl Into<String>) -> Self {
        Self {
            kind,
            name: bounded(name.into()),
            request_id: bounded(request_id.into()),
            api_token: None,
        }
    }
}

/// Cuts what comes from outside to a size the log can bear.
fn bounded(text: String) -> String {
    if text.len() <= ACTOR_TEXT_BYTES_MAX {
        return text;
    }
    let end = (0..=ACTOR_TEXT_BYTES_MAX)
        .rev()
        .find(|end| text.is_char_boundary(*end));
    text[..end.unwrap_or(0)].to_owned()
}

impl ActorKind {
    /// The word used in the log and the API.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Admin => "admin",
            Self::ApiToken => "api-token",
            Self::Node => "node",
            Self::Token => "token",
            Self::Workload => "workload",
            Self::Directory => "directory",
            Self::System => "system",
        }
    }
}

impl fmt::Display for ActorKind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.as_str())
    }
}

/// The longest actor name and request id kept.
pub const ACTOR_TEXT_BYTES_MAX: usize = 128;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_long_name_is_cut_between_characters() {
        let actor = Actor::admin("é".repeat(ACTOR_TEXT_BYTES_MAX), "r");

        assert_eq!(actor.name.len(), ACTOR_TEXT_BYTES_MAX);
        assert_eq!(Actor::admin("ada", "r").name, "ada");
    }
}
