//! The IPv6 header and the extension headers that may follow it (RFC 8200).
//!
//! **Invariant:** extension headers are an allow-list, at most [`EXTENSION_HEADERS_MAX`] of them: fragment headers, and
//! destination options that carry nothing but padding. Routing headers (RFC 5095), hop-by-hop options and the home
//! address option (which would replace the source address after the filter has looked at it) all drop.

use std::net::{IpAddr, Ipv6Addr};

use crate::packet::{Extent, FragmentField, IpHeader, Tail};
use crate::{Malformed, Protocol};

pub(crate) fn parse(bytes: &[u8], extent: Extent) -> Result<IpHeader, Malformed> {
    let Some(fixed) = bytes.first_chunk::<HEADER_BYTES>() else {
        return Err(Malformed::Truncated);
    };
    let total_bytes = HEADER_BYTES + usize::from(u16::from_be_bytes([fixed[4], fixed[5]]));
    let total_bytes = match extent {
        Extent::Complete => total_bytes,
        Extent::Quoted => total_bytes.min(bytes.len()),
    };
    let Some(bytes) = bytes.get(..total_bytes) else {
        return Err(Malformed::Truncated);
    };
    let chain = walk(bytes, fixed[6])?;
    Ok(IpHeader {
        src: IpAddr::V6(address(fixed, 8)),
        dst: IpAddr::V6(address(fixed, 24)),
        protocol: chain.protocol,
        header_bytes: chain.end,
        total_bytes,
        fragment: chain.fragment,
    })
}

struct Chain {
    protocol: Protocol,
    end: usize,
    fragment: Option<FragmentField>,
}

fn walk(bytes: &[u8], first: u8) -> Result<Chain, Malformed> {
    let mut next = first;
    let mut at = HEADER_BYTES;
    let mut fragment: Option<FragmentField> = None;
    let mut fragment_end = at;
    let mut seen_fragment_header = false;
    for _ in 0..=EXTENSION_HEADERS_MAX {
        match next {
            FRAGMENT if seen_fragment_header => return Err(Malformed::ExtensionHeader),
            FRAGMENT => {
                let header = chunk(bytes, at, fragment.as_ref())?;
                seen_fragment_header = true;
                fragment = fragment_field(*header);
                next = header[0];
                at += FRAGMENT_HEADER_BYTES;
                fragment_end = at;
                // What follows in a later fragment is data, whatever the next-header field says.
                if fragment.is_some_and(|field| field.offset_bytes > 0) {
                    return Ok(Chain {
                        protocol: Protocol(next),
                        end: at,
                        fragment,
                    });
                }
            }
            DESTINATION_OPTIONS => {
                let header = chunk(bytes, at, fragment.as_ref())?;
                let header_bytes = (usize::from(header[1]) + 1) * 8;
                let Some(options) = bytes.get(at + 2..at + header_bytes) else {
                    return Err(cut_off(fragment.as_ref()));
                };
                check_padding(options)?;
                next = header[0];
                at += header_bytes;
            }
            HOP_BY_HOP | ROUTING | ENCAPSULATING | AUTHENTICATION | NO_NEXT_HEADER | MOBILITY | HIP
            | SHIM6 | EXPERIMENT_1 | EXPERIMENT_2 => {
                return Err(Malformed::ExtensionHeader);
            }
            protocol => {
                let fragment = fragment.map(|field| FragmentField {
                    inner_header_bytes: at - fragment_end,
                    ..field
                });
                return Ok(Chain {
                    protocol: Protocol(protocol),
                    end: at,
                    fragment,
                });
            }
        }
    }
    Err(Malformed::ExtensionHeader)
}

/// Eight bytes of an extension header. A first fragment must hold the whole chain (RFC 7112).
fn chunk<'a>(
    bytes: &'a [u8],
    at: usize,
    fragment: Option<&FragmentField>,
) -> Result<&'a [u8; FRAGMENT_HEADER_BYTES], Malformed> {
    bytes
        .get(at..)
        .and_then(|rest| rest.first_chunk())
        .ok_or_else(|| cut_off(fragment))
}

fn cut_off(fragment: Option<&FragmentField>) -> Malformed {
    match fragment {
        Some(_) => Malformed::TinyFragment,
        None => Malformed::Truncated,
    }
}

fn fragment_field(header: [u8; FRAGMENT_HEADER_BYTES]) -> Option<FragmentField> {
    let field = u16::from_be_bytes([header[2], header[3]]);
    let offset_bytes = u32::from(field & 0xfff8);
    let tail = match field & 1 {
        0 => Tail::Last,
        _ => Tail::More,
    };
    if offset_bytes == 0 && tail == Tail::Last {
        return None;
    }
    Some(FragmentField {
        id: u32::from_be_bytes([header[4], header[5], header[6], header[7]]),
        offset_bytes,
        tail,
        inner_header_bytes: 0,
        key_protocol: Protocol(FRAGMENT),
    })
}

/// Only Pad1 and PadN (RFC 8200 section 4.2), and in it only zeros: anything else is a way to carry data past the rules
/// (RFC 4942 section 2.1.9.5).
fn check_padding(mut options: &[u8]) -> Result<(), Malformed> {
    loop {
        options = match options {
            [] => return Ok(()),
            [PAD_1, rest @ ..] => rest,
            [PAD_N, bytes, rest @ ..] => match rest.split_at_checked(usize::from(*bytes)) {
                Some((zeros, rest)) if zeros.iter().all(|byte| *byte == 0) => rest,
                Some(_) | None => return Err(Malformed::ExtensionHeader),
            },
            [_, ..] => return Err(Malformed::ExtensionHeader),
        };
    }
}

fn address(fixed: &[u8; HEADER_BYTES], at: usize) -> Ipv6Addr {
    let mut octets = [0; 16];
    octets.copy_from_slice(&fixed[at..at + 16]);
    Ipv6Addr::from(octets)
}

pub(crate) const HEADER_BYTES: usize = 40;
const FRAGMENT_HEADER_BYTES: usize = 8;
/// The most extension headers before the transport header.
const EXTENSION_HEADERS_MAX: usize = 3;

const HOP_BY_HOP: u8 = 0;
const ROUTING: u8 = 43;
const FRAGMENT: u8 = 44;
const ENCAPSULATING: u8 = 50;
const AUTHENTICATION: u8 = 51;
const NO_NEXT_HEADER: u8 = 59;
const DESTINATION_OPTIONS: u8 = 60;
const MOBILITY: u8 = 135;
const HIP: u8 = 139;
const SHIM6: u8 = 140;
const EXPERIMENT_1: u8 = 253;
const EXPERIMENT_2: u8 = 254;
const PAD_1: u8 = 0;
const PAD_N: u8 = 1;
