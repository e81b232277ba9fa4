//! Sessions between peers: who may start them, what they carry, how they end.

mod pair;

use std::time::Duration;

use pair::{Arrival, End, Pair, Stock, key, packet, start};
use ringfence_wg::{
    AddPeerError, Destination, MessageKind, SEGMENTS_MAX, SealError, TooManySegments, WgDrop, WgEvent,
    WireGuard,
};

#[test]
fn packets_cross_both_ways_once_a_handshake_was_made() {
    let mut pair = Pair::new();
    let mut out = Vec::new();
    assert_eq!(
        pair.a.wg.seal(pair.a.slot, &packet(84), &mut out, pair.now),
        Err(SealError::NoSession)
    );
    assert!(out.is_empty());

    pair.a.wg.start_handshake(pair.a.slot, pair.now);
    pair.drive();

    assert_eq!(pair.a_to_b(&packet(84)), Ok(Arrival::Packet(packet(84))));
    assert_eq!(pair.b_to_a(&packet(1280)), Ok(Arrival::Packet(packet(1280))));
}

#[test]
fn both_ends_tell_of_the_session_and_the_responder_only_once_it_is_confirmed() {
    let mut pair = Pair::new();
    let initiation = pair.a.initiation(pair.now);

    pair.b.receive(pair.a.address, &initiation, pair.now).unwrap();
    assert_eq!(pair.b.events(), []);
    assert!(!pair.b.wg.has_session(pair.b.slot));
    pair.drive();

    assert_eq!(
        pair.a.events(),
        [WgEvent::SessionEstablished { slot: pair.a.slot }]
    );
    assert_eq!(
        pair.b.events(),
        [WgEvent::SessionEstablished { slot: pair.b.slot }]
    );
}

#[test]
fn handshakes_started_by_both_at_once_end_in_sessions_both_ways() {
    let mut pair = Pair::new();
    pair.a.wg.start_handshake(pair.a.slot, pair.now);
    pair.b.wg.start_handshake(pair.b.slot, pair.now);

    pair.drive();

    for _ in 0..3 {
        assert_eq!(pair.a_to_b(&packet(84)), Ok(Arrival::Packet(packet(84))));
        assert_eq!(pair.b_to_a(&packet(84)), Ok(Arrival::Packet(packet(84))));
    }
}

#[test]
fn a_stock_peer_is_served_in_both_roles() {
    let now = start();
    for stock_starts in [true, false] {
        let mut node = Pair::new().a;
        let mut stock = Stock::new(&key(2), key(1).public_key());
        let address = "203.0.113.5:9".parse().unwrap();

        if stock_starts {
            node.receive(address, &stock.initiation(), now).unwrap();
            let response = node.transmits().remove(0);
            assert_eq!(response.to, Destination::Address(address));
            let (_, keepalive) = stock.receive(&response.datagram);
            node.receive(address, &keepalive.unwrap(), now).unwrap();
        } else {
            let (_, response) = stock.receive(&node.initiation(now));
            node.receive(address, &response.unwrap(), now).unwrap();
            stock.receive(&node.transmits().remove(0).datagram);
        }

        // The stock peer trims our padding by the packet's own length, and we do without its.
        assert_eq!(stock.receive(&node.seal(&packet(85), now)).0, Some(packet(85)));
        assert_eq!(
            node.receive(address, &stock.seal(&packet(85)), now),
            Ok(Arrival::Packet(packet(85)))
        );
    }
}

#[test]
fn lengths_on_the_wire_are_multiples_of_sixteen() {
    let mut pair = Pair::connected();

    let lengths: Vec<usize> = [20, 21, 32, 33, 48]
        .map(|len| pair.a.seal(&packet(len), pair.now).len())
        .into();

    assert_eq!(lengths, [32, 32, 32, 48, 48].map(|padded| padded + 32));
}

#[test]
fn what_does_not_fit_into_a_datagram_is_not_sealed() {
    let mut pair = Pair::connected();
    let mut out = Vec::new();

    let mut seal = |len| pair.a.wg.seal(pair.a.slot, &vec![0x45; len], &mut out, pair.now);

    assert_eq!(seal(65_472), Ok(()));
    assert_eq!(seal(65_473), Err(SealError::TooLong));
}

