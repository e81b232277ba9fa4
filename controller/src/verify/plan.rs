//! What `verify` tries: every pair of connected nodes, every service the policy names and one it does not, both IP
//! families, and an outsider's handshake with every member.

use std::collections::{BTreeMap, BTreeSet};
use std::net::{IpAddr, SocketAddr};

use ringfence_control::api::{MemberView, Verdict};
use ringfence_control::{PeerKind, Probe};
use ringfence_controlplane::{Controller, Seen};
use ringfence_model::{Name, NodeId, Revision};
use ringfence_policy::{Compiled, Service};

/// Everything to try, and what cannot be.
pub(super) struct Plan {
    pub(super) revision: Revision,
    pub(super) attempts: Vec<Attempt>,
    pub(super) unmeasured: Vec<String>,
    names: BTreeMap<NodeId, Name>,
}

/// One thing to try.
pub(super) struct Attempt {
    pub(super) from: NodeId,
    pub(super) to: NodeId,
    pub(super) outsider: bool,
    pub(super) service: String,
    pub(super) expected: Verdict,
    pub(super) probe: Probe,
}

/// A protocol and port to try.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum Target {
    Tcp(u16),
    Udp(u16),
    Icmp,
}

impl Plan {
    pub(super) fn of(controller: &Controller, seen: Seen<'_>, perimeter: &Name) -> Option<Self> {
        let detail = seen.perimeter_detail(perimeter)?;
        let compiled = controller.compiled(perimeter)?;
        let mut plan = Self {
            revision: controller.revision(),
            attempts: Vec::new(),
            unmeasured: Vec::new(),
            names: controller
                .nodes()
                .map(|node| (node.id, seen.name_of(node.id).cloned().unwrap_or_else(somebody)))
                .collect(),
        };
        let members = plan.reachable(controller, &detail.members);
        let targets = targets(compiled);
        let mut pairs_left_out = 0;
        for from in &members {
            if plan.attempts.len() >= ATTEMPTS_MAX {
                pairs_left_out += members.len() - 1;
                continue;
            }
            for to in members.iter().filter(|to| to.id != from.id) {
                for target in &targets {
                    plan.try_flow(compiled, from, to, *target);
                }
            }
        }
        if pairs_left_out > 0 {
            plan.unmeasured.push(format!(
                "{pairs_left_out} pairs: one measurement tries about {ATTEMPTS_MAX} flows"
            ));
        }
        plan.try_outsider(controller, &detail.members);
        Some(plan)
    }

    /// The members that can be asked; why the others cannot.
    fn reachable<'a>(&mut self, controller: &Controller, members: &'a [MemberView]) -> Vec<&'a MemberView> {
        let connected: BTreeSet<NodeId> = controller.connected_nodes().collect();
        let mut reachable = Vec::new();
        for member in members {
            match member.kind {
                PeerKind::Device => {}
                PeerKind::Node if !connected.contains(&member.id) => {
                    self.unmeasured.push(format!("{} is not connected", member.name));
                }
                PeerKind::Node if member.public_key.is_none() => {
                    self.unmeasured
                        .push(format!("{} has no key here yet", member.name));
                }
                PeerKind::Node => reachable.push(member),
            }
        }
        reachable
    }

    fn try_flow(&mut self, compiled: &Compiled, from: &MemberView, to: &MemberView, target: Target) {
        let (protocol, port) = target.protocol_and_port();
        let allowed = compiled.verdict(from.id, to.id, protocol, port).is_some();
        for address in &to.addresses {
            let dst = SocketAddr::new(*address, port);
            self.attempts.push(Attempt {
                from: from.id,
                to: to.id,
                outsider: false,
                service: target.to_string(),
                expected: if allowed { Verdict::Allow } else { Verdict::Deny },
                probe: match target {
                    Target::Tcp(_) => Probe::TcpConnect { dst },
                    Target::Udp(_) => Probe::UdpSend { dst },
                    Target::Icmp => Probe::Ping { dst: *address },
                },
            });
        }
    }

    /// Somebody whose key nobody knows tries to shake hands with each member. A connected node from outside tries if
    /// there is one; else the first member does, with a key and a socket that have nothing to do with its own.
    fn try_outsider(&mut self, controller: &Controller, members: &[MemberView]) {
        let inside: BTreeSet<NodeId> = members.iter().map(|member| member.id).collect();
        let outside = controller.connected_nodes().find(|node| !inside.contains(node));
        let Some(outsider) = outside.or_else(|| controller.connected_nodes().next()) else {
            return;
        };
        for member in members.iter().filter(|member| member.id != outsider) {
            let candidates = controller
                .presence(member.id)
                .map(|presence| presence.candidates.clone());
            let candidates = candidates.unwrap_or_default();
            let endpoints: Vec<SocketAddr> = candidates.iter().map(|candidate| candidate.address).collect();
            let (Some(public_key), false) = (member.public_key, endpoints.is_empty()) else {
                continue;
            };
            self.attempts.push(Attempt {
                from: outsider,
                to: member.id,
                outsider: true,
                service: "handshake".to_owned(),
                expected: Verdict::Deny,
                probe: Probe::Handshake {
                    public_key,
                    endpoints,
                },
            });
        }
    }

    pub(super) fn name(&self, node: NodeId) -> Name {
        // A plan names only nodes there were when it was made.
        self.names.get(&node).cloned().unwrap_or_else(|| unknown(node))
    }
}

