//! The members of a mesh: nodes, which run our agent, and devices, which run a stock WireGuard client.

use std::collections::BTreeSet;
use std::fmt;
use std::net::IpAddr;

use ringfence_model::{Labels, Name, NodeId, PublicKey, TokenId, UnixMillis};
use serde::{Deserialize, Serialize};

/// A machine that runs `ringfence-node`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Node {
    /// Its id, for life.
    pub id: NodeId,
    /// What people call it.
    pub name: Name,
    /// Given by what let it in, or an administrator.
    pub labels: Labels,
    /// The key of its certificates.
    pub identity: Identity,
    /// When it was admitted.
    pub enrolled_at: UnixMillis,
    /// By what.
    #[serde(flatten)]
    pub admission: Admission,
    /// The newest certificate.
    pub certificate: Option<Certificate>,
    /// The perimeters it is a member of.
    pub perimeters: BTreeSet<Name>,
    /// Where its control connection comes from, if a policy has asked for it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub source: Option<IpAddr>,
}

/// What let a node in. Written as the one field that it has.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(untagged)]
pub enum Admission {
    /// A join token.
    Token {
        /// Which.
        token: TokenId,
    },
    /// The word of its platform.
    Workload {
        /// Whose, and as whom.
        workload: WorkloadIdentity,
    },
}

/// Who a node is to its platform.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct WorkloadIdentity {
    /// The workload issuer.
    pub issuer: Name,
    /// The subject of its token.
    pub subject: String,
    /// By which rule of the issuer's file it came in.
    pub rule: u32,
}

/// A machine that runs a stock WireGuard client, in one perimeter.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Device {
    /// Its id, for life.
    pub id: NodeId,
    /// What people call it.
    pub name: Name,
    /// Its perimeter.
    pub perimeter: Name,
    /// Its key.
    pub public_key: PublicKey,
    /// What the policy knows it by.
    pub labels: Labels,
    /// When it was added.
    pub added_at: UnixMillis,
    /// When its access ends.
    pub expires: Option<UnixMillis>,
}

/// A certificate that was issued.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Certificate {
    /// Its serial number, in hex.
    pub serial: String,
    /// When it ends.
    pub not_after: UnixMillis,
}

/// The public key that a node's certificates hold: a DER SubjectPublicKeyInfo, written in hex.
///
/// It stays through every renewal, so it and the node id are what authority is judged by (red line 2).
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct Identity(Vec<u8>);

/// Bytes are not an [`Identity`].
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("an identity key is 1 to {IDENTITY_BYTES_MAX} bytes of DER")]
pub struct IdentityError;

impl Identity {
    /// Takes a SubjectPublicKeyInfo in DER.
    ///
    /// # Errors
    /// If it is empty or longer than [`IDENTITY_BYTES_MAX`].
    pub fn from_spki(der: &[u8]) -> Result<Self, IdentityError> {
        if !(1..=IDENTITY_BYTES_MAX).contains(&der.len()) {
            return Err(IdentityError);
        }
        Ok(Self(der.to_vec()))
    }

    /// The SubjectPublicKeyInfo in DER.
    pub fn spki(&self) -> &[u8] {
        &self.0
    }
}

impl fmt::Debug for Identity {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Identity({})", hex::encode(&self.0))
    }
}

impl TryFrom<String> for Identity {
    type Error = IdentityError;

    fn try_from(text: String) -> Result<Self, IdentityError> {
        Self::from_spki(&hex::decode(text).map_err(|_| IdentityError)?)
    }
}

impl From<Identity> for String {
    fn from(identity: Identity) -> Self {
        hex::encode(identity.0)
    }
}

/// The longest identity key: an RSA key of 4,096 bits has 550 bytes.
pub const IDENTITY_BYTES_MAX: usize = 600;
