//! TCP sessions, and the resets that end them on revocation.

use std::collections::BTreeMap;

use proptest::prelude::*;

use super::*;
use crate::{TCP_CLOSED_TIMEOUT, TCP_ESTABLISHED_TIMEOUT, TCP_HALF_CLOSED_TIMEOUT};

const SYN_ACK: TcpFlags = TcpFlags::SYN.with(TcpFlags::ACK);
const FIN_ACK: TcpFlags = TcpFlags::FIN.with(TcpFlags::ACK);
const RST_ACK: TcpFlags = TcpFlags::RST.with(TcpFlags::ACK);

/// From the peer to PostgreSQL on this node.
fn session() -> Flow {
    flow(Protocol::TCP, PEER, US, 5_432)
}

fn postgres() -> [Rule; 1] {
    [allow(1, Direction::Ingress, "tcp/5432")]
}

/// After the three-way handshake: the client's next byte is 101, the server's 501.
fn established() -> Node {
    let mut node = Node::with(&postgres());
    node.receive(&segment(session(), TcpFlags::SYN, 100, 0, &[]))
        .unwrap();
    node.send(&segment(session().reversed(), SYN_ACK, 500, 101, &[]))
        .unwrap();
    node.receive(&segment(session(), TcpFlags::ACK, 101, 501, &[]))
        .unwrap();
    node
}

fn only_reset(notices: &[Vec<u8>]) -> (Flow, u32, u32) {
    let [bytes] = notices else {
        panic!("one notice, not {}", notices.len());
    };
    let packet = Packet::parse(bytes).unwrap();
    let tcp = packet.tcp.unwrap();
    assert!(tcp.flags.has(RST_ACK));
    (packet.flow, tcp.seq, tcp.ack)
}

#[test]
fn a_session_opens_with_a_syn_and_with_nothing_else() {
    for flags in [TcpFlags::ACK, SYN_ACK, FIN_ACK, TcpFlags::RST, TcpFlags(0)] {
        let mut node = Node::with(&postgres());

        assert_eq!(
            node.receive(&segment(session(), flags, 100, 1, &[])),
            Err(Refusal::UnsolicitedReply)
        );
        assert!(node.table.is_empty());
    }
}

#[test]
fn a_stray_segment_that_no_rule_would_allow_says_so() {
    let mut node = Node::with(&postgres());
    let stray = flow(Protocol::TCP, PEER, US, 22);

    assert_eq!(
        node.receive(&segment(stray, TcpFlags::ACK, 1, 1, &[])),
        Err(Refusal::NotAllowed)
    );
}

#[test]
fn revoked_rule_resets_the_live_session_at_both_ends() {
    let mut node = established();
    node.receive(&segment(session(), TcpFlags::ACK, 101, 501, b"SELECT 1"))
        .unwrap();
    node.send(&segment(session().reversed(), TcpFlags::ACK, 501, 109, b"1 row"))
        .unwrap();
    node.receive(&segment(session(), TcpFlags::ACK, 109, 506, &[]))
        .unwrap();

    let closed = node.enforce(&[]).pop().unwrap();

    assert_eq!((closed.why, closed.rule), (CloseReason::Revoked, RuleId(1)));
    assert_eq!(only_reset(&closed.notices_to_local()), (session(), 109, 506));
    assert_eq!(
        only_reset(&closed.notices_to_peer()),
        (session().reversed(), 506, 109)
    );
    assert_eq!(
        node.receive(&segment(session(), TcpFlags::ACK, 109, 506, b"SELECT 2")),
        Err(Refusal::NotAllowed)
    );
}

#[test]
fn a_session_revoked_by_its_next_packet_is_reset_too() {
    let mut node = established();
    node.set_rules(&[]);

    let refused = node.receive(&segment(session(), TcpFlags::ACK, 101, 501, b"SELECT 1"));

    assert_eq!(refused, Err(Refusal::NotAllowed));
    let closed = node.table.poll_closed().unwrap();
    assert_eq!(
        only_reset(&closed.notices_to_local()),
        (session(), 101, 501),
        "the refused bytes never arrived"
    );
}

#[test]
fn a_session_that_this_node_opened_is_reset_the_same_way() {
    let mut node = Node::with(&[allow(1, Direction::Egress, "tcp/5432")]);
    let outward = flow(Protocol::TCP, US, PEER, 5_432);
    node.send(&segment(outward, TcpFlags::SYN, 100, 0, &[])).unwrap();
    node.receive(&segment(outward.reversed(), SYN_ACK, 500, 101, &[]))
        .unwrap();
    node.send(&segment(outward, TcpFlags::ACK, 101, 501, b"hello"))
        .unwrap();

    let closed = node.enforce(&[]).pop().unwrap();

    assert_eq!(
        only_reset(&closed.notices_to_local()),
        (outward.reversed(), 501, 106)
    );
    let to_peer = closed.resets.unwrap().to_responder;
    assert_eq!(
        (to_peer.seq, to_peer.stated_seq),
        (106, Some(101)),
        "it arrived, or it was lost"
    );
}

