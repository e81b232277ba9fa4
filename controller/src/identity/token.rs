//! Validates ID tokens (OpenID Connect Core 1.0, section 3.1.3.7) and reads what they say.
//!
//! **Invariant:** nothing of a token is used before its signature, by a key of its issuer and an algorithm of
//! [`algorithms`], its issuer, its audience, its times and its nonce are verified.

use std::collections::BTreeMap;
use std::time::Duration;

use openidconnect::core::{
    CoreGenderClaim, CoreJsonWebKey, CoreJweContentEncryptionAlgorithm, CoreJwsSigningAlgorithm,
};
use openidconnect::{
    AccessToken, AccessTokenHash, AdditionalClaims, ClaimsVerificationError, ClientId, IdToken,
    IdTokenClaims, IdTokenVerifier, IssuerUrl, JsonWebKeySet, Nonce, SignatureVerificationError,
};
use ringfence_controlplane::{CLOCK_SKEW_MAX, LoginClaims, Provider};
use ringfence_model::UnixMillis;
use serde::{Deserialize, Serialize};
use serde_json::Value;

use super::LoginError;

/// Claims beyond the standard ones: groups, `amr`, `sid`.
#[derive(Clone, Debug, Default, Deserialize, Serialize)]
pub(super) struct Others {
    #[serde(flatten)]
    pub(super) by_name: BTreeMap<String, Value>,
}

impl AdditionalClaims for Others {}

/// An ID token as it came.
pub(super) type RawIdToken =
    IdToken<Others, CoreGenderClaim, CoreJweContentEncryptionAlgorithm, CoreJwsSigningAlgorithm>;

/// What a verified one says.
pub(super) type Claims = IdTokenClaims<Others, CoreGenderClaim>;

/// What a token is verified against.
pub(super) struct Expected<'a> {
    /// Whose token it has to be.
    pub(super) issuer: &'a IssuerUrl,
    /// For whom.
    pub(super) client_id: &'a ClientId,
    /// With which keys it may be signed.
    pub(super) keys: &'a JsonWebKeySet<CoreJsonWebKey>,
    /// When it is now.
    pub(super) wall: UnixMillis,
}

/// The algorithms that prove a signature: no `none`, and nothing that is verified with our client secret.
pub(super) fn algorithms() -> [CoreJwsSigningAlgorithm; 9] {
    [
        CoreJwsSigningAlgorithm::RsaSsaPkcs1V15Sha256,
        CoreJwsSigningAlgorithm::RsaSsaPkcs1V15Sha384,
        CoreJwsSigningAlgorithm::RsaSsaPkcs1V15Sha512,
        CoreJwsSigningAlgorithm::RsaSsaPssSha256,
        CoreJwsSigningAlgorithm::RsaSsaPssSha384,
        CoreJwsSigningAlgorithm::RsaSsaPssSha512,
        CoreJwsSigningAlgorithm::EcdsaP256Sha256,
        CoreJwsSigningAlgorithm::EcdsaP384Sha384,
        CoreJwsSigningAlgorithm::EdDsa,
    ]
}

