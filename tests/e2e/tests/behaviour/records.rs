//! Flow records: what was acknowledged is there, once, whoever was killed in between.

use std::time::Duration;
use std::{collections::BTreeSet, thread};

use ringfence_e2e::Mesh;
use ringfence_lab::wait_until;
use serde_json::Value;

use crate::stage::{API_TO_DB, SHOP, Shop};

#[test]
fn conversations_that_ended_are_told_once_through_crashes_of_node_and_controller() {
    let mut shop = Shop::open("records", &[API_TO_DB]);

    // One that ends in good order, with all there is to know of it from both of its ends.
    let live = shop.live();
    live.exchange(TOLD).unwrap();
    drop(live);
    wait_for(&shop.mesh, 2);
    let told = flows(&shop.mesh);
    for (node, peer, direction) in [("api", "db", "egress"), ("db", "api", "ingress")] {
        let flow = told.iter().find(|flow| flow["node"] == node).unwrap();
        let facts = [
            ("peer", peer),
            ("perimeter", SHOP),
            ("direction", direction),
            ("protocol", "tcp"),
            ("end", "finished"),
        ];
        for (key, value) in facts {
            assert_eq!(flow[key], value, "{flow}");
        }
        assert_eq!(flow["rule"], 1, "{flow}");
        assert!(flow["dst"].as_str().unwrap().ends_with(":5432"), "{flow}");
        for way in ["to_responder", "to_initiator"] {
            // A handshake, two words, a close: headers and payload of each packet.
            assert!(flow[way]["packets"].as_u64().unwrap() >= 4, "{flow}");
            assert!(flow[way]["bytes"].as_u64().unwrap() > 160, "{flow}");
        }
        assert!(flow["opened_ms"].as_u64() <= flow["closed_ms"].as_u64(), "{flow}");
    }

    // These end while nobody takes records; one of the two who know of them dies before it can tell.
    let lives: Vec<_> = (0..5).map(|_| shop.live()).collect();
    shop.mesh.kill_controller();
    let before = spooled_bytes(&shop);
    drop(lives);
    // More than the acknowledgement of the first, which may still be on its way there.
    wait_until(TOLD, "records on the node's disk", || {
        spooled_bytes(&shop) > before + 1_000
    })
    .unwrap();
    // All five end within a second of each other, and are on disk a second later.
    thread::sleep(Duration::from_secs(4));
    shop.api.kill();
    shop.api.launch().unwrap();
    shop.mesh.start_controller().unwrap();
    wait_for(&shop.mesh, 12);

    // What the controller has acknowledged it has after its own death, and nobody tells it again.
    shop.mesh.kill_controller();
    shop.db.kill();
    shop.db.launch().unwrap();
    shop.mesh.start_controller().unwrap();
    shop.db.wait_connected().unwrap();
    shop.api.wait_connected().unwrap();
    thread::sleep(Duration::from_secs(3));
    let told = flows(&shop.mesh);
    let names: BTreeSet<String> = told
        .iter()
        .map(|flow| format!("{} {}", flow["node"], flow["src"]))
        .collect();
    assert_eq!((told.len(), names.len()), (12, 12), "each once: {told:#?}");
    let missing = shop.mesh.json(["flows"]).unwrap()["missing"].clone();
    assert_eq!(missing, serde_json::json!([]));
}

#[test]
fn what_a_removal_cuts_is_told_by_who_was_a_member_until_then() {
    let shop = Shop::open("cutrecords", &[API_TO_DB]);
    let live = shop.live();

    shop.mesh.cli(["perimeter", "rm", SHOP]).unwrap().text().unwrap();

    live.wait_cut(TOLD).unwrap();
    wait_for(&shop.mesh, 2);
    let told = flows(&shop.mesh);
    let ends: BTreeSet<&str> = told.iter().filter_map(|flow| flow["end"].as_str()).collect();
    assert!(
        ends.is_subset(&BTreeSet::from(["peer_gone", "revoked"])),
        "{told:#?}"
    );
    let asked = |args: &[&str]| {
        let answer = shop.mesh.json(args).unwrap();
        answer["flows"].as_array().unwrap().len()
    };
    assert_eq!(asked(&["flows", "--perimeter", SHOP, "--node", "api"]), 2);
    assert_eq!(asked(&["flows", "--node", "web"]), 0);
    assert_eq!(asked(&["flows", "--limit", "1"]), 1);
    assert_eq!(asked(&["flows", "--perimeter", "nowhere"]), 0);
}

fn flows(mesh: &Mesh) -> Vec<Value> {
    let answer = mesh.json(["flows", "--since", "1h"]).unwrap();
    answer["flows"].as_array().unwrap().clone()
}

fn wait_for(mesh: &Mesh, count: usize) {
    let waited = wait_until(TOLD, "the flow records", || {
        mesh.json(["flows"]).is_ok_and(|answer| {
            answer["flows"]
                .as_array()
                .is_some_and(|flows| flows.len() >= count)
        })
    });
    waited.unwrap_or_else(|error| panic!("{error}: {:#?}", flows(mesh)));
    assert_eq!(flows(mesh).len(), count);
}

/// What the application's node has on its disk of its records.
fn spooled_bytes(shop: &Shop) -> u64 {
    let files = std::fs::read_dir(shop.api.state_dir().join("flows"));
    let sizes = files
        .into_iter()
        .flatten()
        .flatten()
        .filter_map(|file| file.metadata().ok());
    sizes.map(|facts| facts.len()).sum()
}

/// A closed connection is remembered for half a minute, in case its last packets were lost.
const TOLD: Duration = Duration::from_mins(1);
