//! Policy text to rules to verdicts.
//!
//! Two halves meet in [`Rule`]. The controller's half reads a perimeter's file ([`Policy::parse`]), resolves it against
//! the nodes there are ([`compile()`]), tests it ([`check_expectations`]), compares it ([`diff()`]) and explains it
//! ([`explain()`]); what is asked of machines comes in a file of its own ([`PostureFile`]), and so does whose tokens let
//! workloads in ([`WorkloadIssuer`]). The node's half decides about packets with the rules it was given.
#![deny(missing_docs)]

mod closed_flow;
mod compile;
mod coverage;
mod diagnostic;
mod diff;
mod expect;
mod explain;
mod facts;
mod flow_record;
mod flow_store;
mod flow_table;
mod fragments;
mod granted;
mod hours;
mod lint;
mod openings;
mod peer_set;
mod policy;
mod posture;
mod reader;
mod require;
mod rule;
mod ruleset;
mod service;
mod starter;
mod tcp_track;
mod text;
mod workload;

pub use closed_flow::{CloseReason, ClosedFlow};
pub use compile::{Allowlist, Compiled, LiveRule, Opening, Side, compile};
pub use diagnostic::{Diagnostic, Place, PolicyErrors};
pub use diff::{Change, FlowChange, diff};
pub use expect::check_expectations;
pub use explain::{Explanation, explain};
pub use facts::{Facts, Isolation, UserFacts};
pub use flow_record::{FlowCounters, FlowRecord, Traffic};
pub use flow_store::{
    ECHO_TIMEOUT, FLOWS_MAX, FLOWS_PER_PEER_MAX, TCP_CLOSED_TIMEOUT, TCP_ESTABLISHED_TIMEOUT,
    TCP_HALF_CLOSED_TIMEOUT, TCP_OPENING_TIMEOUT, UDP_ANSWERED_TIMEOUT, UDP_OPENING_TIMEOUT,
};
pub use flow_table::{CLOSED_FLOWS_MAX, FlowTable, Refusal};
pub use granted::{GrantedRule, Grantee, Reached};
pub use hours::{Hours, HoursError};
pub use peer_set::{PeerSet, PeerSetNumbers};
pub use policy::{
    AllowRule, BreakGlass, Checked, Criticality, Endpoint, Expectation, Group, GroupMembers, Member, Policy,
    Spread, UserKey, UserSelector, Verdict,
};
pub use posture::{
    CHECKS_MAX, COMPARISONS_MAX, Check, CheckMode, CheckUse, Comparison, FILE_BYTES_MAX, Fact, FactKind,
    FactName, FactNeeds, FactSource, FactValue, FactWordError, Finding, Judgement, KnownFacts, NativeFact,
    NoVersion, POSTURE_BYTES_MAX, PROCESS_BYTES_MAX, PostureFile, Saying, TpmNeeds, VALUE_BYTES_MAX, Version,
    Wanted, is_fingerprint,
};
pub use require::{Requirement, Standing};
pub use rule::{Direction, Rule};
pub use ruleset::{Grant, OPENINGS_MAX, RuleSet, openings_of};
pub use service::{PortRange, Service, ServiceError};
pub use starter::{Starter, starter};
pub use tcp_track::{ResetNumbers, TcpResets};
pub use text::{EXPECTATIONS_MAX, GROUPS_MAX, RULES_MAX, SERVICES_MAX, TEXT_BYTES_MAX};
pub use workload::{
    ClaimPath, ClaimWanted, Claims, Condition, KeySource, NameTemplate, NoNodeName, RuleMiss,
    WORKLOAD_BYTES_MAX, WORKLOAD_RULES_MAX, WorkloadIssuer, WorkloadRule,
};
