//! The files of the flow records: `flows/NNNNNNNNNN.log` in the state directory, appended to, removed whole.
//!
//! **Invariant:** a file that was appended to by an earlier process, or whose tail may be torn, is never appended to
//! again; nothing here is readable by another user.

use std::fs::{self, DirBuilder, File, OpenOptions};
use std::io::{self, Write as _};
use std::os::unix::fs::{DirBuilderExt as _, OpenOptionsExt as _};
use std::path::{Path, PathBuf};

use ringfence_control::FlowEntry;

/// The directory.
pub(crate) struct FlowFiles {
    directory: PathBuf,
    /// Files that are whole: their number, and the place after their last record.
    closed: Vec<(u64, u64)>,
    open: Option<OpenFile>,
    next: u64,
}

struct OpenFile {
    file: File,
    number: u64,
    bytes: u64,
    through: u64,
}

impl FlowFiles {
    /// The files in `state`/flows. Nothing is read or made yet.
    pub(crate) fn new(state: &Path) -> Self {
        Self {
            directory: state.join(DIRECTORY),
            closed: Vec::new(),
            open: None,
            next: 0,
        }
    }

    /// Everything that reads whole, file after file. What cannot be read is told and left out.
    pub(crate) fn read_all(&mut self) -> Vec<FlowEntry> {
        let mut entries = Vec::new();
        for number in self.numbers() {
            match fs::read(self.path(number)) {
                Ok(bytes) => entries.extend(FlowEntry::read(&bytes)),
                Err(error) => tracing::warn!(%error, number, "flow records cannot be read"),
            }
        }
        entries
    }

    /// Whatever lies here now holds no record from `place` on.
    pub(crate) fn adopt(&mut self, place: u64) {
        self.closed = self.numbers().into_iter().map(|number| (number, place)).collect();
        self.next = self.closed.last().map_or(0, |(number, _)| number + 1);
    }

    /// Appends whole entries durably; the last record in them is the one before `through`.
    ///
    /// # Errors
    /// What the system says. Nothing of it counts then, and the next call begins a new file.
    pub(crate) fn append(&mut self, bytes: &[u8], through: u64) -> io::Result<()> {
        let mut open = match self.open.take() {
            Some(open) => open,
            None => self.create()?,
        };
        let written = open.file.write_all(bytes).and_then(|()| open.file.sync_data());
        if let Err(error) = written {
            // Give the room back; what a torn tail hides is in memory still.
            let _ = open.file.set_len(open.bytes);
            self.closed.push((open.number, open.through));
            return Err(error);
        }
        open.bytes += bytes.len() as u64;
        open.through = through;
        if open.bytes < FILE_BYTES_MAX {
            self.open = Some(open);
        } else {
            self.closed.push((open.number, open.through));
        }
        Ok(())
    }

    /// Removes the files that hold no record from `place` on.
    pub(crate) fn remove_before(&mut self, place: u64) {
        if let Some(open) = self
            .open
            .take_if(|open| open.through <= place && open.bytes >= IDLE_BYTES_MAX)
        {
            self.closed.push((open.number, open.through));
        }
        let (gone, kept): (Vec<_>, Vec<_>) =
            self.closed.drain(..).partition(|(_, through)| *through <= place);
        self.closed = kept;
        for (number, _) in gone {
            if let Err(error) = fs::remove_file(self.path(number)) {
                tracing::warn!(%error, number, "flow records that were told stay on disk");
            }
        }
    }

    /// Removes everything.
    pub(crate) fn remove_all(&mut self) {
        self.open = None;
        self.closed.clear();
        match fs::remove_dir_all(&self.directory) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => {
                tracing::warn!(%error, "flow records stay on disk");
            }
            Ok(()) | Err(_) => {}
        }
    }

    fn create(&mut self) -> io::Result<OpenFile> {
        DirBuilder::new()
            .recursive(true)
            .mode(0o700)
            .create(&self.directory)?;
        let number = self.next;
        self.next += 1;
        let file = OpenOptions::new()
            .append(true)
            .create_new(true)
            .mode(0o600)
            .open(self.path(number))?;
        File::open(&self.directory)?.sync_all()?;
        Ok(OpenFile {
            file,
            number,
            bytes: 0,
            through: 0,
        })
    }

    /// The numbers of the files that are there, in order.
    fn numbers(&self) -> Vec<u64> {
        let entries = match fs::read_dir(&self.directory) {
            Ok(entries) => entries,
            Err(error) => {
                if error.kind() != io::ErrorKind::NotFound {
                    tracing::warn!(%error, "flow records cannot be read");
                }
                return Vec::new();
            }
        };
        let number = |entry: fs::DirEntry| {
            let path = entry.path();
            let ours = path.extension().is_some_and(|extension| extension == EXTENSION);
            path.file_stem()?.to_str()?.parse().ok().filter(|_| ours)
        };
        let mut numbers: Vec<u64> = entries.flatten().filter_map(number).collect();
        numbers.sort_unstable();
        numbers
    }

    fn path(&self, number: u64) -> PathBuf {
        self.directory.join(format!("{number:010}.{EXTENSION}"))
    }
}

const DIRECTORY: &str = "flows";
const EXTENSION: &str = "log";
/// A file is removed once nothing in it is owed: small ones go sooner, large ones cost fewer calls.
const FILE_BYTES_MAX: u64 = 1024 * 1024;
/// A file of which nothing is owed is kept for the next records up to this size.
const IDLE_BYTES_MAX: u64 = 64 * 1024;

#[cfg(test)]
mod tests;
