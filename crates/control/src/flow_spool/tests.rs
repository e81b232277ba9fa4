//! Nothing acknowledged is sent again, nothing else is forgotten, and what had to go leaves a gap.

use std::collections::BTreeMap;

use proptest::prelude::*;
use ringfence_model::{Name, NodeId, RuleId, UnixMillis};
use ringfence_policy::Direction;

use super::*;
use crate::netmap::tests::revision;
use crate::{FlowEnd, FlowTraffic};

/// A record that can be told from others by `n`.
pub(crate) fn flow_report(n: u64) -> FlowReport {
    FlowReport {
        perimeter: Name::parse("shop").unwrap(),
        peer: NodeId(2),
        direction: Direction::Egress,
        protocol: 6,
        src: "100.64.0.1".parse().unwrap(),
        dst: "fd00::2".parse().unwrap(),
        src_port: 40_000,
        dst_port: 5432,
        rule: RuleId(1),
        revision: revision(4),
        opened_at: UnixMillis(n),
        closed_at: UnixMillis(n + 5),
        end: FlowEnd::Finished,
        to_responder: FlowTraffic { packets: 3, bytes: n },
        to_initiator: FlowTraffic::default(),
    }
}

#[expect(
    clippy::disallowed_methods,
    reason = "a test needs some instant to count from"
)]
fn start() -> Instant {
    Instant::now()
}

fn connected(records: u64) -> FlowSpool {
    let mut spool = FlowSpool::new(7, []);
    (0..records).for_each(|n| spool.push(flow_report(n)));
    spool.handle_connected();
    spool
}

fn taken(through: u64) -> FlowRecordsTaken {
    FlowRecordsTaken { stream: 7, through }
}

#[test]
fn nothing_is_sent_before_there_is_a_controller_that_takes_it() {
    let mut spool = FlowSpool::new(7, []);
    spool.push(flow_report(1));

    assert_eq!(spool.poll_batch(start()), None);
    assert_eq!(spool.poll_timeout(), None);
}

#[test]
fn one_batch_is_under_way_at_a_time_and_the_next_follows_its_acknowledgement() {
    let mut spool = connected(300);
    let now = start();

    let first = spool.poll_batch(now).unwrap();
    assert_eq!((first.first, first.records.len()), (0, FlowRecords::RECORDS_MAX));
    assert_eq!(spool.poll_batch(now), None);
    assert!(spool.handle_taken(taken(256)));

    let second = spool.poll_batch(now).unwrap();
    assert_eq!((second.first, second.records.len()), (256, 44));
    assert!(spool.handle_taken(taken(300)));
    assert!(spool.is_empty() && spool.poll_batch(now).is_none());
}

#[test]
fn what_was_not_acknowledged_is_sent_again_after_a_reconnect_and_after_silence() {
    let mut spool = connected(2);
    let now = start();
    let batch = spool.poll_batch(now).unwrap();

    spool.handle_disconnected();
    assert_eq!(spool.poll_batch(now + FLOW_ANSWER_WAIT), None);
    spool.handle_connected();
    assert_eq!(spool.poll_batch(now).as_ref(), Some(&batch));

    assert_eq!(spool.poll_timeout(), Some(now + FLOW_ANSWER_WAIT));
    assert_eq!(spool.poll_batch(now + FLOW_ANSWER_WAIT), Some(batch));
}

#[test]
fn a_full_spool_drops_the_oldest_and_leaves_their_numbers_unused() {
    let mut spool = connected(FLOW_SPOOL_MAX as u64 + 3);

    let batch = spool.poll_batch(start()).unwrap();

    assert_eq!(
        (spool.len(), spool.dropped(), batch.first),
        (FLOW_SPOOL_MAX, 3, 3)
    );
    assert_eq!(batch.records[0], flow_report(3));
}

#[test]
fn what_never_reached_the_spool_leaves_a_gap_that_no_batch_spans() {
    let mut spool = connected(2);
    spool.skip(5);
    spool.push(flow_report(9));
    let now = start();

    assert_eq!(spool.poll_batch(now).unwrap().through(), Some(2));
    spool.handle_taken(taken(2));

    assert_eq!(spool.poll_batch(now).unwrap().first, 7);
}

