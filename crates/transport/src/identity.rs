//! A node's identity key: born on the node, proves who it is to the controller, signs what it registers.
//!
//! **Invariant:** the key is neither printed nor cloned, and its own copy of the secret is wiped on drop.

use std::path::Path;

use aws_lc_rs::hmac;
use p256::SecretKey;
use p256::pkcs8::{DecodePrivateKey as _, EncodePrivateKey as _};
use rcgen::{
    CertificateParams, DistinguishedName, KeyPair, PKCS_ECDSA_P256_SHA256, PublicKeyData as _,
    SigningKey as _,
};
use rustls_pki_types::{PrivateKeyDer, PrivatePkcs8KeyDer};
use zeroize::Zeroizing;

use crate::secret_file::write_secret;

/// An ECDSA P-256 key pair.
pub struct IdentityKey {
    pkcs8: Zeroizing<Vec<u8>>,
    public_key_der: Vec<u8>,
}

/// Why an identity key cannot be made, read or used.
#[derive(Debug, thiserror::Error)]
pub enum IdentityError {
    /// The crypto provider failed.
    #[error("the identity key cannot be used: {0}")]
    Crypto(rcgen::Error),
    /// The file holds no such key.
    #[error("{path} holds no identity key: {why}")]
    Malformed {
        /// The file.
        path: String,
        /// What is wrong.
        why: String,
    },
    /// The file cannot be read or written.
    #[error("{path}: {source}")]
    File {
        /// The file.
        path: String,
        /// Why.
        source: std::io::Error,
    },
}

impl IdentityKey {
    /// Draws a new key from the system's randomness.
    ///
    /// # Errors
    /// If the crypto provider fails.
    pub fn generate() -> Result<Self, IdentityError> {
        let pair = KeyPair::generate_for(&PKCS_ECDSA_P256_SHA256).map_err(IdentityError::Crypto)?;
        let pair = Zeroizing::new(pair);
        Ok(Self::from_pair(&pair))
    }

    /// Reads the file that [`Self::write`] wrote.
    ///
    /// # Errors
    /// If it cannot be read or holds something else.
    pub fn read(path: &Path) -> Result<Self, IdentityError> {
        let pem = std::fs::read_to_string(path)
            .map(Zeroizing::new)
            .map_err(|source| IdentityError::File {
                path: path.display().to_string(),
                source,
            })?;
        let pair = KeyPair::from_pem_and_sign_algo(&pem, &PKCS_ECDSA_P256_SHA256).map_err(|error| {
            IdentityError::Malformed {
                path: path.display().to_string(),
                why: error.to_string(),
            }
        })?;
        Ok(Self::from_pair(&pair))
    }

    /// Writes the key as PEM, readable by its owner alone, whole or not at all.
    ///
    /// # Errors
    /// If the file cannot be written.
    pub fn write(&self, path: &Path) -> Result<(), IdentityError> {
        let pem = Zeroizing::new(self.pair()?.serialize_pem());
        write_secret(path, pem.as_bytes()).map_err(|source| IdentityError::File {
            path: path.display().to_string(),
            source,
        })
    }

    /// A signing request (PKCS#10). It claims no name: the controller gives those.
    ///
    /// # Errors
    /// If the crypto provider fails.
    pub fn csr_der(&self) -> Result<Vec<u8>, IdentityError> {
        let mut params = CertificateParams::default();
        params.distinguished_name = DistinguishedName::new();
        let request = params
            .serialize_request(&*self.pair()?)
            .map_err(IdentityError::Crypto)?;
        Ok(request.der().to_vec())
    }

    /// Signs `message`: ECDSA with SHA-256, in DER.
    ///
    /// # Errors
    /// If the crypto provider fails.
    pub fn sign(&self, message: &[u8]) -> Result<Vec<u8>, IdentityError> {
        self.pair()?.sign(message).map_err(IdentityError::Crypto)
    }

    /// The private number, for whoever keeps it sealed.
    ///
    /// # Errors
    /// If the key is of no use.
    pub fn expose_scalar(&self) -> Result<Zeroizing<[u8; 32]>, IdentityError> {
        let secret = SecretKey::from_pkcs8_der(&self.pkcs8).map_err(|_| NOT_A_KEY)?;
        let mut scalar = Zeroizing::new([0; 32]);
        scalar.copy_from_slice(&Zeroizing::new(secret.to_bytes()));
        Ok(scalar)
    }

