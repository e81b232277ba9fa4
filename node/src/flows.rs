//! The thread that owes the controller flow records: numbers them, keeps them on disk, sends them until acknowledged.
//!
//! The packet loop hands over batches and never waits. A record that a power cut takes from an unsynced tail (at most
//! [`FLUSH_EVERY`] old) and that the controller does not have is lost without a count; everything else that is lost
//! shows as numbers that never come.
//!
//! **Invariant:** a file is removed only when nothing in it is owed any more, and no number is given twice, whatever
//! was lost of the disk.

use std::sync::mpsc::{Receiver, RecvTimeoutError, SyncSender, TrySendError, sync_channel};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use tokio::sync::mpsc::WeakSender;

use ringfence_control::{FlowEntry, FlowRecordsTaken, FlowReport, FlowSpool, ToController};
use ringfence_dataplane::FlowClosed;

use crate::clock;
use crate::flow_files::FlowFiles;

/// How the rest of the node reaches the thread.
#[derive(Clone)]
pub(crate) struct Flows {
    inputs: SyncSender<FlowsInput>,
}

/// One thing for the thread to do.
pub(crate) enum FlowsInput {
    /// Flows ended.
    Closed(ClosedFlows),
    /// The controller takes records. Held weakly: the connection is the control side's to end.
    Connected(WeakSender<ToController>),
    /// It is gone.
    Disconnected,
    /// It has stored these.
    Taken(FlowRecordsTaken),
    /// This node was removed from the mesh: nobody is owed anything.
    Forget,
    /// Write down what is owed and end.
    Stop,
}

/// What the packet loop hands over at once.
#[derive(Default)]
pub(crate) struct ClosedFlows {
    /// In the order they ended.
    pub(crate) flows: Vec<FlowClosed>,
    /// How many before them could not be handed over.
    pub(crate) lost: u64,
}

/// The queue is full, or the thread has ended: the batch comes back.
pub(crate) struct NotTaken(pub(crate) ClosedFlows);

struct FlowsThread {
    inputs: Receiver<FlowsInput>,
    spool: FlowSpool,
    files: FlowFiles,
    link: Option<WeakSender<ToController>>,
    /// Records before this place are on disk.
    written: u64,
    /// Acknowledgements that are not on disk.
    taken: Vec<FlowRecordsTaken>,
    /// When what is not on disk goes there, and a batch goes out.
    flush_at: Option<Instant>,
    disk_full: bool,
    /// This node was removed from the mesh: what still ends is nobody's business.
    forgotten: bool,
}

impl Flows {
    /// Reads what an earlier process left in `files` and starts the thread. `stream` is fresh randomness.
    ///
    /// # Errors
    /// If the system gives no thread.
    pub(crate) fn spawn(files: FlowFiles, stream: u64) -> std::io::Result<(Self, JoinHandle<()>)> {
        let (sender, inputs) = sync_channel(INPUTS_MAX);
        let mut files = files;
        let left = FlowEntry::owed(files.read_all());
        if !left.is_empty() {
            tracing::info!(records = left.len(), "flow records of an earlier run are owed");
        }
        let spool = FlowSpool::new(stream, left);
        files.adopt(spool.next_place());
        let mut thread = FlowsThread {
            inputs,
            written: spool.next_place(),
            spool,
            files,
            link: None,
            taken: Vec::new(),
            flush_at: None,
            disk_full: false,
            forgotten: false,
        };
        let handle = std::thread::Builder::new()
            .name("flows".into())
            .spawn(move || thread.run())?;
        Ok((Self { inputs: sender }, handle))
    }

    /// Hands over flows that ended, without ever waiting.
    pub(crate) fn hand_over(&self, closed: ClosedFlows) -> Result<(), NotTaken> {
        match self.inputs.try_send(FlowsInput::Closed(closed)) {
            Err(
                TrySendError::Full(FlowsInput::Closed(closed))
                | TrySendError::Disconnected(FlowsInput::Closed(closed)),
            ) => Err(NotTaken(closed)),
            Ok(()) | Err(_) => Ok(()),
        }
    }

    /// Tells the thread something of the control side's.
    pub(crate) fn tell(&self, input: FlowsInput) {
        // Waits only while a flood of flows fills the queue, and for as long as one takes to write.
        if self.inputs.send(input).is_err() {
            tracing::error!("the flow records' thread has ended: none are kept");
        }
    }
}

