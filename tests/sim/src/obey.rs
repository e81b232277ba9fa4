//! How a machine's agent follows the controller: what node/src/control does, around the shipped session.

use std::time::Duration;

use ringfence_control::saved::Peers;
use ringfence_control::{Netmap, NodeAction, ToController, ToNode};

use crate::files::WRITE_STEPS;
use crate::oracle::View;
use crate::sabotage::{self, Safeguard};
use crate::violation::Violation;
use crate::world::World;

impl World {
    /// The controller's word arrives at a machine.
    pub(crate) fn hear_controller(&mut self, machine: usize, message: ToNode) -> Result<(), Violation> {
        let now = self.now;
        if let ToNode::Welcome(welcome) = &message {
            self.agent(machine).controller_clock = Some((now, welcome.wall));
        }
        if let Err(error) = self.agent(machine).session.handle_message(message) {
            return Err(Violation::new("protocol", format!("m{machine}: {error}")).of(machine));
        }
        while let Some(action) = self.machines[machine]
            .agent
            .as_mut()
            .and_then(|agent| agent.session.poll_action())
        {
            self.act(machine, action)?;
        }
        Ok(())
    }

    fn act(&mut self, machine: usize, action: NodeAction) -> Result<(), Violation> {
        let now = self.instant();
        match action {
            NodeAction::Send(message) => self.tell(machine, &message),
            NodeAction::Enforce(netmap) => self.enforce(machine, &netmap)?,
            NodeAction::ExtendLeases => {
                self.check_lease(machine)?;
                self.agent(machine).dataplane.handle_lease(now);
                self.oracle.leased(machine, self.now);
                self.drain(machine)?;
                self.save_word(machine, false);
            }
            NodeAction::SetCandidates(told) => {
                let agent = self.agent(machine);
                let peer = told.peer;
                agent
                    .dataplane
                    .handle_peer_candidates(peer, &told.candidates, now);
                agent.dataplane.handle_peer_epoch(peer, told.epoch, now);
                agent.candidates.insert(peer, told.candidates);
                let all = Peers {
                    candidates: agent.candidates.clone(),
                    ..Peers::default()
                };
                self.machines[machine].disk.save_peers(&all);
                self.drain(machine)?;
            }
            NodeAction::Leave { .. } => self.leave(machine)?,
            NodeAction::Refused { reason } => self.say(format!("m{machine} is refused: {reason}")),
            NodeAction::StoreCertificate { chain_pem } => self.store_certificate(machine, &chain_pem)?,
            NodeAction::OfferFlowRecords => self.offer_records(machine),
            NodeAction::ForgetFlowRecords(taken) => self.forget_records(machine, taken)?,
            NodeAction::Probe(_)
            | NodeAction::Drill(_)
            | NodeAction::AnswerSeen(_)
            | NodeAction::WatchPosture(_)
            | NodeAction::OfferTpm
            | NodeAction::AnswerTpm(_)
            | NodeAction::TellLogin(_) => {}
        }
        Ok(())
    }

    /// A lease counts for the newest word alone: the controller says so only to whom it has told all.
    fn check_lease(&mut self, machine: usize) -> Result<(), Violation> {
        let agent = self.agent(machine);
        let (session, dataplane) = (agent.session.revision(), agent.dataplane.revision());
        if session == dataplane {
            return Ok(());
        }
        let what = format!("m{machine}: the session stands on {session:?}, the data plane on {dataplane:?}");
        Err(Violation::new("lease", what).of(machine))
    }

    fn tell(&mut self, machine: usize, message: &ToController) {
        if let Some(link) = self.agent(machine).link {
            self.tell_controller(link, message);
        }
    }

    /// Enforce, write down, acknowledge; it may die between any two of these.
    fn enforce(&mut self, machine: usize, netmap: &Netmap) -> Result<(), Violation> {
        let (revision, now) = (netmap.revision, self.instant());
        let before = self.agent(machine).dataplane.revision();
        let early = sabotage::is_off(Safeguard::AcknowledgementOrder);
        if early {
            self.acknowledge(machine, netmap);
        }
        if let Err(error) = self.agent(machine).dataplane.handle_netmap(netmap.clone(), now) {
            let what = format!("m{machine} does not take {revision}: {error}");
            return Err(Violation::new("netmap", what).of(machine));
        }
        if before > Some(revision) {
            let what = format!("m{machine} went back from {before:?} to {revision}");
            return Err(Violation::new("upwards", what).of(machine));
        }
        let identity = self.machines[machine].disk.identity.as_ref();
        if identity.is_none_or(|identity| identity.node != netmap.node) {
            let what = format!("m{machine} took the netmap of node {}", netmap.node);
            return Err(Violation::new("netmap", what).of(machine));
        }
        self.oracle.enforced(
            machine,
            View {
                node: netmap.node,
                revision,
                wall_ms: netmap.issued_at.0,
                since: self.now,
                word_us: self.now.as_micros().cast_signed(),
            },
        );
        self.say(format!("m{machine} enforces {revision}"));
        self.oracle.check_netmap(machine, netmap)?;
        self.drain(machine)?;
        self.check_peers(machine, netmap)?;
        if self.dies(machine, "before it writes its netmap down") {
            return Ok(());
        }
        if !self.write_netmap(machine, netmap) || self.dies(machine, "before it acknowledges") {
            return Ok(());
        }
        let agent = self.agent(machine);
        agent.unregistered.retain(|perimeter, key| {
            netmap
                .segments
                .get(perimeter)
                .is_some_and(|segment| segment.public_key != Some(*key))
        });
        if !early {
            self.acknowledge(machine, netmap);
        }
        Ok(())
    }

