//! `/tokens`: join tokens, of which the controller keeps only a hash.

use std::fmt;

use ringfence_model::{Labels, Revision, TokenId, UnixMillis};
use serde::{Deserialize, Serialize};

/// `POST /tokens`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
#[serde(deny_unknown_fields)]
pub struct CreateTokenRequest {
    /// The labels of whoever joins with it.
    pub labels: Labels,
    /// How long it counts, in seconds.
    #[serde(default = "one_hour")]
    pub ttl_seconds: u64,
    /// How many may join with it.
    #[serde(default = "one")]
    pub uses: u32,
}

/// The one answer that ever holds the token.
#[derive(Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub struct CreatedToken {
    /// Names it in listings.
    pub id: TokenId,
    /// The token itself: a secret.
    pub token: String,
    /// When it stops counting.
    pub expires_ms: UnixMillis,
    /// The revision that made it.
    #[serde(with = "crate::text")]
    #[cfg_attr(feature = "openapi", schema(value_type = String))]
    pub revision: Revision,
}

// A join token in a log is a way in (red line 11).
impl fmt::Debug for CreatedToken {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("CreatedToken")
            .field("id", &self.id)
            .finish_non_exhaustive()
    }
}

/// `GET /tokens`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub struct TokenList {
    /// Newest first.
    pub tokens: Vec<TokenView>,
}

/// A join token without its secret.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub struct TokenView {
    /// Its id.
    pub id: TokenId,
    /// The labels it gives.
    pub labels: Labels,
    /// How many could join with it.
    pub uses: u32,
    /// How many still can.
    pub uses_left: u32,
    /// When it was made.
    pub created_ms: UnixMillis,
    /// When it stops counting.
    pub expires_ms: UnixMillis,
    /// Whether it counts.
    pub state: TokenState,
}

/// Whether a join token counts.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
#[serde(rename_all = "lowercase")]
pub enum TokenState {
    /// It does.
    Valid,
    /// All its uses are gone.
    Used,
    /// Its time is over.
    Expired,
    /// An administrator withdrew it.
    Revoked,
}

fn one_hour() -> u64 {
    3600
}

fn one() -> u32 {
    1
}
