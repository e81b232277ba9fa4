//! The UDP socket of all segments: one that speaks IPv6 and IPv4, or IPv4 alone where the kernel has no IPv6.
//! Datagrams go one by one; segmentation offload will enter here without the packet loop noticing.

use std::io;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, SocketAddrV6, UdpSocket};
use std::os::fd::{AsFd, BorrowedFd};

use rustix::event::{PollFd, PollFlags, Timespec, poll};
use socket2::{Domain, Protocol, Socket, Type};

/// The node's socket, non-blocking.
pub(crate) struct Udp {
    socket: UdpSocket,
    family: Family,
    port: u16,
}

/// What the socket carries.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Family {
    /// IPv6, and IPv4 as mapped addresses (RFC 4291 section 2.5.5.2).
    Both,
    /// The kernel has no IPv6.
    V4,
}

impl Udp {
    /// Binds `port` (0: any free one) on every address.
    pub(crate) fn bind(port: u16) -> io::Result<Self> {
        let (socket, family) = match bind_both(port) {
            Ok(socket) => (socket, Family::Both),
            Err(error) if lacks_ipv6(&error) => (bind_v4(port)?, Family::V4),
            Err(error) => return Err(error),
        };
        grow_buffers(&socket);
        let socket = UdpSocket::from(socket);
        let port = socket.local_addr()?.port();
        Ok(Self { socket, family, port })
    }

    /// The port it is bound to.
    pub(crate) fn port(&self) -> u16 {
        self.port
    }

    /// Reads one datagram into `buffer`; `None` if none waits.
    pub(crate) fn receive(&self, buffer: &mut [u8]) -> io::Result<Option<(usize, SocketAddr)>> {
        match self.socket.recv_from(buffer) {
            Ok((length, src)) => Ok(Some((length, unmapped(src)))),
            Err(error) if is_idle(&error) => Ok(None),
            Err(error) => Err(error),
        }
    }

    /// Sends one datagram. A full socket buffer is waited for, briefly: a lost datagram costs a TCP inside more.
    pub(crate) fn send(&self, datagram: &[u8], dst: SocketAddr) -> io::Result<()> {
        let dst = match self.family {
            Family::Both => mapped(dst),
            Family::V4 => dst,
        };
        match self.socket.send_to(datagram, dst) {
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => {
                let mut socket = [PollFd::new(&self.socket, PollFlags::OUT)];
                poll(&mut socket, Some(&SEND_WAIT))?;
                self.socket.send_to(datagram, dst).map(drop)
            }
            sent => sent.map(drop),
        }
    }
}

impl AsFd for Udp {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.socket.as_fd()
    }
}

fn bind_both(port: u16) -> io::Result<Socket> {
    let socket = Socket::new(
        Domain::IPV6,
        Type::DGRAM.nonblocking().cloexec(),
        Some(Protocol::UDP),
    )?;
    socket.set_only_v6(false)?;
    socket.bind(&SocketAddr::from((Ipv6Addr::UNSPECIFIED, port)).into())?;
    Ok(socket)
}

fn bind_v4(port: u16) -> io::Result<Socket> {
    let socket = Socket::new(
        Domain::IPV4,
        Type::DGRAM.nonblocking().cloexec(),
        Some(Protocol::UDP),
    )?;
    socket.bind(&SocketAddr::from((Ipv4Addr::UNSPECIFIED, port)).into())?;
    Ok(socket)
}

/// Compiled out, switched off by `ipv6.disable=1`, or by sysctl: each gives another errno.
fn lacks_ipv6(error: &io::Error) -> bool {
    matches!(
        error.raw_os_error(),
        Some(libc::EAFNOSUPPORT | libc::EADDRNOTAVAIL | libc::EPROTONOSUPPORT)
    )
}

/// With CAP_NET_ADMIN past `net.core.rmem_max`, else up to it; a small buffer only costs loss under load.
fn grow_buffers(socket: &Socket) {
    if rustix::net::sockopt::set_socket_recv_buffer_size_force(socket, BUFFER_BYTES).is_err() {
        let _ = socket.set_recv_buffer_size(BUFFER_BYTES);
    }
    if rustix::net::sockopt::set_socket_send_buffer_size_force(socket, BUFFER_BYTES).is_err() {
        let _ = socket.set_send_buffer_size(BUFFER_BYTES);
    }
}

fn is_idle(error: &io::Error) -> bool {
    matches!(
        error.kind(),
        io::ErrorKind::WouldBlock | io::ErrorKind::Interrupted
    )
}

fn mapped(address: SocketAddr) -> SocketAddr {
    match address {
        SocketAddr::V4(v4) => SocketAddrV6::new(v4.ip().to_ipv6_mapped(), v4.port(), 0, 0).into(),
        SocketAddr::V6(_) => address,
    }
}

/// Keeps the scope of a link-local address, without which nothing could be sent back.
fn unmapped(address: SocketAddr) -> SocketAddr {
    match address.ip().to_canonical() {
        IpAddr::V4(v4) => SocketAddr::from((v4, address.port())),
        IpAddr::V6(_) => address,
    }
}

/// Holds what arrives while the packet loop is busy: about 30 ms at 2 Gbit/s.
const BUFFER_BYTES: usize = 8 << 20;

/// How long a full send buffer may hold up the packet loop.
const SEND_WAIT: Timespec = Timespec {
    tv_sec: 0,
    tv_nsec: 5_000_000,
};

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn mapped_addresses_read_back_as_ipv4() {
        let v4: SocketAddr = "192.0.2.7:51820".parse().unwrap();
        let v6: SocketAddr = "[2001:db8::7]:51820".parse().unwrap();

        assert_eq!(mapped(v4).to_string(), "[::ffff:192.0.2.7]:51820");
        assert_eq!(unmapped(mapped(v4)), v4);
        assert_eq!(unmapped(mapped(v6)), v6);
    }
}
