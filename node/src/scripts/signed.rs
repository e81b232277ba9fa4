//! Scripts and the keys that may sign them: files of root's alone, read whole and verified before anything runs.
//!
//! **Invariant:** the text that comes out is the text whose signature was verified, by a key that root pinned here.

use std::fs::{File, Metadata, OpenOptions};
use std::io::Read as _;
use std::os::unix::fs::{MetadataExt as _, OpenOptionsExt as _};
use std::path::{Path, PathBuf};

use ringfence_model::Name;
use ssh_key::{Algorithm, EcdsaCurve, HashAlg, PublicKey, SshSig};

use crate::posture::unreadable;

/// Where scripts and keys are.
#[derive(Clone, Debug)]
pub(super) struct Places {
    /// One public key a line, as in `id_ed25519.pub`.
    pub(super) signers: PathBuf,
    /// `NAME` and `NAME.sig` for each script.
    pub(super) scripts: PathBuf,
    /// Whose these files must be.
    pub(super) owner: u32,
}

/// A script whose signature counts.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Signed {
    pub(super) text: Vec<u8>,
    /// The fingerprint of the key.
    pub(super) signer: String,
}

/// What some files are like: it changes with each of them, and with who may write it.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Stamp(Vec<Option<[i64; 8]>>);

impl Places {
    /// The script of this name.
    pub(super) fn read(&self, name: &Name) -> Result<Signed, String> {
        let signers = self.signers()?;
        let path = self.scripts.join(name.as_str());
        let text = self.read_whole(&path, TEXT_BYTES_MAX)?;
        let signature_path = self.signature_of(name);
        let shown = signature_path.display();
        let signature = self.read_whole(&signature_path, SIGNATURE_BYTES_MAX)?;
        let signature =
            SshSig::from_pem(&signature).map_err(|error| format!("{shown} is no signature: {error}"))?;
        let signer = signers
            .iter()
            .find(|key| key.key_data() == signature.public_key());
        let Some(signer) = signer else {
            let key = signature.public_key().fingerprint(HashAlg::Sha256);
            return Err(format!(
                "{shown} is by {key}, which is not in {}",
                self.signers.display()
            ));
        };
        if signature.namespace() != NAMESPACE {
            return Err(format!("{shown} is for something else: sign with -n {NAMESPACE}"));
        }
        signer
            .verify(NAMESPACE, &text, &signature)
            .map_err(|_| format!("{} is not what was signed: sign it again", path.display()))?;
        Ok(Signed {
            text,
            signer: signer.fingerprint(HashAlg::Sha256).to_string(),
        })
    }

    /// What all files are like that [`Self::read`] would read.
    pub(super) fn stamp(&self, name: &Name) -> Stamp {
        let (script, signature) = (self.scripts.join(name.as_str()), self.signature_of(name));
        let folders = [self.signers.parent(), Some(self.scripts.as_path())];
        let mut paths = vec![self.signers.as_path(), &script, &signature];
        paths.extend(folders.into_iter().flatten());
        Stamp::of(&paths)
    }

    fn signature_of(&self, name: &Name) -> PathBuf {
        self.scripts.join(format!("{name}.sig"))
    }

    /// The keys that may sign. One that cannot be read makes all of them count for nothing: nobody would look for it.
    fn signers(&self) -> Result<Vec<PublicKey>, String> {
        let shown = self.signers.display();
        let text = self.read_whole(&self.signers, SIGNERS_BYTES_MAX)?;
        let text = String::from_utf8(text).map_err(|_| format!("{shown} is no text"))?;
        let mut keys = Vec::new();
        for (index, line) in text.lines().enumerate() {
            let line = line.trim();
            if line.is_empty() || line.starts_with('#') {
                continue;
            }
            let key = read_key(line).map_err(|why| format!("{shown}:{}: {why}", index + 1))?;
            keys.push(key);
        }
        if keys.is_empty() {
            return Err(format!("{shown} names no key: nothing is signed"));
        }
        Ok(keys)
    }

