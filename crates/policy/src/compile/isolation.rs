//! Members that are locked or have lapsed: no rule joins them to anyone but those that a lock keeps.
//!
//! **Invariant:** whoever is locked or has lapsed is at no end of an ordinary rule, and kept by nobody. What is left between them and
//! those they keep are rules of their own, with the number of the rule they are a part of.

use std::borrow::Cow;
use std::collections::{BTreeMap, BTreeSet};

use ringfence_model::NodeId;

use super::LiveRule;
use crate::peer_set::PeerSet;
use crate::policy::Member;
use crate::rule::{Direction, Rule};

/// Who is locked or has lapsed.
#[derive(Debug, Default)]
pub(crate) struct Isolated<'a> {
    all: BTreeSet<NodeId>,
    /// Those who keep the same, if they keep anyone.
    by_keep: BTreeMap<&'a BTreeSet<NodeId>, BTreeSet<NodeId>>,
}

/// Who is left at either end of a rule between some that are locked and those they keep.
pub(crate) struct Remnant {
    pub(crate) openers: BTreeSet<NodeId>,
    pub(crate) targets: BTreeSet<NodeId>,
}

impl<'a> Isolated<'a> {
    pub(crate) fn among(members: &'a [Member]) -> Self {
        let mut isolated = Self::default();
        for member in members {
            let facts = &member.facts;
            if facts.isolation.is_some() || facts.is_lapsed {
                isolated.all.insert(member.id);
            }
            if let Some(isolation) = &facts.isolation
                && !isolation.keep.is_empty()
                && !facts.is_lapsed
            {
                let alike = isolated.by_keep.entry(&isolation.keep).or_default();
                alike.insert(member.id);
            }
        }
        isolated
    }

    /// Those of a group who are not locked.
    pub(crate) fn free<'i>(&self, inside: &'i BTreeSet<NodeId>) -> Cow<'i, BTreeSet<NodeId>> {
        if self.all.is_empty() {
            return Cow::Borrowed(inside);
        }
        Cow::Owned(inside.difference(&self.all).copied().collect())
    }

    /// What is left of a rule between these two groups.
    pub(crate) fn remnants(&self, from: &BTreeSet<NodeId>, to: &BTreeSet<NodeId>) -> Vec<Remnant> {
        let mut remnants = Vec::new();
        for (keep, locked) in &self.by_keep {
            let kept = self.free(keep);
            for (openers, targets) in [(locked, kept.as_ref()), (kept.as_ref(), locked)] {
                let remnant = Remnant {
                    openers: openers.intersection(from).copied().collect(),
                    targets: targets.intersection(to).copied().collect(),
                };
                if !remnant.openers.is_empty() && !remnant.targets.is_empty() {
                    remnants.push(remnant);
                }
            }
        }
        remnants
    }
}

/// Puts together what a node gets of one rule and its remnants, so that it gets no more rules than without locks, in the
/// same order.
pub(crate) fn merge(rules: Vec<Rule>, live: &[LiveRule]) -> Vec<Rule> {
    if live.iter().all(|rule| !rule.is_remnant) {
        return rules;
    }
    let mut merged: BTreeMap<(u32, Direction, Option<u64>), Rule> = BTreeMap::new();
    for rule in rules {
        let key = (rule.id.0, rule.direction, rule.expires.map(|end| end.0));
        match merged.get_mut(&key) {
            Some(known) => {
                let both = known.peers.iter().chain(rule.peers.iter());
                known.peers = both.copied().collect::<PeerSet>();
            }
            None => {
                merged.insert(key, rule);
            }
        }
    }
    merged.into_values().collect()
}
