//! How a node shows that a TPM is in its machine: the keys of it, a challenge for them, the proof.
//!
//! The structures are the TPM's own; `ringfence-tpm` reads them. Here they are bytes of bounded length.
//!
//! **Invariant:** nothing of it is believed because a node says it.

use ringfence_model::{Name, NodeId};
use serde::{Deserialize, Serialize};

/// The keys of a node's TPM. Asks for a challenge.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct TpmOffer {
    /// The public area of its endorsement key.
    pub endorsement: Vec<u8>,
    /// What its maker says of that key, in DER, if it is in the TPM.
    #[serde(default)]
    pub certificate: Option<Vec<u8>>,
    /// The public area of an attestation key.
    pub attestation: Vec<u8>,
}

/// A secret that only the TPM which was offered can tell. Comes again and again: what is proved grows old.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct TpmChallenge {
    /// Comes back with the proof.
    pub id: u64,
    /// `TPM2B_ID_OBJECT` without its length.
    pub credential: Vec<u8>,
    /// `TPM2B_ENCRYPTED_SECRET` without its length.
    pub secret: Vec<u8>,
}

/// What the TPM made of a challenge.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct TpmProof {
    /// The challenge's.
    pub id: u64,
    /// A quote, and the signature under it.
    pub quote: Vec<u8>,
    /// By the attestation key.
    pub signature: Vec<u8>,
    /// In place of a proof: why there is none. Counts for whatever challenge.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub missing: Option<String>,
}

/// What a quote is made for: this node of this mesh, with this identity key. One that another node has from its TPM is of
/// no use here. A zero byte ends each name, which cannot hold one.
pub fn tpm_binding(mesh: &Name, node: NodeId, identity_key_der: &[u8]) -> Vec<u8> {
    let mut bytes = b"ringfence node v1\0".to_vec();
    for part in [mesh.as_str(), &node.to_string()] {
        bytes.extend_from_slice(part.as_bytes());
        bytes.push(0);
    }
    bytes.extend_from_slice(identity_key_der);
    bytes
}

/// From this capability on a controller takes a [`TpmOffer`].
pub const TPM_SINCE: u32 = 5;
