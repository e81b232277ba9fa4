//! When each peer is ticked next: only those that have something to do, so that idle ones cost nothing.
//!
//! **Invariant:** a peer is in here at most once, at the moment that it holds in `alarm`. Alarms go off on a grid of
//! [`TICK`], so however many peers there are, the shell is not woken more often than that.

use std::collections::BTreeSet;
use std::time::{Duration, Instant};

use crate::slots::PeerSlot;

/// The alarms of all peers.
#[derive(Default)]
pub(crate) struct Alarms {
    queue: BTreeSet<(Instant, PeerSlot)>,
    /// Where the grid begins; `None` before the first alarm.
    grid: Option<Instant>,
}

impl Alarms {
    /// Moves a peer's alarm to when `due` is, at the earliest the next point of the grid. When it goes off.
    pub(crate) fn set(
        &mut self,
        slot: PeerSlot,
        before: Option<Instant>,
        due: Option<Instant>,
        now: Instant,
    ) -> Option<Instant> {
        let after = due.map(|due| self.on_grid(due, now));
        if before != after {
            if let Some(before) = before {
                self.forget(slot, before);
            }
            self.queue.extend(after.map(|after| (after, slot)));
        }
        after
    }

    /// Takes a peer's alarm away.
    pub(crate) fn forget(&mut self, slot: PeerSlot, alarm: Instant) {
        self.queue.remove(&(alarm, slot));
    }

    /// Takes out whose alarms go off by `now`, in order.
    pub(crate) fn due(&mut self, now: Instant) -> Vec<PeerSlot> {
        let due: Vec<_> = self
            .queue
            .iter()
            .take_while(|(at, _)| *at <= now)
            .copied()
            .collect();
        for alarm in &due {
            self.queue.remove(alarm);
        }
        due.into_iter().map(|(_, slot)| slot).collect()
    }

    /// When the next one goes off.
    pub(crate) fn next(&self) -> Option<Instant> {
        self.queue.first().map(|(at, _)| *at)
    }

    pub(crate) fn len(&self) -> usize {
        self.queue.len()
    }

    fn on_grid(&mut self, due: Instant, now: Instant) -> Instant {
        let grid = *self.grid.get_or_insert(now);
        let since = |at: Instant| at.saturating_duration_since(grid).as_nanos();
        let wanted = since(due).div_ceil(TICK.as_nanos());
        let place = wanted.max(since(now) / TICK.as_nanos() + 1);
        // 2^32 ticks are 27 years.
        grid + TICK * u32::try_from(place).unwrap_or(u32::MAX)
    }
}

/// How often one peer is ticked at most, and all are. A fifth of a second, as boringtun's own resolution is a quarter.
pub(crate) const TICK: Duration = Duration::from_millis(200);

#[cfg(test)]
mod tests {
    use super::*;
    use crate::clock::tests::start;

    fn slot(number: u32) -> PeerSlot {
        PeerSlot::from_receiver_index(number << 8)
    }

    #[test]
    fn alarms_go_off_on_a_grid_and_never_too_early() {
        let now = start();
        let mut alarms = Alarms::default();
        let set = |alarms: &mut Alarms, number, due| {
            let due = now + Duration::from_millis(due);
            alarms.set(slot(number), None, Some(due), now).unwrap()
        };

        assert_eq!(set(&mut alarms, 1, 0), now + TICK);
        assert_eq!(set(&mut alarms, 2, 201), now + 2 * TICK);
        assert_eq!(set(&mut alarms, 3, 400), now + 2 * TICK);

        assert_eq!(alarms.due(now + TICK), [slot(1)]);
        assert_eq!(alarms.next(), Some(now + 2 * TICK));
        assert_eq!(alarms.due(now + Duration::from_mins(1)).len(), 2);
        assert_eq!(alarms.len(), 0);
    }

    #[test]
    fn a_peer_has_one_alarm_and_loses_it() {
        let now = start();
        let mut alarms = Alarms::default();
        let far = alarms.set(slot(1), None, Some(now + Duration::from_mins(1)), now);
        let near = alarms.set(slot(1), far, Some(now), now);

        assert_eq!((alarms.len(), alarms.next()), (1, near));
        assert_eq!(alarms.set(slot(1), near, None, now), None);
        assert_eq!(alarms.len(), 0);
    }
}
