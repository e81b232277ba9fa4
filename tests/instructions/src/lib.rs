//! How many instructions the hot functions of the data plane take, so that a regression shows on a noisy machine too.
//!
//! [`hot`] is what is counted, under callgrind; [`callgrind`] reads what it counted; [`baseline`] compares that with
//! what is stored. Built apart from the other tests, and optimised, so that it depends on little and is built fast.
#![deny(missing_docs)]

pub mod baseline;
pub mod callgrind;
mod filter;
pub mod hot;
mod nodes;
mod tunnel;

pub use filter::Filter;
