//! A whole node against a peer in good standing that turns bad: it holds a session and sends what it likes inside.

use std::net::SocketAddr;
use std::time::{Duration, Instant};

use ringfence_dataplane::{Dataplane, DataplaneConfig, Event, SegmentId};
use ringfence_packet::{IcmpKind, Packet, Position};
use ringfence_policy::{Direction, RuleSet};
use ringfence_wg::{PeerSlot, WireGuard};

use crate::fixture::{ROGUE_ID, WALL, key, netmap, perimeter, start};
use crate::inner::{self, OURS, ROGUE};
use crate::script::{Script, piece};

struct Bench {
    node: Dataplane,
    segment: SegmentId,
    rules: RuleSet,
    revision: u64,
    rogue: WireGuard,
    to_node: PeerSlot,
    now: Instant,
    elapsed: Duration,
    fragments_passed: bool,
}

pub(crate) fn run(input: &[u8]) {
    let mut script = Script::new(input);
    let mut bench = Bench::new();
    for _ in 0..STEPS_MAX {
        if script.is_over() {
            break;
        }
        bench.step(&mut script);
    }
}

impl Bench {
    /// With the session up.
    fn new() -> Self {
        let now = start();
        let mut node = Dataplane::new(DataplaneConfig::default(), [3; 32]);
        node.set_key(&perimeter(), key(1), now);
        let map = netmap(1);
        let rules = RuleSet::new(&map.segments[&perimeter()].rules, map.revision);
        node.handle_netmap(map, now).expect("the fixture is sound");
        let segment = std::iter::from_fn(|| node.poll_event()).find_map(|event| match event {
            Event::SegmentAdded(facts) => Some(facts.id),
            _ => None,
        });
        let mut rogue = WireGuard::new([4; 32]);
        let handle = rogue.add_segment(&key(2)).expect("there is room");
        let to_node = rogue.add_peer(handle, key(1).public_key(), None, now);
        let mut bench = Self {
            node,
            segment: segment.expect("the netmap has a segment"),
            rules,
            revision: 1,
            rogue,
            to_node: to_node.expect("the key is new"),
            now,
            elapsed: Duration::ZERO,
            fragments_passed: false,
        };
        bench.rogue.start_handshake(bench.to_node, now);
        bench.exchange();
        bench
    }

    fn step(&mut self, script: &mut Script<'_>) {
        match script.byte() {
            0..=0x9f => {
                let packet = inner::scripted(script, ROGUE, OURS);
                self.inject(&packet);
            }
            0xa0..=0xbf => {
                let packet = inner::scripted(script, OURS, ROGUE);
                let _ = self.node.handle_tun(self.segment, &packet, self.now);
            }
            0xc0..=0xcf => {
                let _ = self.node.handle_datagram(source(), script.piece(), self.now);
            }
            0xd0..=0xdf => {
                let step = Duration::from_millis(u64::from(script.short()) * 100);
                self.now += step;
                self.elapsed += step;
                self.node.handle_timeout(self.now);
                self.rogue.handle_timeout(self.now);
            }
            0xe0..=0xef => self.change_rules(script.byte()),
            _ => self.node.handle_lease(self.now),
        }
        self.exchange();
    }

    /// Seals what may be no packet at all, and holds what comes out of the node's TUN device against the rules.
    fn inject(&mut self, packet: &[u8]) {
        let mut datagram = Vec::new();
        if self
            .rogue
            .seal(self.to_node, packet, &mut datagram, self.now)
            .is_err()
        {
            self.rogue.start_handshake(self.to_node, self.now);
            return;
        }
        let parsed = Packet::parse(packet).ok();
        let known = parsed.is_some_and(|packet| self.node.has_flow(&perimeter(), packet.flow));
        let taken = self.node.handle_datagram(source(), &datagram, self.now).is_ok();
        let mut delivered = false;
        while let Some(out) = self.node.poll_tun() {
            let passed = Packet::parse(out.packet()).expect("what reaches the kernel is well formed");
            delivered |= parsed.is_some_and(|packet| packet.bytes == passed.bytes);
        }
        assert!(taken || !delivered, "a packet was refused and delivered");
        let Some(packet) = parsed.filter(|_| delivered) else {
            return;
        };
        let flow = packet.flow;
        assert!(ROGUE.contains(flow.src), "{} is not the peer's address", flow.src);
        assert!(OURS.contains(flow.dst), "{} is not ours", flow.dst);
        match packet.position {
            Position::Later(_) => {
                assert!(self.fragments_passed, "a fragment passed without a first one");
                return;
            }
            Position::First(_) => self.fragments_passed = true,
            Position::Whole => {}
        }
        if let Some(IcmpKind::Error { quoted }) = packet.icmp {
            assert!(OURS.contains(quoted.src) || ROGUE.contains(quoted.src));
            return;
        }
        let wall = WALL.saturating_add(self.elapsed);
        let verdict = self
            .rules
            .verdict(Direction::Ingress, ROGUE_ID, flow.protocol, flow.dst_port, wall);
        assert!(known || verdict.is_some(), "no rule opens {flow:?}");
        assert!(
            !self.rules.is_empty(),
            "a policy that allows nothing passed {flow:?}"
        );
    }

