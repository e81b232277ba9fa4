//! The thread that owns a data plane, one for each lane of the node: waits for packets, datagrams, commands and timers, and moves them through.
//!
//! **Invariant:** this thread is the only one that touches its data plane, and it never blocks on anything but its
//! own epoll: not on the control side, not on disk. Commands come before packets, so a new revision is enforced
//! before the next packet.

use std::collections::BTreeMap;
use std::io;
use std::ops::ControlFlow;
use std::os::fd::OwnedFd;
use std::time::{Duration, Instant};

use rustix::event::{Timespec, epoll};
use tokio::sync::mpsc;

use ringfence_confine::wash_stack;
use ringfence_dataplane::{Dataplane, DataplaneConfig, Event, SegmentFacts, SegmentId};

use crate::clock;
use crate::command::{Command, LoopEvent};
use crate::flows::{ClosedFlows, Flows, NotTaken};
use crate::tun::{self, Offload, Tun};
use crate::udp::{Inbox, Udp};

mod lanes;
mod patience;
mod threads;
mod traffic;
mod waker;

pub(crate) use threads::{LaneParts, LoopEnded, LoopHandle, Running, spawn};

use lanes::Ring;
use patience::{Patience, STAY_AWAKE, Wait};
use threads::{COMMANDS_MAX, Connections};
use waker::Waker;

struct PacketLoop {
    dataplane: Dataplane,
    udp: Udp,
    devices: BTreeMap<SegmentId, Device>,
    next_token: u64,
    device_retry: Option<Instant>,
    epoll: OwnedFd,
    waker: Waker,
    patience: Patience,
    /// Its place among the loops of the node; `None` if there is no other.
    ring: Option<Ring>,
    commands: mpsc::Receiver<Command>,
    events: mpsc::Sender<LoopEvent>,
    flows: Flows,
    /// Ended flows that wait to be handed over.
    closed: ClosedFlows,
    hand_over_at: Option<Instant>,
    /// How many the data plane had not told when last asked.
    unreported: u64,
    buffer: Vec<u8>,
    inbox: Inbox,
}

impl PacketLoop {
    fn new(parts: LaneParts, config: DataplaneConfig, connections: Connections) -> io::Result<Self> {
        let LaneParts { udp, seed } = parts;
        let Connections {
            waker,
            commands,
            events,
            flows,
            ring,
        } = connections;
        let epoll = epoll::create(epoll::CreateFlags::CLOEXEC)?;
        watch(&epoll, &waker, WAKER)?;
        watch(&epoll, &udp, UDP)?;
        Ok(Self {
            dataplane: Dataplane::new(config, seed),
            udp,
            devices: BTreeMap::new(),
            next_token: FIRST_DEVICE,
            device_retry: None,
            epoll,
            waker,
            patience: Patience::default(),
            ring,
            commands,
            events,
            flows,
            closed: ClosedFlows::default(),
            hand_over_at: None,
            unreported: 0,
            buffer: vec![0; tun::READ_BYTES_MAX],
            inbox: Inbox::new(),
        })
    }
}

/// A segment's TUN device, or the wish for one.
struct Device {
    facts: SegmentFacts,
    token: u64,
    tun: Option<Tun>,
    /// Whether its last turn had one packet only, so that gathering would be waiting.
    is_sparse: bool,
}

impl PacketLoop {
    fn run(&mut self) {
        let mut ready = Vec::with_capacity(READY_MAX);
        loop {
            if let Err(error) = self.wait(&mut ready) {
                tracing::error!(%error, "waiting for packets failed: the node stops");
                return;
            }
            if ready.iter().any(|event| event.data.u64() == WAKER) {
                self.waker.clear();
            }
            if self.take_commands().is_break() {
                self.hand_over();
                return;
            }
            if self.ring.is_some() {
                self.take_arrivals();
            }
            for event in &ready {
                if self.handle_ready(event.data.u64()).is_break() {
                    self.hand_over();
                    return;
                }
            }
            self.handle_time(clock::now());
        }
    }

