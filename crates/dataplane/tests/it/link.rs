//! Sessions and paths: waiting for a handshake, roaming, sizes, pings, status.

use std::net::SocketAddr;
use std::time::Duration;

use ringfence_dataplane::{DropReason, Event, MTU_BYTES_DEFAULT, PingError};
use ringfence_model::NodeId;
use ringfence_packet::{Protocol, packet_too_big, udp_datagram};

use crate::mesh::{Mesh, name};

fn pair() -> Mesh {
    let mut mesh = Mesh::with_hosts("db", 2);
    mesh.allow("db", 0, 1, "udp/53");
    mesh.push();
    mesh
}

#[test]
fn the_first_packet_waits_for_the_handshake_and_arrives() {
    let mut mesh = pair();

    assert!(mesh.udp_arrives("db", 0, 1, 53));

    let kinds: Vec<u8> = mesh.log.iter().map(|datagram| datagram.bytes[0]).collect();
    assert_eq!(kinds[..2], [1, 2], "initiation, response, then data");
    assert!(kinds[2..].iter().all(|kind| *kind == 4));
    assert!(mesh.has_event(0, |event| matches!(
        event,
        Event::SessionEstablished { peer: NodeId(2), .. }
    )));
}

#[test]
fn what_waits_for_a_silent_peer_is_bounded_and_ages_out() {
    let mut mesh = pair();
    mesh.lose = |_| true;
    for _ in 0..100 {
        assert!(!mesh.udp_arrives("db", 0, 1, 53));
    }

    let full = mesh.drops(0, DropReason::PendingFull);
    mesh.pass(Duration::from_secs(12));

    assert_eq!(full, 68);
    assert_eq!(mesh.drops(0, DropReason::NoSessionInTime), 32);
    assert_eq!(
        mesh.log.iter().filter(|datagram| datagram.bytes[0] == 4).count(),
        0
    );
}

#[test]
fn a_peer_that_moves_is_followed() {
    let mut mesh = pair();
    assert!(mesh.udp_arrives("db", 0, 1, 53));

    let moved = SocketAddr::from(([203, 0, 113, 9], 4000));
    mesh.hosts[0].address = moved;
    assert!(mesh.udp_arrives("db", 0, 1, 53));

    let back = udp_datagram(
        mesh.flow_v4("db", 0, 1, (Protocol::UDP, 53)).reversed(),
        b"answer",
    );
    mesh.send(1, "db", &back).unwrap();
    assert_eq!(mesh.received(0, "db"), [back]);
    let status = mesh.hosts[1].dataplane.status(mesh.now);
    assert_eq!(status[0].peers[0].endpoint, Some(moved));
}

#[test]
fn a_replayed_datagram_from_elsewhere_moves_nobody() {
    let mut mesh = pair();
    assert!(mesh.udp_arrives("db", 0, 1, 53));
    let recorded = mesh.log.last().unwrap().bytes.clone();

    let (thief, now) = (SocketAddr::from(([203, 0, 113, 66], 1)), mesh.now);
    let replayed = mesh.hosts[1].dataplane.handle_datagram(thief, &recorded, now);
    mesh.settle();

    assert!(matches!(replayed, Err(DropReason::WireGuard(_))));
    let status = mesh.hosts[1].dataplane.status(mesh.now);
    assert_eq!(status[0].peers[0].endpoint, Some(mesh.hosts[0].address));
    assert!(mesh.received(1, "db").is_empty());
}

#[test]
fn candidates_that_come_late_start_the_handshake() {
    let mut mesh = pair();
    mesh.restart(0);
    let (netmap, now) = (mesh.netmap(0), mesh.now);
    mesh.hosts[0].dataplane.handle_netmap(netmap, now).unwrap();
    mesh.settle();
    assert!(!mesh.udp_arrives("db", 0, 1, 53));
    assert!(mesh.log.is_empty(), "nowhere to send to");

    mesh.send_candidates(0);
    mesh.settle();

    assert_eq!(mesh.received(1, "db").len(), 1);
}

#[test]
fn a_session_that_the_peer_lost_is_made_anew_as_soon_as_the_controller_tells_of_it() {
    let mut mesh = pair();
    assert!(mesh.udp_arrives("db", 0, 1, 53));
    let peer = mesh.hosts[1].id;
    let tell = |mesh: &mut Mesh, epoch| {
        let now = mesh.now;
        mesh.log.clear();
        mesh.hosts[0].dataplane.handle_peer_epoch(peer, epoch, now);
        mesh.settle();
        mesh.log.len()
    };
    let first = tell(&mut mesh, 7);
    // It comes back, and knows nothing of where we are.
    mesh.restart(1);
    let (netmap, now) = (mesh.netmap(1), mesh.now);
    mesh.hosts[1].dataplane.handle_netmap(netmap, now).unwrap();
    mesh.settle();
    mesh.pass(Duration::from_secs(5));
    let again = tell(&mut mesh, 7);

    tell(&mut mesh, 8);

    assert_eq!((first, again), (0, 0), "no news, no handshake");
    assert_eq!(mesh.log[0].bytes[0], 1);
    assert!(mesh.has_event(1, |event| matches!(event, Event::SessionEstablished { .. })));
}

#[test]
fn a_peer_that_moved_while_nobody_spoke_is_sought_as_soon_as_the_controller_tells_of_it() {
    let mut mesh = pair();
    assert!(mesh.udp_arrives("db", 0, 1, 53));
    mesh.pass(Duration::from_secs(5));
    mesh.log.clear();
    mesh.send_candidates(0);
    mesh.settle();
    let without_news = mesh.log.len();

    let moved = SocketAddr::from(([203, 0, 113, 9], 4000));
    mesh.hosts[1].address = moved;
    mesh.send_candidates(0);
    mesh.settle();

    assert_eq!(without_news, 0);
    let sought: Vec<SocketAddr> = mesh
        .log
        .iter()
        .filter(|sent| sent.bytes[0] == 1)
        .map(|sent| sent.dst)
        .collect();
    assert!(sought.contains(&moved));
    let status = mesh.hosts[0].dataplane.status(mesh.now);
    assert_eq!(status[0].peers[0].endpoint, Some(moved));
}

