//! The controller's data directory: who may read it, and who holds it.
//!
//! **Invariant:** at most one process holds a data directory; everything secret in it is readable by its owner alone.

use std::fs::{DirBuilder, File, OpenOptions};
use std::io;
use std::os::unix::fs::{DirBuilderExt as _, MetadataExt as _, OpenOptionsExt as _};
use std::path::{Path, PathBuf};

use rustix::fs::{FlockOperation, flock};

/// A data directory this process holds until the value is dropped.
pub struct DataDir {
    path: PathBuf,
    // The lock lives as long as the file is open, and dies with the process, however it dies.
    _lock: File,
}

/// Why a data directory cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum DataDirError {
    /// It does not exist or is not a directory.
    #[error("{0} is no controller data directory: run `ringfence-controller init --data-dir {0}` first")]
    Missing(PathBuf),
    /// `init` where something is already.
    #[error(
        "{0} already holds a controller: choose another directory, or remove this one if its mesh is given up"
    )]
    NotEmpty(PathBuf),
    /// Another process holds it.
    #[error("{0} is in use by another ringfence-controller: stop it first (see `fuser {0}/lock`)")]
    InUse(PathBuf),
    /// Others may read or write it.
    #[error("{path} can be reached by others (mode {mode:04o}): run `chmod {wanted:04o} {path}`")]
    Rights {
        /// What is too open.
        path: PathBuf,
        /// The rights it has.
        mode: u32,
        /// The rights it should have.
        wanted: u32,
    },
    /// Somebody else owns it.
    #[error(
        "{path} belongs to uid {owner}, and this process runs as uid {uid}: run as its owner, or chown it"
    )]
    Owner {
        /// What belongs to somebody else.
        path: PathBuf,
        /// Its owner.
        owner: u32,
        /// Who we are.
        uid: u32,
    },
    /// The system refused.
    #[error("{path}: {why}")]
    Io {
        /// Where.
        path: PathBuf,
        /// What it said.
        why: io::Error,
    },
}

impl DataDir {
    /// Makes the directory (0700) for a new controller and takes hold of it.
    ///
    /// # Errors
    /// If it holds a controller already, or cannot be made.
    pub fn create(path: &Path) -> Result<Self, DataDirError> {
        if !path.exists() {
            DirBuilder::new()
                .recursive(true)
                .mode(DIRECTORY_MODE)
                .create(path)
                .map_err(at(path))?;
        }
        let dir = Self::open(path)?;
        if dir.file(STORE_FILE).exists() || dir.file(CA_KEY_FILE).exists() {
            return Err(DataDirError::NotEmpty(path.to_owned()));
        }
        Ok(dir)
    }

    /// Takes hold of an existing directory.
    ///
    /// # Errors
    /// If it is missing, in use, or reachable by others.
    pub fn open(path: &Path) -> Result<Self, DataDirError> {
        let Ok(metadata) = std::fs::metadata(path) else {
            return Err(DataDirError::Missing(path.to_owned()));
        };
        if !metadata.is_dir() {
            return Err(DataDirError::Missing(path.to_owned()));
        }
        check_private(path, DIRECTORY_MODE)?;
        for secret in [CA_KEY_FILE, STORE_FILE, FLOWS_FILE, ACCOUNTS_FILE, ADMIN_FILE] {
            let file = path.join(secret);
            if file.exists() {
                check_private(&file, SECRET_MODE)?;
            }
        }
        let lock_path = path.join(LOCK_FILE);
        let lock = OpenOptions::new()
            .create(true)
            .truncate(false)
            .write(true)
            .mode(SECRET_MODE)
            .open(&lock_path)
            .map_err(at(&lock_path))?;
        match flock(&lock, FlockOperation::NonBlockingLockExclusive) {
            Ok(()) => Ok(Self {
                path: path.to_owned(),
                _lock: lock,
            }),
            Err(rustix::io::Errno::WOULDBLOCK) => Err(DataDirError::InUse(path.to_owned())),
            Err(errno) => Err(at(&lock_path)(errno.into())),
        }
    }

    /// A file in the directory.
    pub fn file(&self, name: &str) -> PathBuf {
        self.path.join(name)
    }

    /// Writes a file that its owner alone may read, all of it or nothing, and on the disk when this returns.
    ///
    /// # Errors
    /// [`DataDirError::Io`] with what the system said.
    pub fn write_secret(&self, name: &str, content: &[u8]) -> Result<(), DataDirError> {
        let path = self.file(name);
        ringfence_transport::write_secret(&path, content).map_err(at(&path))
    }

