//! Receipts in the log: what every change that may take access away came to, some seconds after it was made.
//!
//! **Invariant:** one entry records all that are due, and there is at most one for each [`RECORD_EVERY`]: whatever is taken
//! away, the log grows by so much for it and no more. A full disk has room for what takes away, and none for this.

use std::time::Duration;

use ringfence_model::{NodeId, Revision, UnixMillis};
use serde::{Deserialize, Serialize};

use super::Timing;
use super::told::{Told, Word};
use crate::draft::Draft;
use crate::{AccessEvent, Controller, DrillEvent, Event, PostureEvent, Refusal};

/// One fact about receipts: in [`crate::Event::Receipts`].
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "event", rename_all = "kebab-case")]
pub enum ReceiptEvent {
    /// How far revisions had got some seconds after they were made.
    ReceiptsRecorded {
        /// Of which revisions, in order.
        receipts: Vec<RecordedReceipt>,
    },
}

/// How far one revision had got.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct RecordedReceipt {
    /// Which.
    pub revision: Revision,
    /// For how many nodes it was.
    pub told: usize,
    /// How many of them had said that they enforce it.
    pub enforced: usize,
    /// Of those that were connected all the time: half took no longer, in milliseconds.
    pub p50_ms: u64,
    /// 99 of 100 took no longer.
    pub p99_ms: u64,
    /// None took longer.
    pub max_ms: u64,
    /// Nodes that were connected and had not, at most [`RECORDED_NODES_MAX`].
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub pending: Vec<NodeId>,
    /// Nodes that were not connected, at most [`RECORDED_NODES_MAX`], each with when it has closed by itself, if known.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub offline: Vec<(NodeId, Option<UnixMillis>)>,
}

impl ReceiptEvent {
    /// The word for it, as in the log.
    pub fn kind(&self) -> &'static str {
        match self {
            Self::ReceiptsRecorded { .. } => "receipts-recorded",
        }
    }

    /// What happened, in words.
    pub(crate) fn sentence(&self) -> String {
        let Self::ReceiptsRecorded { receipts } = self;
        let mut parts: Vec<String> = receipts
            .iter()
            .take(SAID_MAX)
            .map(RecordedReceipt::sentence)
            .collect();
        if receipts.len() > SAID_MAX {
            parts.push(format!("and {} revisions more", receipts.len() - SAID_MAX));
        }
        parts.join("; ")
    }
}

impl RecordedReceipt {
    fn sentence(&self) -> String {
        let mut text = format!(
            "revision {} was enforced by {} of {} nodes, after p50 {} ms, p99 {} ms, max {} ms",
            self.revision, self.enforced, self.told, self.p50_ms, self.p99_ms, self.max_ms
        );
        if !self.pending.is_empty() {
            text += &format!(", NOT by {} that were connected", self.pending.len());
        }
        if !self.offline.is_empty() {
            text += &format!(", {} were away", self.offline.len());
        }
        text
    }
}

impl Controller {
    /// When the next receipts are due for the log: propose [`crate::Command::RecordReceipts`] then. `None` if none will be.
    pub fn poll_receipts(&self) -> Option<UnixMillis> {
        self.receipts.next_record()
    }

    fn record_of(&self, revision: Revision, told: &[Told]) -> RecordedReceipt {
        let timing = Timing::of(told.iter());
        let ms = |duration: Duration| u64::try_from(duration.as_millis()).unwrap_or(u64::MAX);
        let is_there = |told: &&Told| self.node(told.node).is_some();
        let silent = told
            .iter()
            .filter(is_there)
            .filter(|told| told.word == Word::None);
        let (pending, offline): (Vec<&Told>, Vec<&Told>) =
            silent.partition(|told| self.is_connected(told.node));
        let closed_by = |told: &Told| {
            let lease = Duration::from_secs(told.lease_seconds.into());
            (told.node, self.closed_by(told.node, lease))
        };
        RecordedReceipt {
            revision,
            told: told.len(),
            enforced: told.iter().filter(|told| told.word != Word::None).count(),
            p50_ms: ms(timing.p50),
            p99_ms: ms(timing.p99),
            max_ms: ms(timing.max),
            pending: pending
                .iter()
                .take(RECORDED_NODES_MAX)
                .map(|told| told.node)
                .collect(),
            offline: offline
                .into_iter()
                .take(RECORDED_NODES_MAX)
                .map(closed_by)
                .collect(),
        }
    }
}

/// Records what is due.
pub(crate) fn record(draft: &mut Draft, controller: &Controller) -> Result<(), Refusal> {
    let receipts: Vec<RecordedReceipt> = controller
        .receipts
        .to_record(draft.wall)
        .filter_map(|revision| {
            let progress = controller.receipts.progress(revision)?;
            Some(controller.record_of(revision, &progress.told))
        })
        .collect();
    if receipts.is_empty() {
        return Err(Refusal::Unchanged);
    }
    draft.record(Event::Receipts(Box::new(ReceiptEvent::ReceiptsRecorded {
        receipts,
    })));
    Ok(())
}

/// Whether an event may take access away from somebody.
pub(crate) fn may_narrow(event: &Event) -> bool {
    match event {
        Event::PerimeterChanged { .. }
        | Event::PerimeterRemoved { .. }
        | Event::RulesExpired { .. }
        | Event::ConditionsChanged { .. }
        | Event::MemberLeft { .. }
        | Event::NodeLabelled { .. }
        | Event::NodeRemoved { .. }
        | Event::SourceSeen { .. }
        | Event::DeviceRemoved { .. }
        | Event::DeviceExpired { .. }
        | Event::People(_)
        | Event::Lapse(_)
        | Event::Locks(_) => true,
        Event::Drill(event) => matches!(event, DrillEvent::DrillEnded { .. }),
        Event::Access(event) => matches!(
            event.as_ref(),
            AccessEvent::AccessEnded { .. } | AccessEvent::AccessExpired { .. }
        ),
        Event::Posture(event) => match event.as_ref() {
            PostureEvent::PostureApplied { .. } | PostureEvent::PostureJudged { .. } => true,
            PostureEvent::FactGiven { .. } | PostureEvent::TpmRecorded { .. } => false,
        },
        _ => false,
    }
}

/// How long after a revision its receipt is recorded: by then who is connected has answered, or is worth naming.
pub(crate) const RECORD_AFTER: Duration = Duration::from_secs(10);
/// How long after an entry the next may follow.
pub(crate) const RECORD_EVERY: Duration = Duration::from_secs(10);
/// How many nodes a recorded receipt names: its counts are of all.
pub const RECORDED_NODES_MAX: usize = 64;
const SAID_MAX: usize = 3;
