//! The arguments of what shuts and opens: `quarantine`, `release`, `lock`, `unlock`.

use std::time::Duration;

use clap::Args;

use super::duration;

/// `ringfence quarantine`
#[derive(Args)]
#[command(
    after_help = "Examples:\n  ringfence quarantine node:db-1 --ttl 4h --keep node:forensics --reason \"odd traffic at night\"\n  ringfence quarantine user:alice@example.com"
)]
pub(crate) struct QuarantineArgs {
    /// Whom: node:NAME or user:NAME (their address, name or id)
    #[arg(value_name = "node:X|user:Y")]
    pub target: String,
    /// How, and for how long
    #[command(flatten)]
    pub how: LockHow,
}

/// `ringfence lock`
#[derive(Args)]
#[command(
    after_help = "Examples:\n  ringfence lock label:role=contractor --ttl 2d --reason \"audit\"\n  ringfence lock perimeter:payments-db\n  ringfence lock token:00c0ffee00c0ffee"
)]
pub(crate) struct LockArgs {
    /// What: node:NAME, user:NAME, perimeter:NAME, label:KEY=VALUE, token:ID or workload:NAME
    #[arg(value_name = "TARGET")]
    pub target: String,
    /// How, and for how long
    #[command(flatten)]
    pub how: LockHow,
}

/// What both take.
#[derive(Args)]
pub(crate) struct LockHow {
    /// How long; until it is lifted if not given
    #[arg(long, value_parser = duration)]
    pub ttl: Option<Duration>,
    /// Who may still talk to it, as policy allows: node:NAME; may be given more than once
    #[arg(long = "keep", value_name = "node:NAME", value_delimiter = ',')]
    pub keep: Vec<String>,
    /// Why, for whoever reads the log
    #[arg(long, default_value = "", hide_default_value = true)]
    pub reason: String,
}

/// `ringfence release`
#[derive(Args)]
#[command(after_help = "Example:\n  ringfence release node:db-1")]
pub(crate) struct ReleaseArgs {
    /// Whom: node:NAME or user:NAME, as it was quarantined
    #[arg(value_name = "node:X|user:Y")]
    pub target: String,
}

/// `ringfence unlock`
#[derive(Args)]
#[command(
    after_help = "Examples:\n  ringfence unlock perimeter:payments-db\n  ringfence unlock 00c0ffee00c0ffee"
)]
pub(crate) struct UnlockArgs {
    /// What, as it was locked, for every lock on it; or the id of one
    #[arg(value_name = "TARGET|ID")]
    pub which: String,
}
