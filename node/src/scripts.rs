//! Facts that scripts of an administrator give: a process of its own runs them, and this end asks it by name.
//!
//! The node gives up the right to start programs before it hears from anybody (`confinement.rs`). So the runner is started
//! before that, from the same program, and kept at the end of a socket.
//!
//! **Invariant:** what runs is what root put into a folder of this machine and a key signed that root pinned on it. The
//! controller, and a node that was taken over, choose no more than which of those.

mod output;
mod pace;
mod run;
mod runner;
mod signed;
#[cfg(test)]
mod tests;

use std::collections::{BTreeMap, BTreeSet};
use std::ffi::OsString;
use std::io;
use std::os::fd::OwnedFd;
use std::os::unix::process::CommandExt as _;
use std::process::{Command, Stdio};
use std::sync::Arc;
use std::sync::mpsc::SyncSender;
use std::time::{Duration, Instant};

use rustix::net::{AddressFamily, RecvFlags, SendFlags, SocketFlags, SocketType, recv, send, socketpair};
use serde::{Deserialize, Serialize};

use ringfence_control::{ReportedFact, ReportedValue};
use ringfence_model::Name;

use crate::arguments::{self, AgentArguments, Arguments, ScriptArguments};
use crate::posture::PostureInput;
use crate::sys;

pub use self::runner::serve;

/// The way to the runner.
pub struct Scripts(Result<Arc<OwnedFd>, &'static str>);

/// What is known of each script that was asked for, and what is being found out.
#[derive(Default)]
pub(crate) struct Answers {
    known: BTreeMap<Name, Answer>,
    /// Since when each is waited for.
    asked: BTreeMap<Name, Instant>,
}

/// What came of a script.
#[derive(Clone, Debug)]
pub(crate) struct Answer {
    pub(crate) fact: ReportedFact,
    /// When it came: the fact is older by what it says itself.
    came: Instant,
}

/// What the runner is asked.
#[derive(Debug, Serialize, Deserialize)]
struct Question {
    name: Name,
    /// How old an answer may be.
    every_ms: u64,
}

impl Scripts {
    /// Starts the runner, if root has pinned keys on this machine. For a process that has neither begun anything nor given
    /// anything up.
    pub fn start(arguments: &Arguments) -> Self {
        let agent = match &arguments.command {
            arguments::Command::Run(run) => &run.agent,
            arguments::Command::Up(up) => &up.agent,
            arguments::Command::Enroll(_) | arguments::Command::RunScripts(_) => return Self(Err(NOT_ASKED)),
        };
        if !agent.scripts.fact_signers.exists() {
            return Self(Err(NO_SIGNERS));
        }
        match spawn(arguments, agent) {
            Ok(socket) => Self(Ok(Arc::new(socket))),
            Err(error) => {
                tracing::error!(%error, "scripts cannot be run: facts of theirs are not known");
                Self(Err(NOT_STARTED))
            }
        }
    }

    /// Has what the runner answers told to the posture thread, for as long as that is there.
    ///
    /// # Errors
    /// If the system gives no thread.
    pub(crate) fn listen(&self, inputs: SyncSender<PostureInput>) -> io::Result<()> {
        let Ok(socket) = &self.0 else { return Ok(()) };
        let socket = Arc::clone(socket);
        let listening = move || {
            while let Some(message) = receive(&socket) {
                let Ok(fact) = serde_json::from_slice(&message) else {
                    continue;
                };
                if inputs.send(PostureInput::Ran(fact)).is_err() {
                    return;
                }
            }
            tracing::warn!(
                "the runner of scripts is gone: until this node starts again, facts of theirs are not known"
            );
        };
        std::thread::Builder::new()
            .name("scripts".to_owned())
            .spawn(listening)?;
        Ok(())
    }
}

impl Answers {
    /// Has the runner look after each of these; it runs those whose time it is.
    pub(crate) fn ask(&mut self, scripts: &Scripts, names: &BTreeSet<Name>, every: Duration) {
        self.known.retain(|name, _| names.contains(name));
        self.asked
            .retain(|name, at| names.contains(name) && at.elapsed() < ANSWERED_WITHIN);
        for name in names {
            if self.asked.len() >= QUESTIONS_MAX {
                return;
            }
            if self.asked.contains_key(name) {
                continue;
            }
            match ask(scripts, name, every) {
                Ok(()) => {
                    self.asked.insert(name.clone(), Instant::now());
                }
                Err(why) => self.take(missing(name, why)),
            }
        }
    }

    /// Notes what the runner answered.
    pub(crate) fn take(&mut self, fact: ReportedFact) {
        let Some(name) = fact
            .name
            .strip_prefix(PREFIX)
            .and_then(|name| Name::parse(name).ok())
        else {
            return;
        };
        self.asked.remove(&name);
        let came = Instant::now();
        self.known.insert(name, Answer { fact, came });
    }

    /// What is known, with the age of now.
    pub(crate) fn of<'a>(&'a self, names: &'a BTreeSet<Name>) -> impl Iterator<Item = ReportedFact> + 'a {
        let known = names.iter().filter_map(|name| self.known.get(name));
        known.map(Answer::now)
    }

    /// Whether there is one of which nothing is known yet.
    pub(crate) fn is_lacking(&self, names: &BTreeSet<Name>) -> bool {
        names.iter().any(|name| !self.known.contains_key(name))
    }
}

impl Answer {
    fn now(&self) -> ReportedFact {
        let since = u64::try_from(self.came.elapsed().as_millis()).unwrap_or(u64::MAX);
        ReportedFact {
            age_ms: self.fact.age_ms.saturating_add(since),
            ..self.fact.clone()
        }
    }
}

fn ask(scripts: &Scripts, name: &Name, every: Duration) -> Result<(), &'static str> {
    let socket = scripts.0.as_ref().map_err(|why| *why)?;
    let question = Question {
        name: name.clone(),
        every_ms: u64::try_from(every.as_millis()).unwrap_or(u64::MAX),
    };
    let message = serde_json::to_vec(&question).map_err(|_| GONE)?;
    let flags = SendFlags::DONTWAIT | SendFlags::NOSIGNAL;
    send(socket, &message, flags).map_err(|_| GONE)?;
    Ok(())
}

