//! Routes over rtnetlink: those into our devices, and those that keep overlay packets off the underlay without them.
//!
//! A device takes its routes with it. Packets for the perimeter would then follow the default route, in clear: so
//! under the route into the device lies another to nowhere, which comes before the device and goes after it. When the
//! process is killed it stays, and the next start takes it over.
//!
//! **Invariant:** only routes that carry our own protocol number, and lead to our own devices or nowhere, are ever
//! touched.

use std::collections::BTreeSet;
use std::net::IpAddr;

use ipnetwork::IpNetwork;
use rtnetlink::RouteMessageBuilder;
use rtnetlink::packet_route::AddressFamily;
use rtnetlink::packet_route::route::{RouteAddress, RouteAttribute, RouteMessage, RouteProtocol, RouteType};

use ringfence_dataplane::SegmentFacts;
use ringfence_model::{OverlayAddresses, PerimeterPrefixes};

use super::{Netlink, NetlinkError, next, note, refused};

impl Netlink {
    /// Sees to it that a segment's prefixes lead nowhere while its device does not carry them.
    pub(crate) async fn hold_prefixes(&self, segment: &SegmentFacts) -> Result<(), NetlinkError> {
        let mut first_refusal = None;
        for prefix in segment.prefixes.iter() {
            let add = self.handle.route().add(nowhere(prefix)?).replace();
            let held = add.execute().await;
            note(
                &mut first_refusal,
                held.map_err(|error| refused(format!("holding {prefix}"), &error)),
            );
        }
        first_refusal.map_or(Ok(()), Err)
    }

    /// Takes back what [`Self::hold_prefixes`] did, for those of `prefixes` that it did it for.
    pub(crate) async fn release_prefixes(
        &self,
        prefixes: impl IntoIterator<Item = IpNetwork>,
    ) -> Result<(), NetlinkError> {
        let mut first_refusal = None;
        for prefix in prefixes {
            let released = self.handle.route().del(nowhere(prefix)?).execute().await;
            let released = released.map_err(|error| refused(format!("releasing {prefix}"), &error));
            match released {
                Err(error) if error.errno == Some(libc::ESRCH) => {}
                other => note(&mut first_refusal, other),
            }
        }
        first_refusal.map_or(Ok(()), Err)
    }

    /// Routes of others into a segment's prefixes: an overlay of another kind, or a carrier's shared address space
    /// (RFC 6598). What they carry and what we carry cannot both work.
    pub(crate) async fn rival_routes(
        &self,
        segment: &SegmentFacts,
    ) -> Result<BTreeSet<IpNetwork>, NetlinkError> {
        let mut rivals = BTreeSet::new();
        for family in [AddressFamily::Inet, AddressFamily::Inet6] {
            let mut filter = RouteMessage::default();
            filter.header.address_family = family;
            let mut dump = self.handle.route().get(filter).execute();
            while let Some(route) = next(&mut dump, "listing routes").await? {
                if let Some(rival) = rival(&route, segment.addresses, &segment.prefixes) {
                    rivals.insert(rival);
                }
            }
        }
        Ok(rivals)
    }

    pub(super) async fn set_routes(&self, index: u32, segment: &SegmentFacts) -> Result<(), NetlinkError> {
        let wanted: BTreeSet<IpNetwork> = segment.prefixes.iter().collect();
        let mut present = BTreeSet::new();
        for family in [AddressFamily::Inet, AddressFamily::Inet6] {
            for route in self.own_routes(index, family).await? {
                match destination(&route) {
                    Some(prefix) if wanted.contains(&prefix) => {
                        present.insert(prefix);
                    }
                    Some(_) | None => self.remove_route(route).await?,
                }
            }
        }
        let mut first_refusal = None;
        for prefix in wanted.difference(&present) {
            let source = segment.addresses.same_family(prefix.network());
            note(&mut first_refusal, self.add_route(index, *prefix, source).await);
        }
        first_refusal.map_or(Ok(()), Err)
    }

    async fn own_routes(&self, index: u32, family: AddressFamily) -> Result<Vec<RouteMessage>, NetlinkError> {
        let mut filter = RouteMessage::default();
        filter.header.address_family = family;
        let mut routes = Vec::new();
        let mut dump = self.handle.route().get(filter).execute();
        while let Some(route) = next(&mut dump, "listing routes").await? {
            if route.header.protocol == ROUTE_PROTOCOL
                && route.attributes.contains(&RouteAttribute::Oif(index))
            {
                routes.push(route);
            }
        }
        Ok(routes)
    }

    async fn add_route(&self, index: u32, prefix: IpNetwork, source: IpAddr) -> Result<(), NetlinkError> {
        let route = to(prefix)?
            .pref_source(source)
            .map_err(|error| invalid(prefix, &error))?
            .output_interface(index)
            .build();
        let added = self.handle.route().add(route).execute().await;
        added.map_err(|error| refused(format!("routing {prefix}"), &error))
    }

