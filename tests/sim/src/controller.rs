//! The controller's process: what controller/ does around the shipped state machine and sessions.
//!
//! **Invariant:** a change is in the log before it is applied, and applied before anybody is told.

use std::collections::{BTreeMap, BTreeSet};
use std::rc::Rc;
use std::time::Duration;

use ringfence_control::{ControllerSession, PeerCandidates};
use ringfence_controlplane::{Actor, Change, Command, Controller, PushKind, Refusal, TokenHash};
use ringfence_model::{Name, NodeId, PublicKey, UnixMillis};

use crate::backup::Backup;
use crate::clock::WALL_START;
use crate::disk::Log;
use crate::link::End;
use crate::schedule::Happening;
use crate::spec::{Perimeter, Spec};
use crate::violation::Violation;
use crate::world::World;

/// The controller's machine.
#[derive(Default)]
pub(crate) struct Host {
    /// What outlives the process.
    pub log: Log,
    /// The process, while it runs.
    pub core: Option<Core>,
    /// Processes started so far.
    pub boot: u64,
    /// How far its wall clock is off, in milliseconds.
    pub wall_offset_ms: i64,
    /// Requests answered with success: each is in the log once, for ever.
    pub acknowledged: BTreeSet<String>,
    /// When a node's connection ended last.
    pub heard: BTreeMap<NodeId, Duration>,
    /// The oracle's reading of the log up to each length.
    pub(crate) specs: BTreeMap<usize, Rc<Spec>>,
    /// What the last restore was made from.
    pub(crate) backup: Option<Backup>,
    /// A change that was being stored when the process died, with what it means.
    in_doubt: Option<(Change, Effect)>,
    requests: u64,
}

/// The process.
pub(crate) struct Core {
    /// The shipped controller.
    pub controller: Controller,
    /// By connection.
    pub(crate) sessions: BTreeMap<u64, Seat>,
    /// When it started.
    pub(crate) began: Duration,
    timer: Option<Duration>,
}

/// One connected node.
pub(crate) struct Seat {
    pub(crate) session: ControllerSession,
    /// A hash of the netmap that the node was sent last, whatever its revision.
    pub(crate) has: [u8; 32],
    /// What the node was told of its peers' candidates.
    pub(crate) told: BTreeMap<NodeId, PeerCandidates>,
    /// A batch of its flow records is on its way to the disk.
    pub(crate) is_storing: bool,
}

/// What a request means, in the oracle's terms.
#[derive(Clone, Debug)]
pub(crate) enum Effect {
    /// Nothing that policy sees.
    Nothing,
    /// A perimeter is as given.
    Apply(Name, Perimeter),
    /// A perimeter is gone.
    Remove(Name),
    /// A node has these labels besides, and lacks those.
    Label(NodeId, Vec<(&'static str, &'static str)>, Vec<&'static str>),
    /// A node with these labels is there.
    Enroll(Vec<(&'static str, &'static str)>),
    /// A node is gone.
    Expel(NodeId),
    /// A key is registered.
    Key(Name, NodeId, PublicKey),
}

/// Why a request was not carried out.
#[derive(Debug)]
pub(crate) enum NotDone {
    /// The product says no.
    Refused(Refusal),
    /// The controller is down, or died over it.
    Down,
    /// The log takes nothing.
    Full,
}

impl World {
    /// Founds the mesh.
    pub(crate) fn found(&mut self) -> Result<(), Violation> {
        let (controller, change) = Controller::found(
            self.mesh.clone(),
            &Actor::system("init", "init"),
            self.wall(),
            self.dice.bytes(),
        );
        self.controller.log.append(&change);
        self.oracle
            .committed(change.revision, self.now, Rc::new(Spec::default()));
        drop(controller);
        self.start_controller()
    }

    /// The controller's wall clock.
    pub(crate) fn wall(&self) -> UnixMillis {
        let truth_ms = (WALL_START + self.now).as_millis() as u64;
        UnixMillis(truth_ms.saturating_add_signed(self.controller.wall_offset_ms))
    }

