//! What ends the program, and with which exit code: the same numbers as `ringfence` uses.

use std::process::ExitCode;

use crate::state::StateError;

/// Why the program ends without having done what it was asked.
#[derive(Debug, thiserror::Error)]
pub enum Failure {
    /// Something failed.
    #[error("{0:#}")]
    Failed(anyhow::Error),
    /// It was called wrongly.
    #[error("{0}")]
    Usage(String),
    /// This machine has no identity.
    #[error("{0}")]
    NotEnrolled(String),
    /// The controller refused.
    #[error("{0}")]
    Denied(String),
    /// It took too long.
    #[error("{0}")]
    Timeout(String),
    /// There is no controller where it should be.
    #[error("{0}")]
    Unreachable(String),
}

impl Failure {
    /// The exit code that says so.
    pub fn exit_code(&self) -> ExitCode {
        ExitCode::from(match self {
            Self::Failed(_) => 1,
            Self::Usage(_) => 2,
            Self::NotEnrolled(_) => 3,
            Self::Denied(_) => 4,
            Self::Timeout(_) => 5,
            Self::Unreachable(_) => 6,
        })
    }
}

impl From<anyhow::Error> for Failure {
    fn from(error: anyhow::Error) -> Self {
        Self::Failed(error)
    }
}

impl From<StateError> for Failure {
    fn from(error: StateError) -> Self {
        match error {
            StateError::NotEnrolled(_) => Self::NotEnrolled(error.to_string()),
            StateError::AlreadyEnrolled { .. }
            | StateError::Rights { .. }
            | StateError::Owner { .. }
            | StateError::NotADirectory(_)
            | StateError::InUse(_)
            | StateError::Format { .. }
            | StateError::Damaged { .. }
            | StateError::Io { .. } => Self::Failed(error.into()),
        }
    }
}
