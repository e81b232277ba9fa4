//! Which peer owns an overlay address: what WireGuard calls allowed IPs.
//!
//! **Invariant:** ownership is looked up by longest match over **all** peers of a segment. Asking one peer "is this in
//! your range?" lets a peer with a wide range wear the address of one with a narrow range inside it (red line 3).

use std::net::IpAddr;

use ipnetwork::{Ipv4Network, Ipv6Network};
use prefix_trie::PrefixMap;
use ringfence_model::{NodeId, OverlayAddresses};

/// The owners of all addresses in one segment.
#[derive(Default)]
pub(crate) struct AddressTable {
    v4: PrefixMap<Ipv4Network, NodeId>,
    v6: PrefixMap<Ipv6Network, NodeId>,
}

impl AddressTable {
    /// Gives both addresses to `peer`.
    pub(crate) fn insert(&mut self, addresses: OverlayAddresses, peer: NodeId) {
        self.v4.insert(Ipv4Network::from(addresses.v4), peer);
        self.v6.insert(Ipv6Network::from(addresses.v6), peer);
    }

    /// Takes both addresses from whoever has them.
    pub(crate) fn remove(&mut self, addresses: OverlayAddresses) {
        self.v4.remove(&Ipv4Network::from(addresses.v4));
        self.v6.remove(&Ipv6Network::from(addresses.v6));
    }

    /// How many addresses have an owner.
    pub(crate) fn len(&self) -> usize {
        self.v4.len() + self.v6.len()
    }

    /// Who owns `address`.
    pub(crate) fn owner(&self, address: IpAddr) -> Option<NodeId> {
        match address {
            IpAddr::V4(v4) => self.v4.get_lpm(&Ipv4Network::from(v4)).map(|(_, peer)| *peer),
            IpAddr::V6(v6) => self.v6.get_lpm(&Ipv6Network::from(v6)).map(|(_, peer)| *peer),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_narrowest_range_owns_an_address() {
        let mut table = AddressTable::default();
        table.v4.insert("100.64.0.0/24".parse().unwrap(), NodeId(1));
        table.v4.insert("100.64.0.7/32".parse().unwrap(), NodeId(2));

        assert_eq!(table.owner("100.64.0.7".parse().unwrap()), Some(NodeId(2)));
        assert_eq!(table.owner("100.64.0.8".parse().unwrap()), Some(NodeId(1)));
        assert_eq!(table.owner("100.64.1.8".parse().unwrap()), None);
    }

    #[test]
    fn an_address_taken_away_has_no_owner() {
        let addresses = OverlayAddresses {
            v4: "100.64.0.7".parse().unwrap(),
            v6: "fd00::7".parse().unwrap(),
        };
        let mut table = AddressTable::default();

        table.insert(addresses, NodeId(2));
        assert_eq!(table.owner(IpAddr::V6(addresses.v6)), Some(NodeId(2)));
        table.remove(addresses);

        assert_eq!(table.owner(IpAddr::V4(addresses.v4)), None);
        assert_eq!(table.owner(IpAddr::V6(addresses.v6)), None);
    }
}
