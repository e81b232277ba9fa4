//! Peers are ticked when something is due and not before: an idle one costs no wake-up, and nothing comes later than it
//! would with a clock shown five times a second.

use std::net::SocketAddr;
use std::time::{Duration, Instant};

use boringtun::noise::{Tunn, TunnResult};
use boringtun::x25519;
use rand::{Rng as _, SeedableRng as _};
use rand_chacha::ChaCha20Rng;
use ringfence_model::PrivateKey;
use ringfence_sim::clock;
use ringfence_wg::{OpenedKind, PeerSlot, WgEvent, WireGuard};

/// What a timer sent: when, from which end, and which message.
type Sent = (Duration, usize, u8);

/// Two ends without a network between them: what one sends the other has at once.
trait Pair {
    fn start(&mut self, at: Duration);
    fn send(&mut self, from: usize, at: Duration);
    /// Shows them the clock if it is time, and carries what they make of it.
    fn pass(&mut self, at: Duration) -> Vec<Sent>;
}

struct Ours {
    begin: Instant,
    ends: [(WireGuard, PeerSlot); 2],
    wakes: [usize; 2],
    events: Vec<(Duration, WgEvent)>,
}

struct Stock {
    ends: [Tunn; 2],
}

impl Ours {
    fn new(keepalive: Option<Duration>) -> Self {
        clock::set(Duration::ZERO);
        let begin = Instant::now();
        let keys = keys();
        let ends = [0, 1].map(|end: usize| {
            let mut wireguard = WireGuard::new([end as u8; 32]);
            let segment = wireguard.add_segment(&keys[end]).expect("the first");
            let peer = keys[1 - end].public_key();
            let slot = wireguard
                .add_peer(segment, peer, keepalive, begin)
                .expect("the first");
            (wireguard, slot)
        });
        Self {
            begin,
            ends,
            wakes: [0; 2],
            events: Vec::new(),
        }
    }

    fn carry(&mut self, at: Duration) -> Vec<Sent> {
        let now = self.begin + at;
        let mut sent = Vec::new();
        let mut moved = true;
        while std::mem::take(&mut moved) {
            for from in [0, 1] {
                while let Some(transmit) = self.ends[from].0.poll_transmit() {
                    moved = true;
                    sent.push((at, from, transmit.datagram[0]));
                    self.arrive(1 - from, &transmit.datagram, now);
                }
            }
        }
        for end in &mut self.ends {
            self.events
                .extend(std::iter::from_fn(|| end.0.poll_event()).map(|event| (at, event)));
        }
        sent
    }

    fn arrive(&mut self, to: usize, datagram: &[u8], now: Instant) {
        let src = SocketAddr::from(([192, 0, 2, 1], 1));
        let mut buffer = vec![0; datagram.len()];
        let opened = self.ends[to]
            .0
            .open(src, datagram, &mut buffer, now)
            .expect("an honest peer's");
        assert!(opened.kind != OpenedKind::CookieReply);
    }

    /// Lets so much time pass; what was sent.
    fn idle(&mut self, from: Duration, until: Duration) -> Vec<Sent> {
        let mut sent = Vec::new();
        let next = |ours: &Self| ours.ends.iter().filter_map(|end| end.0.poll_timeout()).min();
        while let Some(due) = next(self).filter(|due| *due <= self.begin + until) {
            sent.extend(self.pass(due.max(self.begin + from) - self.begin));
        }
        sent
    }
}

impl Pair for Ours {
    fn start(&mut self, at: Duration) {
        clock::set(at);
        let (wireguard, slot) = &mut self.ends[0];
        wireguard.start_handshake(*slot, self.begin + at);
        self.carry(at);
    }

    fn send(&mut self, from: usize, at: Duration) {
        clock::set(at);
        let now = self.begin + at;
        let (wireguard, slot) = &mut self.ends[from];
        let mut datagram = Vec::new();
        if wireguard.seal(*slot, &packet(), &mut datagram, now).is_ok() {
            self.arrive(1 - from, &datagram, now);
        }
    }

    fn pass(&mut self, at: Duration) -> Vec<Sent> {
        clock::set(at);
        let now = self.begin + at;
        let mut sent = Vec::new();
        for end in [0, 1] {
            let wireguard = &mut self.ends[end].0;
            if wireguard.poll_timeout().is_some_and(|due| due <= now) {
                self.wakes[end] += 1;
                wireguard.handle_timeout(now);
            }
            sent.extend(self.carry(at));
        }
        sent
    }
}

impl Stock {
    fn new() -> Self {
        clock::set(Duration::ZERO);
        let keys = keys();
        let ends = [0, 1].map(|end: usize| {
            let secret = x25519::StaticSecret::from(*keys[end].expose());
            let peer = x25519::PublicKey::from(*keys[1 - end].public_key().as_bytes());
            Tunn::new(secret, peer, None, None, end as u32 + 1, None)
        });
        Self { ends }
    }

    fn carry(&mut self, mut from: usize, mut datagram: Vec<u8>) {
        loop {
            let mut out = [0; 256];
            from = 1 - from;
            match self.ends[from].decapsulate(None, &datagram, &mut out) {
                TunnResult::WriteToNetwork(answer) => datagram = answer.to_vec(),
                TunnResult::Err(error) => panic!("{error:?}"),
                _ => return,
            }
        }
    }
}

impl Pair for Stock {
    fn start(&mut self, at: Duration) {
        clock::set(at);
        let mut out = [0; 256];
        if let TunnResult::WriteToNetwork(made) = self.ends[0].format_handshake_initiation(&mut out, false) {
            let made = made.to_vec();
            self.carry(0, made);
        }
    }

