//! What lies between the hosts: bridges and their ports, who is cut off from whom, what is lost.
//!
//! **Invariant:** the switch's rules are always made whole from this state, never edited in place.

use std::{
    collections::{BTreeMap, BTreeSet},
    fmt::Write,
};

use anyhow::{Result, ensure};

use crate::lab::Lab;

/// An Ethernet segment.
#[derive(Clone)]
pub struct Network {
    lab: Lab,
    name: String,
}

/// A share of packets, 0 to 100.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Percent(pub u8);

impl Network {
    pub(crate) fn new(lab: Lab, name: &str) -> Self {
        Self {
            lab,
            name: name.to_owned(),
        }
    }

    /// The name it was made with.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// Loses this share of all IP packets on the network, at random.
    ///
    /// # Errors
    /// When the rules cannot be loaded.
    pub fn set_loss(&self, loss: Percent) -> Result<()> {
        self.lab.fabric().network_loss.insert(self.name.clone(), loss);
        self.lab.apply_fabric()
    }
}

impl Percent {
    /// What a rule does with this share of packets; `None` leaves them all alone.
    fn verdict(self) -> Option<String> {
        match self.0 {
            0 => None,
            share @ 1..100 => Some(format!("numgen random mod 100 < {share} drop")),
            100.. => Some("drop".to_owned()),
        }
    }
}

#[derive(Default)]
pub(crate) struct Fabric {
    networks: Vec<String>,
    ports: Vec<Port>,
    cuts: BTreeSet<(String, String)>,
    network_loss: BTreeMap<String, Percent>,
    host_loss: BTreeMap<String, Percent>,
}

struct Port {
    name: String,
    host: String,
    network: String,
}

impl Fabric {
    /// Notes a new network and gives the name of its bridge.
    pub(crate) fn add_network(&mut self, name: &str) -> Result<String> {
        ensure!(
            !self.networks.iter().any(|n| n == name),
            "the lab has a network {name} already"
        );
        self.networks.push(name.to_owned());
        Ok(self.bridge(name))
    }

    /// Notes a new port for a host and gives its name. Interface names end at 15 bytes, so ports are numbered.
    pub(crate) fn add_port(&mut self, host: &str, network: &str) -> String {
        let name = format!("port{}", self.ports.len());
        self.ports.push(Port {
            name: name.clone(),
            host: host.to_owned(),
            network: network.to_owned(),
        });
        name
    }

    pub(crate) fn bridge(&self, network: &str) -> String {
        let number = self.networks.iter().position(|n| n == network);
        format!("br{}", number.expect("networks are only made by add_network"))
    }

    pub(crate) fn cut(&mut self, a: &str, b: &str) -> Result<()> {
        let shared = self.pairs(a, b).next().is_some();
        ensure!(
            shared,
            "{a} and {b} share no network, so there is nothing between them to cut"
        );
        self.cuts.insert((a.to_owned(), b.to_owned()));
        Ok(())
    }

    pub(crate) fn heal(&mut self, a: &str, b: &str) {
        self.cuts.retain(|(x, y)| {
            (x, y) != (&a.to_owned(), &b.to_owned()) && (y, x) != (&a.to_owned(), &b.to_owned())
        });
    }

    pub(crate) fn set_host_loss(&mut self, host: &str, loss: Percent) {
        self.host_loss.insert(host.to_owned(), loss);
    }

    /// The switch's whole rule set. Neighbour discovery and ARP always pass: what is cut shall be silent, and a sender
    /// without a neighbour's address would be told `EHOSTUNREACH` at once.
    pub(crate) fn ruleset(&self) -> String {
        let mut rules = String::new();
        for (a, b) in &self.cuts {
            for (from, to) in self.pairs(a, b).chain(self.pairs(b, a)) {
                let _ = writeln!(rules, "iifname {from} oifname {to} drop");
            }
        }
        for port in &self.ports {
            if let Some(drop) = self
                .network_loss
                .get(&port.network)
                .and_then(|loss| loss.verdict())
            {
                let _ = writeln!(rules, "iifname {} {drop}", port.name);
            }
            if let Some(drop) = self.host_loss.get(&port.host).and_then(|loss| loss.verdict()) {
                let _ = writeln!(
                    rules,
                    "iifname {} {drop}\noifname {} {drop}",
                    port.name, port.name
                );
            }
        }
        format!(
            "table bridge lab\ndelete table bridge lab\ntable bridge lab {{\nchain forward {{\n\
             type filter hook forward priority 0;\n\
             ether type != {{ ip, ip6 }} accept\n\
             icmpv6 type {{ nd-neighbor-solicit, nd-neighbor-advert }} accept\n\
             {rules}}}\n}}\n"
        )
    }

    /// Ports of `a` and `b` on each network that they share.
    fn pairs<'a>(&'a self, a: &'a str, b: &'a str) -> impl Iterator<Item = (&'a str, &'a str)> {
        let of = |host: &'a str| self.ports.iter().filter(move |port| port.host == host);
        of(a).flat_map(move |x| {
            of(b)
                .filter(move |y| y.network == x.network)
                .map(move |y| (x.name.as_str(), y.name.as_str()))
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn two_on_one_network() -> Fabric {
        let mut fabric = Fabric::default();
        fabric.add_network("lan").unwrap();
        fabric.add_port("a", "lan");
        fabric.add_port("b", "lan");
        fabric
    }

    #[test]
    fn a_cut_drops_both_ways_and_heals_in_either_order() {
        let mut fabric = two_on_one_network();

        fabric.cut("a", "b").unwrap();
        let cut = fabric.ruleset();
        fabric.heal("b", "a");

        assert!(cut.contains("iifname port0 oifname port1 drop"), "{cut}");
        assert!(cut.contains("iifname port1 oifname port0 drop"), "{cut}");
        assert!(!fabric.ruleset().contains("drop"));
    }

    #[test]
    fn hosts_without_a_common_network_cannot_be_cut() {
        let mut fabric = two_on_one_network();
        fabric.add_network("wan").unwrap();
        fabric.add_port("c", "wan");

        assert!(fabric.cut("a", "c").is_err());
    }
}
