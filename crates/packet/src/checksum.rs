//! The Internet checksum (RFC 1071) and the pseudo header it covers.

use std::net::IpAddr;

use crate::Protocol;

/// The checksum over `data`, started from `initial`.
pub fn checksum(initial: u32, data: &[u8]) -> u16 {
    !fold(u64::from(initial) + u64::from(ones_sum(data)))
}

/// The ones' complement sum of the 16-bit words in `data`; an odd last byte counts as the upper half of a word.
///
/// RFC 1071 section 2: the sum does not care for byte order nor for the width it is taken in, as long as carries come
/// back in at the end. So words of 64 bits are added as the machine has them, to two sums, that no addition waits for
/// the carry of the one before. Two instructions a word on every compiler: what vectorises well in one build may fall
/// back to a byte at a time in the next.
pub fn ones_sum(data: &[u8]) -> u16 {
    let mut sums = [0_u128; 2];
    let (pairs, rest) = data.as_chunks::<16>();
    for pair in pairs {
        let (words, _) = pair.as_chunks::<8>();
        sums[0] += u128::from(u64::from_ne_bytes(words[0]));
        sums[1] += u128::from(u64::from_ne_bytes(words[1]));
    }
    let (words, rest) = rest.as_chunks::<4>();
    let mut sum = sums[0] + sums[1];
    for word in words {
        sum += u128::from(u32::from_ne_bytes(*word));
    }
    let last = match *rest {
        [] => [0; 4],
        [a] => [a, 0, 0, 0],
        [a, b] => [a, b, 0, 0],
        [a, b, c, ..] => [a, b, c, 0],
    };
    sum += u128::from(u32::from_ne_bytes(last));
    let low = |sum: u128| sum & u128::from(u64::MAX);
    let sum = low(sum) + (sum >> 64);
    let sum = low(sum) + (sum >> 64);
    u16::from_be(fold(sum as u64))
}

/// Brings the carries back in until 16 bits are left: at most `0x1_ffff_fffe` are left by the first line, `0x1_fffe` by
/// the second.
pub(crate) fn fold(sum: u64) -> u16 {
    let sum = (sum & 0xffff_ffff) + (sum >> 32);
    let sum = (sum & 0xffff) + ((sum >> 16) & 0xffff) + (sum >> 32);
    let sum = (sum & 0xffff) + (sum >> 16);
    sum as u16
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
