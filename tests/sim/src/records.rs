//! A node tells of flows that ended: what node/src/flows.rs and node/src/flow_files.rs do around the shipped spool and
//! the shipped format of its journal.
//!
//! **Invariant:** a file of the journal that an earlier process appended to is never appended to again.

use std::time::Duration;

use ringfence_control::{FlowEntry, FlowRecordsTaken, FlowReport, FlowSpool, Spooled, ToController};
use ringfence_model::NodeId;

use crate::files::{Files, WRITE_STEPS};
use crate::record_store::RecordName;
use crate::violation::Violation;
use crate::world::World;

/// What a running agent has of its records.
pub(crate) struct Records {
    node: NodeId,
    spool: FlowSpool,
    journal: Journal,
    /// Records before this place are on disk.
    written: u64,
    /// Acknowledgements that are not.
    taken: Vec<FlowRecordsTaken>,
    /// There is something to write down and to send.
    is_due: bool,
}

/// The files that a process appends to.
#[derive(Default)]
struct Journal {
    /// Files that are whole: their number, and the place after their last record.
    closed: Vec<(u64, u64)>,
    open: Option<(u64, u64)>,
    next: u64,
}

impl Records {
    /// Goes on with what is on disk. `stream` is fresh randomness.
    fn open(node: NodeId, files: &Files, stream: u64) -> Self {
        let numbers = numbers(files);
        let contents = numbers.iter().filter_map(|number| files.read(&file(*number)));
        let entries: Vec<FlowEntry> = contents.flat_map(|bytes| FlowEntry::read(&bytes)).collect();
        let spool = FlowSpool::new(stream, FlowEntry::owed(entries));
        let place = spool.next_place();
        Self {
            node,
            spool,
            journal: Journal {
                next: numbers.last().map_or(0, |last| last + 1),
                closed: numbers.into_iter().map(|number| (number, place)).collect(),
                open: None,
            },
            written: place,
            taken: Vec::new(),
            is_due: false,
        }
    }

    /// The connection is gone.
    pub(crate) fn handle_disconnected(&mut self) {
        self.spool.handle_disconnected();
    }

    /// Records that are owed, by name.
    pub(crate) fn owed(&self) -> Vec<RecordName> {
        self.spool.records().map(|record| self.name_of(record)).collect()
    }

    fn name_of(&self, record: &Spooled) -> RecordName {
        (self.node, record.stream, record.number)
    }

    /// What is not on disk, and the names of the records in it.
    fn unwritten(&self) -> (Vec<u8>, Vec<RecordName>) {
        let mut bytes = Vec::new();
        let records = self.spool.since(self.written).cloned().map(FlowEntry::Owed);
        for entry in self.taken.iter().copied().map(FlowEntry::Taken).chain(records) {
            entry.write(&mut bytes).expect("records are plain data");
        }
        let records = self.spool.since(self.written);
        (bytes, records.map(|record| self.name_of(record)).collect())
    }

    /// Removes the files of which nothing is owed.
    fn remove_files(&mut self, files: &mut Files) {
        let place = self.spool.first_place();
        let Journal { closed, open, .. } = &mut self.journal;
        if let Some(idle) = open.take_if(|(number, through)| {
            let length = files.read(&file(*number)).map_or(0, |bytes| bytes.len());
            *through <= place && length >= IDLE_BYTES_MAX
        }) {
            closed.push(idle);
        }
        closed.retain(|(number, through)| {
            let is_over = *through <= place;
            if is_over {
                // The directory is not synced: what comes back was told, and is known by its name.
                files.remove(&file(*number), 1);
            }
            !is_over
        });
    }
}

impl World {
    /// A process reads what an earlier one left.
    ///
    /// # Errors
    /// If something is missing that was safe, or is there that nobody wrote.
    pub(crate) fn open_records(&mut self, machine: usize, node: NodeId) -> Result<Records, Violation> {
        let stream = self.dice.number(0..u64::MAX);
        let disk = &self.machines[machine].disk;
        let records = Records::open(node, &disk.files, stream);
        for left in records.spool.records() {
            self.ledger
                .check_told(records.name_of(left), &left.report)
                .map_err(|violation| violation.of(machine))?;
        }
        if !disk.has_lied {
            let owed = records.owed().into_iter().collect();
            self.ledger
                .check_safe(node, &owed)
                .map_err(|violation| violation.of(machine))?;
        }
        Ok(records)
    }

