//! The whole mesh in one thread: machines, controller, network, applications, attackers and the oracle.

use std::collections::{BTreeMap, VecDeque};
use std::net::SocketAddr;
use std::rc::Rc;
use std::time::{Duration, Instant};

use ringfence_control::Netmap;
use ringfence_dataplane::DropReason;
use ringfence_model::{Name, NodeId, Revision};
use ringfence_policy::CloseReason;

use crate::apps::Apps;
use crate::clock;
use crate::controller::Host;
use crate::dice::Dice;
use crate::flood::Floods;
use crate::link::Link;
use crate::machine::Machine;
use crate::network::{Network, Place, STRANGERS};
use crate::obey::SLACK;
use crate::oracle::Oracle;
use crate::record_store::Ledger;
use crate::replay::Opened;
use crate::schedule::{Happening, Schedule};
use crate::spec::Spec;
use crate::swarm::{Scale, Swarm};
use crate::trace::Trace;
use crate::violation::Violation;
use crate::workload::{Token, name_of};

/// Everything.
pub struct World {
    pub(crate) now: Duration,
    pub(crate) base: Instant,
    pub(crate) swarm: Swarm,
    pub(crate) dice: Dice,
    pub(crate) queue: Schedule,
    pub(crate) network: Network,
    pub(crate) machines: Vec<Machine>,
    pub(crate) controller: Host,
    pub(crate) links: BTreeMap<u64, Link>,
    pub(crate) links_made: u64,
    pub(crate) apps: Apps,
    pub(crate) oracle: Oracle,
    pub(crate) ledger: Ledger,
    /// The mesh as the newest revision has it.
    pub(crate) current: Rc<Spec>,
    pub(crate) tokens: Vec<Token>,
    pub(crate) names: u64,
    /// Full netmaps that were said, to be said again.
    pub(crate) words: VecDeque<Netmap>,
    /// What each node acknowledged last.
    pub(crate) acked: BTreeMap<(usize, NodeId), Revision>,
    pub(crate) mesh: Name,
    pub(crate) phase: Phase,
    pub(crate) floods: Floods,
    pub(crate) opened: Opened,
    /// Things that happened in this second.
    steps: u64,
    /// The latest happenings.
    pub trace: Trace,
    /// What a run amounted to.
    pub stats: Stats,
}

/// What a run is at.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Phase {
    /// Things go wrong.
    Faults,
    /// Nothing goes wrong any more: the mesh must come together.
    Healing,
}

/// What a run amounted to.
#[derive(Clone, Debug, Default)]
pub struct Stats {
    /// Packets that data planes took from applications.
    pub sent: u64,
    /// Packets that reached applications.
    pub delivered: u64,
    /// Resets and ICMP errors that data planes wrote.
    pub notices: u64,
    /// Resets that ended a connection.
    pub resets: u64,
    /// Resets that did not land on the next byte expected: of two that were sent, or overtaken (`cut.rs`).
    pub resets_astray: u64,
    /// TCP connections that policy cut at one end.
    pub cuts: u64,
    /// Starts from a netmap file that was torn.
    pub torn: u64,
    /// Certificates that were renewed.
    pub renewals: u64,
    /// Packets that were written, and that were delivered, together with others.
    pub in_runs: [u64; 2],
    /// Flow records that the controller has stored.
    pub records: u64,
    /// Attackers' packets.
    pub attacks: u64,
    /// Datagrams.
    pub datagrams: u64,
    /// Revisions.
    pub revisions: u64,
    /// Pairs that were shown to talk at the end.
    pub pairs: u64,
    /// Simulated time.
    pub simulated: Duration,
    /// Refusals, by reason.
    pub drops: BTreeMap<&'static str, u64>,
    /// Closed conversations, by reason.
    pub closed: BTreeMap<&'static str, u64>,
}

impl Stats {
    pub(crate) fn drop(&mut self, reason: DropReason) {
        *self.drops.entry(reason.as_str()).or_default() += 1;
    }

    pub(crate) fn flow_closed(&mut self, why: CloseReason) {
        *self.closed.entry(why.as_str()).or_default() += 1;
    }

    /// Adds another run's.
    pub fn add(&mut self, other: &Self) {
        self.sent += other.sent;
        self.torn += other.torn;
        self.renewals += other.renewals;
        self.records += other.records;
        for (mine, theirs) in self.in_runs.iter_mut().zip(other.in_runs) {
            *mine += theirs;
        }
        self.delivered += other.delivered;
        self.notices += other.notices;
        self.resets += other.resets;
        self.resets_astray += other.resets_astray;
        self.cuts += other.cuts;
        self.attacks += other.attacks;
        self.datagrams += other.datagrams;
        self.revisions += other.revisions;
        self.pairs += other.pairs;
        self.simulated += other.simulated;
        for (mine, theirs) in [(&mut self.drops, &other.drops), (&mut self.closed, &other.closed)] {
            for (reason, count) in theirs {
                *mine.entry(reason).or_default() += count;
            }
        }
    }
}

