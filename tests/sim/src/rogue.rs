//! A member that has turned bad: it holds the keys of its segments and runs WireGuard without any of our checks.

use std::net::{IpAddr, SocketAddr};

use ringfence_model::{Name, NodeId, OverlayAddresses};
use ringfence_packet::{
    Flow, Protocol, TcpFlags, TcpSegment, administratively_prohibited_flow, echo_reply, echo_request,
    tcp_segment, udp_datagram,
};
use ringfence_wg::{Destination, PeerSlot, WireGuard};

use crate::apps::{fragment, fragments};
use crate::inspect::{Tuple, reversed};
use crate::link::End;
use crate::workload::PORTS;
use crate::world::World;

/// What runs on the machine.
pub(crate) struct Rogue {
    /// Who it was.
    pub node: NodeId,
    wireguard: WireGuard,
    /// Who knows it.
    pub peers: Vec<Victim>,
    /// Own addresses, by perimeter.
    pub addresses: Vec<(Name, OverlayAddresses)>,
}

/// A peer of a member that turned bad.
#[derive(Clone)]
pub(crate) struct Victim {
    /// In this perimeter.
    pub perimeter: Name,
    /// Where it runs.
    pub machine: usize,
    slot: PeerSlot,
    /// What it is called there.
    pub addresses: OverlayAddresses,
}

impl World {
    /// A machine that is a member somewhere turns bad.
    pub(crate) fn turn_rogue(&mut self, machine: usize) {
        let now = self.instant();
        let Some(netmap) = self.machines[machine]
            .agent
            .as_ref()
            .and_then(|agent| agent.session.netmap().cloned())
        else {
            return;
        };
        let mut rogue = Rogue {
            node: netmap.node,
            wireguard: WireGuard::new(self.dice.bytes()),
            peers: Vec::new(),
            addresses: Vec::new(),
        };
        let keys = self.machines[machine].disk.keys();
        for (perimeter, segment) in &netmap.segments {
            let Some((_, key)) = keys.iter().find(|(name, _)| name == perimeter) else {
                continue;
            };
            let Ok(handle) = rogue.wireguard.add_segment(key) else {
                continue;
            };
            rogue.addresses.push((perimeter.clone(), segment.addresses));
            for (node, peer) in &segment.peers {
                let (Some(place), Ok(slot)) = (
                    self.machine_of(*node),
                    rogue.wireguard.add_peer(handle, peer.public_key, None, now),
                ) else {
                    continue;
                };
                rogue.peers.push(Victim {
                    perimeter: perimeter.clone(),
                    machine: place,
                    slot,
                    addresses: peer.addresses,
                });
            }
        }
        if rogue.peers.is_empty() {
            return;
        }
        self.say(format!("m{machine} turns bad, with {} peers", rogue.peers.len()));
        let boot = self.machines[machine].boot;
        self.machines[machine].agent = None;
        self.machines[machine].rogue = Some(rogue);
        self.oracle.forget(machine);
        self.apps.forget(machine);
        self.drop_ends(End::Node, |link| link.machine == machine && link.boot == boot);
    }

    /// The machine of a node.
    pub(crate) fn machine_of(&self, node: NodeId) -> Option<usize> {
        let has = |place: &crate::machine::Machine| {
            place
                .disk
                .identity
                .as_ref()
                .is_some_and(|identity| identity.node == node)
        };
        self.machines.iter().position(has)
    }

    pub(crate) fn rogue_receives(&mut self, machine: usize, src: SocketAddr, bytes: &[u8]) {
        let now = self.instant();
        let Some(rogue) = self.machines[machine].rogue.as_mut() else {
            return;
        };
        let mut buffer = vec![0; bytes.len()];
        // Whatever it makes of it: only its answers matter.
        let _ = rogue.wireguard.open(src, bytes, &mut buffer, now);
        self.flush_rogue(machine);
    }

