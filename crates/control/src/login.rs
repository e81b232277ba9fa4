//! A person's login at a node: what node and controller say to each other about it.
//!
//! The controller is the relying party; the node carries what the person's browser brings, and proves by its own identity
//! which machine the session will be bound to.

use std::fmt;

use ringfence_model::{Name, UnixMillis};
use ringfence_policy::Service;
use serde::{Deserialize, Serialize};
use zeroize::Zeroizing;

use crate::{AccessAnswer, LocalLoginDone, WhyAnswer};

/// Begins a login: answered by [`LoginStarted`], or by [`LoginDone`] if it cannot begin.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct LoginStart {
    /// The node's number for it, drawn at random. Comes back in every answer.
    pub id: u64,
    /// At which provider; the only one if absent.
    #[serde(default)]
    pub provider: Option<Name>,
    /// How the person gets there.
    pub method: LoginMethod,
    /// Whether a second factor has to be proved anew.
    #[serde(default)]
    pub step_up: bool,
}

/// How a person gets to their provider.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum LoginMethod {
    /// By a browser on this machine, which comes back to a port of the loopback interface (RFC 8252).
    Loopback {
        /// The port.
        port: u16,
    },
    /// By a browser anywhere, with a short code (RFC 8628).
    Device,
}

/// Where the person goes.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct LoginStarted {
    /// Of which login.
    pub id: u64,
    /// Where to.
    pub url: String,
    /// What to enter there, with [`LoginMethod::Device`].
    #[serde(default)]
    pub user_code: Option<String>,
    /// What the browser must bring back, with [`LoginMethod::Loopback`].
    #[serde(default)]
    pub state: Option<String>,
    /// How long it may take, in seconds.
    pub expires_in_s: u64,
}

/// What the browser brought back: answered by [`LoginDone`].
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct LoginCode {
    /// Of which login.
    pub id: u64,
    /// The code, good for one exchange by whoever holds the login's PKCE verifier.
    pub code: AuthorizationCode,
    /// The state it came with.
    pub state: String,
    /// The issuer it came from (RFC 9207), if it said.
    #[serde(default)]
    pub issuer: Option<String>,
}

/// An authorization code. Shows nothing of itself.
#[derive(Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(transparent)]
pub struct AuthorizationCode(pub Zeroizing<String>);

impl fmt::Debug for AuthorizationCode {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("AuthorizationCode(..)")
    }
}

/// Gives a login up: the person closed the browser, or the provider said no. Not answered.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct EndLogin {
    /// Which.
    pub id: u64,
}

/// How a login ended.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct LoginDone {
    /// Which.
    pub id: u64,
    /// The session that it gave.
    #[serde(default)]
    pub session: Option<SessionFacts>,
    /// Why it gave none, for people.
    #[serde(default)]
    pub why: String,
}

/// Word of a login, a session, or access on request.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum LoginNews {
    /// Where the person goes.
    Started(LoginStarted),
    /// How it ended.
    Done(LoginDone),
    /// Who is logged in.
    Session(SessionAnswer),
    /// What they may reach on request.
    Access(AccessAnswer),
    /// Why they reach something, or not.
    Why(WhyAnswer),
    /// What came of what they said about their local account.
    Local(LocalLoginDone),
}

impl LoginNews {
    /// The number of what it answers.
    pub fn id(&self) -> u64 {
        match self {
            Self::Started(started) => started.id,
            Self::Done(done) => done.id,
            Self::Session(answer) => answer.id,
            Self::Access(answer) => answer.id,
            Self::Why(answer) => answer.id,
            Self::Local(done) => done.id,
        }
    }
}

/// Asks who is logged in at this node: answered by [`SessionAnswer`].
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct AskSession {
    /// The node's number for the question.
    pub id: u64,
    /// Whether the session ends with it: a logout.
    #[serde(default)]
    pub end: bool,
}

/// Who is logged in; with [`AskSession::end`], who was.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct SessionAnswer {
    /// To which question.
    pub id: u64,
    /// The session, if there is one.
    #[serde(default)]
    pub session: Option<SessionFacts>,
    /// Why there is no answer, for people; empty if there is one.
    #[serde(default)]
    pub why: String,
}

/// A session, as its person may see it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct SessionFacts {
    /// Who vouches for them.
    pub provider: Name,
    /// What people call them.
    pub name: String,
    /// Their verified address.
    #[serde(default)]
    pub email: Option<String>,
    /// Their groups, in order.
    #[serde(default)]
    pub groups: Vec<String>,
    /// When they proved a second factor, if they did.
    #[serde(default)]
    pub mfa_at_ms: Option<UnixMillis>,
    /// When the session ends.
    pub expires_ms: UnixMillis,
    /// What asks for a second factor that is young enough, in order of when it ends: at most [`FACTOR_ASKS_MAX`].
    #[serde(default)]
    pub factor_asks: Vec<FactorAsk>,
}

/// A rule that lets this person reach something for as long as their second factor is young enough.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct FactorAsk {
    /// In which perimeter.
    pub perimeter: Name,
    /// Which of its groups is reached.
    pub to: Name,
    /// With what.
    pub services: Vec<Service>,
    /// How old the second factor may be, in seconds.
    pub within_s: u64,
    /// When it is too old, which may have been; absent if none was proved.
    #[serde(default)]
    pub ends_ms: Option<UnixMillis>,
}

/// Of a policy that asks in more rules, those that end first are told.
pub const FACTOR_ASKS_MAX: usize = 32;
/// The first [`crate::CAPABILITY`] with logins.
pub const LOGINS_SINCE: u32 = 3;
