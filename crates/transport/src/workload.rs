//! What a workload joins with: a locator, which is no secret, and a token of its platform, which is.
//!
//! **Invariant:** the token is neither printed nor cloned and is wiped on drop.

use std::str::FromStr;

use serde::{Deserialize, Serialize};
use zeroize::Zeroizing;

use ringfence_model::Name;

use crate::coded::{self, CodedError, bytes32};

/// Where a workload enrols, and by whose word: what a join token says, but for its secret. It may stand in a `ConfigMap`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct WorkloadLocator {
    /// Where the controller may be: `host:port`, tried in order.
    #[serde(rename = "c")]
    pub controllers: Vec<String>,
    /// SHA-256 of the authority's certificate: what the controller has to show before anything is said to it.
    #[serde(rename = "f", with = "bytes32")]
    pub ca_fingerprint: [u8; 32],
    /// The mesh.
    #[serde(rename = "m")]
    pub mesh: Name,
    /// What the controller calls the issuer of the platform's tokens.
    #[serde(rename = "w")]
    pub issuer: Name,
}

/// A token of a platform: a JWT that says which workload this is. A secret until it has been used.
#[derive(Serialize, Deserialize)]
#[serde(transparent)]
pub struct PlatformToken(Zeroizing<String>);

/// Why a text is no locator.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum LocatorError {
    /// It is something else.
    #[error(
        "this is no workload locator: one starts with {PREFIX}, and `ringfence workload locator` prints it"
    )]
    Prefix,
    /// A character that cannot be in one.
    #[error("this workload locator holds a character that none has: was it copied whole, on one line?")]
    Character,
    /// Shorter, longer or other than it was made.
    #[error("this workload locator is damaged: was it copied whole?")]
    Damaged,
    /// Whole, but of a form this version does not know.
    #[error("this workload locator was made by another version of Ringfence")]
    Form,
}

/// Why a text is no token of a platform.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum PlatformTokenError {
    /// Nothing at all.
    #[error("the platform's token is empty")]
    Empty,
    /// More than [`JWT_BYTES_MAX`].
    #[error("the platform's token is longer than {} KiB", JWT_BYTES_MAX / 1024)]
    TooLong,
    /// Not three parts in base64url.
    #[error("this is no signed JWT: one is three parts of A-Z, a-z, 0-9, - and _ with dots between")]
    Shape,
}

impl WorkloadLocator {
    /// The text to hand over.
    pub fn to_text(&self) -> String {
        coded::encode(PREFIX, self).to_string()
    }
}

impl FromStr for WorkloadLocator {
    type Err = LocatorError;

    fn from_str(text: &str) -> Result<Self, LocatorError> {
        coded::decode(PREFIX, text).map_err(|error| match error {
            CodedError::Prefix => LocatorError::Prefix,
            CodedError::Character => LocatorError::Character,
            CodedError::Damaged => LocatorError::Damaged,
            CodedError::Form => LocatorError::Form,
        })
    }
}

impl PlatformToken {
    /// Takes what a platform wrote, white space around it left out.
    ///
    /// # Errors
    /// [`PlatformTokenError`] if it is not even of the form of one.
    pub fn parse(text: &str) -> Result<Self, PlatformTokenError> {
        let text = text.trim();
        if text.is_empty() {
            return Err(PlatformTokenError::Empty);
        }
        if text.len() > JWT_BYTES_MAX {
            return Err(PlatformTokenError::TooLong);
        }
        let is_part = |part: &str| {
            part.bytes()
                .all(|b| b.is_ascii_alphanumeric() || b == b'-' || b == b'_')
        };
        if text.split('.').count() != 3 || !text.split('.').all(is_part) {
            return Err(PlatformTokenError::Shape);
        }
        Ok(Self(Zeroizing::new(text.to_owned())))
    }

    /// The text, to send or to verify.
    pub fn expose(&self) -> &str {
        &self.0
    }
}

/// How every locator starts.
const PREFIX: &str = "rfw_";
/// The longest token of a platform.
pub const JWT_BYTES_MAX: usize = 16 * 1024;

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::JoinToken;

    fn locator() -> WorkloadLocator {
        WorkloadLocator {
            controllers: vec!["192.0.2.1:7777".into(), "[2001:db8::1]:7777".into()],
            ca_fingerprint: [7; 32],
            mesh: Name::parse("acme").unwrap(),
            issuer: Name::parse("prod-cluster").unwrap(),
        }
    }

    #[test]
    fn a_locator_reads_back_as_written_and_is_no_join_token() {
        let text = locator().to_text();

        assert_eq!(format!(" {text}\n").parse(), Ok(locator()));
        assert!(text.parse::<JoinToken>().is_err());
        assert_eq!("rft_AAAA".parse::<WorkloadLocator>(), Err(LocatorError::Prefix));
        assert_eq!(
            text[..text.len() - 1].parse::<WorkloadLocator>(),
            Err(LocatorError::Damaged)
        );
        assert_eq!(
            format!("rfw_ {}", &text[4..]).parse::<WorkloadLocator>(),
            Err(LocatorError::Character)
        );
    }

    #[test]
    fn what_is_no_token_of_a_platform_is_not_sent() {
        let parse = |text: &str| PlatformToken::parse(text).map(|token| token.expose().to_owned());

        assert_eq!(parse(" eyJh.eyJz.c2ln\n"), Ok("eyJh.eyJz.c2ln".to_owned()));
        // `alg=none`: for the controller to refuse, and to note.
        assert!(parse("eyJh.eyJz.").is_ok());
        assert_eq!(parse("\n"), Err(PlatformTokenError::Empty));
        for odd in ["rft_AAAA", "a.b", "a.b.c.d", "a.b.c d", "ä.b.c"] {
            assert_eq!(parse(odd), Err(PlatformTokenError::Shape), "{odd}");
        }
        let long = format!("a.{}.c", "b".repeat(JWT_BYTES_MAX));
        assert_eq!(parse(&long), Err(PlatformTokenError::TooLong));
    }

    proptest! {
        #[test]
        fn no_text_panics(text in ".{0,200}") {
            let _ = text.parse::<WorkloadLocator>();
            let _ = format!("rfw_{text}").parse::<WorkloadLocator>();
            let _ = PlatformToken::parse(&text);
        }
    }
}
