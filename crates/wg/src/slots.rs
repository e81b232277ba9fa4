//! Peer slots: the upper 24 bits of a receiver index, which route a datagram to its peer.
//!
//! **Invariant:** a slot that was given back is not given out for [`SLOT_REST`], so no late datagram of a removed
//! peer can reach its successor.

use std::collections::{BTreeSet, VecDeque};
use std::time::{Duration, Instant};

use rand::{RngCore as _, SeedableRng as _};
use rand_chacha::ChaCha20Rng;
use ringfence_model::TableSize;

/// Names one peer of one segment, across all segments of a socket.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct PeerSlot(u32);

impl PeerSlot {
    /// The slot in a receiver index.
    pub(crate) const fn from_receiver_index(index: u32) -> Self {
        Self(index >> SESSION_BITS)
    }

    /// The number `Tunn` is made with, which it shifts up to make room for the session.
    pub(crate) fn tunn_index(self) -> u32 {
        self.0
    }
}

/// Gives out slots.
pub(crate) struct Slots {
    /// Slots are drawn at random, so that who has not seen a handshake cannot guess an index.
    draw: ChaCha20Rng,
    /// In use or resting.
    taken: BTreeSet<PeerSlot>,
    resting: VecDeque<(Instant, PeerSlot)>,
}

impl Slots {
    pub(crate) fn new(seed: [u8; 32]) -> Self {
        Self {
            draw: ChaCha20Rng::from_seed(seed),
            taken: BTreeSet::new(),
            resting: VecDeque::new(),
        }
    }

    /// Draws a free slot. `None` when too many are in use or resting.
    pub(crate) fn take(&mut self, now: Instant) -> Option<PeerSlot> {
        self.wake(now);
        if self.taken.len() >= SLOTS_MAX {
            return None;
        }
        // At most one in sixteen is taken: 64 draws all fail once in 2^256.
        (0..DRAWS_MAX)
            .map(|_| PeerSlot(self.draw.next_u32() >> SESSION_BITS))
            .find(|slot| *slot != STRANGER_SLOT && self.taken.insert(*slot))
    }

    /// Gives a slot back; it rests first.
    pub(crate) fn release(&mut self, slot: PeerSlot, now: Instant) {
        debug_assert!(self.taken.contains(&slot));
        self.wake(now);
        self.resting.push_back((now + SLOT_REST, slot));
    }

    pub(crate) fn tables(&self) -> [TableSize; 2] {
        [
            TableSize::new("peer slots", self.taken.len(), SLOTS_MAX),
            TableSize::new("peer slots that rest", self.resting.len(), self.taken.len()),
        ]
    }

    fn wake(&mut self, now: Instant) {
        while let Some(&(until, slot)) = self.resting.front()
            && until <= now
        {
            self.resting.pop_front();
            self.taken.remove(&slot);
        }
    }
}

/// How long a slot rests after its peer left: no session lives longer (3 × `REJECT_AFTER_TIME`, whitepaper 6.3).
pub const SLOT_REST: Duration = Duration::from_mins(9);

/// The slot of [`crate::initiation_to`]: never a peer's.
pub(crate) const STRANGER_SLOT: PeerSlot = PeerSlot(0);

/// The lower bits of a receiver index, which `Tunn` counts sessions with.
const SESSION_BITS: u32 = 8;
/// Slots in use or resting. When full, no peer can be added until one has rested.
pub(crate) const SLOTS_MAX: usize = 1 << 20;
const DRAWS_MAX: usize = 64;

#[cfg(test)]
mod tests {
    use super::*;
    use crate::clock::tests::start;

    #[test]
    fn a_released_slot_rests_for_540_seconds() {
        let now = start();
        let mut slots = Slots::new([1; 32]);
        let slot = slots.take(now).unwrap();

        slots.release(slot, now);
        slots.wake(now + Duration::from_millis(539_999));
        assert!(slots.taken.contains(&slot));

        slots.wake(now + SLOT_REST);
        assert!(!slots.taken.contains(&slot));
    }

    #[test]
    fn slots_are_distinct_and_never_the_strangers() {
        let now = start();
        let mut slots = Slots::new([1; 32]);

        let drawn: BTreeSet<PeerSlot> = (0..10_000).map(|_| slots.take(now).unwrap()).collect();

        assert_eq!(drawn.len(), 10_000);
        assert!(!drawn.contains(&STRANGER_SLOT));
    }

    #[test]
    fn full_means_none_until_a_slot_has_rested() {
        let now = start();
        let mut slots = Slots::new([1; 32]);
        let last = (0..SLOTS_MAX).filter_map(|_| slots.take(now)).last().unwrap();
        assert_eq!(slots.take(now), None);

        slots.release(last, now);
        assert_eq!(slots.take(now), None);
        assert!(slots.take(now + SLOT_REST).is_some());
    }

    #[test]
    fn a_slot_comes_back_out_of_every_index_of_its_sessions() {
        let slot = Slots::new([1; 32]).take(start()).unwrap();

        for session in 0..=255 {
            assert_eq!(
                PeerSlot::from_receiver_index(slot.tunn_index() << 8 | session),
                slot
            );
        }
    }
}
