//! Floods: thousands of datagrams at once, from nobody, in the guise of members, and by members.
//!
//! They fall on one machine in one instant, past the network, as an attacker next to it would have them. What must
//! hold: no table grows past its bound, no more handshakes are computed than there is a budget for, no other member
//! loses a conversation, and, in runs where floods go on to the end, members come together all the same.
//!
//! **Invariant:** floods draw from dice of their own: a run without any is as it would be without this file.

use std::net::{Ipv4Addr, SocketAddr};
use std::time::Duration;

use ringfence_dataplane::{Flow, Protocol, initiation_to};
use ringfence_model::{Name, NodeId, OverlayAddresses, PrivateKey};
use ringfence_packet::udp_datagram;

use crate::apps::{Call, fragment};
use crate::dice::Dice;
use crate::inspect::Tuple;
use crate::network::PORT;
use crate::rogue::Victim;
use crate::spec::Opening;
use crate::violation::Violation;
use crate::workload::PORTS;
use crate::world::{Phase, World};

/// When floods come.
pub(crate) struct Floods {
    dice: Dice,
    /// Between two of them; never in most runs.
    every: Option<Duration>,
    next: Duration,
    /// Whether they go on while the mesh must come together.
    persist: bool,
}

#[derive(Clone, Copy, Debug)]
enum Flood {
    /// Bytes of every length that begin like messages of WireGuard.
    Junk,
    /// Handshakes by an unknown key to a right one, from one address.
    OneSource,
    /// The same from thousands of forged addresses.
    ManySources,
    /// The same from the addresses of members.
    MembersGuise,
    /// A member opens more conversations than it may have.
    MembersFlows,
    /// A member begins more fragmented packets than it may, and one with more holes.
    MembersFragments,
    /// An honest application opens more conversations than a peer may have.
    Application,
}

impl Floods {
    /// Those of one run.
    pub(crate) fn draw(seed: u64) -> Self {
        let mut dice = Dice::new(seed, "flood");
        let every = dice.time(Duration::from_secs(5)..Duration::from_mins(1));
        Self {
            every: dice.chance(0.35).then_some(every),
            next: Duration::from_secs(10),
            persist: dice.chance(0.1),
            dice,
        }
    }
}

impl World {
    /// A flood, if it is time for one.
    pub(crate) fn flood(&mut self) -> Result<(), Violation> {
        let kinds: &[Flood] = match (self.phase, self.floods.every) {
            (Phase::Faults, Some(every)) if self.now >= self.floods.next => {
                self.floods.next = self.now + self.floods.dice.about(every);
                &[
                    Flood::Junk,
                    Flood::OneSource,
                    Flood::ManySources,
                    Flood::MembersGuise,
                    Flood::MembersFlows,
                    Flood::MembersFragments,
                    Flood::Application,
                ]
            }
            (Phase::Healing, _) if self.floods.persist => &[Flood::ManySources, Flood::MembersGuise],
            (Phase::Faults | Phase::Healing, _) => return Ok(()),
        };
        let kind = self.floods.dice.pick(kinds);
        let machine = self.floods.dice.place(self.machines.len());
        if !self.is_up(machine) {
            return Ok(());
        }
        self.say(format!("m{machine} is flooded: {kind:?}"));
        match kind {
            Flood::Junk => self.flood_with_junk(machine)?,
            Flood::OneSource => {
                let source = SocketAddr::from(([203, 0, 113, 99], 99));
                self.flood_with_handshakes(machine, HANDSHAKES / 2, |_, _| source)?;
            }
            Flood::ManySources => {
                self.flood_with_handshakes(machine, HANDSHAKES, |_, number| {
                    SocketAddr::from((Ipv4Addr::from(0xc612_0000 + number), PORT))
                })?;
            }
            Flood::MembersGuise => {
                let members = (0..self.machines.len()).map(|place| self.network.host_address(place));
                let members: Vec<SocketAddr> = members.collect();
                self.flood_with_handshakes(machine, HANDSHAKES / 2, move |dice, _| dice.pick(&members))?;
            }
            Flood::MembersFlows | Flood::MembersFragments => self.flood_by_member(kind)?,
            Flood::Application => self.flood_by_application(machine)?,
        }
        self.check_bounds()
    }

    fn is_up(&self, machine: usize) -> bool {
        let machine = &self.machines[machine];
        machine.agent.is_some() && machine.stalled_until <= self.now
    }