#[test]
fn a_packet_too_big_for_the_tunnel_is_answered_with_its_size() {
    let mut mesh = pair();
    let mtu = usize::from(MTU_BYTES_DEFAULT);
    let flow = mesh.flow_v6("db", 0, 1, (Protocol::UDP, 53));
    let fits = udp_datagram(flow, &vec![7; mtu - 48]);
    let too_big = udp_datagram(flow, &vec![7; mtu - 47]);

    assert_eq!(mesh.send(0, "db", &fits), Ok(()));
    assert_eq!(mesh.received(1, "db"), [fits]);
    let largest = mesh
        .log
        .iter()
        .map(|datagram| datagram.bytes.len())
        .max()
        .unwrap();
    assert!(largest + 8 + 40 <= 1500, "{largest} bytes do not fit Ethernet");

    assert_eq!(mesh.send(0, "db", &too_big), Err(DropReason::TooBig));
    let answer = packet_too_big(&too_big, flow.dst, mtu as u32).unwrap();
    assert_eq!(mesh.received(0, "db"), [answer]);
}

#[test]
fn a_ping_measures_the_tunnel_whatever_policy_opens() {
    let mut mesh = pair();
    for id in [1, 2] {
        let now = mesh.now;
        let target = mesh.hosts[0].dataplane.ping(NodeId(2), None, id, now).unwrap();
        mesh.settle();
        assert_eq!(target.address, mesh.address("db", 1).v6);

        let address = mesh.hosts[1].address;
        assert!(mesh.has_event(0, |event| matches!(
            event,
            Event::Pong(pong) if pong.id == id && pong.endpoint == Some(address)
        )));
    }
    for host in [0, 1] {
        assert!(mesh.received(host, "db").is_empty(), "no kernel sees it");
    }
}

#[test]
fn a_ping_that_is_not_answered_times_out() {
    let mut mesh = pair();
    mesh.lose = |_| true;
    let now = mesh.now;
    mesh.hosts[0]
        .dataplane
        .ping(NodeId(2), Some(&name("db")), 9, now)
        .unwrap();
    mesh.settle();

    mesh.pass(Duration::from_secs(12));

    assert!(mesh.has_event(0, |event| *event == Event::PingTimedOut { id: 9 }));
    let nobody = mesh.hosts[0].dataplane.ping(NodeId(77), None, 10, now);
    let nowhere = mesh.hosts[0]
        .dataplane
        .ping(NodeId(2), Some(&name("web")), 11, now);
    assert_eq!([nobody, nowhere], [const { Err(PingError::NoPeer) }; 2]);
}

#[test]
fn an_application_cannot_send_pings_of_the_data_plane() {
    let mut mesh = pair();
    let flow = mesh.flow_v6("db", 0, 1, (Protocol(253), 0));
    let mut packet = udp_datagram(flow, b"12345678");
    packet[6] = 253;
    packet[40..44].copy_from_slice(b"rfp1");

    assert!(mesh.send(0, "db", &packet).is_err());
    assert!(mesh.log.is_empty());
}

#[test]
fn status_counts_traffic_and_handshakes() {
    let mut mesh = pair();
    assert!(mesh.udp_arrives("db", 0, 1, 53));

    let status = mesh.hosts[0].dataplane.status(mesh.now);

    let segment = &status[0];
    assert_eq!(
        (segment.perimeter.as_str(), segment.interface.as_str()),
        ("db", "rf-db")
    );
    assert_eq!(Some(segment.revision), mesh.hosts[0].dataplane.revision());
    assert_eq!(segment.lease_seconds, 600);
    let peer = &segment.peers[0];
    assert!(peer.rx_bytes > 0 && peer.tx_bytes > 0);
    assert_eq!(peer.latest_handshake, Some(mesh.wall().0 / 1000));
}

#[test]
fn a_node_at_rest_needs_no_timer_but_its_lease() {
    let mesh = pair();

    let due = mesh.hosts[1].dataplane.poll_timeout();

    assert_eq!(due, Some(mesh.now + crate::mesh::LEASE));
}

#[test]
fn candidates_inside_the_overlay_are_not_used() {
    let mut mesh = pair();
    let inside = SocketAddr::from((mesh.address("db", 1).v4, 51820));
    let candidate = ringfence_model::Candidate {
        address: inside,
        kind: ringfence_model::CandidateKind::Configured,
    };
    let now = mesh.now;
    mesh.hosts[0]
        .dataplane
        .handle_peer_candidates(NodeId(2), &[candidate], now);

    assert!(!mesh.udp_arrives("db", 0, 1, 53));

    assert!(mesh.log.is_empty(), "a tunnel through itself");
}

#[test]
fn two_nodes_that_call_each_other_at_once_get_through() {
    let mut mesh = pair();
    mesh.allow("db", 1, 0, "udp/54");
    mesh.push();
    let there = udp_datagram(mesh.flow_v4("db", 0, 1, (Protocol::UDP, 53)), b"x");
    let back = udp_datagram(mesh.flow_v4("db", 1, 0, (Protocol::UDP, 54)), b"y");

    mesh.send_at_once(&[(0, &there), (1, &back)]);

    assert_eq!(mesh.received(1, "db"), [there]);
    assert_eq!(mesh.received(0, "db"), [back]);
}
