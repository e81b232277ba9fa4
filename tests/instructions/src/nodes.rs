//! Two nodes as values with a session between them, and the whole way out of one.

use std::collections::BTreeMap;
use std::hint::black_box;
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::time::Instant;

use ringfence_control::{Netmap, PeerKind, PeerMap, SegmentMap};
use ringfence_dataplane::{Dataplane, DataplaneConfig, Event, SegmentId};
use ringfence_model::{
    Candidate, CandidateKind, Name, NodeId, OverlayAddresses, PerimeterPrefixes, PrivateKey, Revision,
    RuleId, UnixMillis,
};
use ringfence_packet::offload::SuperPacket;
use ringfence_packet::{Flow, TcpFlags};
use ringfence_policy::{Direction, Rule};

use crate::filter::{flow, segment};

/// Two nodes; the first sends.
pub(crate) struct Nodes {
    ends: [Dataplane; 2],
    device: SegmentId,
    now: Instant,
}

impl Nodes {
    pub(crate) fn new() -> Self {
        let now = Instant::now();
        let mut ends = [1, 2].map(|seed| Dataplane::new(DataplaneConfig::default(), [seed; 32]));
        for (place, end) in ends.iter_mut().enumerate() {
            end.set_key(&name(), key(place), now);
            end.handle_netmap(netmap(place), now).expect("a sound netmap");
            let other = Candidate {
                address: address(1 - place),
                kind: CandidateKind::Host,
            };
            end.handle_peer_candidates(id(1 - place), &[other], now);
        }
        let mut events = std::iter::from_fn(|| ends[0].poll_event());
        let device = events.find_map(|event| match event {
            Event::SegmentAdded(facts) => Some(facts.id),
            _ => None,
        });
        let mut nodes = Self {
            device: device.expect("the netmap has one"),
            ends,
            now,
        };
        let opening = segment(Self::flow(), 0, TcpFlags::SYN, &[]);
        nodes.ends[0]
            .handle_tun(nodes.device, &opening, now)
            .expect("a rule allows it");
        nodes.carry();
        assert!(nodes.ends[1].poll_tun().is_some(), "the opening came through");
        nodes
    }

    /// The conversation that a rule of both allows.
    pub(crate) fn flow() -> Flow {
        Flow {
            src: IpAddr::from(overlay(0).v4),
            dst: IpAddr::from(overlay(1).v4),
            ..flow(1)
        }
    }

    /// What the kernel hands over, out to the socket.
    pub(crate) fn send(&mut self, packet: &SuperPacket<'_>) {
        let sender = &mut self.ends[0];
        let sent = sender.handle_super_packet(self.device, black_box(packet), self.now);
        sent.expect("a rule allows it");
        while let Some(transmit) = sender.poll_transmit() {
            sender.recycle(black_box(transmit).into_buffer());
        }
    }

    /// Carries datagrams until nothing moves.
    fn carry(&mut self) {
        for turn in 0..HANDSHAKE_TURNS {
            let (from, to) = (turn % 2, 1 - turn % 2);
            while let Some(transmit) = self.ends[from].poll_transmit() {
                for datagram in transmit.datagrams() {
                    let taken = self.ends[to].handle_datagram(address(from), datagram, self.now);
                    taken.expect("an honest peer's");
                }
            }
        }
    }
}

/// A node in so many perimeters, each with a key, a lease and a peer.
pub(crate) fn in_perimeters(count: u8) -> Dataplane {
    let now = Instant::now();
    let mut node = Dataplane::new(DataplaneConfig::default(), [1; 32]);
    let mut map = netmap(0);
    let whole = map.segments.remove(&name()).expect("it has one");
    for number in 1..=count {
        let perimeter = Name::parse(&format!("p{number}")).expect("a name");
        let [key, peer_key] = [number, number + 64].map(|byte| PrivateKey::from_random([byte; 32]));
        let mut segment = whole.clone();
        segment.public_key = Some(key.public_key());
        segment.addresses = overlay_in(number, 0);
        segment.prefixes = PerimeterPrefixes {
            v4: vec![format!("100.64.{number}.0/24").parse().expect("a prefix")],
            v6: format!("fd00:{number}::/64").parse().expect("a prefix"),
        };
        for peer in segment.peers.values_mut() {
            peer.public_key = peer_key.public_key();
            peer.addresses = overlay_in(number, 1);
        }
        node.set_key(&perimeter, key, now);
        map.segments.insert(perimeter, segment);
    }
    node.handle_netmap(map, now).expect("a sound netmap");
    assert!(node.poll_timeout().is_some(), "its leases end");
    node
}

fn netmap(place: usize) -> Netmap {
    let other = 1 - place;
    let rule = Rule {
        id: RuleId(1),
        direction: [Direction::Egress, Direction::Ingress][place],
        peers: vec![id(other)].into(),
        services: vec!["tcp/443".parse().expect("a service")],
        expires: None,
    };
    let peer = PeerMap {
        name: name(),
        public_key: key(other).public_key(),
        addresses: overlay(other),
        kind: PeerKind::Node,
    };
    let segment = SegmentMap {
        addresses: overlay(place),
        prefixes: PerimeterPrefixes {
            v4: vec!["100.64.0.0/24".parse().expect("a prefix")],
            v6: "fd00::/64".parse().expect("a prefix"),
        },
        lease_ms: LEASE_MS,
        public_key: Some(key(place).public_key()),
        peers: BTreeMap::from([(id(other), peer)]),
        rules: vec![rule],
    };
    Netmap {
        mesh: name(),
        node: id(place),
        name: name(),
        revision: Revision { term: 1, n: 1 },
        issued_at: UnixMillis(1_800_000_000_000),
        segments: BTreeMap::from([(name(), segment)]),
    }
}

fn name() -> Name {
    Name::parse("db").expect("a name")
}

fn id(place: usize) -> NodeId {
    NodeId(place as u64 + 1)
}

fn key(place: usize) -> PrivateKey {
    PrivateKey::from_random([place as u8 + 1; 32])
}

fn address(place: usize) -> SocketAddr {
    SocketAddr::from(([192, 0, 2, place as u8 + 1], 51_820))
}

fn overlay(place: usize) -> OverlayAddresses {
    overlay_in(0, place)
}

fn overlay_in(perimeter: u8, place: usize) -> OverlayAddresses {
    let host = place as u8 + 1;
    OverlayAddresses {
        v4: Ipv4Addr::from([100, 64, perimeter, host]),
        v6: format!("fd00:{perimeter}::{host}").parse().expect("an address"),
    }
}

const LEASE_MS: u64 = 3_600_000;
/// Initiation, response, and what waited for the session; two turns more than that.
const HANDSHAKE_TURNS: usize = 6;