    /// A file that nobody but its owner can have changed, nor put another in its place.
    fn read_whole(&self, path: &Path, bytes_max: u64) -> Result<Vec<u8>, String> {
        let shown = path.display().to_string();
        let failed = |error: std::io::Error| unreadable(&shown, &error);
        self.check_folders(path)?;
        // Neither through a link nor waiting for whoever is at the other end of what is no file.
        let file = OpenOptions::new()
            .read(true)
            .custom_flags(libc::O_NOFOLLOW | libc::O_NONBLOCK | libc::O_NOCTTY)
            .open(path)
            .map_err(failed)?;
        let metadata = file.metadata().map_err(failed)?;
        if !metadata.is_file() {
            return Err(format!("{shown} is no file"));
        }
        self.check_owner(&shown, &metadata)?;
        let bytes = read_at_most(file, bytes_max).map_err(failed)?;
        bytes.ok_or_else(|| format!("{shown} is larger than {} KiB", bytes_max / 1024))
    }

    fn check_folders(&self, path: &Path) -> Result<(), String> {
        let shown = path.display().to_string();
        let folder = path.parent().unwrap_or(Path::new("/"));
        let folder = folder
            .canonicalize()
            .map_err(|error| unreadable(&shown, &error))?;
        for folder in folder.ancestors() {
            let shown = folder.display().to_string();
            let metadata = folder
                .symlink_metadata()
                .map_err(|error| unreadable(&shown, &error))?;
            // As /tmp: everybody may add, nobody may replace what is another's.
            let is_sticky = metadata.uid() == 0 && metadata.mode() & libc::S_ISVTX != 0;
            if !is_sticky {
                self.check_owner(&shown, &metadata)?;
            }
        }
        Ok(())
    }

    fn check_owner(&self, shown: &str, metadata: &Metadata) -> Result<(), String> {
        if metadata.uid() != self.owner && metadata.uid() != 0 {
            return Err(format!("{shown} is not root's: chown root {shown}"));
        }
        if metadata.mode() & WRITE_OF_OTHERS != 0 {
            return Err(format!("others than root can write {shown}: chmod go-w {shown}"));
        }
        Ok(())
    }
}

impl Stamp {
    pub(super) fn of(paths: &[&Path]) -> Self {
        let stamps = paths.iter().map(|path| {
            let metadata = path.symlink_metadata().ok()?;
            Some([
                metadata.dev().cast_signed(),
                metadata.ino().cast_signed(),
                metadata.size().cast_signed(),
                i64::from(metadata.mode()),
                metadata.mtime(),
                metadata.mtime_nsec(),
                metadata.ctime(),
                metadata.ctime_nsec(),
            ])
        });
        Self(stamps.collect())
    }
}

fn read_key(line: &str) -> Result<PublicKey, String> {
    let key = PublicKey::from_openssh(line)
        .map_err(|error| format!("that is no public key of OpenSSH: {error}"))?;
    match key.algorithm() {
        Algorithm::Ed25519
        | Algorithm::Ecdsa {
            curve: EcdsaCurve::NistP256 | EcdsaCurve::NistP384,
        } => Ok(key),
        other => Err(format!(
            "keys of {other} do not count: use ssh-ed25519, ecdsa-sha2-nistp256 or ecdsa-sha2-nistp384"
        )),
    }
}

/// `None` if it is more.
fn read_at_most(file: File, bytes_max: u64) -> std::io::Result<Option<Vec<u8>>> {
    let mut bytes = Vec::new();
    file.take(bytes_max + 1).read_to_end(&mut bytes)?;
    Ok((bytes.len() as u64 <= bytes_max).then_some(bytes))
}

/// What `ssh-keygen -Y sign -n` is given: a signature that was made for mail or commits says nothing here.
const NAMESPACE: &str = "ringfence-fact";
const WRITE_OF_OTHERS: u32 = 0o022;
const TEXT_BYTES_MAX: u64 = 256 * 1024;
const SIGNATURE_BYTES_MAX: u64 = 16 * 1024;
const SIGNERS_BYTES_MAX: u64 = 64 * 1024;
