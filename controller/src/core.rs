//! The one owner of the controller's state and its log.
//!
//! A thread of its own holds both; everybody else sends it closures through [`CoreHandle::with`]. So there is no lock,
//! changes happen one after the other, and a slow disk holds up nobody who only waits for packets.
//!
//! **Invariant:** a change is on the disk before it is applied, and applied before anybody is told (red line 10).

mod handle;
mod pushes;

use std::sync::mpsc;
use std::time::SystemTime;

use ringfence_control::api::ChangeReport;
use ringfence_controlplane::{Actor, ApplyPlan, Change, Command, Controller, Refusal, Replay, Snapshot};
use ringfence_model::{NodeId, UnixMillis};
use tokio::sync::watch;

pub use self::handle::CoreHandle;
use self::pushes::Listeners;
pub use self::pushes::Pushes;
use crate::store::{Entry, Log, StoreError, StoredSnapshot};

/// State and log, on their own thread.
pub struct Core {
    controller: Controller,
    log: Box<dyn Log>,
    changes_since_snapshot: u32,
    listeners: Listeners,
    progress: watch::Sender<Progress>,
    course: Course,
}

/// Whether the core takes another job.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Course {
    /// It does.
    On,
    /// It was asked to stop.
    Stopping,
    /// What is stored does not apply: state and log differ, and nothing more may be told from either.
    Broken,
}

/// Which room on the disk a change may take.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Room {
    /// What is free.
    Free,
    /// What is kept back as well: taking access away works on a full disk (red line 2).
    Reserve,
}

/// Something changed that a waiter may wait for: a revision, or a node's word on one.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Progress(u64);

type Job = Box<dyn FnOnce(&mut Core) + Send>;

/// Why a command was not carried out.
#[derive(Debug, thiserror::Error)]
pub enum CommitError {
    /// The core refuses it.
    #[error(transparent)]
    Refused(#[from] Refusal),
    /// The log did not take it: it is not in force.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// What was stored does not apply: a fault of ours, and nothing more may be changed.
    #[error("the change does not apply to the state: {0}")]
    Broken(String),
}

/// The core's thread has ended: the controller is shutting down.
#[derive(Clone, Copy, Debug, thiserror::Error)]
#[error("the controller is shutting down")]
pub struct CoreGone;

impl Room {
    fn of(takes_access_away: bool) -> Self {
        if takes_access_away {
            Self::Reserve
        } else {
            Self::Free
        }
    }
}

impl Core {
    /// Starts the thread.
    ///
    /// # Errors
    /// If the system gives no thread.
    pub fn spawn(mut controller: Controller, log: Box<dyn Log>) -> std::io::Result<CoreHandle> {
        controller.begin_posture(wall_now());
        let (jobs, queue) = mpsc::sync_channel::<Job>(JOBS_MAX);
        let (progress, watched) = watch::channel(Progress::default());
        let mut core = Self {
            controller,
            log,
            changes_since_snapshot: 0,
            listeners: Listeners::default(),
            progress,
            course: Course::On,
        };
        std::thread::Builder::new()
            .name("core".to_owned())
            .spawn(move || {
                while core.course == Course::On
                    && let Ok(job) = queue.recv()
                {
                    job(&mut core);
                }
                if core.course != Course::Broken {
                    core.save_snapshot();
                }
            })?;
        Ok(CoreHandle {
            jobs,
            progress: watched,
        })
    }

    /// The state.
    pub fn controller(&self) -> &Controller {
        &self.controller
    }

    /// The state, for facts that are not in the log: presence and acknowledgements. Wakes who waits for them.
    pub fn note<R>(&mut self, work: impl FnOnce(&mut Controller) -> R) -> R {
        let result = work(&mut self.controller);
        self.progressed();
        result
    }

    /// Tells a connection from now on what becomes of its node. Call [`Self::leave`] at its end.
    pub fn listen(&mut self, node: NodeId, connection_id: u64) -> Pushes {
        self.listeners.join(node, connection_id)
    }

    /// A connection is gone: it is told nothing more.
    pub fn leave(&mut self, node: NodeId, connection_id: u64) {
        self.listeners.leave(node, connection_id);
    }

