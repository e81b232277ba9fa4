//! What the administrators asked for, and a naive reading of it: the oracle's own idea of policy.
//!
//! Nothing here comes from the product: no compiler, no index, no rule ids. It is slow and plain, and that is its use.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Write as _;

use ringfence_model::{Name, NodeId, OverlayAddresses, PublicKey};

/// The mesh as one revision has it.
#[derive(Clone, Debug, Default)]
pub(crate) struct Spec {
    /// Labels of each node.
    pub nodes: BTreeMap<NodeId, BTreeMap<&'static str, &'static str>>,
    /// By name.
    pub perimeters: BTreeMap<Name, Perimeter>,
    /// Registered keys.
    pub keys: BTreeMap<(Name, NodeId), PublicKey>,
    /// Addresses, as the controller gave them out.
    pub addresses: BTreeMap<(Name, NodeId), OverlayAddresses>,
    /// Who has been silent for longer than the lease, and is not back.
    pub lapsed: BTreeSet<(Name, NodeId)>,
}

/// One perimeter's policy.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Perimeter {
    /// Its lease.
    pub lease_s: u64,
    /// Its groups: name, and the labels that all must hold.
    pub groups: Vec<(&'static str, Vec<(&'static str, &'static str)>)>,
    /// Its rules.
    pub allow: Vec<Allow>,
}

/// One allow rule.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Allow {
    /// Place of the group that opens.
    pub from: usize,
    /// Place of the group that is opened to.
    pub to: usize,
    /// What.
    pub services: Vec<Service>,
    /// Until when, in seconds since the epoch.
    pub expires_s: Option<u64>,
}

/// What a rule opens.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Service {
    /// TCP to these ports, both included.
    Tcp(u16, u16),
    /// UDP to these ports, both included.
    Udp(u16, u16),
    /// Echo.
    Icmp,
}

/// What opens a conversation.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Opening {
    /// Who.
    pub from: NodeId,
    /// To whom.
    pub to: NodeId,
    /// IANA number.
    pub protocol: u8,
    /// Destination port; nothing for ICMP.
    pub port: u16,
}

impl Spec {
    /// Whether this policy lets a conversation be opened at `wall_ms`.
    pub(crate) fn allows(&self, perimeter: &Name, opening: Opening, wall_ms: u64) -> bool {
        let Some(policy) = self.perimeters.get(perimeter) else {
            return false;
        };
        let live = policy
            .allow
            .iter()
            .filter(|rule| rule.expires_s.is_none_or(|at| wall_ms < at * 1000));
        opening.from != opening.to
            && self.are_heard_of(perimeter, opening.from, opening.to)
            && live
                .filter(|rule| {
                    self.is_in(policy, rule.from, opening.from) && self.is_in(policy, rule.to, opening.to)
                })
                .any(|rule| {
                    rule.services
                        .iter()
                        .any(|service| service.covers(opening.protocol, opening.port))
                })
    }

    /// Whether any rule joins the two, whichever opens.
    pub(crate) fn joins(&self, perimeter: &Name, one: NodeId, other: NodeId, wall_ms: u64) -> bool {
        let Some(policy) = self.perimeters.get(perimeter) else {
            return false;
        };
        let joins = |from, to| {
            policy.allow.iter().any(|rule| {
                rule.expires_s.is_none_or(|at| wall_ms < at * 1000)
                    && self.is_in(policy, rule.from, from)
                    && self.is_in(policy, rule.to, to)
            })
        };
        one != other && self.are_heard_of(perimeter, one, other) && (joins(one, other) || joins(other, one))
    }

    fn are_heard_of(&self, perimeter: &Name, one: NodeId, other: NodeId) -> bool {
        let mut both = [one, other].into_iter();
        self.lapsed.is_empty() || both.all(|node| !self.lapsed.contains(&(perimeter.clone(), node)))
    }

