//! Of the latest revisions: whom each was for, and when they said that they enforce it.
//!
//! **Invariant:** at most [`REVISIONS_TIMED_MAX`] revisions and [`NODES_TOLD_MAX`] words of nodes are kept. Of the oldest
//! first the words go, and what they add up to stays.

use std::collections::{BTreeMap, BTreeSet};
use std::ops::Bound::{Excluded, Included};
use std::time::Duration;

use ringfence_model::{NodeId, Revision, TableSize, UnixMillis, nearest_rank};

use super::Slowest;
use super::record::{RECORD_AFTER, RECORD_EVERY, RecordedReceipt};

/// When the latest revisions were made, and how far each got.
#[derive(Clone, Debug, Default)]
pub(crate) struct Receipts {
    latest: BTreeMap<Revision, Progress>,
    /// How many words of nodes are kept, of all revisions together.
    words: usize,
    /// Those whose receipts the log is to have.
    unrecorded: BTreeSet<Revision>,
    /// When some were last recorded.
    recorded_at: Option<UnixMillis>,
}

/// How far one revision got.
#[derive(Clone, Debug)]
pub(crate) struct Progress {
    pub(crate) made_at: UnixMillis,
    /// Of all who acknowledged it, whether it was for them or not.
    pub(super) slowest: Option<Slowest>,
    /// Whom it was for, in order of id. Empty once `timing` is all that is left.
    pub(crate) told: Vec<Told>,
    /// What their words added up to when they were given up.
    pub(crate) timing: Option<Timing>,
}

/// A node that a revision was for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Told {
    pub(crate) node: NodeId,
    /// The longest lease it had of any perimeter, before the change and after it.
    pub(crate) lease_seconds: u32,
    pub(crate) word: Word,
}

/// A node's word on a revision.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Word {
    /// None so far.
    None,
    /// It enforces it, and was connected all the time.
    Enforced { after_ms: u32, took_us: u32 },
    /// It enforces it since it came back.
    EnforcedLate { after_ms: u32 },
}

/// How long it took those that were connected, from the change to their acknowledgement.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Timing {
    /// How many there were.
    pub nodes: usize,
    /// Half of them took no longer (nearest rank).
    pub p50: Duration,
    /// 99 of 100 took no longer (nearest rank).
    pub p99: Duration,
    /// None took longer.
    pub max: Duration,
}

impl Receipts {
    pub(crate) fn tables(&self) -> [TableSize; 3] {
        [
            TableSize::new("revisions that are timed", self.latest.len(), REVISIONS_TIMED_MAX),
            TableSize::new("receipts to record", self.unrecorded.len(), REVISIONS_TIMED_MAX),
            TableSize::new("words of nodes on revisions", self.words, NODES_TOLD_MAX),
        ]
    }

    pub(crate) fn progress(&self, revision: Revision) -> Option<&Progress> {
        self.latest.get(&revision)
    }

    /// A revision was made, for these nodes, in order of id.
    pub(crate) fn applied(&mut self, revision: Revision, made_at: UnixMillis, told: Vec<Told>) {
        self.words += told.len();
        let progress = Progress {
            made_at,
            slowest: None,
            told,
            timing: None,
        };
        self.latest.insert(revision, progress);
        while self.latest.len() > REVISIONS_TIMED_MAX {
            let gone = self.latest.pop_first();
            if let Some((revision, _)) = &gone {
                self.unrecorded.remove(revision);
            }
            self.words -= gone.map_or(0, |(_, progress)| progress.told.len());
        }
        while self.words > NODES_TOLD_MAX {
            let mut all = self.latest.values_mut();
            let Some(oldest) = all.find(|progress| !progress.told.is_empty()) else {
                break;
            };
            oldest.timing = Some(oldest.timing());
            self.words -= std::mem::take(&mut oldest.told).len();
        }
    }

    /// The log is to have the receipt of a revision. One that was for nobody needs none.
    pub(crate) fn will_record(&mut self, revision: Revision) {
        let is_for_somebody = |progress: &Progress| !progress.told.is_empty();
        if self.progress(revision).is_some_and(is_for_somebody) {
            self.unrecorded.insert(revision);
        }
    }

    /// The log has these.
    pub(crate) fn recorded(&mut self, receipts: &[RecordedReceipt], wall: UnixMillis) {
        for receipt in receipts {
            self.unrecorded.remove(&receipt.revision);
        }
        self.recorded_at = Some(wall);
    }

    /// Those that are due by now.
    pub(crate) fn to_record(&self, wall: UnixMillis) -> impl Iterator<Item = Revision> + '_ {
        let is_due = move |revision: &Revision| self.record_due(*revision).is_some_and(|due| due <= wall);
        self.unrecorded.iter().copied().filter(is_due)
    }

    /// When the next are due.
    pub(crate) fn next_record(&self) -> Option<UnixMillis> {
        let due = self.record_due(*self.unrecorded.first()?)?;
        let next = self.recorded_at.map(|at| at.saturating_add(RECORD_EVERY));
        Some(next.map_or(due, |next| next.max(due)))
    }

    fn record_due(&self, revision: Revision) -> Option<UnixMillis> {
        let made_at = self.progress(revision)?.made_at;
        Some(made_at.saturating_add(RECORD_AFTER))
    }

    /// `node` moved from one revision to a later one. It has been connected since `since`.
    pub(super) fn acknowledged(
        &mut self,
        node: NodeId,
        (before, now): (Revision, Revision),
        took_us: u64,
        (since, wall): (UnixMillis, UnixMillis),
    ) {
        for (_, progress) in self.latest.range_mut((Excluded(before), Included(now))) {
            let after = wall.saturating_since(progress.made_at);
            // Revisions made while it was away are not its delay.
            let was_there = progress.made_at >= since;
            progress.hear(node, after, was_there.then_some(took_us));
            if was_there && progress.slowest.is_none_or(|slowest| after >= slowest.after) {
                progress.slowest = Some(Slowest { node, after, took_us });
            }
        }
    }
}

