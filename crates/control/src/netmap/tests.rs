//! What a sound netmap is; and generators that the tests of delta, messages and sessions share.

use proptest::prelude::*;
use ringfence_model::RuleId;
use ringfence_policy::Direction;

use super::*;

pub(crate) fn name(text: &str) -> Name {
    Name::parse(text).unwrap()
}

pub(crate) fn revision(n: u64) -> Revision {
    Revision { term: 1, n }
}

/// The addresses of member `n` of perimeter `p`.
pub(crate) fn addresses(p: u8, n: u8) -> OverlayAddresses {
    OverlayAddresses {
        v4: Ipv4Addr::new(100, 64, p, n),
        v6: Ipv6Addr::new(0xfd00, 1, 2, u16::from(p), 0, 0, 0, u16::from(n)),
    }
}

pub(crate) fn peer(p: u8, n: u8) -> PeerMap {
    PeerMap {
        name: name(&format!("peer-{n}")),
        public_key: PublicKey::from_bytes([n; 32]),
        addresses: addresses(p, n),
        kind: PeerKind::Node,
    }
}

pub(crate) fn segment(p: u8, peers: impl IntoIterator<Item = u8>) -> SegmentMap {
    let peers: BTreeMap<NodeId, PeerMap> = peers
        .into_iter()
        .map(|n| (NodeId(n.into()), peer(p, n)))
        .collect();
    SegmentMap {
        addresses: addresses(p, 1),
        prefixes: PerimeterPrefixes {
            v4: vec![format!("100.64.{p}.0/24").parse().unwrap()],
            v6: format!("fd00:1:2:{p:x}::/64").parse().unwrap(),
        },
        lease_ms: 600_000,
        public_key: Some(PublicKey::from_bytes([1; 32])),
        rules: vec![Rule {
            id: RuleId(1),
            direction: Direction::Egress,
            peers: peers.keys().copied().collect(),
            services: vec!["tcp/5432".parse().unwrap()],
            expires: None,
        }],
        peers,
    }
}

