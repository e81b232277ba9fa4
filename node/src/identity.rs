//! Who this node is to the controller: the identity key, its certificate, and the CA that the other end must have.

use std::sync::Arc;

use anyhow::{Context as _, ensure};

use ringfence_control::Renew;
use ringfence_model::UnixMillis;
use ringfence_transport::{IdentityKey, PeerIdentity, certificates_from_pem};

use crate::state::StateDir;
use crate::tpm::TpmPlace;

pub(crate) mod sealed;

/// The identity of an enrolled node. The key stays the same for the node's life; certificates come and go.
pub(crate) struct Identity {
    /// Signs for this node.
    pub(crate) key: Arc<IdentityKey>,
    /// The certificate chain in PEM, leaf first.
    pub(crate) chain_pem: String,
    /// The CA of the mesh in PEM.
    pub(crate) ca_pem: String,
    not_before: UnixMillis,
    not_after: UnixMillis,
}

impl Identity {
    /// An identity of its parts.
    ///
    /// # Errors
    /// If the certificate is malformed or belongs to another key.
    pub(crate) fn new(key: Arc<IdentityKey>, chain_pem: String, ca_pem: String) -> anyhow::Result<Self> {
        let leaf = leaf(&chain_pem)?;
        ensure!(
            leaf.public_key_der == key.public_key_der(),
            "the certificate belongs to another key"
        );
        Ok(Self {
            key,
            chain_pem,
            ca_pem,
            not_before: leaf.not_before,
            not_after: leaf.not_after,
        })
    }

    /// The identity in the state directory. With a TPM its key is sealed, and the keys of segments are wrapped by it.
    ///
    /// # Errors
    /// If a part of it is missing or damaged, or the TPM is another than the one it is sealed in.
    pub(crate) fn load(state: &mut StateDir, tpm: Option<&TpmPlace>) -> anyhow::Result<Self> {
        let key = sealed::read(state, tpm)?;
        let wrapping = key.derive(SEGMENT_KEYS)?;
        let identity =
            Self::new(Arc::new(key), state.certificate()?, state.ca()?).context("the identity is damaged")?;
        sealed::settle(state, tpm)?;
        if tpm.is_some() {
            state.wrap_keys(wrapping);
        }
        Ok(identity)
    }

    /// The same identity with a new certificate.
    ///
    /// # Errors
    /// If the certificate is not this node's.
    pub(crate) fn renewed(&self, chain_pem: &str) -> anyhow::Result<Self> {
        let (old, new) = (leaf(&self.chain_pem)?, leaf(chain_pem)?);
        ensure!(
            old.id == new.id,
            "the certificate is for {}, this node is {}",
            new.id,
            old.id
        );
        Self::new(Arc::clone(&self.key), chain_pem.to_owned(), self.ca_pem.clone())
    }

    /// Writes the certificate down.
    ///
    /// # Errors
    /// Those of the file system.
    pub(crate) fn save(&self, state: &StateDir) -> anyhow::Result<()> {
        state
            .save_certificate(&self.chain_pem)
            .context("saving the certificate")
    }

    /// Signs `bytes` as this node.
    ///
    /// # Errors
    /// If the key is of no use.
    pub(crate) fn sign(&self, bytes: &[u8]) -> anyhow::Result<Vec<u8>> {
        Ok(self.key.sign(bytes)?)
    }

    /// Asks for the next certificate, for the same key.
    ///
    /// # Errors
    /// If the key is of no use.
    pub(crate) fn renew(&self) -> anyhow::Result<Renew> {
        Ok(Renew {
            csr_der: self.key.csr_der()?,
        })
    }

    /// Whether the certificate's time is over.
    pub(crate) fn has_expired(&self, wall: UnixMillis) -> bool {
        wall >= self.not_after
    }

    /// Whether two thirds of the certificate's time are over.
    pub(crate) fn renewal_due(&self, wall: UnixMillis) -> bool {
        Renew::is_due(self.not_before, self.not_after, wall)
    }
}

/// What the key that wraps those of segments is derived for.
const SEGMENT_KEYS: &[u8] = b"ringfence segment-keys v1";

fn leaf(chain_pem: &str) -> anyhow::Result<PeerIdentity> {
    let chain = certificates_from_pem(chain_pem)?;
    let leaf = chain.first().context("there is no certificate")?;
    Ok(PeerIdentity::from_leaf(leaf)?)
}
