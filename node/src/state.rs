//! The state directory: identity, keys, and who this node is. One process at a time, one user alone.
//!
//! **Invariant:** a file is replaced whole or not at all; nothing secret is ever readable by another user, and a
//! directory that another user could read or write is refused.

use std::fs::{self, File, OpenOptions};
use std::io::{self, Write as _};
use std::os::unix::fs::{DirBuilderExt as _, MetadataExt as _, OpenOptionsExt as _};
use std::path::{Path, PathBuf};

use rustix::fs::{FlockOperation, flock};
use serde::{Deserialize, Serialize};
use zeroize::Zeroizing;

use ringfence_model::{Name, NodeId, PrivateKey};

/// A state directory that this process alone uses.
pub(crate) struct StateDir {
    path: PathBuf,
    /// Held for its lock; the kernel lets go of it with the process, also after SIGKILL.
    _lock: File,
}

/// `node.toml`: who this node is and where its controllers are.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct NodeFile {
    /// Version of the directory's layout.
    pub(crate) format: u32,
    /// The mesh it is enrolled in.
    pub(crate) mesh: Name,
    /// Its id there.
    pub(crate) node: NodeId,
    /// The name it was enrolled under; the controller may have renamed it since.
    pub(crate) name: Name,
    /// `host:port` of each controller.
    pub(crate) controllers: Vec<String>,
}

/// The state directory cannot be used.
#[derive(Debug, thiserror::Error)]
pub(crate) enum StateError {
    /// There is no identity in it.
    #[error("{} holds no identity: enrol this machine first with `ringfence-node enroll`", .0.display())]
    NotEnrolled(PathBuf),
    /// It has one already.
    #[error("{} already holds the identity of {name} in mesh {mesh}: remove the directory to enrol anew", .path.display())]
    AlreadyEnrolled {
        /// The directory.
        path: PathBuf,
        /// The node's name.
        name: Name,
        /// The mesh.
        mesh: Name,
    },
    /// Someone else may read or write it.
    #[error("{} has mode {mode:04o}, so other users could reach its secrets: run `chmod {wanted:o}` on it", .path.display())]
    Rights {
        /// What.
        path: PathBuf,
        /// Its mode.
        mode: u32,
        /// The mode it should have.
        wanted: u32,
    },
    /// Someone else owns it.
    #[error("{} belongs to user {owner}, and this process runs as user {user}", .path.display())]
    Owner {
        /// What.
        path: PathBuf,
        /// Whose it is.
        owner: u32,
        /// Who asks.
        user: u32,
    },
    /// It is a file.
    #[error("{} is not a directory", .0.display())]
    NotADirectory(PathBuf),
    /// Another instance runs on it.
    #[error("{} is in use by another ringfence-node", .0.display())]
    InUse(PathBuf),
    /// A newer program wrote it.
    #[error("{} has format {found}, this program reads {FORMAT}: use the ringfence-node that wrote it, or a newer one", .path.display())]
    Format {
        /// The file.
        path: PathBuf,
        /// The version it names.
        found: u32,
    },
    /// It is damaged.
    #[error("{} is damaged: {why}", .path.display())]
    Damaged {
        /// The file.
        path: PathBuf,
        /// What is wrong with it.
        why: String,
    },
    /// The operating system says no.
    #[error("{}: {source}", .path.display())]
    Io {
        /// The file.
        path: PathBuf,
        /// What it says.
        source: io::Error,
    },
}

