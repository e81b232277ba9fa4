//! The client secrets, each in a file of its own that nobody but this process's user may read.
//!
//! **Invariant:** a secret is nowhere else: not in the log of changes, not in an answer, not in a log line.

use std::fs::{self, DirBuilder};
use std::io::{self, ErrorKind};
use std::os::unix::fs::{DirBuilderExt as _, MetadataExt as _};
use std::path::PathBuf;

use ringfence_model::Name;
use zeroize::Zeroizing;

/// The folder of the secrets.
#[derive(Clone, Debug)]
pub struct ClientSecrets(PathBuf);

impl ClientSecrets {
    /// Those in `folder`, which is made with the first.
    pub fn new(folder: PathBuf) -> Self {
        Self(folder)
    }

    /// Writes one down, durably. A name cannot lead out of the folder: it is `[a-z0-9-]`.
    ///
    /// # Errors
    /// What the system said.
    pub fn store(&self, provider: &Name, secret: &str) -> io::Result<()> {
        match DirBuilder::new().mode(0o700).create(&self.0) {
            Err(error) if error.kind() != ErrorKind::AlreadyExists => return Err(error),
            Ok(()) | Err(_) => {}
        }
        ringfence_transport::write_secret(&self.file(provider), secret.as_bytes())
    }

    /// Reads one.
    ///
    /// # Errors
    /// If it is not there, or others may read it.
    pub fn load(&self, provider: &Name) -> io::Result<Zeroizing<String>> {
        let file = self.file(provider);
        if fs::metadata(&file)?.mode() & 0o077 != 0 {
            let why = format!("{} can be read by others: run `chmod 600` on it", file.display());
            return Err(io::Error::new(ErrorKind::PermissionDenied, why));
        }
        Ok(Zeroizing::new(fs::read_to_string(file)?))
    }

    /// Removes one, if it is there.
    ///
    /// # Errors
    /// What the system said.
    pub fn remove(&self, provider: &Name) -> io::Result<()> {
        match fs::remove_file(self.file(provider)) {
            Err(error) if error.kind() != ErrorKind::NotFound => Err(error),
            Ok(()) | Err(_) => Ok(()),
        }
    }

    fn file(&self, provider: &Name) -> PathBuf {
        self.0.join(format!("{provider}.secret"))
    }
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt as _;

    use super::*;

    #[test]
    fn a_secret_is_its_owners_alone() {
        let dir = tempfile::tempdir().unwrap();
        let secrets = ClientSecrets::new(dir.path().join("providers"));
        let corp = Name::parse("corp").unwrap();

        secrets.store(&corp, "hunter2").unwrap();

        let file = dir.path().join("providers/corp.secret");
        assert_eq!(fs::metadata(&file).unwrap().mode() & 0o777, 0o600);
        assert_eq!(*secrets.load(&corp).unwrap(), "hunter2");
        fs::set_permissions(&file, fs::Permissions::from_mode(0o640)).unwrap();
        assert!(secrets.load(&corp).is_err());
        secrets.remove(&corp).unwrap();
        secrets.remove(&corp).unwrap();
        assert!(secrets.load(&corp).is_err());
    }
}
