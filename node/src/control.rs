//! The control side: takes the controller's word to the packet loop, and the node's word to the controller.
//!
//! **Invariant:** a revision is acknowledged only once it is enforced, its devices are up, and it is on disk.

use std::collections::{BTreeMap, BTreeSet};
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::{Duration, Instant};

use tokio::sync::{mpsc, watch};
use tokio::task::JoinSet;
use tokio::time::MissedTickBehavior;

use ringfence_control::saved::Peers;
use ringfence_control::{HelloFacts, NodeAction, NodeSession, PeerCandidates, ToController, ToNode};
use ringfence_dataplane::SegmentFacts;
use ringfence_model::{Candidate, Name, NodeId, PublicKey, UnixMillis};

use crate::attest::{AttestInput, Attestor};
use crate::candidates::Sources;
use crate::clock::SleepWatch;
use crate::command::{Command, LoopEvent};
use crate::flows::{Flows, FlowsInput};
use crate::guard::Guard;
use crate::identity::Identity;
use crate::link::LinkEvent;
use crate::logins::{Ask, Logins};
use crate::netlink::Netlink;
use crate::packet_loop::{LoopEnded, LoopHandle};
use crate::pings::Pings;
use crate::posture::{Posture, PostureInput};
use crate::report::ChangingFacts;
use crate::state::{NodeFile, StateDir};
use crate::uapi::Uapi;

mod devices;
mod disown;
mod enforce;
mod liveness;
mod orders;
mod restart;

/// The control side of one node.
pub(crate) struct Control {
    pub(crate) state: StateDir,
    pub(crate) node: NodeFile,
    pub(crate) identity: watch::Sender<Arc<Identity>>,
    pub(crate) session: NodeSession,
    pub(crate) packets: LoopHandle,
    pub(crate) flows: Flows,
    pub(crate) loop_events: mpsc::Receiver<LoopEvent>,
    pub(crate) link_events: mpsc::Receiver<LinkEvent>,
    pub(crate) logins: Logins,
    /// What people ask.
    pub(crate) login_asks: mpsc::Receiver<Ask>,
    pub(crate) netlink: Netlink,
    /// `None` where the kernel has no nftables.
    pub(crate) guard: Option<Guard>,
    pub(crate) uapi: Uapi,
    pub(crate) pings: Pings,
    pub(crate) posture: Posture,
    pub(crate) attestor: Attestor,
    pub(crate) changing: watch::Sender<ChangingFacts>,
    /// `--endpoint`.
    pub(crate) configured: Vec<SocketAddr>,
    pub(crate) listen_port: u16,
    /// Of the lanes after the first.
    pub(crate) lane_ports: Vec<u16>,
    /// Drawn at the start; another whenever sessions with peers are lost after it.
    pub(crate) epoch: u64,
    pub(crate) memory: Memory,
}

/// What the control side keeps in mind between two messages.
#[derive(Default)]
pub(crate) struct Memory {
    /// To the controller, while connected.
    link: Option<mpsc::Sender<ToController>>,
    /// What the controller of this connection can do.
    capability: u32,
    /// Our devices, by name.
    devices: BTreeMap<String, SegmentFacts>,
    /// Keys that the controller has not confirmed.
    unregistered: BTreeMap<Name, PublicKey>,
    keys_offered: Option<Instant>,
    /// What a restart can use.
    peers: Peers,
    /// The same as it is on disk.
    peers_saved: Peers,
    /// With whom an earlier run had sessions, until they are made anew.
    former_sessions: BTreeMap<Name, BTreeSet<NodeId>>,
    /// What the controller was last told of ours.
    told: Option<Vec<Candidate>>,
    /// When this host's addresses were last read.
    addresses_read: Option<Instant>,
    /// When the controller last said anything.
    heard: Option<Instant>,
    word_saved: Option<Instant>,
    renewal_asked: Option<Instant>,
    /// The controller's clock, and when it was read.
    controller_clock: Option<(Instant, UnixMillis)>,
    /// Orders that are being carried out.
    errands: JoinSet<ToController>,
    /// Ports held for drills, each for a bounded time.
    answering: JoinSet<()>,
    sleep: SleepWatch,
}

/// Why the control side ended.
#[derive(Debug)]
pub(crate) enum Ended {
    /// It was asked to.
    Stopped,
    /// The mesh removed this node; everything it held is gone.
    Removed(String),
}

/// One thing to react to.
enum Input {
    Stop,
    Loop(Option<LoopEvent>),
    Link(Option<LinkEvent>),
    Errand(ToController),
    Login(Ask),
    Tick,
}

