//! Chooses where to send to one peer.
//!
//! A peer comes with candidates (RFC 8445 section 2). Until one is proven, handshakes go to all of them; the one
//! that an authentic datagram comes from is proven, and everything goes there. A peer that moves is followed, as
//! the WireGuard whitepaper (section 2.1) has it: the source of its newest authentic datagram is its endpoint.
//!
//! Probes inside the session, punching and relays belong in this crate too; [`Path`] is where they meet.

mod path;

pub use path::{CANDIDATES_MAX, Path, Standing};
