//! Policy text to rules to verdicts.
#![deny(missing_docs)]

mod rule;
mod service;

pub use rule::{Direction, Rule};
pub use service::{PortRange, Service, ServiceError};
