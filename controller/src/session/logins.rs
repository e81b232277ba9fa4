//! The person at a node: their login, their session, their logout.
//!
//! **Invariant:** a session is bound to the node whose certificate this connection has; the node cannot name another.

use std::collections::VecDeque;
use std::time::{Duration, Instant};

use ringfence_control::{
    AskSession, LocalGain, LocalLogin, LocalLoginDone, LoginCode, LoginDone, LoginStart, LoginStarted,
    SessionAnswer, ToNode,
};
use ringfence_controlplane::{Actor, Command, PeopleCommand, Refusal, VerifiedLogin};
use ringfence_model::NodeId;
use tokio::sync::mpsc;
use tokio::task::JoinSet;

use super::Session;
use crate::core::{CommitError, CoreHandle, wall_now};
use crate::identity::{Begun, Course, LocalRefusal, LoginError, Wish, goal_of};

/// The errands of a connection that talk to identity providers. They end with it.
pub(super) struct LoginErrands {
    running: JoinSet<()>,
    answers: mpsc::Sender<ToNode>,
    /// What they have to say.
    pub(super) news: mpsc::Receiver<ToNode>,
    /// When logins began, of the last [`BEGUN_WITHIN`].
    begun: VecDeque<Instant>,
}

impl Default for LoginErrands {
    fn default() -> Self {
        let (answers, news) = mpsc::channel(ERRANDS_MAX);
        Self {
            running: JoinSet::new(),
            answers,
            news,
            begun: VecDeque::new(),
        }
    }
}

impl LoginErrands {
    /// Whether there is room for one more errand.
    fn has_room(&mut self) -> bool {
        while self.running.try_join_next().is_some() {}
        self.running.len() < ERRANDS_MAX
    }

    /// Whether one more login may begin now.
    fn admits(&mut self, now: Instant) -> bool {
        self.begun.retain(|at| now.duration_since(*at) < BEGUN_WITHIN);
        let admitted = self.begun.len() < BEGUN_MAX && self.has_room();
        if admitted {
            self.begun.push_back(now);
        }
        admitted
    }
}

impl Session {
    pub(super) fn begin_login(&mut self, start: LoginStart) {
        let id = start.id;
        let (logins, node, core) = (self.context.logins.clone(), self.node, self.context.core.clone());
        let answers = self.login_errands.answers.clone();
        if !self.login_errands.admits(Instant::now()) {
            // Full means that a flood is being answered already.
            let _ = answers.try_send(denied(
                id,
                "too many logins began at this node: wait a minute".to_owned(),
            ));
            return;
        }
        let wish = Wish {
            goal: goal_of(&start, wall_now()),
            provider: start.provider,
            method: start.method,
        };
        self.login_errands.running.spawn(async move {
            let answer = match logins.begin(node, id, wish).await {
                Ok(Course::Browser(begun)) => started(id, begun),
                Ok(Course::Device(begun, login)) => {
                    if answers.send(started(id, begun)).await.is_err() {
                        return;
                    }
                    done(&core, node, id, login.finish(wall_now).await).await
                }
                Err(error) => done(&core, node, id, Err(error)).await,
            };
            // The connection that asked is gone: the person begins again.
            let _ = answers.send(answer).await;
        });
    }

    pub(super) fn finish_login(&mut self, code: LoginCode) {
        let id = code.id;
        let (logins, node, core) = (self.context.logins.clone(), self.node, self.context.core.clone());
        let answers = self.login_errands.answers.clone();
        if !self.login_errands.has_room() {
            let _ = answers.try_send(denied(
                id,
                "too many logins end at this node: wait a minute".to_owned(),
            ));
            return;
        }
        self.login_errands.running.spawn(async move {
            let verified = logins.finish(node, code).await;
            let _ = answers.send(done(&core, node, id, verified).await).await;
        });
    }

