//! Limits how many handshake initiations one source address may make us look at.
//!
//! Stands before everything that costs: without the receiver's public key an outsider gets as far as this and the
//! `mac1` scan; with it, only this bounds how often it makes us compute Curve25519.
//!
//! **Invariant:** strangers cannot push a proven source out: they live in different tables.

use std::collections::BTreeMap;
use std::net::IpAddr;
use std::time::Instant;

use ringfence_model::TableSize;

use crate::bucket::{Allowance, Bucket};

/// A bucket for every source heard of lately.
#[derive(Default)]
pub(crate) struct SourceBuckets {
    strangers: Generations,
    proven: Generations,
    /// Of sources that ran dry and came back with a cookie: forged ones cannot spend these.
    returned: Generations,
}

/// What is known of a source.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Standing {
    /// A peer of ours was authenticated at this address lately.
    Proven,
    /// Nobody we know; the address may be forged.
    Stranger,
}

/// A source that has no initiation left.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Dry(pub(crate) Standing);

impl SourceBuckets {
    /// Spends one initiation of this source.
    pub(crate) fn take(&mut self, src: IpAddr, now: Instant) -> Result<Standing, Dry> {
        let source = Source::of(src);
        let (bucket, standing) = match self.proven.find(source) {
            Some(bucket) => (bucket, Standing::Proven),
            None => (self.strangers.find_or_add(source, now), Standing::Stranger),
        };
        bucket.take(PER_SOURCE, now).ok_or(Dry(standing))?;
        Ok(standing)
    }

    /// Spends one initiation of a source that ran dry and has shown a cookie. `None` if those are gone too.
    pub(crate) fn take_returned(&mut self, src: IpAddr, now: Instant) -> Option<()> {
        self.returned
            .find_or_add(Source::of(src), now)
            .take(PER_SOURCE, now)
    }

    pub(crate) fn tables(&self) -> [TableSize; 3] {
        let of = |table, generations: &Generations| {
            let len = generations.young.len() + generations.old.len();
            TableSize::new(table, len, 2 * GENERATION_MAX)
        };
        [
            of("sources of handshakes", &self.strangers),
            of("sources of handshakes that are peers", &self.proven),
            of("sources of handshakes with a cookie", &self.returned),
        ]
    }

    /// Remembers that a peer authenticated at this address, so that a flood by strangers does not delay it.
    pub(crate) fn prove(&mut self, src: IpAddr, now: Instant) {
        self.proven.find_or_add(Source::of(src), now);
    }
}

/// One IPv4 address, or one IPv6 /64: the least that one party holds.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
struct Source(u64);

impl Source {
    fn of(address: IpAddr) -> Self {
        match address.to_canonical() {
            // As prefixes these would begin with 32 zero bits, which no global IPv6 address does: they never meet.
            IpAddr::V4(v4) => Self(u64::from(u32::from(v4))),
            IpAddr::V6(v6) => Self((u128::from(v6) >> 64) as u64),
        }
    }
}

/// Buckets in two halves: when the younger is full it becomes the older, and the older is forgotten.
///
/// A forgotten source starts with a full bucket again; one that keeps asking is moved to the younger half and is
/// not forgotten.
#[derive(Default)]
struct Generations {
    young: BTreeMap<Source, Bucket>,
    old: BTreeMap<Source, Bucket>,
}

impl Generations {
    fn find(&mut self, source: Source) -> Option<&mut Bucket> {
        if let Some(bucket) = self.old.remove(&source) {
            self.add(source, bucket);
        }
        self.young.get_mut(&source)
    }

    fn find_or_add(&mut self, source: Source, now: Instant) -> &mut Bucket {
        if self.find(source).is_none() {
            self.add(source, Bucket::full(PER_SOURCE, now));
        }
        self.young.get_mut(&source).expect("found or added just now")
    }

    fn add(&mut self, source: Source, bucket: Bucket) {
        if self.young.len() == GENERATION_MAX {
            self.old = std::mem::take(&mut self.young);
        }
        self.young.insert(source, bucket);
    }
}

/// A NAT may hide a handful of members with several perimeters each, all starting at once.
const PER_SOURCE: Allowance = Allowance {
    per_second: 20,
    burst: 60,
};
/// Sources in one generation of one table; 12,288 buckets of 32 bytes in all.
const GENERATION_MAX: usize = 2_048;

#[cfg(test)]
mod tests {
    use std::net::Ipv4Addr;
    use std::time::Duration;

    use super::*;
    use crate::clock::tests::start;

    const DRY: Result<Standing, Dry> = Err(Dry(Standing::Stranger));

    fn stranger(n: u32) -> IpAddr {
        Ipv4Addr::from(0xc612_0000 + n).into()
    }

    fn granted(sources: &mut SourceBuckets, src: IpAddr, now: Instant) -> usize {
        (0..1_000).filter_map(|_| sources.take(src, now).ok()).count()
    }

    #[test]
    fn one_source_runs_dry_without_touching_another() {
        let mut sources = SourceBuckets::default();
        let now = start();

        assert_eq!(granted(&mut sources, stranger(1), now), 60);
        assert_eq!(granted(&mut sources, stranger(2), now), 60);
    }

    #[test]
    fn a_host_cannot_multiply_itself_within_its_ipv6_prefix_or_by_mapping() {
        let mut sources = SourceBuckets::default();
        let now = start();

        granted(&mut sources, "2001:db8::1".parse().unwrap(), now);
        granted(&mut sources, "198.51.100.1".parse().unwrap(), now);

        assert_eq!(sources.take("2001:db8::ffff:2".parse().unwrap(), now), DRY);
        assert_eq!(sources.take("::ffff:198.51.100.1".parse().unwrap(), now), DRY);
    }

    #[test]
    fn a_flood_from_forged_sources_neither_grows_the_table_nor_forgets_a_proven_one() {
        let mut sources = SourceBuckets::default();
        let now = start();
        let member: IpAddr = "192.0.2.7".parse().unwrap();
        sources.prove(member, now);

        for n in 0..20_000 {
            let _ = sources.take(stranger(n), now);
        }

        let held = sources.strangers.young.len() + sources.strangers.old.len();
        assert!(held <= 2 * GENERATION_MAX);
        assert_eq!(sources.take(member, now), Ok(Standing::Proven));
    }

    #[test]
    fn a_source_that_keeps_asking_stays_dry_while_others_pass_through() {
        let mut sources = SourceBuckets::default();
        let now = start();
        granted(&mut sources, stranger(0), now);

        for n in 1..20_000 {
            let _ = sources.take(stranger(n), now);
            if n % 1_000 == 0 {
                assert_eq!(sources.take(stranger(0), now), DRY);
            }
        }
    }

    #[test]
    fn a_dry_source_recovers() {
        let mut sources = SourceBuckets::default();
        let now = start();
        granted(&mut sources, stranger(1), now);

        assert_eq!(
            granted(&mut sources, stranger(1), now + Duration::from_secs(1)),
            20
        );
    }
}
