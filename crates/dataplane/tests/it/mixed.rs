//! Traffic of many kinds through two data planes: cut, sealed, opened, joined, and cut again it is what was sent.

use std::collections::BTreeMap;

use proptest::prelude::*;
use ringfence_dataplane::{Arrival, Transmit};
use ringfence_packet::offload::{SuperPacket, VNET_HEADER_BYTES, VnetHeader};
use ringfence_packet::{Flow, Packet, Protocol};

use crate::draft::{ACK, CWR, Draft, ECE, PSH, SYN, URG};
use crate::mesh::Mesh;

/// What one end of one conversation sends at once.
#[derive(Clone, Debug)]
struct Burst {
    conversation: usize,
    by_server: bool,
    payload_bytes: usize,
    gso_bytes: u16,
    /// PSH, ECE.
    flags: u8,
    /// The last two bits of the traffic class.
    ecn: u8,
    acked: u32,
    /// What the clock in its TCP timestamps went on by.
    ticks: u8,
    kind: Kind,
    /// Whether what was sent so far is carried before more is sent.
    carried: bool,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Kind {
    /// To be cut, if it is longer than that.
    Plain,
    /// One packet with its checksum complete.
    Whole,
    /// IPv4 options, or an IPv6 extension header.
    IpPadding,
    Urgent,
    WindowReduced,
    /// Its last byte suffered on the way from the application to the tunnel.
    Damaged,
}

struct Conversation {
    /// The client's next packet, and the server's.
    next: [Draft; 2],
}

impl Conversation {
    fn new(flow: Flow) -> Self {
        let draft = |flow| Draft {
            flow,
            traffic_class: 0,
            hops: 64,
            id: 0xfff0,
            seq: 0xffff_f000,
            ack: 0xffff_f000,
            flags: ACK,
            urgent: 0,
            options: vec![1, 1, 8, 10, 0, 0, 0, 1, 0, 0, 0, 2],
            ip_padding: false,
            payload: Vec::new(),
        };
        Self {
            next: [draft(flow), draft(flow.reversed())],
        }
    }

    /// What a TUN device gives for a burst, and the packets that it stands for.
    fn send(&mut self, burst: &Burst) -> (Vec<u8>, Vec<Vec<u8>>) {
        let next = &mut self.next[usize::from(burst.by_server)];
        let is_plain = burst.kind == Kind::Plain;
        let most = if is_plain {
            usize::MAX
        } else {
            PACKET_PAYLOAD_BYTES_MAX
        };
        next.payload = (0..burst.payload_bytes.min(most))
            .map(|at| (at % 251) as u8)
            .collect();
        next.traffic_class = 0x28 | burst.ecn;
        next.ack = next.ack.wrapping_add(burst.acked);
        next.options[TIMESTAMP_AT] = next.options[TIMESTAMP_AT].wrapping_add(burst.ticks);
        let mut draft = next.clone();
        draft.ip_padding = burst.kind == Kind::IpPadding;
        draft.urgent = u16::from(burst.kind == Kind::Urgent);
        draft.flags |= burst.flags
            | match burst.kind {
                Kind::Urgent => URG,
                Kind::WindowReduced => CWR,
                Kind::Plain | Kind::Whole | Kind::IpPadding | Kind::Damaged => 0,
            };
        let is_cut = is_plain && draft.payload.len() > burst.gso_bytes.into();
        let gso_bytes = if is_cut { burst.gso_bytes } else { 0 };
        let cut = draft.cut(gso_bytes);
        next.id = next.id.wrapping_add(cut.len() as u16);
        next.seq = next.seq.wrapping_add(draft.payload.len() as u32);
        match burst.kind {
            Kind::Whole => (draft.read_whole(), vec![draft.bytes()]),
            Kind::Damaged => {
                let mut read = draft.read_whole();
                *read.last_mut().unwrap() ^= 0x40;
                let packet = read[VNET_HEADER_BYTES..].to_vec();
                (read, vec![packet])
            }
            Kind::Plain | Kind::IpPadding | Kind::Urgent | Kind::WindowReduced => {
                let packets = cut.iter().map(Draft::bytes).collect();
                (draft.read_from_tun(gso_bytes), packets)
            }
        }
    }
}

/// Two data planes with a session, and what each should have received.
struct Pair {
    mesh: Mesh,
    conversations: Vec<Conversation>,
    sent: Packets,
    received: Packets,
    writes: usize,
}

/// For each host and flow, in order.
type Packets = BTreeMap<(usize, Flow), Vec<Vec<u8>>>;

impl Pair {
    fn new() -> Self {
        let mut mesh = Mesh::with_hosts("db", 2);
        mesh.allow("db", 0, 1, "any");
        mesh.push();
        let flows = [Protocol::TCP, Protocol::UDP].map(|protocol| {
            let ports = [5432, 443].map(|port| {
                let to = (protocol, port);
                [mesh.flow_v4("db", 0, 1, to), mesh.flow_v6("db", 0, 1, to)]
            });
            ports.concat()
        });
        let mut pair = Self {
            mesh,
            conversations: flows.concat().into_iter().map(Conversation::new).collect(),
            sent: Packets::new(),
            received: Packets::new(),
            writes: 0,
        };
        pair.greet();
        pair
    }

