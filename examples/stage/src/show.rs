//! A play from the first act to the last visitor, however it ends.
//!
//! **Invariant:** however it ends (done, failed, Ctrl-C at any moment), its processes and namespaces are gone.

use std::io::{self, IsTerminal as _};
use std::process::ExitCode;
use std::sync::mpsc::{Sender, channel};
use std::thread;
use std::time::Duration;

use anyhow::{Context as _, Result, anyhow};
use clap::Args;
use ringfence_lab::Lab;
use tokio::signal::unix::{SignalKind, signal};

use crate::screen::{Mark, Screen, failure};

/// How long a play stays up.
#[derive(Args, Clone, Copy, Debug)]
pub struct Staying {
    /// Leave everything up at the end until Ctrl-C. On a terminal it does so by itself, until Enter
    #[arg(long, conflicts_with = "no_wait")]
    keep: bool,
    /// End at once when the story is told, on a terminal too
    #[arg(long)]
    no_wait: bool,
}

/// What happens to a play.
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

/// The end of a play, when all was as promised.
pub struct Finale<'a> {
    stay: Stay,
    told: &'a dyn Fn(),
}

/// Plays `story` in a lab of this name, and cleans up after it.
pub fn run(name: &'static str, staying: Staying, story: fn(&Lab, &Finale<'_>) -> Result<()>) -> ExitCode {
    match run_until_over(name, staying.stay(), story) {
        Ok(code) => code,
        Err(error) => {
            failure(&format!("{error:#}"));
            ExitCode::FAILURE
        }
    }
}

impl Finale<'_> {
    /// Says that all was as promised, and leaves the scene up for as long as was asked.
    ///
    /// # Errors
    /// When nobody reads standard output any more.
    pub fn linger(&self, screen: &Screen) -> Result<()> {
        let time = format!("All as promised, in {:.1} s.", screen.elapsed().as_secs_f64());
        match self.stay {
            Stay::Not => screen.finding(
                Mark::Good,
                &format!("{time} Everything is removed now; on a terminal, or with --keep, it stays up."),
            ),
            Stay::UntilEnter => {
                screen.finding(
                    Mark::Good,
                    &format!("{time} Everything is still up: Enter ends and removes it."),
                )?;
                (self.told)();
                io::stdin().read_line(&mut String::new())?;
                Ok(())
            }
            Stay::UntilInterrupted => {
                screen.finding(
                    Mark::Good,
                    &format!("{time} Everything is still up: Ctrl-C ends and removes it."),
                )?;
                (self.told)();
                loop {
                    thread::park();
                }
            }
        }
    }
}

impl Staying {
    fn stay(self) -> Stay {
        let is_watched = io::stdin().is_terminal() && io::stdout().is_terminal();
        match (self.keep, self.no_wait) {
            (true, _) => Stay::UntilInterrupted,
            (false, false) if is_watched => Stay::UntilEnter,
            (false, _) => Stay::Not,
        }
    }
}

fn run_until_over(
    name: &'static str,
    stay: Stay,
    story: fn(&Lab, &Finale<'_>) -> Result<()>,
) -> Result<ExitCode> {
    let (tell, events) = channel();
    watch_signals(tell.clone())?;
    let lab = Lab::new(name)?;
    thread::spawn({
        let lab = lab.clone();
        move || perform(&lab, stay, story, &tell)
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
fn perform(lab: &Lab, stay: Stay, story: fn(&Lab, &Finale<'_>) -> Result<()>, tell: &Sender<Event>) {
    let played = thread::scope(|scope| {
        let told = || tell_told(tell);
        scope
            .spawn(move || story(lab, &Finale { stay, told: &told }))
            .join()
    });
    let result = played.unwrap_or_else(|_| Err(anyhow!("the play itself is broken: see the panic above")));
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

const SIGNAL_SLACK: Duration = Duration::from_millis(300);
