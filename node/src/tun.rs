//! One TUN device: the interface of one segment. Before each packet, in and out, stands a virtio-net header, which says
//! whether the packet is one of the kernel's super-packets: many segments of one flow in one read or write.

use std::fs::File;
use std::io::{self, Read as _, Write as _};
use std::os::fd::{AsFd, BorrowedFd};
use std::sync::Once;

use ringfence_dataplane::offload::{SuperPacket, VnetHeader};

use crate::sys::{self, TunFeatures, TunQueue};

pub(crate) use ringfence_dataplane::offload::VNET_HEADER_BYTES;

/// A TUN device that lives as long as this value.
pub(crate) struct Tun {
    file: File,
    interface: String,
    offloads: Offloads,
}

/// What to ask of the kernel.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Offload {
    /// Whole packets with whole checksums.
    #[cfg_attr(not(test), expect(dead_code, reason = "what an old kernel leaves, for tests"))]
    None,
    /// Super-packets and open checksums, as far as the kernel has them.
    All,
}

/// Which super-packets the kernel gives and takes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Offloads {
    /// TCP segments, and checksums to complete.
    pub tcp: bool,
    /// UDP datagrams. An older kernel refuses to take such a write, with `EINVAL`.
    pub udp: bool,
}

impl Tun {
    /// Makes the device; its link is still down and has no address (see [`crate::netlink`]). What the kernel lacks of
    /// the offloads is said in the log once in the life of the process.
    #[cfg(test)]
    pub(crate) fn open(interface: &str, offload: Offload) -> io::Result<Self> {
        Ok(Self::open_queues(interface, offload, 1)?.0)
    }

    /// The same with so many queues, at least one: each its own way in and out, and the device lives as long as one of
    /// them does. The kernel keeps the packets of a conversation in the queue that was last written for it.
    pub(crate) fn open_queues(
        interface: &str,
        offload: Offload,
        queues: usize,
    ) -> io::Result<(Self, Vec<Self>)> {
        let queue = |kind| Self::open_queue(interface, offload, kind);
        if queues <= 1 {
            return Ok((queue(TunQueue::Only)?, Vec::new()));
        }
        let first = queue(TunQueue::First)?;
        let others = (1..queues).map(|_| queue(TunQueue::Further));
        Ok((first, others.collect::<io::Result<_>>()?))
    }

    fn open_queue(interface: &str, offload: Offload, kind: TunQueue) -> io::Result<Self> {
        let file = sys::open_tun(interface, kind)?;
        let offloads = match offload {
            Offload::None => {
                sys::set_tun_offload(file.as_fd(), TunFeatures::NONE)?;
                Offloads::NONE
            }
            Offload::All => negotiate(|features| sys::set_tun_offload(file.as_fd(), features))?,
        };
        if offload == Offload::All && offloads != Offloads::ALL {
            TELL_ONCE.call_once(|| {
                tracing::info!(
                    tcp = offloads.tcp,
                    udp = offloads.udp,
                    "this kernel lacks offloads of TUN devices: more CPU for the same traffic"
                );
            });
        }
        Ok(Self {
            file,
            interface: interface.to_owned(),
            offloads,
        })
    }

    /// The name of the device.
    pub(crate) fn interface(&self) -> &str {
        &self.interface
    }

    /// What may be read, and be written, as a super-packet.
    #[cfg_attr(
        not(test),
        expect(dead_code, reason = "the packet loop writes one packet at a time")
    )]
    pub(crate) fn offloads(&self) -> Offloads {
        self.offloads
    }

    /// Reads one header of [`VNET_HEADER_BYTES`] and its packet into `buffer`, of [`READ_BYTES_MAX`]; `None` if none
    /// waits.
    pub(crate) fn read(&self, buffer: &mut [u8]) -> io::Result<Option<usize>> {
        debug_assert!(buffer.len() >= READ_BYTES_MAX, "a super-packet would be cut");
        match (&self.file).read(buffer) {
            Ok(length) => Ok(Some(length)),
            Err(error) if is_transient(&error) => Ok(None),
            Err(error) => Err(error),
        }
    }

    /// Gives a run to the kernel, packet by packet where it does not take it whole.
    pub(crate) fn write_run(&self, run: &mut [u8]) -> io::Result<()> {
        let Err(error) = self.write(run) else {
            return Ok(());
        };
        let Some((header, packet)) = run.split_first_chunk_mut() else {
            return Err(error);
        };
        let header = VnetHeader::decode(header);
        if header == VnetHeader::NONE {
            return Err(error);
        }
        let packet = SuperPacket::parse(header, packet).map_err(io::Error::other)?;
        let mut single = vec![0; VNET_HEADER_BYTES + packet.segment_bytes_max()];
        for index in 0..packet.segments() {
            let length = packet.write_segment(index, &mut single[VNET_HEADER_BYTES..]);
            self.write(&single[..VNET_HEADER_BYTES + length])?;
        }
        Ok(())
    }

    /// Gives one header of [`VNET_HEADER_BYTES`] and its packet to the kernel. A full queue drops it, as any link does.
    pub(crate) fn write(&self, header_and_packet: &[u8]) -> io::Result<()> {
        match (&self.file).write(header_and_packet) {
            Err(error) if !is_transient(&error) => Err(error),
            Ok(_) | Err(_) => Ok(()),
        }
    }
}

impl Offloads {
    const ALL: Self = Self { tcp: true, udp: true };
    const NONE: Self = Self {
        tcp: false,
        udp: false,
    };
}

impl AsFd for Tun {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.file.as_fd()
    }
}

/// Asks for everything, then for less: an older kernel refuses a request with a flag it does not know as a whole.
fn negotiate(ask: impl Fn(TunFeatures) -> io::Result<()>) -> io::Result<Offloads> {
    if ask(TunFeatures::TCP_AND_UDP).is_ok() {
        return Ok(Offloads::ALL);
    }
    if ask(TunFeatures::TCP).is_ok() {
        return Ok(Offloads {
            tcp: true,
            udp: false,
        });
    }
    ask(TunFeatures::NONE)?;
    Ok(Offloads::NONE)
}

/// Nothing waits, a signal came, or the link is still or again down (`EIO`): none of it is broken.
fn is_transient(error: &io::Error) -> bool {
    matches!(
        error.kind(),
        io::ErrorKind::WouldBlock | io::ErrorKind::Interrupted
    ) || error.raw_os_error() == Some(libc::EIO)
}

static TELL_ONCE: Once = Once::new();

/// Room for whatever a read may give: Linux caps what it hands to a device at 65,536 bytes.
pub(crate) const READ_BYTES_MAX: usize = VNET_HEADER_BYTES + 65_536;

#[cfg(test)]
mod tests;