impl StateDir {
    /// Opens an existing directory and locks it.
    pub(crate) fn open(path: &Path) -> Result<Self, StateError> {
        let metadata = match fs::metadata(path) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => {
                return Err(StateError::NotEnrolled(path.into()));
            }
            other => other.map_err(at(path))?,
        };
        if !metadata.is_dir() {
            return Err(StateError::NotADirectory(path.into()));
        }
        check_rights(path, &metadata, DIRECTORY_MODE)?;
        let lock = lock(&path.join(LOCK)).map_err(|error| match error.kind() {
            io::ErrorKind::WouldBlock => StateError::InUse(path.into()),
            _ => at(&path.join(LOCK))(error),
        })?;
        for directory in [path, &path.join(KEYS)] {
            sweep(directory).map_err(at(directory))?;
        }
        Ok(Self {
            path: path.into(),
            _lock: lock,
        })
    }

    /// Opens the directory, making it where there is none.
    pub(crate) fn create(path: &Path) -> Result<Self, StateError> {
        let made = fs::DirBuilder::new()
            .recursive(true)
            .mode(DIRECTORY_MODE)
            .create(path);
        made.map_err(at(path))?;
        Self::open(path)
    }

    /// Where it is.
    pub(crate) fn path(&self) -> &Path {
        &self.path
    }

    /// Who this node is.
    pub(crate) fn node(&self) -> Result<NodeFile, StateError> {
        let path = self.path.join(NODE);
        let Some(text) = self.read(NODE)? else {
            return Err(StateError::NotEnrolled(self.path.clone()));
        };
        let damaged = |error: toml::de::Error| StateError::Damaged {
            path: path.clone(),
            why: error.message().into(),
        };
        let format = toml::from_str::<Format>(&text).map_err(damaged)?.format;
        if format != FORMAT {
            return Err(StateError::Format { path, found: format });
        }
        toml::from_str(&text).map_err(damaged)
    }

    /// Fails if there is an identity here already: enrolling over it would orphan a node at the controller.
    pub(crate) fn check_vacant(&self) -> Result<(), StateError> {
        match self.node() {
            Err(StateError::NotEnrolled(_)) => Ok(()),
            Ok(node) => Err(StateError::AlreadyEnrolled {
                path: self.path.clone(),
                name: node.name,
                mesh: node.mesh,
            }),
            Err(error) => Err(error),
        }
    }

    /// Writes down who this node is: the last step of enrolment, which makes it count.
    pub(crate) fn save_node(&self, node: &NodeFile) -> Result<(), StateError> {
        let text = toml::to_string(node).map_err(|error| self.damaged(NODE, &error))?;
        self.write(NODE, text.as_bytes())
    }

    /// Where the identity key is, or will be. Refused if others can read what is there.
    pub(crate) fn identity_path(&self) -> Result<PathBuf, StateError> {
        let path = self.path.join(IDENTITY);
        match fs::metadata(&path) {
            Ok(metadata) => check_rights(&path, &metadata, FILE_MODE)?,
            Err(error) if error.kind() == io::ErrorKind::NotFound => {}
            Err(error) => return Err(at(&path)(error)),
        }
        Ok(path)
    }

    /// The identity's certificate chain in PEM.
    pub(crate) fn certificate(&self) -> Result<String, StateError> {
        self.read(CERTIFICATE)?
            .ok_or_else(|| StateError::NotEnrolled(self.path.clone()))
    }

    /// Replaces the certificate chain.
    pub(crate) fn save_certificate(&self, pem: &str) -> Result<(), StateError> {
        self.write(CERTIFICATE, pem.as_bytes())
    }

    /// The certificate of the mesh's CA in PEM.
    pub(crate) fn ca(&self) -> Result<String, StateError> {
        self.read(CA)?
            .ok_or_else(|| StateError::NotEnrolled(self.path.clone()))
    }

    /// Writes the CA's certificate.
    pub(crate) fn save_ca(&self, pem: &str) -> Result<(), StateError> {
        self.write(CA, pem.as_bytes())
    }

    /// The key of a perimeter: the one on disk, or one made of `random` and written down.
    pub(crate) fn key(&self, perimeter: &Name, random: [u8; 32]) -> Result<PrivateKey, StateError> {
        let file = key_file(perimeter);
        if let Some(text) = self.read(&file)? {
            let text = Zeroizing::new(text);
            return PrivateKey::from_base64(text.trim_end()).map_err(|error| self.damaged(&file, &error));
        }
        let directory = self.path.join(KEYS);
        let made = fs::DirBuilder::new()
            .recursive(true)
            .mode(DIRECTORY_MODE)
            .create(&directory);
        // Its own entry as well: a key whose directory is lost was not kept.
        made.and_then(|()| sync(&self.path)).map_err(at(&directory))?;
        let key = PrivateKey::from_random(random);
        let mut text = key.expose_base64();
        text.push('\n');
        self.write(&file, text.as_bytes())?;
        Ok(key)
    }

    /// Removes the key of a perimeter.
    pub(crate) fn forget_key(&self, perimeter: &Name) -> Result<(), StateError> {
        self.remove(&key_file(perimeter))
    }

    /// Removes the identity: from now on this machine is not enrolled.
    pub(crate) fn forget_identity(&self) -> Result<(), StateError> {
        self.remove(NODE)?;
        self.remove(IDENTITY)?;
        self.remove(CERTIFICATE)?;
        self.remove(CA)
    }

    /// Removes the keys of every perimeter but those in `members`, durably.
    pub(crate) fn retain_keys(&self, members: impl Fn(&Name) -> bool) -> Result<(), StateError> {
        let directory = self.path.join(KEYS);
        let entries = match fs::read_dir(&directory) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(()),
            other => other.map_err(at(&directory))?,
        };
        let mut removed = false;
        for entry in entries {
            let path = entry.map_err(at(&directory))?.path();
            let perimeter = path
                .file_stem()
                .and_then(|stem| stem.to_str())
                .and_then(|stem| Name::parse(stem).ok());
            if !perimeter.is_some_and(|perimeter| members(&perimeter)) {
                fs::remove_file(&path).map_err(at(&path))?;
                removed = true;
            }
        }
        if removed {
            sync(&directory).map_err(at(&directory))?;
        }
        Ok(())
    }

    /// Reads a file of ours; `None` if there is none.
    pub(crate) fn read(&self, file: &str) -> Result<Option<String>, StateError> {
        let path = self.path.join(file);
        let metadata = match fs::metadata(&path) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
            other => other.map_err(at(&path))?,
        };
        check_rights(&path, &metadata, FILE_MODE)?;
        fs::read_to_string(&path).map(Some).map_err(at(&path))
    }

    /// Replaces a file of ours durably.
    pub(crate) fn write(&self, file: &str, bytes: &[u8]) -> Result<(), StateError> {
        let path = self.path.join(file);
        let directory = path.parent().unwrap_or(&self.path);
        replace(directory, &path, bytes).map_err(at(&path))?;
        sync(directory).map_err(at(directory))
    }

    /// Removes a file of ours durably; fine if there is none. A power cut must not bring back what was taken away: a
    /// netmap that could not be replaced, a lease that was withdrawn, an identity that was revoked.
    pub(crate) fn remove(&self, file: &str) -> Result<(), StateError> {
        let path = self.path.join(file);
        let directory = path.parent().unwrap_or(&self.path);
        match fs::remove_file(&path) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(()),
            other => other.and_then(|()| sync(directory)).map_err(at(&path)),
        }
    }

    fn damaged(&self, file: &str, why: &impl ToString) -> StateError {
        StateError::Damaged {
            path: self.path.join(file),
            why: why.to_string(),
        }
    }
}

