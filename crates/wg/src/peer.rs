//! One peer of one segment: its tunnel, and everything boringtun leaves to the caller.
//!
//! **Invariant:** a handshake is started at most once in [`REKEY_TIMEOUT`], by whatever cause; one initiation more
//! follows if a cookie comes for the first.

use std::net::SocketAddr;
use std::time::{Duration, Instant};

use ringfence_model::PublicKey;

use crate::alarms::Alarms;
use crate::clock::{ClockedTunn, DATA_OVERHEAD_BYTES, Noise, Tick};
use crate::demux::{self, ReceiverIndex};
use crate::drop::WgDrop;
use crate::output::{Destination, MessageKind, Outbox, WgEvent, WgTransmit};
use crate::reach::Reach;
use crate::segment::SegmentHandle;
use crate::slots::PeerSlot;

/// Why a packet was not sealed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum SealError {
    /// No session yet: hold the packet and call [`crate::WireGuard::start_handshake`].
    #[error("no session with this peer")]
    NoSession,
    /// This session has sent all it may; the next handshake is under way.
    #[error("this session has sent as many messages as it may")]
    CounterExhausted,
    /// The slot names no peer.
    #[error("no such peer")]
    NoPeer,
    /// Does not fit into one UDP datagram.
    #[error("too long for one datagram")]
    TooLong,
}

/// What a status report shows of a peer.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct PeerStats {
    /// How long ago the last handshake was completed.
    pub latest_handshake: Option<Duration>,
    /// Bytes of authentic datagrams received.
    pub rx_bytes: u64,
    /// Bytes of datagrams sent.
    pub tx_bytes: u64,
}

/// What one call works with.
pub(crate) struct Call<'a> {
    pub(crate) noise: &'a Noise,
    pub(crate) outbox: &'a mut Outbox,
    pub(crate) alarms: &'a mut Alarms,
    pub(crate) now: Instant,
}

/// One peer.
pub(crate) struct Peer {
    pub(crate) slot: PeerSlot,
    pub(crate) segment: SegmentHandle,
    pub(crate) public_key: PublicKey,
    /// Where the last authentic datagram came from.
    pub(crate) src: Option<SocketAddr>,
    keepalive: Option<Duration>,
    /// 11 KiB, so made on first use; then kept as long as the peer, because it knows the newest handshake stamp
    /// it has seen, which is what a replayed initiation is refused by.
    tunnel: Option<Box<ClockedTunn>>,
    session: Session,
    /// When the handshake attempt under way began.
    attempt_began: Option<Instant>,
    initiated_at: Option<Instant>,
    responses_left: u8,
    cookie: Cookie,
    /// The peer has lost the session: a handshake starts as soon as one may.
    renewal_due: bool,
    /// The session we answered with, not confirmed yet by data from the initiator.
    unconfirmed: Option<ReceiverIndex>,
    established_at: Option<Instant>,
    sent_at: Option<Instant>,
    /// Whether it gets what we send.
    reach: Reach,
    /// When it is ticked next, as told to [`Alarms`].
    pub(crate) alarm: Option<Instant>,
    limits: CounterLimits,
    rx_bytes: u64,
    tx_bytes: u64,
}

/// Whether packets can be sealed, as last told to the caller.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Session {
    None,
    Live,
}

/// Whether a cookie reply makes us initiate once more.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Cookie {
    /// None has come since the last handshake was started.
    Awaited,
    /// One came, or no handshake is under way. Who sees our initiation can forge replies without end.
    Used,
}

/// How many messages a session may send.
#[derive(Clone, Copy)]
struct CounterLimits {
    /// Starts the next handshake.
    rekey_after: u64,
    /// Nothing is sent any more.
    refuse_from: u64,
}

