//! A node that has very many peers: it knows each, and those that say nothing leave it alone.

use std::fs;
use std::thread;
use std::time::Duration;

use ringfence_e2e::{Allow, Crowd, Mesh, Node, perimeter};
use ringfence_lab::wait_until;

use crate::stage::{SOON, allow};

/// How often the threads that carry packets were switched away from.
fn wake_ups_of_packets(node: &Node) -> u64 {
    let tasks = fs::read_dir(format!("/proc/{}/task", node.running().pid())).unwrap();
    let statuses = tasks.map(|task| fs::read_to_string(task.unwrap().path().join("status")).unwrap());
    let packets = statuses.filter(|status| status.starts_with("Name:\tpackets"));
    let switches = packets.map(|status| {
        let lines = status
            .lines()
            .filter(|line| line.contains("voluntary_ctxt_switches:"));
        lines
            .map(|line| line.split_whitespace().last().unwrap().parse::<u64>().unwrap())
            .sum::<u64>()
    });
    switches.sum()
}

/// The peers that it lists, and how many of them it has a session with.
fn listed(node: &Node) -> (usize, usize) {
    let segment = node.segment(CROWD).unwrap();
    let peers = segment["peers"].as_array().unwrap();
    let in_session = peers.iter().filter(|peer| !peer["latest_handshake"].is_null());
    (peers.len(), in_session.count())
}

#[test]
fn a_thousand_idle_peers_are_all_known_and_wake_nobody_with_sessions_and_without() {
    let mut mesh = Mesh::start("crowd").unwrap();
    let hub = mesh.node("hub", &["role=hub"]).unwrap();
    let outside = mesh.bare_host("outside").unwrap();
    hub.host()
        .route("10.78.0.0/24", &outside.address().to_string())
        .unwrap();
    let policy = |rules: &[Allow]| {
        let groups = [("hub", "role=hub"), ("device", "role=device")];
        perimeter(CROWD, "10m", &groups, rules)
    };
    mesh.apply(&policy(&[])).unwrap();
    let mut crowd = Crowd::on(&outside, CROWD).unwrap();
    crowd.grow(&mesh, PEERS).unwrap();
    mesh.apply_and_wait(&policy(&[allow("device", "hub", "any")]))
        .unwrap();
    wait_until(SOON, "every peer to be listed", || {
        listed(&hub).0 == PEERS as usize
    })
    .unwrap();

    assert_idle(&hub);
    let sessions = crowd
        .connect(&hub.public_key(CROWD).unwrap(), hub.endpoint().unwrap())
        .unwrap();
    assert_eq!(sessions.len(), PEERS as usize);
    wait_until(SOON, "every session to be listed", || {
        listed(&hub) == (PEERS as usize, PEERS as usize)
    })
    .unwrap();
    assert_idle(&hub);

    let shown = hub.local(["status"]).unwrap().text().unwrap();
    assert!(
        shown.contains("\n  peers: 1000, 1000 with a session\n"),
        "{shown}"
    );
    assert_eq!(shown.matches("\n  peer: ").count(), 50);
    assert!(shown.contains("and 950 peers more"), "{shown}");
    let shown = hub.local(["status", "--all"]).unwrap().text().unwrap();
    assert_eq!(shown.matches("\n  peer: ").count(), PEERS as usize);
    let shown = hub.host().command("wg").arg("show").text().unwrap();
    assert_eq!(shown.matches("peer: ").count(), PEERS as usize);
}

/// The controller's word comes every fifteen seconds; nothing else is to wake the thread that carries packets.
fn assert_idle(node: &Node) {
    thread::sleep(SETTLING);
    let before = wake_ups_of_packets(node);
    thread::sleep(WATCHED);
    let count = wake_ups_of_packets(node) - before;
    assert!(count <= 5, "{count} wake-ups in {WATCHED:?}");
}

const CROWD: &str = "crowd";
const PEERS: u32 = 1_000;
/// Handshakes have an end: what was to be confirmed is.
const SETTLING: Duration = Duration::from_secs(2);
const WATCHED: Duration = Duration::from_secs(10);
