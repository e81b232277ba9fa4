//! What an operator may set about the data plane.

use std::time::Duration;

use ringfence_policy::FLOWS_PER_PEER_MAX;

/// Settings, with every default in one place.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct DataplaneConfig {
    /// The largest packet the TUN devices take: at least [`MTU_BYTES_MIN`], rounded down to a multiple of 16.
    pub mtu_bytes: u16,
    /// How often a quiet session sends a keepalive to hold a NAT's mapping open; `None` leaves idle peers silent.
    pub keepalive: Option<Duration>,
    /// Which of the node's [`Self::lanes`] this is, from 0.
    pub lane: u16,
    /// How many data planes, each with a socket of its own, the node has: 1 asks nobody before it refuses a packet.
    pub lanes: u16,
    /// How many flows one peer may have in a segment: at most [`FLOWS_PER_PEER_MAX`], the default.
    pub flows_per_peer_max: usize,
}

impl DataplaneConfig {
    /// The same within bounds.
    pub(crate) fn bounded(self) -> Self {
        let mtu_bytes = self.mtu_bytes.max(MTU_BYTES_MIN);
        Self {
            mtu_bytes: mtu_bytes - mtu_bytes % PADDING_BYTES,
            ..self
        }
    }
}

impl Default for DataplaneConfig {
    fn default() -> Self {
        Self {
            mtu_bytes: MTU_BYTES_DEFAULT,
            keepalive: None,
            lane: 0,
            lanes: 1,
            flows_per_peer_max: FLOWS_PER_PEER_MAX,
        }
    }
}

/// 1500 less IPv6 (40), UDP (8) and WireGuard (32) is 1420; the next multiple of 16 below, because packets are padded
/// to one (whitepaper section 5.4.6) and a full packet must not grow into a datagram that Ethernet fragments.
pub const MTU_BYTES_DEFAULT: u16 = 1408;

/// IPv6 works on no smaller link (RFC 8200 section 5).
pub const MTU_BYTES_MIN: u16 = 1280;

const PADDING_BYTES: u16 = ringfence_wg::PADDING_BYTES as u16;
