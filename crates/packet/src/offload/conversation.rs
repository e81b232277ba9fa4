//! Who talks to whom, as far as order matters between the packets of one write and the next.

use std::net::IpAddr;

use crate::Protocol;
use crate::packet::IpHeader;

/// Addresses, protocol and ports of a packet.
#[derive(Clone, Copy, Debug)]
pub(super) struct Conversation {
    src: IpAddr,
    dst: IpAddr,
    /// `None` in a fragment: in IPv6 the header that names it need not be in every one.
    protocol: Option<u8>,
    /// `None` where a packet shows none: fragments and other protocols.
    ports: Option<[u8; 4]>,
}

impl Conversation {
    /// `None` for what is no IP packet.
    pub(super) fn of(packet: &[u8]) -> Option<Self> {
        let header = IpHeader::parse(packet).ok()?;
        let has_ports = header.fragment.is_none() && matches!(header.protocol, Protocol::TCP | Protocol::UDP);
        let ports = packet
            .get(header.header_bytes..header.total_bytes)
            .and_then(|payload| payload.first_chunk())
            .filter(|_| has_ports)
            .copied();
        Some(Self {
            src: header.src,
            dst: header.dst,
            protocol: header.fragment.is_none().then_some(header.protocol.0),
            ports,
        })
    }

    /// Whether both may be of one conversation: a fragment is of every one between its addresses.
    pub(super) fn overlaps(&self, other: &Self) -> bool {
        self.src == other.src
            && self.dst == other.dst
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
