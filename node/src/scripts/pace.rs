//! When a script runs again.
//!
//! **Invariant:** a script takes no more than a twentieth of the time, unless a check asks for what it says more often.

use std::time::{Duration, Instant};

use super::signed::Stamp;

/// How the last run of a script went.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct LastRun {
    /// What all files it depends on were like.
    pub(super) stamp: Stamp,
    pub(super) began: Instant,
    pub(super) took: Duration,
    pub(super) told: Told,
}

/// Whether a run gave a value.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Told {
    Something,
    Nothing,
}

impl LastRun {
    /// Whether the script is to run at `now`, of which an answer may be as old as `every`.
    pub(super) fn is_over(&self, stamp: &Stamp, every: Duration, now: Instant) -> bool {
        let rest = self.took * SHARE;
        let rest = match self.told {
            Told::Something => rest.min(every),
            // Nothing goes stale by waiting.
            Told::Nothing => rest,
        };
        *stamp != self.stamp || now.saturating_duration_since(self.began) >= rest.max(EVERY_MIN)
    }
}

/// One part in so many of the time.
const SHARE: u32 = 20;
/// The node asks every two seconds: a little less, so that none of its rounds is missed by a hair.
const EVERY_MIN: Duration = Duration::from_millis(1900);

#[cfg(test)]
mod tests {
    use super::*;

    fn last(took: Duration, told: Told) -> (LastRun, Instant) {
        let began = Instant::now();
        let stamp = Stamp::default();
        let last = LastRun {
            stamp,
            began,
            took,
            told,
        };
        (last, began)
    }

    fn next(last: &LastRun, every: Duration) -> Duration {
        let over = |ms: &u64| last.is_over(&last.stamp, every, last.began + Duration::from_millis(*ms));
        Duration::from_millis((0..1_000_000).step_by(100).find(over).unwrap())
    }

    #[test]
    fn a_quick_script_runs_with_every_round_and_a_slow_one_as_often_as_a_check_needs() {
        let minute = Duration::from_mins(1);
        let (quick, _) = last(Duration::from_millis(5), Told::Something);
        let (slow, _) = last(Duration::from_secs(1), Told::Something);

        assert_eq!(next(&quick, minute), EVERY_MIN);
        assert_eq!(next(&slow, minute), Duration::from_secs(20));
        assert_eq!(next(&slow, Duration::from_secs(3)), Duration::from_secs(3));
    }

    #[test]
    fn one_that_hangs_is_let_be_until_a_file_of_its_changes() {
        let (hanging, began) = last(Duration::from_secs(10), Told::Nothing);

        assert_eq!(next(&hanging, Duration::from_secs(3)), Duration::from_secs(200));
        let other = Stamp::of(&[std::path::Path::new("/")]);
        assert!(hanging.is_over(&other, Duration::from_mins(1), began));
    }
}
