//! `/locks`: what is shut for a time, or until it is opened again.

use ringfence_model::{LockId, Name, Revision, UnixMillis};
use serde::{Deserialize, Serialize};

use super::FlowChangeView;

/// `POST /locks`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
#[serde(deny_unknown_fields)]
pub struct LockRequest {
    /// What: `node:NAME`, `user:NAME`, `perimeter:NAME`, `label:KEY=VALUE` or `token:ID`.
    pub target: String,
    /// With whom it may still talk, as policy allows: `node:NAME` each.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub keep: Vec<String>,
    /// Why, for people.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub reason: String,
    /// How long, in seconds; until it is lifted if not given.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub ttl_seconds: Option<u64>,
}

/// What `POST /locks` did.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub struct LockReport {
    /// The lock.
    pub lock: LockView,
    /// The revision that holds it: wait for this one.
    #[serde(with = "crate::text")]
    #[cfg_attr(feature = "openapi", schema(value_type = String))]
    pub revision: Revision,
    /// The flows it closed, the first [`super::FLOW_CHANGES_MAX`].
    pub changes: Vec<FlowChangeView>,
    /// How many more there are.
    pub more_changes: u64,
}

/// `GET /locks`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub struct LockList {
    /// Newest first.
    pub locks: Vec<LockView>,
}

/// A lock that counts.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub struct LockView {
    /// Its id.
    pub id: LockId,
    /// What it is on, as it was asked for.
    pub target: String,
    /// With whom what is locked may still talk.
    pub keep: Vec<Name>,
    /// Why.
    pub reason: String,
    /// Who locked it.
    pub by: String,
    /// Since when.
    pub since_ms: UnixMillis,
    /// When it ends by itself.
    pub until_ms: Option<UnixMillis>,
}
