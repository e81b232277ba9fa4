//! How a command fails: an exit code for scripts, a sentence and a way out for people.

use std::fmt::Display;

use ringfence_control::api::Finding;

/// The exit codes, stable from 0.1 on. 0 is success.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
pub(crate) enum Exit {
    /// It did not work.
    Failed = 1,
    /// The command line is wrong; clap uses the same code.
    Usage = 2,
    /// This machine has not joined a mesh.
    NotEnrolled = 3,
    /// The controller or the node does not let the caller do this.
    Denied = 4,
    /// It did not happen in time.
    Timeout = 5,
    /// The controller cannot be reached.
    Unreachable = 6,
}

/// Why a command ends with something else than 0.
#[derive(Debug)]
pub(crate) struct Failure {
    /// The exit code.
    pub exit: Exit,
    /// What went wrong. Empty if the command's own output has said it.
    pub message: String,
    /// What to do next.
    pub help: Option<String>,
    /// Errors in policy files, with the text they are about where this machine has it.
    pub findings: Vec<(Finding, Option<String>)>,
}

impl Failure {
    /// A failure with nothing more to say than `message`.
    pub(crate) fn new(exit: Exit, message: impl Display) -> Self {
        Self {
            exit,
            message: message.to_string(),
            help: None,
            findings: Vec::new(),
        }
    }

    /// It did not work.
    pub(crate) fn failed(message: impl Display) -> Self {
        Self::new(Exit::Failed, message)
    }

    /// The output has said it all; only the exit code is left to tell.
    pub(crate) fn told(exit: Exit) -> Self {
        Self::new(exit, "")
    }

    /// Adds what to do next.
    pub(crate) fn help(mut self, help: impl Display) -> Self {
        self.help = Some(help.to_string());
        self
    }
}