    /// Writes a netmap and the controller's word down. Gives whether the process lives to tell.
    fn write_netmap(&mut self, machine: usize, netmap: &Netmap) -> bool {
        let steps = self.steps(1.0);
        let (is_full, lies) = (
            self.dice.chance(self.swarm.faults.disk_full),
            self.dice.chance(self.swarm.faults.disk_lies),
        );
        let disk = &mut self.machines[machine].disk;
        disk.lie(lies);
        if is_full {
            disk.drop_netmap(steps);
        } else {
            disk.save_netmap(netmap, steps);
        }
        if steps < WRITE_STEPS {
            self.crash(machine, "while it writes its netmap down");
            return false;
        }
        if self.dies(machine, "before it writes the controller's word down") {
            return false;
        }
        self.save_word(machine, true);
        if self.machines[machine].agent.is_none() {
            return false;
        }
        self.machines[machine].disk.retain_keys(netmap);
        true
    }

    fn acknowledge(&mut self, machine: usize, netmap: &Netmap) {
        self.agent(machine).session.handle_enforced(netmap.revision, 1);
        let newest = self
            .acked
            .entry((machine, netmap.node))
            .or_insert(netmap.revision);
        *newest = netmap.revision.max(*newest);
    }

    fn dies(&mut self, machine: usize, why: &str) -> bool {
        let dies = self.dice.chance(self.swarm.faults.crash_at_step);
        if dies {
            self.crash(machine, why);
        }
        dies
    }

    /// Nobody is left in the data plane whom the netmap omits.
    fn check_peers(&mut self, machine: usize, netmap: &Netmap) -> Result<(), Violation> {
        let now = self.instant();
        for segment in self.agent(machine).dataplane.status(now) {
            let wanted = netmap.segments.get(&segment.perimeter);
            for peer in &segment.peers {
                let known = wanted.and_then(|map| map.peers.get(&peer.id));
                if known.is_none_or(|map| map.public_key != peer.public_key) {
                    let what = format!(
                        "m{machine} at {} keeps peer {} of {}",
                        netmap.revision, peer.id, segment.perimeter
                    );
                    return Err(Violation::new("revocation", what).of(machine));
                }
            }
        }
        Ok(())
    }

    /// Removed from the mesh: everything closes, and the machine is nobody.
    pub(crate) fn leave(&mut self, machine: usize) -> Result<(), Violation> {
        let now = self.instant();
        self.say(format!("m{machine} leaves the mesh"));
        if let Some(mut netmap) = self.agent(machine).session.netmap().cloned() {
            netmap.segments.clear();
            if let Err(error) = self.agent(machine).dataplane.handle_netmap(netmap, now) {
                return Err(Violation::new("leave", format!("m{machine}: {error}")).of(machine));
            }
            self.drain(machine)?;
        }
        let boot = self.agent(machine).boot;
        self.machines[machine].agent = None;
        self.machines[machine].disk = crate::disk::Disk::default();
        self.oracle.forget(machine);
        self.apps.forget(machine);
        let mine = |link: &crate::link::Link| link.machine == machine && link.boot == boot;
        self.drop_ends(crate::link::End::Node, mine);
        Ok(())
    }

    /// A word of the controller comes once more, older than what is in force or for someone else: it changes nothing.
    pub(crate) fn stale_word(&mut self) -> Result<(), Violation> {
        let machine = self.dice.place(self.machines.len());
        let Some(agent) = self.machines[machine].agent.as_ref() else {
            return Ok(());
        };
        let (Some(in_force), true) = (agent.session.revision(), agent.link.is_some()) else {
            return Ok(());
        };
        let node = agent.session.netmap().map(|netmap| netmap.node);
        let old: Vec<Netmap> = self
            .words
            .iter()
            .filter(|netmap| Some(netmap.node) != node || netmap.revision < in_force)
            .cloned()
            .collect();
        if old.is_empty() || self.machines[machine].stalled_until > self.now {
            return Ok(());
        }
        let netmap = old[self.dice.place(old.len())].clone();
        self.say(format!(
            "m{machine} hears {} for node {} once more",
            netmap.revision, netmap.node
        ));
        self.hear_controller(machine, ToNode::Full(netmap))
    }
}

/// Full netmaps kept to be said again.
pub(crate) const WORDS_MAX: usize = 64;

/// How long a datagram, a stalled machine or a retransmission may hold up the controller's word.
pub(crate) const SLACK: Duration = Duration::from_secs(40);
