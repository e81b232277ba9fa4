//! The threads of the packet loops, one for each lane: how they start, and the control side's hold on them.

use std::io;
use std::os::fd::OwnedFd;
use std::sync::Arc;
use std::thread::JoinHandle;

use rustix::event::{EventfdFlags, eventfd};
use tokio::sync::mpsc;

use ringfence_dataplane::DataplaneConfig;

use super::PacketLoop;
use super::lanes::Ring;
use crate::command::{Command, LoopEvent};
use crate::flows::Flows;
use crate::udp::Udp;

/// The control side's hold on the packet loops, one for each lane.
#[derive(Clone)]
pub(crate) struct LoopHandle {
    lanes: Arc<[LaneHandle]>,
}

struct LaneHandle {
    commands: mpsc::Sender<Command>,
    waker: Arc<OwnedFd>,
}

/// The packet loop has ended, so the process is about to.
#[derive(Debug, thiserror::Error)]
#[error("the packet loop has ended")]
pub(crate) struct LoopEnded;

/// The packet loops of a node, which run.
pub(crate) struct Running {
    /// Gives them commands.
    pub(crate) handle: LoopHandle,
    /// What they tell.
    pub(crate) events: mpsc::Receiver<LoopEvent>,
    /// Their threads; they end after [`Command::Shutdown`].
    pub(crate) threads: Vec<JoinHandle<()>>,
}

impl LoopHandle {
    /// Gives every loop a command; waits while the queue of one is full.
    pub(crate) async fn send(&self, command: Command) -> Result<(), LoopEnded> {
        if let [only] = &*self.lanes {
            return only.send(command).await;
        }
        let mut sent = Ok(());
        for (lane, command) in self.lanes.iter().zip(command.for_lanes(self.lanes.len())) {
            // Also after one that has ended: each is to hear of the end.
            sent = sent.and(lane.send(command).await);
        }
        sent
    }
}

impl LaneHandle {
    async fn send(&self, command: Command) -> Result<(), LoopEnded> {
        self.commands.send(command).await.map_err(|_| LoopEnded)?;
        // A full counter means the loop is about to wake anyway.
        let _ = rustix::io::write(&*self.waker, &1_u64.to_ne_bytes());
        Ok(())
    }
}

/// What one lane is made of.
pub(crate) struct LaneParts {
    /// Its socket.
    pub(crate) udp: Udp,
    /// Fresh randomness.
    pub(crate) seed: [u8; 32],
}

/// Starts a packet loop for each lane, on a thread of its own.
///
/// # Errors
/// If the kernel gives no thread, epoll or eventfd.
pub(crate) fn spawn(lanes: Vec<LaneParts>, config: DataplaneConfig, flows: &Flows) -> io::Result<Running> {
    let count = lanes.len();
    let new_waker = |_| eventfd(0, EventfdFlags::NONBLOCK | EventfdFlags::CLOEXEC).map(Arc::new);
    let wakers: Vec<Arc<OwnedFd>> = (0..count).map(new_waker).collect::<Result<_, _>>()?;
    let (event_queue, events) = mpsc::channel(EVENTS_MAX);
    let (mut handles, mut threads) = (Vec::new(), Vec::new());
    let places = Ring::places(&wakers).into_iter().zip(wakers);
    for (number, (parts, (ring, waker))) in lanes.into_iter().zip(places).enumerate() {
        let config = DataplaneConfig {
            lane: u16::try_from(number).unwrap_or(u16::MAX),
            lanes: u16::try_from(count).unwrap_or(u16::MAX),
            ..config
        };
        let name = match number {
            0 => "packets".to_owned(),
            further => format!("packets-{further}"),
        };
        let (commands, command_queue) = mpsc::channel(COMMANDS_MAX);
        handles.push(LaneHandle {
            commands,
            waker: Arc::clone(&waker),
        });
        let connections = Connections {
            waker,
            commands: command_queue,
            events: event_queue.clone(),
            flows: flows.clone(),
            ring,
        };
        let mut packet_loop = PacketLoop::new(parts, config, connections)?;
        let thread = std::thread::Builder::new().name(name);
        threads.push(thread.spawn(move || packet_loop.run())?);
    }
    Ok(Running {
        handle: LoopHandle {
            lanes: handles.into(),
        },
        events,
        threads,
    })
}

/// How a loop is connected with the rest of the node.
pub(super) struct Connections {
    pub(super) waker: Arc<OwnedFd>,
    pub(super) commands: mpsc::Receiver<Command>,
    pub(super) events: mpsc::Sender<LoopEvent>,
    pub(super) flows: Flows,
    pub(super) ring: Option<Ring>,
}

/// Commands that may wait; the sender waits when it is full.
pub(super) const COMMANDS_MAX: usize = 256;

/// Events that may wait for the control side; past it they wait in the data plane.
const EVENTS_MAX: usize = 1024;
