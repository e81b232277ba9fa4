//! Links and addresses over rtnetlink, and what came of each request.

use std::collections::BTreeSet;
use std::net::IpAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use futures_util::{StreamExt as _, TryStreamExt as _};
use rtnetlink::packet_route::address::{AddressAttribute, AddressHeaderFlags, AddressMessage};
use rtnetlink::packet_route::link::{AfSpecInet6, AfSpecUnspec, In6AddrGenMode, LinkAttribute, LinkFlags};
use rtnetlink::{Handle, LinkMessageBuilder, LinkUnspec, MulticastGroup};

use ringfence_dataplane::SegmentFacts;

mod routes;

/// A netlink connection.
pub(crate) struct Netlink {
    handle: Handle,
    /// That links or addresses changed, as a second connection hears.
    news: Arc<AtomicBool>,
}

/// The kernel refused a change.
#[derive(Debug, thiserror::Error)]
#[error("{what}: {why}")]
pub(crate) struct NetlinkError {
    what: String,
    why: String,
    errno: Option<i32>,
}

impl Netlink {
    /// Opens a connection and drives it on the current runtime.
    pub(crate) fn connect() -> std::io::Result<Self> {
        let (connection, handle, _) = rtnetlink::new_connection()?;
        tokio::spawn(connection);
        // Apart: on the first one, what we change ourselves would look like a second answer.
        let (listening, listener, mut heard) = rtnetlink::new_multicast_connection(&CHANGES)?;
        tokio::spawn(listening);
        let news = Arc::new(AtomicBool::new(true));
        let noted = Arc::clone(&news);
        tokio::spawn(async move {
            while heard.next().await.is_some() {
                noted.store(true, Ordering::Relaxed);
            }
            // Without anybody to ask through it the connection would end.
            drop(listener);
        });
        Ok(Self { handle, news })
    }

    /// Whether links or addresses of this host may have changed since this was last asked. The kernel may lose news
    /// when there are very many at once.
    pub(crate) fn take_news(&self) -> bool {
        self.news.swap(false, Ordering::Relaxed)
    }

    /// Brings a segment's device up with its addresses and routes. Doing it again mends what changed.
    pub(crate) async fn configure(&self, segment: &SegmentFacts) -> Result<(), NetlinkError> {
        let mut first_refusal = None;
        note(&mut first_refusal, self.hold_prefixes(segment).await);
        let index = self.index(&segment.interface).await?;
        self.silence_ipv6(index).await;
        let link = LinkMessageBuilder::<LinkUnspec>::new()
            .index(index)
            .mtu(u32::from(segment.mtu_bytes))
            .up()
            .build();
        let set = self.handle.link().set(link).execute().await;
        set.map_err(|error| refused(format!("bringing {} up", segment.interface), &error))?;
        for address in segment.addresses.both() {
            note(&mut first_refusal, self.add_address(index, address).await);
        }
        note(&mut first_refusal, self.set_routes(index, segment).await);
        first_refusal.map_or(Ok(()), Err)
    }

    /// The addresses a peer on the underlay might reach this host at, other than through `own` devices.
    pub(crate) async fn underlay_addresses(
        &self,
        own: &BTreeSet<String>,
    ) -> Result<BTreeSet<IpAddr>, NetlinkError> {
        let skipped = self.links_to_skip(own).await?;
        let mut addresses = BTreeSet::new();
        let mut dump = self.handle.address().get().execute();
        while let Some(message) = next(&mut dump, "listing addresses").await? {
            if !skipped.contains(&message.header.index)
                && let Some(address) = usable_address(&message)
            {
                addresses.insert(address);
            }
        }
        Ok(addresses)
    }

    async fn links_to_skip(&self, own: &BTreeSet<String>) -> Result<BTreeSet<u32>, NetlinkError> {
        let mut skipped = BTreeSet::new();
        let mut dump = self.handle.link().get().execute();
        while let Some(link) = next(&mut dump, "listing links").await? {
            let ours = link.attributes.iter().any(|attribute| match attribute {
                LinkAttribute::IfName(name) => own.contains(name),
                _ => false,
            });
            let down = !link.header.flags.contains(LinkFlags::Up);
            if ours || down || link.header.flags.contains(LinkFlags::Loopback) {
                skipped.insert(link.header.index);
            }
        }
        Ok(skipped)
    }

    async fn index(&self, interface: &str) -> Result<u32, NetlinkError> {
        let mut links = self.handle.link().get().match_name(interface).execute();
        let what = format!("finding {interface}");
        match next(&mut links, &what).await? {
            Some(link) => Ok(link.header.index),
            None => Err(NetlinkError {
                what,
                why: "no such device".into(),
                errno: Some(libc::ENODEV),
            }),
        }
    }