    pub(super) fn hear_local(&mut self, said: LocalLogin) {
        let (id, node, accounts) = (said.id, self.node, self.context.accounts.clone());
        let answers = self.login_errands.answers.clone();
        let answer = move |gain, why: String| ToNode::LocalLoginDone(LocalLoginDone { id, gain, why });
        if !self.login_errands.has_room() {
            let why = "too many logins at this node: wait a minute".to_owned();
            let _ = answers.try_send(answer(LocalGain::default(), why));
            return;
        }
        self.login_errands.running.spawn(async move {
            let heard = match accounts.hear(node, said).await {
                Ok(gain) => answer(gain, String::new()),
                Err(refusal) => {
                    note(node, &refusal);
                    answer(LocalGain::default(), refusal.to_string())
                }
            };
            let _ = answers.send(heard).await;
        });
    }

    pub(super) async fn answer_session(&mut self, question: AskSession) -> anyhow::Result<()> {
        let node = self.node;
        let found = self
            .context
            .core
            .with(move |core| core.controller().session_facts(node))
            .await?;
        let mut answer = SessionAnswer {
            id: question.id,
            session: found,
            why: String::new(),
        };
        if question.end && answer.session.is_some() {
            let command = Command::People(PeopleCommand::LogOut { node });
            match self
                .context
                .core
                .commit(Actor::node(node, "logout"), command)
                .await?
            {
                Ok(_) | Err(CommitError::Refused(Refusal::Unchanged)) => {}
                Err(error) => {
                    answer.session = None;
                    answer.why = format!("the session could not be ended: {error}");
                }
            }
        }
        self.sender.send(&ToNode::SessionAnswer(answer)).await?;
        Ok(())
    }
}

/// Who tried is not said: what is no account's name may be somebody's password.
fn note(node: NodeId, refusal: &LocalRefusal) {
    match refusal {
        LocalRefusal::Broken(why) => tracing::error!(%node, %why, "local accounts cannot be looked up"),
        refused => tracing::warn!(%node, %refused, "a local login was refused"),
    }
}

fn started(id: u64, begun: Begun) -> ToNode {
    ToNode::LoginStarted(LoginStarted {
        id,
        url: begun.url,
        user_code: begun.user_code,
        state: begun.state,
        expires_in_s: begun.expires_in.as_secs(),
    })
}

/// Starts the session that a verified login gives, or says why there is none.
async fn done(
    core: &CoreHandle,
    node: NodeId,
    id: u64,
    verified: Result<VerifiedLogin, LoginError>,
) -> ToNode {
    let verified = match verified {
        Ok(verified) => verified,
        Err(error) => {
            tracing::warn!(%node, %error, "a login was refused");
            if error.is_auditable() {
                let command = Command::RecordRefusal {
                    method: "session.start".to_owned(),
                    subject: node.to_string(),
                    reason: error.to_string(),
                };
                // Past the hourly bound, or on a full disk, the log line above is what there is.
                let _ = core.commit(Actor::node(node, "login"), command).await;
            }
            return denied(id, error.to_string());
        }
    };
    let started = core.with(move |core| {
        let provider = core.controller().provider(&verified.user.provider);
        let Some(length) = provider.map(ringfence_controlplane::Provider::session) else {
            return Err("the identity provider was removed".to_owned());
        };
        let command = Command::People(PeopleCommand::StartSession {
            node,
            login: verified,
            length,
        });
        core.commit(&Actor::system("identity", "login"), &command)
            .map_err(|error| error.to_string())?;
        core.controller()
            .session_facts(node)
            .ok_or_else(|| "the session has ended already".to_owned())
    });
    match started.await {
        Ok(Ok(session)) => ToNode::LoginDone(LoginDone {
            id,
            session: Some(session),
            why: String::new(),
        }),
        Ok(Err(why)) => denied(id, why),
        Err(gone) => denied(id, gone.to_string()),
    }
}

fn denied(id: u64, why: String) -> ToNode {
    ToNode::LoginDone(LoginDone {
        id,
        session: None,
        why,
    })
}

/// Talks with identity providers at once, for one node.
const ERRANDS_MAX: usize = 4;
/// Logins that one node may begin…
const BEGUN_MAX: usize = 20;
/// …within this time.
const BEGUN_WITHIN: Duration = Duration::from_mins(1);
