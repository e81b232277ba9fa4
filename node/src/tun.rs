//! One TUN device: the interface of one segment. Packets go one by one; batches with the kernel's offloads will
//! enter here without the packet loop noticing.

use std::fs::File;
use std::io::{self, Read as _, Write as _};
use std::os::fd::{AsFd, BorrowedFd};

use crate::sys;

/// A TUN device that lives as long as this value.
pub(crate) struct Tun {
    file: File,
    interface: String,
}

impl Tun {
    /// Makes the device; its link is still down and has no address (see [`crate::netlink`]).
    pub(crate) fn open(interface: &str) -> io::Result<Self> {
        let file = sys::open_tun(interface)?;
        Ok(Self {
            file,
            interface: interface.to_owned(),
        })
    }

    /// The name of the device.
    pub(crate) fn interface(&self) -> &str {
        &self.interface
    }

    /// Reads one packet into `buffer`; `None` if none waits.
    pub(crate) fn read(&self, buffer: &mut [u8]) -> io::Result<Option<usize>> {
        match (&self.file).read(buffer) {
            Ok(length) => Ok(Some(length)),
            Err(error) if is_transient(&error) => Ok(None),
            Err(error) => Err(error),
        }
    }

    /// Gives one packet to the kernel. A full queue drops it, as any link does.
    pub(crate) fn write(&self, packet: &[u8]) -> io::Result<()> {
        match (&self.file).write(packet) {
            Err(error) if !is_transient(&error) => Err(error),
            Ok(_) | Err(_) => Ok(()),
        }
    }
}

impl AsFd for Tun {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.file.as_fd()
    }
}

/// Nothing waits, a signal came, or the link is still or again down (`EIO`): none of it is broken.
fn is_transient(error: &io::Error) -> bool {
    matches!(
        error.kind(),
        io::ErrorKind::WouldBlock | io::ErrorKind::Interrupted
    ) || error.raw_os_error() == Some(libc::EIO)
}
