//! How join tokens and locators are written: a prefix and then, in base64url, a CBOR map and four bytes of its SHA-256.
//! One that lost a character in a terminal says so, instead of being refused by the controller as unknown.

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use serde::Serialize;
use serde::de::DeserializeOwned;
use sha2::{Digest as _, Sha256};
use zeroize::Zeroizing;

/// Why a text is not what it should be.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum CodedError {
    /// It has another prefix.
    Prefix,
    /// A character that cannot be in one.
    Character,
    /// Shorter, longer or other than it was made.
    Damaged,
    /// Whole, but of a form this version does not know.
    Form,
}

/// The text, wiped on drop: there may be a secret in it.
pub(crate) fn encode(prefix: &str, body: &impl Serialize) -> Zeroizing<String> {
    let mut bytes = Zeroizing::new(Vec::with_capacity(512));
    ciborium::into_writer(body, &mut *bytes).expect("plain data always encodes, and a Vec takes every byte");
    let checksum = checksum(&bytes);
    bytes.extend_from_slice(&checksum);
    Zeroizing::new(format!("{prefix}{}", URL_SAFE_NO_PAD.encode(&*bytes)))
}

pub(crate) fn decode<T: DeserializeOwned>(prefix: &str, text: &str) -> Result<T, CodedError> {
    let text = text.trim().strip_prefix(prefix).ok_or(CodedError::Prefix)?;
    if text.len() > CODED_BYTES_MAX {
        return Err(CodedError::Damaged);
    }
    if !text
        .bytes()
        .all(|b| b.is_ascii_alphanumeric() || b == b'-' || b == b'_')
    {
        return Err(CodedError::Character);
    }
    let bytes = URL_SAFE_NO_PAD
        .decode(text)
        .map(Zeroizing::new)
        .map_err(|_| CodedError::Damaged)?;
    let (body, sum) = bytes.split_last_chunk().ok_or(CodedError::Damaged)?;
    if checksum(body) != *sum {
        return Err(CodedError::Damaged);
    }
    ciborium::from_reader(body).map_err(|_| CodedError::Form)
}

fn checksum(bytes: &[u8]) -> [u8; 4] {
    let hash = Sha256::digest(bytes);
    [hash[0], hash[1], hash[2], hash[3]]
}

const CODED_BYTES_MAX: usize = 4096;

/// 32 bytes as a CBOR byte string, and not as a list of numbers.
pub(crate) mod bytes32 {
    use std::fmt;

    use serde::{Deserializer, Serializer, de};
    use zeroize::Zeroize as _;

    pub(crate) fn serialize<S: Serializer>(bytes: &[u8; 32], serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_bytes(bytes)
    }

    pub(crate) fn deserialize<'de, D: Deserializer<'de>>(deserializer: D) -> Result<[u8; 32], D::Error> {
        struct Bytes;
        impl de::Visitor<'_> for Bytes {
            type Value = [u8; 32];

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("32 bytes")
            }

            fn visit_bytes<E: de::Error>(self, bytes: &[u8]) -> Result<[u8; 32], E> {
                bytes
                    .try_into()
                    .map_err(|_| E::invalid_length(bytes.len(), &self))
            }

            fn visit_byte_buf<E: de::Error>(self, mut bytes: Vec<u8>) -> Result<[u8; 32], E> {
                let read = self.visit_bytes(&bytes);
                bytes.zeroize();
                read
            }
        }
        deserializer.deserialize_bytes(Bytes)
    }
}
