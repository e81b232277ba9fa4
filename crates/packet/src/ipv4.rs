//! The IPv4 header (RFC 791).

use std::net::{IpAddr, Ipv4Addr};

use crate::packet::{Extent, FragmentField, IpHeader, Tail};
use crate::{Malformed, Protocol};

pub(crate) fn parse(bytes: &[u8], extent: Extent) -> Result<IpHeader, Malformed> {
    let Some(fixed) = bytes.first_chunk::<HEADER_BYTES>() else {
        return Err(Malformed::Truncated);
    };
    let header_bytes = usize::from(fixed[0] & 0x0f) * 4;
    let total_bytes = usize::from(u16::from_be_bytes([fixed[2], fixed[3]]));
    if header_bytes < HEADER_BYTES || total_bytes < header_bytes {
        return Err(Malformed::Length);
    }
    let total_bytes = match extent {
        Extent::Complete => total_bytes,
        Extent::Quoted => total_bytes.min(bytes.len()),
    };
    if bytes.len() < total_bytes || total_bytes < header_bytes {
        return Err(Malformed::Truncated);
    }
    if !bytes[HEADER_BYTES..header_bytes]
        .iter()
        .all(|option| matches!(option, 0 | 1))
    {
        return Err(Malformed::Ipv4Option);
    }
    let protocol = Protocol(fixed[9]);
    Ok(IpHeader {
        src: IpAddr::V4(Ipv4Addr::new(fixed[12], fixed[13], fixed[14], fixed[15])),
        dst: IpAddr::V4(Ipv4Addr::new(fixed[16], fixed[17], fixed[18], fixed[19])),
        protocol,
        header_bytes,
        total_bytes,
        fragment: fragment_field(fixed, protocol),
    })
}

fn fragment_field(fixed: &[u8; HEADER_BYTES], protocol: Protocol) -> Option<FragmentField> {
    let field = u16::from_be_bytes([fixed[6], fixed[7]]);
    let offset_bytes = u32::from(field & 0x1fff) * 8;
    let tail = match field & MORE_FRAGMENTS {
        0 => Tail::Last,
        _ => Tail::More,
    };
    if offset_bytes == 0 && tail == Tail::Last {
        return None;
    }
    Some(FragmentField {
        id: u32::from(u16::from_be_bytes([fixed[4], fixed[5]])),
        offset_bytes,
        tail,
        inner_header_bytes: 0,
        key_protocol: protocol,
    })
}

pub(crate) const HEADER_BYTES: usize = 20;
const MORE_FRAGMENTS: u16 = 0x2000;
