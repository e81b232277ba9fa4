//! What a netmap weighs on its way, and what is sent instead of one that no message or no node holds.
//!
//! **Invariant:** a node whose netmap has grown too large is told so much less that it closes: never nothing, and never
//! what it would refuse, for then it would go on with what was narrowed since.

use ringfence_policy::{OPENINGS_MAX, PeerSetNumbers, Rule, openings_of};
use serde::Serialize;

use super::{Netmap, SegmentMap};
use crate::NETMAP_BYTES_MAX;

/// What a segment is made of, in numbers: enough to say what it weighs at most.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct SegmentCount {
    /// Its IPv4 prefixes.
    pub prefixes: usize,
    /// Peers on its allowlist.
    pub peers: usize,
    /// Rules, each direction for itself.
    pub rules: usize,
    /// Services of all the rules together.
    pub services: usize,
    /// Sets of peers that differ.
    pub sets: usize,
    /// Peers of all the sets together.
    pub set_peers: usize,
}

impl SegmentCount {
    /// A bound of the bytes such a segment takes in a netmap.
    pub fn weight_at_most(&self) -> usize {
        SEGMENT_BYTES_MAX
            + PREFIX_BYTES_MAX * self.prefixes
            + PEER_BYTES_MAX * self.peers
            + RULE_BYTES_MAX * self.rules
            + SERVICE_BYTES_MAX * self.services
            + SET_BYTES_MAX * self.sets
            + NODE_BYTES_MAX * self.set_peers
    }
}

/// Why a node is closed instead of told everything.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum TooLarge {
    /// No message holds it.
    #[error("it takes {0} bytes, more than the {NETMAP_WEIGHT_MAX} that a message holds")]
    Bytes(usize),
    /// A node refuses to arrange it: see [`openings_of`].
    #[error(
        "the rules of one perimeter ask for {0} openings, more than the {OPENINGS_MAX} that a node arranges"
    )]
    Openings(u64),
}

/// The bytes that `value` takes in a message.
pub fn written_bytes<T: Serialize + ?Sized>(value: &T) -> usize {
    let mut counted = Counted(0);
    ciborium::into_writer(value, &mut counted)
        .expect("plain data always encodes, and counting takes every byte");
    counted.0
}

impl Netmap {
    /// This netmap, or, if no message holds it or its node would refuse it, the same without a peer or a rule:
    /// everything of that node is closed then. The second value says why, for whoever can make it smaller.
    pub fn or_closed(self) -> (Self, Option<TooLarge>) {
        self.or_closed_within(NETMAP_WEIGHT_MAX, OPENINGS_MAX)
    }

    fn or_closed_within(mut self, bytes_max: usize, openings_max: u64) -> (Self, Option<TooLarge>) {
        let too_large = self
            .openings_beyond(openings_max)
            .or_else(|| self.bytes_beyond(bytes_max));
        if too_large.is_some() {
            for segment in self.segments.values_mut() {
                segment.peers.clear();
                segment.rules.clear();
            }
        }
        (self, too_large)
    }

    fn openings_beyond(&self, max: u64) -> Option<TooLarge> {
        // As if no two peers were alike: hardly any segment comes near the limit even so.
        let each = |rule: &Rule| rule.peers.len() as u64 * rule.services.len().max(1) as u64;
        let at_most = |segment: &&SegmentMap| segment.rules.iter().map(each).sum::<u64>();
        let near = self.segments.values().filter(|segment| at_most(segment) > max);
        let openings = near.map(|segment| openings_of(&segment.rules)).max()?;
        (openings > max).then_some(TooLarge::Openings(openings))
    }

    fn bytes_beyond(&self, max: usize) -> Option<TooLarge> {
        // Hardly any comes near the limit, and those need not be encoded once more to know it.
        if self.weight_at_most() <= max {
            return None;
        }
        let bytes = written_bytes(self);
        (bytes > max).then_some(TooLarge::Bytes(bytes))
    }

    /// A bound of the weight by counting alone.
    fn weight_at_most(&self) -> usize {
        let segments = self.segments.values().map(|segment| {
            let mut sets = PeerSetNumbers::default();
            for rule in &segment.rules {
                sets.number(&rule.peers);
            }
            let count = SegmentCount {
                prefixes: segment.prefixes.v4.len(),
                peers: segment.peers.len(),
                rules: segment.rules.len(),
                services: segment.rules.iter().map(|rule| rule.services.len()).sum(),
                sets: sets.sets().len(),
                set_peers: sets.sets().iter().map(|set| set.len()).sum(),
            };
            count.weight_at_most()
        });
        NETMAP_HEAD_BYTES_MAX + segments.sum::<usize>()
    }
}

