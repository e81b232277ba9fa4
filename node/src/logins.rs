//! Logins of people at this node: what they ask for goes to the controller, and its answers to who waits for them.
//!
//! **Invariant:** a login goes on for the user of this machine who began it, and for nobody else.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use tokio::sync::mpsc;

use ringfence_control::api::AccessView;
use ringfence_control::local::{LocalError, LocalErrorCode};
use ringfence_control::{
    ACCESS_SINCE, AccessErrand, AskAccess, AskSession, AskWhy, EndLogin, LOCAL_LOGINS_SINCE, LOGINS_SINCE,
    LocalGain, LocalLogin, LocalProof, LoginCode, LoginDone, LoginNews, LoginStart, LoginStarted,
    SessionFacts, ToController, WHY_SINCE, WhyQuestion, WhyReport,
};
use ringfence_model::Name;

/// What people ask of the controller.
#[derive(Debug)]
pub(crate) enum Ask {
    /// That a login begins.
    Start(LoginStart),
    /// That it ends, with what a browser brought back.
    Code(LoginCode),
    /// That it is given up.
    End(EndLogin),
    /// Who is logged in.
    Session(AskSession),
    /// For access on request.
    Access(AskAccess),
    /// Why something is reached, or not.
    Why(AskWhy),
    /// What somebody says about their local account.
    Local(LocalLogin),
}

/// Hands on what people ask, and what the controller answers.
#[derive(Clone)]
pub(crate) struct Logins {
    asks: mpsc::Sender<Ask>,
    desk: Arc<Mutex<Mail>>,
}

/// Who waits for which number.
#[derive(Default)]
struct Mail {
    boxes: BTreeMap<u64, mpsc::Sender<LoginNews>>,
    open: BTreeMap<u64, OpenLogin>,
}

/// A login that has begun.
struct OpenLogin {
    uid: u32,
    news: mpsc::Receiver<LoginNews>,
    began: Instant,
}

impl Ask {
    fn id(&self) -> u64 {
        match self {
            Self::Start(start) => start.id,
            Self::Code(code) => code.id,
            Self::End(end) => end.id,
            Self::Session(question) => question.id,
            Self::Access(question) => question.id,
            Self::Why(question) => question.id,
            Self::Local(said) => said.id,
        }
    }

    /// As the controller is told.
    pub(crate) fn into_message(self) -> ToController {
        match self {
            Self::Start(start) => ToController::LoginStart(start),
            Self::Code(code) => ToController::LoginCode(code),
            Self::End(end) => ToController::EndLogin(end),
            Self::Session(question) => ToController::AskSession(question),
            Self::Access(question) => ToController::AskAccess(question),
            Self::Why(question) => ToController::AskWhy(question),
            Self::Local(said) => ToController::LocalLogin(said),
        }
    }

    /// The first capability of a controller that understands it.
    pub(crate) fn since(&self) -> u32 {
        match self {
            Self::Start(_) | Self::Code(_) | Self::End(_) | Self::Session(_) => LOGINS_SINCE,
            Self::Access(_) => ACCESS_SINCE,
            Self::Why(_) => WHY_SINCE,
            Self::Local(_) => LOCAL_LOGINS_SINCE,
        }
    }
}

impl Logins {
    /// None on their way; what is asked comes out of the receiver.
    pub(crate) fn new() -> (Self, mpsc::Receiver<Ask>) {
        let (asks, asked) = mpsc::channel(ASKS_MAX);
        let logins = Self {
            asks,
            desk: Arc::default(),
        };
        (logins, asked)
    }

