//! A token bucket.
//!
//! **Invariant:** it never holds more than its allowance's burst, whatever time is handed in.

use std::time::Instant;

/// How much a bucket lets through.
#[derive(Clone, Copy)]
pub(crate) struct Allowance {
    /// In the long run.
    pub(crate) per_second: u32,
    /// At once, after a rest.
    pub(crate) burst: u32,
}

/// What is left of one allowance.
#[derive(Clone, Copy)]
pub(crate) struct Bucket {
    /// In thousandths, so that refilling each millisecond loses nothing.
    tokens: u64,
    refilled_at: Instant,
}

impl Bucket {
    /// A full bucket.
    pub(crate) fn full(allowance: Allowance, now: Instant) -> Self {
        Self {
            tokens: u64::from(allowance.burst) * TOKEN,
            refilled_at: now,
        }
    }

    /// Takes one token if there is one.
    pub(crate) fn take(&mut self, allowance: Allowance, now: Instant) -> Option<()> {
        let ms = now.saturating_duration_since(self.refilled_at).as_millis();
        let ms = u64::try_from(ms).unwrap_or(u64::MAX);
        if ms > 0 {
            // One token a second is one thousandth a millisecond.
            let refill = ms.saturating_mul(u64::from(allowance.per_second));
            self.tokens = self
                .tokens
                .saturating_add(refill)
                .min(u64::from(allowance.burst) * TOKEN);
            self.refilled_at = now;
        }
        self.tokens = self.tokens.checked_sub(TOKEN)?;
        Some(())
    }
}

const TOKEN: u64 = 1_000;

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;
    use crate::clock::tests::start;

    const ALLOWANCE: Allowance = Allowance {
        per_second: 10,
        burst: 5,
    };

    fn taken(bucket: &mut Bucket, now: Instant) -> usize {
        std::iter::from_fn(|| bucket.take(ALLOWANCE, now))
            .take(1_000)
            .count()
    }

    #[test]
    fn gives_its_burst_then_its_rate() {
        let now = start();
        let mut bucket = Bucket::full(ALLOWANCE, now);

        assert_eq!(taken(&mut bucket, now), 5);
        assert_eq!(taken(&mut bucket, now + Duration::from_millis(200)), 2);
    }

    #[test]
    fn never_saves_more_than_its_burst() {
        let now = start();
        let mut bucket = Bucket::full(ALLOWANCE, now);

        assert_eq!(taken(&mut bucket, now + Duration::from_hours(24)), 5);
    }

    #[test]
    fn time_handed_in_backwards_refills_nothing() {
        let earlier = start();
        let now = earlier + Duration::from_secs(50);
        let mut bucket = Bucket::full(ALLOWANCE, now);
        taken(&mut bucket, now);

        assert_eq!(taken(&mut bucket, earlier), 0);
    }

    #[test]
    fn frequent_asking_does_not_slow_the_refill() {
        let now = start();
        let mut bucket = Bucket::full(ALLOWANCE, now);
        taken(&mut bucket, now);

        let granted: usize = (1..=1_000)
            .map(|ms| taken(&mut bucket, now + Duration::from_millis(ms)))
            .sum();

        assert_eq!(granted, 10);
    }
}
