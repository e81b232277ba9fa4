//! `/nodes`.

use std::net::SocketAddr;

use ringfence_model::{Labels, Name, NodeId, Revision, TokenId, UnixMillis};
use serde::{Deserialize, Serialize};

/// `GET /nodes`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub struct NodeList {
    /// In order of name.
    pub nodes: Vec<NodeView>,
}

/// `GET /nodes/{id-or-name}`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub struct NodeView {
    /// Its id, the same for its whole life.
    pub id: NodeId,
    /// Its name.
    pub name: Name,
    /// Its labels.
    pub labels: Labels,
    /// The perimeters it is a member of.
    pub perimeters: Vec<Name>,
    /// Whether its control channel is up.
    pub connected: bool,
    /// When the controller last heard from it.
    pub last_seen_ms: Option<UnixMillis>,
    /// Where its control channel comes from.
    #[cfg_attr(feature = "openapi", schema(value_type = Option<String>))]
    pub remote: Option<SocketAddr>,
    /// Where its peers may reach it.
    #[cfg_attr(feature = "openapi", schema(value_type = Vec<String>))]
    pub endpoints: Vec<SocketAddr>,
    /// The version of its agent.
    pub version: Option<String>,
    /// The newest revision it enforces.
    #[serde(with = "crate::text::option")]
    #[cfg_attr(feature = "openapi", schema(value_type = Option<String>))]
    pub enforced: Option<Revision>,
    /// When it enrolled.
    pub enrolled_ms: UnixMillis,
    /// What let it in; `null` where an older controller does not say.
    #[serde(default)]
    pub admitted_by: Option<AdmissionView>,
    /// When its certificate ends.
    pub certificate_expires_ms: Option<UnixMillis>,
    /// The locks on it: while there is one, no rule joins it to anyone but those that all of them keep.
    #[serde(default)]
    pub locks: Vec<super::LockView>,
}

/// What let a node in.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
#[serde(tag = "kind", rename_all = "lowercase")]
pub enum AdmissionView {
    /// A join token.
    Token {
        /// Which.
        token: TokenId,
    },
    /// A token of its platform.
    Workload {
        /// The workload issuer.
        issuer: Name,
        /// Who it is there.
        subject: String,
        /// By which rule of the issuer's file, counted from 1.
        rule: u32,
    },
}

/// `PATCH /nodes/{id-or-name}`: all of it in one change.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
#[serde(deny_unknown_fields)]
pub struct PatchNodeRequest {
    /// A new name.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub name: Option<Name>,
    /// Labels to add or replace.
    #[serde(default, skip_serializing_if = "Labels::is_empty")]
    pub set_labels: Labels,
    /// Keys of labels to remove.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub remove_labels: Vec<String>,
}
