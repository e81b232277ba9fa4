//! WireGuard keys (Curve25519, RFC 7748).
//!
//! **Invariant:** a [`PrivateKey`] has neither `Debug`, `Display`, `Serialize` nor `Clone`, and is wiped on drop.

use std::fmt;
use std::str::FromStr;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use serde::{Deserialize, Serialize};
use subtle::ConstantTimeEq as _;
use zeroize::{Zeroize as _, ZeroizeOnDrop, Zeroizing};

/// A Curve25519 public key, written in base64 as `wg` does.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema), schema(value_type = String))]
pub struct PublicKey([u8; KEY_BYTES]);

/// A Curve25519 private key: born on the node, never leaves it. In a box, so that moving it leaves no copy behind.
pub struct PrivateKey(Box<[u8; KEY_BYTES]>);

/// A text or byte string is not a key.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum KeyError {
    /// Not 44 characters of base64 for 32 bytes.
    #[error("a key is 32 bytes in base64: 44 characters ending in =")]
    Encoding,
    /// A point of low order: a shared secret with it is zero (RFC 7748 section 6.1).
    #[error("this public key is a point of low order, which no client makes: generate a new one")]
    LowOrder,
}

impl PublicKey {
    /// Takes the 32 bytes of a public key.
    pub const fn from_bytes(bytes: [u8; KEY_BYTES]) -> Self {
        Self(bytes)
    }

    /// The 32 bytes.
    pub const fn as_bytes(&self) -> &[u8; KEY_BYTES] {
        &self.0
    }

    /// Whether every exchange with this key gives the all-zero secret (RFC 7748 section 6.1).
    ///
    /// Such a key is refused where a person or a node registers one.
    pub fn is_low_order(&self) -> bool {
        // An exchange would tell as well, and take ten thousand times as long: a node asks of every new peer.
        let mut canonical = self.0;
        canonical[KEY_BYTES - 1] &= 0b0111_1111;
        LOW_ORDER.contains(&canonical)
    }
}

impl PrivateKey {
    /// Makes a key of 32 random bytes, which the caller draws; clamps as RFC 7748 section 5 says.
    pub fn from_random(mut random: [u8; KEY_BYTES]) -> Self {
        random[0] &= 0b1111_1000;
        random[31] &= 0b0111_1111;
        random[31] |= 0b0100_0000;
        let key = Self(Box::new(random));
        random.zeroize();
        key
    }

    /// The public key that belongs to this one.
    pub fn public_key(&self) -> PublicKey {
        let secret = x25519_dalek::StaticSecret::from(*self.0);
        PublicKey(x25519_dalek::PublicKey::from(&secret).to_bytes())
    }

    /// The 32 secret bytes, for the WireGuard state machine and the key file alone.
    pub fn expose(&self) -> &[u8; KEY_BYTES] {
        &self.0
    }

    /// The key in base64, for the key file alone; wiped on drop.
    pub fn expose_base64(&self) -> Zeroizing<String> {
        Zeroizing::new(STANDARD.encode(self.expose()))
    }

    /// Reads what [`Self::expose_base64`] wrote.
    ///
    /// # Errors
    /// [`KeyError::Encoding`] if `text` is not 32 bytes in base64.
    pub fn from_base64(text: &str) -> Result<Self, KeyError> {
        let mut bytes = decode(text)?;
        let key = Self(Box::new(bytes));
        bytes.zeroize();
        Ok(key)
    }
}

impl Drop for PrivateKey {
    fn drop(&mut self) {
        self.0.zeroize();
    }
}

impl ZeroizeOnDrop for PrivateKey {}

impl PartialEq for PrivateKey {
    fn eq(&self, other: &Self) -> bool {
        self.expose().ct_eq(other.expose()).into()
    }
}

impl Eq for PrivateKey {}

fn decode(text: &str) -> Result<[u8; KEY_BYTES], KeyError> {
    let mut bytes = Zeroizing::new(STANDARD.decode(text).map_err(|_| KeyError::Encoding)?);
    let key = <[u8; KEY_BYTES]>::try_from(bytes.as_slice()).map_err(|_| KeyError::Encoding);
    bytes.zeroize();
    key
}

impl fmt::Display for PublicKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(&STANDARD.encode(self.0))
    }
}

impl fmt::Debug for PublicKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "PublicKey({self})")
    }
}

impl FromStr for PublicKey {
    type Err = KeyError;

    fn from_str(text: &str) -> Result<Self, KeyError> {
        let key = Self(decode(text)?);
        if key.is_low_order() {
            return Err(KeyError::LowOrder);
        }
        Ok(key)
    }
}