/// Node 1's netmap at revision `n`.
pub(crate) fn netmap(n: u64, segments: impl IntoIterator<Item = (&'static str, SegmentMap)>) -> Netmap {
    Netmap {
        mesh: name("acme"),
        node: NodeId(1),
        name: name("node-1"),
        revision: revision(n),
        issued_at: UnixMillis(1_000 * n),
        segments: segments
            .into_iter()
            .map(|(p, segment)| (name(p), segment))
            .collect(),
    }
}

fn any_rule() -> impl Strategy<Value = Rule> {
    let service = prop::sample::select(vec!["tcp/5432", "udp/53-99", "icmp", "any"]);
    (
        // Few enough that one of a direction often ends at several moments.
        1_u32..4,
        any::<bool>(),
        prop::collection::vec(2_u64..8, 0..5),
        prop::collection::vec(service, 0..3),
        prop::option::of(0_u64..3),
    )
        .prop_map(|(id, ingress, peers, services, expires)| Rule {
            id: RuleId(id),
            direction: if ingress {
                Direction::Ingress
            } else {
                Direction::Egress
            },
            peers: peers.into_iter().map(NodeId).collect(),
            services: services.iter().map(|service| service.parse().unwrap()).collect(),
            expires: expires.map(UnixMillis),
        })
}

/// Rules in any order, and often in the one order that compiling gives.
fn any_rules() -> impl Strategy<Value = Vec<Rule>> {
    prop_oneof![prop::collection::vec(any_rule(), 0..6), any_compiled_rules()]
}

/// Rules in the order that compiling gives: one of each end in each direction.
pub(crate) fn any_compiled_rules() -> impl Strategy<Value = Vec<Rule>> {
    prop::collection::vec(any_rule(), 0..10).prop_map(|mut rules| {
        rules.sort_by_key(|rule| (rule.id, rule.direction, rule.expires));
        rules.dedup_by_key(|rule| (rule.id, rule.direction, rule.expires));
        rules
    })
}

fn any_segment() -> impl Strategy<Value = SegmentMap> {
    let peers = prop::collection::btree_map(2_u8..8, 0_u8..3, 0..6);
    (1_u8..3, peers, any_rules(), 1_u64..4, prop::option::of(1_u8..3)).prop_map(
        |(p, peers, rules, lease_ms, key)| SegmentMap {
            lease_ms,
            public_key: key.map(|key| PublicKey::from_bytes([key + 100; 32])),
            peers: peers
                .into_iter()
                .map(|(n, variant)| {
                    let mut peer = peer(p, n);
                    peer.public_key = PublicKey::from_bytes([n + 10 * variant; 32]);
                    (NodeId(n.into()), peer)
                })
                .collect(),
            rules,
            ..segment(p, [])
        },
    )
}

pub(crate) fn any_netmap() -> impl Strategy<Value = Netmap> {
    let segments = prop::collection::btree_map(
        prop::sample::select(vec!["a", "b", "c", "d"]),
        any_segment(),
        0..4,
    );
    (0_u64..5, segments, any::<bool>()).prop_map(|(n, segments, renamed)| {
        let mut map = netmap(n, segments);
        if renamed {
            map.name = name("node-one");
        }
        map
    })
}

#[test]
fn the_content_hash_covers_everything_but_the_time_it_was_sent() {
    let map = netmap(1, [("a", segment(1, [2, 3]))]);
    let later = Netmap {
        issued_at: UnixMillis(77),
        ..map.clone()
    };
    let mut fewer = map.clone();
    fewer.segments.get_mut("a").unwrap().peers.remove(&NodeId(3));
    let moved = Netmap {
        revision: revision(2),
        ..map.clone()
    };

    assert_eq!(map.content_hash(), later.content_hash());
    assert_ne!(map.content_hash(), fewer.content_hash());
    assert_ne!(map.content_hash(), moved.content_hash());
    assert_eq!(map.content_hash(), moved.content_hash_at(revision(1)));
}

#[test]
fn a_sound_netmap_passes() {
    let map = netmap(1, [("a", segment(1, [2, 3])), ("b", segment(2, [2]))]);

    assert_eq!(map.check(), Ok(()));
}

#[test]
fn a_netmap_that_would_take_over_other_traffic_is_refused() {
    let perimeter = name("a");
    for prefix in ["0.0.0.0/0", "10.0.0.0/8", "100.0.0.0/8", "100.128.0.0/10"] {
        let mut wide = segment(1, []);
        wide.prefixes.v4 = vec![prefix.parse().unwrap()];
        let fault = NetmapFault::Prefix {
            perimeter: perimeter.clone(),
        };
        assert_eq!(netmap(1, [("a", wide)]).check(), Err(fault), "{prefix}");
    }
    for prefix in ["::/0", "2000::/3", "fd00::/8", "fe80::/64"] {
        let mut wide = segment(1, []);
        wide.prefixes.v6 = prefix.parse().unwrap();
        assert!(netmap(1, [("a", wide)]).check().is_err(), "{prefix}");
    }
}

#[test]
fn what_belongs_to_two_members_is_refused() {
    let mut same_address = segment(1, [2, 3]);
    same_address.peers.get_mut(&NodeId(3)).unwrap().addresses = addresses(1, 2);
    let mut our_address = segment(1, [2]);
    our_address.addresses = addresses(1, 2);
    let mut same_key = segment(1, [2, 3]);
    same_key.peers.get_mut(&NodeId(3)).unwrap().public_key = PublicKey::from_bytes([2; 32]);
    let mut outside = segment(1, [2]);
    outside.peers.get_mut(&NodeId(2)).unwrap().addresses = addresses(2, 2);
    let itself = segment(1, [1]);
    let no_lease = SegmentMap {
        lease_ms: 0,
        ..segment(1, [])
    };

    let everyone: ringfence_policy::PeerSet = (5_000..6_000).map(NodeId).collect();
    let mut bomb = segment(1, [2]);
    // Every peer is in a set of its own besides the one of five thousand rules: a list of those for each peer.
    bomb.rules = (0..6_000)
        .map(|id| Rule {
            id: RuleId(id),
            peers: match id {
                0..5_000 => everyone.clone(),
                _ => vec![NodeId(id.into())].into(),
            },
            ..segment(1, [2]).rules[0].clone()
        })
        .collect();

    let fault = |segment| netmap(1, [("a", segment)]).check().unwrap_err();
    assert!(matches!(fault(bomb), NetmapFault::Openings { .. }));
    assert!(matches!(fault(same_address), NetmapFault::AddressTwice { .. }));
    assert!(matches!(fault(our_address), NetmapFault::AddressTwice { .. }));
    assert!(matches!(fault(same_key), NetmapFault::KeyTwice { .. }));
    assert!(matches!(fault(outside), NetmapFault::AddressOutside { .. }));
    assert!(matches!(fault(itself), NetmapFault::Itself { .. }));
    assert!(matches!(fault(no_lease), NetmapFault::Lease { .. }));
}