    /// Waits until a descriptor has something or something is due.
    fn wait(&mut self, ready: &mut Vec<epoll::Event>) -> io::Result<()> {
        let began = clock::now();
        let limit = self.time_to_wake(began);
        let wait = self.patience.begin();
        ready.clear();
        if wait == Wait::Awake {
            let at_once = Timespec::default();
            while ready.is_empty() && clock::now().saturating_duration_since(began) < STAY_AWAKE {
                self.ask(ready, &at_once)?;
            }
        }
        if ready.is_empty() {
            self.ask(ready, &limit)?;
        }
        if wait != Wait::Asleep {
            let is_answered = ready.iter().any(|event| event.data.u64() >= FIRST_DEVICE);
            let took = clock::now().saturating_duration_since(began);
            self.patience.ended(took, is_answered);
        }
        Ok(())
    }

    /// Asks the kernel what is ready, for `limit` at most.
    fn ask(&self, ready: &mut Vec<epoll::Event>, limit: &Timespec) -> io::Result<()> {
        match epoll::wait(&self.epoll, rustix::buffer::spare_capacity(ready), Some(limit)) {
            Ok(_) | Err(rustix::io::Errno::INTR) => Ok(()),
            Err(error) => Err(error.into()),
        }
    }

    fn time_to_wake(&self, now: Instant) -> Timespec {
        let due = [
            self.dataplane.poll_timeout(),
            self.device_retry,
            self.hand_over_at,
        ]
        .into_iter()
        .flatten()
        .min();
        // Nobody tells when the control side has caught up with events.
        let longest = match self.events.capacity() {
            0 => EVENTS_RETRY,
            _ => IDLE_WAIT,
        };
        let wait = due.map_or(longest, |due| due.saturating_duration_since(now).min(longest));
        Timespec {
            tv_sec: wait.as_secs().cast_signed(),
            tv_nsec: wait.subsec_nanos().into(),
        }
    }

    /// Takes what the control side asks, up to [`COMMANDS_MAX`] a turn so that packets get theirs.
    fn take_commands(&mut self) -> ControlFlow<()> {
        for _ in 0..COMMANDS_MAX {
            match self.commands.try_recv() {
                Ok(Command::Shutdown) | Err(mpsc::error::TryRecvError::Disconnected) => {
                    return ControlFlow::Break(());
                }
                Ok(command) => {
                    command.carry_out(&mut self.dataplane, clock::now());
                    self.drain();
                    // It may have taken keys away: what handshakes left on the stack goes too.
                    wash_stack();
                }
                Err(mpsc::error::TryRecvError::Empty) => return ControlFlow::Continue(()),
            }
        }
        // The queue may hold more: wake at once.
        self.waker.wake();
        ControlFlow::Continue(())
    }

    /// Moves what a descriptor holds; breaks if this loop cannot go on.
    fn handle_ready(&mut self, token: u64) -> ControlFlow<()> {
        match token {
            WAKER => {}
            UDP => return self.read_datagrams(),
            device => self.read_packets(device),
        }
        ControlFlow::Continue(())
    }

    fn handle_time(&mut self, now: Instant) {
        if self.device_retry.is_some_and(|due| due <= now) {
            self.device_retry = None;
            let missing = self.devices.iter().filter(|(_, device)| device.tun.is_none());
            for id in missing.map(|(id, _)| *id).collect::<Vec<_>>() {
                self.open_device(id);
            }
        }
        if self.dataplane.poll_timeout().is_some_and(|due| due <= now) {
            self.dataplane.handle_timeout(now);
        }
        self.drain();
        if self.hand_over_at.is_some_and(|due| due <= now) || self.closed.flows.len() >= HANDED_OVER_AT_ONCE {
            self.hand_over();
        }
    }

    /// Gives ended flows to their thread, many at once. While that is behind they wait here, the newest of them.
    fn hand_over(&mut self) {
        let unreported = self.dataplane.flows_unreported();
        self.closed.lost += unreported - self.unreported;
        self.unreported = unreported;
        self.hand_over_at = None;
        if self.closed.flows.is_empty() {
            return;
        }
        if let Err(NotTaken(mut closed)) = self.flows.hand_over(std::mem::take(&mut self.closed)) {
            let excess = closed.flows.len().saturating_sub(CLOSED_WAITING_MAX);
            closed.flows.drain(..excess);
            closed.lost += excess as u64;
            self.closed = closed;
            self.hand_over_at = Some(clock::now() + HAND_OVER_EVERY);
        }
    }

