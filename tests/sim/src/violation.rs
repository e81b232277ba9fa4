//! A broken promise, in words.

use std::fmt;

/// What must hold and did not. A run ends with the first.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Violation {
    /// The promise, in a word: what [`crate::sabotage`] expects to see broken.
    pub promise: &'static str,
    /// What happened.
    pub what: String,
    /// Whom it concerns: the trace shows lines with these words.
    pub concerns: Vec<String>,
}

impl Violation {
    /// A broken promise.
    pub fn new(promise: &'static str, what: impl Into<String>) -> Self {
        Self {
            promise,
            what: what.into(),
            concerns: Vec::new(),
        }
    }

    /// Names a machine that it concerns.
    pub fn of(mut self, machine: usize) -> Self {
        self.concerns.push(format!("m{machine}"));
        self
    }
}

impl fmt::Display for Violation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {}", self.promise, self.what)
    }
}
