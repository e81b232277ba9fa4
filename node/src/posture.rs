//! What this machine is like: looked up when the controller asks, and told when it changes.
//!
//! A thread of its own reads files and asks the kernel: none of it holds up packets or the control side. It does nothing
//! for as long as no check asks for anything, or nobody is there to tell. What scripts say, it asks of the process that runs
//! them, and does not wait for (`scripts.rs`).
//!
//! **Invariant:** every fact comes from the machine. Neither an argument nor an environment variable changes one.

mod boot;
mod disk;
mod file;
mod firewall;
mod machine;
mod os;
mod process;
mod ssh;
mod updates;

use std::collections::{BTreeMap, BTreeSet};
use std::sync::mpsc::{Receiver, RecvTimeoutError, SyncSender, sync_channel};
use std::time::{Duration, Instant, SystemTime};

use tokio::sync::mpsc::WeakSender;

use ringfence_control::{PostureOrder, PostureReport, ReportedFact, ReportedValue, ToController};
use ringfence_model::Name;

pub(crate) use self::machine::unreadable;
use self::machine::{FactName, Machine};
use crate::scripts::{Answers, Scripts};

/// How the control side reaches the thread.
#[derive(Clone)]
pub(crate) struct Posture {
    inputs: SyncSender<PostureInput>,
}

/// One thing for the thread to know.
pub(crate) enum PostureInput {
    /// Look these up from now on, and tell it here. Held weakly: the connection is the control side's to end.
    Watch(PostureOrder, WeakSender<ToController>),
    /// The connection is gone: the next one comes with an order of its own.
    Disconnected,
    /// What a script says, or that it says nothing.
    Ran(ReportedFact),
}

/// What a look-up gives: what is so, or why it cannot be told.
type Found = Result<Value, String>;

/// What is so.
#[derive(Clone, Debug, PartialEq, Eq)]
enum Value {
    Bool(bool),
    Text(String),
    Version(String),
    /// By this host's clock.
    Since(SystemTime),
}

struct PostureThread {
    inputs: Receiver<PostureInput>,
    machine: Machine,
    scripts: Scripts,
    /// Of scripts, kept from one connection to the next: a new one makes nobody ill.
    answers: Answers,
    watch: Option<Watch>,
    next_round: Instant,
}

/// An order that is being carried out.
struct Watch {
    names: Vec<FactName>,
    scripts: BTreeSet<Name>,
    every: Duration,
    link: WeakSender<ToController>,
    began: Instant,
    /// What was found in the last round, and when that began.
    found: (BTreeMap<String, Found>, Instant),
    /// What the controller was last told, and when.
    told: Option<(News, Instant)>,
}

/// What is told at once when it is another than before: all but ages.
#[derive(PartialEq, Eq)]
struct News {
    found: BTreeMap<String, Found>,
    scripts: BTreeMap<String, (ReportedValue, Option<String>)>,
}

impl Posture {
    /// Starts the thread, which ends with the last handle; where scripts are run, with the process.
    ///
    /// # Errors
    /// If the system gives no thread.
    pub(crate) fn spawn(scripts: Scripts) -> std::io::Result<Self> {
        let (sender, inputs) = sync_channel(INPUTS_MAX);
        scripts.listen(sender.clone())?;
        let mut thread = PostureThread {
            inputs,
            machine: Machine::this(),
            scripts,
            answers: Answers::default(),
            watch: None,
            next_round: Instant::now(),
        };
        std::thread::Builder::new()
            .name("posture".to_owned())
            .spawn(move || thread.run())?;
        Ok(Self { inputs: sender })
    }

    /// Tells the thread. One that is so far behind misses it, and reports nothing: that passes no check.
    pub(crate) fn tell(&self, input: PostureInput) {
        if self.inputs.try_send(input).is_err() {
            tracing::error!("the posture thread does not answer: this node will pass no check");
        }
    }
}

impl PostureThread {
    fn run(&mut self) {
        loop {
            let input = match &self.watch {
                Some(_) => {
                    let left = self.next_round.saturating_duration_since(Instant::now());
                    self.inputs.recv_timeout(left)
                }
                None => self.inputs.recv().map_err(|_| RecvTimeoutError::Disconnected),
            };
            match input {
                Ok(PostureInput::Watch(order, link)) => {
                    self.watch = Watch::of(&order, link);
                    self.look();
                }
                Ok(PostureInput::Disconnected) => self.watch = None,
                Ok(PostureInput::Ran(fact)) => {
                    self.answers.take(fact);
                    self.tell();
                }
                Err(RecvTimeoutError::Timeout) => self.look(),
                Err(RecvTimeoutError::Disconnected) => return,
            }
        }
    }