    /// Begins a login for the user `uid`. Its number is drawn here, whatever `start` says.
    pub(crate) async fn begin(&self, uid: u32, start: LoginStart) -> Result<LoginStarted, LocalError> {
        let (id, mut news) = self.mailbox()?;
        let start = LoginStart { id, ..start };
        self.ask(Ask::Start(start)).await?;
        let answer = tokio::time::timeout(ANSWER_WAIT, news.recv()).await;
        match answer {
            Ok(Some(LoginNews::Started(started))) => {
                let login = OpenLogin {
                    uid,
                    news,
                    began: Instant::now(),
                };
                self.lock().open.insert(id, login);
                Ok(started)
            }
            Ok(Some(LoginNews::Done(done))) => Err(denied(done.why)),
            Ok(Some(_) | None) => Err(broken()),
            Err(_) => {
                self.lock().boxes.remove(&id);
                Err(late())
            }
        }
    }

    /// Hands on what the user's browser brought back, and waits for the session that it gives.
    pub(crate) async fn finish(&self, uid: u32, code: LoginCode) -> Result<SessionFacts, LocalError> {
        let login = self.take(uid, code.id)?;
        let id = code.id;
        self.ask(Ask::Code(code)).await?;
        self.end_of(id, login, EXCHANGE_WAIT).await
    }

    /// Waits until the user has entered the code in a browser elsewhere.
    pub(crate) async fn wait(&self, uid: u32, id: u64) -> Result<SessionFacts, LocalError> {
        let login = self.take(uid, id)?;
        self.end_of(id, login, LOGIN_LIFE).await
    }

    /// Gives a login of the user up.
    pub(crate) async fn give_up(&self, uid: u32, id: u64) -> Result<(), LocalError> {
        self.take(uid, id)?;
        self.lock().boxes.remove(&id);
        self.ask(Ask::End(EndLogin { id })).await
    }

    /// Who is logged in; with `end`, who was until now.
    pub(crate) async fn session(&self, wish: SessionWish) -> Result<Option<SessionFacts>, LocalError> {
        let end = wish == SessionWish::End;
        match self.question(|id| Ask::Session(AskSession { id, end })).await? {
            LoginNews::Session(answer) if answer.why.is_empty() => Ok(answer.session),
            LoginNews::Session(answer) => Err(denied(answer.why)),
            _ => Err(broken()),
        }
    }

    /// Hands on what somebody says about their local account.
    pub(crate) async fn local(&self, name: Option<Name>, proof: LocalProof) -> Result<LocalGain, LocalError> {
        match self
            .question(|id| Ask::Local(LocalLogin { id, name, proof }))
            .await?
        {
            LoginNews::Local(done) if done.why.is_empty() => Ok(done.gain),
            LoginNews::Local(done) => Err(denied(done.why)),
            _ => Err(broken()),
        }
    }

    /// Asks why something can be reached from here, or not.
    pub(crate) async fn why(&self, question: WhyQuestion) -> Result<Box<WhyReport>, LocalError> {
        match self.question(|id| Ask::Why(AskWhy { id, question })).await? {
            LoginNews::Why(answer) => answer.report.ok_or_else(|| denied(answer.why)),
            _ => Err(broken()),
        }
    }

    /// Asks for access on request in the name of who is logged in, or what they asked for.
    pub(crate) async fn access(&self, errand: AccessErrand) -> Result<Vec<AccessView>, LocalError> {
        match self.question(|id| Ask::Access(AskAccess { id, errand })).await? {
            LoginNews::Access(answer) if answer.why.is_empty() => Ok(answer.access),
            LoginNews::Access(answer) => Err(denied(answer.why)),
            _ => Err(broken()),
        }
    }

    /// Asks what has one answer, and waits for it.
    async fn question(&self, ask: impl FnOnce(u64) -> Ask) -> Result<LoginNews, LocalError> {
        let (id, mut news) = self.mailbox()?;
        self.ask(ask(id)).await?;
        let answer = tokio::time::timeout(ANSWER_WAIT, news.recv()).await;
        self.lock().boxes.remove(&id);
        match answer {
            Ok(Some(LoginNews::Done(done))) => Err(denied(done.why)),
            Ok(news) => news.ok_or_else(broken),
            Err(_) => Err(late()),
        }
    }

