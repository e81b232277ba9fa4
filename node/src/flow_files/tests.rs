//! What was appended is there for the next process, and goes when nothing of it is owed.

use std::os::unix::fs::MetadataExt as _;

use ringfence_control::FlowRecordsTaken;

use super::*;

fn entry(through: u64) -> FlowEntry {
    FlowEntry::Taken(FlowRecordsTaken { stream: 7, through })
}

fn bytes(through: u64) -> Vec<u8> {
    let mut bytes = Vec::new();
    entry(through).write(&mut bytes).unwrap();
    bytes
}

/// The files of a state directory, as a process that starts sees them.
fn started(state: &Path) -> (FlowFiles, Vec<FlowEntry>) {
    let mut files = FlowFiles::new(state);
    let entries = files.read_all();
    files.adopt(0);
    (files, entries)
}

#[test]
fn what_was_appended_is_there_for_the_next_process_and_only_for_its_owner() {
    let state = tempfile::tempdir().unwrap();
    let (mut files, none) = started(state.path());
    assert_eq!(none, []);

    files.append(&bytes(1), 1).unwrap();
    files.append(&bytes(2), 2).unwrap();
    drop(files);

    let (mut files, entries) = started(state.path());
    assert_eq!(entries, [entry(1), entry(2)]);
    files.append(&bytes(3), 3).unwrap();
    assert_eq!(
        files.numbers(),
        [0, 1],
        "a file of an earlier process is not appended to"
    );
    assert_eq!(started(state.path()).1, [entry(1), entry(2), entry(3)]);
    for number in files.numbers() {
        assert_eq!(fs::metadata(files.path(number)).unwrap().mode() & 0o777, 0o600);
    }
}

#[test]
fn a_torn_tail_hides_nothing_that_comes_after_it() {
    let state = tempfile::tempdir().unwrap();
    let (mut files, _) = started(state.path());
    files.append(&bytes(1), 1).unwrap();
    let torn = bytes(2);
    files.append(&torn[..torn.len() - 3], 2).unwrap();
    drop(files);

    let (mut files, entries) = started(state.path());
    assert_eq!(entries, [entry(1)]);
    files.append(&bytes(3), 3).unwrap();

    assert_eq!(started(state.path()).1, [entry(1), entry(3)]);
}

#[test]
fn a_file_goes_once_nothing_in_it_is_owed() {
    let state = tempfile::tempdir().unwrap();
    let (mut files, _) = started(state.path());
    let mut large = Vec::new();
    while (large.len() as u64) < FILE_BYTES_MAX {
        large.extend(bytes(1));
    }
    files.append(&large, 5).unwrap();
    files.append(&bytes(2), 9).unwrap();

    files.remove_before(4);
    assert_eq!(files.numbers(), [0, 1]);
    files.remove_before(9);
    assert_eq!(files.numbers(), [1], "a small one is kept for what comes next");

    files.remove_all();
    assert!(files.numbers().is_empty());
    files.append(&bytes(3), 10).unwrap();
    assert_eq!(files.numbers().len(), 1);
}
