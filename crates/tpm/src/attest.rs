//! What a TPM attests, and whether it does.

use p256::ecdsa::signature::hazmat::PrehashVerifier as _;
use p256::ecdsa::{Signature, VerifyingKey};
use subtle::ConstantTimeEq as _;

use crate::crypto::{Key, sha256};
use crate::error::TpmError;
use crate::offer::Offer;
use crate::public::{ECDSA, EccPublic, PublicError, SHA256};
use crate::wire::Reader;

/// A TPM's answer to a challenge.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Answer {
    /// What it attests (`TPMS_ATTEST`).
    pub quote: Vec<u8>,
    /// By the attestation key (`TPMT_SIGNATURE`).
    pub signature: Vec<u8>,
}

/// Why an answer proves nothing.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum AnswerError {
    /// The keys are not what a TPM has.
    #[error(transparent)]
    Public(#[from] PublicError),
    /// It is no quote that a TPM made.
    #[error("the answer is no quote of a TPM")]
    Malformed,
    /// The attestation key did not sign it.
    #[error("the quote is not signed by the attestation key")]
    Signature,
    /// It answers another challenge, or for another node.
    #[error("the quote answers another challenge, or is of another node")]
    Another,
}

/// Whether the TPM of `offer` answered the challenge with this `secret`, for this `binding`.
///
/// What follows from it: the attestation key lives in the TPM that has the endorsement key, for only that one told the
/// secret; this TPM has signed after the challenge was made; and it was asked for this binding.
///
/// # Errors
/// [`AnswerError`], if it does not follow.
pub fn verify(offer: &Offer, secret: &Key, binding: &[u8], answer: &Answer) -> Result<(), AnswerError> {
    EccPublic::endorsement(&offer.endorsement)?;
    let attestation = EccPublic::attestation(&offer.attestation)?;
    let key = VerifyingKey::from_sec1_bytes(&attestation.sec1()).map_err(|_| AnswerError::Signature)?;
    let signature = signature(&answer.signature).ok_or(AnswerError::Malformed)?;
    let digest = sha256(&[&answer.quote]);
    key.verify_prehash(&digest, &signature)
        .map_err(|_| AnswerError::Signature)?;
    let attested = attested(&answer.quote).map_err(|_| AnswerError::Malformed)?;
    let wanted = qualifying(&secret[..], binding);
    if bool::from(wanted[..].ct_eq(attested)) {
        Ok(())
    } else {
        Err(AnswerError::Another)
    }
}

/// What the quote is asked to carry: it names the purpose first, so that a quote made for another program is none here.
pub(crate) fn qualifying(secret: &[u8], binding: &[u8]) -> [u8; 32] {
    // The secret has one length, so that nothing of it can be taken for the binding.
    sha256(&[b"ringfence tpm-attestation v1\0", &sha256(&[secret]), binding])
}

fn signature(bytes: &[u8]) -> Option<Signature> {
    let mut reader = Reader::new(bytes, "signature");
    let is_ecdsa = reader.u16().ok()? == ECDSA && reader.u16().ok()? == SHA256;
    let (r, s) = (reader.sized().ok()?, reader.sized().ok()?);
    reader.end().ok()?;
    let scalar = |bytes: &[u8]| {
        let mut whole = [0; 32];
        let start = whole.len().checked_sub(bytes.len())?;
        whole[start..].copy_from_slice(bytes);
        Some(whole)
    };
    let signature = Signature::from_scalars(scalar(r)?, scalar(s)?).ok()?;
    is_ecdsa.then_some(signature)
}

/// What a quote was asked to carry.
fn attested(quote: &[u8]) -> Result<&[u8], TpmError> {
    let malformed = TpmError::Malformed("quote");
    let mut reader = Reader::new(quote, "quote");
    // Only a TPM's own words begin so: a restricted key signs nothing else that does.
    if reader.u32()? != GENERATED || reader.u16()? != QUOTE {
        return Err(malformed);
    }
    let _signer = reader.sized()?;
    let carried = reader.sized()?;
    // Clock, resets, restarts, whether the clock is safe, firmware.
    reader.raw(8 + 4 + 4 + 1 + 8)?;
    if reader.u32()? != 0 {
        return Err(malformed);
    }
    let _registers = reader.sized()?;
    reader.end()?;
    Ok(carried)
}

pub(crate) const GENERATED: u32 = 0xff54_4347;
pub(crate) const QUOTE: u16 = 0x8018;
