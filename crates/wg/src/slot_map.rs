//! A table by peer slot: one probe, however many peers there are.
//!
//! **Invariant:** it cannot be walked, so that the order of a hash decides nothing.

use hashbrown::HashTable;

use crate::slots::PeerSlot;

/// What is kept for each of some peers.
#[derive(Debug)]
pub struct SlotMap<V>(HashTable<(PeerSlot, V)>);

impl<V> SlotMap<V> {
    /// What is kept for this peer.
    pub fn get(&self, slot: PeerSlot) -> Option<&V> {
        let found = self.0.find(hash(slot), |(other, _)| *other == slot);
        found.map(|(_, value)| value)
    }

    /// As [`Self::get`], to change it.
    pub fn get_mut(&mut self, slot: PeerSlot) -> Option<&mut V> {
        let found = self.0.find_mut(hash(slot), |(other, _)| *other == slot);
        found.map(|(_, value)| value)
    }

    /// Keeps something for a peer, instead of what was kept before.
    pub fn insert(&mut self, slot: PeerSlot, value: V) {
        if let Some(before) = self.get_mut(slot) {
            *before = value;
            return;
        }
        self.0
            .insert_unique(hash(slot), (slot, value), |(other, _)| hash(*other));
    }

    /// Takes out what is kept for a peer.
    pub fn remove(&mut self, slot: PeerSlot) -> Option<V> {
        let found = self.0.find_entry(hash(slot), |(other, _)| *other == slot);
        let ((_, value), _) = found.ok()?.remove();
        Some(value)
    }

    /// For how many peers something is kept.
    pub fn len(&self) -> usize {
        self.0.len()
    }

    /// Whether nothing is.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }
}

impl<V> Default for SlotMap<V> {
    fn default() -> Self {
        Self(HashTable::new())
    }
}

/// Spreads slots over the table, whose place comes of the low bits and whose tag of the high ones. No key is needed:
/// slots are drawn by us at random, so nobody chooses some that collide.
fn hash(slot: PeerSlot) -> u64 {
    let mixed = u64::from(slot.tunn_index()).wrapping_mul(GOLDEN_RATIO);
    mixed ^ (mixed >> 32)
}

/// 2^64 divided by it: Knuth's multiplier.
const GOLDEN_RATIO: u64 = 0x9e37_79b9_7f4a_7c15;

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn it_keeps_what_an_ordered_map_keeps(steps in proptest::collection::vec((0..40_u32, any::<Option<u8>>()), 0..200)) {
            let mut map = SlotMap::default();
            let mut ordered = BTreeMap::new();
            for (number, value) in steps {
                let slot = PeerSlot::from_receiver_index(number << 8);
                if let Some(value) = value {
                    map.insert(slot, value);
                    ordered.insert(slot, value);
                } else {
                    prop_assert_eq!(map.remove(slot), ordered.remove(&slot));
                }
                prop_assert_eq!(map.get(slot), ordered.get(&slot));
                prop_assert_eq!(map.len(), ordered.len());
            }
        }
    }
}
