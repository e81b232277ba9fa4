//! One node's control connection, from its certificate to its end.
//!
//! What to send next is [`ControllerSession`]'s to say; this file moves messages and asks the core.
//!
//! **Invariant:** authority is judged from live state for every message (red line 6): a node that was removed is told
//! so and gets nothing more.

mod access;
mod candidates;
mod flows;
mod keys;
mod logins;
mod posture;
mod requests;
mod source;
mod tpm;
mod unanswered;
mod why;

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, anyhow, bail};
use ringfence_control::{
    ControllerSession, FlowRecordsTaken, Goodbye, Hello, PeerCandidates, Refused, ToController, ToNode,
};
use ringfence_controlplane::{Connection, PushKind};
use ringfence_model::{Name, NodeId};
use ringfence_transport::{CloseReason, ControlRequest, PeerIdentity, Receiver, Sender};
use tokio::task::JoinSet;

use crate::ca::CertificateAuthority;
use crate::core::{CoreHandle, Pushes, wall_now};
use crate::flows::Flows;
use crate::identity::{LocalAccounts, Logins};
use crate::sessions::{SessionSeat, Sessions};

/// What every connection needs.
#[derive(Clone)]
pub struct SessionContext {
    /// State and log.
    pub core: CoreHandle,
    /// What nodes tell of ended flows.
    pub flows: Flows,
    /// The logins of people at nodes.
    pub logins: Logins,
    /// Those who need no provider.
    pub accounts: LocalAccounts,
    /// The nodes connected now.
    pub sessions: Sessions,
    /// Signs certificates.
    pub authority: Arc<CertificateAuthority>,
    /// The mesh.
    pub mesh: Name,
}

struct Session {
    context: SessionContext,
    node: NodeId,
    /// Which of the node's connections this is.
    connection: u64,
    identity: PeerIdentity,
    state: ControllerSession,
    sender: Sender<ToNode>,
    listen_port: u16,
    renewed_at: Option<Instant>,
    place: source::Place,
    announcements: candidates::Announcements,
    posture: posture::Posture,
    tpm: tpm::Tpm,
    /// How often it was refused something, or refused something itself.
    refusals: u32,
    /// What the node was told of its peers' candidates.
    told: BTreeMap<NodeId, PeerCandidates>,
    unanswered: unanswered::Unanswered,
    /// What the node can do: see [`ringfence_control::CAPABILITY`].
    capability: u32,
    /// The perimeters that the flow records know this node for.
    noted: BTreeSet<Name>,
    /// A batch of flow records on its way to the disk.
    storing: JoinSet<Option<FlowRecordsTaken>>,
    login_errands: logins::LoginErrands,
}

/// How a session goes on after a message.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Next {
    Continue,
    End,
}

/// Serves one node until it goes.
pub async fn serve(context: SessionContext, request: ControlRequest) {
    let (node, remote) = (request.node, request.remote);
    if let Err(error) = run(context, request).await {
        tracing::info!(%node, %remote, error = format!("{error:#}"), "control connection ended");
    }
}

async fn run(context: SessionContext, request: ControlRequest) -> Result<()> {
    let (node, identity, remote) = (request.node, request.identity.clone(), request.remote);
    if let Err(why) = authorize(&context, node, &identity).await? {
        tracing::warn!(%node, %remote, why, "a node was turned away");
        request.disown(&why);
        return Ok(());
    }
    let (sender, mut receiver) = request.accept().await?;
    let hello = match tokio::time::timeout(HELLO_WAIT, receiver.recv())
        .await
        .context("no hello in time")??
    {
        Some(ToController::Hello(hello)) => hello,
        Some(other) => bail!("the first message is {}, not a hello", other.kind()),
        None => return Ok(()),
    };
    let seat = context.sessions.join(node);
    let mut session = Session {
        state: ControllerSession::new(node),
        listen_port: hello.listen_port,
        renewed_at: None,
        place: source::Place::new(seat.id),
        announcements: candidates::Announcements::default(),
        posture: posture::Posture::of(hello.capability),
        tpm: tpm::Tpm::default(),
        refusals: 0,
        told: BTreeMap::new(),
        unanswered: unanswered::Unanswered::default(),
        capability: hello.capability,
        noted: BTreeSet::new(),
        storing: JoinSet::new(),
        login_errands: logins::LoginErrands::default(),
        context,
        node,
        connection: seat.id,
        identity,
        sender,
    };
    let connection = Connection {
        id: seat.id,
        remote,
        since: wall_now(),
    };
    let (version, epoch, lane_ports) = (hello.version.clone(), hello.epoch, hello.lane_ports.clone());
    let noted = session.context.core.with(move |core| {
        core.note(|controller| {
            controller.connected(node, connection, &version);
            controller.begin_epoch(node, connection.id, epoch);
            controller.set_lane_ports(node, connection.id, &lane_ports);
        });
        source::note(core, node, connection.id, remote);
        // Before the first netmap is computed: a change after it must not be missed.
        core.listen(node, connection.id)
    });
    let pushes = noted.await?;
    tracing::info!(%node, %remote, version = hello.version, "node connected");
    let (core, id) = (session.context.core.clone(), seat.id);
    let result = match session.greet(&hello).await {
        Ok(()) => session.pump(&mut receiver, pushes, seat).await,
        Err(error) => Err(error),
    };
    let left = core.with(move |core| {
        core.leave(node, id);
        core.note(|controller| controller.disconnected(node, id, wall_now()));
    });
    left.await?;
    result
}

