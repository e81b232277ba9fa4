//! WireGuard's own messages, crafted: counters, replays, order, indexes, handshakes of yesterday.

use std::time::Duration;

use ringfence_e2e::packet::udp;
use ringfence_lab::wait_until;

use crate::rogue::Rogue;
use crate::stage::{BRIEFLY, Mallory, RULES, SHOP, SOON, Shop, allow};

/// Where the receiver stops: 2^64 - 2^13 - 1 messages (whitepaper section 6.1).
const REJECT_AFTER_MESSAGES: u64 = u64::MAX - (1 << 13);

#[test]
fn no_counter_is_taken_twice_and_none_past_the_end_whatever_came_before() {
    let mut shop = Shop::open("counters", &RULES);
    let mut mallory = Mallory::join(&mut shop);
    let packet = udp(mallory.own.v4(999), Shop::at(&shop.db).v4(53), b"again");
    let deliver = |mallory: &Mallory, counter: u64| {
        let before = mallory.delivered();
        mallory.rogue.send_raw(&mallory.rogue.seal_at(counter, &packet));
        wait_until(Duration::from_millis(250), "a packet", || {
            mallory.delivered() > before
        })
        .is_ok()
    };

    // The ends of every window and word there is, up and then down again.
    let rising = [
        0,
        1,
        63,
        64,
        65,
        1023,
        1024,
        8191,
        8192,
        1 << 32,
        1 << 60,
        1 << 62,
        1 << 63,
        REJECT_AFTER_MESSAGES - 1,
    ];
    for counter in rising {
        assert!(deliver(&mallory, counter), "{counter} for the first time");
        assert!(!deliver(&mallory, counter), "{counter} again");
    }
    for counter in [
        REJECT_AFTER_MESSAGES,
        u64::MAX - 8192,
        u64::MAX - 1024,
        u64::MAX - 1,
        u64::MAX,
    ] {
        assert!(!deliver(&mallory, counter), "{counter} is past the end");
    }
    for counter in rising.into_iter().rev().chain([2, 100, 5000]) {
        assert!(!deliver(&mallory, counter), "{counter} after the last");
    }
    let drops = |reason| shop.db.drops(reason).unwrap();
    assert!(
        drops("counter_too_high") >= 5 && drops("replayed") >= rising.len() as u64,
        "{}",
        shop.db.status().unwrap()
    );

    // It hurt nobody but itself, and a new handshake makes it whole.
    assert!(mallory.rogue.shake(SOON).is_some());
    mallory.settle();
}

#[test]
fn messages_out_of_order_are_taken_once_each() {
    let mut shop = Shop::open("order", &RULES);
    let mallory = Mallory::join(&mut shop);
    let first = mallory.rogue.session().counter;
    // Each of a conversation of its own: of one they would go to the kernel as one packet.
    let packet = |port| udp(mallory.own.v6(port), Shop::at(&shop.db).v6(53), b"order");
    // Backwards within the window of 1,024, each twice.
    let sealed: Vec<Vec<u8>> = (first..first + 1000)
        .rev()
        .zip(1000..)
        .map(|(counter, port)| mallory.rogue.seal_at(counter, &packet(port)))
        .collect();
    let before = mallory.delivered();
    for chunk in sealed.chunks(100) {
        for datagram in chunk.iter().chain(chunk.iter().rev()) {
            mallory.rogue.send_raw(datagram);
        }
        std::thread::sleep(Duration::from_millis(10));
    }

    wait_until(SOON, "all of them", || mallory.delivered() >= before + 1000).unwrap();
    std::thread::sleep(Duration::from_millis(200));
    assert_eq!(mallory.delivered(), before + 1000);
    assert_eq!(shop.db.drops("replayed").unwrap(), 1000);
}

