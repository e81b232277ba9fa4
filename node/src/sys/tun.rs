//! Opens a TUN device by name (Linux `Documentation/networking/tuntap.rst`).
//!
//! **Invariant:** the device is never persistent: it vanishes, addresses and routes with it, when its descriptor
//! closes, also after SIGKILL.

use std::fs::{File, OpenOptions};
use std::io;
use std::os::fd::{AsRawFd as _, BorrowedFd};
use std::os::unix::fs::OpenOptionsExt as _;

use ringfence_dataplane::offload::VNET_HEADER_BYTES;

/// What a device may leave to its reader: checksums to complete, packets to cut into segments.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct TunFeatures(libc::c_uint);

impl TunFeatures {
    /// Whole packets with whole checksums.
    pub(crate) const NONE: Self = Self(0);
    /// TCP of up to 64 KiB and open checksums (Linux 2.6.27). TCP with CWR set comes cut, as long as `TUN_F_TSO_ECN` is
    /// not asked for: only its first segment may keep the flag, which is rare enough to leave to the kernel.
    pub(crate) const TCP: Self = Self(libc::TUN_F_CSUM | libc::TUN_F_TSO4 | libc::TUN_F_TSO6);
    /// UDP of up to 64 KiB too (Linux 6.2, which knows the two flags only together).
    pub(crate) const TCP_AND_UDP: Self = Self(Self::TCP.0 | libc::TUN_F_USO4 | libc::TUN_F_USO6);
}

/// Which queue of a device a descriptor is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum TunQueue {
    /// The device has no other.
    Only,
    /// The one that makes a device of several.
    First,
    /// One more of a device that [`Self::First`] made.
    Further,
}

impl TunQueue {
    fn flags(self) -> libc::c_short {
        let flags = match self {
            Self::Only => libc::IFF_TUN_EXCL,
            Self::First => libc::IFF_TUN_EXCL | libc::IFF_MULTI_QUEUE,
            Self::Further => libc::IFF_MULTI_QUEUE,
        };
        FLAGS | flags as libc::c_short
    }
}

/// Makes the TUN device `interface`, or one more queue of it, and returns its descriptor, non-blocking. Each packet, in
/// and out, follows a header of [`VNET_HEADER_BYTES`]; until [`set_tun_offload`] packets come whole.
///
/// # Errors
/// What the kernel says: no `/dev/net/tun`, no `CAP_NET_ADMIN`, a name too long or in use.
pub(crate) fn open_tun(interface: &str, queue: TunQueue) -> io::Result<File> {
    let file = OpenOptions::new()
        .read(true)
        .write(true)
        .custom_flags(libc::O_NONBLOCK | libc::O_CLOEXEC)
        .open(TUN_CONTROL)?;
    let mut request = interface_request(interface)?;
    request.ifr_ifru.ifru_flags = queue.flags();
    // SAFETY: the descriptor is open and `request` is a whole `ifreq`, which TUNSETIFF reads and fills in place;
    // the kernel keeps no pointer to it after the call.
    let result = unsafe { libc::ioctl(file.as_raw_fd(), libc::TUNSETIFF, &raw mut request) };
    if result < 0 {
        return Err(io::Error::last_os_error());
    }
    // Ten bytes is what a new device has; said, since all else here builds on it.
    let header_bytes: libc::c_int = (VNET_HEADER_BYTES as u32).cast_signed();
    // SAFETY: the descriptor is open, and TUNSETVNETHDRSZ reads one `int` at the pointer during the call.
    let result = unsafe { libc::ioctl(file.as_raw_fd(), libc::TUNSETVNETHDRSZ, &raw const header_bytes) };
    if result < 0 {
        return Err(io::Error::last_os_error());
    }
    Ok(file)
}

/// Says what the device may leave to its reader.
///
/// # Errors
/// What the kernel says: `EINVAL` if it does not know one of them.
pub(crate) fn set_tun_offload(tun: BorrowedFd<'_>, features: TunFeatures) -> io::Result<()> {
    // SAFETY: the descriptor is open while it is borrowed, and TUNSETOFFLOAD takes its argument by value: no memory of
    // ours is read or written.
    let result = unsafe {
        libc::ioctl(
            tun.as_raw_fd(),
            libc::TUNSETOFFLOAD,
            libc::c_ulong::from(features.0),
        )
    };
    if result < 0 {
        return Err(io::Error::last_os_error());
    }
    Ok(())
}

fn interface_request(interface: &str) -> io::Result<libc::ifreq> {
    let bytes = interface.as_bytes();
    if bytes.is_empty() || bytes.len() >= libc::IFNAMSIZ || bytes.contains(&0) {
        return Err(io::Error::from(io::ErrorKind::InvalidInput));
    }
    // SAFETY: `ifreq` is plain old data (an array of characters and a union of such); all zeroes is a valid value.
    let mut request: libc::ifreq = unsafe { std::mem::zeroed() };
    for (to, from) in request.ifr_name.iter_mut().zip(bytes) {
        *to = from.cast_signed();
    }
    Ok(request)
}

/// The device every TUN interface is made through.
const TUN_CONTROL: &str = "/dev/net/tun";

/// IP packets after a virtio-net header and no other; `IFF_TUN_EXCL` refuses a device that someone else made before us.
const FLAGS: libc::c_short = (libc::IFF_TUN | libc::IFF_NO_PI | libc::IFF_VNET_HDR) as libc::c_short;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_the_kernel_could_not_hold_are_refused() {
        for odd in ["", "sixteen-letters-", "nul\0byte"] {
            assert!(interface_request(odd).is_err(), "{odd:?}");
        }
        assert!(interface_request("rf-payments-db").is_ok());
    }
}
