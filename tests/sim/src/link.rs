//! Control connections: ordered and reliable while they last, as QUIC is, and gone after silence.

use std::collections::VecDeque;
use std::time::Duration;

use ringfence_control::{FrameDecoder, Message, ToController, ToNode};
use ringfence_model::NodeId;

use crate::network::CONTROLLER;
use crate::schedule::Happening;
use crate::violation::Violation;
use crate::world::World;

/// An end of a connection.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum End {
    /// The node's.
    Node,
    /// The controller's.
    Controller,
}

/// One connection.
pub(crate) struct Link {
    /// Whose.
    pub machine: usize,
    /// The process at the node's end.
    pub boot: u64,
    /// The node that its certificate names.
    pub node: NodeId,
    /// The identity key in that certificate.
    pub spki: Vec<u8>,
    node_end: Lane,
    controller_end: Lane,
    last_open: Duration,
}

/// What is under way to one end.
#[derive(Default)]
struct Lane {
    queue: VecDeque<(Duration, Vec<u8>)>,
    last: Duration,
    is_gone: bool,
    /// When it is looked at again after it could not be read.
    retry: Option<Duration>,
    decoder: FrameDecoder,
}

impl World {
    /// A machine's agent tries to reach the controller.
    pub(crate) fn connect(&mut self, machine: usize, boot: u64) {
        let Some(agent) = self.machines[machine].agent_of(boot) else {
            return;
        };
        if agent.link.is_some() {
            return;
        }
        let Some(identity) = self.machines[machine].disk.identity.clone() else {
            return;
        };
        let is_open = self.network.is_open(machine, CONTROLLER) && self.network.is_open(CONTROLLER, machine);
        let wall = self.wall();
        let certificate = self.machines[machine].disk.certificate;
        let is_open = is_open && certificate.is_some_and(|certificate| certificate.counts_at(wall));
        let admitted = self
            .controller
            .core
            .as_ref()
            .filter(|_| is_open)
            .is_some_and(|core| {
                let mesh = core.controller.mesh().name.clone();
                core.controller
                    .authorize(&mesh, identity.node, &identity.spki)
                    .is_ok()
            });
        if !admitted {
            let wait = self.dice.time(RETRY_MIN..RETRY_MAX);
            self.queue
                .at(self.now + wait, Happening::Connect { machine, boot });
            return;
        }
        self.links_made += 1;
        let id = self.links_made;
        self.links.insert(
            id,
            Link {
                machine,
                boot,
                node: identity.node,
                spki: identity.spki,
                node_end: Lane::default(),
                controller_end: Lane::default(),
                last_open: self.now,
            },
        );
        self.say(format!(
            "m{machine} connected by link {id} as node {}",
            identity.node
        ));
        self.greet(machine, id);
    }

    /// The node's end speaks.
    pub(crate) fn tell_controller(&mut self, link: u64, message: &ToController) {
        let bytes = message
            .encode()
            .expect("the product's own messages are encodable");
        self.put_frame(link, End::Controller, bytes);
    }

    /// The controller's end speaks.
    pub(crate) fn tell_node(&mut self, link: u64, message: &ToNode) {
        let bytes = message
            .encode()
            .expect("the product's own messages are encodable");
        self.put_frame(link, End::Node, bytes);
    }

    fn put_frame(&mut self, id: u64, to: End, bytes: Vec<u8>) {
        let delay = self.network.delay();
        let Some(link) = self.links.get_mut(&id) else {
            return;
        };
        let lane = link.lane(to);
        if lane.is_gone {
            return;
        }
        lane.last = lane.last.max(self.now + delay);
        let when = lane.last;
        lane.queue.push_back((when, bytes));
        self.queue.at(when, Happening::Link { link: id });
    }

    /// Reads what has arrived at either end of a link.
    pub(crate) fn read_link(&mut self, id: u64) -> Result<(), Violation> {
        for end in [End::Controller, End::Node] {
            while let Some(bytes) = self.take(id, end) {
                self.receive(id, end, &bytes)?;
            }
        }
        Ok(())
    }