    fn change_rules(&mut self, how: u8) {
        self.revision += 1;
        let mut map = netmap(self.revision);
        map.issued_at = WALL.saturating_add(self.elapsed);
        if let Some(segment) = map.segments.get_mut(&perimeter()) {
            let mut bit = 0;
            segment.rules.retain(|_| {
                bit += 1;
                how & (1 << bit) != 0
            });
            self.rules = RuleSet::new(&segment.rules, map.revision);
        }
        self.node
            .handle_netmap(map, self.now)
            .expect("a newer netmap is taken");
        let flows = self.node.status(self.now);
        assert_eq!(flows.len(), 1);
    }

    /// Carries datagrams both ways until there are none.
    fn exchange(&mut self) {
        for _ in 0..EXCHANGES_MAX {
            let mut quiet = true;
            while let Some(transmit) = self.rogue.poll_transmit() {
                quiet = false;
                let _ = self.node.handle_datagram(source(), &transmit.datagram, self.now);
            }
            while let Some(transmit) = self.node.poll_transmit() {
                quiet = false;
                for datagram in transmit.datagrams() {
                    let mut buffer = vec![0; datagram.len()];
                    let _ = self.rogue.open(node_address(), datagram, &mut buffer, self.now);
                }
            }
            while self.node.poll_tun().is_some() || self.node.poll_event().is_some() {}
            while self.rogue.poll_event().is_some() {}
            if quiet {
                return;
            }
        }
        panic!("two ends answer each other for ever");
    }
}

fn source() -> SocketAddr {
    SocketAddr::from(([192, 0, 2, 2], 51820))
}

fn node_address() -> SocketAddr {
    SocketAddr::from(([192, 0, 2, 1], 51820))
}

pub(crate) fn seeds() -> Vec<(&'static str, Vec<u8>)> {
    let raw = |packet: &[u8]| [&[0, 0][..], &piece(packet)].concat();
    let each = inner::samples();
    let all: Vec<u8> = each.iter().flat_map(|(_, packet)| raw(packet)).collect();
    let tcp = |step: u8, flags: u8, ports: [u8; 2]| {
        let mut bytes = vec![step, 0x01, ports[0], ports[1], flags];
        bytes.extend([0; 10]);
        bytes.extend(piece(b"data"));
        bytes
    };
    let ours = |how: u8| [&[0xa0, how, 0x40, 0x80][..], &piece(b"a name")].concat();
    vec![
        ("every-kind", all),
        (
            "revoked",
            [tcp(0, 2, [0x40, 0]), vec![0xe0, 0], tcp(0, 0x10, [0x40, 0])].concat(),
        ),
        (
            "asked-by-us",
            [ours(4), vec![0, 4, 0x80, 0x40], piece(b"an answer")].concat(),
        ),
        (
            "lease-ended",
            [vec![0xd0, 0x10, 0], tcp(0, 2, [0x40, 0]), vec![0xf0]].concat(),
        ),
        (
            "not-its-source",
            tcp(0, 2, [0x40, 0])
                .into_iter()
                .enumerate()
                .map(|(at, byte)| if at == 1 { 0x21 } else { byte })
                .collect(),
        ),
        (
            "noise",
            [vec![0xc0], piece(&[4; 40]), vec![0xc0], piece(&[1; 148])].concat(),
        ),
    ]
}

const STEPS_MAX: usize = 60;
const EXCHANGES_MAX: usize = 50;
