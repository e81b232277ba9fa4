//! What was written whole reads back, however the file was cut or damaged.

use proptest::prelude::*;

use super::*;
use crate::flow_spool::tests::flow_report;

fn owed(number: u64) -> FlowEntry {
    FlowEntry::Owed(Spooled {
        stream: 7,
        number,
        report: flow_report(number),
    })
}

fn taken(through: u64) -> FlowEntry {
    FlowEntry::Taken(FlowRecordsTaken { stream: 7, through })
}

fn written(entries: &[FlowEntry]) -> Vec<u8> {
    let mut bytes = Vec::new();
    for entry in entries {
        entry.write(&mut bytes).unwrap();
    }
    bytes
}

#[test]
fn what_is_owed_is_what_was_not_taken() {
    let entries = [owed(0), owed(1), taken(1), owed(2)];

    let read = FlowEntry::read(&written(&entries));

    assert_eq!(read, entries);
    let numbers: Vec<u64> = FlowEntry::owed(read).iter().map(|record| record.number).collect();
    assert_eq!(numbers, [1, 2]);
}

#[test]
fn a_torn_tail_costs_only_what_was_torn() {
    let entries = [owed(0), owed(1)];
    let bytes = written(&entries);
    let first = written(&entries[..1]).len();

    for cut in first..bytes.len() {
        assert_eq!(FlowEntry::read(&bytes[..cut]), &entries[..1], "cut at {cut}");
    }
}

#[test]
fn a_damaged_entry_is_not_taken_for_a_record() {
    let bytes = written(&[owed(0), owed(1)]);

    for place in 0..bytes.len() {
        let mut damaged = bytes.clone();
        damaged[place] ^= 0x20;
        let read = FlowEntry::read(&damaged);
        assert!(
            read.len() < 2 && read.iter().all(|entry| *entry == owed(0)),
            "at {place}"
        );
    }
}

proptest! {
    #[test]
    fn no_bytes_make_the_reader_panic(bytes in proptest::collection::vec(any::<u8>(), 0..600)) {
        let _ = FlowEntry::owed(FlowEntry::read(&bytes));
    }
}