    /// Removes what an `init` that failed has written, as far as it can.
    pub fn clear(&self) {
        for name in [STORE_FILE, CA_FILE, CA_KEY_FILE, CONFIG_FILE, ADMIN_FILE] {
            let file = self.file(name);
            for made in [file.with_extension("reserve"), file] {
                // Most are not there; what stays is refused by the next `init`, and said there.
                let _ = std::fs::remove_file(made);
            }
        }
        for tail in ["-wal", "-shm"] {
            let _ = std::fs::remove_file(self.file(&format!("{STORE_FILE}{tail}")));
        }
    }

    /// Reads a file of the directory.
    ///
    /// # Errors
    /// [`DataDirError::Missing`] if it is not there: this is no controller's directory then.
    pub fn read(&self, name: &str) -> Result<zeroize::Zeroizing<String>, DataDirError> {
        let path = self.file(name);
        match std::fs::read_to_string(&path) {
            Ok(text) => Ok(zeroize::Zeroizing::new(text)),
            Err(error) if error.kind() == io::ErrorKind::NotFound => {
                Err(DataDirError::Missing(self.path.clone()))
            }
            Err(error) => Err(at(&path)(error)),
        }
    }
}

fn check_private(path: &Path, wanted: u32) -> Result<(), DataDirError> {
    let metadata = std::fs::metadata(path).map_err(at(path))?;
    let mode = metadata.mode() & 0o7777;
    if mode & 0o077 != 0 {
        return Err(DataDirError::Rights {
            path: path.to_owned(),
            mode,
            wanted,
        });
    }
    let uid = rustix::process::geteuid().as_raw();
    if metadata.uid() != uid {
        return Err(DataDirError::Owner {
            path: path.to_owned(),
            owner: metadata.uid(),
            uid,
        });
    }
    Ok(())
}

fn at(path: &Path) -> impl Fn(io::Error) -> DataDirError + '_ {
    |why| DataDirError::Io {
        path: path.to_owned(),
        why,
    }
}

/// The log.
pub const STORE_FILE: &str = "store.sqlite";
/// Flow records: what nodes told of conversations that ended.
pub const FLOWS_FILE: &str = "flows.sqlite";
/// The secrets of local accounts.
pub const ACCOUNTS_FILE: &str = "accounts.sqlite";
/// The client secrets of identity providers.
pub const PROVIDERS_FOLDER: &str = "providers";
/// The authority's certificate.
pub const CA_FILE: &str = "ca.pem";
/// The authority's key.
pub const CA_KEY_FILE: &str = "ca.key";
/// What the controller is run with.
pub const CONFIG_FILE: &str = "controller.toml";
/// The administrator's context: where the controller is, its CA, the admin token.
pub const ADMIN_FILE: &str = "admin.toml";

const LOCK_FILE: &str = "lock";
const DIRECTORY_MODE: u32 = 0o700;
const SECRET_MODE: u32 = 0o600;

#[cfg(test)]
mod tests {
    use std::fs::Permissions;
    use std::os::unix::fs::PermissionsExt as _;

    use super::*;

    #[test]
    fn a_second_instance_is_refused_and_told_why() {
        let parent = tempfile::tempdir().unwrap();
        let path = parent.path().join("data");
        let held = DataDir::create(&path).unwrap();

        let second = DataDir::open(&path);
        assert!(matches!(second, Err(DataDirError::InUse(_))));
        drop(held);
        assert!(DataDir::open(&path).is_ok());
    }

    #[test]
    fn a_directory_or_secret_that_others_can_read_is_refused() {
        let parent = tempfile::tempdir().unwrap();
        let path = parent.path().join("data");
        let dir = DataDir::create(&path).unwrap();
        dir.write_secret(CA_KEY_FILE, b"secret").unwrap();
        drop(dir);

        std::fs::set_permissions(path.join(CA_KEY_FILE), Permissions::from_mode(0o640)).unwrap();
        assert!(matches!(
            DataDir::open(&path),
            Err(DataDirError::Rights { mode: 0o640, .. })
        ));
        std::fs::set_permissions(path.join(CA_KEY_FILE), Permissions::from_mode(0o600)).unwrap();
        std::fs::set_permissions(&path, Permissions::from_mode(0o755)).unwrap();
        assert!(matches!(
            DataDir::open(&path),
            Err(DataDirError::Rights { mode: 0o755, .. })
        ));
    }

    #[test]
    fn init_never_overwrites_a_controller() {
        let parent = tempfile::tempdir().unwrap();
        let path = parent.path().join("data");
        let dir = DataDir::create(&path).unwrap();
        dir.write_secret(CA_KEY_FILE, b"secret").unwrap();
        drop(dir);

        assert!(matches!(DataDir::create(&path), Err(DataDirError::NotEmpty(_))));
    }

    #[test]
    fn a_missing_directory_names_the_command_that_makes_one() {
        let error = DataDir::open(Path::new("/nonexistent/ringfence")).err().unwrap();

        assert!(error.to_string().contains("ringfence-controller init"), "{error}");
    }
}
