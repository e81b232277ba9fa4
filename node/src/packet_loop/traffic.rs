//! Packets and datagrams in batches, between the devices, the data plane and the socket.
//!
//! **Invariant:** nothing waits for more to come. What there is, a turn's worth at most, goes on before the loop looks
//! at its other descriptors and at commands again.

use std::ops::ControlFlow;
use std::time::Instant;

use ringfence_dataplane::offload::{SuperPacket, VnetHeader};
use ringfence_dataplane::{Arrival, SegmentId};

use super::PacketLoop;
use crate::clock;
use crate::udp::{RUNS_MAX, Route, is_destroyed};

impl PacketLoop {
    /// Moves what the socket holds to the TUN devices, a turn's worth at most; breaks if the socket is gone for good.
    pub(super) fn read_datagrams(&mut self) -> ControlFlow<()> {
        let mut inbox = std::mem::take(&mut self.inbox);
        let mut turn = Turn::default();
        while turn.goes_on() {
            let runs = match self.udp.receive(&mut inbox) {
                Ok(0) => break,
                Ok(runs) => runs,
                Err(error) if is_destroyed(&error) => {
                    let port = self.udp.port();
                    tracing::error!(port, "the UDP socket was destroyed from outside: the node stops");
                    return ControlFlow::Break(());
                }
                Err(error) => {
                    tracing::debug!(%error, "receiving datagrams failed");
                    break;
                }
            };
            let now = clock::now();
            for run in inbox.runs() {
                turn.count(run.bytes.len());
                let arrival = Arrival {
                    src: run.src,
                    ours: run.dst_ip,
                };
                self.dataplane
                    .handle_datagrams(arrival, run.bytes, run.stride, now);
            }
            self.dataplane.handle_batch_end(now);
            self.drain();
            if runs < RUNS_MAX {
                // None was left: the next wait tells of more, and asking here would cost a call in vain.
                break;
            }
        }
        self.inbox = inbox;
        ControlFlow::Continue(())
    }

    /// Moves what a TUN device holds to the socket, a turn's worth at most. Small packets gather until none waits, so
    /// that many go in one call; nothing waits for more to come, and where the last turn had one packet only, the first
    /// of this one goes before it is asked for more.
    pub(super) fn read_packets(&mut self, token: u64) {
        let found = self.devices.iter().find(|(_, device)| device.token == token);
        let Some((id, is_sparse)) = found.map(|(id, device)| (*id, device.is_sparse)) else {
            return;
        };
        let now = clock::now();
        let mut turn = Turn::default();
        while turn.goes_on() {
            let Some(tun) = self.devices.get(&id).and_then(|device| device.tun.as_ref()) else {
                break;
            };
            match tun.read(&mut self.buffer) {
                Ok(Some(length)) => {
                    turn.count(length);
                    self.patience.took_from_this_machine(length);
                    self.handle_packet(id, length, now);
                }
                Ok(None) => break,
                Err(error) => {
                    tracing::warn!(interface = tun.interface(), %error, "the TUN device is gone: making it anew");
                    self.open_device(id);
                    break;
                }
            }
            if is_sparse && turn.reads == 1 || self.dataplane.transmit_bytes_waiting() >= SEND_BYTES {
                self.drain();
            }
        }
        self.drain();
        if let Some(device) = self.devices.get_mut(&id) {
            device.is_sparse = turn.reads <= 1;
        }
    }

    /// Passes on what was read into the buffer.
    fn handle_packet(&mut self, id: SegmentId, length: usize, now: Instant) {
        let Some((header, packet)) = self.buffer[..length].split_first_chunk_mut() else {
            return;
        };
        let handled = match SuperPacket::parse(VnetHeader::decode(header), packet) {
            Ok(packet) => self.dataplane.handle_super_packet(id, &packet, now),
            Err(error) => {
                tracing::debug!(%error, "the kernel wrote a super-packet that contradicts itself");
                return;
            }
        };
        if let Err(reason) = handled {
            tracing::trace!(reason = reason.as_str(), "packet dropped");
        }
    }

    /// Gives the socket and the devices what the data plane has for them.
    pub(super) fn move_packets(&mut self) {
        while let Some(transmit) = self.dataplane.poll_transmit() {
            let route = Route {
                dst: transmit.dst,
                src_ip: transmit.src_ip,
            };
            self.patience.gave_to_others();
            if let Err(error) = self.udp.send(route, transmit.bytes(), transmit.stride()) {
                let count = self.udp.unsendable();
                tracing::debug!(%error, dst = %transmit.dst, count, "a datagram could not be sent");
            }
            self.dataplane.recycle(transmit.into_buffer());
        }
        while let Some(mut out) = self.dataplane.poll_tun() {
            self.patience.gave_to_this_machine(out.buffer.len());
            let device = self.devices.get(&out.segment);
            if let Some(tun) = device.and_then(|device| device.tun.as_ref())
                && let Err(error) = tun.write_run(&mut out.buffer)
            {
                tracing::debug!(interface = tun.interface(), %error, "the kernel refused a packet");
            }
            self.dataplane.recycle(out.buffer);
        }
    }
}

/// How much of its turn a descriptor has used.
#[derive(Default)]
struct Turn {
    reads: usize,
    bytes: usize,
}

impl Turn {
    fn goes_on(&self) -> bool {
        self.reads < TURN_READS_MAX && self.bytes < TURN_BYTES_MAX
    }

    fn count(&mut self, bytes: usize) {
        self.reads += 1;
        self.bytes += bytes;
    }
}

/// What one descriptor may move before the others get their turn: a fraction of a millisecond's work.
const TURN_BYTES_MAX: usize = 256 * 1024;

/// The same for small packets.
const TURN_READS_MAX: usize = 128;

/// So much goes out before more is read: the peer works while we do.
pub(super) const SEND_BYTES: usize = 32 * 1024;
