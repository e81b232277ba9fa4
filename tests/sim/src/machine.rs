//! One machine: its disk, and the agent that runs on it, which does around the shipped cores what node/ does.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use ringfence_control::saved::Moment;
use ringfence_control::{FlowReport, NodeSession};
use ringfence_dataplane::{Dataplane, DataplaneConfig, DropReason, Event, SegmentId};
use ringfence_model::{Candidate, Name, NodeId, PublicKey, UnixMillis};

use crate::clock::WALL_START;
use crate::disk::Disk;
use crate::link::End;
use crate::oracle::Delivered;
use crate::records::Records;
use crate::rogue::Rogue;
use crate::schedule::Happening;
use crate::violation::Violation;
use crate::world::{Phase, World};

/// One machine.
pub(crate) struct Machine {
    /// What outlives its processes.
    pub disk: Disk,
    /// The agent, while it runs.
    pub agent: Option<Agent>,
    /// What runs in its place once it has turned bad.
    pub rogue: Option<Rogue>,
    /// Processes started so far.
    pub boot: u64,
    /// Names the boot of the kernel.
    pub kernel: u64,
    /// When the kernel booted.
    pub booted_at: Duration,
    /// How far its wall clock is off, in milliseconds.
    pub wall_offset_ms: i64,
    /// It stands still until then.
    pub stalled_until: Duration,
    /// How often it was enrolled.
    pub enrolled: u32,
}

/// A running agent.
pub(crate) struct Agent {
    /// Which process it is.
    pub boot: u64,
    /// How often it lost its sessions since it started, because a lease ended.
    pub leases_lost: u64,
    /// The shipped node.
    pub dataplane: Dataplane,
    /// The shipped end of the control protocol.
    pub session: NodeSession,
    /// Its connection.
    pub link: Option<u64>,
    /// Its devices.
    pub devices: BTreeMap<SegmentId, Name>,
    /// Keys that the controller has not confirmed.
    pub unregistered: BTreeMap<Name, PublicKey>,
    /// When it last asked for a certificate.
    pub(crate) renewal_asked: Option<Duration>,
    /// The controller's clock, and when it was read.
    pub(crate) controller_clock: Option<(Duration, UnixMillis)>,
    /// When it last offered keys.
    pub(crate) keys_offered: Duration,
    /// What the controller was last told of its candidates.
    pub(crate) told: Option<Vec<Candidate>>,
    pub(crate) word_saved: Option<Duration>,
    timer: Option<Duration>,
    /// What it tells of flows that ended.
    pub(crate) records: Records,
    /// Peers whose candidates it was told.
    pub candidates: BTreeMap<NodeId, Vec<Candidate>>,
}

impl Agent {
    /// Another number whenever it has lost its sessions.
    pub(crate) fn epoch(&self) -> u64 {
        (self.boot << 32) + self.leases_lost
    }
}

impl Machine {
    /// One that was just installed.
    pub(crate) fn new() -> Self {
        Self {
            disk: Disk::default(),
            agent: None,
            rogue: None,
            boot: 0,
            kernel: 0,
            booted_at: Duration::ZERO,
            wall_offset_ms: 0,
            stalled_until: Duration::ZERO,
            enrolled: 0,
        }
    }

    /// The agent, if it is still that process.
    pub(crate) fn agent_of(&mut self, boot: u64) -> Option<&mut Agent> {
        self.agent.as_mut().filter(|agent| agent.boot == boot)
    }

    /// Its wall clock.
    pub(crate) fn wall_ms(&self, now: Duration) -> u64 {
        ((WALL_START + now).as_millis() as u64).saturating_add_signed(self.wall_offset_ms)
    }

    /// This moment on its clocks.
    pub(crate) fn moment(&self, now: Duration) -> Moment {
        Moment {
            boot_id: format!("kernel {}", self.kernel),
            boot_ms: now.saturating_sub(self.booted_at).as_millis() as u64,
            wall: UnixMillis(self.wall_ms(now)),
        }
    }

