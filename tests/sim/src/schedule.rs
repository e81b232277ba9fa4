//! What is going to happen, in order of time and, at one time, in order of its planning.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::time::Duration;

use ringfence_control::FlowRecords;
use ringfence_model::{Name, NodeId};

/// Something that happens at a moment.
#[derive(Clone, Debug)]
pub(crate) enum Happening {
    /// A datagram reaches a machine's socket.
    Datagram {
        /// Which machine.
        to: usize,
        /// As the receiver sees it.
        src: SocketAddr,
        /// The payload.
        bytes: Vec<u8>,
    },
    /// A machine asked to be woken.
    Timer {
        /// Which machine.
        machine: usize,
        /// The process that asked.
        boot: u64,
    },
    /// A machine's application sends a packet.
    Send {
        /// Which machine.
        machine: usize,
        /// The process on which it runs.
        boot: u64,
        /// On the device of which perimeter.
        perimeter: Name,
        /// The packet.
        packet: Vec<u8>,
    },
    /// A machine's agent loads or makes a key.
    Key {
        /// Which machine.
        machine: usize,
        /// The process that asked.
        boot: u64,
        /// For which segment.
        perimeter: Name,
    },
    /// A machine starts.
    Start {
        /// Which.
        machine: usize,
    },
    /// A machine tries to reach the controller.
    Connect {
        /// Which machine.
        machine: usize,
        /// The process that tries.
        boot: u64,
    },
    /// Something may be read from a control connection.
    Link {
        /// Which.
        link: u64,
    },
    /// An end of a control connection notices that it is gone.
    LinkLost {
        /// Which.
        link: u64,
        /// Which end.
        end: crate::link::End,
    },
    /// The controller starts.
    ControllerStart,
    /// The controller asked to be woken.
    ControllerTimer {
        /// The process that asked.
        boot: u64,
    },
    /// The controller's disk has come to a batch of flow records.
    Records {
        /// The process that was told.
        boot: u64,
        /// By which connection.
        link: u64,
        /// Whose.
        node: NodeId,
        /// What.
        batch: FlowRecords,
    },
    /// Time for an application to begin something.
    Traffic {
        /// On which machine.
        machine: usize,
    },
    /// Time for an administrator to act.
    Admin,
    /// Time for a fault.
    Fault,
    /// A partition ends.
    Heal {
        /// From.
        from: usize,
        /// To.
        to: usize,
    },
    /// Time for an attack.
    Attack,
    /// Time to look at connections, queues and views.
    Look,
}

/// The queue.
#[derive(Default)]
pub(crate) struct Schedule {
    queue: BTreeMap<(Duration, u64), Happening>,
    planned: u64,
}

impl Schedule {
    /// Plans something.
    pub(crate) fn at(&mut self, when: Duration, what: Happening) {
        self.queue.insert((when, self.planned), what);
        self.planned += 1;
    }

    /// The next thing to happen.
    pub(crate) fn next(&mut self) -> Option<(Duration, Happening)> {
        let ((when, _), what) = self.queue.pop_first()?;
        Some((when, what))
    }

    /// The next datagram, if that is what happens next, by `now`, and to `machine`.
    pub(crate) fn next_datagram(&mut self, machine: usize, now: Duration) -> Option<(SocketAddr, Vec<u8>)> {
        let entry = self.queue.first_entry().filter(|entry| entry.key().0 <= now)?;
        if !matches!(entry.get(), Happening::Datagram { to, .. } if *to == machine) {
            return None;
        }
        match entry.remove() {
            Happening::Datagram { src, bytes, .. } => Some((src, bytes)),
            _ => None,
        }
    }

    /// When the next thing happens.
    pub(crate) fn peek(&self) -> Option<Duration> {
        self.queue.keys().next().map(|(when, _)| *when)
    }

    /// How much is planned.
    pub(crate) fn len(&self) -> usize {
        self.queue.len()
    }
}
