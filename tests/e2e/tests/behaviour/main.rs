//! What must be true of the real programs on real networks. Each test has a network of its own.
//!
//! One program, not one a file: the slow tests (a re-key takes two minutes) wait while the others run.

#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

mod access;
mod accounts;
mod aging;
mod bad_input;
mod cli;
mod conditions;
mod confinement;
mod crowd;
mod drills;
mod failing;
mod flows;
mod foreign;
mod identity;
mod isolation;
mod joining;
mod lanes;
mod lapse;
mod locks;
mod memory;
mod node;
mod noise;
mod offload;
mod openapi;
mod posture;
mod records;
mod reviewing;
mod revocation;
mod roles;
mod rough;
mod scripts;
mod secrets;
mod stage;
mod tpm;
mod verifying;