    /// The device of a perimeter.
    pub(crate) fn device(&self, perimeter: &Name) -> Option<SegmentId> {
        let devices = &self.agent.as_ref()?.devices;
        devices
            .iter()
            .find(|(_, name)| *name == perimeter)
            .map(|(id, _)| *id)
    }
}

impl Default for Machine {
    fn default() -> Self {
        Self::new()
    }
}

impl World {
    /// Starts a machine's agent, if the machine is enrolled and runs none.
    pub(crate) fn start(&mut self, machine: usize) -> Result<(), Violation> {
        let place = &mut self.machines[machine];
        let Some(identity) = place.disk.identity.clone() else {
            return Ok(());
        };
        if place.agent.is_some() || place.rogue.is_some() {
            return Ok(());
        }
        place.boot += 1;
        let (boot, moment) = (place.boot, place.moment(self.now));
        place.disk.open();
        let loaded = place.disk.load(&moment);
        let is_torn = loaded.is_err();
        let saved = loaded.ok().flatten();
        let saved = saved.filter(|saved| saved.netmap.node == identity.node);
        let records = self.open_records(machine, identity.node)?;
        let place = &mut self.machines[machine];
        let (candidates, keys) = (place.disk.peers().candidates, place.disk.keys());
        let keepalive = self.network.nat(machine).map(|_| Duration::from_secs(20));
        let config = DataplaneConfig {
            keepalive,
            flows_per_peer_max: FLOWS_PER_PEER_MAX,
            ..DataplaneConfig::default()
        };
        let restored = saved.as_ref().map(|saved| saved.netmap.revision);
        place.agent = Some(Agent {
            boot,
            leases_lost: 0,
            dataplane: Dataplane::new(config, self.dice.bytes()),
            session: NodeSession::new(self.mesh.clone(), identity.node, None),
            link: None,
            devices: BTreeMap::new(),
            unregistered: BTreeMap::new(),
            renewal_asked: None,
            controller_clock: None,
            keys_offered: self.now,
            told: None,
            word_saved: None,
            timer: None,
            records,
            candidates: BTreeMap::new(),
        });
        self.say(format!(
            "m{machine} starts, restoring {restored:?}, torn: {is_torn}"
        ));
        self.stats.torn += u64::from(is_torn);
        let now = self.instant();
        for (perimeter, key) in keys {
            self.agent(machine).dataplane.set_key(&perimeter, key, now);
        }
        if let Some(saved) = saved {
            self.restore(machine, saved.netmap, saved.since_word)?;
        }
        for (peer, list) in candidates {
            self.agent(machine)
                .dataplane
                .handle_peer_candidates(peer, &list, now);
            self.agent(machine).candidates.insert(peer, list);
        }
        self.drain(machine)?;
        self.queue.at(self.now, Happening::Connect { machine, boot });
        Ok(())
    }

    /// A process dies, alone or with its kernel; what was on disk stays.
    pub(crate) fn crash(&mut self, machine: usize, why: &str) {
        let place = &mut self.machines[machine];
        if place.agent.take().is_none() {
            return;
        }
        let boot = place.boot;
        self.say(format!("m{machine} crashes: {why}"));
        self.oracle.forget(machine);
        self.apps.forget(machine);
        self.drop_ends(End::Node, |link| link.machine == machine && link.boot == boot);
        let reboots = self.dice.chance(0.3);
        let wait = self
            .dice
            .time(Duration::from_millis(200)..Duration::from_secs(40));
        let place = &mut self.machines[machine];
        if reboots {
            place.kernel += 1;
            place.booted_at = self.now;
            place.disk.cut_power(&mut self.dice);
        }
        self.queue.at(self.now + wait, Happening::Start { machine });
    }

    /// The running agent of a machine that is known to have one.
    pub(crate) fn agent(&mut self, machine: usize) -> &mut Agent {
        self.machines[machine]
            .agent
            .as_mut()
            .expect("callers have seen to it that an agent runs")
    }

