//! The controller's side of every connection: what controller/src/session.rs does, around the shipped session.
//!
//! **Invariant:** authority is judged from live state for every message.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::time::Duration;

use ringfence_control::{ControllerSession, Goodbye, Hello, Refused, RegisterKey, ToController, ToNode};
use ringfence_controlplane::{Actor, Command, Connection, Refusal};
use ringfence_model::{Candidate, CandidateKind, NodeId, Revision};

use crate::controller::{Effect, NotDone, Seat};
use crate::link::End;
use crate::network::PORT;
use crate::obey::WORDS_MAX;
use crate::schedule::Happening;
use crate::violation::Violation;
use crate::world::World;

impl World {
    /// A node's word arrives. Authority is judged for each.
    pub(crate) fn hear_node(&mut self, link: u64, message: ToController) -> Result<(), Violation> {
        let Some((machine, node, spki)) = self
            .links
            .get(&link)
            .map(|link| (link.machine, link.node, link.spki.clone()))
        else {
            return Ok(());
        };
        let Some(core) = self.controller.core.as_mut() else {
            return Ok(());
        };
        if core.controller.authorize(&self.mesh, node, &spki).is_err() {
            self.say_goodbye(link);
            return Ok(());
        }
        let now = self.base + self.now;
        match message {
            ToController::Hello(hello) => self.welcome(link, machine, node, &hello)?,
            ToController::RegisterKey(key) => self.register_key(link, node, key)?,
            ToController::Candidates(candidates) => self.note_candidates(machine, node, candidates),
            ToController::Enforced(enforced) => {
                let wall = self.wall();
                if let Some(core) = self.controller.core.as_mut()
                    && let Some(seat) = core.sessions.get_mut(&link)
                    && seat.session.handle_enforced(&enforced)
                {
                    core.controller
                        .enforced(node, enforced.revision, enforced.took_us, wall);
                    self.check_acknowledgement(machine, node, enforced.revision)?;
                }
            }
            ToController::NetmapRefused(refused) => {
                let wall = self.wall();
                let Some(core) = self.controller.core.as_mut() else {
                    return Ok(());
                };
                if let Some(netmap) = core.controller.netmap(node, wall)
                    && let Some(seat) = core.sessions.get_mut(&link)
                    && let Some(message) = seat.session.handle_refused(&refused, &netmap, now)
                {
                    seat.has = netmap.content_hash_at(Revision::ZERO);
                    self.tell_node(link, &message);
                }
            }
            ToController::Renew(_) => self.renew(link, node)?,
            ToController::FlowRecords(batch) => self.receive_records(link, batch),
            // No check asks anything of these nodes, and nobody logs in at them.
            ToController::Posture(_)
            | ToController::ProbeResult(_)
            | ToController::Seen(_)
            | ToController::DrillResult(_)
            | ToController::TpmOffer(_)
            | ToController::TpmProof(_)
            | ToController::LoginStart(_)
            | ToController::LoginCode(_)
            | ToController::EndLogin(_)
            | ToController::AskSession(_)
            | ToController::AskAccess(_)
            | ToController::AskWhy(_)
            | ToController::LocalLogin(_)
            | ToController::Pong(_) => {}
        }
        Ok(())
    }

    pub(crate) fn welcome(
        &mut self,
        link: u64,
        machine: usize,
        node: NodeId,
        hello: &Hello,
    ) -> Result<(), Violation> {
        for older in self.links_of(node) {
            self.forget_session(older);
            self.queue.at(
                self.now + Duration::from_millis(100),
                Happening::LinkLost {
                    link: older,
                    end: End::Node,
                },
            );
        }
        let (now, wall) = (self.instant(), self.wall());
        let remote = SocketAddr::new(self.network.seen_at(machine), 40_000);
        let mesh = self.mesh.clone();
        let Some(core) = self.controller.core.as_mut() else {
            return Ok(());
        };
        let Some(netmap) = core.controller.netmap(node, wall) else {
            return Ok(());
        };
        let connection = Connection {
            id: link,
            remote,
            since: wall,
        };
        core.controller.connected(node, connection, &hello.version);
        core.controller.begin_epoch(node, link, hello.epoch);
        core.controller.set_lane_ports(node, link, &hello.lane_ports);
        let mut session = ControllerSession::new(node);
        let messages = session
            .handle_hello(hello, &mesh, &netmap, wall, now)
            .map_err(|error| Violation::new("terms", format!("m{machine}: {error}")).of(machine))?;
        core.sessions.insert(
            link,
            Seat {
                session,
                has: netmap.content_hash_at(Revision::ZERO),
                told: BTreeMap::new(),
                is_storing: false,
            },
        );
        if self.words.len() == WORDS_MAX {
            self.words.pop_front();
        }
        self.words.push_back(netmap);
        for message in messages {
            self.tell_node(link, &message);
        }
        self.tell_peers(link, node);
        self.plan_tick();
        Ok(())
    }

