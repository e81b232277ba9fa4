//! Where received datagrams lie: a fixed number of buffers, each for one run of the kernel's receive offload.

use std::io::{self, IoSliceMut};
use std::net::{IpAddr, SocketAddr};

use quinn_udp::RecvMeta;

use super::unmapped;

/// Buffers for one batch: [`RUNS_MAX`] times [`RUN_BYTES_MAX`], half a megabyte, taken once.
pub(crate) struct Inbox {
    buffers: Vec<Vec<u8>>,
    metas: [RecvMeta; RUNS_MAX],
    filled: usize,
}

/// One run: datagrams of one sender, one behind the other.
#[derive(Debug)]
pub(crate) struct Datagrams<'a> {
    /// The sender; IPv4 as such, never mapped.
    pub src: SocketAddr,
    /// The address of ours it wrote to, where the kernel tells: what to answer from on a host with several.
    pub dst_ip: Option<IpAddr>,
    /// All of them.
    pub bytes: &'a mut [u8],
    /// The length of each but the last, which may be shorter; at least 1, so `bytes.chunks_mut(stride)` has them all
    /// but an empty datagram, in which there is nothing.
    pub stride: usize,
}

impl Default for Inbox {
    /// Without room: for the moment in which the real one is read from.
    fn default() -> Self {
        Self {
            buffers: Vec::new(),
            metas: [RecvMeta::default(); RUNS_MAX],
            filled: 0,
        }
    }
}

impl Inbox {
    /// With room, and empty.
    pub(crate) fn new() -> Self {
        Self {
            buffers: vec![vec![0; RUN_BYTES_MAX]; RUNS_MAX],
            metas: [RecvMeta::default(); RUNS_MAX],
            filled: 0,
        }
    }

    /// The runs of the last [`super::Udp::receive`].
    pub(crate) fn runs(&mut self) -> impl Iterator<Item = Datagrams<'_>> {
        let runs = self.buffers.iter_mut().zip(&self.metas).take(self.filled);
        runs.map(|(buffer, meta)| Datagrams {
            src: unmapped(meta.addr),
            dst_ip: meta.dst_ip.map(|ip| ip.to_canonical()),
            bytes: &mut buffer[..meta.len],
            stride: meta.stride.max(1),
        })
    }

    /// Lets `receive` write into the buffers and say what it wrote; nothing waiting is no failure.
    pub(super) fn fill(
        &mut self,
        receive: impl FnOnce(&mut [IoSliceMut<'_>], &mut [RecvMeta]) -> io::Result<usize>,
    ) -> io::Result<usize> {
        self.filled = 0;
        let mut buffers = self.buffers.iter_mut();
        let mut slices: [IoSliceMut<'_>; RUNS_MAX] = std::array::from_fn(|_| {
            IoSliceMut::new(buffers.next().map_or(&mut [], |buffer| &mut buffer[..]))
        });
        match receive(&mut slices, &mut self.metas) {
            Ok(count) => self.filled = count,
            Err(error) if is_idle(&error) => {}
            Err(error) => return Err(error),
        }
        Ok(self.filled)
    }
}

fn is_idle(error: &io::Error) -> bool {
    matches!(
        error.kind(),
        io::ErrorKind::WouldBlock | io::ErrorKind::Interrupted
    )
}

/// Runs of one system call.
pub(crate) const RUNS_MAX: usize = 8;

/// The longest run: no datagram, and no run the kernel puts together, is longer.
const RUN_BYTES_MAX: usize = 65_536;
