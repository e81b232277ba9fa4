//! What policy no longer allows ends at once, at both ends.

use ringfence_dataplane::{DropReason, Event};
use ringfence_model::UnixMillis;
use ringfence_packet::{Protocol, TcpFlags, udp_datagram};
use ringfence_policy::{CloseReason, Refusal};

use crate::mesh::{Mesh, name, reset_seq, tcp};

#[test]
fn a_rule_removed_resets_the_connection_at_both_ends() {
    let mut mesh = Mesh::with_hosts("db", 2);
    let rule = mesh.allow("db", 0, 1, "tcp/5432");
    mesh.allow("db", 0, 1, "udp/53");
    mesh.push();
    let connection = mesh.connect("db", 0, 1, 5432);

    mesh.deny("db", rule);
    mesh.push();

    let at_client = mesh.received(0, "db");
    let at_server = mesh.received(1, "db");
    assert_eq!(
        reset_seq(&at_client[0], connection.flow.reversed()),
        Some(connection.server_next)
    );
    assert_eq!(
        reset_seq(&at_server[0], connection.flow),
        Some(connection.client_next)
    );
    for host in [0, 1] {
        assert!(!mesh.hosts[host].dataplane.has_flow(&name("db"), connection.flow));
        assert!(mesh.has_event(host, |event| matches!(
            event,
            Event::FlowClosed(closed) if closed.why == CloseReason::Revoked && closed.flow == connection.flow
        )));
    }
    let more = tcp(connection.flow, 1006, 5005, TcpFlags::ACK, b"more");
    assert_eq!(
        mesh.send(0, "db", &more),
        Err(DropReason::Refused(Refusal::NotAllowed))
    );
}

#[test]
fn one_honest_end_is_enough_to_end_a_connection() {
    for told in [0, 1] {
        let mut mesh = Mesh::with_hosts("db", 2);
        let rule = mesh.allow("db", 0, 1, "tcp/5432");
        mesh.allow("db", 0, 1, "udp/53");
        mesh.push();
        let connection = mesh.connect("db", 0, 1, 5432);

        mesh.deny("db", rule);
        mesh.next_revision();
        mesh.push_to(told);

        let at_client = mesh.received(0, "db");
        let at_server = mesh.received(1, "db");
        assert_eq!(
            reset_seq(&at_client[0], connection.flow.reversed()),
            Some(connection.server_next)
        );
        assert_eq!(
            reset_seq(&at_server[0], connection.flow),
            Some(connection.client_next)
        );
    }
}

#[test]
fn a_peer_removed_is_reset_through_the_session_before_its_keys_go() {
    let mut mesh = Mesh::with_hosts("db", 3);
    mesh.allow("db", 0, 1, "tcp/5432");
    mesh.allow("db", 2, 1, "udp/53");
    mesh.push();
    let connection = mesh.connect("db", 0, 1, 5432);

    mesh.expel("db", 0);
    mesh.next_revision();
    mesh.push_to(1);

    let at_server = mesh.received(1, "db");
    assert_eq!(
        reset_seq(&at_server[0], connection.flow),
        Some(connection.client_next)
    );
    let at_client = mesh.received(0, "db");
    assert_eq!(
        reset_seq(&at_client[0], connection.flow.reversed()),
        Some(connection.server_next),
        "the one that was thrown out learns of it, though nobody told it"
    );

    // From now on: silence, for its session, and for its handshakes.
    let sent = mesh.log.len();
    let flow = mesh.flow_v4("db", 0, 1, (Protocol::TCP, 5432));
    let again = tcp(flow, 1, 0, TcpFlags::SYN, b"");
    assert_eq!(
        mesh.send(0, "db", &again),
        Ok(()),
        "it still believes in its netmap"
    );
    let replies = mesh.log[sent..]
        .iter()
        .filter(|datagram| datagram.src == mesh.hosts[1].address);
    assert_eq!(replies.count(), 0);
    assert!(mesh.received(1, "db").is_empty());
}

