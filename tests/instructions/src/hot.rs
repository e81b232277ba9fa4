//! The hot functions, each with the surroundings it has on a busy node.

use std::hint::black_box;
use std::net::SocketAddr;
use std::time::Instant;

use ringfence_model::{NodeId, UnixMillis};
use ringfence_packet::offload::{Run, SuperPacket, VNET_HEADER_BYTES, VnetHeader};
use ringfence_packet::{Packet, Protocol, TcpFlags};
use ringfence_policy::{Direction, FLOWS_MAX};

use crate::filter::{FIRST_PORT, Filter, HEADER_BYTES, data_packet, flow, rules, rules_by_port, segment};
use crate::nodes::{Nodes, in_perimeters};
use crate::tunnel::{Tunnel, crowd};

/// A function to count, and how.
#[derive(Clone, Copy)]
pub struct Hot {
    /// Its name in the baseline.
    pub name: &'static str,
    /// What one operation is.
    pub what: &'static str,
    /// Does it so many times, after whatever has to be set up.
    pub work: fn(u32),
    /// What of that is not counted, because it only prepares it.
    pub but: Option<fn(u32)>,
}

/// All of them.
pub const ALL: [Hot; 17] = [
    hot("seal-full", "seals a packet that fills the MTU", |times| {
        seal(FULL_BYTES, times);
    }),
    hot(
        "seal-small",
        "seals a bare acknowledgement, which is padded",
        |times| seal(SMALL_BYTES, times),
    ),
    Hot {
        but: Some(|times| seal(FULL_BYTES, times)),
        ..hot("open-full", "opens a packet that fills the MTU", |times| {
            seal_and_open(FULL_BYTES, times);
        })
    },
    Hot {
        but: Some(|times| seal(SMALL_BYTES, times)),
        ..hot(
            "open-small",
            "opens a bare acknowledgement, which is padded",
            |times| seal_and_open(SMALL_BYTES, times),
        )
    },
    Hot {
        but: Some(|times| seal_in(Tunnel::in_crowd(CROWD), SMALL_BYTES, times)),
        ..hot(
            "open-crowd",
            "opens a bare acknowledgement from one of 10,000 peers",
            |times| seal_and_open_in(Tunnel::in_crowd(CROWD), SMALL_BYTES, times),
        )
    },
    hot(
        "demux-crowd",
        "finds one of 10,000 peers by receiver index, and no session",
        demux,
    ),
    hot("parse", "checks a TCP packet that fills the MTU", parse),
    hot(
        "flow-one",
        "checks and judges a packet of the only flow",
        |times| {
            judge(1, times);
        },
    ),
    hot(
        "flow-full",
        "checks and judges a packet of one of as many flows as a table holds",
        |times| judge(FLOWS_MAX, times),
    ),
    hot(
        "rule-one",
        "judges the opening of a flow by the only rule",
        |times| verdict(1, times),
    ),
    hot(
        "rule-crowd",
        "judges the opening of a flow by 10,000 rules",
        |times| verdict(10_000, times),
    ),
    hot(
        "rule-ports",
        "judges the opening of a flow by 10,000 rules about one peer, each for a port",
        |times| verdict_by_port(10_000, times),
    ),
    hot(
        "egress",
        "takes one packet of a super-packet the whole way from the device to the socket",
        egress,
    ),
    hot(
        "due-one",
        "asks a node in one perimeter when it is next due",
        |times| due(1, times),
    ),
    hot(
        "due-full",
        "asks a node in 64 perimeters when it is next due",
        |times| due(64, times),
    ),
    hot("split", "cuts one packet off a super-packet", split),
    hot("coalesce", "joins one packet to a run", coalesce),
];

const fn hot(name: &'static str, what: &'static str, work: fn(u32)) -> Hot {
    Hot {
        name,
        what,
        work,
        but: None,
    }
}

fn seal(bytes: usize, times: u32) {
    seal_in(Tunnel::new(), bytes, times);
}

fn seal_in(mut tunnel: Tunnel, bytes: usize, times: u32) {
    let packet = data_packet(1, bytes);
    let mut out = Vec::new();
    for _ in 0..times {
        tunnel.seal(black_box(&packet), &mut out);
        black_box(&out);
    }
}

fn seal_and_open(bytes: usize, times: u32) {
    seal_and_open_in(Tunnel::new(), bytes, times);
}

fn seal_and_open_in(mut tunnel: Tunnel, bytes: usize, times: u32) {
    let packet = data_packet(1, bytes);
    let (mut out, mut buffer) = (Vec::new(), vec![0; 2048]);
    for _ in 0..times {
        tunnel.seal(black_box(&packet), &mut out);
        tunnel.open(black_box(&out), &mut buffer);
    }
}

