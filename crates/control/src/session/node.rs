//! A node's end: the netmap it stands on, and what each word from the controller asks it to do.
//!
//! **Invariant:** the netmap offered to the dataplane is never older than the one in force, is always this node's own,
//! and has passed [`Netmap::check`]; what fails is refused whole and the one in force stays.

use std::collections::VecDeque;

use ringfence_model::sabotage::{Safeguard, is_off};
use ringfence_model::{Name, NodeId, Revision};

use crate::drill::DrillOrder;
use crate::probe::{ProbeOrder, SeenQuestion};
use crate::{
    CAPABILITY, Delta, Enforced, FLOW_RECORDS_SINCE, FlowRecordsTaken, Hello, Lease, LoginNews, Netmap,
    NetmapRefused, PeerCandidates, PostureOrder, TPM_SINCE, ToController, ToNode, TpmChallenge, Welcome,
};

/// A node's end. Lives as long as the process; connections come and go.
#[derive(Debug)]
pub struct NodeSession {
    mesh: Name,
    node: NodeId,
    in_force: Option<Netmap>,
    /// Handed out by [`NodeAction::Enforce`] and not yet answered.
    offered: Option<Netmap>,
    actions: VecDeque<NodeAction>,
}

/// What a node says of itself.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct HelloFacts {
    /// The program's version.
    pub version: String,
    /// The UDP port of its tunnels.
    pub listen_port: u16,
    /// Another number whenever it has lost its sessions with its peers.
    pub epoch: u64,
    /// The UDP ports of its further lanes.
    pub lane_ports: Vec<u16>,
}

/// What the shell has to do, in order.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum NodeAction {
    /// Send this.
    Send(ToController),
    /// Give this to the dataplane, then call [`NodeSession::handle_enforced`] or
    /// [`NodeSession::handle_not_enforced`] before the next message. It is word from the controller, so it extends
    /// every lease as well.
    Enforce(Box<Netmap>),
    /// Extend every lease.
    ExtendLeases,
    /// Tell the dataplane where a peer may be reached.
    SetCandidates(PeerCandidates),
    /// Take this certificate from the next connection on.
    StoreCertificate {
        /// Leaf first.
        chain_pem: String,
    },
    /// Try these and send [`ToController::ProbeResult`].
    Probe(ProbeOrder),
    /// Take this part and send [`ToController::DrillResult`].
    Drill(DrillOrder),
    /// Look these up and send [`ToController::Seen`].
    AnswerSeen(SeenQuestion),
    /// Look these up from now on, and report them with [`ToController::Posture`].
    WatchPosture(PostureOrder),
    /// The controller takes [`ToController::TpmOffer`] from now on, until the connection ends.
    OfferTpm,
    /// Have the TPM answer and send [`ToController::TpmProof`].
    AnswerTpm(TpmChallenge),
    /// The controller takes flow records from now on, until the connection ends.
    OfferFlowRecords,
    /// The controller has stored these.
    ForgetFlowRecords(FlowRecordsTaken),
    /// Hand this to whoever asked, if they still wait.
    TellLogin(LoginNews),
    /// Something asked for was refused: log it.
    Refused {
        /// For people.
        reason: String,
    },
    /// This node was removed from the mesh: close every segment at once and forget identity and netmap.
    Leave {
        /// For people.
        reason: String,
    },
}

/// Why a connection cannot go on.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum SessionError {
    /// It is another mesh's controller.
    #[error("the controller is of mesh {theirs}, this node of {ours}")]
    Mesh {
        /// This node's.
        ours: Name,
        /// The controller's.
        theirs: Name,
    },
}

impl NodeSession {
    /// A session that stands on `restored`: the netmap saved by an earlier run, if it is in force again.
    pub fn new(mesh: Name, node: NodeId, restored: Option<Netmap>) -> Self {
        Self {
            mesh,
            node,
            in_force: restored,
            offered: None,
            actions: VecDeque::new(),
        }
    }

    /// The first word on a new connection. What an earlier one left unanswered is forgotten.
    pub fn hello(&mut self, facts: HelloFacts) -> ToController {
        self.offered = None;
        self.actions.clear();
        ToController::Hello(Hello {
            capability: CAPABILITY,
            version: facts.version,
            revision: self.revision(),
            netmap_hash: self.in_force.as_ref().map(Netmap::content_hash),
            listen_port: facts.listen_port,
            epoch: facts.epoch,
            lane_ports: facts.lane_ports,
        })
    }

