//! A TPM's two keys in software, for tests of whoever challenges them. It attests what it is told to.

use p256::SecretKey;
use p256::ecdsa::signature::hazmat::PrehashSigner as _;
use p256::ecdsa::{Signature, SigningKey};
use zeroize::Zeroizing;

use crate::attest::{Answer, GENERATED, QUOTE, qualifying};
use crate::credential::Challenge;
use crate::crypto::{decrypt, hmac, kdf_a, kdf_e, sha256};
use crate::error::TpmError;
use crate::offer::Offer;
use crate::public::{ECDSA, EccPublic, Point, SHA256, Template};
use crate::wire::{Reader, Writer};

/// A TPM's two keys.
pub struct SoftKeys {
    endorsement: SecretKey,
    attestation: SecretKey,
}

impl SoftKeys {
    /// The keys of these numbers, which are not zero.
    pub fn new(endorsement: u8, attestation: u8) -> Self {
        let key = |byte| SecretKey::from_slice(&[byte; 32]).expect("a small number that is not zero");
        Self {
            endorsement: key(endorsement),
            attestation: key(attestation),
        }
    }

    /// What it shows of itself.
    pub fn offer(&self, certificate: Option<Vec<u8>>) -> Offer {
        Offer {
            endorsement: public(Template::Endorsement, &self.endorsement),
            certificate,
            attestation: public(Template::Attestation, &self.attestation),
        }
    }

    /// Answers as a TPM does.
    ///
    /// # Errors
    /// If the challenge is for other keys.
    pub fn answer(&self, challenge: &Challenge, binding: &[u8]) -> Result<Answer, TpmError> {
        let secret = self.activate(challenge)?;
        Ok(self.quote(&qualifying(&secret, binding)))
    }

    /// Signs a quote that carries anything.
    pub fn quote(&self, carried: &[u8]) -> Answer {
        let quote = Writer::default()
            .u32(GENERATED)
            .u16(QUOTE)
            .sized(&[0; 34])
            .sized(carried)
            .raw(&[0; 25])
            .u32(0)
            .sized(&[0; 32])
            .done();
        let key = SigningKey::from(&self.attestation);
        let signature: Signature = key.sign_prehash(&sha256(&[&quote])).expect("32 bytes are signed");
        let (r, s) = signature.split_bytes();
        let signature = Writer::default().u16(ECDSA).u16(SHA256).sized(&r).sized(&s);
        Answer {
            quote,
            signature: signature.done(),
        }
    }

    fn activate(&self, challenge: &Challenge) -> Result<Vec<u8>, TpmError> {
        let refused = TpmError::Refused {
            command: "ActivateCredential",
            code: 0x1df,
        };
        let mut reader = Reader::new(&challenge.secret, "secret");
        let (x, y) = (reader.sized()?, reader.sized()?);
        let mut point = Point::default();
        point.x.copy_from_slice(x);
        point.y.copy_from_slice(y);
        let Some(other) = point.on_curve() else {
            return Err(refused);
        };
        let shared = p256::ecdh::diffie_hellman(self.endorsement.to_nonzero_scalar(), other.as_affine());
        let mut z = Zeroizing::new([0; 32]);
        z.copy_from_slice(shared.raw_secret_bytes());
        let own = Point::of(&self.endorsement.public_key());
        let seed = kdf_e(&z, "IDENTITY", &point.x, &own.x);
        let public = public(Template::Attestation, &self.attestation);
        let name = EccPublic::attestation(&public)
            .map_err(|_| TpmError::Malformed("public area"))?
            .name();
        let mut reader = Reader::new(&challenge.credential, "credential");
        let proof = reader.sized()?;
        let mut identity = reader.rest().to_vec();
        let integrity = kdf_a(&seed[..], "INTEGRITY", &[], &[], 256);
        if hmac(&integrity[..], &[&identity, &name]) != proof {
            return Err(refused);
        }
        let storage = kdf_a(&seed[..], "STORAGE", &name, &[], 128);
        let mut key = [0; 16];
        key.copy_from_slice(&storage[..16]);
        decrypt(&key, &[0; 16], &mut identity);
        Ok(Reader::new(&identity, "credential").sized()?.to_vec())
    }
}

fn public(template: Template, key: &SecretKey) -> Vec<u8> {
    let point = Point::of(&key.public_key());
    Writer::default()
        .raw(&template.head())
        .sized(&point.x)
        .sized(&point.y)
        .done()
}