#[test]
fn a_replayed_or_reflected_handshake_is_met_with_silence_and_moves_no_session() {
    let mut shop = Shop::open("handshakes", &RULES);
    let mut mallory = Mallory::join(&mut shop);
    let old = mallory.rogue.initiation();
    mallory.rogue.send_raw(&old.datagram);
    let response = loop {
        let answer = mallory.rogue.hear(SOON).unwrap();
        if mallory.rogue.finish(&old, &answer).is_some() {
            break answer;
        }
    };
    assert!(mallory.rogue.shake(SOON).is_some());
    mallory.settle();
    let outside = shop.mesh.bare_host("outside").unwrap();
    let thief = Rogue::new(
        &outside,
        [7; 32],
        &shop.db.public_key(SHOP).unwrap(),
        shop.db.endpoint().unwrap(),
    );
    let endpoint = |shop: &Shop| shop.db.peer(SHOP, "mallory").unwrap().unwrap()["endpoint"].clone();
    let (was, data) = (endpoint(&shop), mallory.rogue.seal(b""));
    mallory.rogue.send_raw(&data);
    mallory.settle();

    // Somebody who saw all of it sends it from elsewhere; the node's own messages too.
    for datagram in [&old.datagram, &response, &data] {
        for _ in 0..5 {
            thief.send_raw(datagram);
        }
    }
    // The same with another receiver's index, and one with every index nearby.
    for index in 0..=255_u32 {
        let mut moved = data.clone();
        let other = mallory.rogue.session().index & !0xff | index;
        moved[4..8].copy_from_slice(&other.to_le_bytes());
        thief.send_raw(&moved);
    }

    assert_eq!(thief.hear(BRIEFLY), None);
    assert_eq!(
        endpoint(&shop),
        was,
        "what does not authenticate moves no endpoint"
    );
    mallory.settle();
    for reason in ["replayed_handshake", "unknown_index", "replayed"] {
        assert!(
            shop.db.drops(reason).unwrap() > 0,
            "{reason}: {}",
            shop.db.status().unwrap()
        );
    }
}

#[test]
fn a_session_is_worth_nothing_once_its_peer_is_removed_and_added_again() {
    let mut shop = Shop::open("again", &RULES);
    let mut mallory = Mallory::join(&mut shop);
    let packet = udp(mallory.own.v4(999), Shop::at(&shop.db).v4(53), b"old");
    let old = mallory.rogue.seal_at(5000, &packet);
    let key = ringfence_e2e::public_key_of(mallory.key);

    shop.mesh
        .cli(["peer", "remove", "mallory"])
        .unwrap()
        .text()
        .unwrap();
    shop.mesh.wait_enforced().unwrap();
    assert!(
        mallory.rogue.initiation_answered().is_none(),
        "a removed key gets silence"
    );
    let before = mallory.delivered();
    mallory.rogue.send_raw(&old);
    let add = [
        "peer",
        "add",
        "mallory",
        "--perimeter",
        SHOP,
        "--label",
        "role=device",
        "--public-key",
        &key,
    ];
    shop.mesh.cli(add).unwrap().text().unwrap();
    shop.mesh.wait_enforced().unwrap();
    shop.db.wait_peer(SHOP, "mallory").unwrap();
    mallory.rogue.send_raw(&old);
    std::thread::sleep(Duration::from_millis(300));

    assert_eq!(mallory.delivered(), before);
    assert!(
        mallory.rogue.shake(SOON).is_some(),
        "the key is good again, for a new session"
    );
}

#[test]
fn a_members_own_flood_of_flows_and_fragments_evicts_nobody_elses() {
    let rules = [
        allow("api", "db", "tcp/5432"),
        allow("device", "db", "udp/53"),
        allow("device", "db", "udp/1000-65535"),
    ];
    let mut shop = Shop::open("evict", &rules);
    let mut mallory = Mallory::join(&mut shop);
    let live = ringfence_e2e::Live::open(
        shop.api.host(),
        shop.db.host(),
        Shop::at(&shop.db).v4.into(),
        5432,
    )
    .unwrap();
    let db = Shop::at(&shop.db);

    for round in 0..20_u16 {
        for port in 0..1000_u16 {
            let packet = udp(mallory.own.v4(2000 + port), db.v4(1000 + round), b"x");
            mallory.rogue.send(&packet);
            let [first, _] = ringfence_e2e::packet::udp_fragments(
                mallory.own.v4(port + 1),
                db.v4(1000 + round),
                &[1; 64],
                32,
            );
            mallory.rogue.send(&first);
        }
        live.exchange(SOON).unwrap();
    }

    assert!(live.is_open());
    mallory.settle();
}