#[test]
fn handshakes_are_started_once_in_five_seconds_at_most() {
    let mut pair = Pair::connected();

    let started: usize = (0..100)
        .map(|_| {
            pair.now += Duration::from_millis(100);
            pair.a.wg.start_handshake(pair.a.slot, pair.now);
            pair.drive()
                .iter()
                .filter(|(end, arrival)| *end == End::B && *arrival == Arrival::Handshake)
                .count()
        })
        .sum();

    assert_eq!(started, 2);
}

#[test]
fn a_rekey_loses_nothing_that_is_on_its_way() {
    let mut pair = Pair::connected();
    pair.now += Duration::from_secs(5);
    let early = pair.a.seal(&packet(100), pair.now);
    let back = pair.b.seal(&packet(101), pair.now);

    pair.a.wg.start_handshake(pair.a.slot, pair.now);
    pair.drive();

    assert_eq!(pair.a_to_b(&packet(102)), Ok(Arrival::Packet(packet(102))));
    assert_eq!(
        pair.b.receive(pair.a.address, &early, pair.now),
        Ok(Arrival::Packet(packet(100)))
    );
    assert_eq!(
        pair.a.receive(pair.b.address, &back, pair.now),
        Ok(Arrival::Packet(packet(101)))
    );
    assert_eq!(pair.b_to_a(&packet(103)), Ok(Arrival::Packet(packet(103))));
}

#[test]
fn both_ends_tell_of_a_rekey() {
    let mut pair = Pair::connected();
    pair.now += Duration::from_secs(5);

    pair.a.wg.start_handshake(pair.a.slot, pair.now);
    pair.drive();

    assert_eq!(
        pair.a.events(),
        [WgEvent::SessionEstablished { slot: pair.a.slot }]
    );
    assert_eq!(
        pair.b.events(),
        [WgEvent::SessionEstablished { slot: pair.b.slot }]
    );
    let stats = pair.b.wg.stats(pair.b.slot, pair.now).unwrap();
    assert_eq!(stats.latest_handshake, Some(Duration::ZERO));
}

#[test]
fn a_removed_peer_loses_its_session_and_gets_silence() {
    let mut pair = Pair::connected();
    let late = pair.a.seal(&packet(84), pair.now);
    pair.b
        .wg
        .start_handshake(pair.b.slot, pair.now + Duration::from_secs(5));

    pair.b.wg.remove_peer(pair.b.slot, pair.now);

    let mut out = Vec::new();
    assert_eq!(
        pair.b.wg.seal(pair.b.slot, &packet(84), &mut out, pair.now),
        Err(SealError::NoPeer)
    );
    assert_eq!(
        pair.b.receive(pair.a.address, &late, pair.now),
        Err(WgDrop::UnknownIndex)
    );
    let initiation = pair.a.initiation(pair.now + Duration::from_secs(6));
    assert_eq!(
        pair.b.receive(pair.a.address, &initiation, pair.now),
        Err(WgDrop::UnknownKey)
    );
    assert_eq!(pair.b.transmits(), []);
    assert_eq!(pair.b.events(), []);
    assert_eq!(pair.b.wg.stats(pair.b.slot, pair.now), None);
}

#[test]
fn a_removed_segment_answers_nobody() {
    let mut pair = Pair::connected();
    let late = pair.a.seal(&packet(84), pair.now);

    pair.b.wg.remove_segment(pair.b.segment, pair.now);

    assert_eq!(
        pair.b.receive(pair.a.address, &late, pair.now),
        Err(WgDrop::UnknownIndex)
    );
    let initiation = pair.a.initiation(pair.now + Duration::from_secs(6));
    assert_eq!(
        pair.b.receive(pair.a.address, &initiation, pair.now),
        Err(WgDrop::NoSegment)
    );
    assert_eq!(pair.b.transmits(), []);
    assert_eq!(pair.b.wg.segment_of(pair.b.slot), None);
}

