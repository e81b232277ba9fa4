//! The second phase: nothing goes wrong any more, so the mesh must come together within a stated time.

use std::collections::BTreeMap;
use std::time::Duration;

use ringfence_model::{Name, NodeId};

use crate::apps::Call;
use crate::spec::{Opening, Service, Spec};
use crate::violation::Violation;
use crate::world::{Phase, World};

/// One question that must be answered.
struct Debt {
    from: usize,
    to: usize,
    perimeter: Name,
    call: Call,
    questions: Vec<u64>,
}

impl World {
    /// Ends every fault, then waits until every node enforces the newest revision and every pair talks.
    ///
    /// # Errors
    /// Whoever does not come round in time.
    pub(crate) fn prove_liveness(&mut self) -> Result<(), Violation> {
        self.heal()?;
        let deadline = self.now + CONVERGENCE_MAX;
        while let Some(laggard) = self.laggard() {
            if self.now >= deadline {
                return Err(Violation::new(
                    "convergence",
                    format!("{CONVERGENCE_MAX:?} after the last fault: {}", laggard.1),
                )
                .of(laggard.0));
            }
            self.run_until(self.now + Duration::from_millis(500))?;
        }
        let revision = self
            .controller
            .core
            .as_ref()
            .map(|core| core.controller.revision());
        self.say(format!("controller sees all nodes at {revision:?}"));
        self.collect_debts()
    }

    fn heal(&mut self) -> Result<(), Violation> {
        self.phase = Phase::Healing;
        self.say("controller and machines: every fault ends".to_owned());
        self.network.heal();
        self.swarm.faults.crash_at_step = 0.0;
        self.swarm.faults.log_full = 0.0;
        self.swarm.faults.disk_full = 0.0;
        self.swarm.faults.disk_lies = 0.0;
        for machine in &mut self.machines {
            machine.stalled_until = self.now;
        }
        // A certificate from a clock that was ahead counts only when its time has come.
        self.set_controller_clock(self.oracle.clock_ahead_ms());
        self.start_controller()?;
        while self.machines.iter().any(|machine| {
            machine
                .rogue
                .as_ref()
                .is_some_and(|rogue| self.current.nodes.contains_key(&rogue.node))
        }) {
            self.expel_rogue()?;
        }
        for machine in 0..self.machines.len() {
            self.start(machine)?;
        }
        Ok(())
    }

    /// Machines that are part of the mesh and run our agent.
    pub(crate) fn sound(&self) -> BTreeMap<NodeId, usize> {
        let mut sound = BTreeMap::new();
        for (place, machine) in self.machines.iter().enumerate() {
            let identity = machine.disk.identity.as_ref().filter(|_| machine.rogue.is_none());
            if let Some(identity) =
                identity.filter(|identity| self.current.nodes.contains_key(&identity.node))
            {
                sound.insert(identity.node, place);
            }
        }
        sound
    }

    /// Who does not enforce the newest word, or is not known to.
    fn laggard(&self) -> Option<(usize, String)> {
        let core = self.controller.core.as_ref()?;
        let newest = core.controller.revision();
        let receipt = core.controller.receipt(newest);
        for (node, place) in self.sound() {
            let Some(agent) = self.machines[place].agent.as_ref() else {
                return Some((place, format!("m{place} does not run")));
            };
            let wanted = core
                .controller
                .netmap(node, self.wall())
                .map(|netmap| netmap.content_hash_at(newest));
            let got = agent
                .session
                .netmap()
                .map(|netmap| netmap.content_hash_at(newest));
            if got.is_none() || got != wanted {
                let stands = agent.session.revision();
                return Some((
                    place,
                    format!("m{place} stands on {stands:?}, the newest is {newest}, and they differ"),
                ));
            }
            let unconfirmed = receipt
                .as_ref()
                .is_none_or(|receipt| receipt.pending.contains(&node) || receipt.absent.contains(&node));
            if unconfirmed {
                return Some((place, format!("m{place} has not acknowledged {newest}")));
            }
            let keyless = agent
                .devices
                .values()
                .find(|name| !self.current.keys.contains_key(&((*name).clone(), node)));
            if let Some(perimeter) = keyless {
                return Some((place, format!("m{place} has no key in {perimeter}")));
            }
        }
        None
    }

