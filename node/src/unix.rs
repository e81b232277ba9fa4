//! Unix sockets that check who connects.
//!
//! **Invariant:** a request is only read from root, from the user this process runs as, or from its group.

use std::fs;
use std::io;
use std::os::unix::fs::{DirBuilderExt as _, FileTypeExt as _, PermissionsExt as _};
use std::path::{Path, PathBuf};

use tokio::io::{AsyncBufRead, AsyncBufReadExt as _, AsyncReadExt as _};
use tokio::net::{UnixListener, UnixStream};

/// A listening socket whose file goes with it.
pub(crate) struct Listener {
    listener: UnixListener,
    path: PathBuf,
}

/// What a line reader found.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Line {
    /// One line without its end.
    Text(String),
    /// The other end closed.
    End,
    /// Longer than allowed, or not UTF-8.
    Refused,
}

impl Listener {
    /// Binds `path` with `mode`. The file of a process that was killed is replaced, a live socket is not.
    pub(crate) fn bind(path: &Path, mode: u32) -> io::Result<Self> {
        if let Some(directory) = path.parent()
            && !directory.exists()
        {
            fs::DirBuilder::new()
                .recursive(true)
                .mode(DIRECTORY_MODE)
                .create(directory)?;
        }
        sweep(path)?;
        let listener = UnixListener::bind(path)?;
        fs::set_permissions(path, fs::Permissions::from_mode(mode))?;
        Ok(Self {
            listener,
            path: path.to_owned(),
        })
    }

    /// The next connection from someone who may ask. Others are closed unheard.
    pub(crate) async fn accept(&self) -> io::Result<UnixStream> {
        loop {
            let (stream, _) = self.listener.accept().await?;
            let caller = stream.peer_cred()?;
            if may_ask(caller.uid(), caller.gid()) {
                return Ok(stream);
            }
            tracing::warn!(uid = caller.uid(), socket = %self.path.display(), "a caller without rights was refused");
        }
    }
}

impl Drop for Listener {
    fn drop(&mut self) {
        if let Err(error) = fs::remove_file(&self.path) {
            tracing::debug!(%error, socket = %self.path.display(), "the socket's file stays behind");
        }
    }
}

/// Reads one line of at most `bytes_max` bytes.
pub(crate) async fn read_line(
    reader: &mut (impl AsyncBufRead + Unpin),
    bytes_max: usize,
) -> io::Result<Line> {
    let mut bytes = Vec::new();
    let bound = u64::try_from(bytes_max).unwrap_or(u64::MAX).saturating_add(1);
    (&mut *reader).take(bound).read_until(b'\n', &mut bytes).await?;
    if bytes.is_empty() {
        return Ok(Line::End);
    }
    if bytes.pop() != Some(b'\n') {
        return Ok(Line::Refused);
    }
    Ok(String::from_utf8(bytes).map_or(Line::Refused, Line::Text))
}

fn may_ask(uid: u32, gid: u32) -> bool {
    let own_gid = rustix::process::getegid().as_raw();
    uid == 0 || uid == rustix::process::geteuid().as_raw() || (own_gid != 0 && gid == own_gid)
}

fn sweep(path: &Path) -> io::Result<()> {
    match fs::symlink_metadata(path) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(()),
        Err(error) => return Err(error),
        // Never remove what is no socket, whatever the operator typed.
        Ok(metadata) if !metadata.file_type().is_socket() => return Err(io::ErrorKind::AlreadyExists.into()),
        Ok(_) => {}
    }
    match std::os::unix::net::UnixStream::connect(path) {
        Err(error) if error.kind() == io::ErrorKind::ConnectionRefused => fs::remove_file(path),
        Err(error) => Err(error),
        Ok(_) => Err(io::ErrorKind::AddrInUse.into()),
    }
}

const DIRECTORY_MODE: u32 = 0o755;

#[cfg(test)]
mod tests {
    use tokio::io::{AsyncWriteExt as _, BufReader};

    use super::*;

    #[tokio::test]
    async fn a_stale_socket_is_replaced_a_live_one_and_a_file_are_not() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("node.sock");
        drop(std::os::unix::net::UnixListener::bind(&path).unwrap());

        let live = Listener::bind(&path, 0o600).unwrap();

        assert_eq!(
            Listener::bind(&path, 0o600).err().unwrap().kind(),
            io::ErrorKind::AddrInUse
        );
        assert_eq!(fs::metadata(&path).unwrap().permissions().mode() & 0o777, 0o600);
        drop(live);
        assert!(!path.exists());
        fs::write(&path, "precious").unwrap();
        assert!(Listener::bind(&path, 0o600).is_err());
        assert_eq!(fs::read_to_string(&path).unwrap(), "precious");
    }

    #[tokio::test]
    async fn lines_are_bounded() {
        let (near, mut far) = UnixStream::pair().unwrap();
        let (reader, _writer) = near.into_split();
        let mut reader = BufReader::new(reader);
        far.write_all(b"short\ntoo long by far\n").await.unwrap();

        assert_eq!(
            read_line(&mut reader, 8).await.unwrap(),
            Line::Text("short".into())
        );
        assert_eq!(read_line(&mut reader, 8).await.unwrap(), Line::Refused);
    }

    #[test]
    fn strangers_may_not_ask() {
        let own = rustix::process::geteuid().as_raw();

        assert!(may_ask(0, 12345) && may_ask(own, 12345));
        assert!(!may_ask(own + 1, 12345));
    }
}
