//! Acknowledged means stored, once; whose record it is and how many there may be is not the node's to say.

use ringfence_control::{FlowEnd, FlowTraffic};
use ringfence_model::{Revision, RuleId};

use super::*;

const NODE: NodeId = NodeId(u64::MAX - 1);
const NOW: UnixMillis = UnixMillis(1_800_000_000_000);

fn name(text: &str) -> Name {
    Name::parse(text).unwrap()
}

fn report(perimeter: &str, at: u64) -> FlowReport {
    FlowReport {
        perimeter: name(perimeter),
        peer: NodeId(2),
        direction: ringfence_policy::Direction::Egress,
        protocol: 6,
        src: "100.64.0.1".parse().unwrap(),
        dst: "100.64.0.2".parse().unwrap(),
        src_port: 40_000,
        dst_port: 5432,
        rule: RuleId(1),
        revision: Revision { term: 1, n: 3 },
        opened_at: UnixMillis(at),
        closed_at: UnixMillis(at),
        end: FlowEnd::Finished,
        to_responder: FlowTraffic::default(),
        to_initiator: FlowTraffic::default(),
    }
}

/// Records `first` up to `through` of stream 7 in the shop.
fn batch(first: u64, through: u64) -> FlowRecords {
    FlowRecords {
        stream: 7,
        first,
        records: (first..through).map(|at| report("shop", at)).collect(),
    }
}

fn store() -> (tempfile::TempDir, FlowStore) {
    let dir = tempfile::tempdir().unwrap();
    let mut store = FlowStore::open(&dir.path().join("flows.sqlite")).unwrap();
    store.note_member(NODE, vec![name("shop")]);
    (dir, store)
}

fn everything() -> FlowFilter {
    FlowFilter {
        limit: 1000,
        ..FlowFilter::default()
    }
}

/// When the stored flows ended, in order: which records they are.
fn stored(store: &FlowStore) -> Vec<u64> {
    let found = store.find(&everything(), NOW).unwrap();
    found.rows.iter().map(|row| row.report.closed_at.0).collect()
}

#[test]
fn a_batch_that_comes_again_is_acknowledged_again_and_stored_once() {
    let (_dir, mut store) = store();

    assert_eq!(store.take(NODE, &batch(0, 3), NOW).unwrap(), 3);
    assert_eq!(store.take(NODE, &batch(0, 3), NOW).unwrap(), 3);
    // Cut otherwise the second time: what is new in it is taken.
    assert_eq!(store.take(NODE, &batch(1, 5), NOW).unwrap(), 5);

    assert_eq!(stored(&store), [0, 1, 2, 3, 4]);
    assert_eq!(store.losses().unwrap(), []);
}

#[test]
fn what_was_acknowledged_is_there_after_a_restart_and_still_known() {
    let (dir, mut store) = store();
    store.take(NODE, &batch(0, 3), NOW).unwrap();
    drop(store);

    let mut store = FlowStore::open(&dir.path().join("flows.sqlite")).unwrap();

    assert_eq!(store.take(NODE, &batch(0, 4), NOW).unwrap(), 4);
    assert_eq!(stored(&store), [0, 1, 2, 3]);
    let mode = std::os::unix::fs::MetadataExt::mode(&std::fs::metadata(&store.path).unwrap());
    assert_eq!(mode & 0o777, 0o600);
}

#[test]
fn numbers_that_never_came_are_reported_as_lost() {
    let (_dir, mut store) = store();

    store.take(NODE, &batch(2, 3), NOW).unwrap();
    store.take(NODE, &batch(8, 9), NOW).unwrap();

    let loss = FlowLoss {
        node: NODE,
        lost: 7,
        refused: 0,
    };
    assert_eq!(store.losses().unwrap(), [loss]);
}

#[test]
fn a_node_tells_only_of_perimeters_it_is_or_was_in() {
    let (_dir, mut store) = store();
    let mut mixed = batch(0, 2);
    mixed.records.insert(1, report("vault", 9));

    assert_eq!(store.take(NODE, &mixed, NOW).unwrap(), 3);
    assert_eq!(store.take(NodeId(5), &batch(0, 1), NOW).unwrap(), 1);

    assert_eq!(stored(&store), [0, 1]);
    let refused: Vec<(NodeId, u64)> = store
        .losses()
        .unwrap()
        .iter()
        .map(|loss| (loss.node, loss.refused))
        .collect();
    assert_eq!(refused, [(NODE, 1), (NodeId(5), 1)]);
}

