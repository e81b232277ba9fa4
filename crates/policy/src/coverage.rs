//! What a set of services opens, whoever opens it: the form in which two openings can be compared.
//!
//! **Invariant:** ranges are sorted, apart and never touch, so equal openings are equal values.

use crate::service::{PortRange, Service};

/// A union of services.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Coverage {
    tcp: Ports,
    udp: Ports,
    icmp: bool,
}

/// Sorted ranges with a gap between each two.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
struct Ports(Vec<PortRange>);

impl Coverage {
    pub(crate) fn is_empty(&self) -> bool {
        *self == Self::default()
    }

    /// Whether the two may have something in common: a look at the ends of each, for whoever compares many.
    pub(crate) fn may_meet(&self, other: &Self) -> bool {
        self.tcp.may_meet(&other.tcp) || self.udp.may_meet(&other.udp) || (self.icmp && other.icmp)
    }

    /// What is in this and not in `other`.
    pub(crate) fn without(&self, other: &Self) -> Self {
        Self {
            tcp: self.tcp.without(&other.tcp),
            udp: self.udp.without(&other.udp),
            icmp: self.icmp && !other.icmp,
        }
    }

    /// What is in both.
    pub(crate) fn common(&self, other: &Self) -> Self {
        self.without(&self.without(other))
    }

    /// The fewest services that open just this.
    pub(crate) fn services(&self) -> Vec<Service> {
        if *self == Self::from_iter([Service::Any]) {
            return vec![Service::Any];
        }
        let tcp = self.tcp.0.iter().copied().map(Service::Tcp);
        let udp = self.udp.0.iter().copied().map(Service::Udp);
        let icmp = self.icmp.then_some(Service::Icmp);
        tcp.chain(udp).chain(icmp).collect()
    }
}

impl FromIterator<Service> for Coverage {
    fn from_iter<I: IntoIterator<Item = Service>>(services: I) -> Self {
        let (mut tcp, mut udp, mut icmp) = (Vec::new(), Vec::new(), false);
        for service in services {
            match service {
                Service::Tcp(ports) => tcp.push(ports),
                Service::Udp(ports) => udp.push(ports),
                Service::Icmp => icmp = true,
                Service::Any => {
                    tcp.push(PortRange::ALL);
                    udp.push(PortRange::ALL);
                    icmp = true;
                }
            }
        }
        Self {
            tcp: Ports::new(tcp),
            udp: Ports::new(udp),
            icmp,
        }
    }
}

impl Ports {
    fn new(mut ranges: Vec<PortRange>) -> Self {
        ranges.sort_unstable();
        let mut merged: Vec<PortRange> = Vec::with_capacity(ranges.len());
        for range in ranges {
            match merged
                .last_mut()
                .and_then(|last| last.joined(range).map(|both| (last, both)))
            {
                Some((last, both)) => *last = both,
                None => merged.push(range),
            }
        }
        Self(merged)
    }

    fn may_meet(&self, other: &Self) -> bool {
        let ends = |ports: &Self| Some((ports.0.first()?.first(), ports.0.last()?.last()));
        match (ends(self), ends(other)) {
            (Some((first, last)), Some((other_first, other_last))) => {
                first <= other_last && other_first <= last
            }
            (None, _) | (_, None) => false,
        }
    }

    /// One walk over both, so that comparing every rule with every other stays cheap.
    fn without(&self, other: &Self) -> Self {
        let mut rest = Vec::with_capacity(self.0.len());
        let mut holes = other.0.iter().copied().peekable();
        for &range in &self.0 {
            let mut left = Some(range);
            while let (Some(now), Some(&hole)) = (left, holes.peek()) {
                if hole.last() < now.first() {
                    holes.next();
                    continue;
                }
                if now.last() < hole.first() {
                    break;
                }
                let [below, above] = now.without(hole);
                rest.extend(below);
                left = above;
            }
            rest.extend(left);
        }
        Self(rest)
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use ringfence_packet::Protocol;

    use super::*;

    fn coverage(texts: &[&str]) -> Coverage {
        texts
            .iter()
            .map(|text| text.parse::<Service>().unwrap())
            .collect()
    }

    fn texts(coverage: &Coverage) -> Vec<String> {
        coverage.services().iter().map(ToString::to_string).collect()
    }

    #[test]
    fn ranges_that_touch_are_one() {
        let joined = coverage(&["tcp/10-20", "tcp/21-30", "tcp/5", "udp/1", "icmp", "tcp/15-18"]);

        assert_eq!(texts(&joined), ["tcp/5", "tcp/10-30", "udp/1", "icmp"]);
    }

    #[test]
    fn any_is_every_port_and_echo() {
        let sum = coverage(&["tcp/1-65535", "udp/1-65535", "icmp"]);

        assert_eq!(sum, coverage(&["any"]));
        assert_eq!(texts(&sum), ["any"]);
        let rest = sum.without(&coverage(&["tcp/22", "icmp"]));
        assert_eq!(texts(&rest), ["tcp/1-21", "tcp/23-65535", "udp/1-65535"]);
    }

    fn services() -> impl Strategy<Value = Vec<Service>> {
        let range =
            || (1..=12_u16, 1..=12_u16).prop_map(|(a, b)| PortRange::new(a.min(b), a.max(b)).unwrap());
        let one = prop_oneof![
            4 => range().prop_map(Service::Tcp),
            4 => range().prop_map(Service::Udp),
            1 => Just(Service::Icmp),
            1 => Just(Service::Any),
        ];
        prop::collection::vec(one, 0..6)
    }

    fn covers(services: &[Service], protocol: Protocol, port: u16) -> bool {
        services.iter().any(|service| service.covers(protocol, port))
    }

    proptest! {
        #[test]
        fn sum_difference_and_common_part_hold_for_every_port(ours in services(), theirs in services()) {
            let (a, b): (Coverage, Coverage) = (ours.iter().copied().collect(), theirs.iter().copied().collect());
            let (all, without, common) = (a.services(), a.without(&b).services(), a.common(&b).services());

            for protocol in [Protocol::TCP, Protocol::UDP, Protocol::ICMP] {
                for port in [1_u16, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, u16::MAX] {
                    let (in_a, in_b) = (covers(&ours, protocol, port), covers(&theirs, protocol, port));
                    prop_assert_eq!(covers(&all, protocol, port), in_a);
                    prop_assert_eq!(covers(&without, protocol, port), in_a && !in_b);
                    prop_assert_eq!(covers(&common, protocol, port), in_a && in_b);
                    prop_assert!(a.may_meet(&b) || !(in_a && in_b));
                }
            }
        }
    }
}
