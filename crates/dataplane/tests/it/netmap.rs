//! The controller's word: taken whole or refused whole.

use ringfence_control::NetmapFault;
use ringfence_dataplane::{Event, NetmapRefused};
use ringfence_model::{NodeId, PrivateKey, PublicKey, TableSize};

use crate::mesh::{Mesh, name};

fn refused(mesh: &mut Mesh, change: impl FnOnce(&mut ringfence_control::Netmap)) -> NetmapRefused {
    let mut netmap = mesh.netmap(0);
    netmap.revision = netmap.revision.next();
    change(&mut netmap);
    let now = mesh.now;
    let before = mesh.hosts[0].dataplane.revision();
    let refusal = mesh.hosts[0].dataplane.handle_netmap(netmap, now).unwrap_err();
    mesh.settle();
    assert_eq!(mesh.hosts[0].dataplane.revision(), before);
    assert!(
        mesh.udp_arrives("db", 0, 1, 53),
        "the one in force stays: {refusal}"
    );
    refusal
}

fn pair() -> Mesh {
    let mut mesh = Mesh::with_hosts("db", 2);
    mesh.allow("db", 0, 1, "udp/53");
    mesh.push();
    mesh
}

#[test]
fn an_older_revision_is_refused() {
    let mut mesh = pair();

    let refusal = refused(&mut mesh, |netmap| {
        netmap.revision.n -= 2;
        netmap.segments.clear();
    });

    assert!(matches!(refusal, NetmapRefused::Older { .. }));
}

#[test]
fn the_same_revision_again_is_harmless_and_acknowledged() {
    let mut mesh = pair();
    let flow_count = mesh.hosts[0].events.len();

    mesh.push_to(0);

    let new = &mesh.hosts[0].events[flow_count..];
    assert!(
        new.iter().all(|event| matches!(event, Event::Enforced { .. })),
        "{new:?}"
    );
    assert!(mesh.udp_arrives("db", 0, 1, 53));
}

#[test]
fn a_netmap_for_another_node_or_mesh_is_refused() {
    let mut mesh = pair();

    let other_node = refused(&mut mesh, |netmap| netmap.node = NodeId(99));
    let other_mesh = refused(&mut mesh, |netmap| netmap.mesh = name("elsewhere"));

    assert!(matches!(other_node, NetmapRefused::OtherNode { .. }));
    assert!(matches!(other_mesh, NetmapRefused::OtherMesh(_)));
}

#[test]
fn a_netmap_that_contradicts_itself_is_refused_whole() {
    let mut mesh = pair();

    let address = refused(&mut mesh, |netmap| {
        let segment = netmap.segments.get_mut(&name("db")).unwrap();
        let own = segment.addresses;
        segment.peers.get_mut(&NodeId(2)).unwrap().addresses = own;
    });
    let low_order = refused(&mut mesh, |netmap| {
        let segment = netmap.segments.get_mut(&name("db")).unwrap();
        segment.peers.get_mut(&NodeId(2)).unwrap().public_key = PublicKey::from_bytes([0; 32]);
    });
    let overlap = refused(&mut mesh, |netmap| {
        let mut twin = netmap.segments[&name("db")].clone();
        twin.peers.clear();
        netmap.segments.insert(name("twin"), twin);
    });

    assert!(matches!(
        address,
        NetmapRefused::Malformed(NetmapFault::AddressTwice { .. })
    ));
    assert!(matches!(low_order, NetmapRefused::LowOrderKey { .. }));
    assert!(matches!(overlap, NetmapRefused::OverlappingPrefixes { .. }));
}

#[test]
fn enforced_comes_after_everything_that_the_netmap_ends() {
    let mut mesh = pair();
    assert!(mesh.udp_arrives("db", 0, 1, 53));
    let before = mesh.hosts[0].events.len();

    mesh.expel("db", 1);
    mesh.next_revision();
    mesh.push_to(0);

    let new = &mesh.hosts[0].events[before..];
    let closed = new.iter().position(|event| matches!(event, Event::FlowClosed(_)));
    let enforced = new
        .iter()
        .position(|event| matches!(event, Event::Enforced { .. }));
    assert!(closed.unwrap() < enforced.unwrap());
    assert_eq!(enforced, Some(new.len() - 1));
}

