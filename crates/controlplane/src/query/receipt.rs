//! Receipts, as people read them.

use std::collections::BTreeSet;
use std::time::Duration;

use ringfence_control::api;
use ringfence_model::{NodeId, Revision, UnixMillis};

use super::count;
use crate::Controller;
use crate::receipt::{Told, Word};

impl Controller {
    /// The receipt of a revision: who enforces it and after how long, who does not yet, and when those that are away
    /// have closed. `None` if it has not been yet.
    ///
    /// Of one that was made before this controller came to life, or is not among the latest, who enforces it is known,
    /// and no more.
    pub fn revision_receipt(&self, revision: Revision) -> Option<api::RevisionReceipt> {
        self.revision_receipt_among(revision, None)
    }

    /// The same for these nodes alone.
    pub(super) fn revision_receipt_among(
        &self,
        revision: Revision,
        among: Option<&BTreeSet<NodeId>>,
    ) -> Option<api::RevisionReceipt> {
        if revision > self.revision() {
            return None;
        }
        let progress = self.receipts.progress(revision);
        let words = progress.filter(|progress| progress.timing.is_none());
        let Some(words) = words else {
            let mut receipt = self.receipt_of_all(revision, among)?;
            receipt.made_ms = progress.map(|progress| progress.made_at);
            // What is left of the words is of all nodes.
            if let (Some(progress), None) = (progress, among) {
                set_timing(&mut receipt, progress.timing());
            }
            return Some(receipt);
        };
        let told = words.told.iter();
        let told: Vec<&Told> = told
            .filter(|told| among.is_none_or(|among| among.contains(&told.node)))
            .collect();
        let mut receipt = self.receipt_of_told(revision, &told);
        receipt.made_ms = Some(words.made_at);
        set_timing(&mut receipt, crate::Timing::of(told.into_iter()));
        Some(receipt)
    }

    fn receipt_of_told(&self, revision: Revision, told: &[&Told]) -> api::RevisionReceipt {
        let mut receipt = empty(revision);
        receipt.told = count(told.len());
        // Who is gone has nothing left to enforce it on: nobody talks to it.
        for told in told.iter().filter(|told| self.node(told.node).is_some()) {
            match told.word {
                Word::Enforced { after_ms, took_us } => {
                    receipt
                        .enforced
                        .extend(self.ack(told.node, after_ms, took_us, None));
                }
                Word::EnforcedLate { after_ms } => {
                    receipt
                        .enforced
                        .extend(self.ack(told.node, after_ms, 0, Some(WasAway)));
                }
                Word::None => self.add_silent(&mut receipt, told.node, lease_of(told)),
            }
        }
        finish(receipt)
    }

    fn receipt_of_all(
        &self,
        revision: Revision,
        among: Option<&BTreeSet<NodeId>>,
    ) -> Option<api::RevisionReceipt> {
        let known = self.receipt_among(revision, among)?;
        let mut receipt = empty(revision);
        receipt.told = count(known.connected + known.absent.len());
        receipt.more_enforced = known.enforced as u64;
        for node in known.pending.iter().chain(&known.absent) {
            self.add_silent(&mut receipt, *node, self.lease_of(*node));
        }
        Some(finish(receipt))
    }

    /// A node that has not said that it enforces it.
    fn add_silent(&self, receipt: &mut api::RevisionReceipt, node: NodeId, lease: Duration) {
        let Some(name) = self.name_of(node).cloned() else {
            return;
        };
        if self.is_connected(node) {
            receipt.pending.push(name);
            return;
        }
        let presence = self.presence(node);
        receipt.offline.push(api::OfflineNode {
            id: node,
            node: name,
            last_seen_ms: presence.and_then(|presence| presence.last_seen),
            closed_by_ms: self.closed_by(node, lease),
        });
    }

    fn ack(&self, node: NodeId, after_ms: u32, took_us: u32, away: Option<WasAway>) -> Option<api::NodeAck> {
        Some(api::NodeAck {
            id: node,
            node: self.name_of(node)?.clone(),
            after_ms: after_ms.into(),
            took_us: took_us.into(),
            was_away: away.is_some(),
        })
    }
}

/// That a node was not connected when the revision was made.
#[derive(Clone, Copy)]
struct WasAway;

fn lease_of(told: &Told) -> Duration {
    Duration::from_secs(told.lease_seconds.into())
}

fn empty(revision: Revision) -> api::RevisionReceipt {
    api::RevisionReceipt {
        revision,
        made_ms: None,
        complete: false,
        told: 0,
        enforced: Vec::new(),
        more_enforced: 0,
        p50_ms: None,
        p99_ms: None,
        max_ms: None,
        pending: Vec::new(),
        offline: Vec::new(),
        closed_by_ms: None,
    }
}

fn set_timing(receipt: &mut api::RevisionReceipt, timing: crate::Timing) {
    if timing.nodes > 0 {
        let ms = |duration: Duration| Some(u64::try_from(duration.as_millis()).unwrap_or(u64::MAX));
        receipt.p50_ms = ms(timing.p50);
        receipt.p99_ms = ms(timing.p99);
        receipt.max_ms = ms(timing.max);
    }
}

fn finish(mut receipt: api::RevisionReceipt) -> api::RevisionReceipt {
    receipt.complete = receipt.pending.is_empty();
    receipt.pending.sort();
    receipt.offline.sort_by(|a, b| a.node.cmp(&b.node));
    // One whose end is not known leaves the end of all unknown.
    let ends = receipt.offline.iter().map(|offline| offline.closed_by_ms);
    let known: Option<Vec<UnixMillis>> = ends.collect();
    receipt.closed_by_ms = known.and_then(|ends| ends.into_iter().max());
    receipt
        .enforced
        .sort_by_key(|ack| (std::cmp::Reverse(ack.after_ms), ack.id));
    let more = receipt.enforced.len().saturating_sub(api::RECEIPT_NODES_MAX);
    receipt.enforced.truncate(api::RECEIPT_NODES_MAX);
    receipt.more_enforced += more as u64;
    receipt
}
