//! What goes from one packet loop of the node to another: packets to carry, and queues of the TUN devices.
//!
//! The lanes share nothing and never wait for each other: what finds no room in a queue is refused, as on a full link.

use std::os::fd::OwnedFd;
use std::sync::Arc;

use tokio::sync::mpsc;

use ringfence_dataplane::Offer;

use super::{PacketLoop, watch};
use crate::clock;
use crate::tun::Tun;

/// The place of one loop among those of its node.
pub(super) struct Ring {
    /// Its own number.
    number: usize,
    /// All of them, by number.
    lanes: Vec<Door>,
    arrivals: mpsc::Receiver<FromLane>,
    /// Queues that came before the word that their segment exists.
    early: Vec<(String, Tun)>,
}

/// The way to one lane.
#[derive(Clone)]
struct Door {
    sender: mpsc::Sender<FromLane>,
    waker: Arc<OwnedFd>,
}

/// What one lane gives another.
enum FromLane {
    /// A packet that it cannot carry.
    Offer(Offer),
    /// A further queue of a TUN device.
    Queue { interface: String, tun: Tun },
}

impl Ring {
    /// A place for each loop, which is woken by the waker of the same number. None where there is one loop alone.
    pub(super) fn places(wakers: &[Arc<OwnedFd>]) -> Vec<Option<Self>> {
        if wakers.len() == 1 {
            return vec![None];
        }
        let (senders, receivers): (Vec<_>, Vec<_>) =
            wakers.iter().map(|_| mpsc::channel(ARRIVALS_MAX)).unzip();
        let doors = senders.into_iter().zip(wakers).map(|(sender, waker)| Door {
            sender,
            waker: Arc::clone(waker),
        });
        let doors: Vec<Door> = doors.collect();
        let places = receivers.into_iter().enumerate();
        places
            .map(|(number, arrivals)| {
                Some(Self {
                    number,
                    lanes: doors.clone(),
                    arrivals,
                    early: Vec::new(),
                })
            })
            .collect()
    }

    fn next(&self) -> &Door {
        &self.lanes[(self.number + 1) % self.lanes.len()]
    }
}

impl Door {
    fn wake(&self) {
        // A full counter means the loop is about to wake anyway.
        let _ = rustix::io::write(&*self.waker, &1_u64.to_ne_bytes());
    }
}

impl PacketLoop {
    /// Whether this loop makes devices and speaks to the control side: one of them does.
    pub(super) fn is_first(&self) -> bool {
        self.ring.as_ref().is_none_or(|ring| ring.number == 0)
    }

    /// How many queues a device has.
    pub(super) fn queues(&self) -> usize {
        self.ring.as_ref().map_or(1, |ring| ring.lanes.len())
    }

    /// Asks the next lane to carry what this one cannot.
    pub(super) fn offer_on(&mut self) {
        let Some(ring) = &self.ring else { return };
        let mut offered = false;
        while let Some(offer) = self.dataplane.poll_offer() {
            match ring.next().sender.try_send(FromLane::Offer(offer)) {
                Ok(()) => offered = true,
                Err(mpsc::error::TrySendError::Full(lost) | mpsc::error::TrySendError::Closed(lost)) => {
                    if let FromLane::Offer(offer) = lost {
                        self.dataplane.refuse_offer(offer);
                    }
                }
            }
        }
        if offered {
            ring.next().wake();
        }
    }

    /// Gives each other lane its queue of a device.
    pub(super) fn hand_out(&self, interface: &str, queues: impl IntoIterator<Item = Tun>) {
        let Some(ring) = &self.ring else { return };
        for (door, tun) in ring.lanes.iter().skip(1).zip(queues) {
            let queue = FromLane::Queue {
                interface: interface.to_owned(),
                tun,
            };
            if door.sender.try_send(queue).is_err() {
                // The kernel gives its packets to the other queues, once this one is closed.
                tracing::warn!(interface, "a lane is too busy to take its queue of a device");
            }
            door.wake();
        }
    }

    /// Takes what other lanes gave, up to [`ARRIVALS_MAX`] a turn.
    pub(super) fn take_arrivals(&mut self) {
        let now = clock::now();
        for _ in 0..ARRIVALS_MAX {
            let Some(ring) = &mut self.ring else { return };
            match ring.arrivals.try_recv() {
                Ok(FromLane::Offer(offer)) => {
                    self.dataplane.handle_offer(offer, now);
                    if self.dataplane.transmit_bytes_waiting() >= super::traffic::SEND_BYTES {
                        self.drain();
                    }
                }
                Ok(FromLane::Queue { interface, tun }) => {
                    ring.early.retain(|(early, _)| *early != interface);
                    ring.early.push((interface, tun));
                    self.take_queues();
                }
                Err(_) => {
                    self.drain();
                    return;
                }
            }
        }
        self.drain();
        // There may be more: wake at once.
        let _ = rustix::io::write(&*self.waker, &1_u64.to_ne_bytes());
    }

    /// Puts queues that came to the devices that are known.
    pub(super) fn take_queues(&mut self) {
        let Some(ring) = &mut self.ring else { return };
        for device in self.devices.values_mut() {
            let place = ring
                .early
                .iter()
                .position(|(interface, _)| *interface == device.facts.interface);
            let Some(place) = place else { continue };
            let (_, tun) = ring.early.swap_remove(place);
            device.tun = None;
            match watch(&self.epoll, &tun, device.token) {
                Ok(()) => device.tun = Some(tun),
                Err(error) => {
                    tracing::error!(interface = device.facts.interface, %error, "a queue of a device is of no use");
                }
            }
        }
    }
}

/// What may wait for a lane: more than another one's turn makes.
const ARRIVALS_MAX: usize = 1024;
