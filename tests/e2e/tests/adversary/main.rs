//! An attacker at every door of the real programs. Each test has a network of its own.
//!
//! What attacks is written apart from what defends: WireGuard by hand ([`rogue`]), packets by scapy, scans by nmap, TLS
//! by openssl. What each attacker can and cannot do is told in `docs/security.md`, with the test that shows it.

#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

mod flood;
mod front;
mod inner;
mod local;
mod names;
mod outer;
mod quic;
mod rogue;
mod scan;
mod stage;
mod tunnel;