    /// The key of a private number that [`Self::expose_scalar`] gave.
    ///
    /// # Errors
    /// If it is none.
    pub fn from_scalar(scalar: &[u8; 32]) -> Result<Self, IdentityError> {
        let secret = SecretKey::from_slice(scalar).map_err(|_| NOT_A_KEY)?;
        let document = secret.to_pkcs8_der().map_err(|_| NOT_A_KEY)?;
        let der = PrivatePkcs8KeyDer::from(document.as_bytes());
        let pair = KeyPair::from_pkcs8_der_and_sign_algo(&der, &PKCS_ECDSA_P256_SHA256);
        Ok(Self::from_pair(&Zeroizing::new(
            pair.map_err(IdentityError::Crypto)?,
        )))
    }

    /// A secret for another purpose, that nobody can make who has not this key.
    ///
    /// # Errors
    /// If the key is of no use.
    pub fn derive(&self, purpose: &[u8]) -> Result<Zeroizing<[u8; 32]>, IdentityError> {
        let key = hmac::Key::new(hmac::HMAC_SHA256, &self.expose_scalar()?[..]);
        let mut secret = Zeroizing::new([0; 32]);
        secret.copy_from_slice(hmac::sign(&key, purpose).as_ref());
        Ok(secret)
    }

    /// The public key, as DER `SubjectPublicKeyInfo`.
    pub fn public_key_der(&self) -> &[u8] {
        &self.public_key_der
    }

    /// The key for TLS alone.
    pub(crate) fn expose_for_tls(&self) -> PrivateKeyDer<'static> {
        PrivateKeyDer::Pkcs8(PrivatePkcs8KeyDer::from(self.pkcs8.to_vec()))
    }

    pub(crate) fn from_pair(pair: &KeyPair) -> Self {
        Self {
            pkcs8: Zeroizing::new(pair.serialized_der().to_vec()),
            public_key_der: pair.subject_public_key_info(),
        }
    }

    fn pair(&self) -> Result<Zeroizing<KeyPair>, IdentityError> {
        let der = PrivatePkcs8KeyDer::from(self.pkcs8.as_slice());
        let pair = KeyPair::from_pkcs8_der_and_sign_algo(&der, &PKCS_ECDSA_P256_SHA256);
        pair.map(Zeroizing::new).map_err(IdentityError::Crypto)
    }
}

const NOT_A_KEY: IdentityError = IdentityError::Crypto(rcgen::Error::CouldNotParseKeyPair);

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt as _;

    use super::*;
    use crate::verify_signature;

    #[test]
    fn a_signature_holds_for_its_key_and_message_alone() {
        let key = IdentityKey::generate().unwrap();
        let other = IdentityKey::generate().unwrap();

        let signature = key.sign(b"message").unwrap();

        assert!(verify_signature(key.public_key_der(), b"message", &signature));
        assert!(!verify_signature(key.public_key_der(), b"massage", &signature));
        assert!(!verify_signature(other.public_key_der(), b"message", &signature));
        assert!(!verify_signature(key.public_key_der(), b"message", b""));
        assert!(!verify_signature(b"no key", b"message", &signature));
    }

    #[test]
    fn a_key_file_is_private_and_reads_back() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("identity.pem");
        let key = IdentityKey::generate().unwrap();

        key.write(&path).unwrap();
        let read = IdentityKey::read(&path).unwrap();

        assert_eq!(read.public_key_der(), key.public_key_der());
        assert_eq!(
            std::fs::metadata(&path).unwrap().permissions().mode() & 0o777,
            0o600
        );
    }

    #[test]
    fn a_key_is_the_same_again_by_its_number() {
        let key = IdentityKey::generate().unwrap();

        let again = IdentityKey::from_scalar(&key.expose_scalar().unwrap()).unwrap();

        assert_eq!(again.public_key_der(), key.public_key_der());
        let signature = again.sign(b"message").unwrap();
        assert!(verify_signature(key.public_key_der(), b"message", &signature));
        assert_eq!(again.derive(b"x").unwrap(), key.derive(b"x").unwrap());
        assert_ne!(again.derive(b"x").unwrap(), key.derive(b"y").unwrap());
        assert!(IdentityKey::from_scalar(&[0; 32]).is_err());
    }

    #[test]
    fn a_damaged_key_file_is_named() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("identity.pem");
        std::fs::write(
            &path,
            "-----BEGIN PRIVATE KEY-----\nAAAA\n-----END PRIVATE KEY-----\n",
        )
        .unwrap();

        let error = IdentityKey::read(&path).err().unwrap().to_string();

        assert!(error.contains("identity.pem holds no identity key"), "{error}");
    }
}
