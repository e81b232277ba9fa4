//! A perimeter as the controller holds it: policy, prefixes and the seats of its members.

use std::collections::BTreeMap;
use std::sync::Arc;

use ipnetwork::{Ipv4Network, Ipv6Network};
use ringfence_model::{Name, NodeId, OverlayAddresses, PerimeterPrefixes, PublicKey, Revision, UnixMillis};
use ringfence_policy::{Policy, PolicyErrors};
use serde::{Deserialize, Serialize};

use crate::PolicyFile;
use crate::address::{self, HOSTS_PER_BLOCK, Pool};

/// A perimeter.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub(crate) struct Perimeter {
    pub(crate) name: Name,
    pub(crate) source: PolicySource,
    pub(crate) v6: Ipv6Network,
    pub(crate) v4: Vec<Ipv4Network>,
    pub(crate) seats: BTreeMap<NodeId, Seat>,
    pub(crate) hosts: Pool,
    /// The revision that last set its policy.
    pub(crate) revision: Revision,
    /// When that was.
    pub(crate) applied_at: UnixMillis,
    /// The latest moment its rules were judged at: when the policy was set, or rules were said to expire. Nothing else
    /// moves it, or a rule would end without anyone being told. It only goes up until the policy is set anew: a clock
    /// that is set back does not bring an expired rule to life.
    pub(crate) judged_at: UnixMillis,
}

/// A member's place: kept for its life, so that it finds its addresses again when it comes back.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Seat {
    pub(crate) host: u32,
    pub(crate) standing: Standing,
    pub(crate) key: Option<PublicKey>,
    /// Whether it has been silent for longer than the lease, and is not back yet.
    #[serde(default)]
    pub(crate) is_lapsed: bool,
}

/// Whether who has a seat is a member now.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub(crate) enum Standing {
    Member,
    Away,
}

/// A policy file and what it says. Written as the text alone, and read by checking that again.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(try_from = "PolicyFile", into = "PolicyFile")]
pub(crate) struct PolicySource {
    file: Arc<PolicyFile>,
    policy: Arc<Policy>,
}

impl PolicySource {
    pub(crate) fn file(&self) -> &PolicyFile {
        &self.file
    }

    pub(crate) fn policy(&self) -> &Policy {
        &self.policy
    }
}

impl TryFrom<PolicyFile> for PolicySource {
    type Error = PolicyErrors;

    fn try_from(file: PolicyFile) -> Result<Self, PolicyErrors> {
        let checked = Policy::parse(&file.file, &file.text)?;
        Ok(Self {
            file: Arc::new(file),
            policy: Arc::new(checked.policy),
        })
    }
}

impl From<PolicySource> for PolicyFile {
    fn from(source: PolicySource) -> Self {
        Arc::unwrap_or_clone(source.file)
    }
}

impl Perimeter {
    pub(crate) fn policy(&self) -> &Policy {
        self.source.policy()
    }

    pub(crate) fn prefixes(&self) -> PerimeterPrefixes {
        PerimeterPrefixes {
            v4: self.v4.clone(),
            v6: self.v6,
        }
    }

    /// The seat of a member; none for who is away.
    pub(crate) fn seat(&self, member: NodeId) -> Option<&Seat> {
        self.seats
            .get(&member)
            .filter(|seat| seat.standing == Standing::Member)
    }

    /// The addresses of a seat.
    pub(crate) fn addresses(&self, seat: &Seat) -> OverlayAddresses {
        address::host_addresses(self.v6, &self.v4, seat.host)
            .expect("a seat is in a block the perimeter holds")
    }

    /// Everyone with a seat who is a member now.
    pub(crate) fn members(&self) -> impl Iterator<Item = (NodeId, &Seat)> {
        let all = self.seats.iter();
        all.filter(|(_, seat)| seat.standing == Standing::Member)
            .map(|(id, seat)| (*id, seat))
    }

    /// A place for someone who comes in: the one it had, else the next that is free; none if another IPv4 block is
    /// needed first.
    pub(crate) fn place_for(&self, member: NodeId, wall: UnixMillis) -> Option<OverlayAddresses> {
        if let Some(seat) = self.seats.get(&member) {
            return Some(self.addresses(seat));
        }
        let blocks = u32::try_from(self.v4.len()).unwrap_or(u32::MAX);
        let end = HOSTS_PER_BLOCK.saturating_mul(blocks);
        let host = self.hosts.next(end, wall, address::is_host)?;
        address::host_addresses(self.v6, &self.v4, host)
    }

    /// Gives back the seat of someone who is gone for good; the key it had.
    pub(crate) fn vacate(&mut self, member: NodeId, wall: UnixMillis) -> Option<PublicKey> {
        let seat = self.seats.remove(&member)?;
        self.hosts.release(seat.host, wall);
        seat.key
    }
}
