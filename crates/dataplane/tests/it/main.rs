//! Nodes as values on a network in memory: the real WireGuard between them, no sockets.
#![expect(clippy::unwrap_used, reason = "a test that cannot go on should stop")]

mod crowd;
mod draft;
mod lanes;
mod lease;
mod link;
mod mesh;
mod mixed;
mod netmap;
mod offload;
mod revocation;
mod scale;
mod walls;
