//! What applications say over TCP, and how it must arrive: each byte follows from its sequence number, and the packet
//! around it is whole. Read without the product's parsers, so that no mistake of theirs hides another.

use crate::inspect::Seen;
use crate::violation::Violation;

/// `length` bytes of every application's stream from a sequence number on.
pub(crate) fn stream(from: u32, length: usize) -> Vec<u8> {
    let bytes = (0..length as u32).map(|at| {
        let number = from.wrapping_add(at);
        (number ^ (number >> 8) ^ (number >> 16)) as u8
    });
    bytes.collect()
}

/// Looks at a packet that an application is given.
///
/// # Errors
/// If it is TCP and its length, its checksums or its data are not what they must be.
pub(crate) fn check(seen: &Seen, packet: &[u8]) -> Result<(), Violation> {
    if seen.protocol != 6 || seen.fragment.is_some() {
        return Ok(());
    }
    let wrong = |what: &str| Err(Violation::new("stream", format!("{what}: {seen:?}")));
    let v4 = seen.src.is_ipv4();
    let (ip_bytes, addresses) = if v4 { (20, 12..20) } else { (40, 8..40) };
    let number = |at: usize| u16::from_be_bytes([packet[at], packet[at + 1]]);
    let length = if v4 {
        number(2).into()
    } else {
        40 + usize::from(number(4))
    };
    if packet.len() != length || packet.len() < ip_bytes + TCP_BYTES {
        return wrong("a wrong length");
    }
    if v4 && sum(&packet[..ip_bytes]) != 0xffff {
        return wrong("a wrong IPv4 checksum");
    }
    let (_, segment) = packet.split_at(ip_bytes);
    let mut covered = packet[addresses].to_vec();
    covered.extend((segment.len() as u32).to_be_bytes());
    covered.extend([0, 0, 0, 6]);
    covered.extend(segment);
    if sum(&covered) != 0xffff {
        return wrong("a wrong TCP checksum");
    }
    let seq = u32::from_be_bytes([segment[4], segment[5], segment[6], segment[7]]);
    let data = &segment[usize::from(segment[12] >> 4) * 4..];
    if data != stream(seq, data.len()) {
        return wrong("other bytes than were sent");
    }
    Ok(())
}

/// Ones' complement sum of 16-bit words (RFC 1071).
fn sum(bytes: &[u8]) -> u16 {
    let words = bytes.chunks(2);
    let total: u64 = words
        .map(|word| u64::from(word[0]) << 8 | u64::from(word.get(1).copied().unwrap_or(0)))
        .sum();
    let mut folded = total;
    while folded > 0xffff {
        folded = (folded & 0xffff) + (folded >> 16);
    }
    folded as u16
}

const TCP_BYTES: usize = 20;
