//! The flow table under any order of packets, both ways, with policy changes and time between them.

use std::collections::BTreeSet;
use std::time::Duration;

use ringfence_model::{NodeId, Revision};
use ringfence_packet::{FragmentKey, IcmpKind, Packet, Position};
use ringfence_policy::{ClosedFlow, Direction, FLOWS_MAX, FLOWS_PER_PEER_MAX, FlowTable, RuleSet};

use crate::fixture::{OTHER_ID, ROGUE_ID, WALL, rules, start};
use crate::inner::{self, OURS, ROGUE};
use crate::script::{Script, piece};

struct Bench {
    table: FlowTable,
    rules: RuleSet,
    revision: u64,
    now: std::time::Instant,
    elapsed: Duration,
    /// Fragmented packets whose first fragment passed.
    begun: BTreeSet<(NodeId, FragmentKey)>,
}

pub(crate) fn run(input: &[u8]) {
    let mut script = Script::new(input);
    let mut bench = Bench {
        table: FlowTable::new([7; 16], FLOWS_PER_PEER_MAX),
        rules: RuleSet::new(&rules(), revision(1)),
        revision: 1,
        now: start(),
        elapsed: Duration::ZERO,
        begun: BTreeSet::new(),
    };
    for _ in 0..STEPS_MAX {
        if script.is_over() {
            break;
        }
        bench.step(&mut script);
        assert!(bench.table.len() <= FLOWS_MAX);
    }
    let closed = bench.table.close_all();
    check_notices(&closed);
    assert!(bench.table.is_empty());
}

impl Bench {
    fn step(&mut self, script: &mut Script<'_>) {
        match script.byte() {
            step @ 0..=0xbf => self.packet(script, step),
            0xc0..=0xcf => {
                let step = Duration::from_millis(u64::from(script.short()) * 100);
                self.now += step;
                self.elapsed += step;
                check_notices(&self.table.handle_timeout(self.now));
            }
            0xd0..=0xdf => check_notices(&self.table.close_peer(ROGUE_ID)),
            0xe0..=0xef => self.change_rules(script.byte()),
            _ => while self.table.poll_closed().is_some() {},
        }
    }

    fn packet(&mut self, script: &mut Script<'_>, step: u8) {
        let peer = if step & 0x08 == 0 { ROGUE_ID } else { OTHER_ID };
        let (direction, bytes) = if step & 1 == 0 {
            (Direction::Ingress, inner::scripted(script, ROGUE, OURS))
        } else {
            (Direction::Egress, inner::scripted(script, OURS, ROGUE))
        };
        let Ok(packet) = Packet::parse(&bytes) else {
            return;
        };
        let wall = WALL.saturating_add(self.elapsed);
        let known = self.table.contains(packet.flow);
        let verdict = self
            .table
            .judge(&packet, direction, peer, &self.rules, self.now, wall);
        let passed = verdict.is_ok();
        assert!(
            !passed || !self.rules.is_empty(),
            "a policy that allows nothing passed {packet:?}"
        );
        match packet.position {
            Position::Later(fragment) => {
                let begun = self.begun.contains(&(peer, fragment.key));
                assert!(!passed || begun, "a fragment passed without its first one");
                return;
            }
            Position::First(fragment) if passed => {
                self.begun.insert((peer, fragment.key));
            }
            Position::First(_) | Position::Whole => {}
        }
        if matches!(packet.icmp, Some(IcmpKind::Error { .. })) {
            return;
        }
        let flow = packet.flow;
        let allowed = self
            .rules
            .verdict(direction, peer, flow.protocol, flow.dst_port, wall);
        assert!(
            !passed || known || allowed.is_some(),
            "no rule opens {flow:?} and no flow was there"
        );
    }

    fn change_rules(&mut self, how: u8) {
        self.revision += 1;
        let all = rules();
        let some: Vec<_> = all
            .into_iter()
            .enumerate()
            .filter(|(index, _)| how & (1 << index) != 0)
            .map(|(_, rule)| rule)
            .collect();
        self.rules = RuleSet::new(&some, revision(self.revision));
        if how & 0x80 != 0 {
            // A flow is judged again when it is next seen, whether or not anybody asked before.
            return;
        }
        let closed = self.table.rejudge(&self.rules, WALL.saturating_add(self.elapsed));
        check_notices(&closed);
        if self.rules.is_empty() {
            assert!(self.table.is_empty(), "no rule, no flow");
        }
    }
}

fn check_notices(closed: &[ClosedFlow]) {
    for flow in closed {
        for notice in flow.notices_to_local().iter().chain(&flow.notices_to_peer()) {
            Packet::parse(notice).expect("what we write ourselves is well formed");
        }
    }
}

fn revision(n: u64) -> Revision {
    Revision { term: 1, n }
}

pub(crate) fn seeds() -> Vec<(&'static str, Vec<u8>)> {
    let tcp = |step: u8, flags: u8, ports: [u8; 2]| {
        let mut bytes = vec![step, 0x01, ports[0], ports[1], flags];
        bytes.extend([0; 10]);
        bytes.extend(piece(b"data"));
        bytes
    };
    let raw = |step: u8, packet: &[u8]| [&[step, 0][..], &piece(packet)].concat();
    let handshake = [
        tcp(0, 0x02, [0x40, 0]),
        tcp(1, 0x12, [0, 0x40]),
        tcp(0, 0x10, [0x40, 0]),
    ]
    .concat();
    let samples: Vec<u8> = inner::samples()
        .iter()
        .flat_map(|(_, packet)| raw(0, packet))
        .collect();
    vec![
        (
            "revoked",
            [handshake.clone(), vec![0xe0, 0], tcp(1, 0x10, [0, 0x40])].concat(),
        ),
        ("idle", [handshake.clone(), vec![0xc0, 0xff, 0xff]].concat()),
        (
            "peer-gone",
            [handshake, vec![0xd0], tcp(0, 0x10, [0x40, 0])].concat(),
        ),
        ("every-kind", samples),
    ]
}

const STEPS_MAX: usize = 200;
