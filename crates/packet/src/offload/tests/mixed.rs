//! Traffic of many conversations at once: what comes out is what went in, in order within each.

use std::collections::BTreeMap;

use proptest::prelude::*;

use super::draft::{ACK, Draft, FIN, PSH, cut};
use crate::offload::{Run, VNET_HEADER_BYTES, VnetHeader};
use crate::{Flow, Packet};

/// One super-packet of one of a few conversations.
#[derive(Clone, Debug)]
struct Burst {
    kind: u8,
    payload_bytes: usize,
    gso_bytes: u16,
    flags: u8,
    traffic_class: u8,
    acked: u32,
}

/// The order in which segments arrive, and by which way they are offered to a run.
#[derive(Clone, Debug)]
struct Arrival {
    conversation: prop::sample::Index,
    padding: usize,
    in_place: bool,
    damaged: bool,
}

fn bursts() -> impl Strategy<Value = Vec<Burst>> {
    let sizes = (
        1_usize..4_000,
        prop_oneof![Just(1_200_u16), Just(100), 50..600_u16],
    );
    // Now and then the end of a connection, or congestion experienced.
    let push = prop_oneof![Just(0), Just(PSH)];
    let end = prop_oneof![9 => Just(0), 1 => Just(FIN)];
    let class = prop_oneof![9 => Just(2_u8), 1 => Just(3)];
    let burst = (0_u8..8, sizes, push, end, class, 0_u32..2).prop_map(
        |(kind, (payload_bytes, gso_bytes), push, end, traffic_class, acked)| Burst {
            kind,
            payload_bytes,
            gso_bytes,
            flags: ACK | push | end,
            traffic_class,
            acked,
        },
    );
    proptest::collection::vec(burst, 1..12)
}

fn arrivals() -> impl Strategy<Value = Vec<Arrival>> {
    let arrival = (
        any::<prop::sample::Index>(),
        0_usize..16,
        any::<bool>(),
        prop::bool::weighted(0.05),
    )
        .prop_map(|(conversation, padding, in_place, damaged)| Arrival {
            conversation,
            padding,
            in_place,
            damaged,
        });
    proptest::collection::vec(arrival, 400)
}

/// The legal packets of each conversation, in order.
fn sent(bursts: &[Burst]) -> Vec<Vec<Vec<u8>>> {
    let mut latest: BTreeMap<u8, Draft> = BTreeMap::new();
    let mut packets: BTreeMap<u8, Vec<Vec<u8>>> = BTreeMap::new();
    for burst in bursts {
        let base = Draft {
            udp: burst.kind & 2 != 0,
            ..Draft::tcp(burst.kind & 1 != 0, 0)
        };
        let mut draft = latest.remove(&burst.kind).unwrap_or(base).with(|draft| {
            draft.src_port = u16::from(burst.kind);
            draft.payload = (0..burst.payload_bytes).map(|at| (at % 253) as u8).collect();
            draft.traffic_class = burst.traffic_class;
            draft.ack += burst.acked;
            draft.flags = burst.flags;
        });
        let segments = cut(draft.vnet_header(burst.gso_bytes), &draft.partial());
        draft = draft.next();
        draft.id = draft.id.wrapping_add(segments.len() as u16 - 1);
        packets.entry(burst.kind).or_default().extend(segments);
        latest.insert(burst.kind, draft);
    }
    packets.into_values().collect()
}

/// Interleaves the conversations, each in its order.
fn interleaved(mut sent: Vec<Vec<Vec<u8>>>, arrivals: &[Arrival]) -> Vec<(Vec<u8>, Arrival)> {
    for packets in &mut sent {
        packets.reverse();
    }
    let mut packets = Vec::new();
    for arrival in arrivals.iter().cycle() {
        sent.retain(|packets| !packets.is_empty());
        if sent.is_empty() {
            return packets;
        }
        let mut packet = arrival.conversation.get_mut(&mut sent).pop().expect("not empty");
        if arrival.damaged {
            *packet.last_mut().expect("a packet") ^= 0x20;
        }
        packets.push((packet, arrival.clone()));
    }
    packets
}

