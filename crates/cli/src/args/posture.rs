//! `ringfence posture …`, as a type.

use std::path::PathBuf;
use std::time::Duration;

use clap::{Args, Subcommand};
use ringfence_model::Name;

use super::duration;

/// `ringfence posture …`
#[derive(Subcommand)]
pub(crate) enum PostureCommand {
    /// Make a file what is asked of machines, in place of the one before
    #[command(after_help = "Example:\n  ringfence posture apply -f posture.toml")]
    Apply {
        /// The posture file, or - for standard input
        #[arg(short = 'f', long, value_name = "FILE")]
        file: PathBuf,
        /// Though it lacks checks that rules ask for: those rules close
        #[arg(long)]
        force: bool,
    },
    /// List the checks, and how many nodes meet each
    #[command(
        visible_alias = "list",
        after_help = "Example:\n  ringfence posture ls\n  ringfence posture ls --json | jq -r .file.text > posture.toml"
    )]
    Ls,
    /// Show how a node stands to each check, on which facts and how old they are
    #[command(after_help = "Example:\n  ringfence posture show alices-laptop")]
    Show {
        /// Its name or id
        node: String,
    },
    /// List what is known of a node's machine
    #[command(after_help = "Example:\n  ringfence posture facts alices-laptop --json")]
    Facts {
        /// Its name or id
        node: String,
    },
    /// Say what a file would come to, on what is known now, and change nothing; exit code 1 if a node fails a check
    Test(PostureTestArgs),
    /// Say something about a node that it cannot know itself; checks ask for it as custom.NAME
    Give(FactArgs),
}

/// `ringfence posture test`
#[derive(Args)]
#[command(
    after_help = "Examples:\n  ringfence posture test -f posture.toml\n  ringfence posture test -f posture.toml --node alices-laptop"
)]
pub(crate) struct PostureTestArgs {
    /// The posture file, or - for standard input
    #[arg(short = 'f', long, value_name = "FILE")]
    pub file: PathBuf,
    /// On which node, by name or id; may be given more than once [default: all]
    #[arg(long = "node", value_name = "NODE")]
    pub nodes: Vec<String>,
}

/// `ringfence posture give`
#[derive(Args)]
#[command(
    after_help = "Examples:\n  ringfence posture give alices-laptop edr healthy --ttl 1h\n  ringfence posture give alices-laptop agent v7.1 --ttl 1d"
)]
pub(crate) struct FactArgs {
    /// The node's name or id
    pub node: String,
    /// What to call it
    pub name: Name,
    /// What it is: true or false, a number, a version as v7.1, or any text
    #[arg(allow_hyphen_values = true)]
    pub value: String,
    /// How long that counts
    #[arg(long, value_parser = duration)]
    pub ttl: Duration,
}
