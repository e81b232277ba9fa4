//! A lane that cannot reach its peer any more keeps its conversations, and another lane sends for them.

use super::*;

#[test]
fn conversations_of_a_lane_that_falls_silent_go_on_by_the_first_and_come_back() {
    let (mesh, mut nodes) = two_nodes([2, 2]);
    let mut talk = Talk::new(connect(&mesh, &mut nodes, 1));
    nodes.lose = further_port;

    assert!(!talk.ask_until_heard(&mut nodes, secs(15)), "it may yet answer");
    assert!(talk.ask_until_heard(&mut nodes, secs(2)));
    assert_eq!(nodes.lanes_with(CLIENT, talk.flow), [1], "it stays where it was");
    assert!(
        talk.answer_until_heard(&mut nodes, secs(0)),
        "the other end follows"
    );

    for _ in 0..10 {
        nodes.pass_slowly(secs(10));
        assert!(talk.ask_until_heard(&mut nodes, secs(0)));
        assert!(talk.answer_until_heard(&mut nodes, secs(0)));
    }
    let fresh = fresh(talk.flow);
    nodes.send((CLIENT, 1), &tcp(fresh, 1, 0, TcpFlags::SYN, b""));
    assert_eq!(
        nodes.lanes_with(CLIENT, fresh),
        [0],
        "what is new is not of that lane"
    );

    // The client's handshake gets through at last. (Its clock is not the tunnel's in this test, which repeats it never.)
    nodes.lose = |_| false;
    let lost = nodes
        .lost
        .iter()
        .find(|datagram| datagram.dst.ip() == SERVER_IP && datagram.bytes[0] == 1);
    nodes.wire.extend(lost.cloned());
    nodes.settle();
    nodes.wire_log.clear();
    assert!(talk.ask_until_heard(&mut nodes, secs(0)));
    assert!(talk.answer_until_heard(&mut nodes, secs(0)));
    assert!(nodes.wire_log.iter().all(further_port), "{:?}", nodes.wire_log);
    assert_eq!(nodes.refused(CLIENT) + nodes.refused(SERVER), 0);
}

#[test]
fn a_lane_that_is_blocked_one_way_is_given_up_both_ways() {
    let (mesh, mut nodes) = two_nodes([2, 2]);
    let mut talk = Talk::new(connect(&mesh, &mut nodes, 1));
    nodes.lose = |datagram| further_port(datagram) && datagram.dst.ip() == SERVER_IP;

    // The client hears all that the server says, which shows that it hears nothing, and goes another way with it.
    let mut heard = false;
    for _ in 0..17 {
        talk.answer_until_heard(&mut nodes, secs(0));
        heard = talk.ask_until_heard(&mut nodes, secs(0));
        nodes.pass(secs(1));
    }
    assert!(heard);

    for _ in 0..10 {
        nodes.pass_slowly(secs(5));
        assert!(talk.ask_until_heard(&mut nodes, secs(0)));
        assert!(talk.answer_until_heard(&mut nodes, secs(0)));
    }
}

#[test]
fn a_conversation_whose_lane_lost_its_session_goes_on_by_the_first_at_once() {
    let (mesh, mut nodes) = two_nodes([2, 2]);
    let mut talk = Talk::new(connect(&mesh, &mut nodes, 1));
    for epoch in [1, 2] {
        let client = &mut nodes.places[CLIENT][1].dataplane;
        client.handle_peer_epoch(NodeId(SERVER as u64 + 1), epoch, nodes.now);
    }
    nodes.lose = further_port;

    assert!(
        !talk.ask_until_heard(&mut nodes, secs(0)),
        "it waits for its lane"
    );
    nodes.pass(Duration::from_millis(500));
    assert!(!nodes.received((SERVER, 1)).is_empty());
    assert!(
        talk.ask_until_heard(&mut nodes, secs(0)),
        "the next does not wait"
    );
    assert_eq!(nodes.lanes_with(CLIENT, talk.flow), [1]);
    assert_eq!(nodes.refused(CLIENT) + nodes.refused(SERVER), 0);
}

#[test]
fn what_one_lane_let_pass_is_not_sent_by_one_that_knows_better() {
    let (mut mesh, mut nodes) = two_nodes([2, 2]);
    let mut talk = Talk::new(connect(&mesh, &mut nodes, 1));
    nodes.lose = further_port;
    assert!(talk.ask_until_heard(&mut nodes, secs(17)));
    nodes.lose = |_| false;
    mesh.deny("db", RULE);
    mesh.next_revision();

    nodes.apply_in((CLIENT, 0), &mesh);
    nodes.received((SERVER, 1));
    nodes.wire_log.clear();
    assert!(!talk.ask_until_heard(&mut nodes, secs(0)));

    assert!(nodes.wire_log.iter().all(further_port), "{:?}", nodes.wire_log);
    let lane = &nodes.places[CLIENT][0].dataplane;
    assert_eq!(lane.drops().of(DropReason::NoLane), 1);
}

#[test]
fn a_lane_in_between_sends_too_if_it_can() {
    let (mesh, mut nodes) = two_nodes([3, 3]);
    let mut talk = Talk::new(connect(&mesh, &mut nodes, 1));
    connect(&mesh, &mut nodes, 2);
    nodes.lose = further_port;
    assert!(!talk.ask_until_heard(&mut nodes, secs(15)));
    nodes.wire_log.clear();

    assert!(talk.ask_until_heard(&mut nodes, secs(2)));

    let carried = |port| nodes.wire_log.iter().any(|datagram| datagram.dst.port() == port);
    assert!(carried(PORT + 2) && !carried(PORT), "{:?}", nodes.wire_log);
}

/// A connection in lane 1 of both nodes, whose ends say one byte after another.
struct Talk {
    flow: Flow,
    client_seq: u32,
    server_seq: u32,
}

impl Talk {
    fn new(flow: Flow) -> Self {
        Self {
            flow,
            client_seq: 1001,
            server_seq: 5001,
        }
    }

    /// The client says one thing each second until the server hears it, for so long; whether it did.
    fn ask_until_heard(&mut self, nodes: &mut Nodes, patience: Duration) -> bool {
        let packet = tcp(self.flow, self.client_seq, self.server_seq, TcpFlags::ACK, b"?");
        let heard = say_until_heard(nodes, [CLIENT, SERVER], &packet, patience);
        self.client_seq += u32::from(heard);
        heard
    }

    /// The same the other way.
    fn answer_until_heard(&mut self, nodes: &mut Nodes, patience: Duration) -> bool {
        let flow = self.flow.reversed();
        let packet = tcp(flow, self.server_seq, self.client_seq, TcpFlags::ACK, b"!");
        let heard = say_until_heard(nodes, [SERVER, CLIENT], &packet, patience);
        self.server_seq += u32::from(heard);
        heard
    }
}

fn say_until_heard(nodes: &mut Nodes, [from, to]: [usize; 2], packet: &[u8], patience: Duration) -> bool {
    let end = nodes.now + patience;
    loop {
        nodes.send((from, 1), packet);
        let heard = nodes.received((to, 1)).iter().any(|heard| heard == packet);
        if heard || nodes.now >= end {
            return heard;
        }
        nodes.pass(secs(1));
    }
}

fn further_port(datagram: &Datagram) -> bool {
    datagram.dst.port() == PORT + 1
}

const fn secs(count: u64) -> Duration {
    Duration::from_secs(count)
}

const SERVER_IP: std::net::IpAddr = std::net::IpAddr::V4(std::net::Ipv4Addr::new(192, 0, 2, 2));
