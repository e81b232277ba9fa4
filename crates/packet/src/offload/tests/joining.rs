//! Joining, rule by rule.

use super::draft::{ACK, CWR, DONT_FRAGMENT, Draft, ECE, FIN, PSH, cut};
use crate::offload::{RUN_SEGMENTS_MAX, Run, VNET_HEADER_BYTES, VnetHeader};

pub(super) fn start(packet: &[u8]) -> Run {
    let mut buffer = vec![0xaa; VNET_HEADER_BYTES];
    buffer.extend(packet);
    Run::start(buffer)
}

/// What cutting the run again gives.
pub(super) fn taken_apart(run: Run) -> Vec<Vec<u8>> {
    let buffer = run.into_buffer();
    let (header, packet) = buffer.split_first_chunk().expect("a virtio-net header");
    cut(VnetHeader::decode(header), packet)
}

/// Whether `next` joins a run of `first` alone.
fn joins(first: &Draft, next: &Draft) -> bool {
    let mut run = start(&first.bytes());
    let joined = run.join(&next.bytes());
    if joined {
        assert_eq!(taken_apart(run), [first.bytes(), next.bytes()]);
    } else {
        assert_eq!(run.segments(), 1);
        assert_eq!(run.into_buffer()[VNET_HEADER_BYTES..], first.bytes());
    }
    joined
}

pub(super) fn every_kind() -> [Draft; 4] {
    [
        Draft::tcp(false, 100),
        Draft::tcp(true, 100),
        Draft::udp(false, 100),
        Draft::udp(true, 100),
    ]
}

#[test]
fn a_single_packet_leaves_as_it_came() {
    let mut broken = Draft::tcp(false, 50).bytes();
    broken[36] ^= 1;
    for bytes in [Draft::udp(true, 50).bytes(), broken, vec![1, 2, 3], vec![]] {
        let mut run = start(&bytes);
        assert_eq!(run.finish(), bytes);
        let buffer = run.into_buffer();
        assert_eq!(buffer[..VNET_HEADER_BYTES], VnetHeader::NONE.encode());
        assert_eq!(buffer[VNET_HEADER_BYTES..], bytes);
    }
}

#[test]
fn padding_after_a_packet_is_cut_off() {
    for draft in every_kind() {
        let padded = |draft: &Draft| [draft.bytes(), vec![0; 13]].concat();
        let mut run = start(&padded(&draft));
        assert!(run.join(&padded(&draft.next())));
        assert_eq!(taken_apart(run), [draft.bytes(), draft.next().bytes()]);
    }
}

#[test]
fn packets_in_order_join_until_a_shorter_one() {
    for draft in every_kind() {
        let second = draft.next();
        let short = second.next().with(|draft| draft.payload.truncate(99));
        let mut run = start(&draft.bytes());

        assert!(run.join(&second.bytes()) && run.can_grow());
        assert!(run.join(&short.bytes()) && !run.can_grow());
        assert!(!run.join(&short.next().bytes()));

        assert_eq!(run.segments(), 3);
        assert_eq!(taken_apart(run), [draft.bytes(), second.bytes(), short.bytes()]);
    }
}

#[test]
fn a_joined_packet_tells_the_kernel_how_to_cut_it() {
    let draft = Draft::tcp(true, 100);
    let mut run = start(&draft.bytes());
    assert!(run.join(&draft.next().with(|draft| draft.flags |= PSH).bytes()));

    let whole = draft.clone().with(|whole| {
        whole.flags |= PSH;
        whole.payload = [&draft.payload[..], &draft.payload].concat();
    });
    assert_eq!(run.finish(), whole.partial());
    let header = *run.into_buffer().first_chunk().expect("a virtio-net header");
    assert_eq!(VnetHeader::decode(&header), whole.vnet_header(100));
}

#[test]
fn a_longer_packet_does_not_join() {
    for draft in every_kind() {
        assert!(!joins(&draft, &draft.next().with(|next| next.payload.push(0))));
    }
}

#[test]
fn packets_without_data_stand_alone() {
    for draft in every_kind() {
        assert!(!joins(&draft, &draft.next().with(|next| next.payload.clear())));
        let empty = draft.with(|draft| draft.payload.clear());
        assert!(!start(&empty.bytes()).can_grow());
        assert!(!joins(&empty, &empty.next()));
    }
}

#[test]
fn whatever_cutting_would_not_repeat_must_be_equal() {
    let changes: [fn(&mut Draft); 5] = [
        |next| next.host += 1,
        |next| next.src_port += 1,
        |next| next.traffic_class = 0x28,
        |next| next.traffic_class = 3, // congestion experienced
        |next| next.hops -= 1,
    ];
    let tcp_changes: [fn(&mut Draft); 7] = [
        |next| next.ack += 1,
        |next| next.window += 1,
        |next| next.urgent += 1,
        |next| next.options[7] += 1,
        |next| next.options.clear(),
        |next| next.seq += 1,
        |next| next.seq -= 1,
    ];
    for draft in every_kind() {
        assert!(joins(&draft, &draft.next()));
        for change in changes {
            assert!(!joins(&draft, &draft.next().with(change)));
        }
        for change in tcp_changes {
            assert_eq!(joins(&draft, &draft.next().with(change)), draft.udp);
        }
        let other_label = draft.next().with(|next| next.flow_label += 1);
        assert_eq!(joins(&draft, &other_label), !draft.v6);
        let may_fragment = draft.next().with(|next| next.fragment_field = 0);
        assert_eq!(joins(&draft, &may_fragment), draft.v6);
        assert!(!joins(&draft, &draft.next().with(|next| next.udp = !next.udp)));
        assert!(!joins(&draft, &draft.next().with(|next| next.v6 = !next.v6)));
    }
}

