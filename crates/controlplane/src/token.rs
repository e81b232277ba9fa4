//! Join tokens, without their secrets.
//!
//! **Invariant:** a token is usable only while it is active, its time has not come and uses are left; each use is
//! counted in the change that enrols (red line 7).

use std::fmt;

use ringfence_model::sabotage::{Safeguard, is_off};
use ringfence_model::{Labels, TokenId, UnixMillis};
use serde::{Deserialize, Serialize};
use sha2::{Digest as _, Sha256};
use subtle::ConstantTimeEq as _;

use crate::Refusal;

/// A join token as the controller knows it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Token {
    /// Its id, which is no secret.
    pub id: TokenId,
    /// The hash of its secret.
    pub secret_hash: TokenHash,
    /// What its nodes are labelled.
    pub labels: Labels,
    /// When it was made.
    pub created_at: UnixMillis,
    /// Who made it.
    pub created_by: String,
    /// When it ends.
    pub expires: UnixMillis,
    /// How often it could be used.
    pub uses: u32,
    /// How often it can still be used.
    pub uses_left: u32,
    /// Whether it was ended early or late.
    pub state: TokenState,
}

/// Where a token is in its life, apart from the clock.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum TokenState {
    /// May be used.
    Active,
    /// All uses are spent.
    Used,
    /// An administrator ended it.
    Revoked,
    /// Its time ran out.
    Expired,
}

/// The SHA-256 of a token's secret. The secret has 256 random bits, so no slow hash is needed.
#[derive(Clone, Copy, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct TokenHash([u8; 32]);

impl Token {
    /// Where it is in its life at `wall`.
    pub fn state_at(&self, wall: UnixMillis) -> TokenState {
        match self.state {
            TokenState::Active if wall >= self.expires => TokenState::Expired,
            TokenState::Active | TokenState::Used | TokenState::Revoked | TokenState::Expired => self.state,
        }
    }

    /// Whether a node may be admitted with a secret of this hash.
    ///
    /// The secret is judged first: only who has it learns what became of the token.
    pub(crate) fn admit(&self, secret_hash: &TokenHash, wall: UnixMillis) -> Result<(), Refusal> {
        if *secret_hash != self.secret_hash && !is_off(Safeguard::TokenSecret) {
            return Err(Refusal::TokenForged { token: self.id });
        }
        match self.state_at(wall) {
            TokenState::Active => Ok(()),
            TokenState::Used if is_off(Safeguard::TokenUses) => Ok(()),
            TokenState::Used => Err(Refusal::TokenUsed { token: self.id }),
            TokenState::Revoked => Err(Refusal::TokenRevoked { token: self.id }),
            TokenState::Expired => Err(Refusal::TokenExpired {
                token: self.id,
                expired_at: self.expires,
            }),
        }
    }
}

impl TokenHash {
    /// Hashes a token's secret.
    pub fn of_secret(secret: &[u8]) -> Self {
        Self(Sha256::digest(secret).into())
    }
}

impl PartialEq for TokenHash {
    /// In constant time: how far a guess agrees is nobody's business.
    fn eq(&self, other: &Self) -> bool {
        self.0.ct_eq(&other.0).into()
    }
}

impl Eq for TokenHash {}

impl fmt::Debug for TokenHash {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("TokenHash(..)")
    }
}

impl TryFrom<String> for TokenHash {
    type Error = hex::FromHexError;

    fn try_from(text: String) -> Result<Self, Self::Error> {
        let mut bytes = [0; 32];
        hex::decode_to_slice(text, &mut bytes)?;
        Ok(Self(bytes))
    }
}

impl From<TokenHash> for String {
    fn from(hash: TokenHash) -> Self {
        hex::encode(hash.0)
    }
}
