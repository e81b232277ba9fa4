//! What a filter must remember of a TCP connection so that a reset it sends is believed.
//!
//! A receiver obeys a RST only at exactly RCV.NXT (RFC 5961 section 3). What each end expects next is the end of the
//! unbroken run of bytes it was sent, so both directions are followed: holes, retransmissions, windows and wraps
//! included, and corrected by each acknowledgement.
//!
//! **Invariant:** nothing here decides whether a packet passes, only what is known of the connection.

use ringfence_model::sabotage::{Safeguard, is_off};
use ringfence_packet::{TcpFlags, TcpView};

/// One connection.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct TcpTrack {
    initiator: End,
    responder: End,
    reset: ResetSeen,
}

/// How far a connection has come.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum TcpState {
    /// SYN seen, handshake not complete.
    Opening,
    /// Both ends agreed.
    Established,
    /// One end is done sending.
    HalfClosed,
    /// Both are, or a reset was accepted.
    Closed,
}

/// Who sent a packet.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Side {
    Initiator,
    Responder,
}

/// The numbers for the RSTs that end a connection at both ends.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct TcpResets {
    /// For the RST to whoever opened it.
    pub to_initiator: ResetNumbers,
    /// For the RST to the other end.
    pub to_responder: ResetNumbers,
}

/// The numbers of one RST.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ResetNumbers {
    /// Sequence number: the receiver's RCV.NXT if everything that passed has arrived.
    pub seq: u32,
    /// Acknowledges all that the receiver has sent; a SYN-SENT end checks it.
    pub ack: u32,
    /// RCV.NXT as the receiver last stated it, where that differs: it counts if what passed since was lost.
    pub stated_seq: Option<u32>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum ResetSeen {
    No,
    Accepted,
}

/// What one end has sent.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
struct End {
    /// Sequence number of its SYN.
    isn: Option<u32>,
    /// End of the unbroken run of what it sent: the other end's RCV.NXT.
    next: Option<u32>,
    /// What it sent beyond a hole, disjoint, in no order.
    islands: [Option<Span>; ISLANDS_MAX],
    /// Its last acknowledgement number.
    acked: Option<u32>,
    /// Where the window it has announced ends.
    window_limit: Option<u32>,
    window_scale: Option<u8>,
    fin: FinSeen,
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
enum FinSeen {
    #[default]
    No,
    Yes,
}

/// Sequence numbers from `start` up to and without `end`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Span {
    start: u32,
    end: u32,
}

impl TcpTrack {
    /// Starts with the SYN that opens the connection.
    pub(crate) fn opened_by(syn: &TcpView) -> Self {
        let mut track = Self {
            initiator: End::default(),
            responder: End::default(),
            reset: ResetSeen::No,
        };
        track.observe(Side::Initiator, syn);
        track
    }

    /// Takes note of a segment that passes.
    pub(crate) fn observe(&mut self, from: Side, tcp: &TcpView) {
        if tcp.flags.has(TcpFlags::RST) {
            if self.is_obeyed(from, tcp) {
                self.reset = ResetSeen::Accepted;
            }
            return;
        }
        let (sender, receiver) = self.ends_mut(from);
        if tcp.flags.has(TcpFlags::SYN) {
            sender.observe_syn(tcp, receiver);
            return;
        }
        if sender.isn.is_none() {
            // An answer from an older connection with the same ports: of this one it says nothing, but to the program
            // there it is this one, and where that one stands is where a reset lands.
            if tcp.flags.has(TcpFlags::ACK) {
                sender.acked = Some(tcp.ack);
            }
            return;
        }
        if tcp.flags.has(TcpFlags::ACK) {
            sender.observe_ack(tcp, receiver);
        }
        sender.observe_data(tcp, receiver.window_limit);
    }

    pub(crate) fn state(&self) -> TcpState {
        let fins = [self.initiator.fin, self.responder.fin];
        match (self.reset, fins) {
            (ResetSeen::Accepted, _) | (ResetSeen::No, [FinSeen::Yes, FinSeen::Yes]) => TcpState::Closed,
            (ResetSeen::No, [FinSeen::Yes, FinSeen::No] | [FinSeen::No, FinSeen::Yes]) => {
                TcpState::HalfClosed
            }
            (ResetSeen::No, [FinSeen::No, FinSeen::No]) => {
                if self.initiator.acked.is_some() && self.responder.isn.is_some() {
                    TcpState::Established
                } else {
                    TcpState::Opening
                }
            }
        }
    }

    /// The resets that end it now; `None` if it is closed already.
    pub(crate) fn resets(&self) -> Option<TcpResets> {
        if self.state() == TcpState::Closed {
            return None;
        }
        Some(TcpResets {
            to_initiator: self.initiator.reset_from(&self.responder),
            to_responder: self.responder.reset_from(&self.initiator),
        })
    }