impl FlowsThread {
    fn run(&mut self) {
        loop {
            let now = clock::now();
            let due = [self.flush_at, self.spool.poll_timeout()]
                .into_iter()
                .flatten()
                .min();
            let wait = due.map_or(IDLE_WAIT, |due| due.saturating_duration_since(now));
            match self.inputs.recv_timeout(wait) {
                Ok(FlowsInput::Stop) | Err(RecvTimeoutError::Disconnected) => {
                    self.flush();
                    return;
                }
                Ok(input) => self.handle(input),
                Err(RecvTimeoutError::Timeout) => {}
            }
            let now = clock::now();
            if self.flush_at.is_some_and(|at| at <= now) {
                self.flush_at = None;
                self.flush();
                self.send(now);
            } else if self.spool.poll_timeout().is_some_and(|at| at <= now) {
                self.send(now);
            }
        }
    }

    fn handle(&mut self, input: FlowsInput) {
        if self.forgotten {
            return;
        }
        match input {
            FlowsInput::Closed(closed) => {
                self.spool.skip(closed.lost);
                for flow in closed.flows {
                    self.spool.push(FlowReport::from(flow));
                }
                self.flush_soon();
            }
            FlowsInput::Connected(link) => {
                self.link = Some(link);
                self.spool.handle_connected();
                self.send(clock::now());
            }
            FlowsInput::Disconnected => {
                self.link = None;
                self.spool.handle_disconnected();
            }
            FlowsInput::Taken(taken) => {
                if self.spool.handle_taken(taken) {
                    self.taken.retain(|known| known.stream != taken.stream);
                    self.taken.push(taken);
                    self.flush_soon();
                    // A backlog goes out as fast as it is taken.
                    self.send(clock::now());
                }
            }
            FlowsInput::Forget => {
                self.spool = FlowSpool::new(0, []);
                self.written = 0;
                self.taken.clear();
                self.files.remove_all();
                self.flush_at = None;
                self.forgotten = true;
            }
            FlowsInput::Stop => {}
        }
    }

    fn flush_soon(&mut self) {
        self.flush_at.get_or_insert_with(|| clock::now() + FLUSH_EVERY);
    }

    /// Writes down what came since the last time, and removes files of which nothing is owed.
    fn flush(&mut self) {
        let mut bytes = Vec::new();
        let records = self.spool.since(self.written).cloned().map(FlowEntry::Owed);
        let entries = self.taken.iter().copied().map(FlowEntry::Taken).chain(records);
        for entry in entries {
            if let Err(error) = entry.write(&mut bytes) {
                tracing::error!(%error, "a flow record cannot be written down");
            }
        }
        let place = self.spool.next_place();
        if !bytes.is_empty() {
            match self.files.append(&bytes, place) {
                Ok(()) => {
                    self.written = place;
                    self.taken.clear();
                    self.disk_full = false;
                }
                // They stay in memory, bounded as on disk, and still go to the controller.
                Err(error) => {
                    if !self.disk_full {
                        tracing::warn!(%error, "flow records cannot be written down: a restart forgets those not told yet");
                    }
                    self.disk_full = true;
                    self.flush_at = Some(clock::now() + DISK_RETRY);
                }
            }
        }
        self.files.remove_before(self.spool.first_place());
    }

    fn send(&mut self, now: Instant) {
        let Some(link) = self.link.as_ref().and_then(WeakSender::upgrade) else {
            return;
        };
        let Some(batch) = self.spool.poll_batch(now) else {
            return;
        };
        tracing::debug!(
            records = batch.records.len(),
            first = batch.first,
            owed = self.spool.len(),
            "telling of flows"
        );
        // If there is no room it goes out again when no answer has come.
        let _ = link.try_send(ToController::FlowRecords(batch));
    }
}

/// Batches that wait for the thread: past it they wait, bounded, in the packet loop.
const INPUTS_MAX: usize = 64;
/// How old a record gets before it is on disk and on its way.
const FLUSH_EVERY: Duration = Duration::from_secs(1);
const DISK_RETRY: Duration = Duration::from_secs(10);
const IDLE_WAIT: Duration = Duration::from_mins(1);
