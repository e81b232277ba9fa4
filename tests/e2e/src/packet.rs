//! IP packets by hand, whole and in fragments, honest and not.

use std::net::{IpAddr, SocketAddr};

/// A UDP packet. The addresses are of one family.
pub fn udp(src: SocketAddr, dst: SocketAddr, payload: &[u8]) -> Vec<u8> {
    let datagram = udp_datagram(src, dst, payload);
    ip(src.ip(), dst.ip(), UDP, &datagram)
}

/// The same cut in two fragments, the first with `first_bytes` of UDP header and payload (a multiple of eight).
pub fn udp_fragments(src: SocketAddr, dst: SocketAddr, payload: &[u8], first_bytes: usize) -> [Vec<u8>; 2] {
    let datagram = udp_datagram(src, dst, payload);
    let id = u32::from(src.port()) << 16 | u32::from(dst.port());
    let (first, rest) = datagram.split_at(first_bytes);
    [
        fragment(src.ip(), dst.ip(), id, 0, Tail::More, first),
        fragment(src.ip(), dst.ip(), id, first_bytes, Tail::Last, rest),
    ]
}

/// Whether more fragments follow.
#[derive(Clone, Copy, PartialEq, Eq)]
pub enum Tail {
    /// Yes.
    More,
    /// No: this is the end.
    Last,
}

/// One fragment of a UDP packet: `bytes` are at `offset` of what comes after the IP header.
pub fn fragment(src: IpAddr, dst: IpAddr, id: u32, offset: usize, tail: Tail, bytes: &[u8]) -> Vec<u8> {
    let more = u16::from(tail == Tail::More);
    let eighths = u16::try_from(offset / 8).unwrap_or(u16::MAX);
    if src.is_ipv4() {
        let mut packet = ip(src, dst, UDP, bytes);
        packet[4..6].copy_from_slice(&(id as u16).to_be_bytes());
        packet[6..8].copy_from_slice(&(more << 13 | eighths).to_be_bytes());
        seal_v4(&mut packet);
        return packet;
    }
    let mut header = vec![UDP, 0];
    header.extend_from_slice(&(eighths << 3 | more).to_be_bytes());
    header.extend_from_slice(&id.to_be_bytes());
    header.extend_from_slice(bytes);
    ip(src, dst, FRAGMENT, &header)
}

/// A UDP header and its payload, checksum included.
pub fn udp_datagram(src: SocketAddr, dst: SocketAddr, payload: &[u8]) -> Vec<u8> {
    let length = u16::try_from(8 + payload.len()).unwrap_or(u16::MAX);
    let mut datagram = Vec::new();
    datagram.extend_from_slice(&src.port().to_be_bytes());
    datagram.extend_from_slice(&dst.port().to_be_bytes());
    datagram.extend_from_slice(&length.to_be_bytes());
    datagram.extend_from_slice(&[0, 0]);
    datagram.extend_from_slice(payload);
    let mut pseudo = octets(src.ip());
    pseudo.extend(octets(dst.ip()));
    pseudo.extend_from_slice(&u32::from(length).to_be_bytes());
    pseudo.extend_from_slice(&[0, 0, 0, UDP]);
    pseudo.extend_from_slice(&datagram);
    let sum = checksum(&pseudo);
    datagram[6..8].copy_from_slice(&sum.to_be_bytes());
    datagram
}

/// What a UDP packet without options or fragments carries, and from where to where.
pub fn parse_udp(packet: &[u8]) -> Option<(SocketAddr, SocketAddr, &[u8])> {
    let (src, dst, protocol, body): (IpAddr, IpAddr, u8, &[u8]) = match packet.first()? >> 4 {
        4 => (
            <[u8; 4]>::try_from(packet.get(12..16)?).ok()?.into(),
            <[u8; 4]>::try_from(packet.get(16..20)?).ok()?.into(),
            *packet.get(9)?,
            packet.get(20..)?,
        ),
        6 => (
            <[u8; 16]>::try_from(packet.get(8..24)?).ok()?.into(),
            <[u8; 16]>::try_from(packet.get(24..40)?).ok()?.into(),
            *packet.get(6)?,
            packet.get(40..)?,
        ),
        _ => return None,
    };
    let port = |at: usize| Some(u16::from_be_bytes(body.get(at..at + 2)?.try_into().ok()?));
    let length = usize::from(port(4)?);
    (protocol == UDP).then_some(())?;
    Some((
        SocketAddr::new(src, port(0)?),
        SocketAddr::new(dst, port(2)?),
        body.get(8..length)?,
    ))
}

/// An IP packet around `body`.
pub fn ip(src: IpAddr, dst: IpAddr, protocol: u8, body: &[u8]) -> Vec<u8> {
    let length = u16::try_from(body.len()).unwrap_or(u16::MAX);
    let mut packet = Vec::new();
    match src {
        IpAddr::V4(_) => {
            packet.extend_from_slice(&[0x45, 0]);
            packet.extend_from_slice(&(20 + length).to_be_bytes());
            packet.extend_from_slice(&[0, 0, 0, 0, 64, protocol, 0, 0]);
        }
        IpAddr::V6(_) => {
            packet.extend_from_slice(&[0x60, 0, 0, 0]);
            packet.extend_from_slice(&length.to_be_bytes());
            packet.extend_from_slice(&[protocol, 64]);
        }
    }
    packet.extend(octets(src));
    packet.extend(octets(dst));
    if src.is_ipv4() {
        seal_v4(&mut packet);
    }
    packet.extend_from_slice(body);
    packet
}

/// Puts the right checksum into an IPv4 header.
fn seal_v4(packet: &mut [u8]) {
    packet[10..12].fill(0);
    let sum = checksum(&packet[..20]);
    packet[10..12].copy_from_slice(&sum.to_be_bytes());
}

fn octets(address: IpAddr) -> Vec<u8> {
    match address {
        IpAddr::V4(v4) => v4.octets().to_vec(),
        IpAddr::V6(v6) => v6.octets().to_vec(),
    }
}

/// RFC 1071.
fn checksum(bytes: &[u8]) -> u16 {
    let mut sum: u32 = bytes
        .chunks(2)
        .map(|pair| u32::from(pair[0]) << 8 | pair.get(1).map_or(0, |low| u32::from(*low)))
        .sum();
    while sum > 0xffff {
        sum = (sum & 0xffff) + (sum >> 16);
    }
    !(sum as u16)
}

/// The protocol number of UDP.
pub const UDP: u8 = 17;
/// The extension header of an IPv6 fragment.
const FRAGMENT: u8 = 44;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_built_parses_and_sums_to_zero() {
        for (src, dst) in [("10.0.0.1:1", "10.0.0.2:53"), ("[fd00::1]:1", "[fd00::2]:53")] {
            let (src, dst): (SocketAddr, SocketAddr) = (src.parse().unwrap(), dst.parse().unwrap());

            let packet = udp(src, dst, b"odd");

            assert_eq!(parse_udp(&packet), Some((src, dst, &b"odd"[..])));
            if src.is_ipv4() {
                assert_eq!(checksum(&packet[..20]), 0);
            }
        }
    }
}