    fn send(&mut self, from: usize, at: Duration) {
        clock::set(at);
        if self.ends[from].time_since_last_handshake().is_none() {
            return;
        }
        let mut out = [0; 256];
        if let TunnResult::WriteToNetwork(made) = self.ends[from].encapsulate(&packet(), &mut out) {
            let made = made.to_vec();
            self.carry(from, made);
        }
    }

    fn pass(&mut self, at: Duration) -> Vec<Sent> {
        clock::set(at);
        let mut sent = Vec::new();
        for from in [0, 1] {
            let mut out = [0; 256];
            if let TunnResult::WriteToNetwork(made) = self.ends[from].update_timers(&mut out) {
                let made = made.to_vec();
                sent.push((at, from, made[0]));
                self.carry(from, made);
            }
        }
        sent
    }
}

#[test]
fn two_idle_peers_wake_nobody_until_their_keys_end() {
    let mut pair = Ours::new(None);
    pair.start(Duration::ZERO);
    pair.send(0, SECOND);
    pair.send(1, 2 * SECOND);
    pair.events.clear();

    // The end that received last owes the other one keepalive, once.
    let sent = pair.idle(2 * SECOND, 60 * SECOND);
    assert_eq!(sent.iter().map(|sent| sent.2).collect::<Vec<_>>(), [DATA]);
    assert!(pair.wakes.iter().all(|wakes| *wakes <= 4), "{:?}", pair.wakes);

    pair.wakes = [0; 2];
    pair.idle(60 * SECOND, 119 * SECOND);
    assert_eq!(pair.wakes, [0; 2], "a minute in which nothing is due");

    // It was used, so who initiated it renews it once, and nobody uses the new one.
    let sent = pair.idle(119 * SECOND, 1200 * SECOND);
    assert_eq!(sent.iter().filter(|sent| sent.2 == INITIATION).count(), 1);
    let ended: Vec<Duration> = pair
        .events
        .iter()
        .filter(|(_, event)| matches!(event, WgEvent::SessionExpired { .. }))
        .map(|(at, _)| *at)
        .collect();
    assert_eq!(ended.len(), 2);
    assert!(
        ended.iter().all(|at| *at >= 300 * SECOND && *at <= 301 * SECOND),
        "{ended:?}"
    );
    assert!(
        pair.wakes.iter().all(|wakes| *wakes <= 12),
        "{:?} in 18 minutes",
        pair.wakes
    );
    assert!(
        pair.ends.iter().all(|end| end.0.poll_timeout().is_none()),
        "at last nothing is due at all"
    );
}

#[test]
fn a_keepalive_costs_a_wake_and_no_more() {
    let mut pair = Ours::new(Some(25 * SECOND));
    pair.start(Duration::ZERO);
    pair.idle(Duration::ZERO, 60 * SECOND);
    pair.wakes = [0; 2];

    let sent = pair.idle(60 * SECOND, 360 * SECOND);

    let keepalives = sent.iter().filter(|sent| sent.2 == DATA).count();
    assert!((20..=34).contains(&keepalives), "{keepalives}");
    assert!(
        pair.wakes.iter().all(|wakes| *wakes <= 50),
        "{:?} in 5 minutes",
        pair.wakes
    );
}

#[test]
fn handshakes_come_when_they_come_with_a_clock_shown_all_the_time() {
    let (mut all, mut met) = (0, 0);
    for seed in 0..40 {
        let mut draw = ChaCha20Rng::seed_from_u64(seed);
        // Seconds between packets: sometimes a chat, sometimes long silences.
        let pause = *[2, 12, 30, 100]
            .get(draw.random_range(0..4_usize))
            .expect("one of four");
        let mut sends = Vec::new();
        let mut at = Duration::from_millis(700);
        while at < 1000 * SECOND {
            sends.push((at, draw.random_range(0..2_usize)));
            at += Duration::from_millis(draw.random_range(300..pause * 1000));
        }
        let ours = initiations(&mut Ours::new(None), &sends);
        let stock = initiations(&mut Stock::new(), &sends);
        assert!(
            ours.len().abs_diff(stock.len()) <= 1,
            "seed {seed}: {ours:?} and {stock:?}"
        );
        all += stock.len();
        let meets = |one: &Sent| {
            ours.iter()
                .any(|other| one.1 == other.1 && one.0.abs_diff(other.0) <= 2 * STEP)
        };
        met += stock.iter().filter(|one| meets(one)).count();
    }
    // Stamps are rounded differently, so what is due in the very moment of a packet may come before it or after.
    assert!(all > 300 && met * 100 >= all * 95, "{met} of {all}");
}

/// Shows the clock five times a second, if it is asked for; the initiations that brings. What is sent without a session
/// is dropped.
fn initiations(pair: &mut impl Pair, sends: &[(Duration, usize)]) -> Vec<Sent> {
    let mut timed = Vec::new();
    let mut sends = sends.iter().peekable();
    pair.start(Duration::ZERO);
    for tick in 1..6000_u32 {
        let at = STEP * tick;
        while let Some((when, from)) = sends.next_if(|(when, _)| *when <= at) {
            pair.send(*from, *when);
        }
        timed.extend(pair.pass(at));
    }
    timed.retain(|sent| sent.2 == INITIATION);
    timed
}

fn keys() -> [PrivateKey; 2] {
    [1, 2].map(|number| PrivateKey::from_random([number; 32]))
}

fn packet() -> Vec<u8> {
    let mut packet = vec![0; 32];
    packet[0] = 0x45;
    packet[3] = 32;
    packet
}

const SECOND: Duration = Duration::from_secs(1);
const STEP: Duration = Duration::from_millis(200);
const INITIATION: u8 = 1;
const DATA: u8 = 4;
