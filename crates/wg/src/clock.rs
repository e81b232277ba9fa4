//! The seam to boringtun's own clock: the only file that touches boringtun.
//!
//! `boringtun::noise` reads three clocks of its own: `Instant::now` (on Linux `CLOCK_BOOTTIME`) in timers, handshake
//! and rate limiter, and `SystemTime::now` when a `Tunn` is made, as the base of its TAI64N stamps. The `now` that
//! [`crate::WireGuard`] is handed therefore decides *when* boringtun is asked, and boringtun's clock decides what it
//! answers. In production both run alike. A simulation that builds boringtun with `mock-instant` sets both.
//!
//! Inside a `Tunn` time stands still between calls of `update_timers`: every stamp it writes is the time of the last
//! one. So whoever uses a tunnel ticks it first if [`ClockedTunn::is_stale`]; otherwise a handshake made after 200
//! idle seconds would look 200 s old and be thrown away by the next tick.
//!
//! Keys: Curve25519 secrets inside a `Tunn` are wiped when it drops (`x25519-dalek` with `zeroize`).

use std::net::IpAddr;
use std::sync::Arc;
use std::time::{Duration, Instant};

use boringtun::noise::handshake::parse_handshake_anon;
use boringtun::noise::rate_limiter::RateLimiter;
use boringtun::noise::{Packet, Tunn, TunnResult};
use boringtun::x25519;
use ringfence_model::{PrivateKey, PublicKey};

use crate::demux;
use crate::drop::WgDrop;
use crate::errands::{Content, Errands};
use crate::output::MessageKind;
use crate::slots::PeerSlot;

/// A segment's side of every handshake: its key pair, and what bounds the handshakes made with it.
pub(crate) struct Noise {
    secret: x25519::StaticSecret,
    public: x25519::PublicKey,
    /// Counts the initiations of strangers, and asks for cookies when there are too many.
    gate: RateLimiter,
    /// Asks for a cookie always: for sources that have spent their bucket, or in whose name it was spent.
    challenge: RateLimiter,
    /// What each `Tunn` checks against. Without a limit: whatever gets there was counted by the gate or by its
    /// source's bucket, and counting it again would halve the budget.
    unlimited: Arc<RateLimiter>,
}

/// What the gate says to a stranger's initiation.
pub(crate) enum GateVerdict {
    /// Go on.
    Pass,
    /// Loaded: answer with this cookie reply.
    Cookie(Vec<u8>),
}

impl Noise {
    pub(crate) fn new(key: &PrivateKey) -> Self {
        let secret = x25519::StaticSecret::from(*key.expose());
        let public = x25519::PublicKey::from(&secret);
        Self {
            gate: RateLimiter::new(&public, STRANGERS_PER_SECOND),
            challenge: RateLimiter::new(&public, 0),
            unlimited: Arc::new(RateLimiter::new(&public, u64::MAX)),
            secret,
            public,
        }
    }

    pub(crate) fn public_key(&self) -> PublicKey {
        PublicKey::from_bytes(self.public.to_bytes())
    }

    /// Counts one initiation of a stranger.
    pub(crate) fn gate(&self, src: IpAddr, initiation: &[u8]) -> Result<GateVerdict, WgDrop> {
        self.gate.reset_count();
        ask(&self.gate, src, initiation)
    }

    /// Passes an initiation with a cookie, which shows that its sender receives at `src`.
    pub(crate) fn challenge(&self, src: IpAddr, initiation: &[u8]) -> Result<GateVerdict, WgDrop> {
        ask(&self.challenge, src, initiation)
    }

    /// Decrypts who an initiation says it is from. Only the whole handshake proves it.
    pub(crate) fn claimed_sender(&self, initiation: &[u8]) -> Result<PublicKey, WgDrop> {
        let Ok(Packet::HandshakeInit(message)) = Tunn::parse_incoming_packet(initiation) else {
            return Err(WgDrop::NotWireGuard);
        };
        let half = parse_handshake_anon(&self.secret, &self.public, &message)?;
        Ok(PublicKey::from_bytes(half.peer_static_public))
    }

