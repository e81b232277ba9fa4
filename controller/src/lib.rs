//! The controller daemon: the shell around `ringfence-controlplane`.
//!
//! ```text
//!  nodes ── QUIC ─► session.rs ─┐                      ┌─ store/  (append-only log, SQLite)
//!                   enroll.rs ──┼─► core.rs ── owns ───┤
//!  people ─ HTTPS ─► api/ ──────┘   (one thread)       └─ Controller (state, netmaps)
//! ```
//!
//! **Invariant:** it decides nothing about access: who may do what is the core's to say, asked for every message.

pub mod api;
pub mod ca;
pub mod confinement;
pub mod core;
pub mod data_dir;
pub mod drill;
pub mod enroll;
pub mod flows;
pub mod https;
pub mod identity;
pub mod init;
mod makers;
pub mod run;
pub mod session;
pub mod sessions;
pub mod store;
pub mod verify;
