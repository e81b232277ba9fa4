//! A file system, as processes see it and as a power cut finds it.
//!
//! A kill leaves what processes saw, with a write half done. A power cut keeps the bytes that were synced, any prefix
//! of those that were not, and as much of what was done to names as the journal has come to: names are written down in
//! order, and apart from what they name. A disk may lie: then `fsync` is answered, and nothing is done.
//!
//! **Invariant:** [`Files::write`] does step by step what `StateDir::write` in node/src/state.rs does.

use std::cell::RefCell;
use std::collections::BTreeMap;
use std::rc::Rc;

use crate::dice::Dice;

/// A directory.
#[derive(Default)]
pub(crate) struct Files {
    seen: Names,
    durable: Names,
    /// What was done to names since the directory was synced.
    journal: Vec<Entry>,
    /// Temporary files made so far.
    made: u64,
    /// Whether `fsync` does nothing.
    pub lies: bool,
}

type Names = BTreeMap<String, File>;
type File = Rc<RefCell<Content>>;

#[derive(Default)]
struct Content {
    bytes: Vec<u8>,
    /// How many of them are on the platter.
    synced: usize,
}

enum Entry {
    Made(String, File),
    Renamed(String, String),
    Removed(String),
}

#[derive(Clone, Copy)]
enum Step {
    Create,
    WriteSome,
    WriteRest,
    Sync,
    Rename,
    SyncDirectory,
}

impl Files {
    /// Replaces a file, or dies over it after so many of [`WRITE_STEPS`].
    pub(crate) fn write(&mut self, name: &str, bytes: &[u8], steps: usize) {
        self.made += 1;
        let temporary = format!("{TEMPORARY}{}", self.made);
        let file = File::default();
        for step in WRITE.iter().take(steps) {
            match step {
                Step::Create => self.enter(Entry::Made(temporary.clone(), Rc::clone(&file))),
                Step::WriteSome => file.borrow_mut().bytes.extend(&bytes[..bytes.len() / 2]),
                Step::WriteRest => file.borrow_mut().bytes.extend(&bytes[bytes.len() / 2..]),
                Step::Sync if !self.lies => file.borrow_mut().sync(),
                Step::Rename => self.enter(Entry::Renamed(temporary.clone(), name.to_owned())),
                Step::SyncDirectory => self.sync(),
                Step::Sync => {}
            }
        }
    }

    /// Appends to a file, which is made if there is none, or dies over it after so many of [`WRITE_STEPS`]: what
    /// `FlowFiles::append` in node/src/flow_files.rs does.
    pub(crate) fn append(&mut self, name: &str, bytes: &[u8], steps: usize) {
        for step in APPEND.iter().take(steps) {
            let file = self.seen.get(name).map(Rc::clone).unwrap_or_default();
            match step {
                Step::Create if !self.seen.contains_key(name) => {
                    self.enter(Entry::Made(name.to_owned(), file));
                }
                Step::WriteSome => file.borrow_mut().bytes.extend(&bytes[..bytes.len() / 2]),
                Step::WriteRest => file.borrow_mut().bytes.extend(&bytes[bytes.len() / 2..]),
                Step::Sync if !self.lies => file.borrow_mut().sync(),
                Step::SyncDirectory => self.sync(),
                Step::Create | Step::Sync | Step::Rename => {}
            }
        }
    }

    /// Removes a file, or dies over it after so many of [`REMOVE_STEPS`].
    pub(crate) fn remove(&mut self, name: &str, steps: usize) {
        if steps > 0 && self.seen.contains_key(name) {
            self.enter(Entry::Removed(name.to_owned()));
            if steps >= REMOVE_STEPS {
                self.sync();
            }
        }
    }

    /// A file's bytes.
    pub(crate) fn read(&self, name: &str) -> Option<Vec<u8>> {
        self.seen.get(name).map(|file| file.borrow().bytes.clone())
    }

    /// The names of files.
    pub(crate) fn names(&self) -> Vec<String> {
        self.seen.keys().cloned().collect()
    }

    /// Removes what writes that were cut off have left, as `StateDir::open` does.
    pub(crate) fn sweep(&mut self) {
        for name in self.names() {
            if name.starts_with(TEMPORARY) {
                self.enter(Entry::Removed(name));
            }
        }
    }

