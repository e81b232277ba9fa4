//! The controller's log and snapshots as they are read back from disk: a controller comes up, or says what is wrong.

use ringfence_controlplane::{
    Actor, ChainHash, ChainHead, Change, Command, Controller, Snapshot, audit_entry, verify_chain,
};

use crate::fixture::WALL;
use crate::rest::founded;
use crate::script::Script;

pub(crate) fn run(input: &[u8]) {
    let mut script = Script::new(input);
    let how = script.byte();
    let loaded = if how & 1 == 0 {
        entries(script.rest(), how)
    } else {
        let Ok(snapshot) = Snapshot::from_bytes(script.rest()) else {
            return;
        };
        Controller::load(Some(snapshot), []).ok()
    };
    if let Some(controller) = loaded {
        look_at(&controller);
        let bytes = controller.snapshot().to_bytes();
        let again = Snapshot::from_bytes(&bytes).expect("what is written can be read");
        assert!(again == controller.snapshot());
    }
}

fn entries(text: &[u8], how: u8) -> Option<Controller> {
    let lines = text.split(|byte| *byte == b'\n').take(ENTRIES_MAX);
    let mut log: Vec<Change> = lines
        .filter_map(|line| serde_json::from_slice(line).ok())
        .collect();
    if how & 2 != 0 {
        // Whoever can write the log can write its hashes.
        let mut previous = ChainHash::GENESIS;
        for change in &mut log {
            change.previous_hash = previous;
            change.hash = change.content_hash();
            previous = change.hash;
        }
    }
    for change in &log {
        let _ = audit_entry(change);
    }
    let verified = verify_chain(&log);
    let loaded = Controller::load(None, &log).ok()?;
    let head: ChainHead = verified.expect("a chain that is broken is not loaded");
    assert_eq!(loaded.chain_head(), head);
    Some(loaded)
}

/// What is forged may be what no controller makes; looking at it must not bring the controller down.
fn look_at(controller: &Controller) {
    let _ = (controller.node_views(), controller.device_views());
    let _ = (controller.token_views(WALL), controller.perimeter_summaries());
    for perimeter in controller.perimeter_names() {
        let _ = controller.perimeter_detail(perimeter);
    }
    for device in controller.devices() {
        let _ = controller.device_config(&device.name);
    }
    for node in controller.nodes() {
        let _ = controller.netmap(node.id, WALL);
    }
    let _ = controller.propose(&Actor::system("clock", "r"), Command::Tick, WALL, [1; 32]);
}

pub(crate) fn seeds() -> Vec<(&'static str, Vec<u8>)> {
    let (controller, log, _) = founded();
    let lines: Vec<Vec<u8>> = log
        .iter()
        .map(|change| serde_json::to_vec(change).expect("plain data always encodes"))
        .collect();
    let lines = lines.join(&b'\n');
    vec![
        ("whole", [&[0][..], &lines].concat()),
        ("rehashed", [&[2][..], &lines].concat()),
        ("snapshot", [vec![1], controller.snapshot().to_bytes()].concat()),
    ]
}

const ENTRIES_MAX: usize = 32;
