//! Those at one end of a rule: who of its group meets what the rule asks, and until when each does.
//!
//! **Invariant:** whoever holds by the clock's leave has an end, and who waits for the clock does not hold.

use std::collections::{BTreeMap, BTreeSet};

use ringfence_model::{NodeId, UnixMillis};

use crate::facts::UserFacts;
use crate::peer_set::PeerSet;
use crate::policy::{Group, GroupMembers, Member};
use crate::require::{End, Requirement, Standing, earliest};

/// Who of a group may use a rule, at the moment it was compiled for.
#[derive(Clone, Debug, Default, PartialEq)]
pub(crate) struct Holders {
    /// Until a fact changes.
    steady: PeerSet,
    /// Until the clock says otherwise.
    ending: BTreeMap<NodeId, UnixMillis>,
    /// The same, by end.
    by_end: BTreeMap<UnixMillis, PeerSet>,
    /// Not yet: from then on.
    opening: BTreeMap<NodeId, UnixMillis>,
}

impl Holders {
    /// All of a group of nodes: nothing is asked of them.
    pub(crate) fn all(inside: &BTreeSet<NodeId>) -> Self {
        Self {
            steady: inside.iter().copied().collect(),
            ..Self::default()
        }
    }

    /// Those of a group who meet what is asked. `inside` are its members at `wall`.
    pub(crate) fn of<'m>(
        group: &Group,
        require: Option<&Requirement>,
        inside: impl Iterator<Item = &'m Member>,
        wall: UnixMillis,
    ) -> Self {
        // The hours are the same for all.
        let hours = require.and_then(|require| require.hours.as_ref());
        let hours = hours.map(|hours| hours.standing(wall));
        let (mut holders, mut steady) = (Self::default(), Vec::new());
        for member in inside {
            let leaves = match &group.members {
                GroupMembers::Nodes(_) | GroupMembers::Node(_) => None,
                GroupMembers::Users(_) | GroupMembers::PersonAt(_) => {
                    member.facts.person(wall).map(UserFacts::ends)
                }
            };
            let standing = require.map(|require| require.standing_in(hours, &member.facts, wall));
            match standing.unwrap_or(Standing::ALWAYS) {
                Standing { holds: true, until } => match earliest(until, leaves) {
                    Some(end) => {
                        holders.ending.insert(member.id, end);
                    }
                    None => steady.push(member.id),
                },
                Standing {
                    holds: false,
                    until: Some(opens),
                } if leaves.is_none_or(|leaves| opens < leaves) => {
                    holders.opening.insert(member.id, opens);
                }
                Standing { holds: false, .. } => {}
            }
        }
        holders.steady = PeerSet::from(steady);
        holders.by_end = by_end(&holders.ending);
        holders
    }

    /// Until when this one holds; `None` if it does not.
    pub(crate) fn end_of(&self, node: NodeId) -> Option<End> {
        match self.ending.get(&node) {
            Some(end) => Some(Some(*end)),
            None => self.steady.contains(node).then_some(None),
        }
    }

    /// Whether nobody's end comes by the clock.
    pub(crate) fn are_steady(&self) -> bool {
        self.ending.is_empty()
    }

    pub(crate) fn iter(&self) -> impl Iterator<Item = NodeId> {
        self.steady.iter().chain(self.ending.keys()).copied()
    }

    /// Everyone but `node`, by the end that comes first: theirs, or `cap`.
    pub(crate) fn but(&self, node: NodeId, cap: End) -> Vec<(End, PeerSet)> {
        let mut by_end: BTreeMap<End, Vec<PeerSet>> = BTreeMap::new();
        let ending = self
            .by_end
            .iter()
            .map(|(end, set)| (earliest(Some(*end), cap), set));
        for (end, set) in std::iter::once((cap, &self.steady)).chain(ending) {
            let set = without(set, node);
            if !set.is_empty() {
                by_end.entry(end).or_default().push(set);
            }
        }
        by_end.into_iter().map(|(end, sets)| (end, union(sets))).collect()
    }

    /// The next moment at which the clock changes which of these are joined to one of `others`.
    pub(crate) fn next_change(&self, others: &Self) -> End {
        let closing = self.ending.iter().filter(|(id, end)| {
            let last = others.last_end_but(**id);
            last.is_some_and(|last| last.is_none_or(|last| last >= **end))
        });
        let opening = self.opening.iter().filter(|(id, opens)| {
            let last = others.last_end_but(**id);
            last.is_some_and(|last| last.is_none_or(|last| last > **opens))
        });
        closing.chain(opening).map(|(_, at)| *at).min()
    }

    /// The nodes whose standing is another than in `before`.
    pub(crate) fn changed_since<'a>(&'a self, before: &'a Self) -> impl Iterator<Item = NodeId> + 'a {
        let gone = before.iter().filter(|id| self.end_of(*id).is_none());
        gone.chain(self.iter().filter(|id| self.end_of(*id) != before.end_of(*id)))
    }

    /// When the last of those other than `node` ends; `None` if there is nobody else.
    fn last_end_but(&self, node: NodeId) -> Option<End> {
        let is_other = |set: &PeerSet| set.iter().any(|id| *id != node);
        if is_other(&self.steady) {
            return Some(None);
        }
        let mut ends = self.by_end.iter().rev();
        ends.find(|(_, set)| is_other(set)).map(|(end, _)| Some(*end))
    }
}

fn by_end(ending: &BTreeMap<NodeId, UnixMillis>) -> BTreeMap<UnixMillis, PeerSet> {
    let mut by_end: BTreeMap<UnixMillis, Vec<NodeId>> = BTreeMap::new();
    for (id, end) in ending {
        by_end.entry(*end).or_default().push(*id);
    }
    by_end
        .into_iter()
        .map(|(end, ids)| (end, PeerSet::from(ids)))
        .collect()
}

/// The same set in memory, unless `node` is in it.
fn without(set: &PeerSet, node: NodeId) -> PeerSet {
    if !set.contains(node) {
        return set.clone();
    }
    set.iter().copied().filter(|peer| *peer != node).collect()
}

fn union(mut sets: Vec<PeerSet>) -> PeerSet {
    match (sets.pop(), sets.is_empty()) {
        (Some(only), true) => only,
        (last, _) => sets
            .iter()
            .chain(&last)
            .flat_map(|set| set.iter().copied())
            .collect(),
    }
}
