//! The Internet checksum (RFC 1071) and the pseudo header it covers.

use std::net::IpAddr;

use crate::Protocol;

/// The checksum over `parts`, each of which but the last has an even length, started from `initial`.
pub fn checksum(initial: u32, data: &[u8]) -> u16 {
    let mut sum = u64::from(initial);
    let mut pairs = data.chunks_exact(2);
    for pair in &mut pairs {
        sum += u64::from(u16::from_be_bytes([pair[0], pair[1]]));
    }
    if let [odd] = pairs.remainder() {
        sum += u64::from(*odd) << 8;
    }
    while sum > 0xffff {
        sum = (sum & 0xffff) + (sum >> 16);
    }
    !(sum as u16)
}

/// The sum of the pseudo header of TCP, UDP and ICMPv6, to start [`checksum`] from.
pub fn pseudo_header_sum(src: IpAddr, dst: IpAddr, protocol: Protocol, bytes: usize) -> u32 {
    address_sum(src)
        + address_sum(dst)
        + u32::from(protocol.0)
        + (bytes as u32 >> 16)
        + (bytes as u32 & 0xffff)
}

fn address_sum(address: IpAddr) -> u32 {
    match address {
        IpAddr::V4(v4) => {
            let bits = v4.to_bits();
            (bits >> 16) + (bits & 0xffff)
        }
        IpAddr::V6(v6) => v6.segments().iter().map(|segment| u32::from(*segment)).sum(),
    }
}