    /// Keeps the kernel from drawing a link-local address and asking for routers inside a perimeter. Best effort:
    /// without IPv6 there is nothing to silence, and the data plane drops such packets anyway.
    async fn silence_ipv6(&self, index: u32) {
        let none = AfSpecInet6::AddrGenMode(In6AddrGenMode::None);
        let link = LinkMessageBuilder::<LinkUnspec>::new()
            .index(index)
            .append_extra_attribute(LinkAttribute::AfSpecUnspec(vec![AfSpecUnspec::Inet6(vec![none])]))
            .build();
        if let Err(error) = self.handle.link().set(link).execute().await {
            tracing::debug!(%error, "the device keeps its link-local address");
        }
    }

    async fn add_address(&self, index: u32, address: IpAddr) -> Result<(), NetlinkError> {
        let mut add = self
            .handle
            .address()
            .add(index, address, host_length(address))
            .replace();
        if address.is_ipv6() {
            // No neighbour can have it, and while it is tentative no route may name it as source.
            add.message_mut().header.flags |= AddressHeaderFlags::Nodad;
        }
        let added = add.execute().await;
        added.map_err(|error| refused(format!("adding {address}"), &error))
    }
}

impl NetlinkError {
    /// The host has no IPv6: the segment works over IPv4 alone.
    pub(crate) fn lacks_ipv6(&self) -> bool {
        matches!(
            self.errno,
            Some(libc::EOPNOTSUPP | libc::EACCES | libc::EAFNOSUPPORT)
        )
    }
}

async fn next<T>(
    dump: &mut (impl futures_util::TryStream<Ok = T, Error = rtnetlink::Error> + Unpin),
    what: &str,
) -> Result<Option<T>, NetlinkError> {
    dump.try_next()
        .await
        .map_err(|error| refused(what.to_owned(), &error))
}

fn refused(what: String, error: &rtnetlink::Error) -> NetlinkError {
    let rtnetlink::Error::NetlinkError(message) = error else {
        return NetlinkError {
            what,
            why: error.to_string(),
            errno: None,
        };
    };
    NetlinkError {
        what,
        why: message.to_io().to_string(),
        errno: Some(message.raw_code().abs()),
    }
}

/// Keeps the first refusal; a missing IPv6 must neither stop IPv4 nor hide what is wrong with it.
fn note(first: &mut Option<NetlinkError>, result: Result<(), NetlinkError>) {
    if let Err(error) = result
        && first.as_ref().is_none_or(NetlinkError::lacks_ipv6)
    {
        *first = Some(error);
    }
}

fn usable_address(message: &AddressMessage) -> Option<IpAddr> {
    let unusable =
        AddressHeaderFlags::Tentative | AddressHeaderFlags::Dadfailed | AddressHeaderFlags::Deprecated;
    if message.header.flags.intersects(unusable) {
        return None;
    }
    let local = message.attributes.iter().find_map(|attribute| match attribute {
        AddressAttribute::Local(address) => Some(*address),
        _ => None,
    });
    let any = message.attributes.iter().find_map(|attribute| match attribute {
        AddressAttribute::Address(address) => Some(*address),
        _ => None,
    });
    // On a point-to-point link `Address` is the far end and `Local` ours; IPv6 may give `Address` alone.
    local.or(any).filter(|address| is_unicast_beyond_link(*address))
}

/// A link-local address means nothing without the peer's own interface: it is no candidate.
fn is_unicast_beyond_link(address: IpAddr) -> bool {
    match address {
        IpAddr::V4(v4) => {
            !(v4.is_loopback()
                || v4.is_link_local()
                || v4.is_unspecified()
                || v4.is_multicast()
                || v4.is_broadcast())
        }
        IpAddr::V6(v6) => {
            !(v6.is_loopback() || v6.is_unicast_link_local() || v6.is_unspecified() || v6.is_multicast())
        }
    }
}

fn host_length(address: IpAddr) -> u8 {
    match address {
        IpAddr::V4(_) => 32,
        IpAddr::V6(_) => 128,
    }
}

/// What changes where this host can be reached.
const CHANGES: [MulticastGroup; 3] = [
    MulticastGroup::Link,
    MulticastGroup::Ipv4Ifaddr,
    MulticastGroup::Ipv6Ifaddr,
];

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn addresses_without_meaning_elsewhere_are_no_candidates() {
        for odd in [
            "127.0.0.1",
            "169.254.3.4",
            "0.0.0.0",
            "224.0.0.1",
            "::1",
            "fe80::1",
            "ff02::1",
        ] {
            assert!(!is_unicast_beyond_link(odd.parse().unwrap()), "{odd}");
        }
        for good in ["10.0.0.4", "192.0.2.1", "2001:db8::1", "fd00::1"] {
            assert!(is_unicast_beyond_link(good.parse().unwrap()), "{good}");
        }
    }

    #[test]
    fn a_tentative_address_is_no_candidate() {
        let mut message = AddressMessage::default();
        message
            .attributes
            .push(AddressAttribute::Address("2001:db8::1".parse().unwrap()));
        assert!(usable_address(&message).is_some());

        message.header.flags = AddressHeaderFlags::Tentative;

        assert_eq!(usable_address(&message), None);
    }
}