    /// Empties every queue of the data plane. Packets go before events: the resets of a segment that is removed
    /// reach the kernel before its device closes.
    fn drain(&mut self) {
        self.move_packets();
        self.offer_on();
        // While the control side is behind, events wait in the data plane, not in a queue without a bound.
        while self.events.capacity() > 0 {
            let Some(event) = self.dataplane.poll_event() else {
                break;
            };
            self.handle_event(event);
        }
    }

    fn handle_event(&mut self, event: Event) {
        match event {
            Event::SegmentAdded(facts) => {
                let id = facts.id;
                let token = self.next_token;
                self.next_token += 1;
                self.devices.insert(
                    id,
                    Device {
                        facts,
                        token,
                        tun: None,
                        is_sparse: true,
                    },
                );
                if self.is_first() {
                    self.open_device(id);
                } else {
                    self.take_queues();
                }
            }
            Event::SegmentChanged(facts) => {
                if let Some(device) = self.devices.get_mut(&facts.id) {
                    device.facts = facts.clone();
                }
                self.tell(LoopEvent::DeviceChanged(facts));
            }
            Event::SegmentRemoved(facts) => {
                self.devices.remove(&facts.id);
                self.call_in(&facts.interface);
                self.tell(LoopEvent::DeviceRemoved(facts));
            }
            Event::FlowClosed(closed) => {
                tracing::debug!(perimeter = %closed.perimeter, peer = %closed.peer, rule = %closed.rule,
                    why = ?closed.why, "flow closed");
                self.closed.flows.push(closed);
                self.hand_over_at
                    .get_or_insert_with(|| clock::now() + HAND_OVER_EVERY);
            }
            other => self.tell(LoopEvent::Dataplane(other)),
        }
    }

    /// Makes a segment's device; on failure tries again later. Without a device the segment passes nothing.
    fn open_device(&mut self, id: SegmentId) {
        let (is_first, queues) = (self.is_first(), self.queues());
        let Some(device) = self.devices.get_mut(&id) else {
            return;
        };
        device.tun = None;
        if !is_first {
            // The first lane makes the device anew, and gives this one its queue.
            return;
        }
        let opened =
            Tun::open_queues(&device.facts.interface, Offload::All, queues).and_then(|(tun, others)| {
                watch(&self.epoll, &tun, device.token)?;
                Ok((tun, others))
            });
        let told = match opened {
            Ok((tun, others)) => {
                device.tun = Some(tun);
                let facts = device.facts.clone();
                self.hand_out(&facts.interface, others);
                LoopEvent::DeviceMade(facts)
            }
            Err(error) => {
                self.device_retry = Some(clock::now() + DEVICE_RETRY);
                LoopEvent::DeviceFailed {
                    facts: device.facts.clone(),
                    error: error.to_string(),
                }
            }
        };
        self.tell(told);
    }

    fn tell(&self, event: LoopEvent) {
        // What one lane says of the node, the others would only say again; flows have a way of their own.
        if !self.is_first() {
            return;
        }
        // Room was checked for each event of the data plane; a device made anew may find none, once in a lifetime.
        if self.events.try_send(event).is_err() {
            tracing::warn!("the control side is behind: an event was lost");
        }
    }
}

fn watch(epoll: &OwnedFd, source: &impl std::os::fd::AsFd, token: u64) -> io::Result<()> {
    epoll::add(
        epoll,
        source.as_fd(),
        epoll::EventData::new_u64(token),
        epoll::EventFlags::IN,
    )?;
    Ok(())
}

const WAKER: u64 = 0;
const UDP: u64 = 1;
const FIRST_DEVICE: u64 = 2;

/// Descriptors one wait reports: every segment, the socket and the waker.
const READY_MAX: usize = ringfence_model::SEGMENTS_PER_NODE_MAX + 2;

/// How long an ended flow waits for others to be handed over with: waking another thread costs a system call.
const HAND_OVER_EVERY: Duration = Duration::from_millis(100);

/// So many wait no longer.
const HANDED_OVER_AT_ONCE: usize = 1024;

/// Ended flows that wait while their thread is behind; past it the oldest go, and are counted.
const CLOSED_WAITING_MAX: usize = 8192;

/// How long to sleep when nothing is due. Whatever happens wakes the loop.
const IDLE_WAIT: Duration = Duration::from_mins(1);

/// How long events may wait after the control side, which was behind, caught up.
const EVENTS_RETRY: Duration = Duration::from_millis(500);

/// How long until a device that could not be made is tried again.
const DEVICE_RETRY: Duration = Duration::from_secs(2);