#[test]
fn a_peer_that_comes_back_gets_a_new_slot_and_a_new_session() {
    let mut pair = Pair::connected();
    let old = pair.b.slot;
    pair.b.wg.remove_peer(old, pair.now);

    pair.b.slot = pair
        .b
        .wg
        .add_peer(pair.b.segment, key(1).public_key(), None, pair.now)
        .unwrap();
    pair.now += Duration::from_secs(6);
    pair.a.wg.start_handshake(pair.a.slot, pair.now);
    pair.drive();

    assert_ne!(pair.b.slot, old);
    assert_eq!(pair.b_to_a(&packet(84)), Ok(Arrival::Packet(packet(84))));
}

#[test]
fn a_peer_with_keepalive_reaches_out_by_itself_and_breaks_every_silence() {
    let mut pair = Pair::new();
    pair.a.wg.remove_peer(pair.a.slot, pair.now);
    let interval = Duration::from_secs(25);
    pair.a.slot = pair
        .a
        .wg
        .add_peer(pair.a.segment, key(2).public_key(), Some(interval), pair.now)
        .unwrap();

    pair.advance(Duration::from_secs(1));
    assert!(pair.a.wg.has_session(pair.a.slot));

    assert_eq!(pair.advance(Duration::from_secs(23)), []);
    assert_eq!(
        pair.advance(Duration::from_secs(2)),
        [(End::B, Arrival::Keepalive)]
    );
}

#[test]
fn keepalives_are_not_sent_while_traffic_flows_nor_answered() {
    let mut pair = Pair::new();
    pair.a.wg.remove_peer(pair.a.slot, pair.now);
    let interval = Duration::from_secs(5);
    pair.a.slot = pair
        .a
        .wg
        .add_peer(pair.a.segment, key(2).public_key(), Some(interval), pair.now)
        .unwrap();
    pair.advance(Duration::from_secs(1));

    for _ in 0..10 {
        pair.a_to_b(&packet(84)).unwrap();
        assert_eq!(pair.advance(Duration::from_secs(4)), []);
    }
    assert_eq!(
        pair.advance(Duration::from_secs(2)),
        [(End::B, Arrival::Keepalive)]
    );
}

#[test]
fn a_peer_needs_no_timer_until_something_is_due() {
    let pair = Pair::new();
    assert_eq!(pair.a.wg.poll_timeout(), None);

    // Nothing was sent, so the next thing is that the keys end.
    let connected = Pair::connected();
    let due = connected.a.wg.poll_timeout().unwrap() - connected.now;
    assert!(due > Duration::from_mins(3) && due < Duration::from_secs(181));

    // An answer is owed to what arrives.
    let mut pair = Pair::connected();
    pair.now += Duration::from_millis(300);
    pair.a_to_b(&packet(64)).unwrap();
    let due = pair.b.wg.poll_timeout().unwrap() - pair.now;
    assert!(due < Duration::from_millis(10_500));
}

#[test]
fn a_peer_seems_unreached_after_fifteen_seconds_until_it_shows_that_it_gets_packets() {
    let mut pair = Pair::connected();
    pair.a_to_b(&packet(64)).unwrap();
    pair.now += Duration::from_mins(1);
    assert!(!unreached(&pair), "so soon after the handshake no answer is owed");

    pair.a_to_b(&packet(64)).unwrap();
    pair.now += Duration::from_secs(14);
    pair.a_to_b(&packet(64)).unwrap();
    assert!(!unreached(&pair));
    pair.now += Duration::from_secs(1);
    assert!(unreached(&pair));

    pair.b_to_a(&packet(64)).unwrap();
    assert!(!unreached(&pair));
}

#[test]
fn a_peer_seems_unreached_when_it_initiates_again() {
    let mut pair = Pair::connected();
    for lost in [false, true] {
        pair.now += Duration::from_secs(6);
        // It would repeat itself as this one does, if its tunnel knew of the time that passes here.
        pair.b = Pair::new().b;
        let initiation = pair.b.initiation(pair.now);
        pair.a.receive(pair.b.address, &initiation, pair.now).unwrap();
        assert_eq!(unreached(&pair), lost);
        if !lost {
            while pair.a.wg.poll_transmit().is_some() {}
        }
    }

    pair.drive();
    assert!(!unreached(&pair), "the second response came through");
}

