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
    read(ClockId::Boottime)
}

fn read(clock: ClockId) -> Duration {
    let time = clock_gettime(clock);
    Duration::new(
        time.tv_sec.unsigned_abs(),
        u32::try_from(time.tv_nsec).unwrap_or(0),
    )
}

/// Notices that the machine has slept: what waits in the kernel, by another clock than this one, waits on then.
pub(crate) struct SleepWatch {
    slept: Duration,
}

impl Default for SleepWatch {
    /// From now on.
    fn default() -> Self {
        Self { slept: slept() }
    }
}

impl SleepWatch {
    /// Whether it slept since it was last asked this.
    pub(crate) fn has_slept(&mut self) -> bool {
        self.notices(slept())
    }

    fn notices(&mut self, slept: Duration) -> bool {
        let before = std::mem::replace(&mut self.slept, slept);
        slept.saturating_sub(before) >= SLEEP_MIN
    }
}

/// How long the machine has slept since it started.
fn slept() -> Duration {
    let awake = read(ClockId::Monotonic);
    since_boot().saturating_sub(awake)
}

/// The two clocks are not read at once.
const SLEEP_MIN: Duration = Duration::from_millis(100);

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
    fn a_sleep_is_noticed_once() {
        let mut watch = SleepWatch::default();
        assert!(!watch.has_slept());

        let night = watch.slept + Duration::from_hours(9);
        assert!(watch.notices(night));
        assert!(!watch.notices(night + Duration::from_micros(5)));
    }

    #[test]
    fn it_never_goes_back() {
        let earlier = now();

        assert!(now() >= earlier);
    }
}