impl Peer {
    pub(crate) fn new(
        slot: PeerSlot,
        segment: SegmentHandle,
        public_key: PublicKey,
        keepalive: Option<Duration>,
    ) -> Self {
        Self {
            slot,
            segment,
            public_key,
            src: None,
            keepalive,
            tunnel: None,
            session: Session::None,
            attempt_began: None,
            initiated_at: None,
            responses_left: 0,
            cookie: Cookie::Used,
            renewal_due: false,
            unconfirmed: None,
            established_at: None,
            sent_at: None,
            reach: Reach::default(),
            alarm: None,
            limits: CounterLimits {
                rekey_after: REKEY_AFTER_MESSAGES,
                refuse_from: REFUSE_FROM_MESSAGES,
            },
            rx_bytes: 0,
            tx_bytes: 0,
        }
    }

    /// Moves time forward, if it stood still for too long for the tunnel to be used.
    pub(crate) fn refresh(&mut self, call: &mut Call<'_>) {
        if self
            .tunnel
            .as_ref()
            .is_some_and(|tunnel| tunnel.is_stale(call.now))
        {
            self.tick(call);
        }
    }

    /// Moves time forward: retries, re-keys, expires, keeps alive.
    pub(crate) fn tick(&mut self, call: &mut Call<'_>) {
        if let Some(tunnel) = &mut self.tunnel {
            match tunnel.tick(call.now) {
                Tick::Quiet => {}
                Tick::Send(datagram) => self.emit(datagram, Destination::Peer, call),
                Tick::Expired => self.fail_attempt(call),
            }
        }
        // A responder's handshake replaces our own attempt inside the tunnel without ever failing it.
        if self
            .attempt_began
            .is_some_and(|began| since(call.now, began) > ATTEMPT_MAX)
        {
            self.fail_attempt(call);
        }
        if self.session == Session::Live && !self.has_session() {
            self.session = Session::None;
            call.outbox.tell(WgEvent::SessionExpired { slot: self.slot });
        }
        if self.renewal_due {
            self.initiate(call);
        }
        self.keep_alive(call);
        self.set_alarm(call);
    }

    /// Sees to it that the next tick comes when something is due, and not before.
    pub(crate) fn set_alarm(&mut self, call: &mut Call<'_>) {
        let due = self.next_tick(call.now);
        self.alarm = call.alarms.set(self.slot, self.alarm, due, call.now);
    }

    /// As [`Self::set_alarm`], after a packet: an alarm that would come too early may stay.
    fn set_nearer_alarm(&mut self, call: &mut Call<'_>) {
        let Some(due) = self.next_tick(call.now) else {
            return;
        };
        if self.alarm.is_none_or(|alarm| due < alarm) {
            self.alarm = call.alarms.set(self.slot, self.alarm, Some(due), call.now);
        }
    }

    fn next_tick(&self, now: Instant) -> Option<Instant> {
        let next_initiation = self.initiated_at.map_or(now, |at| at + REKEY_TIMEOUT);
        let keepalive = self.keepalive.map(|interval| {
            let silence_ends = self.sent_at.map_or(now, |at| at + interval);
            if self.has_session() {
                silence_ends
            } else {
                silence_ends.max(next_initiation)
            }
        });
        let all = [
            self.tunnel.as_ref().and_then(|tunnel| tunnel.next_tick()),
            self.attempt_began.map(|began| began + ATTEMPT_MAX),
            self.renewal_due.then_some(next_initiation),
            keepalive,
        ];
        all.into_iter().flatten().min()
    }

    /// Starts a handshake although there is a session, or as soon as one may be started.
    pub(crate) fn renew_session(&mut self, call: &mut Call<'_>) {
        self.refresh(call);
        if self.has_session() {
            self.renewal_due = true;
            self.initiate(call);
        }
        self.set_alarm(call);
    }

    /// Starts a handshake, unless one was started within [`REKEY_TIMEOUT`].
    pub(crate) fn start_handshake(&mut self, call: &mut Call<'_>) {
        self.refresh(call);
        self.initiate(call);
        self.set_alarm(call);
    }

