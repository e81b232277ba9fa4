//! The arguments of what makes and keeps members: `token`, `node`, `peer`.

use std::time::Duration;

use clap::{Args, Subcommand};
use ringfence_model::{Name, PublicKey};

use super::duration;

/// `ringfence token …`
#[derive(Subcommand)]
pub(crate) enum TokenCommand {
    /// Make a join token and print it, alone, on stdout
    #[command(
        after_help = "Example:\n  ringfence token create --label role=db --label env=prod --ttl 15m > db.token"
    )]
    Create {
        /// A label of whoever joins with it: key=value; may be given more than once
        #[arg(long = "label", value_name = "K=V", required = true)]
        labels: Vec<String>,
        /// How long it counts
        #[arg(long, default_value = "1h", value_parser = duration)]
        ttl: Duration,
        /// How many machines may join with it
        #[arg(long, default_value_t = 1)]
        uses: u32,
    },
    /// List join tokens, without their secrets
    #[command(visible_alias = "list", after_help = "Example:\n  ringfence token ls")]
    Ls,
    /// Withdraw one: nobody joins with it any more
    #[command(after_help = "Example:\n  ringfence token revoke 00c0ffee00c0ffee")]
    Revoke {
        /// Its id, as `token ls` prints it
        id: ringfence_model::TokenId,
    },
}

/// `ringfence node …`
#[derive(Subcommand)]
pub(crate) enum NodeCommand {
    /// List nodes
    #[command(visible_alias = "list", after_help = "Example:\n  ringfence node ls --json")]
    Ls,
    /// Show one
    #[command(after_help = "Example:\n  ringfence node show db-1")]
    Show {
        /// Its name or id
        node: String,
    },
    /// Set labels (key=value) and remove them (key-)
    #[command(after_help = "Example:\n  ringfence node label api-1 role=api env- # sets role, removes env")]
    Label {
        /// Its name or id
        node: String,
        /// key=value sets, key- removes
        #[arg(required = true)]
        labels: Vec<String>,
    },
    /// Give it another name
    #[command(after_help = "Example:\n  ringfence node rename ip-10-0-0-7 db-1")]
    Rename {
        /// Its name or id
        node: String,
        /// Its new name
        name: Name,
    },
    /// Remove it from the mesh: its certificate, keys and flows are worthless at once
    #[command(visible_alias = "rm", after_help = "Example:\n  ringfence node remove db-1")]
    Remove {
        /// Its name or id
        node: String,
    },
}

/// `ringfence peer …`
#[derive(Subcommand)]
pub(crate) enum PeerCommand {
    /// Add a device and print its wg-quick file, with a placeholder where its private key goes
    #[command(
        after_help = "Example:\n  ringfence peer add printer --perimeter office --public-key \"$(wg pubkey < printer.key)\" \\\n      --label role=printer > printer.conf"
    )]
    Add(PeerAddArgs),
    /// List devices
    #[command(visible_alias = "list", after_help = "Example:\n  ringfence peer ls")]
    Ls,
    /// Print a device's wg-quick file again
    #[command(after_help = "Example:\n  ringfence peer config printer > printer.conf")]
    Config {
        /// Its name
        name: Name,
    },
    /// Remove a device
    #[command(
        visible_alias = "remove",
        after_help = "Example:\n  ringfence peer rm printer"
    )]
    Rm {
        /// Its name
        name: Name,
    },
}

/// `ringfence peer add`
#[derive(Args)]
pub(crate) struct PeerAddArgs {
    /// What to call it
    pub name: Name,
    /// The perimeter it joins
    #[arg(long)]
    pub perimeter: Name,
    /// Its public key, as `wg pubkey` prints it
    #[arg(long, value_name = "K")]
    pub public_key: PublicKey,
    /// A label: key=value; may be given more than once
    #[arg(long = "label", value_name = "K=V", required = true)]
    pub labels: Vec<String>,
    /// When it goes by itself, as in 90d; never if not given
    #[arg(long, value_parser = duration)]
    pub expires: Option<Duration>,
}
