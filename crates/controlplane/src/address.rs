//! Overlay addresses: the mesh's ULA /48, a /64 and IPv4 blocks for each perimeter, one of each for each member
//! (DESIGN.md 7).
//!
//! **Invariant:** no address, block or /64 is held twice, and one that was given back rests for
//! [`ADDRESS_REST`] before someone else gets it.

use std::collections::{BTreeMap, BTreeSet};
use std::net::Ipv4Addr;

use ipnetwork::{Ipv4Network, Ipv6Network};
use ringfence_model::{OverlayAddresses, UnixMillis};
use serde::{Deserialize, Serialize};

use crate::limit::ADDRESS_REST;

/// Numbers that are held one by one, given out in turn so that one just returned is the last to come round again.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Pool {
    cursor: u32,
    held: BTreeSet<u32>,
    resting: BTreeMap<u32, UnixMillis>,
}

impl Pool {
    /// The next number below `end` that is free, rested and fit.
    pub(crate) fn next(&self, end: u32, wall: UnixMillis, fit: impl Fn(u32) -> bool) -> Option<u32> {
        let start = if self.cursor < end { self.cursor } else { 0 };
        let rested = |n: u32| {
            let since = self.resting.get(&n);
            since.is_none_or(|since| wall.saturating_since(*since) >= ADDRESS_REST)
        };
        (start..end)
            .chain(0..start)
            .find(|n| fit(*n) && !self.held.contains(n) && rested(*n))
    }

    /// Holds `n`; `false` if someone does.
    pub(crate) fn take(&mut self, n: u32) -> bool {
        self.resting.remove(&n);
        self.cursor = n.saturating_add(1);
        self.held.insert(n)
    }

    /// How many are held or rest.
    pub(crate) fn len(&self) -> usize {
        self.held.len() + self.resting.len()
    }

    /// Gives `n` back. It rests from `wall` on.
    pub(crate) fn release(&mut self, n: u32, wall: UnixMillis) {
        self.resting
            .retain(|_, since| wall.saturating_since(*since) < ADDRESS_REST);
        if self.held.remove(&n) {
            self.resting.insert(n, wall);
        }
    }
}

/// The mesh's prefix: `fd`, then 40 random bits (RFC 4193 section 3.2).
pub(crate) fn ula_prefix(random: [u8; 5]) -> Ipv6Network {
    let mut address = [0; 16];
    address[0] = 0xfd;
    address[1..6].copy_from_slice(&random);
    Ipv6Network::new_checked(address.into(), MESH_PREFIX_BITS).expect("48 bits fit an IPv6 address")
}

/// The `subnet`th /64 of the mesh's prefix.
pub(crate) fn v6_subnet(mesh: Ipv6Network, subnet: u32) -> Ipv6Network {
    let address = u128::from(mesh.network()) | (u128::from(subnet) << 64);
    Ipv6Network::new_checked(address.into(), PERIMETER_PREFIX_BITS).expect("64 bits fit an IPv6 address")
}

/// Which /64 of the mesh's prefix `v6` is.
pub(crate) fn v6_subnet_number(mesh: Ipv6Network, v6: Ipv6Network) -> Option<u32> {
    let number = (u128::from(v6.network()) ^ u128::from(mesh.network())) >> 64;
    let number = u32::try_from(number).ok()?;
    (number < V6_SUBNETS && v6_subnet(mesh, number) == v6).then_some(number)
}

/// The `block`th /22 of 100.64.0.0/10.
pub(crate) fn v4_block(block: u32) -> Ipv4Network {
    let address = u32::from(V4_BASE) + block * HOSTS_PER_BLOCK;
    Ipv4Network::new_checked(address.into(), V4_BLOCK_BITS).expect("22 bits fit an IPv4 address")
}

/// Which /22 of 100.64.0.0/10 `v4` is.
pub(crate) fn v4_block_number(v4: Ipv4Network) -> Option<u32> {
    let number = u32::from(v4.network()).checked_sub(u32::from(V4_BASE))? / HOSTS_PER_BLOCK;
    (number < V4_BLOCKS && v4_block(number) == v4).then_some(number)
}

/// The addresses of the `host`th place in a perimeter: its number is the end of the IPv6 address, and runs through
/// the IPv4 blocks one after the other.
pub(crate) fn host_addresses(v6: Ipv6Network, blocks: &[Ipv4Network], host: u32) -> Option<OverlayAddresses> {
    let block = blocks.get(usize::try_from(host / HOSTS_PER_BLOCK).ok()?)?;
    Some(OverlayAddresses {
        v4: (u32::from(block.network()) + host % HOSTS_PER_BLOCK).into(),
        v6: (u128::from(v6.network()) | u128::from(host)).into(),
    })
}

