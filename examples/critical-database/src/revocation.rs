//! Access taken away while it is used: how long the connection lives on.

use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, anyhow};
use ringfence_e2e::Session;

use crate::cast::{Cast, database};

/// Two `psql` sessions: one to be cut, one to be left alone.
pub(crate) struct Sessions {
    dba: Session,
    api: Session,
}

/// What happened, counted from the moment that `ringfence perimeter apply` was started.
pub(crate) struct Cut {
    /// What it printed.
    pub(crate) output: String,
    /// When it was done.
    pub(crate) applied: Duration,
    /// When the DBA's `psql` found its connection gone.
    pub(crate) ended: Duration,
    /// What that `psql` printed about it.
    pub(crate) said: String,
    /// Whether the other session is still there.
    pub(crate) other_lives: bool,
}

impl Sessions {
    pub(crate) fn open(cast: &Cast) -> Result<Self> {
        let server = database(cast)?;
        Ok(Self {
            dba: Session::open(cast.dba.host(), server, "psql-dba")?,
            api: Session::open(cast.api.host(), server, "psql-api")?,
        })
    }

    /// Applies the file that takes the rule away, and watches.
    pub(crate) fn cut(self, cast: &Cast, args: &[&str]) -> Result<Cut> {
        let (started, output, applied, ended) = thread::scope(|scope| {
            let watching = scope.spawn(|| self.dba.wait_cut(PATIENCE));
            let started = Instant::now();
            let output = cast.administrator(args);
            let applied = started.elapsed();
            let ended = watching.join().map_err(|_| anyhow!("the watch panicked"))?;
            Ok::<_, anyhow::Error>((started, output?, applied, ended))
        })?;
        let ended = ended.context("the session should have ended")?;
        thread::sleep(AFTERMATH);
        let log = self.dba.log();
        let said = log
            .lines()
            .find(|line| line.contains("server"))
            .unwrap_or_default();
        Ok(Cut {
            output,
            applied,
            ended: ended.saturating_duration_since(started),
            said: said.to_owned(),
            other_lives: self.api.is_open(),
        })
    }
}

const PATIENCE: Duration = Duration::from_secs(5);
/// What should not end gets the time to do so.
const AFTERMATH: Duration = Duration::from_millis(300);