    /// Whether the receiver will obey this RST (RFC 9293 section 3.10.7, RFC 5961 section 3.2). One that it answers
    /// with a challenge instead must not make the filter forget a living connection: so where what passed is more than
    /// what was acknowledged, the former counts, for that is on its way there.
    fn is_obeyed(&self, from: Side, rst: &TcpView) -> bool {
        let (sender, receiver) = match from {
            Side::Initiator => (&self.initiator, &self.responder),
            Side::Responder => (&self.responder, &self.initiator),
        };
        let refuses_syn =
            receiver.acked.is_none() && rst.flags.has(TcpFlags::ACK) && Some(rst.ack) == receiver.next;
        refuses_syn || sender.next.or(receiver.acked) == Some(rst.seq)
    }

    fn ends_mut(&mut self, from: Side) -> (&mut End, &mut End) {
        match from {
            Side::Initiator => (&mut self.initiator, &mut self.responder),
            Side::Responder => (&mut self.responder, &mut self.initiator),
        }
    }
}

impl End {
    fn observe_syn(&mut self, tcp: &TcpView, receiver: &mut End) {
        if self.isn == Some(tcp.seq) {
            return;
        }
        if self.isn.is_some() && tcp.opens() {
            // A new SYN on a living connection is challenged, not believed (RFC 5961 section 4).
            return;
        }
        *self = Self {
            isn: Some(tcp.seq),
            next: Some(tcp.seq.wrapping_add(tcp.sequence_bytes())),
            window_scale: tcp.window_scale,
            ..Self::default()
        };
        if tcp.flags.has(TcpFlags::ACK) {
            // What it acknowledges is where the opener stands, even if data in the SYN was not taken (RFC 7413).
            receiver.next = Some(tcp.ack);
            receiver.islands = [None; ISLANDS_MAX];
            self.acked = Some(tcp.ack);
            self.window_limit = Some(tcp.ack.wrapping_add(u32::from(tcp.window)));
        }
    }

    fn observe_ack(&mut self, tcp: &TcpView, receiver: &mut End) {
        if self.acked.is_none_or(|acked| is_after(tcp.ack, acked)) {
            self.acked = Some(tcp.ack);
        }
        let shift = match (self.window_scale, receiver.window_scale) {
            (Some(shift), Some(_)) => shift,
            (Some(_) | None, None) | (None, Some(_)) => 0,
        };
        let window_end = tcp.ack.wrapping_add(u32::from(tcp.window) << shift);
        if self.window_limit.is_none_or(|end| is_after(window_end, end)) {
            self.window_limit = Some(window_end);
        }
        if receiver.next.is_some_and(|next| is_after(tcp.ack, next)) {
            receiver.reach(tcp.ack);
        }
    }

    fn observe_data(&mut self, tcp: &TcpView, window_end: Option<u32>) {
        if tcp.flags.has(TcpFlags::FIN) {
            self.fin = FinSeen::Yes;
        }
        let bytes = tcp.sequence_bytes();
        let span = Span {
            start: tcp.seq,
            end: tcp.seq.wrapping_add(bytes),
        };
        let Some(next) = self.next else {
            return;
        };
        // Beyond the window the receiver takes nothing: the probe of a closed window would mislead.
        let refused = window_end.is_some_and(|end| !is_after(end, span.start));
        if bytes == 0 || refused || !is_after(span.end, next) {
            return;
        }
        if is_after(span.start, next) {
            self.add_island(span);
        } else {
            self.reach(span.end);
        }
    }

    /// Moves the unbroken run to `end` and over every island it now touches.
    fn reach(&mut self, end: u32) {
        let mut end = end;
        for _ in 0..ISLANDS_MAX {
            for island in &mut self.islands {
                if let Some(span) = *island
                    && !is_after(span.start, end)
                {
                    *island = None;
                    end = later(end, span.end);
                }
            }
        }
        self.next = Some(end);
    }

    /// Remembers bytes beyond a hole. With no room left it forgets them: the next acknowledgement tells.
    fn add_island(&mut self, span: Span) {
        for span_known in self.islands.iter_mut().flatten() {
            let apart = is_after(span.start, span_known.end) || is_after(span_known.start, span.end);
            if !apart {
                span_known.start = earlier(span.start, span_known.start);
                span_known.end = later(span.end, span_known.end);
                return;
            }
        }
        if let Some(free) = self.islands.iter_mut().find(|island| island.is_none()) {
            *free = Some(span);
        }
    }

    fn reset_from(&self, other: &Self) -> ResetNumbers {
        let start = if is_off(Safeguard::ResetNumbers) {
            other.isn
        } else {
            other.next
        };
        let seq = start.or(self.acked).unwrap_or(0);
        ResetNumbers {
            seq,
            ack: self.next.unwrap_or(0),
            stated_seq: self
                .acked
                .filter(|acked| *acked != seq && !is_off(Safeguard::ResetNumbers)),
        }
    }
}

/// Whether `a` comes after `b` in sequence space (RFC 9293 section 3.4).
fn is_after(a: u32, b: u32) -> bool {
    (a.wrapping_sub(b).cast_signed()) > 0
}

fn later(a: u32, b: u32) -> u32 {
    if is_after(a, b) { a } else { b }
}

fn earlier(a: u32, b: u32) -> u32 {
    if is_after(a, b) { b } else { a }
}

/// How many runs beyond a hole are remembered for each end.
const ISLANDS_MAX: usize = 4;
