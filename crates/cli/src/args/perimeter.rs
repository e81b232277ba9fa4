//! The arguments of `perimeter`.

use std::path::PathBuf;
use std::time::Duration;

use clap::{Args, Subcommand};
use ringfence_model::{Name, Selector};
use ringfence_policy::Service;

use super::duration;

/// `ringfence perimeter …`
#[derive(Subcommand)]
pub(crate) enum PerimeterCommand {
    /// Write a first policy file, apply it, and print one join command for each side
    Create(CreateArgs),
    /// Make files the policy of the perimeters they name, all or nothing
    Apply(ApplyArgs),
    /// List perimeters
    #[command(
        visible_alias = "list",
        after_help = "Example:\n  ringfence perimeter ls --json"
    )]
    Ls,
    /// Show one: groups, members, rules
    #[command(
        after_help = "Example:\n  ringfence perimeter show payments-db\n  ringfence perimeter show payments-db --policy > payments-db.toml"
    )]
    Show {
        /// Its name
        name: Name,
        /// Print its policy file as it was applied
        #[arg(long)]
        policy: bool,
    },
    /// Remove one: its keys, addresses and flows go at once, on every node
    #[command(
        visible_alias = "remove",
        after_help = "Example:\n  ringfence perimeter rm payments-db"
    )]
    Rm {
        /// Its name
        name: Name,
    },
}

/// `ringfence perimeter create`
#[derive(Args)]
#[command(
    after_help = "Example:\n  ringfence perimeter create payments-db --asset role=db --client role=api \\\n      --port tcp/5432 --owner alice@example.com"
)]
pub(crate) struct CreateArgs {
    /// What to call it: 1 to 63 of a-z, 0-9 and -
    pub name: Name,
    /// Labels of what is protected: key=value, joined by commas
    #[arg(long, value_name = "LABEL")]
    pub asset: Selector,
    /// Labels of who may reach it
    #[arg(long, value_name = "LABEL")]
    pub client: Selector,
    /// On which ports: tcp/5432, udp/1000-2000, icmp, any; may be given more than once
    #[arg(long = "port", value_name = "PORT", required = true, value_delimiter = ',')]
    pub ports: Vec<Service>,
    /// Who answers for it, by e-mail; may be given more than once
    #[arg(long = "owner", value_name = "E", required = true, value_delimiter = ',')]
    pub owners: Vec<String>,
    /// Where to write the policy [default: NAME.toml]
    #[arg(long, value_name = "FILE")]
    pub file: Option<PathBuf>,
    /// How long the join commands work
    #[arg(long, default_value = "1h", value_parser = duration)]
    pub ttl: Duration,
    /// How many machines may join with each command
    #[arg(long, default_value_t = 1)]
    pub uses: u32,
}

/// `ringfence perimeter apply`
#[derive(Args)]
#[command(
    after_help = "Examples:\n  ringfence perimeter apply -f perimeters/ --dry-run\n  ringfence perimeter apply -f perimeters/ --prune"
)]
pub(crate) struct ApplyArgs {
    /// A policy file, a folder of them, or - for standard input; may be given more than once
    #[arg(short = 'f', long = "file", value_name = "FILE|DIR", required = true)]
    pub files: Vec<PathBuf>,
    /// Only print which flows would open or close
    #[arg(long)]
    pub dry_run: bool,
    /// Remove every perimeter that no file names
    #[arg(long)]
    pub prune: bool,
    /// Refuse if the controller is past this revision: apply what was reviewed, or nothing
    #[arg(long, value_name = "REVISION")]
    pub base: Option<ringfence_model::Revision>,
}
