//! Public areas of keys: the templates that ours are made from, and those that others send.
//!
//! **Invariant:** a public area is taken only if it is a template of ours with another point: what a key may do is what
//! we believe it may do.

use crate::crypto::sha256;
use crate::error::TpmError;
use crate::wire::{Reader, Writer};

/// A point of P-256.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Point {
    pub(crate) x: [u8; 32],
    pub(crate) y: [u8; 32],
}

/// What a key is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Template {
    /// The parent of what is sealed: the storage root key of the TCG's provisioning guidance.
    Storage,
    /// The endorsement key: template L-2 of the TCG's EK credential profile.
    Endorsement,
    /// Signs what the TPM itself has made, and nothing else.
    Attestation,
}

/// The public area of an ECC key of a TPM.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct EccPublic {
    template: Template,
    point: Point,
    bytes: Vec<u8>,
}

/// Why bytes are not the public area they should be.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("the public area of the {0} key is not what such a key has")]
pub struct PublicError(&'static str);

impl PublicError {
    pub(crate) const OF_ENDORSEMENT: Self = Self(Template::Endorsement.as_str());
}

impl EccPublic {
    /// The public area of an endorsement key by the default template for P-256.
    ///
    /// # Errors
    /// [`PublicError`] if it is anything else.
    pub fn endorsement(bytes: &[u8]) -> Result<Self, PublicError> {
        Self::parse(Template::Endorsement, bytes)
    }

    /// The public area of an attestation key: one that signs only what its TPM has made, and never leaves it.
    ///
    /// # Errors
    /// [`PublicError`] if it is anything else.
    pub fn attestation(bytes: &[u8]) -> Result<Self, PublicError> {
        Self::parse(Template::Attestation, bytes)
    }

    pub(crate) fn parse(template: Template, bytes: &[u8]) -> Result<Self, PublicError> {
        let wrong = PublicError(template.as_str());
        let point = point_of(template, bytes).map_err(|_| wrong)?;
        point.on_curve().ok_or(wrong)?;
        Ok(Self {
            template,
            point,
            bytes: bytes.to_vec(),
        })
    }

    /// As the TPM writes it (`TPMT_PUBLIC`).
    pub fn as_bytes(&self) -> &[u8] {
        &self.bytes
    }

    /// Its name: which hash, and the hash. Names one key of all keys.
    pub fn name(&self) -> [u8; 34] {
        let mut name = [0; 34];
        name[..2].copy_from_slice(&SHA256.to_be_bytes());
        name[2..].copy_from_slice(&sha256(&[&self.bytes]));
        name
    }

    /// The point as SEC 1 has it, not compressed.
    pub fn sec1(&self) -> [u8; 65] {
        let mut bytes = [4; 65];
        bytes[1..33].copy_from_slice(&self.point.x);
        bytes[33..].copy_from_slice(&self.point.y);
        bytes
    }

    /// As certificates have it: a `SubjectPublicKeyInfo` in DER.
    pub fn spki_der(&self) -> Vec<u8> {
        [&SPKI_HEAD[..], &self.sec1()].concat()
    }

    pub(crate) fn point(&self) -> &Point {
        &self.point
    }
}

impl Template {
    const fn as_str(self) -> &'static str {
        match self {
            Self::Storage => "storage",
            Self::Endorsement => "endorsement",
            Self::Attestation => "attestation",
        }
    }

    /// What may be done with it, and what it is: everything before the point.
    pub(crate) fn head(self) -> Vec<u8> {
        let (attributes, policy): (u32, &[u8]) = match self {
            Self::Storage => (
                FIXED | SENSITIVE_DATA_ORIGIN | USER_WITH_AUTH | NO_DA | RESTRICTED | DECRYPT,
                &[],
            ),
            Self::Endorsement => (
                FIXED | SENSITIVE_DATA_ORIGIN | ADMIN_WITH_POLICY | RESTRICTED | DECRYPT,
                &ENDORSEMENT_POLICY,
            ),
            Self::Attestation => (
                FIXED | SENSITIVE_DATA_ORIGIN | USER_WITH_AUTH | NO_DA | RESTRICTED | SIGN,
                &[],
            ),
        };
        let head = Writer::default()
            .u16(ECC)
            .u16(SHA256)
            .u32(attributes)
            .sized(policy);
        let head = match self {
            Self::Storage | Self::Endorsement => head.u16(AES).u16(128).u16(CFB).u16(NULL),
            Self::Attestation => head.u16(NULL).u16(ECDSA).u16(SHA256),
        };
        head.u16(NIST_P256).u16(NULL).done()
    }

    /// What such a key is made from (`TPMT_PUBLIC`): its point is zero.
    pub(crate) fn public(self) -> Vec<u8> {
        Writer::default()
            .raw(&self.head())
            .sized(&[0; 32])
            .sized(&[0; 32])
            .done()
    }
}

