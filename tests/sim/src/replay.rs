//! Stands in for a tunnel that opens a datagram twice.
//!
//! boringtun's window of counters is inside it and has no switch. So with [`Safeguard::ReplayWindow`] off, what it
//! refuses as replayed is handed up once more, as it was when it opened the first time.

use std::collections::VecDeque;

use ringfence_dataplane::DropReason;
use ringfence_model::Name;

use crate::sabotage::{Safeguard, is_off};
use crate::violation::Violation;
use crate::world::World;

/// What opened lately.
#[derive(Default)]
pub(crate) struct Opened {
    under_way: Option<Vec<u8>>,
    latest: VecDeque<Once>,
}

#[derive(Clone)]
struct Once {
    machine: usize,
    datagram: Vec<u8>,
    perimeter: Name,
    packet: Vec<u8>,
}

impl World {
    /// A datagram is about to be handed to a data plane.
    pub(crate) fn note_opening(&mut self, datagram: &[u8]) {
        if is_off(Safeguard::ReplayWindow) {
            self.opened.under_way = Some(datagram.to_vec());
        }
    }

    /// A packet came out of it.
    pub(crate) fn note_opened(&mut self, machine: usize, perimeter: &Name, packet: &[u8]) {
        let Some(datagram) = self.opened.under_way.take() else {
            return;
        };
        if self.opened.latest.len() == OPENED_MAX {
            self.opened.latest.pop_front();
        }
        self.opened.latest.push_back(Once {
            machine,
            datagram,
            perimeter: perimeter.clone(),
            packet: packet.to_vec(),
        });
    }

    /// The data plane has refused a datagram, or not, and its queues are drained.
    pub(crate) fn open_again(
        &mut self,
        machine: usize,
        datagram: &[u8],
        refused: Option<DropReason>,
    ) -> Result<(), Violation> {
        self.opened.under_way = None;
        if !is_off(Safeguard::ReplayWindow) || refused.is_none_or(|reason| reason.as_str() != "replayed") {
            return Ok(());
        }
        let mut latest = self.opened.latest.iter();
        let known = latest.find(|known| known.machine == machine && known.datagram == datagram);
        match known.cloned() {
            Some(known) => self.deliver(machine, &known.perimeter, &known.packet),
            None => Ok(()),
        }
    }
}

const OPENED_MAX: usize = 256;
