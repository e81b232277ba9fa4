//! A node of several data planes, side by side, behaves as one: what one cannot carry another does.

use std::collections::VecDeque;
use std::net::SocketAddr;
use std::time::{Duration, Instant};

use ringfence_dataplane::{Dataplane, DataplaneConfig, DropReason, Event, SegmentFacts};
use ringfence_model::{Candidate, CandidateKind, NodeId, PrivateKey};
use ringfence_packet::{Flow, Packet, Protocol, TcpFlags, udp_datagram};
use ringfence_policy::{CloseReason, Refusal};

use crate::mesh::{Datagram, Mesh, name, reset_seq, tcp};

mod silence;

#[test]
fn a_conversation_lives_in_one_lane_whichever_queue_its_packets_come_out_of() {
    let (mesh, mut nodes) = two_nodes([2, 2]);
    let flow = connect(&mesh, &mut nodes, 0);

    let more = tcp(flow, 1001, 5001, TcpFlags::ACK, b"query");
    nodes.send((CLIENT, 1), &more);
    assert_eq!(nodes.received((SERVER, 0)), [more]);
    let rows = tcp(flow.reversed(), 5001, 1006, TcpFlags::ACK, b"rows");
    nodes.send((SERVER, 1), &rows);

    assert_eq!(nodes.received((CLIENT, 0)), [rows]);
    assert_eq!(nodes.lanes_with(CLIENT, flow), [0]);
    assert_eq!(nodes.lanes_with(SERVER, flow), [0]);
    assert_eq!(nodes.refused(CLIENT) + nodes.refused(SERVER), 0);
}

#[test]
fn a_packet_that_comes_by_another_lane_joins_its_conversation() {
    let (mesh, mut nodes) = two_nodes([2, 2]);
    let flow = connect(&mesh, &mut nodes, 0);
    let other = Flow {
        src_port: 40_001,
        ..flow
    };
    nodes.send((CLIENT, 1), &tcp(other, 1, 0, TcpFlags::SYN, b""));
    assert_eq!(nodes.received((SERVER, 1)).len(), 1);

    let answer = tcp(other.reversed(), 9, 2, TcpFlags::SYN.with(TcpFlags::ACK), b"");
    nodes.send((SERVER, 0), &answer);

    // Lane 0 of the server offers it to lane 1, where the conversation lives.
    assert_eq!(nodes.received((CLIENT, 1)), [answer]);
    assert_eq!(nodes.lanes_with(SERVER, other), [1]);
}

#[test]
fn each_lane_has_a_session_of_its_own_with_the_same_lane_of_the_peer() {
    let (mesh, mut nodes) = two_nodes([2, 2]);

    connect(&mesh, &mut nodes, 0);
    assert!(nodes.wire_log.iter().all(|datagram| datagram.dst.port() == PORT));
    nodes.wire_log.clear();
    let flow = connect(&mesh, &mut nodes, 1);

    assert!(
        nodes
            .wire_log
            .iter()
            .all(|datagram| datagram.dst.port() == PORT + 1)
    );
    assert_eq!(nodes.lanes_with(CLIENT, flow), [1]);
    assert_eq!(nodes.lanes_with(SERVER, flow), [1]);
}

#[test]
fn what_every_lane_refuses_is_refused_once_and_answered_once() {
    for lane in [0, 1] {
        let (mesh, mut nodes) = two_nodes([2, 2]);
        connect(&mesh, &mut nodes, 0);
        connect(&mesh, &mut nodes, 1);
        let forbidden = mesh.flow_v4("db", 0, 1, (Protocol::TCP, 22));

        nodes.send((CLIENT, lane), &tcp(forbidden, 1, 0, TcpFlags::SYN, b""));

        assert_eq!(nodes.refused(CLIENT), 1);
        let answers = [nodes.received((CLIENT, 0)), nodes.received((CLIENT, 1))].concat();
        assert_eq!(answers.len(), 1);
        assert!(Packet::parse(&answers[0]).unwrap().icmp.is_some());
        assert_eq!(nodes.refused(SERVER), 0);
    }
}

#[test]
fn what_a_peer_may_not_send_is_refused_once_in_silence() {
    let (mesh, mut nodes) = two_nodes([2, 2]);
    let flow = connect(&mesh, &mut nodes, 0);
    connect(&mesh, &mut nodes, 1);
    // The server never allowed it: its client believes it did.
    nodes.without_server_rules(&mesh);
    nodes.wire_log.clear();

    nodes.send((CLIENT, 1), &tcp(fresh(flow), 1, 0, TcpFlags::SYN, b""));

    assert!(!nodes.wire_log.is_empty());
    assert_eq!(nodes.refused(SERVER), 1);
    assert!(nodes.received((SERVER, 0)).is_empty() && nodes.received((SERVER, 1)).is_empty());
}

