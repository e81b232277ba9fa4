//! Network address translators, by the words of RFC 4787.

use std::collections::BTreeMap;
use std::net::{IpAddr, SocketAddr};
use std::time::Duration;

use crate::dice::Dice;

/// How an external port is chosen (RFC 4787 section 4.1), and which answers come in (section 5).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Dependence {
    /// Whatever is at the other end.
    EndpointIndependent,
    /// On the other end's address.
    Address,
    /// On its address and port.
    AddressAndPort,
}

/// One translator with one machine behind it.
#[derive(Clone, Debug)]
pub(crate) struct Nat {
    /// Its outside address.
    pub address: IpAddr,
    /// How it maps.
    pub mapping: Dependence,
    /// How it filters.
    pub filtering: Dependence,
    /// Whether the port stays the same where it can (section 4.2.1).
    pub preserves_port: bool,
    /// After this much silence a mapping is gone (REQ-5 says two minutes, many do less).
    pub idle: Duration,
    mappings: BTreeMap<u16, Mapping>,
    next_port: u16,
}

#[derive(Clone, Debug)]
struct Mapping {
    to: Option<SocketAddr>,
    used: Duration,
    /// Whom the machine has sent to through it.
    sent_to: BTreeMap<SocketAddr, Duration>,
}

impl Nat {
    /// One of any kind.
    pub(crate) fn draw(address: IpAddr, dice: &mut Dice) -> Self {
        let kinds = [
            Dependence::EndpointIndependent,
            Dependence::Address,
            Dependence::AddressAndPort,
        ];
        Self {
            address,
            mapping: dice.pick(&[kinds[0], kinds[0], kinds[1], kinds[2]]),
            filtering: dice.pick(&kinds),
            preserves_port: dice.chance(0.6),
            idle: Duration::from_secs(dice.pick(&[30, 60, 120, 300])),
            mappings: BTreeMap::new(),
            next_port: 20_000,
        }
    }

    /// Whether a peer that knows the inside port knows the outside one.
    pub(crate) fn is_predictable(&self) -> bool {
        self.preserves_port && self.mapping == Dependence::EndpointIndependent
    }

    /// The source address that the world sees of a datagram.
    pub(crate) fn outbound(&mut self, port: u16, dst: SocketAddr, now: Duration) -> SocketAddr {
        self.mappings.retain(|_, mapping| now < mapping.used + self.idle);
        let kind = self.mapping;
        let fits = |mapping: &Mapping| match (kind, mapping.to) {
            (Dependence::EndpointIndependent, _) => true,
            (Dependence::Address, Some(to)) => to.ip() == dst.ip(),
            (Dependence::AddressAndPort, Some(to)) => to == dst,
            (Dependence::Address | Dependence::AddressAndPort, None) => false,
        };
        let known = self
            .mappings
            .iter()
            .find(|(_, mapping)| fits(mapping))
            .map(|(port, _)| *port);
        let outside = known.unwrap_or_else(|| self.fresh_port(port));
        let mapping = self.mappings.entry(outside).or_insert(Mapping {
            to: Some(dst),
            used: now,
            sent_to: BTreeMap::new(),
        });
        mapping.used = now;
        mapping.sent_to.insert(dst, now);
        SocketAddr::new(self.address, outside)
    }

    /// Whether a datagram from outside comes in.
    pub(crate) fn inbound(&mut self, port: u16, src: SocketAddr, now: Duration) -> bool {
        let (idle, filtering) = (self.idle, self.filtering);
        let Some(mapping) = self
            .mappings
            .get(&port)
            .filter(|mapping| now < mapping.used + idle)
        else {
            return false;
        };
        let mut live = mapping.sent_to.iter().filter(|(_, at)| now < **at + idle);
        match filtering {
            Dependence::EndpointIndependent => true,
            Dependence::Address => live.any(|(to, _)| to.ip() == src.ip()),
            Dependence::AddressAndPort => live.any(|(to, _)| *to == src),
        }
    }

    fn fresh_port(&mut self, port: u16) -> u16 {
        if self.preserves_port && !self.mappings.contains_key(&port) {
            return port;
        }
        self.next_port = if self.next_port >= 60_000 {
            20_000
        } else {
            self.next_port + 1
        };
        self.next_port
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn address(text: &str) -> SocketAddr {
        text.parse().expect("an address")
    }

    fn nat(mapping: Dependence, filtering: Dependence) -> Nat {
        let mut nat = Nat::draw(address("198.51.100.1:1").ip(), &mut Dice::new(1, "nat"));
        (nat.mapping, nat.filtering, nat.preserves_port) = (mapping, filtering, false);
        nat
    }

    #[test]
    fn mappings_depend_on_what_they_say() {
        let (one, same_host, other) = (
            address("192.0.2.1:1"),
            address("192.0.2.1:2"),
            address("192.0.2.2:1"),
        );
        for (kind, ports) in [
            (Dependence::EndpointIndependent, 1),
            (Dependence::Address, 2),
            (Dependence::AddressAndPort, 3),
        ] {
            let mut nat = nat(kind, Dependence::EndpointIndependent);
            let seen: std::collections::BTreeSet<_> = [one, same_host, other]
                .map(|dst| nat.outbound(51820, dst, Duration::ZERO).port())
                .into();
            assert_eq!(seen.len(), ports, "{kind:?}");
        }
    }

    #[test]
    fn filters_let_in_whom_was_sent_to_and_forget() {
        let (peer, same_host) = (address("192.0.2.1:1"), address("192.0.2.1:2"));
        let mut nat = nat(Dependence::EndpointIndependent, Dependence::AddressAndPort);
        let port = nat.outbound(51820, peer, Duration::ZERO).port();

        assert!(nat.inbound(port, peer, Duration::from_secs(1)));
        assert!(!nat.inbound(port, same_host, Duration::from_secs(1)));
        assert!(!nat.inbound(port, peer, nat.idle));
    }
}
