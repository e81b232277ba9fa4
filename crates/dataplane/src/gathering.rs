//! Packets that were opened and wait for the rest of their batch: many of one conversation go to the kernel as one.
//!
//! **Invariant:** a run holds packets of one peer and one conversation, in the order in which they came; nothing in it
//! has been judged yet. At most [`RUNS_MAX`] runs wait.

use std::net::{IpAddr, SocketAddr};
use std::time::Instant;

use ringfence_model::TableSize;
use ringfence_packet::offload::Run;
use ringfence_wg::PeerSlot;

use crate::pending::PeerKey;
use crate::transmit::Way;

/// Where a datagram came from, and where it went.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Arrival {
    /// The sender.
    pub src: SocketAddr,
    /// The address of ours it was sent to, where the shell can tell.
    pub ours: Option<IpAddr>,
}

/// The runs of a batch.
#[derive(Default)]
pub(crate) struct Gathering {
    runs: Vec<Gathered>,
    /// Where a packet is opened that continues no run.
    pub(crate) stray: Vec<u8>,
    /// Whose datagram came last, how and when.
    heard: Option<(PeerSlot, Arrival, Instant)>,
    /// How the last came, whoever sent it.
    last: Option<Arrival>,
}

/// One run, and who sent it.
pub(crate) struct Gathered {
    pub(crate) peer: PeerKey,
    slot: PeerSlot,
    pub(crate) run: Run,
}

/// What became of a packet that looked for its run.
pub(crate) enum Joined {
    /// It is part of one.
    Yes,
    /// It cannot join the run of its conversation, so that goes first, and with it all that came earlier: a fragment
    /// may belong to any of them. So many.
    After(usize),
    /// Nothing of its conversation waits.
    No,
}

impl Gathering {
    /// Whether the last datagram too came at this moment in this way from this peer: then there is nothing to learn.
    pub(crate) fn has_heard(&mut self, slot: PeerSlot, arrival: Arrival, now: Instant) -> bool {
        self.heard.replace((slot, arrival, now)) == Some((slot, arrival, now))
    }

    /// Notes how datagrams come that may be answered.
    pub(crate) fn arrives(&mut self, arrival: Arrival) {
        self.last = Some(arrival);
    }

    /// How to answer a stranger: from the address it wrote to, if it was the last to write.
    pub(crate) fn way_back_to(&self, dst: SocketAddr) -> Way {
        let last = self.last.filter(|arrival| arrival.src == dst);
        Way {
            dst,
            src_ip: last.and_then(|arrival| arrival.ours),
        }
    }

    /// The run that the next packet of this peer most likely continues.
    pub(crate) fn growing(&mut self, slot: PeerSlot) -> Option<&mut Run> {
        let last = self.runs.last_mut()?;
        (last.slot == slot && last.run.can_grow()).then_some(&mut last.run)
    }

    /// Puts a packet where it continues a run.
    pub(crate) fn join(&mut self, slot: PeerSlot, packet: &[u8]) -> Joined {
        let place = self
            .runs
            .iter()
            .rposition(|gathered| gathered.slot == slot && gathered.run.is_same_flow(packet));
        match place {
            Some(place) if self.runs[place].run.join(packet) => Joined::Yes,
            Some(place) => Joined::After(place + 1),
            None => Joined::No,
        }
    }

    /// Takes the oldest run out.
    pub(crate) fn take_oldest(&mut self) -> Option<Gathered> {
        (!self.runs.is_empty()).then(|| self.runs.remove(0))
    }

    /// Starts a run with the packet behind the header in `buffer`.
    pub(crate) fn start(&mut self, peer: PeerKey, slot: PeerSlot, buffer: Vec<u8>) {
        self.runs.push(Gathered {
            peer,
            slot,
            run: Run::start(buffer),
        });
    }

    /// Whether what waits must go before more comes.
    pub(crate) fn is_full(&self) -> bool {
        self.runs.len() >= RUNS_MAX
    }

    pub(crate) fn table(&self) -> TableSize {
        TableSize::new("packets that may grow", self.runs.len(), RUNS_MAX)
    }

    /// Takes all runs.
    pub(crate) fn take(&mut self) -> Vec<Gathered> {
        std::mem::take(&mut self.runs)
    }

    /// Takes the list back that [`Self::take`] gave, empty, so that the next batch allocates none.
    pub(crate) fn give_back(&mut self, runs: Vec<Gathered>) {
        debug_assert!(runs.is_empty());
        if self.runs.is_empty() {
            self.runs = runs;
        }
    }
}

/// Runs that wait for the end of their batch: each may hold a buffer of 64 KiB.
const RUNS_MAX: usize = 32;
