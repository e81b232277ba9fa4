//! The two ends of a control connection as values: what each holds, what it says next.

mod controller;
mod node;

pub use controller::{ControllerSession, GreetError};
pub use node::{HelloFacts, NodeAction, NodeSession, SessionError};

#[cfg(test)]
mod tests;
