//! Limits how many handshake initiations one source address may make us look at.
//!
//! Stands before everything that costs: without the receiver's public key an outsider gets as far as this and the
//! `mac1` scan; with it, only this bounds how often it makes us compute Curve25519.
//!
//! **Invariant:** strangers cannot push a proven source out: they live in different tables. Nor can a peer push out
//! another's: each holds a few of its own.

use std::collections::btree_map::Entry;
use std::collections::{BTreeMap, VecDeque};
use std::net::IpAddr;
use std::time::Instant;

use ringfence_model::TableSize;
use ringfence_model::sabotage::{Safeguard, is_off};

use crate::bucket::{Allowance, Bucket};
use crate::slots::PeerSlot;

/// A bucket for every source heard of lately.
#[derive(Default)]
pub(crate) struct SourceBuckets {
    strangers: Generations,
    proven: BTreeMap<Source, Proven>,
    /// Whose sources those are.
    holders: BTreeMap<PeerSlot, Holder>,
    /// Of sources that ran dry and came back with a cookie: forged ones cannot spend these.
    returned: Generations,
}

/// A source at which peers were authenticated lately.
struct Proven {
    bucket: Bucket,
    /// How many peers: a NAT may hide several.
    holders: usize,
}

/// A peer, and where it was authenticated lately.
struct Holder {
    /// The last one last; at most [`SOURCES_PER_PEER`].
    sources: VecDeque<Source>,
    /// What a peer may add: each new source comes with a full bucket, and a bad one can forge any number.
    moves: Bucket,
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
        let (bucket, standing) = match self.proven.get_mut(&source) {
            Some(proven) => (&mut proven.bucket, Standing::Proven),
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
            TableSize::new(
                "sources of handshakes that are peers",
                self.proven.len(),
                SOURCES_PER_PEER * self.holders.len(),
            ),
            of("sources of handshakes with a cookie", &self.returned),
        ]
    }

    /// Remembers that a peer authenticated at this address, so that a flood by strangers does not delay it. When the
    /// peer has enough of them, the one it was at longest ago is forgotten.
    pub(crate) fn prove(&mut self, peer: PeerSlot, src: IpAddr, now: Instant) {
        let source = Source::of(src);
        let holder = self.holders.entry(peer).or_insert_with(|| Holder {
            sources: VecDeque::new(),
            moves: Bucket::full(MOVES, now),
        });
        if let Some(at) = holder.sources.iter().position(|held| *held == source) {
            holder.sources.remove(at);
            holder.sources.push_back(source);
            return;
        }
        if holder.moves.take(MOVES, now).is_none() {
            return;
        }
        holder.sources.push_back(source);
        let oldest = (holder.sources.len() > SOURCES_PER_PEER).then(|| holder.sources.pop_front());
        let proven = self.proven.entry(source).or_insert_with(|| Proven {
            bucket: Bucket::full(PER_SOURCE, now),
            holders: 0,
        });
        proven.holders += 1;
        if let Some(oldest) = oldest.flatten() {
            self.release(oldest);
        }
    }

    /// A peer is gone, and with it what only it had.
    pub(crate) fn forget(&mut self, peer: PeerSlot) {
        let holder = self.holders.remove(&peer);
        for source in holder.into_iter().flat_map(|holder| holder.sources) {
            self.release(source);
        }
    }

    fn release(&mut self, source: Source) {
        if let Entry::Occupied(mut proven) = self.proven.entry(source) {
            proven.get_mut().holders -= 1;
            if proven.get().holders == 0 {
                proven.remove();
            }
        }
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
        if self.young.len() == GENERATION_MAX && !is_off(Safeguard::SourceBound) {
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
/// Sources that one peer holds: at home, at work and on the phone, over IPv4 or IPv6.
const SOURCES_PER_PEER: usize = 4;
/// How often a peer may turn up at a source that it does not hold.
const MOVES: Allowance = Allowance {
    per_second: 1,
    burst: 8,
};
/// Sources in one generation of one table of strangers; 8,192 buckets of 32 bytes in all.
const GENERATION_MAX: usize = 2_048;

#[cfg(test)]
mod tests {
    use std::net::Ipv4Addr;
    use std::time::Duration;

    use super::*;
    use crate::clock::tests::start;

    const PEER: PeerSlot = PeerSlot::from_receiver_index(0x100);
    const BAD_PEER: PeerSlot = PeerSlot::from_receiver_index(0x200);
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
        sources.prove(PEER, member, now);

        for n in 0..20_000 {
            let _ = sources.take(stranger(n), now);
        }

        let held = sources.strangers.young.len() + sources.strangers.old.len();
        assert!(held <= 2 * GENERATION_MAX);
        assert_eq!(sources.take(member, now), Ok(Standing::Proven));
    }

    #[test]
    fn a_peer_that_forges_sources_forgets_its_own_alone() {
        let mut sources = SourceBuckets::default();
        let now = start();
        let (member, shared) = ("192.0.2.7".parse().unwrap(), stranger(0));
        sources.prove(PEER, member, now);
        sources.prove(PEER, shared, now);

        for n in 0..20_000 {
            let later = now + Duration::from_secs(n.into());
            sources.prove(BAD_PEER, stranger(n), later);
        }

        assert_eq!(sources.proven.len(), 2 + SOURCES_PER_PEER);
        for held in [member, shared, stranger(19_999)] {
            assert_eq!(sources.take(held, now), Ok(Standing::Proven));
        }
        assert_eq!(sources.take(stranger(19_995), now), Ok(Standing::Stranger));
    }

    #[test]
    fn a_peer_that_forges_sources_is_given_few_full_buckets() {
        let mut sources = SourceBuckets::default();
        let now = start();

        let proven = (0..1_000).filter(|n| {
            sources.prove(BAD_PEER, stranger(*n), now);
            sources.take(stranger(*n), now) == Ok(Standing::Proven)
        });

        assert_eq!(proven.count(), 8);
    }

    #[test]
    fn a_peer_that_is_removed_leaves_no_source_behind_but_those_of_others() {
        let mut sources = SourceBuckets::default();
        let now = start();
        let (own, shared) = (stranger(1), stranger(2));
        sources.prove(BAD_PEER, own, now);
        sources.prove(BAD_PEER, shared, now);
        sources.prove(PEER, shared, now);

        sources.forget(BAD_PEER);

        assert_eq!(sources.take(own, now), Ok(Standing::Stranger));
        assert_eq!(sources.take(shared, now), Ok(Standing::Proven));
        sources.forget(PEER);
        assert!(sources.proven.is_empty() && sources.holders.is_empty());
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