    /// Seals one packet, which the caller has padded, into `out`, which has room; how long it became. The clock was
    /// shown to the tunnel before: once for a batch.
    pub(crate) fn seal(
        &mut self,
        padded: &[u8],
        out: &mut [u8],
        call: &mut Call<'_>,
    ) -> Result<usize, SealError> {
        let tunnel = self.tunnel.as_mut().ok_or(SealError::NoSession)?;
        let sealed_bytes = tunnel.seal(padded, out).ok_or(SealError::NoSession)?;
        let has_news = tunnel.has_news();
        let counter = demux::counter(out).unwrap_or(u64::MAX);
        if counter >= self.limits.rekey_after {
            self.initiate(call);
        }
        if counter >= self.limits.refuse_from {
            out[..sealed_bytes].fill(0);
            return Err(SealError::CounterExhausted);
        }
        self.tx_bytes += sealed_bytes as u64;
        self.sent_at = Some(call.now);
        if has_news {
            self.reach.expect_answer(padded, call.now);
            self.set_nearer_alarm(call);
        }
        Ok(sealed_bytes)
    }

    /// Opens a data message.
    pub(crate) fn open_data<'b>(
        &mut self,
        receiver: ReceiverIndex,
        datagram: &[u8],
        buf: &'b mut [u8],
        call: &mut Call<'_>,
    ) -> Result<&'b [u8], WgDrop> {
        self.refresh(call);
        let tunnel = self.tunnel.as_mut().ok_or(WgDrop::UnknownIndex)?;
        let packet = tunnel.open_data(datagram, buf)?;
        let has_news = tunnel.has_news();
        self.rx_bytes += datagram.len() as u64;
        if self.unconfirmed == Some(receiver) || self.session == Session::None {
            self.establish(call);
        }
        if has_news {
            self.reach.hear(call.now);
            self.set_nearer_alarm(call);
        }
        Ok(packet)
    }

    /// Answers an initiation whose sender claims to be this peer.
    pub(crate) fn open_initiation(
        &mut self,
        src: SocketAddr,
        datagram: &[u8],
        call: &mut Call<'_>,
    ) -> Result<(), WgDrop> {
        self.refresh(call);
        let answer = self.tunnel(call).open_handshake(src.ip(), datagram)?;
        self.rx_bytes += datagram.len() as u64;
        if let Some(response) = answer {
            self.reach.respond(self.unconfirmed.is_some());
            self.unconfirmed = demux::sender_index(&response);
            self.emit(response, Destination::Address(src), call);
        }
        self.set_alarm(call);
        Ok(())
    }

    /// Completes the handshake that we started.
    pub(crate) fn open_response(
        &mut self,
        src: SocketAddr,
        datagram: &[u8],
        call: &mut Call<'_>,
    ) -> Result<(), WgDrop> {
        self.refresh(call);
        let tunnel = self.tunnel.as_mut().ok_or(WgDrop::UnknownIndex)?;
        // Who sees our initiation can forge responses to it, and each costs two Curve25519 operations.
        self.responses_left = self.responses_left.checked_sub(1).ok_or(WgDrop::Unexpected)?;
        let keepalive = tunnel.open_handshake(src.ip(), datagram)?;
        tunnel.discard_queue();
        self.rx_bytes += datagram.len() as u64;
        self.establish(call);
        // The first data message confirms the session to the responder.
        if let Some(keepalive) = keepalive {
            self.emit(keepalive, Destination::Address(src), call);
        }
        self.set_alarm(call);
        Ok(())
    }

    /// Keeps a cookie for the next handshake message. The first one for an initiation is shown at once, where it came
    /// from, since it is good for one address of ours: the tunnel's own timer would take [`REKEY_TIMEOUT`].
    pub(crate) fn open_cookie_reply(
        &mut self,
        src: SocketAddr,
        datagram: &[u8],
        call: &mut Call<'_>,
    ) -> Result<(), WgDrop> {
        self.refresh(call);
        let tunnel = self.tunnel.as_mut().ok_or(WgDrop::UnknownIndex)?;
        tunnel.open_handshake(src.ip(), datagram)?;
        if self.cookie == Cookie::Awaited
            && let Some(initiation) = tunnel.initiate_again()
        {
            self.emit(initiation, Destination::Address(src), call);
            self.cookie = Cookie::Used;
        }
        self.set_alarm(call);
        Ok(())
    }

    /// Whether a packet can be sealed now.
    pub(crate) fn has_session(&self) -> bool {
        self.tunnel.as_ref().is_some_and(|tunnel| tunnel.has_session())
    }

    /// See [`crate::WireGuard::seems_unreached`].
    pub(crate) fn seems_unreached(&self, now: Instant) -> bool {
        self.reach.seems_lost(now)
    }

    pub(crate) fn stats(&self, now: Instant) -> PeerStats {
        PeerStats {
            latest_handshake: self.established_at.map(|at| since(now, at)),
            rx_bytes: self.rx_bytes,
            tx_bytes: self.tx_bytes,
        }
    }

    fn tunnel(&mut self, call: &Call<'_>) -> &mut ClockedTunn {
        self.tunnel
            .get_or_insert_with(|| call.noise.tunnel(self.public_key, self.slot, call.now))
    }

    fn initiate(&mut self, call: &mut Call<'_>) {
        if self
            .initiated_at
            .is_some_and(|at| since(call.now, at) < REKEY_TIMEOUT)
        {
            return;
        }
        if let Some(initiation) = self.tunnel(call).initiate() {
            self.emit(initiation, Destination::Peer, call);
        }
    }

    fn establish(&mut self, call: &mut Call<'_>) {
        self.session = Session::Live;
        self.cookie = Cookie::Used;
        self.unconfirmed = None;
        self.attempt_began = None;
        self.established_at = Some(call.now);
        self.reach.establish(call.now);
        call.outbox.tell(WgEvent::SessionEstablished { slot: self.slot });
    }

    fn fail_attempt(&mut self, call: &mut Call<'_>) {
        if self.attempt_began.take().is_some() {
            call.outbox.tell(WgEvent::HandshakeFailed { slot: self.slot });
        }
    }

    /// Sends an empty packet, or a handshake, if nothing was sent for the keepalive interval.
    fn keep_alive(&mut self, call: &mut Call<'_>) {
        let Some(interval) = self.keepalive else {
            return;
        };
        if self.sent_at.is_some_and(|at| since(call.now, at) < interval) {
            return;
        }
        let mut keepalive = vec![0; DATA_OVERHEAD_BYTES];
        match self.seal(&[], &mut keepalive, call) {
            Ok(_) => self.send(keepalive, MessageKind::Data, Destination::Peer, call),
            Err(SealError::NoSession) => self.initiate(call),
            Err(SealError::CounterExhausted | SealError::NoPeer | SealError::TooLong) => {}
        }
    }

    /// Sends what the tunnel made, and keeps account of it.
    fn emit(&mut self, datagram: Vec<u8>, to: Destination, call: &mut Call<'_>) {
        let Some(kind) = demux::kind(&datagram) else {
            debug_assert!(false, "the tunnel makes WireGuard messages");
            return;
        };
        let now = call.now;
        match kind {
            MessageKind::HandshakeInitiation => {
                self.initiated_at = Some(now);
                self.attempt_began.get_or_insert(now);
                self.responses_left = RESPONSES_MAX;
                self.cookie = Cookie::Awaited;
                self.renewal_due = false;
            }
            MessageKind::Data if demux::counter(&datagram) >= Some(self.limits.refuse_from) => return,
            MessageKind::HandshakeResponse | MessageKind::CookieReply | MessageKind::Data => {}
        }
        self.tx_bytes += datagram.len() as u64;
        self.sent_at = Some(now);
        self.send(datagram, kind, to, call);
    }

    fn send(&mut self, datagram: Vec<u8>, kind: MessageKind, to: Destination, call: &mut Call<'_>) {
        call.outbox.send(WgTransmit {
            slot: Some(self.slot),
            to,
            kind,
            datagram,
        });
    }
}