#[test]
fn a_peer_of_one_lane_is_reached_by_the_first_whatever_the_queue() {
    let (mesh, mut nodes) = two_nodes([2, 1]);

    let flow = connect(&mesh, &mut nodes, 0);
    let query = tcp(flow, 1001, 5001, TcpFlags::ACK, b"query");
    nodes.send((CLIENT, 1), &query);
    nodes.send((CLIENT, 1), &tcp(fresh(flow), 1, 0, TcpFlags::SYN, b""));

    let received = nodes.received((SERVER, 0));
    assert_eq!((received.len(), &received[0]), (2, &query));
    assert!(nodes.lanes_with(CLIENT, fresh(flow)) == [0]);
}

#[test]
fn a_lane_whose_port_is_blocked_gives_way_to_the_first() {
    let (mesh, mut nodes) = two_nodes([2, 2]);
    nodes.lose = |datagram| datagram.dst.port() == PORT + 1;
    let first = mesh.flow_v4("db", 0, 1, (Protocol::TCP, 5432));
    let second = fresh(first);

    nodes.send((CLIENT, 1), &tcp(first, 1, 0, TcpFlags::SYN, b""));
    assert!(nodes.received((SERVER, 0)).is_empty(), "it waits for its lane");
    nodes.pass(Duration::from_millis(500));
    assert_eq!(nodes.received((SERVER, 0)).len(), 1);

    nodes.send((CLIENT, 1), &tcp(second, 1, 0, TcpFlags::SYN, b""));
    assert_eq!(nodes.received((SERVER, 0)).len(), 1, "the next does not wait");
    assert_eq!(nodes.lanes_with(CLIENT, second), [0]);
    assert_eq!(nodes.refused(CLIENT), 0);
}

#[test]
fn access_taken_away_ends_conversations_in_every_lane() {
    let (mut mesh, mut nodes) = two_nodes([2, 2]);
    let flows = [0, 1].map(|lane| connect(&mesh, &mut nodes, lane));

    mesh.deny("db", RULE);
    mesh.next_revision();
    nodes.apply(&mesh);

    for (lane, flow) in flows.into_iter().enumerate() {
        assert!(nodes.lanes_with(CLIENT, flow).is_empty() && nodes.lanes_with(SERVER, flow).is_empty());
        let received = nodes.received((CLIENT, lane));
        assert!(
            received
                .iter()
                .any(|packet| reset_seq(packet, flow.reversed()).is_some())
        );
        let revoked = |event: &Event| {
            matches!(event, Event::FlowClosed(closed)
                if closed.flow == flow && closed.why == CloseReason::Revoked)
        };
        assert_eq!(nodes.events(CLIENT).filter(|event| revoked(event)).count(), 1);
    }
}

#[test]
fn an_offered_packet_is_judged_by_the_rules_where_it_is_taken() {
    let (mut mesh, mut nodes) = two_nodes([2, 2]);
    let flow = connect(&mesh, &mut nodes, 0);
    mesh.deny("db", RULE);
    mesh.next_revision();

    // Lane 0, where the conversation lived, has the new word already; lane 1 does not.
    nodes.apply_in((CLIENT, 0), &mesh);
    nodes.received((SERVER, 0));
    nodes.send((CLIENT, 1), &tcp(flow, 1001, 5001, TcpFlags::ACK, b"late"));

    assert!(nodes.received((SERVER, 0)).is_empty() && nodes.received((SERVER, 1)).is_empty());
    assert_eq!(nodes.refused(CLIENT), 1);
}

#[test]
fn datagrams_that_answer_find_their_conversation_too() {
    let (mesh, mut nodes) = two_nodes([3, 3]);
    let flow = mesh.flow_v4("db", 0, 1, (Protocol::UDP, 53));
    nodes.send((CLIENT, 2), &udp_datagram(flow, b"question"));
    assert_eq!(nodes.received((SERVER, 2)).len(), 1);

    let answer = udp_datagram(flow.reversed(), b"answer");
    nodes.send((SERVER, 0), &answer);

    assert_eq!(nodes.received((CLIENT, 2)), [answer]);
    assert_eq!(nodes.refused(SERVER), 0);
}