impl World {
    /// A mesh that was just set up.
    ///
    /// # Errors
    /// If not even that works.
    pub fn new(seed: u64, scale: Scale) -> Result<Self, Violation> {
        clock::set(Duration::ZERO);
        let swarm = Swarm::draw(seed, scale);
        let network = Network::new(swarm.machines, swarm.wire.clone(), Dice::new(seed, "network"));
        let mut world = Self {
            now: Duration::ZERO,
            base: Instant::now(),
            dice: Dice::new(seed, "world"),
            queue: Schedule::default(),
            machines: (0..swarm.machines).map(|_| Machine::new()).collect(),
            network,
            controller: Host::default(),
            links: BTreeMap::new(),
            links_made: 0,
            apps: Apps::default(),
            oracle: Oracle::default(),
            ledger: Ledger::default(),
            current: Rc::default(),
            tokens: Vec::new(),
            names: 0,
            words: VecDeque::new(),
            acked: BTreeMap::new(),
            mesh: name_of("acme"),
            phase: Phase::Faults,
            floods: Floods::draw(seed),
            opened: Opened::default(),
            steps: 0,
            trace: Trace::default(),
            stats: Stats::default(),
            swarm,
        };
        world.oracle.slack = SLACK;
        world.found()?;
        world.furnish()?;
        for machine in 0..world.machines.len() {
            world
                .queue
                .at(Duration::from_secs(1), Happening::Traffic { machine });
        }
        for happening in [
            Happening::Admin,
            Happening::Fault,
            Happening::Attack,
            Happening::Look,
        ] {
            world.queue.at(Duration::from_secs(3), happening);
        }
        Ok(world)
    }

    /// Faults for as long as the swarm says, then healing, then proof of liveness.
    ///
    /// # Errors
    /// The first broken promise.
    pub fn run(&mut self) -> Result<(), Violation> {
        let length = self.swarm.length;
        self.run_until(length)?;
        self.prove_liveness()?;
        self.prove_records()?;
        self.stats.simulated = self.now;
        self.stats.revisions = self.current_revision();
        self.check_log()
    }

    fn current_revision(&self) -> u64 {
        self.controller.log.len() as u64
    }

    /// Lets things happen until `end`.
    pub(crate) fn run_until(&mut self, end: Duration) -> Result<(), Violation> {
        while self.queue.peek().is_some_and(|when| when <= end) {
            let Some((when, what)) = self.queue.next() else {
                break;
            };
            self.now = self.now.max(when);
            clock::set(self.now);
            self.steps += 1;
            if self.steps > STEPS_MAX {
                return Err(Violation::new(
                    "bounds",
                    format!("more than {STEPS_MAX} steps in a second, now {what:?}"),
                ));
            }
            self.happen(what)?;
        }
        self.now = self.now.max(end);
        clock::set(self.now);
        Ok(())
    }

    fn happen(&mut self, what: Happening) -> Result<(), Violation> {
        if let Some(machine) = target(&what)
            && self.machines[machine].stalled_until > self.now
        {
            self.queue.at(self.machines[machine].stalled_until, what);
            return Ok(());
        }
        match what {
            Happening::Datagram { to, src, bytes } => self.datagrams(to, src, bytes)?,
            Happening::Timer { machine, boot } => self.wake(machine, boot)?,
            Happening::Send {
                machine,
                boot,
                perimeter,
                packet,
            } => self.send(machine, boot, &perimeter, &packet)?,
            Happening::Key {
                machine,
                boot,
                perimeter,
            } => self.give_key(machine, boot, &perimeter)?,
            Happening::Start { machine } => self.start(machine)?,
            Happening::Connect { machine, boot } => self.connect(machine, boot),
            Happening::Link { link } => self.read_link(link)?,
            Happening::LinkLost { link, end } => self.lose_link(link, end),
            Happening::ControllerStart => self.start_controller()?,
            Happening::ControllerTimer { boot } if boot == self.controller.boot => self.tick_controller()?,
            Happening::ControllerTimer { .. } => {}
            Happening::Records {
                boot,
                link,
                node,
                batch,
            } => self.store_records(boot, link, node, batch)?,
            Happening::Heal { from, to } => self.network.mend(from, to),
            Happening::Traffic { machine } => self.begin_traffic(machine),
            Happening::Admin => {
                self.again(Happening::Admin, self.swarm.admin_every);
                self.administer_unless_healing()?;
            }
            Happening::Fault => {
                self.again(Happening::Fault, self.swarm.fault_every);
                if self.phase == Phase::Faults {
                    self.strike()?;
                }
            }
            Happening::Attack => {
                self.again(Happening::Attack, self.swarm.attack_every);
                if self.phase == Phase::Faults {
                    self.attack()?;
                }
            }
            Happening::Look => {
                self.queue.at(self.now + Duration::from_secs(1), Happening::Look);
                self.look()?;
            }
        }
        Ok(())
    }