    /// The power fails. Gives whether anything is not as processes saw it.
    pub(crate) fn cut_power(&mut self, dice: &mut Dice) -> bool {
        let kept = dice.number(0..self.journal.len() as u64 + 1) as usize;
        let mut is_changed = kept < self.journal.len();
        for entry in self.journal.drain(..).take(kept) {
            entry.apply(&mut self.durable);
        }
        for file in self.durable.values() {
            let Content { bytes, synced } = &mut *file.borrow_mut();
            if *synced < bytes.len() {
                let length = dice.number(*synced as u64..bytes.len() as u64 + 1) as usize;
                is_changed |= length < bytes.len();
                bytes.truncate(length);
            }
            *synced = bytes.len();
        }
        self.seen = self.durable.clone();
        is_changed
    }

    fn enter(&mut self, entry: Entry) {
        entry.apply(&mut self.seen);
        self.journal.push(entry);
    }

    fn sync(&mut self) {
        if self.lies {
            return;
        }
        for entry in self.journal.drain(..) {
            entry.apply(&mut self.durable);
        }
    }
}

impl Content {
    fn sync(&mut self) {
        self.synced = self.bytes.len();
    }
}

impl Entry {
    fn apply(&self, names: &mut Names) {
        match self {
            Self::Made(name, file) => {
                names.insert(name.clone(), Rc::clone(file));
            }
            Self::Renamed(from, to) => {
                if let Some(file) = names.remove(from) {
                    names.insert(to.clone(), file);
                }
            }
            Self::Removed(name) => {
                names.remove(name);
            }
        }
    }
}

const WRITE: [Step; WRITE_STEPS] = [
    Step::Create,
    Step::WriteSome,
    Step::WriteRest,
    Step::Sync,
    Step::Rename,
    Step::SyncDirectory,
];
const APPEND: [Step; 5] = [
    Step::Create,
    Step::SyncDirectory,
    Step::WriteSome,
    Step::WriteRest,
    Step::Sync,
];
/// Steps of a write.
pub(crate) const WRITE_STEPS: usize = 6;
/// Steps of a removal: the name goes, then the directory is synced.
pub(crate) const REMOVE_STEPS: usize = 2;
const TEMPORARY: &str = ".new-";

#[cfg(test)]
mod tests {
    use super::*;

    /// What a power cut leaves of a file `old` after so many steps of a write of `newer`, over many draws.
    fn left(steps: usize, lies: bool) -> std::collections::BTreeSet<String> {
        (0..200)
            .map(|seed| {
                let mut files = Files::default();
                files.write("file", b"old", WRITE_STEPS);
                files.lies = lies;
                files.write("file", b"newer", steps);
                files.cut_power(&mut Dice::new(seed, "files"));
                String::from_utf8(files.read("file").unwrap_or_default()).expect("text")
            })
            .collect()
    }

    #[test]
    fn wherever_the_power_fails_a_file_is_the_old_or_the_new_one() {
        for steps in 0..5 {
            assert_eq!(left(steps, false), ["old".to_owned()].into(), "{steps} steps");
        }
        assert_eq!(left(5, false), ["old".to_owned(), "newer".to_owned()].into());
        assert_eq!(left(WRITE_STEPS, false), ["newer".to_owned()].into());
    }

    #[test]
    fn what_was_appended_before_stays_whole() {
        for steps in 0..=WRITE_STEPS {
            for seed in 0..50 {
                let mut files = Files::default();
                files.append("file", b"old", WRITE_STEPS);
                files.append("file", b"newer", steps);
                files.cut_power(&mut Dice::new(seed, "files"));
                let left = files.read("file").unwrap_or_default();
                let is_whole = steps < APPEND.len() || left == b"oldnewer";
                assert!(left.starts_with(b"old") && is_whole, "{steps} steps: {left:?}");
            }
        }
    }

    #[test]
    fn a_disk_that_lies_loses_and_tears() {
        let left = left(WRITE_STEPS, true);

        assert!(
            left.contains("old") && left.contains("newer") && left.contains("ne"),
            "{left:?}"
        );
    }

    #[test]
    fn what_is_removed_comes_back_unless_the_directory_was_synced() {
        let back = |steps| {
            (0..50).any(|seed| {
                let mut files = Files::default();
                files.write("file", b"old", WRITE_STEPS);
                files.remove("file", steps);
                files.cut_power(&mut Dice::new(seed, "files"));
                files.read("file").is_some()
            })
        };

        assert!(back(1));
        assert!(!back(REMOVE_STEPS));
    }

    #[test]
    fn a_kill_leaves_half_a_file_that_is_swept_away() {
        let mut files = Files::default();
        files.write("file", b"newer", 2);
        assert_eq!(files.names().len(), 1);

        files.sweep();

        assert!(files.names().is_empty());
    }
}
