//! Policy text to rules to verdicts.
//!
//! Two halves meet in [`Rule`]. The controller's half reads a perimeter's file ([`Policy::parse`]), resolves it against
//! the nodes there are ([`compile()`]), tests it ([`check_expectations`]), compares it ([`diff()`]) and explains it
//! ([`explain()`]). The node's half decides about packets with the rules it was given.
#![deny(missing_docs)]

mod compile;
mod coverage;
mod diagnostic;
mod diff;
mod expect;
mod explain;
mod lint;
mod policy;
mod reader;
mod require;
mod rule;
mod service;
mod text;

pub use compile::{Allowlist, Compiled, LiveRule, Opening, compile};
pub use diagnostic::{Diagnostic, Place, PolicyErrors};
pub use diff::{Change, FlowChange, diff};
pub use expect::check_expectations;
pub use explain::{Explanation, explain};
pub use policy::{
    AllowRule, Checked, Criticality, Endpoint, Expectation, Group, GroupMembers, Member, Policy, UserKey,
    UserSelector, Verdict,
};
pub use require::{Hours, HoursError, Requirement};
pub use rule::{Direction, Rule};
pub use service::{PortRange, Service, ServiceError};
pub use text::{EXPECTATIONS_MAX, GROUPS_MAX, RULES_MAX, SERVICES_MAX, TEXT_BYTES_MAX};
