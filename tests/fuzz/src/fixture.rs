//! A small mesh that targets act in.

use std::collections::BTreeMap;
use std::time::Instant;

use ringfence_control::{Netmap, PeerKind, PeerMap, SegmentMap};
use ringfence_model::{
    Name, NodeId, OverlayAddresses, PerimeterPrefixes, PrivateKey, PublicKey, Revision, RuleId, UnixMillis,
};
use ringfence_policy::{Direction, Rule};

use crate::inner::{OTHER, OURS, ROGUE};

pub(crate) const WALL: UnixMillis = UnixMillis(1_700_000_000_000);
pub(crate) const OUR_ID: NodeId = NodeId(1);
pub(crate) const ROGUE_ID: NodeId = NodeId(2);
pub(crate) const OTHER_ID: NodeId = NodeId(3);

/// Some moment: targets only add to it.
pub(crate) fn start() -> Instant {
    Instant::now()
}

pub(crate) fn name(text: &str) -> Name {
    Name::parse(text).expect("fixtures have good names")
}

pub(crate) fn key(n: u8) -> PrivateKey {
    PrivateKey::from_random([n; 32])
}

/// The netmap of node 1: `rogue` and `other` may open tcp/443 and pings, and it may open udp/53 to them.
pub(crate) fn netmap(n: u64) -> Netmap {
    let segment = SegmentMap {
        addresses: OURS,
        prefixes: PerimeterPrefixes {
            v4: vec!["100.64.0.0/24".parse().expect("a prefix")],
            v6: "fd00:acce:0:1::/64".parse().expect("a prefix"),
        },
        lease_ms: 60_000,
        public_key: Some(key(1).public_key()),
        peers: BTreeMap::from([
            (ROGUE_ID, peer("rogue", key(2).public_key(), ROGUE)),
            (OTHER_ID, peer("other", key(3).public_key(), OTHER)),
        ]),
        rules: rules(),
    };
    Netmap {
        mesh: name("acme"),
        node: OUR_ID,
        name: name("db"),
        revision: Revision { term: 1, n },
        issued_at: WALL,
        segments: BTreeMap::from([(perimeter(), segment)]),
    }
}

pub(crate) fn perimeter() -> Name {
    name("ledger")
}

pub(crate) fn rules() -> Vec<Rule> {
    let rule = |id, direction, services: &[&str], expires| Rule {
        id: RuleId(id),
        direction,
        peers: vec![ROGUE_ID, OTHER_ID].into(),
        services: services
            .iter()
            .map(|text| text.parse().expect("a service"))
            .collect(),
        expires,
    };
    vec![
        rule(1, Direction::Ingress, &["tcp/443"], None),
        rule(2, Direction::Egress, &["udp/53"], None),
        rule(
            3,
            Direction::Ingress,
            &["icmp"],
            Some(UnixMillis(WALL.0 + 30_000)),
        ),
    ]
}

fn peer(text: &str, public_key: PublicKey, addresses: OverlayAddresses) -> PeerMap {
    PeerMap {
        name: name(text),
        public_key,
        addresses,
        kind: PeerKind::Node,
    }
}

/// The policy that most targets' mesh has.
pub(crate) const POLICY: &str = r#"[perimeter]
name = "ledger"
description = "the books"
owners = ["alice@example.com"]
criticality = "high"
lease = "1m"

[members]
db = { nodes = "role=db" }
app = { nodes = "role=app" }

[[allow]]
from = "app"
to = "db"
ports = ["tcp/5432", "icmp"]

[[allow]]
from = "db"
to = "app"
ports = ["udp/53", "tcp/1000-2000"]
expires = 2033-01-01T00:00:00Z
reason = "names"

[[expect]]
from = "app"
to = "db"
port = "tcp/22"
verdict = "deny"
"#;