fn since(now: Instant, earlier: Instant) -> Duration {
    now.saturating_duration_since(earlier)
}

/// Packets are padded to a multiple of this before sealing (whitepaper section 5.4.6), so that lengths tell less.
///
/// Choose a segment's MTU as a multiple of it, and padding never makes a datagram that does not fit.
pub const PADDING_BYTES: usize = 16;
/// What sealing adds to a padded packet.
pub const SEALED_OVERHEAD_BYTES: usize = DATA_OVERHEAD_BYTES;

/// Between two initiations to one peer (whitepaper section 6.4).
const REKEY_TIMEOUT: Duration = Duration::from_secs(5);
/// `REKEY_ATTEMPT_TIME`, and a little, since boringtun's own count of it should come first.
const ATTEMPT_MAX: Duration = Duration::from_secs(95);
/// `REKEY_AFTER_MESSAGES` (whitepaper section 6.1).
const REKEY_AFTER_MESSAGES: u64 = 1 << 60;
/// Under `REJECT_AFTER_MESSAGES` by so much that refused attempts, which use up counters too, can never reach the
/// end: a nonce must not come twice.
const REFUSE_FROM_MESSAGES: u64 = 1 << 62;
/// Responses looked at for each initiation: a duplicate or two, not a flood.
const RESPONSES_MAX: u8 = 8;