#[test]
fn a_session_still_being_opened_is_refused_as_a_closed_port_would() {
    let mut node = Node::with(&[allow(1, Direction::Egress, "tcp/5432")]);
    let outward = flow(Protocol::TCP, US, PEER, 5_432);
    node.send(&segment(outward, TcpFlags::SYN, 100, 0, &[])).unwrap();

    let closed = node.enforce(&[]).pop().unwrap();

    assert_eq!(
        only_reset(&closed.notices_to_local()),
        (outward.reversed(), 0, 101)
    );
}

#[test]
fn a_challenge_from_our_own_side_is_answered_on_its_exact_number() {
    // RFC 5961 section 3.2: an end that doubts a reset states its RCV.NXT; answering that ends it.
    let challenge = segment(session().reversed(), TcpFlags::ACK, 777, 12_345, &[]);

    let answer = ringfence_packet::tcp_reset_answering(&challenge).unwrap();

    assert_eq!(Packet::parse(&answer).unwrap().tcp.unwrap().seq, 12_345);
}

#[test]
fn a_closed_window_probe_does_not_move_the_reset() {
    let mut node = established();
    let shut = tcp_segment(&TcpSegment {
        flow: session().reversed(),
        seq: 501,
        ack: 60_101,
        flags: TcpFlags::ACK,
        window: 0,
        payload: &[],
    });
    node.receive(&segment(session(), TcpFlags::ACK, 101, 501, &vec![0; 60_000]))
        .unwrap();
    node.send(&shut).unwrap();
    node.receive(&segment(session(), TcpFlags::ACK, 60_101, 501, b"x"))
        .unwrap();

    let closed = node.enforce(&[]).pop().unwrap();

    assert_eq!(only_reset(&closed.notices_to_local()).1, 60_101);
}

#[test]
fn a_reset_that_its_receiver_only_challenges_does_not_end_the_flow() {
    let mut node = established();

    node.receive(&segment(session(), TcpFlags::RST, 5_000, 0, &[]))
        .unwrap();
    node.wait(TCP_CLOSED_TIMEOUT * 2);

    assert!(node.table.contains(session()));
    assert!(node.table.close_all()[0].resets.is_some());
}

#[test]
fn a_reset_at_bytes_that_arrived_and_are_not_acknowledged_yet_does_not_end_the_flow() {
    let mut node = established();
    node.receive(&segment(session(), TcpFlags::ACK, 101, 501, b"SELECT 1"))
        .unwrap();

    node.receive(&segment(session(), TcpFlags::RST, 101, 0, &[]))
        .unwrap();

    let closed = node.enforce(&[]).pop().unwrap();
    assert!(closed.resets.is_some_and(|resets| resets.to_responder.seq == 109));
}

#[test]
fn a_new_call_on_the_ports_of_an_older_connection_is_reset_where_the_older_one_stands_too() {
    let mut node = Node::with(&postgres());
    node.receive(&segment(session(), TcpFlags::SYN, 9_000, 0, &[]))
        .unwrap();
    node.send(&segment(session().reversed(), TcpFlags::ACK, 501, 101, &[]))
        .unwrap();

    let closed = node.enforce(&[]).pop().unwrap();

    let reset = closed.resets.unwrap().to_responder;
    assert_eq!((reset.seq, reset.stated_seq), (9_001, Some(101)));
}

#[test]
fn a_session_that_its_ends_reset_is_finished_and_not_reset_again() {
    let mut node = established();
    node.receive(&segment(session(), TcpFlags::RST, 101, 0, &[]))
        .unwrap();

    let closed = node.wait(TCP_CLOSED_TIMEOUT);

    assert_eq!((closed[0].why, closed[0].resets), (CloseReason::Finished, None));
    assert_eq!(closed[0].notices_to_local(), Vec::<Vec<u8>>::new());
}

#[test]
fn a_refused_connection_is_finished() {
    let mut node = Node::with(&postgres());
    node.receive(&segment(session(), TcpFlags::SYN, 100, 0, &[]))
        .unwrap();
    node.send(&tcp_reset(session().reversed(), 0, 101)).unwrap();

    assert_eq!(reasons(&node.wait(TCP_CLOSED_TIMEOUT)), [CloseReason::Finished]);
}

