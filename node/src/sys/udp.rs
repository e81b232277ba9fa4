//! Options of a UDP socket that no safe crate sets.

use std::io;
use std::os::fd::{AsRawFd as _, BorrowedFd};

/// Lets the kernel fragment IPv6 datagrams that are longer than the path takes (clears `IPV6_DONTFRAG`).
///
/// # Errors
/// What the kernel says: not an IPv6 socket.
pub(crate) fn allow_ipv6_fragments(socket: BorrowedFd<'_>) -> io::Result<()> {
    let off: libc::c_int = 0;
    // SAFETY: the descriptor is open while it is borrowed, and the pointer and length name `off`, which the kernel
    // reads during the call and keeps no pointer to.
    let result = unsafe {
        libc::setsockopt(
            socket.as_raw_fd(),
            libc::IPPROTO_IPV6,
            libc::IPV6_DONTFRAG,
            (&raw const off).cast(),
            size_of::<libc::c_int>() as libc::socklen_t,
        )
    };
    if result < 0 {
        return Err(io::Error::last_os_error());
    }
    Ok(())
}
