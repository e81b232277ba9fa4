//! The SHA-256 of files. A file is read again only if something about it changed.

use std::collections::BTreeMap;
use std::fs::{File, Metadata, OpenOptions};
use std::io::Read as _;
use std::os::unix::fs::{MetadataExt as _, OpenOptionsExt as _};
use std::path::{Path, PathBuf};

use sha2::{Digest as _, Sha256};

use super::machine::unreadable;

/// What files were found to be, by path. As many as were ever asked for, which the controller bounds.
#[derive(Default)]
pub(super) struct Hashes(BTreeMap<PathBuf, (Stamp, String)>);

/// What changes with a file. The change time is the kernel's alone to set.
#[derive(Clone, Copy, PartialEq, Eq)]
struct Stamp {
    device: u64,
    inode: u64,
    bytes: u64,
    modified: (i64, i64),
    changed: (i64, i64),
}

impl Hashes {
    /// `sha256:` and 64 hex digits.
    pub(super) fn of(&mut self, path: &Path) -> Result<String, String> {
        let shown = path.display().to_string();
        let file = open(path).map_err(|error| unreadable(&shown, &error))?;
        let metadata = file.metadata().map_err(|error| unreadable(&shown, &error))?;
        if !metadata.is_file() {
            return Err(format!("{shown} is no file"));
        }
        if metadata.len() > FILE_BYTES_MAX {
            return Err(format!("{shown} is larger than {} MiB", FILE_BYTES_MAX >> 20));
        }
        let stamp = Stamp::of(&metadata);
        if let Some((known, hash)) = self.0.get(path)
            && *known == stamp
        {
            return Ok(hash.clone());
        }
        let hash = hash(file).map_err(|error| unreadable(&shown, &error))?;
        if self.0.len() >= HASHES_MAX {
            self.0.clear();
        }
        self.0.insert(path.to_owned(), (stamp, hash.clone()));
        Ok(hash)
    }
}

impl Stamp {
    fn of(metadata: &Metadata) -> Self {
        Self {
            device: metadata.dev(),
            inode: metadata.ino(),
            bytes: metadata.len(),
            modified: (metadata.mtime(), metadata.mtime_nsec()),
            changed: (metadata.ctime(), metadata.ctime_nsec()),
        }
    }
}

/// Without waiting for whoever is at the other end of what is no file.
fn open(path: &Path) -> std::io::Result<File> {
    OpenOptions::new()
        .read(true)
        .custom_flags(libc::O_NONBLOCK | libc::O_NOCTTY)
        .open(path)
}

fn hash(file: File) -> std::io::Result<String> {
    let mut hasher = Sha256::new();
    let mut rest = file.take(FILE_BYTES_MAX);
    let mut buffer = vec![0; 64 * 1024];
    loop {
        match rest.read(&mut buffer)? {
            0 => break,
            read => hasher.update(&buffer[..read]),
        }
    }
    let digits: Vec<String> = hasher
        .finalize()
        .iter()
        .map(|byte| format!("{byte:02x}"))
        .collect();
    Ok(format!("sha256:{}", digits.concat()))
}

const FILE_BYTES_MAX: u64 = 64 << 20;
const HASHES_MAX: usize = 256;

#[cfg(test)]
mod tests {
    use std::fs;

    use super::*;

    #[test]
    fn a_file_is_known_by_its_hash_until_it_changes() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("rules");
        fs::write(&path, "test").unwrap();
        let mut hashes = Hashes::default();

        let before = hashes.of(&path).unwrap();
        assert_eq!(
            before,
            "sha256:9f86d081884c7d659a2feaa0c55ad015a3bf4f1b2b0b822cd15d6c15b0f00a08"
        );
        assert_eq!(hashes.of(&path).unwrap(), before);

        fs::write(&path, "tesu").unwrap();
        assert_ne!(hashes.of(&path).unwrap(), before);
        fs::remove_file(&path).unwrap();
        assert!(hashes.of(&path).unwrap_err().ends_with("is not there"));
    }

    #[test]
    fn what_is_no_file_is_not_read() {
        let mut hashes = Hashes::default();

        assert!(hashes.of(Path::new("/dev/zero")).is_err());
        assert!(hashes.of(Path::new("/etc")).is_err());
    }
}