    /// Takes one message. Drain [`Self::poll_action`] before the next.
    ///
    /// # Errors
    /// [`SessionError`]: close the connection.
    pub fn handle_message(&mut self, message: ToNode) -> Result<(), SessionError> {
        match message {
            ToNode::Welcome(welcome) => self.handle_welcome(&welcome)?,
            ToNode::Full(netmap) => self.handle_full(netmap),
            ToNode::Delta(delta) => self.handle_delta(&delta),
            ToNode::PeerCandidates(peer) => self.actions.push_back(NodeAction::SetCandidates(peer)),
            ToNode::Lease(lease) => self.handle_lease(lease),
            ToNode::Renewed(renewed) => self.actions.push_back(NodeAction::StoreCertificate {
                chain_pem: renewed.certificate_chain_pem,
            }),
            ToNode::Probe(order) => self.actions.push_back(NodeAction::Probe(order)),
            ToNode::Drill(order) => self.actions.push_back(NodeAction::Drill(order)),
            ToNode::AskSeen(question) => self.actions.push_back(NodeAction::AnswerSeen(question)),
            ToNode::Refused(refused) => self.actions.push_back(NodeAction::Refused {
                reason: refused.reason,
            }),
            ToNode::Goodbye(goodbye) => self.actions.push_back(NodeAction::Leave {
                reason: goodbye.reason,
            }),
            ToNode::Ping(ping) => self.send(ToController::Pong(ping)),
            ToNode::PostureOrder(order) => self.actions.push_back(NodeAction::WatchPosture(order)),
            ToNode::TpmChallenge(challenge) => self.actions.push_back(NodeAction::AnswerTpm(challenge)),
            ToNode::LoginStarted(started) => self.tell_login(LoginNews::Started(started)),
            ToNode::LoginDone(done) => self.tell_login(LoginNews::Done(done)),
            ToNode::SessionAnswer(answer) => self.tell_login(LoginNews::Session(answer)),
            ToNode::LocalLoginDone(done) => self.tell_login(LoginNews::Local(done)),
            ToNode::WhyAnswer(answer) => self.tell_login(LoginNews::Why(answer)),
            ToNode::AccessAnswer(answer) => self.tell_login(LoginNews::Access(answer)),
            ToNode::FlowRecordsTaken(taken) => self.actions.push_back(NodeAction::ForgetFlowRecords(taken)),
        }
        Ok(())
    }

    /// The dataplane enforces the netmap it was given.
    pub fn handle_enforced(&mut self, revision: Revision, took_us: u64) {
        if let Some(netmap) = self.offered.take_if(|netmap| netmap.revision == revision) {
            self.in_force = Some(netmap);
        }
        self.send(ToController::Enforced(Enforced { revision, took_us }));
    }

    /// The dataplane refused the netmap it was given; the one in force stays.
    pub fn handle_not_enforced(&mut self, revision: Revision, why: String) {
        self.offered.take_if(|netmap| netmap.revision == revision);
        self.refuse(revision, why);
    }

    /// What to do next.
    pub fn poll_action(&mut self) -> Option<NodeAction> {
        self.actions.pop_front()
    }

    /// The netmap in force.
    pub fn netmap(&self) -> Option<&Netmap> {
        self.in_force.as_ref()
    }

    /// The revision in force.
    pub fn revision(&self) -> Option<Revision> {
        self.in_force.as_ref().map(|netmap| netmap.revision)
    }

    fn handle_welcome(&mut self, welcome: &Welcome) -> Result<(), SessionError> {
        if welcome.mesh != self.mesh {
            return Err(SessionError::Mesh {
                ours: self.mesh.clone(),
                theirs: welcome.mesh.clone(),
            });
        }
        if welcome.capability >= FLOW_RECORDS_SINCE {
            self.actions.push_back(NodeAction::OfferFlowRecords);
        }
        if welcome.capability >= TPM_SINCE {
            self.actions.push_back(NodeAction::OfferTpm);
        }
        Ok(())
    }

    fn handle_full(&mut self, netmap: Netmap) {
        let newest = self.newest().map_or(Revision::ZERO, |netmap| netmap.revision);
        if netmap.revision < newest && !is_off(Safeguard::Monotony) {
            let why = format!("revision {} is older than {newest}", netmap.revision);
            self.refuse(netmap.revision, why);
            return;
        }
        self.offer(netmap);
    }

    fn handle_delta(&mut self, delta: &Delta) {
        let Some(base) = self.newest() else {
            self.refuse(delta.revision, "there is no netmap in force to change".to_owned());
            return;
        };
        match delta.apply(base) {
            Ok(netmap) => self.offer(netmap),
            Err(error) => self.refuse(delta.revision, error.to_string()),
        }
    }

    /// A lease counts only for the very revision this node enforces: one that speaks of another comes from a
    /// controller that was set back, or tells of a change this node has missed.
    fn handle_lease(&mut self, lease: Lease) {
        if self.revision() == Some(lease.revision) {
            self.actions.push_back(NodeAction::ExtendLeases);
        } else if self.offered.is_none() {
            let here = self
                .revision()
                .map_or_else(|| "none".to_owned(), |revision| revision.to_string());
            self.refuse(
                lease.revision,
                format!("a lease for revision {} does not cover {here}", lease.revision),
            );
        }
    }

    fn offer(&mut self, netmap: Netmap) {
        let revision = netmap.revision;
        let is_ours =
            netmap.mesh == self.mesh && (netmap.node == self.node || is_off(Safeguard::NetmapOwner));
        if !is_ours {
            let why = format!("it is for node {} of mesh {}", netmap.node, netmap.mesh);
            self.refuse(revision, why);
            return;
        }
        if let Err(fault) = netmap.check() {
            self.refuse(revision, fault.to_string());
            return;
        }
        self.offered = Some(netmap.clone());
        self.actions.push_back(NodeAction::Enforce(Box::new(netmap)));
    }

    fn tell_login(&mut self, news: LoginNews) {
        self.actions.push_back(NodeAction::TellLogin(news));
    }

    fn newest(&self) -> Option<&Netmap> {
        self.offered.as_ref().or(self.in_force.as_ref())
    }

    fn refuse(&mut self, revision: Revision, why: String) {
        self.send(ToController::NetmapRefused(NetmapRefused { revision, why }));
    }

    fn send(&mut self, message: ToController) {
        self.actions.push_back(NodeAction::Send(message));
    }
}