#[cfg(test)]
mod tests {
    use ringfence_model::PrivateKey;

    use super::*;
    use crate::WireGuard;
    use crate::clock::tests::start;

    fn carry(from: &mut WireGuard, to: &mut WireGuard, now: Instant) -> usize {
        let mut carried = 0;
        while let Some(transmit) = from.poll_transmit() {
            let mut buf = vec![0; transmit.datagram.len()];
            to.open(
                SocketAddr::from(([192, 0, 2, 1], 1)),
                &transmit.datagram,
                &mut buf,
                now,
            )
            .unwrap();
            carried += 1;
        }
        carried
    }

    fn connected(now: Instant) -> (WireGuard, PeerSlot, WireGuard) {
        let [a_key, b_key] = [1, 2].map(|n| PrivateKey::from_random([n; 32]));
        let [mut a, mut b] = [1, 2].map(|n| WireGuard::new([n; 32]));
        let a_segment = a.add_segment(&a_key).unwrap();
        let b_segment = b.add_segment(&b_key).unwrap();
        let slot = a.add_peer(a_segment, b_key.public_key(), None, now).unwrap();
        b.add_peer(b_segment, a_key.public_key(), None, now).unwrap();
        a.start_handshake(slot, now);
        while carry(&mut a, &mut b, now) + carry(&mut b, &mut a, now) > 0 {}
        (a, slot, b)
    }

    #[test]
    fn a_session_that_sent_enough_is_renewed_and_one_that_sent_too_much_is_refused() {
        let now = start();
        let (mut a, slot, mut b) = connected(now);
        // The handshake's keepalive was message 0.
        a.peers.get_mut(slot).unwrap().limits = CounterLimits {
            rekey_after: 3,
            refuse_from: 5,
        };
        let later = now + REKEY_TIMEOUT;
        let mut out = Vec::new();

        let mut seal = |a: &mut WireGuard| {
            let sealed = a.seal(slot, &[0x45; 32], &mut out, later);
            (sealed, out.len(), a.poll_transmit())
        };
        assert_eq!(seal(&mut a), (Ok(()), 64, None));
        assert_eq!(seal(&mut a), (Ok(()), 64, None));
        let (sealed, _, initiation) = seal(&mut a);
        assert_eq!(sealed, Ok(()));
        let initiation = initiation.unwrap();
        assert_eq!(initiation.kind, MessageKind::HandshakeInitiation);
        assert_eq!(seal(&mut a), (Ok(()), 64, None));
        assert_eq!(seal(&mut a), (Err(SealError::CounterExhausted), 0, None));

        a.outbox.send(initiation);
        while carry(&mut a, &mut b, later) + carry(&mut b, &mut a, later) > 0 {}
        assert_eq!(seal(&mut a), (Ok(()), 64, None));
    }
}
