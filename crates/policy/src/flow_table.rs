//! The stateful filter of one segment: which packets belong to a conversation that a rule allows.
//!
//! A conversation is opened by a packet that a rule allows, and everything after it in both directions follows the
//! flow. Each record says which rule and which revision allowed it.
//!
//! **Invariant:** no packet passes on the word of an older revision: a flow last judged by another one is judged again
//! before its next packet (red line 2). Default deny; ICMP errors must quote a live flow, later fragments follow their
//! first one.

use std::collections::VecDeque;
use std::time::{Duration, Instant};

use ringfence_model::sabotage::{Safeguard, is_off};
use ringfence_model::{NodeId, RuleId, TableSize, UnixMillis};
use ringfence_packet::{Flow, Fragment, IcmpKind, Packet, Position};

use crate::closed_flow::{CloseReason, ClosedFlow};
use crate::flow_record::{FlowOpening, FlowRecord, Track};
use crate::flow_store::{FlowKey, FlowStore};
use crate::fragments::{First, Fragments, REASSEMBLY_TIME};
use crate::ruleset::Grant;
use crate::{Direction, RuleSet};

/// The live flows of one segment.
#[derive(Debug)]
pub struct FlowTable {
    store: FlowStore,
    fragments: Fragments,
    /// Flows that [`Self::judge`] closed and nobody has fetched yet.
    closed: VecDeque<ClosedFlow>,
    closed_unreported: u64,
    /// No flow and no fragmented packet times out before this.
    next_timeout: Option<Instant>,
}

/// Why a packet may not pass.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, thiserror::Error)]
pub enum Refusal {
    /// No rule allows it.
    #[error("no rule allows it")]
    NotAllowed,
    /// A rule would allow the conversation, but this is not how one starts: it belongs to none that lives.
    #[error("belongs to no live flow")]
    UnsolicitedReply,
    /// An ICMP error that does not quote a live flow's packet to its sender.
    #[error("ICMP error about no live flow")]
    IcmpErrorWithoutFlow,
    /// A fragment whose first one has not passed, or is too long ago.
    #[error("fragment without its first")]
    FragmentWithoutFirst,
    /// A fragment that overlaps another of its packet, or any fragment of that packet afterwards.
    #[error("overlapping fragment")]
    FragmentOverlap,
    /// No room, and the peer has nothing that could give way.
    #[error("no room for another")]
    TableFull,
}

/// One packet and what it is judged by.
#[derive(Clone, Copy)]
struct Question<'a> {
    packet: &'a Packet<'a>,
    direction: Direction,
    peer: NodeId,
    rules: &'a RuleSet,
    now: Instant,
    wall: UnixMillis,
}

impl FlowTable {
    /// An empty table. `seed` keys the hash of the flow map, so that no peer can choose flows that collide.
    /// No peer has more than `per_peer_max` flows, nor more than [`FLOWS_PER_PEER_MAX`](crate::FLOWS_PER_PEER_MAX).
    pub fn new(seed: [u8; 16], per_peer_max: usize) -> Self {
        Self {
            store: FlowStore::new(seed, per_peer_max),
            fragments: Fragments::default(),
            closed: VecDeque::new(),
            closed_unreported: 0,
            next_timeout: None,
        }
    }

    /// Whether `packet` may pass, and by which rule. `direction` is the way it travels: egress from this node to
    /// `peer`, ingress from `peer`, whose address its source is.
    ///
    /// # Errors
    /// [`Refusal`] says why it must be dropped.
    pub fn judge(
        &mut self,
        packet: &Packet<'_>,
        direction: Direction,
        peer: NodeId,
        rules: &RuleSet,
        now: Instant,
        wall: UnixMillis,
    ) -> Result<RuleId, Refusal> {
        let question = Question {
            packet,
            direction,
            peer,
            rules,
            now,
            wall,
        };
        match (packet.position, packet.icmp) {
            (Position::Later(fragment), _) => self.judge_later_fragment(&question, fragment),
            (Position::Whole | Position::First(_), Some(IcmpKind::Error { quoted })) => {
                self.judge_icmp_error(&question, quoted)
            }
            (Position::Whole, _) => self.judge_in_flow(&question),
            (Position::First(fragment), _) => {
                let rule = self.judge_in_flow(&question)?;
                let first = First {
                    key: FlowKey::of(conversation(packet)),
                    flow: packet.flow,
                };
                self.fragments.open(peer, fragment, first, now)?;
                self.expect_timeout(now + REASSEMBLY_TIME);
                Ok(rule)
            }
        }
    }

