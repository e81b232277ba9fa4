//! WireGuard under any datagrams: raw ones, and a peer's real ones torn, replayed and reordered.

use std::collections::BTreeSet;
use std::net::SocketAddr;
use std::time::{Duration, Instant};

use ringfence_wg::{OpenedKind, PeerSlot, WireGuard, initiation_to};

use crate::fixture::{key, start};
use crate::script::{Script, piece};

struct Bench {
    ours: WireGuard,
    theirs: WireGuard,
    /// The peer at our end, until it is removed.
    them: Option<PeerSlot>,
    us: PeerSlot,
    now: Instant,
    /// What the peer has sent, oldest first.
    wire: Vec<Vec<u8>>,
    sealed: BTreeSet<Vec<u8>>,
    serial: u32,
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
    fn new() -> Self {
        let now = start();
        let mut ours = WireGuard::new([1; 32]);
        let mut theirs = WireGuard::new([2; 32]);
        let here = ours.add_segment(&key(1)).expect("there is room");
        let there = theirs.add_segment(&key(2)).expect("there is room");
        let them = ours.add_peer(here, key(2).public_key(), None, now);
        let us = theirs.add_peer(there, key(1).public_key(), None, now);
        Self {
            ours,
            theirs,
            them: Some(them.expect("the key is new")),
            us: us.expect("the key is new"),
            now,
            wire: Vec::new(),
            sealed: BTreeSet::new(),
            serial: 0,
        }
    }

    fn step(&mut self, script: &mut Script<'_>) {
        match script.byte() {
            0..=0x1f => self.open(source(script.byte()), script.piece()),
            0x20..=0x3f => self.theirs.start_handshake(self.us, self.now),
            0x40..=0x5f => self.seal(script.byte()),
            0x60..=0x7f => self.replay(script, 0),
            0x80..=0x9f => {
                let flip = script.byte();
                self.replay(script, flip);
            }
            0xa0..=0xbf => self.sleep(Duration::from_millis(u64::from(script.short()) * 50)),
            0xc0..=0xcf => self.answer(),
            0xd0..=0xdf => {
                let stranger = initiation_to(&key(script.byte()), key(1).public_key());
                self.open(source(script.byte()), &stranger);
            }
            0xe0..=0xef => {
                if let Some(slot) = self.them.take() {
                    self.ours.remove_peer(slot, self.now);
                }
            }
            _ => {
                if let Some(slot) = self.them {
                    self.ours.start_handshake(slot, self.now);
                }
            }
        }
        while let Some(transmit) = self.theirs.poll_transmit() {
            self.note(transmit.datagram);
        }
        while self.ours.poll_event().is_some() || self.theirs.poll_event().is_some() {}
    }

    fn open(&mut self, src: SocketAddr, datagram: &[u8]) {
        let mut buffer = vec![0; datagram.len()];
        let Ok(opened) = self.ours.open(src, datagram, &mut buffer, self.now) else {
            return;
        };
        assert_eq!(Some(opened.slot), self.them, "a peer that is not there was heard");
        if let OpenedKind::Data(packet) = opened.kind {
            assert!(
                self.sealed.remove(packet),
                "a packet was opened that the peer never sealed, or twice"
            );
        }
    }

    /// A small IPv4 packet, like no other.
    fn seal(&mut self, size: u8) {
        self.serial += 1;
        let mut packet = vec![0x45, 0, 0, 0];
        packet.extend(self.serial.to_be_bytes());
        packet.resize(24 + usize::from(size), 0xaa);
        packet[3] = packet.len().min(255) as u8;
        packet.truncate(255);
        let mut datagram = Vec::new();
        if self
            .theirs
            .seal(self.us, &packet, &mut datagram, self.now)
            .is_ok()
        {
            self.sealed.insert(packet);
            self.note(datagram);
        }
    }

    fn replay(&mut self, script: &mut Script<'_>, flip: u8) {
        let (which, src) = (usize::from(script.byte()), source(script.byte()));
        let Some(at) = self.wire.len().checked_sub(1 + which) else {
            return;
        };
        let mut datagram = self.wire[at].clone();
        if flip != 0 {
            let place = usize::from(script.byte()) % datagram.len().max(1);
            datagram[place] ^= flip;
        }
        self.open(src, &datagram);
    }

    fn answer(&mut self) {
        while let Some(transmit) = self.ours.poll_transmit() {
            let mut buffer = vec![0; transmit.datagram.len()];
            let _ = self
                .theirs
                .open(source(0), &transmit.datagram, &mut buffer, self.now);
        }
    }

    fn sleep(&mut self, duration: Duration) {
        self.now += duration;
        self.ours.handle_timeout(self.now);
        self.theirs.handle_timeout(self.now);
    }

    fn note(&mut self, datagram: Vec<u8>) {
        if self.wire.len() == WIRE_MAX {
            self.wire.remove(0);
        }
        self.wire.push(datagram);
    }
}

fn source(n: u8) -> SocketAddr {
    SocketAddr::from(([192, 0, 2, n], 51820))
}

pub(crate) fn seeds() -> Vec<(&'static str, Vec<u8>)> {
    let raw = |datagram: &[u8]| [&[0, 1][..], &piece(datagram)].concat();
    // Start, deliver the initiation, answer it; then three packets, delivered newest first, and one again.
    let session = [0x20, 0x60, 0, 0, 0xc0];
    let packets = [
        0x40, 9, 0x40, 90, 0x40, 200, 0x60, 0, 0, 0x60, 1, 0, 0x60, 2, 0, 0x60, 0, 0,
    ];
    let stranger = initiation_to(&key(9), key(1).public_key());
    let mut lying = vec![4, 0, 0, 0];
    lying.extend([0xff; 28]);
    vec![
        ("stranger", raw(&stranger)),
        ("session", [&session[..], &packets].concat()),
        (
            "torn",
            [&session[..], &[0x40, 50, 0x80, 1, 0, 0, 20, 0x60, 0, 0]].concat(),
        ),
        (
            "removed",
            [&session[..], &[0x40, 50, 0xe0, 0x60, 0, 0, 0x60, 1, 0]].concat(),
        ),
        (
            "later",
            [&session[..], &[0xa0, 0x0f, 0xff, 0x40, 1, 0x60, 0, 0]].concat(),
        ),
        ("counter-at-the-end", raw(&lying)),
        (
            "short",
            [
                raw(&[1, 0, 0, 0]),
                raw(&[2, 0, 0, 0]),
                raw(&[3, 0, 0, 0]),
                raw(&[]),
            ]
            .concat(),
        ),
    ]
}

const STEPS_MAX: usize = 100;
const WIRE_MAX: usize = 64;
