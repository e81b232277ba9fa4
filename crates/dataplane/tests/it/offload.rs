//! Many packets in one: judged once, sent as one run, received as one packet, and never by yesterday's rules.

use ringfence_dataplane::{Arrival, DropReason, Event, Transmit};
use ringfence_packet::offload::{Run, SuperPacket, VNET_HEADER_BYTES, VnetHeader};
use ringfence_packet::{Flow, Protocol, TcpFlags, udp_datagram};
use ringfence_policy::Refusal;

use crate::mesh::{Connection, Mesh, tcp};

const MSS: usize = 1348;
const SEGMENTS: usize = 40;

/// What the kernel writes to a TUN device when an application sends much at once.
fn super_packet(connection: &Connection, segments: usize) -> Vec<u8> {
    let mut seq = connection.client_next;
    let mut run: Option<Run> = None;
    for index in 0..segments {
        let payload = [index as u8; MSS];
        let packet = tcp(
            connection.flow,
            seq,
            connection.server_next,
            TcpFlags::ACK,
            &payload,
        );
        seq = seq.wrapping_add(MSS as u32);
        match &mut run {
            Some(run) => assert!(run.join(&packet)),
            None => run = Some(Run::start([vec![0; VNET_HEADER_BYTES], packet].concat())),
        }
    }
    run.unwrap().into_buffer()
}

/// A mesh in which host 0 talks to host 1 over TCP, and the rule that allows it.
fn talking() -> (Mesh, Connection, u32) {
    let mut mesh = Mesh::with_hosts("db", 2);
    let rule = mesh.allow("db", 0, 1, "tcp/5432");
    mesh.push();
    let connection = mesh.connect("db", 0, 1, 5432);
    (mesh, connection, rule)
}

fn send(mesh: &mut Mesh, buffer: &mut [u8]) -> Result<Vec<Transmit>, DropReason> {
    let segment = mesh.segment_id(0, "db");
    let now = mesh.now;
    let (header, packet) = buffer.split_first_chunk_mut().unwrap();
    let packet = SuperPacket::parse(VnetHeader::decode(header), packet).unwrap();
    let dataplane = &mut mesh.hosts[0].dataplane;
    dataplane.handle_super_packet(segment, &packet, now)?;
    Ok(std::iter::from_fn(|| dataplane.poll_transmit()).collect())
}

fn receive(mesh: &mut Mesh, transmits: &[Transmit]) {
    let now = mesh.now;
    let arrival = Arrival {
        src: mesh.hosts[0].address,
        ours: None,
    };
    for transmit in transmits {
        mesh.hosts[1]
            .dataplane
            .handle_datagrams(arrival, transmit.bytes(), transmit.stride(), now);
    }
}

fn delivered(mesh: &mut Mesh) -> Vec<Vec<u8>> {
    let now = mesh.now;
    let dataplane = &mut mesh.hosts[1].dataplane;
    dataplane.handle_batch_end(now);
    std::iter::from_fn(|| dataplane.poll_tun())
        .map(|packet| packet.buffer)
        .collect()
}

#[test]
fn what_an_application_sends_at_once_travels_as_one_run_and_arrives_as_it_was() {
    let (mut mesh, connection, _) = talking();
    let mut buffer = super_packet(&connection, SEGMENTS);
    let sent = buffer.clone();

    let transmits = send(&mut mesh, &mut buffer).unwrap();

    assert_eq!(transmits.len(), 1, "one system call");
    assert_eq!(transmits[0].datagrams().count(), SEGMENTS);
    receive(&mut mesh, &transmits);
    assert_eq!(delivered(&mut mesh), [sent], "one write");
}

#[test]
fn a_run_is_counted_as_the_packets_it_is_made_of() {
    let (mut mesh, connection, rule) = talking();
    let transmits = send(&mut mesh, &mut super_packet(&connection, SEGMENTS)).unwrap();
    receive(&mut mesh, &transmits);
    delivered(&mut mesh);

    mesh.deny("db", rule);
    mesh.push();

    // The three packets and five bytes of `connect` come on top.
    let packets = 3 + SEGMENTS;
    let bytes = 3 * 40 + 5 + SEGMENTS * (MSS + 40);
    assert_eq!(sent_by_client(&mesh, 0), (packets, bytes));
    // Of the resets that ended it, the client's two had come.
    assert_eq!(sent_by_client(&mesh, 1), (packets + 2, bytes + 2 * 40));
}

/// Packets and bytes of the client in the flow that ended, as a host counted them.
fn sent_by_client(mesh: &Mesh, host: usize) -> (usize, usize) {
    let ended = mesh.hosts[host].events.iter().find_map(|event| match event {
        Event::FlowClosed(closed) => Some(closed.counters.to_responder),
        _ => None,
    });
    let traffic = ended.unwrap();
    (traffic.packets as usize, traffic.bytes as usize)
}