    /// Hands one datagram to a machine. Gives whether it cost a handshake with a key that turned out unknown.
    fn pour(&mut self, machine: usize, src: SocketAddr, datagram: &[u8]) -> Result<bool, Violation> {
        let now = self.instant();
        self.stats.attacks += 1;
        let result = self.agent(machine).dataplane.handle_datagram(src, datagram, now);
        let refused = result.err();
        if let Some(reason) = refused {
            self.stats.drop(reason);
        }
        self.drain(machine)?;
        Ok(refused.is_some_and(|reason| reason.as_str() == "unknown_key"))
    }

    fn flood_with_junk(&mut self, machine: usize) -> Result<(), Violation> {
        // Indices that are in use, as an eavesdropper sees them.
        let captured = self.network.captured.iter();
        let indices: Vec<[u8; 4]> = captured
            .filter_map(|(_, _, bytes)| bytes.get(4..8)?.try_into().ok())
            .collect();
        for number in 0..JUNK {
            let dice = &mut self.floods.dice;
            let kind = dice.number(0..6) as u8;
            let length = match kind {
                1 => 148,
                2 => 92,
                3 => 64,
                _ => dice.place(1_500),
            };
            let mut bytes: Vec<u8> = dice.bytes().into_iter().cycle().take(length).collect();
            if let Some(head) = bytes.first_chunk_mut() {
                *head = [kind, 0, 0, 0];
            }
            let index_at = if kind == 2 { 8 } else { 4 };
            if !indices.is_empty()
                && dice.chance(0.5)
                && let Some(index) = bytes.get_mut(index_at..index_at + 4)
            {
                index.copy_from_slice(&dice.pick(&indices));
            }
            let src = Ipv4Addr::from(0xc613_0000 + number);
            self.pour(machine, SocketAddr::from((src, PORT)), &bytes)?;
        }
        Ok(())
    }

    /// Handshakes by keys that nobody knows, as cheap for the attacker as can be: a few messages, again and again.
    fn flood_with_handshakes(
        &mut self,
        machine: usize,
        count: u32,
        source: impl Fn(&mut Dice, u32) -> SocketAddr,
    ) -> Result<(), Violation> {
        let node = self.machines[machine].disk.identity.as_ref().map(|own| own.node);
        let keys = self.current.keys.iter();
        let own = keys.filter(|((_, owner), _)| Some(*owner) == node);
        let own: Vec<_> = own.map(|(_, key)| *key).collect();
        let datagrams: Vec<Vec<u8>> = own
            .into_iter()
            .map(|key| initiation_to(&PrivateKey::from_random(self.floods.dice.bytes()), key))
            .collect();
        let mut computed = 0;
        for (number, datagram) in (0..count).zip(datagrams.iter().cycle()) {
            let src = source(&mut self.floods.dice, number);
            computed += u32::from(self.pour(machine, src, datagram)?);
        }
        if computed > COMPUTED_MAX {
            let what = format!("m{machine} computed {computed} handshakes with strangers at once");
            return Err(Violation::new("bounds", what).of(machine));
        }
        Ok(())
    }

    fn flood_by_member(&mut self, kind: Flood) -> Result<(), Violation> {
        let rogues = (0..self.machines.len()).filter(|place| self.machines[*place].rogue.is_some());
        let rogues: Vec<usize> = rogues.collect();
        if rogues.is_empty() {
            let machine = self.floods.dice.place(self.machines.len());
            self.turn_rogue(machine);
            return Ok(());
        }
        let rogue = self.floods.dice.pick(&rogues);
        for (victim, own, call) in self.openings_of(rogue) {
            if !self.has_session(rogue, &victim) {
                self.reach_out(rogue, &victim);
                continue;
            }
            self.say(format!("m{} is flooded by m{rogue}, a member", victim.machine));
            let before = self.conversations(victim.machine, own);
            let packets: Vec<Vec<u8>> = match kind {
                Flood::MembersFragments => too_many_fragments(call),
                _ => (1..=FLOWS).map(|port| opener(call, port)).collect(),
            };
            for packet in packets {
                let Some(datagram) = self.seal_as(rogue, &victim, &packet) else {
                    break;
                };
                let from = self.network.host_address(rogue);
                self.pour(victim.machine, from, &datagram)?;
            }
            self.check_conversations(victim.machine, &before)?;
            return self.check_bounds_of(victim.machine);
        }
        Ok(())
    }