/// Two nodes with as many lanes, the first of which may open connections to the second.
fn two_nodes(lanes: [usize; 2]) -> (Mesh, Nodes) {
    let mut mesh = Mesh::with_hosts("db", 2);
    assert_eq!(mesh.allow("db", 0, 1, "tcp/5432"), RULE);
    mesh.allow("db", 0, 1, "udp/53");
    mesh.push();
    let mut nodes = Nodes::new(&mesh, lanes);
    nodes.apply(&mesh);
    (mesh, nodes)
}

/// Another connection between the same two.
fn fresh(flow: Flow) -> Flow {
    Flow {
        src_port: flow.src_port + 7,
        ..flow
    }
}

/// A TCP connection whose client's and server's packets come out of the queue of `lane`.
fn connect(mesh: &Mesh, nodes: &mut Nodes, lane: usize) -> Flow {
    let mut flow = mesh.flow_v4("db", 0, 1, (Protocol::TCP, 5432));
    flow.src_port += lane as u16;
    let (syn, ack) = (TcpFlags::SYN, TcpFlags::ACK);
    for (from, to, packet) in [
        (CLIENT, SERVER, tcp(flow, 1000, 0, syn, b"")),
        (
            SERVER,
            CLIENT,
            tcp(flow.reversed(), 5000, 1001, syn.with(ack), b""),
        ),
        (CLIENT, SERVER, tcp(flow, 1001, 5001, ack, b"")),
    ] {
        nodes.send((from, lane), &packet);
        assert_eq!(nodes.received((to, lane)), [packet]);
    }
    flow
}

struct Nodes {
    /// The lanes of client and server.
    places: [Vec<Lane>; 2],
    now: Instant,
    wire: VecDeque<Datagram>,
    wire_log: Vec<Datagram>,
    lose: fn(&Datagram) -> bool,
    lost: Vec<Datagram>,
}

struct Lane {
    dataplane: Dataplane,
    address: SocketAddr,
    segment: Option<SegmentFacts>,
    tun: Vec<Vec<u8>>,
    events: Vec<Event>,
}

impl Nodes {
    /// Nodes of the same places and keys as the hosts of `mesh`.
    fn new(mesh: &Mesh, lanes: [usize; 2]) -> Self {
        let node = |place: usize| {
            let count = lanes[place];
            let lane = |lane: usize| Lane {
                dataplane: Dataplane::new(
                    DataplaneConfig {
                        lane: lane as u16,
                        lanes: count as u16,
                        ..DataplaneConfig::default()
                    },
                    [(10 * place + lane) as u8; 32],
                ),
                address: SocketAddr::from(([192, 0, 2, place as u8 + 1], PORT + lane as u16)),
                segment: None,
                tun: Vec::new(),
                events: Vec::new(),
            };
            (0..count).map(lane).collect()
        };
        Self {
            places: [node(CLIENT), node(SERVER)],
            now: mesh.now,
            wire: VecDeque::new(),
            wire_log: Vec::new(),
            lose: |_| false,
            lost: Vec::new(),
        }
    }

    /// The newest netmap and everybody's places to every lane.
    fn apply(&mut self, mesh: &Mesh) {
        for place in [CLIENT, SERVER] {
            for lane in 0..self.places[place].len() {
                self.apply_in((place, lane), mesh);
            }
        }
    }

    fn apply_in(&mut self, (place, lane): (usize, usize), mesh: &Mesh) {
        let other = 1 - place;
        // One that has no such lane is nowhere, as far as that lane is concerned.
        let peer = self.places[other].get(lane);
        let candidates = peer.map(|peer| Candidate {
            address: peer.address,
            kind: CandidateKind::Host,
        });
        let dataplane = &mut self.places[place][lane].dataplane;
        dataplane.handle_netmap(mesh.netmap(place), self.now).unwrap();
        let candidates: Vec<Candidate> = candidates.into_iter().collect();
        dataplane.handle_peer_candidates(NodeId(other as u64 + 1), &candidates, self.now);
        self.settle();
    }

    /// The server's rules are gone, and only the server knows.
    fn without_server_rules(&mut self, mesh: &Mesh) {
        for lane in &mut self.places[SERVER] {
            let mut netmap = mesh.netmap(SERVER);
            netmap.revision.n += 1;
            netmap.segments.get_mut(&name("db")).unwrap().rules.clear();
            lane.dataplane.handle_netmap(netmap, self.now).unwrap();
        }
        self.settle();
        for place in [CLIENT, SERVER] {
            for lane in 0..2 {
                self.received((place, lane));
            }
        }
    }

