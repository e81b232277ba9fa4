//! Why packets are refused, and how many were.

use std::collections::BTreeMap;

use ringfence_packet::Malformed;
use ringfence_policy::Refusal;
use ringfence_wg::WgDrop;

/// Why a packet was refused: counted, never an error (STYLE.md 6).
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum DropReason {
    /// The bytes are not a packet we pass.
    Malformed(Malformed),
    /// Policy or the flow table says no.
    Refused(Refusal),
    /// The datagram did not open.
    WireGuard(WgDrop),
    /// The TUN device or the session belongs to no segment (any more).
    NoSegment,
    /// The segment's lease ended: its prefixes are a black hole until the controller speaks.
    SegmentClosed,
    /// Out: the source address is not this node's in that segment.
    SourceNotOurs,
    /// Out: multicast or broadcast.
    Multicast,
    /// Out: no peer of that segment owns the destination address.
    NoRoute,
    /// Out: larger than the MTU.
    TooBig,
    /// Out: the segment has no key pair yet.
    NoKey,
    /// WireGuard had no place for the peer.
    NoSlot,
    /// Out: it is not known where the peer is.
    NoEndpoint,
    /// Out: the session is at its end.
    NotSealed,
    /// Out: this lane has no session with the peer, and another could not be asked.
    NoLane,
    /// Out: waiting for a session, and younger packets needed the room.
    PendingFull,
    /// Out: waited for a session that did not come in time.
    NoSessionInTime,
    /// Out: waiting for a session when its flow was revoked.
    Revoked,
    /// In: the source address is not that of the peer whose session it came by (spoofing).
    SourceNotPeers,
    /// In: the destination address is not this node's in that segment.
    DestinationNotOurs,
}

/// How many packets were refused, by reason.
#[derive(Clone, Debug, Default)]
pub struct DropCounters(BTreeMap<DropReason, u64>);

impl DropReason {
    /// The name in counters, status and logs.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Malformed(malformed) => malformed.as_str(),
            Self::Refused(refusal) => refusal.as_str(),
            Self::WireGuard(drop) => drop.as_str(),
            Self::NoSegment => "segment_gone",
            Self::SegmentClosed => "segment_closed",
            Self::SourceNotOurs => "source_not_ours",
            Self::Multicast => "multicast",
            Self::NoRoute => "no_route",
            Self::TooBig => "too_big",
            Self::NoKey => "no_key",
            Self::NoSlot => "no_slot",
            Self::NoEndpoint => "no_endpoint",
            Self::NotSealed => "not_sealed",
            Self::NoLane => "no_lane",
            Self::PendingFull => "pending_full",
            Self::NoSessionInTime => "no_session_in_time",
            Self::Revoked => "revoked_while_waiting",
            Self::SourceNotPeers => "source_not_peers",
            Self::DestinationNotOurs => "destination_not_ours",
        }
    }
}

impl DropCounters {
    /// Each reason that occurred, with its count.
    pub fn iter(&self) -> impl Iterator<Item = (&'static str, u64)> + '_ {
        self.0.iter().map(|(reason, count)| (reason.as_str(), *count))
    }

    /// How often this one occurred.
    pub fn of(&self, reason: DropReason) -> u64 {
        self.0.get(&reason).copied().unwrap_or(0)
    }

    pub(crate) fn count(&mut self, reason: DropReason) {
        *self.0.entry(reason).or_default() += 1;
    }
}