    /// A flow ended at a machine.
    ///
    /// # Errors
    /// If its record gets a number that another has.
    pub(crate) fn flow_ended(&mut self, machine: usize, report: FlowReport) -> Result<(), Violation> {
        let is_lost = self.dice.chance(LOST_ON_THE_WAY);
        let records = &mut self.agent(machine).records;
        records.is_due = true;
        if is_lost {
            records.spool.skip(1);
            return Ok(());
        }
        records.spool.push(report);
        let newest = records
            .spool
            .since(records.spool.next_place() - 1)
            .last()
            .cloned();
        let newest = newest.expect("a record was just pushed");
        let name = records.name_of(&newest);
        self.ledger
            .tell(name, newest.report)
            .map_err(|violation| violation.of(machine))
    }

    /// The controller takes records on this connection.
    pub(crate) fn offer_records(&mut self, machine: usize) {
        self.agent(machine).records.spool.handle_connected();
        self.send_records(machine);
    }

    /// The controller says that it has stored records.
    ///
    /// # Errors
    /// If it has not.
    pub(crate) fn forget_records(
        &mut self,
        machine: usize,
        taken: FlowRecordsTaken,
    ) -> Result<(), Violation> {
        let agent = self.machines[machine].agent.as_mut().expect("it was just told");
        for record in agent.records.spool.records() {
            if record.is_in(taken) {
                self.ledger
                    .check_stored(agent.records.name_of(record))
                    .map_err(|violation| violation.of(machine))?;
            }
        }
        let records = &mut agent.records;
        if records.spool.handle_taken(taken) {
            records.taken.retain(|known| known.stream != taken.stream);
            records.taken.push(taken);
            records.is_due = true;
            self.send_records(machine);
        }
        Ok(())
    }

    /// What the records' thread does about once a second: writes down, then sends.
    pub(crate) fn tend_records(&mut self, machine: usize) {
        let now = self.instant();
        let Some(agent) = self.machines[machine].agent.as_mut() else {
            return;
        };
        if std::mem::take(&mut agent.records.is_due) {
            self.write_records(machine);
            self.send_records(machine);
        } else if agent.records.spool.poll_timeout().is_some_and(|at| at <= now) {
            self.send_records(machine);
        }
    }

    fn write_records(&mut self, machine: usize) {
        let (steps, is_full) = (self.steps(RARELY), self.dice.chance(self.swarm.faults.disk_full));
        let place = &mut self.machines[machine];
        let Some(agent) = place.agent.as_mut() else {
            return;
        };
        let (bytes, names) = agent.records.unwritten();
        let records = &mut agent.records;
        if !bytes.is_empty() && is_full {
            // They stay in memory, and a file whose tail may be torn is not appended to again.
            let Journal { closed, open, .. } = &mut records.journal;
            closed.extend(open.take());
            records.is_due = true;
        } else if !bytes.is_empty() {
            let next = records.journal.next;
            let (number, _) = records.journal.open.take().unwrap_or((next, 0));
            records.journal.next = next.max(number + 1);
            place.disk.files.append(&file(number), &bytes, steps);
            if steps < WRITE_STEPS {
                self.crash(machine, "while it writes flow records down");
                return;
            }
            if !place.disk.has_lied {
                self.ledger.note_safe(names);
            }
            let length = place.disk.files.read(&file(number)).map_or(0, |all| all.len());
            records.written = records.spool.next_place();
            records.taken.clear();
            let whole = (number, records.written);
            if length < FILE_BYTES_MAX {
                records.journal.open = Some(whole);
            } else {
                records.journal.closed.push(whole);
            }
        }
        records.remove_files(&mut place.disk.files);
    }

    fn send_records(&mut self, machine: usize) {
        let now = self.instant();
        let Some(agent) = self.machines[machine].agent.as_mut() else {
            return;
        };
        let Some(link) = agent.link else {
            return;
        };
        if let Some(batch) = agent.records.spool.poll_batch(now) {
            self.tell_controller(link, &ToController::FlowRecords(batch));
        }
    }
}

fn file(number: u64) -> String {
    format!("{DIRECTORY}{number:010}.log")
}

fn numbers(files: &Files) -> Vec<u64> {
    let names = files.names();
    let numbers = names
        .iter()
        .filter_map(|name| name.strip_prefix(DIRECTORY)?.strip_suffix(".log")?.parse().ok());
    numbers.collect()
}

/// From the last fault until everything that was owed then is told: a full spool of 32,768 records, 256 of them in a
/// round trip of up to 300 ms and a slow commit, and half a minute for the connection.
pub(crate) const TELL_MAX: Duration = Duration::from_secs(100);
const DIRECTORY: &str = "flows/";
/// Less than node/src/flow_files.rs has, so that runs meet several files.
const FILE_BYTES_MAX: usize = 8 * 1024;
const IDLE_BYTES_MAX: usize = 2 * 1024;
/// Share of records that the packet loop cannot hand over.
const LOST_ON_THE_WAY: f64 = 0.01;
/// Records are written down so often that a node that often died over one would do little else.
const RARELY: f64 = 0.2;