fn point_of(template: Template, bytes: &[u8]) -> Result<Point, TpmError> {
    let mut reader = Reader::new(bytes, "public area");
    let head = template.head();
    if reader.raw(head.len())? != head {
        return Err(TpmError::Malformed("public area"));
    }
    let (x, y) = (reader.sized()?, reader.sized()?);
    reader.end()?;
    Ok(Point {
        x: coordinate(x)?,
        y: coordinate(y)?,
    })
}

/// Some TPMs leave out leading zeros.
fn coordinate(bytes: &[u8]) -> Result<[u8; 32], TpmError> {
    let mut whole = [0; 32];
    let start = whole
        .len()
        .checked_sub(bytes.len())
        .ok_or(TpmError::Malformed("point"))?;
    whole[start..].copy_from_slice(bytes);
    Ok(whole)
}

/// The public area of what is sealed: data that only its TPM opens, with an empty password.
pub(crate) fn sealed_public() -> Vec<u8> {
    Writer::default()
        .u16(KEYED_HASH)
        .u16(SHA256)
        .u32(FIXED | USER_WITH_AUTH | NO_DA)
        .sized(&[])
        .u16(NULL)
        .sized(&[])
        .done()
}

/// A sequence of an identifier (`id-ecPublicKey`, `secp256r1`) and a bit string of 66 bytes, of which none is left over.
const SPKI_HEAD: [u8; 26] = [
    0x30, 0x59, 0x30, 0x13, 0x06, 0x07, 0x2a, 0x86, 0x48, 0xce, 0x3d, 0x02, 0x01, 0x06, 0x08, 0x2a, 0x86,
    0x48, 0xce, 0x3d, 0x03, 0x01, 0x07, 0x03, 0x42, 0x00,
];

pub(crate) const SHA256: u16 = 0x000b;
pub(crate) const AES: u16 = 0x0006;
pub(crate) const CFB: u16 = 0x0043;
pub(crate) const NULL: u16 = 0x0010;
pub(crate) const ECDSA: u16 = 0x0018;
const KEYED_HASH: u16 = 0x0008;
const ECC: u16 = 0x0023;
const NIST_P256: u16 = 0x0003;

/// Neither it nor its parent leaves this TPM.
const FIXED: u32 = 1 << 1 | 1 << 4;
const SENSITIVE_DATA_ORIGIN: u32 = 1 << 5;
const USER_WITH_AUTH: u32 = 1 << 6;
const ADMIN_WITH_POLICY: u32 = 1 << 7;
const NO_DA: u32 = 1 << 10;
const RESTRICTED: u32 = 1 << 16;
const DECRYPT: u32 = 1 << 17;
const SIGN: u32 = 1 << 18;

/// `PolicySecret(TPM_RH_ENDORSEMENT)`, as the EK credential profile gives it.
const ENDORSEMENT_POLICY: [u8; 32] = [
    0x83, 0x71, 0x97, 0x67, 0x44, 0x84, 0xb3, 0xf8, 0x1a, 0x90, 0xcc, 0x8d, 0x46, 0xa5, 0xd7, 0x24, 0xfd,
    0x52, 0xd7, 0x6e, 0x06, 0x52, 0x0b, 0x64, 0xf2, 0xa1, 0xda, 0x1b, 0x33, 0x14, 0x69, 0xaa,
];