impl Control {
    /// Puts what was saved in force again, then follows the controller until `stop` resolves.
    pub(crate) async fn run(&mut self, stop: impl Future<Output = ()>) -> Result<Ended, LoopEnded> {
        tokio::pin!(stop);
        let mut tick = tokio::time::interval(TICK);
        tick.set_missed_tick_behavior(MissedTickBehavior::Delay);
        loop {
            let input = tokio::select! {
                () = &mut stop => Input::Stop,
                event = self.loop_events.recv() => Input::Loop(event),
                event = self.link_events.recv() => Input::Link(event),
                Some(Ok(message)) = self.memory.errands.join_next() => Input::Errand(message),
                Some(asked) = self.login_asks.recv() => Input::Login(asked),
                _ = tick.tick() => Input::Tick,
            };
            match input {
                Input::Stop => return Ok(Ended::Stopped),
                Input::Loop(Some(event)) => self.handle_loop_event(event).await?,
                Input::Loop(None) | Input::Link(None) => return Err(LoopEnded),
                Input::Link(Some(event)) => {
                    if let Some(reason) = self.handle_link_event(event).await? {
                        self.leave().await?;
                        return Ok(Ended::Removed(reason));
                    }
                }
                Input::Errand(message) => self.say(message),
                Input::Login(asked) => self.hand_on(asked),
                Input::Tick => self.handle_tick().await,
            }
        }
    }

    async fn handle_link_event(&mut self, event: LinkEvent) -> Result<Option<String>, LoopEnded> {
        match event {
            LinkEvent::Connected { address, outgoing } => self.greet(address, outgoing).await,
            LinkEvent::Message(message) => return self.handle_message(message).await,
            LinkEvent::Disowned => self.close_all().await?,
            LinkEvent::Lost { why } => {
                self.memory.link = None;
                self.flows.tell(FlowsInput::Disconnected);
                self.posture.tell(PostureInput::Disconnected);
                self.attestor.tell(AttestInput::Disconnected);
                self.memory.told = None;
                if self.changing.borrow().controller.error.as_ref() != Some(&why) {
                    tracing::warn!(%why, "no connection to the controller");
                    self.tell_of_expiry();
                }
                self.changing.send_modify(|facts| {
                    facts.controller.connected = false;
                    facts.controller.error = Some(why);
                });
            }
        }
        Ok(None)
    }

    async fn greet(&mut self, address: String, outgoing: mpsc::Sender<ToController>) {
        tracing::info!("connected to the controller");
        self.memory.link = Some(outgoing);
        self.memory.heard = Some(Instant::now());
        self.changing.send_modify(|facts| {
            facts.controller.connected = true;
            facts.controller.address = Some(address);
            facts.controller.error = None;
        });
        let version = env!("CARGO_PKG_VERSION").to_owned();
        let hello = self.session.hello(HelloFacts {
            version,
            listen_port: self.listen_port,
            epoch: self.epoch,
            lane_ports: self.lane_ports.clone(),
        });
        self.say(hello);
        for (perimeter, public_key) in self.memory.unregistered.clone() {
            self.register_key(perimeter, public_key);
        }
        self.tell_candidates().await;
    }

    async fn handle_message(&mut self, message: ToNode) -> Result<Option<String>, LoopEnded> {
        let arrived = Instant::now();
        self.memory.heard = Some(arrived);
        tracing::debug!(kind = message.kind(), "word from the controller");
        if let ToNode::Welcome(welcome) = &message {
            self.memory.controller_clock = Some((arrived, welcome.wall));
            self.memory.capability = welcome.capability;
        }
        if let Err(error) = self.session.handle_message(message) {
            tracing::error!(%error, "the controller is not ours: hanging up");
            self.memory.link = None;
            return Ok(None);
        }
        while let Some(action) = self.session.poll_action() {
            match action {
                NodeAction::Send(message) => self.say(message),
                NodeAction::Enforce(netmap) => self.enforce(*netmap, arrived).await?,
                NodeAction::ExtendLeases => self.extend_leases().await?,
                NodeAction::SetCandidates(told) => self.set_candidates(told).await?,
                NodeAction::StoreCertificate { chain_pem } => self.store_certificate(&chain_pem),
                NodeAction::Probe(order) => self.probe(order),
                NodeAction::Drill(order) => self.drill(&order),
                NodeAction::AnswerSeen(question) => self.answer_seen(question).await?,
                NodeAction::WatchPosture(order) => {
                    if let Some(link) = &self.memory.link {
                        self.posture.tell(PostureInput::Watch(order, link.downgrade()));
                    }
                }
                NodeAction::OfferTpm => {
                    if let Some(link) = &self.memory.link {
                        self.attestor.tell(AttestInput::Connected(link.downgrade()));
                    }
                }
                NodeAction::AnswerTpm(asked) => self.attestor.tell(AttestInput::Challenge(asked)),
                NodeAction::OfferFlowRecords => {
                    if let Some(link) = &self.memory.link {
                        self.flows.tell(FlowsInput::Connected(link.downgrade()));
                    }
                }
                NodeAction::ForgetFlowRecords(taken) => self.flows.tell(FlowsInput::Taken(taken)),
                NodeAction::TellLogin(news) => self.logins.tell(news),
                NodeAction::Refused { reason } => tracing::warn!(reason, "the controller refused a request"),
                NodeAction::Leave { reason } => return Ok(Some(reason)),
            }
        }
        Ok(None)
    }

