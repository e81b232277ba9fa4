//! The filter of a segment with rules and live flows, and packets of those flows.

use std::hint::black_box;
use std::net::IpAddr;
use std::time::Instant;

use ringfence_model::{NodeId, Revision, RuleId, UnixMillis};
use ringfence_packet::{Flow, Packet, Protocol, TcpFlags, TcpSegment, tcp_segment};
use ringfence_policy::{Direction, FLOWS_PER_PEER_MAX, FlowTable, Rule, RuleSet};

/// A table of flows, the rules that opened them, and some of their packets.
pub struct Filter {
    table: FlowTable,
    rules: RuleSet,
    packets: Vec<(NodeId, Vec<u8>)>,
    now: Instant,
}

impl Filter {
    /// With `flows` live flows that `rules` rules allow, and `packets` packets of flows that lie far apart.
    pub fn new(rules: usize, flows: usize, packets: usize) -> Self {
        // So many that no peer has too many flows, and every rule has its peer.
        let peers = flows.div_ceil(FLOWS_PER_PEER_MAX / 2).max(rules);
        let peer_of = |flow: usize| NodeId(1 + (flow % peers) as u64);
        let mut filter = Self {
            table: FlowTable::new([7; 16], FLOWS_PER_PEER_MAX),
            rules: self::rules(rules as u64, peers as u64),
            packets: Vec::new(),
            now: Instant::now(),
        };
        for number in 0..flows {
            let opening = segment(flow(number), 0, TcpFlags::SYN, &[]);
            filter.judge_one(peer_of(number), &opening);
        }
        assert_eq!(filter.table.len(), flows, "nothing had to give way");
        // A step that shares no factor with the number of flows visits each of them before it comes back to one.
        let visited = (0..packets).map(|place| place * FAR % flows);
        filter.packets = visited
            .map(|number| (peer_of(number), data_packet(number, PACKET_BYTES)))
            .collect();
        filter
    }

    /// Checks and judges so many packets, in turns.
    pub fn judge(&mut self, times: u32) {
        let packets = std::mem::take(&mut self.packets);
        for (peer, bytes) in packets.iter().cycle().take(times as usize) {
            self.judge_one(*peer, black_box(bytes));
        }
        self.packets = packets;
    }

    fn judge_one(&mut self, peer: NodeId, bytes: &[u8]) {
        let packet = Packet::parse(bytes).expect("built here");
        let judged = self
            .table
            .judge(&packet, Direction::Egress, peer, &self.rules, self.now, WALL);
        assert!(black_box(judged).is_ok(), "a rule allows it");
    }
}

/// `count` rules that open tcp/443 towards peers 1 to `peers`, each rule to its share of them.
pub(crate) fn rules(count: u64, peers: u64) -> RuleSet {
    let rules: Vec<Rule> = (0..count)
        .map(|number| Rule {
            id: RuleId(number as u32),
            direction: Direction::Egress,
            peers: (1..=peers)
                .filter(|peer| peer % count == number)
                .map(NodeId)
                .collect(),
            services: vec!["tcp/443".parse().expect("a service")],
            expires: None,
        })
        .collect();
    RuleSet::new(&rules, Revision { term: 1, n: 1 })
}

/// `count` rules about one peer, each of which opens a port, one after the other.
pub(crate) fn rules_by_port(count: u16) -> RuleSet {
    let rules = (0..count).map(|number| Rule {
        id: RuleId(number.into()),
        direction: Direction::Egress,
        peers: vec![NodeId(1)].into(),
        services: vec![format!("tcp/{}", FIRST_PORT + number).parse().expect("a service")],
        expires: None,
    });
    RuleSet::new(&rules.collect::<Vec<_>>(), Revision { term: 1, n: 1 })
}

/// A packet of a flow, `bytes` long.
pub(crate) fn data_packet(number: usize, bytes: usize) -> Vec<u8> {
    let payload = vec![0x5a; bytes - HEADER_BYTES];
    segment(flow(number), 1, TcpFlags::ACK, &payload)
}

pub(crate) fn segment(flow: Flow, seq: u32, flags: TcpFlags, payload: &[u8]) -> Vec<u8> {
    tcp_segment(&TcpSegment {
        flow,
        seq,
        ack: 1,
        flags,
        window: 1024,
        payload,
    })
}

/// Told apart by the sender's port, and by the receiver's address where the ports do not suffice.
pub(crate) fn flow(number: usize) -> Flow {
    let [high, low] = ((number / PORTS) as u16).to_be_bytes();
    Flow {
        src: IpAddr::from([100, 64, 0, 1]),
        dst: IpAddr::from([100, 65, high, low]),
        protocol: Protocol::TCP,
        src_port: FIRST_PORT + (number % PORTS) as u16,
        dst_port: 443,
    }
}

/// IPv4 and TCP without options.
pub(crate) const HEADER_BYTES: usize = 40;
/// Only headers are judged.
const PACKET_BYTES: usize = 128;
const FAR: usize = 12_289;
const PORTS: usize = 50_000;
pub(crate) const FIRST_PORT: u16 = 10_000;
const WALL: UnixMillis = UnixMillis(1_000_000);
