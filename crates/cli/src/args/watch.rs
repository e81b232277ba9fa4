//! The arguments of `watch`.

use std::time::Duration;

use clap::Args;

use super::{SocketArg, duration};

/// `ringfence watch`
#[derive(Args)]
#[command(
    after_help = "Examples:\n  ringfence watch\n  ringfence watch --step-up &\n  ringfence watch --json | jq -r .text"
)]
pub(crate) struct WatchArgs {
    /// How long before something ends to say so
    #[arg(long, value_name = "TIME", default_value = "5m", value_parser = duration)]
    pub before: Duration,
    /// How often to look, besides when something ends
    #[arg(long, value_name = "TIME", default_value = "30s", value_parser = duration)]
    pub every: Duration,
    /// When a second factor has ended, begin to prove it anew: says the address and code to enter on any device
    #[arg(long)]
    pub step_up: bool,
    /// Say it here alone, and not on the desktop
    #[arg(long)]
    pub no_desktop: bool,
    /// Where to ask
    #[command(flatten)]
    pub socket: SocketArg,
}
