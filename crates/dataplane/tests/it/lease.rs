//! A segment closes when the controller falls silent, and opens when it speaks.

use ringfence_dataplane::{DropReason, Event, Restored};
use ringfence_packet::{Protocol, TcpFlags, udp_datagram};

use crate::mesh::{LEASE, Mesh, name, reset_seq, tcp};

#[test]
fn the_end_of_the_lease_closes_the_segment_and_word_opens_it_again() {
    let mut mesh = Mesh::with_hosts("db", 2);
    mesh.allow("db", 0, 1, "tcp/5432");
    mesh.allow("db", 0, 1, "udp/53");
    mesh.push();
    let connection = mesh.connect("db", 0, 1, 5432);
    let due = mesh.hosts[0].dataplane.poll_timeout().unwrap();
    assert!(due <= mesh.now + LEASE);

    mesh.pass(LEASE);

    let at_client = mesh.received(0, "db");
    assert_eq!(
        reset_seq(&at_client[0], connection.flow.reversed()),
        Some(connection.server_next)
    );
    mesh.received(1, "db");
    for host in [0, 1] {
        assert!(mesh.has_event(host, |event| matches!(event, Event::SegmentClosed { .. })));
        assert!(!mesh.has_event(host, |event| matches!(event, Event::SegmentRemoved(_))));
        let status = mesh.hosts[host].dataplane.status(mesh.now);
        assert_eq!((status[0].lease_seconds, status[0].peers.len()), (0, 0));
    }
    let flow = mesh.flow_v4("db", 0, 1, (Protocol::UDP, 53));
    let sent = mesh.log.len();
    assert_eq!(
        mesh.send(0, "db", &udp_datagram(flow, b"x")),
        Err(DropReason::SegmentClosed)
    );
    assert_eq!(mesh.log.len(), sent, "nothing leaves");

    for host in [0, 1] {
        let now = mesh.now;
        mesh.hosts[host].dataplane.handle_lease(now);
    }
    mesh.settle();
    mesh.received(0, "db");
    assert!(mesh.udp_arrives("db", 0, 1, 53));
}

#[test]
fn a_lease_that_ended_counts_even_if_nobody_called_the_timer() {
    let mut mesh = Mesh::with_hosts("db", 2);
    mesh.allow("db", 0, 1, "udp/53");
    mesh.push();
    assert!(mesh.udp_arrives("db", 0, 1, 53));

    mesh.now += LEASE;

    assert!(!mesh.udp_arrives("db", 0, 1, 53));
    assert_eq!(mesh.drops(0, DropReason::SegmentClosed), 1);
}

#[test]
fn a_closed_end_answers_nothing() {
    let mut mesh = Mesh::with_hosts("db", 2);
    mesh.allow("db", 0, 1, "udp/53");
    mesh.push();
    assert!(mesh.udp_arrives("db", 0, 1, 53));
    mesh.pass(LEASE / 2);
    let now = mesh.now;
    mesh.hosts[0].dataplane.handle_lease(now);

    mesh.pass(LEASE / 2);
    let sent = mesh.log.len();
    assert!(!mesh.udp_arrives("db", 0, 1, 53));

    assert!(
        mesh.log[sent..]
            .iter()
            .all(|datagram| datagram.src == mesh.hosts[0].address)
    );
}

#[test]
fn a_disowned_node_closes_at_once_and_opens_when_it_is_taken_back() {
    let mut mesh = Mesh::with_hosts("db", 2);
    mesh.allow("db", 0, 1, "tcp/5432");
    mesh.allow("db", 0, 1, "udp/53");
    mesh.push();
    let connection = mesh.connect("db", 0, 1, 5432);

    let now = mesh.now;
    mesh.hosts[0].dataplane.end_leases(now);
    mesh.settle();

    let at_client = mesh.received(0, "db");
    assert_eq!(
        reset_seq(&at_client[0], connection.flow.reversed()),
        Some(connection.server_next)
    );
    assert!(!mesh.udp_arrives("db", 0, 1, 53));
    assert!(!mesh.udp_arrives("db", 1, 0, 53));

    mesh.hosts[0].dataplane.handle_lease(now);
    mesh.settle();
    assert!(mesh.udp_arrives("db", 0, 1, 53));
}

#[test]
fn heartbeats_keep_a_segment_open() {
    let mut mesh = Mesh::with_hosts("db", 2);
    mesh.allow("db", 0, 1, "udp/53");
    mesh.push();

    for _ in 0..6 {
        mesh.pass(LEASE / 2);
        for host in [0, 1] {
            let now = mesh.now;
            mesh.hosts[host].dataplane.handle_lease(now);
        }
    }

    assert!(mesh.udp_arrives("db", 0, 1, 53));
}

#[test]
fn a_restored_netmap_counts_for_what_is_left_of_its_lease() {
    let mut mesh = Mesh::with_hosts("db", 3);
    mesh.allow("db", 0, 1, "udp/53");
    mesh.allow("db", 2, 1, "udp/53");
    mesh.push();
    let (netmap, wall) = (mesh.netmap(0), mesh.wall());
    mesh.restart(0);
    let restored = Restored {
        since_word: LEASE / 10 * 9,
        wall,
    };
    let now = mesh.now;
    mesh.hosts[0].dataplane.restore(netmap, restored, now).unwrap();
    mesh.settle();
    mesh.send_candidates(0);

    assert!(mesh.udp_arrives("db", 0, 1, 53));
    assert!(
        !mesh.has_event(0, |event| matches!(event, Event::Enforced { .. })),
        "nothing to acknowledge"
    );
    let lease_left = mesh.hosts[0].dataplane.status(mesh.now)[0].lease_seconds;
    assert_eq!(lease_left, 60);
    mesh.pass(LEASE / 10);
    assert!(!mesh.udp_arrives("db", 0, 1, 53));
}

#[test]
fn a_restored_netmap_whose_lease_is_over_opens_nothing_but_holds_its_routes() {
    let mut mesh = Mesh::with_hosts("db", 2);
    mesh.allow("db", 0, 1, "tcp/5432");
    mesh.push();
    let (netmap, wall) = (mesh.netmap(0), mesh.wall());
    mesh.restart(0);
    let restored = Restored {
        since_word: LEASE,
        wall,
    };
    let now = mesh.now;
    mesh.hosts[0].dataplane.restore(netmap, restored, now).unwrap();
    mesh.settle();

    assert!(mesh.has_event(0, |event| matches!(event, Event::SegmentAdded(_))));
    assert!(!mesh.has_event(0, |event| matches!(event, Event::SegmentOpened { .. })));
    let flow = mesh.flow_v4("db", 0, 1, (Protocol::TCP, 5432));
    let syn = tcp(flow, 1, 0, TcpFlags::SYN, b"");
    assert_eq!(mesh.send(0, "db", &syn), Err(DropReason::SegmentClosed));

    mesh.push();
    mesh.received(0, "db");
    mesh.connect("db", 0, 1, 5432);
    assert!(mesh.hosts[0].dataplane.public_key(&name("db")).is_some());
}

#[test]
fn a_lease_without_end_is_no_lease() {
    let mut mesh = Mesh::with_hosts("db", 2);
    mesh.allow("db", 0, 1, "udp/53");
    mesh.push();
    let mut netmap = mesh.netmap(0);
    netmap.segments.get_mut(&name("db")).unwrap().lease_ms = u64::MAX;

    let now = mesh.now;
    mesh.hosts[0].dataplane.handle_netmap(netmap, now).unwrap();

    assert_eq!(mesh.hosts[0].dataplane.status(now)[0].lease_seconds, 24 * 3600);
}
