//! WireGuard for many segments on one UDP socket, without the socket.
//!
//! [`WireGuard`] is a value: the caller hands it datagrams, packets and the time, and drains what it wants to send
//! ([`WireGuard::poll_transmit`]) and to tell ([`WireGuard::poll_event`]). The Noise handshake and the AEAD are
//! `boringtun::noise::Tunn`, as released; this crate is everything around it that lets one socket serve up to
//! [`SEGMENTS_MAX`] key pairs, safely.
//!
//! # The way of a datagram
//!
//! ```text
//!                     first byte, zeroes, length                                   (demux.rs)
//!         ┌────────────────────┬──────────────────────┬─────────────────────┬────────────────┐
//!   1 initiation          2 response            3 cookie reply           4 data        anything else
//!         │                    │                      │                     │                │
//!   bucket of the source       └── receiver index ────┴── receiver index ───┘             dropped
//!    (source_bucket.rs)                  │ >> 8 is the peer's slot   (slots.rs)
//!         │                              │   no such slot: dropped
//!   mac1 of each segment                 ▼
//!       (mac1.rs)                  Peer ─ Tunn                             (peer.rs, clock.rs)
//!         │ none: silence                ▲   answers wait in poll_transmit
//!   strangers only:                      │
//!   budget, then cookie if loaded        │
//!         │                              │
//!   decrypt the sender's key             │
//!       (intake.rs)                      │
//!         │ not a peer of *that*         │
//!         │ segment: silence             │
//!         └──────────────────────────────┘
//! ```
//!
//! Cheap checks come first: a bucket lookup, then 0.3 µs for each segment, and only then Curve25519 (64 µs to learn
//! who is asking). Nothing an outsider sends is answered, except with a cookie (whitepaper section 5.3): while this node is
//! truly loaded, and where a source's bucket is spent, for whoever forges a member's address must not keep the member
//! out. The cookie says no more than the sender knew: our public key.
//!
//! # What closes the gaps of boringtun 0.7.1
//!
//! | gap | closed by |
//! | --- | --- |
//! | panics when the output buffer is shorter than the datagram | [`WireGuard::open`] refuses such a buffer |
//! | a counter near 2^64 overflows the replay window and opens it | counters past the whitepaper's limit drop unopened |
//! | send counter without a limit | sessions are retired at 2^60 and refused at 2^62 messages |
//! | no padding | packets are padded to [`PADDING_BYTES`] |
//! | queues 256 packets a peer | never asked to seal without a session: the caller holds packets |
//! | rate limiter counts twice when used to demultiplex | own `mac1`; the limiter that gates is not the one `Tunn` gets |
//! | clock refreshed by `update_timers` alone, and it does not tell when it needs that | ticked when something is due, which is kept account of outside (`errands`), and before use when stale |
//! | an expired tunnel does not come back by itself | own keepalive and handshake start |
//! | persistent keepalive although traffic flows | own keepalive: only after silence |
//!
//! What stays, stated:
//! - The replay window is 1,024 packets wide: a datagram that more than that many overtake is lost.
//! - `Tunn` keeps eight sessions. When the eighth response in a row is lost on a path that still carries data the
//!   other way, that data is lost too, until a response arrives again or the initiator gives up.
//! - A cookie binds the sender's IP address, not its port.
//! - A peer that is removed and added again has a new `Tunn`, which does not know the newest stamp the old one saw:
//!   an initiation recorded before would be answered once more. No session comes of it without the sender's
//!   ephemeral key.
//! - When a peer is removed, its Curve25519 secrets are wiped. Its ChaCha20 session keys are freed at once and out
//!   of reach, but not overwritten, because `ring` does not wipe them.
//! - boringtun logs an ordinary expiry as an error: filter its target out.

mod alarms;
mod bucket;
mod clock;
mod demux;
mod drop;
mod errands;
mod initiation;
mod intake;
mod mac1;
#[cfg(feature = "null-cipher")]
mod null_cipher;
mod output;
mod peer;
mod reach;
mod segment;
mod slot_map;
mod slots;
mod source_bucket;
mod wireguard;

pub use demux::data_slot;
pub use drop::WgDrop;
pub use initiation::{initiation_to, is_answer};
pub use output::{Destination, MessageKind, Opened, OpenedKind, WgEvent, WgTransmit};
pub use peer::{PADDING_BYTES, PeerStats, SEALED_OVERHEAD_BYTES, SealError};
pub use segment::{SEGMENTS_MAX, SegmentHandle};
pub use slot_map::SlotMap;
pub use slots::{PeerSlot, SLOT_REST};
pub use wireguard::{AddPeerError, Sealer, TooManySegments, WireGuard, sealed_bytes};