    fn flush_rogue(&mut self, machine: usize) {
        while let Some(rogue) = self.machines[machine].rogue.as_mut() {
            let Some(transmit) = rogue.wireguard.poll_transmit() else {
                while rogue.wireguard.poll_event().is_some() {}
                return;
            };
            let victim = rogue
                .peers
                .iter()
                .find(|victim| Some(victim.slot) == transmit.slot)
                .map(|victim| victim.machine);
            let dst = match (transmit.to, victim) {
                (Destination::Address(address), _) => address,
                (Destination::Peer, Some(victim)) => self.network.host_address(victim),
                (Destination::Peer, None) => continue,
            };
            self.carry(machine, dst, &transmit.datagram);
        }
    }

    /// One attack by a member that has turned bad.
    pub(crate) fn rogue_acts(&mut self) {
        let rogues: Vec<usize> = (0..self.machines.len())
            .filter(|place| self.machines[*place].rogue.is_some())
            .collect();
        if rogues.is_empty() {
            return;
        }
        let machine = self.dice.pick(&rogues);
        let now = self.instant();
        let Some(rogue) = self.machines[machine].rogue.as_mut() else {
            return;
        };
        rogue.wireguard.handle_timeout(now);
        let victim = rogue.peers[self.dice.place(rogue.peers.len())].clone();
        for packet in self.craft(machine, &victim) {
            if let Some(datagram) = self.seal_as(machine, &victim, &packet) {
                self.stats.attacks += 1;
                let dst = self.network.host_address(victim.machine);
                self.carry(machine, dst, &datagram);
            } else {
                self.reach_out(machine, &victim);
            }
        }
        self.flush_rogue(machine);
    }

    /// Seals what a bad member sends. `None` without a session.
    pub(crate) fn seal_as(&mut self, machine: usize, victim: &Victim, packet: &[u8]) -> Option<Vec<u8>> {
        let now = self.instant();
        let rogue = self.machines[machine].rogue.as_mut()?;
        let mut datagram = Vec::new();
        rogue
            .wireguard
            .seal(victim.slot, packet, &mut datagram, now)
            .ok()?;
        self.oracle.sent(rogue.node, &victim.perimeter, packet);
        Some(datagram)
    }

    /// Whether a bad member has a session with one of its peers.
    pub(crate) fn has_session(&self, machine: usize, victim: &Victim) -> bool {
        let rogue = self.machines[machine].rogue.as_ref();
        rogue.is_some_and(|rogue| rogue.wireguard.has_session(victim.slot))
    }

    /// A bad member asks for a session.
    pub(crate) fn reach_out(&mut self, machine: usize, victim: &Victim) {
        let now = self.instant();
        if let Some(rogue) = self.machines[machine].rogue.as_mut() {
            rogue.wireguard.start_handshake(victim.slot, now);
        }
        self.flush_rogue(machine);
    }

    /// Packets that someone with a key may try.
    fn craft(&mut self, machine: usize, victim: &Victim) -> Vec<Vec<u8>> {
        let Some(rogue) = self.machines[machine].rogue.as_ref() else {
            return Vec::new();
        };
        let v6 = self.dice.chance(0.3);
        let of = |addresses: OverlayAddresses| addresses.both()[usize::from(v6)];
        let own = rogue.addresses.iter().find(|(name, _)| *name == victim.perimeter);
        let Some(own) = own.map(|(_, addresses)| of(*addresses)) else {
            return Vec::new();
        };
        let foreign: Vec<IpAddr> = self
            .current
            .addresses
            .values()
            .map(|addresses| of(*addresses))
            .collect();
        let victims = of(victim.addresses);
        let stranger = if foreign.is_empty() {
            own
        } else {
            self.dice.pick(&foreign)
        };
        let (port, high) = (self.dice.pick(&PORTS), 20_000 + self.dice.number(0..200) as u16);
        let protocol = self.dice.pick(&[6, 17]);
        let serial = self.dice.number(0..1 << 40);
        match self.dice.number(0..12) {
            0 => vec![opener((own, victims, protocol, high, port), serial)],
            1 => vec![opener((stranger, victims, protocol, high, port), serial)],
            2 => vec![opener((own, stranger, protocol, high, port), serial)],
            3 | 4 => self
                .turn_around(victim, own)
                .map(|tuple| opener(tuple, serial))
                .into_iter()
                .collect(),
            5 => {
                let flow = flow_of((victims, stranger, protocol, high, port));
                administratively_prohibited_flow(flow, own).into_iter().collect()
            }
            6 => {
                let flow = flow_of((stranger, victims, protocol, port, high));
                administratively_prohibited_flow(flow, own).into_iter().collect()
            }
            7 if !v6 => {
                let whole = udp_datagram(flow_of((own, victims, 17, high, port)), &[9; 64]);
                vec![fragment(&whole, &whole[28..52], serial as u16, 3)]
            }
            8 if !v6 => {
                let whole = udp_datagram(flow_of((own, victims, 17, high, port)), &[serial as u8; 400]);
                let mut pieces = fragments(&whole, serial as u16);
                pieces.push(fragment(&whole, &whole[28..60], serial as u16, 1));
                pieces
            }
            9 => echo_reply(&echo_request(victims, own, high, serial as u16, b"?"))
                .into_iter()
                .collect(),
            10 => vec![segment((own, victims, 6, high, port), serial, TcpFlags::ACK)],
            _ => vec![echo_request(
                own,
                victims,
                self.echo_of(victim, own).unwrap_or(high),
                serial as u16,
                &serial.to_be_bytes(),
            )],
        }
    }