    /// A tunnel to one peer.
    pub(crate) fn tunnel(&self, peer: PublicKey, slot: PeerSlot, now: Instant) -> Box<ClockedTunn> {
        Box::new(ClockedTunn {
            tunn: Tunn::new(
                self.secret.clone(),
                x25519::PublicKey::from(*peer.as_bytes()),
                None,
                // Ours, in peer.rs: boringtun's also fires while traffic flows, and gives up for good after 90 s.
                None,
                slot.tunn_index(),
                Some(Arc::clone(&self.unlimited)),
            ),
            ticked_at: now,
            errands: Errands::new(now),
            has_session: false,
            #[cfg(feature = "null-cipher")]
            framing: crate::null_cipher::Framing::default(),
        })
    }
}

fn ask(limiter: &RateLimiter, src: IpAddr, initiation: &[u8]) -> Result<GateVerdict, WgDrop> {
    let mut cookie_reply = [0; SCRATCH_BYTES];
    match limiter.verify_packet(Some(src), initiation, &mut cookie_reply) {
        Ok(_) => Ok(GateVerdict::Pass),
        Err(TunnResult::WriteToNetwork(reply)) => Ok(GateVerdict::Cookie(reply.to_vec())),
        Err(TunnResult::Err(error)) => Err(error.into()),
        Err(TunnResult::Done | TunnResult::WriteToTunnelV4(..) | TunnResult::WriteToTunnelV6(..)) => {
            Err(WgDrop::NotWireGuard)
        }
    }
}

/// One `Tunn`, with the time it was last shown a clock.
pub(crate) struct ClockedTunn {
    tunn: Tunn,
    ticked_at: Instant,
    errands: Errands,
    /// Asking the tunnel costs a look at the clock, too much for each packet. Only what writes this can change it.
    has_session: bool,
    #[cfg(feature = "null-cipher")]
    framing: crate::null_cipher::Framing,
}

/// What a tick brought.
pub(crate) enum Tick {
    /// Nothing.
    Quiet,
    /// A datagram to send: an initiation or a keepalive.
    Send(Vec<u8>),
    /// The tunnel has given up: no session, no handshake, until one is started.
    Expired,
}

impl ClockedTunn {
    /// Whether the tunnel must be ticked before it is used.
    pub(crate) fn is_stale(&self, now: Instant) -> bool {
        now.saturating_duration_since(self.ticked_at) >= STALE_AFTER
    }

    /// Shows the tunnel the clock.
    pub(crate) fn tick(&mut self, now: Instant) -> Tick {
        self.ticked_at = now;
        let mut scratch = [0; SCRATCH_BYTES];
        let tick = match self.tunn.update_timers(&mut scratch) {
            TunnResult::WriteToNetwork(datagram) => Tick::Send(datagram.to_vec()),
            TunnResult::Err(_) => Tick::Expired,
            TunnResult::Done | TunnResult::WriteToTunnelV4(..) | TunnResult::WriteToTunnelV6(..) => {
                Tick::Quiet
            }
        };
        self.look_for_session();
        match &tick {
            Tick::Send(datagram) => match demux::kind(datagram) {
                Some(MessageKind::HandshakeInitiation) => self.errands.initiated(datagram, now),
                Some(MessageKind::Data) => self.errands.sent(Content::Nothing, now),
                Some(MessageKind::HandshakeResponse | MessageKind::CookieReply) | None => {}
            },
            Tick::Expired => self.errands.expired(now),
            Tick::Quiet => {}
        }
        self.errands.give_up_what_is_overdue(self.has_session, now);
        tick
    }

    /// When the tunnel must be shown the clock again if nothing is sent or received until then; `None` if never. May lie
    /// in the past.
    pub(crate) fn next_tick(&self) -> Option<Instant> {
        self.errands.next()
    }

    /// Whether [`Self::next_tick`] may have come nearer since this was last asked.
    pub(crate) fn has_news(&mut self) -> bool {
        self.errands.has_news()
    }

    /// Whether a packet can be sealed now.
    pub(crate) fn has_session(&self) -> bool {
        debug_assert_eq!(self.has_session, self.tunn.time_since_last_handshake().is_some());
        self.has_session
    }

