//! What waits for the shell, and the buffers that go round between the two.
//!
//! **Invariant:** the queues hold what one `handle_*` call made, because the shell drains them before the next; the
//! pool keeps at most [`POOL_BUFFERS_MAX`] and hands out no bytes of an earlier packet (every taker clears first).

use std::collections::VecDeque;
use std::net::SocketAddr;

use crate::{Event, SegmentId, Transmit, TunPacket};

/// All queues towards the shell.
#[derive(Default)]
pub(crate) struct Outbox {
    transmits: VecDeque<Transmit>,
    tun: VecDeque<TunPacket>,
    events: VecDeque<Event>,
    pool: Vec<Vec<u8>>,
}

impl Outbox {
    pub(crate) fn transmit(&mut self, dst: SocketAddr, datagram: Vec<u8>) {
        self.transmits.push_back(Transmit { dst, datagram });
    }

    pub(crate) fn tun(&mut self, segment: SegmentId, packet: Vec<u8>) {
        self.tun.push_back(TunPacket { segment, packet });
    }

    pub(crate) fn event(&mut self, event: Event) {
        self.events.push_back(event);
    }

    pub(crate) fn poll_transmit(&mut self) -> Option<Transmit> {
        self.transmits.pop_front()
    }

    pub(crate) fn poll_tun(&mut self) -> Option<TunPacket> {
        self.tun.pop_front()
    }

    pub(crate) fn poll_event(&mut self) -> Option<Event> {
        self.events.pop_front()
    }

    /// An empty buffer with room for a packet.
    pub(crate) fn buffer(&mut self) -> Vec<u8> {
        self.pool
            .pop()
            .unwrap_or_else(|| Vec::with_capacity(BUFFER_BYTES))
    }

    /// Keeps a buffer for the next packet; odd sizes and what is over the bound go back to the allocator.
    pub(crate) fn recycle(&mut self, mut buffer: Vec<u8>) {
        let fits = (BUFFER_BYTES_MIN..=BUFFER_BYTES_MAX).contains(&buffer.capacity());
        if fits && self.pool.len() < POOL_BUFFERS_MAX {
            buffer.clear();
            self.pool.push(buffer);
        }
    }
}

/// How many idle buffers are kept: two batches of a fast shell.
pub(crate) const POOL_BUFFERS_MAX: usize = 256;

const BUFFER_BYTES: usize = 2048;
const BUFFER_BYTES_MIN: usize = 1536;
const BUFFER_BYTES_MAX: usize = 65_536;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_pool_is_bounded_and_hands_out_empty_buffers() {
        let mut outbox = Outbox::default();

        for _ in 0..2 * POOL_BUFFERS_MAX {
            outbox.recycle(vec![7; BUFFER_BYTES]);
        }
        outbox.recycle(Vec::new());

        assert_eq!(outbox.pool.len(), POOL_BUFFERS_MAX);
        assert!(outbox.buffer().is_empty());
    }
}
