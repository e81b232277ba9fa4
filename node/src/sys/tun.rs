//! Opens a TUN device by name (Linux `Documentation/networking/tuntap.rst`).
//!
//! **Invariant:** the device is never persistent: it vanishes, addresses and routes with it, when its descriptor
//! closes, also after SIGKILL.

use std::fs::{File, OpenOptions};
use std::io;
use std::os::fd::AsRawFd as _;
use std::os::unix::fs::OpenOptionsExt as _;

/// Makes the TUN device `interface` and returns its descriptor, non-blocking, without packet information headers.
///
/// # Errors
/// What the kernel says: no `/dev/net/tun`, no `CAP_NET_ADMIN`, a name too long or in use.
pub(crate) fn open_tun(interface: &str) -> io::Result<File> {
    let file = OpenOptions::new()
        .read(true)
        .write(true)
        .custom_flags(libc::O_NONBLOCK | libc::O_CLOEXEC)
        .open(TUN_CONTROL)?;
    let mut request = interface_request(interface)?;
    request.ifr_ifru.ifru_flags = FLAGS;
    // SAFETY: the descriptor is open and `request` is a whole `ifreq`, which TUNSETIFF reads and fills in place;
    // the kernel keeps no pointer to it after the call.
    let result = unsafe { libc::ioctl(file.as_raw_fd(), libc::TUNSETIFF, &raw mut request) };
    if result < 0 {
        return Err(io::Error::last_os_error());
    }
    Ok(file)
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

/// IP packets without a header of the driver's; `IFF_TUN_EXCL` refuses a device that someone else made before us.
const FLAGS: libc::c_short = (libc::IFF_TUN | libc::IFF_NO_PI | libc::IFF_TUN_EXCL) as libc::c_short;

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