    /// Handshakes of all conversations, and the tunnel's own before.
    fn greet(&mut self) {
        for at in 0..self.conversations.len() {
            for (end, flags) in [(0, SYN), (1, SYN | ACK), (0, ACK)] {
                let mut draft = self.conversations[at].next[end].clone();
                if draft.is_tcp() {
                    draft.flags = flags;
                }
                draft.seq = draft.seq.wrapping_sub(u32::from(flags & SYN != 0));
                self.mesh.send(end, "db", &draft.bytes()).unwrap();
                assert_eq!(self.mesh.received(1 - end, "db"), [draft.bytes()]);
            }
        }
    }

    fn send(&mut self, burst: &Burst) {
        let from = usize::from(burst.by_server);
        let (mut read, packets) = self.conversations[burst.conversation].send(burst);
        for packet in packets {
            let flow = Packet::parse(&packet).unwrap().flow;
            self.sent.entry((1 - from, flow)).or_default().push(packet);
        }
        let segment = self.mesh.segment_id(from, "db");
        let now = self.mesh.now;
        let (header, packet) = read.split_first_chunk_mut().unwrap();
        let packet = SuperPacket::parse(VnetHeader::decode(header), packet).unwrap();
        let dataplane = &mut self.mesh.hosts[from].dataplane;
        dataplane.handle_super_packet(segment, &packet, now).unwrap();
    }

    /// Carries what both have to send; `batch_ends` says after which runs of datagrams the receiver has a rest.
    fn carry(&mut self, batch_ends: &mut impl Iterator<Item = bool>) {
        for from in 0..2 {
            let dataplane = &mut self.mesh.hosts[from].dataplane;
            let transmits: Vec<Transmit> = std::iter::from_fn(|| dataplane.poll_transmit()).collect();
            for transmit in transmits {
                self.receive(1 - from, &transmit, batch_ends.next().unwrap());
                self.mesh.hosts[from].dataplane.recycle(transmit.into_buffer());
            }
            self.rest(1 - from);
        }
    }

    fn receive(&mut self, to: usize, transmit: &Transmit, is_batch_end: bool) {
        let arrival = Arrival {
            src: self.mesh.hosts[1 - to].address,
            ours: None,
        };
        let now = self.mesh.now;
        let dataplane = &mut self.mesh.hosts[to].dataplane;
        dataplane.handle_datagrams(arrival, transmit.bytes(), transmit.stride(), now);
        if is_batch_end {
            self.rest(to);
        }
    }

