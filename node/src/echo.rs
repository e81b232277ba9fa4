//! One ICMP or ICMPv6 echo (RFC 792, RFC 4443 section 4) through the kernel, like any `ping`.
//!
//! An unprivileged ICMP socket where `net.ipv4.ping_group_range` allows it, else a raw one, which needs CAP_NET_RAW.

use std::io;
use std::net::{IpAddr, SocketAddr};

use socket2::{Domain, Protocol, Socket, Type};
use tokio::net::UdpSocket;

/// An echo request about to be sent, and the socket to hear its reply on.
pub(crate) struct Echo {
    /// Connected; `send` and `recv` are the same for an ICMP socket.
    socket: UdpSocket,
    kind: Kind,
    family: Family,
    src: SocketAddr,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Kind {
    /// The kernel picks the identifier and shows our replies alone.
    Ping,
    /// Every ICMP packet of the host shows up, over IPv4 with its IP header.
    Raw,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Family {
    V4,
    V6,
}

impl Echo {
    /// Prepares an echo from `src` to `dst`.
    pub(crate) fn to(dst: IpAddr, src: IpAddr) -> io::Result<Self> {
        let (family, domain, protocol) = match dst {
            IpAddr::V4(_) => (Family::V4, Domain::IPV4, Protocol::ICMPV4),
            IpAddr::V6(_) => (Family::V6, Domain::IPV6, Protocol::ICMPV6),
        };
        let (socket, kind) = match Socket::new(domain, Type::DGRAM.nonblocking().cloexec(), Some(protocol)) {
            Ok(socket) => (socket, Kind::Ping),
            Err(_) => match Socket::new(domain, Type::RAW.nonblocking().cloexec(), Some(protocol)) {
                Ok(socket) => (socket, Kind::Raw),
                Err(error) if error.kind() == io::ErrorKind::PermissionDenied => return Err(not_permitted()),
                Err(error) => return Err(error),
            },
        };
        socket.bind(&SocketAddr::new(src, 0).into())?;
        socket.connect(&SocketAddr::new(dst, 0).into())?;
        let local = socket
            .local_addr()?
            .as_socket()
            .map_or(SocketAddr::new(src, 0), |local| local);
        let identifier = match kind {
            Kind::Ping => local.port(),
            Kind::Raw => random_identifier()?,
        };
        let src = SocketAddr::new(local.ip(), identifier);
        Ok(Self {
            socket: UdpSocket::from_std(socket.into())?,
            kind,
            family,
            src,
        })
    }

    /// The address it goes from; the port is the echo's identifier.
    pub(crate) fn src(&self) -> SocketAddr {
        self.src
    }

    /// Sends the request and waits for its reply.
    pub(crate) async fn exchange(&self) -> io::Result<()> {
        self.socket.send(&request(self.family, self.src.port())).await?;
        let mut buffer = [0; REPLY_BYTES_MAX];
        loop {
            let length = self.socket.recv(&mut buffer).await?;
            let packet = match (self.kind, self.family) {
                (Kind::Raw, Family::V4) => without_ip_header(&buffer[..length]),
                (Kind::Ping, _) | (Kind::Raw, Family::V6) => &buffer[..length],
            };
            if is_reply(self.family, packet, self.src.port()) {
                return Ok(());
            }
        }
    }
}

/// Whether the kernel gives this process ICMP sockets without CAP_NET_RAW.
pub(crate) fn needs_no_right() -> bool {
    Socket::new(Domain::IPV4, Type::DGRAM.cloexec(), Some(Protocol::ICMPV4)).is_ok()
}

fn request(family: Family, identifier: u16) -> [u8; 8] {
    let mut packet = [0; 8];
    packet[0] = match family {
        Family::V4 => 8,
        Family::V6 => 128,
    };
    packet[4..6].copy_from_slice(&identifier.to_be_bytes());
    packet[7] = 1;
    // The kernel fills in ICMPv6's, which covers addresses it alone knows.
    if family == Family::V4 {
        let sum = checksum(packet);
        packet[2..4].copy_from_slice(&sum.to_be_bytes());
    }
    packet
}

fn is_reply(family: Family, packet: &[u8], identifier: u16) -> bool {
    let kind = match family {
        Family::V4 => 0,
        Family::V6 => 129,
    };
    packet.first() == Some(&kind) && packet.get(4..6) == Some(&identifier.to_be_bytes())
}

fn without_ip_header(packet: &[u8]) -> &[u8] {
    let words = packet.first().map_or(0, |first| usize::from(first & 0x0f));
    packet.get(words * 4..).unwrap_or_default()
}

/// RFC 1071, over a packet whose checksum field is zero.
fn checksum(packet: [u8; 8]) -> u16 {
    let words = packet
        .as_chunks::<2>()
        .0
        .iter()
        .map(|word| u32::from(u16::from_be_bytes(*word)));
    let sum: u32 = words.sum();
    !((sum & 0xffff) + (sum >> 16)) as u16
}

fn random_identifier() -> io::Result<u16> {
    let mut bytes = [0; 2];
    getrandom::fill(&mut bytes).map_err(io::Error::other)?;
    Ok(u16::from_be_bytes(bytes))
}

fn not_permitted() -> io::Error {
    io::Error::other(
        "sending ICMP needs CAP_NET_RAW, or this user's group in sysctl net.ipv4.ping_group_range",
    )
}

/// Enough for the IP header with options and the ICMP header of our short request.
const REPLY_BYTES_MAX: usize = 256;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_request_sums_to_zero() {
        let packet = request(Family::V4, 0xabcd);
        let sum: u32 = packet
            .as_chunks::<2>()
            .0
            .iter()
            .map(|word| u32::from(u16::from_be_bytes(*word)))
            .sum();

        assert_eq!((sum & 0xffff) + (sum >> 16), 0xffff);
    }

    #[test]
    fn only_our_own_reply_counts() {
        let reply = [0, 0, 0, 0, 0xab, 0xcd, 0, 1];

        assert!(is_reply(Family::V4, &reply, 0xabcd));
        assert!(!is_reply(Family::V4, &reply, 0xabce));
        assert!(!is_reply(Family::V6, &reply, 0xabcd));
        assert!(!is_reply(Family::V4, &request(Family::V4, 0xabcd), 0xabcd));
        assert!(!is_reply(Family::V4, &[], 0));
        let mut with_header = vec![0x45; 20];
        with_header.extend(reply);
        assert_eq!(without_ip_header(&with_header), reply);
    }
}