    fn take(&mut self, id: u64, end: End) -> Option<Vec<u8>> {
        let link = self.links.get_mut(&id)?;
        let machine = link.machine;
        let (from, to) = match end {
            End::Node => (CONTROLLER, machine),
            End::Controller => (machine, CONTROLLER),
        };
        let lane = link.lane(end);
        let (when, _) = lane.queue.front()?;
        if *when > self.now || lane.is_gone {
            return None;
        }
        // Sent again until it arrives or the connection is given up; read when the machine goes on.
        let stalled_until = self.machines[machine].stalled_until;
        let retry = if !self.network.is_open(from, to) {
            self.now + RETRANSMIT
        } else if end == End::Node && stalled_until > self.now {
            stalled_until
        } else {
            let (_, bytes) = lane.queue.pop_front()?;
            return Some(bytes);
        };
        if lane.retry.is_none_or(|planned| planned <= self.now) {
            lane.retry = Some(retry);
            self.queue.at(retry, Happening::Link { link: id });
        }
        None
    }

    fn receive(&mut self, id: u64, end: End, bytes: &[u8]) -> Result<(), Violation> {
        let Some(link) = self.links.get_mut(&id) else {
            return Ok(());
        };
        let (machine, boot) = (link.machine, link.boot);
        let lane = link.lane(end);
        lane.decoder.push(bytes);
        while let Some(frame) = self.next_frame(id, end) {
            let garbled = |error| Violation::new("protocol", format!("{error}"));
            match end {
                End::Controller => {
                    let message = ToController::decode(&frame).map_err(garbled)?;
                    if let Some(message) = message {
                        self.hear_node(id, message)?;
                    }
                }
                End::Node => {
                    let message = ToNode::decode(&frame).map_err(garbled)?;
                    let current = self.machines[machine]
                        .agent_of(boot)
                        .is_some_and(|agent| agent.link == Some(id));
                    if let (Some(message), true) = (message, current) {
                        self.hear_controller(machine, message)?;
                    }
                }
            }
        }
        Ok(())
    }

    fn next_frame(&mut self, id: u64, end: End) -> Option<ringfence_control::Frame> {
        let lane = self.links.get_mut(&id)?.lane(end);
        lane.decoder
            .next_frame()
            .expect("frames that the product wrote are well formed")
    }

    /// Gives up connections that have been cut for too long. Call now and then.
    pub(crate) fn look_at_links(&mut self) {
        let mut lost = Vec::new();
        for (id, link) in &mut self.links {
            let machine = link.machine;
            let is_open = self.network.is_open(machine, CONTROLLER)
                && self.network.is_open(CONTROLLER, machine)
                && !link.node_end.is_gone
                && !link.controller_end.is_gone;
            if is_open {
                link.last_open = self.now;
            } else if self.now >= link.last_open + IDLE {
                lost.push(*id);
            }
        }
        for id in lost {
            for end in [End::Node, End::Controller] {
                let wait = self.dice.time(Duration::ZERO..Duration::from_secs(1));
                self.queue
                    .at(self.now + wait, Happening::LinkLost { link: id, end });
            }
        }
        self.links
            .retain(|_, link| !link.node_end.is_gone || !link.controller_end.is_gone);
    }

    /// An end of a connection dies with its process, without a word.
    pub(crate) fn drop_ends(&mut self, end: End, of: impl Fn(&Link) -> bool) {
        for link in self.links.values_mut().filter(|link| of(link)) {
            link.lane(end).is_gone = true;
        }
    }

    /// An end notices that a connection is gone.
    pub(crate) fn lose_link(&mut self, id: u64, end: End) {
        let Some(link) = self.links.get_mut(&id) else {
            return;
        };
        let (machine, boot) = (link.machine, link.boot);
        link.lane(end).is_gone = true;
        match end {
            End::Controller => self.forget_session(id),
            End::Node => {
                let agent = self.machines[machine].agent_of(boot);
                if let Some(agent) = agent.filter(|agent| agent.link == Some(id)) {
                    agent.link = None;
                    agent.records.handle_disconnected();
                    self.say(format!("m{machine} lost link {id}"));
                    let wait = self.dice.time(RETRY_MIN..RETRY_MAX);
                    self.queue
                        .at(self.now + wait, Happening::Connect { machine, boot });
                }
            }
        }
    }
}

impl Link {
    fn lane(&mut self, end: End) -> &mut Lane {
        match end {
            End::Node => &mut self.node_end,
            End::Controller => &mut self.controller_end,
        }
    }
}

/// After this much silence both ends give a connection up, as crates/transport does.
pub(crate) const IDLE: Duration = Duration::from_secs(15);
const RETRANSMIT: Duration = Duration::from_millis(300);
const RETRY_MIN: Duration = Duration::from_millis(50);
const RETRY_MAX: Duration = Duration::from_secs(2);
