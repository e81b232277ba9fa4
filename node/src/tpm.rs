//! This machine's TPM: where it is, and a line to it.
//!
//! The line is opened anew for each use: a TPM that comes back after it was gone is found again, and the kernel's
//! resource manager (`/dev/tpmrm0`) forgets what was left in it when a line ends.

use std::fmt;
use std::fs::{File, OpenOptions};
use std::io::{self, Read as _, Write as _};
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::anyhow;

use ringfence_tpm::{Channel, Tpm};

/// Where a TPM is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum TpmPlace {
    /// A device of the kernel.
    Device(PathBuf),
    /// A Unix socket of `swtpm`, for tests and virtual machines without a device.
    Socket(PathBuf),
}

/// A line to a TPM.
pub(crate) enum Line {
    Device(File),
    Socket(UnixStream),
}

impl TpmPlace {
    /// Reads `--tpm`: the path of a device, or `unix:` and that of a socket.
    ///
    /// # Errors
    /// What is wrong with it, in words.
    pub fn parse(text: &str) -> Result<Self, String> {
        let (path, place): (&str, fn(PathBuf) -> Self) = match text.strip_prefix("unix:") {
            Some(path) => (path, Self::Socket),
            None => (text, Self::Device),
        };
        if path.starts_with('/') {
            Ok(place(path.into()))
        } else {
            Err(format!(
                "the absolute path of a device, as {TPM_DEVICE}, or unix:/PATH of a socket"
            ))
        }
    }

    /// What of the file system it is.
    pub(crate) fn path(&self) -> &Path {
        match self {
            Self::Device(path) | Self::Socket(path) => path,
        }
    }

    /// Opens a line.
    ///
    /// # Errors
    /// If there is no TPM, or it is closed to this user.
    pub(crate) fn open(&self) -> anyhow::Result<Tpm<Line>> {
        let line = self.line().map_err(|error| match error.kind() {
            io::ErrorKind::NotFound | io::ErrorKind::ConnectionRefused => anyhow!(
                "there is no TPM at {self} ({error}): switch it on in the firmware, or name where it is with --tpm"
            ),
            io::ErrorKind::PermissionDenied => {
                anyhow!("{self}: {error}: this user needs read and write access to the TPM")
            }
            _ => anyhow!("{self}: {error}"),
        })?;
        let mut seed = [0; 32];
        getrandom::fill(&mut seed).map_err(|error| anyhow!("the kernel gives no randomness: {error}"))?;
        Ok(Tpm::new(line, seed))
    }

    fn line(&self) -> io::Result<Line> {
        match self {
            Self::Device(path) => OpenOptions::new()
                .read(true)
                .write(true)
                .open(path)
                .map(Line::Device),
            Self::Socket(path) => {
                let stream = UnixStream::connect(path)?;
                stream.set_read_timeout(Some(ANSWER_WAIT))?;
                stream.set_write_timeout(Some(ANSWER_WAIT))?;
                Ok(Line::Socket(stream))
            }
        }
    }
}

impl fmt::Display for TpmPlace {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", self.path().display())
    }
}

impl Channel for Line {
    fn exchange(&mut self, command: &[u8]) -> io::Result<Vec<u8>> {
        let mut response = vec![0; RESPONSE_BYTES_MAX];
        let count = match self {
            // One command in one write, its response in one read.
            Self::Device(device) => {
                device.write_all(command)?;
                device.read(&mut response)?
            }
            Self::Socket(socket) => {
                socket.write_all(command)?;
                read_framed(socket, &mut response)?
            }
        };
        response.truncate(count);
        Ok(response)
    }
}

/// A response tells its own length after its tag.
fn read_framed(socket: &mut UnixStream, response: &mut [u8]) -> io::Result<usize> {
    let (head, _) = response.split_at_mut(HEAD_BYTES);
    socket.read_exact(head)?;
    let length = u32::from_be_bytes([head[2], head[3], head[4], head[5]]);
    let length = usize::try_from(length).unwrap_or(usize::MAX);
    let rest = response
        .get_mut(HEAD_BYTES..length)
        .ok_or_else(|| io::Error::new(io::ErrorKind::InvalidData, "a response of no possible length"))?;
    socket.read_exact(rest)?;
    Ok(length)
}

/// The device behind the kernel's resource manager.
pub(crate) const TPM_DEVICE: &str = "/dev/tpmrm0";
/// As much as the kernel's driver hands over.
const RESPONSE_BYTES_MAX: usize = 4096;
const HEAD_BYTES: usize = 6;
/// Far longer than any command of ours takes on any TPM.
const ANSWER_WAIT: Duration = Duration::from_secs(30);

#[cfg(test)]
pub(crate) mod tests;
