//! Until when a segment is open without word from the controller.
//!
//! **Invariant:** a lease counts on the monotonic clock: setting the wall clock neither ends nor stretches it.

use std::time::{Duration, Instant};

use ringfence_model::sabotage::{Safeguard, is_off};

/// One segment's lease. At its end the segment is closed, to the nanosecond.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Lease {
    length: Duration,
    ends: Instant,
}

impl Lease {
    /// One of which `spent` is gone already.
    pub(crate) fn new(length: Duration, spent: Duration, now: Instant) -> Self {
        let length = length.min(LEASE_MAX);
        Self {
            length,
            ends: now + length.saturating_sub(spent),
        }
    }

    /// The controller spoke: the whole length counts from now.
    pub(crate) fn renew(&mut self, now: Instant) {
        self.ends = now + self.length;
    }

    /// The controller took it back.
    pub(crate) fn end(&mut self, now: Instant) {
        self.ends = self.ends.min(now);
    }

    /// When it ends.
    pub(crate) fn ends(self) -> Instant {
        self.ends
    }

    /// Whether it has ended.
    pub(crate) fn has_ended(self, now: Instant) -> bool {
        now >= self.ends && !is_off(Safeguard::Lease)
    }

    /// What is left of it.
    pub(crate) fn left(self, now: Instant) -> Duration {
        self.ends.saturating_duration_since(now)
    }
}

/// The longest lease a policy may ask for is a day; one that never ends would be no lease.
const LEASE_MAX: Duration = Duration::from_hours(24);