    /// A datagram reaches a machine.
    pub(crate) fn datagram(
        &mut self,
        machine: usize,
        src: std::net::SocketAddr,
        bytes: &[u8],
    ) -> Result<(), Violation> {
        if self.machines[machine].rogue.is_some() {
            self.rogue_receives(machine, src, bytes);
            return Ok(());
        }
        if self.machines[machine].agent.is_none() {
            return Ok(());
        }
        let now = self.instant();
        self.note_opening(bytes);
        let result = self.agent(machine).dataplane.handle_datagram(src, bytes, now);
        if let Err(reason) = result {
            self.stats.drop(reason);
            if self.phase == Phase::Healing {
                self.say(format!(
                    "m{machine} drops {} bytes of kind {:?} from {src}: {}",
                    bytes.len(),
                    bytes.first(),
                    reason.as_str()
                ));
            }
        }
        self.drain(machine)?;
        self.open_again(machine, bytes, result.err())
    }

    /// An application sends a packet.
    pub(crate) fn send(
        &mut self,
        machine: usize,
        boot: u64,
        perimeter: &Name,
        packet: &[u8],
    ) -> Result<(), Violation> {
        let Some(id) = self.machines[machine].device(perimeter) else {
            return Ok(());
        };
        let (Some(agent), Some(seen)) = (
            self.machines[machine].agent_of(boot),
            crate::inspect::inspect(packet),
        ) else {
            return Ok(());
        };
        let node = agent.session.netmap().map(|netmap| netmap.node);
        let now = self.base + self.now;
        self.oracle.touched(machine, perimeter, &seen);
        let owed = self.oracle.owed(machine, perimeter, &seen, self.now);
        let mut written = self.written(packet, &seen);
        let packets = crate::runs::cut(&mut written.clone())?;
        let dataplane = &mut self.agent(machine).dataplane;
        let result = if packets.len() > 1 {
            dataplane.handle_super_packet(id, &crate::runs::super_packet(&mut written)?, now)
        } else {
            dataplane.handle_tun(id, packet, now)
        };
        match result {
            Ok(()) => {
                if let Some(node) = node {
                    for packet in &packets {
                        self.oracle.sent(node, perimeter, packet);
                    }
                }
                self.stats.sent += packets.len() as u64;
                self.stats.in_runs[0] += if packets.len() > 1 {
                    packets.len() as u64
                } else {
                    0
                };
                self.oracle.taken(machine, perimeter, &seen, self.now)?;
            }
            Err(DropReason::NoKey | DropReason::NoEndpoint | DropReason::NotSealed | DropReason::TooBig) => {}
            Err(reason) => {
                self.stats.drop(reason);
                if owed {
                    let what = format!("m{machine} refused {seen:?} in {perimeter}: {}", reason.as_str());
                    return Err(Violation::new("owed", what).of(machine));
                }
            }
        }
        self.drain(machine)
    }

    /// The agent's timer is due.
    pub(crate) fn wake(&mut self, machine: usize, boot: u64) -> Result<(), Violation> {
        let now = self.instant();
        let Some(agent) = self.machines[machine].agent_of(boot) else {
            return Ok(());
        };
        agent.timer = None;
        if agent.dataplane.poll_timeout().is_some_and(|due| due <= now) {
            agent.dataplane.handle_timeout(now);
        }
        self.drain(machine)
    }

    /// Carries out what the data plane asks for, and plans its next timer.
    pub(crate) fn drain(&mut self, machine: usize) -> Result<(), Violation> {
        loop {
            let Some(agent) = self.machines[machine].agent.as_mut() else {
                return Ok(());
            };
            if let Some(transmit) = agent.dataplane.poll_transmit() {
                for datagram in transmit.datagrams() {
                    self.transmit(machine, transmit.dst, datagram)?;
                }
                self.agent(machine).dataplane.recycle(transmit.into_buffer());
                continue;
            }
            if let Some(mut packet) = agent.dataplane.poll_tun() {
                if let Some(perimeter) = agent.devices.get(&packet.segment).cloned() {
                    self.note_opened(machine, &perimeter, packet.packet());
                    let packets = crate::runs::cut(&mut packet.buffer)?;
                    self.stats.in_runs[1] += if packets.len() > 1 {
                        packets.len() as u64
                    } else {
                        0
                    };
                    for packet in packets {
                        self.deliver(machine, &perimeter, &packet)?;
                    }
                }
                self.agent(machine).dataplane.recycle(packet.buffer);
                continue;
            }
            let Some(event) = agent.dataplane.poll_event() else {
                break;
            };
            self.event(machine, event)?;
        }
        self.plan_timer(machine);
        Ok(())
    }

