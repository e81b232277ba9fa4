//! `/api-tokens`: who else may ask this API, and for what.

use std::fmt;

use ringfence_model::{ApiTokenId, Name, Revision, UnixMillis};
use serde::{Deserialize, Serialize};

/// What an API token is good for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
#[serde(rename_all = "lowercase")]
pub enum Role {
    /// Sees and changes all.
    Admin,
    /// Sees all and changes nothing.
    Auditor,
    /// Sees what is in some perimeters, changes their files and answers who asks for access to them.
    Owner,
}

/// `POST /api-tokens`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
#[serde(deny_unknown_fields)]
pub struct CreateApiTokenRequest {
    /// What to call it.
    pub name: Name,
    /// What it is good for.
    pub role: Role,
    /// For an owner: which perimeters.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub perimeters: Vec<Name>,
    /// The address of the person that it stands for. They cannot approve what they asked for themselves, and it stops
    /// counting when they may not log in any more.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub stands_for: Option<String>,
    /// How long it counts, in seconds.
    pub ttl_seconds: u64,
}

/// The one answer that ever holds the token.
#[derive(Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub struct CreatedApiToken {
    /// Names it in listings.
    pub id: ApiTokenId,
    /// The token itself: a secret.
    pub token: String,
    /// When it stops counting.
    pub expires_ms: UnixMillis,
    /// The revision that made it.
    #[serde(with = "crate::text")]
    #[cfg_attr(feature = "openapi", schema(value_type = String))]
    pub revision: Revision,
}

// A token in a log is a way in (red line 11).
impl fmt::Debug for CreatedApiToken {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("CreatedApiToken")
            .field("id", &self.id)
            .finish_non_exhaustive()
    }
}

/// `GET /api-tokens`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub struct ApiTokenList {
    /// In order of name.
    pub api_tokens: Vec<ApiTokenView>,
}

/// An API token without its secret.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub struct ApiTokenView {
    /// Its id.
    pub id: ApiTokenId,
    /// What it is called.
    pub name: Name,
    /// What it is good for.
    pub role: Role,
    /// An owner's perimeters.
    pub perimeters: Vec<Name>,
    /// The address of the person that it stands for.
    pub stands_for: Option<String>,
    /// When it was made.
    pub created_ms: UnixMillis,
    /// Who made it.
    pub created_by: String,
    /// When it ends by itself.
    pub expires_ms: UnixMillis,
    /// Whether it counts: it does not while the person that it stands for may not log in.
    pub counts: bool,
}
