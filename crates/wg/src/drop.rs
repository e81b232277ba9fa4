//! Why a datagram was refused.

use boringtun::noise::errors::WireGuardError;

/// Why [`crate::WireGuard::open`] refused a datagram. Counted, never an error.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum WgDrop {
    /// None of the four message types with a length that fits.
    NotWireGuard,
    /// The output buffer is shorter than the datagram.
    BufferTooSmall,
    /// The source address sent more initiations than its bucket allows.
    SourceLimited,
    /// An initiation whose `mac1` is made for no segment of ours.
    NoSegment,
    /// Strangers ask for more handshakes than this node is ready to compute.
    Overloaded,
    /// Loaded: the sender got a cookie instead and must come back with it.
    CookieSent,
    /// The sender's key is not on the segment's allowlist.
    UnknownKey,
    /// The receiver index names no peer, or no session of it.
    UnknownIndex,
    /// Seen before, or older than the replay window.
    Replayed,
    /// An initiation that is not newer than the last one (whitepaper section 5.1).
    ReplayedHandshake,
    /// The counter is past the end of what a session may send.
    CounterTooHigh,
    /// A response, or a cookie, to nothing that we sent.
    Unexpected,
    /// Does not authenticate.
    NotAuthentic,
    /// Authentic, but holds no IP packet.
    NotIp,
}

impl WgDrop {
    /// Every reason, for counters.
    pub const ALL: [Self; 14] = [
        Self::NotWireGuard,
        Self::BufferTooSmall,
        Self::SourceLimited,
        Self::NoSegment,
        Self::Overloaded,
        Self::CookieSent,
        Self::UnknownKey,
        Self::UnknownIndex,
        Self::Replayed,
        Self::ReplayedHandshake,
        Self::CounterTooHigh,
        Self::Unexpected,
        Self::NotAuthentic,
        Self::NotIp,
    ];

    /// The reason as a label.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::NotWireGuard => "not_wireguard",
            Self::BufferTooSmall => "buffer_too_small",
            Self::SourceLimited => "source_limited",
            Self::NoSegment => "no_segment",
            Self::Overloaded => "overloaded",
            Self::CookieSent => "cookie_sent",
            Self::UnknownKey => "unknown_key",
            Self::UnknownIndex => "unknown_index",
            Self::Replayed => "replayed",
            Self::ReplayedHandshake => "replayed_handshake",
            Self::CounterTooHigh => "counter_too_high",
            Self::Unexpected => "unexpected",
            Self::NotAuthentic => "not_authentic",
            Self::NotIp => "not_ip",
        }
    }
}

impl From<WireGuardError> for WgDrop {
    fn from(error: WireGuardError) -> Self {
        match error {
            WireGuardError::DestinationBufferTooSmall => Self::BufferTooSmall,
            WireGuardError::IncorrectPacketLength | WireGuardError::WrongPacketType => Self::NotWireGuard,
            WireGuardError::UnexpectedPacket => Self::Unexpected,
            WireGuardError::WrongIndex
            | WireGuardError::NoCurrentSession
            | WireGuardError::ConnectionExpired => Self::UnknownIndex,
            WireGuardError::WrongKey => Self::UnknownKey,
            WireGuardError::InvalidTai64nTimestamp
            | WireGuardError::InvalidMac
            | WireGuardError::InvalidAeadTag => Self::NotAuthentic,
            WireGuardError::WrongTai64nTimestamp => Self::ReplayedHandshake,
            WireGuardError::InvalidCounter | WireGuardError::DuplicateCounter => Self::Replayed,
            // After demultiplexing, only the plaintext can still be an invalid packet.
            WireGuardError::InvalidPacket => Self::NotIp,
            WireGuardError::LockFailed | WireGuardError::UnderLoad => Self::Overloaded,
        }
    }
}