    fn plan_timer(&mut self, machine: usize) {
        let (now, base) = (self.now, self.base);
        let Some(agent) = self.machines[machine].agent.as_mut() else {
            return;
        };
        let Some(due) = agent.dataplane.poll_timeout() else {
            return;
        };
        let due = due.saturating_duration_since(base).max(now + TIMER_MIN);
        if agent.timer.is_none_or(|planned| due < planned) {
            agent.timer = Some(due);
            let boot = agent.boot;
            self.queue.at(due, Happening::Timer { machine, boot });
        }
    }

    fn event(&mut self, machine: usize, event: Event) -> Result<(), Violation> {
        let agent = self.machines[machine]
            .agent
            .as_mut()
            .expect("an event has a source");
        let boot = agent.boot;
        match event {
            Event::SegmentAdded(facts) => {
                agent.devices.insert(facts.id, facts.perimeter);
            }
            Event::SegmentRemoved(facts) => {
                agent.devices.remove(&facts.id);
                agent.unregistered.remove(&facts.perimeter);
                self.apps.forget_device(machine, &facts.perimeter);
            }
            Event::KeyNeeded { perimeter } => {
                let wait = self.dice.time(Duration::ZERO..Duration::from_millis(20));
                self.queue.at(
                    self.now + wait,
                    Happening::Key {
                        machine,
                        boot,
                        perimeter,
                    },
                );
            }
            Event::RegisterKey {
                perimeter,
                public_key,
            } => {
                agent.unregistered.insert(perimeter.clone(), public_key);
                self.register(machine, perimeter, public_key);
            }
            Event::FlowClosed(closed) => {
                self.stats.flow_closed(closed.why);
                self.check_cut(machine, &closed)?;
                self.flow_ended(machine, FlowReport::from(closed))?;
            }
            Event::SegmentClosed { perimeter, .. } => {
                agent.leases_lost += 1;
                let line = format!("m{machine} closes {perimeter}");
                self.say(line);
            }
            Event::SegmentOpened { .. }
            | Event::SegmentChanged(_)
            | Event::Enforced { .. }
            | Event::SessionEstablished { .. }
            | Event::Pong(_)
            | Event::PingTimedOut { .. } => {}
        }
        Ok(())
    }

    /// A packet appears on a device: the oracle looks at it, then the application gets it.
    pub(crate) fn deliver(
        &mut self,
        machine: usize,
        perimeter: &Name,
        packet: &[u8],
    ) -> Result<(), Violation> {
        let now = self.now;
        if let Some(seen) = crate::inspect::inspect(packet) {
            crate::stream::check(&seen, packet).map_err(|violation| violation.of(machine))?;
        }
        let what = self.oracle.delivered(machine, perimeter, packet, now)?;
        match what {
            Delivered::Packet => self.stats.delivered += 1,
            Delivered::Notice => self.stats.notices += 1,
        }
        self.trace
            .mix([machine as u64, packet.len() as u64, now.as_micros() as u64]);
        self.app_receives(machine, perimeter, packet);
        Ok(())
    }

    /// Peers that a machine may talk to, by its own netmap.
    pub(crate) fn peers(&self, machine: usize) -> BTreeSet<NodeId> {
        let agent = self.machines[machine].agent.as_ref();
        let netmap = agent.and_then(|agent| agent.session.netmap());
        let segments = netmap.into_iter().flat_map(|netmap| netmap.segments.values());
        segments
            .flat_map(|segment| segment.peers.keys().copied())
            .collect()
    }
}

/// Few enough that a flood reaches it in every run.
const FLOWS_PER_PEER_MAX: usize = 4_096;
/// The finest a timer of the operating system gets.
const TIMER_MIN: Duration = Duration::from_millis(1);