    /// The log, to read from.
    pub fn log(&mut self) -> &mut dyn Log {
        self.log.as_mut()
    }

    /// Carries a command out: proposes, stores, applies, tells. A refusal that matters is recorded.
    ///
    /// # Errors
    /// [`CommitError`]; the state is then as it was.
    pub fn commit(&mut self, actor: &Actor, command: &Command) -> Result<Change, CommitError> {
        let wall = wall_now();
        let proposed = self.controller.propose(actor, command.clone(), wall, entropy()?);
        match proposed {
            Ok(change) => {
                self.store_and_apply(&change, Room::of(command.is_removal()))?;
                Ok(change)
            }
            Err(refusal) => {
                self.record_refusal(actor, command, &refusal);
                Err(refusal.into())
            }
        }
    }

    /// What somebody tried and may not, in the audit trail. That it cannot be written does not let them in.
    fn record_refusal(&mut self, actor: &Actor, command: &Command, refusal: &Refusal) {
        if !refusal.is_auditable() {
            return;
        }
        let record = refusal.record(command.method(), &actor.name);
        let Ok(entropy) = entropy() else { return };
        let Ok(change) = self.controller.propose(actor, record, wall_now(), entropy) else {
            // The hour's share of refusals is written already.
            return;
        };
        if let Err(error) = self.store_and_apply(&change, Room::Free) {
            tracing::error!(%error, "a refused attempt cannot be recorded");
        }
    }

    /// The same, with the flows that it opened and closed.
    ///
    /// # Errors
    /// As [`Self::commit`]. What is as asked already is a success: nothing changes.
    pub fn commit_reported(&mut self, actor: &Actor, command: &Command) -> Result<ChangeReport, CommitError> {
        self.commit_described(actor, command).map(|(_, report)| report)
    }

    /// The same, with the change itself; none if nothing changed.
    ///
    /// # Errors
    /// As [`Self::commit`].
    pub fn commit_described(
        &mut self,
        actor: &Actor,
        command: &Command,
    ) -> Result<(Option<Change>, ChangeReport), CommitError> {
        let proposed = self
            .controller
            .propose(actor, command.clone(), wall_now(), entropy()?);
        let change = match proposed {
            Ok(change) => change,
            Err(Refusal::Unchanged) => {
                let report = ChangeReport {
                    revision: self.controller.revision(),
                    changes: Vec::new(),
                    more_changes: 0,
                };
                return Ok((None, report));
            }
            Err(refusal) => {
                self.record_refusal(actor, command, &refusal);
                return Err(refusal.into());
            }
        };
        let flows = self.controller.flow_changes_for(actor, &change, wall_now());
        self.store_and_apply(&change, Room::of(command.is_removal() || flows.only_closes()))?;
        let report = ChangeReport {
            revision: change.revision,
            changes: flows.listed,
            more_changes: flows.more,
        };
        Ok((Some(change), report))
    }

    /// Carries out an apply that was planned on this state.
    ///
    /// # Errors
    /// As [`Self::commit`].
    pub fn commit_planned(&mut self, plan: &ApplyPlan) -> Result<(), CommitError> {
        match &plan.change {
            Some(change) => self.store_and_apply(change, Room::of(plan.only_closes)),
            None => Ok(()),
        }
    }

    /// Stores a change that was proposed to this state, applies it, and tells whom it concerns.
    fn store_and_apply(&mut self, change: &Change, room: Room) -> Result<(), CommitError> {
        let entry = entry_of(change).map_err(|error| CommitError::Broken(error.to_string()))?;
        self.append(&entry, room)?;
        let pushes = match self.controller.apply(change) {
            Ok(pushes) => pushes,
            Err(error) => {
                tracing::error!(revision = %change.revision, %error, "a stored change does not apply");
                self.course = Course::Broken;
                return Err(CommitError::Broken(error.to_string()));
            }
        };
        tracing::info!(revision = %change.revision, method = change.method, actor = change.actor.name, "changed");
        for push in pushes {
            self.listeners.tell(push);
        }
        self.progressed();
        self.changes_since_snapshot += 1;
        if self.changes_since_snapshot >= CHANGES_PER_SNAPSHOT {
            self.save_snapshot();
        }
        Ok(())
    }

