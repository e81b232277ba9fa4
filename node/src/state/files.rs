//! Files that are replaced whole or not at all, locked, and their owner's alone.

use std::fs::{self, File, OpenOptions};
use std::io::{self, Write as _};
use std::os::unix::fs::{MetadataExt as _, OpenOptionsExt as _};
use std::path::Path;

use rustix::fs::{FlockOperation, flock};

use super::error::StateError;

/// A temporary file in the same directory, 0600 from its first moment, renamed over the old one once on disk.
pub(super) fn replace(directory: &Path, path: &Path, bytes: &[u8]) -> io::Result<()> {
    let mut temporary = tempfile::Builder::new()
        .prefix(TEMPORARY[0])
        .tempfile_in(directory)?;
    temporary.write_all(bytes)?;
    temporary.as_file().sync_all()?;
    temporary.persist(path)?;
    Ok(())
}

/// Puts what was done in a directory on the disk: names are written down apart from what they name.
pub(super) fn sync(directory: &Path) -> io::Result<()> {
    File::open(directory)?.sync_all()
}

/// Overwrites a file before it is removed, durably; fine if there is none. What a file system or a drive copied elsewhere
/// stays.
pub(super) fn wipe(directory: &Path, path: &Path) -> io::Result<()> {
    match OpenOptions::new().write(true).open(path) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(()),
        file => overwrite(&mut file?)?,
    }
    fs::remove_file(path)?;
    sync(directory)
}

/// Writes zeros over all of a file.
pub(super) fn overwrite(file: &mut File) -> io::Result<()> {
    let length = usize::try_from(file.metadata()?.len()).unwrap_or(usize::MAX);
    file.write_all(&vec![0; length.min(WIPED_BYTES_MAX)])?;
    file.sync_all()
}

/// Removes what a write that was cut off has left: half a file, which may be half a secret.
pub(super) fn sweep(directory: &Path) -> io::Result<()> {
    let entries = match fs::read_dir(directory) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(()),
        other => other?,
    };
    for entry in entries {
        let entry = entry?;
        let name = entry.file_name();
        let is_left = |prefix: &&str| name.as_encoded_bytes().starts_with(prefix.as_bytes());
        if TEMPORARY.iter().any(is_left) {
            fs::remove_file(entry.path())?;
        }
    }
    Ok(())
}

pub(super) fn lock(path: &Path) -> io::Result<File> {
    let file = OpenOptions::new()
        .create(true)
        .truncate(false)
        .write(true)
        .mode(FILE_MODE)
        .open(path)?;
    flock(&file, FlockOperation::NonBlockingLockExclusive)?;
    Ok(file)
}

pub(super) fn check_rights(path: &Path, metadata: &fs::Metadata, wanted: u32) -> Result<(), StateError> {
    let user = rustix::process::geteuid().as_raw();
    if metadata.uid() != user {
        return Err(StateError::Owner {
            path: path.into(),
            owner: metadata.uid(),
            user,
        });
    }
    let mode = metadata.mode() & 0o7777;
    if mode & 0o077 != 0 {
        return Err(StateError::Rights {
            path: path.into(),
            mode,
            wanted,
        });
    }
    Ok(())
}

/// How files begin that are not whole yet: ours, and those of `IdentityKey::write`.
const TEMPORARY: [&str; 2] = [".new-", ".ringfence-"];

/// Far more than any key's file has.
const WIPED_BYTES_MAX: usize = 64 * 1024;

pub(super) const FILE_MODE: u32 = 0o600;
