//! What changed between two netmaps of one node.
//!
//! **Invariant:** applying to anything but the netmap it was made from, or arriving at anything but the netmap it was
//! made for, is refused: the hash of the result comes with it.

use std::collections::{BTreeMap, BTreeSet};

use ringfence_model::{
    Name, NodeId, OverlayAddresses, PerimeterPrefixes, PublicKey, Revision, RuleId, UnixMillis,
};
use ringfence_policy::Direction;
use serde::{Deserialize, Serialize};

use crate::rule_list::RuleList;
use crate::{Netmap, PeerMap, SegmentMap};

/// What changed. Removals are applied before additions.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Delta {
    /// The revision it starts from.
    pub base: Revision,
    /// The revision it arrives at.
    pub revision: Revision,
    /// The controller's wall clock when it was sent.
    pub issued_at: UnixMillis,
    /// The content hash of the netmap it arrives at.
    pub hash: [u8; 32],
    /// The node's new name.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub name: Option<Name>,
    /// Segments that are gone.
    #[serde(default, skip_serializing_if = "BTreeSet::is_empty")]
    pub removed: BTreeSet<Name>,
    /// Segments that changed.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub changed: BTreeMap<Name, SegmentDelta>,
    /// Segments that are new.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub added: BTreeMap<Name, SegmentMap>,
}

/// What changed in one segment.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct SegmentDelta {
    /// New addresses of this node.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub addresses: Option<OverlayAddresses>,
    /// New prefixes.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub prefixes: Option<PerimeterPrefixes>,
    /// A new lease.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub lease_ms: Option<u64>,
    /// Another key, or none.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub public_key: Option<PublicKeyEdit>,
    /// Peers that are gone.
    #[serde(default, skip_serializing_if = "BTreeSet::is_empty")]
    pub peers_removed: BTreeSet<NodeId>,
    /// Peers that are new or changed.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub peers: BTreeMap<NodeId, PeerMap>,
    /// What changed in the rules.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub rules: Option<RulesEdit>,
}

/// The key the controller holds for the node; a map of its own, because CBOR writes `Some(None)` as it writes `None`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct PublicKeyEdit {
    /// It, or none.
    pub key: Option<PublicKey>,
}

/// What changed in a rule list.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct RulesEdit {
    /// The whole new list, where the two could not be compared rule by rule.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub replace: Option<RuleList>,
    /// Rules that are gone.
    #[serde(default, skip_serializing_if = "BTreeSet::is_empty")]
    pub removed: BTreeSet<RuleKey>,
    /// Sets of peers that changed, for all their rules: most changes are a peer that comes or goes.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub peers: Vec<PeersEdit>,
    /// Rules that are new or changed otherwise.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub put: Option<RuleList>,
}

/// Names a rule within a segment.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub struct RuleKey {
    /// Its id.
    pub id: RuleId,
    /// Which of the two a rule can be on one node.
    pub direction: Direction,
    /// When it stops counting: a rule comes once for each moment at which it ends for some of its peers.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub expires: Option<UnixMillis>,
}

/// Peers that come to or go from a set of peers.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct PeersEdit {
    /// The set: its number among those of the old list, in the order in which its rules bring them up.
    pub set: u32,
    /// Peers that are gone.
    #[serde(default, skip_serializing_if = "BTreeSet::is_empty")]
    pub removed: BTreeSet<NodeId>,
    /// Peers that are new.
    #[serde(default, skip_serializing_if = "BTreeSet::is_empty")]
    pub added: BTreeSet<NodeId>,
}

/// Why a delta does not fit.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum DeltaError {
    /// It leads back.
    #[error("revision {offered} is older than {current}")]
    Older {
        /// Where it leads.
        offered: Revision,
        /// What is in force.
        current: Revision,
    },
    /// It was made from another revision.
    #[error("it starts from revision {base}, not from {current}")]
    Base {
        /// What it starts from.
        base: Revision,
        /// What is in force.
        current: Revision,
    },
    /// It removes or changes what is not there, or adds what is.
    #[error("it does not fit the netmap in force")]
    Misfit,
    /// It arrives elsewhere.
    #[error("its result is not the netmap it was made for")]
    Hash,
}

