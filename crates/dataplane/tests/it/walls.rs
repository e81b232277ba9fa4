//! Only what policy allows passes, whoever tries.

use ringfence_dataplane::DropReason;
use ringfence_packet::{
    Flow, IcmpKind, Packet, Protocol, TcpFlags, administratively_prohibited, echo_reply, echo_request,
    udp_datagram,
};
use ringfence_policy::Refusal;

use crate::mesh::{Mesh, name, reset_seq, tcp};

#[test]
fn an_allowed_tcp_connection_carries_data_both_ways() {
    let mut mesh = Mesh::with_hosts("db", 2);
    mesh.allow("db", 0, 1, "tcp/5432");
    mesh.push();

    let connection = mesh.connect("db", 0, 1, 5432);

    for host in [0, 1] {
        assert!(mesh.hosts[host].dataplane.has_flow(&name("db"), connection.flow));
    }
}

#[test]
fn udp_and_echo_pass_both_ways_in_both_families() {
    let mut mesh = Mesh::with_hosts("db", 2);
    mesh.allow("db", 0, 1, "udp/53");
    mesh.allow("db", 0, 1, "icmp");
    mesh.push();
    let [v4, v6] = [
        mesh.flow_v4("db", 0, 1, (Protocol::UDP, 53)),
        mesh.flow_v6("db", 0, 1, (Protocol::UDP, 53)),
    ];
    let pairs = [v4, v6].map(|flow| {
        let ping = echo_request(flow.src, flow.dst, 7, 1, b"payload");
        let pong = echo_reply(&ping).unwrap();
        [
            (
                udp_datagram(flow, b"question"),
                udp_datagram(flow.reversed(), b"answer"),
            ),
            (ping, pong),
        ]
    });

    for (there, back) in pairs.into_iter().flatten() {
        mesh.send(0, "db", &there).unwrap();
        assert_eq!(mesh.received(1, "db"), [there]);
        mesh.send(1, "db", &back).unwrap();
        assert_eq!(mesh.received(0, "db"), [back]);
    }
}

#[test]
fn a_rule_opens_one_direction_only() {
    let mut mesh = Mesh::with_hosts("db", 2);
    mesh.allow("db", 0, 1, "udp/53");
    mesh.push();

    assert!(mesh.udp_arrives("db", 0, 1, 53));
    assert!(!mesh.udp_arrives("db", 1, 0, 53));
    assert_eq!(mesh.drops(1, DropReason::Refused(Refusal::NotAllowed)), 1);
}

#[test]
fn a_refused_connect_is_answered_with_icmp_and_nothing_is_sent() {
    let mut mesh = Mesh::with_hosts("db", 2);
    mesh.allow("db", 0, 1, "tcp/5432");
    mesh.push();
    let flows = [
        mesh.flow_v4("db", 0, 1, (Protocol::TCP, 22)),
        mesh.flow_v6("db", 0, 1, (Protocol::TCP, 22)),
    ];

    for flow in flows {
        let syn = tcp(flow, 1, 0, TcpFlags::SYN, b"");
        let refused = mesh.send(0, "db", &syn);

        assert_eq!(refused, Err(DropReason::Refused(Refusal::NotAllowed)));
        let answer = administratively_prohibited(&syn, flow.dst).unwrap();
        assert_eq!(mesh.received(0, "db"), [answer]);
    }
    assert!(mesh.log.is_empty(), "not even a handshake is sent");
}

#[test]
fn a_member_that_no_rule_pairs_with_is_no_route() {
    let mut mesh = Mesh::with_hosts("db", 3);
    mesh.allow("db", 0, 1, "any");
    mesh.push();
    let flow = mesh.flow_v4("db", 2, 1, (Protocol::TCP, 5432));

    let refused = mesh.send(2, "db", &tcp(flow, 1, 0, TcpFlags::SYN, b""));

    assert_eq!(refused, Err(DropReason::NoRoute));
    assert_eq!(mesh.received(2, "db").len(), 1, "the application learns of it");
    assert!(mesh.log.is_empty());
}

#[test]
fn a_segment_of_an_unknown_connection_is_reset() {
    let mut mesh = Mesh::with_hosts("db", 2);
    mesh.allow("db", 0, 1, "tcp/5432");
    mesh.push();
    let flow = mesh.flow_v4("db", 0, 1, (Protocol::TCP, 5432));

    let refused = mesh.send(0, "db", &tcp(flow, 77, 4242, TcpFlags::ACK, b"late"));

    assert_eq!(refused, Err(DropReason::Refused(Refusal::UnsolicitedReply)));
    let answers = mesh.received(0, "db");
    assert_eq!(reset_seq(&answers[0], flow.reversed()), Some(4242));
    assert_eq!(answers.len(), 1);
}

