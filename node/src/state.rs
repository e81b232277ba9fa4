//! The state directory: identity, keys, and who this node is. One process at a time, one user alone.
//!
//! **Invariant:** a file is replaced whole or not at all; nothing secret is ever readable by another user, and a
//! directory that another user could read or write is refused.

use std::fs::{self, File};
use std::io;
use std::os::unix::fs::DirBuilderExt as _;
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};
use zeroize::Zeroizing;

use ringfence_model::{Name, NodeId, PrivateKey};

mod error;
mod files;
mod wrapped;

pub(crate) use error::StateError;

use error::at;
use files::{FILE_MODE, check_rights, lock, overwrite, replace, sweep, sync, wipe};
use wrapped::{Wrapping, is_wrapped};

/// A state directory that this process alone uses.
pub(crate) struct StateDir {
    path: PathBuf,
    /// Where the identity key is sealed in a TPM.
    wrapping: Option<Wrapping>,
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
            wrapping: None,
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

    /// Wipes a plain identity key off the disk; fine if there is none.
    pub(crate) fn wipe_plain_identity(&self) -> Result<(), StateError> {
        let path = self.path.join(IDENTITY);
        wipe(&self.path, &path).map_err(at(&path))
    }

    /// The identity key as its TPM sealed it; `None` if none is sealed.
    pub(crate) fn sealed_identity(&self) -> Result<Option<String>, StateError> {
        self.read(SEALED)
    }

    /// Where the sealed identity key is, or will be.
    pub(crate) fn sealed_path(&self) -> PathBuf {
        self.path.join(SEALED)
    }

    /// Writes the sealed identity key.
    pub(crate) fn save_sealed_identity(&self, text: &str) -> Result<(), StateError> {
        self.write(SEALED, text.as_bytes())
    }

    /// Removes the sealed identity key; fine if there is none.
    pub(crate) fn remove_sealed_identity(&self) -> Result<(), StateError> {
        self.remove(SEALED)
    }

    /// From now on the keys of segments are kept wrapped by this one.
    pub(crate) fn wrap_keys(&mut self, key: Zeroizing<[u8; 32]>) {
        self.wrapping = Some(Wrapping::new(key));
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
            return self.read_key(perimeter, &file, &Zeroizing::new(text));
        }
        let directory = self.path.join(KEYS);
        let made = fs::DirBuilder::new()
            .recursive(true)
            .mode(DIRECTORY_MODE)
            .create(&directory);
        // Its own entry as well: a key whose directory is lost was not kept.
        made.and_then(|()| sync(&self.path)).map_err(at(&directory))?;
        let key = PrivateKey::from_random(random);
        self.write_key(perimeter, &file, &key)?;
        Ok(key)
    }

    fn read_key(&self, perimeter: &Name, file: &str, text: &str) -> Result<PrivateKey, StateError> {
        if is_wrapped(text) {
            let wrapping = self
                .wrapping
                .as_ref()
                .ok_or_else(|| self.damaged(file, &"it is wrapped by an identity key in a TPM"))?;
            return wrapping
                .unwrap(perimeter, text)
                .ok_or_else(|| self.damaged(file, &"this node's identity key does not open it"));
        }
        let key = PrivateKey::from_base64(text.trim_end()).map_err(|error| self.damaged(file, &error))?;
        if self.wrapping.is_some() {
            // From before there was a TPM. The old file is wiped where it lay, once the new one has taken its name.
            let path = self.path.join(file);
            let mut plain = File::options().write(true).open(&path).map_err(at(&path))?;
            self.write_key(perimeter, file, &key)?;
            overwrite(&mut plain).map_err(at(&path))?;
        }
        Ok(key)
    }

    fn write_key(&self, perimeter: &Name, file: &str, key: &PrivateKey) -> Result<(), StateError> {
        let Some(wrapping) = &self.wrapping else {
            let mut text = key.expose_base64();
            text.push('\n');
            return self.write(file, text.as_bytes());
        };
        let mut nonce = [0; 12];
        getrandom::fill(&mut nonce)
            .map_err(|error| at(&self.path.join(file))(io::Error::other(error.to_string())))?;
        self.write(file, wrapping.wrap(perimeter, key, nonce).as_bytes())
    }

    /// Removes the key of a perimeter.
    pub(crate) fn forget_key(&self, perimeter: &Name) -> Result<(), StateError> {
        self.remove(&key_file(perimeter))
    }

    /// Removes the identity: from now on this machine is not enrolled.
    pub(crate) fn forget_identity(&self) -> Result<(), StateError> {
        self.remove(NODE)?;
        self.remove(IDENTITY)?;
        self.remove(SEALED)?;
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

fn key_file(perimeter: &Name) -> String {
    format!("{KEYS}/{perimeter}.key")
}

/// Version of the directory's layout.
pub(crate) const FORMAT: u32 = 1;

const NODE: &str = "node.toml";
const IDENTITY: &str = "identity.pem";
const SEALED: &str = "identity.tpm";
const CERTIFICATE: &str = "certificate.pem";
const CA: &str = "ca.pem";
const KEYS: &str = "keys";
const LOCK: &str = "lock";
const DIRECTORY_MODE: u32 = 0o700;

#[cfg(test)]
mod tests;
