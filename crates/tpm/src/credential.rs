//! The challenge: a secret that one TPM tells, if a given attestation key lives in it (`MakeCredential`, part 1, 24).

use zeroize::Zeroizing;

use crate::crypto::{Key, agree, encrypt, hmac, kdf_a};
use crate::offer::Offer;
use crate::public::{EccPublic, PublicError};
use crate::wire::Writer;

/// A secret for the holder of an endorsement key, to be told only to the attestation key it was made for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Challenge {
    /// `TPM2B_ID_OBJECT` without its length.
    pub credential: Vec<u8>,
    /// `TPM2B_ENCRYPTED_SECRET` without its length.
    pub secret: Vec<u8>,
}

/// A challenge for the TPM that made `offer`. Whoever answers it knows `secret`, which is for this challenge alone.
///
/// # Errors
/// [`PublicError`] if the keys are not what a TPM has, so that an answer would prove nothing.
pub fn challenge(offer: &Offer, secret: &Key, ephemeral: &Key) -> Result<Challenge, PublicError> {
    let endorsement = EccPublic::endorsement(&offer.endorsement)?;
    let name = EccPublic::attestation(&offer.attestation)?.name();
    let agreed = agree(ephemeral, endorsement.point(), "IDENTITY");
    let (seed, own) = agreed.ok_or(PublicError::OF_ENDORSEMENT)?;
    let storage = kdf_a(&seed[..], "STORAGE", &name, &[], 128);
    let mut key = Zeroizing::new([0; 16]);
    key.copy_from_slice(&storage[..16]);
    let mut identity = Writer::default().sized(&secret[..]).done();
    encrypt(&key, &[0; 16], &mut identity);
    let integrity = kdf_a(&seed[..], "INTEGRITY", &[], &[], 256);
    let proof = hmac(&integrity[..], &[&identity, &name]);
    Ok(Challenge {
        credential: Writer::default().sized(&proof).raw(&identity).done(),
        secret: Writer::default().sized(&own.x).sized(&own.y).done(),
    })
}