#[test]
fn tcp_flags_other_than_ack_and_push_stand_alone() {
    let draft = Draft::tcp(false, 100);
    for flags in [
        0,
        PSH,
        0x02,
        ACK | 0x04,
        ACK | FIN,
        ACK | 0x20,
        ACK | ECE,
        ACK | CWR,
    ] {
        let odd = draft.clone().with(|draft| draft.flags = flags);
        assert!(!start(&odd.bytes()).can_grow(), "{flags:02x}");
        assert!(
            !joins(&draft, &draft.next().with(|next| next.flags = flags)),
            "{flags:02x}"
        );
    }
}

#[test]
fn a_push_is_the_last() {
    let draft = Draft::tcp(true, 100);
    let pushing = draft.next().with(|next| next.flags |= PSH);
    assert!(joins(&draft, &pushing));
    assert!(!joins(&pushing, &pushing.next()));

    let mut run = start(&draft.bytes());
    assert!(run.join(&pushing.bytes()));
    assert!(!run.can_grow());
    assert!(!run.join(&pushing.next().with(|next| next.flags = ACK).bytes()));
}

#[test]
fn the_identification_rises_or_stays_where_it_has_no_meaning() {
    let draft = Draft::udp(false, 100);
    let same_id = |next: &mut Draft| next.id -= 1;
    assert!(!joins(&draft, &draft.next().with(|next| next.id += 1)));

    let meaningful = draft.clone().with(|draft| draft.fragment_field = 0);
    assert!(joins(&meaningful, &meaningful.next()));
    assert!(!joins(&meaningful, &meaningful.next().with(same_id)));

    // Cutting lets a fixed one rise, which is allowed as nothing will be put together by it (RFC 6864).
    let (second, third) = (
        draft.next().with(same_id),
        draft.next().next().with(|next| next.id -= 2),
    );
    let mut run = start(&draft.bytes());
    assert!(run.join(&second.bytes()));
    assert!(!run.join(&draft.next().next().bytes()), "fixed, then rising");
    assert!(run.join(&third.bytes()));
    assert_eq!(
        taken_apart(run),
        [draft.bytes(), draft.next().bytes(), draft.next().next().bytes()]
    );

    let mut run = start(&draft.bytes());
    assert!(run.join(&draft.next().bytes()));
    assert!(!run.join(&third.bytes()), "rising, then fixed");
}

#[test]
fn fragments_stand_alone() {
    for fragment_field in [0x2000, 0x0010, DONT_FRAGMENT | 0x2000, 0x8000] {
        let fragment = Draft::udp(false, 96).with(|draft| draft.fragment_field = fragment_field);
        assert!(!start(&fragment.bytes()).can_grow());
        assert!(!joins(&Draft::udp(false, 96), &fragment.next()));
    }
}

#[test]
fn ip_options_and_extension_headers_stand_alone() {
    let mut options = Draft::udp(false, 96).bytes();
    options.splice(20..20, [1, 1, 1, 1]);
    (options[0], options[3]) = (0x46, options[3] + 4);
    options[10..12].fill(0);
    let sum = crate::checksum(0, &options[..24]);
    options[10..12].copy_from_slice(&sum.to_be_bytes());
    assert!(crate::Packet::parse(&options).is_ok());
    assert!(!start(&options).can_grow());

    let mut extended = Draft::udp(true, 96).bytes();
    extended.splice(40..40, [17, 0, 1, 4, 0, 0, 0, 0]);
    (extended[6], extended[5]) = (60, extended[5] + 8);
    assert!(crate::Packet::parse(&extended).is_ok());
    assert!(!start(&extended).can_grow());
}

#[test]
fn a_datagram_without_checksum_stands_alone() {
    let draft = Draft::udp(false, 100);
    let mut bare = draft.bytes();
    bare[26..28].fill(0);
    assert!(!start(&bare).can_grow());
    let mut run = start(&draft.bytes());
    let mut next = draft.next().bytes();
    next[26..28].fill(0);
    assert!(!run.join(&next));
}

#[test]
fn a_datagram_without_checksum_stands_alone_even_if_its_sum_is_right() {
    let mut draft = Draft::udp(false, 2).with(|draft| draft.payload.fill(0));
    draft.payload = draft.bytes()[26..28].to_vec();
    let mut bytes = draft.bytes();
    assert_eq!(bytes[26..28], [0xff, 0xff]);
    assert!(start(&bytes).can_grow());
    bytes[26..28].fill(0);
    assert!(!start(&bytes).can_grow());
}

