//! Flow records on the controller: a thread of their own, so that their disk writes never hold up a change of policy.
//!
//! **Invariant:** a batch is acknowledged only once it is on the disk. What nodes tell at such a rate is no part of
//! the hash-chained log: it lies in a file of its own, and losing that file loses no policy.

mod store;

use std::path::PathBuf;
use std::sync::{Arc, mpsc};

use ringfence_control::{FlowRecords, FlowRecordsTaken};
use ringfence_model::{Name, NodeId, UnixMillis};
use tokio::sync::oneshot;

pub use store::{FlowFilter, FlowLoss, FlowRow, FlowStore, FlowTakeError, Found};

/// How everybody else reaches the records. Cheap to clone; the thread ends with the last one.
#[derive(Clone)]
pub struct Flows {
    jobs: mpsc::SyncSender<Job>,
}

type Job = Box<dyn FnOnce(&mut Result<FlowStore, Arc<str>>) + Send>;

/// The records cannot be reached.
#[derive(Clone, Debug, thiserror::Error)]
pub enum FlowsUnavailable {
    /// The thread has more to do than it can.
    #[error("the flow records are busy: try again")]
    Busy,
    /// Their file is of no use.
    #[error("{0}. Move it away and start the controller again: policy does not depend on it")]
    Store(Arc<str>),
}

impl Flows {
    /// Opens the records in `path`, or makes them, and starts their thread. What is wrong with the file is told when
    /// it is asked: policy is enforced all the same.
    ///
    /// # Errors
    /// If the system gives no thread.
    pub fn spawn(path: PathBuf) -> std::io::Result<Self> {
        Self::over(move || FlowStore::open(&path))
    }

    /// The same in memory, for a controller without a disk.
    ///
    /// # Errors
    /// If the system gives no thread.
    pub fn in_memory() -> std::io::Result<Self> {
        Self::over(FlowStore::in_memory)
    }

    fn over(open: impl FnOnce() -> anyhow::Result<FlowStore> + Send + 'static) -> std::io::Result<Self> {
        let (jobs, queue) = mpsc::sync_channel::<Job>(JOBS_MAX);
        std::thread::Builder::new()
            .name("flows".to_owned())
            .spawn(move || {
                let mut store = open().map_err(|error| {
                    let error = format!("{error:#}");
                    tracing::error!(%error, "no flow records are taken");
                    Arc::from(error)
                });
                while let Ok(job) = queue.recv() {
                    job(&mut store);
                }
            })?;
        Ok(Self { jobs })
    }

    /// Stores a batch of `node`; `None` if it may not be acknowledged. The node then sends it again.
    pub async fn take(&self, node: NodeId, batch: FlowRecords, wall: UnixMillis) -> Option<FlowRecordsTaken> {
        let stream = batch.stream;
        let taken = self.with(move |store| store.take(node, &batch, wall)).await;
        match taken {
            Ok(Ok(through)) => Some(FlowRecordsTaken { stream, through }),
            Ok(Err(error)) => {
                tracing::warn!(%node, %error, "flow records are not taken");
                None
            }
            Err(error) => {
                tracing::debug!(%node, %error, "flow records are not taken");
                None
            }
        }
    }

    /// `node` is a member of these perimeters: from now on it may report flows in them, also once it is not any more,
    /// because the flows that its removal cuts are reported after it.
    pub fn note_member(&self, node: NodeId, perimeters: Vec<Name>) {
        let job: Job = Box::new(move |store| {
            if let Ok(store) = store {
                store.note_member(node, perimeters);
            }
        });
        if self.jobs.try_send(job).is_err() {
            tracing::warn!(%node, "the flow records are busy: a membership was not noted");
        }
    }

    /// Runs `work` on the records' thread and gives its result.
    ///
    /// # Errors
    /// [`FlowsUnavailable`].
    pub async fn with<R: Send + 'static>(
        &self,
        work: impl FnOnce(&mut FlowStore) -> R + Send + 'static,
    ) -> Result<R, FlowsUnavailable> {
        let (answer, waiting) = oneshot::channel();
        let job: Job = Box::new(move |store| {
            let result = match store {
                Ok(store) => Ok(work(store)),
                Err(why) => Err(FlowsUnavailable::Store(Arc::clone(why))),
            };
            // Whoever asked may have gone.
            let _ = answer.send(result);
        });
        self.jobs.try_send(job).map_err(|_| FlowsUnavailable::Busy)?;
        waiting.await.map_err(|_| FlowsUnavailable::Busy)?
    }
}

/// Batches and questions that wait; past it nodes keep what they have and try again.
const JOBS_MAX: usize = 256;
