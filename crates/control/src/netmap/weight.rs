//! What a netmap weighs on its way, and what is sent instead of one that no message holds.
//!
//! **Invariant:** a node whose netmap has grown too long is told so much less that it closes: never nothing, for then
//! it would go on with what was narrowed since.

use ringfence_policy::PeerSetNumbers;
use serde::Serialize;

use super::Netmap;
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

/// The bytes that `value` takes in a message.
pub fn written_bytes<T: Serialize + ?Sized>(value: &T) -> usize {
    let mut counted = Counted(0);
    ciborium::into_writer(value, &mut counted)
        .expect("plain data always encodes, and counting takes every byte");
    counted.0
}

impl Netmap {
    /// This netmap, or, if no message holds it, the same without a peer or a rule: everything of that node is closed
    /// then. The second value is its weight in bytes in that case, to be told to whoever can make it shorter.
    pub fn or_closed(self) -> (Self, Option<usize>) {
        self.or_closed_within(NETMAP_WEIGHT_MAX)
    }

    fn or_closed_within(mut self, limit: usize) -> (Self, Option<usize>) {
        // Hardly any comes near the limit, and those need not be encoded once more to know it.
        if self.weight_at_most() <= limit {
            return (self, None);
        }
        let bytes = written_bytes(&self);
        if bytes <= limit {
            return (self, None);
        }
        for segment in self.segments.values_mut() {
            segment.peers.clear();
            segment.rules.clear();
        }
        (self, Some(bytes))
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
            long.clone().or_closed_within(bytes),
            (long.clone(), None),
            "one that just fits is sent as it is"
        );

        let (closed, told) = long.clone().or_closed_within(bytes - 1);
        assert_eq!(told, Some(bytes));
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
