//! Floods of handshake initiations with a valid `mac1`: members' handshakes and data go on.

use std::net::SocketAddr;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use ringfence_e2e::{Stranger, key_from, random_bytes};
use ringfence_lab::Host;
use x25519_dalek::{PublicKey, StaticSecret};

use crate::outer::Forger;
use crate::rogue::initiation;
use crate::stage::{Mallory, SHOP, SOON, Shop, allow};

const RATE: u32 = 2_000;
const FOR: Duration = Duration::from_secs(6);
const HANDSHAKE_MAX: Duration = Duration::from_millis(250);
/// As many as one source may make (20 a second), and a little slower.
const HANDSHAKE_EVERY: Duration = Duration::from_millis(60);

/// A database under attack, its application, a device that shakes hands again and again, and who floods.
struct Siege {
    shop: Shop,
    member: Mallory,
    flooder: Host,
    initiations: Vec<Vec<u8>>,
}

impl Siege {
    fn lay(name: &str) -> Self {
        let mut shop = Shop::open(
            name,
            &[allow("api", "db", "udp/7"), allow("device", "db", "udp/53")],
        );
        let member = Mallory::join(&mut shop);
        let flooder = shop.mesh.bare_host("flooder").unwrap();
        let peer = PublicKey::from(key_from(&shop.db.public_key(SHOP).unwrap()).unwrap());
        // Each from a key of its own and whole in every part: the dearest to refuse.
        let initiations = (0..256)
            .map(|_| initiation(&StaticSecret::from(random_bytes::<32>().unwrap()), &peer).datagram)
            .collect();
        Self {
            shop,
            member,
            flooder,
            initiations,
        }
    }

    /// Floods from these sources in turn, and sees that neither the member's handshakes nor the application's data notice.
    fn withstand(
        mut self,
        sources: &[SocketAddr],
        shake: impl Fn(&mut Mallory, &str, SocketAddr) -> Duration,
    ) {
        let forger = Forger::on(&self.flooder);
        let (db_key, db_at) = (
            self.shop.db.public_key(SHOP).unwrap(),
            self.shop.db.endpoint().unwrap(),
        );
        let echo_at = Shop::at(&self.shop.db).v4(7);
        let _echo = self.shop.db.host().serve(echo_at).unwrap();
        let talker = self.shop.api.host().udp_bind(([0; 4], 0).into()).unwrap();
        talker.connect(echo_at).unwrap();
        talker.set_read_timeout(Some(Duration::from_secs(2))).unwrap();
        talker.send(b"warm").unwrap();
        talker.recv(&mut [0; 16]).unwrap();
        let (stop, sent) = (AtomicBool::new(false), AtomicU64::new(0));

        let (handshakes, gaps) = thread::scope(|scope| {
            scope.spawn(|| flood(&forger, sources, db_at, &self.initiations, &stop, &sent));
            let talking = scope.spawn(|| talk(&talker, &stop));
            let handshakes = again_and_again(|| shake(&mut self.member, &db_key, db_at));
            stop.store(true, Ordering::Relaxed);
            (handshakes, talking.join().unwrap())
        });

        let sent = sent.load(Ordering::Relaxed);
        assert!(
            sent > u64::from(RATE) * FOR.as_secs() * 8 / 10,
            "the flood was a flood: {sent}"
        );
        let p99 = percentile(handshakes, 99);
        assert!(
            p99 < HANDSHAKE_MAX,
            "p99 of a member's handshake is {p99:?} under {sent} initiations"
        );
        let worst = percentile(gaps, 100);
        assert!(worst < HANDSHAKE_MAX, "data stalled for {worst:?}");
        // The bucket of a flooded name fills again at once.
        thread::sleep(HANDSHAKE_MAX);
        assert!(self.member.rogue.shake(SOON).is_some());
        self.member.settle();
        let status = self.shop.db.status().unwrap();
        let refused: u64 = ["source_limited", "overloaded", "cookie_sent", "unknown_key"]
            .iter()
            .filter_map(|reason| status["drops"][*reason].as_u64())
            .sum();
        assert!(refused > sent * 9 / 10, "{refused} of {sent}: {status}");
    }
}

#[test]
fn a_flood_from_one_source_delays_no_member() {
    let siege = Siege::lay("flood-one");
    let own = SocketAddr::from((siege.flooder.ipv4().unwrap(), 9999));
    siege.withstand(&[own], at_once);
}

#[test]
fn a_flood_from_many_sources_delays_no_member() {
    let siege = Siege::lay("flood-many");
    let sources: Vec<SocketAddr> = (0..12_000_u32)
        .map(|n| SocketAddr::from(((0xc612_0000 + n).to_be_bytes(), 9999)))
        .collect();
    siege.withstand(&sources, at_once);
}

#[test]
fn a_flood_in_a_members_own_name_cannot_keep_it_out() {
    let siege = Siege::lay("flood-named");
    let member = SocketAddr::new(siege.member.host.address(), 9999);
    siege.withstand(&[member], with_a_cookie);
}

fn flood(
    forger: &Forger,
    sources: &[SocketAddr],
    dst: SocketAddr,
    initiations: &[Vec<u8>],
    stop: &AtomicBool,
    sent: &AtomicU64,
) {
    let began = Instant::now();
    let mut pairs = sources.iter().cycle().zip(initiations.iter().cycle());
    while !stop.load(Ordering::Relaxed) {
        let due = began.elapsed().as_millis() as u64 * u64::from(RATE) / 1000;
        while sent.load(Ordering::Relaxed) < due {
            let (src, initiation) = pairs.next().unwrap();
            forger.send(*src, dst, initiation);
            sent.fetch_add(1, Ordering::Relaxed);
        }
        thread::sleep(Duration::from_millis(1));
    }
}

/// A handshake that is answered the first time it is asked for.
fn at_once(member: &mut Mallory, _: &str, _: SocketAddr) -> Duration {
    member.rogue.shake(SOON / 4).unwrap_or(SOON)
}

/// A stock client that may be asked for a cookie first. It comes back with it at once; by itself it would wait out its
/// timer of five seconds, the first time in two minutes.
fn with_a_cookie(member: &mut Mallory, db_key: &str, db_at: SocketAddr) -> Duration {
    let mut client = Stranger::new(&member.host, member.key, db_key, db_at).unwrap();
    let began = Instant::now();
    let shaken = (0..2).any(|_| client.shake(SOON / 4).unwrap() && client.seal(&[0x45; 20]).is_ok());
    if shaken { began.elapsed() } else { SOON }
}

/// How long each of a member's handshakes takes.
fn again_and_again(mut shake: impl FnMut() -> Duration) -> Vec<Duration> {
    let began = Instant::now();
    let mut took = Vec::new();
    while began.elapsed() < FOR {
        let next = Instant::now() + HANDSHAKE_EVERY;
        took.push(shake());
        thread::sleep(next.saturating_duration_since(Instant::now()));
    }
    took
}

/// How long each echo takes.
fn talk(socket: &std::net::UdpSocket, stop: &AtomicBool) -> Vec<Duration> {
    let mut took = Vec::new();
    while !stop.load(Ordering::Relaxed) {
        let began = Instant::now();
        socket.send(b"echo").unwrap();
        took.push(socket.recv(&mut [0; 16]).map_or(SOON, |_| began.elapsed()));
        thread::sleep(Duration::from_millis(5));
    }
    took
}

fn percentile(mut all: Vec<Duration>, percent: usize) -> Duration {
    assert!(all.len() > 20, "{} samples", all.len());
    all.sort();
    all[(all.len() * percent / 100).min(all.len() - 1)]
}
