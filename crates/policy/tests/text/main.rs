//! From policy text to verdicts, through the crate's public face.
#![expect(
    clippy::unwrap_used,
    clippy::format_push_string,
    clippy::format_collect,
    reason = "tests and their helpers: a panic is a failed test, and texts are short"
)]

mod answers;
mod arbitrary;
mod messages;
mod model;
mod oracle;
mod small;
mod verified;
