//! Cutting, rule by rule.

use proptest::prelude::*;

use super::draft::{ACK, CWR, Draft, ECE, FIN, PSH, cut, ones_complement};
use crate::Malformed;
use crate::offload::{BadOffload, SuperPacket, VNET_HEADER_BYTES, VnetHeader};

fn refusal(header: VnetHeader, bytes: &[u8]) -> Option<BadOffload> {
    SuperPacket::parse(header, &mut bytes.to_vec()).err()
}

#[test]
fn the_vnet_header_is_read_as_it_is_written() {
    let header = Draft::tcp(true, 100).vnet_header(1_200);
    let bytes = header.encode();

    assert_eq!(bytes[..2], [1, 4]);
    assert_eq!(bytes[4..6], 1_200_u16.to_ne_bytes());
    assert_eq!(VnetHeader::decode(&bytes), header);
    assert_eq!(VnetHeader::NONE.encode(), [0; VNET_HEADER_BYTES]);
}

#[test]
fn a_plain_packet_is_its_only_segment() {
    let bytes = Draft::tcp(false, 33).bytes();
    assert_eq!(cut(VnetHeader::NONE, &bytes), [bytes]);
}

#[test]
fn the_checksum_of_a_plain_packet_is_completed() {
    for draft in [
        Draft::tcp(false, 33),
        Draft::tcp(true, 1),
        Draft::udp(false, 0),
        Draft::udp(true, 900),
    ] {
        let header = VnetHeader {
            gso_type: 0,
            gso_bytes: 0,
            ..draft.vnet_header(0)
        };
        assert_eq!(cut(header, &draft.partial()), [draft.bytes()]);
    }
}

#[test]
fn a_completed_checksum_of_zero_is_written_as_all_ones() {
    // The last two bytes take whatever the sum lacks.
    let mut draft = Draft::udp(false, 2);
    draft.payload = vec![0, 0];
    let missing = {
        let bytes = draft.bytes();
        [bytes[26], bytes[27]]
    };
    draft.payload = missing.to_vec();
    let header = VnetHeader {
        gso_type: 0,
        ..draft.vnet_header(0)
    };

    let segments = cut(header, &draft.partial());
    assert_eq!(segments[0][26..28], [0xff, 0xff]);

    let long = Draft {
        payload: [&missing[..], &missing].concat(),
        ..draft.clone()
    };
    let segments = cut(long.vnet_header(2), &long.partial());
    assert_eq!(segments[0][26..28], [0xff, 0xff]);
}

#[test]
fn tcp_segments_carry_on_sequence_and_identification() {
    let draft = Draft::tcp(false, 2_500).with(|draft| {
        draft.seq = u32::MAX - 500;
        draft.id = u16::MAX;
    });
    let segments = cut(draft.vnet_header(1_000), &draft.partial());

    let mut expected = draft.clone();
    for (segment, payload) in segments.iter().zip(draft.payload.chunks(1_000)) {
        expected.payload = payload.to_vec();
        assert_eq!(*segment, expected.bytes());
        expected = expected.next();
    }
    assert_eq!(segments.len(), 3);
}

#[test]
fn only_the_last_segment_pushes_and_ends() {
    let draft = Draft::tcp(true, 300).with(|draft| draft.flags = ACK | PSH | FIN);
    let segments = cut(draft.vnet_header(100), &draft.partial());
    let flags: Vec<u8> = segments.iter().map(|segment| segment[53]).collect();
    assert_eq!(flags, [ACK, ACK, ACK | PSH | FIN]);
}

#[test]
fn only_the_first_segment_tells_of_a_reduced_window() {
    let draft = Draft::tcp(true, 300).with(|draft| draft.flags = ACK | CWR | ECE);
    let mut header = draft.vnet_header(100);
    header.gso_type |= VnetHeader::GSO_ECN;
    let segments = cut(header, &draft.partial());
    let flags: Vec<u8> = segments.iter().map(|segment| segment[53]).collect();
    assert_eq!(flags, [ACK | CWR | ECE, ACK | ECE, ACK | ECE]);
}

#[test]
fn datagrams_are_cut_to_one_size_and_a_rest() {
    for v6 in [false, true] {
        let draft = Draft::udp(v6, 250);
        let segments = cut(draft.vnet_header(100), &draft.partial());
        let sizes: Vec<usize> = segments
            .iter()
            .map(|segment| segment.len() - draft.header_bytes())
            .collect();
        assert_eq!(sizes, [100, 100, 50]);
    }
}