    /// The controller's wall clock is set.
    pub(crate) fn set_controller_clock(&mut self, offset_ms: i64) {
        self.say(format!("controller has its clock set to {offset_ms} ms off"));
        self.controller.wall_offset_ms = offset_ms;
        self.oracle.clock_was_set(offset_ms);
    }

    /// Starts the controller from its log.
    pub(crate) fn start_controller(&mut self) -> Result<(), Violation> {
        if self.controller.core.is_some() {
            return Ok(());
        }
        let mut controller = self.controller.log.load()?;
        self.controller.boot += 1;
        if let Some((change, effect)) = self.controller.in_doubt.take()
            && controller.revision() == change.revision
        {
            self.interpret(&controller, &change, &effect)?;
        }
        self.check_log()?;
        self.say(format!("controller starts at {}", controller.revision()));
        controller.begin(self.wall());
        self.controller.core = Some(Core {
            controller,
            sessions: BTreeMap::new(),
            began: self.now,
            timer: None,
        });
        if !self.end_what_is_due()? {
            self.crash_controller("what has expired cannot be ended, so it serves nobody");
        }
        self.tick_controller()
    }

    /// The controller dies.
    pub(crate) fn crash_controller(&mut self, why: &str) {
        if self.controller.core.take().is_none() {
            return;
        }
        self.say(format!("controller crashes: {why}"));
        self.drop_ends(End::Controller, |_| true);
        let wait = self
            .dice
            .time(Duration::from_millis(500)..Duration::from_secs(30));
        self.queue.at(self.now + wait, Happening::ControllerStart);
    }

    /// Every request that was answered with success is in the log exactly once.
    pub(crate) fn check_log(&self) -> Result<(), Violation> {
        let mut seen: BTreeMap<String, u32> = BTreeMap::new();
        for change in self.controller.log.changes() {
            *seen.entry(change.actor.request_id.clone()).or_default() += 1;
        }
        for request in &self.controller.acknowledged {
            let times = seen.get(request).copied().unwrap_or(0);
            if times != 1 {
                return Err(Violation::new(
                    "audit",
                    format!("request {request} is in the log {times} times"),
                ));
            }
        }
        Ok(())
    }

    /// Asks for a change: propose, store, apply, tell.
    pub(crate) fn commit(
        &mut self,
        actor: impl Fn(String) -> Actor,
        command: Command,
        effect: Effect,
    ) -> Result<Result<Change, NotDone>, Violation> {
        self.controller.requests += 1;
        let request = format!("q{}", self.controller.requests);
        let (wall, entropy) = (self.wall(), self.dice.bytes());
        let Some(core) = self.controller.core.as_mut() else {
            return Ok(Err(NotDone::Down));
        };
        let change = match core
            .controller
            .propose(&actor(request.clone()), command, wall, entropy)
        {
            Ok(change) => change,
            Err(refusal) => return Ok(Err(NotDone::Refused(refusal))),
        };
        if self.dice.chance(self.swarm.faults.log_full) {
            return Ok(Err(NotDone::Full));
        }
        if self.dice.chance(self.swarm.faults.crash_at_step * 0.3) {
            if self.dice.chance(0.5) {
                self.controller.log.append(&change);
                self.controller.in_doubt = Some((change, effect));
            }
            self.crash_controller("while it stores a change");
            return Ok(Err(NotDone::Down));
        }
        self.controller.log.append(&change);
        self.controller.acknowledged.insert(request);
        self.carry_out(&change, &effect)?;
        Ok(Ok(change))
    }