/// Whether the certificate's node is one of ours now; otherwise why not, in words for the node.
async fn authorize(
    context: &SessionContext,
    node: NodeId,
    identity: &PeerIdentity,
) -> Result<std::result::Result<(), String>> {
    let (mesh, key) = (identity.id.mesh().clone(), identity.public_key_der.clone());
    let verdict = context.core.with(move |core| {
        let verdict = core.controller().authorize(&mesh, node, &key);
        verdict.map(|_| ()).map_err(|denied| denied.to_string())
    });
    Ok(verdict.await?)
}

impl Session {
    async fn greet(&mut self, hello: &Hello) -> Result<()> {
        let looked = self.look().await?;
        let (netmap, news, orders) = looked.ok_or_else(|| anyhow!("the node was removed"))?;
        let greeted = self
            .state
            .handle_hello(hello, &self.context.mesh, &netmap, wall_now(), Instant::now());
        let messages = match greeted {
            Ok(messages) => messages,
            Err(error) => {
                tracing::error!(node = %self.node, %error, "run `ringfence-controller new-term`, with the clock set right, if this controller was restored from a backup");
                self.close(CloseReason::Denied, &error.to_string());
                bail!(error);
            }
        };
        self.note_membership(&netmap);
        for message in messages {
            self.sender.send(&message).await?;
        }
        self.order(orders).await?;
        self.tell_peers(news).await
    }

    async fn pump(
        mut self,
        receiver: &mut Receiver<ToController>,
        mut pushes: Pushes,
        mut seat: SessionSeat,
    ) -> Result<()> {
        loop {
            let lease_due = self.state.poll_timeout();
            let announcement_due = self.announcements.due();
            let posture_due = self.posture.due();
            let tpm_due = self.tpm.due();
            let next = tokio::select! {
                push = pushes.next() => self.handle_push(push).await?,
                request = seat.requests.recv() => match request {
                    Some(request) => self.handle_request(request).await?,
                    None => Next::End,
                },
                message = receiver.recv() => match message? {
                    Some(message) => self.handle_message(message).await?,
                    None => Next::End,
                },
                Some(stored) = self.storing.join_next() => self.acknowledge_flows(stored.ok().flatten()).await?,
                Some(news) = self.login_errands.news.recv() => {
                    self.sender.send(&news).await?;
                    Next::Continue
                }
                () = sleep_until(lease_due) => self.extend_lease().await?,
                () = sleep_until(announcement_due) => self.announce_late().await?,
                () = sleep_until(posture_due) => self.take_late_posture().await?,
                () = sleep_until(tpm_due) => self.challenge_tpm().await?,
            };
            if next == Next::End {
                return Ok(());
            }
        }
    }

    async fn handle_push(&mut self, push: Option<PushKind>) -> Result<Next> {
        match push {
            Some(PushKind::Netmap) => self.push_netmap().await,
            Some(PushKind::Removed) => self.say_goodbye().await,
            None => Ok(Next::End),
        }
    }

    async fn push_netmap(&mut self) -> Result<Next> {
        let Some((netmap, news, orders)) = self.look().await? else {
            return self.say_goodbye().await;
        };
        self.note_membership(&netmap);
        if let Some(message) = self.state.push(&netmap, Instant::now()) {
            self.sender.send(&message).await?;
        }
        self.order(orders).await?;
        self.tell_peers(news).await?;
        Ok(Next::Continue)
    }