    fn look_for_session(&mut self) {
        self.has_session = self.tunn.time_since_last_handshake().is_some();
    }

    /// Makes an initiation, unless a handshake is under way.
    pub(crate) fn initiate(&mut self) -> Option<Vec<u8>> {
        let mut scratch = [0; SCRATCH_BYTES];
        let initiation = sent(self.tunn.format_handshake_initiation(&mut scratch, false))?;
        self.errands.initiated(&initiation, self.ticked_at);
        Some(initiation)
    }

    /// Makes another initiation for the handshake under way, with the cookie that has come for it. An answer to the
    /// first still counts.
    pub(crate) fn initiate_again(&mut self) -> Option<Vec<u8>> {
        let mut scratch = [0; SCRATCH_BYTES];
        let initiation = sent(self.tunn.format_handshake_initiation(&mut scratch, true))?;
        self.errands.initiated(&initiation, self.ticked_at);
        Some(initiation)
    }

    /// Seals a plaintext into `out`, which has room for [`DATA_OVERHEAD_BYTES`] more; how long it became. `None`
    /// without a session, or without the room.
    pub(crate) fn seal(&mut self, plaintext: &[u8], out: &mut [u8]) -> Option<usize> {
        // Without a session, `encapsulate` would keep the packet in a queue of its own: 256 for every silent peer.
        // On a buffer that is too short it would panic.
        if !self.has_session() || out.len() < plaintext.len() + DATA_OVERHEAD_BYTES {
            return None;
        }
        #[cfg(feature = "null-cipher")]
        if let Some(framed) = self.framing.seal(&mut self.tunn, plaintext, out) {
            return Some(framed);
        }
        let TunnResult::WriteToNetwork(datagram) = self.tunn.encapsulate(plaintext, out) else {
            debug_assert!(false, "a tunnel with a session seals");
            return None;
        };
        debug_assert_eq!(datagram.len(), plaintext.len() + DATA_OVERHEAD_BYTES);
        let sealed_bytes = datagram.len();
        self.errands.sent(Content::of(plaintext), self.ticked_at);
        Some(sealed_bytes)
    }

    /// Opens a data message into `buf`, which must be as long as the datagram. An empty packet is a keepalive.
    pub(crate) fn open_data<'b>(&mut self, datagram: &[u8], buf: &'b mut [u8]) -> Result<&'b [u8], WgDrop> {
        #[cfg(feature = "null-cipher")]
        if crate::null_cipher::is_plain(datagram) {
            return Ok(crate::null_cipher::open(datagram, buf));
        }
        let opened = self.tunn.decapsulate(None, datagram, buf);
        let packet: &[u8] = match opened {
            TunnResult::WriteToTunnelV4(packet, _) | TunnResult::WriteToTunnelV6(packet, _) => packet,
            TunnResult::Done => &[],
            TunnResult::Err(error) => return Err(error.into()),
            TunnResult::WriteToNetwork(_) => {
                debug_assert!(false, "a data message has no answer");
                return Err(WgDrop::Unexpected);
            }
        };
        self.errands.received(Content::of(packet), self.ticked_at);
        if !self.has_session {
            self.has_session = self.tunn.time_since_last_handshake().is_some();
        }
        Ok(packet)
    }

    /// Handles a handshake message or a cookie reply; gives the answer to it, if it has one.
    pub(crate) fn open_handshake(&mut self, src: IpAddr, datagram: &[u8]) -> Result<Option<Vec<u8>>, WgDrop> {
        let mut scratch = [0; SCRATCH_BYTES];
        let answer = match self.tunn.decapsulate(Some(src), datagram, &mut scratch) {
            TunnResult::WriteToNetwork(answer) => Some(answer.to_vec()),
            TunnResult::Done => None,
            TunnResult::Err(error) => return Err(error.into()),
            TunnResult::WriteToTunnelV4(..) | TunnResult::WriteToTunnelV6(..) => {
                debug_assert!(false, "a handshake message holds no packet");
                return Err(WgDrop::Unexpected);
            }
        };
        match demux::kind(datagram) {
            Some(MessageKind::HandshakeInitiation) => self.errands.answered(self.ticked_at),
            Some(MessageKind::HandshakeResponse) => self.errands.completed(datagram, self.ticked_at),
            Some(MessageKind::CookieReply) => self.errands.received(Content::Nothing, self.ticked_at),
            Some(MessageKind::Data) | None => {}
        }
        self.look_for_session();
        Ok(answer)
    }

    /// Empties the queue in which a passive keepalive waits that fell due just after its session had ended.
    pub(crate) fn discard_queue(&mut self) {
        for _ in 0..TUNN_QUEUE_MAX {
            let mut scratch = [0; SCRATCH_BYTES];
            if sent(self.tunn.decapsulate(None, &[], &mut scratch)).is_none() {
                return;
            }
        }
    }
}

