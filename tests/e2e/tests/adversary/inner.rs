//! What a device in good standing that turned bad puts into its tunnel: nothing but what policy names comes out.

use std::time::Duration;

use ringfence_e2e::Live;
use ringfence_lab::Program;
use serde_json::Value;

use crate::stage::{Mallory, RULES, SHOP, SOON, Shop};

#[test]
fn inner_packets_of_every_protocol_port_and_flag_that_policy_does_not_name_are_dropped() {
    let mut shop = Shop::open("inner", &RULES);
    let mut mallory = Mallory::join(&mut shop);
    // Whatever came through would find somebody.
    let _open: Vec<_> = [22, 80, 443]
        .iter()
        .flat_map(|port| Shop::at(&shop.db).both(*port))
        .map(|at| shop.db.host().serve(at).unwrap())
        .collect();

    attack(
        &shop,
        &mut mallory,
        &["protocols", "ports", "flags", "lengths", "options", "extensions"],
    );

    for reason in [
        "not_allowed",
        "malformed_extension_header",
        "malformed_ipv4_option",
        "not_ip",
        "malformed_tcp_flags",
        "unsolicited_reply",
    ] {
        assert!(
            shop.db.drops(reason).unwrap() > 0,
            "{reason}: {}",
            shop.db.status().unwrap()
        );
    }
}

#[test]
fn inner_sources_and_destinations_that_are_not_the_pairs_own_are_dropped() {
    let mut shop = Shop::open("sources", &RULES);
    let mut mallory = Mallory::join(&mut shop);

    attack(&shop, &mut mallory, &["sources", "destinations"]);

    for reason in ["source_not_peers", "destination_not_ours"] {
        assert!(
            shop.db.drops(reason).unwrap() > 0,
            "{reason}: {}",
            shop.db.status().unwrap()
        );
    }
}

#[test]
fn icmp_errors_with_forged_quotes_reach_nobody_and_end_no_connection() {
    let mut shop = Shop::open("errors", &RULES);
    let mut mallory = Mallory::join(&mut shop);
    let live = Live::open(
        shop.api.host(),
        shop.db.host(),
        Shop::at(&shop.db).v4.into(),
        5432,
    )
    .unwrap();
    mallory.settle();

    attack(&shop, &mut mallory, &["errors"]);

    live.exchange(SOON).unwrap();
    assert!(live.is_open());
    // No path MTU was learnt from a forged "too big", and no route from a redirect.
    let cached = shop
        .db
        .host()
        .command("ip")
        .args(["route", "show", "cache"])
        .text()
        .unwrap();
    assert!(
        !cached.contains("mtu") && !cached.contains("redirect"),
        "{cached}"
    );
}

#[test]
fn tiny_overlapping_and_late_fragments_are_dropped_with_their_packet() {
    let mut shop = Shop::open("fragments", &RULES);
    let mut mallory = Mallory::join(&mut shop);

    attack(&shop, &mut mallory, &["fragments"]);

    for reason in [
        "malformed_tiny_fragment",
        "malformed_fragment_bounds",
        "fragment_overlap",
        "fragment_without_first",
    ] {
        assert!(
            shop.db.drops(reason).unwrap() > 0,
            "{reason}: {}",
            shop.db.status().unwrap()
        );
    }
    // A second fragment whose first came while a rule still allowed it comes too late.
    let cases = scapy(&shop, &mallory);
    let honest = cases.iter().find(|case| case["name"] == "v4 honest").unwrap();
    let pieces: Vec<Vec<u8>> = packets(honest)
        .into_iter()
        .map(|mut piece| {
            renumber(&mut piece);
            piece
        })
        .collect();
    assert_eq!(mallory.try_packets([&pieces[0][..]]), 1);
    let without = [RULES[0], RULES[2]];
    shop.mesh.apply_and_wait(&crate::stage::policy(&without)).unwrap();
    let before = mallory.delivered();
    mallory.rogue.send(&pieces[1]);
    std::thread::sleep(Duration::from_millis(300));
    assert_eq!(mallory.delivered(), before, "{}", shop.db.status().unwrap());
    assert!(
        shop.db.peer(SHOP, "mallory").unwrap().is_some(),
        "another rule keeps the device a peer"
    );
}

/// Sends each case of these groups, and sees that exactly so many of its packets come out as may.
fn attack(shop: &Shop, mallory: &mut Mallory, groups: &[&str]) {
    let mut wrong = Vec::new();
    let mut tried = 0;
    for case in scapy(shop, mallory)
        .iter()
        .filter(|case| groups.contains(&case["group"].as_str().unwrap()))
    {
        let packets = packets(case);
        let passed = mallory.try_packets(packets.iter().map(Vec::as_slice));
        tried += 1;
        if passed != case["passes"].as_u64().unwrap() {
            wrong.push(format!(
                "{}: {passed} of {} got through, not {}",
                case["name"],
                packets.len(),
                case["passes"]
            ));
        }
    }
    assert!(
        wrong.is_empty(),
        "{}\n{}",
        wrong.join("\n"),
        shop.db.status().unwrap()
    );
    assert!(tried > 20, "{tried} cases");
}

fn packets(case: &Value) -> Vec<Vec<u8>> {
    let packets = case["packets"].as_array().unwrap().iter();
    packets
        .map(|packet| hex::decode(packet.as_str().unwrap()).unwrap())
        .collect()
}

/// Another identification, so that an IPv4 packet is not one that was seen before.
fn renumber(packet: &mut [u8]) {
    packet[4] = 0x7f;
}

/// What `packets.py` makes of these addresses.
fn scapy(shop: &Shop, mallory: &Mallory) -> Vec<Value> {
    let (db, api) = (Shop::at(&shop.db), Shop::at(&shop.api));
    let addresses = [mallory.own, db, api].map(|at| [at.v4.to_string(), at.v6.to_string()]);
    let python: Program = mallory
        .host
        .command("/usr/bin/python3")
        .arg("-")
        .args(addresses.as_flattened());
    let lines = python.input(include_str!("packets.py")).text().unwrap();
    lines
        .lines()
        .map(|line| serde_json::from_str(line).unwrap())
        .collect()
}
