//! Verifies the tokens of workloads: what their platforms say of them.
//!
//! **Invariant:** nothing of a token is used before its signature, by a key of its issuer, and its issuer, audience and
//! times are verified.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use hyper::header::ACCEPT;
use openidconnect::core::CoreJsonWebKey;
use openidconnect::{JsonWebKeySet, JsonWebKeySetUrl};
use ringfence_controlplane::limit::{WORKLOAD_ISSUERS_MAX, WORKLOAD_SUBJECT_BYTES_MAX};
use ringfence_controlplane::{CLOCK_SKEW_MAX, JwtHash, VerifiedWorkload};
use ringfence_model::{Name, UnixMillis};
use ringfence_policy::{Claims, KeySource, WorkloadIssuer};
use serde::Deserialize;
use serde_json::Value;

use super::address::Reach;
use super::cache::Cache;
use super::discovery::{KEYS_MAX, with_causes};
use super::fetch::Fetcher;
use super::jws::{Jws, JwsError};
use super::token::texts;
use crate::core::{CoreGone, CoreHandle, wall_now};

/// Whose tokens are believed, and their keys. Cheap to clone.
#[derive(Clone)]
pub struct Workloads(Arc<Shared>);

struct Shared {
    core: CoreHandle,
    keyrings: Mutex<BTreeMap<Name, Arc<Keyring>>>,
}

/// Why a token lets nobody in.
#[derive(Debug, thiserror::Error)]
pub enum WorkloadError {
    /// No such issuer.
    #[error("there is no workload issuer {0}")]
    NoIssuer(Name),
    /// Its keys cannot be had.
    #[error("the keys of the platform's issuer cannot be had: {0}")]
    Issuer(String),
    /// Signed with a key that it does not publish.
    #[error("the platform's token is signed with a key that its issuer does not publish")]
    UnknownKey,
    /// A token that proves nothing.
    #[error("the platform's token is not valid: {0}")]
    Token(String),
    /// The core is gone.
    #[error(transparent)]
    Core(#[from] CoreGone),
}

type Keys = JsonWebKeySet<CoreJsonWebKey>;

/// The keys of one issuer, as it is configured.
struct Keyring {
    issuer: Arc<WorkloadIssuer>,
    source: Source,
}

enum Source {
    Given(Arc<Keys>),
    Fetched { fetcher: Fetcher, cache: Cache<Keys> },
}

/// What is read of an issuer's metadata. Platforms have no authorization endpoint, which OpenID Connect asks for.
#[derive(Deserialize)]
struct Metadata {
    issuer: String,
    jwks_uri: String,
}

impl WorkloadError {
    /// Whether it belongs in the audit trail: somebody showed what proves nothing.
    pub fn is_auditable(&self) -> bool {
        match self {
            Self::NoIssuer(_) | Self::UnknownKey | Self::Token(_) => true,
            Self::Issuer(_) | Self::Core(_) => false,
        }
    }
}

impl From<JwsError> for WorkloadError {
    fn from(error: JwsError) -> Self {
        match error {
            JwsError::UnknownKey => Self::UnknownKey,
            JwsError::Token(why) => Self::Token(why),
        }
    }
}

impl Workloads {
    /// No keys are known yet.
    pub fn new(core: CoreHandle) -> Self {
        Self(Arc::new(Shared {
            core,
            keyrings: Mutex::default(),
        }))
    }

    /// Verifies a token of an issuer, but for what its claims let in and whether it was used.
    ///
    /// # Errors
    /// [`WorkloadError`].
    pub async fn verify(&self, issuer: &Name, token: &str) -> Result<VerifiedWorkload, WorkloadError> {
        let asked = issuer.clone();
        let found = self
            .0
            .core
            .with(move |core| core.controller().workload_issuer(&asked).cloned());
        let found = found
            .await?
            .ok_or_else(|| WorkloadError::NoIssuer(issuer.clone()))?;
        let keyring = self.keyring(found)?;
        let jws = Jws::parse(token, &TYPES)?;
        let keys = keyring.known().await?;
        match verify(&jws, &keyring.issuer, &keys, wall_now()) {
            Err(WorkloadError::UnknownKey) => {
                let keys = keyring.newer(&keys).await?;
                verify(&jws, &keyring.issuer, &keys, wall_now())
            }
            verified => verified,
        }
    }

