//! Flow records at the controller: a stand-in for controller/src/flows/store.rs, and what must be true of both ends.
//!
//! SQLite is not rehearsed: a batch is stored whole and durable, or not at all. Nor are bounds of the store, and who may
//! tell of which perimeter: honest nodes meet neither here.
//!
//! **Invariant:** a record that a node was told is taken is in the store once, as it was told; one that was safe on a
//! node's disk is there, or in the store.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use ringfence_control::{FlowRecords, FlowRecordsTaken, FlowReport, ToNode};
use ringfence_model::NodeId;

use crate::records::TELL_MAX;
use crate::sabotage::{Safeguard, is_off};
use crate::schedule::Happening;
use crate::violation::Violation;
use crate::world::{Phase, World};

/// Names a record for ever: who told it, the stream, and its number there.
pub(crate) type RecordName = (NodeId, u64, u64);

/// The store, and everything that was ever told.
#[derive(Default)]
pub(crate) struct Ledger {
    told: BTreeMap<RecordName, FlowReport>,
    /// On a node's disk for good.
    safe: BTreeSet<RecordName>,
    /// The store: every row of a name.
    rows: BTreeMap<RecordName, Vec<FlowReport>>,
    through: BTreeMap<(NodeId, u64), u64>,
}

impl Ledger {
    /// A node has numbered a record.
    pub(crate) fn tell(&mut self, name: RecordName, report: FlowReport) -> Result<(), Violation> {
        match self.told.insert(name, report) {
            None => Ok(()),
            Some(_) => Err(Violation::new(
                "records",
                format!("{name:?} names a second record"),
            )),
        }
    }

    /// A record is one that a node numbered.
    pub(crate) fn check_told(&self, name: RecordName, report: &FlowReport) -> Result<(), Violation> {
        if self.told.get(&name) == Some(report) {
            return Ok(());
        }
        Err(Violation::new("records", format!("{name:?} was never told so")))
    }

    /// Records are on a node's disk, and will be there.
    pub(crate) fn note_safe(&mut self, names: Vec<RecordName>) {
        self.safe.extend(names);
    }

    /// What was safe at `node` is among what it owes, or is stored.
    pub(crate) fn check_safe(&self, node: NodeId, owed: &BTreeSet<RecordName>) -> Result<(), Violation> {
        let mut safe = self.safe.range((node, 0, 0)..=(node, u64::MAX, u64::MAX));
        match safe.find(|name| !owed.contains(name) && !self.rows.contains_key(name)) {
            None => Ok(()),
            Some(name) => Err(Violation::new(
                "records",
                format!("{name:?} was on disk, and is neither owed nor stored"),
            )),
        }
    }

    /// A record that a node may forget is in the store.
    pub(crate) fn check_stored(&self, name: RecordName) -> Result<(), Violation> {
        let rows = self.rows.get(&name).map_or(&[][..], Vec::as_slice);
        if let [row] = rows {
            return self.check_told(name, row);
        }
        let what = format!("{name:?} is said to be stored, and is {} times", rows.len());
        Err(Violation::new("records", what))
    }

    /// Stores what is not there yet.
    fn take(&mut self, node: NodeId, batch: FlowRecords) -> Result<FlowRecordsTaken, Violation> {
        let FlowRecords { stream, first, .. } = batch;
        let through = first + batch.records.len() as u64;
        let known = self.through.entry((node, stream)).or_default();
        let before = if is_off(Safeguard::FlowNames) { 0 } else { *known };
        *known = through.max(*known);
        let through = *known;
        for (number, report) in (first..)
            .zip(batch.records)
            .filter(|(number, _)| *number >= before)
        {
            let name = (node, stream, number);
            self.check_told(name, &report)?;
            self.rows.entry(name).or_default().push(report);
        }
        Ok(FlowRecordsTaken { stream, through })
    }

    /// How many are stored.
    pub(crate) fn stored(&self) -> u64 {
        self.rows.len() as u64
    }
}

impl World {
    /// A batch arrives: it is handed to the store's thread, unless that has one of this connection already.
    pub(crate) fn receive_records(&mut self, link: u64, batch: FlowRecords) {
        let is_slow = self.phase == Phase::Faults && self.dice.chance(0.05);
        let most = if is_slow { SLOW_DISK } else { QUICK_DISK };
        let wait = self.dice.time(Duration::ZERO..most);
        let boot = self.controller.boot;
        let seats = self.controller.core.as_mut().map(|core| &mut core.sessions);
        let Some(seat) = seats.and_then(|seats| seats.get_mut(&link)) else {
            return;
        };
        if !std::mem::replace(&mut seat.is_storing, true) {
            let node = seat.session.node();
            self.queue.at(
                self.now + wait,
                Happening::Records {
                    boot,
                    link,
                    node,
                    batch,
                },
            );
        }
    }

    /// The store's thread has come to a batch. The process may die before the node hears of it.
    pub(crate) fn store_records(
        &mut self,
        boot: u64,
        link: u64,
        node: NodeId,
        batch: FlowRecords,
    ) -> Result<(), Violation> {
        if self.controller.core.is_none() || self.controller.boot != boot {
            return Ok(());
        }
        let is_full = self.dice.chance(self.swarm.faults.log_full);
        let taken = if is_full {
            None
        } else {
            Some(self.ledger.take(node, batch)?)
        };
        if self.dice.chance(self.swarm.faults.crash_at_step * RARELY) {
            self.crash_controller("before it acknowledges flow records");
            return Ok(());
        }
        let seats = self.controller.core.as_mut().map(|core| &mut core.sessions);
        if let Some(seat) = seats.and_then(|seats| seats.get_mut(&link)) {
            seat.is_storing = false;
            if let Some(taken) = taken {
                self.tell_node(link, &ToNode::FlowRecordsTaken(taken));
            }
        }
        Ok(())
    }

    /// What nodes of the mesh owe now they tell in time, and nothing that was safe is missing then.
    ///
    /// # Errors
    /// What is missing.
    pub(crate) fn prove_records(&mut self) -> Result<(), Violation> {
        let owed = self.owed_records();
        let deadline = self.now + TELL_MAX;
        while let Some((machine, name)) = owed.iter().find(|(_, name)| !self.ledger.rows.contains_key(name)) {
            if self.now >= deadline {
                let what = format!("{name:?} is not told within {TELL_MAX:?}");
                return Err(Violation::new("records", what).of(*machine));
            }
            self.run_until(self.now + Duration::from_millis(500))?;
        }
        let still_owed: BTreeSet<RecordName> =
            self.owed_records().into_iter().map(|(_, name)| name).collect();
        for (node, machine) in self.sound() {
            if !self.machines[machine].disk.has_lied {
                self.ledger
                    .check_safe(node, &still_owed)
                    .map_err(|violation| violation.of(machine))?;
            }
        }
        self.stats.records = self.ledger.stored();
        Ok(())
    }

    fn owed_records(&self) -> Vec<(usize, RecordName)> {
        let mut owed = Vec::new();
        for machine in self.sound().into_values() {
            if let Some(agent) = &self.machines[machine].agent {
                owed.extend(agent.records.owed().into_iter().map(|name| (machine, name)));
            }
        }
        owed
    }
}

const QUICK_DISK: Duration = Duration::from_millis(20);
/// Longer than a node waits for an answer.
const SLOW_DISK: Duration = Duration::from_secs(15);
const RARELY: f64 = 0.2;
