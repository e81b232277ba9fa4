//! Structure police: the rules of ARCHITECTURE.md and CONTRIBUTING.md that no compiler or linter checks.
//!
//! Each module takes texts and gives complaints, so that each rule has a test of its own; `tests/repository.rs` holds
//! the repository against all of them.

pub mod layout;
pub mod menu;
pub mod proofs;
pub mod rooms;
pub mod source;
pub mod supply;
pub mod words;

/// One broken rule: where, and what to do about it.
pub type Complaint = String;
