//! What a new policy would open and close between which nodes: the answer of `apply --dry-run`.
//!
//! **Invariant:** only what changes for a conversation is listed: a flow that another rule opens now is no change.

use std::collections::{BTreeMap, BTreeSet};

use ringfence_model::{NodeId, RuleId};
use serde::{Deserialize, Serialize};

use crate::compile::{Compiled, LiveRule};
use crate::coverage::Coverage;
use crate::service::Service;

/// One service between two nodes that opens or closes.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub struct FlowChange {
    /// Who opens the conversation.
    pub from: NodeId,
    /// Who is reached.
    pub to: NodeId,
    /// With what.
    pub service: Service,
    /// Whether it opens or closes.
    pub change: Change,
    /// The rule that opens it, or that opened it: of the new policy, or of the old.
    pub rule: RuleId,
}

/// What becomes of a flow.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Change {
    /// It was closed and will be open.
    Opens,
    /// It was open and will be closed.
    Closes,
}

/// Everything that changes between nodes when `new` takes the place of `old`, sorted by pair. `old` is `None` for a
/// new perimeter; to remove one, give an empty `new`.
pub fn diff(old: Option<&Compiled>, new: &Compiled) -> Vec<FlowChange> {
    let nothing = Compiled::default();
    let old = old.unwrap_or(&nothing);
    // If only some nodes came, went, or meet what is asked or not: pairs without one of them are as they were, and to join
    // a thousand nodes with a thousand others because one was removed would hold up its removal.
    let moved = new.moved_since(old);
    let (before, after) = (joined(old, moved.as_ref()), joined(new, moved.as_ref()));
    let pairs: BTreeSet<&(NodeId, NodeId)> = before.keys().chain(after.keys()).collect();
    let mut changes = Vec::new();
    for pair in pairs {
        let (was, is) = (rules_of(&before, pair), rules_of(&after, pair));
        let (open_before, open_after) = (coverage(was), coverage(is));
        record(
            &mut changes,
            *pair,
            Change::Opens,
            &open_after.without(&open_before),
            is,
        );
        record(
            &mut changes,
            *pair,
            Change::Closes,
            &open_before.without(&open_after),
            was,
        );
    }
    changes
}

type Joined<'c> = BTreeMap<(NodeId, NodeId), Vec<&'c LiveRule>>;

/// The rules of each pair; of pairs with one of `moved` alone, if that is given.
fn joined<'c>(compiled: &'c Compiled, moved: Option<&BTreeSet<NodeId>>) -> Joined<'c> {
    let mut joined = Joined::new();
    for rule in &compiled.rules {
        for (from, to) in compiled.pairs(rule) {
            if moved.is_none_or(|moved| moved.contains(&from) || moved.contains(&to)) {
                joined.entry((from, to)).or_default().push(rule);
            }
        }
    }
    joined
}

fn rules_of<'j, 'c>(joined: &'j Joined<'c>, pair: &(NodeId, NodeId)) -> &'j [&'c LiveRule] {
    joined.get(pair).map_or(&[], Vec::as_slice)
}

fn coverage(rules: &[&LiveRule]) -> Coverage {
    rules
        .iter()
        .flat_map(|rule| rule.services.iter().copied())
        .collect()
}

fn record(
    changes: &mut Vec<FlowChange>,
    (from, to): (NodeId, NodeId),
    change: Change,
    what: &Coverage,
    rules: &[&LiveRule],
) {
    for service in what.services() {
        let part_of = |rule: &&&LiveRule| rule.services.iter().any(|opened| opened.overlaps(service));
        let Some(rule) = rules.iter().find(part_of) else {
            continue;
        };
        changes.push(FlowChange {
            from,
            to,
            service,
            change,
            rule: rule.id,
        });
    }
}
