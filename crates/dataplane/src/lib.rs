//! A node as a value: TUN packet ⇄ policy ⇄ WireGuard ⇄ datagram.
//!
//! [`Dataplane`] holds every segment of one node behind one UDP socket, without the socket, the TUN devices, the clock
//! or the randomness: packets, datagrams, the controller's word and the time come in; datagrams, packets and events go
//! out. The contract is: *call one `handle_*`, then drain every `poll_*`.*
//!
//! ```text
//! handle_tun ──▶ egress.rs ── parse, ours?, whose?, judge ──▶ seal ──▶ poll_transmit
//!                     │ refused: ICMP or RST, poll_tun          │ no session: pending.rs
//! handle_datagram ─▶ ingress.rs ─ open, that peer's?, ours?, judge ──▶ poll_tun
//! handle_netmap ──▶ check.rs ─▶ netmap.rs ─ remove, judge anew (reset.rs), add ──▶ Event::Enforced
//! handle_lease, handle_timeout ─▶ lease.rs ─ open or close (attach.rs gives and takes keys)
//! ```
//!
//! The three walls against a packet that should not pass: a peer that is not on the allowlist has no key here; the
//! receiver's rules decide (`ingress.rs`); the sender's rules refuse early, with a reason (`egress.rs`).
#![deny(missing_docs)]

mod address;
mod attach;
mod check;
mod config;
mod dataplane;
mod drop;
mod egress;
mod event;
mod gathering;
mod ingress;
mod lanes;
mod lease;
mod netmap;
mod outbox;
mod pending;
mod ping;
mod reset;
mod segment;
mod status;
mod tables;
mod transmit;

pub use check::{NetmapRefused, PEERS_PER_SEGMENT_MAX};
pub use config::{DataplaneConfig, MTU_BYTES_DEFAULT, MTU_BYTES_MIN};
pub use dataplane::Dataplane;
pub use drop::{DropCounters, DropReason};
pub use event::{Event, FlowClosed, Pong, SegmentFacts, SegmentId};
pub use gathering::Arrival;
pub use lanes::Offer;
pub use netmap::Restored;
pub use ping::{PING_WAIT_MAX, PINGS_MAX, PingError, PingTarget};
pub use transmit::{Transmit, TunPacket};

// What the shell needs of the parts, so that it depends on the core alone.
pub use ringfence_packet::{Flow, Protocol, offload};
pub use ringfence_wg::initiation_to;
