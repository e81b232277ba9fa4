//! One function for each door that bytes from outside come in by, with what must hold behind it.
//!
//! A target takes any bytes and panics if something is wrong. `libfuzzer/` runs them under libFuzzer, `tests/replay.rs`
//! runs them over `corpus/`, and over mutations of it, in `make test`.
//!
//! **Invariant:** a target has no state of its own, so an input that fails once is a regression test for ever.
#![deny(missing_docs)]

mod certificate;
mod conversation;
mod datagrams;
mod enrollment;
mod fixture;
mod flows;
mod inner;
mod local;
mod log;
mod netmap;
mod packet;
mod policy;
mod rest;
mod rogue;
mod routes;
mod saved;
mod scim;
mod script;
mod token;
mod uapi;

/// One door.
#[derive(Clone, Copy, Debug)]
pub struct Target {
    /// Also the name of its corpus and of its file in `libfuzzer/fuzz_targets`.
    pub name: &'static str,
    /// Takes any bytes; panics if something is wrong.
    pub run: fn(&[u8]),
    /// Inputs from which a fuzzer starts: honest ones, and those that get deep. Each has a name.
    pub seeds: fn() -> Vec<(&'static str, Vec<u8>)>,
}

/// All doors.
pub const TARGETS: &[Target] = &[
    target("packet", packet::run, packet::seeds),
    target("flows", flows::run, flows::seeds),
    target("datagrams", datagrams::run, datagrams::seeds),
    target("rogue", rogue::run, rogue::seeds),
    target("to_node", conversation::to_node, conversation::to_node_seeds),
    target(
        "to_controller",
        conversation::to_controller,
        conversation::to_controller_seeds,
    ),
    target("netmap", netmap::run, netmap::seeds),
    target("token", token::run, token::seeds),
    target("certificate", certificate::run, certificate::seeds),
    target("enrollment", enrollment::run, enrollment::seeds),
    target("policy", policy::run, policy::seeds),
    target("rest", rest::run, rest::seeds),
    target("routes", routes::run, routes::seeds),
    target("scim", scim::run, scim::seeds),
    target("local", local::run, local::seeds),
    target("uapi", uapi::run, uapi::seeds),
    target("saved", saved::run, saved::seeds),
    target("log", log::run, log::seeds),
];

/// Runs the target of this name.
///
/// # Panics
/// If there is none, or if it finds something.
pub fn run(name: &str, input: &[u8]) {
    let target = TARGETS.iter().find(|target| target.name == name);
    (target.expect("libfuzzer/ names targets of this library only").run)(input);
}

const fn target(name: &'static str, run: fn(&[u8]), seeds: fn() -> Vec<(&'static str, Vec<u8>)>) -> Target {
    Target { name, run, seeds }
}
