//! Which TPM a node has: pinned when it first proves itself, and known again ever after.
//!
//! **Invariant:** a node whose TPM is another than the pinned one passes no check on it, until it is enrolled anew.

use std::fmt;

use ringfence_model::{NodeId, UnixMillis};
use ringfence_policy::{Fact, FactSource, FactValue};
use ringfence_tpm::EccPublic;
use serde::{Deserialize, Serialize};

use crate::Controller;

/// Names one TPM: the SHA-256 of its endorsement key's public area, in hexadecimal digits.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(transparent)]
pub struct TpmName(String);

/// What the log says about a node's TPM.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct TpmRecord {
    /// The first that proved itself.
    pub pinned: TpmName,
    /// The first other one that did later. Of those that came after it there is no word here, so that nobody fills the
    /// log with TPMs of their own making.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub stranger: Option<TpmName>,
}

/// What is known of whoever made a TPM.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum TpmMaker {
    /// The key is certified by a maker that the posture file trusts.
    Trusted,
    /// It is not, and why.
    Unknown(String),
}

impl TpmName {
    /// The name of the TPM that has this endorsement key.
    pub fn of(endorsement: &EccPublic) -> Self {
        // Without the two bytes that say which hash it is.
        Self(hex::encode(&endorsement.name()[2..]))
    }
}

impl fmt::Display for TpmName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(&self.0)
    }
}

impl TpmRecord {
    /// The record once `name` has proved itself; `None` if it says so already.
    pub(crate) fn after(before: Option<&Self>, name: &TpmName) -> Option<Self> {
        let Some(before) = before else {
            return Some(Self {
                pinned: name.clone(),
                stranger: None,
            });
        };
        (before.pinned != *name && before.stranger.is_none()).then(|| Self {
            pinned: before.pinned.clone(),
            stranger: Some(name.clone()),
        })
    }
}

impl Controller {
    /// Whether a TPM that has proved itself is news for the log.
    pub fn tpm_is_news(&self, node: NodeId, name: &TpmName) -> bool {
        TpmRecord::after(self.state().posture.tpms.get(&node), name).is_some()
    }

    /// What came of challenging a connected node's TPM, once the log has what [`Self::tpm_is_news`] asks for. Gives
    /// whether the node passes other checks than before: propose [`crate::PostureCommand::Judge`] then.
    pub fn tpm_judged(
        &mut self,
        node: NodeId,
        connection_id: u64,
        came: Result<(TpmName, TpmMaker), String>,
        wall: UnixMillis,
    ) -> bool {
        if self.connected_as(node, connection_id).is_none() {
            return false;
        }
        let value = came.and_then(|(name, maker)| self.tpm_value(node, &name, &maker));
        let fact = Fact {
            value,
            source: FactSource::Controller,
            measured_at: wall,
            expires: None,
        };
        self.take_tpm_fact(node, fact, wall)
    }

    fn tpm_value(&self, node: NodeId, name: &TpmName, maker: &TpmMaker) -> Result<FactValue, String> {
        let record = self.state().posture.tpms.get(&node);
        let pinned = record.ok_or("it is not recorded yet which TPM this node has")?;
        if pinned.pinned != *name {
            return Err("another TPM than the node's own answered: if it was replaced, remove the node and enrol it anew".to_owned());
        }
        let word = match maker {
            TpmMaker::Trusted => ATTESTED,
            TpmMaker::Unknown(_) => UNKNOWN_MAKER,
        };
        Ok(FactValue::Text(word.to_owned()))
    }
}

/// `tpm.state` of a TPM whose maker is trusted.
const ATTESTED: &str = "attested";
/// `tpm.state` of one whose maker is not known.
const UNKNOWN_MAKER: &str = "unknown-maker";
