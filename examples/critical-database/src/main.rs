//! `make demo`: a critical database in a network of namespaces, protected before your eyes.

mod attack;
mod cast;
mod matrix;
mod revocation;
mod story;
mod visit;

use std::process::ExitCode;

use clap::Parser;
use ringfence_example_stage::{Staying, run};

/// Protects a real database in network namespaces, and shows it.
#[derive(Parser)]
#[command(name = "critical-database", version)]
struct Arguments {
    #[command(flatten)]
    staying: Staying,
}

fn main() -> ExitCode {
    run("demo", Arguments::parse().staying, story::play)
}
