//! The clock that leases, rules, flows and sessions are counted by.
//!
//! **Invariant:** it never goes back, nobody can set it, and it goes on while the machine sleeps: a laptop that wakes
//! after a night finds its leases over. `Instant::now` stands still meanwhile (`CLOCK_MONOTONIC`).

use std::sync::OnceLock;
use std::time::{Duration, Instant};

use rustix::time::{ClockId, clock_gettime};

/// Now, for everything that the data plane is told.
pub(crate) fn now() -> Instant {
    static FIRST: OnceLock<(Instant, Duration)> = OnceLock::new();
    let boot = since_boot();
    let (instant, first) = FIRST.get_or_init(|| (Instant::now(), boot));
    instant_at(*instant, *first, boot)
}

/// Time since the machine started, sleep included.
pub(crate) fn since_boot() -> Duration {
    let boot = clock_gettime(ClockId::Boottime);
    Duration::new(
        boot.tv_sec.unsigned_abs(),
        u32::try_from(boot.tv_nsec).unwrap_or(0),
    )
}

/// The instant at `boot`, if `instant` was at `first`.
fn instant_at(instant: Instant, first: Duration, boot: Duration) -> Instant {
    instant + boot.saturating_sub(first)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_night_asleep_counts() {
        let evening = Instant::now();
        let first = Duration::from_secs(1_000);

        let morning = instant_at(evening, first, first + Duration::from_hours(9));

        assert_eq!(morning - evening, Duration::from_hours(9));
    }

    #[test]
    fn it_never_goes_back() {
        let earlier = now();

        assert!(now() >= earlier);
    }
}