    /// Sends a message if there is a connection. What matters is said again on the next one.
    fn say(&mut self, message: ToController) {
        let Some(link) = &self.memory.link else { return };
        if let Err(error) = link.try_send(message) {
            tracing::warn!(%error, "a message to the controller was lost: hanging up");
            self.memory.link = None;
        }
    }

    async fn set_candidates(&mut self, told: PeerCandidates) -> Result<(), LoopEnded> {
        let candidates = told.candidates.clone();
        self.memory.peers.candidates.insert(told.peer, candidates);
        let lane_ports = &mut self.memory.peers.lane_ports;
        if told.lane_ports.is_empty() {
            lane_ports.remove(&told.peer);
        } else {
            lane_ports.insert(told.peer, told.lane_ports.clone());
        }
        self.packets.send(Command::PeerCandidates(told)).await
    }

    fn store_certificate(&mut self, chain_pem: &str) {
        let renewed = self.identity.borrow().renewed(chain_pem);
        match renewed.and_then(|identity| identity.save(&self.state).map(|()| identity)) {
            Ok(identity) => {
                tracing::info!("the node's certificate was renewed");
                self.identity.send_replace(Arc::new(identity));
            }
            Err(error) => tracing::error!(
                error = format!("{error:#}"),
                "the renewed certificate is of no use"
            ),
        }
    }

    async fn handle_tick(&mut self) {
        if self.memory.sleep.has_slept() {
            // The loops' waits stood still meanwhile, leases and keys did not.
            self.packets.wake();
        }
        self.hang_up_on_silence();
        self.tell_candidates().await;
        self.ask_for_renewal();
        self.offer_keys_again();
        self.save_peers();
    }

    /// A controller that could not record a key (its disk was full) refuses it and forgets: without a second word the
    /// segment would stay without peers until the next connection.
    fn offer_keys_again(&mut self) {
        let waiting = self
            .memory
            .keys_offered
            .is_some_and(|offered| offered.elapsed() < KEYS_RETRY);
        if waiting || self.memory.link.is_none() {
            return;
        }
        self.memory.keys_offered = Some(Instant::now());
        for (perimeter, public_key) in self.memory.unregistered.clone() {
            self.register_key(perimeter, public_key);
        }
    }

    /// Tells the controller where this node may be reached, if that changed.
    async fn tell_candidates(&mut self) {
        if self.memory.link.is_none() {
            return;
        }
        let has_news = self.netlink.take_news() || self.memory.told.is_none();
        let is_fresh = |read: Instant| read.elapsed() < ADDRESSES_READ_EVERY;
        if !has_news && self.memory.addresses_read.is_some_and(is_fresh) {
            return;
        }
        self.memory.addresses_read = None;
        let own = self.memory.devices.keys().cloned().collect();
        let addresses = match self.netlink.underlay_addresses(&own).await {
            Ok(addresses) => {
                self.memory.addresses_read = Some(Instant::now());
                addresses
            }
            Err(error) => {
                tracing::warn!(%error, "this host's addresses could not be read");
                return;
            }
        };
        let sources = Sources {
            configured: &self.configured,
            addresses: &addresses,
            port: self.listen_port,
            netmap: self.session.netmap(),
        };
        let candidates = sources.candidates();
        if self.memory.told.as_ref() != Some(&candidates) {
            self.say(ToController::Candidates(candidates.clone()));
            self.memory.told = Some(candidates);
        }
    }

    /// Asks for the next certificate in time, by the clock of the controller, which judges it: this host's may be off.
    fn ask_for_renewal(&mut self) {
        let waiting = self
            .memory
            .renewal_asked
            .is_some_and(|asked| asked.elapsed() < RENEWAL_RETRY);
        let due = self.memory.controller_clock.is_some_and(|(read, wall)| {
            self.identity
                .borrow()
                .renewal_due(wall.saturating_add(read.elapsed()))
        });
        if self.memory.link.is_none() || waiting || !due {
            return;
        }
        let renew = self.identity.borrow().renew();
        match renew {
            Ok(renew) => {
                self.memory.renewal_asked = Some(Instant::now());
                self.say(ToController::Renew(renew));
            }
            Err(error) => tracing::error!(error = format!("{error:#}"), "no certificate could be asked for"),
        }
    }

    fn rename(&mut self, name: &Name) {
        self.changing.send_if_modified(|facts| {
            let renamed = facts.name != *name;
            facts.name.clone_from(name);
            renamed
        });
    }
}

/// How often it is looked whether addresses changed, and at the certificate.
const TICK: Duration = Duration::from_secs(3);
/// How often addresses are read though the kernel told of no change: with many devices it has much to list.
const ADDRESSES_READ_EVERY: Duration = Duration::from_mins(1);
/// How long an answer to a renewal may take before it is asked for again.
/// Also after an answer: a controller whose clock was set back by many hours makes certificates that look old here
/// until the next connection.
const RENEWAL_RETRY: Duration = Duration::from_mins(5);
/// How often a key that is not confirmed is offered again.
const KEYS_RETRY: Duration = Duration::from_secs(15);
