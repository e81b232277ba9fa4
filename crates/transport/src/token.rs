//! The join token: all a new node needs, in one text.
//!
//! **Invariant:** the secret is neither printed nor cloned and is wiped on drop.

use std::str::FromStr;

use serde::{Deserialize, Deserializer, Serialize, Serializer};
use zeroize::{ZeroizeOnDrop, Zeroizing};

use ringfence_model::{Name, TokenId};

use crate::coded::{self, CodedError, bytes32};

/// What lets a machine into the mesh.
#[derive(Serialize, Deserialize)]
pub struct JoinToken {
    /// Where the controller may be: `host:port`, tried in order.
    #[serde(rename = "c")]
    pub controllers: Vec<String>,
    /// SHA-256 of the authority's certificate: what the controller has to show before anything is said to it.
    #[serde(rename = "f", with = "bytes32")]
    pub ca_fingerprint: [u8; 32],
    /// The mesh.
    #[serde(rename = "m")]
    pub mesh: Name,
    /// Names the token in listings.
    #[serde(rename = "i")]
    pub id: TokenId,
    /// What proves that one has it.
    #[serde(rename = "s")]
    pub secret: TokenSecret,
}

/// The secret part of a token, of which the controller keeps a hash.
#[derive(ZeroizeOnDrop)]
pub struct TokenSecret([u8; 32]);

/// Why a text is no join token.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum TokenError {
    /// It is something else.
    #[error("this is no join token: one starts with {PREFIX}")]
    Prefix,
    /// A character that cannot be in one.
    #[error("this join token holds a character that none has: was it copied whole, on one line?")]
    Character,
    /// Shorter, longer or other than it was made.
    #[error("this join token is damaged: was it copied whole?")]
    Damaged,
    /// Whole, but of a form this version does not know.
    #[error("this join token was made by another version of Ringfence")]
    Form,
}

impl JoinToken {
    /// The text to hand over; wiped on drop.
    pub fn expose(&self) -> Zeroizing<String> {
        coded::encode(PREFIX, self)
    }
}

impl FromStr for JoinToken {
    type Err = TokenError;

    fn from_str(text: &str) -> Result<Self, TokenError> {
        coded::decode(PREFIX, text).map_err(|error| match error {
            CodedError::Prefix => TokenError::Prefix,
            CodedError::Character => TokenError::Character,
            CodedError::Damaged => TokenError::Damaged,
            CodedError::Form => TokenError::Form,
        })
    }
}

impl TokenSecret {
    /// Takes 32 random bytes.
    pub fn from_random(random: [u8; 32]) -> Self {
        Self(random)
    }

    /// The bytes, to hash or to prove possession with.
    pub fn expose(&self) -> &[u8; 32] {
        &self.0
    }
}

impl Serialize for TokenSecret {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        bytes32::serialize(&self.0, serializer)
    }
}

impl<'de> Deserialize<'de> for TokenSecret {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        bytes32::deserialize(deserializer).map(Self)
    }
}

/// How every join token starts, so that a scanner for leaked secrets finds it.
const PREFIX: &str = "rft_";

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn token() -> JoinToken {
        JoinToken {
            controllers: vec!["192.0.2.1:7777".into(), "[2001:db8::1]:7777".into()],
            ca_fingerprint: [7; 32],
            mesh: Name::parse("acme").unwrap(),
            id: TokenId(42),
            secret: TokenSecret::from_random([200; 32]),
        }
    }

    #[test]
    fn a_token_reads_back_as_written() {
        let text = token().expose();

        let read: JoinToken = format!("  {}\n", *text).parse().unwrap();

        assert!(text.len() < 300, "{} characters", text.len());
        assert_eq!(read.controllers, token().controllers);
        assert_eq!((read.ca_fingerprint, read.id), ([7; 32], TokenId(42)));
        assert_eq!(read.mesh.as_str(), "acme");
        assert_eq!(read.secret.expose(), &[200; 32]);
    }

    #[test]
    fn what_is_wrong_with_a_token_is_said() {
        let text = token().expose();
        let cut = &text[..text.len() - 1];
        let broken = text.replacen("rft_", "rft_ ", 1);

        assert_eq!("eyJhbGciOi".parse::<JoinToken>().err(), Some(TokenError::Prefix));
        assert_eq!("rft_".parse::<JoinToken>().err(), Some(TokenError::Damaged));
        assert_eq!(cut.parse::<JoinToken>().err(), Some(TokenError::Damaged));
        assert_eq!(broken.parse::<JoinToken>().err(), Some(TokenError::Character));
        let other = coded::encode(PREFIX, &"hello");
        assert_eq!(other.parse::<JoinToken>().err(), Some(TokenError::Form));
    }

    proptest! {
        #[test]
        fn one_wrong_character_is_noticed(place in 4_usize..200, with in "[A-Za-z0-9_-]") {
            let text = token().expose().to_string();
            prop_assume!(place < text.len() - 1 && text[place..=place] != with);
            let mut wrong = text;
            wrong.replace_range(place..=place, &with);
            prop_assert!(wrong.parse::<JoinToken>().is_err());
        }

        #[test]
        fn no_text_panics(text in ".{0,200}") {
            let _ = text.parse::<JoinToken>();
            let _ = format!("rft_{text}").parse::<JoinToken>();
        }
    }
}