fn unreached(pair: &Pair) -> bool {
    pair.a.wg.seems_unreached(pair.a.slot, pair.now)
}

#[test]
fn status_counts_both_ways_and_remembers_the_handshake() {
    let mut pair = Pair::connected();
    let before = pair.b.wg.stats(pair.b.slot, pair.now).unwrap();

    pair.a_to_b(&packet(96)).unwrap();
    let after = pair
        .b
        .wg
        .stats(pair.b.slot, pair.now + Duration::from_secs(3))
        .unwrap();

    assert_eq!(after.rx_bytes - before.rx_bytes, 128);
    assert_eq!(after.latest_handshake, Some(Duration::from_secs(3)));
    assert!(after.tx_bytes >= 92);
}

#[test]
fn two_segments_on_one_socket_stay_apart() {
    let now = start();
    let mut hub = WireGuard::new([9; 32]);
    let [red, blue] = [10, 11].map(|n| hub.add_segment(&key(n)).unwrap());
    let red_slot = hub.add_peer(red, key(1).public_key(), None, now).unwrap();
    let blue_slot = hub.add_peer(blue, key(2).public_key(), None, now).unwrap();
    let address = "203.0.113.5:9".parse().unwrap();

    // A member of red knocks at red, then at blue.
    let mut buf = [0; 256];
    let mut member = Stock::new(&key(1), key(10).public_key());
    let mut intruder = Stock::new(&key(1), key(11).public_key());
    let opened = hub.open(address, &member.initiation(), &mut buf, now).unwrap();
    assert_eq!((opened.segment, opened.slot), (red, red_slot));
    assert_eq!(
        hub.poll_transmit().map(|transmit| transmit.kind),
        Some(MessageKind::HandshakeResponse)
    );

    assert_eq!(
        hub.open(address, &intruder.initiation(), &mut buf, now),
        Err(WgDrop::UnknownKey)
    );
    assert_eq!(hub.poll_transmit(), None);
    assert!(!hub.has_session(blue_slot));
}

#[test]
fn the_allowlist_takes_each_key_once_and_never_its_own() {
    let mut pair = Pair::new();
    let mut add = |key| pair.a.wg.add_peer(pair.a.segment, key, None, pair.now);

    assert_eq!(add(key(2).public_key()), Err(AddPeerError::KeyInUse));
    assert_eq!(add(key(1).public_key()), Err(AddPeerError::OwnKey));
    let gone = pair.a.segment;
    pair.a.wg.remove_segment(gone, pair.now);
    assert_eq!(
        pair.a.wg.add_peer(gone, key(3).public_key(), None, pair.now),
        Err(AddPeerError::NoSegment)
    );
}

#[test]
fn segments_are_bounded() {
    let mut hub = WireGuard::new([9; 32]);
    let bound = u8::try_from(SEGMENTS_MAX).unwrap();
    for n in 0..bound {
        hub.add_segment(&key(n)).unwrap();
    }

    assert_eq!(hub.add_segment(&key(bound)), Err(TooManySegments));
}

#[test]
fn a_session_that_the_peer_lost_is_made_anew_at_once_and_once_in_five_seconds() {
    let mut pair = Pair::connected();
    pair.b = Pair::new().b;
    let told = |pair: &mut Pair| {
        let initiations = (0..100).map(|_| {
            pair.a.wg.renew_session(pair.a.slot, pair.now);
            pair.a.transmits().len()
        });
        initiations.sum::<usize>()
    };
    assert_eq!(told(&mut pair), 0, "a handshake was started a moment ago");

    pair.advance(Duration::from_secs(5));
    assert_eq!(pair.a_to_b(&packet(84)), Ok(Arrival::Packet(packet(84))));

    pair.advance(Duration::from_secs(4));
    assert_eq!(told(&mut pair), 0);
}

#[test]
fn a_peer_without_a_session_has_none_to_make_anew() {
    let mut pair = Pair::new();

    pair.a.wg.renew_session(pair.a.slot, pair.now);

    assert_eq!(pair.a.transmits().len(), 0);
}