    /// The nodes with a seat in a perimeter: those in any of its groups.
    pub(crate) fn members(&self, perimeter: &Name) -> BTreeSet<NodeId> {
        let Some(policy) = self.perimeters.get(perimeter) else {
            return BTreeSet::new();
        };
        let nodes = self.nodes.keys().copied();
        nodes
            .filter(|node| (0..policy.groups.len()).any(|group| self.is_in(policy, group, *node)))
            .collect()
    }

    /// Whose address this is in a perimeter.
    pub(crate) fn owner(&self, perimeter: &Name, address: std::net::IpAddr) -> Option<NodeId> {
        let mut owners = self.addresses.iter().filter(|((name, _), _)| name == perimeter);
        owners
            .find(|(_, addresses)| addresses.contains(address))
            .map(|((_, node), _)| *node)
    }

    fn is_in(&self, policy: &Perimeter, group: usize, node: NodeId) -> bool {
        let Some(labels) = self.nodes.get(&node) else {
            return false;
        };
        policy.groups[group]
            .1
            .iter()
            .all(|(key, value)| labels.get(key) == Some(value))
    }
}

impl Service {
    /// Whether a conversation is part of it.
    pub(crate) fn covers(self, protocol: u8, port: u16) -> bool {
        match self {
            Self::Tcp(first, last) => protocol == 6 && (first..=last).contains(&port),
            Self::Udp(first, last) => protocol == 17 && (first..=last).contains(&port),
            Self::Icmp => protocol == 1 || protocol == 58,
        }
    }

    fn text(self) -> String {
        match self {
            Self::Tcp(first, last) if first == last => format!("tcp/{first}"),
            Self::Tcp(first, last) => format!("tcp/{first}-{last}"),
            Self::Udp(first, last) if first == last => format!("udp/{first}"),
            Self::Udp(first, last) => format!("udp/{first}-{last}"),
            Self::Icmp => "icmp".to_owned(),
        }
    }
}

impl Perimeter {
    /// The policy file that says so.
    pub(crate) fn text(&self, name: &Name) -> String {
        let mut text = format!(
            "[perimeter]\nname = \"{name}\"\nowners = [\"ops@example.com\"]\nlease = \"{}s\"\n\n[members]\n",
            self.lease_s
        );
        for (group, labels) in &self.groups {
            let pairs: Vec<String> = labels
                .iter()
                .map(|(key, value)| format!("{key}={value}"))
                .collect();
            let _ = writeln!(text, "{group} = {{ nodes = \"{}\" }}", pairs.join(", "));
        }
        for rule in &self.allow {
            let services: Vec<String> = rule
                .services
                .iter()
                .map(|service| format!("\"{}\"", service.text()))
                .collect();
            let (from, to) = (self.groups[rule.from].0, self.groups[rule.to].0);
            let _ = write!(
                text,
                "\n[[allow]]\nfrom = \"{from}\"\nto = \"{to}\"\nports = [{}]\n",
                services.join(", ")
            );
            if let Some(at) = rule.expires_s {
                let _ = writeln!(text, "expires = {}", rfc3339(at));
            }
        }
        text
    }
}

/// A time of day in UTC, by the civil-from-days algorithm (Hinnant).
fn rfc3339(seconds: u64) -> String {
    let (days, rest) = (seconds / 86_400 + 719_468, seconds % 86_400);
    let (era, day) = (days / 146_097, days % 146_097);
    let year = (day - day / 1_460 + day / 36_524 - day / 146_096) / 365;
    let day = day - (365 * year + year / 4 - year / 100);
    let month = (5 * day + 2) / 153;
    let date = day - (153 * month + 2) / 5 + 1;
    let month = if month < 10 { month + 3 } else { month - 9 };
    let year = year + era * 400 + u64::from(month <= 2);
    let (hour, minute, second) = (rest / 3_600, rest / 60 % 60, rest % 60);
    format!("{year:04}-{month:02}-{date:02}T{hour:02}:{minute:02}:{second:02}Z")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_are_written_as_people_read_them() {
        assert_eq!(rfc3339(1_800_000_000), "2027-01-15T08:00:00Z");
        assert_eq!(rfc3339(1_709_164_799), "2024-02-28T23:59:59Z");
    }
}