    fn carry_out(&mut self, change: &Change, effect: &Effect) -> Result<(), Violation> {
        let core = self
            .controller
            .core
            .as_mut()
            .expect("a change was just proposed to it");
        let pushes = core.controller.apply(change);
        let pushes = pushes
            .map_err(|error| Violation::new("log", format!("a stored change does not apply: {error}")))?;
        let controller = core.controller.clone();
        self.say(format!(
            "controller {} {} {effect:?}",
            change.revision, change.method
        ));
        self.interpret(&controller, change, effect)?;
        // A snapshot is a transaction of its own: the process may die in between.
        let is_missed = self.dice.chance(self.swarm.faults.crash_at_step);
        if self.controller.log.len().is_multiple_of(SNAPSHOT_EVERY) && !is_missed {
            self.controller.log.save_snapshot(&controller.snapshot());
        }
        for push in pushes {
            for link in self.links_of(push.node) {
                match push.kind {
                    PushKind::Netmap => self.push(link, push.node),
                    PushKind::Removed => self.say_goodbye(link),
                }
            }
        }
        self.plan_tick();
        self.check_pushes()
    }

    /// Plans the next lease or expiry.
    pub(crate) fn plan_tick(&mut self) {
        let (now, base, wall) = (self.now, self.base, self.wall());
        let boot = self.controller.boot;
        let Some(core) = self.controller.core.as_mut() else {
            return;
        };
        let leases = core
            .sessions
            .values()
            .filter_map(|seat| seat.session.poll_timeout());
        let lease = leases.min().map(|at| at.saturating_duration_since(base));
        let expiry = core
            .controller
            .poll_timeout()
            // The clock may be set: looked at now and then, whatever the plan was.
            .map(|at| now + at.saturating_since(wall).min(TICK_MAX));
        let Some(due) = [lease, expiry].into_iter().flatten().min() else {
            return;
        };
        let due = due.max(now + TICK_MIN);
        if core.timer.is_none_or(|planned| due < planned) {
            core.timer = Some(due);
            self.queue.at(due, Happening::ControllerTimer { boot });
        }
    }

    /// Ends what has expired, and says whether nothing is left of it.
    fn end_what_is_due(&mut self) -> Result<bool, Violation> {
        let wall = self.wall();
        let due = self
            .controller
            .core
            .as_ref()
            .and_then(|core| core.controller.poll_timeout());
        if due.is_none_or(|at| at > wall) {
            return Ok(true);
        }
        let done = self.commit(
            |request| Actor::system("clock", request),
            Command::Tick,
            Effect::Nothing,
        )?;
        Ok(done.is_ok())
    }

    /// The controller's timer is due: what has expired ends, and leases go out to who is still one of ours.
    pub(crate) fn tick_controller(&mut self) -> Result<(), Violation> {
        let now = self.instant();
        let Some(core) = self.controller.core.as_mut() else {
            return Ok(());
        };
        core.timer = None;
        // If the log is full, it is tried again.
        self.end_what_is_due()?;
        self.check_silence()?;
        let links: Vec<u64> = self
            .controller
            .core
            .iter()
            .flat_map(|core| core.sessions.keys().copied())
            .collect();
        for link in links {
            let Some((node, spki)) = self.links.get(&link).map(|link| (link.node, link.spki.clone())) else {
                continue;
            };
            let Some(core) = self.controller.core.as_mut() else {
                return Ok(());
            };
            if core.controller.authorize(&self.mesh, node, &spki).is_err() {
                self.say_goodbye(link);
                continue;
            }
            if let Some(message) = core
                .sessions
                .get_mut(&link)
                .and_then(|seat| seat.session.handle_timeout(now))
            {
                self.tell_node(link, &message);
            }
        }
        self.plan_tick();
        Ok(())
    }
}

/// The hash of a join token's secret.
pub(crate) fn hash_of(secret: u64) -> TokenHash {
    TokenHash::of_secret(&secret.to_be_bytes())
}

/// Entries between two snapshots: few, so that runs meet some.
const SNAPSHOT_EVERY: usize = 16;
/// As controller/src/run.rs has it.
const TICK_MAX: Duration = Duration::from_secs(30);
const TICK_MIN: Duration = Duration::from_millis(50);