    /// Judges every flow by new rules, or by the same after one has expired. Call it before the next packet; what it
    /// returns is out of the table.
    pub fn rejudge(&mut self, rules: &RuleSet, wall: UnixMillis) -> Vec<ClosedFlow> {
        let mut closed = Vec::new();
        for place in self.store.places() {
            if let Err(why) = self.judge_again(place, rules, wall) {
                closed.extend(self.take(place, why));
            }
        }
        closed
    }

    /// Ends every flow with a peer that has left.
    pub fn close_peer(&mut self, peer: NodeId) -> Vec<ClosedFlow> {
        self.fragments.close_peer(peer);
        let places = self.store.places_of(peer);
        places
            .into_iter()
            .filter_map(|place| self.take(place, CloseReason::PeerGone))
            .collect()
    }

    /// Ends every flow: the segment closes.
    pub fn close_all(&mut self) -> Vec<ClosedFlow> {
        self.fragments.clear();
        let places = self.store.places();
        places
            .into_iter()
            .filter_map(|place| self.take(place, CloseReason::PeerGone))
            .collect()
    }

    /// A flow that [`Self::judge`] closed on its way: revoked, expired, idle, finished or evicted. At most
    /// [`CLOSED_FLOWS_MAX`] wait here; when full the oldest is dropped and counted.
    pub fn poll_closed(&mut self) -> Option<ClosedFlow> {
        self.closed.pop_front()
    }

    /// How many closed flows were dropped because nobody fetched them.
    pub fn closed_unreported(&self) -> u64 {
        self.closed_unreported
    }

    /// Ends flows that have been silent for too long. Returns them with those that still wait in
    /// [`Self::poll_closed`].
    ///
    /// Call when [`Self::poll_timeout`] is due. Calling early is harmless.
    pub fn handle_timeout(&mut self, now: Instant) -> Vec<ClosedFlow> {
        let mut closed: Vec<ClosedFlow> = self.closed.drain(..).collect();
        if self.next_timeout.is_none_or(|next| now < next) {
            return closed;
        }
        self.fragments.expire(now);
        let overdue = self.store.overdue(now, SWEEP_FLOWS_MAX);
        let is_done = overdue.len() < SWEEP_FLOWS_MAX;
        for place in overdue {
            let why = self.silence(place);
            closed.extend(self.take(place, why));
        }
        let deadlines = [self.store.next_deadline(), self.fragments.next_deadline()];
        let next = deadlines.into_iter().flatten().min();
        let step = if is_done { SWEEP_STEP } else { SWEEP_PAUSE };
        self.next_timeout = next.map(|next| next.max(now + step));
        closed
    }

    /// When this table next needs [`Self::handle_timeout`], or `None` if nothing is pending.
    pub fn poll_timeout(&self) -> Option<Instant> {
        self.next_timeout
    }

    /// Whether a conversation of `flow` lives, named from either end.
    pub fn contains(&self, flow: Flow) -> bool {
        self.store.find(FlowKey::of(flow)).is_some()
            || self.store.find(FlowKey::of(flow.reversed())).is_some()
    }

    /// How many flows live.
    pub fn len(&self) -> usize {
        self.store.len()
    }

    /// How full each of its tables is.
    pub fn tables(&self) -> Vec<TableSize> {
        let Self {
            store,
            fragments,
            closed,
            closed_unreported: _,
            next_timeout: _,
        } = self;
        let mut tables = vec![TableSize::new(
            "flows that ended while judging",
            closed.len(),
            CLOSED_FLOWS_MAX,
        )];
        tables.extend(store.tables());
        tables.extend(fragments.tables());
        tables
    }

    /// Whether none does.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// The live flows, in no particular but always the same order.
    pub fn iter(&self) -> impl Iterator<Item = &FlowRecord> {
        self.store.iter()
    }

    fn judge_in_flow(&mut self, question: &Question<'_>) -> Result<RuleId, Refusal> {
        let place = self.store.find_flow(conversation(question.packet));
        match place.and_then(|place| self.live(place, question)) {
            Some(place) => self.pass(place, question),
            None => self.open(question),
        }
    }

