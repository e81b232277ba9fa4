//! Signed JWTs in their compact form (RFC 7515), taken apart and verified.
//!
//! **Invariant:** only the algorithms of [`algorithms`] prove anything: no `none`, and nothing symmetric.

use base64::Engine as _;
use base64::prelude::BASE64_URL_SAFE_NO_PAD;
use openidconnect::core::{CoreJsonWebKey, CoreJwsSigningAlgorithm};
use openidconnect::{JsonWebKey as _, JsonWebKeySet};
use serde::Deserialize;
use serde::de::DeserializeOwned;
use serde_json::Value;

use super::token::algorithms;

/// A JWT of which nothing is believed yet.
pub(super) struct Jws<'t> {
    header: Header,
    /// Header and claims as they were signed, with the dot between.
    pub(super) signed: &'t str,
    body: Vec<u8>,
    signature: Vec<u8>,
}

/// Why a token proves nothing.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum JwsError {
    /// It is signed with a key that is not among those known.
    UnknownKey,
    /// What is wrong with it.
    Token(String),
}

#[derive(Deserialize)]
struct Header {
    alg: CoreJwsSigningAlgorithm,
    kid: Option<String>,
    typ: Option<String>,
    crit: Option<Value>,
}

impl JwsError {
    pub(super) fn token(why: &str) -> Self {
        Self::Token(why.to_owned())
    }
}

impl<'t> Jws<'t> {
    /// Takes a token apart. `types` are those of `typ` that it may be of, in lower case; without one it is of the first.
    pub(super) fn parse(token: &'t str, types: &[&str]) -> Result<Self, JwsError> {
        if token.len() > TOKEN_BYTES_MAX {
            return Err(JwsError::token("it is too long"));
        }
        let mut parts = token.split('.');
        let (Some(head), Some(body), Some(signature), None) =
            (parts.next(), parts.next(), parts.next(), parts.next())
        else {
            return Err(JwsError::token("it is no signed JWT"));
        };
        let decode = |part: &str| {
            BASE64_URL_SAFE_NO_PAD
                .decode(part)
                .map_err(|_| JwsError::token("it is not base64url"))
        };
        let header: Header =
            serde_json::from_slice(&decode(head)?).map_err(|_| JwsError::token("its header is malformed"))?;
        if !algorithms().contains(&header.alg) {
            return Err(JwsError::token("its algorithm is not one that counts"));
        }
        if let Some(typ) = &header.typ {
            let typ = typ.to_ascii_lowercase();
            if !types.contains(&typ.trim_start_matches("application/")) {
                return Err(JwsError::token("it is of a type that is not meant for this"));
            }
        }
        if header.crit.is_some() {
            return Err(JwsError::token(
                "it asks for an extension that is not known (crit)",
            ));
        }
        Ok(Self {
            header,
            signed: &token[..head.len() + 1 + body.len()],
            body: decode(body)?,
            signature: decode(signature)?,
        })
    }

    /// Verifies its signature, and then reads what it says.
    pub(super) fn claims<T: DeserializeOwned>(
        &self,
        keys: &JsonWebKeySet<CoreJsonWebKey>,
    ) -> Result<T, JwsError> {
        self.check_signature(keys)?;
        serde_json::from_slice(&self.body)
            .map_err(|_| JwsError::token("a claim that it needs is missing or malformed"))
    }

    fn check_signature(&self, keys: &JsonWebKeySet<CoreJsonWebKey>) -> Result<(), JwsError> {
        let named = keys.keys().iter().filter(|key| match &self.header.kid {
            Some(kid) => key.key_id().is_some_and(|id| id.as_str() == kid),
            None => true,
        });
        let mut known = false;
        for key in named {
            known = true;
            let verified = key.verify_signature(&self.header.alg, self.signed.as_bytes(), &self.signature);
            if verified.is_ok() {
                return Ok(());
            }
        }
        if known {
            Err(JwsError::token("its signature is wrong"))
        } else {
            Err(JwsError::UnknownKey)
        }
    }
}

const TOKEN_BYTES_MAX: usize = 16 * 1024;
