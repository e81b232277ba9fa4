//! Keys of segments, encrypted with a key that comes from the identity key: where that one is sealed in a TPM, none of
//! them lies on the disk in plain.

use chacha20poly1305::aead::{Aead as _, Payload};
use chacha20poly1305::{ChaCha20Poly1305, KeyInit as _};
use zeroize::Zeroizing;

use ringfence_model::{Name, PrivateKey};

/// What wraps the keys of a state directory.
pub(super) struct Wrapping(Zeroizing<[u8; 32]>);

impl Wrapping {
    pub(super) fn new(key: Zeroizing<[u8; 32]>) -> Self {
        Self(key)
    }

    /// The key of a perimeter as text for a file. A nonce is for one use.
    pub(super) fn wrap(&self, perimeter: &Name, key: &PrivateKey, nonce: [u8; 12]) -> String {
        let plain = key.expose_base64();
        let payload = Payload {
            msg: plain.as_bytes(),
            aad: perimeter.as_str().as_bytes(),
        };
        let sealed = self
            .cipher()
            .encrypt(&nonce.into(), payload)
            .expect("so few bytes are encrypted");
        format!("{PREFIX}{}{}\n", hex::encode(nonce), hex::encode(sealed))
    }

    /// What [`Self::wrap`] wrote; `None` if it was changed, or wrapped for another perimeter or by another key.
    pub(super) fn unwrap(&self, perimeter: &Name, text: &str) -> Option<PrivateKey> {
        let bytes = hex::decode(text.trim_end().strip_prefix(PREFIX)?).ok()?;
        let (nonce, sealed) = bytes.split_first_chunk::<12>()?;
        let payload = Payload {
            msg: sealed,
            aad: perimeter.as_str().as_bytes(),
        };
        let plain = Zeroizing::new(self.cipher().decrypt(nonce.into(), payload).ok()?);
        PrivateKey::from_base64(std::str::from_utf8(&plain).ok()?).ok()
    }

    fn cipher(&self) -> ChaCha20Poly1305 {
        ChaCha20Poly1305::new((&*self.0).into())
    }
}

/// Whether a key's file is wrapped.
pub(super) fn is_wrapped(text: &str) -> bool {
    text.starts_with(PREFIX)
}

/// How such a file begins: never a key in base64.
const PREFIX: &str = "wrapped:";
