//! Reading certificates: who they are for, until when, and what their key has signed.

use rustls_pki_types::CertificateDer;
use rustls_pki_types::pem::PemObject as _;
use sha2::{Digest as _, Sha256};
use x509_parser::prelude::{FromDer as _, GeneralName, X509Certificate};
use x509_parser::x509::SubjectPublicKeyInfo;

use crate::TransportError;
use crate::spiffe::SpiffeId;
use ringfence_model::UnixMillis;

/// Who is at the other end, out of the leaf certificate that signed the handshake.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PeerIdentity {
    /// Who.
    pub id: SpiffeId,
    /// Its key, as DER `SubjectPublicKeyInfo`: what [`verify_signature`] takes.
    pub public_key_der: Vec<u8>,
    /// The certificate's serial number in hex.
    pub serial: String,
    /// From when it counts.
    pub not_before: UnixMillis,
    /// Until when.
    pub not_after: UnixMillis,
}

impl PeerIdentity {
    /// Reads a leaf. Verifies nothing: that is TLS's work, or the reader's.
    ///
    /// # Errors
    /// [`TransportError::CertificateRefused`] if it is not one of ours: exactly one URI name, and that an identity.
    pub fn from_leaf(leaf_der: &[u8]) -> Result<Self, TransportError> {
        let refused = |why: &str| TransportError::CertificateRefused { why: why.to_owned() };
        let (rest, leaf) =
            X509Certificate::from_der(leaf_der).map_err(|_| refused("it is no X.509 certificate"))?;
        if !rest.is_empty() {
            return Err(refused("bytes follow its end"));
        }
        let names = leaf
            .subject_alternative_name()
            .map_err(|_| refused("its names do not parse"))?
            .ok_or_else(|| refused("it names nobody"))?;
        let mut uris = names.value.general_names.iter().filter_map(|name| match name {
            GeneralName::URI(uri) => Some(*uri),
            _ => None,
        });
        // One URI name alone (SPIFFE X.509-SVID section 2): two would let each reader pick another.
        let (Some(uri), None) = (uris.next(), uris.next()) else {
            return Err(refused("it does not carry exactly one identity"));
        };
        let id = uri
            .parse()
            .map_err(|error: crate::SpiffeError| refused(&error.to_string()))?;
        let validity = leaf.validity();
        Ok(Self {
            id,
            public_key_der: leaf.public_key().raw.to_vec(),
            serial: hex::encode(leaf.raw_serial()),
            not_before: millis(validity.not_before.timestamp()),
            not_after: millis(validity.not_after.timestamp()),
        })
    }
}

/// Whether `signature` is over `message` by the P-256 key in `public_key_der` (DER `SubjectPublicKeyInfo`), as
/// [`crate::IdentityKey::sign`] makes it.
pub fn verify_signature(public_key_der: &[u8], message: &[u8], signature: &[u8]) -> bool {
    let Ok((_, info)) = SubjectPublicKeyInfo::from_der(public_key_der) else {
        return false;
    };
    let algorithms = rustls::crypto::aws_lc_rs::default_provider().signature_verification_algorithms;
    let p256 = algorithms
        .mapping
        .iter()
        .find(|(scheme, _)| *scheme == rustls::SignatureScheme::ECDSA_NISTP256_SHA256)
        .and_then(|(_, algorithms)| algorithms.first());
    p256.is_some_and(|p256| {
        p256.verify_signature(&info.subject_public_key.data, message, signature)
            .is_ok()
    })
}

/// SHA-256 over the DER: what a join token pins.
pub fn fingerprint(certificate: &CertificateDer<'_>) -> [u8; 32] {
    Sha256::digest(certificate.as_ref()).into()
}

/// Every certificate in a PEM text, in order.
///
/// # Errors
/// [`TransportError::Setup`] if there is none or one does not parse.
pub fn certificates_from_pem(pem: &str) -> Result<Vec<CertificateDer<'static>>, TransportError> {
    let certificates: Result<Vec<_>, _> = CertificateDer::pem_slice_iter(pem.as_bytes()).collect();
    let certificates = certificates
        .map_err(|error| TransportError::Setup(format!("a certificate in PEM is malformed: {error}")))?;
    if certificates.is_empty() {
        return Err(TransportError::Setup(
            "there is no certificate in this PEM text".to_owned(),
        ));
    }
    Ok(certificates)
}

/// A certificate as PEM (RFC 7468).
pub fn pem_of(certificate: &CertificateDer<'_>) -> String {
    use base64::Engine as _;
    let text = base64::engine::general_purpose::STANDARD.encode(certificate);
    let mut pem = "-----BEGIN CERTIFICATE-----\n".to_owned();
    for (place, character) in text.char_indices() {
        if place > 0 && place % 64 == 0 {
            pem.push('\n');
        }
        pem.push(character);
    }
    pem.push_str("\n-----END CERTIFICATE-----\n");
    pem
}

fn millis(seconds: i64) -> UnixMillis {
    UnixMillis(u64::try_from(seconds).unwrap_or(0).saturating_mul(1000))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use rcgen::{CertificateParams, KeyPair, SanType};

    use super::*;
    use crate::tests::{Mesh, VALID};

    /// A self-signed certificate with these URI names.
    fn leaf(uris: &[&str]) -> CertificateDer<'static> {
        let mut params = CertificateParams::default();
        params.subject_alt_names = uris
            .iter()
            .map(|&uri| SanType::URI(uri.try_into().unwrap()))
            .collect();
        params
            .self_signed(&KeyPair::generate().unwrap())
            .unwrap()
            .der()
            .clone()
    }

    #[test]
    fn a_leaf_says_who_it_is_for_and_until_when() {
        let member = Mesh::new("acme").member(7, VALID);
        let chain = certificates_from_pem(&member.chain_pem).unwrap();

        let identity = PeerIdentity::from_leaf(&chain[0]).unwrap();

        assert_eq!(identity.id.to_string(), "spiffe://acme/node/0000000000000007");
        assert_eq!(identity.public_key_der, member.key.public_key_der());
        let hours = (identity.not_after.0 - identity.not_before.0) / 3_600_000;
        assert_eq!(hours, 25);
    }

    #[test]
    fn a_leaf_with_no_identity_or_two_is_refused() {
        let node = "spiffe://acme/node/0000000000000007";
        for uris in [
            &[][..],
            &[node, "spiffe://acme/controller"],
            &[node, node],
            &["https://acme"],
        ] {
            assert!(PeerIdentity::from_leaf(&leaf(uris)).is_err(), "{uris:?}");
        }
    }

    #[test]
    fn a_certificate_reads_back_from_pem() {
        let leaf = leaf(&[]);
        let pem = pem_of(&leaf).repeat(2);

        assert_eq!(certificates_from_pem(&pem).unwrap(), [leaf.clone(), leaf]);
        assert!(certificates_from_pem("").is_err());
        assert!(
            certificates_from_pem("-----BEGIN CERTIFICATE-----\n!\n-----END CERTIFICATE-----\n").is_err()
        );
    }

    proptest! {
        #[test]
        fn damaged_certificates_and_signatures_never_panic(flips in prop::collection::vec((any::<prop::sample::Index>(), any::<u8>()), 1..5), cut in any::<prop::sample::Index>()) {
            let mut der = leaf(&["spiffe://acme/controller"]).to_vec();
            for (place, with) in flips {
                let place = place.index(der.len());
                der[place] ^= with;
            }
            der.truncate(cut.index(der.len() + 1));
            let _ = PeerIdentity::from_leaf(&der);
            prop_assert!(!verify_signature(&der, b"message", &der));
        }
    }
}