    /// A packet comes out of one queue of a node's device.
    fn send(&mut self, (place, lane): (usize, usize), packet: &[u8]) {
        let now = self.now;
        let lane = &mut self.places[place][lane];
        let segment = lane.segment.as_ref().unwrap().id;
        let _ = lane.dataplane.handle_tun(segment, packet, now);
        self.settle();
    }

    /// What was written to one queue of a node's device.
    fn received(&mut self, (place, lane): (usize, usize)) -> Vec<Vec<u8>> {
        std::mem::take(&mut self.places[place][lane].tun)
    }

    fn lanes_with(&self, place: usize, flow: Flow) -> Vec<usize> {
        let lanes = self.places[place].iter().enumerate();
        lanes
            .filter(|(_, lane)| lane.dataplane.has_flow(&name("db"), flow))
            .map(|(number, _)| number)
            .collect()
    }

    fn events(&self, place: usize) -> impl Iterator<Item = &Event> {
        self.places[place].iter().flat_map(|lane| &lane.events)
    }

    /// How many packets policy refused, in all lanes.
    fn refused(&self, place: usize) -> u64 {
        let lanes = self.places[place].iter();
        let of = |lane: &Lane| -> u64 {
            let reasons = Refusal::ALL.map(DropReason::Refused);
            reasons
                .iter()
                .map(|reason| lane.dataplane.drops().of(*reason))
                .sum()
        };
        lanes.map(of).sum()
    }

    fn pass(&mut self, time: Duration) {
        self.now += time;
        for lane in self.places.iter_mut().flatten() {
            lane.dataplane.handle_timeout(self.now);
        }
        self.settle();
    }

    /// So much time, a second at a time.
    fn pass_slowly(&mut self, time: Duration) {
        for _ in 0..time.as_secs() {
            self.pass(Duration::from_secs(1));
        }
    }

    /// Carries datagrams and offers until nothing moves.
    fn settle(&mut self) {
        for _ in 0..ROUNDS_MAX {
            for node in 0..self.places.len() {
                self.drain(node);
            }
            let Some(datagram) = self.wire.pop_front() else {
                return;
            };
            self.wire_log.push(datagram.clone());
            if (self.lose)(&datagram) {
                self.lost.push(datagram);
                continue;
            }
            let mut lanes = self.places.iter_mut().flatten();
            if let Some(lane) = lanes.find(|lane| lane.address == datagram.dst) {
                let _ = lane
                    .dataplane
                    .handle_datagram(datagram.src, &datagram.bytes, self.now);
            }
        }
        panic!("the nodes never come to rest");
    }

    fn drain(&mut self, place: usize) {
        let lanes = self.places[place].len();
        // Round the ring as often as an offer may be handed on, and once for what comes of it.
        for number in (0..lanes).cycle().take(lanes * (lanes + 1)) {
            let next = (number + 1) % lanes;
            while let Some(offer) = self.places[place][number].dataplane.poll_offer() {
                self.places[place][next].dataplane.handle_offer(offer, self.now);
            }
            self.places[place][number].drain(place, self.now, &mut self.wire);
        }
    }
}

impl Lane {
    fn drain(&mut self, place: usize, now: Instant, wire: &mut VecDeque<Datagram>) {
        while let Some(packet) = self.dataplane.poll_tun() {
            self.tun.push(packet.packet().to_vec());
        }
        while let Some(transmit) = self.dataplane.poll_transmit() {
            wire.extend(transmit.datagrams().map(|bytes| Datagram {
                src: self.address,
                dst: transmit.dst,
                bytes: bytes.to_vec(),
            }));
        }
        while let Some(event) = self.dataplane.poll_event() {
            match &event {
                Event::SegmentAdded(facts) => self.segment = Some(facts.clone()),
                Event::KeyNeeded { perimeter } => {
                    // As the hosts of the mesh make theirs.
                    let random = [place as u8 + 1, 0, perimeter.as_str().as_bytes()[0], 4].repeat(8);
                    let key = PrivateKey::from_random(random.try_into().unwrap());
                    self.dataplane.set_key(perimeter, key, now);
                }
                _ => {}
            }
            self.events.push(event);
        }
    }
}

const CLIENT: usize = 0;
const SERVER: usize = 1;
const PORT: u16 = 51820;
const RULE: u32 = 1;
const ROUNDS_MAX: usize = 10_000;
