//! What outlives a process: a node's state directory, and the controller's log.
//!
//! A node's files are bytes, and what a kill, a power cut or a disk that lies leaves of them (`files.rs`) goes through
//! the shipped readers.
//!
//! **Invariant:** an entry of the controller's log, and a snapshot, is there whole or not at all: SQLite's promise of a
//! transaction with `synchronous=FULL`, whose own recovery from torn pages is not rehearsed here.

use ringfence_control::Netmap;
use ringfence_control::saved::{
    Moment, Peers, Saved, SavedDamaged, netmap_file, peers_file, read_peers, read_saved, word_file,
};
use ringfence_controlplane::{Change, Controller, LoadError, Snapshot, verify_chain};
use ringfence_model::{Name, NodeId, PrivateKey};

use crate::certificates::Certificate;
use crate::dice::Dice;
use crate::files::{Files, REMOVE_STEPS, WRITE_STEPS};
use crate::violation::Violation;

/// A node's state directory: what node/src/saved.rs and node/src/state.rs do with it.
#[derive(Default)]
pub(crate) struct Disk {
    /// Who it is: written last of an enrolment, and never again.
    pub identity: Option<Identity>,
    /// What it proves that with.
    pub certificate: Option<Certificate>,
    /// Everything else.
    pub files: Files,
    /// Whether it ever said of something that it is safe, and it was not.
    pub has_lied: bool,
    /// The disk lied, and lost something that was written: what was acknowledged may be gone.
    pub has_forgotten: bool,
}

/// Who a node is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Identity {
    /// Its id.
    pub node: NodeId,
    /// Its identity key.
    pub spki: Vec<u8>,
}

impl Disk {
    /// Replaces the netmap, or dies over it after so many steps.
    pub(crate) fn save_netmap(&mut self, netmap: &Netmap, steps: usize) {
        let bytes = netmap_file(netmap).expect("a netmap is plain data");
        self.files.write(NETMAP, &bytes, steps);
        self.has_forgotten &= steps < WRITE_STEPS;
    }

    /// A netmap could not be written: the old one goes, which a full disk allows.
    pub(crate) fn drop_netmap(&mut self, steps: usize) {
        self.files.remove(NETMAP, steps);
    }

    /// Notes that the controller spoke, or dies over it.
    pub(crate) fn save_word(&mut self, word: Moment, steps: usize) {
        let bytes = word_file(word).expect("a moment is plain data");
        self.files.write(WORD, &bytes, steps);
    }

    /// Writes down where peers are.
    pub(crate) fn save_peers(&mut self, peers: &Peers) {
        let bytes = peers_file(peers).expect("addresses are plain data");
        self.files.write(PEERS, &bytes, WRITE_STEPS);
    }

    /// What was saved, and how long ago the controller spoke, as far as the clocks tell.
    pub(crate) fn load(&self, now: &Moment) -> Result<Option<Saved>, SavedDamaged> {
        let Some(netmap) = self.files.read(NETMAP) else {
            return Ok(None);
        };
        read_saved(&netmap, self.files.read(WORD).as_deref(), now)
    }

    /// The netmap on disk.
    pub(crate) fn netmap(&self) -> Option<Netmap> {
        let now = Moment {
            boot_id: String::new(),
            boot_ms: 0,
            wall: ringfence_model::UnixMillis(0),
        };
        Some(self.load(&now).ok()??.netmap)
    }

    /// Where peers were last said to be.
    pub(crate) fn peers(&self) -> Peers {
        read_peers(self.files.read(PEERS).as_deref())
    }

    /// Private keys of segments, as far as their files are whole.
    pub(crate) fn keys(&self) -> Vec<(Name, PrivateKey)> {
        let names = self.files.names();
        let perimeters = names
            .iter()
            .filter_map(|name| Name::parse(name.strip_prefix(KEYS)?).ok());
        perimeters
            .filter_map(|perimeter| Some((perimeter.clone(), self.read_key(&perimeter)?)))
            .collect()
    }

    fn read_key(&self, perimeter: &Name) -> Option<PrivateKey> {
        let text = String::from_utf8(self.files.read(&key_file(perimeter))?).ok()?;
        PrivateKey::from_base64(text.trim_end()).ok()
    }

    /// The key of a perimeter: the one on disk, or `fresh`, written down. A damaged one is replaced, as
    /// node/src/control/devices.rs does.
    pub(crate) fn key(&mut self, perimeter: &Name, fresh: [u8; 32], steps: usize) -> PrivateKey {
        if let Some(key) = self.read_key(perimeter) {
            return key;
        }
        self.files.remove(&key_file(perimeter), REMOVE_STEPS);
        let key = PrivateKey::from_random(fresh);
        let mut text = key.expose_base64();
        text.push('\n');
        self.files.write(&key_file(perimeter), text.as_bytes(), steps);
        key
    }

    /// Removes the keys of segments that a netmap does not have.
    pub(crate) fn retain_keys(&mut self, netmap: &Netmap) {
        for name in self.files.names() {
            let perimeter = name.strip_prefix(KEYS).map(Name::parse);
            if let Some(Ok(perimeter)) = perimeter
                && !netmap.segments.contains_key(&perimeter)
            {
                self.files.remove(&name, REMOVE_STEPS);
            }
        }
    }

    /// Whether `fsync` is a lie from now on.
    pub(crate) fn lie(&mut self, lies: bool) {
        self.files.lies = lies;
        self.has_lied |= lies;
    }

    /// The power fails.
    pub(crate) fn cut_power(&mut self, dice: &mut Dice) {
        self.has_forgotten |= self.files.cut_power(dice) && self.has_lied;
    }

    /// A process opens it.
    pub(crate) fn open(&mut self) {
        self.files.sweep();
    }
}

fn key_file(perimeter: &Name) -> String {
    format!("{KEYS}{perimeter}")
}

const NETMAP: &str = "netmap.json";
const WORD: &str = "last-word.json";
const PEERS: &str = "peers.json";
const KEYS: &str = "keys/";

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