#[test]
fn a_member_is_asked_for_a_key_and_to_register_it() {
    let mesh = pair();

    let events = &mesh.hosts[0].events;
    let needed = events
        .iter()
        .position(|event| matches!(event, Event::KeyNeeded { .. }));
    let register = events
        .iter()
        .position(|event| matches!(event, Event::RegisterKey { .. }));
    assert!(needed.unwrap() < register.unwrap());
    let asked = events
        .iter()
        .filter(|event| matches!(event, Event::RegisterKey { .. }))
        .count();
    assert_eq!(asked, 1, "the second netmap has it");
}

#[test]
fn a_key_that_comes_after_its_perimeter_is_left_is_not_kept() {
    let mut mesh = pair();
    mesh.expel("db", 1);
    mesh.push();

    let (now, late) = (mesh.now, PrivateKey::from_random([9; 32]));
    mesh.hosts[1].dataplane.set_key(&name("db"), late, now);

    assert_eq!(mesh.hosts[1].dataplane.public_key(&name("db")), None);
}

#[test]
fn keys_that_came_early_are_kept_for_the_first_netmap_and_no_longer() {
    let mut mesh = Mesh::with_hosts("db", 1);
    let (now, early) = (mesh.now, PrivateKey::from_random([9; 32]));
    let public = early.public_key();
    let dataplane = &mut mesh.hosts[0].dataplane;
    dataplane.set_key(&name("db"), early, now);
    for number in 0..100 {
        let other = PrivateKey::from_random([number; 32]);
        dataplane.set_key(&name(&format!("other-{number}")), other, now);
    }
    assert!(dataplane.tables().iter().all(TableSize::is_bounded));

    mesh.push();

    let dataplane = &mesh.hosts[0].dataplane;
    assert_eq!(dataplane.public_key(&name("db")), Some(public));
    assert_eq!(dataplane.public_key(&name("other-0")), None);
}

#[test]
fn a_peer_with_a_new_key_gets_no_second_session_under_the_old_one() {
    let mut mesh = pair();
    assert!(mesh.udp_arrives("db", 0, 1, 53));

    mesh.restart(0);
    mesh.new_key(0);
    mesh.push();

    assert!(mesh.udp_arrives("db", 0, 1, 53));
    let status = mesh.hosts[1].dataplane.status(mesh.now);
    assert_eq!(status[0].peers.len(), 1);
    assert_eq!(
        Some(status[0].peers[0].public_key),
        mesh.hosts[0].dataplane.public_key(&name("db"))
    );
}

#[test]
fn the_same_revision_with_fewer_rules_still_ends_flows() {
    let mut mesh = pair();
    assert!(mesh.udp_arrives("db", 0, 1, 53));
    let mut netmap = mesh.netmap(0);
    netmap.segments.get_mut(&name("db")).unwrap().rules.clear();

    let now = mesh.now;
    mesh.hosts[0].dataplane.handle_netmap(netmap, now).unwrap();
    mesh.settle();

    assert!(!mesh.udp_arrives("db", 0, 1, 53));
    assert!(mesh.has_event(0, |event| matches!(event, Event::FlowClosed(_))));
}

#[test]
fn a_perimeter_that_grows_changes_the_routes_and_nothing_else() {
    let mut mesh = pair();
    assert!(mesh.udp_arrives("db", 0, 1, 53));
    let mut netmap = mesh.netmap(0);
    let prefixes = &mut netmap.segments.get_mut(&name("db")).unwrap().prefixes;
    prefixes.v4.push("100.64.9.0/24".parse().unwrap());
    let grown = prefixes.clone();
    let sent = mesh.log.len();

    let now = mesh.now;
    mesh.hosts[0].dataplane.handle_netmap(netmap, now).unwrap();
    mesh.settle();

    assert!(mesh.has_event(
        0,
        |event| matches!(event, Event::SegmentChanged(facts) if facts.prefixes == grown)
    ));
    assert!(mesh.udp_arrives("db", 0, 1, 53));
    assert!(
        mesh.log[sent..].iter().all(|datagram| datagram.bytes[0] == 4),
        "no new handshake"
    );
}
