//! The peers at the other end of a rule: a list that all the rules of one group share.
//!
//! **Invariant:** a set is sorted and lists nobody twice, so that equal sets are written alike.

use std::collections::BTreeMap;
use std::ops::Deref;
use std::sync::Arc;

use ringfence_model::NodeId;

/// The peers at the other end of a rule. A clone is a reference: ten thousand rules for one group hold one list.
#[derive(Clone, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub struct PeerSet(Arc<Vec<NodeId>>);

impl PeerSet {
    /// Whether `peer` is one of them.
    pub fn contains(&self, peer: NodeId) -> bool {
        self.0.binary_search(&peer).is_ok()
    }

    fn address(&self) -> usize {
        Arc::as_ptr(&self.0).addr()
    }
}

impl Deref for PeerSet {
    type Target = [NodeId];

    fn deref(&self) -> &[NodeId] {
        &self.0
    }
}

impl From<Vec<NodeId>> for PeerSet {
    fn from(mut peers: Vec<NodeId>) -> Self {
        if !peers.is_sorted_by(|a, b| a < b) {
            peers.sort_unstable();
            peers.dedup();
        }
        Self(Arc::new(peers))
    }
}

impl FromIterator<NodeId> for PeerSet {
    fn from_iter<I: IntoIterator<Item = NodeId>>(peers: I) -> Self {
        Self::from(peers.into_iter().collect::<Vec<NodeId>>())
    }
}

/// Numbers distinct sets, in the order in which they come up.
#[derive(Debug, Default)]
pub struct PeerSetNumbers<'a> {
    /// Most sets that come up again are the same one in memory: those need not be compared.
    by_address: BTreeMap<usize, u32>,
    by_peers: BTreeMap<&'a [NodeId], u32>,
    sets: Vec<&'a PeerSet>,
}

impl<'a> PeerSetNumbers<'a> {
    /// The number of `set`: of an equal one that came up before, or the next.
    pub fn number(&mut self, set: &'a PeerSet) -> u32 {
        if let Some(number) = self.by_address.get(&set.address()) {
            return *number;
        }
        let next = u32::try_from(self.sets.len()).expect("sets of 2^32 do not fit memory");
        let number = *self.by_peers.entry(set).or_insert(next);
        if number == next {
            self.sets.push(set);
        }
        self.by_address.insert(set.address(), number);
        number
    }

    /// The sets, by number.
    pub fn sets(&self) -> &[&'a PeerSet] {
        &self.sets
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn set(peers: &[u64]) -> PeerSet {
        peers.iter().copied().map(NodeId).collect()
    }

    #[test]
    fn a_set_is_sorted_and_lists_nobody_twice() {
        assert_eq!(*set(&[3, 1, 3, 2]), [NodeId(1), NodeId(2), NodeId(3)]);
        assert!(set(&[3, 1]).contains(NodeId(3)) && !set(&[3, 1]).contains(NodeId(2)));
    }

    #[test]
    fn equal_sets_have_one_number_whether_or_not_they_are_one_in_memory() {
        let (first, twin, other) = (set(&[1, 2]), set(&[2, 1]), set(&[1]));
        let shared = first.clone();
        let mut numbers = PeerSetNumbers::default();

        let told = [&other, &first, &shared, &twin, &other].map(|set| numbers.number(set));

        assert_eq!(told, [0, 1, 1, 1, 0]);
        assert_eq!(numbers.sets(), [&other, &first]);
    }
}