    async fn remove_route(&self, route: RouteMessage) -> Result<(), NetlinkError> {
        let del = self.handle.route().del(route).execute().await;
        del.map_err(|error| refused("removing a route".into(), &error))
    }
}

/// Unreachable, not a black hole: an application learns at once, and nothing is sent either way.
fn nowhere(prefix: IpNetwork) -> Result<RouteMessage, NetlinkError> {
    let route = to(prefix)?.kind(RouteType::Unreachable).priority(LAST);
    Ok(route.build())
}

fn to(prefix: IpNetwork) -> Result<RouteMessageBuilder<IpAddr>, NetlinkError> {
    let builder = RouteMessageBuilder::<IpAddr>::new().destination_prefix(prefix.network(), prefix.prefix());
    let builder = builder.map_err(|error| invalid(prefix, &error))?;
    Ok(builder.protocol(ROUTE_PROTOCOL))
}

fn invalid(prefix: IpNetwork, why: &impl ToString) -> NetlinkError {
    NetlinkError {
        what: format!("routing {prefix}"),
        why: why.to_string(),
        errno: None,
    }
}

/// Where a route leads, if that is in the way of `prefixes`. The default route is in nobody's way, and the kernel's
/// own routes to `addresses` belong to our devices.
fn rival(
    route: &RouteMessage,
    addresses: OverlayAddresses,
    prefixes: &PerimeterPrefixes,
) -> Option<IpNetwork> {
    let foreign = route.header.protocol != ROUTE_PROTOCOL && route.header.kind == RouteType::Unicast;
    let destination = destination(route).filter(|destination| foreign && destination.prefix() > 0)?;
    let own = addresses.both().map(IpNetwork::from);
    if own.contains(&destination) {
        return None;
    }
    prefixes
        .iter()
        .any(|prefix| prefix.contains(destination.network()) || destination.contains(prefix.network()))
        .then_some(destination)
}

fn destination(route: &RouteMessage) -> Option<IpNetwork> {
    let length = route.header.destination_prefix_length;
    let address = route.attributes.iter().find_map(|attribute| match attribute {
        RouteAttribute::Destination(RouteAddress::Inet(v4)) => Some(IpAddr::V4(*v4)),
        RouteAttribute::Destination(RouteAddress::Inet6(v6)) => Some(IpAddr::V6(*v6)),
        _ => None,
    })?;
    IpNetwork::new(address, length).ok()
}

/// The number in `rtm_protocol` that marks our routes (`ip route show proto 82`); unassigned in `rt_protos`.
const ROUTE_PROTOCOL: RouteProtocol = RouteProtocol::Other(82);

/// The metric of routes to nowhere: behind any other.
const LAST: u32 = u32::MAX - 1;

#[cfg(test)]
mod tests {
    use super::*;

    fn rival_to(prefix: &str, protocol: RouteProtocol) -> Option<IpNetwork> {
        let addresses = OverlayAddresses {
            v4: "100.64.0.1".parse().unwrap(),
            v6: "fd00:1::1".parse().unwrap(),
        };
        let prefixes = PerimeterPrefixes {
            v4: vec!["100.64.0.0/22".parse().unwrap()],
            v6: "fd00:1::/64".parse().unwrap(),
        };
        rival(&route(prefix, protocol), addresses, &prefixes)
    }

    fn route(prefix: &str, protocol: RouteProtocol) -> RouteMessage {
        let mut route = to(prefix.parse().unwrap()).unwrap().build();
        route.header.protocol = protocol;
        route
    }

    #[test]
    fn routes_of_others_into_the_prefixes_are_rivals() {
        for rival_prefix in ["100.64.0.0/10", "100.64.1.7/32", "fd00:1::/48"] {
            let found = rival_to(rival_prefix, RouteProtocol::Static);
            assert_eq!(found, Some(rival_prefix.parse().unwrap()));
        }
    }

    #[test]
    fn own_routes_own_addresses_the_default_and_other_networks_are_not() {
        assert_eq!(rival_to("100.64.0.0/22", ROUTE_PROTOCOL), None);
        for prefix in ["fd00:1::1/128", "0.0.0.0/0", "10.0.0.0/8", "100.64.4.0/22"] {
            assert_eq!(rival_to(prefix, RouteProtocol::Kernel), None, "{prefix}");
        }
    }

    #[test]
    fn a_route_to_nowhere_comes_after_every_other() {
        let route = nowhere("100.64.0.0/22".parse().unwrap()).unwrap();

        assert_eq!(route.header.kind, RouteType::Unreachable);
        assert!(route.attributes.contains(&RouteAttribute::Priority(LAST)));
    }
}