    fn debts(&mut self) -> Vec<Debt> {
        let sound = self.sound();
        let spec = std::rc::Rc::clone(&self.current);
        // A rule that expires meanwhile owes nothing.
        let late = self.oracle.latest_wall_ms(self.now) + 2 * TALK_MAX.as_millis() as u64;
        let mut debts = Vec::new();
        for (perimeter, policy) in &spec.perimeters {
            let services: Vec<Service> = policy
                .allow
                .iter()
                .flat_map(|rule| rule.services.clone())
                .collect();
            for (from, to) in sound
                .keys()
                .flat_map(|from| sound.keys().map(move |to| (*from, *to)))
            {
                let Some((protocol, port)) = owed_service(&spec, perimeter, &services, (from, to), late)
                else {
                    continue;
                };
                let (one, other) = (sound[&from], sound[&to]);
                let addresses = [from, to].map(|node| spec.addresses.get(&(perimeter.clone(), node)));
                if let [Some(src), Some(dst)] = addresses
                    && self.network.direct_path_is_owed(one, other)
                {
                    debts.push(Debt {
                        from: one,
                        to: other,
                        perimeter: perimeter.clone(),
                        call: Call {
                            src: src.v4.into(),
                            dst: dst.v4.into(),
                            protocol,
                            port,
                        },
                        questions: Vec::new(),
                    });
                }
            }
        }
        debts
    }

    fn collect_debts(&mut self) -> Result<(), Violation> {
        let mut debts = self.debts();
        self.stats.pairs += debts.len() as u64;
        let start = self.now;
        loop {
            debts.retain(|debt| {
                !debt
                    .questions
                    .iter()
                    .any(|question| self.apps.is_answered(*question))
            });
            if debts.is_empty() {
                return Ok(());
            }
            let waited = self.now.saturating_sub(start);
            if let Some(first) = debts.first().filter(|_| waited >= TALK_MAX) {
                let what = format!(
                    "{waited:?} after all agreed, m{} gets no answer from m{} in {} to {:?} ({} pairs do not talk)",
                    first.from,
                    first.to,
                    first.perimeter,
                    first.call,
                    debts.len()
                );
                return Err(Violation::new("liveness", what).of(first.from).of(first.to));
            }
            for debt in &mut debts {
                let question = self.call(debt.from, &debt.perimeter, debt.call);
                debt.questions.push(question);
            }
            self.run_until(self.now + Duration::from_secs(3))?;
        }
    }
}

/// Something that one may open to the other, now and for a while.
fn owed_service(
    spec: &Spec,
    perimeter: &Name,
    services: &[Service],
    (from, to): (NodeId, NodeId),
    wall_ms: u64,
) -> Option<(u8, u16)> {
    let choices = services.iter().map(|service| match service {
        Service::Tcp(first, _) => (6, *first),
        Service::Udp(first, _) => (17, *first),
        Service::Icmp => (1, 0),
    });
    let allowed = |(protocol, port): &(u8, u16)| {
        let opening = Opening {
            from,
            to,
            protocol: *protocol,
            port: *port,
        };
        spec.allows(perimeter, opening, wall_ms)
    };
    choices.into_iter().find(allowed)
}

/// From the last fault until every node enforces the newest revision: two connection attempts and a crash's restart.
pub(crate) const CONVERGENCE_MAX: Duration = Duration::from_mins(1);
/// From then until every pair that policy lets talk, and that has a path, has talked.
pub(crate) const TALK_MAX: Duration = Duration::from_mins(1);
