//! How everybody else reaches the core: jobs for its thread, answered when they are done.

use std::sync::mpsc;
use std::time::{Duration, Instant};

use ringfence_control::Netmap;
use ringfence_controlplane::{Actor, Change, Command, Controller};
use ringfence_model::{NodeId, Revision};
use tokio::sync::{oneshot, watch};

use super::{CommitError, Core, CoreGone, Course, Job, Progress, wall_now};

/// How everybody else reaches the [`Core`]. Cheap to clone; the thread ends with the last one.
#[derive(Clone)]
pub struct CoreHandle {
    pub(super) jobs: mpsc::SyncSender<Job>,
    pub(super) progress: watch::Receiver<Progress>,
}

impl CoreHandle {
    /// Runs `work` on the core's thread and gives its result.
    ///
    /// # Errors
    /// [`CoreGone`] while shutting down.
    pub async fn with<R: Send + 'static>(
        &self,
        work: impl FnOnce(&mut Core) -> R + Send + 'static,
    ) -> Result<R, CoreGone> {
        let (answer, waiting) = oneshot::channel();
        let started = Instant::now();
        let mut job: Job = Box::new(move |core| {
            let waited = started.elapsed();
            let result = work(core);
            tracing::trace!(?waited, took = ?started.elapsed().saturating_sub(waited), "core job");
            let _ = answer.send(result);
        });
        // The queue is full only under a flood: wait for room without holding up this thread's other tasks.
        loop {
            match self.jobs.try_send(job) {
                Ok(()) => break,
                Err(mpsc::TrySendError::Disconnected(_)) => return Err(CoreGone),
                Err(mpsc::TrySendError::Full(back)) => {
                    job = back;
                    tokio::time::sleep(QUEUE_RETRY).await;
                }
            }
        }
        waiting.await.map_err(|_| CoreGone)
    }

    /// Carries a command out.
    ///
    /// # Errors
    /// As [`Core::commit`].
    pub async fn commit(
        &self,
        actor: Actor,
        command: Command,
    ) -> Result<Result<Change, CommitError>, CoreGone> {
        self.with(move |core| core.commit(&actor, &command)).await
    }

    /// What `node` may know now; `None` if it was removed.
    ///
    /// # Errors
    /// [`CoreGone`] while shutting down.
    pub async fn netmap(&self, node: NodeId) -> Result<Option<Netmap>, CoreGone> {
        let netmap = self.netmap_and(node, |_, _| ()).await?;
        Ok(netmap.map(|(netmap, ())| netmap))
    }

    /// The same, and what else is asked of the state that it comes from.
    ///
    /// # Errors
    /// [`CoreGone`] while shutting down.
    pub async fn netmap_and<R: Send + 'static>(
        &self,
        node: NodeId,
        ask: impl FnOnce(&Controller, &Netmap) -> R + Send + 'static,
    ) -> Result<Option<(Netmap, R)>, CoreGone> {
        let found = self
            .with(move |core| {
                let netmap = core.controller().netmap(node, wall_now())?;
                let answer = ask(core.controller(), &netmap);
                Some((netmap, answer))
            })
            .await?;
        Ok(found.map(|(netmap, answer)| {
            let (netmap, too_large) = netmap.or_closed();
            if let Some(why) = too_large {
                tracing::error!(%node, %why, "what this node is to know is too much: everything of it is closed until it has fewer peers, rules or peers a rule");
            }
            (netmap, answer)
        }))
    }

    /// The newest revision.
    ///
    /// # Errors
    /// [`CoreGone`] while shutting down.
    pub async fn revision(&self) -> Result<Revision, CoreGone> {
        self.with(|core| core.controller().revision()).await
    }

    /// Ends the core after what it was asked before, and returns once its log is closed: whole in its one file.
    pub async fn stop(&self) {
        // An error says that it has ended by itself.
        let _ = self
            .with(|core| {
                if core.course == Course::On {
                    core.course = Course::Stopping;
                }
            })
            .await;
        self.ended().await;
    }

    /// Returns once the core's thread has ended, whyever. Without it nothing here works: the process should end too.
    pub async fn ended(&self) {
        let mut progress = self.progress.clone();
        // Fails once the sender, which the thread owns, is gone; it panicked if nobody ended it.
        let _ = progress.wait_for(|_| false).await;
    }

    /// Changes whenever a waiter should look again.
    pub fn progress(&self) -> watch::Receiver<Progress> {
        self.progress.clone()
    }
}

/// How soon to try again when the core's queue is full.
const QUEUE_RETRY: Duration = Duration::from_millis(1);