    /// A flow, if it may go on. One that may not is closed here.
    fn live(&mut self, place: u32, question: &Question<'_>) -> Option<u32> {
        match self.check(place, question) {
            Ok(()) => Some(place),
            Err(why) => {
                if let Some(closed) = self.take(place, why) {
                    self.report(closed);
                }
                None
            }
        }
    }

    fn check(&mut self, place: u32, question: &Question<'_>) -> Result<(), CloseReason> {
        if self.store.deadline(place) <= question.now {
            return Err(self.silence(place));
        }
        let Some(record) = self.store.record(place) else {
            return Err(CloseReason::Finished);
        };
        if record.peer != question.peer {
            return Err(CloseReason::PeerGone);
        }
        let reopened = question.packet.tcp.is_some_and(|tcp| tcp.opens());
        if reopened && record.is_tcp_closed() {
            return Err(CloseReason::Finished);
        }
        self.judge_again(place, question.rules, question.wall)
    }

    /// Judges a flow by `rules`, unless they are the ones that judged it last and its rule still counts.
    fn judge_again(&mut self, place: u32, rules: &RuleSet, wall: UnixMillis) -> Result<(), CloseReason> {
        let Some(record) = self.store.record_mut(place) else {
            return Ok(());
        };
        record.judge_again(rules, wall)
    }

    /// Lets a packet of a live flow pass, if its part in the conversation fits.
    fn pass(&mut self, place: u32, question: &Question<'_>) -> Result<RuleId, Refusal> {
        let packet = question.packet;
        let Some(record) = self.store.record_mut(place) else {
            return Err(Refusal::UnsolicitedReply);
        };
        let Some(side) = record.side(packet.flow, question.direction) else {
            return Err(Refusal::NotAllowed);
        };
        if let Some(tcp) = packet.tcp
            && record.turns_around(side, &tcp)
            && !is_off(Safeguard::TurnAround)
            && question.grant().is_none()
        {
            return Err(Refusal::NotAllowed);
        }
        record.observe(side, packet);
        let (rule, phase) = (record.rule, record.phase());
        self.store.touch(place, phase, question.now);
        self.expect_timeout(question.now + phase.timeout());
        Ok(rule)
    }

    fn open(&mut self, question: &Question<'_>) -> Result<RuleId, Refusal> {
        let packet = question.packet;
        let grant = question.grant();
        let track = match Track::opened_by(packet) {
            Some(track) => track,
            None if is_reply(packet) && (grant.is_some() || packet.tcp.is_none()) => {
                return Err(Refusal::UnsolicitedReply);
            }
            None => return Err(Refusal::NotAllowed),
        };
        let Some(grant) = grant else {
            return Err(Refusal::NotAllowed);
        };
        if let Some(victim) = self.store.victim_for(question.peer)
            && let Some(closed) = self.take(victim, CloseReason::Evicted)
        {
            self.report(closed);
        }
        let opening = FlowOpening {
            flow: packet.flow,
            direction: question.direction,
            peer: question.peer,
            grant,
            revision: question.rules.revision(),
            wall: question.wall,
        };
        let record = FlowRecord::new(opening, track, packet);
        let phase = record.phase();
        self.store.insert(record, phase, question.now);
        self.expect_timeout(question.now + phase.timeout());
        Ok(grant.rule)
    }

    /// A later fragment passes with the flow of its first, as that flow is judged now.
    fn judge_later_fragment(
        &mut self,
        question: &Question<'_>,
        fragment: Fragment,
    ) -> Result<RuleId, Refusal> {
        if is_off(Safeguard::Fragments) {
            return Ok(RuleId(0));
        }
        let first = self.fragments.follow(question.peer, fragment, question.now)?;
        let place = self.store.find(first.key);
        let Some(place) = place.and_then(|place| self.live(place, question)) else {
            return Err(Refusal::FragmentWithoutFirst);
        };
        let Some(record) = self.store.record_mut(place) else {
            return Err(Refusal::FragmentWithoutFirst);
        };
        let Some(side) = record.side(first.flow, question.direction) else {
            return Err(Refusal::FragmentWithoutFirst);
        };
        record.count(side, question.packet);
        Ok(record.rule)
    }