    fn administer_unless_healing(&mut self) -> Result<(), Violation> {
        match self.phase {
            Phase::Faults => self.administer(),
            Phase::Healing => Ok(()),
        }
    }

    fn again(&mut self, what: Happening, mean: Duration) {
        let wait = self.dice.about(mean).max(Duration::from_millis(20));
        self.queue.at(self.now + wait, what);
    }

    /// What must hold at any time, and what nobody is told of.
    fn look(&mut self) -> Result<(), Violation> {
        self.steps = 0;
        self.look_at_links();
        for machine in 0..self.machines.len() {
            if self.machines[machine].stalled_until <= self.now {
                self.offer_keys_again(machine);
                self.ask_for_renewal(machine);
                self.tend_records(machine);
            }
        }
        if self.queue.len() > QUEUE_MAX {
            return Err(Violation::new(
                "bounds",
                format!("{} happenings are planned", self.queue.len()),
            ));
        }
        self.flood()?;
        self.check_bounds()
    }

    /// The instant that the cores are handed.
    pub(crate) fn instant(&self) -> Instant {
        self.base + self.now
    }

    pub(crate) fn say(&mut self, line: String) {
        self.trace.say(self.now, line);
    }

    /// A node's data plane sends a datagram.
    pub(crate) fn transmit(
        &mut self,
        machine: usize,
        dst: SocketAddr,
        bytes: &[u8],
    ) -> Result<(), Violation> {
        let is_cookie = bytes.first() == Some(&3);
        if !is_cookie && STRANGERS.contains(&dst.ip()) {
            let what = format!("m{machine} answers a stranger with message {:?}", bytes.first());
            return Err(Violation::new("silence", what).of(machine));
        }
        if !is_cookie && self.must_be_silent_to(machine, dst) {
            let what = format!(
                "m{machine} sends message {:?} to {dst}, which is no peer any more",
                bytes.first()
            );
            return Err(Violation::new("silence", what).of(machine));
        }
        self.carry(machine, dst, bytes);
        Ok(())
    }

    /// Puts a datagram on the network.
    pub(crate) fn carry(&mut self, machine: usize, dst: SocketAddr, bytes: &[u8]) {
        self.stats.datagrams += 1;
        let kind = u64::from(bytes.first().copied().unwrap_or(0));
        self.trace.mix([
            self.now.as_micros() as u64,
            machine as u64,
            kind,
            bytes.len() as u64,
        ]);
        let passages = self.network.send(machine, dst, bytes, self.now);
        if kind < 4 && self.phase == Phase::Healing {
            let places: Vec<Place> = passages.iter().map(|passage| passage.place).collect();
            self.say(format!(
                "m{machine} sends handshake message {kind} to {dst}, which goes to {places:?}"
            ));
        }
        for passage in passages {
            let Place::Machine(to) = passage.place else {
                continue;
            };
            let mut when = self.now + passage.takes;
            if self.swarm.runs {
                // The receiver is slow to read: what comes within a moment is there at once.
                when = Duration::from_micros((when.as_micros() as u64).next_multiple_of(READ_EVERY_US));
            }
            self.queue.at(
                when,
                Happening::Datagram {
                    to,
                    src: passage.src,
                    bytes: bytes.to_vec(),
                },
            );
        }
    }
}

/// The machine that must be awake for something to happen.
fn target(what: &Happening) -> Option<usize> {
    match what {
        Happening::Datagram { to, .. } => Some(*to),
        Happening::Timer { machine, .. }
        | Happening::Send { machine, .. }
        | Happening::Key { machine, .. }
        | Happening::Connect { machine, .. }
        | Happening::Traffic { machine } => Some(*machine),
        Happening::Start { .. }
        | Happening::Link { .. }
        | Happening::LinkLost { .. }
        | Happening::ControllerStart
        | Happening::ControllerTimer { .. }
        | Happening::Records { .. }
        | Happening::Admin
        | Happening::Fault
        | Happening::Heal { .. }
        | Happening::Attack
        | Happening::Look => None,
    }
}

/// Between two reads of a socket, where datagrams are read together.
const READ_EVERY_US: u64 = 5_000;
/// More than this in a second is a loop.
const STEPS_MAX: u64 = 100_000;
/// More than this would be datagrams that make datagrams.
const QUEUE_MAX: usize = 200_000;