#[test]
fn a_datagram_that_leaves_bytes_over_stands_alone() {
    let draft = Draft::udp(true, 100);
    let mut bytes = draft.bytes();
    // The checksum is kept right: what one word loses another gains.
    bytes[45] -= 2;
    bytes[141] += 2;
    assert!(!start(&bytes).can_grow());
    bytes[45] += 2;
    bytes[141] -= 2;
    assert!(start(&bytes).can_grow());
}

#[test]
fn reserved_tcp_bits_stand_alone() {
    let draft = Draft::tcp(true, 100);
    let mut bytes = draft.bytes();
    // The checksum is kept right: what one word gains another loses.
    bytes[52] += 1;
    bytes[54] -= 1;
    assert!(!start(&bytes).can_grow());
    bytes[52] -= 1;
    bytes[54] += 1;
    assert!(start(&bytes).can_grow());
}

#[test]
fn nothing_joins_a_finished_run() {
    let draft = Draft::tcp(false, 100);
    let mut run = start(&draft.bytes());
    run.finish();
    assert!(!run.can_grow() && !run.join(&draft.next().bytes()));
}

#[test]
fn a_wrong_checksum_neither_joins_nor_is_grown_on() {
    for draft in every_kind() {
        let at_transport = draft.header_bytes() + 7;
        let at_ip = if draft.v6 { at_transport } else { 10 };
        for at in [at_transport, at_ip] {
            let mut wrong = draft.bytes();
            wrong[at] ^= 0x10;
            let mut run = start(&wrong);
            assert!(!run.can_grow() && !run.join(&draft.next().bytes()));
            assert_eq!(run.finish(), wrong);

            let mut run = start(&draft.bytes());
            let mut wrong = draft.next().bytes();
            wrong[at] ^= 0x10;
            assert!(!run.join(&wrong));
            assert!(run.join(&draft.next().bytes()), "the right one still joins");
        }
    }
}

#[test]
fn a_run_ends_at_its_most_segments() {
    for draft in every_kind() {
        let mut packet = draft.clone();
        let mut run = start(&packet.bytes());
        for _ in 1..RUN_SEGMENTS_MAX {
            assert!(run.can_grow());
            packet = packet.next();
            assert!(run.join(&packet.bytes()));
        }
        assert!(!run.can_grow() && !run.join(&packet.next().bytes()));
        assert_eq!(run.segments(), RUN_SEGMENTS_MAX);
        assert_eq!(taken_apart(run).len(), RUN_SEGMENTS_MAX);
    }
}

#[test]
fn a_run_ends_before_64_kib() {
    for draft in [
        Draft::tcp(false, 9_000),
        Draft::udp(true, 9_000),
        Draft::udp(false, 32_753),
    ] {
        let mut packet = draft.clone();
        let mut run = start(&packet.bytes());
        while run.can_grow() {
            packet = packet.next();
            assert!(run.join(&packet.bytes()));
        }
        assert!(!run.join(&packet.next().bytes()));
        assert!((65_535 - 9_000..=65_535).contains(&run.packet_bytes()));
        assert_eq!(taken_apart(run).last(), Some(&packet.bytes()));
    }
    assert!(!start(&Draft::udp(true, 65_535 - 8).bytes()).can_grow());
}

#[test]
fn datagrams_can_be_kept_apart() {
    assert!(!start(&Draft::udp(true, 10).bytes()).without_udp().can_grow());
    assert!(start(&Draft::tcp(true, 10).bytes()).without_udp().can_grow());
}

#[test]
fn a_run_knows_its_conversation() {
    for draft in every_kind() {
        let run = start(&draft.bytes());
        let same = |change: fn(&mut Draft)| run.is_same_flow(&draft.clone().with(change).bytes());
        assert!(same(
            |other| (other.seq, other.flags, other.hops) = (5, ACK | FIN, 3)
        ));
        assert!(same(|other| other.payload.clear()));
        assert!(!same(|other| other.src_port += 1));
        assert!(!same(|other| other.host += 1));
        assert!(!same(|other| other.udp = !other.udp));
        assert!(!same(|other| other.v6 = !other.v6));
        assert!(run.is_same_flow(&[]), "no telling");
    }
}

#[test]
fn a_fragment_may_be_of_every_conversation_between_its_addresses() {
    let fragment = Draft::udp(false, 96).with(|draft| draft.fragment_field = 0x0010);
    for whole in [Draft::udp(false, 96), Draft::tcp(false, 96)] {
        let whole = whole.with(|draft| draft.src_port = 9);
        assert!(start(&whole.bytes()).is_same_flow(&fragment.bytes()));
        assert!(start(&fragment.bytes()).is_same_flow(&whole.bytes()));
        let elsewhere = whole.with(|draft| draft.host += 1);
        assert!(!start(&elsewhere.bytes()).is_same_flow(&fragment.bytes()));
    }
}
