//! How far a revision has got: which nodes enforce it, how long that took, and when those that are away have closed.

mod record;
mod told;

use std::collections::BTreeSet;
use std::time::Duration;

use ringfence_model::{NodeId, Revision, UnixMillis};

pub use self::record::{RECORDED_NODES_MAX, ReceiptEvent, RecordedReceipt};
pub(crate) use self::record::{may_narrow, record};
pub use self::told::{NODES_TOLD_MAX, REVISIONS_TIMED_MAX, Timing};
pub(crate) use self::told::{Receipts, Told, Word};
use crate::presence::Enforcement;
use crate::state::State;
use crate::{Controller, Push, PushKind};

/// The node that took longest.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Slowest {
    /// Which.
    pub node: NodeId,
    /// From the change to its acknowledgement at the controller.
    pub after: Duration,
    /// What the node itself needed, in microseconds.
    pub took_us: u64,
}

/// How far a revision has got.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Receipt {
    /// Which revision.
    pub revision: Revision,
    /// Nodes that are connected.
    pub connected: usize,
    /// Connected nodes that enforce it.
    pub enforced: usize,
    /// Connected nodes that do not yet, or have yet to make a key for a perimeter: their peers do not know them so far.
    pub pending: Vec<NodeId>,
    /// Nodes that are not connected.
    pub absent: Vec<NodeId>,
    /// Who took longest, if anyone it concerned has answered.
    pub slowest: Option<Slowest>,
}

impl Receipt {
    /// Whether every connected node enforces it.
    pub fn is_complete(&self) -> bool {
        self.pending.is_empty()
    }
}

impl Controller {
    /// A node says it enforces a revision. Its word for one that has not been yet counts for nothing.
    pub fn enforced(&mut self, node: NodeId, revision: Revision, took_us: u64, wall: UnixMillis) {
        if revision > self.revision() {
            return;
        }
        let Some(presence) = self.presence.node_mut(node) else {
            return;
        };
        presence.last_seen = Some(wall);
        let before = presence
            .enforced
            .map_or(Revision::ZERO, |enforced| enforced.revision);
        if revision <= before {
            return;
        }
        presence.enforced = Some(Enforcement {
            revision,
            at: wall,
            took_us,
        });
        // Revisions made while it was away are not its delay.
        let since = presence.connection.map_or(wall, |connection| connection.since);
        self.receipts
            .acknowledged(node, (before, revision), took_us, (since, wall));
    }

    /// How far `revision` has got; `None` if it has not been yet.
    pub fn receipt(&self, revision: Revision) -> Option<Receipt> {
        self.receipt_among(revision, None)
    }

    /// The same for these nodes alone.
    pub(crate) fn receipt_among(
        &self,
        revision: Revision,
        among: Option<&BTreeSet<NodeId>>,
    ) -> Option<Receipt> {
        let is_among = |node: NodeId| among.is_none_or(|among| among.contains(&node));
        if revision > self.revision() {
            return None;
        }
        let mut receipt = Receipt {
            revision,
            connected: 0,
            enforced: 0,
            pending: Vec::new(),
            absent: Vec::new(),
            slowest: self
                .receipts
                .progress(revision)
                .and_then(|progress| progress.slowest)
                .filter(|slowest| is_among(slowest.node)),
        };
        for &node in self.state().nodes.keys().filter(|node| is_among(**node)) {
            let presence = self.presence(node);
            let Some(presence) = presence.filter(|presence| presence.connection.is_some()) else {
                receipt.absent.push(node);
                continue;
            };
            receipt.connected += 1;
            // Nothing after the last revision that touched it can be missing.
            let needed = presence.touched.map_or(revision, |touched| touched.min(revision));
            let has = presence.enforced.map(|enforced| enforced.revision);
            if has.is_some_and(|has| has >= needed) && self.has_its_keys(node) {
                receipt.enforced += 1;
            } else {
                receipt.pending.push(node);
            }
        }
        Some(receipt)
    }

    /// Of those to push to, whom a change is for, with the lease that each may still act by. `before` is the state
    /// before it.
    pub(crate) fn told(&self, before: &State, pushes: &[Push]) -> Vec<Told> {
        let netmaps = pushes.iter().filter(|push| push.kind == PushKind::Netmap);
        let told = netmaps.map(|push| {
            let lease = lease_in(before, push.node).max(lease_in(&self.state, push.node));
            Told {
                node: push.node,
                lease_seconds: u32::try_from(lease.as_secs()).unwrap_or(u32::MAX),
                word: Word::None,
            }
        });
        told.collect()
    }

    /// When a node that is not connected has closed by itself, at the latest, if it held a lease of this length:
    /// counted from when its connection ended, or from when this controller began.
    ///
    /// A lease counts on the node's monotonic clock, which a machine that sleeps may stop.
    pub(crate) fn closed_by(&self, node: NodeId, lease: Duration) -> Option<UnixMillis> {
        let seen = self.presence(node).and_then(|presence| presence.last_seen);
        seen.or(self.began_at).map(|seen| seen.saturating_add(lease))
    }

    /// The longest lease that a node has of any perimeter.
    pub(crate) fn lease_of(&self, node: NodeId) -> Duration {
        lease_in(&self.state, node)
    }

    fn has_its_keys(&self, node: NodeId) -> bool {
        let state = self.state();
        let perimeters = state
            .nodes
            .get(&node)
            .into_iter()
            .flat_map(|known| &known.perimeters);
        perimeters
            .filter_map(|name| state.perimeters.get(name)?.seat(node))
            .all(|seat| seat.key.is_some())
    }
}

fn lease_in(state: &State, node: NodeId) -> Duration {
    let perimeters = state
        .nodes
        .get(&node)
        .into_iter()
        .flat_map(|node| &node.perimeters);
    let leases = perimeters.filter_map(|name| Some(state.perimeters.get(name)?.policy().lease));
    leases.max().unwrap_or_default()
}
