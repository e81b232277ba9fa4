//! The UDP socket of all segments: one that speaks IPv6 and IPv4, or IPv4 alone where the kernel has no IPv6. One
//! system call moves many datagrams, in both directions, where the kernel can (`UDP_SEGMENT`, `UDP_GRO`).

use std::io;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, SocketAddrV6, UdpSocket};
use std::os::fd::{AsFd, BorrowedFd};

use quinn_udp::{Transmit, UdpSocketState};
use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::net::sockopt;
use socket2::{Domain, Protocol, Socket, Type};

use crate::sys;

mod inbox;

pub(crate) use inbox::{Inbox, RUNS_MAX};

/// The node's socket, non-blocking.
pub(crate) struct Udp {
    socket: UdpSocket,
    state: UdpSocketState,
    /// Whether the kernel has `UDP_SEGMENT` (Linux 4.18).
    has_segmentation: bool,
    /// Whether it was said that some way out has none.
    told_refusal: bool,
    family: Family,
    port: u16,
    unsendable: u64,
}

/// What the socket carries.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Family {
    /// IPv6, and IPv4 as mapped addresses (RFC 4291 section 2.5.5.2).
    Both,
    /// The kernel has no IPv6.
    V4,
}

/// Where datagrams go, and from where.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Route {
    /// The peer's endpoint.
    pub dst: SocketAddr,
    /// The address of ours to send from, as [`inbox::Datagrams::dst_ip`] told it; `None`, or one that has gone: as the
    /// kernel routes.
    pub src_ip: Option<IpAddr>,
}

impl Udp {
    /// Binds `port` (0: any free one) on every address.
    pub(crate) fn bind(port: u16) -> io::Result<Self> {
        match bind_both(port) {
            Ok(socket) => Self::new(socket, Family::Both),
            Err(error) if lacks_ipv6(&error) => Self::new(bind_v4(port)?, Family::V4),
            Err(error) => Err(error),
        }
    }

    fn new(socket: Socket, family: Family) -> io::Result<Self> {
        grow_buffers(&socket);
        let socket = UdpSocket::from(socket);
        let port = socket.local_addr()?.port();
        let state = UdpSocketState::new((&socket).into())?;
        allow_fragments(&socket, family)?;
        Ok(Self {
            socket,
            has_segmentation: state.max_gso_segments() > 1,
            state,
            told_refusal: false,
            family,
            port,
            unsendable: 0,
        })
    }

    /// The port it is bound to.
    pub(crate) fn port(&self) -> u16 {
        self.port
    }

    /// Datagrams that could not be sent since it was bound.
    pub(crate) fn unsendable(&self) -> u64 {
        self.unsendable
    }

    /// Fills `inbox` with what waits, as much as it holds, over what it held; returns how many runs came, 0 if nothing
    /// waits.
    pub(crate) fn receive(&self, inbox: &mut Inbox) -> io::Result<usize> {
        inbox.fill(|buffers, metas| self.state.recv((&self.socket).into(), buffers, metas))
    }

    /// Sends `datagrams`: each of `stride` bytes, the last of at most that. A full socket buffer is waited for, briefly
    /// and once: a lost datagram costs a TCP inside more.
    ///
    /// # Errors
    /// What the kernel says of the first that could not be sent; those after it were tried all the same.
    pub(crate) fn send(&mut self, route: Route, datagrams: &[u8], stride: usize) -> io::Result<()> {
        let stride = stride.max(1);
        let segments = (RUN_BYTES_MAX / stride).clamp(1, RUN_SEGMENTS_MAX);
        let mut outcome = Outcome::default();
        for run in at_least_one(datagrams, segments * stride) {
            self.send_run(route, run, stride, &mut outcome);
        }
        self.unsendable += outcome.unsent;
        outcome.error.map_or(Ok(()), Err)
    }

    fn send_run(&mut self, route: Route, run: &[u8], stride: usize, outcome: &mut Outcome) {
        let refusal = if run.len() > stride && self.has_segmentation {
            match self.send_message(route, run, Some(stride), outcome) {
                Err(error) if refuses_segmentation(&error) => Some(error),
                sent => return outcome.note(sent, run.len().div_ceil(stride)),
            }
        } else {
            None
        };
        let unsent = outcome.unsent;
        for datagram in at_least_one(run, stride) {
            let sent = self.send_message(route, datagram, None, outcome);
            outcome.note(sent, 1);
        }
        // If each by itself went, it is the run that was refused, and not, say, its destination. The next is tried as a run
        // all the same: trying costs little beside what follows, and the way out may be another, or have changed.
        if let Some(error) = refusal.filter(|_| outcome.unsent == unsent && !self.told_refusal) {
            self.told_refusal = true;
            tracing::info!(%error, "some way out takes datagrams one by one only: more CPU for the same traffic");
        }
    }