impl Attempt {
    /// The protocol number and destination of its flow; none for a handshake.
    pub(super) fn flow(&self) -> Option<(u8, SocketAddr)> {
        match &self.probe {
            Probe::TcpConnect { dst } => Some((6, *dst)),
            Probe::UdpSend { dst } => Some((17, *dst)),
            Probe::Ping { dst: IpAddr::V4(dst) } => Some((1, SocketAddr::from((*dst, 0)))),
            Probe::Ping { dst: IpAddr::V6(dst) } => Some((58, SocketAddr::from((*dst, 0)))),
            Probe::Handshake { .. } => None,
        }
    }

    /// Which IP family it is about, for people.
    pub(super) fn family_prefix(&self) -> &'static str {
        match self.flow() {
            Some((_, SocketAddr::V4(_))) => "IPv4: ",
            Some((_, SocketAddr::V6(_))) => "IPv6: ",
            None => "",
        }
    }
}

impl Target {
    fn protocol_and_port(self) -> (ringfence_packet::Protocol, u16) {
        match self {
            Self::Tcp(port) => (ringfence_packet::Protocol::TCP, port),
            Self::Udp(port) => (ringfence_packet::Protocol::UDP, port),
            Self::Icmp => (ringfence_packet::Protocol::ICMP, 0),
        }
    }
}

impl std::fmt::Display for Target {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Tcp(port) => write!(f, "tcp/{port}"),
            Self::Udp(port) => write!(f, "udp/{port}"),
            Self::Icmp => f.write_str("icmp"),
        }
    }
}

/// Both ends of every range that a live rule names, echo, and a port of each protocol that may well be named nowhere.
fn targets(compiled: &Compiled) -> BTreeSet<Target> {
    let mut targets = BTreeSet::from([Target::Icmp, Target::Tcp(UNNAMED_PORT), Target::Udp(UNNAMED_PORT)]);
    for service in compiled.rules.iter().flat_map(|rule| &rule.services) {
        match service {
            Service::Tcp(ports) => targets.extend([Target::Tcp(ports.first()), Target::Tcp(ports.last())]),
            Service::Udp(ports) => targets.extend([Target::Udp(ports.first()), Target::Udp(ports.last())]),
            Service::Icmp | Service::Any => {}
        }
    }
    targets
}

/// Whoever is outside is nobody that an owner may know by name.
fn somebody() -> Name {
    Name::parse("outsider").expect("letters are a name")
}

fn unknown(node: NodeId) -> Name {
    Name::parse(&node.to_string()).expect("hex digits are a name")
}

/// Flows one measurement tries, give or take those of one node: what a thousand members have would hold up the core,
/// and the network, for minutes.
const ATTEMPTS_MAX: usize = 20_000;
/// The discard port (RFC 863): nobody listens there.
const UNNAMED_PORT: u16 = 9;