#[derive(Deserialize)]
struct Format {
    format: u32,
}

/// A temporary file in the same directory, 0600 from its first moment, renamed over the old one once on disk.
fn replace(directory: &Path, path: &Path, bytes: &[u8]) -> io::Result<()> {
    let mut temporary = tempfile::Builder::new()
        .prefix(TEMPORARY[0])
        .tempfile_in(directory)?;
    temporary.write_all(bytes)?;
    temporary.as_file().sync_all()?;
    temporary.persist(path)?;
    Ok(())
}

/// Puts what was done in a directory on the disk: names are written down apart from what they name.
fn sync(directory: &Path) -> io::Result<()> {
    File::open(directory)?.sync_all()
}

/// Removes what a write that was cut off has left: half a file, which may be half a secret.
fn sweep(directory: &Path) -> io::Result<()> {
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

fn lock(path: &Path) -> io::Result<File> {
    let file = OpenOptions::new()
        .create(true)
        .truncate(false)
        .write(true)
        .mode(FILE_MODE)
        .open(path)?;
    flock(&file, FlockOperation::NonBlockingLockExclusive)?;
    Ok(file)
}

fn check_rights(path: &Path, metadata: &fs::Metadata, wanted: u32) -> Result<(), StateError> {
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

fn at(path: &Path) -> impl Fn(io::Error) -> StateError + use<> {
    let path = path.to_owned();
    move |source| StateError::Io {
        path: path.clone(),
        source,
    }
}

fn key_file(perimeter: &Name) -> String {
    format!("{KEYS}/{perimeter}.key")
}

/// Version of the directory's layout.
pub(crate) const FORMAT: u32 = 1;

const NODE: &str = "node.toml";
const IDENTITY: &str = "identity.pem";
const CERTIFICATE: &str = "certificate.pem";
const CA: &str = "ca.pem";
const KEYS: &str = "keys";
/// How files begin that are not whole yet: ours, and those of `IdentityKey::write`.
const TEMPORARY: [&str; 2] = [".new-", ".ringfence-"];
const LOCK: &str = "lock";
const DIRECTORY_MODE: u32 = 0o700;
const FILE_MODE: u32 = 0o600;

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt as _;

    use super::*;

    fn name(text: &str) -> Name {
        Name::parse(text).unwrap()
    }

    fn node() -> NodeFile {
        NodeFile {
            format: FORMAT,
            mesh: name("acme"),
            node: NodeId(3),
            name: name("db-1"),
            controllers: vec!["192.0.2.1:8443".into()],
        }
    }

    fn fresh() -> (tempfile::TempDir, StateDir) {
        let parent = tempfile::tempdir().unwrap();
        let state = StateDir::create(&parent.path().join("state")).unwrap();
        (parent, state)
    }

    #[test]
    fn what_is_written_reads_back_and_only_the_owner_can() {
        let (_parent, state) = fresh();

        state.save_node(&node()).unwrap();
        state.save_certificate("pem").unwrap();

        assert_eq!(state.node().unwrap(), node());
        for file in [NODE, CERTIFICATE] {
            let mode = fs::metadata(state.path.join(file)).unwrap().mode() & 0o777;
            assert_eq!(mode, 0o600, "{file}");
        }
        assert_eq!(fs::metadata(&state.path).unwrap().mode() & 0o777, 0o700);
    }

    #[test]
    fn a_directory_without_identity_is_not_enrolled() {
        let (parent, state) = fresh();

        assert!(matches!(state.node(), Err(StateError::NotEnrolled(_))));
        assert!(state.check_vacant().is_ok());
        let missing = StateDir::open(&parent.path().join("nowhere"));
        assert!(matches!(missing.err(), Some(StateError::NotEnrolled(_))));
    }

    #[test]
    fn an_identity_is_not_enrolled_over() {
        let (_parent, state) = fresh();
        state.save_node(&node()).unwrap();

        assert!(matches!(
            state.check_vacant(),
            Err(StateError::AlreadyEnrolled { .. })
        ));
    }

    #[test]
    fn a_directory_or_secret_that_others_can_read_is_refused() {
        let (_parent, state) = fresh();
        let path = state.path.clone();
        state.write(IDENTITY, b"pem").unwrap();
        fs::set_permissions(path.join(IDENTITY), fs::Permissions::from_mode(0o640)).unwrap();

        let told = state.identity_path().unwrap_err().to_string();

        assert!(told.contains("mode 0640") && told.contains("chmod 600"), "{told}");
        drop(state);
        fs::set_permissions(&path, fs::Permissions::from_mode(0o755)).unwrap();
        let told = StateDir::open(&path).err().unwrap().to_string();
        assert!(told.contains("mode 0755") && told.contains("chmod 700"), "{told}");
    }

    #[test]
    fn a_second_instance_is_refused_until_the_first_ends() {
        let (_parent, state) = fresh();
        let path = state.path.clone();

        assert!(matches!(StateDir::open(&path).err(), Some(StateError::InUse(_))));
        drop(state);
        assert!(StateDir::open(&path).is_ok());
    }

    #[test]
    fn a_newer_format_and_unknown_keys_are_refused() {
        let (_parent, state) = fresh();

        state.write(NODE, b"format = 2\nfuture = true\n").unwrap();
        assert!(matches!(state.node(), Err(StateError::Format { found: 2, .. })));
        state.write(NODE, b"format = 1\nodd = true\n").unwrap();
        assert!(matches!(state.node(), Err(StateError::Damaged { .. })));
    }

    #[test]
    fn what_a_cut_off_write_left_is_swept_away_and_nothing_else() {
        let (_parent, state) = fresh();
        let path = state.path.clone();
        let key = state.key(&name("stays"), [1; 32]).unwrap().public_key();
        state.save_node(&node()).unwrap();
        let left = [".new-a1", ".ringfence-b2", "keys/.new-c3"].map(|left| path.join(left));
        for left in &left {
            fs::write(left, "half a secr").unwrap();
        }
        drop(state);

        let state = StateDir::open(&path).unwrap();

        assert!(left.iter().all(|left| !left.exists()));
        assert_eq!(state.node().unwrap(), node());
        assert_eq!(state.key(&name("stays"), [2; 32]).unwrap().public_key(), key);
    }

    #[test]
    fn a_key_is_made_once_and_gone_after_membership() {
        let (_parent, state) = fresh();
        let (stays, goes) = (name("stays"), name("goes"));
        let first = state.key(&stays, [1; 32]).unwrap().public_key();
        state.key(&goes, [2; 32]).unwrap();

        assert_eq!(state.key(&stays, [3; 32]).unwrap().public_key(), first);
        state.retain_keys(|perimeter| *perimeter == stays).unwrap();

        assert_eq!(state.key(&stays, [4; 32]).unwrap().public_key(), first);
        let anew = state.key(&goes, [5; 32]).unwrap();
        assert!(anew == PrivateKey::from_random([5; 32]));
    }
}
