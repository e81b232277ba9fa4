//! What policy no longer allows ends at once, at both ends.

use std::collections::BTreeSet;
use std::time::Duration;

use ringfence_dataplane::{DropReason, Event};
use ringfence_model::{NodeId, UnixMillis};
use ringfence_packet::{Protocol, TcpFlags, udp_datagram};
use ringfence_policy::{CloseReason, Refusal};

use crate::mesh::{Connection, Mesh, name, reset_seq, tcp};

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
    assert!(due <= mesh.now + Duration::from_secs(30));

    mesh.pass(Duration::from_millis(29_900));
    assert!(mesh.received(0, "db").is_empty());
    mesh.pass(Duration::from_millis(100));

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

/// Who a rule ended for at this host, in order, and how their conversations are recorded.
fn ended(mesh: &mut Mesh, host: usize) -> Vec<(NodeId, CloseReason)> {
    let events = std::mem::take(&mut mesh.hosts[host].events);
    let closed = events.into_iter().filter_map(|event| match event {
        Event::FlowClosed(closed) => Some((closed.peer, closed.why)),
        _ => None,
    });
    closed.collect()
}

#[test]
fn a_rule_that_ends_for_each_at_another_second_ends_their_live_flows_then_with_nobody_to_ask() {
    let mut mesh = Mesh::with_hosts("db", 5);
    let [first, second, third] = [10, 20, 20].map(|seconds| UnixMillis(mesh.wall().0 + seconds * 1_000));
    let rule = mesh.allow_until("db", 1, 0, "tcp/5432", Some(second));
    mesh.allow_too("db", rule, 2, Some(first));
    mesh.allow_too("db", rule, 3, Some(third));
    mesh.allow_too("db", rule, 4, None);
    mesh.push();
    let connections: Vec<Connection> = (1..5).map(|client| mesh.connect("db", client, 0, 5432)).collect();
    let live = |mesh: &mut Mesh, client: usize| {
        let connection = &connections[client - 1];
        let (seq, ack) = (connection.client_next, connection.server_next);
        let packet = tcp(connection.flow, seq, ack, TcpFlags::ACK, b"more");
        let sent = mesh.send(client, "db", &packet);
        (sent.is_ok(), mesh.received(0, "db").contains(&packet))
    };

    // From here on no netmap comes: each node has its own clock alone.
    for (gone, left) in [(&[2][..], &[1, 3, 4][..]), (&[1, 3], &[4])] {
        mesh.pass(Duration::from_millis(9_999));
        for client in gone.iter().chain(left) {
            assert_eq!(
                live(&mut mesh, *client),
                (true, true),
                "{client}, a millisecond before"
            );
        }
        for host in 0..5 {
            assert_eq!(ended(&mut mesh, host), []);
            assert!(mesh.received(host, "db").is_empty());
        }
        mesh.pass(Duration::from_millis(1));

        let expired = |host: usize| (mesh.hosts[host].id, CloseReason::Expired);
        let (server, clients) = (expired(0), gone.iter().map(|client| expired(*client)));
        let clients: BTreeSet<(NodeId, CloseReason)> = clients.collect();
        let at_server: Vec<(NodeId, CloseReason)> = ended(&mut mesh, 0);
        assert_eq!(at_server.len(), gone.len(), "once each");
        assert_eq!(BTreeSet::from_iter(at_server), clients);
        let resets = mesh.received(0, "db");
        for client in gone {
            let connection = &connections[client - 1];
            assert_eq!(ended(&mut mesh, *client), [server], "{client}");
            assert!(
                mesh.received(*client, "db")
                    .iter()
                    .any(|packet| reset_seq(packet, connection.flow.reversed())
                        == Some(connection.server_next))
            );
            assert!(
                resets
                    .iter()
                    .any(|packet| reset_seq(packet, connection.flow).is_some())
            );
            assert_eq!(live(&mut mesh, *client), (false, false), "{client}");
        }
        for client in left {
            assert_eq!(live(&mut mesh, *client), (true, true), "{client}");
            assert_eq!(ended(&mut mesh, *client), [], "{client}");
        }
        for host in 0..5 {
            mesh.received(host, "db");
        }
    }
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
