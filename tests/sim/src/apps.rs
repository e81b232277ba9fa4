//! Applications: what listens and what calls, on every machine's devices.
//!
//! The TCP here is a sketch that keeps sequence numbers right, sends again what was lost, and takes a reset only where
//! RFC 5961 would: enough to have long connections for policy to cut. What it sends follows from the sequence numbers
//! (`stream.rs`), so that whoever receives it knows what it should be.

use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;
use std::time::Duration;

use ringfence_model::Name;
use ringfence_packet::{
    Flow, Protocol, TcpFlags, TcpSegment, echo_reply, echo_request, tcp_reset_answering, tcp_segment,
    udp_datagram,
};

use crate::inspect::{Seen, Tuple, inspect, reversed};
use crate::schedule::Happening;
use crate::stream::stream;
use crate::world::World;

/// All applications' state.
#[derive(Default)]
pub(crate) struct Apps {
    /// Connections, by machine, perimeter, and tuple as this end sends.
    connections: BTreeMap<(usize, Name, Tuple), Connection>,
    /// Questions that were answered.
    answered: BTreeSet<u64>,
    /// Echo identifiers and client ports of questions, by their number.
    asked: BTreeMap<(usize, Name, Tuple), u64>,
    numbers: u64,
}

#[derive(Clone, Debug)]
struct Connection {
    next: u32,
    acked: u32,
    expects: u32,
    /// Where runs of data that came too early begin and end: they count as soon as the gap before them is closed.
    early: Vec<(u32, u32)>,
    /// There were once more of these than a data plane remembers.
    was_torn: bool,
    role: Role,
    question: u64,
}

impl Connection {
    /// Data, or an end, from a number on. What comes too early is kept, as kernels keep it.
    fn takes(&mut self, seq: u32, length: u32) {
        let is_after = |a: u32, b: u32| a.wrapping_sub(b).cast_signed() > 0;
        let (mut start, mut end) = (seq, seq.wrapping_add(length));
        if !is_after(end, self.expects) {
            return;
        }
        let touches = |(from, to): &(u32, u32), start, end| !is_after(*from, end) && !is_after(start, *to);
        while let Some(place) = self.early.iter().position(|run| touches(run, start, end)) {
            let (from, to) = self.early.swap_remove(place);
            start = if is_after(start, from) { from } else { start };
            end = if is_after(to, end) { to } else { end };
        }
        if is_after(start, self.expects) {
            self.early.push((start, end));
        } else {
            self.expects = end;
        }
        self.was_torn |= self.early.len() > GAPS_FOLLOWED;
    }
}

/// What counts of a segment that arrived.
#[derive(Clone, Copy)]
struct Segment {
    seq: u32,
    ack: u32,
    data: u32,
    flags: u8,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Role {
    Calling,
    Client,
    Server,
}

impl Apps {
    /// A machine's processes are gone.
    pub(crate) fn forget(&mut self, machine: usize) {
        self.connections.retain(|(place, ..), _| *place != machine);
        self.asked.retain(|(place, ..), _| *place != machine);
    }

    /// A device is gone.
    pub(crate) fn forget_device(&mut self, machine: usize, perimeter: &Name) {
        self.connections
            .retain(|(place, name, _), _| *place != machine || name != perimeter);
    }

    /// The connections of a machine in a perimeter, as it sends.
    pub(crate) fn tuples(&self, machine: usize, perimeter: &Name) -> Vec<Tuple> {
        let all = self
            .connections
            .keys()
            .filter(|(place, name, _)| *place == machine && name == perimeter);
        all.map(|(.., tuple)| *tuple).collect()
    }

    /// Identifiers of echoes that a machine asks someone for, and has not got.
    pub(crate) fn echoes(&self, machine: usize, perimeter: &Name, dst: IpAddr) -> Vec<u16> {
        let mine = self
            .asked
            .keys()
            .filter(|(place, name, tuple)| *place == machine && name == perimeter && tuple.1 == dst);
        mine.map(|(.., tuple)| tuple.3).collect()
    }