    /// The keys of an issuer. Those of one that is configured otherwise now are forgotten.
    fn keyring(&self, issuer: Arc<WorkloadIssuer>) -> Result<Arc<Keyring>, WorkloadError> {
        let mut keyrings = self.0.keyrings.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(keyring) = keyrings.get(&issuer.name)
            && keyring.issuer == issuer
        {
            return Ok(Arc::clone(keyring));
        }
        if keyrings.len() >= WORKLOAD_ISSUERS_MAX {
            // Issuers that were removed are among them: those that count are looked up again.
            keyrings.clear();
        }
        let name = issuer.name.clone();
        let keyring = Arc::new(Keyring::new(issuer).map_err(WorkloadError::Issuer)?);
        keyrings.insert(name, Arc::clone(&keyring));
        Ok(keyring)
    }
}

impl Keyring {
    fn new(issuer: Arc<WorkloadIssuer>) -> Result<Self, String> {
        let source = if let KeySource::Given(text) = &issuer.keys {
            let keys = serde_json::from_str(text).map_err(|error| error.to_string())?;
            Source::Given(Arc::new(keys))
        } else {
            let reach = if issuer.allow_private_address {
                Reach::Private
            } else {
                Reach::Public
            };
            Source::Fetched {
                fetcher: Fetcher::new(issuer.ca_pem.as_deref(), reach)?,
                cache: Cache::default(),
            }
        };
        Ok(Self { issuer, source })
    }

    async fn known(&self) -> Result<Arc<Keys>, WorkloadError> {
        match &self.source {
            Source::Given(keys) => Ok(Arc::clone(keys)),
            Source::Fetched { fetcher, cache } => {
                let known = cache.known(self.fetch(fetcher)).await;
                known.map_err(|why| self.unreachable(why))
            }
        }
    }

    async fn newer(&self, than: &Arc<Keys>) -> Result<Arc<Keys>, WorkloadError> {
        match &self.source {
            Source::Given(keys) => Ok(Arc::clone(keys)),
            Source::Fetched { fetcher, cache } => {
                let newer = cache.newer(than, self.fetch(fetcher)).await;
                newer.map_err(|why| self.unreachable(why))
            }
        }
    }

    fn unreachable(&self, why: String) -> WorkloadError {
        tracing::warn!(issuer = %self.issuer.name, why, "a workload issuer does not give its keys");
        WorkloadError::Issuer(why)
    }

    async fn fetch(&self, fetcher: &Fetcher) -> Result<Keys, String> {
        tracing::info!(issuer = %self.issuer.name, "a workload issuer is asked for its keys");
        let url = match &self.issuer.keys {
            KeySource::Url(url) => url.clone(),
            KeySource::Discovery | KeySource::Given(_) => self.discover(fetcher).await?,
        };
        let url = JsonWebKeySetUrl::new(url).map_err(|error| error.to_string())?;
        let keys = Keys::fetch_async(&url, fetcher).await;
        let keys = keys.map_err(|error| with_causes(&error))?;
        if keys.keys().len() > KEYS_MAX {
            return Err(format!("it has more than {KEYS_MAX} keys"));
        }
        Ok(keys)
    }