impl Delta {
    /// What leads from `old` to `new`, which are netmaps of one node.
    pub fn between(old: &Netmap, new: &Netmap) -> Self {
        let mut delta = Self {
            base: old.revision,
            revision: new.revision,
            issued_at: new.issued_at,
            hash: new.content_hash(),
            name: (old.name != new.name).then(|| new.name.clone()),
            removed: missing_keys(&old.segments, &new.segments),
            changed: BTreeMap::new(),
            added: BTreeMap::new(),
        };
        for (perimeter, segment) in &new.segments {
            match old.segments.get(perimeter) {
                None => {
                    delta.added.insert(perimeter.clone(), segment.clone());
                }
                Some(before) if before == segment => {}
                Some(before) => {
                    delta
                        .changed
                        .insert(perimeter.clone(), SegmentDelta::between(before, segment));
                }
            }
        }
        delta
    }

    /// The netmap it leads to from `old`.
    ///
    /// # Errors
    /// [`DeltaError`] if it leads back, does not start here, or arrives elsewhere than it says.
    pub fn apply(&self, old: &Netmap) -> Result<Netmap, DeltaError> {
        if self.revision < old.revision {
            return Err(DeltaError::Older {
                offered: self.revision,
                current: old.revision,
            });
        }
        if self.base != old.revision {
            return Err(DeltaError::Base {
                base: self.base,
                current: old.revision,
            });
        }
        let mut new = old.clone();
        new.revision = self.revision;
        new.issued_at = self.issued_at;
        if let Some(name) = &self.name {
            new.name = name.clone();
        }
        for perimeter in &self.removed {
            new.segments.remove(perimeter).ok_or(DeltaError::Misfit)?;
        }
        for (perimeter, change) in &self.changed {
            change.apply(new.segments.get_mut(perimeter).ok_or(DeltaError::Misfit)?)?;
        }
        for (perimeter, segment) in &self.added {
            if new.segments.insert(perimeter.clone(), segment.clone()).is_some() {
                return Err(DeltaError::Misfit);
            }
        }
        if new.content_hash() != self.hash {
            return Err(DeltaError::Hash);
        }
        Ok(new)
    }

    /// Whether only the revision moves.
    pub fn is_empty(&self) -> bool {
        self.name.is_none() && self.removed.is_empty() && self.changed.is_empty() && self.added.is_empty()
    }
}

impl SegmentDelta {
    fn between(old: &SegmentMap, new: &SegmentMap) -> Self {
        let changed = new
            .peers
            .iter()
            .filter(|(id, peer)| old.peers.get(id) != Some(peer));
        Self {
            addresses: (old.addresses != new.addresses).then_some(new.addresses),
            prefixes: (old.prefixes != new.prefixes).then(|| new.prefixes.clone()),
            lease_ms: (old.lease_ms != new.lease_ms).then_some(new.lease_ms),
            public_key: (old.public_key != new.public_key).then_some(PublicKeyEdit { key: new.public_key }),
            peers_removed: missing_keys(&old.peers, &new.peers),
            peers: changed.map(|(id, peer)| (*id, peer.clone())).collect(),
            rules: (old.rules != new.rules).then(|| RulesEdit::between(&old.rules, &new.rules)),
        }
    }

    fn apply(&self, segment: &mut SegmentMap) -> Result<(), DeltaError> {
        for peer in &self.peers_removed {
            segment.peers.remove(peer).ok_or(DeltaError::Misfit)?;
        }
        if let Some(rules) = &self.rules {
            rules.apply(&mut segment.rules)?;
        }
        if let Some(addresses) = self.addresses {
            segment.addresses = addresses;
        }
        if let Some(prefixes) = &self.prefixes {
            segment.prefixes = prefixes.clone();
        }
        if let Some(lease_ms) = self.lease_ms {
            segment.lease_ms = lease_ms;
        }
        if let Some(edit) = self.public_key {
            segment.public_key = edit.key;
        }
        let peers = self.peers.iter().map(|(id, peer)| (*id, peer.clone()));
        segment.peers.extend(peers);
        Ok(())
    }
}

fn missing_keys<K: Ord + Clone, V, W>(old: &BTreeMap<K, V>, new: &BTreeMap<K, W>) -> BTreeSet<K> {
    old.keys().filter(|key| !new.contains_key(key)).cloned().collect()
}

mod rules;

#[cfg(test)]
mod tests;