    /// The way back of a conversation that the victim opened to this member: to open another one in its guise.
    fn turn_around(&mut self, victim: &Victim, own: IpAddr) -> Option<Tuple> {
        let known = self.apps.tuples(victim.machine, &victim.perimeter);
        let ours: Vec<Tuple> = known.into_iter().filter(|tuple| tuple.1 == own).collect();
        if ours.is_empty() {
            None
        } else {
            Some(reversed(self.dice.pick(&ours)))
        }
    }

    /// The identifier of an echo that the victim asks this member for: to ask one back in its guise.
    fn echo_of(&mut self, victim: &Victim, own: IpAddr) -> Option<u16> {
        let asked = self.apps.echoes(victim.machine, &victim.perimeter, own);
        (!asked.is_empty()).then(|| self.dice.pick(&asked))
    }

    /// Whether this address is of a member that turned bad, and whose rights a machine has seen end.
    pub(crate) fn must_be_silent_to(&self, machine: usize, dst: SocketAddr) -> bool {
        let Some(view) = self.oracle.view(machine) else {
            return false;
        };
        // Resets of its conversations leave as its rights end, in the same instant.
        if view.since == self.now {
            return false;
        }
        // The machine may have been someone else before, who is a peer again since a backup was restored.
        let peers = self.peers(machine);
        let agent = self.machines[machine].agent.as_ref();
        let told = agent
            .into_iter()
            .flat_map(|agent| &agent.candidates)
            .filter(|(peer, _)| peers.contains(peer));
        if told
            .flat_map(|(_, list)| list)
            .any(|candidate| candidate.address == dst)
        {
            return false;
        }
        let rogues = self
            .machines
            .iter()
            .enumerate()
            .filter_map(|(place, other)| Some((place, other.rogue.as_ref()?)));
        rogues
            .filter(|(place, _)| self.network.nat(*place).is_none())
            .any(|(place, rogue)| {
                let spec = self.oracle.spec(view.revision);
                let joined = spec
                    .perimeters
                    .keys()
                    .any(|name| spec.joins(name, view.node, rogue.node, 0));
                self.network.host_address(place) == dst && !joined
            })
    }
}

fn opener(tuple: Tuple, serial: u64) -> Vec<u8> {
    if tuple.2 == 6 {
        segment(tuple, serial, TcpFlags::SYN)
    } else {
        udp_datagram(flow_of(tuple), &serial.to_be_bytes())
    }
}

fn segment(tuple: Tuple, serial: u64, flags: TcpFlags) -> Vec<u8> {
    tcp_segment(&TcpSegment {
        flow: flow_of(tuple),
        seq: serial as u32,
        ack: (serial >> 8) as u32,
        flags,
        window: 1_000,
        payload: &[],
    })
}

fn flow_of(tuple: Tuple) -> Flow {
    Flow {
        src: tuple.0,
        dst: tuple.1,
        protocol: Protocol(tuple.2),
        src_port: tuple.3,
        dst_port: tuple.4,
    }
}