    async fn say_goodbye(&mut self) -> Result<Next> {
        let reason = "this node was removed from the mesh".to_owned();
        self.sender
            .send(&ToNode::Goodbye(Goodbye {
                reason: reason.clone(),
            }))
            .await?;
        // Give the message time to be read: the node acts on it, the close only tells the transport.
        tokio::time::sleep(GOODBYE_LINGER).await;
        self.close(CloseReason::Denied, &reason);
        Ok(Next::End)
    }

    /// A lease is only extended for who is still one of ours.
    async fn extend_lease(&mut self) -> Result<Next> {
        if authorize(&self.context, self.node, &self.identity)
            .await?
            .is_err()
        {
            return self.say_goodbye().await;
        }
        self.look_again_where_it_is().await?;
        if let Some(message) = self.state.handle_timeout(Instant::now()) {
            self.sender.send(&message).await?;
        }
        Ok(Next::Continue)
    }

    async fn handle_message(&mut self, message: ToController) -> Result<Next> {
        if authorize(&self.context, self.node, &self.identity)
            .await?
            .is_err()
        {
            return self.say_goodbye().await;
        }
        self.look_where_it_is().await?;
        match message {
            ToController::Hello(_) => bail!("a second hello"),
            ToController::RegisterKey(registration) => self.register_key(registration).await?,
            ToController::Candidates(candidates) => self.handle_candidates(candidates).await?,
            ToController::Enforced(enforced) => {
                if self.state.handle_enforced(&enforced) {
                    let node = self.node;
                    let noted = self.context.core.with(move |core| {
                        let (revision, took) = (enforced.revision, enforced.took_us);
                        core.note(|controller| controller.enforced(node, revision, took, wall_now()));
                    });
                    noted.await?;
                }
            }
            ToController::NetmapRefused(refused) => {
                if self.is_worth_telling() {
                    tracing::error!(node = %self.node, revision = %refused.revision, why = refused.why, "a node refused its netmap");
                }
                if let Some(netmap) = self.context.core.netmap(self.node).await?
                    && let Some(message) = self.state.handle_refused(&refused, &netmap, Instant::now())
                {
                    self.sender.send(&message).await?;
                }
            }
            ToController::Renew(renew) => self.renew(&renew).await?,
            ToController::ProbeResult(report) => self.unanswered.probes.hear(report.id, report),
            ToController::DrillResult(report) => self.unanswered.drills.hear(report.id, report),
            ToController::Seen(answer) => self.unanswered.questions.hear(answer.id, answer),
            ToController::FlowRecords(batch) => self.store_flows(batch),
            ToController::Posture(report) => self.take_posture(report).await?,
            ToController::TpmOffer(offer) => self.take_tpm_offer(offer).await?,
            ToController::TpmProof(proof) => self.take_tpm_proof(proof).await?,
            ToController::LoginStart(start) => self.begin_login(start),
            ToController::LoginCode(code) => self.finish_login(code),
            ToController::LocalLogin(said) => self.hear_local(said),
            ToController::EndLogin(end) => self.context.logins.give_up(self.node, end.id),
            ToController::AskSession(question) => self.answer_session(question).await?,
            ToController::AskAccess(question) => self.answer_access(question).await?,
            ToController::AskWhy(question) => self.answer_why(question).await?,
            ToController::Pong(_) => {
                let node = self.node;
                let seen = self
                    .context
                    .core
                    .with(move |core| core.note(|controller| controller.seen(node, wall_now())));
                seen.await?;
            }
        }
        Ok(Next::Continue)
    }

    async fn refuse(&mut self, reason: String) -> Result<()> {
        if self.is_worth_telling() {
            tracing::warn!(node = %self.node, reason, "refused a node's request");
        }
        self.sender.send(&ToNode::Refused(Refused { reason })).await?;
        Ok(())
    }

    /// Whether one more refusal goes to the log: a node must not fill the disk with them.
    fn is_worth_telling(&mut self) -> bool {
        self.refusals = self.refusals.saturating_add(1);
        if self.refusals == REFUSALS_TOLD_MAX {
            tracing::warn!(node = %self.node, "further refusals of this connection are not logged");
        }
        self.refusals < REFUSALS_TOLD_MAX
    }

    fn close(&self, reason: CloseReason, why: &str) {
        self.sender.handle().close(reason, why);
    }
}

async fn sleep_until(at: Option<Instant>) {
    match at {
        Some(at) => tokio::time::sleep_until(at.into()).await,
        None => std::future::pending().await,
    }
}

/// An honest node is refused something once in a while.
const REFUSALS_TOLD_MAX: u32 = 100;
const HELLO_WAIT: Duration = Duration::from_secs(10);
const GOODBYE_LINGER: Duration = Duration::from_millis(200);