#[test]
fn ipv6_extension_headers_stay_in_every_segment() {
    let draft = Draft::tcp(true, 200);
    let mut bytes = draft.partial();
    // Destination options of padding only, which the parser lets pass.
    bytes.splice(40..40, [6, 0, 1, 4, 0, 0, 0, 0]);
    bytes[6] = 60;
    bytes[5] += 8;
    let mut header = draft.vnet_header(100);
    header.checksum_start += 8;

    let packet = SuperPacket::parse(header, &mut bytes).expect("allowed extension header");
    let mut out = vec![0; packet.segment_bytes_max()];
    assert_eq!(packet.segments(), 2);
    assert_eq!(packet.write_segment(1, &mut out), 40 + 8 + 32 + 100);
    assert_eq!(out[40..48], [6, 0, 1, 4, 0, 0, 0, 0]);
    assert_eq!(out[4..6], [0, 140]);

    out.drain(40..48);
    (out[6], out[5]) = (6, out[5] - 8);
    assert!(
        super::draft::is_legal(&out),
        "the extension header is not covered"
    );
}

#[test]
fn a_super_packet_of_one_segment_is_as_long_as_it_is() {
    let draft = Draft::udp(false, 50);
    let mut bytes = draft.partial();
    let packet = SuperPacket::parse(draft.vnet_header(u16::MAX), &mut bytes).expect("good");
    assert_eq!((packet.segments(), packet.segment_bytes_max()), (1, 78));
    assert_eq!(cut(draft.vnet_header(50), &draft.partial()), [draft.bytes()]);
}

#[test]
fn a_header_length_that_covers_data_is_only_a_hint() {
    let draft = Draft::tcp(false, 300);
    let mut header = draft.vnet_header(100);
    header.header_bytes += 64;
    assert_eq!(cut(header, &draft.partial()).len(), 3);
    header.header_bytes = 0;
    assert_eq!(cut(header, &draft.partial()).len(), 3);
    header.header_bytes = 5_000;
    assert_eq!(refusal(header, &draft.partial()), Some(BadOffload::Length));
}

#[test]
fn contradictions_are_refused() {
    let draft = Draft::tcp(false, 300);
    let bytes = draft.partial();
    let good = draft.vnet_header(100);
    let cases = [
        (VnetHeader { gso_bytes: 0, ..good }, BadOffload::Length),
        (VnetHeader { gso_type: 2, ..good }, BadOffload::Kind),
        (
            VnetHeader {
                gso_type: VnetHeader::GSO_UDP_FRAGMENTS,
                ..good
            },
            BadOffload::Kind,
        ),
        (
            VnetHeader {
                gso_type: VnetHeader::GSO_ECN,
                ..good
            },
            BadOffload::Kind,
        ),
        (
            VnetHeader {
                gso_type: 5 | VnetHeader::GSO_ECN,
                ..good
            },
            BadOffload::Kind,
        ),
        (VnetHeader { gso_type: 4, ..good }, BadOffload::NotDivisible),
        (VnetHeader { gso_type: 5, ..good }, BadOffload::NotDivisible),
        (VnetHeader { flags: 0, ..good }, BadOffload::ChecksumPlace),
        (VnetHeader { flags: 5, ..good }, BadOffload::Flags),
        (
            VnetHeader {
                checksum_start: 24,
                ..good
            },
            BadOffload::ChecksumPlace,
        ),
        (
            VnetHeader {
                checksum_offset: 6,
                ..good
            },
            BadOffload::ChecksumPlace,
        ),
    ];
    for (header, expected) in cases {
        assert_eq!(refusal(header, &bytes), Some(expected), "{header:?}");
    }
    assert_eq!(refusal(good, &bytes), None);
}

#[test]
fn packets_that_cannot_be_cut_are_refused() {
    let draft = Draft::tcp(false, 300);
    let header = draft.vnet_header(100);
    let refused = |change: fn(&mut Draft)| refusal(header, &draft.clone().with(change).partial());

    assert_eq!(
        refused(|draft| draft.flags = 0x02),
        Some(BadOffload::NotDivisible)
    );
    assert_eq!(
        refused(|draft| draft.flags = ACK | 0x04),
        Some(BadOffload::NotDivisible)
    );
    assert_eq!(refused(|draft| draft.payload.clear()), Some(BadOffload::Length));
    assert_eq!(
        refused(|draft| draft.fragment_field = 0x2000).map(|bad| matches!(bad, BadOffload::Packet(_))),
        Some(true)
    );
    assert_eq!(
        refused(|draft| {
            draft.fragment_field = 0x2000;
            draft.payload.truncate(296);
        }),
        Some(BadOffload::NotDivisible)
    );
    let mut longer = draft.partial();
    longer.push(0);
    assert_eq!(refusal(header, &longer), Some(BadOffload::Length));
    let shorter = &draft.partial()[..300];
    assert_eq!(refusal(header, shorter), Some(Malformed::Truncated.into()));
    let mut datagram = Draft::udp(true, 300).partial();
    datagram[45] -= 1;
    let header = Draft::udp(true, 300).vnet_header(100);
    assert_eq!(refusal(header, &datagram), Some(BadOffload::Length));
}

