//! A program that runs on a host.
//!
//! **Invariant:** it is dead and reaped when this value is gone.

use std::{
    fs,
    io::Write,
    path::{Path, PathBuf},
    process::{Child, ExitStatus},
    sync::{Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use anyhow::{Context, Result, bail};
use rustix::process::{Pid, Signal, kill_process};

use crate::{
    host::Host,
    wait::{wait_for, wait_until},
};

/// A program started by [`Program::spawn`](crate::Program::spawn); killed when dropped.
pub struct Running {
    name: String,
    child: Mutex<Child>,
    log_path: PathBuf,
    /// Its thread is the program's parent: when it ends the program dies.
    host: Host,
}

impl Running {
    pub(crate) fn new(host: Host, name: &str, child: Child, log_path: PathBuf) -> Self {
        Self {
            name: name.to_owned(),
            child: Mutex::new(child),
            log_path,
            host,
        }
    }

    /// The process id.
    pub fn pid(&self) -> u32 {
        self.child().id()
    }

    /// Sends a signal; nothing happens if the program has ended.
    pub fn signal(&self, signal: Signal) {
        let mut child = self.child();
        // As long as it is not reaped its number cannot belong to anybody else.
        if matches!(child.try_wait(), Ok(None)) {
            let _ = kill_process(Pid::from_child(&child), signal);
        }
    }

    /// What Ctrl-C does.
    pub fn interrupt(&self) {
        self.signal(Signal::INT);
    }

    /// What a service manager does to stop it.
    pub fn terminate(&self) {
        self.signal(Signal::TERM);
    }

    /// Ends it at once, with no chance to clean up, and returns when it is gone.
    pub fn kill(&self) {
        let mut child = self.child();
        let _ = child.kill();
        let _ = child.wait();
    }

    /// Whether it still runs.
    pub fn is_running(&self) -> bool {
        matches!(self.child().try_wait(), Ok(None))
    }

    /// Waits for its end.
    ///
    /// # Errors
    /// When it still runs after `timeout`.
    pub fn wait(&self, timeout: Duration) -> Result<ExitStatus> {
        let status = wait_for(timeout, "its end", || self.child().try_wait().ok().flatten());
        status.with_context(|| {
            format!(
                "{} still runs after {timeout:?}; its log:\n{}",
                self.shown(),
                self.log()
            )
        })
    }

    /// Writes to the standard input of a program that was made [`interactive`](crate::Program::interactive).
    ///
    /// # Errors
    /// When it was not, or has ended.
    pub fn say(&self, text: &str) -> Result<()> {
        let mut child = self.child();
        let stdin = child
            .stdin
            .as_mut()
            .with_context(|| format!("{} was not made interactive", self.shown()))?;
        stdin
            .write_all(text.as_bytes())
            .with_context(|| format!("{} does not listen", self.shown()))?;
        stdin.flush()?;
        Ok(())
    }

    /// Ends the standard input of an interactive program.
    pub fn hang_up(&self) {
        self.child().stdin.take();
    }

    /// What it printed so far.
    pub fn log(&self) -> String {
        String::from_utf8_lossy(&fs::read(&self.log_path).unwrap_or_default()).into_owned()
    }

    /// Where that is.
    pub fn log_path(&self) -> &Path {
        &self.log_path
    }

    /// Waits until it has printed `text`.
    ///
    /// # Errors
    /// When it has not after `timeout`, or ends before; the error holds the log.
    pub fn wait_for_log(&self, text: &str, timeout: Duration) -> Result<Duration> {
        let mut alive = true;
        let waited = wait_until(timeout, text, || {
            // In this order: what it printed before it ended counts.
            alive = self.is_running();
            self.log().contains(text) || !alive
        });
        if self.log().contains(text) {
            return waited;
        }
        let how = if alive {
            format!("did not within {timeout:?}")
        } else {
            "ended".to_owned()
        };
        bail!(
            "{} should print {text:?} and {how}; its log:\n{}",
            self.shown(),
            self.log()
        );
    }

    fn shown(&self) -> String {
        format!("{} on {}", self.name, self.host.name())
    }

    fn child(&self) -> MutexGuard<'_, Child> {
        self.child.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        self.kill();
    }
}
