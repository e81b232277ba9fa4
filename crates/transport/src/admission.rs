//! Bounds what one source may ask for: a token bucket each, in a table that cannot grow.

use std::collections::BTreeMap;
use std::net::{IpAddr, SocketAddr};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

/// Where a datagram comes from, as far as one machine can hide behind many addresses: an IPv4 address, or an IPv6 /64.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Source(u128);

impl Source {
    /// The source that `address` belongs to.
    pub fn of(address: IpAddr) -> Self {
        match address.to_canonical() {
            IpAddr::V4(v4) => Self(v4.to_ipv6_mapped().to_bits()),
            IpAddr::V6(v6) => Self(v6.to_bits() & !u128::from(u64::MAX)),
        }
    }
}

/// An address as it was on the wire: a socket for both families shows IPv4 ones wrapped (RFC 4291 section 2.5.5.2).
pub(crate) fn canonical(address: SocketAddr) -> SocketAddr {
    SocketAddr::new(address.ip().to_canonical(), address.port())
}

/// How much of something each source has under way.
#[derive(Clone, Debug, Default)]
pub struct UnderWay(Arc<Mutex<BTreeMap<Source, usize>>>);

/// One thing under way; over when dropped.
#[derive(Debug)]
pub struct Pass {
    source: Source,
    under_way: UnderWay,
}

impl UnderWay {
    /// How many `source` has under way.
    pub fn count(&self, source: Source) -> usize {
        self.counts().get(&source).copied().unwrap_or(0)
    }

    /// Begins one more. The caller bounds the sum over all sources, and with it this table.
    pub fn begin(&self, source: Source) -> Pass {
        *self.counts().entry(source).or_insert(0) += 1;
        Pass {
            source,
            under_way: self.clone(),
        }
    }

    /// A count is whole between any two statements, so one left by a thread that panicked still holds.
    fn counts(&self) -> MutexGuard<'_, BTreeMap<Source, usize>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Drop for Pass {
    fn drop(&mut self) {
        let mut counts = self.under_way.counts();
        if let Some(count) = counts.get_mut(&self.source) {
            *count -= 1;
            if *count == 0 {
                counts.remove(&self.source);
            }
        }
    }
}

/// A token bucket for each source.
#[derive(Debug)]
pub struct AttemptLimiter {
    burst: u32,
    every: Duration,
    buckets: BTreeMap<Source, Bucket>,
}

#[derive(Clone, Copy, Debug)]
struct Bucket {
    /// When it will be full again.
    full_at: Instant,
}

impl AttemptLimiter {
    /// Lets each source make `burst` attempts at once, and one more `every` so often.
    pub fn new(burst: u32, every: Duration) -> Self {
        Self {
            burst,
            every,
            buckets: BTreeMap::new(),
        }
    }

    /// Counts an attempt; `false` if it is one too many.
    pub fn admit(&mut self, source: Source, now: Instant) -> bool {
        if self.buckets.len() >= SOURCES_MAX && !self.buckets.contains_key(&source) {
            self.make_room(now);
        }
        let bucket = self.buckets.entry(source).or_insert(Bucket { full_at: now });
        let full_at = bucket.full_at.max(now) + self.every;
        if full_at > now + self.every * self.burst {
            return false;
        }
        bucket.full_at = full_at;
        true
    }

    /// Drops what is full again; if nothing is, the one nearest to it, which loses least by being forgotten.
    fn make_room(&mut self, now: Instant) {
        self.buckets.retain(|_, bucket| bucket.full_at > now);
        if self.buckets.len() < SOURCES_MAX {
            return;
        }
        let nearest = self
            .buckets
            .iter()
            .min_by_key(|(_, bucket)| bucket.full_at)
            .map(|(source, _)| *source);
        if let Some(nearest) = nearest {
            self.buckets.remove(&nearest);
        }
    }
}

/// The most sources remembered.
const SOURCES_MAX: usize = 4096;

#[cfg(test)]
mod tests {
    use super::*;

    fn source(n: u32) -> Source {
        Source::of(IpAddr::V4(n.into()))
    }

    #[test]
    fn a_source_spends_its_own_attempts_alone() {
        let now = Instant::now();
        let mut limiter = AttemptLimiter::new(3, Duration::from_secs(1));

        let admitted: Vec<bool> = (0..4).map(|_| limiter.admit(source(1), now)).collect();

        assert_eq!(admitted, [true, true, true, false]);
        assert!(limiter.admit(source(2), now));
        assert!(limiter.admit(source(1), now + Duration::from_secs(1)));
        assert!(!limiter.admit(source(1), now + Duration::from_secs(1)));
    }

    #[test]
    fn addresses_of_one_ipv6_network_are_one_source() {
        let of = |text: &str| Source::of(text.parse().unwrap());

        assert_eq!(of("2001:db8::1"), of("2001:db8::ffff:2"));
        assert_ne!(of("2001:db8::1"), of("2001:db8:0:1::1"));
        assert_eq!(of("::ffff:192.0.2.1"), of("192.0.2.1"));
        assert_ne!(of("192.0.2.1"), of("192.0.2.2"));
    }

    #[test]
    fn what_is_over_leaves_nothing_behind() {
        let under_way = UnderWay::default();

        let passes = [
            under_way.begin(source(1)),
            under_way.begin(source(1)),
            under_way.begin(source(2)),
        ];

        assert_eq!((under_way.count(source(1)), under_way.count(source(2))), (2, 1));
        drop(passes);
        assert_eq!(under_way.count(source(1)), 0);
        assert!(under_way.counts().is_empty());
    }

    #[test]
    fn the_table_does_not_grow_with_the_number_of_sources() {
        let now = Instant::now();
        let mut limiter = AttemptLimiter::new(1, Duration::from_secs(1));

        for n in 0..u32::try_from(SOURCES_MAX).unwrap() + 500 {
            assert!(limiter.admit(source(n), now));
        }

        assert!(limiter.buckets.len() <= SOURCES_MAX);
    }
}
