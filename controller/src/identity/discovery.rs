//! What is known about one provider: its metadata and its keys, fetched when needed.
//!
//! **Invariant:** keys come from the issuer's own metadata alone, and whoever shows tokens with unknown keys cannot make
//! us fetch more often than [`REFRESH_EVERY`].

use std::sync::Arc;
use std::time::{Duration, Instant};

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
use tokio::sync::Mutex;

use super::LoginError;
use super::address::Reach;
use super::fetch::Fetcher;

/// A provider, and what is known about it.
pub(super) struct Discovery {
    /// As configured.
    pub(super) provider: Provider,
    /// Asks it.
    pub(super) fetcher: Fetcher,
    memory: Mutex<Memory>,
}

/// What a provider says of itself.
pub(super) struct Known {
    /// Its endpoints and abilities.
    pub(super) metadata: Metadata,
    /// Its signing keys.
    pub(super) keys: JsonWebKeySet<CoreJsonWebKey>,
}

#[derive(Default)]
struct Memory {
    known: Option<(Arc<Known>, Instant)>,
    refreshed: Option<Instant>,
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
            memory: Mutex::default(),
        })
    }

    /// What the provider says of itself, at most [`METADATA_AGE_MAX`] old unless it is out of reach.
    ///
    /// # Errors
    /// [`LoginError::Provider`] if it says nothing we can use.
    pub(super) async fn known(&self) -> Result<Arc<Known>, LoginError> {
        let mut memory = self.memory.lock().await;
        let old = match &memory.known {
            Some((known, at)) if at.elapsed() < METADATA_AGE_MAX => return Ok(Arc::clone(known)),
            Some((known, at)) if at.elapsed() < METADATA_LIFE_MAX => Some(Arc::clone(known)),
            Some(_) | None => None,
        };
        match self.discover().await {
            Ok(known) => {
                memory.known = Some((Arc::clone(&known), Instant::now()));
                Ok(known)
            }
            Err(error) => {
                tracing::warn!(provider = %self.provider.name, %error, "an identity provider does not say what it is");
                old.ok_or(error)
            }
        }
    }

    /// The same with keys newer than `than`: a token was signed with one that is not among them. `than` itself if the
    /// provider was asked a moment ago.
    ///
    /// # Errors
    /// [`LoginError::Provider`] if it does not give them.
    pub(super) async fn with_newer_keys(&self, than: &Arc<Known>) -> Result<Arc<Known>, LoginError> {
        let mut memory = self.memory.lock().await;
        if let Some((known, _)) = &memory.known
            && !Arc::ptr_eq(known, than)
        {
            return Ok(Arc::clone(known));
        }
        if memory.refreshed.is_some_and(|at| at.elapsed() < REFRESH_EVERY) {
            return Ok(Arc::clone(than));
        }
        memory.refreshed = Some(Instant::now());
        tracing::info!(provider = %self.provider.name, "an identity provider is asked for newer keys");
        let known = self.discover().await?;
        memory.known = Some((Arc::clone(&known), Instant::now()));
        Ok(known)
    }

    async fn discover(&self) -> Result<Arc<Known>, LoginError> {
        let unusable = |why: String| LoginError::Provider(why);
        let issuer =
            IssuerUrl::new(self.provider.issuer.clone()).map_err(|error| unusable(error.to_string()))?;
        let metadata = Metadata::discover_async(issuer, &self.fetcher).await;
        let metadata = metadata.map_err(|error| unusable(with_causes(&error)))?;
        if metadata.authorization_endpoint().url().scheme() != "https" {
            return Err(unusable("its authorization endpoint is no https URL".to_owned()));
        }
        let keys = metadata.jwks().clone();
        if keys.keys().len() > KEYS_MAX {
            return Err(unusable(format!("it has more than {KEYS_MAX} keys")));
        }
        Ok(Arc::new(Known { metadata, keys }))
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

const METADATA_AGE_MAX: Duration = Duration::from_hours(1);
/// How long a provider may be out of reach before its keys are no longer believed.
const METADATA_LIFE_MAX: Duration = Duration::from_hours(24);
/// How often unknown keys make us ask.
pub(super) const REFRESH_EVERY: Duration = Duration::from_secs(10);
const KEYS_MAX: usize = 64;
const ERROR_BYTES_MAX: usize = 400;
