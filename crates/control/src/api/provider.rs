//! `/providers`: identity providers, without their client secrets.

use std::fmt;

use ringfence_model::{Name, Revision, UnixMillis};
use serde::{Deserialize, Serialize};
use zeroize::Zeroizing;

/// `POST /providers`.
#[derive(Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
#[serde(deny_unknown_fields)]
pub struct AddProviderRequest {
    /// What to call it.
    pub name: Name,
    /// Its issuer: an https URL.
    pub issuer: String,
    /// Who we are to it.
    pub client_id: String,
    /// What we prove that with: a secret, which no answer ever holds. Without one, PKCE alone proves us.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[cfg_attr(feature = "openapi", schema(value_type = Option<String>))]
    pub client_secret: Option<Zeroizing<String>>,
    /// What to ask for beside `openid`.
    #[serde(default)]
    pub scopes: Vec<String>,
    /// The claim that lists a person's groups.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub groups_claim: Option<String>,
    /// The claim that says which person of its SCIM directory it is, where `sub` does not.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub directory_claim: Option<String>,
    /// How long a session lasts, in seconds.
    #[serde(default = "twelve_hours")]
    pub session_seconds: u64,
    /// Values of `acr` that prove a second factor.
    #[serde(default)]
    pub mfa_acr: Vec<String>,
    /// Values of `amr` that prove one.
    #[serde(default)]
    pub mfa_amr: Vec<String>,
    /// Whether its addresses may be private ones.
    #[serde(default)]
    pub allow_private_address: bool,
    /// The CA its certificates come from, if the public does not trust it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub ca_pem: Option<String>,
}

// A client secret in a log is a way to be us (red line 11).
impl fmt::Debug for AddProviderRequest {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("AddProviderRequest")
            .field("name", &self.name)
            .field("issuer", &self.issuer)
            .finish_non_exhaustive()
    }
}

/// `GET /providers`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub struct ProviderList {
    /// In order of name.
    pub providers: Vec<ProviderView>,
}

/// An identity provider.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub struct ProviderView {
    /// What it is called.
    pub name: Name,
    /// Its issuer.
    pub issuer: String,
    /// Who we are to it.
    pub client_id: String,
    /// Whether we have a secret there.
    pub confidential: bool,
    /// What is asked for beside `openid`.
    pub scopes: Vec<String>,
    /// The claim that lists a person's groups.
    pub groups_claim: Option<String>,
    /// The claim that says which person of its SCIM directory it is, where `sub` does not.
    #[serde(default)]
    pub directory_claim: Option<String>,
    /// How long a session lasts, in seconds.
    pub session_seconds: u64,
    /// Values of `acr` that prove a second factor.
    pub mfa_acr: Vec<String>,
    /// Values of `amr` that prove one.
    pub mfa_amr: Vec<String>,
    /// Whether its addresses may be private ones.
    pub allow_private_address: bool,
    /// Where it tells of sessions that ended there: to be registered at the provider as the back-channel logout URI.
    pub backchannel_logout_path: String,
    /// What it said of its people by SCIM, if it ever got a token for that.
    #[serde(default)]
    pub scim: Option<ScimView>,
}

/// How the directory stands that a provider keeps here by SCIM.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub struct ScimView {
    /// When its token was made, if it has one that counts.
    pub token_created_ms: Option<UnixMillis>,
    /// How many people are in it, those that are not active included.
    pub people: usize,
    /// How many groups are.
    pub groups: usize,
}

/// `POST /providers/{name}/scim-token`: the one answer that ever holds the token.
#[derive(Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub struct CreatedScimToken {
    /// Whose it is.
    pub provider: Name,
    /// The token itself: a secret.
    pub token: String,
    /// Where it counts on this controller: the path of SCIM's base URL.
    pub path: String,
    /// The revision that made it.
    #[serde(with = "crate::text")]
    #[cfg_attr(feature = "openapi", schema(value_type = String))]
    pub revision: Revision,
}

// A SCIM token in a log is a way to be its provider (red line 11).
impl fmt::Debug for CreatedScimToken {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("CreatedScimToken")
            .field("provider", &self.provider)
            .finish_non_exhaustive()
    }
}

fn twelve_hours() -> u64 {
    12 * 3600
}