/// A fact that cannot be told.
fn missing(name: &Name, why: &str) -> ReportedFact {
    let why = &why[..why.floor_char_boundary(WHY_BYTES_MAX)];
    ReportedFact {
        name: format!("{PREFIX}{name}"),
        value: ReportedValue::Missing(why.to_owned()),
        age_ms: 0,
        signer: None,
    }
}

/// The next message; `None` when the other end is gone. One that is too long is none of ours.
fn receive(socket: &OwnedFd) -> Option<Vec<u8>> {
    let mut buffer = vec![0; MESSAGE_BYTES_MAX];
    loop {
        match recv(socket, buffer.as_mut_slice(), RecvFlags::TRUNC) {
            Ok((_, 0)) => return None,
            Ok((_, bytes)) if bytes <= MESSAGE_BYTES_MAX => {
                buffer.truncate(bytes);
                return Some(buffer);
            }
            Ok(_) | Err(rustix::io::Errno::INTR) => {}
            Err(_) => return None,
        }
    }
}

/// Starts the runner, and gives this end of the socket. It knows nothing of what this process was given besides where the
/// scripts are: neither its environment, which may hold a join token, nor what it has open.
fn spawn(arguments: &Arguments, agent: &AgentArguments) -> io::Result<OwnedFd> {
    let ScriptArguments {
        fact_signers,
        fact_scripts,
    } = &agent.scripts;
    let (ours, theirs) = socketpair(
        AddressFamily::UNIX,
        SocketType::SEQPACKET,
        SocketFlags::CLOEXEC,
        None,
    )?;
    let words: [OsString; 9] = [
        "--log-level".into(),
        arguments.log_level.as_str().into(),
        "--log-format".into(),
        arguments.log_format.as_str().into(),
        arguments::RUN_SCRIPTS.into(),
        "--fact-signers".into(),
        fact_signers.into(),
        "--fact-scripts".into(),
        fact_scripts.into(),
    ];
    let mut command = Command::new("/proc/self/exe");
    command
        .arg0("ringfence-node")
        .args(words)
        .env_clear()
        .stdin(Stdio::from(theirs))
        .stdout(Stdio::null())
        // What a terminal sends to stop the node stops the node, which ends this.
        .process_group(0);
    sys::die_with_parent(&mut command);
    // It ends when this end of the socket does: nobody waits for it.
    command.spawn()?;
    Ok(ours)
}

const PREFIX: &str = "script.";
/// Longer than any question or answer of ours, with all that JSON escapes.
const MESSAGE_BYTES_MAX: usize = 4096;
const WHY_BYTES_MAX: usize = 300;
/// Scripts that run at once; others wait for their turn at this end, and are refused at the other.
const QUESTIONS_MAX: usize = 16;
/// An answer that takes longer than a script may is lost, and asked for again.
const ANSWERED_WITHIN: Duration = Duration::from_secs(20);

/// What whoever calls it by hand is told.
pub(crate) const NOT_FOR_PEOPLE: &str = "the agent runs this itself: see `ringfence-node run --help`";
const NOT_ASKED: &str = "this node runs no scripts";
const NO_SIGNERS: &str = "this node runs no scripts: there was no file of --fact-signers when it started";
const NOT_STARTED: &str = "this node could not start what runs scripts: its log says why";
const GONE: &str = "what runs scripts is gone, or does not answer: the node's log says more";
