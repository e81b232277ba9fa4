//! People on laptops reach a database, and everything that ends it ends their live session: measured before your eyes.

mod cast;
mod directory;
mod endings;
mod story;

use std::process::ExitCode;

use clap::Parser;
use ringfence_example_stage::{Staying, run};

/// Lets a person in by login, second factor and posture, and cuts them off in every way there is.
#[derive(Parser)]
#[command(name = "remote-users", version)]
struct Arguments {
    #[command(flatten)]
    staying: Staying,
}

fn main() -> ExitCode {
    run("remote", Arguments::parse().staying, story::play)
}