    /// An ICMP error passes if it goes to the sender of a packet that went the other way in a live flow. It keeps no
    /// flow alive.
    fn judge_icmp_error(&mut self, question: &Question<'_>, quoted: Flow) -> Result<RuleId, Refusal> {
        if is_off(Safeguard::IcmpQuotes) {
            return Ok(RuleId(0));
        }
        if question.packet.flow.dst != quoted.src {
            return Err(Refusal::IcmpErrorWithoutFlow);
        }
        let keys = [FlowKey::of(quoted), FlowKey::of(quoted.reversed())];
        let answers = |record: &FlowRecord| {
            let side = record.side(quoted, question.direction.opposite());
            side.is_some() && record.peer == question.peer
        };
        for key in keys {
            // Looked at before it is judged: a peer's error about another peer's flow must leave no trace.
            let Some(place) = self.store.find(key) else {
                continue;
            };
            if !self.store.record(place).is_some_and(answers) {
                continue;
            }
            let live = self
                .live(place, question)
                .and_then(|place| self.store.record(place));
            if let Some(record) = live {
                return Ok(record.rule);
            }
        }
        Err(Refusal::IcmpErrorWithoutFlow)
    }

    fn silence(&self, place: u32) -> CloseReason {
        match self.store.record(place) {
            Some(record) if record.is_tcp_closed() => CloseReason::Finished,
            Some(_) | None => CloseReason::Idle,
        }
    }

    fn take(&mut self, place: u32, why: CloseReason) -> Option<ClosedFlow> {
        let record = self.store.remove(place)?;
        Some(record.close(why))
    }

    fn report(&mut self, closed: ClosedFlow) {
        if self.closed.len() == CLOSED_FLOWS_MAX {
            self.closed.pop_front();
            self.closed_unreported += 1;
        }
        self.closed.push_back(closed);
    }

    fn expect_timeout(&mut self, at: Instant) {
        self.next_timeout = Some(self.next_timeout.map_or(at, |next| next.min(at)));
    }
}

impl Question<'_> {
    fn grant(&self) -> Option<Grant> {
        let flow = self.packet.flow;
        self.rules
            .grant(self.direction, self.peer, flow.protocol, flow.dst_port, self.wall)
    }
}

impl Direction {
    fn opposite(self) -> Self {
        match self {
            Self::Ingress => Self::Egress,
            Self::Egress => Self::Ingress,
        }
    }
}

impl Refusal {
    /// Every reason, for counters.
    pub const ALL: [Self; 6] = [
        Self::NotAllowed,
        Self::UnsolicitedReply,
        Self::IcmpErrorWithoutFlow,
        Self::FragmentWithoutFirst,
        Self::FragmentOverlap,
        Self::TableFull,
    ];

    /// The reason as a metric label.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::NotAllowed => "not_allowed",
            Self::UnsolicitedReply => "unsolicited_reply",
            Self::IcmpErrorWithoutFlow => "icmp_error_without_flow",
            Self::FragmentWithoutFirst => "fragment_without_first",
            Self::FragmentOverlap => "fragment_overlap",
            Self::TableFull => "table_full",
        }
    }
}

/// A segment or echo reply that can only belong to a conversation under way.
fn is_reply(packet: &Packet<'_>) -> bool {
    packet.tcp.is_some() || packet.icmp == Some(IcmpKind::EchoReply)
}

/// A packet's flow as the opener of its conversation wrote it, as far as the packet alone tells.
fn conversation(packet: &Packet<'_>) -> Flow {
    match packet.icmp {
        Some(IcmpKind::EchoReply) => packet.flow.reversed(),
        Some(IcmpKind::EchoRequest | IcmpKind::Error { .. } | IcmpKind::Other) | None => packet.flow,
    }
}

/// The least time between two searches for silent flows.
const SWEEP_STEP: Duration = Duration::from_secs(1);
/// Flows that one search ends. The others can wait: a flow past its time passes nothing, swept or not.
const SWEEP_FLOWS_MAX: usize = 4_096;
/// The least time between two searches while there are more.
const SWEEP_PAUSE: Duration = Duration::from_millis(10);
/// Closed flows that wait to be fetched.
pub const CLOSED_FLOWS_MAX: usize = 1_024;

#[cfg(test)]
mod tests;