    /// Where its metadata say that its keys are (OpenID Connect Discovery 1.0, section 4).
    async fn discover(&self, fetcher: &Fetcher) -> Result<String, String> {
        let url = format!(
            "{}/.well-known/openid-configuration",
            self.issuer.url.trim_end_matches('/')
        );
        let request = hyper::Request::get(&url)
            .header(ACCEPT, "application/json")
            .body(Vec::new())
            .map_err(|error| error.to_string())?;
        let answer = fetcher
            .fetch(request)
            .await
            .map_err(|error| with_causes(&error))?;
        if answer.status() != hyper::StatusCode::OK {
            return Err(format!("{url} answers {}", answer.status()));
        }
        let metadata: Metadata = serde_json::from_slice(answer.body())
            .map_err(|error| format!("{url} holds no metadata of an issuer: {error}"))?;
        if metadata.issuer != self.issuer.url {
            return Err(format!("{url} is of another issuer: {:?}", metadata.issuer));
        }
        Ok(metadata.jwks_uri)
    }
}

/// Verifies a token by these keys at `wall`.
fn verify(
    jws: &Jws<'_>,
    issuer: &Arc<WorkloadIssuer>,
    keys: &Keys,
    wall: UnixMillis,
) -> Result<VerifiedWorkload, WorkloadError> {
    let claims: Claims = jws.claims(keys)?;
    let expires = check_times(&claims, issuer, wall).map_err(WorkloadError::Token)?;
    let subject = check_names(&claims, issuer).map_err(WorkloadError::Token)?;
    Ok(VerifiedWorkload {
        issuer: Arc::clone(issuer),
        subject,
        claims,
        expires,
        jwt: JwtHash::of_signed(jws.signed.as_bytes()),
    })
}

/// Whether it counts at `wall` by its times, and until when (RFC 7519 section 4.1).
fn check_times(claims: &Claims, issuer: &WorkloadIssuer, wall: UnixMillis) -> Result<UnixMillis, String> {
    let (now, skew) = (wall.0 / 1000, CLOCK_SKEW_MAX.as_secs());
    let ends = seconds(claims, "exp")?.ok_or("it does not say when it ends (exp)")?;
    let issued = seconds(claims, "iat")?.ok_or("it does not say when it was issued (iat)")?;
    let begins = seconds(claims, "nbf")?.unwrap_or(issued);
    if ends.saturating_add(skew) <= now {
        return Err("it has expired".to_owned());
    }
    if issued.max(begins) > now.saturating_add(skew) {
        return Err("it is of the future".to_owned());
    }
    let life_max = issuer.max_life.as_secs();
    if ends.saturating_sub(issued) > life_max {
        return Err(format!(
            "it counts for {} seconds, where this issuer's may count for {life_max}",
            ends.saturating_sub(issued)
        ));
    }
    Ok(UnixMillis(ends.saturating_mul(1000)))
}

/// Whether it is this issuer's and for us alone, and whose it is: a second audience could come in with it.
fn check_names(claims: &Claims, issuer: &WorkloadIssuer) -> Result<String, String> {
    if claims.get("iss").and_then(Value::as_str) != Some(&issuer.url) {
        return Err("it is another issuer's (iss)".to_owned());
    }
    if texts(claims.get("aud")) != [issuer.audience.as_str()] {
        return Err(format!("its audience is not {:?} alone (aud)", issuer.audience));
    }
    let subject = claims.get("sub").and_then(Value::as_str).unwrap_or_default();
    if !(1..=WORKLOAD_SUBJECT_BYTES_MAX).contains(&subject.len()) {
        return Err("it does not say whose it is (sub)".to_owned());
    }
    if subject.chars().any(char::is_control) {
        return Err("its subject holds control characters".to_owned());
    }
    Ok(subject.to_owned())
}

/// A moment (RFC 7519, NumericDate), in whole seconds.
fn seconds(claims: &Claims, name: &str) -> Result<Option<u64>, String> {
    let Some(value) = claims.get(name) else {
        return Ok(None);
    };
    let whole = value.as_u64();
    let seconds = whole.or_else(|| {
        let fraction = Duration::try_from_secs_f64(value.as_f64()?);
        fraction.ok().map(|seconds| seconds.as_secs())
    });
    seconds.map(Some).ok_or_else(|| format!("its {name} is no time"))
}

/// Of access tokens (RFC 9068), and of what platforms write otherwise.
const TYPES: [&str; 2] = ["jwt", "at+jwt"];

#[cfg(test)]
mod tests;