    /// Whether an application of a machine holds a connection, as it sends.
    pub(crate) fn is_connected(&self, machine: usize, perimeter: &Name, tuple: Tuple) -> bool {
        self.connections
            .contains_key(&(machine, perimeter.clone(), tuple))
    }

    /// Whether a reset that a data plane sends is sure to be believed at once. Where more gaps came than it remembers, it
    /// may miss the number; the application says which it expects, and is answered with that (RFC 5961 section 3.2).
    pub(crate) fn believes_at_once(&self, machine: usize, perimeter: &Name, tuple: Tuple) -> bool {
        let connection = self.connections.get(&(machine, perimeter.clone(), tuple));
        connection.is_none_or(|connection| !connection.was_torn)
    }

    /// Whether a question was answered.
    pub(crate) fn is_answered(&self, question: u64) -> bool {
        self.answered.contains(&question)
    }

    fn number(&mut self) -> u64 {
        self.numbers += 1;
        self.numbers
    }
}

/// What to ask, and where.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Call {
    /// From.
    pub src: IpAddr,
    /// To.
    pub dst: IpAddr,
    /// By this protocol.
    pub protocol: u8,
    /// At this port.
    pub port: u16,
}

impl World {
    /// An application asks something. Gives the number of the question.
    pub(crate) fn call(&mut self, machine: usize, perimeter: &Name, call: Call) -> u64 {
        let question = self.apps.number();
        let client_port = 20_000 + (question % 40_000) as u16;
        let flow = Flow {
            src: call.src,
            dst: call.dst,
            protocol: Protocol(call.protocol),
            src_port: client_port,
            dst_port: call.port,
        };
        let tuple = (call.src, call.dst, call.protocol, client_port, call.port);
        match call.protocol {
            6 => {
                let isn = question.wrapping_mul(0x9e37_79b9) as u32;
                self.apps.connections.insert(
                    (machine, perimeter.clone(), tuple),
                    Connection {
                        next: isn.wrapping_add(1),
                        acked: isn.wrapping_add(1),
                        expects: 0,
                        early: Vec::new(),
                        was_torn: false,
                        role: Role::Calling,
                        question,
                    },
                );
                self.put_segment(machine, perimeter, tuple, (isn, 0), TcpFlags::SYN, 0);
            }
            17 => {
                let length = if self.dice.chance(0.2) { 1_300 } else { 20 };
                let mut payload = vec![b'Q'];
                payload.extend(question.to_be_bytes());
                payload.resize(length, 7);
                let packet = udp_datagram(flow, &payload);
                if self.dice.chance(0.1) && call.dst.is_ipv4() {
                    for piece in fragments(&packet, question as u16) {
                        self.put(machine, perimeter, piece);
                    }
                } else {
                    self.put(machine, perimeter, packet);
                }
            }
            _ => {
                let packet = echo_request(call.src, call.dst, client_port, question as u16, b"ping");
                let tuple = (call.src, call.dst, call.protocol, client_port, client_port);
                self.apps
                    .asked
                    .insert((machine, perimeter.clone(), tuple), question);
                self.put(machine, perimeter, packet);
            }
        }
        question
    }

    /// Connections of a machine go on: more data, or what was lost again.
    pub(crate) fn continue_connections(&mut self, machine: usize) {
        let open: Vec<_> = self
            .apps
            .connections
            .iter()
            .filter(|((place, ..), connection)| *place == machine && connection.role == Role::Client)
            .map(|((_, perimeter, tuple), connection)| (perimeter.clone(), *tuple, connection.clone()))
            .collect();
        for (perimeter, tuple, connection) in open {
            if self.dice.chance(0.5) {
                continue;
            }
            let ends = self.dice.chance(0.05);
            let (flags, data_bytes) = if ends {
                (TcpFlags::FIN.with(TcpFlags::ACK), 0)
            } else if self.swarm.runs && self.dice.chance(0.5) {
                let flags = self
                    .dice
                    .pick(&[TcpFlags::ACK, TcpFlags::ACK.with(TcpFlags::PSH)]);
                (flags, self.dice.number(1..BULK_BYTES_MAX) as usize)
            } else {
                (TcpFlags::ACK, 4)
            };
            self.put_segment(
                machine,
                &perimeter,
                tuple,
                (connection.acked, connection.expects),
                flags,
                data_bytes,
            );
            let key = (machine, perimeter, tuple);
            if ends {
                self.apps.connections.remove(&key);
            } else if let Some(connection) = self.apps.connections.get_mut(&key) {
                connection.next = connection.acked.wrapping_add(data_bytes as u32);
            }
        }
    }