impl TryFrom<String> for PublicKey {
    type Error = KeyError;

    fn try_from(text: String) -> Result<Self, KeyError> {
        // Low-order points are refused where a key is registered; reading back what was stored stays cheap.
        Ok(Self(decode(&text)?))
    }
}

impl From<PublicKey> for String {
    fn from(key: PublicKey) -> Self {
        key.to_string()
    }
}

/// Every encoding of a point of low order, its unused top bit cleared: of orders 4, 2 (zero and the prime, which are one
/// point), 8 and 8, and of the twist's. <https://cr.yp.to/ecdh.html#validate>
const LOW_ORDER: [[u8; KEY_BYTES]; 7] = [
    [0; KEY_BYTES],
    little_endian(1),
    [
        0xe0, 0xeb, 0x7a, 0x7c, 0x3b, 0x41, 0xb8, 0xae, 0x16, 0x56, 0xe3, 0xfa, 0xf1, 0x9f, 0xc4, 0x6a, 0xda,
        0x09, 0x8d, 0xeb, 0x9c, 0x32, 0xb1, 0xfd, 0x86, 0x62, 0x05, 0x16, 0x5f, 0x49, 0xb8, 0x00,
    ],
    [
        0x5f, 0x9c, 0x95, 0xbc, 0xa3, 0x50, 0x8c, 0x24, 0xb1, 0xd0, 0xb1, 0x55, 0x9c, 0x83, 0xef, 0x5b, 0x04,
        0x44, 0x5c, 0xc4, 0x58, 0x1c, 0x8e, 0x86, 0xd8, 0x22, 0x4e, 0xdd, 0xd0, 0x9f, 0x11, 0x57,
    ],
    near_prime(0xec),
    near_prime(0xed),
    near_prime(0xee),
];

/// A small number as a key's bytes.
const fn little_endian(low: u8) -> [u8; KEY_BYTES] {
    let mut bytes = [0; KEY_BYTES];
    bytes[0] = low;
    bytes
}

/// The prime 2^255 - 19, whose low byte is 0xed, or a neighbour.
const fn near_prime(low: u8) -> [u8; KEY_BYTES] {
    let mut bytes = [0xff; KEY_BYTES];
    bytes[0] = low;
    bytes[KEY_BYTES - 1] = 0x7f;
    bytes
}

/// Length of every Curve25519 key.
pub const KEY_BYTES: usize = 32;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_private_key_reads_back_as_written() {
        let key = PrivateKey::from_random([9; 32]);

        let read = PrivateKey::from_base64(&key.expose_base64()).unwrap();

        assert!(read == key && read.public_key() == key.public_key());
    }

    #[test]
    fn clamping_leaves_a_valid_scalar() {
        let key = PrivateKey::from_random([0xff; 32]);

        assert_eq!(key.expose()[0] & 7, 0);
        assert_eq!(key.expose()[31] & 0xc0, 0x40);
    }

    #[test]
    fn a_public_key_reads_back_as_written() {
        let key = PrivateKey::from_random([7; 32]).public_key();

        assert_eq!(key.to_string().len(), 44);
        assert_eq!(key.to_string().parse(), Ok(key));
    }

    #[test]
    fn low_order_points_and_odd_texts_are_refused() {
        let zero = PublicKey::from_bytes([0; 32]).to_string();

        assert_eq!(zero.parse::<PublicKey>(), Err(KeyError::LowOrder));
        for odd in ["", "abc", "AAAA", &"A".repeat(44)] {
            assert_eq!(odd.parse::<PublicKey>(), Err(KeyError::Encoding));
        }
    }

    #[test]
    fn a_point_is_of_low_order_exactly_if_an_exchange_with_it_gives_nothing() {
        let exchange_gives_nothing = |key: [u8; KEY_BYTES]| {
            let probe = x25519_dalek::StaticSecret::from([0x42; KEY_BYTES]);
            let shared = probe.diffie_hellman(&x25519_dalek::PublicKey::from(key));
            !shared.was_contributory()
        };
        let near_the_prime = (0..=u8::MAX).map(near_prime);
        let small = (0..=u8::MAX).map(little_endian);
        let keys = LOW_ORDER.into_iter().chain(near_the_prime).chain(small);
        let mut low = 0;
        for key in keys {
            for top_bit in [0, 0x80] {
                let mut key = key;
                key[KEY_BYTES - 1] |= top_bit;
                let is_low = PublicKey::from_bytes(key).is_low_order();
                assert_eq!(is_low, exchange_gives_nothing(key), "{key:?}");
                low += usize::from(is_low);
            }
        }
        // Five of the seven come twice.
        assert_eq!(low, 2 * 12);
    }
}