/// Verifies a token that came from the token endpoint together with `access_token`. `nonce` is what was sent with the
/// person; without one, none was (the device flow has none).
///
/// # Errors
/// [`LoginError::UnknownKey`] if newer keys may help, [`LoginError::Token`] otherwise.
pub(super) fn verify<'t>(
    token: &'t RawIdToken,
    expected: &Expected<'_>,
    nonce: Option<&Nonce>,
    access_token: &AccessToken,
) -> Result<&'t Claims, LoginError> {
    let wall_s = i64::try_from(expected.wall.0 / 1000).unwrap_or(i64::MAX);
    let skew = i64::try_from(CLOCK_SKEW_MAX.as_secs()).unwrap_or(i64::MAX);
    let oldest = i64::try_from(ISSUED_AGE_MAX.as_secs()).unwrap_or(i64::MAX);
    let keys = expected.keys.clone();
    let verifier =
        IdTokenVerifier::new_public_client(expected.client_id.clone(), expected.issuer.clone(), keys)
            .set_allowed_algs(algorithms())
            // Its `exp` is judged by a clock that is behind by the skew, its `iat` by both.
            .set_time_fn(move || openidconnect_time(wall_s.saturating_sub(skew)))
            .set_issue_time_verifier_fn(move |issued| {
                let age = wall_s.saturating_sub(issued.timestamp());
                if age < -skew {
                    return Err("it was issued in the future".to_owned());
                }
                if age > oldest {
                    return Err("it was issued too long ago".to_owned());
                }
                Ok(())
            });
    let claims = match nonce {
        Some(nonce) => token.claims(&verifier, nonce),
        None => token.claims(&verifier, |_: Option<&Nonce>| Ok(())),
    };
    let claims = claims.map_err(|error| match error {
        ClaimsVerificationError::SignatureVerification(SignatureVerificationError::NoMatchingKey) => {
            LoginError::UnknownKey
        }
        error => LoginError::Token(super::discovery::with_causes(&error)),
    })?;
    let azp = claims.authorized_party();
    if azp.is_some_and(|azp| azp != expected.client_id) || (azp.is_none() && claims.audiences().len() > 1) {
        return Err(LoginError::Token(
            "it was made for another client (azp)".to_owned(),
        ));
    }
    if let Some(hash) = claims.access_token_hash() {
        let key = token
            .signing_key(&verifier)
            .map_err(|error| LoginError::Token(error.to_string()))?;
        let algorithm = token
            .signing_alg()
            .map_err(|error| LoginError::Token(error.to_string()))?;
        let ours = AccessTokenHash::from_token(access_token, algorithm, key);
        if ours.ok().as_ref() != Some(hash) {
            return Err(LoginError::Token(
                "it belongs to another access token (at_hash)".to_owned(),
            ));
        }
    }
    Ok(claims)
}

/// What verified claims say, as far as it counts here.
pub(super) fn read(claims: &Claims, provider: &Provider) -> LoginClaims {
    let others = &claims.additional_claims().by_name;
    let text = |name: &str| others.get(name).and_then(Value::as_str).map(ToOwned::to_owned);
    let seconds = claims
        .auth_time()
        .map(|at| u64::try_from(at.timestamp()).unwrap_or(0));
    let amr = claims.auth_method_refs().into_iter().flatten();
    LoginClaims {
        subject: claims.subject().to_string(),
        directory_id: provider.directory_claim.as_deref().and_then(text),
        username: claims.preferred_username().map(|name| name.to_string()),
        name: claims
            .name()
            .and_then(|name| name.get(None))
            .map(|name| name.to_string()),
        email: claims.email().map(|email| email.to_string()),
        email_verified: claims.email_verified() == Some(true),
        groups: provider
            .groups_claim
            .as_deref()
            .map_or(Vec::new(), |claim| texts(others.get(claim))),
        acr: claims.auth_context_ref().map(|acr| acr.to_string()),
        amr: amr.map(|method| method.to_string()).collect(),
        auth_time: seconds.map(|seconds| UnixMillis(seconds.saturating_mul(1000))),
        provider_session: text("sid"),
    }
}

/// A claim that lists texts, or is one.
pub(super) fn texts(value: Option<&Value>) -> Vec<String> {
    match value {
        Some(Value::String(one)) => vec![one.clone()],
        Some(Value::Array(many)) => many
            .iter()
            .filter_map(Value::as_str)
            .map(ToOwned::to_owned)
            .collect(),
        Some(Value::Null | Value::Bool(_) | Value::Number(_) | Value::Object(_)) | None => Vec::new(),
    }
}

/// A moment, as the library has it. One that it cannot hold is the end of all tokens.
fn openidconnect_time(seconds: i64) -> chrono::DateTime<chrono::Utc> {
    chrono::DateTime::from_timestamp(seconds, 0).unwrap_or(chrono::DateTime::<chrono::Utc>::MAX_UTC)
}

/// A token comes straight from the token endpoint: an older one was kept by somebody.
const ISSUED_AGE_MAX: Duration = Duration::from_mins(5);