    /// A packet reaches a machine's kernel.
    pub(crate) fn app_receives(&mut self, machine: usize, perimeter: &Name, packet: &[u8]) {
        let Some(seen) = inspect(packet) else {
            return;
        };
        match seen.protocol {
            6 if seen.fragment.is_none() => self.tcp_receives(machine, perimeter, &seen, packet),
            17 if seen.fragment.is_none() => self.udp_receives(machine, perimeter, &seen, packet),
            1 | 58 => {
                if let Some(reply) = echo_reply(packet) {
                    self.put(machine, perimeter, reply);
                } else if !seen.is_echo_request()
                    && let Some(question) =
                        self.apps
                            .asked
                            .remove(&(machine, perimeter.clone(), reversed(seen.tuple())))
                    && seen.quoted.is_none()
                {
                    self.apps.answered.insert(question);
                }
            }
            _ => {}
        }
    }

    fn udp_receives(&mut self, machine: usize, perimeter: &Name, seen: &Seen, packet: &[u8]) {
        let header = if seen.src.is_ipv4() { 28 } else { 48 };
        let Some((kind, rest)) = packet.get(header..).and_then(<[u8]>::split_first) else {
            return;
        };
        match kind {
            b'Q' => {
                let mut payload = vec![b'A'];
                payload.extend_from_slice(rest);
                let packet = udp_datagram(flow_of(reversed(seen.tuple())), &payload);
                self.put(machine, perimeter, packet);
            }
            b'A' => {
                if let Some(number) = rest.first_chunk() {
                    self.apps.answered.insert(u64::from_be_bytes(*number));
                }
            }
            _ => {}
        }
    }

    fn tcp_receives(&mut self, machine: usize, perimeter: &Name, seen: &Seen, packet: &[u8]) {
        let header = if seen.src.is_ipv4() { 20 } else { 40 };
        let word = |at: usize| {
            packet
                .get(at..at + 4)
                .map_or(0, |four| u32::from_be_bytes([four[0], four[1], four[2], four[3]]))
        };
        let segment = Segment {
            seq: word(header + 4),
            ack: word(header + 8),
            data: packet.len().saturating_sub(header + 20) as u32,
            flags: seen.tcp_flags,
        };
        let ours = reversed(seen.tuple());
        let key = (machine, perimeter.clone(), ours);
        match self.apps.connections.get(&key).cloned() {
            None if seen.is_syn() => {
                let isn = self.apps.number().wrapping_mul(0x85eb_ca6b) as u32;
                let connection = Connection {
                    next: isn.wrapping_add(1),
                    acked: isn.wrapping_add(1),
                    expects: segment.seq.wrapping_add(1),
                    early: Vec::new(),
                    was_torn: false,
                    role: Role::Server,
                    question: 0,
                };
                let expects = connection.expects;
                self.apps.connections.insert(key, connection);
                let flags = TcpFlags::SYN.with(TcpFlags::ACK);
                self.put_segment(machine, perimeter, ours, (isn, expects), flags, 0);
            }
            None => {
                if let Some(reset) = tcp_reset_answering(packet) {
                    self.put(machine, perimeter, reset);
                }
            }
            Some(connection) if seen.is_reset() => {
                // RFC 9293 section 3.10.7.3: who has only called believes what acknowledges the call.
                let is_believed = match connection.role {
                    Role::Calling => segment.ack == connection.next,
                    Role::Client | Role::Server => segment.seq == connection.expects,
                };
                if is_believed {
                    self.apps.connections.remove(&key);
                    self.stats.resets += 1;
                } else {
                    self.stats.resets_astray += 1;
                    self.acknowledge_segment(machine, perimeter, ours, &connection);
                }
            }
            Some(connection) => self.tcp_continues(key, connection, segment),
        }
    }