#[test]
fn more_segments_than_a_kernel_makes_are_refused() {
    let draft = Draft::tcp(false, 60_000);
    assert_eq!(
        refusal(draft.vnet_header(1), &draft.partial()),
        Some(BadOffload::Segments)
    );
    assert_eq!(cut(draft.vnet_header(36), &draft.partial()).len(), 1_667);
}

#[test]
fn a_checksum_outside_the_packet_or_inside_its_ip_header_is_refused() {
    let draft = Draft::udp(false, 10);
    let plain = VnetHeader {
        gso_type: 0,
        ..draft.vnet_header(0)
    };
    for (checksum_start, checksum_offset) in [(12, 6), (20, 17), (20, u16::MAX), (u16::MAX, u16::MAX)] {
        let header = VnetHeader {
            checksum_start,
            checksum_offset,
            ..plain
        };
        assert_eq!(
            refusal(header, &draft.partial()),
            Some(BadOffload::ChecksumPlace),
            "{header:?}"
        );
    }
    assert_eq!(refusal(plain, &[]), Some(Malformed::Version.into()));
}

#[test]
fn nothing_is_written_where_it_does_not_fit() {
    let draft = Draft::tcp(false, 300);
    let mut bytes = draft.partial();
    let packet = SuperPacket::parse(draft.vnet_header(100), &mut bytes).expect("good");
    assert_eq!(packet.write_segment(3, &mut [0; 1_500]), 0);
    assert_eq!(packet.write_segment(0, &mut [0; 151]), 0);
    assert_eq!(packet.write_segment(0, &mut [0; 152]), 152);
}

#[test]
fn a_carry_out_of_a_carry_is_not_lost() {
    let all_ones_and = |word: [u8; 4]| [&[0xff; 16][..], &word].concat();
    for data in [all_ones_and([1, 0, 0, 0]), all_ones_and([0, 0, 0, 1])] {
        assert_eq!(crate::ones_sum(&data), ones_complement(&data));
    }
}

proptest! {
    #[test]
    fn the_sum_equals_the_one_taken_word_by_word(data in proptest::collection::vec(any::<u8>(), 0..300)) {
        prop_assert_eq!(crate::ones_sum(&data), ones_complement(&data));
        prop_assert_eq!(crate::checksum(0, &data), !ones_complement(&data));
    }

    #[test]
    fn no_header_and_no_packet_panics(
        header in any::<[u8; VNET_HEADER_BYTES]>(),
        mut bytes in proptest::collection::vec(any::<u8>(), 0..200),
        first in prop_oneof![Just(0x45_u8), Just(0x60), any::<u8>()],
    ) {
        if let Some(byte) = bytes.first_mut() {
            *byte = first;
        }
        if let Ok(packet) = SuperPacket::parse(VnetHeader::decode(&header), &mut bytes) {
            let mut out = vec![0; packet.segment_bytes_max()];
            prop_assert!(packet.write_segment(0, &mut out) <= out.len());
        }
    }

    #[test]
    fn no_lie_about_a_good_packet_panics(
        v6 in any::<bool>(), udp in any::<bool>(), payload_bytes in 0_usize..500, gso_bytes in 0_u16..600,
        lies in proptest::collection::vec((0_usize..700, any::<u8>()), 0..4),
    ) {
        let draft = Draft { udp, ..Draft::tcp(v6, payload_bytes) };
        let mut bytes = draft.vnet_header(gso_bytes).encode().to_vec();
        bytes.extend(draft.partial());
        for (at, byte) in lies {
            if let Some(to) = bytes.get_mut(at % 90) {
                *to = byte;
            }
        }
        let (header, bytes) = bytes.split_at_mut(VNET_HEADER_BYTES);
        let header = VnetHeader::decode(header.first_chunk().expect("ten bytes"));
        if let Ok(packet) = SuperPacket::parse(header, bytes) {
            let mut out = vec![0; packet.segment_bytes_max()];
            for index in 0..packet.segments() {
                let written = packet.write_segment(index, &mut out);
                prop_assert!(written > 0 && written <= out.len());
            }
        }
    }
}
