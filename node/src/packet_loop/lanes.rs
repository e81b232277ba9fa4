//! What goes from one packet loop of the node to another: packets to carry, and queues of the TUN devices.
//!
//! The lanes share nothing and never wait for each other: what finds no room in a queue is refused, as on a full link.

use tokio::sync::mpsc;

use ringfence_dataplane::Offer;

use super::{PacketLoop, Waker, watch};
use crate::clock;
use crate::tun::Tun;

/// The place of one loop among those of its node.
pub(super) struct Ring {
    /// Its own number.
    number: usize,
    /// All of them, by number.
    lanes: Vec<Door>,
    arrivals: mpsc::Receiver<Offer>,
    queues: mpsc::Receiver<Word>,
    /// Queues that came before the word that their segment exists.
    early: Vec<(String, Tun)>,
}

/// The way to one lane.
#[derive(Clone)]
struct Door {
    offers: mpsc::Sender<Offer>,
    /// Of their own: a lane that has more packets than it can carry gets its queues all the same.
    queues: mpsc::Sender<Word>,
    waker: Waker,
}

/// Word of a further queue of a TUN device, on its way to its lane.
struct Word {
    interface: String,
    /// `None`: the device is no more, and lives as long as somebody holds a queue of it.
    queue: Option<Tun>,
}

impl Ring {
    /// A place for each loop, which is woken by the waker of the same number. None where there is one loop alone.
    pub(super) fn places(wakers: &[Waker]) -> Vec<Option<Self>> {
        if wakers.len() == 1 {
            return vec![None];
        }
        let (doors, receivers): (Vec<_>, Vec<_>) = wakers.iter().map(Door::new).unzip();
        let places = receivers.into_iter().enumerate();
        places
            .map(|(number, (arrivals, queues))| {
                Some(Self {
                    number,
                    lanes: doors.clone(),
                    arrivals,
                    queues,
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
    /// A door, and what comes in by it.
    fn new(waker: &Waker) -> (Self, (mpsc::Receiver<Offer>, mpsc::Receiver<Word>)) {
        let (offers, arrivals) = mpsc::channel(ARRIVALS_MAX);
        let (queues, new_queues) = mpsc::channel(QUEUES_MAX);
        let door = Self {
            offers,
            queues,
            waker: waker.clone(),
        };
        (door, (arrivals, new_queues))
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
            match ring.next().offers.try_send(offer) {
                Ok(()) => offered = true,
                Err(mpsc::error::TrySendError::Full(lost) | mpsc::error::TrySendError::Closed(lost)) => {
                    self.dataplane.refuse_offer(lost);
                }
            }
        }
        if offered {
            ring.next().waker.wake();
        }
    }

    /// Gives each other lane its queue of a device.
    pub(super) fn hand_out(&self, interface: &str, queues: impl IntoIterator<Item = Tun>) {
        self.tell_lanes(interface, queues.into_iter().map(Some));
    }

    /// A segment is no more: no other lane is to keep its device alive. One that was late to hear of the segment may hold
    /// a queue that has no place.
    pub(super) fn call_in(&self, interface: &str) {
        self.tell_lanes(interface, std::iter::repeat_with(|| None));
    }

    /// In order, so that what is said last of an interface holds.
    fn tell_lanes(&self, interface: &str, queues: impl Iterator<Item = Option<Tun>>) {
        let Some(ring) = self.ring.as_ref().filter(|ring| ring.number == 0) else {
            return;
        };
        for (door, queue) in ring.lanes.iter().skip(1).zip(queues) {
            let interface = interface.to_owned();
            if door.queues.try_send(Word { interface, queue }).is_err() {
                // It has ended, or stands still; the kernel gives its packets to the other queues, once this is closed.
                tracing::error!("a lane does not take its queue of a device");
            }
            door.waker.wake();
        }
    }

    /// Takes what other lanes gave, up to [`ARRIVALS_MAX`] packets a turn.
    pub(super) fn take_arrivals(&mut self) {
        self.take_words();
        let now = clock::now();
        for _ in 0..ARRIVALS_MAX {
            let Some(offer) = self.ring.as_mut().and_then(|ring| ring.arrivals.try_recv().ok()) else {
                self.drain();
                return;
            };
            self.dataplane.handle_offer(offer, now);
            if self.dataplane.transmit_bytes_waiting() >= super::traffic::SEND_BYTES {
                self.drain();
            }
        }
        self.drain();
        // There may be more: wake at once.
        self.waker.wake();
    }

    fn take_words(&mut self) {
        let Some(ring) = &mut self.ring else { return };
        let mut any = false;
        while let Ok(Word { interface, queue }) = ring.queues.try_recv() {
            ring.early.retain(|(early, _)| *early != interface);
            ring.early.extend(queue.map(|tun| (interface, tun)));
            any = true;
        }
        if any {
            self.take_queues();
        }
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

/// Words of queues that may wait for a lane: those of every segment, made and taken away twice.
const QUEUES_MAX: usize = 4 * ringfence_model::SEGMENTS_PER_NODE_MAX;