#[test]
fn a_super_packet_that_no_rule_allows_is_refused_whole_and_the_sender_told_once() {
    let (mut mesh, connection, rule) = talking();
    mesh.deny("db", rule);
    mesh.push();
    mesh.received(0, "db");

    let refused = send(&mut mesh, &mut super_packet(&connection, SEGMENTS));

    assert!(
        matches!(refused, Err(DropReason::NoRoute | DropReason::Refused(_))),
        "{refused:?}"
    );
    let told = std::iter::from_fn(|| mesh.hosts[0].dataplane.poll_tun()).count();
    assert_eq!(told, 1);
}

#[test]
fn packets_that_came_before_a_new_revision_and_wait_are_judged_by_it() {
    let (mut mesh, connection, rule) = talking();
    let other = mesh.allow("db", 0, 1, "udp/53");
    mesh.push();
    let transmits = send(&mut mesh, &mut super_packet(&connection, SEGMENTS)).unwrap();
    receive(&mut mesh, &transmits);

    mesh.deny("db", rule);
    mesh.next_revision();
    let (netmap, now) = (mesh.netmap(1), mesh.now);
    mesh.hosts[1].dataplane.handle_netmap(netmap, now).unwrap();

    let refused = mesh.drops(1, DropReason::Refused(Refusal::NotAllowed));
    let resets = delivered(&mut mesh);
    assert!(
        resets.iter().all(|packet| packet.len() < MSS),
        "data passed under a revision that forbids it"
    );
    let after = mesh.drops(1, DropReason::Refused(Refusal::NotAllowed));
    assert_eq!(after - refused, SEGMENTS as u64, "each packet is counted");
    assert!(other > rule);
}

#[test]
fn a_peer_that_wears_anothers_address_does_not_get_into_the_others_run() {
    let mut mesh = Mesh::with_hosts("db", 3);
    mesh.allow("db", 0, 1, "udp/53");
    mesh.allow("db", 2, 1, "udp/53");
    mesh.push();
    assert!(mesh.udp_arrives("db", 0, 1, 53));
    assert!(mesh.udp_arrives("db", 2, 1, 53));
    let flow = mesh.flow_v4("db", 0, 1, (Protocol::UDP, 53));
    // Of the victim's conversation in every byte of its headers.
    mesh.lose = |datagram| datagram.bytes[0] == 4;
    mesh.forge("db", 2, 1, &udp_datagram(flow, b"rogue's words"));
    mesh.lose = |_| false;
    let forged = mesh.log.last().unwrap().clone();
    let mut sent = Run::start([vec![0; VNET_HEADER_BYTES], udp_datagram(flow, b"victim's word")].concat());
    assert!(sent.join(&udp_datagram(flow, b"victim's word")));
    let transmits = send(&mut mesh, &mut sent.into_buffer()).unwrap();

    receive(&mut mesh, &transmits);
    let now = mesh.now;
    let arrival = Arrival {
        src: forged.src,
        ours: None,
    };
    mesh.hosts[1]
        .dataplane
        .handle_datagrams(arrival, &forged.bytes, forged.bytes.len(), now);
    let delivered = delivered(&mut mesh);

    assert_eq!(delivered.len(), 1);
    assert_eq!(
        delivered[0][VNET_HEADER_BYTES + 28..],
        *b"victim's wordvictim's word"
    );
    assert_eq!(mesh.drops(1, DropReason::SourceNotPeers), 1);
}

#[test]
fn small_packets_to_one_peer_gather_in_one_run_until_the_shell_fetches_them() {
    let mut mesh = Mesh::with_hosts("db", 2);
    mesh.allow("db", 0, 1, "udp/53");
    mesh.push();
    assert!(mesh.udp_arrives("db", 0, 1, 53));
    let flow = mesh.flow_v4("db", 0, 1, (Protocol::UDP, 53));
    let packet = udp_datagram(flow, b"a question");
    let (segment, now) = (mesh.segment_id(0, "db"), mesh.now);
    let dataplane = &mut mesh.hosts[0].dataplane;

    for _ in 0..10 {
        dataplane.handle_tun(segment, &packet, now).unwrap();
    }

    assert!(dataplane.transmit_bytes_waiting() > 10 * packet.len());
    let run = dataplane.poll_transmit().unwrap();
    assert_eq!(run.datagrams().count(), 10);
    assert!(dataplane.poll_transmit().is_none());
    receive(&mut mesh, &[run]);
    let delivered = delivered(&mut mesh);
    assert_eq!(delivered.len(), 1, "and go to the kernel as one");
}

