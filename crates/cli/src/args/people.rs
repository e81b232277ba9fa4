//! The arguments of `session` and `user`.

use clap::Subcommand;

/// `ringfence session …`
#[derive(Subcommand)]
pub(crate) enum SessionCommand {
    /// List who is logged in where, and until when
    #[command(
        visible_alias = "list",
        after_help = "Example:\n  ringfence session ls --json"
    )]
    Ls,
    /// End sessions: what they open is cut at once
    #[command(
        after_help = "Examples:\n  ringfence session end 00c0ffee00c0ffee\n  ringfence session end user:alice@example.com\n  ringfence session end node:laptop-7"
    )]
    End {
        /// A session's id, user:NAME for all of a person's, or node:NAME
        #[arg(value_name = "ID|user:NAME|node:NAME")]
        which: String,
    },
}

/// `ringfence user …`
#[derive(Subcommand)]
pub(crate) enum UserCommand {
    /// List everyone who was vouched for
    #[command(visible_alias = "list", after_help = "Example:\n  ringfence user ls")]
    Ls,
    /// End every session of a person, and let them start none
    #[command(after_help = "Example:\n  ringfence user deactivate alice@example.com")]
    Deactivate {
        /// Their address, name or id
        user: String,
    },
    /// Let a person log in again
    #[command(after_help = "Example:\n  ringfence user reactivate alice@example.com")]
    Reactivate {
        /// Their address, name or id
        user: String,
    },
}
