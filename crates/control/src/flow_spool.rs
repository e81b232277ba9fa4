//! The records a node still owes the controller: numbered, kept until acknowledged, sent again after a reconnect.
//!
//! **Invariant:** a record leaves the spool only when the controller has acknowledged it, or to make room for newer
//! ones: then its number stays unused, which tells the controller that it was lost. At most [`FLOW_SPOOL_MAX`] wait.

use std::collections::VecDeque;
use std::time::{Duration, Instant};

use ringfence_model::sabotage::{Safeguard, is_off};

use crate::{FlowRecords, FlowRecordsTaken, FlowReport};

/// What a node owes. Lives as long as the process; its shell keeps a copy on disk (see [`crate::FlowEntry`]).
#[derive(Debug)]
pub struct FlowSpool {
    /// Names the numbers that this process gives.
    stream: u64,
    next: u64,
    records: VecDeque<Spooled>,
    /// How many records have left at the front, since the process began.
    gone: u64,
    dropped: u64,
    link: Link,
}

/// A record and its name.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Spooled {
    /// The stream it was numbered in.
    pub stream: u64,
    /// Its number there.
    pub number: u64,
    /// What happened.
    pub report: FlowReport,
}

/// How far the talk with the controller is. One batch is under way at a time: what it cannot store waits here.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Link {
    Down,
    Ready,
    Waiting { for_answer_until: Instant },
}

impl FlowSpool {
    /// A spool that owes what an earlier process left. `stream` is fresh randomness: no number of this process can be
    /// taken for one of another, whatever was lost of its disk.
    pub fn new(stream: u64, left: impl IntoIterator<Item = Spooled>) -> Self {
        let mut spool = Self {
            stream: if is_off(Safeguard::FlowStreams) { 0 } else { stream },
            next: 0,
            records: left.into_iter().collect(),
            gone: 0,
            dropped: 0,
            link: Link::Down,
        };
        spool.make_room();
        spool
    }

    /// Numbers a record and keeps it. Full: the oldest goes.
    pub fn push(&mut self, report: FlowReport) {
        self.records.push_back(Spooled {
            stream: self.stream,
            number: self.next,
            report,
        });
        self.next += 1;
        self.make_room();
    }

    /// So many records were lost before they came here: their numbers stay unused.
    pub fn skip(&mut self, lost: u64) {
        self.next = self.next.saturating_add(lost);
        self.dropped = self.dropped.saturating_add(lost);
    }

    /// A controller that takes records is there. What an earlier connection left without an answer is sent again.
    pub fn handle_connected(&mut self) {
        self.link = Link::Ready;
    }

    /// It is gone.
    pub fn handle_disconnected(&mut self) {
        self.link = Link::Down;
    }

    /// The controller has stored every record of `taken.stream` below `taken.through`. Gives whether any was owed.
    pub fn handle_taken(&mut self, taken: FlowRecordsTaken) -> bool {
        let before = self.records.len();
        // Streams come one after the other, so what is acknowledged is at the front.
        while self.records.front().is_some_and(|record| record.is_in(taken)) {
            self.records.pop_front();
            self.gone += 1;
        }
        let news = self.records.len() < before;
        if news && self.link != Link::Down {
            self.link = Link::Ready;
        }
        news
    }

    /// The next batch to send, oldest first, while there is a connection and no batch is under way; one without an
    /// answer for [`FLOW_ANSWER_WAIT`] is sent again.
    pub fn poll_batch(&mut self, now: Instant) -> Option<FlowRecords> {
        match self.link {
            Link::Ready => {}
            Link::Waiting { for_answer_until } if for_answer_until <= now => {}
            Link::Down | Link::Waiting { .. } => return None,
        }
        let front = self.records.front()?;
        let (stream, first) = (front.stream, front.number);
        let run = self
            .records
            .iter()
            .zip(first..)
            .take_while(|(record, number)| record.stream == stream && record.number == *number);
        let records: Vec<FlowReport> = run
            .take(FlowRecords::RECORDS_MAX)
            .map(|(record, _)| record.report.clone())
            .collect();
        self.link = Link::Waiting {
            for_answer_until: now + FLOW_ANSWER_WAIT,
        };
        if is_off(Safeguard::FlowsKept) {
            self.records.drain(..records.len());
            self.gone += records.len() as u64;
        }
        Some(FlowRecords {
            stream,
            first,
            records,
        })
    }

    /// When [`Self::poll_batch`] next has something to send that it has not now.
    pub fn poll_timeout(&self) -> Option<Instant> {
        match self.link {
            Link::Waiting { for_answer_until } if !self.records.is_empty() => Some(for_answer_until),
            Link::Waiting { .. } | Link::Ready | Link::Down => None,
        }
    }

    /// What is owed, oldest first.
    pub fn records(&self) -> impl Iterator<Item = &Spooled> {
        self.records.iter()
    }

    /// How many are owed.
    pub fn len(&self) -> usize {
        self.records.len()
    }

    /// Whether nothing is owed.
    pub fn is_empty(&self) -> bool {
        self.records.is_empty()
    }

    /// The place of the first record owed, counting every record this process has held from 0; of the next to come if
    /// nothing is owed.
    pub fn first_place(&self) -> u64 {
        self.gone
    }

    /// The place of the next record to come.
    pub fn next_place(&self) -> u64 {
        self.gone + self.records.len() as u64
    }

    /// The records from `place` on that are still owed.
    pub fn since(&self, place: u64) -> impl Iterator<Item = &Spooled> {
        let skip = usize::try_from(place.saturating_sub(self.gone)).unwrap_or(usize::MAX);
        self.records.iter().skip(skip)
    }

    /// How many records this process has lost: dropped for newer ones, or never told to it.
    pub fn dropped(&self) -> u64 {
        self.dropped
    }

    fn make_room(&mut self) {
        while self.records.len() > FLOW_SPOOL_MAX {
            self.records.pop_front();
            self.gone += 1;
            self.dropped += 1;
        }
    }
}

impl Spooled {
    /// Whether `taken` acknowledges it.
    pub fn is_in(&self, taken: FlowRecordsTaken) -> bool {
        self.stream == taken.stream && self.number < taken.through
    }
}

/// Records that wait for a controller; past it the oldest go. At 1,000 flows an hour more than a day's worth, in
/// at most 32 MiB of memory and disk ([`FlowReport::BYTES_MAX`] each).
pub const FLOW_SPOOL_MAX: usize = 32_768;

/// How long a batch may go without an answer before it is sent again: a controller whose disk is full says nothing.
pub const FLOW_ANSWER_WAIT: Duration = Duration::from_secs(10);

#[cfg(test)]
pub(crate) mod tests;
