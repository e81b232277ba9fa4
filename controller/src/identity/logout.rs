//! Validates logout tokens (OpenID Connect Back-Channel Logout 1.0): a provider's word that a session of its ended.
//!
//! **Invariant:** a token counts once, for some minutes, at the provider that signed it.

use std::collections::BTreeMap;
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use ringfence_controlplane::CLOCK_SKEW_MAX;
use ringfence_model::{Name, UnixMillis};
use serde::Deserialize;
use serde_json::Value;

use super::LoginError;
use super::jws::Jws;
use super::token::{Expected, texts};

/// Which sessions ended at a provider. At least one of both is there.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct EndedAtProvider {
    /// Whose: all of theirs, if no session is named.
    pub subject: Option<String>,
    /// The provider's name for the session.
    pub session: Option<String>,
}

#[derive(Deserialize)]
struct Claims {
    iss: String,
    aud: Value,
    iat: u64,
    exp: u64,
    jti: String,
    events: BTreeMap<String, Value>,
    sub: Option<String>,
    sid: Option<String>,
    nonce: Option<Value>,
}

/// Tokens that have been taken, until they could not be taken anyway.
#[derive(Default)]
pub(super) struct Taken(Mutex<BTreeMap<(Name, String), UnixMillis>>);

/// Verifies a logout token, but for whether it was there before.
///
/// # Errors
/// [`LoginError::UnknownKey`] if newer keys may help, [`LoginError::Token`] otherwise.
pub(super) fn verify(token: &str, expected: &Expected<'_>) -> Result<(EndedAtProvider, String), LoginError> {
    let claims: Claims = Jws::parse(token, &["logout+jwt", "jwt"])?.claims(expected.keys)?;
    check_claims(&claims, expected)?;
    let ended = EndedAtProvider {
        subject: claims.sub,
        session: claims.sid,
    };
    Ok((ended, claims.jti))
}

fn check_claims(claims: &Claims, expected: &Expected<'_>) -> Result<(), LoginError> {
    let refuse = |why: &str| Err(LoginError::Token(why.to_owned()));
    let (now, skew) = (expected.wall.0 / 1000, CLOCK_SKEW_MAX.as_secs());
    if claims.iss != expected.issuer.as_str() {
        return refuse("it is another issuer's");
    }
    if texts(Some(&claims.aud)) != [expected.client_id.as_str()] {
        return refuse("it was made for another client");
    }
    if claims.iat > now + skew || claims.iat.saturating_add(TOKEN_AGE_MAX.as_secs()) < now {
        return refuse("it was issued too long ago, or in the future");
    }
    if claims.exp.saturating_add(skew) <= now {
        return refuse("it has expired");
    }
    if !claims.events.get(LOGOUT_EVENT).is_some_and(Value::is_object) {
        return refuse("it tells of no logout");
    }
    if claims.nonce.is_some() {
        return refuse("it has a nonce, as ID tokens do and logout tokens must not");
    }
    let is_empty = |text: &Option<String>| text.as_ref().is_none_or(String::is_empty);
    if (is_empty(&claims.sub) && is_empty(&claims.sid)) || claims.jti.is_empty() {
        return refuse("it names nobody");
    }
    Ok(())
}

impl Taken {
    /// Takes a token of this name, unless it was taken before. When full, the oldest is forgotten: who shows that one
    /// again ends sessions that have ended.
    pub(super) fn take(&self, provider: &Name, jti: String, wall: UnixMillis) -> Result<(), LoginError> {
        let mut taken = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        taken.retain(|_, until| *until > wall);
        let key = (provider.clone(), jti);
        if taken.contains_key(&key) {
            return Err(LoginError::Token("it was used before".to_owned()));
        }
        if taken.len() >= TAKEN_MAX {
            let oldest = taken
                .iter()
                .min_by_key(|(_, until)| **until)
                .map(|(key, _)| key.clone());
            oldest.and_then(|key| taken.remove(&key));
        }
        taken.insert(key, wall.saturating_add(TOKEN_AGE_MAX + CLOCK_SKEW_MAX * 2));
        Ok(())
    }
}

const LOGOUT_EVENT: &str = "http://schemas.openid.net/event/backchannel-logout";
/// The provider sends it at once: an older one was kept by somebody.
const TOKEN_AGE_MAX: Duration = Duration::from_mins(5);
const TAKEN_MAX: usize = 4096;