#[test]
fn a_removed_peers_handshake_gets_no_answer() {
    let mut mesh = Mesh::with_hosts("db", 3);
    mesh.allow("db", 0, 1, "tcp/5432");
    mesh.allow("db", 2, 1, "udp/53");
    mesh.push();

    mesh.expel("db", 0);
    mesh.next_revision();
    mesh.push_to(1);
    let flow = mesh.flow_v4("db", 0, 1, (Protocol::TCP, 5432));
    mesh.send(0, "db", &tcp(flow, 1, 0, TcpFlags::SYN, b"")).unwrap();

    assert_eq!(mesh.log.len(), 1, "one initiation, no response");
    assert_eq!(mesh.log[0].dst, mesh.hosts[1].address);
}

#[test]
fn a_netmap_without_a_perimeter_removes_its_segment() {
    let mut mesh = Mesh::with_hosts("db", 2);
    mesh.allow("db", 0, 1, "any");
    mesh.push();
    let flow = mesh.flow_v4("db", 0, 1, (Protocol::UDP, 53));
    let packet = udp_datagram(flow, b"x");
    mesh.send(0, "db", &packet).unwrap();

    mesh.expel("db", 1);
    mesh.push();

    assert!(mesh.has_event(
        1,
        |event| matches!(event, Event::SegmentRemoved(facts) if facts.interface == "rf-db")
    ));
    assert_eq!(
        mesh.hosts[1].dataplane.public_key(&name("db")),
        None,
        "the key is gone too"
    );
    assert_eq!(mesh.send(1, "db", &packet), Err(DropReason::NoSegment));
}

#[test]
fn a_udp_conversation_that_is_cut_ends_with_an_icmp_error() {
    let mut mesh = Mesh::with_hosts("db", 2);
    let rule = mesh.allow("db", 0, 1, "udp/53");
    mesh.allow("db", 0, 1, "tcp/5432");
    mesh.push();
    assert!(mesh.udp_arrives("db", 0, 1, 53));

    mesh.deny("db", rule);
    mesh.push();

    let flow = mesh.flow_v4("db", 0, 1, (Protocol::UDP, 53));
    let error = ringfence_packet::administratively_prohibited_flow(flow, flow.dst).unwrap();
    assert!(mesh.received(0, "db").contains(&error));
}

#[test]
fn a_rule_that_expires_ends_its_flows_on_time_and_unasked() {
    let mut mesh = Mesh::with_hosts("db", 2);
    let expires = UnixMillis(mesh.wall().0 + 30_000);
    mesh.allow_until("db", 0, 1, "tcp/5432", Some(expires));
    mesh.allow("db", 0, 1, "udp/53");
    mesh.push();
    let connection = mesh.connect("db", 0, 1, 5432);
    let due = mesh.hosts[0].dataplane.poll_timeout().unwrap();
    assert!(due <= mesh.now + std::time::Duration::from_secs(30));

    mesh.pass(std::time::Duration::from_millis(29_900));
    assert!(mesh.received(0, "db").is_empty());
    mesh.pass(std::time::Duration::from_millis(100));

    let at_client = mesh.received(0, "db");
    assert_eq!(
        reset_seq(&at_client[0], connection.flow.reversed()),
        Some(connection.server_next)
    );
    assert!(mesh.has_event(1, |event| matches!(
        event,
        Event::FlowClosed(closed) if closed.why == CloseReason::Expired
    )));
    let flow = mesh.flow_v4("db", 0, 1, (Protocol::TCP, 5432));
    let again = mesh.send(0, "db", &tcp(flow, 1, 0, TcpFlags::SYN, b""));
    assert_eq!(again, Err(DropReason::Refused(Refusal::NotAllowed)));
}

#[test]
fn a_packet_that_waits_for_a_session_is_dropped_with_its_rule() {
    let mut mesh = Mesh::with_hosts("db", 2);
    let rule = mesh.allow("db", 0, 1, "udp/53");
    mesh.allow("db", 1, 0, "udp/99");
    mesh.push();
    mesh.lose = |_| true;
    assert!(!mesh.udp_arrives("db", 0, 1, 53));
    mesh.lose = |_| false;

    mesh.deny("db", rule);
    mesh.push();
    assert!(mesh.udp_arrives("db", 1, 0, 99), "there is a session now");

    assert_eq!(mesh.drops(0, DropReason::Revoked), 1);
    assert!(mesh.received(1, "db").is_empty());
}
