//! One live conversation, as the filter knows it.
//!
//! **Invariant:** a record changes only by packets that pass and by judging it again.

use ringfence_model::sabotage::{Safeguard, is_off};
use ringfence_model::{NodeId, Revision, RuleId, UnixMillis};
use ringfence_packet::{Flow, IcmpKind, Packet, Protocol, TcpView};

use crate::closed_flow::{CloseReason, ClosedFlow};
use crate::flow_store::Phase;
use crate::ruleset::Grant;
use crate::tcp_track::{Side, TcpState, TcpTrack};
use crate::{Direction, RuleSet};

/// One live flow.
#[derive(Clone, Debug)]
pub struct FlowRecord {
    /// Initiator to responder.
    pub flow: Flow,
    /// Which way its opener's packets go.
    pub opened_by: Direction,
    /// Who is at the other end.
    pub peer: NodeId,
    /// The rule that allows it.
    pub rule: RuleId,
    /// The revision whose rules judged it last.
    pub revision: Revision,
    /// What has passed.
    pub counters: FlowCounters,
    /// When its first packet passed, by the controller's clock.
    pub opened_at: UnixMillis,
    expires: Option<UnixMillis>,
    track: Track,
}

/// What has passed of a flow.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct FlowCounters {
    /// From the initiator.
    pub to_responder: Traffic,
    /// From the responder.
    pub to_initiator: Traffic,
}

/// Packets and their bytes, IP headers included.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Traffic {
    /// Packets.
    pub packets: u64,
    /// Bytes.
    pub bytes: u64,
}

/// How a flow comes to be.
#[derive(Clone, Copy, Debug)]
pub(crate) struct FlowOpening {
    pub(crate) flow: Flow,
    pub(crate) direction: Direction,
    pub(crate) peer: NodeId,
    pub(crate) grant: Grant,
    pub(crate) revision: Revision,
    pub(crate) wall: UnixMillis,
}

/// What is remembered of a conversation's course.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Track {
    Tcp(TcpTrack),
    Udp(Answer),
    Echo,
}

/// Whether the other end has said anything yet.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Answer {
    Awaited,
    Seen,
}

impl FlowRecord {
    /// A record of the flow that `packet` opens.
    pub(crate) fn new(opening: FlowOpening, track: Track, packet: &Packet<'_>) -> Self {
        let mut record = Self {
            flow: opening.flow,
            opened_by: opening.direction,
            peer: opening.peer,
            rule: opening.grant.rule,
            revision: opening.revision,
            counters: FlowCounters::default(),
            opened_at: opening.wall,
            expires: opening.grant.expires,
            track,
        };
        record.count(Side::Initiator, packet);
        record
    }

    /// Judges the flow by `rules`, unless they are the ones that judged it last and its rule still counts.
    pub(crate) fn judge_again(&mut self, rules: &RuleSet, wall: UnixMillis) -> Result<(), CloseReason> {
        let expired = self.expires.is_some_and(|expires| expires <= wall);
        let same = self.revision == rules.revision() || is_off(Safeguard::Rejudging);
        if same && (!expired || is_off(Safeguard::Expiry)) {
            return Ok(());
        }
        let flow = self.flow;
        match rules.grant(self.opened_by, self.peer, flow.protocol, flow.dst_port, wall) {
            Some(grant) => {
                self.rule = grant.rule;
                self.expires = grant.expires;
                self.revision = rules.revision();
                Ok(())
            }
            None if expired => Err(CloseReason::Expired),
            None => Err(CloseReason::Revoked),
        }
    }

    pub(crate) fn close(self, why: CloseReason) -> ClosedFlow {
        let resets = match self.track {
            Track::Tcp(track) => track.resets(),
            Track::Udp(_) | Track::Echo => None,
        };
        ClosedFlow {
            flow: self.flow,
            opened_by: self.opened_by,
            peer: self.peer,
            rule: self.rule,
            revision: self.revision,
            opened_at: self.opened_at,
            why,
            resets,
            counters: self.counters,
        }
    }

    /// Which end sent a packet of `flow` that travels in `direction`; `None` if that end cannot have.
    pub(crate) fn side(&self, flow: Flow, direction: Direction) -> Option<Side> {
        let forward = direction == self.opened_by;
        if flow == self.flow && forward {
            Some(Side::Initiator)
        } else if flow == self.flow.reversed() && !forward {
            Some(Side::Responder)
        } else {
            None
        }
    }

    /// Whether the responder opens a connection of its own with the ports of this one. Only while the first is being
    /// opened is that part of it (simultaneous open, RFC 9293 section 3.5); else rules decide.
    pub(crate) fn turns_around(&self, side: Side, tcp: &TcpView) -> bool {
        let opening = self.phase() == Phase::TcpOpening;
        side == Side::Responder && tcp.opens() && !opening
    }

    pub(crate) fn observe(&mut self, side: Side, packet: &Packet<'_>) {
        self.count(side, packet);
        match (&mut self.track, packet.tcp, side) {
            (Track::Tcp(track), Some(tcp), Side::Initiator | Side::Responder) => track.observe(side, &tcp),
            (Track::Udp(answer), _, Side::Responder) => *answer = Answer::Seen,
            (Track::Tcp(_) | Track::Echo, _, _) | (Track::Udp(_), _, Side::Initiator) => {}
        }
    }

    pub(crate) fn count(&mut self, side: Side, packet: &Packet<'_>) {
        let traffic = match side {
            Side::Initiator => &mut self.counters.to_responder,
            Side::Responder => &mut self.counters.to_initiator,
        };
        traffic.packets += packet.segments as u64;
        traffic.bytes += packet.wire_bytes() as u64;
    }

    pub(crate) fn phase(&self) -> Phase {
        match self.track {
            Track::Tcp(track) => match track.state() {
                TcpState::Opening => Phase::TcpOpening,
                TcpState::Established => Phase::TcpEstablished,
                TcpState::HalfClosed => Phase::TcpHalfClosed,
                TcpState::Closed => Phase::TcpClosed,
            },
            Track::Udp(Answer::Awaited) => Phase::UdpOpening,
            Track::Udp(Answer::Seen) => Phase::UdpAnswered,
            Track::Echo => Phase::Echo,
        }
    }

    pub(crate) fn is_tcp_closed(&self) -> bool {
        self.phase() == Phase::TcpClosed
    }
}

impl Track {
    /// The start of a conversation, if `packet` may start one.
    pub(crate) fn opened_by(packet: &Packet<'_>) -> Option<Self> {
        match (packet.flow.protocol, packet.tcp, packet.icmp) {
            (Protocol::TCP, Some(tcp), None) if tcp.opens() => Some(Self::Tcp(TcpTrack::opened_by(&tcp))),
            (Protocol::UDP, None, None) => Some(Self::Udp(Answer::Awaited)),
            (_, None, Some(IcmpKind::EchoRequest)) => Some(Self::Echo),
            _ => None,
        }
    }
}