/// Joins what joins, and returns the writes to the TUN device: a plain model of the caller.
fn written(packets: &[(Vec<u8>, Arrival)]) -> Vec<Vec<u8>> {
    let mut writes = Vec::new();
    let mut runs: Vec<Run> = Vec::new();
    for (packet, arrival) in packets {
        let mut bytes = packet.clone();
        bytes.resize(packet.len() + arrival.padding, 0);
        let mut joined = false;
        for run in &mut runs {
            if arrival.in_place {
                let mut stray = Vec::new();
                run.window(bytes.len()).copy_from_slice(&bytes);
                joined = run.settle(bytes.len(), &mut stray);
                assert_eq!(stray, if joined { &[] } else { &bytes[..] });
            } else {
                joined = run.join(&bytes);
            }
            if joined {
                break;
            }
        }
        if joined {
            continue;
        }
        while let Some(at) = runs.iter().position(|run| run.is_same_flow(&bytes)) {
            writes.push(runs.remove(at).into_buffer());
        }
        let mut buffer = vec![0; VNET_HEADER_BYTES];
        buffer.extend(bytes);
        runs.push(Run::start(buffer));
    }
    writes.extend(runs.into_iter().map(Run::into_buffer));
    writes
}

fn by_flow(packets: impl IntoIterator<Item = Vec<u8>>) -> BTreeMap<Flow, Vec<Vec<u8>>> {
    let mut flows: BTreeMap<Flow, Vec<Vec<u8>>> = BTreeMap::new();
    for packet in packets {
        let flow = Packet::parse(&packet).expect("a packet").flow;
        flows.entry(flow).or_default().push(packet);
    }
    flows
}

proptest! {
    #[test]
    fn cut_mixed_and_joined_packets_are_cut_to_themselves(bursts in bursts(), arrivals in arrivals()) {
        let packets = interleaved(sent(&bursts), &arrivals);

        let writes = written(&packets);

        let received = writes.iter().flat_map(|buffer| {
            let (header, packet) = buffer.split_first_chunk().expect("a virtio-net header");
            match VnetHeader::decode(header) {
                // Not cut, and perhaps damaged: as it came.
                VnetHeader::NONE => vec![packet.to_vec()],
                header => cut(header, packet),
            }
        });
        prop_assert_eq!(by_flow(received), by_flow(packets.iter().map(|(packet, _)| packet.clone())));
    }

    #[test]
    fn undamaged_packets_of_one_burst_become_one_write(
        kind in 0_u8..4, gso_bytes in 100_u16..1_400, segments in 2_usize..40, rest in 1_u16..100, in_place in any::<bool>(),
        conversation in any::<prop::sample::Index>(),
    ) {
        let payload_bytes = usize::from(gso_bytes) * (segments - 1) + usize::from(rest);
        let burst = Burst { kind, payload_bytes, gso_bytes, flags: ACK | PSH, traffic_class: 0, acked: 0 };
        let arrival = Arrival { conversation, padding: 3, in_place, damaged: false };

        let packets = interleaved(sent(&[burst]), &[arrival]);

        prop_assert_eq!(packets.len(), segments);
        prop_assert_eq!(written(&packets).len(), 1);
    }

    #[test]
    fn no_packet_panics_in_a_run(
        v6 in any::<bool>(), udp in any::<bool>(), payload_bytes in 0_usize..40, in_place in any::<bool>(),
        lies in proptest::collection::vec((0_usize..90, any::<u8>()), 0..3), opened in 0_usize..300,
    ) {
        let draft = Draft { udp, ..Draft::tcp(v6, payload_bytes) };
        let lie = |mut bytes: Vec<u8>| {
            for (at, byte) in &lies {
                if let Some(to) = bytes.get_mut(*at) {
                    *to = *byte;
                }
            }
            bytes
        };
        for (first, next) in [(lie(draft.bytes()), draft.next().bytes()), (draft.bytes(), lie(draft.next().bytes()))] {
            let mut buffer = vec![0; VNET_HEADER_BYTES];
            buffer.extend(first);
            let mut run = Run::start(buffer);
            run.is_same_flow(&next);
            if in_place {
                run.window(next.len()).copy_from_slice(&next);
                run.settle(opened, &mut Vec::new());
            } else {
                run.join(&next);
            }
            prop_assert!(run.finish().len() <= 65_535);
        }
    }
}
