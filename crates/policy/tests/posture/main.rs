//! From a posture file and facts to judgements, through the crate's public face.
#![expect(
    clippy::unwrap_used,
    reason = "tests and their helpers: a panic is a failed test"
)]

mod arbitrary;
mod judging;
mod messages;
