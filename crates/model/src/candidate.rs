//! Underlay addresses at which a peer may be reached (RFC 8445 section 2).

use std::net::SocketAddr;

use serde::{Deserialize, Serialize};

/// One underlay address of a peer, with where it is known from.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct Candidate {
    /// Where to send.
    pub address: SocketAddr,
    /// Where it is known from.
    pub kind: CandidateKind,
}

/// Where a candidate is known from, best first.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum CandidateKind {
    /// An operator wrote it down.
    Configured,
    /// An address of one of the peer's own interfaces.
    Host,
    /// The address the controller saw the peer's control connection come from, with the peer's WireGuard port.
    ServerReflexive,
}
