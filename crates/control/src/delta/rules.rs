//! What changed between two rule lists: mostly the peers of a set that many rules share.

use std::collections::{BTreeMap, BTreeSet};

use ringfence_model::NodeId;
use ringfence_policy::{PeerSet, PeerSetNumbers, Rule};

use super::{DeltaError, PeersEdit, RuleKey, RulesEdit, missing_keys};
use crate::rule_list::RuleList;

impl RulesEdit {
    pub(super) fn between(old: &[Rule], new: &[Rule]) -> Self {
        let (Some(before), Some(after)) = (by_key(old), by_key(new)) else {
            return Self {
                replace: Some(RuleList(new.to_vec())),
                ..Self::default()
            };
        };
        let sets = SetChanges::between(old, &before, &after);
        let mut put = Vec::new();
        for (key, rule) in &after {
            let follows = before
                .get(key)
                .is_some_and(|old| same_but_for_peers(old, rule) && sets.lead(old, rule));
            if !follows {
                put.push((*rule).clone());
            }
        }
        Self {
            replace: None,
            removed: missing_keys(&before, &after),
            peers: sets.edits(),
            put: (!put.is_empty()).then_some(RuleList(put)),
        }
    }

    pub(super) fn apply(&self, rules: &mut Vec<Rule>) -> Result<(), DeltaError> {
        if let Some(RuleList(whole)) = &self.replace {
            rules.clone_from(whole);
            return Ok(());
        }
        self.change_sets(rules)?;
        let mut map: BTreeMap<RuleKey, Rule> = std::mem::take(rules)
            .into_iter()
            .map(|rule| (RuleKey::of(&rule), rule))
            .collect();
        for key in &self.removed {
            map.remove(key).ok_or(DeltaError::Misfit)?;
        }
        for rule in self.put.iter().flat_map(|put| &put.0) {
            map.insert(RuleKey::of(rule), rule.clone());
        }
        rules.extend(map.into_values());
        if self.put.is_some() {
            share_sets(rules);
        }
        Ok(())
    }

    fn change_sets(&self, rules: &mut [Rule]) -> Result<(), DeltaError> {
        if self.peers.is_empty() {
            return Ok(());
        }
        let numbers = set_numbers(rules);
        let sets = numbers.iter().max().map_or(0, |most| *most as usize + 1);
        let mut edits: Vec<Option<&PeersEdit>> = vec![None; sets];
        for edit in &self.peers {
            let place = edits.get_mut(edit.set as usize).ok_or(DeltaError::Misfit)?;
            *place = Some(edit);
        }
        let mut changed: Vec<Option<PeerSet>> = vec![None; sets];
        for (rule, number) in rules.iter_mut().zip(numbers) {
            if let Some(edit) = edits[number as usize] {
                let set = changed[number as usize].get_or_insert_with(|| edit.apply(&rule.peers));
                rule.peers = set.clone();
            }
        }
        Ok(())
    }
}

impl PeersEdit {
    fn between(set: u32, old: &PeerSet, new: &PeerSet) -> Self {
        let but = |these: &PeerSet, those: &PeerSet| -> BTreeSet<NodeId> {
            let left = these.iter().filter(|peer| !those.contains(**peer));
            left.copied().collect()
        };
        Self {
            set,
            removed: but(old, new),
            added: but(new, old),
        }
    }

    fn apply(&self, old: &PeerSet) -> PeerSet {
        let left = old.iter().filter(|peer| !self.removed.contains(peer));
        left.chain(&self.added).copied().collect()
    }
}

/// Which set each set of the old list becomes, for most of its rules.
struct SetChanges<'a> {
    /// By number in the old list; nothing for one whose rules are all gone.
    becomes: Vec<Option<(&'a PeerSet, &'a PeerSet)>>,
    numbers: BTreeMap<RuleKey, u32>,
}

impl<'a> SetChanges<'a> {
    fn between(
        old: &'a [Rule],
        before: &BTreeMap<RuleKey, &'a Rule>,
        after: &BTreeMap<RuleKey, &'a Rule>,
    ) -> Self {
        let keys = old.iter().map(RuleKey::of);
        let numbers: BTreeMap<RuleKey, u32> = keys.zip(set_numbers(old)).collect();
        let mut arrivals = PeerSetNumbers::default();
        let mut votes: BTreeMap<(u32, u32), usize> = BTreeMap::new();
        let mut sets: Vec<Option<&'a PeerSet>> = Vec::new();
        for (key, rule) in before {
            let number = numbers[key];
            sets.resize(sets.len().max(number as usize + 1), None);
            sets[number as usize] = Some(&rule.peers);
            if let Some(new) = after.get(key).filter(|new| same_but_for_peers(rule, new)) {
                *votes.entry((number, arrivals.number(&new.peers))).or_default() += 1;
            }
        }
        let mut most: Vec<(usize, Option<&'a PeerSet>)> = vec![(0, None); sets.len()];
        for ((number, arrival), count) in votes {
            let leader = &mut most[number as usize];
            if count > leader.0 {
                *leader = (count, Some(arrivals.sets()[arrival as usize]));
            }
        }
        let becomes = sets
            .into_iter()
            .zip(most)
            .map(|(old, (_, new))| Some((old?, new?)));
        Self {
            becomes: becomes.collect(),
            numbers,
        }
    }

    /// Whether the change of its set makes `old` into `new`.
    fn lead(&self, old: &Rule, new: &Rule) -> bool {
        let number = self.numbers.get(&RuleKey::of(old));
        let change = number.and_then(|number| self.becomes[*number as usize]);
        change.is_some_and(|(_, arrival)| *arrival == new.peers)
    }

    fn edits(&self) -> Vec<PeersEdit> {
        let changes = self
            .becomes
            .iter()
            .zip(0..)
            .filter_map(|(change, number)| Some((number, (*change)?)));
        changes
            .filter(|(_, (old, new))| old != new)
            .map(|(number, (old, new))| PeersEdit::between(number, old, new))
            .collect()
    }
}

impl RuleKey {
    fn of(rule: &Rule) -> Self {
        Self {
            id: rule.id,
            direction: rule.direction,
            expires: rule.expires,
        }
    }
}

/// The number of each rule's set, in the order in which the list brings them up.
fn set_numbers(rules: &[Rule]) -> Vec<u32> {
    let mut numbers = PeerSetNumbers::default();
    rules.iter().map(|rule| numbers.number(&rule.peers)).collect()
}

/// Makes equal sets one in memory: those that came with a delta are not yet those that were there.
fn share_sets(rules: &mut [Rule]) {
    let numbers = set_numbers(rules);
    let mut sets: BTreeMap<u32, PeerSet> = BTreeMap::new();
    for (rule, number) in rules.iter_mut().zip(numbers) {
        rule.peers = sets.entry(number).or_insert_with(|| rule.peers.clone()).clone();
    }
}

/// The rules by key, if the list is in the one order that a map gives back, which is that of compiling: each key once,
/// ascending.
fn by_key(rules: &[Rule]) -> Option<BTreeMap<RuleKey, &Rule>> {
    if !rules.is_sorted_by(|a, b| RuleKey::of(a) < RuleKey::of(b)) {
        return None;
    }
    Some(rules.iter().map(|rule| (RuleKey::of(rule), rule)).collect())
}

/// Of two rules with one key.
fn same_but_for_peers(old: &Rule, new: &Rule) -> bool {
    old.services == new.services
}
