//! Nodes as values on a network in memory: the real WireGuard between them, no sockets.

mod lease;
mod link;
mod mesh;
mod netmap;
mod revocation;
mod walls;