    fn append(&mut self, entry: &Entry, room: Room) -> Result<(), StoreError> {
        loop {
            match self.log.append(self.controller.revision(), entry) {
                Err(StoreError::Full) if room == Room::Reserve && self.log.release_reserve() => {
                    tracing::warn!("the disk is full: access is taken away in the room kept back for it");
                }
                appended => return appended,
            }
        }
    }

    fn save_snapshot(&mut self) {
        let snapshot = StoredSnapshot {
            revision: self.controller.revision(),
            body: self.controller.snapshot().to_bytes(),
        };
        self.changes_since_snapshot = 0;
        if let Err(error) = self.log.save_snapshot(&snapshot) {
            // A snapshot only saves time at the next start.
            tracing::warn!(%error, "no snapshot was saved");
        }
    }

    fn progressed(&self) {
        self.progress.send_modify(|progress| progress.0 += 1);
    }
}

/// Brings the state back from the log.
///
/// # Errors
/// If the log cannot be read, or an entry does not follow from the one before.
pub fn load(log: &mut dyn Log) -> anyhow::Result<Controller> {
    use anyhow::Context as _;
    let loaded = log.load()?;
    let mut replay = Replay::default();
    let snapshot = loaded
        .snapshot
        .as_ref()
        .map(|stored| Snapshot::from_bytes(&stored.body));
    match snapshot {
        Some(Err(error)) => {
            // It only saves time: the log itself is the truth.
            tracing::warn!(%error, "the snapshot is not used, the whole log is read instead");
            let mut wrong = None;
            log.visit_all(&mut |entry| {
                wrong = replay_entry(&mut replay, entry).err();
                wrong.is_none()
            })?;
            wrong.map_or(Ok(()), Err)?;
        }
        usable => {
            replay = Replay::from(usable.transpose()?);
            for entry in &loaded.entries {
                replay_entry(&mut replay, entry)?;
            }
        }
    }
    let controller = replay.finish().context("the log does not add up")?;
    let head = controller.chain_head();
    if loaded.newest != Some((head.revision, head.hash.0)) {
        anyhow::bail!(
            "the snapshot is of revision {}, and the log does not end there: its end was cut off or replaced. \
             Restore the store from a backup",
            head.revision
        );
    }
    Ok(controller)
}

fn replay_entry(replay: &mut Replay, entry: &Entry) -> anyhow::Result<()> {
    use anyhow::Context as _;
    replay
        .push(&parse_entry(entry)?)
        .context("the log does not add up")
}

/// A change as the log keeps it.
///
/// # Errors
/// If it cannot be written as JSON.
pub fn entry_of(change: &Change) -> serde_json::Result<Entry> {
    Ok(Entry {
        revision: change.revision,
        at: change.at,
        hash: change.hash.0,
        body: serde_json::to_string(change)?,
    })
}

/// The change in an entry of the log.
///
/// # Errors
/// If it is none.
pub fn parse_entry(entry: &Entry) -> anyhow::Result<Change> {
    use anyhow::Context as _;
    serde_json::from_str(&entry.body).with_context(|| format!("log entry {} cannot be read", entry.revision))
}

/// The wall clock. Read here and handed to the core as a value.
pub fn wall_now() -> UnixMillis {
    let since = SystemTime::now()
        .duration_since(SystemTime::UNIX_EPOCH)
        .unwrap_or_default();
    UnixMillis(u64::try_from(since.as_millis()).unwrap_or(u64::MAX))
}

/// Fresh randomness from the system.
///
/// # Errors
/// If the system has none: nothing is decided on guessable ids.
pub fn entropy() -> Result<[u8; 32], CommitError> {
    let mut bytes = [0; 32];
    getrandom::fill(&mut bytes)
        .map_err(|error| CommitError::Broken(format!("the system gives no randomness: {error}")))?;
    Ok(bytes)
}

/// Jobs that wait for the core: beyond it callers wait.
const JOBS_MAX: usize = 1024;
const CHANGES_PER_SNAPSHOT: u32 = 256;

#[cfg(test)]
mod tests;
