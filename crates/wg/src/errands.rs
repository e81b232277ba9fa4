//! When a tunnel next has something to do by itself: boringtun knows, and has no way to ask.
//!
//! So its stamps are kept here a second time, and its conditions (`update_timers`) written down as moments. A tunnel that
//! is idle is then left alone until the next of them, instead of being shown the clock five times a second.
//!
//! **Invariant:** a moment may be told too early, never too late. Early costs one look at the clock. boringtun's clock
//! runs a little behind the `now` we stamp with, or ahead of it; so what is due and does not happen is tried again for
//! [`OVERDUE_MAX`], and only then held for a mistake of this file's.

use std::collections::VecDeque;
use std::time::{Duration, Instant};

use crate::demux::{self, ReceiverIndex};

/// What one tunnel waits for. All stamps are of the time last shown to it, as its own are.
pub(crate) struct Errands {
    session_made: Instant,
    attempt_began: Instant,
    packet_received: Instant,
    packet_sent: Instant,
    data_received: Instant,
    data_sent: Instant,
    /// We initiated this session, so that it is ours to renew; not any more once its renewal was due and did not happen.
    renews: bool,
    turn: Turn,
    /// Our initiation that has no answer yet: when it was sent, and the index in it.
    initiation: Option<(Instant, Option<ReceiverIndex>)>,
    /// When each session was made whose keys may still be there. The tunnel has places for so many.
    sessions: VecDeque<Instant>,
    /// It has given up, and forgotten all keys: nothing is due until a handshake starts.
    has_expired: bool,
    has_news: bool,
}

/// Who has to say something.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Turn {
    Nobody,
    /// Something was received since something was sent: a keepalive is owed.
    Ours,
    /// Something was sent since something was received.
    Theirs,
}

/// What is in a data message.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) enum Content {
    /// A keepalive.
    Nothing,
    Packet,
}

impl Content {
    pub(crate) fn of(packet: &[u8]) -> Self {
        if packet.is_empty() {
            Self::Nothing
        } else {
            Self::Packet
        }
    }
}

impl Errands {
    /// Those of a new tunnel. It takes its birth for its last handshake.
    pub(crate) fn new(now: Instant) -> Self {
        Self {
            session_made: now,
            attempt_began: now,
            packet_received: now,
            packet_sent: now,
            data_received: now,
            data_sent: now,
            renews: false,
            turn: Turn::Nobody,
            initiation: None,
            sessions: VecDeque::new(),
            has_expired: false,
            has_news: true,
        }
    }

    /// A data message was sealed.
    pub(crate) fn sent(&mut self, content: Content, stamp: Instant) {
        let is_data = content == Content::Packet;
        // Most packets of a burst change nothing.
        if self.turn == Turn::Theirs && self.packet_sent == stamp && (!is_data || self.data_sent == stamp) {
            return;
        }
        self.packet_sent(stamp);
        if is_data {
            self.data_sent = stamp;
        }
    }

    /// A message was opened.
    pub(crate) fn received(&mut self, content: Content, stamp: Instant) {
        let is_data = content == Content::Packet;
        if self.turn == Turn::Ours
            && self.packet_received == stamp
            && (!is_data || self.data_received == stamp)
        {
            return;
        }
        self.packet_received = stamp;
        self.turn = Turn::Ours;
        if is_data {
            self.data_received = stamp;
        }
        self.has_news = true;
    }

    /// An initiation was made.
    pub(crate) fn initiated(&mut self, initiation: &[u8], stamp: Instant) {
        if self.has_expired {
            *self = Self::new(stamp);
        }
        if self.initiation.is_none() {
            self.attempt_began = stamp;
        }
        self.initiation = Some((stamp, demux::sender_index(initiation)));
        self.packet_sent(stamp);
    }

    /// An initiation was answered: there is a session, which counts once it is confirmed. It took the place of our own
    /// attempt.
    pub(crate) fn answered(&mut self, stamp: Instant) {
        self.received(Content::Nothing, stamp);
        self.packet_sent(stamp);
        self.initiation = None;
        self.session_made(false, stamp);
    }

    /// A response to our initiation was taken.
    pub(crate) fn completed(&mut self, response: &[u8], stamp: Instant) {
        self.received(Content::Nothing, stamp);
        // A late answer to an earlier try leaves the latest under way.
        let answered = demux::index_at(response, RESPONSE_RECEIVER_AT);
        if self.initiation.is_some_and(|(_, index)| index == answered) {
            self.initiation = None;
        }
        self.session_made(true, stamp);
    }

    /// The tunnel said that it has given up.
    pub(crate) fn expired(&mut self, now: Instant) {
        *self = Self::new(now);
        self.has_expired = true;
    }

