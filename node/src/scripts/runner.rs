//! The process that runs scripts: what it is asked over its standard input is a name, and what it answers is a fact.
//!
//! It keeps the rights that the node was started with, for the scripts' sake, and gains none. Nothing that it hears can
//! have it run what is not signed.

use std::collections::BTreeMap;
use std::os::fd::{AsFd as _, OwnedFd};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use anyhow::Context as _;
use rustix::net::{SendFlags, send};

use ringfence_control::{ReportedFact, ReportedValue};
use ringfence_model::Name;

use super::pace::{LastRun, Told};
use super::signed::Places;
use super::{QUESTIONS_MAX, Question, missing, output, receive, run};
use crate::arguments::ScriptArguments;
use crate::sys;

/// Answers until nobody asks any more.
///
/// # Errors
/// If this process cannot be made what it has to be.
pub fn serve(arguments: &ScriptArguments) -> anyhow::Result<()> {
    rustix::thread::set_no_new_privs(true).context("giving up new privileges")?;
    // Whatever whoever started the node had open: no script gets it.
    sys::close_on_exec().context("closing what was inherited takes Linux 5.11")?;
    // Not `exe`, which is all that the kernel knows it by: checks go by names.
    rustix::thread::set_name(c"ringfence-facts").context("taking a name")?;
    let socket = std::io::stdin().as_fd().try_clone_to_owned()?;
    let desk = Arc::new(Desk {
        socket,
        places: Places {
            signers: arguments.fact_signers.clone(),
            scripts: arguments.fact_scripts.clone(),
            owner: 0,
        },
        runs: Mutex::default(),
        busy: AtomicUsize::new(0),
    });
    while let Some(message) = receive(&desk.socket) {
        if let Ok(question) = serde_json::from_slice(&message) {
            Desk::take(&desk, question);
        }
    }
    // Threads that still watch a script end with the process, and their scripts with them.
    Ok(())
}

/// What all answers are made of.
struct Desk {
    socket: OwnedFd,
    places: Places,
    runs: Mutex<BTreeMap<Name, (LastRun, ReportedFact)>>,
    busy: AtomicUsize,
}

impl Desk {
    fn take(desk: &Arc<Self>, question: Question) {
        if desk.busy.fetch_add(1, Ordering::Relaxed) >= QUESTIONS_MAX {
            desk.busy.fetch_sub(1, Ordering::Relaxed);
            desk.answer(&missing(&question.name, "too many scripts run at once"));
            return;
        }
        let name = question.name.clone();
        let busy = Arc::clone(desk);
        let looking = move || {
            let every = Duration::from_millis(question.every_ms);
            let fact = busy.look_up(&question.name, every);
            busy.answer(&fact);
            busy.busy.fetch_sub(1, Ordering::Relaxed);
        };
        let thread = std::thread::Builder::new().name(format!("script {name}"));
        if let Err(error) = thread.spawn(looking) {
            desk.busy.fetch_sub(1, Ordering::Relaxed);
            desk.answer(&missing(&name, &format!("the system gives no thread: {error}")));
        }
    }

    /// What a script says, or said in its last run if it is not to run again yet.
    fn look_up(&self, name: &Name, every: Duration) -> ReportedFact {
        let stamp = self.places.stamp(name);
        let began = Instant::now();
        let last = self.runs().get(name).cloned();
        if let Some((last, fact)) = &last
            && !last.is_over(&stamp, every, began)
        {
            return aged(fact.clone(), last.began);
        }
        let fact = self.find_out(name);
        let told = match &fact.value {
            ReportedValue::Missing(why) => {
                if last.is_none_or(|(_, last)| last.value != fact.value) {
                    tracing::warn!(%name, why, "a script gives no fact");
                }
                Told::Nothing
            }
            _ => Told::Something,
        };
        let run = LastRun {
            stamp,
            began,
            took: began.elapsed(),
            told,
        };
        let mut runs = self.runs();
        if runs.len() >= RUNS_MAX {
            runs.clear();
        }
        runs.insert(name.clone(), (run, fact.clone()));
        drop(runs);
        aged(fact, began)
    }

    fn find_out(&self, name: &Name) -> ReportedFact {
        let signed = match self.places.read(name) {
            Ok(signed) => signed,
            Err(why) => return missing(name, &why),
        };
        let printed = run::run(&signed.text, TIMEOUT);
        let mut fact = match printed.and_then(|printed| output::read(&printed)) {
            Ok(value) => ReportedFact {
                value,
                ..missing(name, "")
            },
            Err(why) => missing(name, &why),
        };
        fact.signer = Some(signed.signer);
        fact
    }

    fn answer(&self, fact: &ReportedFact) {
        let Ok(message) = serde_json::to_vec(fact) else {
            return;
        };
        // Fails if nobody is there any more, which the next question would have told.
        let _ = send(&self.socket, &message, SendFlags::NOSIGNAL);
    }

    fn runs(&self) -> std::sync::MutexGuard<'_, BTreeMap<Name, (LastRun, ReportedFact)>> {
        self.runs.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// What a run that began then said, now.
fn aged(fact: ReportedFact, began: Instant) -> ReportedFact {
    ReportedFact {
        age_ms: u64::try_from(began.elapsed().as_millis()).unwrap_or(u64::MAX),
        ..fact
    }
}

/// Scripts that are remembered; as many as checks may name.
const RUNS_MAX: usize = 64;
const TIMEOUT: Duration = Duration::from_secs(10);
