//! Room on the disk that is kept back, so that access can be taken away when there is none left (red line 2).
//!
//! **Invariant:** the reserve is given up piece by piece: whatever else fills the disk cannot take all of it at once.

use std::fs::{File, OpenOptions};
use std::os::unix::fs::{MetadataExt as _, OpenOptionsExt as _};
use std::path::{Path, PathBuf};

use rustix::fs::FallocateFlags;

/// A file that holds room.
pub(super) struct Reserve {
    path: PathBuf,
}

impl Reserve {
    /// The reserve beside the store in `path`, filled if there is room to spare.
    pub(super) fn beside(path: &Path) -> Self {
        let reserve = Self::at(path);
        reserve.refill();
        reserve
    }

    /// The same as it is.
    pub(super) fn at(path: &Path) -> Self {
        Self {
            path: path.with_extension("reserve"),
        }
    }

    /// Gives up a piece; `false` if none is left.
    pub(super) fn release(&self) -> bool {
        let held = self.held_bytes();
        let Ok(file) = OpenOptions::new().write(true).open(&self.path) else {
            return false;
        };
        // Shrinking takes no room.
        held > 0 && file.set_len(held.saturating_sub(PIECE_BYTES)).is_ok() && file.sync_all().is_ok()
    }

    /// Keeps room back again once there is plenty.
    pub(super) fn refill(&self) {
        if self.held_bytes() >= RESERVE_BYTES || free_bytes(&self.path) < FREE_BYTES_MIN {
            return;
        }
        if let Err(error) = self.fill() {
            tracing::warn!(%error, path = %self.path.display(), "no room is kept back for removals");
        }
    }

    fn fill(&self) -> std::io::Result<()> {
        let file: File = OpenOptions::new()
            .create(true)
            .truncate(false)
            .write(true)
            .mode(0o600)
            .open(&self.path)?;
        rustix::fs::fallocate(&file, FallocateFlags::empty(), 0, RESERVE_BYTES)?;
        Ok(())
    }

    fn held_bytes(&self) -> u64 {
        std::fs::metadata(&self.path).map_or(0, |metadata| metadata.size())
    }
}

fn free_bytes(path: &Path) -> u64 {
    let directory = path.parent().unwrap_or_else(|| Path::new("."));
    rustix::fs::statvfs(directory).map_or(0, |stat| stat.f_bavail.saturating_mul(stat.f_frsize))
}

/// A removal takes some tens of kilobytes: enough for a hundred of them.
const RESERVE_BYTES: u64 = 4 << 20;
const PIECE_BYTES: u64 = 256 << 10;
/// Where less than this is free, the reserve would be what fills the disk.
const FREE_BYTES_MIN: u64 = 3 * RESERVE_BYTES;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_reserve_is_given_up_piece_by_piece_and_filled_again() {
        let dir = tempfile::tempdir().unwrap();
        let reserve = Reserve::beside(&dir.path().join("store.sqlite"));
        assert_eq!(reserve.held_bytes(), RESERVE_BYTES);

        let mut pieces = 0;
        while reserve.release() {
            pieces += 1;
        }
        assert_eq!(pieces, RESERVE_BYTES / PIECE_BYTES);
        assert_eq!(reserve.held_bytes(), 0);

        reserve.refill();
        assert_eq!(reserve.held_bytes(), RESERVE_BYTES);
    }
}