    pub(crate) fn push(&mut self, link: u64, node: NodeId) {
        let (now, wall) = (self.instant(), self.wall());
        let Some(core) = self.controller.core.as_mut() else {
            return;
        };
        let (Some(netmap), Some(seat)) = (core.controller.netmap(node, wall), core.sessions.get_mut(&link))
        else {
            return;
        };
        if let Some(message) = seat.session.push(&netmap, now) {
            seat.has = netmap.content_hash_at(Revision::ZERO);
            self.tell_node(link, &message);
            self.tell_peers(link, node);
        }
    }

    /// Whoever is connected has been told of all that concerns it: its leases go on for what it was told.
    pub(crate) fn check_pushes(&self) -> Result<(), Violation> {
        let wall = self.wall();
        let Some(core) = self.controller.core.as_ref() else {
            return Ok(());
        };
        for seat in core.sessions.values() {
            let node = seat.session.node();
            let netmap = core.controller.netmap(node, wall);
            let wanted = netmap.map(|netmap| netmap.content_hash_at(Revision::ZERO));
            if wanted.is_some_and(|wanted| wanted != seat.has) {
                let newest = core.controller.revision();
                let what = format!("node {node} was not told of {newest}, which changes its netmap");
                let machine = self.machine_of(node);
                return Err(machine.map_or(Violation::new("told", &*what), |machine| {
                    Violation::new("told", &*what).of(machine)
                }));
            }
        }
        Ok(())
    }

    pub(crate) fn say_goodbye(&mut self, link: u64) {
        let goodbye = Goodbye {
            reason: "removed".to_owned(),
        };
        self.tell_node(link, &ToNode::Goodbye(goodbye));
        self.forget_session(link);
        let wait = Duration::from_secs(1) + self.network.delay();
        for end in [End::Node, End::Controller] {
            self.queue.at(self.now + wait, Happening::LinkLost { link, end });
        }
    }

    /// A connection's end at the controller is gone.
    pub(crate) fn forget_session(&mut self, link: u64) {
        let wall = self.wall();
        if let Some(core) = self.controller.core.as_mut()
            && let Some(seat) = core.sessions.remove(&link)
        {
            let node = seat.session.node();
            core.controller.disconnected(node, link, wall);
            self.controller.heard.insert(node, self.now);
        }
    }

    /// Candidates of a node's peers, as far as it has not heard them.
    pub(crate) fn tell_peers(&mut self, link: u64, node: NodeId) {
        let wall = self.wall();
        let Some(core) = self.controller.core.as_mut() else {
            return;
        };
        let Some(seat) = core.sessions.get_mut(&link) else {
            return;
        };
        let Some(netmap) = core.controller.netmap(node, wall) else {
            return;
        };
        let news = core.controller.news_beyond(&netmap, &mut seat.told);
        seat.told
            .extend(news.iter().map(|news| (news.peer, news.clone())));
        for news in news {
            self.tell_node(link, &ToNode::PeerCandidates(news));
        }
    }

    pub(crate) fn note_candidates(&mut self, machine: usize, node: NodeId, mut candidates: Vec<Candidate>) {
        candidates.push(Candidate {
            address: SocketAddr::new(self.network.seen_at(machine), PORT),
            kind: CandidateKind::ServerReflexive,
        });
        candidates.sort_by_key(|candidate| candidate.kind);
        let Some(core) = self.controller.core.as_mut() else {
            return;
        };
        let listeners = core.controller.set_candidates(node, &candidates);
        for listener in listeners {
            for link in self.links_of(listener) {
                self.tell_peers(link, listener);
            }
        }
    }

    fn register_key(&mut self, link: u64, node: NodeId, key: RegisterKey) -> Result<(), Violation> {
        let command = Command::RegisterKey {
            node,
            perimeter: key.perimeter.clone(),
            public_key: key.public_key,
        };
        let effect = Effect::Key(key.perimeter, node, key.public_key);
        let done = self.commit(|request| Actor::node(node, request), command, effect)?;
        let refused = match done {
            Ok(_) | Err(NotDone::Refused(Refusal::Unchanged) | NotDone::Down) => None,
            Err(NotDone::Refused(refusal)) => Some(refusal.to_string()),
            Err(NotDone::Full) => Some("the log is full".to_owned()),
        };
        if let Some(reason) = refused {
            self.tell_node(link, &ToNode::Refused(Refused { reason }));
        }
        Ok(())
    }

    /// What a node acknowledged is on its disk, or nothing is: a restart never goes back behind it.
    fn check_acknowledgement(
        &self,
        machine: usize,
        node: NodeId,
        revision: Revision,
    ) -> Result<(), Violation> {
        let disk = &self.machines[machine].disk;
        let is_other = disk
            .identity
            .as_ref()
            .is_none_or(|identity| identity.node != node);
        if is_other || disk.has_forgotten {
            return Ok(());
        }
        let saved = disk.netmap().map(|netmap| netmap.revision);
        if saved.is_none_or(|saved| saved >= revision) {
            return Ok(());
        }
        let what = format!("m{machine} acknowledged {revision} with {saved:?} on disk");
        Err(Violation::new("acknowledgement", what).of(machine))
    }

    pub(crate) fn links_of(&self, node: NodeId) -> Vec<u64> {
        let sessions = self.controller.core.iter().flat_map(|core| &core.sessions);
        sessions
            .filter(|(_, seat)| seat.session.node() == node)
            .map(|(link, _)| *link)
            .collect()
    }
}