#[test]
fn a_session_that_both_ends_close_is_finished() {
    let mut node = established();
    node.receive(&segment(session(), FIN_ACK, 101, 501, &[])).unwrap();
    assert_eq!(
        node.wait(TCP_CLOSED_TIMEOUT),
        [],
        "half open: the server may still talk"
    );
    node.send(&segment(session().reversed(), FIN_ACK, 501, 102, b"bye"))
        .unwrap();
    node.receive(&segment(session(), TcpFlags::ACK, 102, 505, &[]))
        .unwrap();

    assert_eq!(reasons(&node.wait(TCP_CLOSED_TIMEOUT)), [CloseReason::Finished]);
}

#[test]
fn silence_ends_sessions_in_their_own_time() {
    let mut open = established();
    let mut half = established();
    half.receive(&segment(session(), FIN_ACK, 101, 501, &[])).unwrap();

    assert_eq!(reasons(&half.wait(TCP_HALF_CLOSED_TIMEOUT)), [CloseReason::Idle]);
    assert_eq!(
        open.wait(Duration::from_hours(2)),
        [],
        "a keepalive every two hours is enough"
    );
    open.receive(&segment(session(), TcpFlags::ACK, 100, 501, &[]))
        .unwrap();
    assert_eq!(open.wait(Duration::from_hours(2)), []);
    assert_eq!(reasons(&open.wait(TCP_ESTABLISHED_TIMEOUT)), [CloseReason::Idle]);
}

#[test]
fn finished_ports_can_be_used_again_at_once() {
    let mut node = established();
    node.receive(&segment(session(), TcpFlags::RST, 101, 0, &[]))
        .unwrap();

    assert_eq!(
        node.receive(&segment(session(), TcpFlags::SYN, 9_000, 0, &[])),
        Ok(RuleId(1))
    );
    node.send(&segment(session().reversed(), SYN_ACK, 7_000, 9_001, &[]))
        .unwrap();

    assert_eq!(
        node.table.poll_closed().map(|closed| closed.why),
        Some(CloseReason::Finished)
    );
    let closed = node.enforce(&[]).pop().unwrap();
    assert_eq!(only_reset(&closed.notices_to_local()).1, 9_001);
}

#[test]
fn the_responder_cannot_open_a_connection_of_its_own_through_the_flow() {
    let mut node = established();
    let backwards = segment(session().reversed(), TcpFlags::SYN, 1, 0, &[]);

    assert_eq!(node.send(&backwards), Err(Refusal::NotAllowed), "while it lives");
    node.receive(&segment(session(), TcpFlags::RST, 101, 0, &[]))
        .unwrap();
    assert_eq!(node.send(&backwards), Err(Refusal::NotAllowed), "after it ended");
}

#[test]
fn a_restarted_connection_is_followed_from_its_new_numbers() {
    let mut node = established();
    node.receive(&segment(session(), TcpFlags::SYN, 9_000, 0, &[]))
        .unwrap();
    node.send(&segment(session().reversed(), SYN_ACK, 7_000, 9_001, &[]))
        .unwrap();
    node.receive(&segment(session(), TcpFlags::ACK, 9_001, 7_001, b"hello"))
        .unwrap();

    let closed = node.enforce(&[]).pop().unwrap();

    assert_eq!(closed.resets.unwrap().to_responder.seq, 9_006);
    assert_eq!(closed.resets.unwrap().to_initiator.seq, 7_001);
}

/// One end of a TCP connection as RFC 9293 describes its receiver: takes bytes in any order, acknowledges at once.
struct Host {
    sent: u32,
    received: u32,
    /// Runs beyond a hole: offset of start to offset of end.
    waiting: BTreeMap<u64, u64>,
    peer_isn: u32,
}

impl Host {
    fn take(&mut self, seq: u32, bytes: u32) {
        let start = u64::from(seq.wrapping_sub(self.peer_isn));
        self.waiting.insert(start, start + u64::from(bytes));
        let mut reached = u64::from(self.received.wrapping_sub(self.peer_isn));
        for (start, end) in &self.waiting {
            if *start <= reached {
                reached = reached.max(*end);
            }
        }
        self.waiting.retain(|_, end| *end > reached);
        self.received = self.peer_isn.wrapping_add(reached as u32);
    }
}

/// What happens next to the peer's next segment, or to ours.
#[derive(Clone, Debug)]
enum Step {
    PeerSends { bytes: u16 },
    PeerLoses { bytes: u16 },
    PeerRepeats { back: u16, bytes: u16 },
    WeSend { bytes: u16 },
}

fn step() -> impl Strategy<Value = Step> {
    let bytes = || 1..1_400_u16;
    prop_oneof![
        4 => bytes().prop_map(|bytes| Step::PeerSends { bytes }),
        1 => bytes().prop_map(|bytes| Step::PeerLoses { bytes }),
        2 => (0..4_000_u16, bytes()).prop_map(|(back, bytes)| Step::PeerRepeats { back, bytes }),
        2 => bytes().prop_map(|bytes| Step::WeSend { bytes }),
    ]
}

