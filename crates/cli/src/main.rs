//! `ringfence`: runs a mesh from the command line.
//!
//! What administrators do (perimeters, tokens, nodes, devices, audit) goes to the controller's REST API over HTTPS;
//! what concerns this machine and its person (`status`, `ping`, `login`) goes to the node's Unix socket.
//!
//! **Invariant:** JSON goes to stdout alone, everything said to people about it to stderr, and the exit code is one of
//! [`failure::Exit`].

mod args;
mod callback;
mod client;
mod commands;
mod context;
mod failure;
mod files;
mod local;
mod output;
mod prompt;
mod when;

use std::process::ExitCode;

use crate::args::Cli;
use crate::output::Output;

fn main() -> ExitCode {
    // What the system does not let us forbid is no reason not to answer.
    let _ = ringfence_transport::forbid_core_dumps();
    let cli: Cli = ringfence_tame::parse_arguments();
    let mut output = Output::new(cli.json);
    match commands::run(cli, &mut output) {
        Ok(()) => ExitCode::SUCCESS,
        Err(failure) => {
            output.failure(&failure);
            ExitCode::from(failure.exit as u8)
        }
    }
}