fn demux(times: u32) {
    let now = Instant::now();
    let (mut wireguard, datagram) = crowd(CROWD, now);
    let src = SocketAddr::from(([192, 0, 2, 9], 51_820));
    let mut buffer = vec![0; 2048];
    for _ in 0..times {
        let opened = wireguard.open(src, black_box(&datagram), &mut buffer, now);
        assert!(black_box(opened).is_err(), "there is no session");
    }
}

fn parse(times: u32) {
    let packet = data_packet(1, FULL_BYTES);
    for _ in 0..times {
        assert!(black_box(Packet::parse(black_box(&packet))).is_ok());
    }
}

fn judge(flows: usize, times: u32) {
    Filter::new(1, flows, PACKETS).judge(times);
}

fn verdict(count: u64, times: u32) {
    let rules = rules(count, count);
    for number in 0..times {
        let peer = NodeId(1 + u64::from(number) * 61 % count);
        let allowed = rules.verdict(
            black_box(Direction::Egress),
            peer,
            Protocol::TCP,
            443,
            UnixMillis(1),
        );
        assert!(black_box(allowed).is_some());
    }
}

fn verdict_by_port(count: u16, times: u32) {
    let rules = rules_by_port(count);
    for number in 0..times {
        let port = FIRST_PORT + (number * 61 % u32::from(count)) as u16;
        let allowed = rules.verdict(
            black_box(Direction::Egress),
            NodeId(1),
            Protocol::TCP,
            port,
            UnixMillis(1),
        );
        assert!(black_box(allowed).is_some());
    }
}

fn egress(times: u32) {
    let mut nodes = Nodes::new();
    let payload = vec![0x5a; (FULL_BYTES - HEADER_BYTES) * SEGMENTS_SENT];
    let mut bytes = segment(Nodes::flow(), 1, TcpFlags::ACK, &payload);
    for _ in 0..times / SEGMENTS_SENT as u32 {
        let whole = SuperPacket::parse(black_box(header()), &mut bytes).expect("a legal super-packet");
        nodes.send(&whole);
    }
}

fn due(perimeters: u8, times: u32) {
    let node = in_perimeters(perimeters);
    for _ in 0..times {
        assert!(black_box(black_box(&node).poll_timeout()).is_some());
    }
}

/// Of a super-packet of full-size segments.
fn header() -> VnetHeader {
    let segment_bytes = FULL_BYTES - HEADER_BYTES;
    VnetHeader {
        flags: VnetHeader::NEEDS_CHECKSUM,
        gso_type: VnetHeader::GSO_TCP_V4,
        header_bytes: HEADER_BYTES as u16,
        gso_bytes: segment_bytes as u16,
        checksum_start: 20,
        checksum_offset: 16,
    }
}

fn split(times: u32) {
    let (header, segment_bytes) = (header(), FULL_BYTES - HEADER_BYTES);
    let mut bytes = data_packet(1, HEADER_BYTES + segment_bytes * SEGMENTS);
    let mut out = vec![0; 2048];
    let mut left = times as usize;
    while left > 0 {
        let whole = SuperPacket::parse(black_box(header), &mut bytes).expect("a legal super-packet");
        for index in 0..SEGMENTS.min(left) {
            assert!(black_box(whole.write_segment(index, &mut out)) > 0);
        }
        left -= SEGMENTS.min(left);
    }
}

fn coalesce(times: u32) {
    let payload = vec![0x5a; FULL_BYTES - HEADER_BYTES];
    let packets: Vec<Vec<u8>> = (0..SEGMENTS)
        .map(|place| segment(flow(1), (place * payload.len()) as u32, TcpFlags::ACK, &payload))
        .collect();
    let mut left = times as usize;
    let mut buffer = Vec::with_capacity(1 << 16);
    while left > 0 {
        buffer.clear();
        buffer.resize(VNET_HEADER_BYTES, 0);
        buffer.extend_from_slice(&packets[0]);
        let mut run = Run::start(buffer);
        for packet in &packets[1..SEGMENTS.min(left)] {
            assert!(run.join(black_box(packet)));
        }
        left -= SEGMENTS.min(left);
        black_box(run.finish());
        buffer = run.into_buffer();
    }
}

const FULL_BYTES: usize = 1408;
const SMALL_BYTES: usize = 52;
/// As many packets of that size as 64 KiB hold.
const SEGMENTS: usize = 40;
/// A number that the counts of operations are multiples of.
const SEGMENTS_SENT: usize = 32;
const PACKETS: usize = 64;
/// The peers of the largest perimeter that this is made for.
const CROWD: u32 = 10_000;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn everything_that_is_counted_does_its_work() {
        for hot in ALL {
            (hot.work)(100);
            if let Some(but) = hot.but {
                but(100);
            }
        }
    }

    #[test]
    fn names_are_told_apart() {
        let mut names: Vec<&str> = ALL.iter().map(|hot| hot.name).collect();
        names.sort_unstable();
        names.dedup();

        assert_eq!(names.len(), ALL.len());
    }
}