    /// What a member may open by UDP, as those see it who would answer, with its own addresses there.
    fn openings_of(&self, rogue: usize) -> Vec<(Victim, OverlayAddresses, Call)> {
        let mut openings = Vec::new();
        let Some(member) = self.machines[rogue].rogue.as_ref() else {
            return openings;
        };
        for victim in &member.peers {
            let Some(view) = self
                .oracle
                .view(victim.machine)
                .filter(|_| self.is_up(victim.machine))
            else {
                continue;
            };
            let own = member
                .addresses
                .iter()
                .find(|(name, _)| *name == victim.perimeter);
            let spec = self.oracle.spec(view.revision);
            let port = PORTS.into_iter().find(|port| {
                let opening = Opening {
                    from: member.node,
                    to: view.node,
                    protocol: 17,
                    port: *port,
                };
                spec.allows(&victim.perimeter, opening, view.wall(self.now))
            });
            if let (Some((_, own)), Some(port)) = (own, port) {
                let call = Call {
                    src: own.v4.into(),
                    dst: victim.addresses.v4.into(),
                    protocol: 17,
                    port,
                };
                openings.push((victim.clone(), *own, call));
            }
        }
        openings
    }

    /// The TCP connections of a machine that its data plane knows, but for those with one member.
    fn conversations(&self, machine: usize, but: OverlayAddresses) -> Vec<(Name, Flow)> {
        let Some(agent) = self.machines[machine].agent.as_ref() else {
            return Vec::new();
        };
        let mut all = Vec::new();
        for perimeter in agent.devices.values() {
            let tuples = self.apps.tuples(machine, perimeter);
            let flows = tuples
                .into_iter()
                .filter(|tuple| !but.contains(tuple.1))
                .map(flow_of);
            let live = flows.filter(|flow| agent.dataplane.has_flow(perimeter, *flow));
            all.extend(live.map(|flow| (perimeter.clone(), flow)));
        }
        all
    }

    /// A member's flood costs no other member a conversation.
    fn check_conversations(&self, machine: usize, before: &[(Name, Flow)]) -> Result<(), Violation> {
        let Some(agent) = self.machines[machine].agent.as_ref() else {
            return Ok(());
        };
        let lost = before
            .iter()
            .find(|(perimeter, flow)| !agent.dataplane.has_flow(perimeter, *flow));
        let Some((perimeter, flow)) = lost else {
            return Ok(());
        };
        let what = format!("m{machine} gave up {flow:?} in {perimeter} for another member's flood");
        Err(Violation::new("bounds", what).of(machine))
    }

    fn flood_by_application(&mut self, machine: usize) -> Result<(), Violation> {
        let (boot, Some(view)) = (self.machines[machine].boot, self.oracle.view(machine).copied()) else {
            return Ok(());
        };
        let spec = self.oracle.spec(view.revision);
        let wall = view.wall(self.now);
        let allows = |perimeter: &Name, to: NodeId, port: u16| {
            let opening = Opening {
                from: view.node,
                to,
                protocol: 17,
                port,
            };
            spec.allows(perimeter, opening, wall)
        };
        let mut choices = spec.addresses.iter().filter_map(|((perimeter, to), dst)| {
            let port = PORTS.into_iter().find(|port| allows(perimeter, *to, *port))?;
            let src = spec.addresses.get(&(perimeter.clone(), view.node))?;
            let call = Call {
                src: src.v4.into(),
                dst: dst.v4.into(),
                protocol: 17,
                port,
            };
            Some((perimeter, call))
        });
        let Some((perimeter, call)) = choices.next() else {
            return Ok(());
        };
        for port in 1..=FLOWS {
            self.send(machine, boot, perimeter, &opener(call, port))?;
        }
        Ok(())
    }
}

/// A packet that begins a conversation, which no application answers.
fn opener(call: Call, src_port: u16) -> Vec<u8> {
    udp_datagram(
        flow_of((call.src, call.dst, call.protocol, src_port, call.port)),
        b"flood",
    )
}

/// Beginnings of packets that never end, then one packet that is more holes than bytes.
fn too_many_fragments(call: Call) -> Vec<Vec<u8>> {
    let whole = udp_datagram(
        flow_of((call.src, call.dst, call.protocol, 1, call.port)),
        &[7; 1_200],
    );
    let first = |id| fragment(&whole, &whole[20..44], id, 0x2000);
    let holes = (0..FRAGMENTS).map(|hole| fragment(&whole, &whole[44..52], 1, 0x2000 | (6 + 2 * hole)));
    (2..FRAGMENTS).chain([1]).map(first).chain(holes).collect()
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

/// Datagrams of one flood.
const JUNK: u32 = 4_000;
/// Handshakes of one flood: more sources than a node remembers.
const HANDSHAKES: u32 = 5_000;
/// Conversations of one flood: more than a peer may have.
const FLOWS: u16 = 4_200;
/// Fragmented packets of one flood, and holes in one.
const FRAGMENTS: u16 = 200;
/// Handshakes that a node computes at once for those it does not know.
const COMPUTED_MAX: u32 = 1_024;