/// An initiation to `receiver` from a key that it does not know.
pub(crate) fn stranger_initiation(stranger: &PrivateKey, receiver: PublicKey, slot: PeerSlot) -> Vec<u8> {
    let mut tunn = Tunn::new(
        x25519::StaticSecret::from(*stranger.expose()),
        x25519::PublicKey::from(*receiver.as_bytes()),
        None,
        None,
        slot.tunn_index(),
        None,
    );
    let mut scratch = [0; SCRATCH_BYTES];
    sent(tunn.format_handshake_initiation(&mut scratch, false))
        .expect("a new tunnel has no handshake under way, and the buffer holds an initiation")
}

fn sent(result: TunnResult<'_>) -> Option<Vec<u8>> {
    match result {
        TunnResult::WriteToNetwork(datagram) => Some(datagram.to_vec()),
        TunnResult::Done
        | TunnResult::Err(_)
        | TunnResult::WriteToTunnelV4(..)
        | TunnResult::WriteToTunnelV6(..) => None,
    }
}

/// A tunnel that was shown the clock longer ago than this is shown it before use: boringtun's own resolution.
const STALE_AFTER: Duration = Duration::from_millis(250);
/// Initiations of strangers that one segment takes in one second before it asks for cookies: about 7 % of a core.
pub(crate) const STRANGERS_PER_SECOND: u64 = 256;
/// Header and tag of a data message.
pub(crate) const DATA_OVERHEAD_BYTES: usize = 32;
/// Room for any message but data; the longest is an initiation of 148 bytes.
const SCRATCH_BYTES: usize = 160;
/// boringtun's own bound.
const TUNN_QUEUE_MAX: usize = 256;

#[cfg(test)]
pub(crate) mod tests {
    use super::*;

    /// Some instant for a test to count from.
    #[expect(
        clippy::disallowed_methods,
        reason = "an instant has no other source; the tests only count from it"
    )]
    pub(crate) fn start() -> Instant {
        Instant::now()
    }

    #[test]
    fn a_tunnel_is_stale_after_250_milliseconds() {
        let now = start();
        let noise = Noise::new(&PrivateKey::from_random([1; 32]));
        let peer = PrivateKey::from_random([2; 32]).public_key();
        let mut tunnel = noise.tunnel(peer, PeerSlot::from_receiver_index(0x100), now);

        assert!(!tunnel.is_stale(now + Duration::from_millis(249)));
        assert!(tunnel.is_stale(now + Duration::from_millis(250)));

        tunnel.tick(now + Duration::from_secs(5));
        assert!(!tunnel.is_stale(now + Duration::from_secs(5)));
    }

    #[test]
    fn sealing_without_a_session_leaves_nothing_behind() {
        let now = start();
        let noise = Noise::new(&PrivateKey::from_random([1; 32]));
        let peer = PrivateKey::from_random([2; 32]).public_key();
        let mut tunnel = noise.tunnel(peer, PeerSlot::from_receiver_index(0x100), now);
        let mut out = [0; 64 + DATA_OVERHEAD_BYTES];

        assert_eq!(tunnel.seal(&[0x45; 64], &mut out), None);
        assert_eq!(out, [0; 64 + DATA_OVERHEAD_BYTES]);
    }
}
