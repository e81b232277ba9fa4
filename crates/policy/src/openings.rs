//! What a list of rules opens, arranged by port, so that an opening asks one search and not every rule.
//!
//! **Invariant:** spans are sorted and apart, and each names the first rule of the list that covers it.

use std::collections::BTreeMap;

use ringfence_packet::Protocol;

use crate::Service;

/// Which rule of a list opens what. Of two that open the same, the one that came first.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Openings {
    tcp: Vec<Span>,
    udp: Vec<Span>,
    icmp: Option<u32>,
}

/// Ports, both ends included, and the rule that opens them.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
struct Span {
    first: u16,
    last: u16,
    rule: u32,
}

/// Spans while rules are still added.
struct Claims {
    spans: Vec<Span>,
    /// What no rule has opened yet, first port to last. A rule splits what it takes from, so there are never more
    /// spans than twice the services.
    unclaimed: BTreeMap<u16, u16>,
}

impl Openings {
    /// Arranges rules, those that win first.
    pub(crate) fn new<'a>(rules: impl Iterator<Item = (u32, &'a [Service])>) -> Self {
        let (mut tcp, mut udp, mut icmp) = (Claims::new(), Claims::new(), None);
        for (rule, services) in rules {
            for service in services {
                match *service {
                    Service::Tcp(ports) => tcp.claim(ports.first(), ports.last(), rule),
                    Service::Udp(ports) => udp.claim(ports.first(), ports.last(), rule),
                    Service::Icmp => icmp = icmp.or(Some(rule)),
                    Service::Any => {
                        tcp.claim(0, u16::MAX, rule);
                        udp.claim(0, u16::MAX, rule);
                        icmp = icmp.or(Some(rule));
                    }
                }
            }
        }
        Self {
            tcp: tcp.sorted(),
            udp: udp.sorted(),
            icmp,
        }
    }

    /// The first rule that opens `port`; what [`Service::covers`] would find.
    pub(crate) fn find(&self, protocol: Protocol, port: u16) -> Option<u32> {
        let spans = match protocol {
            Protocol::TCP => &self.tcp,
            Protocol::UDP => &self.udp,
            Protocol::ICMP | Protocol::ICMPV6 => return self.icmp,
            _ => return None,
        };
        let after = spans.partition_point(|span| span.first <= port);
        let span = spans.get(after.checked_sub(1)?)?;
        (port <= span.last).then_some(span.rule)
    }
}

impl Claims {
    fn new() -> Self {
        Self {
            spans: Vec::new(),
            unclaimed: BTreeMap::from([(0, u16::MAX)]),
        }
    }

    fn claim(&mut self, first: u16, last: u16, rule: u32) {
        while let Some((&from, &to)) = self.unclaimed.range(..=last).next_back() {
            if to < first {
                return;
            }
            self.unclaimed.remove(&from);
            if from < first {
                self.unclaimed.insert(from, first - 1);
            }
            if to > last {
                self.unclaimed.insert(last + 1, to);
            }
            self.spans.push(Span {
                first: from.max(first),
                last: to.min(last),
                rule,
            });
        }
    }

    fn sorted(mut self) -> Vec<Span> {
        self.spans.sort_unstable();
        self.spans.shrink_to_fit();
        self.spans
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::service::PortRange;

    fn services() -> impl Strategy<Value = Vec<Service>> {
        let range =
            || (1..=20_u16, 1..=20_u16).prop_map(|(a, b)| PortRange::new(a.min(b), a.max(b)).unwrap());
        let one = prop_oneof![
            6 => range().prop_map(Service::Tcp),
            4 => range().prop_map(Service::Udp),
            1 => Just(Service::Tcp(PortRange::ALL)),
            1 => Just(Service::Icmp),
            1 => Just(Service::Any),
        ];
        prop::collection::vec(one, 0..4)
    }

    proptest! {
        #[test]
        fn the_first_rule_that_covers_a_port_is_found(rules in prop::collection::vec(services(), 0..12)) {
            let numbered = || (0..).zip(rules.iter().map(Vec::as_slice));
            let openings = Openings::new(numbered());

            for protocol in [Protocol::TCP, Protocol::UDP, Protocol::ICMP, Protocol::ICMPV6, Protocol(47)] {
                for port in (0..=22).chain([u16::MAX]) {
                    let first = numbered()
                        .find(|(_, services)| services.iter().any(|service| service.covers(protocol, port)));
                    prop_assert_eq!(openings.find(protocol, port), first.map(|(rule, _)| rule));
                }
            }
        }
    }
}
