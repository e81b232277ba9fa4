//! Speaks to a TPM 2.0: seals a secret in it, has it attest, and verifies what it attests.
//!
//! Three parts, of which none touches a device: [`Tpm`] makes commands and reads responses, over a [`Channel`] that the
//! caller opens; [`challenge`] and [`verify`] are the other end, which believes nothing that it has not verified.
//!
//! ```text
//! node: Tpm::offer ──── its endorsement key, its attestation key ────► challenge(secret) ──┐
//!       Tpm::answer ◄─── a credential that the one endorsement key opens, ────────────────┘
//!                        for the one attestation key, in one TPM
//!            └────────── Quote over H(secret, binding), by the attestation key ──────────► verify
//! ```
//!
//! Structures are those of the TPM 2.0 Library specification, parts 2 and 3; sessions, key derivation and credentials
//! those of part 1. Only what this takes is here: P-256, SHA-256 and AES-128-CFB, which every TPM 2.0 of the PC Client
//! profile has.
//!
//! **Invariant:** no response, offer or answer makes this crate panic, and each is read whole or refused.
#![deny(missing_docs)]

mod attest;
mod channel;
mod command;
mod credential;
mod crypto;
mod error;
mod offer;
mod public;
mod seal;
mod session;
#[cfg(any(test, feature = "soft"))]
pub mod soft;
mod wire;

pub use attest::{Answer, AnswerError, verify};
pub use channel::{Channel, Tpm};
pub use credential::{Challenge, challenge};
pub use error::TpmError;
pub use offer::{CERTIFICATE_BYTES_MAX, Offer, PUBLIC_BYTES_MAX};
pub use public::{EccPublic, PublicError};
pub use seal::Sealed;

#[cfg(test)]
mod tests;
