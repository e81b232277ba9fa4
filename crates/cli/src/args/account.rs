//! The command line about local accounts.

use std::time::Duration;

use clap::{Args, Subcommand};
use ringfence_model::Name;

use super::duration;

/// `ringfence account …`
#[derive(Subcommand)]
pub(crate) enum AccountCommand {
    /// Add a local account, and print the secret that its person sets it up by, alone, on stdout
    #[command(
        after_help = "Example:\n  ringfence account add ada --group dba --email ada@example.com > ada.secret"
    )]
    Add(AccountAddArgs),
    /// List local accounts
    #[command(visible_alias = "list", after_help = "Example:\n  ringfence account ls")]
    Ls,
    /// Put somebody in these groups, and in no others
    #[command(
        after_help = "Examples:\n  ringfence account set ada --group dba,ops\n  ringfence account set ada --no-groups"
    )]
    Set(AccountSetArgs),
    /// End somebody's sessions, and print a secret by which they choose another password and second factor
    #[command(after_help = "Example:\n  ringfence account reset ada > ada.secret")]
    Reset {
        /// The account
        name: Name,
    },
    /// Remove a local account: its sessions end at once
    #[command(visible_alias = "remove", after_help = "Example:\n  ringfence account rm ada")]
    Rm {
        /// The account
        name: Name,
    },
}

/// `ringfence account add`
#[derive(Args)]
pub(crate) struct AccountAddArgs {
    /// What the person logs in as: 1 to 63 of a-z, 0-9 and -
    pub name: Name,
    /// A group they are in; may be given more than once
    #[arg(long = "group", value_name = "GROUP", value_delimiter = ',')]
    pub groups: Vec<String>,
    /// Their address
    #[arg(long, value_name = "ADDRESS")]
    pub email: Option<String>,
    /// How long a session of theirs lasts
    #[arg(long, default_value = "12h", value_parser = duration)]
    pub session: Duration,
}

/// `ringfence account set`
#[derive(Args)]
pub(crate) struct AccountSetArgs {
    /// The account
    pub name: Name,
    /// A group they are in from now on; may be given more than once
    #[arg(
        long = "group",
        value_name = "GROUP",
        value_delimiter = ',',
        required_unless_present = "no_groups"
    )]
    pub groups: Vec<String>,
    /// They are in none
    #[arg(long, conflicts_with = "groups")]
    pub no_groups: bool,
}
