//! What the audience sees: acts, commands, their output, and findings; colours only on a terminal.

use std::cell::RefCell;
use std::fmt::Display;
use std::io::{self, Stdout, Write as _};
use std::time::{Duration, Instant};

use anstream::AutoStream;
use anyhow::{Context as _, Result};

/// The terminal, or whatever stands in for it.
pub struct Screen {
    started: Instant,
    stdout: RefCell<AutoStream<Stdout>>,
}

/// How a finding is marked.
#[derive(Clone, Copy)]
pub enum Mark {
    /// As policy says.
    Good,
    /// Not as policy says.
    Bad,
}

impl Default for Screen {
    fn default() -> Self {
        Self::start()
    }
}

impl Screen {
    /// An empty one; its clock starts.
    pub fn start() -> Self {
        Self {
            started: Instant::now(),
            stdout: RefCell::new(AutoStream::auto(io::stdout())),
        }
    }

    /// Since the demo began.
    pub fn elapsed(&self) -> Duration {
        self.started.elapsed()
    }

    /// What the whole is about.
    ///
    /// # Errors
    /// When nobody reads standard output any more, as for all below.
    pub fn title(&self, title: &str, below: &str) -> Result<()> {
        self.print(&format!("{BOLD}{title}{PLAIN}\n{DIM}{below}{PLAIN}\n"))
    }

    /// A heading, with the time at the right edge.
    ///
    /// # Errors
    /// As [`Self::title`].
    pub fn act(&self, number: u32, title: &str) -> Result<()> {
        let time = format!("{:.1} s", self.elapsed().as_secs_f64());
        let head = format!("{number}  {title} ");
        let rule = WIDTH.saturating_sub(head.chars().count() + time.len() + 1);
        self.print(&format!(
            "\n{BOLD}{head}{PLAIN}{DIM}{} {time}{PLAIN}\n",
            "─".repeat(rule)
        ))
    }

    /// A sentence.
    ///
    /// # Errors
    /// As [`Self::title`].
    pub fn say(&self, text: &str) -> Result<()> {
        self.print(&indented(text, "   "))
    }

    /// A command that is run on a host.
    ///
    /// # Errors
    /// As [`Self::title`].
    pub fn command(&self, host: &str, command: &str) -> Result<()> {
        self.print(&format!("   {DIM}{host} ${PLAIN} {BOLD}{command}{PLAIN}\n"))
    }

    /// What it printed.
    ///
    /// # Errors
    /// As [`Self::title`].
    pub fn output(&self, text: &str) -> Result<()> {
        self.print(&indented(text.trim_end(), "     "))
    }

    /// What was measured.
    ///
    /// # Errors
    /// As [`Self::title`].
    pub fn finding(&self, mark: Mark, text: &str) -> Result<()> {
        let (colour, sign) = match mark {
            Mark::Good => (GREEN, "✓"),
            Mark::Bad => (RED, "✗"),
        };
        self.print(&format!("   {colour}{sign}{PLAIN} {text}\n"))
    }

    fn print(&self, text: &str) -> Result<()> {
        let mut stdout = self.stdout.borrow_mut();
        let written = stdout.write_all(text.as_bytes()).and_then(|()| stdout.flush());
        written.context("nobody reads standard output any more")
    }
}

/// Says why there will be no more. Errors of the terminal itself are nobody's news.
pub(crate) fn failure(why: &str) {
    let mut stderr = AutoStream::auto(io::stderr());
    let _ = writeln!(stderr, "{RED}demo failed{PLAIN}: {why}");
}

/// `text` in green or red.
pub fn marked(mark: Mark, text: impl Display) -> String {
    let colour = match mark {
        Mark::Good => GREEN,
        Mark::Bad => RED,
    };
    format!("{colour}{text}{PLAIN}")
}

/// `text` less bright than the rest.
pub fn dimmed(text: impl Display) -> String {
    format!("{DIM}{text}{PLAIN}")
}

/// A duration in milliseconds, with as many digits as are worth reading.
pub fn milliseconds(duration: Duration) -> String {
    let ms = duration.as_secs_f64() * 1000.0;
    if ms < 10.0 {
        format!("{ms:.1} ms")
    } else {
        format!("{ms:.0} ms")
    }
}

fn indented(text: &str, by: &str) -> String {
    let mut out = String::new();
    for line in text.lines() {
        out.push_str(by);
        out.push_str(line);
        out.push('\n');
    }
    out
}

const WIDTH: usize = 96;
const BOLD: &str = "\x1b[1m";
const DIM: &str = "\x1b[2m";
const RED: &str = "\x1b[31m";
const GREEN: &str = "\x1b[32m";
const PLAIN: &str = "\x1b[0m";