    /// A round: everything is looked up, and every script asked after.
    fn look(&mut self) {
        self.next_round = Instant::now() + LOOK_EVERY;
        if let Some(watch) = &mut self.watch {
            self.answers.ask(&self.scripts, &watch.scripts, watch.every);
            watch.look(&mut self.machine);
        }
        self.tell();
    }

    fn tell(&mut self) {
        if let Some(watch) = &mut self.watch {
            watch.tell(&self.answers);
        }
    }
}

impl Watch {
    /// `None` if nothing is asked for.
    fn of(order: &PostureOrder, link: WeakSender<ToController>) -> Option<Self> {
        let (mut names, mut scripts) = (Vec::new(), BTreeSet::new());
        for name in order.names() {
            match name {
                FactName::Script(name) => {
                    scripts.insert(name);
                }
                other => names.push(other),
            }
        }
        let began = Instant::now();
        (!names.is_empty() || !scripts.is_empty()).then(|| Self {
            names,
            scripts,
            every: order.every(),
            link,
            began,
            found: (BTreeMap::new(), began),
            told: None,
        })
    }

    fn look(&mut self, machine: &mut Machine) {
        let looked_at = Instant::now();
        machine.begin();
        let found = self.names.iter();
        let found = found.map(|name| (name.to_string(), machine.look_up(name)));
        self.found = (found.collect(), looked_at);
    }

    /// Tells everything if it is news, or if it is time to.
    fn tell(&mut self, answers: &Answers) {
        // What a script says that has just been asked is waited for, a little: without it the report would take back what
        // the controller knows from before.
        if answers.is_lacking(&self.scripts) && self.began.elapsed() < LOOK_EVERY {
            return;
        }
        let (found, looked_at) = &self.found;
        let given: Vec<ReportedFact> = answers.of(&self.scripts).collect();
        let scripts = given.iter();
        let scripts = scripts.map(|fact| (fact.name.clone(), (fact.value.clone(), fact.signer.clone())));
        let news = News {
            found: found.clone(),
            scripts: scripts.collect(),
        };
        let is_known = self
            .told
            .as_ref()
            .is_some_and(|(told, at)| *told == news && at.elapsed() + LOOK_EVERY < self.every);
        if is_known {
            return;
        }
        let Some(link) = self.link.upgrade() else { return };
        let found = found.iter();
        let mut facts: Vec<ReportedFact> = found
            .map(|(name, found)| reported(name.clone(), found, looked_at.elapsed()))
            .collect();
        facts.extend(given);
        // A full queue is tried again with the next round.
        if link
            .try_send(ToController::Posture(PostureReport { facts }))
            .is_ok()
        {
            self.told = Some((news, Instant::now()));
        }
    }
}

fn reported(name: String, found: &Found, age: Duration) -> ReportedFact {
    let ms = |duration: Duration| u64::try_from(duration.as_millis()).unwrap_or(u64::MAX);
    let value = match found {
        Ok(Value::Bool(is)) => ReportedValue::Bool(*is),
        Ok(Value::Text(text)) => ReportedValue::Text(text.clone()),
        Ok(Value::Version(text)) => ReportedValue::Version(text.clone()),
        // What lies in the future has not been: a clock was set back since.
        Ok(Value::Since(at)) => match at.elapsed() {
            Ok(ago) => ReportedValue::AgoMs(ms(ago.saturating_sub(age))),
            Err(_) => ReportedValue::Missing("it lies in the future by this machine's clock".to_owned()),
        },
        Err(why) => ReportedValue::Missing(why.clone()),
    };
    ReportedFact {
        name,
        value,
        age_ms: ms(age),
        signer: None,
    }
}

/// What is read to look things up: programs, for their hashes, and these. Of folders that hold secrets too, such as
/// `/etc/ssh`, single files: one that is replaced is another one to the kernel, and closed until the node starts again.
/// Of other processes no more is open than their names and states: the wall around files keeps their memory and
/// environment closed (Landlock, as ptrace(2) access).
pub(crate) const PATHS: [&str; 16] = [
    "/proc",
    "/sys/dev/block",
    "/sys/devices/virtual/block",
    boot::VARIABLE,
    ssh::CONFIG,
    ssh::CONFIG_FOLDER,
    updates::FOLDERS[0],
    updates::FOLDERS[1],
    updates::FOLDERS[2],
    updates::FOLDERS[3],
    "/etc/os-release",
    "/usr/lib/os-release",
    "/usr/bin",
    "/usr/sbin",
    "/usr/local/bin",
    "/usr/local/sbin",
];

/// How often to look: a change is told within this and the time that looking takes.
const LOOK_EVERY: Duration = Duration::from_secs(2);
const INPUTS_MAX: usize = 16;