/// Counts what is written.
struct Counted(usize);

impl std::io::Write for Counted {
    fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
        self.0 += bytes.len();
        Ok(bytes.len())
    }

    fn flush(&mut self) -> std::io::Result<()> {
        Ok(())
    }
}

/// What a netmap may weigh: a delta from any other to it then fits a message too.
pub const NETMAP_WEIGHT_MAX: usize = NETMAP_BYTES_MAX - DELTA_BYTES_MORE;
/// Mesh, node, name, revision and time.
pub const NETMAP_HEAD_BYTES_MAX: usize = 512;
/// A perimeter's name, this node's addresses in it and its key.
const SEGMENT_BYTES_MAX: usize = 512;
/// One prefix as text, with room.
const PREFIX_BYTES_MAX: usize = 64;
/// Names of 63 bytes, a key, two addresses as text, and what the fields are called.
const PEER_BYTES_MAX: usize = 320;
/// Number, direction, set of peers, expiry, and what the fields are called.
const RULE_BYTES_MAX: usize = 128;
/// The length of a set of peers.
const SET_BYTES_MAX: usize = 9;
/// An id: 16 digits as text.
const NODE_BYTES_MAX: usize = 17;
/// `tcp/10000-20000`, with room.
const SERVICE_BYTES_MAX: usize = 32;
/// A delta that changes everything also says what is gone: a name or a number for everything there can be.
const DELTA_BYTES_MORE: usize = 2 * 1024 * 1024;

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use crate::netmap::tests::{any_netmap, netmap, segment};

    use super::*;

    fn weight(netmap: &Netmap) -> usize {
        let mut bytes = Vec::new();
        ciborium::into_writer(netmap, &mut bytes).unwrap();
        bytes.len()
    }

    #[test]
    fn a_netmap_that_no_message_holds_closes_the_node_and_says_what_it_weighs() {
        let long = netmap(
            7,
            [("records", segment(1, 2..=200)), ("cameras", segment(2, 2..=9))],
        );
        let bytes = weight(&long);
        assert_eq!(
            long.clone().or_closed_within(bytes, OPENINGS_MAX),
            (long.clone(), None),
            "one that just fits is sent as it is"
        );

        let (closed, told) = long.clone().or_closed_within(bytes - 1, OPENINGS_MAX);
        assert_eq!(told, Some(TooLarge::Bytes(bytes)));
        assert_eq!(
            closed.revision, long.revision,
            "it is enforced, and acknowledged, as any other"
        );
        assert_eq!(closed.segments.len(), 2, "the node stays a member");
        assert!(
            closed
                .segments
                .values()
                .all(|segment| segment.peers.is_empty() && segment.rules.is_empty())
        );
        assert_eq!(closed.check(), Ok(()));
    }

    #[test]
    fn a_netmap_that_its_node_would_refuse_closes_the_node_too() {
        let wide = netmap(
            7,
            [("records", segment(1, 2..=200)), ("cameras", segment(2, 2..=9))],
        );
        let openings = wide.segments.values().map(|segment| openings_of(&segment.rules));
        let most = openings.max().unwrap();
        assert!(most > 0, "or nothing is tried");
        assert_eq!(
            wide.clone().or_closed_within(NETMAP_WEIGHT_MAX, most),
            (wide.clone(), None)
        );

        let (closed, told) = wide.or_closed_within(NETMAP_WEIGHT_MAX, most - 1);
        assert_eq!(told, Some(TooLarge::Openings(most)));
        assert!(closed.segments.values().all(|segment| segment.rules.is_empty()));
        assert_eq!(closed.check(), Ok(()));
    }

    #[test]
    fn counting_covers_ids_that_use_every_digit_in_sets_that_differ() {
        let mut wide = segment(1, 2..=3);
        let ids = |from: u64| (from..from + 200).map(|n| ringfence_model::NodeId(u64::MAX - n));
        let rule = wide.rules[0].clone();
        wide.rules = (0..200)
            .map(|n| ringfence_policy::Rule {
                peers: ids(n).collect(),
                ..rule.clone()
            })
            .collect();
        let netmap = netmap(7, [("records", wide)]);

        let (real, counted) = (weight(&netmap), netmap.weight_at_most());

        assert!(
            real <= counted && counted < real + real / 10,
            "{real} of {counted}"
        );
    }

    proptest! {
        #[test]
        fn a_netmap_never_weighs_more_than_counting_says(netmap in any_netmap()) {
            prop_assert!(weight(&netmap) <= netmap.weight_at_most());
        }
    }
}
