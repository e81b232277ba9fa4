//! What is known about one provider: its metadata and its keys, fetched when needed.
//!
//! **Invariant:** keys come from the issuer's own metadata alone.

use std::sync::Arc;

use openidconnect::core::{
    CoreAuthDisplay, CoreClaimName, CoreClaimType, CoreClientAuthMethod, CoreGrantType, CoreJsonWebKey,
    CoreJweContentEncryptionAlgorithm, CoreJweKeyManagementAlgorithm, CoreResponseMode, CoreResponseType,
    CoreSubjectIdentifierType,
};
use openidconnect::{
    AdditionalProviderMetadata, DeviceAuthorizationUrl, IssuerUrl, JsonWebKeySet, ProviderMetadata,
};
use ringfence_controlplane::Provider;
use serde::{Deserialize, Serialize};

use super::LoginError;
use super::address::Reach;
use super::cache::Cache;
use super::fetch::Fetcher;

/// A provider, and what is known about it.
pub(super) struct Discovery {
    /// As configured.
    pub(super) provider: Provider,
    /// Asks it.
    pub(super) fetcher: Fetcher,
    cache: Cache<Known>,
}

/// What a provider says of itself.
pub(super) struct Known {
    /// Its endpoints and abilities.
    pub(super) metadata: Metadata,
    /// Its signing keys.
    pub(super) keys: JsonWebKeySet<CoreJsonWebKey>,
}

/// The metadata of OpenID Connect Discovery 1.0, with what other standards add.
pub(super) type Metadata = ProviderMetadata<
    Extras,
    CoreAuthDisplay,
    CoreClientAuthMethod,
    CoreClaimName,
    CoreClaimType,
    CoreGrantType,
    CoreJweContentEncryptionAlgorithm,
    CoreJweKeyManagementAlgorithm,
    CoreJsonWebKey,
    CoreResponseMode,
    CoreResponseType,
    CoreSubjectIdentifierType,
>;

/// What other standards add.
#[derive(Clone, Debug, Default, Deserialize, Serialize)]
pub(super) struct Extras {
    /// RFC 8628.
    pub(super) device_authorization_endpoint: Option<DeviceAuthorizationUrl>,
    /// RFC 9207.
    #[serde(default)]
    pub(super) authorization_response_iss_parameter_supported: bool,
}

impl AdditionalProviderMetadata for Extras {}

impl Discovery {
    /// Knows nothing yet.
    ///
    /// # Errors
    /// [`LoginError::Provider`] if its CA cannot be read.
    pub(super) fn new(provider: Provider) -> Result<Self, LoginError> {
        let reach = if provider.allow_private_address {
            Reach::Private
        } else {
            Reach::Public
        };
        let fetcher = Fetcher::new(provider.ca_pem.as_deref(), reach).map_err(LoginError::Provider)?;
        Ok(Self {
            provider,
            fetcher,
            cache: Cache::default(),
        })
    }

    /// What the provider says of itself, as fresh as a cache has it.
    ///
    /// # Errors
    /// [`LoginError::Provider`] if it says nothing we can use.
    pub(super) async fn known(&self) -> Result<Arc<Known>, LoginError> {
        let known = self.cache.known(self.discover()).await;
        known.map_err(LoginError::Provider)
    }

    /// The same with keys newer than `than`: a token was signed with one that is not among them. `than` itself if the
    /// provider was asked a moment ago.
    ///
    /// # Errors
    /// [`LoginError::Provider`] if it does not give them.
    pub(super) async fn with_newer_keys(&self, than: &Arc<Known>) -> Result<Arc<Known>, LoginError> {
        let newer = self.cache.newer(than, async {
            tracing::info!(provider = %self.provider.name, "an identity provider is asked for newer keys");
            self.discover().await
        });
        newer.await.map_err(LoginError::Provider)
    }

    async fn discover(&self) -> Result<Known, String> {
        let known = self.ask().await;
        if let Err(why) = &known {
            tracing::warn!(provider = %self.provider.name, why, "an identity provider does not say what it is");
        }
        known
    }

    async fn ask(&self) -> Result<Known, String> {
        let issuer = IssuerUrl::new(self.provider.issuer.clone()).map_err(|error| error.to_string())?;
        let metadata = Metadata::discover_async(issuer, &self.fetcher).await;
        let metadata = metadata.map_err(|error| with_causes(&error))?;
        if metadata.authorization_endpoint().url().scheme() != "https" {
            return Err("its authorization endpoint is no https URL".to_owned());
        }
        let keys = metadata.jwks().clone();
        if keys.keys().len() > KEYS_MAX {
            return Err(format!("it has more than {KEYS_MAX} keys"));
        }
        Ok(Known { metadata, keys })
    }
}

/// An error of the library, with what lies under it.
pub(super) fn with_causes(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut cause = error.source();
    while let Some(error) = cause {
        text = format!("{text}: {error}");
        cause = error.source();
    }
    text.truncate(text.floor_char_boundary(ERROR_BYTES_MAX));
    text
}

pub(super) const KEYS_MAX: usize = 64;
const ERROR_BYTES_MAX: usize = 400;
