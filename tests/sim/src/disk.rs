//! What outlives a process: a node's state directory, and the controller's log.
//!
//! **Invariant:** a node's file is replaced whole or not at all, and an entry of the log is there whole or not at all:
//! that is what the shells' stores promise (atomic rename and `fsync`; a transaction of SQLite).

use std::collections::BTreeMap;
use std::time::Duration;

use ringfence_control::Netmap;
use ringfence_controlplane::{Change, Controller, LoadError, Snapshot, verify_chain};
use ringfence_model::{Candidate, Name, NodeId};

use crate::violation::Violation;

/// A node's state directory.
#[derive(Clone, Debug, Default)]
pub(crate) struct Disk {
    /// Who it is.
    pub identity: Option<Identity>,
    /// Private keys of its segments.
    pub keys: BTreeMap<Name, [u8; 32]>,
    netmap: Option<Vec<u8>>,
    word: Option<Word>,
    /// Where peers were last said to be.
    pub candidates: BTreeMap<NodeId, Vec<Candidate>>,
}

/// Who a node is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Identity {
    /// Its id.
    pub node: NodeId,
    /// Its identity key.
    pub spki: Vec<u8>,
}

/// A moment on both clocks of a machine, as node/src/saved.rs writes it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Word {
    /// Names this boot of the kernel.
    pub kernel: u64,
    /// Since that boot.
    pub boot: Duration,
    /// The wall clock, in milliseconds.
    pub wall_ms: u64,
}

impl Disk {
    /// Replaces the netmap.
    pub(crate) fn save_netmap(&mut self, netmap: &Netmap) {
        self.netmap = Some(serde_json::to_vec(netmap).expect("a netmap is plain data"));
        self.keys
            .retain(|perimeter, _| netmap.segments.contains_key(perimeter));
    }

    /// A netmap could not be written: the old one goes, which a full disk allows.
    pub(crate) fn drop_netmap(&mut self) {
        self.netmap = None;
    }

    /// Notes that the controller spoke.
    pub(crate) fn save_word(&mut self, word: Word) {
        self.word = Some(word);
    }

    /// What was saved, and how long ago the controller spoke, as far as the clocks tell.
    pub(crate) fn load(&self, now: Word) -> Option<(Netmap, Duration)> {
        let netmap = serde_json::from_slice(self.netmap.as_ref()?).ok()?;
        let since = self.word.and_then(|word| {
            if word.kernel == now.kernel {
                return now.boot.checked_sub(word.boot);
            }
            now.wall_ms.checked_sub(word.wall_ms).map(Duration::from_millis)
        });
        Some((netmap, since.unwrap_or(Duration::MAX)))
    }

    /// The netmap on disk.
    pub(crate) fn netmap(&self) -> Option<Netmap> {
        serde_json::from_slice(self.netmap.as_ref()?).ok()
    }
}

/// The controller's log, with a snapshot that may be older than its end.
#[derive(Clone, Default)]
pub(crate) struct Log {
    entries: Vec<Vec<u8>>,
    snapshot: Option<(usize, Vec<u8>)>,
}

impl Log {
    /// Appends an entry, durably.
    pub(crate) fn append(&mut self, change: &Change) {
        self.entries
            .push(serde_json::to_vec(change).expect("a change is plain data"));
    }

    /// How many entries there are.
    pub(crate) fn len(&self) -> usize {
        self.entries.len()
    }

    /// Saves a snapshot of the state after the last entry.
    pub(crate) fn save_snapshot(&mut self, snapshot: &Snapshot) {
        self.snapshot = Some((self.entries.len(), snapshot.to_bytes()));
    }

    /// Goes back to the first `len` entries, as a restore from a backup does.
    pub(crate) fn truncate(&mut self, len: usize) {
        self.entries.truncate(len);
        self.snapshot = self.snapshot.take().filter(|(at, _)| *at <= len);
    }

    /// Every entry.
    pub(crate) fn changes(&self) -> Vec<Change> {
        let entries = self.entries.iter();
        entries
            .map(|entry| serde_json::from_slice(entry).expect("entries read back"))
            .collect()
    }

    /// Brings a controller back, by snapshot and by the whole log, which must agree.
    ///
    /// # Errors
    /// If the log does not add up, or both ways differ.
    pub(crate) fn load(&self) -> Result<Controller, Violation> {
        let fault = |what: String| Violation::new("log", what);
        let changes = self.changes();
        verify_chain(&changes).map_err(|error| fault(format!("the chain is broken: {error}")))?;
        let unusable = |error: LoadError| fault(format!("the log does not load: {error}"));
        let from_log = Controller::load(None, &changes).map_err(unusable)?;
        let Some((at, bytes)) = &self.snapshot else {
            return Ok(from_log);
        };
        let snapshot = Snapshot::from_bytes(bytes).map_err(unusable)?;
        let controller = Controller::load(Some(snapshot), &changes[*at..]).map_err(unusable)?;
        if controller.snapshot().to_bytes() != from_log.snapshot().to_bytes() {
            return Err(fault("snapshot and log give different controllers".to_owned()));
        }
        Ok(controller)
    }
}
