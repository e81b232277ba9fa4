//! Who talks to whom, as far as order matters between the packets of one write and the next.

use crate::packet::IpHeader;
use crate::{Protocol, ipv4, ipv6};

/// Addresses, protocol and ports of a packet.
#[derive(Clone, Copy, Debug)]
pub(super) struct Conversation {
    /// As in the header: one comparison of bytes, for this is asked of every packet and every run.
    addresses: [u8; 32],
    is_v4: bool,
    /// `None` in a fragment: in IPv6 the header that names it need not be in every one.
    protocol: Option<u8>,
    /// `None` where a packet shows none: fragments and other protocols.
    ports: Option<[u8; 4]>,
}

impl Conversation {
    /// `None` for what is no IP packet.
    pub(super) fn of(packet: &[u8]) -> Option<Self> {
        let header = IpHeader::parse(packet).ok()?;
        let is_v4 = header.src.is_ipv4();
        let mut addresses = [0; 32];
        if is_v4 {
            addresses[..8].copy_from_slice(packet.get(12..ipv4::HEADER_BYTES)?);
        } else {
            addresses.copy_from_slice(packet.get(8..ipv6::HEADER_BYTES)?);
        }
        let has_ports = header.fragment.is_none() && matches!(header.protocol, Protocol::TCP | Protocol::UDP);
        let ports = packet
            .get(header.header_bytes..header.total_bytes)
            .and_then(|payload| payload.first_chunk())
            .filter(|_| has_ports)
            .copied();
        Some(Self {
            addresses,
            is_v4,
            protocol: header.fragment.is_none().then_some(header.protocol.0),
            ports,
        })
    }

    /// Whether both may be of one conversation: a fragment is of every one between its addresses.
    pub(super) fn overlaps(&self, other: &Self) -> bool {
        self.is_v4 == other.is_v4
            && self.addresses == other.addresses
            && same_if_known(self.protocol, other.protocol)
            && same_if_known(self.ports, other.ports)
    }
}

fn same_if_known<T: PartialEq>(ours: Option<T>, theirs: Option<T>) -> bool {
    match (ours, theirs) {
        (Some(ours), Some(theirs)) => ours == theirs,
        (None, _) | (_, None) => true,
    }
}