impl Progress {
    fn hear(&mut self, node: NodeId, after: Duration, took_us: Option<u64>) {
        let Ok(place) = self.told.binary_search_by_key(&node, |told| told.node) else {
            return;
        };
        let after_ms = u32::try_from(after.as_millis()).unwrap_or(u32::MAX);
        let word = &mut self.told[place].word;
        // A node that lost its state and enforces it anew took effect the first time.
        if *word == Word::None {
            *word = match took_us {
                Some(took_us) => Word::Enforced {
                    after_ms,
                    took_us: u32::try_from(took_us).unwrap_or(u32::MAX),
                },
                None => Word::EnforcedLate { after_ms },
            };
        }
    }

    /// What the words so far add up to.
    pub(crate) fn timing(&self) -> Timing {
        self.timing.unwrap_or_else(|| Timing::of(self.told.iter()))
    }
}

impl Timing {
    /// What words of nodes add up to.
    pub(crate) fn of<'a>(told: impl Iterator<Item = &'a Told>) -> Self {
        let words = told.filter_map(|told| match told.word {
            Word::Enforced { after_ms, .. } => Some(after_ms),
            Word::None | Word::EnforcedLate { .. } => None,
        });
        let mut after: Vec<u32> = words.collect();
        after.sort_unstable();
        let rank = |percent: usize| {
            let ms = nearest_rank(&after, percent).unwrap_or(0);
            Duration::from_millis(ms.into())
        };
        Self {
            nodes: after.len(),
            p50: rank(50),
            p99: rank(99),
            max: rank(100),
        }
    }
}

/// How many of the latest revisions are timed: asking about an older one still says who enforces it.
pub const REVISIONS_TIMED_MAX: usize = 1_024;
/// How many words of nodes are kept: some revisions that are for every node of a full mesh, or very many that are for a
/// few. The newest revision keeps its own whatever came before.
pub const NODES_TOLD_MAX: usize = 131_072;

#[cfg(test)]
mod tests {
    use super::*;

    fn told(nodes: std::ops::Range<u64>) -> Vec<Told> {
        let one = |id| Told {
            node: NodeId(id),
            lease_seconds: 600,
            word: Word::None,
        };
        nodes.map(one).collect()
    }

    fn revision(n: u64) -> Revision {
        Revision { term: 1, n }
    }

    #[test]
    fn percentiles_are_by_nearest_rank() {
        let mut receipts = Receipts::default();
        receipts.applied(revision(1), UnixMillis(0), told(0..100));
        for id in 0..100 {
            let wall = UnixMillis(id + 1);
            receipts.acknowledged(
                NodeId(id),
                (Revision::ZERO, revision(1)),
                7,
                (UnixMillis(0), wall),
            );
        }

        let timing = receipts.progress(revision(1)).unwrap().timing();

        let ms = Duration::from_millis;
        assert_eq!((timing.p50, timing.p99, timing.max), (ms(50), ms(99), ms(100)));
        assert_eq!(
            Progress::timing(receipts.progress(revision(1)).unwrap()).nodes,
            100
        );
    }

    #[test]
    fn one_word_is_all_three() {
        let mut receipts = Receipts::default();
        receipts.applied(revision(1), UnixMillis(0), told(0..3));
        receipts.acknowledged(
            NodeId(1),
            (Revision::ZERO, revision(1)),
            7,
            (UnixMillis(0), UnixMillis(9)),
        );

        let timing = receipts.progress(revision(1)).unwrap().timing();

        let nine = Duration::from_millis(9);
        let all = Timing {
            nodes: 1,
            p50: nine,
            p99: nine,
            max: nine,
        };
        assert_eq!(timing, all);
    }

    #[test]
    fn words_of_the_oldest_make_room_and_what_they_add_up_to_stays() {
        let mut receipts = Receipts::default();
        let many = NODES_TOLD_MAX as u64 / 3;
        for n in 1..=4 {
            receipts.applied(revision(n), UnixMillis(0), told(0..many));
            receipts.acknowledged(
                NodeId(1),
                (revision(n - 1), revision(n)),
                7,
                (UnixMillis(0), UnixMillis(n)),
            );
        }

        let first = receipts.progress(revision(1)).unwrap();
        assert!(first.told.is_empty());
        assert_eq!(first.timing().max, Duration::from_millis(1));
        assert_eq!(receipts.progress(revision(4)).unwrap().told.len(), many as usize);
        assert!(receipts.tables().iter().all(|table| table.len <= table.max));
    }
}
