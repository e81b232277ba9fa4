//! The arguments of `drill`.

use std::time::Duration;

use clap::{Args, Subcommand};
use ringfence_model::Name;

use super::duration;

/// `ringfence drill …`
#[derive(Subcommand)]
pub(crate) enum DrillCommand {
    /// Open a port between two nodes, have them keep a flow going, take it away, and measure how long the flow lives
    Revoke(RevokeDrillArgs),
}

/// `ringfence drill revoke`
#[derive(Args)]
#[command(
    after_help = "Examples:\n  ringfence drill revoke --perimeter payments-db\n  ringfence drill revoke --perimeter payments-db --from app-1 --to db-1 --rounds 20 --within 250ms"
)]
pub(crate) struct RevokeDrillArgs {
    /// In which perimeter
    #[arg(long, value_name = "P")]
    pub perimeter: Name,
    /// Which of its nodes opens the flow [default: one that is connected]
    #[arg(long, value_name = "NODE")]
    pub from: Option<Name>,
    /// Which is reached [default: another]
    #[arg(long, value_name = "NODE")]
    pub to: Option<Name>,
    /// How often, one after the other
    #[arg(long, value_name = "N", default_value_t = 5, value_parser = clap::value_parser!(u32).range(1..=100))]
    pub rounds: u32,
    /// Fail if one takes longer
    #[arg(long, value_name = "TIME", value_parser = duration)]
    pub within: Option<Duration>,
}