    /// Word from the controller. Nobody may wait for it any more.
    pub(crate) fn tell(&self, news: LoginNews) {
        let mut mail = self.lock();
        let id = news.id();
        let mailbox = match news {
            LoginNews::Started(_) => mail.boxes.get(&id).cloned(),
            _ => mail.boxes.remove(&id),
        };
        if let Some(mailbox) = mailbox {
            let _ = mailbox.try_send(news);
        }
    }

    /// What was asked cannot be handed on.
    pub(crate) fn refuse(&self, asked: &Ask, why: &str) {
        self.tell(LoginNews::Done(LoginDone {
            id: asked.id(),
            session: None,
            why: why.to_owned(),
        }));
    }

    async fn end_of(
        &self,
        id: u64,
        mut login: OpenLogin,
        wait: Duration,
    ) -> Result<SessionFacts, LocalError> {
        let answer = tokio::time::timeout(wait, login.news.recv()).await;
        self.lock().boxes.remove(&id);
        match answer {
            Ok(Some(LoginNews::Done(done))) => done.session.ok_or_else(|| denied(done.why)),
            Ok(Some(_) | None) => Err(broken()),
            Err(_) => Err(late()),
        }
    }

    async fn ask(&self, message: Ask) -> Result<(), LocalError> {
        self.asks.send(message).await.map_err(|_| broken())
    }

    /// A number that cannot be guessed, and where its answers come.
    fn mailbox(&self) -> Result<(u64, mpsc::Receiver<LoginNews>), LocalError> {
        let mut random = [0; 8];
        getrandom::fill(&mut random).map_err(|_| broken())?;
        let id = u64::from_be_bytes(random);
        let (sender, news) = mpsc::channel(NEWS_MAX);
        let mut mail = self.lock();
        let Mail { boxes, open } = &mut *mail;
        open.retain(|_, login| login.began.elapsed() < LOGIN_LIFE);
        // Whoever waited for it went away.
        boxes.retain(|_, sender| !sender.is_closed());
        if boxes.len() >= BOXES_MAX {
            return Err(LocalError {
                code: LocalErrorCode::Internal,
                message: "too many logins are on their way at this node: give one up, or wait".to_owned(),
            });
        }
        boxes.insert(id, sender);
        Ok((id, news))
    }

    fn take(&self, uid: u32, id: u64) -> Result<OpenLogin, LocalError> {
        let mut mail = self.lock();
        let is_theirs = |login: &OpenLogin| login.uid == uid && login.began.elapsed() < LOGIN_LIFE;
        match mail.open.get(&id) {
            Some(login) if is_theirs(login) => mail.open.remove(&id).ok_or_else(broken),
            Some(_) | None => Err(LocalError {
                code: LocalErrorCode::NotFound,
                message: "this login is not on its way: begin again".to_owned(),
            }),
        }
    }

    fn lock(&self) -> MutexGuard<'_, Mail> {
        // A panic while holding it cannot leave the maps half-changed.
        self.desk.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// What is asked about a session.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum SessionWish {
    /// Whose it is.
    Look,
    /// That it ends.
    End,
}

fn denied(message: String) -> LocalError {
    LocalError {
        code: LocalErrorCode::Denied,
        message,
    }
}

fn broken() -> LocalError {
    LocalError {
        code: LocalErrorCode::Internal,
        message: "the node is stopping, or the controller said something odd".to_owned(),
    }
}

fn late() -> LocalError {
    LocalError {
        code: LocalErrorCode::Timeout,
        message: "the controller did not answer in time".to_owned(),
    }
}

/// Questions that wait for the control side; then whoever asks does.
const ASKS_MAX: usize = 16;
/// Logins and questions on their way at once.
const BOXES_MAX: usize = 16;
/// A login is answered twice.
const NEWS_MAX: usize = 2;
/// The controller may have to ask a provider first.
const ANSWER_WAIT: Duration = Duration::from_secs(40);
const EXCHANGE_WAIT: Duration = Duration::from_mins(1);
/// A little longer than the controller gives a person.
const LOGIN_LIFE: Duration = Duration::from_mins(11);

#[cfg(test)]
mod tests;