#[test]
fn the_receiver_decides_even_if_the_sender_ignores_its_rules() {
    let mut mesh = Mesh::with_hosts("db", 2);
    mesh.allow("db", 0, 1, "tcp/5432");
    mesh.push();
    // Host 0 lets itself do everything; host 1 was told otherwise.
    mesh.allow("db", 0, 1, "any");
    mesh.next_revision();
    mesh.push_to(0);
    let flow = mesh.flow_v4("db", 0, 1, (Protocol::TCP, 22));

    let sent = mesh.send(0, "db", &tcp(flow, 1, 0, TcpFlags::SYN, b""));

    assert_eq!(sent, Ok(()));
    assert_eq!(mesh.drops(1, DropReason::Refused(Refusal::NotAllowed)), 1);
    assert!(mesh.received(1, "db").is_empty());
    assert!(mesh.received(0, "db").is_empty(), "refused in silence");
}

#[test]
fn a_peer_cannot_wear_another_peers_address() {
    let mut mesh = Mesh::with_hosts("db", 3);
    mesh.allow("db", 0, 1, "udp/53");
    mesh.allow("db", 2, 1, "any");
    mesh.push();
    assert!(mesh.udp_arrives("db", 2, 1, 53));
    let victim = mesh.flow_v4("db", 0, 1, (Protocol::UDP, 53));
    let victim_v6 = mesh.flow_v6("db", 0, 1, (Protocol::UDP, 53));
    let nobody = Flow {
        src: "100.64.0.200".parse().unwrap(),
        ..victim
    };

    for spoofed in [victim, victim_v6, nobody] {
        let before = mesh.drops(1, DropReason::SourceNotPeers);
        mesh.forge("db", 2, 1, &udp_datagram(spoofed, b"I am host 0"));

        assert!(mesh.drops(1, DropReason::SourceNotPeers) > before);
        assert!(mesh.received(1, "db").is_empty());
    }
}

#[test]
fn a_peer_cannot_wear_another_peers_address_in_fragments() {
    let mut mesh = Mesh::with_hosts("db", 3);
    mesh.allow("db", 0, 1, "udp/53");
    mesh.allow("db", 2, 1, "any");
    mesh.push();
    let victim = mesh.flow_v4("db", 0, 1, (Protocol::UDP, 53));
    let packet = udp_datagram(victim, &[7; 1000]);
    let [first, later] = fragments(&packet);
    for fragment in [&first, &later] {
        mesh.send(0, "db", fragment).unwrap();
    }
    assert_eq!(
        mesh.received(1, "db"),
        [first.clone(), later.clone()],
        "the real owner may"
    );

    // Even with the identification of a datagram that is on its way.
    for fragment in [&first, &later] {
        mesh.forge("db", 2, 1, fragment);
    }

    assert_eq!(mesh.drops(1, DropReason::SourceNotPeers), 2);
    assert!(mesh.received(1, "db").is_empty());
}

#[test]
fn a_later_fragment_without_its_first_is_refused() {
    let mut mesh = Mesh::with_hosts("db", 2);
    mesh.allow("db", 0, 1, "udp/53");
    mesh.push();
    let flow = mesh.flow_v4("db", 0, 1, (Protocol::UDP, 53));
    let [_, later] = fragments(&udp_datagram(flow, &[7; 1000]));

    let refused = mesh.send(0, "db", &later);

    assert_eq!(refused, Err(DropReason::Refused(Refusal::FragmentWithoutFirst)));
}