#[test]
fn the_same_numbers_of_two_nodes_and_of_two_runs_are_different_records() {
    let (_dir, mut store) = store();
    store.note_member(NodeId(5), vec![name("shop")]);
    let other_run = FlowRecords {
        stream: u64::MAX,
        ..batch(0, 1)
    };

    for (node, batch) in [(NODE, batch(0, 1)), (NodeId(5), batch(0, 1)), (NODE, other_run)] {
        store.take(node, &batch, NOW).unwrap();
    }

    assert_eq!(stored(&store).len(), 3);
}

#[test]
fn a_batch_over_its_bounds_is_not_acknowledged() {
    let (_dir, mut store) = store();
    let long = batch(0, FlowRecords::RECORDS_MAX as u64 + 1);
    let beyond = FlowRecords {
        first: u64::MAX,
        ..batch(0, 1)
    };

    for batch in [long, beyond] {
        assert!(matches!(
            store.take(NODE, &batch, NOW),
            Err(FlowTakeError::Bounds)
        ));
    }
    assert!(stored(&store).is_empty());
}

#[test]
fn a_node_that_floods_is_slowed_down() {
    let (_dir, mut store) = store();
    let size = FlowRecords::RECORDS_MAX as u64;

    for _ in 0..RECORDS_BURST / size {
        store.take(NODE, &batch(0, size), NOW).unwrap();
    }

    assert!(matches!(
        store.take(NODE, &batch(0, size), NOW),
        Err(FlowTakeError::TooFast)
    ));
    let later = UnixMillis(NOW.0 + 1000);
    assert!(store.take(NODE, &batch(0, size), later).is_ok());
}

#[test]
fn a_database_that_is_full_acknowledges_nothing() {
    let (_dir, mut store) = store();
    store.take(NODE, &batch(0, 1), NOW).unwrap();
    store.connection.pragma_update(None, "max_page_count", 1).unwrap();

    assert!(matches!(
        store.take(NODE, &batch(1, 200), NOW),
        Err(FlowTakeError::Database(_))
    ));

    store
        .connection
        .pragma_update(None, "max_page_count", 10_000)
        .unwrap();
    assert_eq!(store.take(NODE, &batch(1, 200), NOW).unwrap(), 200);
    assert_eq!(stored(&store).len(), 200);
}

#[test]
fn records_go_with_age_and_a_filter_finds_the_newest() {
    let (_dir, mut store) = store();
    store.take(NODE, &batch(0, 5), NOW).unwrap();

    let newest = FlowFilter {
        limit: 2,
        node: Some(NodeId(2)),
        perimeters: Some([name("shop")].into()),
        since: UnixMillis(1),
    };
    let found = store.find(&newest, NOW).unwrap();
    assert_eq!(
        found
            .rows
            .iter()
            .map(|row| row.report.closed_at.0)
            .collect::<Vec<_>>(),
        [3, 4]
    );
    assert!(found.truncated);
    let elsewhere = FlowFilter {
        perimeters: Some([name("vault")].into()),
        ..everything()
    };
    assert_eq!(store.find(&elsewhere, NOW).unwrap(), Found::default());

    let later = UnixMillis(NOW.0 + KEPT_FOR.as_millis() as u64 + 1);
    store.take(NODE, &batch(5, 6), later).unwrap();
    assert_eq!(store.find(&everything(), later).unwrap().rows.len(), 1);
    assert_eq!(store.held[&NODE], 1);
}

#[test]
fn a_flood_costs_only_those_who_flood() {
    let (_dir, mut store) = store();
    let quiet = NodeId(5);
    store.note_member(quiet, vec![name("shop")]);
    store.kept_max = 1_000;
    store.take(quiet, &batch(0, 100), NOW).unwrap();

    for n in 0..20 {
        store.take(NODE, &batch(n * 200, n * 200 + 200), NOW).unwrap();
    }

    assert_eq!(store.held[&quiet], 100);
    assert!(store.held.values().sum::<u64>() <= 1_000);
    let all = FlowFilter {
        limit: 10_000,
        ..FlowFilter::default()
    };
    let found = store.find(&all, NOW).unwrap().rows;
    assert_eq!(found.len() as u64, store.held.values().sum::<u64>());
    // The newest stay.
    assert_eq!(found.last().unwrap().report.closed_at.0, 3_999);
}

#[test]
fn a_time_that_has_not_come_is_now() {
    let (_dir, mut store) = store();
    let mut early = batch(0, 1);
    early.records[0].closed_at = UnixMillis(u64::MAX);

    store.take(NODE, &early, NOW).unwrap();

    assert_eq!(stored(&store), [NOW.0]);
}