    /// One `sendmsg`, or a few until it is known why it failed.
    fn send_message(
        &self,
        route: Route,
        contents: &[u8],
        segment_size: Option<usize>,
        outcome: &mut Outcome,
    ) -> io::Result<()> {
        let mut transmit = Transmit {
            destination: match self.family {
                Family::Both => mapped(route.dst),
                Family::V4 => route.dst,
            },
            ecn: None,
            contents,
            segment_size,
            src_ip: route
                .src_ip
                .filter(|src| src.is_ipv4() == route.dst.ip().to_canonical().is_ipv4()),
        };
        let mut sent = self.state.try_send((&self.socket).into(), &transmit);
        if transmit.src_ip.is_some() && sent.as_ref().is_err_and(names_a_lost_source) {
            transmit.src_ip = None;
            sent = self.state.try_send((&self.socket).into(), &transmit);
        }
        if sent.as_ref().is_err_and(is_full) && outcome.may_wait() {
            let mut socket = [PollFd::new(&self.socket, PollFlags::OUT)];
            poll(&mut socket, Some(&SEND_WAIT))?;
            sent = self.state.try_send((&self.socket).into(), &transmit);
        }
        sent
    }
}

/// What came of the datagrams of one call.
#[derive(Default)]
struct Outcome {
    unsent: u64,
    error: Option<io::Error>,
    has_waited: bool,
}

impl Outcome {
    fn note(&mut self, sent: io::Result<()>, datagrams: usize) {
        if let Err(error) = sent {
            self.unsent += datagrams as u64;
            self.error.get_or_insert(error);
        }
    }

    fn may_wait(&mut self) -> bool {
        !std::mem::replace(&mut self.has_waited, true)
    }
}

impl AsFd for Udp {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.socket.as_fd()
    }
}

/// An administrator took the socket away (`ss --kill`): it has no port any more, or none that can be relied on.
pub(crate) fn is_destroyed(error: &io::Error) -> bool {
    error.raw_os_error() == Some(libc::ECONNABORTED)
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

/// What quinn-udp forbids is right for QUIC, which finds the path's size itself; a packet from the TUN device is as long
/// as it is, and in fragments it arrives. As the kernel's WireGuard does: over IPv4 any router may fragment, so nothing
/// is lost to learn what a path takes, nor for good where nobody tells (RFC 2923, section 2.1). Over IPv6 only the sender
/// can, once it was told (RFC 8200, section 5).
fn allow_fragments(socket: &UdpSocket, family: Family) -> io::Result<()> {
    sockopt::set_ip_mtu_discover(socket, sockopt::Ipv4PathMtuDiscovery::DONT)?;
    if family == Family::Both {
        sockopt::set_ipv6_mtu_discover(socket, sockopt::Ipv6PathMtuDiscovery::WANT)?;
        sys::allow_ipv6_fragments(socket.as_fd())?;
    }
    Ok(())
}

/// As `chunks`, but an empty slice is one empty chunk: a datagram may be empty.
fn at_least_one(bytes: &[u8], chunk: usize) -> impl Iterator<Item = &[u8]> {
    let empty = bytes.is_empty().then_some(bytes);
    bytes.chunks(chunk).chain(empty)
}

fn is_full(error: &io::Error) -> bool {
    error.kind() == io::ErrorKind::WouldBlock
}

/// `EIO`: a device without checksum offload, before Linux 6.11. `EINVAL` or, newer, `EMSGSIZE`: a segment is longer than
/// the path takes.
fn refuses_segmentation(error: &io::Error) -> bool {
    matches!(
        error.raw_os_error(),
        Some(libc::EIO | libc::EINVAL | libc::EMSGSIZE)
    )
}

/// The address has been taken off this host, or belongs to nobody (a broadcast).
fn names_a_lost_source(error: &io::Error) -> bool {
    matches!(
        error.raw_os_error(),
        Some(libc::EINVAL | libc::EADDRNOTAVAIL | libc::ENETUNREACH)
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

/// Segments of one `sendmsg`: `UDP_MAX_SEGMENTS` of Linux before 6.9.
const RUN_SEGMENTS_MAX: usize = 64;

/// Bytes of one `sendmsg`: what an IPv4 packet holds.
const RUN_BYTES_MAX: usize = 65_507;

#[cfg(test)]
mod tests;