    fn rest(&mut self, host: usize) {
        let dataplane = &mut self.mesh.hosts[host].dataplane;
        dataplane.handle_batch_end(self.mesh.now);
        while let Some(mut written) = dataplane.poll_tun() {
            self.writes += 1;
            for packet in cut(&mut written.buffer) {
                let flow = Packet::parse(&packet).unwrap().flow;
                self.received.entry((host, flow)).or_default().push(packet);
            }
            dataplane.recycle(written.buffer);
        }
        while dataplane.poll_event().is_some() {}
    }
}

/// What the kernel takes a write for.
fn cut(buffer: &mut [u8]) -> Vec<Vec<u8>> {
    let (header, packet) = buffer.split_first_chunk_mut().unwrap();
    let packet = SuperPacket::parse(VnetHeader::decode(header), packet).unwrap();
    let segments = 0..packet.segments();
    let cut = segments.map(|index| {
        let mut out = vec![0; packet.segment_bytes_max()];
        let written = packet.write_segment(index, &mut out);
        out.truncate(written);
        out
    });
    cut.collect()
}

/// Bursts in one to all conversations: few, so that one burst often continues the one before.
fn bursts() -> impl Strategy<Value = Vec<Burst>> {
    let conversations = (0..CONVERSATIONS, 1..=CONVERSATIONS);
    conversations.prop_flat_map(|(first, count)| proptest::collection::vec(burst(first, count), 1..40))
}

fn burst(first: usize, count: usize) -> impl Strategy<Value = Burst> {
    let kind = prop_oneof![
        9 => Just(Kind::Plain),
        2 => Just(Kind::Whole),
        1 => Just(Kind::IpPadding),
        1 => Just(Kind::Urgent),
        1 => Just(Kind::WindowReduced),
        1 => Just(Kind::Damaged),
    ];
    let gso = prop_oneof![Just(PACKET_PAYLOAD_BYTES_MAX as u16), Just(1_200), 600..1_300_u16];
    let segments = prop_oneof![4 => 0..5_usize, 1 => 5..46_usize];
    let rest = prop_oneof![Just(0), 1..600_usize];
    let end = (0..count, prop::bool::weighted(0.3));
    let ecn = prop_oneof![6 => Just(2), 1 => 0..4_u8];
    let flags = prop_oneof![6 => Just(0), 3 => Just(PSH), 1 => Just(ECE), 1 => Just(PSH | ECE)];
    let marks = (ecn, flags, 0_u32..2, prop_oneof![3 => Just(0), 1 => Just(1)]);
    let carried = prop::bool::weighted(0.2);
    (end, gso, segments, rest, marks, kind, carried).prop_map(
        move |((conversation, by_server), gso_bytes, segments, rest, marks, kind, carried)| {
            let (ecn, flags, acked, ticks) = marks;
            Burst {
                conversation: (first + conversation) % CONVERSATIONS,
                by_server,
                payload_bytes: segments * usize::from(gso_bytes) + rest,
                gso_bytes,
                flags,
                ecn,
                acked,
                ticks,
                kind,
                carried,
            }
        },
    )
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(200))]

    #[test]
    fn what_is_cut_sealed_opened_and_joined_is_cut_to_what_was_sent(
        bursts in bursts(),
        batch_ends in proptest::collection::vec(any::<bool>(), 50),
    ) {
        let mut pair = Pair::new();
        let mut batch_ends = batch_ends.into_iter().cycle();

        for burst in &bursts {
            pair.send(burst);
            if burst.carried {
                pair.carry(&mut batch_ends);
            }
        }
        pair.carry(&mut batch_ends);

        prop_assert_eq!(&pair.received, &pair.sent);
    }
}

#[test]
fn what_was_sent_at_once_is_written_at_once_in_every_conversation() {
    let mut pair = Pair::new();
    let bulk = |conversation, by_server| Burst {
        conversation,
        by_server,
        payload_bytes: 40_000,
        gso_bytes: 1_300,
        flags: PSH,
        ecn: 2,
        acked: 0,
        ticks: 0,
        kind: Kind::Plain,
        carried: true,
    };

    for conversation in 0..CONVERSATIONS {
        for by_server in [false, true] {
            pair.send(&bulk(conversation, by_server));
        }
    }
    pair.carry(&mut std::iter::repeat(false));

    assert_eq!(pair.received, pair.sent);
    assert_eq!(pair.writes, 2 * CONVERSATIONS);
}

/// In the options: the last byte of the sender's clock.
const TIMESTAMP_AT: usize = 7;
/// TCP and UDP, to two ports, over IPv4 and IPv6.
const CONVERSATIONS: usize = 8;
/// The longest that no tunnel's MTU of 1408 has to refuse, behind any header of these tests.
const PACKET_PAYLOAD_BYTES_MAX: usize = 1_320;