#[test]
fn a_packet_for_whom_there_is_no_session_yet_waits_cut_to_size() {
    let mut mesh = Mesh::with_hosts("db", 2);
    mesh.allow("db", 0, 1, "udp/53");
    mesh.push();
    let flow = mesh.flow_v4("db", 0, 1, (Protocol::UDP, 53));
    let packet = udp_datagram(flow, b"a question");
    let mut run = Run::start([vec![0; VNET_HEADER_BYTES], packet.clone()].concat());
    assert!(run.join(&packet) && run.join(&packet));
    let mut buffer = run.into_buffer();
    let (header, super_packet) = buffer.split_first_chunk_mut().unwrap();
    let super_packet = SuperPacket::parse(VnetHeader::decode(header), super_packet).unwrap();
    let (segment, now) = (mesh.segment_id(0, "db"), mesh.now);

    let held = mesh.hosts[0]
        .dataplane
        .handle_super_packet(segment, &super_packet, now);
    mesh.settle();

    assert_eq!(held, Ok(()));
    let received = mesh.received(1, "db");
    let payloads = received.iter().map(|packet| &packet[28..]);
    assert_eq!(payloads.collect::<Vec<_>>(), [b"a question"; 3]);
}

#[test]
fn a_peer_is_answered_from_the_address_it_wrote_to() {
    let (mut mesh, connection, _) = talking();
    let transmits = send(&mut mesh, &mut super_packet(&connection, 1)).unwrap();
    let ours = Some("192.0.2.77".parse().unwrap());
    let (now, segment) = (mesh.now, mesh.segment_id(1, "db"));
    let arrival = Arrival {
        src: mesh.hosts[0].address,
        ours,
    };
    let answerer = &mut mesh.hosts[1].dataplane;

    answerer.handle_datagrams(arrival, transmits[0].bytes(), transmits[0].stride(), now);
    let (seq, ack) = (connection.server_next, connection.client_next);
    let answer = tcp(connection.flow.reversed(), seq, ack, TcpFlags::ACK, b"rows");
    answerer.handle_tun(segment, &answer, now).unwrap();

    assert_eq!(
        answerer.poll_transmit().map(|transmit| transmit.src_ip),
        Some(ours)
    );
}

/// `packet`, an IPv4 packet without options, in two fragments of which the first holds `first_bytes` of its payload.
fn in_fragments(packet: &[u8], first_bytes: usize) -> [Vec<u8>; 2] {
    let fragment = |payload: &[u8], field: u16| {
        let mut fragment = [&packet[..20], payload].concat();
        let length = fragment.len() as u16;
        fragment[2..4].copy_from_slice(&length.to_be_bytes());
        fragment[4..6].copy_from_slice(&7_u16.to_be_bytes());
        fragment[6..8].copy_from_slice(&field.to_be_bytes());
        fragment[10..12].fill(0);
        let words = fragment[..20].chunks(2);
        let sum: u32 = words
            .map(|word| u32::from(u16::from_be_bytes([word[0], word[1]])))
            .sum();
        let sum = !((sum & 0xffff) + (sum >> 16)) as u16;
        fragment[10..12].copy_from_slice(&sum.to_be_bytes());
        fragment
    };
    let (first, last) = packet[20..].split_at(first_bytes);
    let (more, offset) = (0x2000, (first_bytes / 8) as u16);
    [fragment(first, more), fragment(last, offset)]
}

#[test]
fn nothing_of_a_conversation_overtakes_what_came_before_it() {
    let mut mesh = Mesh::with_hosts("db", 2);
    mesh.allow("db", 0, 1, "udp/53");
    mesh.push();
    assert!(mesh.udp_arrives("db", 0, 1, 53));
    let flow = mesh.flow_v4("db", 0, 1, (Protocol::UDP, 53));
    let other = Flow {
        src_port: 40_001,
        ..flow
    };
    let [first, last] = in_fragments(&udp_datagram(flow, &[2; 64]), 24);
    let sent = [
        udp_datagram(flow, &[1; 32]),
        udp_datagram(other, &[9; 32]),
        first,
        last,
        udp_datagram(flow, &[3; 32]),
    ];
    let (segment, now) = (mesh.segment_id(0, "db"), mesh.now);
    let dataplane = &mut mesh.hosts[0].dataplane;
    for packet in &sent {
        dataplane.handle_tun(segment, packet, now).unwrap();
    }
    let transmits: Vec<Transmit> = std::iter::from_fn(|| dataplane.poll_transmit()).collect();

    receive(&mut mesh, &transmits);
    let delivered = delivered(&mut mesh);

    let in_conversation = |packet: &&Vec<u8>| !packet.ends_with(&[9; 32]);
    let order: Vec<&[u8]> = delivered
        .iter()
        .filter(in_conversation)
        .map(|packet| &packet[VNET_HEADER_BYTES..])
        .collect();
    assert_eq!(order, [&sent[0], &sent[2], &sent[3], &sent[4]]);
}