#[test]
fn a_packet_cannot_cross_to_another_segment() {
    let mut mesh = Mesh::new();
    let hosts: Vec<usize> = (0..3).map(|_| mesh.host()).collect();
    mesh.perimeter("db", &hosts[..2]);
    mesh.perimeter("web", &hosts[1..]);
    mesh.allow("db", 0, 1, "any");
    mesh.allow("web", 1, 2, "any");
    mesh.push();
    assert!(mesh.udp_arrives("db", 0, 1, 53));
    assert!(mesh.udp_arrives("web", 1, 2, 53));
    let keys = ["db", "web"].map(|perimeter| mesh.hosts[1].dataplane.public_key(&name(perimeter)));
    assert_ne!(keys[0], keys[1]);

    // Out of host 1's db device with the web address, to a web peer: neither source nor destination belongs there.
    let in_web = mesh.flow_v4("web", 1, 2, (Protocol::UDP, 53));
    let out = mesh.send(1, "db", &udp_datagram(in_web, b"x"));
    assert_eq!(out, Err(DropReason::SourceNotOurs));

    // Host 0 sends into db what is addressed to host 1's web address, and to host 2 behind it.
    let from_db = mesh.flow_v4("db", 0, 1, (Protocol::UDP, 53));
    let other_address = mesh.flow_v4("web", 1, 2, (Protocol::UDP, 53)).src;
    for dst in [other_address, in_web.dst] {
        let before = mesh.drops(1, DropReason::DestinationNotOurs);
        mesh.forge("db", 0, 1, &udp_datagram(Flow { dst, ..from_db }, b"x"));
        assert!(mesh.drops(1, DropReason::DestinationNotOurs) > before);
    }
    for (host, perimeter) in [(1, "db"), (1, "web"), (2, "web")] {
        assert!(mesh.received(host, perimeter).is_empty());
    }
}

#[test]
fn an_icmp_error_passes_only_about_a_live_flow() {
    let mut mesh = Mesh::with_hosts("db", 2);
    mesh.allow("db", 0, 1, "udp/53");
    mesh.push();
    let flow = mesh.flow_v4("db", 0, 1, (Protocol::UDP, 53));
    let query = udp_datagram(flow, b"question");
    let about_live = administratively_prohibited(&query, flow.dst).unwrap();
    let other = Flow { dst_port: 54, ..flow };
    let about_none = administratively_prohibited(&udp_datagram(other, b"x"), flow.dst).unwrap();
    mesh.send(0, "db", &query).unwrap();

    assert_eq!(mesh.send(1, "db", &about_live), Ok(()));
    let refused = mesh.send(1, "db", &about_none);

    assert_eq!(refused, Err(DropReason::Refused(Refusal::IcmpErrorWithoutFlow)));
    assert_eq!(mesh.received(0, "db"), std::slice::from_ref(&about_live));
    let packet = Packet::parse(&about_live).unwrap();
    assert!(matches!(packet.icmp, Some(IcmpKind::Error { .. })));
}

#[test]
fn garbage_from_the_device_and_from_the_network_is_counted_and_dropped() {
    let mut mesh = Mesh::with_hosts("db", 2);
    mesh.allow("db", 0, 1, "any");
    mesh.push();
    assert!(mesh.udp_arrives("db", 0, 1, 53));
    let (src, now) = (mesh.hosts[0].address, mesh.now);
    let good = mesh.log.last().unwrap().bytes.clone();

    for length in 0..good.len() {
        let dataplane = &mut mesh.hosts[1].dataplane;
        assert!(dataplane.handle_datagram(src, &good[..length], now).is_err());
        let mut flipped = good.clone();
        flipped[length] ^= 0x40;
        assert!(dataplane.handle_datagram(src, &flipped, now).is_err());
    }
    for length in 0..64 {
        assert!(mesh.send(0, "db", &vec![0x45; length]).is_err());
        assert!(mesh.send(0, "db", &vec![0x60; length]).is_err());
    }

    assert!(mesh.received(1, "db").is_empty());
    assert!(mesh.udp_arrives("db", 0, 1, 53), "and life goes on");
}

/// An IPv4 packet in two fragments.
fn fragments(packet: &[u8]) -> [Vec<u8>; 2] {
    const HEADER: usize = 20;
    const FIRST: usize = 512;
    let (header, payload) = packet.split_at(HEADER);
    let part = |bytes: &[u8], field: u16| {
        let mut part = [header, bytes].concat();
        part[2..4].copy_from_slice(&((HEADER + bytes.len()) as u16).to_be_bytes());
        part[4..6].copy_from_slice(&0x1234_u16.to_be_bytes());
        part[6..8].copy_from_slice(&field.to_be_bytes());
        part[10..12].fill(0);
        let sum = ringfence_packet::checksum(0, &part[..HEADER]);
        part[10..12].copy_from_slice(&sum.to_be_bytes());
        part
    };
    [
        part(&payload[..FIRST], 0x2000),
        part(&payload[FIRST..], (FIRST / 8) as u16),
    ]
}
