//! Key derivation, encryption and agreement as part 1 of the specification has them, over SHA-256 and P-256.

use aes::Aes128;
use cfb_mode::cipher::KeyIvInit as _;
use cfb_mode::{BufDecryptor, BufEncryptor};
use hmac::{Hmac, Mac as _};
use p256::{PublicKey, SecretKey};
use sha2::{Digest as _, Sha256};
use zeroize::Zeroizing;

use crate::public::Point;

/// A key or digest of 32 bytes that is wiped.
pub(crate) type Key = Zeroizing<[u8; 32]>;

pub(crate) fn sha256(parts: &[&[u8]]) -> [u8; 32] {
    let mut hash = Sha256::new();
    for part in parts {
        hash.update(part);
    }
    hash.finalize().into()
}

pub(crate) fn hmac(key: &[u8], parts: &[&[u8]]) -> [u8; 32] {
    let mut mac = Hmac::<Sha256>::new_from_slice(key).expect("an HMAC takes a key of any length");
    for part in parts {
        mac.update(part);
    }
    mac.finalize().into_bytes().into()
}

/// `KDFa` (part 1, 11.4.10.2) for 256 bits. The label's zero byte is added here.
pub(crate) fn kdf_a(key: &[u8], label: &str, context_u: &[u8], context_v: &[u8], bits: u32) -> Key {
    let parts = [
        &1_u32.to_be_bytes()[..],
        label.as_bytes(),
        &[0],
        context_u,
        context_v,
        &bits.to_be_bytes(),
    ];
    Zeroizing::new(hmac(key, &parts))
}

/// `KDFe` (part 1, 11.4.10.3) for 256 bits.
pub(crate) fn kdf_e(shared: &[u8; 32], label: &str, party_u: &[u8; 32], party_v: &[u8; 32]) -> Key {
    let parts = [
        &1_u32.to_be_bytes()[..],
        shared,
        label.as_bytes(),
        &[0],
        party_u,
        party_v,
    ];
    Zeroizing::new(sha256(&parts))
}

/// AES-128 in CFB mode, in place.
pub(crate) fn encrypt(key: &[u8; 16], iv: &[u8; 16], bytes: &mut [u8]) {
    BufEncryptor::<Aes128>::new(key.into(), iv.into()).encrypt(bytes);
}

/// See [`encrypt`].
pub(crate) fn decrypt(key: &[u8; 16], iv: &[u8; 16], bytes: &mut [u8]) {
    BufDecryptor::<Aes128>::new(key.into(), iv.into()).decrypt(bytes);
}

/// The two halves of a derived key: for encryption, and the vector to begin with.
pub(crate) fn halves(key: &Key) -> (Zeroizing<[u8; 16]>, Zeroizing<[u8; 16]>) {
    let (mut first, mut second) = (Zeroizing::new([0; 16]), Zeroizing::new([0; 16]));
    first.copy_from_slice(&key[..16]);
    second.copy_from_slice(&key[16..]);
    (first, second)
}

/// An ephemeral key agreed with the holder of `public`: the secret that both know by `label`, and the point that tells
/// the other. `None` if the point is not on the curve, or the random bytes are no scalar.
pub(crate) fn agree(random: &Key, public: &Point, label: &str) -> Option<(Key, Point)> {
    let secret = SecretKey::from_slice(&random[..]).ok()?;
    let other = public.on_curve()?;
    let shared = p256::ecdh::diffie_hellman(secret.to_nonzero_scalar(), other.as_affine());
    let mut x = Zeroizing::new([0; 32]);
    x.copy_from_slice(shared.raw_secret_bytes());
    let own = Point::of(&secret.public_key());
    let seed = kdf_e(&x, label, &own.x, &public.x);
    Some((seed, own))
}

impl Point {
    pub(crate) fn on_curve(&self) -> Option<PublicKey> {
        let mut bytes = [4; 65];
        bytes[1..33].copy_from_slice(&self.x);
        bytes[33..].copy_from_slice(&self.y);
        PublicKey::from_sec1_bytes(&bytes).ok()
    }

    pub(crate) fn of(key: &PublicKey) -> Self {
        let bytes = key.to_sec1_bytes();
        let (mut x, mut y) = ([0; 32], [0; 32]);
        // `to_sec1_bytes` is not compressed for this curve: a tag and both coordinates.
        x.copy_from_slice(&bytes[1..33]);
        y.copy_from_slice(&bytes[33..65]);
        Self { x, y }
    }
}
