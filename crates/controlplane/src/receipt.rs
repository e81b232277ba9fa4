//! How far a revision has got: which connected nodes enforce it, and how long that took.

use std::collections::BTreeMap;
use std::time::Duration;

use ringfence_model::{NodeId, Revision, TableSize, UnixMillis};

use crate::Controller;
use crate::presence::Enforcement;

/// When the latest revisions were made, and who took longest to enforce each.
#[derive(Clone, Debug, Default)]
pub(crate) struct Receipts {
    latest: BTreeMap<Revision, Progress>,
}

#[derive(Clone, Copy, Debug)]
struct Progress {
    made_at: UnixMillis,
    slowest: Option<Slowest>,
}

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
            .acknowledged(node, before, revision, took_us, (since, wall));
    }

    /// How far `revision` has got; `None` if it has not been yet.
    pub fn receipt(&self, revision: Revision) -> Option<Receipt> {
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
                .latest
                .get(&revision)
                .and_then(|progress| progress.slowest),
        };
        for &node in self.state().nodes.keys() {
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

impl Receipts {
    pub(crate) fn tables(&self) -> [TableSize; 1] {
        let len = self.latest.len();
        [TableSize::new(
            "revisions that are timed",
            len,
            REVISIONS_TIMED_MAX,
        )]
    }

    pub(crate) fn applied(&mut self, revision: Revision, made_at: UnixMillis) {
        let progress = Progress {
            made_at,
            slowest: None,
        };
        self.latest.insert(revision, progress);
        while self.latest.len() > REVISIONS_TIMED_MAX {
            self.latest.pop_first();
        }
    }

    /// `node` moved from one revision to a later one.
    fn acknowledged(
        &mut self,
        node: NodeId,
        before: Revision,
        now: Revision,
        took_us: u64,
        (since, wall): (UnixMillis, UnixMillis),
    ) {
        for (revision, progress) in self.latest.range_mut(..=now) {
            if *revision <= before || progress.made_at < since {
                continue;
            }
            let after = wall.saturating_since(progress.made_at);
            if progress.slowest.is_none_or(|slowest| after >= slowest.after) {
                progress.slowest = Some(Slowest { node, after, took_us });
            }
        }
    }
}

/// How many of the latest revisions are timed: asking about an older one still says who enforces it.
pub const REVISIONS_TIMED_MAX: usize = 1_024;
