//! The threads of the packet loops, one for each lane: how they start and end, and the control side's hold on them.
//!
//! **Invariant:** a thread that ends says so, however that came: a node does not go on with some of its lanes.

use std::io;
use std::sync::Arc;
use std::thread::JoinHandle;

use tokio::sync::mpsc;

use ringfence_dataplane::DataplaneConfig;

use super::PacketLoop;
use super::lanes::Ring;
use super::waker::Waker;
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
    waker: Waker,
}

/// A packet loop has ended, so the process is about to.
#[derive(Debug, thiserror::Error)]
#[error("a packet loop has ended")]
pub(crate) struct LoopEnded;

/// The packet loops of a node, which run.
pub(crate) struct Running {
    /// Gives them commands.
    pub(crate) handle: LoopHandle,
    /// What they tell.
    pub(crate) events: mpsc::Receiver<LoopEvent>,
    /// Their threads; they end after [`Command::Shutdown`].
    pub(crate) threads: Threads,
}

/// Threads of which each is to live as long as the others.
pub(crate) struct Threads {
    handles: Vec<JoinHandle<()>>,
    ended: mpsc::Receiver<usize>,
    last_words: mpsc::Sender<usize>,
}

/// Goes with a thread, and says that it has ended: also when it panics.
struct LastWord {
    thread: usize,
    last_words: mpsc::Sender<usize>,
}

impl Threads {
    /// Room for so many.
    fn new(count: usize) -> Self {
        let (last_words, ended) = mpsc::channel(count.max(1));
        Self {
            handles: Vec::new(),
            ended,
            last_words,
        }
    }

    /// The next of them.
    fn start(&mut self, body: impl FnOnce() + Send + 'static) -> io::Result<()> {
        let thread = self.handles.len();
        let name = match thread {
            0 => "packets".to_owned(),
            further => format!("packets-{further}"),
        };
        let last_word = LastWord {
            thread,
            last_words: self.last_words.clone(),
        };
        let whole = move || {
            let _last_word = last_word;
            body();
        };
        let handle = std::thread::Builder::new().name(name).spawn(whole)?;
        self.handles.push(handle);
        Ok(())
    }

    /// The number of the next that ends.
    pub(crate) async fn next_ended(&mut self) -> usize {
        match self.ended.recv().await {
            Some(thread) => thread,
            // There is a sender in `self`.
            None => std::future::pending().await,
        }
    }

    /// Waits for the end of all of them.
    ///
    /// # Errors
    /// What one panicked with.
    pub(crate) fn join(self) -> std::thread::Result<()> {
        let ends: Vec<_> = self.handles.into_iter().map(JoinHandle::join).collect();
        ends.into_iter().collect()
    }
}

impl Drop for LastWord {
    fn drop(&mut self) {
        // There is room for one of each.
        let _ = self.last_words.try_send(self.thread);
    }
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

    /// Has every loop look at the clock.
    pub(crate) fn wake(&self) {
        for lane in &*self.lanes {
            lane.waker.wake();
        }
    }
}

impl LaneHandle {
    async fn send(&self, command: Command) -> Result<(), LoopEnded> {
        self.commands.send(command).await.map_err(|_| LoopEnded)?;
        self.waker.wake();
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
    let wakers: Vec<Waker> = (0..count).map(|_| Waker::new()).collect::<Result<_, _>>()?;
    let (event_queue, events) = mpsc::channel(EVENTS_MAX);
    let (mut handles, mut threads) = (Vec::new(), Threads::new(count));
    let places = Ring::places(&wakers).into_iter().zip(wakers);
    for (number, (parts, (ring, waker))) in lanes.into_iter().zip(places).enumerate() {
        let config = DataplaneConfig {
            lane: u16::try_from(number).unwrap_or(u16::MAX),
            lanes: u16::try_from(count).unwrap_or(u16::MAX),
            ..config
        };
        let (commands, command_queue) = mpsc::channel(COMMANDS_MAX);
        handles.push(LaneHandle {
            commands,
            waker: waker.clone(),
        });
        let connections = Connections {
            waker,
            commands: command_queue,
            events: event_queue.clone(),
            flows: flows.clone(),
            ring,
        };
        let mut packet_loop = PacketLoop::new(parts, config, connections)?;
        threads.start(move || packet_loop.run())?;
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
    pub(super) waker: Waker,
    pub(super) commands: mpsc::Receiver<Command>,
    pub(super) events: mpsc::Sender<LoopEvent>,
    pub(super) flows: Flows,
    pub(super) ring: Option<Ring>,
}

/// Commands that may wait; the sender waits when it is full.
pub(super) const COMMANDS_MAX: usize = 256;

/// Events that may wait for the control side; past it they wait in the data plane.
const EVENTS_MAX: usize = 1024;

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn a_thread_that_ends_or_panics_is_told_while_the_others_go_on() {
        let ways: [fn(); 2] = [|| (), || panic!("a fault of ours")];
        for (way, panics) in ways.into_iter().zip([false, true]) {
            let (go_on, others_wait) = std::sync::mpsc::channel::<()>();
            let mut threads = Threads::new(2);
            threads
                .start(move || {
                    let _ = others_wait.recv();
                })
                .unwrap();
            threads.start(way).unwrap();

            assert_eq!(threads.next_ended().await, 1);

            drop(go_on);
            assert_eq!(threads.next_ended().await, 0);
            assert_eq!(threads.join().is_err(), panics);
        }
    }
}
