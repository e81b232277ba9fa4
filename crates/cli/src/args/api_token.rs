//! The arguments of `api-token`.

use std::path::PathBuf;
use std::time::Duration;

use clap::{Args, Subcommand, ValueEnum};
use ringfence_model::Name;

use super::duration;

/// `ringfence api-token …`
#[derive(Subcommand)]
pub(crate) enum ApiTokenCommand {
    /// Make one and print it, alone, on stdout
    Create(ApiTokenCreateArgs),
    /// List API tokens, without their secrets
    #[command(visible_alias = "list", after_help = "Example:\n  ringfence api-token ls")]
    Ls,
    /// Revoke one: from the next request on it opens nothing
    #[command(after_help = "Example:\n  ringfence api-token revoke alice")]
    Revoke {
        /// Its name or id
        #[arg(value_name = "NAME|ID")]
        which: String,
    },
}

/// `ringfence api-token create`
#[derive(Args)]
#[command(
    after_help = "Examples:\n  ringfence api-token create alice --role owner --perimeter payments-db --for alice@example.com --out alice.toml\n  ringfence api-token create siem --role auditor --expires 90d > siem.token\n\nWith --out the file is a context: ringfence --context alice.toml perimeter apply -f payments-db.toml"
)]
pub(crate) struct ApiTokenCreateArgs {
    /// What to call it: 1 to 63 of a-z, 0-9 and -
    pub name: Name,
    /// admin: everything; auditor: sees everything, changes nothing; owner: sees and changes its perimeters
    #[arg(long, value_enum)]
    pub role: RoleArg,
    /// Which perimeters an owner has; may be given more than once
    #[arg(
        long = "perimeter",
        value_name = "P",
        value_delimiter = ',',
        required_if_eq("role", "owner")
    )]
    pub perimeters: Vec<Name>,
    /// How long it counts
    #[arg(long, default_value = "30d", value_parser = duration)]
    pub expires: Duration,
    /// The e-mail address of the person it stands for: they cannot approve what they asked for themselves, and it stops
    /// counting when they may not log in any more
    #[arg(long = "for", value_name = "ADDRESS")]
    pub stands_for: Option<String>,
    /// Write a context file that holds it, for its owner alone to read, and print nothing
    #[arg(long, value_name = "FILE")]
    pub out: Option<PathBuf>,
}

/// What an API token is good for.
#[derive(Clone, Copy, ValueEnum)]
pub(crate) enum RoleArg {
    /// Everything
    Admin,
    /// Sees everything, changes nothing
    Auditor,
    /// Sees and changes its perimeters
    Owner,
}