/// Half of them so close to the end of sequence space that the session runs over it.
fn isn() -> impl Strategy<Value = u32> {
    prop_oneof![any::<u32>(), u32::MAX - 20_000..=u32::MAX]
}

/// When our program acknowledges what it got.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Acks {
    AtOnce,
    WithDataOnly,
}

/// Plays `steps` over a fresh session, then revokes it. What our program expects and has sent, and the resets it gets.
fn revoked_after(isns: [u32; 2], steps: &[Step], acks: Acks) -> (Host, Vec<Vec<u8>>) {
    let [peer_isn, our_isn] = isns;
    let mut node = Node::with(&postgres());
    let mut peer_next = peer_isn.wrapping_add(1);
    let mut host = Host {
        sent: our_isn.wrapping_add(1),
        received: peer_next,
        waiting: BTreeMap::new(),
        peer_isn,
    };
    let (inward, outward) = (session(), session().reversed());
    node.receive(&segment(inward, TcpFlags::SYN, peer_isn, 0, &[]))
        .unwrap();
    node.send(&segment(outward, SYN_ACK, our_isn, peer_next, &[]))
        .unwrap();
    node.receive(&segment(inward, TcpFlags::ACK, peer_next, host.sent, &[]))
        .unwrap();
    for step in steps {
        let (seq, bytes) = match *step {
            Step::PeerSends { bytes } => (peer_next, bytes),
            Step::PeerLoses { bytes } => {
                peer_next = peer_next.wrapping_add(u32::from(bytes));
                continue;
            }
            Step::PeerRepeats { back, bytes } => {
                let sent = peer_next.wrapping_sub(peer_isn).wrapping_sub(1);
                let back = u32::from(back).min(sent);
                (peer_next.wrapping_sub(back), bytes.min(back as u16))
            }
            Step::WeSend { bytes } => {
                let data = vec![0; usize::from(bytes)];
                node.send(&segment(outward, TcpFlags::ACK, host.sent, host.received, &data))
                    .unwrap();
                host.sent = host.sent.wrapping_add(u32::from(bytes));
                continue;
            }
        };
        node.receive(&segment(
            inward,
            TcpFlags::ACK,
            seq,
            host.sent,
            &vec![0; usize::from(bytes)],
        ))
        .unwrap();
        let end = seq.wrapping_add(u32::from(bytes));
        if end.wrapping_sub(peer_next).cast_signed() > 0 {
            peer_next = end;
        }
        host.take(seq, u32::from(bytes));
        if acks == Acks::AtOnce {
            node.send(&segment(outward, TcpFlags::ACK, host.sent, host.received, &[]))
                .unwrap();
        }
    }
    let closed = node.enforce(&[]).pop().unwrap();
    (host, closed.notices_to_local())
}

/// Leaves no more than two losses and two repeats: as many holes as are followed without acknowledgements.
fn few_holes(steps: &[Step]) -> Vec<Step> {
    let (mut losses, mut repeats) = (0, 0);
    let kept = steps.iter().filter(|step| match step {
        Step::PeerLoses { .. } => {
            losses += 1;
            losses <= 2
        }
        Step::PeerRepeats { .. } => {
            repeats += 1;
            repeats <= 2
        }
        Step::PeerSends { .. } | Step::WeSend { .. } => true,
    });
    kept.cloned().collect()
}

proptest! {
    /// Whatever was lost, repeated or reordered on the way, the reset to our own program carries exactly the number it
    /// expects, and so is obeyed at once.
    #[test]
    fn a_revocation_reset_lands_exactly_on_the_local_ends_next_byte(
        isns in [isn(), isn()], steps in proptest::collection::vec(step(), 0..40),
    ) {
        let (host, notices) = revoked_after(isns, &steps, Acks::AtOnce);

        let reset = Packet::parse(&notices[0]).unwrap().tcp.unwrap();
        prop_assert_eq!((reset.seq, reset.ack), (host.received, host.sent));
        prop_assert_eq!(notices.len(), 1, "what it last stated is the same number");
    }

    #[test]
    fn the_reset_lands_even_while_the_local_end_has_not_acknowledged(
        isns in [isn(), isn()], steps in proptest::collection::vec(step(), 0..40),
    ) {
        let (host, notices) = revoked_after(isns, &few_holes(&steps), Acks::WithDataOnly);

        let reset = Packet::parse(&notices[0]).unwrap().tcp.unwrap();
        prop_assert_eq!((reset.seq, reset.ack), (host.received, host.sent));
    }
}
