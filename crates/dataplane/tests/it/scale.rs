//! Ten thousand peers in one segment: they come and go at once, and cost nothing while they say nothing.
use ringfence_control::local::PeerStatus;
use ringfence_control::{Netmap, PeerKind, PeerMap};
use ringfence_dataplane::{NetmapRefused, PEERS_PER_SEGMENT_MAX};
use ringfence_model::{NodeId, OverlayAddresses, PublicKey, SEGMENTS_PER_NODE_MAX};
use ringfence_packet::{Flow, Protocol};

use crate::mesh::{LEASE, Mesh, name};

/// The netmap of host 0, who has so many peers more in each segment than there are hosts.
fn crowded(mesh: &mut Mesh, peers: u64) -> Netmap {
    mesh.next_revision();
    let mut netmap = mesh.netmap(0);
    for (number, segment) in netmap.segments.values_mut().enumerate() {
        let number = number as u64;
        for peer in 0..peers {
            let id = NodeId(1_000 + peer);
            let (high, low) = ((peer / 200) as u16, (peer % 200) as u8);
            let mut key = [0x5a; 32];
            key[..8].copy_from_slice(&peer.to_le_bytes());
            key[8..16].copy_from_slice(&number.to_le_bytes());
            // A few live in the segment's own block; many need that of everyone.
            let v4_block = if peers > FEW { high } else { number as u16 };
            let addresses = OverlayAddresses {
                v4: [100, 64, v4_block as u8, 50 + low].into(),
                v6: [0xfd00, 0, 0, number as u16, 1, 0, high, u16::from(low)].into(),
            };
            let map = PeerMap {
                name: name(&format!("crowd-{peer}")),
                public_key: PublicKey::from_bytes(key),
                addresses,
                kind: PeerKind::Node,
            };
            segment.peers.insert(id, map);
        }
        for rule in &mut segment.rules {
            rule.peers = segment.peers.keys().copied().collect();
        }
        if peers > FEW {
            segment.prefixes.v4 = vec!["100.64.0.0/10".parse().unwrap()];
        }
    }
    netmap
}

fn put_in_force(mesh: &mut Mesh, netmap: Netmap) {
    let now = mesh.now;
    mesh.hosts[0].dataplane.handle_netmap(netmap, now).unwrap();
    mesh.settle();
}

#[test]
fn ten_thousand_peers_come_and_go_and_one_of_them_is_reached() {
    let mut mesh = Mesh::with_hosts("db", 2);
    mesh.allow("db", 0, 1, "udp/53");
    mesh.allow("db", 1, 0, "udp/54");
    mesh.push();

    let all = crowded(&mut mesh, PEERS);
    put_in_force(&mut mesh, all);
    assert_eq!(with_a_place(&mesh), 10_001);
    assert!(mesh.udp_arrives("db", 0, 1, 53) && mesh.udp_arrives("db", 1, 0, 54));
    let but_one = crowded(&mut mesh, PEERS - 1);
    put_in_force(&mut mesh, but_one);
    assert_eq!(with_a_place(&mesh), 10_000);
    let none = crowded(&mut mesh, 0);
    put_in_force(&mut mesh, none);

    assert_eq!(with_a_place(&mesh), 1);
    assert!(mesh.udp_arrives("db", 0, 1, 53));
}

#[test]
fn peers_that_nobody_speaks_with_wake_nobody() {
    let mut mesh = Mesh::with_hosts("db", 2);
    mesh.allow("db", 0, 1, "udp/53");
    mesh.push();
    let all = crowded(&mut mesh, PEERS);
    put_in_force(&mut mesh, all);

    let due = mesh.hosts[0].dataplane.poll_timeout();

    // Nothing but the lease.
    assert_eq!(due, Some(mesh.now + LEASE));
}

#[test]
fn a_status_in_parts_says_of_each_of_ten_thousand_peers_what_the_whole_says() {
    let mut mesh = Mesh::with_hosts("db", 2);
    mesh.allow("db", 0, 1, "udp/53");
    mesh.push();
    let all = crowded(&mut mesh, PEERS);
    put_in_force(&mut mesh, all);
    assert!(mesh.udp_arrives("db", 0, 1, 53), "one of them has a session");
    let node = &mesh.hosts[0].dataplane;
    let whole = node.status(mesh.now);

    assert!(node.status_of_segments(mesh.now)[0].peers.is_empty());
    let mut peers = Vec::new();
    loop {
        let after = peers.last().map(|peer: &PeerStatus| peer.id);
        let part = node.status_of_peers(&name("db"), after, 128, mesh.now);
        assert!(part.len() <= 128);
        if part.is_empty() {
            break;
        }
        peers.extend(part);
    }

    assert!(peers.is_sorted_by_key(|peer| peer.id));
    peers.sort_by(|a, b| a.node.cmp(&b.node));
    assert_eq!(whole[0].peers.len(), 10_001);
    assert_eq!(peers, whole[0].peers);
    assert_eq!(node.status_of_peers(&name("web"), None, 128, mesh.now), []);
}

fn with_a_place(mesh: &Mesh) -> usize {
    let tables = mesh.hosts[0].dataplane.tables();
    let places = tables.iter().find(|table| table.table == "peers with a place");
    places.unwrap().len
}

#[test]
fn one_peer_too_many_is_refused_and_nothing_is_half_applied() {
    let mut mesh = Mesh::with_hosts("db", 2);
    mesh.allow("db", 0, 1, "udp/53");
    mesh.push();
    let in_force = mesh.hosts[0].dataplane.revision();

    let netmap = crowded(&mut mesh, PEERS_PER_SEGMENT_MAX as u64);
    let now = mesh.now;
    let refused = mesh.hosts[0].dataplane.handle_netmap(netmap, now).unwrap_err();

    assert!(matches!(refused, NetmapRefused::TooManyPeers { .. }));
    assert_eq!(mesh.hosts[0].dataplane.revision(), in_force);
    assert!(mesh.udp_arrives("db", 0, 1, 53));
}

#[test]
fn a_node_in_64_segments_with_150_peers_each_reaches_one_in_each_and_its_timer_knows_all_their_flows() {
    let mut mesh = Mesh::new();
    let hosts = [mesh.host(), mesh.host()];
    let perimeters: Vec<String> = (0..SEGMENTS_PER_NODE_MAX)
        .map(|number| format!("p-{number:02}"))
        .collect();
    for perimeter in &perimeters {
        mesh.perimeter(perimeter, &hosts);
        mesh.allow(perimeter, 0, 1, "udp/53");
    }
    mesh.push();
    let all = crowded(&mut mesh, FEW);
    put_in_force(&mut mesh, all);

    assert_eq!(with_a_place(&mesh), SEGMENTS_PER_NODE_MAX * 151);
    for perimeter in &perimeters {
        assert!(mesh.udp_arrives(perimeter, 0, 1, 53), "{perimeter}");
    }
    // Each has a flow now, and the first of them to end wakes the node before any lease does.
    let due = mesh.hosts[0].dataplane.poll_timeout().unwrap();
    assert!(due < mesh.now + LEASE);
    mesh.pass(LEASE / 2);
    for perimeter in &perimeters {
        assert!(
            !mesh.hosts[0]
                .dataplane
                .has_flow(&name(perimeter), flow_of(&mesh, perimeter)),
            "{perimeter}"
        );
    }
}

fn flow_of(mesh: &Mesh, perimeter: &str) -> Flow {
    mesh.flow_v4(perimeter, 0, 1, (Protocol::UDP, 53))
}

const PEERS: u64 = 10_000;
const FEW: u64 = 150;
