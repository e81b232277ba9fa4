//! `make demo`: a critical database in a network of namespaces, protected before your eyes.
//!
//! **Invariant:** however it ends (done, failed, Ctrl-C at any moment), its processes and namespaces are gone.

mod attack;
mod cast;
mod matrix;
mod revocation;
mod screen;
mod story;
mod visit;

use std::io::IsTerminal as _;
use std::process::ExitCode;
use std::sync::mpsc::{Sender, channel};
use std::thread;

use anyhow::{Context as _, Result, anyhow};
use clap::Parser;
use ringfence_lab::Lab;
use tokio::signal::unix::{SignalKind, signal};

/// Protects a real database in network namespaces, and shows it.
#[derive(Parser)]
#[command(name = "critical-database", version)]
struct Arguments {
    /// Leave everything up at the end until Ctrl-C. On a terminal it does so by itself, until Enter
    #[arg(long, conflicts_with = "no_wait")]
    keep: bool,
    /// End at once when the story is told, on a terminal too
    #[arg(long)]
    no_wait: bool,
}

/// What happens to a demo.
enum Event {
    /// The story is told, and the scene stays up for visitors.
    Told,
    /// It is over.
    Over(Result<()>),
    /// Somebody wants it to end now: Ctrl-C and the like.
    Interrupted,
}

/// How long the scene stays up when the story is told.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Stay {
    /// Not at all.
    Not,
    /// Until Enter.
    UntilEnter,
    /// Until it is interrupted.
    UntilInterrupted,
}

fn main() -> ExitCode {
    let stay = stay(&Arguments::parse());
    match run(stay) {
        Ok(code) => code,
        Err(error) => {
            screen::failure(&format!("{error:#}"));
            ExitCode::FAILURE
        }
    }
}

fn stay(arguments: &Arguments) -> Stay {
    let is_watched = std::io::stdin().is_terminal() && std::io::stdout().is_terminal();
    match (arguments.keep, arguments.no_wait) {
        (true, _) => Stay::UntilInterrupted,
        (false, false) if is_watched => Stay::UntilEnter,
        (false, _) => Stay::Not,
    }
}

fn run(stay: Stay) -> Result<ExitCode> {
    let (tell, events) = channel();
    watch_signals(tell.clone())?;
    let lab = Lab::new("demo")?;
    thread::spawn({
        let lab = lab.clone();
        move || perform(&lab, stay, &tell)
    });
    let mut is_told = false;
    loop {
        match events.recv().context("the story has a teller")? {
            Event::Told => is_told = true,
            Event::Over(result) => {
                lab.end();
                return result.map(|()| ExitCode::SUCCESS);
            }
            Event::Interrupted => {
                lab.end();
                // What the shell gives for a program that Ctrl-C ended, unless that was how to leave.
                return Ok(if is_told {
                    ExitCode::SUCCESS
                } else {
                    ExitCode::from(130)
                });
            }
        }
    }
}

/// Plays on a thread of its own, so that a signal finds somebody who is not waiting for anything else.
fn perform(lab: &Lab, stay: Stay, tell: &Sender<Event>) {
    let played = thread::scope(|scope| scope.spawn(|| story::play(lab, stay, &|| tell_told(tell))).join());
    let result = played.unwrap_or_else(|_| Err(anyhow!("the demo itself is broken: see the panic above")));
    // Ctrl-C reaches the programs too. What then fails is no news: let the signal be heard first.
    if result.is_err() {
        thread::sleep(SIGNAL_SLACK);
    }
    // Nobody listens if the signal has ended it.
    let _ = tell.send(Event::Over(result));
}

fn tell_told(tell: &Sender<Event>) {
    let _ = tell.send(Event::Told);
}

fn watch_signals(tell: Sender<Event>) -> Result<()> {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_io()
        .build()?;
    let watched = {
        let _inside = runtime.enter();
        [
            SignalKind::interrupt(),
            SignalKind::terminate(),
            SignalKind::hangup(),
        ]
        .map(signal)
        .into_iter()
        .collect::<std::io::Result<Vec<_>>>()?
    };
    thread::spawn(move || {
        runtime.block_on(async {
            let mut watched = watched;
            let [interrupt, terminate, hangup] = watched.as_mut_slice() else {
                return;
            };
            tokio::select! {
                _ = interrupt.recv() => (),
                _ = terminate.recv() => (),
                _ = hangup.recv() => (),
            }
            let _ = tell.send(Event::Interrupted);
            // A second Ctrl-C must not end the cleaning up.
            std::future::pending::<()>().await;
        });
    });
    Ok(())
}

const SIGNAL_SLACK: std::time::Duration = std::time::Duration::from_millis(300);