/// The place that has `addresses`.
pub(crate) fn host_number(
    v6: Ipv6Network,
    blocks: &[Ipv4Network],
    addresses: OverlayAddresses,
) -> Option<u32> {
    let number = u32::try_from(u128::from(addresses.v6) ^ u128::from(v6.network())).ok()?;
    (is_host(number) && host_addresses(v6, blocks, number) == Some(addresses)).then_some(number)
}

/// Whether a place is for a member: the first and last address of an IPv4 block name the network and everyone in it,
/// and the first of a /64 is the routers' (RFC 4291 section 2.6.1).
pub(crate) fn is_host(host: u32) -> bool {
    !matches!(host % HOSTS_PER_BLOCK, 0 | LAST_OF_BLOCK)
}

/// How many places one IPv4 block has, the two that are for nobody included.
pub(crate) const HOSTS_PER_BLOCK: u32 = 1 << (32 - V4_BLOCK_BITS);

/// How many IPv4 blocks a mesh has.
pub(crate) const V4_BLOCKS: u32 = 1 << (V4_BLOCK_BITS - 10);

/// How many /64 a mesh has.
pub(crate) const V6_SUBNETS: u32 = 1 << (PERIMETER_PREFIX_BITS - MESH_PREFIX_BITS);

const LAST_OF_BLOCK: u32 = HOSTS_PER_BLOCK - 1;
const V4_BASE: Ipv4Addr = Ipv4Addr::new(100, 64, 0, 0);
const V4_BLOCK_BITS: u8 = 22;
const MESH_PREFIX_BITS: u8 = 48;
const PERIMETER_PREFIX_BITS: u8 = 64;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_released_number_rests_and_comes_round_last() {
        let mut pool = Pool::default();
        let start = UnixMillis(1_000);
        let rest_ms = u64::try_from(ADDRESS_REST.as_millis()).unwrap();
        for n in 0..3 {
            assert!(pool.take(n));
        }

        pool.release(1, start);

        assert_eq!(pool.next(4, start, |_| true), Some(3));
        assert!(pool.take(3));
        assert_eq!(pool.next(4, start, |_| true), None);
        assert_eq!(pool.next(4, UnixMillis(start.0 + rest_ms - 1), |_| true), None);
        assert_eq!(pool.next(4, UnixMillis(start.0 + rest_ms), |_| true), Some(1));
        assert!(!pool.take(3));
    }

    #[test]
    fn the_mesh_prefix_is_a_local_ula() {
        let prefix = ula_prefix([1, 2, 3, 4, 5]);

        assert_eq!(prefix.to_string(), "fd01:203:405::/48");
        assert_eq!(v6_subnet(prefix, 0xffff).to_string(), "fd01:203:405:ffff::/64");
        assert_eq!(v6_subnet_number(prefix, v6_subnet(prefix, 7)), Some(7));
        assert_eq!(v6_subnet_number(prefix, v6_subnet(ula_prefix([9; 5]), 7)), None);
    }

    #[test]
    fn blocks_stay_within_the_shared_address_space() {
        assert_eq!(v4_block(0).to_string(), "100.64.0.0/22");
        assert_eq!(v4_block(V4_BLOCKS - 1).to_string(), "100.127.252.0/22");
        assert_eq!(v4_block_number(v4_block(77)), Some(77));
        assert_eq!(v4_block_number("100.128.0.0/22".parse().unwrap()), None);
        assert_eq!(v4_block_number("100.64.0.0/23".parse().unwrap()), None);
    }

    #[test]
    fn places_run_through_the_blocks_and_skip_their_ends() {
        let v6 = v6_subnet(ula_prefix([0; 5]), 1);
        let blocks = [v4_block(4), v4_block(9)];

        let first = host_addresses(v6, &blocks, 1).unwrap();
        let in_second = host_addresses(v6, &blocks, HOSTS_PER_BLOCK + 1).unwrap();

        assert_eq!(first.v4.to_string(), "100.64.16.1");
        assert_eq!(first.v6.to_string(), "fd00:0:0:1::1");
        assert_eq!(in_second.v4.to_string(), "100.64.36.1");
        assert_eq!(host_number(v6, &blocks, in_second), Some(HOSTS_PER_BLOCK + 1));
        assert!(!is_host(0) && !is_host(HOSTS_PER_BLOCK - 1) && !is_host(HOSTS_PER_BLOCK));
        assert_eq!(host_addresses(v6, &blocks, 2 * HOSTS_PER_BLOCK + 1), None);
    }
}
