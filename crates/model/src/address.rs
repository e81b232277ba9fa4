//! Overlay addresses and interface names (DESIGN.md 7).

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use ipnetwork::{IpNetwork, Ipv4Network, Ipv6Network};
use serde::{Deserialize, Serialize};
use sha2::{Digest as _, Sha256};

use crate::Name;

/// The two addresses of a segment, stable for the node's life.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct OverlayAddresses {
    /// Out of 100.64.0.0/10 (RFC 6598).
    pub v4: Ipv4Addr,
    /// Out of the mesh's ULA /48 (RFC 4193).
    pub v6: Ipv6Addr,
}

/// What a perimeter's members live in: routed to the TUN device, blackholed when the segment closes.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct PerimeterPrefixes {
    /// One block, and more once it is full.
    pub v4: Vec<Ipv4Network>,
    /// The perimeter's /64.
    pub v6: Ipv6Network,
}

impl OverlayAddresses {
    /// Both, IPv4 first.
    pub fn both(self) -> [IpAddr; 2] {
        [IpAddr::V4(self.v4), IpAddr::V6(self.v6)]
    }

    /// Whether `address` is one of the two.
    pub fn contains(self, address: IpAddr) -> bool {
        self.both().contains(&address)
    }

    /// The one of `other`'s family.
    pub fn same_family(self, other: IpAddr) -> IpAddr {
        match other {
            IpAddr::V4(_) => IpAddr::V4(self.v4),
            IpAddr::V6(_) => IpAddr::V6(self.v6),
        }
    }
}

impl PerimeterPrefixes {
    /// All of them, IPv4 first.
    pub fn iter(&self) -> impl Iterator<Item = IpNetwork> + '_ {
        let v4 = self.v4.iter().copied().map(IpNetwork::V4);
        v4.chain(std::iter::once(IpNetwork::V6(self.v6)))
    }
}

/// The name of a perimeter's TUN device: `rf-<perimeter>`, shortened with a hash where it would not fit the kernel's
/// 15 bytes. Two long names that start alike still differ.
pub fn interface_name(perimeter: &Name) -> String {
    let full = format!("rf-{perimeter}");
    if full.len() <= INTERFACE_NAME_BYTES_MAX {
        return full;
    }
    let hash = hex::encode(&Sha256::digest(perimeter.as_str())[..HASH_BYTES]);
    let head = INTERFACE_NAME_BYTES_MAX - 1 - 2 * HASH_BYTES;
    format!("{}-{hash}", &full[..head])
}

/// `IFNAMSIZ` less the closing zero.
pub const INTERFACE_NAME_BYTES_MAX: usize = 15;

const HASH_BYTES: usize = 3;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn interface_names_fit_and_differ() {
        let short = interface_name(&Name::parse("payments-db").unwrap());
        let long = interface_name(&Name::parse("payments-database-east").unwrap());
        let twin = interface_name(&Name::parse("payments-database-west").unwrap());

        assert_eq!(short, "rf-payments-db");
        assert!(
            long.len() <= INTERFACE_NAME_BYTES_MAX && long.starts_with("rf-payme"),
            "{long}"
        );
        assert_ne!(long, twin);
    }
}