    /// Whether [`Self::next`] may have come nearer since this was last asked.
    pub(crate) fn has_news(&mut self) -> bool {
        std::mem::take(&mut self.has_news)
    }

    /// The next moment at which the tunnel has something to do.
    pub(crate) fn next(&self) -> Option<Instant> {
        if self.has_expired {
            return None;
        }
        let by_state = match self.initiation {
            Some((sent, _)) => [
                Some(sent + REKEY_TIMEOUT),
                Some(self.attempt_began + REKEY_ATTEMPT_TIME),
                None,
            ],
            None => [self.rekey_at(), self.reach_at(), self.keepalive_at()],
        };
        let keys_end = self.sessions.front().map(|made| *made + KEYS_END_AFTER);
        let always = [keys_end, Some(self.session_made + FORGET_AFTER_TIME)];
        by_state.into_iter().chain(always).flatten().min()
    }

    /// Sees to it that nothing that did not happen is waited for without end. Call after the tunnel was shown `now`.
    pub(crate) fn give_up_what_is_overdue(&mut self, has_session: bool, now: Instant) {
        while self
            .sessions
            .front()
            .is_some_and(|made| *made + KEYS_END_AFTER <= now)
        {
            self.sessions.pop_front();
        }
        if has_session && self.sessions.is_empty() {
            self.sessions.push_back(now);
        }
        let overdue = |at: Option<Instant>| at.is_some_and(|at| at + OVERDUE_MAX <= now);
        if overdue(self.initiation.map(|(sent, _)| sent + REKEY_TIMEOUT)) {
            self.initiation = None;
        }
        if self.initiation.is_none() {
            self.renews &= !overdue(self.rekey_at());
            if overdue(self.reach_at()) || overdue(self.keepalive_at()) {
                self.turn = Turn::Nobody;
            }
        }
        if overdue(Some(self.session_made + FORGET_AFTER_TIME)) {
            self.session_made = now;
        }
    }

    fn packet_sent(&mut self, stamp: Instant) {
        self.packet_sent = stamp;
        self.turn = Turn::Theirs;
        self.has_news = true;
    }

    fn session_made(&mut self, is_initiator: bool, stamp: Instant) {
        self.has_expired = false;
        self.renews = is_initiator;
        self.session_made = stamp;
        if self.sessions.len() == SESSIONS_MAX {
            self.sessions.pop_front();
        }
        self.sessions.push_back(stamp);
        self.has_news = true;
    }

    /// Only who initiated a session renews it, once it was used.
    fn rekey_at(&self) -> Option<Instant> {
        if !self.renews {
            return None;
        }
        if self.data_sent > self.session_made {
            return Some(self.session_made + REKEY_AFTER_TIME);
        }
        let received = self.data_received > self.session_made;
        received.then(|| self.session_made + REKEY_ON_RECEIVE_AFTER_TIME)
    }

    /// When a handshake finds out whether a silent peer is there.
    fn reach_at(&self) -> Option<Instant> {
        let waits = self.turn == Turn::Theirs && self.data_sent > self.packet_received;
        waits.then(|| self.packet_received + KEEPALIVE_TIMEOUT + REKEY_TIMEOUT)
    }

    /// When a keepalive tells a peer that sends that we are there.
    fn keepalive_at(&self) -> Option<Instant> {
        let owes = self.turn == Turn::Ours && self.data_received > self.packet_sent;
        owes.then(|| self.packet_sent + KEEPALIVE_TIMEOUT)
    }
}

// Whitepaper section 6.1.
const REKEY_AFTER_TIME: Duration = Duration::from_mins(2);
const REKEY_ATTEMPT_TIME: Duration = Duration::from_secs(90);
const REKEY_TIMEOUT: Duration = Duration::from_secs(5);
const KEEPALIVE_TIMEOUT: Duration = Duration::from_secs(10);
/// `REJECT_AFTER_TIME` − `KEEPALIVE_TIMEOUT` − `REKEY_TIMEOUT` (section 6.2).
const REKEY_ON_RECEIVE_AFTER_TIME: Duration = Duration::from_secs(165);
/// 3 × `REJECT_AFTER_TIME` after the last handshake everything is forgotten (section 6.3).
const FORGET_AFTER_TIME: Duration = Duration::from_mins(9);

/// `REJECT_AFTER_TIME`, and a little: the tunnel takes a session away when more than that has passed. None is used for
/// so long, because a tunnel that has not seen the clock for a quarter of a second is shown it before use.
const KEYS_END_AFTER: Duration = Duration::from_millis(180_250);
/// How long something may be overdue: a shell that stood still between reading the clock and using it.
const OVERDUE_MAX: Duration = Duration::from_secs(2);
/// boringtun's ring of sessions.
const SESSIONS_MAX: usize = 8;
/// Where a response names the initiation that it answers.
const RESPONSE_RECEIVER_AT: usize = 8;