#[test]
fn records_of_an_earlier_process_keep_their_names_and_go_first() {
    let left = Spooled {
        stream: 3,
        number: 41,
        report: flow_report(41),
    };
    let mut spool = FlowSpool::new(7, [left]);
    spool.push(flow_report(0));
    spool.handle_connected();
    let now = start();

    let old = spool.poll_batch(now).unwrap();
    assert_eq!((old.stream, old.first, old.records.len()), (3, 41, 1));
    // The number alone would cover it: the stream tells them apart.
    assert!(!spool.handle_taken(taken(42)));
    assert!(spool.handle_taken(FlowRecordsTaken {
        stream: 3,
        through: 42
    }));

    let new = spool.poll_batch(now).unwrap();
    assert_eq!((new.stream, new.first), (7, 0));
}

#[test]
fn the_longest_batch_fits_in_a_frame() {
    let mut longest = flow_report(u64::MAX - 5);
    longest.perimeter = Name::parse(&"x".repeat(63)).unwrap();
    longest.dst = "ffff:ffff:ffff:ffff:ffff:ffff:ffff:ffff".parse().unwrap();
    longest.src = longest.dst;
    longest.revision = ringfence_model::Revision {
        term: u64::MAX,
        n: u64::MAX,
    };
    let mut bytes = Vec::new();
    ciborium::into_writer(&longest, &mut bytes).unwrap();
    assert!(bytes.len() <= FlowReport::BYTES_MAX, "{}", bytes.len());

    let batch = FlowRecords {
        stream: u64::MAX,
        first: u64::MAX,
        records: vec![longest; FlowRecords::RECORDS_MAX],
    };
    assert!(crate::Message::encode(&crate::ToController::FlowRecords(batch)).is_ok());
}

/// What may happen between a node and a controller that stores by name.
#[derive(Clone, Debug)]
enum Step {
    Ends,
    Lost(u8),
    Connect,
    Disconnect,
    /// A batch goes out and is stored; the acknowledgement may get lost.
    Exchange {
        stored: bool,
        answered: bool,
    },
    /// The process dies and starts again from its journal.
    Restart,
}

fn any_step() -> impl Strategy<Value = Step> {
    prop_oneof![
        6 => Just(Step::Ends),
        1 => (1..9_u8).prop_map(Step::Lost),
        2 => Just(Step::Connect),
        1 => Just(Step::Disconnect),
        4 => any::<(bool, bool)>().prop_map(|(stored, answered)| Step::Exchange { stored, answered }),
        1 => Just(Step::Restart),
    ]
}

proptest! {
    /// Through lost answers, reconnects and restarts every record is stored exactly once, and gaps are exactly losses.
    #[test]
    fn every_record_is_stored_exactly_once(steps in proptest::collection::vec(any_step(), 1..200)) {
        let mut now = start();
        let (mut spool, mut streams) = (FlowSpool::new(0, []), 1);
        let mut stored = BTreeMap::<(u64, u64), FlowReport>::new();
        let mut through = BTreeMap::<u64, u64>::new();
        let (mut ended, mut gaps, mut lost) = (0_u64, 0, 0);
        let end = [Step::Ends, Step::Connect].into_iter();
        let drain = std::iter::repeat_n(Step::Exchange { stored: true, answered: true }, 300);
        for step in steps.into_iter().chain(end).chain(drain) {
            now += FLOW_ANSWER_WAIT;
            match step {
                Step::Ends => {
                    spool.push(flow_report(ended));
                    ended += 1;
                }
                Step::Lost(n) => {
                    spool.skip(n.into());
                    // Said by the record that follows in the same stream.
                    spool.push(flow_report(ended));
                    ended += 1;
                    lost += u64::from(n);
                }
                Step::Connect => spool.handle_connected(),
                Step::Disconnect => spool.handle_disconnected(),
                Step::Exchange { stored: arrives, answered } => {
                    let Some(batch) = spool.poll_batch(now) else { continue };
                    if !arrives {
                        continue;
                    }
                    let known = through.entry(batch.stream).or_default();
                    gaps += batch.first.saturating_sub(*known);
                    for (number, record) in (batch.first..).zip(batch.records.iter().cloned()) {
                        if number >= *known {
                            prop_assert!(stored.insert((batch.stream, number), record).is_none());
                        }
                    }
                    *known = batch.through().unwrap().max(*known);
                    if answered {
                        spool.handle_taken(FlowRecordsTaken { stream: batch.stream, through: *known });
                    }
                }
                Step::Restart => {
                    let left: Vec<Spooled> = spool.records().cloned().collect();
                    spool = FlowSpool::new(streams, left);
                    streams += 1;
                }
            }
        }
        let mut numbers: Vec<u64> = stored.values().map(|record| record.opened_at.0).collect();
        numbers.sort_unstable();
        prop_assert_eq!(numbers, (0..ended).collect::<Vec<_>>());
        prop_assert_eq!(gaps, lost);
        prop_assert!(spool.is_empty());
    }
}
