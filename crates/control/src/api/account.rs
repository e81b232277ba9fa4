//! `/accounts`: people who log in by a password and a second factor of their own, whom no identity provider knows.

use std::collections::BTreeSet;
use std::fmt;

use ringfence_model::{Name, Revision, UnixMillis};
use serde::{Deserialize, Serialize};

/// `POST /accounts`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
#[serde(deny_unknown_fields)]
pub struct AddAccountRequest {
    /// What they log in as.
    pub name: Name,
    /// Their address.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub email: Option<String>,
    /// The groups they are in.
    #[serde(default)]
    pub groups: Vec<String>,
    /// How long a session of theirs lasts, in seconds.
    #[serde(default = "session_seconds")]
    pub session_seconds: u64,
}

/// `PATCH /accounts/{name}`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
#[serde(deny_unknown_fields)]
pub struct PatchAccountRequest {
    /// All the groups they are in from now on.
    pub groups: Vec<String>,
}

/// The one answer that ever holds a set-up secret.
#[derive(Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub struct InvitedAccount {
    /// Whose it is.
    pub name: Name,
    /// The secret itself.
    pub secret: String,
    /// When it stops counting.
    pub expires_ms: UnixMillis,
    /// The revision that made it.
    #[serde(with = "crate::text")]
    #[cfg_attr(feature = "openapi", schema(value_type = String))]
    pub revision: Revision,
}

// A set-up secret in a log is a way to be somebody (red line 11).
impl fmt::Debug for InvitedAccount {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("InvitedAccount")
            .field("name", &self.name)
            .finish_non_exhaustive()
    }
}

/// `GET /accounts`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub struct AccountList {
    /// In order of name.
    pub accounts: Vec<AccountView>,
}

/// A local account, without its secrets.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub struct AccountView {
    /// What they log in as.
    pub name: Name,
    /// Their address.
    pub email: Option<String>,
    /// The groups they are in.
    pub groups: BTreeSet<String>,
    /// How long a session of theirs lasts, in seconds.
    pub session_seconds: u64,
    /// Since when it is there.
    pub added_ms: UnixMillis,
    /// When its person set it up; absent while they have yet to.
    pub set_up_ms: Option<UnixMillis>,
}

fn session_seconds() -> u64 {
    12 * 60 * 60
}
