//! Whether a peer gets what we send it, told from what it says in return.
//!
//! **Invariant:** what tells that a peer reaches us, as an initiation does, does not count: the way back may be blocked.

use std::time::{Duration, Instant};

/// What is known of the way to a peer.
#[derive(Default)]
pub(crate) struct Reach {
    /// When it last showed that it gets what we send.
    heard_at: Option<Instant>,
    /// Since when packets go to it that it owes an answer to.
    unanswered_since: Option<Instant>,
    /// It initiated again, so our response did not reach it.
    response_lost: bool,
}

impl Reach {
    /// Something came in a session.
    pub(crate) fn hear(&mut self, now: Instant) {
        self.heard_at = Some(now);
        self.unanswered_since = None;
    }

    /// It was answered with a response; `again`, if the one before has not been confirmed.
    pub(crate) fn respond(&mut self, again: bool) {
        self.response_lost = again;
    }

    /// A session is established with it: our part of the handshake arrived.
    pub(crate) fn establish(&mut self, now: Instant) {
        self.response_lost = false;
        self.hear(now);
    }

    /// Keeps account of a packet. One that comes soon after the peer's last word may not be answered, since it then takes
    /// the two for one and its last word for the answer (see [`ANSWER_OWED_AFTER`]).
    pub(crate) fn expect_answer(&mut self, packet: &[u8], now: Instant) {
        let is_owed = self
            .heard_at
            .is_none_or(|at| now.saturating_duration_since(at) > ANSWER_OWED_AFTER);
        if is_owed && !packet.is_empty() {
            self.unanswered_since.get_or_insert(now);
        }
    }

    /// See [`crate::WireGuard::seems_unreached`].
    pub(crate) fn seems_lost(&self, now: Instant) -> bool {
        let waited = self.unanswered_since.map(|at| now.saturating_duration_since(at));
        self.response_lost || waited.is_some_and(|waited| waited >= UNANSWERED_MAX)
    }
}

/// `KEEPALIVE_TIMEOUT` + `REKEY_TIMEOUT`: after so long WireGuard makes a session anew (whitepaper section 6.5).
const UNANSWERED_MAX: Duration = Duration::from_secs(15);
/// boringtun owes a keepalive for a packet that comes in a later quarter of a second than its last own, by its stamps; we
/// note when we heard it no finer than that either.
const ANSWER_OWED_AFTER: Duration = Duration::from_millis(500);