    fn tcp_continues(&mut self, key: (usize, Name, Tuple), mut connection: Connection, segment: Segment) {
        let ends = segment.flags & 1 != 0;
        if connection.role == Role::Calling && segment.flags & 0x12 == 0x12 {
            connection.role = Role::Client;
            connection.expects = segment.seq.wrapping_add(1);
            self.apps.answered.insert(connection.question);
        } else {
            connection.takes(segment.seq, segment.data + u32::from(ends));
        }
        if segment.flags & 0x10 != 0 && segment.ack.wrapping_sub(connection.acked) <= 65_535 {
            connection.acked = segment.ack;
        }
        if segment.data > 0 || segment.flags & 3 != 0 {
            self.acknowledge_segment(key.0, &key.1, key.2, &connection);
        }
        if ends {
            self.apps.connections.remove(&key);
        } else {
            self.apps.connections.insert(key, connection);
        }
    }

    fn acknowledge_segment(
        &mut self,
        machine: usize,
        perimeter: &Name,
        tuple: Tuple,
        connection: &Connection,
    ) {
        let numbers = (connection.next, connection.expects);
        self.put_segment(machine, perimeter, tuple, numbers, TcpFlags::ACK, 0);
    }

    fn put_segment(
        &mut self,
        machine: usize,
        perimeter: &Name,
        tuple: Tuple,
        numbers: (u32, u32),
        flags: TcpFlags,
        data_bytes: usize,
    ) {
        let segment = TcpSegment {
            flow: flow_of(tuple),
            seq: numbers.0,
            ack: numbers.1,
            flags,
            window: 60_000,
            payload: &stream(numbers.0, data_bytes),
        };
        self.put(machine, perimeter, tcp_segment(&segment));
    }

    /// Hands a packet to the data plane, a moment from now.
    fn put(&mut self, machine: usize, perimeter: &Name, packet: Vec<u8>) {
        let boot = self.machines[machine].boot;
        let wait = self
            .dice
            .time(Duration::from_micros(10)..Duration::from_millis(3));
        self.queue.at(
            self.now + wait,
            Happening::Send {
                machine,
                boot,
                perimeter: perimeter.clone(),
                packet,
            },
        );
    }
}

fn flow_of(tuple: Tuple) -> Flow {
    Flow {
        src: tuple.0,
        dst: tuple.1,
        protocol: Protocol(tuple.2),
        src_port: tuple.3,
        dst_port: tuple.4,
    }
}

/// Cuts an IPv4 packet in two or more.
pub(crate) fn fragments(packet: &[u8], id: u16) -> Vec<Vec<u8>> {
    let (header, payload) = packet.split_at(20);
    let size = (payload.len() / 2 / 8 * 8).max(8);
    let pieces: Vec<&[u8]> = payload.chunks(size).collect();
    let last = pieces.len() - 1;
    let piece = |(place, piece): (usize, &&[u8])| {
        let more = if place < last { 0x2000 } else { 0 };
        fragment(header, piece, id, (place * size / 8) as u16 | more)
    };
    pieces.iter().enumerate().map(piece).collect()
}

/// One fragment, with the flags and offset given.
pub(crate) fn fragment(header: &[u8], piece: &[u8], id: u16, field: u16) -> Vec<u8> {
    let mut bytes = header[..20].to_vec();
    bytes[2..4].copy_from_slice(&((20 + piece.len()) as u16).to_be_bytes());
    bytes[4..6].copy_from_slice(&id.to_be_bytes());
    bytes[6..8].copy_from_slice(&field.to_be_bytes());
    bytes[10..12].copy_from_slice(&[0, 0]);
    let sum = ringfence_packet::checksum(0, &bytes);
    bytes[10..12].copy_from_slice(&sum.to_be_bytes());
    bytes.extend_from_slice(piece);
    bytes
}

/// What an application writes at once: with headers, no more than a packet holds.
const BULK_BYTES_MAX: u64 = 60_000;
/// `ISLANDS_MAX` of `crates/policy/src/tcp_track.rs`.
const GAPS_FOLLOWED: usize = 4;
