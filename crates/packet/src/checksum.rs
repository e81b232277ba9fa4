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
/// back in at the end. So words of 32 bits are added as the machine has them, in lanes that a compiler puts into vector
/// registers; each lane has room for 2^32 of them.
pub fn ones_sum(data: &[u8]) -> u16 {
    let mut lanes = [0_u64; LANES];
    let mut blocks = data.chunks_exact(LANES * WORD_BYTES);
    for block in &mut blocks {
        for (lane, word) in lanes.iter_mut().zip(block.chunks_exact(WORD_BYTES)) {
            *lane += u64::from(u32::from_ne_bytes([word[0], word[1], word[2], word[3]]));
        }
    }
    let mut sum: u64 = lanes.iter().sum();
    let mut words = blocks.remainder().chunks_exact(WORD_BYTES);
    for word in &mut words {
        sum += u64::from(u32::from_ne_bytes([word[0], word[1], word[2], word[3]]));
    }
    let mut last = [0; WORD_BYTES];
    for (to, from) in last.iter_mut().zip(words.remainder()) {
        *to = *from;
    }
    sum += u64::from(u32::from_ne_bytes(last));
    u16::from_be(fold(sum))
}

/// Brings the carries back in until 16 bits are left: 33 bits after the first line, at most `0x1_fffe` after the second.
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

const WORD_BYTES: usize = 4;
const LANES: usize = 8;
